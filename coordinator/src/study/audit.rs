//! Compares each site's own epsilon with what the charges of its receipts give.
//!
//! Before every round is applied, and once more before the study ends: no figure enters a model's history, or a report, that
//! site and coordinator do not agree on. Both run the same accountant on the same charges, so they agree to the last digit
//! that anybody reads.

use std::collections::BTreeMap;

use fusiondp_dp::{AccountantError, Delta, LedgerEntry, Protection, Released, StepCounts, verify_piece};
use fusiondp_protocol::{Plan, SiteId};

use super::StudyContext;
use super::accounting::Accounting;
use crate::error::{CoordinatorError, Interruption, StudyFailure};
use crate::shared::Core;
use crate::store::NewCharges;

/// Relative difference at which two figures still agree. Mathematical libraries and vector units of two machines differ in the
/// last bits of a double; figures are read to four decimals.
const TOLERANCE: f64 = 1e-9;

/// The charges of every site, as far as they have been read.
#[derive(Debug)]
pub(crate) struct Auditor {
    protects: Protection,
    accounting: Accounting,
    books: BTreeMap<SiteId, Book>,
}

#[derive(Debug, Default)]
struct Book {
    /// What sensitive values lose by.
    steps: StepCounts,
    /// What whole records lose by.
    record_steps: StepCounts,
    charges: u64,
    last: Option<LedgerEntry>,
}

impl Auditor {
    /// Has read nothing yet.
    pub(crate) fn new(delta: Delta, protects: Protection) -> Self {
        Self { protects, accounting: Accounting::new(delta), books: BTreeMap::new() }
    }

    /// Reads what was mirrored since the last time and compares every site's claim; accounting runs off the async threads.
    pub(crate) async fn check(mut self, core: &Core, context: &StudyContext) -> Result<Self, Interruption> {
        let place = |book: &Book| book.last.as_ref().map(LedgerEntry::sequence);
        let behind =
            self.books.iter().filter_map(|(site, book)| Some((site.clone(), place(book)?))).collect();
        let charges = core.store.charges_behind(context.id(), &behind).await?;
        let work = move || self.compare(charges).map(|()| self);
        Ok(tokio::task::spawn_blocking(work).await.map_err(CoordinatorError::from)??)
    }

    /// Recomputes every claim.
    fn compare(&mut self, charges: Vec<NewCharges>) -> Result<(), StudyFailure> {
        for new in charges {
            let site = new.site.to_string();
            let mut book = self.books.remove(&new.site).unwrap_or_default();
            let failed = |source| StudyFailure::Ledger { site: site.clone(), source };
            new.entries.iter().try_for_each(|entry| book.read(entry)).map_err(failed)?;
            let unaccountable = |error: AccountantError| StudyFailure::Accounting {
                site: site.clone(),
                problem: error.to_string(),
            };
            let recomputed = self.accounting.of(&book.steps).map_err(unaccountable)?;
            agree(&new, &book, "replace", new.epsilon_replace, recomputed.replace)?;
            agree(&new, &book, "zero_out", new.epsilon_zero_out, recomputed.zero_out)?;
            if self.protects == Protection::WholeRecords {
                let records = self.accounting.of(&book.record_steps).map_err(unaccountable)?;
                agree(&new, &book, "replace (whole records)", new.records_replace, records.replace)?;
                agree(&new, &book, "zero_out (whole records)", new.records_zero_out, records.zero_out)?;
            }
            self.books.insert(new.site, book);
        }
        Ok(())
    }
}

impl Book {
    /// Adds a charge, which has to follow on the last one if it stands next to it in the site's chain.
    fn read(&mut self, entry: &LedgerEntry) -> Result<(), fusiondp_dp::LedgerError> {
        if let Some(last) = self.last.take().filter(|last| last.sequence() + 1 == entry.sequence()) {
            verify_piece(&[last, entry.clone()])?;
        }
        let charge = entry.charge();
        let steps = charge.event.steps().get().into();
        self.record_steps.add(&charge.event, steps);
        if charge.released != Released::PublicSum {
            self.steps.add(&charge.event, steps);
        }
        self.charges += 1;
        self.last = Some(entry.clone());
        Ok(())
    }
}

/// A site whose charges are all mirrored must claim what they give. One with charges that no receipt lists may claim more,
/// never less.
fn agree(
    new: &NewCharges,
    book: &Book,
    relation: &'static str,
    claimed: f64,
    recomputed: f64,
) -> Result<(), StudyFailure> {
    let too_low = claimed < recomputed * (1.0 - TOLERANCE);
    let too_high = claimed > recomputed * (1.0 + TOLERANCE);
    if too_low || (new.complete && too_high) || claimed.is_nan() {
        let (site, charges) = (new.site.to_string(), book.charges);
        return Err(StudyFailure::Disagreement { site, relation, claimed, recomputed, charges });
    }
    Ok(())
}

/// Compares once, from the first charge on.
pub(crate) async fn check(core: &Core, context: &StudyContext, plan: &Plan) -> Result<(), Interruption> {
    Auditor::new(plan.delta, context.protects()).check(core, context).await.map(|_| ())
}

#[cfg(test)]
mod tests;
