//! A study's model and encoded records, prepared once and kept while the study runs.

use std::sync::Arc;

use fusiondp_learn::encode::Encoder;
use fusiondp_learn::model::{Model, PrivateObjective, View};
use fusiondp_learn::table::{ImputedFeatures, PublicFeatures};
use fusiondp_protocol::ids::CohortName;
use fusiondp_protocol::study::{Mode, Study, StudyDocument};
use ndarray::{Array2, Axis};

use super::TrainError;
use crate::data::identity::{DataIdentity, DeclaredIdentity, IdentityKey};
use crate::data::source::Records;
use crate::data::{DataSource, Dataset, Units};
use crate::imputer::cache::{CacheKey, ImputationCache};
use crate::imputer::{Imputer, ImputerError, ImputerInput, ImputerProvider};

/// Everything that is computed once per study. Has no `Debug`: it holds patients' values.
pub struct Session {
    document: StudyDocument,
    encoder: Encoder,
    model: Model,
    objective: PrivateObjective,
    identity: DataIdentity,
    units: Units,
    labels: Vec<f32>,
    real: Option<View<f32>>,
    public: Option<View<f32>>,
    record_model: Option<Model>,
    support_listed: bool,
}

/// What a session is made from.
pub struct SessionSources {
    /// The site's records.
    pub source: Arc<dyn DataSource>,
    /// The site's imputers.
    pub imputers: Arc<ImputerProvider>,
    /// Where imputed values are kept; `None`: nowhere.
    pub cache: Option<ImputationCache>,
    /// The identity that the site declares for its data.
    pub identity: Option<DeclaredIdentity>,
    /// What keys an identity that follows from the data.
    pub identity_key: IdentityKey,
}

/// Encoded records of one cohort. Has no `Debug`: it holds patients' values.
pub struct CohortRecords {
    /// True values.
    pub view: View<f32>,
    /// Labels.
    pub labels: Vec<f32>,
    /// Which rows belong to which privacy unit.
    pub units: Units,
}

impl Session {
    /// Reads and checks the records, imputes, and encodes. Blocking: seconds for large data.
    ///
    /// # Errors
    /// [`TrainError`]: records, imputer or schema do not serve.
    pub fn prepare(document: StudyDocument, sources: &SessionSources) -> Result<Self, TrainError> {
        let study = document.study();
        let encoder = Encoder::new(&study.schema, &study.model)?;
        let model = Model::new(&study.model, encoder.input_shape())?;
        let dataset = sources.source.read(&Records::Train, study)?;
        let imputer = match study.fusion.mode {
            Mode::NonPrivate => None,
            _ => sources.imputers.find(&document)?,
        };
        let support_listed = check_support(imputer.as_deref(), dataset.units())?;
        let imputed = imputer.map(|imputer| imputed(imputer.as_ref(), &document, &dataset, sources));
        let public = public_view(&document, &encoder, &dataset, imputed.transpose()?)?;
        let real = match study.fusion.mode.has_private_part() {
            true => Some(encoder.real(dataset.public(), dataset.sensitive())?),
            false => None,
        };
        Ok(Self {
            record_model: model.of_public_part().filter(|_| study.noises_public_part()),
            objective: study.private_objective(),
            identity: DataIdentity::of(&dataset, sources.identity.as_ref(), &sources.identity_key),
            units: dataset.units().clone(),
            labels: dataset.labels().values().to_vec(),
            document,
            encoder,
            model,
            real,
            public,
            support_listed,
        })
    }

    /// Reads and encodes a cohort in the real view. Blocking.
    ///
    /// # Errors
    /// The cohort is not configured, or its records do not serve.
    pub fn cohort(&self, source: &dyn DataSource, name: &CohortName) -> Result<CohortRecords, TrainError> {
        let dataset = source.read(&Records::Cohort(name.clone()), self.study())?;
        let view = self.encoder.real(dataset.public(), dataset.sensitive())?;
        Ok(CohortRecords { view, labels: dataset.labels().values().to_vec(), units: dataset.units().clone() })
    }

    /// The study document.
    pub fn document(&self) -> &StudyDocument {
        &self.document
    }

