//! Bounds against claims, as the reports draw their curves.

use fusiondp_coordinator::report::chart::{Below, Chart, Series};

use super::attribute::{AttributeResult, RunFault};
use super::{AuditResult, Fault, Mechanism};

/// Lower bounds over the claimed epsilon: the honest code and each fault around private sums, the honest code of other
/// mechanisms, with the claim itself as the line that honest code stays below. `None` without results.
#[must_use]
pub fn svg(results: &[AuditResult]) -> Option<String> {
    let largest = results.iter().map(|result| result.claim.get()).fold(0.0, f64::max);
    let mut series = vec![Series {
        name: "claim".to_owned(),
        color: 0,
        dashed: true,
        points: vec![(0.0, 0.0), (largest, largest)],
    }];
    let mut add = |name: String,
                   (mechanism, fault): (Mechanism, Option<Fault>),
                   bound: fn(&AuditResult) -> f64| {
        let of_fault = results.iter().filter(|result| (result.mechanism, result.fault) == (mechanism, fault));
        let mut points: Vec<(f64, f64)> =
            of_fault.map(|result| (result.claim.get(), bound(result))).collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        if !points.is_empty() {
            series.push(Series { name, color: series.len(), dashed: false, points });
        }
    };
    let sums = Mechanism::PrivateSum;
    add("bound, any mechanism".to_owned(), (sums, None), |result| result.lower_bound);
    add("bound, Gaussian".to_owned(), (sums, None), |result| result.gaussian_bound);
    for other in [Mechanism::PublicSum, Mechanism::Counts, Mechanism::Together] {
        add(format!("{other}, Gaussian"), (other, None), |result| result.gaussian_bound);
    }
    for fault in Fault::ALL {
        add(format!("{fault}, Gaussian"), (sums, Some(fault)), |result| {
            result.gaussian_bound.min(3.0 * result.claim.get())
        });
    }
    Chart {
        title: "Proved by attack against claimed epsilon",
        below: Below::Quantity("claimed epsilon"),
        y_label: "lower bound",
        from_zero: true,
        series,
    }
    .file()
    .filter(|_| !results.is_empty())
}

/// Lower bounds of attribute canaries over the claimed epsilon, by what the attacker sees, with the claim as a line and each
/// fault. `None` without results.
#[must_use]
pub fn attribute_svg(results: &[AttributeResult]) -> Option<String> {
    let largest = results.iter().map(|result| result.claim.get()).fold(0.0, f64::max);
    let line = |name: &str, dashed, color, points| Series { name: name.to_owned(), color, dashed, points };
    let mut series = vec![line("claim", true, 0, vec![(0.0, 0.0), (largest, largest)])];
    let mut add = |name: String, wanted, bound: fn(&AttributeResult) -> f64| {
        let chosen = results.iter().filter(|result| result.fault == wanted);
        let mut points: Vec<(f64, f64)> =
            chosen.map(|result| (result.claim.get(), bound(result).min(3.0 * result.claim.get()))).collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        if !points.is_empty() {
            series.push(line(&name, false, series.len(), points));
        }
    };
    add("releases, any mechanism".to_owned(), None, |result| result.releases.lower_bound);
    add("releases, Gaussian".to_owned(), None, |result| result.releases.gaussian_bound);
    add("last model, Gaussian".to_owned(), None, |result| result.final_model.gaussian_bound);
    for fault in RunFault::ALL {
        add(format!("{fault}, Gaussian"), Some(fault), |result| result.releases.gaussian_bound);
    }
    let title = "Attribute canaries: proved against claimed epsilon";
    let (below, y_label) = (Below::Quantity("claimed epsilon"), "lower bound");
    Chart { title, below, y_label, from_zero: true, series }.file().filter(|_| !results.is_empty())
}
