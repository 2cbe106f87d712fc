//! `accountant calibrate`.

use anyhow::bail;
use clap::Args;
use fusiondp_dp::{
    Delta, DpEvent, Epsilon, NeighboringRelation, StepCounts, calibrate_noise, calibrate_rate,
    calibrate_steps, epsilon_of_steps,
};
use fusiondp_runtime::outln;
use serde_json::json;

use super::steps::ParameterFlags;
use crate::text;

/// Noise, sampling probability or number of steps for a target epsilon: give two of the three.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fusiondp-coordinator accountant calibrate --epsilon 1 --delta 1e-5 --sampling-probability 0.07 --steps 400
  fusiondp-coordinator accountant calibrate --epsilon 1 --delta 1e-5 --noise-multiplier 21.1 --sampling-probability 1")]
pub(in crate::cli) struct Calibrate {
    /// Epsilon that is not to be exceeded.
    #[arg(long, value_name = "E")]
    epsilon: f64,
    /// What epsilon is about.
    #[arg(long, value_name = "RELATION", default_value_t = NeighboringRelation::Replace, value_parser = relation)]
    relation: NeighboringRelation,
    /// Probability with which epsilon may be exceeded, in (0, 1).
    #[arg(long, value_name = "D")]
    delta: f64,
    #[command(flatten)]
    given: ParameterFlags,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn relation(name: &str) -> Result<NeighboringRelation, String> {
    let named = |relation: &NeighboringRelation| relation.to_string() == name;
    NeighboringRelation::ALL
        .into_iter()
        .find(named)
        .ok_or_else(|| "neither replace nor zero_out; choose one of them".to_owned())
}

impl Calibrate {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (target, delta) = (Epsilon::new(self.epsilon)?, Delta::new(self.delta)?);
        let event = self.solve(target, delta)?;
        let (noise_multiplier, sampling_probability, steps) =
            (event.noise_multiplier(), event.sampling_probability(), event.steps());
        let counts = StepCounts::of(&[event]);
        let spent = |relation| epsilon_of_steps(&counts, delta, relation);
        let (replace, zero_out) =
            (spent(NeighboringRelation::Replace)?, spent(NeighboringRelation::ZeroOut)?);
        if self.json {
            let report = json!({
                "noise_multiplier": noise_multiplier,
                "sampling_probability": sampling_probability,
                "steps": steps,
                "delta": delta,
                "epsilon_replace": replace,
                "epsilon_zero_out": zero_out,
            });
            outln!("{}", serde_json::to_string_pretty(&report)?)?;
            return Ok(());
        }
        outln!("noise multiplier      {:.6}", noise_multiplier.get())?;
        outln!("sampling probability  {:.8}", sampling_probability.get())?;
        outln!("steps                 {steps}")?;
        outln!("epsilon, replace      {}", text::epsilon(replace.get()))?;
        outln!("epsilon, zero_out     {}", text::epsilon(zero_out.get()))?;
        outln!("delta                 {delta}")?;
        Ok(())
    }

    /// The releases with the parameter that was not given.
    fn solve(&self, target: Epsilon, delta: Delta) -> anyhow::Result<DpEvent> {
        let relation = self.relation;
        let (noise_multiplier, sampling_probability, steps) = match self.given.parameters()? {
            (None, Some(q), Some(steps)) => (calibrate_noise(target, delta, relation, q, steps)?, q, steps),
            (Some(noise), None, Some(steps)) => {
                (noise, calibrate_rate(target, delta, relation, noise, steps)?, steps)
            }
            (Some(noise), Some(q), None) => (noise, q, calibrate_steps(target, delta, relation, noise, q)?),
            _ => bail!(
                "give two of --noise-multiplier, --sampling-probability and --steps; the third is calibrated"
            ),
        };
        Ok(DpEvent::PoissonSampledGaussian { noise_multiplier, sampling_probability, steps })
    }
}