    /// The study.
    pub fn study(&self) -> &Study {
        self.document.study()
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Number of values of a model version in a round with (`true`) or without a private part: the parameters, and behind
    /// them the directions that private gradients are projected onto, if the study projects them.
    pub fn model_values(&self, private_part: bool) -> usize {
        let directions = if private_part { self.study().direction_values(&self.model) } else { 0 };
        self.model.parameters() + directions
    }

    /// What the private part minimizes.
    pub fn objective(&self) -> &PrivateObjective {
        &self.objective
    }

    /// The part of the model whose gradients are clipped and noised per unit although they hold no sensitive value; `None` in
    /// a study that protects sensitive values alone.
    pub fn record_model(&self) -> Option<&Model> {
        self.record_model.as_ref()
    }

    /// What charges are counted against.
    pub fn identity(&self) -> DataIdentity {
        self.identity
    }

    /// The privacy units of the training data.
    pub fn units(&self) -> &Units {
        &self.units
    }

    /// Whether the imputer's file lists whom it was fitted on, and none of them is here.
    pub fn support_listed(&self) -> bool {
        self.support_listed
    }

    /// Number of training records.
    pub fn records(&self) -> usize {
        self.labels.len()
    }

    /// Labels of the training data.
    pub fn labels(&self) -> &[f32] {
        &self.labels
    }

    /// True values, for the private part alone; `None` in a study without one.
    pub fn real(&self) -> Option<&View<f32>> {
        self.real.as_ref()
    }

    /// What the public part sees; `None` in a study without one. Depends on no true sensitive value, but for the
    /// `non-private` mode of simulations.
    pub fn public(&self) -> Option<&View<f32>> {
        self.public.as_ref()
    }
}

fn public_view(
    document: &StudyDocument,
    encoder: &Encoder,
    dataset: &Dataset,
    imputed: Option<ImputedFeatures>,
) -> Result<Option<View<f32>>, TrainError> {
    let study = document.study();
    if study.fusion.mode == Mode::NonPrivate {
        return Ok(Some(encoder.real(dataset.public(), dataset.sensitive())?));
    }
    if let Some(imputed) = imputed {
        return Ok(Some(encoder.hybrid(dataset.public(), &imputed)?));
    }
    if study.fusion.mode.has_public_part() {
        return Ok(Some(public_features_alone(encoder, dataset.public())?));
    }
    Ok(None)
}

/// A view without sensitive features: the inputs of a network that would read them are 0, and so are the bins that a
/// tower does not read.
fn public_features_alone(encoder: &Encoder, public: &PublicFeatures) -> Result<View<f32>, TrainError> {
    let (rows, shape) = (public.rows(), encoder.input_shape());
    let redacted = Array2::zeros((rows, shape.dense - encoder.public_width()));
    let mut dense = encoder.public_only(public)?;
    // Cannot fail: both have one row per record.
    if dense.append(Axis(1), redacted.view()).is_err() {
        return Err(TrainError::Incomplete { what: "a public view" });
    }
    Ok(View { dense: dense.as_standard_layout().into_owned(), bins: Array2::zeros((rows, shape.bins.len())) })
}

/// Whether the imputer lists its support patients and the site can compare; refused where it shares one.
fn check_support(imputer: Option<&dyn Imputer>, units: &Units) -> Result<bool, TrainError> {
    let list = imputer.map_or(Ok(None), Imputer::support)?;
    let Some(list) = list.filter(|_| units.have_ids()) else { return Ok(false) };
    let shared = (0..units.count()).filter_map(|unit| units.id(unit)).filter(|id| list.contains(id)).count();
    if shared > 0 {
        return Err(ImputerError::SupportOverlap { units: shared }.into());
    }
    Ok(true)
}

fn imputed(
    imputer: &dyn Imputer,
    document: &StudyDocument,
    dataset: &Dataset,
    sources: &SessionSources,
) -> Result<ImputedFeatures, TrainError> {
    let schema = &document.study().schema;
    let key = imputer.cache_key().map(|imputer| CacheKey::new(imputer, dataset.digest(), schema));
    let cache = sources.cache.as_ref().zip(key);
    if let Some(imputed) = cache.and_then(|(cache, key)| cache.load(key, schema, dataset.records())) {
        tracing::info!(records = imputed.rows(), "imputed values taken from the cache");
        return Ok(imputed);
    }
    let imputed =
        imputer.impute(&ImputerInput { schema, public: dataset.public(), units: dataset.units() })?;
    tracing::info!(records = imputed.rows(), "imputed values computed");
    if let Some((cache, key)) = cache
        && let Err(error) = cache.store(key, &imputed)
    {
        // Without the cache the next start takes longer and nothing else.
        tracing::warn!(%error, "imputed values could not be cached");
    }
    Ok(imputed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use fusiondp_dp::Digest;
    use fusiondp_protocol::support::SupportUnits;

    use super::*;
    use crate::data::units::UnitRows;

    /// An imputer that was fitted on these patients.
    struct FittedOn(&'static [&'static str]);

    impl Imputer for FittedOn {
        fn impute(&self, _: &ImputerInput<'_>) -> Result<ImputedFeatures, ImputerError> {
            Err(ImputerError::NotDeclared)
        }

        fn cache_key(&self) -> Option<Digest> {
            None
        }

        fn support(&self) -> Result<Option<SupportUnits>, ImputerError> {
            Ok(SupportUnits::of(self.0.iter().copied()))
        }
    }

    #[test]
    fn an_imputer_fitted_on_patients_of_the_site_is_refused() {
        let units = Units::group(UnitRows::of(&["p1", "p2", "p1"])).units;
        let check = |ids, units: &Units| check_support(Some(&FittedOn(ids)), units);
        assert!(check(&["q1", "q2"], &units).unwrap());
        let error = check(&["q1", "p2"], &units).unwrap_err();
        assert!(matches!(error, TrainError::Imputer(ImputerError::SupportOverlap { units: 1 })));
        assert!(error.to_string().contains("1 of this site's patients"), "{error}");
        let TrainError::Imputer(error) = error else { unreachable!() };
        assert!(error.is_refusal() && !error.told().contains('1') && error.told().contains("other patients"));
        // Nothing to compare: without a list, without an imputer, without ids.
        assert!(!check(&[], &units).unwrap());
        assert!(!check_support(None, &units).unwrap());
        assert!(!check(&["p1"], &Units::of_records(3)).unwrap());
    }
}
