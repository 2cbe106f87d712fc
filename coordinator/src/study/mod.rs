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

use crate::error::Interruption;
use crate::shared::Core;

/// Longest wait, so that a deadline, a clock that jumps or a test's clock is noticed.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Waits for an event or a moment: either is a reason to look at the store again.
pub(crate) async fn look_again(event: impl Future<Output = ()>) {
    let _ = tokio::time::timeout(LONGEST_PAUSE, event).await;
}

/// As [`look_again`], but not beyond `deadline_ms`.
pub(crate) async fn look_again_by(core: &Core, deadline_ms: u64, event: impl Future<Output = ()>) {
    let left = Duration::from_millis(deadline_ms.saturating_sub(core.clock.now_ms()));
    let _ = tokio::time::timeout(left.min(LONGEST_PAUSE), event).await;
}

/// Whether an administrator wants the study to end.
pub(crate) async fn check_stop(core: &Core, context: &StudyContext) -> Result<(), Interruption> {
    if core.study(context.id()).await?.stop_requested { Err(Interruption::Stopped) } else { Ok(()) }
}
