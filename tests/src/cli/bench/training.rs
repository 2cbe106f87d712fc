//! Milliseconds per training step.

use std::num::NonZeroUsize;

use clap::Args;
use fusiondp_protocol::study::Mode;

use super::measure::{Measurement, Times};
use super::records::{self, PATIENTS, ROUNDS, StudySpec};
use super::site::BenchSite;

/// One FusionDP step of the sepsis setting, and its public part alone.
///
/// mlp 36-64-128-64-1 with LayerNorm and GELU, secret Poisson batch of 128 of 14,293 units with the paired loss and the
/// consistency term, public batch of 4,096 with dropout, exact discrete noise, the server's step with projection.
#[derive(Debug, Args)]
pub(super) struct StepArguments {
    /// Seconds to measure
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Threads of the site
    #[arg(long, default_value = "1")]
    threads: NonZeroUsize,
}

/// One step of DP-SGD, and one without protection, on the same network without dropout.
#[derive(Debug, Args)]
pub(super) struct DpSgdArguments {
    /// Units of a batch, expected
    #[arg(long, default_values_t = [128, 4_096])]
    batch: Vec<usize>,
    /// Seconds to measure, for each
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
}

impl StepArguments {
    pub(super) fn run(&self) -> anyhow::Result<Vec<Measurement>> {
        let spec = StudySpec { mode: Mode::FusionDp, dropout: 0.1, private_batch: 128, public_batch: 4_096 };
        let step = measure("step/fusiondp", &spec, self.seconds, self.threads)?;
        let run_s = step.value * f64::from(ROUNDS) / 1e3;
        let public = StudySpec { mode: Mode::HybridOnly, ..spec };
        let public = measure("step/public", &public, self.seconds / 2.0, self.threads)?;
        let rate = public_flops(spec.public_batch) / (public.value * 1e6);
        Ok(vec![step.with("run_of_1443_s", run_s), public.with("gflop_per_s", rate)])
    }
}

impl DpSgdArguments {
    pub(super) fn run(&self) -> anyhow::Result<Vec<Measurement>> {
        let mut measurements = Vec::new();
        for &batch in &self.batch {
            let private =
                StudySpec { mode: Mode::DpSgd, dropout: 0.0, private_batch: batch, public_batch: 0 };
            let private = measure(&format!("dp-sgd/{batch}"), &private, self.seconds, NonZeroUsize::MIN)?;
            let plain =
                StudySpec { mode: Mode::NonPrivate, dropout: 0.0, private_batch: 1, public_batch: batch };
            let plain = measure(&format!("sgd/{batch}"), &plain, self.seconds, NonZeroUsize::MIN)?;
            let ratio = private.value / plain.value;
            measurements.extend([private.with("times_own_sgd", ratio), plain]);
        }
        Ok(measurements)
    }
}

fn measure(name: &str, spec: &StudySpec, seconds: f64, threads: NonZeroUsize) -> anyhow::Result<Measurement> {
    let folder = tempfile::tempdir()?;
    let train = folder.path().join("train.csv");
    records::write(&train, 0, PATIENTS)?;
    let mut site = BenchSite::prepare(spec.document()?, &train, threads)?;
    let times = Times::of(seconds, || site.step())?;
    Ok(times.measurement(name, threads.get()).with("parameters", site.parameters() as f64).with_peak_memory())
}

/// Floating-point operations of the matrix products of a public gradient: forward, by weights, and by inputs but for the
/// first layer.
fn public_flops(rows: usize) -> f64 {
    let widths = [36.0, 64.0, 128.0, 64.0, 1.0];
    let layers: f64 = widths.windows(2).map(|pair| pair[0] * pair[1]).sum();
    2.0 * rows as f64 * (3.0 * layers - widths[0] * widths[1])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_kind_of_step_is_measured() {
        let step = StepArguments { seconds: 0.0, threads: NonZeroUsize::MIN }.run().unwrap();
        let names: Vec<&str> = step.iter().map(|measurement| measurement.name.as_str()).collect();
        assert_eq!(names, ["step/fusiondp", "step/public"]);
        let steps = DpSgdArguments { batch: vec![128], seconds: 0.0 }.run().unwrap();
        assert!(step.iter().chain(&steps).all(|measurement| measurement.value > 0.0));
        assert_eq!(steps[0].detail["parameters"], 19_521.0);
    }
}
