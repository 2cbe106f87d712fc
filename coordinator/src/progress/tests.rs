#![allow(clippy::unwrap_used)]
use fusiondp_dp::Epsilon;
use fusiondp_protocol::{SiteState, SiteStatus};

use super::*;

fn site(id: &str, epsilon: f64) -> SiteStatus {
    SiteStatus {
        site_id: id.parse().unwrap(),
        state: SiteState::Working,
        detail: String::new(),
        rounds_contributed: 3,
        rounds_missed: 0,
        units: 10,
        epsilon_replace: Epsilon::new(epsilon).unwrap(),
        epsilon_zero_out: Epsilon::new(epsilon / 2.0).unwrap(),
        last_seen_ms: None,
    }
}

fn status(sites: Vec<SiteStatus>) -> StudyStatus {
    StudyStatus {
        study_id: "s-1".parse().unwrap(),
        name: "S".into(),
        state: StudyState::Running,
        detail: String::new(),
        phase: None,
        round: 30,
        rounds: 90,
        plan: None,
        sites,
        metrics: vec![Metric {
            round: 25,
            cohort: "val".parse().unwrap(),
            site_id: None,
            records: 10,
            positives: 3,
            auroc: 0.91234,
            figures: MetricFigures::Exact { aupr: 0.5, brier: 0.1 },
        }],
        submitted_ms: 1,
        started_ms: Some(2),
        ended_ms: None,
        public_loss: 0.25,
        rounds_per_s: 20.0,
    }
}

#[test]
fn the_line_names_rate_remaining_time_loss_metric_and_what_each_site_has_spent() {
    let line = message(&status(vec![site("a", 0.25), site("b", 0.5)]));
    assert_eq!(
        line,
        "running · 20.0 rounds/s · 3.0 s left · loss 0.2500 · val AUROC 0.9123 AUPR 0.5000 · ε a 0.2500, b 0.5000"
    );
}

#[test]
fn many_sites_are_summed_up_and_nothing_spent_is_not_shown() {
    let many = (0..9).map(|index| site(&format!("s{index}"), 1.0)).collect();
    assert!(message(&status(many)).ends_with("and 5 more"));
    assert!(!message(&status(vec![site("a", 0.0)])).contains('ε'));
}

#[test]
fn the_end_shows_every_cohort_of_the_last_evaluation() {
    let mut ended = status(vec![site("a", 0.25)]);
    for (round, cohort) in [(30, "test"), (30, "val")] {
        let newer = Metric { round, cohort: cohort.parse().unwrap(), ..ended.metrics[0].clone() };
        ended.metrics.push(newer);
    }
    let line = message(&ended);
    assert!(line.contains("test AUROC 0.9123 AUPR 0.5000 · val AUROC"), "{line}");
    assert_eq!(line.matches("AUROC").count(), 2, "{line}");
}

#[test]
fn a_figure_with_noise_shows_its_error() {
    let mut noisy = status(vec![site("a", 0.25)]);
    noisy.metrics[0].figures = MetricFigures::Noisy { auroc_error: 0.0432 };
    let line = message(&noisy);
    assert!(line.contains("val AUROC 0.9123 ± 0.0432 with noise ·") && !line.contains("AUPR"), "{line}");
}

#[test]
fn the_template_is_valid() {
    template().unwrap();
}
