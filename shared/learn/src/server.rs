//! One server step: from the sites' releases to new parameters.
//!
//! Post-processing of released values, pure, and a function of the *set* of contributions: private sums are added as
//! integers, and floating-point sums run in an order that follows from the contributions' contents, so the order in which
//! sites reported does not show in the result.

mod aggregate;
mod cholesky;
mod error;
mod posterior;
mod settings;
mod subspace;
#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::model::{Model, PrivateRange};
use crate::optimiser::{Averager, Optimizer, OptimizerSpec, Reader, Writer};
use posterior::Posterior;
use subspace::Subspace;

pub use error::ServerError;
pub use posterior::PosteriorSpec;
pub use settings::ServerSettings;

/// What a site released in a round of gradients.
///
/// Has no `Debug`: it is large, and releases do not belong in logs.
#[derive(Clone)]
pub struct SiteContribution {
    /// Privacy units at the site, N_k; public.
    pub units: u64,
    /// Records at the site, the weight of its public gradient; public.
    pub records: u64,
    /// Mean public gradient over [`Model::public_range`].
    pub public_gradient: Vec<f32>,
    /// Noised sum of clipped private gradients over [`Model::private_range`], or of their clipped coefficients along
    /// [`ServerState::directions`], in grid steps; `None` in warm-up rounds.
    pub private_sum: Option<Vec<i64>>,
}

/// What a site released in a round of local steps.
///
/// Has no `Debug`, as [`SiteContribution`].
#[derive(Clone)]
pub struct SiteDifference {
    /// Privacy units at the site, the weight of its difference; public.
    pub units: u64,
    /// Parameters after the local steps minus parameters before, `[P]`.
    pub difference: Vec<f32>,
}

/// Units of private sums.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PrivateScale {
    /// Size of a grid step; finite and above 0.
    pub grid_step: f64,
    /// Sampling probability q of the secret Poisson sample, `(0, 1]`.
    pub sampling_probability: f64,
    /// Standard deviation of the noise in each coordinate of one site's sum, in units of the gradient: noise multiplier
    /// times clip norm; finite, at least 0. It tells the posterior step how far to trust a round.
    pub noise_deviation: f64,
}

/// Parameters and everything that the next step depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerState {
    settings: ServerSettings,
    public: Range<usize>,
    private: PrivateRange,
    parameters: Vec<f32>,
    /// Steps the coordinates before the head.
    optimizer: Optimizer,
    /// Steps the head of a split model, the coordinates behind those of `optimizer`; empty for other models.
    head: HeadStep,
    averager: Averager,
    /// Recent public gradients, where private ones are projected onto them.
    subspace: Option<Subspace>,
    rounds_applied: u32,
}

/// What moves the head of a split model.
#[derive(Debug, Clone, PartialEq)]
enum HeadStep {
    FirstOrder(Optimizer),
    Posterior(Posterior),
}

/// First bytes of a stored state, the last of them its version.
const MAGIC: [u8; 4] = *b"FSV1";

impl ServerState {
    /// The state before the first round.
    ///
    /// # Errors
    /// Settings outside their ranges or that do not fit the model, or parameters of another length or not finite.
    pub fn new(model: &Model, settings: ServerSettings, parameters: Vec<f32>) -> Result<Self, ServerError> {
        settings.validate(model)?;
        error::check_length("parameter vector", model.parameters(), parameters.len())?;
        if parameters.iter().any(|p| !p.is_finite()) {
            return Err(ServerError::NotFinite { what: "parameter vector" });
        }
        let head = model.head_range();
        Ok(Self {
            optimizer: Optimizer::new(&settings.optimizer, head.start)?,
            head: HeadStep::new(model, &settings, head.len())?,
            averager: Averager::new(settings.averaging, model.parameters())?,
            subspace: settings.private_directions.map(|k| Subspace::new(k, model.private_range().len())),
            public: model.public_range(),
            private: model.private_range().clone(),
            settings,
            parameters,
            rounds_applied: 0,
        })
    }

