//! Ranking metrics over groups of tied records.

use super::MetricError;

/// Records that share a score.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    pub(super) positives: u64,
    pub(super) negatives: u64,
}

/// Mann-Whitney statistic over groups in descending order of score, exact in integers until the last division.
pub(super) fn auroc(groups: Vec<Group>) -> Result<f64, MetricError> {
    let (positives, negatives) = totals(&groups)?;
    let (mut above, mut twice_wins) = (0u128, 0u128);
    for group in groups {
        twice_wins += u128::from(group.negatives) * (2 * above + u128::from(group.positives));
        above += u128::from(group.positives);
    }
    Ok(twice_wins as f64 / (2.0 * positives as f64 * negatives as f64))
}

/// Average precision over groups in descending order of score.
pub(super) fn aupr(groups: Vec<Group>) -> Result<f64, MetricError> {
    let (positives, _) = totals(&groups)?;
    let (mut hits, mut retrieved, mut area) = (0u128, 0u128, 0.0);
    for group in groups {
        hits += u128::from(group.positives);
        retrieved += u128::from(group.positives) + u128::from(group.negatives);
        if group.positives > 0 {
            area += group.positives as f64 * (hits as f64 / retrieved as f64);
        }
    }
    Ok(area / positives as f64)
}

fn totals(groups: &[Group]) -> Result<(u128, u128), MetricError> {
    let positives = groups.iter().map(|group| u128::from(group.positives)).sum();
    let negatives = groups.iter().map(|group| u128::from(group.negatives)).sum();
    match (positives, negatives) {
        (0, _) => Err(MetricError::ClassAbsent { class: 1 }),
        (_, 0) => Err(MetricError::ClassAbsent { class: 0 }),
        _ => Ok((positives, negatives)),
    }
}
