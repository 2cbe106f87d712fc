//! Records per second through an ONNX imputer, from cells as read to checked imputed values.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use fusiondp_protocol::study::Study;
use fusiondp_runtime::SystemClock;
use fusiondp_site_agent::data::{DataSource, Dataset, FileSource, Units, source::Records};
use fusiondp_site_agent::imputer::onnx::{OnnxImputer, OnnxSettings};
use fusiondp_site_agent::imputer::runtime::RuntimeLookup;
use fusiondp_site_agent::imputer::{Imputer, ImputerInput};

use super::measure::{Measurement, Stopwatch, Times};

/// Imputation with an ONNX model, as a site does it: cells to tensors, sessions, scores to checked values.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Study document with the columns
    #[arg(long, value_name = "FILE")]
    study: PathBuf,
    /// ONNX model
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Records, a CSV file of the study's columns
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Records to impute; those of the file are repeated
    #[arg(long, default_value_t = 65_536)]
    rows: usize,
    /// Worker threads, one session each
    #[arg(long, default_value = "1")]
    threads: NonZeroUsize,
    /// Seconds to measure
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

impl Arguments {
    pub(super) fn run(&self) -> anyhow::Result<Vec<Measurement>> {
        let failed = |path: &PathBuf| format!("cannot read {}", path.display());
        let text = std::fs::read_to_string(&self.study).with_context(|| failed(&self.study))?;
        let study = Study::parse(&text)?;
        let model = std::fs::read(&self.model).with_context(|| failed(&self.model))?;
        let settings = OnnxSettings {
            mapped: BTreeMap::new(),
            lookup: RuntimeLookup::of_process(None),
            clock: Arc::new(SystemClock),
            turn: Arc::default(),
            workers: self.threads,
        };
        let imputer = OnnxImputer::new(model, &study.schema, settings)?;
        let source = FileSource::csv(self.data.clone(), BTreeMap::new(), Arc::new(SystemClock));
        let times = self.measure(&imputer, &study, &source.read(&Records::Train, &study)?)?;
        let stem = self.model.file_stem().unwrap_or_default().to_string_lossy();
        let rate = |milliseconds: f64| self.rows as f64 / (milliseconds / 1e3);
        let threads = self.threads.get();
        let by_processor = rate(times.median_processor_ms()) * threads as f64;
        let measurement =
            Measurement::new(format!("impute/{stem}"), "rows/s", rate(times.median_ms()), threads);
        Ok(vec![measurement.with("rows", self.rows as f64).with("cpu_value", by_processor)])
    }

    fn measure(&self, imputer: &OnnxImputer, study: &Study, dataset: &Dataset) -> anyhow::Result<Times> {
        let rows: Vec<usize> = (0..self.rows).map(|row| row % dataset.records()).collect();
        let (public, units) = (dataset.public().select(&rows), Units::of_records(self.rows));
        let input = ImputerInput { schema: &study.schema, public: &public, units: &units };
        Times::of(self.seconds, || {
            let watch = Stopwatch::start();
            let imputed = imputer.impute(&input)?;
            let lap = watch.lap();
            anyhow::ensure!(imputed.rows() == self.rows, "the imputer gave {} rows", imputed.rows());
            Ok(lap)
        })
    }
}