    /// Parameters after the last applied round, `[P]`.
    pub fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    /// What the sites' private gradients are projected onto in the next round, `[k, P']` row by row; empty where they are not.
    ///
    /// The last k public gradients over the private coordinates, newest first, orthonormal: a function of the state, so
    /// that a restored state gives the same bits. Zeros stand for gradients that are missing or depend on newer ones.
    pub fn directions(&self) -> Vec<f32> {
        self.subspace.as_ref().map_or_else(Vec::new, Subspace::basis)
    }

    /// The average of iterates that the settings ask for; the last parameters where there is none.
    pub fn final_parameters(&self) -> Vec<f32> {
        self.averager.average().unwrap_or_else(|| self.parameters.clone())
    }

    /// Number of rounds applied.
    pub fn rounds_applied(&self) -> u32 {
        self.rounds_applied
    }

    /// Applies one round of gradients: `g = g_pub + alpha g_priv`, then the optimizer.
    ///
    /// `g_pub = sum_k records_k g_k / sum_k records_k`, `g_priv = sum_k S_k * grid_step / (q * sum_k units_k)` over the
    /// contributing sites. In a warm-up round no contribution has a private sum, and coordinates without public
    /// gradient stay as they are. `round` counts from 1.
    ///
    /// # Errors
    /// A round other than the next one, no contributions, contributions that do not fit the model or each other, or
    /// values that are not finite. The state has not changed then.
    pub fn apply_gradients(
        &mut self,
        round: u32,
        contributions: &[SiteContribution],
        scale: &PrivateScale,
    ) -> Result<(), ServerError> {
        self.check_round(round)?;
        let public = aggregate::public_mean(contributions, self.public.len())?;
        let length = self.subspace.as_ref().map_or(self.private.len(), Subspace::directions);
        let mut private = aggregate::private_mean(contributions, length, scale)?;
        if let (Some(subspace), Some(coefficients)) = (&self.subspace, &private) {
            private = Some(subspace.lift(coefficients));
        }
        let noise_variance = aggregate::noise_variance(contributions, scale)?;
        let gradient = self.direction(&public, private.as_deref());
        if gradient.iter().any(|g| !g.is_finite()) {
            return Err(ServerError::NotFinite { what: "aggregated gradient" });
        }
        let mut next = self.clone();
        let factor = self.settings.schedule.factor(round, self.settings.rounds);
        let head_start = next.optimizer.length();
        let (body, head) = next.parameters.split_at_mut(head_start);
        next.optimizer.step(body, &gradient[..head_start], factor)?;
        match &mut next.head {
            HeadStep::Posterior(posterior) => {
                if let Some(private) = &private {
                    let rounds_left = self.settings.rounds - round + 1;
                    posterior.step(head, private, noise_variance, rounds_left)?;
                }
            }
            HeadStep::FirstOrder(optimizer) => {
                let head_has_gradient = private.is_some() || self.public.end > head_start;
                if head_has_gradient && !head.is_empty() {
                    optimizer.step(head, &gradient[head_start..], factor)?;
                }
            }
        }
        if let Some(subspace) = &mut next.subspace {
            let public: Vec<f32> = public.iter().map(|&value| value as f32).collect();
            subspace.push(self.private.gather(&public));
        }
        next.finish_round(round)?;
        *self = next;
        Ok(())
    }

    /// Applies one round of model differences: adds their mean, weighted by units (FedAvg). The optimizer has no part in it.
    ///
    /// # Errors
    /// As [`Self::apply_gradients`].
    pub fn apply_differences(
        &mut self,
        round: u32,
        contributions: &[SiteDifference],
    ) -> Result<(), ServerError> {
        self.check_round(round)?;
        let mean = aggregate::difference_mean(contributions, self.parameters.len())?;
        let mut next = self.clone();
        for (p, d) in next.parameters.iter_mut().zip(&mean) {
            *p = (f64::from(*p) + d) as f32;
        }
        next.finish_round(round)?;
        *self = next;
        Ok(())
    }

