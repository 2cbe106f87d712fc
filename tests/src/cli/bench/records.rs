//! Synthetic studies and records: figures without meaning, of the sizes of the sepsis setting.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use fusiondp_protocol::study::{Mode, StudyDocument};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Patients of the sepsis setting's training data.
pub(super) const PATIENTS: usize = 14_293;
/// Its public columns.
pub(super) const PUBLIC_COLUMNS: usize = 30;
/// Its sensitive columns.
pub(super) const SENSITIVE_COLUMNS: usize = 6;

/// A study of the sepsis setting: mlp 36-64-128-64-1, clip norm 1.8, alpha 3, beta 0.5, representation scale 6.4.
#[derive(Debug, Clone, Copy)]
pub(super) struct StudySpec {
    /// The mode.
    pub(super) mode: Mode,
    /// Dropout rate of the public part.
    pub(super) dropout: f64,
    /// Expected privacy units of a private step.
    pub(super) private_batch: usize,
    /// Records of a public batch.
    pub(super) public_batch: usize,
}

/// One training run of the sepsis setting.
pub(super) const ROUNDS: u32 = 1_443;

impl StudySpec {
    /// The study's document.
    pub(super) fn document(&self) -> anyhow::Result<StudyDocument> {
        let Self { mode, dropout, private_batch, public_batch } = self;
        let consistency = if *mode == Mode::FusionDp { 0.5 } else { 0.0 };
        let imputer = if mode.has_hybrid_view() { "declared-noise" } else { "none" };
        let mut text = format!(
            "[study]\nname = \"bench\"\n\
             [model]\nkind = \"mlp\"\nwidths = [64, 128, 64]\ndropout = {dropout}\n\
             [imputer]\nkind = \"{imputer}\"\n\
             [fusion]\nmode = \"{mode}\"\ncalibration_weight = 3\nconsistency_weight = {consistency}\n\
             representation_scale = 6.4\n\
             [privacy]\nunit_column = \"id\"\nclip_norm = 1.8\ndelta = 1e-8\n\
             target = {{ noise_multiplier = 1.04736 }}\n\
             [training]\nrounds = {ROUNDS}\nexpected_batch_size = {private_batch}\n\
             public_batch_size = {public_batch}\nmax_weight_norm = 10\n\
             optimizer = {{ kind = \"sgd\", learning_rate = 0.07 }}\n\
             [federation]\nmin_sites = 1\n[schema]\n"
        );
        text.push_str(&schema());
        StudyDocument::from_bytes(text.as_bytes()).context("the study of the benchmark")
    }
}

/// The columns: id, label, then features of range -2 to 2.
pub(super) fn schema() -> String {
    let mut text = "columns = [\n  { name = \"id\", role = \"unit-id\" },\n  \
                    { name = \"y\", role = \"label\", kind = { type = \"binary\" } },\n"
        .to_owned();
    for (role, letter, count) in [("public", "p", PUBLIC_COLUMNS), ("sensitive", "s", SENSITIVE_COLUMNS)] {
        for index in 0..count {
            text.push_str(&format!(
                "  {{ name = \"{letter}{index}\", role = \"{role}\", kind = {{ type = \"continuous\", range = [-2, 2] }} }},\n"
            ));
        }
    }
    text + "]\n"
}

/// Writes a file of these columns, one record per patient, one in ten with label 1.
pub(super) fn write(path: &Path, first_patient: usize, patients: usize) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let mut file = BufWriter::new(File::create(path).with_context(failed)?);
    lines(&mut file, first_patient, patients).with_context(failed)
}

fn lines(file: &mut impl Write, first_patient: usize, patients: usize) -> std::io::Result<()> {
    let features = PUBLIC_COLUMNS + SENSITIVE_COLUMNS;
    write!(file, "id,y")?;
    for index in 0..PUBLIC_COLUMNS {
        write!(file, ",p{index}")?;
    }
    for index in 0..SENSITIVE_COLUMNS {
        write!(file, ",s{index}")?;
    }
    let mut rng = StdRng::seed_from_u64(first_patient as u64);
    for patient in first_patient..first_patient + patients {
        write!(file, "\n{patient},{}", u32::from(rng.next_u32() % 10 == 0))?;
        for _ in 0..features {
            let milli = rng.next_u32() % 3_999;
            write!(file, ",{}", (f64::from(milli) - 1_999.0) / 1_000.0)?;
        }
    }
    writeln!(file)?;
    file.flush()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn studies_of_every_measured_mode_stand() {
        for (mode, public_batch) in
            [(Mode::FusionDp, 4_096), (Mode::DpSgd, 0), (Mode::HybridOnly, 4_096), (Mode::NonPrivate, 128)]
        {
            let spec = StudySpec { mode, dropout: 0.1, private_batch: 128, public_batch };
            assert_eq!(spec.document().unwrap().study().fusion.mode, mode);
        }
    }

    #[test]
    fn a_file_has_one_line_per_patient_below_its_header() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.csv");
        write(&path, 7, 3).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().count(), 4);
        assert!(text.lines().nth(1).unwrap().starts_with("7,"));
    }
}
