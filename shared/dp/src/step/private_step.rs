//! The only way from contributions to a release.

use std::fmt;

use super::{
    discrete_gaussian::DiscreteGaussian, error::StepError, grid::Grid, poisson::sample_units,
    release::PrivateRelease, rounding::Rounder,
};
use crate::{
    event::DpEvent,
    ledger::{CommittedCharge, LedgerEntry},
    params::{ClipNorm, NoiseMultiplier, SamplingProbability},
    random::SecureRng,
};

/// Most units of one site: with coordinates of at most 2^20 steps every sum stays below 2^52.
pub const MAX_UNITS: usize = u32::MAX as usize;
/// Most private parameters.
pub const MAX_DIMENSION: usize = u32::MAX as usize;

/// Relative margin of [`PrivateStep::engine_clip_norm`] for norms and products in single precision, 2^-13.
///
/// It is generous because a contribution that still exceeds the ball is lost altogether.
const ENGINE_MARGIN: f64 = 1.0 / 8192.0;
/// Clip norms whose grid fits the single precision of gradients.
const CLIP_NORMS: std::ops::RangeInclusive<f64> = 1e-30..=1e30;

/// One private step: a secret sample, the exact sum of its contributions, noise.
///
/// A step that is dropped releases nothing and its charge stays spent.
///
/// ```compile_fail
/// // Without a committed charge there is no step.
/// fn free(rng: fusiondp_dp::SecureRng) {
///     let _ = fusiondp_dp::PrivateStep::begin(Default::default(), 10, 3, rng);
/// }
/// ```
pub struct PrivateStep {
    entry: LedgerEntry,
    grid: Grid,
    noise: DiscreteGaussian,
    rng: SecureRng,
    sampled: Vec<usize>,
    added: usize,
    rounder: Rounder,
    sums: Vec<i64>,
}

impl PrivateStep {
    /// Consumes the charge and draws the secret Poisson sample of `units` units at the charge's probability.
    ///
    /// `units` counts the site's privacy units, and `dimension` the parameters that take private gradient.
    ///
    /// # Errors
    /// [`StepError`] if the charge pays for several steps or names another number of units, or if a size, the clip
    /// norm or the noise multiplier is outside what the integer arithmetic is proved for. The charge stays spent.
    pub fn begin(
        charge: CommittedCharge,
        units: usize,
        dimension: usize,
        mut rng: SecureRng,
    ) -> Result<Self, StepError> {
        let entry = charge.into_entry();
        let (noise_multiplier, q) = single_release(&entry)?;
        check_sizes(&entry, units, dimension)?;
        let grid = checked_grid(entry.charge().clip_norm)?;
        let noise = DiscreteGaussian::for_multiplier(noise_multiplier)?;
        let sampled = sample_units(units, q, &mut rng);
        let (rounder, sums) = (Rounder::new(grid, dimension), vec![0; dimension]);
        Ok(Self { entry, grid, noise, rng, sampled, added: 0, rounder, sums })
    }

    /// The sampled units, ascending, each at most once. **Secret**: who is in the sample must not leave the site.
    #[must_use]
    pub fn sampled_units(&self) -> &[usize] {
        &self.sampled
    }

    /// The norm to which the gradient engine should clip, a little below the clip norm `C`.
    ///
    /// Rounding moves a vector of `P` coordinates by at most `sqrt(P)/2` grid steps, and single precision moves its
    /// norm by far less than the relative margin 2^-13. Clipped to `C (1 - sqrt(P) 2^-21 - 2^-13)` a contribution
    /// passes the exact check; the guarantee does not depend on it.
    #[must_use]
    pub fn engine_clip_norm(&self) -> f64 {
        let clip_norm = self.entry.charge().clip_norm.get();
        let rounding = 0.5 * (self.sums.len() as f64).sqrt() / Grid::steps_per_clip_norm();
        clip_norm * (1.0 - rounding - ENGINE_MARGIN)
    }

    /// Adds the clipped gradient of one sampled unit; the order of units does not matter.
    ///
    /// A vector that is not finite, or whose rounded form exceeds the clip norm, counts as the zero vector.
    ///
    /// # Errors
    /// [`StepError::WrongLength`] or [`StepError::TooManyContributions`]; the sum is unchanged.
    pub fn add_unit(&mut self, clipped_gradient: &[f32]) -> Result<(), StepError> {
        if clipped_gradient.len() != self.sums.len() {
            return Err(StepError::WrongLength { expected: self.sums.len(), found: clipped_gradient.len() });
        }
        if self.added >= self.sampled.len() {
            return Err(StepError::TooManyContributions);
        }
        self.rounder.add_if_in_ball(clipped_gradient, &mut self.sums);
        self.added += 1;
        Ok(())
    }

    /// Adds discrete Gaussian noise to every coordinate and gives the sum out; also when the sample is empty.
    ///
    /// # Errors
    /// [`StepError::MissingContributions`] unless every sampled unit was added; nothing is released then.
    pub fn release(mut self) -> Result<PrivateRelease, StepError> {
        if self.added != self.sampled.len() {
            return Err(StepError::MissingContributions);
        }
        // Below 2^52 + 2^51 in magnitude, see MAX_UNITS and DiscreteGaussian.
        self.noise.add_noise(&mut self.sums, &mut self.rng);
        Ok(PrivateRelease::new(self.sums, self.grid, self.entry))
    }
}

impl fmt::Debug for PrivateStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateStep")
            .field("dimension", &self.sums.len())
            .field("sequence", &self.entry.sequence())
            .finish_non_exhaustive()
    }
}

/// Noise and sampling of an entry that pays for exactly one release.
fn single_release(entry: &LedgerEntry) -> Result<(NoiseMultiplier, SamplingProbability), StepError> {
    let DpEvent::PoissonSampledGaussian { noise_multiplier, sampling_probability, steps } =
        entry.charge().event;
    match steps.get() {
        1 => Ok((noise_multiplier, sampling_probability)),
        steps => Err(StepError::SeveralSteps { steps }),
    }
}

fn check_sizes(entry: &LedgerEntry, units: usize, dimension: usize) -> Result<(), StepError> {
    let charged = entry.charge().units;
    if u64::try_from(units) != Ok(charged) {
        return Err(StepError::UnitsDiffer { charged, given: units });
    }
    if units > MAX_UNITS {
        return Err(StepError::TooManyUnits { units });
    }
    if dimension == 0 || dimension > MAX_DIMENSION {
        return Err(StepError::Dimension { dimension });
    }
    Ok(())
}

fn checked_grid(clip_norm: ClipNorm) -> Result<Grid, StepError> {
    if CLIP_NORMS.contains(&clip_norm.get()) {
        Ok(Grid::for_clip_norm(clip_norm))
    } else {
        Err(StepError::ClipNorm { clip_norm: clip_norm.get() })
    }
}
