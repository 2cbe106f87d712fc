//! Differential privacy for federated training: the private step, what it costs, and the record of what was spent.
//!
//! # Modules
//!
//! | module | holds |
//! |---|---|
//! | [`params`] | validated parameters: epsilon, delta, noise multiplier, clip norm, sampling probability, relation, digest |
//! | [`event`] | what was released, free of any neighboring relation |
//! | [`steps`] | the same, counted by kind |
//! | [`accountant`] | epsilon of a list of events: privacy loss distributions, Rényi divergences, calibration |
//! | [`ledger`] | the hash-chained, signed record of events, and committed charges |
//! | [`random`] | cryptographically secure randomness, always an argument |
//! | [`step`] | secret sampling, exact sums on a grid, exact discrete Gaussian noise |
//!
//! # What it may depend on
//!
//! Arithmetic, hashing, signatures and serialization only: no file, no network, no clock, no global randomness, no asynchronous
//! runtime, and no other crate of this workspace. Time, randomness and storage are arguments.
//!
//! # One private step
//!
//! ```
//! use fusiondp_dp::{ChargeRequest, Ledger, LedgerStore, PrivateRelease, PrivateStep, SecureRng};
//!
//! async fn step<S: LedgerStore>(
//!     ledger: &mut Ledger,
//!     store: &mut S,
//!     request: ChargeRequest,
//!     gradient_of: impl Fn(usize, f64) -> Vec<f32>,
//! ) -> Result<PrivateRelease, Box<dyn std::error::Error>> {
//!     let units = usize::try_from(request.units)?;
//!     let charge = ledger.charge(vec![request], store).await?.remove(0);
//!     let mut step = PrivateStep::begin(charge, units, 20_500, SecureRng::from_os()?)?;
//!     let clip_norm = step.engine_clip_norm();
//!     for unit in step.sampled_units().to_vec() {
//!         step.add_unit(&gradient_of(unit, clip_norm))?;
//!     }
//!     Ok(step.release()?)
//! }
//! ```
//!
//! # Symbols
//!
//! | paper | here |
//! |---|---|
//! | ε | [`Epsilon`], an upper bound |
//! | δ | [`Delta`] |
//! | σ, the noise deviation over the clip norm | [`NoiseMultiplier`] |
//! | C | [`ClipNorm`] |
//! | q | [`SamplingProbability`] |
//! | T, number of steps | `steps` of [`DpEvent`] |
//! | α, order of a Rényi divergence | `order` in [`accountant`] |
//! | λ = α - 1, exponential tilt of a privacy loss | `tilt` in [`accountant`] |
//! | L, privacy loss | `loss` in [`accountant`] |
//! | σ of the discrete Gaussian, in grid steps | `sigma` in [`step`] |

pub mod accountant;
pub mod event;
pub mod ledger;
mod normal;
pub mod params;
pub mod random;
pub mod step;
pub mod steps;

pub use accountant::{
    Accountant, AccountantError, EpsilonBounds, PldAccountant, PrivacyAccountant, PrivacyProfile,
    ProfilePoint, RdpAccountant, calibrate_noise, calibrate_noise_beside, calibrate_rate, calibrate_steps,
    epsilon, epsilon_of_steps, gaussian_mu, largest_odds_factor, largest_posterior,
};
pub use event::DpEvent;
pub use ledger::{
    ChargeError, ChargeRequest, CommittedCharge, ForeignSignature, Ledger, LedgerEntry, LedgerError,
    LedgerKey, LedgerPublicKey, LedgerStore, Protection, Released, Signature, SignedEntry, Statement,
    UpdateId, verify_piece,
};
pub use params::{
    ClipNorm, Delta, Digest, Epsilon, NeighboringRelation, NoiseMultiplier, ParameterError,
    SamplingProbability,
};
pub use random::{SecureRng, SeedError};
pub use step::{
    Block, ContributionShape, Factor, Grid, HistogramRelease, HistogramStep, PrivateRelease, PrivateStep,
    ReleaseParts, StepError, UnitGroup,
};
pub use steps::StepCounts;
