//! `fusiondp-simulate audit`.

use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use fusiondp_coordinator::report::evidence::{AuditEvidence, AuditFormat, AuditLine, ReportFolder};
use fusiondp_dp::{Delta, NeighboringRelation, NoiseMultiplier};
use fusiondp_protocol::{
    Plan, SiteId, SiteSize,
    study::{Study, StudyDocument},
};
use fusiondp_runtime::files::write_atomic;
use fusiondp_runtime::{errln, outln};

use super::interruptible;
use crate::MADE_WITH;
use crate::audit::attribute::{AttributeResult, AttributeSetting, Proved, audit_run};
use crate::audit::{AuditResult, ERROR_PROBABILITY, Fault, Setting, attribute_svg, audit, svg};
use crate::cohort::{CohortSpec, write};
use crate::harness::toml_text::{SAMPLE_STUDY, TomlText};

/// Claims of an audit without a study.
const CLAIMS: [f64; 5] = [0.5, 1.0, 2.0, 4.0, 8.0];

/// What canaries contribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Canaries {
    /// A gradient each, at the full clip norm: the strongest attack on the private step
    Gradient,
    /// Records whose sensitive values a bit chooses, over a whole training run of the study; against replace
    Attribute,
    /// Records with values far from the imputer's, or the imputer's, over a whole training run; against zero_out
    Imputed,
}

/// Attack what leaves a site with noise by canaries, and compare what the attacker proves with what is claimed.
///
/// Canaries go through real charges, sums and noise; the attacker sees every release. Lower bounds on epsilon have a
/// confidence of 99 % each. Exit code 1 if one exceeds the claim of the code as it is; one in a hundred does so by chance.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  fusiondp-simulate audit --faults --plot audit.svg\n  \
                        fusiondp-simulate audit study.toml --units 7299,6994\n  \
                        fusiondp-simulate audit --report report --faults\n  \
                        fusiondp-simulate audit study.toml --canaries attribute --data hospitals --epsilons 0.5,1,2")]
