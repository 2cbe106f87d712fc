//! The demo's last table: what the coordinator reports beside what each site's ledger says.

use std::fs;
use std::path::Path;

use anyhow::Context;
use fusiondp_runtime::out;
use serde_json::Value;

use crate::harness::Federation;

/// Figures of a finished demo.
pub(super) struct Summary {
    report: Value,
    sites: Vec<SiteFigures>,
}

struct SiteFigures {
    site: String,
    replace: f64,
    zero_out: f64,
    releases: u64,
}

/// Verifies every site's ledger, copies it into the report folder, and reads the figures.
pub(super) async fn collect(federation: &Federation, study: &str, report: &Path) -> anyhow::Result<Summary> {
    let path = report.join("report.json");
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let figures: Value = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
    let delta = figures["delta"].as_f64().context("report.json has no delta")?;
    let ledgers = report.join("ledgers");
    fs::create_dir_all(&ledgers)?;
    let mut sites = Vec::new();
    for site in federation.site_ids() {
        out!("{}", federation.verify_ledger(site).await?)?;
        let ledger = federation.ledger(site, delta).await?;
        fs::write(ledgers.join(format!("{site}.json")), serde_json::to_vec_pretty(&ledger)?)?;
        sites.push(site_figures(site, study, &ledger)?);
    }
    Ok(Summary { report: figures, sites })
}

/// The line of this study in `ledger show --json`; a study without a private part charged nothing.
fn site_figures(site: &str, study: &str, ledger: &Value) -> anyhow::Result<SiteFigures> {
    let spent = ledger["spent"].as_array().with_context(|| format!("ledger of {site}: no list `spent`"))?;
    let line = spent.iter().find(|line| line["study"].as_str() == Some(study));
    let number = |path: &str| line.and_then(|line| line.pointer(path)).and_then(Value::as_f64).unwrap_or(0.0);
    Ok(SiteFigures {
        site: site.to_owned(),
        replace: number("/epsilon/replace"),
        zero_out: number("/epsilon/zero_out"),
        releases: line.and_then(|line| line["releases"].as_u64()).unwrap_or(0),
    })
}

impl std::fmt::Display for Summary {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = |path: &str| self.report.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN);
        writeln!(
            formatter,
            "AUROC {:.4}   AUPR {:.4}   Brier {:.4}   on the final cohort of all sites",
            number("/auroc"),
            number("/aupr"),
            number("/brier")
        )?;
        writeln!(formatter, "{} rounds in {:.1} s\n", number("/rounds"), number("/seconds"))?;
        let delta = number("/delta");
        writeln!(
            formatter,
            "{:24} {:>18} {:>18} {:>9}",
            format!("epsilon at delta {delta:e}"),
            "replace",
            "zero_out",
            "releases"
        )?;
        let line = |name: &str, replace: f64, zero_out: f64, releases: &str| {
            format!("{name:24} {:>18.4} {:>18.4} {releases:>9}", outward(replace), outward(zero_out))
        };
        writeln!(
            formatter,
            "{}",
            line("coordinator's report", number("/epsilon/replace"), number("/epsilon/zero_out"), "")
        )?;
        for site in &self.sites {
            let releases = site.releases.to_string();
            writeln!(
                formatter,
                "{}",
                line(&format!("ledger of {}", site.site), site.replace, site.zero_out, &releases)
            )?;
        }
        Ok(())
    }
}

/// Rounded up at four decimals: an epsilon is never shown smaller than it is.
fn outward(epsilon: f64) -> f64 {
    (epsilon * 1e4).ceil() / 1e4
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn the_figures_of_one_study_are_found_among_others() {
        let ledger = json!({"spent": [
            {"study": "other", "releases": 3, "epsilon": {"replace": 9.0, "zero_out": 8.0}},
            {"study": "mine", "releases": 12, "epsilon": {"replace": 0.99991, "zero_out": 0.5}},
            {"study": null, "releases": 15, "epsilon": {"replace": 9.5, "zero_out": 8.5}},
        ]});
        let figures = site_figures("north", "mine", &ledger).unwrap();
        assert_eq!((figures.releases, figures.replace), (12, 0.99991));
        assert_eq!(site_figures("north", "warm-up-only", &ledger).unwrap().releases, 0);
        assert_eq!(outward(0.99991), 1.0);
    }
}
