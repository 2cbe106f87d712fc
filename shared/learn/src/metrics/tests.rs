//! Figures of scikit-learn 1.9.1 (`roc_auc_score`, `average_precision_score`, `brier_score_loss`, `log_loss`) with
//! numpy 2.4.6 on the same numbers, probabilities being the logistic function of the f32 logits in f64.
#![allow(clippy::unwrap_used)]

use super::*;

const LOGITS: [f32; 10] = [2.0, 1.0, 1.0, 0.5, 0.5, 0.5, -0.25, -1.0, -1.0, -3.0];
const LABELS: [f32; 10] = [1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0];

fn close(found: Result<f64, MetricError>, wanted: f64) {
    let found = found.unwrap();
    assert!((found - wanted).abs() <= 1e-12, "{found} is not {wanted}");
}

/// A thousand records with 401 distinct logits, drawn by the C library's old linear congruential generator.
fn thousand() -> (Vec<f32>, Vec<f32>) {
    let mut state = 12345u64;
    let mut next = || {
        state = (state * 1_103_515_245 + 12345) % (1 << 31);
        state >> 8
    };
    let logits: Vec<f32> = (0..1000).map(|_| (((next() % 401) as f64 - 200.0) / 50.0) as f32).collect();
    let labels = logits.iter().map(|&z| {
        let positive = (next() % 1000) as f64 / 1000.0 < probability(f64::from(z) - 1.0);
        f32::from(u8::from(positive))
    });
    let labels = labels.collect();
    (logits, labels)
}

#[test]
fn small_sample_with_ties_by_hand_and_by_scikit_learn() {
    // By hand: of 24 pairs, wins 6 + 5 + 3 + 1 = 15 and ties 1 + 2 + 1 = 4, so (15 + 2) / 24.
    close(auroc(&LOGITS, &LABELS), 17.0 / 24.0);
    // By hand: (1/1 + 2/3 + 3/6 + 4/9) / 4.
    close(aupr(&LOGITS, &LABELS), (1.0 + 2.0 / 3.0 + 0.5 + 4.0 / 9.0) / 4.0);
    close(auroc(&LOGITS, &LABELS), 0.7083333333333334);
    close(aupr(&LOGITS, &LABELS), 0.6527777777777778);
    close(brier(&LOGITS, &LABELS), 0.2339148428073013);
    close(log_loss(&LOGITS, &LABELS), 0.6426732485108769);
}

#[test]
fn a_thousand_records_by_scikit_learn() {
    let (logits, labels) = thousand();
    assert_eq!(labels.iter().sum::<f32>(), 363.0);
    close(auroc(&logits, &labels), 0.922138467593013);
    close(aupr(&logits, &labels), 0.875065685358383);
    close(brier(&logits, &labels), 0.1323505742274013);
    close(log_loss(&logits, &labels), 0.40981081867238983);
}

#[test]
fn all_scores_equal_is_chance() {
    close(auroc(&[0.5; 4], &[1.0, 0.0, 0.0, 0.0]), 0.5);
    close(aupr(&[0.5; 4], &[1.0, 0.0, 0.0, 0.0]), 0.25);
    close(auroc(&[0.0, -0.0], &[1.0, 0.0]), 0.5);
}

#[test]
fn a_confident_error_stays_finite() {
    close(log_loss(&[-200.0], &[1.0]), 200.0);
    close(brier(&[-200.0], &[1.0]), 1.0);
}

#[test]
fn what_has_no_metric_is_an_error() {
    assert_eq!(auroc(&[1.0, 2.0], &[0.0, 0.0]), Err(MetricError::ClassAbsent { class: 1 }));
    assert_eq!(aupr(&[1.0, 2.0], &[1.0, 1.0]), Err(MetricError::ClassAbsent { class: 0 }));
    assert_eq!(auroc(&[1.0], &[0.0, 1.0]), Err(MetricError::Length { logits: 1, labels: 2 }));
    assert_eq!(brier(&[1.0, f32::NAN], &[0.0, 1.0]), Err(MetricError::NotANumber { row: 1 }));
    assert_eq!(log_loss(&[1.0], &[0.5]), Err(MetricError::Label { row: 0 }));
    assert!(brier(&[], &[]).is_err());
    assert_eq!(LogitHistogram::new().auroc(), Err(MetricError::ClassAbsent { class: 1 }));
}

#[test]
fn a_histogram_agrees_where_its_bins_separate_the_logits() {
    let (logits, labels) = thousand();
    let histogram = LogitHistogram::of(&logits, &labels).unwrap();
    close(histogram.auroc(), auroc(&logits, &labels).unwrap());
    close(histogram.aupr(), aupr(&logits, &labels).unwrap());
}

#[test]
fn merging_sites_is_the_same_as_counting_all() {
    let (logits, labels) = thousand();
    let mut pooled = LogitHistogram::of(&logits[..300], &labels[..300]).unwrap();
    pooled.merge(&LogitHistogram::of(&logits[300..], &labels[300..]).unwrap()).unwrap();
    assert_eq!(pooled, LogitHistogram::of(&logits, &labels).unwrap());
    let again =
        LogitHistogram::from_counts(pooled.positives().to_vec(), pooled.negatives().to_vec()).unwrap();
    assert_eq!(again, pooled);
}

#[test]
fn outermost_bins_are_open_and_edges_belong_to_the_bin_above() {
    let histogram = LogitHistogram::of(&[f32::NEG_INFINITY, -16.0, 0.0, 16.0, 1e30], &[1.0; 5]).unwrap();
    let counted: Vec<(usize, u64)> =
        histogram.positives().iter().copied().enumerate().filter(|(_, count)| *count > 0).collect();
    assert_eq!(counted, [(0, 2), (2048, 1), (4095, 2)]);
}

#[test]
fn wrong_histograms_are_refused() {
    assert_eq!(LogitHistogram::from_counts(vec![0; 8], vec![0; 4096]), Err(MetricError::Bins { found: 8 }));
    let mut full = vec![0; 4096];
    full[7] = u64::MAX;
    let mut histogram = LogitHistogram::from_counts(full.clone(), vec![0; 4096]).unwrap();
    assert_eq!(histogram.merge(&histogram.clone()), Err(MetricError::Overflow));
    full[8] = 1;
    assert_eq!(LogitHistogram::from_counts(full, vec![0; 4096]), Err(MetricError::Overflow));
}
