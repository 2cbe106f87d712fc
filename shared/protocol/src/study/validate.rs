//! Checks across the sections of a study: each misuse has its own error.

use std::collections::HashSet;

use fusiondp_learn::encode::Encoder;
use fusiondp_learn::model::{HeadGradient, Model, ModelSpec, PrivateLoss};
use fusiondp_learn::optimiser::OptimizerSpec;
use fusiondp_learn::schema::{Role, Schema};
use fusiondp_learn::server::PosteriorSpec;

use super::range::{Check, within};
use super::{BatchSize, ImputerSpec, Mode, Study, StudyError, Training};

impl Study {
    /// Checks the sections one by one and against each other.
    ///
    /// # Errors
    /// The first defect; its message names section, field, value and remedy.
    pub fn validate(&self) -> Check {
        self.study.validate()?;
        self.validate_schema()?;
        self.fusion.validate()?;
        self.validate_unit_column()?;
        self.validate_model()?;
        self.validate_imputer()?;
        self.validate_consistency()?;
        self.privacy.validate()?;
        self.training.validate()?;
        self.validate_batches_and_warmup()?;
        self.validate_optimizers()?;
        self.federation.validate()?;
        self.validate_delta()?;
        self.evaluation.validate()
    }

    /// What holds in addition for a study that leaves the simulator. Includes [`Study::validate`].
    ///
    /// # Errors
    /// As [`Study::validate`]; and the mode `non-private`, and an ONNX imputer without a digest.
    pub fn validate_for_submission(&self) -> Check {
        self.validate()?;
        if self.fusion.mode == Mode::NonPrivate {
            return Err(StudyError::NonPrivateSubmitted);
        }
        if matches!(self.imputer, ImputerSpec::Onnx { sha256: None }) {
            return Err(StudyError::ImputerUnpinned);
        }
        Ok(())
    }

    fn validate_schema(&self) -> Check {
        if let Some(column) = label_declared_sensitive(&self.schema) {
            return Err(StudyError::LabelDeclaredSensitive { column });
        }
        self.schema.validate()?;
        if self.fusion.mode.has_private_part() && self.schema.sensitive().next().is_none() {
            return Err(StudyError::NoSensitiveColumn { mode: self.fusion.mode });
        }
        Ok(())
    }

    fn validate_unit_column(&self) -> Check {
        match (&self.privacy.unit_column, self.schema.unit_id()) {
            (Some(named), Some(declared)) if *named == declared.name => Ok(()),
            (Some(named), _) => Err(StudyError::UnitColumnUnknown { column: named.clone() }),
            (None, Some(declared)) => Err(StudyError::UnitColumnUnused { column: declared.name.clone() }),
            (None, None) => Ok(()),
        }
    }

    fn validate_model(&self) -> Check {
        if let ModelSpec::Split { head_gradient, .. } = &self.model {
            self.validate_split(*head_gradient)?;
        }
        let mode = self.fusion.mode;
        if !mode.has_public_part() && !self.model.private_scope().is_whole() {
            return Err(StudyError::ScopePartUntrained { mode });
        }
        let encoder = Encoder::new(&self.schema, &self.model)?;
        let model = Model::new(&self.model, encoder.input_shape())?;
        self.validate_records(&model)?;
        self.validate_directions(&model)
    }

    /// Directions are spanned by gradients of one round each, over all private coordinates.
    fn validate_directions(&self, model: &Model) -> Check {
        let Some(directions) = self.fusion.private_directions else { return Ok(()) };
        let coordinates = model.private_range().len();
        let needs = match () {
            () if self.has_head() => "[model] kind = \"mlp\" or \"linear\"",
            () if self.training.local_steps > 1 => "[training] local_steps = 1",
            () if directions as usize > coordinates => "fewer directions than private weights",
            () => return Ok(()),
        };
        Err(StudyError::DirectionsNeed { needs })
    }

    fn validate_split(&self, head_gradient: HeadGradient) -> Check {
        let binless = self.schema.sensitive().find(|column| !column.effective_transform().is_discrete());
        if let Some(column) = binless {
            return Err(StudyError::SplitWithoutBins { column: column.name.clone() });
        }
        let mode = self.fusion.mode;
        if !mode.has_public_part() {
            let remedy = "mode = \"fusiondp\" with private_loss = \"direct\", or kind = \"mlp\"";
            return Err(StudyError::SplitPartUntrained { mode, part: "the tower", remedy });
        }
        match (head_gradient, self.fusion.private_loss()) {
            (HeadGradient::PrivateOnly, _) if mode == Mode::NonPrivate => {
                let remedy = "head_gradient = \"hybrid-and-private\"";
                Err(StudyError::SplitPartUntrained { mode, part: "the head", remedy })
            }
            // Without a private part the tower alone is a model of the public columns, and no loss is in force.
            _ if !mode.has_private_part() => Ok(()),
            (HeadGradient::HybridAndPrivate, PrivateLoss::Direct) => {
                Err(StudyError::HybridHeadWithDirectLoss)
            }
            (HeadGradient::PrivateOnly, PrivateLoss::Difference) => {
                Err(StudyError::PrivateHeadWithDifferenceLoss)
            }
            _ => Ok(()),
        }
    }

