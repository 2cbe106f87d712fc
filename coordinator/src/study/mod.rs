//! A study from submission to its end.
//!
//! ```text
//! submitted ──▶ enrolling ──▶ running ──▶ evaluating ──▶ finished
//!                   │            │            │
//!                   └────────────┴────────────┴──▶ stopped | failed
//! ```
//!
//! One study is driven at a time, the oldest first; those submitted meanwhile stay in `enrolling` without being offered
//! to anybody until it is their turn. Every edge is persisted before anybody acts on it.

pub(crate) mod accounting;
pub(crate) mod audit;
mod context;
pub(crate) mod enrolment;
pub(crate) mod evaluation;
pub(crate) mod status;
pub(crate) mod supervisor;
#[cfg(test)]
pub(crate) mod testing;

use std::time::Duration;

pub(crate) use context::{SharedContext, StudyContext, model_of};

use crate::error::{CoordinatorError, Interruption};
use crate::shared::Core;

/// Longest sleep, so that a clock that jumps, or a test's clock, is noticed.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Waits for an event, at most for `limit`.
pub(crate) async fn pause(event: impl Future<Output = ()>, limit: Duration) {
    // An elapsed limit is as good a reason to look again as the event.
    let _ = tokio::time::timeout(limit.min(LONGEST_PAUSE), event).await;
}

/// Whether an administrator wants the study to end.
pub(crate) async fn check_stop(core: &Core, context: &StudyContext) -> Result<(), Interruption> {
    let row = core.store.study(context.id()).await?;
    let missing = || CoordinatorError::Missing { what: "row", study: context.id().to_string() };
    if row.ok_or_else(missing)?.stop_requested { Err(Interruption::Stopped) } else { Ok(()) }
}
