//! How well members of the training data are told from others.
//!
//! Membership is **not protected** but by a study's second tier: public gradients are sent without noise. The figures say how much
//! the trained model gives away of it, not whether a promise holds.

use fusiondp_coordinator::report::evidence::Distinction;
use fusiondp_learn::metrics::{MetricError, auroc};

/// Share of others that are taken for members, at which hits are counted.
const FALSE_ALARMS: f64 = 0.01;

/// Compares scores: the larger, the likelier a member.
///
/// # Errors
/// No members, or no others.
pub fn distinguish(members: &[f32], others: &[f32]) -> Result<Distinction, MetricError> {
    let scores: Vec<f32> = members.iter().chain(others).copied().collect();
    let labels: Vec<f32> = (0..scores.len()).map(|i| f32::from(u8::from(i < members.len()))).collect();
    let auroc = auroc(&scores, &labels)?;
    let points = operating_points(members, others);
    let best = points.iter().map(|[found, alarms]| found - alarms).fold(0.0, f64::max);
    let allowed = points.iter().filter(|[_, alarms]| *alarms <= FALSE_ALARMS);
    Ok(Distinction {
        auroc,
        advantage: best,
        hits_at_one_percent: allowed.map(|[found, _]| *found).fold(0.0, f64::max),
    })
}

/// True and false positive rate at every threshold.
fn operating_points(members: &[f32], others: &[f32]) -> Vec<[f64; 2]> {
    let share = |scores: &[f32]| 1.0 / scores.len().max(1) as f64;
    let mut scores: Vec<(f32, [f64; 2])> = members.iter().map(|&s| (s, [share(members), 0.0])).collect();
    scores.extend(others.iter().map(|&s| (s, [0.0, share(others)])));
    scores.sort_by(|one, other| other.0.total_cmp(&one.0));
    let mut point = [0.0, 0.0];
    let equal = scores.chunk_by(|one, other| one.0 == other.0);
    let points = equal.map(|equal| {
        equal.iter().for_each(|(_, [found, alarms])| point = [point[0] + found, point[1] + alarms]);
        point
    });
    points.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn scores_that_tell_all_and_scores_that_tell_nothing() {
        let all = distinguish(&[0.4, 0.3], &[0.2, 0.1]).unwrap();
        assert_eq!((all.auroc, all.advantage, all.hits_at_one_percent), (1.0, 1.0, 1.0));
        let nothing = distinguish(&[0.5, 0.5], &[0.5]).unwrap();
        assert_eq!((nothing.auroc, nothing.advantage, nothing.hits_at_one_percent), (0.5, 0.0, 0.0));
        let half = distinguish(&[0.9, 0.1], &[0.5, 0.5]).unwrap();
        assert_eq!((half.auroc, half.advantage, half.hits_at_one_percent), (0.5, 0.5, 0.5));
        assert!(distinguish(&[], &[1.0]).is_err());
    }

    #[test]
    fn hits_are_counted_at_one_false_alarm_in_a_hundred() {
        let others: Vec<f32> = (0..200).map(|i| i as f32).collect();
        // Two of 200 others may be taken for members, so scores above that of the third count.
        let members = [198.5, 197.5, 196.5, 199.5];
        assert_eq!(distinguish(&members, &others).unwrap().hits_at_one_percent, 0.75);
    }
}
