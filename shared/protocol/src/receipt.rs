//! What a site states in writing of every update that it releases.
//!
//! A receipt says what left (round, digest of the bytes), what it was computed from (study, model, imputer), and what it
//! cost (the signed ledger entries), signed with the site's ledger key. Receipts alone are enough to recompute the epsilon of
//! a study, and to see whether a charge of it is missing: `fusiondp-coordinator receipts verify`.
//!
//! # Canonical form
//!
//! JSON without white space, fields in the order of declaration here, numbers in their shortest exact form. The signature is
//! over the SHA-256 of these bytes of [`Receipt`] ([`Statement::Receipt`]).

use fusiondp_dp::{
    Delta, Digest, Epsilon, ForeignSignature, LedgerEntry, LedgerError, LedgerKey, LedgerPublicKey, Released,
    Signature, SignedEntry, Statement, UpdateId,
};
use serde::{Deserialize, Serialize};

mod file;

pub use file::{RECEIPTS_FORMAT, ReceiptsFile, ReceiptsFileError, ReceiptsHeader};

use crate::ids::{SiteId, StudyId};
use crate::study::ImputerSpec;

/// Most charges that one receipt lists: those of its update, one per local step and at most 1,000, and those of the study's
/// earlier updates that never arrived.
pub const MAX_RECEIPT_CHARGES: usize = 1_500;

/// Longest canonical JSON of a signed receipt, in bytes.
pub const MAX_RECEIPT_BYTES: usize = 2 << 20;

/// Form of a receipt; a later one has another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReceiptFormat {
    /// This one.
    #[serde(rename = "fusiondp/receipt/v1")]
    V1,
}

/// The statement about one update.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Form of this statement.
    pub format: ReceiptFormat,
    /// Who released the update, as its certificate says.
    pub site: SiteId,
    /// The study.
    pub study: StudyId,
    /// SHA-256 of the study document.
    pub study_digest: Digest,
    /// The round, from 1.
    pub round: u32,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Names the update.
    pub update_id: UpdateId,
    /// The model version that the update was computed on.
    pub model_version: u64,
    /// SHA-256 of its parameter bytes.
    pub model_digest: Digest,
    /// Where the imputed values of the hybrid view come from.
    pub imputer: ImputerSpec,
    /// Values of the public part: a function of public columns, labels and imputed values, or, after several local steps, of
    /// noised sums too. They left without noise unless the update has a charge of a public sum.
    pub public_values: u64,
    /// Values of the noised sum.
    pub private_values: u64,
    /// SHA-256 of the bytes that left.
    pub payload_digest: Digest,
    /// The study's charges that no earlier confirmed receipt lists, in ledger order; those of this update come last. Empty
    /// where nothing was charged.
    pub charges: Vec<SignedEntry>,
    /// How many charges the study has in the ledger, these included.
    pub study_charges: u64,
    /// Head of the site's chain after them.
    pub ledger_head: Digest,
    /// Delta at which the figures hold: the study's.
    pub delta: Delta,
    /// The site's figures of what sensitive values lose, upper bounds.
    pub epsilon: ReceiptEpsilons,
    /// What whole records lose, in a study that protects them: by both parts of the study, and by all studies on the same
    /// data. Infinite for the data once a study let out what it computed from them without noise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epsilon_records: Option<ReceiptEpsilons>,
}

/// Epsilons that a site states, upper bounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptEpsilons {
    /// Of the study so far, under replace.
    pub replace: Epsilon,
    /// The same under zero_out.
    pub zero_out: Epsilon,
    /// Over all studies on the same data, under replace.
    pub data_replace: Epsilon,
    /// The same under zero_out.
    pub data_zero_out: Epsilon,
}

/// A receipt and the site's signature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedReceipt {
    /// The statement.
    pub receipt: Receipt,
    /// Under the digest of its canonical form.
    pub signature: Signature,
}

