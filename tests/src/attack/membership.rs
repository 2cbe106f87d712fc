//! Membership inference by the loss: was a record in the training data?
//!
//! Membership is **not protected**: public gradients are sent without noise. The figure says how much the trained model gives
//! away of it, not whether a promise holds. No reference models are trained, so a stronger attack may find more.

use fusiondp_learn::metrics::{MetricError, auroc};
use serde::Serialize;

/// How well members and others are told apart by their loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Membership {
    /// Records of the training data.
    pub members: usize,
    /// Records of the evaluation cohort.
    pub others: usize,
    /// Probability that a member's loss is below another's; 0.5: nothing is seen.
    pub auroc: f64,
    /// Largest difference of true and false positive rate over all thresholds; 0: nothing is seen.
    pub advantage: f64,
}

/// Compares losses.
///
/// # Errors
/// No members, or no others.
pub fn membership(members: &[f32], others: &[f32]) -> Result<Membership, MetricError> {
    let scores: Vec<f32> = members.iter().chain(others).map(|loss| -loss).collect();
    let labels: Vec<f32> = (0..scores.len()).map(|i| f32::from(u8::from(i < members.len()))).collect();
    Ok(Membership {
        members: members.len(),
        others: others.len(),
        auroc: auroc(&scores, &labels)?,
        advantage: advantage(members, others),
    })
}

fn advantage(members: &[f32], others: &[f32]) -> f64 {
    let mut losses: Vec<(f32, f64)> =
        members.iter().map(|&loss| (loss, 1.0 / members.len() as f64)).collect();
    losses.extend(others.iter().map(|&loss| (loss, -1.0 / others.len() as f64)));
    losses.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (mut sum, mut most) = (0.0, 0.0_f64);
    for equal in losses.chunk_by(|one, other| one.0 == other.0) {
        sum += equal.iter().map(|(_, weight)| weight).sum::<f64>();
        most = most.max(sum);
    }
    most
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn losses_that_tell_all_and_losses_that_tell_nothing() {
        let all = membership(&[0.1, 0.2], &[0.3, 0.4]).unwrap();
        assert_eq!((all.auroc, all.advantage), (1.0, 1.0));
        let nothing = membership(&[0.5, 0.5], &[0.5]).unwrap();
        assert_eq!((nothing.auroc, nothing.advantage), (0.5, 0.0));
        let half = membership(&[0.1, 0.9], &[0.5, 0.5]).unwrap();
        assert_eq!((half.auroc, half.advantage), (0.5, 0.5));
        assert!(membership(&[], &[1.0]).is_err());
    }
}
