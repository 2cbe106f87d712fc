//! `study export`: the report folder of a study.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use fusiondp_proto::v1;
use fusiondp_protocol::ExportPart;
use fusiondp_runtime::files::{PARTIAL_SUFFIX, write_atomic};
use fusiondp_runtime::{errln, outln};

use super::{AdminKit, admin};
use crate::report::{self, evidence::ReportFolder};

/// Write the report folder of a study.
#[derive(Debug, Args)]
#[command(after_help = "\
Writes report.html, report.json, model.onnx with its model-card.md, the parameters as model.safetensors, study.toml, and the
signed receipts of each site, receipts-SITE.jsonl. Older files of these names are replaced; a study without a model yet leaves
none of the model's. What attacks on this study and model have shown (audit.json, attacks.json) stays and is shown again.

Example:
  fusiondp-coordinator study export sepsis-1a2b3c4d --out report --admin kits/admin")]
pub(super) struct Export {
    /// Id as `study submit` and `study list` print it.
    #[arg(value_name = "ID")]
    study: String,
    /// Folder of the report, made if absent.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    kit: AdminKit,
}

impl Export {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let mut admin = self.kit.connect().await?;
        let request = v1::ExportStudyRequest { study_id: self.study.clone() };
        let mut parts = admin.export_study(request).await.map_err(admin::refusal)?.into_inner();
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        while let Some(part) = parts.message().await.map_err(admin::refusal)? {
            // Conversion has checked that the name cannot leave the folder.
            let part = ExportPart::try_from(part)?;
            files.entry(part.file).or_default().extend_from_slice(&part.data);
        }
        replace(&self.out, &files)?;
        for name in files.keys() {
            outln!("{}", self.out.join(name).display())?;
        }
        if ReportFolder::has_evidence(&self.out) {
            for name in ReportFolder::open(&self.out)?.refresh()? {
                errln!("{} was of another study or model and is removed", self.out.join(name).display());
            }
        }
        Ok(())
    }
}

/// Makes these files the report in a folder. The older report stays untouched until all of them are on the disk, and
/// none of its files stays behind: a folder never mixes two studies.
fn replace(folder: &Path, files: &BTreeMap<String, Vec<u8>>) -> anyhow::Result<()> {
    let staged = folder.join(format!(".export{PARTIAL_SUFFIX}"));
    fs::create_dir_all(&staged).with_context(|| format!("cannot make {}", staged.display()))?;
    let written = files.iter().try_for_each(|(name, bytes)| write_atomic(&staged.join(name), bytes));
    let replaced = written.map_err(anyhow::Error::from).and_then(|()| {
        older(folder)?.iter().filter(|name| !files.contains_key(*name)).try_for_each(|name| {
            fs::remove_file(folder.join(name)).with_context(|| format!("cannot remove {name}"))
        })?;
        files.keys().try_for_each(|name| {
            let target = folder.join(name);
            fs::rename(staged.join(name), &target)
                .with_context(|| format!("cannot replace {}", target.display()))
        })
    });
    // What could not be written is of no use; the first error is the one to report.
    let _ = fs::remove_dir_all(&staged);
    replaced
}

/// Files of an older report.
fn older(folder: &Path) -> anyhow::Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    let names: Vec<String> = names.collect::<Result<_, _>>()?;
    Ok(names.into_iter().filter(|name| report::is_report_file(name)).collect())
}
