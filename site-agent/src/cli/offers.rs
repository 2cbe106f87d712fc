//! Offered studies with their decisions and what was charged, as the commands about approval need them.

use anyhow::{Context as _, bail};
use fusiondp_dp::{Ledger, LedgerEntry};
use fusiondp_protocol::study::StudyDocument;

use crate::policy::{Approval, Verdict};
use crate::store::{Decision, OfferedStudy, Store};

/// Everything that was offered, decided and charged: one look at the database.
pub(super) struct Offers {
    /// Oldest first.
    pub(super) offered: Vec<OfferedStudy>,
    /// Oldest first.
    pub(super) decisions: Vec<Decision>,
    /// The verified ledger.
    pub(super) ledger: Ledger,
}

impl Offers {
    pub(super) async fn read(store: &Store) -> anyhow::Result<Self> {
        store.require_approvals().await?;
        let ledger =
            Ledger::open(store.ledger_entries().await?).context("the ledger's hash chain is broken")?;
        Ok(Self { offered: store.offered().await?, decisions: store.decisions().await?, ledger })
    }

    /// The offered study of this id, or whose id begins so.
    pub(super) fn find(&self, study: &str) -> anyhow::Result<&OfferedStudy> {
        if let Some(exact) = self.offered.iter().find(|one| one.study.as_str() == study) {
            return Ok(exact);
        }
        let found: Vec<_> = self.offered.iter().filter(|one| one.study.as_str().starts_with(study)).collect();
        match found[..] {
            [one] => Ok(one),
            [] => bail!("no study \"{study}\" was offered to this site; `fusiondp-site studies` lists them"),
            _ => bail!(
                "several offered studies begin with \"{study}\"; give the whole id from `fusiondp-site studies`"
            ),
        }
    }

    /// The newest decision about a study.
    pub(super) fn decision(&self, offered: &OfferedStudy) -> Option<&Decision> {
        self.decisions.iter().rev().find(|decision| decision.digest == offered.digest)
    }

    /// What a study's line says of approval.
    pub(super) fn state(&self, offered: &OfferedStudy, approval: Approval) -> &'static str {
        match (self.decision(offered).map(|decision| &decision.verdict), approval) {
            (Some(Verdict::Approved), _) => "approved",
            (Some(Verdict::Rejected { .. }), _) => "rejected",
            (None, Approval::Automatic) => "automatic",
            (None, Approval::ByHand) => "waits for approval",
        }
    }

    /// The study that was approved last before this one, with its decision: of the same name if there is one.
    pub(super) fn approved_before(&self, document: &StudyDocument) -> Option<(&Decision, StudyDocument)> {
        let approved =
            self.decisions.iter().rev().filter(|decision| {
                decision.verdict == Verdict::Approved && decision.digest != document.digest()
            });
        let mut known = approved.filter_map(|decision| {
            let offered = self.offered.iter().find(|one| one.digest == decision.digest)?;
            Some((decision, StudyDocument::from_bytes(&offered.document).ok()?))
        });
        let newest = known.next()?;
        let name = &document.study().study.name;
        if newest.1.study().study.name == *name {
            return Some(newest);
        }
        known.find(|(_, other)| other.study().study.name == *name).or(Some(newest))
    }

    /// Every charge.
    pub(super) fn entries(&self) -> &[LedgerEntry] {
        self.ledger.entries()
    }
}
