//! Compares each site's own epsilon with what its mirrored charges give.
//!
//! Runs beside the rounds, because one evaluation of the accountant may take longer than a round, and once more before
//! the study ends: no study finishes on figures that were not compared.

use std::time::{Duration, Instant};

use fusiondp_dp::{Delta, DpEvent, NeighboringRelation, epsilon};
use fusiondp_protocol::Plan;

use super::StudyContext;
use crate::error::{CoordinatorError, Interruption, StudyFailure};
use crate::shared::Core;
use crate::store::Claim;

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

/// Compares once.
pub(crate) async fn check(core: &Core, context: &StudyContext, plan: &Plan) -> Result<(), Interruption> {
    let claims = core.store.claims(context.id()).await?;
    let delta = plan.delta;
    let compared = tokio::task::spawn_blocking(move || compare(&claims, delta)).await;
    Ok(compared.map_err(CoordinatorError::from)??)
}

/// Recomputes every claim; equal events are accounted once.
pub(crate) fn compare(claims: &[Claim], delta: Delta) -> Result<(), StudyFailure> {
    let mut known: Vec<(Vec<DpEvent>, f64, f64)> = Vec::new();
    for claim in claims {
        if let Some(source) = &claim.broken {
            return Err(StudyFailure::Ledger { site: claim.site.to_string(), source: source.clone() });
        }
        let events = merged(&claim.events);
        let found =
            known.iter().find(|(other, _, _)| *other == events).map(|(_, replace, zero)| (*replace, *zero));
        let (replace, zero_out) = match found {
            Some(figures) => figures,
            None => {
                let figures = figures(claim, &events, delta)?;
                known.push((events, figures.0, figures.1));
                figures
            }
        };
        agree(claim, "replace", claim.epsilon_replace, replace)?;
        agree(claim, "zero_out", claim.epsilon_zero_out, zero_out)?;
    }
    Ok(())
}

fn figures(claim: &Claim, events: &[DpEvent], delta: Delta) -> Result<(f64, f64), StudyFailure> {
    let of = |relation| {
        let refused = |error: fusiondp_dp::AccountantError| StudyFailure::Accounting {
            site: claim.site.to_string(),
            problem: error.to_string(),
        };
        epsilon(events, delta, relation).map(|figure| figure.get()).map_err(refused)
    };
    Ok((of(NeighboringRelation::Replace)?, of(NeighboringRelation::ZeroOut)?))
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

/// Equal neighbors become one event of their steps together.
pub(crate) fn merged(events: &[DpEvent]) -> Vec<DpEvent> {
    let mut merged: Vec<DpEvent> = Vec::new();
    for event in events {
        match merged.last_mut().and_then(|last| Some((last.merged_with(event)?, last))) {
            Some((sum, last)) => *last = sum,
            None => merged.push(*event),
        }
    }
    merged
}

#[cfg(test)]
mod tests;
