//! First-order optimizers, learning-rate schedules and iterate averaging on a flat `f32` parameter vector.
//!
//! All of it is post-processing of released gradients and costs no privacy. States serialize to bytes exactly, so a
//! restarted coordinator continues with the same bits.

mod averaging;
mod codec;
mod schedule;
mod spec;
#[cfg(test)]
mod tests;

pub(crate) use codec::{Reader, Writer};

pub use averaging::{Averager, Averaging};
pub use codec::CodecError;
pub use schedule::Schedule;
pub use spec::OptimizerSpec;

/// Why an optimizer or an averager could not be built, stepped or restored.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OptimizerError {
    /// A setting outside its range.
    #[error("{field} is {value}: it must be {range}")]
    Setting {
        /// Name of the setting.
        field: &'static str,
        /// The value given.
        value: f64,
        /// The range.
        range: &'static str,
    },
    /// A vector of another length.
    #[error("{what} has {found} values, expected {expected}")]
    Length {
        /// Which vector.
        what: &'static str,
        /// The length needed.
        expected: usize,
        /// The length given.
        found: usize,
    },
    /// Stored bytes that are not a state of this kind.
    #[error("stored optimizer state cannot be restored")]
    State(#[from] CodecError),
}

/// State of an optimizer over a vector of fixed length.
#[derive(Debug, Clone, PartialEq)]
pub struct Optimizer {
    spec: OptimizerSpec,
    length: usize,
    steps: u64,
    /// Momentum's velocity or Adam's mean of gradients; empty for SGD.
    first: Vec<f32>,
    /// Adam's mean of squared gradients; else empty.
    second: Vec<f32>,
}

/// First bytes of a stored optimizer, the last of them its version.
const MAGIC: [u8; 4] = *b"FOP1";

impl Optimizer {
    /// A fresh optimizer for `length` parameters.
    ///
    /// # Errors
    /// A setting outside its range.
    pub fn new(spec: &OptimizerSpec, length: usize) -> Result<Self, OptimizerError> {
        spec.validate()?;
        let (first, second) = Self::state_lengths(spec, length);
        Ok(Self { spec: spec.clone(), length, steps: 0, first: vec![0.0; first], second: vec![0.0; second] })
    }

    /// One step down the gradient. `rate_factor` multiplies the learning rate, see [`Schedule::factor`].
    ///
    /// Weight decay is decoupled: parameters shrink by `rate * weight_decay` apart from the gradient's step (Loshchilov and
    /// Hutter 2019, arXiv 1711.05101); for plain SGD this is the usual L2 penalty.
    ///
    /// # Errors
    /// Parameters or a gradient of another length; nothing has changed then.
    pub fn step(
        &mut self,
        params: &mut [f32],
        gradient: &[f32],
        rate_factor: f64,
    ) -> Result<(), OptimizerError> {
        self.check_length("parameter vector", params.len())?;
        self.check_length("gradient", gradient.len())?;
        self.steps += 1;
        let rate = self.spec.learning_rate() * rate_factor;
        let shrink = (1.0 - rate * self.spec.weight_decay()) as f32;
        params.iter_mut().for_each(|p| *p *= shrink);
        match self.spec {
            OptimizerSpec::Sgd { .. } => {
                params.iter_mut().zip(gradient).for_each(|(p, g)| *p -= rate as f32 * g);
            }
            OptimizerSpec::Momentum { momentum, .. } => {
                for ((p, v), g) in params.iter_mut().zip(&mut self.first).zip(gradient) {
                    *v = momentum as f32 * *v + g;
                    *p -= rate as f32 * *v;
                }
            }
            OptimizerSpec::Adam { beta1, beta2, epsilon, .. } => {
                self.adam(params, gradient, rate, [beta1, beta2, epsilon]);
            }
        }
        Ok(())
    }

    /// Kingma and Ba 2015 (arXiv 1412.6980), algorithm 1.
    fn adam(&mut self, params: &mut [f32], gradient: &[f32], rate: f64, [beta1, beta2, epsilon]: [f64; 3]) {
        let correction = |beta: f64| 1.0 - libm::pow(beta, self.steps as f64);
        let step = (rate / correction(beta1)) as f32;
        let root = correction(beta2).sqrt().recip() as f32;
        let (keep1, keep2, epsilon) = (beta1 as f32, beta2 as f32, epsilon as f32);
        let (take1, take2) = ((1.0 - beta1) as f32, (1.0 - beta2) as f32);
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((p, (m, v)), &g) in params.iter_mut().zip(moments).zip(gradient) {
            *m = keep1 * *m + take1 * g;
            *v = keep2 * *v + take2 * g * g;
            *p -= step * *m / (v.sqrt() * root + epsilon);
        }
    }

    /// Number of parameters.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The state as bytes: `FOP1`, kind, length, steps, and the moments as little-endian f32.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(MAGIC);
        writer.u64(u64::from(self.spec.kind()));
        writer.u64(self.length as u64);
        writer.u64(self.steps);
        writer.f32s(&self.first);
        writer.f32s(&self.second);
        writer.finish()
    }

    /// Restores what [`Self::to_bytes`] wrote for an optimizer of the same kind.
    ///
    /// # Errors
    /// Settings outside their range, or bytes of another kind, version or length.
    pub fn from_bytes(spec: &OptimizerSpec, bytes: &[u8]) -> Result<Self, OptimizerError> {
        spec.validate()?;
        let mut reader = Reader::new(MAGIC, bytes)?;
        reader.require("optimizer kind", u64::from(spec.kind()))?;
        let length = reader.length("parameters")?;
        let steps = reader.u64()?;
        let (first, second) = (reader.f32s()?, reader.f32s()?);
        reader.finish()?;
        if (first.len(), second.len()) != Self::state_lengths(spec, length) {
            return Err(CodecError::Unexpected { what: "moment length" }.into());
        }
        Ok(Self { spec: spec.clone(), length, steps, first, second })
    }

    fn state_lengths(spec: &OptimizerSpec, length: usize) -> (usize, usize) {
        match spec {
            OptimizerSpec::Sgd { .. } => (0, 0),
            OptimizerSpec::Momentum { .. } => (length, 0),
            OptimizerSpec::Adam { .. } => (length, length),
        }
    }

    fn check_length(&self, what: &'static str, found: usize) -> Result<(), OptimizerError> {
        if found == self.length {
            return Ok(());
        }
        Err(OptimizerError::Length { what, expected: self.length, found })
    }
}
