//! Compares each site's own epsilon with what its mirrored charges give.
//!
//! Runs beside the rounds, because one evaluation of the accountant may take longer than a round, and once more before
//! the study ends: no study finishes on figures that were not compared.

use std::time::{Duration, Instant};

use fusiondp_dp::Delta;
use fusiondp_protocol::Plan;

use super::StudyContext;
use super::accounting::Accounting;
use crate::error::{CoordinatorError, Interruption, StudyFailure};
use crate::shared::Core;
use crate::store::{Claim, StoredClaim};

/// Relative difference at which two figures still agree: the accountant's own rounding.
const TOLERANCE: f64 = 1e-6;

/// Shortest time between two comparisons.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(2);

/// An interval is at least this many times as long as the comparison took, which bounds its share of the processor.
const DUTY: u32 = 20;

/// Compares again and again, until a site disagrees or this is dropped.
pub(crate) async fn watch(core: &Core, context: &StudyContext, plan: &Plan) -> Interruption {
    loop {
        let begun = Instant::now();
        if let Err(interruption) = check(core, context, plan).await {
            return interruption;
        }
        tokio::time::sleep(SHORTEST_INTERVAL.max(begun.elapsed() * DUTY)).await;
    }
}

/// Compares once; entries are read and accounted off the async threads and outside the transaction.
pub(crate) async fn check(core: &Core, context: &StudyContext, plan: &Plan) -> Result<(), Interruption> {
    let stored = core.store.claims(context.id()).await?;
    let delta = plan.delta;
    let work = move || -> Result<(), Interruption> {
        let claims = stored.into_iter().map(StoredClaim::read).collect::<Result<Vec<_>, _>>()?;
        Ok(compare(&claims, delta)?)
    };
    tokio::task::spawn_blocking(work).await.map_err(CoordinatorError::from)?
}

/// Recomputes every claim.
pub(crate) fn compare(claims: &[Claim], delta: Delta) -> Result<(), StudyFailure> {
    let mut accounting = Accounting::new(delta);
    for claim in claims {
        let site = || claim.site.to_string();
        if let Some(source) = &claim.broken {
            return Err(StudyFailure::Ledger { site: site(), source: source.clone() });
        }
        let mirrored = accounting
            .of(claim.events.iter().copied())
            .map_err(|error| StudyFailure::Accounting { site: site(), problem: error.to_string() })?;
        agree(claim, "replace", claim.epsilon_replace, mirrored.replace)?;
        agree(claim, "zero_out", claim.epsilon_zero_out, mirrored.zero_out)?;
    }
    Ok(())
}

/// A site that the mirror has seen whole must say what the mirror gives. One with unseen charges may say more, never
/// less: its events contain the mirrored ones.
fn agree(claim: &Claim, relation: &'static str, claimed: f64, recomputed: f64) -> Result<(), StudyFailure> {
    let too_low = claimed < recomputed * (1.0 - TOLERANCE);
    let too_high = claimed > recomputed * (1.0 + TOLERANCE);
    if too_low || (claim.complete && too_high) || claimed.is_nan() {
        let site = claim.site.to_string();
        return Err(StudyFailure::Disagreement { site, relation, claimed, recomputed });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
