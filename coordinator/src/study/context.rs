//! A study's document and what follows from it.

use std::sync::Arc;

use fusiondp_dp::{Digest, Grid, Protection};
use fusiondp_learn::encode::Encoder;
use fusiondp_learn::model::Model;
use fusiondp_learn::server::PrivateScale;
use fusiondp_protocol::{Plan, Study, StudyDocument, StudyId};
use tokio::sync::Notify;

use crate::error::CoordinatorError;
use crate::round::aggregation::UpdateKind;

/// One study, as everything that handles it needs it.
pub(crate) struct StudyContext {
    document: StudyDocument,
    model: Model,
    /// An answer of a site is in the store.
    pub(crate) answered: Notify,
    /// An evaluation was opened or answered.
    pub(crate) evaluated: Notify,
}

impl StudyContext {
    pub(crate) fn new(document: StudyDocument) -> Result<Self, CoordinatorError> {
        let model = model_of(document.study())?;
        Ok(Self { document, model, answered: Notify::new(), evaluated: Notify::new() })
    }

    pub(crate) fn document(&self) -> &StudyDocument {
        &self.document
    }

    pub(crate) fn study(&self) -> &Study {
        self.document.study()
    }

    pub(crate) fn id(&self) -> &StudyId {
        self.document.id()
    }

    pub(crate) fn digest(&self) -> Digest {
        self.document.digest()
    }

    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    /// What of a unit is protected in everything that the study lets out.
    pub(crate) fn protects(&self) -> Protection {
        self.study().protects()
    }

    /// How many f32 and i64 values an update of a round has.
    pub(crate) fn update_shape(&self, private_part: bool) -> (usize, usize) {
        if self.study().training.local_steps > 1 {
            return (self.model.parameters(), 0);
        }
        let study = self.study();
        let public =
            if study.fusion.has_public_part(private_part) { self.model.public_range().len() } else { 0 };
        let private = if private_part { study.private_values(&self.model) } else { 0 };
        (public, private)
    }

    /// How stored updates turn into a server step.
    pub(crate) fn update_kind(&self, plan: &Plan) -> UpdateKind {
        if plan.local_steps > 1 {
            return UpdateKind::Differences;
        }
        let scale = PrivateScale {
            grid_step: Grid::for_clip_norm(plan.clip_norm).step(),
            sampling_probability: plan.sampling_probability.get(),
            noise_deviation: plan.noise_multiplier.map_or(0.0, |noise| noise.get() * plan.clip_norm.get()),
        };
        UpdateKind::Gradients { scale, public_length: self.model.public_range().len() }
    }
}

/// The model that a study document describes.
pub(crate) fn model_of(study: &Study) -> Result<Model, CoordinatorError> {
    let encoder = Encoder::new(&study.schema, &study.model)?;
    Ok(Model::new(&study.model, encoder.input_shape())?)
}

/// Handle on a context.
pub(crate) type SharedContext = Arc<StudyContext>;