    fn validate_imputer(&self) -> Check {
        let mode = self.fusion.mode;
        if mode == Mode::FeatureDp && self.imputer != (ImputerSpec::DeclaredNoise {}) {
            return Err(StudyError::DeclaredNoiseMissing { kind: self.imputer.kind() });
        }
        if self.imputer == (ImputerSpec::Redacted {}) && self.has_head() && !self.has_private_head() {
            return Err(StudyError::RedactedHead);
        }
        if self.uses_imputer() && self.imputer == (ImputerSpec::None {}) {
            return Err(StudyError::ImputerMissing { mode });
        }
        Ok(())
    }

    fn validate_consistency(&self) -> Check {
        let weight = self.fusion.consistency_weight;
        let model = match self.model {
            ModelSpec::Mlp { .. } => return Ok(()),
            ModelSpec::Linear {} => "linear",
            ModelSpec::Split { .. } => "split",
        };
        if weight > 0.0 { Err(StudyError::ConsistencyWithoutEffect { weight, model }) } else { Ok(()) }
    }

    fn validate_batches_and_warmup(&self) -> Check {
        let (mode, training, warmup) = (self.fusion.mode, &self.training, self.fusion.warmup_rounds);
        if mode.has_public_part() && !self.noises_public_part() {
            let range = 1..=Training::MAX_PUBLIC_BATCH;
            within("training.public_batch_size", training.public_batch_size, range, "1 to 1,048,576")?;
        } else if warmup > 0 && !mode.has_public_part() {
            return Err(StudyError::WarmupWithoutPublicPart { warmup });
        }
        if mode.has_private_part() && warmup >= training.rounds {
            return Err(StudyError::WarmupAboveRounds { warmup, rounds: training.rounds });
        }
        Ok(())
    }

    /// An expected sample is no larger than all units, and every site has one; how many there are, enrollment tells.
    fn validate_delta(&self) -> Check {
        let size = |batch: BatchSize| match batch {
            BatchSize::Expected(units) => units,
            BatchSize::All => 1,
        };
        let of_records = self.privacy.records.as_ref().map_or(1, |records| size(records.expected_batch_size));
        let sample = size(self.training.expected_batch_size).max(of_records);
        let (delta, units) = (self.privacy.delta, sample.max(self.federation.min_sites));
        if delta.get() > 1.0 / f64::from(units) {
            return Err(StudyError::DeltaAboveUnits { delta, units });
        }
        Ok(())
    }

    fn validate_optimizers(&self) -> Check {
        let Training { private_optimizer, posterior, .. } = &self.training;
        match (self.has_head(), private_optimizer, posterior) {
            (true, None, None) => return Err(StudyError::PrivateOptimizerMissing),
            (true, Some(_), Some(_)) => return Err(StudyError::PosteriorAndOptimizer),
            (false, Some(_), _) => {
                return Err(StudyError::PrivateOptimizerUnused { field: "private_optimizer" });
            }
            (false, _, Some(_)) => return Err(StudyError::PrivateOptimizerUnused { field: "posterior" }),
            _ => {}
        }
        if let Some(posterior) = posterior {
            self.validate_posterior(posterior)?;
        }
        let given = [("optimizer", Some(&self.training.optimizer))];
        let private = [("private_optimizer", self.training.private_optimizer.as_ref())];
        for (field, optimizer) in given.into_iter().chain(private) {
            let Some(optimizer) = optimizer else { continue };
            optimizer.validate().map_err(|source| StudyError::Optimizer { field, source })?;
            if self.training.local_steps > 1 && !is_plain(optimizer) {
                return Err(StudyError::AveragingOptimizer { field });
            }
        }
        Ok(())
    }

    /// A posterior reads plain gradients of the head alone, one step at a time.
    fn validate_posterior(&self, posterior: &PosteriorSpec) -> Check {
        posterior.validate().map_err(|source| StudyError::Posterior { problem: source.to_string() })?;
        if !self.has_private_head() {
            return Err(StudyError::PosteriorNeeds { what: "[model] head_gradient = \"private-only\"" });
        }
        if self.fusion.calibration_weight != 1.0 {
            return Err(StudyError::PosteriorNeeds { what: "[fusion] calibration_weight = 1.0" });
        }
        if self.training.local_steps > 1 {
            return Err(StudyError::PosteriorNeeds { what: "[training] local_steps = 1" });
        }
        Ok(())
    }
}

fn label_declared_sensitive(schema: &Schema) -> Option<String> {
    let names =
        |role| schema.columns.iter().filter(move |column| column.role == role).map(|column| &column.name);
    let labels: HashSet<_> = names(Role::Label).collect();
    names(Role::Sensitive).find(|name| labels.contains(name)).cloned()
}

/// Averaging adds the mean difference at a fixed rate: any state or decay would act on differences, not gradients.
fn is_plain(optimizer: &OptimizerSpec) -> bool {
    matches!(optimizer, OptimizerSpec::Sgd { weight_decay, .. } if *weight_decay == 0.0)
}
