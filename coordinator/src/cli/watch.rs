//! `study watch`: follows a study until it has ended, also over restarts of the coordinator.

use std::time::Duration;

use anyhow::bail;
use fusiondp_proto::v1;
use fusiondp_protocol::{Problem, StudyState, StudyStatus};
use fusiondp_runtime::Backoff;
use fusiondp_runtime::outln;
use tonic::Status;

use super::AdminKit;
use super::admin::{self, Admin};
use super::study::print_status;
use crate::progress::{Plain, Progress};

/// Waits between attempts to reach a coordinator that has answered before.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// Shows every status until the study has ended, then the last one in full.
///
/// A coordinator that has answered once may go away and come back: that is waited for. One that has never answered, or
/// that refuses, ends the command.
pub(super) async fn watch(kit: &AdminKit, study: String) -> anyhow::Result<()> {
    let mut view =
        View { admin: kit.connect().await?, study, progress: Progress::new(Plain::Output), answered: false };
    let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
    let status = loop {
        match view.follow(&mut backoff).await? {
            Followed::Ended(status) => break status,
            Followed::Lost(reason) => view.progress.lost(&reason)?,
        }
        tokio::time::sleep(backoff.next_wait()).await;
    };
    outln!()?;
    print_status(&status)?;
    match status.state {
        StudyState::Failed => bail!("study {} failed: {}", status.study_id, status.detail),
        _ => Ok(()),
    }
}

/// How one stream of statuses came to its end.
enum Followed {
    Ended(Box<StudyStatus>),
    Lost(String),
}

struct View {
    admin: Admin,
    study: String,
    progress: Progress,
    answered: bool,
}

impl View {
    /// Follows one stream of statuses to its end. Each status that arrives begins the back-off anew.
    async fn follow(&mut self, backoff: &mut Backoff) -> anyhow::Result<Followed> {
        let request = v1::WatchStudyRequest { study_id: self.study.clone() };
        let mut statuses = match self.admin.watch_study(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return self.lost(status),
        };
        loop {
            let status = match statuses.message().await {
                Ok(Some(status)) => StudyStatus::try_from(status)?,
                Ok(None) => return Ok(Followed::Lost("the coordinator is shutting down".to_owned())),
                Err(status) => return self.lost(status),
            };
            self.answered = true;
            backoff.reset();
            self.progress.show(&status)?;
            if status.state.has_ended() {
                return Ok(Followed::Ended(Box::new(status)));
            }
        }
    }

    /// A loss that is worth waiting out, or the refusal that ends the command.
    fn lost(&self, status: Status) -> anyhow::Result<Followed> {
        let passes = Problem::from_status(&status).is_none_or(|problem| problem.is_retryable());
        let reason = admin::refusal(status);
        if passes && self.answered { Ok(Followed::Lost(reason.to_string())) } else { Err(reason) }
    }
}