/// A receipt that does not stand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Somebody else's signature, or a changed receipt.
    #[error("the receipt was altered, or is another site's: {0}")]
    Signature(#[from] ForeignSignature),
    /// A charge that was altered, or is signed by somebody else.
    #[error("a charge does not stand: {0}")]
    Charge(#[from] LedgerError),
    /// Charges that are repeated or out of order.
    #[error("charge {sequence} is repeated or out of order; receipts list charges in ledger order")]
    Order {
        /// Place of the charge in the ledger.
        sequence: u64,
    },
    /// A charge of another study.
    #[error(
        "charge {sequence} is of another study or study document; a receipt lists its own study's charges"
    )]
    OtherStudy {
        /// Place of the charge in the ledger.
        sequence: u64,
    },
    /// A charge of other data.
    #[error("charge {sequence} is of another data set; a study trains on one")]
    OtherData {
        /// Place of the charge in the ledger.
        sequence: u64,
    },
    /// The update's own charges are not the last ones.
    #[error("the charges of the update do not end the list, or do not follow each other in the ledger")]
    Scattered,
    /// The chain's head is not that of the last charge of the update.
    #[error("ledger_head is not the hash of the update's last charge")]
    Head,
    /// A noised sum that nothing was charged for.
    #[error("{private_values} noised values and no charge; nothing noised leaves without one")]
    Uncharged {
        /// Values of the sum.
        private_values: u64,
    },
    /// Fewer charges in the study than are listed.
    #[error("study_charges = {study_charges} is less than the {listed} charges that are listed")]
    Count {
        /// What the receipt says.
        study_charges: u64,
        /// What it lists.
        listed: u64,
    },
}

impl Receipt {
    /// SHA-256 of the canonical form.
    #[must_use]
    pub fn digest(&self) -> Digest {
        // Unwrap safety: the fields are integers, finite numbers and texts, which serde_json cannot fail to write.
        Digest::of(&serde_json::to_vec(self).expect("a receipt has a JSON form"))
    }

    /// Signs the statement.
    #[must_use]
    pub fn signed(self, key: &LedgerKey) -> SignedReceipt {
        let signature = key.sign(Statement::Receipt, self.digest());
        SignedReceipt { receipt: self, signature }
    }

    /// The charges of this update, without those that are listed because an earlier update never arrived.
    #[must_use]
    pub fn own_charges(&self) -> &[SignedEntry] {
        let own = |charge: &SignedEntry| charge.entry.charge().update_id == self.update_id;
        let first = self.charges.iter().position(own).unwrap_or(self.charges.len());
        &self.charges[first..]
    }

    fn check(&self, key: &LedgerPublicKey) -> Result<(), ReceiptError> {
        let mut last: Option<&LedgerEntry> = None;
        for charge in &self.charges {
            charge.verify(key)?;
            self.check_charge(&charge.entry, last)?;
            last = Some(&charge.entry);
        }
        self.check_own()?;
        let listed = self.charges.len() as u64;
        if self.study_charges < listed {
            return Err(ReceiptError::Count { study_charges: self.study_charges, listed });
        }
        Ok(())
    }

    fn check_charge(&self, entry: &LedgerEntry, last: Option<&LedgerEntry>) -> Result<(), ReceiptError> {
        let (sequence, charge) = (entry.sequence(), entry.charge());
        if last.is_some_and(|last| last.sequence() >= sequence) {
            return Err(ReceiptError::Order { sequence });
        }
        if charge.study != self.study.as_str() || charge.study_digest != self.study_digest {
            return Err(ReceiptError::OtherStudy { sequence });
        }
        if last.is_some_and(|last| last.charge().data_set != charge.data_set) {
            return Err(ReceiptError::OtherData { sequence });
        }
        Ok(())
    }

    fn check_own(&self) -> Result<(), ReceiptError> {
        let own: Vec<LedgerEntry> = self.own_charges().iter().map(|charge| charge.entry.clone()).collect();
        if own.iter().any(|entry| entry.charge().update_id != self.update_id) {
            return Err(ReceiptError::Scattered);
        }
        fusiondp_dp::verify_piece(&own).map_err(|_| ReceiptError::Scattered)?;
        let has = |released| own.iter().any(|entry| entry.charge().released == released);
        if self.private_values > 0 && !own.is_empty() && !has(Released::PrivateSum) {
            return Err(ReceiptError::Uncharged { private_values: self.private_values });
        }
        match own.last() {
            Some(last) if last.hash() != self.ledger_head => Err(ReceiptError::Head),
            None if self.private_values > 0 => {
                Err(ReceiptError::Uncharged { private_values: self.private_values })
            }
            _ => Ok(()),
        }
    }
}

impl SignedReceipt {
    /// Checks what the receipt says of itself: signatures, chain pieces, and that its charges belong to it. Whether the charges are
    /// what the study plans is for whoever has the plan.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn verify(&self, key: &LedgerPublicKey) -> Result<(), ReceiptError> {
        key.verify(Statement::Receipt, self.receipt.digest(), &self.signature)?;
        self.receipt.check(key)
    }

    /// The canonical form, with the signature.
    #[must_use]
    pub fn canonical_json(&self) -> String {
        // Unwrap safety: as for the receipt alone.
        serde_json::to_string(self).expect("a receipt has a JSON form")
    }
}

#[cfg(test)]
mod tests;
