//! `imputer fit`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use fusiondp_dp::Digest;
use fusiondp_learn::imputer::{FeatureQuality, FitProgress, ImputerFit, Quality, fit};
use fusiondp_learn::onnx::export_imputer;
use fusiondp_protocol::study::{MAX_STUDY_BYTES, StudyDocument};
use fusiondp_protocol::support::SupportUnits;
use fusiondp_runtime::files::write_atomic;
use fusiondp_runtime::{out, outln};
use indicatif::{ProgressBar, ProgressStyle};

use super::admin;
use super::table::Table;
use crate::support::{self, Support};

/// Fit imputers for sensitive features.
#[derive(Debug, Subcommand)]
pub(super) enum ImputerCommand {
    /// Fit one network for all sensitive features on support data and write it as ONNX.
    Fit(Fit),
}

/// Fit one network for all sensitive features on support data and write it as ONNX.
#[derive(Debug, Args)]
#[command(after_help = "\
Support data holds true sensitive values of its patients, who must not be patients of the study: the privacy guarantee
does not cover them. The fit is deterministic in its options and the data.

Example:
  fusiondp-coordinator imputer fit --schema study.toml --support support.csv --out imputer.onnx")]
pub(super) struct Fit {
    /// Study document whose schema names the columns.
    #[arg(long, value_name = "STUDY.toml")]
    schema: PathBuf,
    /// CSV files with every feature column; others are ignored.
    #[arg(long, value_name = "CSV", num_args = 1.., required = true)]
    support: Vec<PathBuf>,
    /// File to write; its folder is made if absent.
    #[arg(long, value_name = "FILE.onnx")]
    out: PathBuf,
    /// Most passes over the support data.
    #[arg(long)]
    epochs: Option<usize>,
    /// Hidden widths.
    #[arg(long, value_name = "N,N,…", value_delimiter = ',')]
    widths: Option<Vec<usize>>,
    /// Seed of everything random in the fit.
    #[arg(long)]
    seed: Option<u64>,
}

impl ImputerCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            ImputerCommand::Fit(command) => command.run(),
        }
    }
}

impl Fit {
    fn run(self) -> anyhow::Result<()> {
        let bytes = admin::read(&self.schema, MAX_STUDY_BYTES as u64)?;
        let document =
            StudyDocument::from_bytes(&bytes).with_context(|| self.schema.display().to_string())?;
        let schema = &document.study().schema;
        let support = support::read(schema, &self.support)?;
        self.prepare_output()?;
        let rows = support.public.rows();
        let options = self.options();
        let bar = progress_bar(options.epochs);
        let mut show = |progress: FitProgress| {
            bar.set_position(progress.epoch as u64);
            bar.set_message(format!(
                "loss {:.4}, held out {:.4}, best {:.4}",
                progress.training_loss, progress.held_out_loss, progress.best_loss
            ));
        };
        let imputer = fit(schema, &support.public, &support.sensitive, &options, &mut show)?;
        bar.finish_and_clear();
        let model = export_imputer(&imputer, &metadata(&document, &support, &options)?)?;
        write_atomic(&self.out, &model)?;
        outln!("{} support records, {} parameters", rows, imputer.parameters())?;
        match &support.units {
            Some(units) => outln!(
                "{} support patients listed by digest; a site that has one of them refuses the file",
                units.count()
            )?,
            None => outln!(
                "no unit column in the support data: the file does not list its patients, and sites with require_support_ids \
                 refuse it"
            )?,
        }
        out!(
            "\nquality on the tenth of the records that was held out:\n{}",
            quality_table(imputer.quality())
        )?;
        outln!(
            "guessing without the public columns has R2 0 and AUROC 0.5; errors are in the column's own unit"
        )?;
        outln!("\n{}, {} bytes; pin it in the study:\n", self.out.display(), model.len())?;
        outln!("[imputer]\nkind = \"onnx\"\nsha256 = \"{}\"", Digest::of(&model))?;
        Ok(())
    }

    /// Makes the folder of the output before the fit, which may take minutes, and not after it.
    fn prepare_output(&self) -> anyhow::Result<()> {
        if self.out.is_dir() {
            bail!("--out {} is a folder; name a file in it", self.out.display());
        }
        let Some(folder) = self.out.parent() else { return Ok(()) };
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))
    }

    fn options(&self) -> ImputerFit {
        let mut options = ImputerFit::default();
        if let Some(epochs) = self.epochs {
            options.epochs = epochs;
        }
        if let Some(widths) = &self.widths {
            options.widths.clone_from(widths);
        }
        if let Some(seed) = self.seed {
            options.seed = seed;
        }
        options
    }
}

fn progress_bar(epochs: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("fitting {bar:24} {pos}/{len}  {msg}");
    // The template is a constant; without it the default style still shows the position.
    ProgressBar::new(epochs as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// What the file says of its origin: nothing of any record but whom it is of, as a salted digest.
fn metadata(
    document: &StudyDocument,
    support: &Support,
    options: &ImputerFit,
) -> anyhow::Result<BTreeMap<String, String>> {
    let schema = serde_json::to_vec(&document.study().schema)?;
    let mut metadata = BTreeMap::from([
        ("fusiondp.schema.digest".to_owned(), Digest::of(&schema).to_string()),
        ("fusiondp.support.records".to_owned(), support.public.rows().to_string()),
        ("fusiondp.fit.options".to_owned(), serde_json::to_string(options)?),
    ]);
    metadata.extend(support.units.iter().flat_map(SupportUnits::to_metadata));
    Ok(metadata)
}

fn quality_table(features: &[FeatureQuality]) -> Table {
    let mut table = Table::new(["FEATURE", "KIND", "HELD-OUT CELLS", "QUALITY"]);
    let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
    for feature in features {
        let (kind, quality) = match &feature.quality {
            Quality::Regression { r2, mean_absolute_error } => {
                ("value", format!("R2 {}, mean absolute error {}", shown(*r2), shown(*mean_absolute_error)))
            }
            Quality::Binary { auroc, accuracy } => {
                ("binary", format!("AUROC {}, accuracy {}", shown(*auroc), shown(*accuracy)))
            }
            Quality::Categorical { accuracy } => ("category", format!("accuracy {}", shown(*accuracy))),
        };
        table.row([feature.feature.clone(), kind.to_owned(), feature.cells.to_string(), quality]);
    }
    table
}