    /// The state as bytes, exact and versioned; settings are not part of it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(MAGIC);
        writer.u64(u64::from(self.rounds_applied));
        writer.f32s(&self.parameters);
        writer.bytes(&self.optimizer.to_bytes());
        writer.bytes(&self.head.to_bytes());
        writer.bytes(&self.averager.to_bytes());
        if let Some(subspace) = &self.subspace {
            writer.bytes(&subspace.to_bytes());
        }
        writer.finish()
    }

    /// Restores what [`Self::to_bytes`] wrote, under the same model and settings.
    ///
    /// # Errors
    /// Bytes of another version, model or settings.
    pub fn from_bytes(model: &Model, settings: ServerSettings, bytes: &[u8]) -> Result<Self, ServerError> {
        let mut reader = Reader::new(MAGIC, bytes)?;
        let rounds_applied = reader.u64()?;
        let mut state = Self::new(model, settings, reader.f32s()?)?;
        let length = state.optimizer.length();
        state.rounds_applied =
            u32::try_from(rounds_applied).map_err(|_| ServerError::unexpected("rounds applied"))?;
        state.optimizer = Optimizer::from_bytes(&state.settings.optimizer, reader.bytes()?)?;
        state.head.restore(state.settings.private_optimizer(), reader.bytes()?)?;
        state.averager = Averager::from_bytes(state.settings.averaging, model.parameters(), reader.bytes()?)?;
        if let Some(subspace) = &mut state.subspace {
            subspace.restore(reader.bytes()?)?;
        }
        reader.finish()?;
        if state.optimizer.length() != length {
            return Err(ServerError::unexpected("optimizer length"));
        }
        Ok(state)
    }

    /// `g_pub + alpha g_priv` over all coordinates.
    fn direction(&self, public: &[f64], private: Option<&[f64]>) -> Vec<f32> {
        let mut gradient = vec![0.0; self.parameters.len()];
        gradient[self.public.clone()].copy_from_slice(public);
        if let Some(private) = private {
            self.private.add(self.settings.calibration_weight, private.iter().copied(), &mut gradient);
        }
        gradient.into_iter().map(|g| g as f32).collect()
    }

    /// Projection, averaging and the round count.
    fn finish_round(&mut self, round: u32) -> Result<(), ServerError> {
        if let Some(limit) = self.settings.max_weight_norm {
            aggregate::project(&mut self.parameters, limit);
        }
        if self.parameters.iter().any(|p| !p.is_finite()) {
            return Err(ServerError::NotFinite { what: "new parameter vector" });
        }
        self.averager.add(&self.parameters, round, self.settings.rounds)?;
        self.rounds_applied = round;
        Ok(())
    }

    fn check_round(&self, round: u32) -> Result<(), ServerError> {
        let expected = self.rounds_applied + 1;
        if round != expected {
            return Err(ServerError::Round { round, expected });
        }
        if round > self.settings.rounds {
            return Err(ServerError::Finished { rounds: self.settings.rounds });
        }
        Ok(())
    }
}

impl HeadStep {
    fn new(model: &Model, settings: &ServerSettings, length: usize) -> Result<Self, ServerError> {
        match &settings.posterior {
            Some(spec) => Ok(Self::Posterior(Posterior::new(spec, &model.input_shape().bins)?)),
            None => Ok(Self::FirstOrder(Optimizer::new(settings.private_optimizer(), length)?)),
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::FirstOrder(optimizer) => optimizer.to_bytes(),
            Self::Posterior(posterior) => posterior.to_bytes(),
        }
    }

    /// Takes over what [`Self::to_bytes`] wrote for a step of the same kind and length.
    fn restore(&mut self, spec: &OptimizerSpec, bytes: &[u8]) -> Result<(), ServerError> {
        match self {
            Self::Posterior(posterior) => posterior.restore(bytes),
            Self::FirstOrder(optimizer) => {
                let stored = Optimizer::from_bytes(spec, bytes)?;
                if stored.length() != optimizer.length() {
                    return Err(ServerError::unexpected("optimizer length"));
                }
                *optimizer = stored;
                Ok(())
            }
        }
    }
}
