//! Canaries in sums: each an entry of a matrix, plus or minus the clip norm.

use std::num::NonZeroU32;

use fusiondp_dp::{Block, ContributionShape, DpEvent, Factor, PrivateStep, SecureRng, UnitGroup};
use rand::RngExt as _;

use super::attack::{Canary, Releasing};
use super::charges::Charges;
use super::{AuditError, Fault, Setting};

/// How often a contribution that nobody clips exceeds the clip norm.
const UNCLIPPED: usize = 4;
/// Other units beside the one canary of a run whose sums are divided by the sample's size.
const BYSTANDERS: usize = 8;
/// Units whose rows are handed over at once.
const GROUP: usize = 1_024;

/// Logarithm of the likelihood ratio of + against - for each canary, in one sum to which each adds the sign of its bit.
pub(super) fn evidence(
    releasing: &mut Releasing<'_>,
    step: u64,
    signs: &[bool],
) -> Result<Vec<f64>, AuditError> {
    let side = signs.len().isqrt();
    let copies = if releasing.fault == Some(Fault::NoClipping) { UNCLIPPED } else { 1 };
    let units = copies * signs.len();
    let shape = ContributionShape::new(vec![Block::Linear { outputs: side, inputs: side }]);
    let charge = releasing.charges.commit(releasing.charged()?, units)?;
    let mut private = PrivateStep::begin(charge, units, shape, releasing.random(step, 0))?;
    // A copy of a unit is how a unit gets past the clip norm: the step itself would not let it.
    let sampled: Vec<usize> = private.sampled_units().iter().map(|unit| unit % signs.len()).collect();
    for group in sampled.chunks(GROUP) {
        add(&mut private, group, signs)?;
    }
    let release = private.release()?;
    let scale = release.grid_step() / releasing.series.clip_norm.get();
    let likelihood = Likelihood::of(&releasing.series.event);
    Ok(release.values()[..side * side].iter().map(|&value| likelihood.score(value as f64 * scale)).collect())
}

/// Adds canaries: each its entry of the matrix, with the sign of its bit.
fn add(step: &mut PrivateStep, units: &[usize], signs: &[bool]) -> Result<(), AuditError> {
    let side = signs.len().isqrt();
    let clip = step.engine_clip_norm() as f32;
    let (mut left, mut right) = (vec![0.0; units.len() * side], vec![0.0; units.len() * side]);
    for (row, &unit) in units.iter().enumerate() {
        left[row * side + unit / side] = if signs[unit] { 1.0 } else { -1.0 };
        right[row * side + unit % side] = clip;
    }
    let factor = Factor { left: &left, right: &right, constant: false };
    let offsets: Vec<usize> = (0..=units.len()).collect();
    let clip_factors = vec![1.0; units.len()];
    let group =
        UnitGroup { offsets: &offsets, clip_factors: &clip_factors, linear: &[&[factor]], dense: &[] };
    Ok(step.add_units(&group)?)
}

/// The attacker's evidence in one release.
struct Likelihood {
    variance: f64,
    probability: f64,
}

impl Likelihood {
    fn of(event: &DpEvent) -> Self {
        let noise = event.noise_multiplier().get();
        Self { variance: noise * noise, probability: event.sampling_probability().get() }
    }

    /// Logarithm of the likelihood ratio of +1 against -1, each with noise and sampled with the setting's probability, at `sum`.
    fn score(&self, sum: f64) -> f64 {
        let ratio = |sum: f64| {
            let exponent = (sum - 0.5) / self.variance;
            // Where the exponential overflows, the rest is nothing beside it.
            if exponent > 500.0 {
                exponent + self.probability.ln()
            } else {
                (self.probability * exponent.exp_m1()).ln_1p()
            }
        };
        ratio(sum) - ratio(-sum)
    }
}

/// One run per canary: the others contribute the same, the canary its opposite or nothing, and the sum is divided by the
/// size of the sample. That the canary is there shifts the quotient by nearly twice of what it shifts the sum.
pub(super) fn divided_runs(setting: &Setting, seed: u64) -> Result<Vec<Canary>, AuditError> {
    let mut random = SecureRng::seeded_for_simulation(seed, u64::MAX);
    let series = &setting.series[0];
    let mut charges = Charges::new(setting, series)?;
    let event = series.event.with_steps(NonZeroU32::MIN);
    let others = BYSTANDERS as f64;
    let (absent, present) = (1.0, (others - 1.0) / (others + 1.0));
    (0..setting.side * setting.side)
        .map(|run| {
            let bit: bool = random.random();
            let mut score = 0.0;
            for step in 0..series.event.steps().get() {
                let units = BYSTANDERS + usize::from(bit);
                let stream = (run as u64) << 20 | u64::from(step);
                let rng = SecureRng::seeded_for_simulation(seed, stream);
                let mut private = PrivateStep::begin(charges.commit(event, units)?, units, 1, rng)?;
                let clip = private.engine_clip_norm() as f32;
                let sampled = private.sampled_units().to_vec();
                for &unit in &sampled {
                    private.add_unit(&[if unit < BYSTANDERS { clip } else { -clip }])?;
                }
                let release = private.release()?;
                let sum = release.values()[0] as f64 * release.grid_step() / series.clip_norm.get();
                let quotient = sum / sampled.len().max(1) as f64;
                score += 0.5 * (absent + present) - quotient;
            }
            Ok(Canary { bit, score })
        })
        .collect()
}
