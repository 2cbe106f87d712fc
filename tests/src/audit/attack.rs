//! The canaries' way through the private step, and the attacker's scores.

use std::convert::Infallible;
use std::future::ready;

use fusiondp_dp::{
    AccountantError, Block, ChargeError, ChargeRequest, CommittedCharge, ContributionShape, Digest, DpEvent,
    Factor, Ledger, LedgerEntry, LedgerError, LedgerStore, NoiseMultiplier, ParameterError, PrivateStep,
    Protection, Released, SecureRng, StepError, UnitGroup, UpdateId,
};
use rand::RngExt as _;

use super::{Fault, Setting};

/// How often a contribution that nobody clips exceeds the clip norm.
const UNCLIPPED: usize = 4;
/// Other units beside the one canary of a run whose sums are divided by the sample's size.
const BYSTANDERS: usize = 8;
/// Units whose rows are handed over at once.
const GROUP: usize = 1_024;

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
/// Too few or too many canaries, or what the private step refuses.
pub fn run(setting: &Setting, fault: Option<Fault>, seed: u64) -> Result<Vec<Canary>, AuditError> {
    if !(2..=MOST_ROWS).contains(&setting.side) {
        return Err(AuditError::Canaries { rows: setting.side, most: MOST_ROWS });
    }
    match fault {
        Some(Fault::RealizedDivisor) => divided_runs(setting, seed),
        other => Matrix::new(setting, other, seed)?.run(),
    }
}

/// One site with as many canaries as a matrix has entries, all of them in every release.
struct Matrix<'a> {
    setting: &'a Setting,
    fault: Option<Fault>,
    seed: u64,
    bits: Vec<bool>,
    charges: Charges,
}

impl<'a> Matrix<'a> {
    fn new(setting: &'a Setting, fault: Option<Fault>, seed: u64) -> Result<Self, AuditError> {
        let mut random = SecureRng::seeded_for_simulation(seed, u64::MAX);
        let bits = (0..setting.side * setting.side).map(|_| random.random()).collect();
        Ok(Self { setting, fault, seed, bits, charges: Charges::new(setting)? })
    }

    fn run(mut self) -> Result<Vec<Canary>, AuditError> {
        let likelihood = Likelihood::of(self.setting);
        let mut scores = vec![0.0; self.bits.len()];
        for step in 0..self.setting.steps.get() {
            // An adversary's units may change with the round: this one shows what two rounds with the same noise give away.
            let turn = if step % 2 == 0 { 1.0 } else { -1.0 };
            let sums = self.release(u64::from(step), turn)?;
            for (score, sum) in scores.iter_mut().zip(sums) {
                *score += likelihood.score(f64::from(turn) * sum);
            }
        }
        Ok(self.bits.iter().zip(scores).map(|(&bit, score)| Canary { bit, score }).collect())
    }

    /// One release: the sums in clip norms, one per canary.
    fn release(&mut self, step: u64, turn: f32) -> Result<Vec<f64>, AuditError> {
        let side = self.setting.side;
        let copies = if self.fault == Some(Fault::NoClipping) { UNCLIPPED } else { 1 };
        let stream = if self.fault == Some(Fault::ReusedNoise) { step / 2 } else { step };
        let noise = match self.fault {
            Some(Fault::HalfNoise) => NoiseMultiplier::new(0.5 * self.setting.noise_multiplier.get())?,
            _ => self.setting.noise_multiplier,
        };
        let units = copies * self.bits.len();
        let shape = ContributionShape::new(vec![Block::Linear { outputs: side, inputs: side }]);
        let rng = SecureRng::seeded_for_simulation(self.seed, stream);
        let charge = self.charges.commit(Setting::event(noise, self.setting.sampling_probability), units)?;
        let mut private = PrivateStep::begin(charge, units, shape, rng)?;
        // A copy of a unit is how a unit gets past the clip norm: the step itself would not let it.
        let sampled: Vec<usize> = private.sampled_units().iter().map(|unit| unit % self.bits.len()).collect();
        for group in sampled.chunks(GROUP) {
            self.add(&mut private, group, turn)?;
        }
        let release = private.release()?;
        let scale = release.grid_step() / self.setting.clip_norm.get();
        Ok(release.values()[..side * side].iter().map(|&value| value as f64 * scale).collect())
    }

