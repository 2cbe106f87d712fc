//! What a person at the site has decided about a study. A decision is of the document's digest: one changed byte makes
//! another study.

use super::limits::Approval;
use super::{Policy, Refusal};

/// The newest decision about a study document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may run within the limits.
    Approved,
    /// It may not, or no more.
    Rejected {
        /// Why, for people at the site alone.
        reason: String,
    },
}

impl Policy {
    /// Whether the site may join a study.
    ///
    /// # Errors
    /// [`Refusal::Rejected`]; [`Refusal::ApprovalPending`] while nobody has decided and somebody has to.
    pub fn check_offer(&self, verdict: Option<&Verdict>) -> Result<(), Refusal> {
        self.check_verdict(verdict, Refusal::ApprovalPending)
    }

    /// Whether the site goes on with a study that it has joined.
    ///
    /// # Errors
    /// [`Refusal::Rejected`] when an approval was withdrawn; [`Refusal::NotApproved`] when there never was one and the
    /// site demands it by now.
    pub fn check_task(&self, verdict: Option<&Verdict>) -> Result<(), Refusal> {
        self.check_verdict(verdict, Refusal::NotApproved)
    }

    fn check_verdict(&self, verdict: Option<&Verdict>, undecided: Refusal) -> Result<(), Refusal> {
        match (verdict, self.limits.approval) {
            (Some(Verdict::Rejected { reason }), _) => Err(Refusal::Rejected { reason: reason.clone() }),
            (Some(Verdict::Approved), _) | (None, Approval::Automatic) => Ok(()),
            (None, Approval::ByHand) => Err(undecided),
        }
    }
}
