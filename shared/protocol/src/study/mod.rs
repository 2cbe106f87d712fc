//! The study document: what a consortium agrees on before anybody computes.
//!
//! A study is one TOML file. Its bytes are the agreement: they travel unchanged from whoever submits it to every site,
//! and their digest stands in the plan, in every ledger entry and in the report. Reading is strict (unknown fields,
//! wrong types and values out of range are refused with the field's path) and [`Study::validate`] refuses settings
//! that contradict each other, each with its own error and remedy.
//!
//! ```text
//! [study]       name and description                 StudyHeader
//! [schema]      every column                         fusiondp_learn::schema::Schema
//! [model]       architecture                         fusiondp_learn::model::ModelSpec
//! [imputer]     where imputed values come from       ImputerSpec
//! [fusion]      how public and private part combine  Fusion
//! [privacy]     unit, clip norm, delta, target       Privacy
//! [training]    rounds, batches, optimizers          Training
//! [federation]  sites, deadlines, overlap            Federation
//! [evaluation]  cohorts, and what may leave a site   Evaluation
//! ```

mod batch;
mod document;
mod error;
mod evaluation;
mod federation;
mod fusion;
mod imputer;
mod misuse;
mod privacy;
mod range;
mod records;
mod training;
mod validate;

use fusiondp_learn::model::{HeadGradient, Model, ModelSpec, PrivateObjective};
use fusiondp_learn::schema::Schema;
use fusiondp_learn::server::ServerSettings;
use serde::{Deserialize, Serialize};

use range::{Check, out_of_range};

pub use batch::BatchSize;
pub use document::{MAX_STUDY_BYTES, StudyDocument};
pub use error::StudyError;
pub use evaluation::{Evaluation, MetricRelease, NoisyMetrics, ScoreEdges};
pub use federation::Federation;
pub use fusion::{Fusion, Mode, PublicRounds};
pub use imputer::ImputerSpec;
pub use privacy::{Privacy, PrivacyTarget, RecordPrivacy};
pub use training::Training;

/// Everything that defines a federated training run, the same at every site.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    /// Name and description.
    pub study: StudyHeader,
    /// Every column: kind, role, range or vocabulary, missing values, transform.
    pub schema: Schema,
    /// Architecture of the trained model.
    pub model: ModelSpec,
    /// Where the imputed values of the hybrid view come from.
    #[serde(default)]
    pub imputer: ImputerSpec,
    /// How the public and the private part combine.
    pub fusion: Fusion,
    /// Privacy unit, clip norm and what is to be guaranteed.
    pub privacy: Privacy,
    /// Rounds, batches and optimizers.
    pub training: Training,
    /// Sites, deadlines and how many sites may hold the same patient.
    pub federation: Federation,
    /// Which cohorts are evaluated, and whether metrics may leave a site.
    #[serde(default)]
    pub evaluation: Evaluation,
}

/// What people call a study.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyHeader {
    /// One line, 1 to 120 characters; the study's id begins with it.
    pub name: String,
    /// For people, at most 4,000 characters.
    #[serde(default)]
    pub description: String,
}

impl Study {
    /// Reads a study and validates it.
    ///
    /// # Errors
    /// [`StudyError::Syntax`] for what is no study document, with the path of the field, or the misuse behind it; else what
    /// [`Study::validate`] finds.
    pub fn parse(toml: &str) -> Result<Study, StudyError> {
        let deserializer =
            toml::Deserializer::parse(toml).map_err(|source| StudyError::syntax(toml, "", source))?;
        let study: Study = serde_path_to_error::deserialize(deserializer).map_err(|error| {
            let path = error.path().to_string();
            let source = error.into_inner();
            let misuse = misuse::explain(toml, &path, source.message());
            misuse.unwrap_or_else(|| StudyError::syntax(toml, &path, source))
        })?;
        study.validate()?;
        Ok(study)
    }

    /// What the private part minimizes.
    pub fn private_objective(&self) -> PrivateObjective {
        PrivateObjective {
            loss: self.fusion.private_loss(),
            consistency_weight: self.fusion.consistency_weight,
            representation_scale: self.fusion.representation_scale,
            representation_clip: self.fusion.representation_clip,
        }
    }

    /// What the coordinator's server step needs to know.
    pub fn server_settings(&self) -> ServerSettings {
        ServerSettings {
            optimizer: self.training.optimizer.clone(),
            private_optimizer: self.training.private_optimizer.clone(),
            posterior: self.training.posterior.clone(),
            schedule: self.training.schedule,
            averaging: self.training.averaging,
            private_directions: self.fusion.private_directions.map(|k| k as usize),
            calibration_weight: self.fusion.calibration_weight,
            max_weight_norm: self.training.max_weight_norm,
            rounds: self.training.rounds,
        }
    }

    /// Whether the model is a tower with a sensitive head.
    fn has_head(&self) -> bool {
        matches!(self.model, ModelSpec::Split { .. })
    }

    /// Whether the model is a tower whose sensitive head takes private gradients only.
    pub fn has_private_head(&self) -> bool {
        matches!(self.model, ModelSpec::Split { head_gradient: HeadGradient::PrivateOnly, .. })
    }

    /// Whether anything in the study computes on imputed values.
    ///
    /// False without a hybrid view (`dp-sgd`, `non-private`) or with a redacted one, and for a split model whose head takes private gradients
    /// only: its tower reads public columns and its head true values.
    pub fn uses_imputer(&self) -> bool {
        let redacted = self.imputer == ImputerSpec::Redacted {};
        self.fusion.mode.has_hybrid_view() && !redacted && !self.has_private_head()
    }

    /// Number of values of a private sum: the directions of a projection, else the model's private coordinates.
    pub fn private_values(&self, model: &Model) -> usize {
        self.fusion.private_directions.map_or(model.private_range().len(), |directions| directions as usize)
    }

    /// Number of values that name the directions of a projection, which a model version of a private round carries behind
    /// its parameters; 0 without one.
    pub fn direction_values(&self, model: &Model) -> usize {
        self.fusion
            .private_directions
            .map_or(0, |directions| directions as usize * model.private_range().len())
    }

    /// First rounds without a private part: all of them when the mode has none.
    pub fn warmup_rounds(&self) -> u32 {
        if self.fusion.mode.has_private_part() { self.fusion.warmup_rounds } else { self.training.rounds }
    }
}

impl StudyHeader {
    /// Longest name, in characters.
    pub const MAX_NAME_LENGTH: usize = 120;

    fn validate(&self) -> Check {
        let name = &self.name;
        let one_line = name.trim() == name && !name.chars().any(char::is_control);
        if !one_line || !(1..=Self::MAX_NAME_LENGTH).contains(&name.chars().count()) {
            let value = format!("{:?}", name.chars().take(130).collect::<String>());
            let range = "one line of 1 to 120 characters, without space at its ends";
            return Err(out_of_range("study.name", value, range));
        }
        let length = self.description.chars().count();
        if length > 4_000 {
            let value = format!("a text of {length} characters");
            return Err(out_of_range("study.description", value, "at most 4,000 characters"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
