//! Drives studies one after the other, from whatever the store says.

use std::sync::Arc;
use std::time::Duration;

use fusiondp_protocol::{Plan, StudyState};
use fusiondp_runtime::Backoff;

use super::{SharedContext, audit, check_stop, enrolment, evaluation};
use crate::error::{CoordinatorError, Interruption};
use crate::round::driver::Driver;
use crate::shared::Core;
use crate::store::{NewModel, StudyRow};

/// Runs until the process is told to stop.
pub(crate) async fn supervise(core: Arc<Core>) {
    let shutdown = core.shutdown.clone();
    shutdown.unless_triggered(supervise_forever(&core)).await;
}

async fn supervise_forever(core: &Core) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
    loop {
        match drive_next(core).await {
            Ok(true) => backoff.reset(),
            Ok(false) => core.submitted.notified().await,
            Err(fault) => {
                tracing::error!(
                    error = &fault as &dyn std::error::Error,
                    "a study is interrupted and tried again"
                );
                tokio::time::sleep(backoff.next_wait()).await;
            }
        }
    }
}

/// Drives the oldest study that has not ended to its end. False when there is none.
async fn drive_next(core: &Core) -> Result<bool, CoordinatorError> {
    let Some(row) = core.store.next_study().await? else { return Ok(false) };
    let context = match readable(core, &row).await {
        Err(fault) if row.stop_requested => {
            let detail = format!("stopped by an administrator; {fault}");
            let now_ms = core.clock.now_ms();
            core.store.end_study(&row.id, StudyState::Stopped, &detail, None, now_ms).await?;
            core.changed();
            return Ok(true);
        }
        context => context?,
    };
    let driven = drive(core, &context).await;
    core.board.withdraw_study(context.id());
    if let Err(Interruption::Fault(fault)) = &driven {
        core.store.note_study(&row.id, &format!("interrupted and tried again: {fault}")).await?;
        core.changed();
    }
    let (state, detail) = match driven {
        Ok(()) => (StudyState::Finished, String::new()),
        Err(Interruption::Stopped) => (StudyState::Stopped, "stopped by an administrator".to_owned()),
        Err(Interruption::Failed(failure)) => (StudyState::Failed, failure.to_string()),
        Err(Interruption::Fault(fault)) => return Err(fault),
    };
    end(core, &context, state, &detail).await?;
    Ok(true)
}

/// The study's context. One that this version cannot read blocks the queue until an administrator stops it, and its
/// status says so.
async fn readable(core: &Core, row: &StudyRow) -> Result<SharedContext, CoordinatorError> {
    let missing = || CoordinatorError::Missing { what: "document", study: row.id.to_string() };
    let context = core.context(&row.id).await.and_then(|found| found.ok_or_else(missing));
    let detail = match &context {
        Ok(_) => String::new(),
        Err(fault) => format!("{fault}; or end the study with `study stop`"),
    };
    if detail != row.detail {
        core.store.note_study(&row.id, &detail).await?;
        core.changed();
    }
    context
}

/// Runs a study phase by phase.
async fn drive(core: &Core, context: &SharedContext) -> Result<(), Interruption> {
    loop {
        check_stop(core, context).await?;
        let row = core.study(context.id()).await?;
        match row.state {
            StudyState::Enrolling => enrolment::run(core, context, &row).await?,
            StudyState::Running => run_rounds(core, context, &plan(&row)?).await?,
            StudyState::Evaluating => {
                evaluate(core, context, &row).await?;
                return audit::check(core, context, &plan(&row)?).await;
            }
            StudyState::Finished | StudyState::Stopped | StudyState::Failed => return Ok(()),
        }
    }
}

async fn run_rounds(core: &Core, context: &SharedContext, plan: &Plan) -> Result<(), Interruption> {
    evaluation::post_open(core, context).await?;
    let state = tokio::select! {
        state = Driver::new(core, context, plan).run() => state?,
        interruption = evaluation::collect(core, context) => return Err(interruption),
    };
    let row = core.study(context.id()).await?;
    let model = enrolment::final_model(row.model_version + 1, row.rounds_applied, &state);
    core.store.begin_evaluation(context.id(), &model).await?;
    core.changed();
    Ok(())
}

async fn evaluate(core: &Core, context: &SharedContext, row: &StudyRow) -> Result<(), Interruption> {
    evaluation::post_open(core, context).await?;
    evaluation::open_final(core, context, row).await?;
    evaluation::finish(core, context).await
}

/// Stores the end, with the model as it stands if training had begun.
async fn end(
    core: &Core,
    context: &SharedContext,
    state: StudyState,
    detail: &str,
) -> Result<(), CoordinatorError> {
    let model = last_model(core, context).await.unwrap_or_else(|fault| {
        let error = &fault as &dyn std::error::Error;
        tracing::error!(study = %context.id(), error, "the study ends without a final model");
        None
    });
    core.store.end_study(context.id(), state, detail, model.as_ref(), core.clock.now_ms()).await?;
    core.forget(context.id());
    core.changed();
    tracing::info!(study = %context.id(), %state, detail, "study ended");
    Ok(())
}

/// The final model of a study that ends before its last round.
async fn last_model(core: &Core, context: &SharedContext) -> Result<Option<NewModel>, CoordinatorError> {
    let row = core.study(context.id()).await?;
    if row.model_version == 0 || row.final_version != 0 {
        return Ok(None);
    }
    let Some((version, bytes)) = core.store.server_state(context.id()).await? else { return Ok(None) };
    let settings = context.study().server_settings();
    let state = fusiondp_learn::server::ServerState::from_bytes(context.model(), settings, &bytes)?;
    Ok(Some(enrolment::final_model(version + 1, row.rounds_applied, &state)))
}

fn plan(row: &StudyRow) -> Result<Plan, Interruption> {
    let missing = || CoordinatorError::Missing { what: "plan", study: row.id.to_string() };
    Ok(row.plan()?.ok_or_else(missing)?)
}
