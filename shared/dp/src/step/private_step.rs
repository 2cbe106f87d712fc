//! The only way from contributions to a release.

use std::fmt;

use super::{
    discrete_gaussian::DiscreteGaussian,
    error::StepError,
    factored::{self, FactoredSum},
    grid::Grid,
    poisson::sample_units,
    release::PrivateRelease,
    shape::{ContributionShape, MAX_WIDTH, UnitGroup},
};
use crate::{
    event::DpEvent,
    ledger::{CommittedCharge, LedgerEntry},
    params::{ClipNorm, NoiseMultiplier, SamplingProbability},
    random::SecureRng,
};

/// Most units of one site: with coordinates of at most 2^28 steps every sum stays below 2^60.
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
    sum: FactoredSum,
}

impl PrivateStep {
    /// Consumes the charge and draws the secret Poisson sample of `units` units at the charge's probability.
    ///
    /// `units` counts the site's privacy units, and `shape` says what the parameters are that take private gradient: a number
    /// of coordinates, or the blocks of a [`ContributionShape`].
    ///
    /// # Errors
    /// [`StepError`] if the charge pays for several steps or names another number of units, or if a size, the clip
    /// norm or the noise multiplier is outside what the integer arithmetic is proved for. The charge stays spent.
    pub fn begin(
        charge: CommittedCharge,
        units: usize,
        shape: impl Into<ContributionShape>,
        mut rng: SecureRng,
    ) -> Result<Self, StepError> {
        let shape = shape.into();
        let entry = charge.into_entry();
        let (noise_multiplier, q) = single_release(&entry)?;
        check_units(&entry, units)?;
        check_shape(&shape)?;
        let grid = checked_grid(entry.charge().clip_norm)?;
        let noise = DiscreteGaussian::for_multiplier(noise_multiplier)?;
        let sampled = sample_units(units, q, &mut rng);
        Ok(Self { entry, grid, noise, rng, sampled, added: 0, sum: FactoredSum::new(shape, grid) })
    }

    /// The sampled units, ascending, each at most once. **Secret**: who is in the sample must not leave the site.
    #[must_use]
    pub fn sampled_units(&self) -> &[usize] {
        &self.sampled
    }

    /// The norm to which the gradient engine should clip, a little below the clip norm `C`.
    ///
    /// Rounding moves the `O` outputs and `I` inputs of a linear block by at most half a step of 2^-14 of their norm each, so
    /// the block by at most `(sqrt O + sqrt(I + 1)) 2^-15` of its norm, and `D` dense coordinates by `sqrt(D) 2^-21` of `C`.
    /// Single precision moves a norm by far less than the relative margin 2^-13. Clipped to `C` less all of these a
    /// contribution of one record passes the exact check, unless long rows cancel each other. The rounding of several records,
    /// each rounded by itself, is not allowed for here: a unit that it takes beyond `C` is shrunk to `C` in exact integers,
    /// see [`Self::add_units`]. The guarantee depends on none of this.
    #[must_use]
    pub fn engine_clip_norm(&self) -> f64 {
        self.entry.charge().clip_norm.get()
            * (1.0 - factored::largest_rounding(self.sum.shape()) - ENGINE_MARGIN)
    }

    /// Adds sampled units whose linear blocks are factored; the order of units and their grouping do not matter.
    ///
    /// A unit of several records whose rounded form is longer than the clip norm, up to twice, is shrunk to it. A unit that is
    /// not finite, or whose rounded form is still longer than the clip norm, counts as the zero vector.
    ///
    /// # Errors
    /// [`StepError::Shape`], [`StepError::UnitOffsets`] or [`StepError::TooManyContributions`]; the sum is unchanged.
    pub fn add_units(&mut self, group: &UnitGroup<'_>) -> Result<(), StepError> {
        group.check(self.sum.shape())?;
        if group.units() > self.sampled.len() - self.added {
            return Err(StepError::TooManyContributions);
        }
        self.sum.add(group);
        self.added += group.units();
        Ok(())
    }

    /// Adds the clipped gradient of one sampled unit to a step without linear blocks; the order of units does not matter.
    ///
    /// A vector that is not finite, or whose rounded form exceeds the clip norm, counts as the zero vector.
    ///
    /// # Errors
    /// [`StepError::Shape`] or [`StepError::TooManyContributions`]; the sum is unchanged.
    pub fn add_unit(&mut self, clipped_gradient: &[f32]) -> Result<(), StepError> {
        let shape = self.sum.shape();
        if (shape.dense(), shape.dimension()) != (clipped_gradient.len(), clipped_gradient.len()) {
            let (expected, found) = (shape.dimension(), clipped_gradient.len());
            return Err(StepError::Shape { what: "dense coordinates", expected, found });
        }
        if self.added >= self.sampled.len() {
            return Err(StepError::TooManyContributions);
        }
        self.sum.add_dense(clipped_gradient);
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
        let mut sums = self.sum.finish();
        // Below 2^60 + 2^51 in magnitude, see MAX_UNITS and DiscreteGaussian.
        self.noise.add_noise(&mut sums, &mut self.rng);
        Ok(PrivateRelease::new(sums, self.grid, self.entry))
    }
}

impl fmt::Debug for PrivateStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateStep")
            .field("dimension", &self.sum.shape().dimension())
            .field("sequence", &self.entry.sequence())
            .finish_non_exhaustive()
    }
}

/// Noise and sampling of an entry that pays for exactly one release.
fn single_release(entry: &LedgerEntry) -> Result<(NoiseMultiplier, SamplingProbability), StepError> {
    let DpEvent::PoissonSampledGaussian { noise_multiplier, sampling_probability, steps } =
        entry.charge().event
    else {
        return Err(StepError::OtherEvent { expected: "poisson_sampled_gaussian" });
    };
    match steps.get() {
        1 => Ok((noise_multiplier, sampling_probability)),
        steps => Err(StepError::SeveralSteps { steps }),
    }
}

fn check_units(entry: &LedgerEntry, units: usize) -> Result<(), StepError> {
    let charged = entry.charge().units;
    if u64::try_from(units) != Ok(charged) {
        return Err(StepError::UnitsDiffer { charged, given: units });
    }
    if units > MAX_UNITS {
        return Err(StepError::TooManyUnits { units });
    }
    Ok(())
}

fn check_shape(shape: &ContributionShape) -> Result<(), StepError> {
    let dimension = shape.dimension();
    if dimension == 0 || dimension > MAX_DIMENSION {
        return Err(StepError::Dimension { dimension });
    }
    let mut widths = shape.linear().flat_map(|(outputs, inputs)| [outputs, inputs]);
    match widths.find(|width| !(1..=MAX_WIDTH).contains(width)) {
        Some(width) => Err(StepError::Width { width }),
        None => Ok(()),
    }
}

fn checked_grid(clip_norm: ClipNorm) -> Result<Grid, StepError> {
    if CLIP_NORMS.contains(&clip_norm.get()) {
        Ok(Grid::for_clip_norm(clip_norm))
    } else {
        Err(StepError::ClipNorm { clip_norm: clip_norm.get() })
    }
}
