//! Averages over the iterates of a study.

use serde::{Deserialize, Serialize};

use super::OptimizerError;
use super::codec::{Reader, Writer};

/// Which average of the iterates becomes the final model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Averaging {
    /// The last iterate. Has braces because a bare variant would let unknown fields pass.
    None {},
    /// Exponential moving average, corrected for its start (as Adam's means are).
    Ema {
        /// Weight of the past per round, `[0, 1)`.
        decay: f64,
    },
    /// Mean of the iterates of the last rounds.
    Tail {
        /// Share of the rounds before the first iterate that counts, `[0, 1)`.
        from: f64,
    },
}

impl Default for Averaging {
    fn default() -> Self {
        Self::None {}
    }
}

impl Averaging {
    /// Checks the settings.
    ///
    /// # Errors
    /// A share outside `[0, 1)`.
    pub fn validate(&self) -> Result<(), OptimizerError> {
        let (field, value) = match *self {
            Self::None {} => return Ok(()),
            Self::Ema { decay } => ("averaging decay", decay),
            Self::Tail { from } => ("averaging from", from),
        };
        if (0.0..1.0).contains(&value) {
            return Ok(());
        }
        Err(OptimizerError::Setting { field, value, range: "at least 0 and below 1" })
    }
}

/// A weighted sum of iterates. Sums are kept in `f64`.
#[derive(Debug, Clone, PartialEq)]
pub struct Averager {
    averaging: Averaging,
    weight: f64,
    sum: Vec<f64>,
}

/// First bytes of a stored averager, the last of them its version.
const MAGIC: [u8; 4] = *b"FAV1";

impl Averager {
    /// An averager of vectors of `length` values that has seen none.
    ///
    /// # Errors
    /// A setting outside its range.
    pub fn new(averaging: Averaging, length: usize) -> Result<Self, OptimizerError> {
        averaging.validate()?;
        let length = if matches!(averaging, Averaging::None {}) { 0 } else { length };
        Ok(Self { averaging, weight: 0.0, sum: vec![0.0; length] })
    }

    /// Takes in the iterate after `round` (from 1) of `rounds`.
    ///
    /// # Errors
    /// A vector of another length.
    pub fn add(&mut self, params: &[f32], round: u32, rounds: u32) -> Result<(), OptimizerError> {
        let (keep, take) = match self.averaging {
            Averaging::None {} => return Ok(()),
            Averaging::Ema { decay } => (decay, 1.0 - decay),
            Averaging::Tail { from } if f64::from(round) <= from * f64::from(rounds) => return Ok(()),
            Averaging::Tail { .. } => (1.0, 1.0),
        };
        if params.len() != self.sum.len() {
            let (expected, found) = (self.sum.len(), params.len());
            return Err(OptimizerError::Length { what: "iterate", expected, found });
        }
        self.weight = keep * self.weight + take;
        for (sum, &p) in self.sum.iter_mut().zip(params) {
            *sum = keep * *sum + take * f64::from(p);
        }
        Ok(())
    }

    /// The average; `None` before the first iterate that counts, and without averaging.
    pub fn average(&self) -> Option<Vec<f32>> {
        (self.weight > 0.0).then(|| self.sum.iter().map(|sum| (sum / self.weight) as f32).collect())
    }

    /// The state as bytes: `FAV1`, weight and sums as little-endian f64.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(MAGIC);
        writer.f64s(&[self.weight]);
        writer.f64s(&self.sum);
        writer.finish()
    }

    /// Restores what [`Self::to_bytes`] wrote for the same averaging over `length` values.
    ///
    /// # Errors
    /// A setting outside its range, or bytes of another version or length.
    pub fn from_bytes(averaging: Averaging, length: usize, bytes: &[u8]) -> Result<Self, OptimizerError> {
        let fresh = Self::new(averaging, length)?;
        let mut reader = Reader::new(MAGIC, bytes)?;
        let (weight, sum) = (reader.f64s()?, reader.f64s()?);
        reader.finish()?;
        match (&weight[..], sum.len() == fresh.sum.len()) {
            (&[weight], true) => Ok(Self { averaging, weight, sum }),
            _ => Err(super::CodecError::Unexpected { what: "averager length" }.into()),
        }
    }
}
