#![allow(clippy::unwrap_used)]
use fusiondp_protocol::EvaluationReport;

use super::*;

fn row() -> EvaluationRow {
    let cohort = "test".parse().unwrap();
    EvaluationRow { model_version: 4, cohort, round: 3, open: true, opened_ms: 1, deadline_ms: 2 }
}

fn site(id: &str, positives: &[(usize, u64)], negatives: &[(usize, u64)], brier: f64) -> EvaluationSite {
    let counts = |filled: &[(usize, u64)]| {
        let mut counts = vec![0; 4096];
        filled.iter().for_each(|(bin, count)| counts[*bin] = *count);
        counts
    };
    let sum = |filled: &[(usize, u64)]| filled.iter().map(|(_, count)| count).sum::<u64>();
    let report = EvaluationReport {
        study_id: "s".parse().unwrap(),
        model_version: 4,
        cohort: "test".parse().unwrap(),
        metrics: ReleasedMetrics::Summary(MetricSummary {
            records: sum(positives) + sum(negatives),
            positives: sum(positives),
            brier,
            log_loss: brier * 2.0,
            positive_counts: counts(positives),
            negative_counts: counts(negatives),
        }),
    };
    EvaluationSite { site: id.parse().unwrap(), asked: false, detail: String::new(), report: Some(report) }
}

#[test]
fn pooled_figures_are_those_of_all_records_together() {
    let sites = [site("a", &[(3000, 1)], &[(100, 1)], 0.1), site("b", &[(200, 1)], &[(2000, 5)], 0.4)];
    let rows = metrics(&row(), &sites);
    assert_eq!(rows.len(), 3);
    let pooled = &rows[0];
    assert_eq!((pooled.site.as_ref(), pooled.records, pooled.positives), (None, 8, 2));
    // Of 2 * 6 pairs, the high positive wins 6 and the low one wins 1.
    assert!((pooled.auroc.unwrap() - 7.0 / 12.0).abs() < 1e-12);
    let (brier, log_loss) = (pooled.brier.unwrap(), pooled.log_loss.unwrap());
    assert!((brier - (0.1 * 2.0 + 0.4 * 6.0) / 8.0).abs() < 1e-12);
    assert!((log_loss - 2.0 * brier).abs() < 1e-12);
    assert_eq!(rows[1].auroc, Some(1.0));
    assert_eq!(rows[2].auroc, Some(0.0));
}

#[test]
fn a_cohort_without_positives_has_no_ranking_and_keeps_its_other_figures() {
    let rows = metrics(&row(), &[site("a", &[], &[(7, 3)], 0.2)]);
    assert_eq!((rows[1].auroc, rows[1].aupr, rows[1].brier), (None, None, Some(0.2)));
}

#[test]
fn without_reports_there_is_nothing_to_pool() {
    let silent =
        EvaluationSite { site: "a".parse().unwrap(), asked: true, detail: String::new(), report: None };
    assert!(metrics(&row(), &[silent]).is_empty());
}

#[test]
fn a_site_that_reports_an_absurd_loss_leaves_the_pooled_one_finite() {
    let mut sites = [site("a", &[(3000, 1)], &[(100, 1)], 0.1), site("b", &[(200, 1)], &[(2000, 5)], 0.4)];
    for site in &mut sites {
        let Some(ReleasedMetrics::Summary(summary)) = site.report.as_mut().map(|report| &mut report.metrics)
        else {
            unreachable!()
        };
        summary.log_loss = f64::MAX;
    }
    assert!(metrics(&row(), &sites)[0].log_loss.unwrap().is_finite());
}

fn noisy_site(id: &str, cells: &[i64]) -> EvaluationSite {
    let charge = crate::study::testing::counts_charge(&crate::study::testing::noisy_document(), "test");
    let counts = crate::study::testing::noisy_counts(cells, charge);
    let report = EvaluationReport {
        study_id: "s".parse().unwrap(),
        model_version: 4,
        cohort: "test".parse().unwrap(),
        metrics: ReleasedMetrics::Noisy(Box::new(counts)),
    };
    EvaluationSite { site: id.parse().unwrap(), asked: false, detail: String::new(), report: Some(report) }
}

#[test]
fn noisy_counts_are_pooled_with_their_noise() {
    let sites = [noisy_site("a", &[300, 100, 20, 80]), noisy_site("b", &[380, 130, -10, 7])];
    let rows = metrics(&row(), &sites);
    assert_eq!(rows.len(), 3);
    let pooled = &rows[0];
    assert_eq!((pooled.site.as_ref(), pooled.records, pooled.positives), (None, 1_000, 97));
    assert_eq!((pooled.aupr, pooled.brier, pooled.log_loss), (None, None, None));
    // Of 97 * 910 pairs: 87 high positives win 680 and half of 230, 10 low ones half of 680.
    let exact = (87.0 * (680.0 + 115.0) + 10.0 * 340.0) / (97.0 * 910.0);
    assert!((pooled.auroc.unwrap() - exact).abs() < 1e-12);
    let noise = pooled.noise.unwrap();
    // Two sites of two cells, each of deviation 5.
    assert!((noise.positives_error - 10.0).abs() < 1e-12);
    assert!(noise.auroc_error.unwrap() > 0.0);
    let small = &rows[2];
    assert_eq!((small.auroc, small.noise.unwrap().auroc_error, small.positives), (None, None, 0));
}
