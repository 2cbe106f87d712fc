//! How well members of the training data are told from others.
//!
//! Membership is **not protected** but by a study's second tier: public gradients are sent without noise. The figures say how much
//! the trained model gives away of it, not whether a promise holds.

use fusiondp_coordinator::report::evidence::Distinction;
use fusiondp_learn::metrics::{MetricError, auroc};

/// Hits are counted where one other in so many is taken for a member.
const FALSE_ALARMS_ONE_IN: usize = 100;

/// Compares scores: the larger, the likelier a member.
///
/// # Errors
/// No members, or no others.
pub fn distinguish(members: &[f32], others: &[f32]) -> Result<Distinction, MetricError> {
    let scores: Vec<f32> = members.iter().chain(others).copied().collect();
    let labels: Vec<f32> = (0..scores.len()).map(|i| f32::from(u8::from(i < members.len()))).collect();
    let auroc = auroc(&scores, &labels)?;
    let points = operating_points(members, others);
    let (all, rest) = (members.len() as f64, others.len() as f64);
    let advantage = |&(found, alarms): &(usize, usize)| found as f64 / all - alarms as f64 / rest;
    let allowed = points.iter().filter(|(_, alarms)| alarms * FALSE_ALARMS_ONE_IN <= others.len());
    Ok(Distinction {
        auroc,
        advantage: points.iter().map(advantage).fold(0.0, f64::max),
        hits_at_one_percent: allowed.map(|&(found, _)| found).max().unwrap_or(0) as f64 / all,
    })
}

/// Members found and others taken for members, at every threshold.
fn operating_points(members: &[f32], others: &[f32]) -> Vec<(usize, usize)> {
    let mut scores: Vec<(f32, bool)> = members.iter().map(|&score| (score, true)).collect();
    scores.extend(others.iter().map(|&score| (score, false)));
    scores.sort_by(|one, other| other.0.total_cmp(&one.0));
    let (mut found, mut alarms) = (0, 0);
    let equal = scores.chunk_by(|one, other| one.0 == other.0);
    let points = equal.map(|equal| {
        let members = equal.iter().filter(|(_, member)| *member).count();
        (found, alarms) = (found + members, alarms + equal.len() - members);
        (found, alarms)
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
        for all in [200_u16, 1_000, 2_000, 5_000] {
            let others: Vec<f32> = (0..all).map(f32::from).collect();
            // So many others may be taken for members: scores between the last of them and the next count, lower ones do not.
            let allowed = f32::from(all / 100);
            let members = [-0.5, 0.5, 1.5, -1.5].map(|above| f32::from(all - 1) - allowed + above);
            let found = distinguish(&members, &others).unwrap().hits_at_one_percent;
            assert_eq!(found, 0.5, "{all}");
        }
    }
}
