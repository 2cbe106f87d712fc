//! Secret bits, and the scores of an attacker who sees every release.

use std::convert::Infallible;
use std::num::NonZeroU32;

use fusiondp_dp::{
    AccountantError, ChargeError, DpEvent, LedgerError, NoiseMultiplier, ParameterError, SecureRng, StepError,
};
use rand::RngExt as _;

use super::charges::Charges;
use super::setting::Series;
use super::{Fault, Setting, sums, tables};

/// Why an attack could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A parameter out of its range.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// The claim cannot be computed.
    #[error(transparent)]
    Accountant(#[from] AccountantError),
    /// The private step refused.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The ledger refused a charge.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The charge did not go through.
    #[error(transparent)]
    Charge(#[from] ChargeError<Infallible>),
    /// A charge was made and not handed out.
    #[error("the ledger made no charge; this is a defect")]
    NoCharge,
    /// No runtime for the ledger.
    #[error("cannot start a runtime: {0}")]
    Runtime(#[from] std::io::Error),
    /// Too few or too many canaries.
    #[error("{rows} rows of canaries are outside 2 to {most}; choose a number inside")]
    Canaries {
        /// Asked for.
        rows: usize,
        /// Most.
        most: usize,
    },
}

/// Most rows of canaries.
pub const MOST_ROWS: usize = 512;

/// One secret bit and what the attacker saw of it: the larger the score, the likelier the bit is set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Canary {
    /// The secret.
    pub bit: bool,
    /// Logarithm of the likelihood ratio, up to rounding.
    pub score: f64,
}

/// How many of the surest `guesses` are right.
#[must_use]
pub fn right_guesses(canaries: &[Canary], guesses: usize) -> usize {
    let mut surest = canaries.to_vec();
    surest.sort_by(|one, other| other.score.abs().total_cmp(&one.score.abs()));
    surest.iter().take(guesses).filter(|canary| canary.bit == (canary.score > 0.0)).count()
}

/// Sends canaries through the releases of a setting.
///
/// # Errors
/// Too few or too many canaries, or what the mechanism refuses.
pub fn run(setting: &Setting, fault: Option<Fault>, seed: u64) -> Result<Vec<Canary>, AuditError> {
    if !(2..=MOST_ROWS).contains(&setting.side) {
        return Err(AuditError::Canaries { rows: setting.side, most: MOST_ROWS });
    }
    if fault == Some(Fault::RealizedDivisor) {
        return sums::divided_runs(setting, seed);
    }
    let mut random = SecureRng::seeded_for_simulation(seed, u64::MAX);
    let bits: Vec<bool> = (0..setting.side * setting.side).map(|_| random.random()).collect();
    let mut scores = vec![0.0; bits.len()];
    for (index, series) in setting.series.iter().enumerate() {
        let charges = Charges::new(setting, series)?;
        let mut releasing = Releasing { series, fault, seed, first_stream: (index as u64) << 48, charges };
        for step in 0..series.event.steps().get() {
            let evidence = releasing.evidence(u64::from(step), &bits)?;
            scores.iter_mut().zip(evidence).for_each(|(score, evidence)| *score += evidence);
        }
    }
    Ok(bits.into_iter().zip(scores).map(|(bit, score)| Canary { bit, score }).collect())
}

/// One kind of release under way.
pub(super) struct Releasing<'a> {
    pub(super) series: &'a Series,
    pub(super) fault: Option<Fault>,
    seed: u64,
    /// Streams of the generator from here on are of this kind of release.
    first_stream: u64,
    pub(super) charges: Charges,
}

impl Releasing<'_> {
    /// Log-likelihood ratio of each bit in one release.
    fn evidence(&mut self, step: u64, bits: &[bool]) -> Result<Vec<f64>, AuditError> {
        // An adversary's units may change with the round: this one shows what two rounds with the same noise give away.
        let turned = step % 2 == 1;
        let signs: Vec<bool> = bits.iter().map(|&bit| bit != turned).collect();
        let mut evidence = match self.series.event {
            DpEvent::PoissonSampledGaussian { .. } => sums::evidence(self, step, &signs)?,
            DpEvent::GaussianHistogram { .. } => tables::evidence(self, step, &signs)?,
        };
        if turned {
            evidence.iter_mut().for_each(|evidence| *evidence = -*evidence);
        }
        Ok(evidence)
    }

    /// One release as it is charged.
    pub(super) fn charged(&self) -> Result<DpEvent, AuditError> {
        let mut event = self.series.event.with_steps(NonZeroU32::MIN);
        if let DpEvent::PoissonSampledGaussian { noise_multiplier, .. }
        | DpEvent::GaussianHistogram { noise_multiplier, .. } = &mut event
            && self.fault == Some(Fault::HalfNoise)
        {
            *noise_multiplier = NoiseMultiplier::new(0.5 * noise_multiplier.get())?;
        }
        Ok(event)
    }

    /// The generator of one release, or of its `part`.
    pub(super) fn random(&self, step: u64, part: usize) -> SecureRng {
        let stream = if self.fault == Some(Fault::ReusedNoise) { step / 2 } else { step };
        let stream = self.first_stream | (part as u64) << 32 | stream;
        SecureRng::seeded_for_simulation(self.seed, stream)
    }
}