pub(super) struct Arguments {
    /// Attack the releases that this study plans, in place of claims from 0.5 to 8
    #[arg(value_name = "STUDY.toml")]
    study: Option<PathBuf>,
    /// Folder that `study export` wrote: the releases that its study planned are attacked, and audit.json and report.html tell the
    /// outcome
    #[arg(long, value_name = "DIR", conflicts_with_all = ["study", "units"])]
    report: Option<PathBuf>,
    /// What canaries contribute
    #[arg(long, value_enum, default_value_t = Canaries::Gradient)]
    canaries: Canaries,
    /// Attribute canaries: folder with one folder per hospital (default: a synthetic cohort)
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Attribute canaries: the ONNX imputer, needed where the study pins one; else one is fitted on support.csv
    #[arg(long, value_name = "FILE.onnx")]
    imputer: Option<PathBuf>,
    /// Attribute canaries: claims to attack the study at
    #[arg(long, value_name = "E,E,…", value_delimiter = ',', default_values_t = [0.5, 1.0, 2.0, 4.0])]
    epsilons: Vec<f64>,
    /// Attribute canaries: patients who take part
    #[arg(long, default_value_t = 60)]
    patients: usize,
    /// Attribute canaries: canaries of one run; their contributions overlap, so few are better
    #[arg(long, default_value_t = 5)]
    per_run: usize,
    /// Attribute canaries: rounds without a private part, at most (default: as many as the study has)
    #[arg(long, value_name = "N")]
    warmup: Option<u32>,
    /// Attribute canaries: times that the private rounds are trained, each with fresh bits
    #[arg(long, default_value_t = 1000)]
    runs: usize,
    /// Privacy units of each site of the study
    #[arg(long, value_name = "N,N,…", value_delimiter = ',')]
    units: Vec<u64>,
    /// Also plant every fault that the attack is meant to notice
    #[arg(long)]
    faults: bool,
    /// Canaries are the entries of a square matrix with this many rows
    #[arg(long, default_value_t = 128)]
    rows: usize,
    /// Decides bits and noise
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Draw bounds against claims into this SVG file
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self.canaries {
            Canaries::Gradient => self.gradients(),
            Canaries::Attribute => {
                interruptible(move |work| self.attributes(NeighboringRelation::Replace, work))
            }
            Canaries::Imputed => {
                interruptible(move |work| self.attributes(NeighboringRelation::ZeroOut, work))
            }
        }
    }

    fn attributes(&self, relation: NeighboringRelation, work: &Path) -> anyhow::Result<ExitCode> {
        ensure!(
            self.report.is_none(),
            "--report shows canaries of the releases; leave --canaries out, or name the study document"
        );
        let study = match &self.study {
            Some(path) => {
                fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?
            }
            None => SAMPLE_STUDY.to_owned(),
        };
        let study = self.warmup.map_or(Ok(study.clone()), |most| with_warmup(&study, most))?;
        let synthetic = work.join("synthetic");
        let data = match &self.data {
            Some(folder) => folder.clone(),
            None => {
                write(CohortSpec::new(2, 2_000, self.seed)?, &synthetic)?;
                synthetic
            }
        };
        let mut results = Vec::new();
        for &epsilon in &self.epsilons {
            let setting = AttributeSetting {
                study: &study,
                relation,
                epsilon: Some(epsilon),
                data: &data,
                imputer: self.imputer.as_deref(),
                work,
                units: self.patients,
                canaries: self.per_run,
                runs: self.runs,
                seed: self.seed,
            };
            results.extend(audit_run(&setting, self.faults)?);
            if !self.json {
                errln!("claim {epsilon}: attacked");
            }
        }
        if let Some(path) = &self.plot {
            write_atomic(path, attribute_svg(&results).context("nothing to draw")?.as_bytes())?;
        }
        match self.json {
            true => outln!("{}", serde_json::to_string_pretty(&results)?)?,
            false => print_attributes(&results)?,
        }
        let refuted = results.iter().any(|result| result.fault.is_none() && result.alarms());
        Ok(if refuted { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn gradients(self) -> anyhow::Result<ExitCode> {
        let report = self.report.as_deref().map(ReportFolder::open).transpose()?;
        let mut results = Vec::new();
        for setting in self.settings(report.as_ref())? {
            let faults = if self.faults { setting.faults() } else { Vec::new() };
            for fault in [None].into_iter().chain(faults.into_iter().map(Some)) {
                let result = audit(&setting, fault, self.seed)?;
                if !self.json {
                    let (claim, mechanism) = (result.claim.get(), result.mechanism);
                    errln!("{mechanism}, claim {claim:.3}, {}: attacked", name(fault));
                }
                results.push(result);
            }
        }
        if let Some(path) = &self.plot {
            write_atomic(path, svg(&results).context("nothing to draw")?.as_bytes())?;
        }
        if let Some(report) = &report {
            report.add_audit(&evidence(report, self.seed, &results))?;
        }
        match self.json {
            true => outln!("{}", serde_json::to_string_pretty(&results)?)?,
            false => print(&results)?,
        }
        let refuted = results.iter().any(|result| result.fault.is_none() && result.alarms());
        Ok(if refuted { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn settings(&self, report: Option<&ReportFolder>) -> anyhow::Result<Vec<Setting>> {
        let plan;
        let settings = if let Some(report) = report {
            plan = planned(report)?;
            Setting::of_plan(&plan, report.document().study(), self.rows)?
        } else if let Some(path) = &self.study {
            ensure!(!self.units.is_empty(), "--units: give the privacy units of each site of the study");
            let name = || path.display().to_string();
            let document =
                StudyDocument::from_bytes(&fs::read(path).with_context(name)?).with_context(name)?;
            plan = Plan::derive(&document, &self.sizes()?)?;
            Setting::of_plan(&plan, document.study(), self.rows)?
        } else {
            let (steps, delta) = (NonZeroU32::MIN.saturating_add(7), Delta::new(1e-5)?);
            let sums = CLAIMS.into_iter().map(|claim| Setting::calibrated(claim, steps, delta, self.rows));
            let counts = CLAIMS.into_iter().map(|claim| Setting::counts(claim, steps, delta, self.rows));
            sums.chain(counts).collect::<Result<_, _>>()?
        };
        ensure!(!settings.is_empty(), "the study releases nothing with noise; there is nothing to attack");
        Ok(settings)
    }

    /// Sites of the units that were given, each unit with one record.
    fn sizes(&self) -> anyhow::Result<Vec<SiteSize>> {
        let size = |(index, units): (usize, &u64)| -> anyhow::Result<SiteSize> {
            Ok(SiteSize { site: SiteId::new(format!("site-{}", index + 1))?, units: *units, records: *units })
        };
        self.units.iter().enumerate().map(size).collect()
    }
}

/// The plan that coordinator and sites derived, from the same document and sizes.
fn planned(report: &ReportFolder) -> anyhow::Result<Plan> {
    ensure!(!report.sizes().is_empty(), "no site has joined the study yet; export the report when it trains");
    let plan = Plan::derive(report.document(), report.sizes())?;
    let of_records = plan.records.as_ref().map(|records| records.noise_multiplier);
    let noise = [plan.noise_multiplier, of_records].map(|noise| noise.map(NoiseMultiplier::get));
    let shown = |noise: Option<f64>| noise.map_or_else(|| "none".to_owned(), |noise| noise.to_string());
    for (what, given, told) in [
        ("noise_multiplier", noise[0], report.noise_multipliers()[0]),
        ("record_protection.noise_multiplier", noise[1], report.noise_multipliers()[1]),
    ] {
        ensure!(
            given == told,
            "report.json tells {what} = {}, and study document and sites' sizes give {}: the report was made before all sites had \
             joined, by another version, or altered; export it again",
            shown(told),
            shown(given)
        );
    }
    Ok(plan)
}

fn evidence(report: &ReportFolder, seed: u64, results: &[AuditResult]) -> AuditEvidence {
    let line = |result: &AuditResult| AuditLine {
        mechanism: result.mechanism.to_string(),
        fault: result.fault.map(|fault| fault.to_string()),
        relation: result.relation,
        claim: result.claim,
        delta: result.delta,
        canaries: result.canaries,
        guesses: result.guesses,
        right: result.right,
        wrong: result.wrong,
        lower_bound: result.lower_bound,
        gaussian_bound: result.gaussian_bound,
    };
    AuditEvidence {
        format: AuditFormat::V1,
        made_with: MADE_WITH.to_owned(),
        study_digest: report.document().digest(),
        seed,
        error_probability: ERROR_PROBABILITY,
        results: results.iter().map(line).collect(),
    }
}

fn name(fault: Option<Fault>) -> String {
    fault.map_or_else(|| "code as it is".to_owned(), |fault| format!("planted {fault}"))
}

fn print(results: &[AuditResult]) -> anyhow::Result<()> {
    outln!(
        "{:<11} {:<26} {:<9} {:>7} {:>14} {:>15} {:>16}  verdict",
        "mechanism",
        "code",
        "relation",
        "claim",
        "right guesses",
        "any mechanism",
        "Gaussian shape"
    )?;
    for result in results {
        let verdict = match (result.fault, result.refutes(), result.alarms()) {
            (_, true, _) => "CLAIM REFUTED",
            (_, false, true) => "alarm",
            (None, false, false) => "below the claim",
            (Some(_), false, false) => "NOT NOTICED",
        };
        outln!(
            "{:<11} {:<26} {:<9} {:>7.3} {:>6} of {:>4} {:>15.3} {:>16.3}  {verdict}",
            result.mechanism,
            name(result.fault),
            result.relation.to_string(),
            result.claim.get(),
            result.right,
            result.guesses,
            result.lower_bound,
            result.gaussian_bound,
        )?;
    }
    outln!(
        "bounds: epsilon is at least this, with a confidence of 99 %; right guesses are of the surest 2 %"
    )?;
    Ok(())
}

/// The study with no more rounds before the first private one.
fn with_warmup(study: &str, most: u32) -> anyhow::Result<String> {
    let parsed = Study::parse(study)?;
    let (mut text, warmup) = (TomlText::new(study), parsed.warmup_rounds());
    if warmup > most && warmup < parsed.training.rounds {
        text.set_rounds(parsed.training.rounds - warmup + most)?;
    }
    Ok(text.text().to_owned())
}

fn print_attributes(results: &[AttributeResult]) -> anyhow::Result<()> {
    outln!(
        "| code | relation | claim | reach | attacker sees | right guesses | any mechanism | Gaussian shape |"
    )?;
    outln!("|---|---|---|---|---|---|---|---|")?;
    for result in results {
        let code =
            result.fault.map_or_else(|| "code as it is".to_owned(), |fault| format!("planted {fault}"));
        let line = |seen: &str, proved: &Proved| {
            outln!(
                "| {code} | `{}` | {:.3} | {:.2} | {seen} | {} of {} | {:.3} | {:.3}{} |",
                result.relation,
                result.claim.get(),
                result.reach,
                proved.right,
                result.canaries,
                proved.lower_bound,
                proved.gaussian_bound,
                if proved.lower_bound.max(proved.gaussian_bound) > result.claim.get() {
                    " above"
                } else {
                    ""
                },
            )
        };
        line("every release", &result.releases)?;
        line("the last model", &result.final_model)?;
    }
    outln!("bounds: epsilon is at least this, with a confidence of 99 %")?;
    Ok(())
}