    /// Adds canaries: each its entry of the matrix, with the sign of its bit.
    fn add(&self, step: &mut PrivateStep, units: &[usize], turn: f32) -> Result<(), AuditError> {
        let side = self.setting.side;
        let clip = step.engine_clip_norm() as f32;
        let (mut left, mut right) = (vec![0.0; units.len() * side], vec![0.0; units.len() * side]);
        for (row, &unit) in units.iter().enumerate() {
            left[row * side + unit / side] = if self.bits[unit] { turn } else { -turn };
            right[row * side + unit % side] = clip;
        }
        let factor = Factor { left: &left, right: &right, constant: false };
        let offsets: Vec<usize> = (0..=units.len()).collect();
        let clip_factors = vec![1.0; units.len()];
        let group =
            UnitGroup { offsets: &offsets, clip_factors: &clip_factors, linear: &[&[factor]], dense: &[] };
        Ok(step.add_units(&group)?)
    }
}

/// The attacker's evidence in one release.
struct Likelihood {
    variance: f64,
    probability: f64,
}

impl Likelihood {
    fn of(setting: &Setting) -> Self {
        let noise = setting.noise_multiplier.get();
        Self { variance: noise * noise, probability: setting.sampling_probability.get() }
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
fn divided_runs(setting: &Setting, seed: u64) -> Result<Vec<Canary>, AuditError> {
    let mut random = SecureRng::seeded_for_simulation(seed, u64::MAX);
    let mut charges = Charges::new(setting)?;
    let event = Setting::event(setting.noise_multiplier, setting.sampling_probability);
    let others = BYSTANDERS as f64;
    let (absent, present) = (1.0, (others - 1.0) / (others + 1.0));
    (0..setting.side * setting.side)
        .map(|run| {
            let bit: bool = random.random();
            let mut score = 0.0;
            for step in 0..setting.steps.get() {
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
                let sum = release.values()[0] as f64 * release.grid_step() / setting.clip_norm.get();
                let quotient = sum / sampled.len().max(1) as f64;
                score += 0.5 * (absent + present) - quotient;
            }
            Ok(Canary { bit, score })
        })
        .collect()
}

/// Charges of a ledger in memory.
struct Charges {
    runtime: tokio::runtime::Runtime,
    ledger: Ledger,
    request: ChargeRequest,
}

/// A store that keeps nothing: the ledger of an attack protects nobody.
struct Nowhere;

impl LedgerStore for Nowhere {
    type Error = Infallible;

    fn append(&mut self, _: &[LedgerEntry]) -> impl Future<Output = Result<(), Infallible>> {
        ready(Ok(()))
    }
}

/// Entries after which the ledger starts over, so that it does not fill the memory.
const MOST_ENTRIES: usize = 4_096;

impl Charges {
    fn new(setting: &Setting) -> Result<Self, AuditError> {
        let request = ChargeRequest {
            time_ms: 0,
            data_set: Digest::of(b"canaries"),
            study: "audit".to_owned(),
            study_digest: Digest::of(b"audit"),
            round: 1,
            local_step: 1,
            event: Setting::event(setting.noise_multiplier, setting.sampling_probability),
            clip_norm: setting.clip_norm,
            unit: "canary".to_owned(),
            units: 1,
            model_digest: Digest::of(b"audit"),
            update_id: UpdateId::from_bytes([0; 16]),
            released: Released::PrivateSum,
            protects: Protection::SensitiveValues,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        Ok(Self { runtime, ledger: Ledger::open(Vec::new())?, request })
    }

    /// A committed charge for one release of `units` units.
    fn commit(&mut self, event: DpEvent, units: usize) -> Result<CommittedCharge, AuditError> {
        if self.ledger.entries().len() >= MOST_ENTRIES {
            self.ledger = Ledger::open(Vec::new())?;
        }
        self.request.round += 1;
        let request = ChargeRequest { event, units: units as u64, ..self.request.clone() };
        let charged = self.runtime.block_on(self.ledger.charge(vec![request], &mut Nowhere))?;
        charged.into_iter().next().ok_or(AuditError::NoCharge)
    }
}
