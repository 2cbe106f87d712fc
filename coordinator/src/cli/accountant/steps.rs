//! The releases that a command is about: from flags, or from a file of events.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use fusiondp_dp::{Delta, DpEvent, NeighboringRelation, NoiseMultiplier, SamplingProbability, StepCounts};
use serde::Deserialize;

use super::super::admin;

/// Largest file of events that is read.
const MAX_EVENTS_BYTES: u64 = 16 << 20;

/// What equal releases are made with.
#[derive(Debug, Args)]
pub(super) struct ParameterFlags {
    /// Deviation of the noise on a sum, in clip norms.
    #[arg(long, value_name = "S")]
    noise_multiplier: Option<f64>,
    /// Probability with which a unit is in a sum, in (0, 1].
    #[arg(long, value_name = "Q")]
    sampling_probability: Option<f64>,
    /// How many noised sums are released.
    #[arg(long, value_name = "T")]
    steps: Option<NonZeroU32>,
}

/// Noise multiplier, sampling probability and number of steps, as far as they were given.
pub(super) type Parameters = (Option<NoiseMultiplier>, Option<SamplingProbability>, Option<NonZeroU32>);

impl ParameterFlags {
    /// What was given, each inside its range.
    pub(super) fn parameters(&self) -> anyhow::Result<Parameters> {
        let noise = self.noise_multiplier.map(NoiseMultiplier::new).transpose()?;
        Ok((noise, self.sampling_probability.map(SamplingProbability::new).transpose()?, self.steps))
    }
}

/// Equal releases by flags, or unlike ones from a file.
#[derive(Debug, Args)]
pub(super) struct StepFlags {
    #[command(flatten)]
    equal: ParameterFlags,
    /// Read releases from a JSON file: {"parts": [{"noise_multiplier", "sampling_rate", "steps"}, …], "delta"}.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["noise_multiplier", "sampling_probability", "steps"])]
    events: Option<PathBuf>,
    /// Probability with which epsilon may be exceeded, in (0, 1); replaces that of the file.
    #[arg(long, value_name = "D")]
    delta: Option<f64>,
}

/// Releases and the delta to account them at.
pub(super) struct Releases {
    pub(super) steps: StepCounts,
    pub(super) delta: Delta,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsFile {
    parts: Vec<Part>,
    delta: Option<Delta>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    #[serde(default)]
    kind: PartKind,
    noise_multiplier: NoiseMultiplier,
    /// Of a sum; a table of counts has none.
    sampling_rate: Option<SamplingProbability>,
    steps: NonZeroU32,
}

/// What the noise is added to.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PartKind {
    /// Sums over Poisson samples, as in training.
    #[default]
    Sum,
    /// Tables of counts, as of noisy metrics.
    Histogram,
}

impl StepFlags {
    /// The releases that the flags name.
    pub(super) fn releases(&self) -> anyhow::Result<Releases> {
        match &self.events {
            Some(path) => self.read(path),
            None => {
                let delta = self.delta.context("give --delta, for example 1e-5")?;
                Ok(Releases { steps: StepCounts::of(&[self.event()?]), delta: Delta::new(delta)? })
            }
        }
    }

    fn event(&self) -> anyhow::Result<DpEvent> {
        match self.equal.parameters()? {
            (Some(noise_multiplier), Some(sampling_probability), Some(steps)) => {
                Ok(DpEvent::PoissonSampledGaussian { noise_multiplier, sampling_probability, steps })
            }
            _ => bail!("give --noise-multiplier, --sampling-probability and --steps, or --events FILE"),
        }
    }

    fn read(&self, path: &Path) -> anyhow::Result<Releases> {
        let name = || path.display().to_string();
        let bytes = admin::read(path, MAX_EVENTS_BYTES)?;
        let file: EventsFile = serde_json::from_slice(&bytes).with_context(name)?;
        ensure!(!file.parts.is_empty(), "{}: parts is empty; name at least one kind of release", name());
        let delta = match self.delta {
            Some(delta) => Delta::new(delta)?,
            None => {
                file.delta.with_context(|| format!("{}: has no delta; add it or give --delta", name()))?
            }
        };
        let events: Vec<DpEvent> =
            file.parts.iter().map(Part::event).collect::<anyhow::Result<_>>().with_context(name)?;
        Ok(Releases { steps: StepCounts::of(&events), delta })
    }
}

impl Part {
    fn event(&self) -> anyhow::Result<DpEvent> {
        let Self { noise_multiplier, steps, .. } = *self;
        match (self.kind, self.sampling_rate) {
            (PartKind::Sum, Some(sampling_probability)) => {
                Ok(DpEvent::PoissonSampledGaussian { noise_multiplier, sampling_probability, steps })
            }
            (PartKind::Histogram, None) => Ok(DpEvent::GaussianHistogram { noise_multiplier, steps }),
            (PartKind::Sum, None) => {
                bail!("a part has no sampling_rate; add it, 1 where every unit takes part")
            }
            (PartKind::Histogram, Some(_)) => {
                bail!("a part of kind histogram has a sampling_rate; remove it: every unit is counted")
            }
        }
    }
}

/// What each relation means, as the tables name it.
pub(super) fn meaning(relation: NeighboringRelation) -> &'static str {
    match relation {
        NeighboringRelation::Replace => "one unit's sensitive values change from anything to anything",
        NeighboringRelation::ZeroOut => "one unit's private contribution is absent",
    }
}
