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
use crate::imputer::{ImputerInput, ImputerProvider};

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
    /// Number of privacy units.
    pub units: usize,
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
        let public = public_view(&document, &encoder, &dataset, sources)?;
        let real = match study.fusion.mode.has_private_part() {
            true => Some(encoder.real(dataset.public(), dataset.sensitive())?),
            false => None,
        };
        Ok(Self {
            objective: study.private_objective(),
            identity: DataIdentity::of(&dataset, sources.identity.as_ref(), &sources.identity_key),
            units: dataset.units().clone(),
            labels: dataset.labels().values().to_vec(),
            document,
            encoder,
            model,
            real,
            public,
        })
    }

    /// Reads and encodes a cohort in the real view. Blocking.
    ///
    /// # Errors
    /// The cohort is not configured, or its records do not serve.
    pub fn cohort(&self, source: &dyn DataSource, name: &CohortName) -> Result<CohortRecords, TrainError> {
        let dataset = source.read(&Records::Cohort(name.clone()), self.study())?;
        let view = self.encoder.real(dataset.public(), dataset.sensitive())?;
        Ok(CohortRecords { view, labels: dataset.labels().values().to_vec(), units: dataset.units().count() })
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

    /// What charges are counted against.
    pub fn identity(&self) -> DataIdentity {
        self.identity
    }

    /// The privacy units of the training data.
    pub fn units(&self) -> &Units {
        &self.units
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
    sources: &SessionSources,
) -> Result<Option<View<f32>>, TrainError> {
    let study = document.study();
    if study.fusion.mode == Mode::NonPrivate {
        return Ok(Some(encoder.real(dataset.public(), dataset.sensitive())?));
    }
    if let Some(imputed) = imputed(document, dataset, sources)? {
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

fn imputed(
    document: &StudyDocument,
    dataset: &Dataset,
    sources: &SessionSources,
) -> Result<Option<ImputedFeatures>, TrainError> {
    let Some(imputer) = sources.imputers.find(document)? else {
        return Ok(None);
    };
    let schema = &document.study().schema;
    let key = imputer.cache_key().map(|imputer| CacheKey::new(imputer, dataset.digest(), schema));
    let cache = sources.cache.as_ref().zip(key);
    if let Some(imputed) = cache.and_then(|(cache, key)| cache.load(key, schema, dataset.records())) {
        tracing::info!(records = imputed.rows(), "imputed values taken from the cache");
        return Ok(Some(imputed));
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
    Ok(Some(imputed))
}
