//! Drives the rounds of one study: reads the stored phase, runs its transition, stores the edge, and again.
//!
//! There is no other path: a coordinator that has just started finds the newest row and goes on from it like one that
//! has never stopped.

use std::collections::BTreeSet;

use fusiondp_learn::server::ServerState;
use fusiondp_protocol::{Plan, RoundPhase, SiteId};

use super::aggregation::{AggregationError, Applied, StoredUpdate};
use super::configuration::{TaskInput, training_task};
use super::event::RoundEvent;
use super::outcome::Next;
use super::reporting::{ReportingStep, SiteOutcome};
use super::selection::{Candidate, SelectionRule, SelectionStep};
use super::{Aggregation, Configuration, Reporting, Selection};
use crate::error::{CoordinatorError, Interruption, StudyFailure};
use crate::shared::Core;
use crate::store::{AppliedRound, RoundRow, Standing};
use crate::study::audit::Auditor;
use crate::study::enrolment::trained_model;
use crate::study::{SharedContext, check_stop, evaluation, look_again, look_again_by};

/// After a start, sites have this long to reconnect before a round goes on without some of them, in milliseconds.
const SETTLE_MS: u64 = 5_000;

/// Looks at every site's answer follow each other after this many times what one takes, unless nobody has to answer any
/// more: a look after every answer would cost the square of the number of sites.
const LOOK_EVERY: u64 = 20;

/// Drives one study's rounds.
pub(crate) struct Driver<'a> {
    core: &'a Core,
    context: &'a SharedContext,
    plan: &'a Plan,
    settle_until_ms: u64,
    /// State after the last round this process has applied, to spare reading it back.
    state: Option<(u64, ServerState)>,
    /// Attempt whose deadline this process has set or extended.
    timed: Option<super::RoundKey>,
    /// Enrolled sites that the last round went on without.
    absent: BTreeSet<SiteId>,
    /// Compares every site's figures with its receipts before a round is applied.
    auditor: Option<Auditor>,
}

impl<'a> Driver<'a> {
    /// Prepares to drive a study whose plan stands.
    pub(crate) fn new(core: &'a Core, context: &'a SharedContext, plan: &'a Plan) -> Self {
        let settle_until_ms = core.clock.now_ms().saturating_add(SETTLE_MS);
        Self {
            core,
            context,
            plan,
            settle_until_ms,
            state: None,
            timed: None,
            absent: BTreeSet::new(),
            auditor: None,
        }
    }

    /// Runs until the last round is applied, and returns the server's state then.
    pub(crate) async fn run(mut self) -> Result<ServerState, Interruption> {
        loop {
            let row = self.core.store.current_round(self.context.id()).await?;
            let row = row.ok_or_else(|| self.missing("round"))?;
            match row.phase {
                RoundPhase::Selection => self.select(&row).await?,
                RoundPhase::Configuration => self.configure(&row).await?,
                RoundPhase::Reporting => self.report(&row).await?,
                RoundPhase::Aggregation => self.aggregate(&row).await?,
                RoundPhase::Finished => return self.server_state(row.key.model_version + 1).await,
                RoundPhase::Abandoned => return Err(self.given_up(row)),
            }
            self.core.changed();
        }
    }

    async fn select(&mut self, row: &RoundRow) -> Result<(), Interruption> {
        evaluation::open_due(self.core, self.context, row.key).await?;
        let mut last = String::new();
        loop {
            check_stop(self.core, self.context).await?;
            let candidates = self.candidates(row).await?;
            let min_sites = self.context.study().federation.min_sites;
            let rule = SelectionRule { min_sites, settle_until_ms: self.settle_until_ms };
            let step = Selection::new(row.key).choose(&candidates, rule, self.core.clock.now_ms());
            match step.map_err(StudyFailure::from)? {
                SelectionStep::Selected(chosen) => {
                    RoundEvent::Selected(&chosen).log(self.context.id());
                    return Ok(self.core.store.edge_selected(self.context.id(), &chosen).await?);
                }
                SelectionStep::Waiting(_, waiting) => {
                    let detail = waiting.to_string();
                    if detail != last {
                        RoundEvent::Waiting(row.key, &waiting).log(self.context.id());
                        self.core.store.note_waiting(self.context.id(), row.key, &detail).await?;
                        self.core.changed();
                        last = detail;
                    }
                }
            }
            look_again(self.core.presence.arrival()).await;
        }
    }

    async fn candidates(&self, row: &RoundRow) -> Result<Vec<Candidate>, Interruption> {
        let reported: BTreeSet<SiteId> = if row.key.attempt > 1 {
            self.core.store.reported_sites(self.context.id(), row.key.round).await?
        } else {
            BTreeSet::new()
        };
        let sites = self.core.store.study_sites(self.context.id()).await?;
        let enrolled = sites.into_iter().filter(|site| site.standing == Standing::Enrolled);
        let candidate = |site: SiteId| Candidate {
            connected: self.core.presence.is_connected(&site),
            reported: reported.contains(&site),
            site,
        };
        Ok(enrolled.map(|row| candidate(row.site)).collect())
    }

    async fn configure(&mut self, row: &RoundRow) -> Result<(), Interruption> {
        let selected = self.core.store.outcomes(self.context.id(), row.key).await?.into_keys().collect();
        let input = self.task_input(row, self.core.round_deadline(self.context)).await?;
        let reporting =
            Configuration::new(row.key, selected).configure(&input).map_err(StudyFailure::from)?;
        let deadline_ms = reporting.deadline_ms();
        self.core.store.edge_configured(self.context.id(), row.key, deadline_ms).await?;
        self.timed = Some(row.key);
        RoundEvent::Configured(row.key, deadline_ms).log(self.context.id());
        Ok(())
    }

    async fn report(&mut self, row: &RoundRow) -> Result<(), Interruption> {
        let deadline_ms = self.deadline_in_force(row).await?;
        let input = self.task_input(row, deadline_ms).await?;
        let task = training_task(row.key, &input);
        let reporting = self.reporting(row, deadline_ms).await?;
        self.core.board.post_training(reporting.working(), &task);
        loop {
            let answered = self.context.answered.notified();
            let look_ms = self.core.clock.now_ms();
            let reporting = self.reporting(row, deadline_ms).await?;
            let took_ms = self.core.clock.now_ms().saturating_sub(look_ms);
            // Whoever has answered has no task, also if its call broke off between the answer and its withdrawal: a
            // task that is taken again is paid for again.
            self.core.board.keep_training(self.context.id(), &reporting);
            let min_sites = self.context.study().federation.min_sites;
            match reporting.step(min_sites, self.core.clock.now_ms()) {
                ReportingStep::Waiting(waiting) => {
                    look_again_by(self.core, deadline_ms, answered).await;
                    self.rest(&waiting, look_ms + LOOK_EVERY * took_ms).await?;
                }
                ReportingStep::Complete(aggregation) => return self.close_reporting(&aggregation).await,
                ReportingStep::Short(abandoned) => return self.abandon(abandoned).await,
            }
        }
    }

    /// Waits until `until_ms`, or until nobody has to answer any more.
    async fn rest(&self, waiting: &Reporting, until_ms: u64) -> Result<(), Interruption> {
        let until_ms = until_ms.min(waiting.deadline_ms());
        while self.core.clock.now_ms() < until_ms
            && self.core.store.someone_is_working(self.context.id(), waiting.key()).await?
        {
            look_again_by(self.core, until_ms, self.context.answered.notified()).await;
        }
        Ok(())
    }

    async fn close_reporting(&mut self, aggregation: &Aggregation) -> Result<(), Interruption> {
        // Before the edge: a task that is taken after it would be paid for and count nothing.
        self.core.board.withdraw_round(self.context.id());
        self.core.store.edge_reported(self.context.id(), aggregation.key()).await?;
        RoundEvent::Reported(aggregation).log(self.context.id());
        self.note_absent(aggregation).await
    }

    /// Says once who has begun to be absent, and once who is back: the report counts rounds, the log is for now.
    async fn note_absent(&mut self, aggregation: &Aggregation) -> Result<(), Interruption> {
        let sites = self.core.store.study_sites(self.context.id()).await?;
        let enrolled = sites.into_iter().filter(|site| site.standing == Standing::Enrolled);
        let absent: BTreeSet<SiteId> =
            enrolled.map(|row| row.site).filter(|site| !aggregation.reported().contains(site)).collect();
        for site in absent.difference(&self.absent) {
            RoundEvent::Without(aggregation.key(), site).log(self.context.id());
        }
        for site in self.absent.intersection(aggregation.reported()) {
            RoundEvent::Again(aggregation.key(), site).log(self.context.id());
        }
        self.absent = absent;
        Ok(())
    }

    async fn abandon(&self, abandoned: super::Abandoned) -> Result<(), Interruption> {
        RoundEvent::Abandoned(&abandoned).log(self.context.id());
        self.core.board.withdraw_round(self.context.id());
        let next = abandoned.clone().next(self.context.study().federation.max_round_attempts);
        let now_ms = self.core.clock.now_ms();
        self.core.store.edge_abandoned(self.context.id(), &abandoned, next.as_ref().ok(), now_ms).await?;
        next.map_err(StudyFailure::from)?;
        Ok(())
    }

    async fn aggregate(&mut self, row: &RoundRow) -> Result<(), Interruption> {
        let updates = self.core.store.accepted_updates(self.context.id(), row.key.round).await?;
        let outcomes = self.core.store.outcomes(self.context.id(), row.key).await?;
        let reported = outcomes.into_iter().filter(|(_, outcome)| *outcome == SiteOutcome::Reported);
        let aggregation = Aggregation::new(row.key, reported.map(|(site, _)| site).collect());
        let state = self.server_state(row.key.model_version).await?;
        let work =
            Step { context: self.context.clone(), plan: self.plan.clone(), aggregation, state, updates };
        let auditor =
            self.auditor.take().unwrap_or_else(|| Auditor::new(self.plan.delta, self.context.protects()));
        // Side by side; the round is applied only if both succeed.
        let audited = auditor.check(self.core, self.context);
        let ((applied, round), auditor) = tokio::try_join!(work.run(), audited)?;
        self.auditor = Some(auditor);
        self.core.store.edge_finished(self.context.id(), &round, self.core.clock.now_ms()).await?;
        RoundEvent::Finished(row.key, applied.public_loss).log(self.context.id());
        let model = round.model;
        self.core.cache_model(self.context.id(), model.version, model.digest, model.parameters.into());
        self.state = Some((model.version, applied.state));
        Ok(())
    }

    async fn reporting(&self, row: &RoundRow, deadline_ms: u64) -> Result<Reporting, Interruption> {
        let outcomes = self.core.store.outcomes(self.context.id(), row.key).await?;
        Ok(Reporting::new(row.key, deadline_ms, outcomes))
    }

    /// The stored deadline, or a new one if this process finds the task already out: the time it was down is not the
    /// sites' fault, and an abandoned attempt would cost them budget.
    async fn deadline_in_force(&mut self, row: &RoundRow) -> Result<u64, Interruption> {
        let stored = row.deadline_ms.unwrap_or(0);
        if self.timed == Some(row.key) {
            return Ok(stored);
        }
        let deadline_ms = stored.max(self.core.round_deadline(self.context));
        self.core.store.extend_deadline(self.context.id(), row.key, deadline_ms).await?;
        self.timed = Some(row.key);
        Ok(deadline_ms)
    }

    async fn task_input(&self, row: &RoundRow, deadline_ms: u64) -> Result<TaskInput<'a>, Interruption> {
        let version = row.key.model_version;
        let model = self.core.model(self.context.id(), version).await?;
        let (model_digest, _) = model.ok_or_else(|| self.missing("model version"))?;
        let newest = self.core.study(self.context.id()).await?;
        Ok(TaskInput { plan: self.plan, newest_version: newest.model_version, model_digest, deadline_ms })
    }

    /// The server's state that belongs to a model version.
    async fn server_state(&mut self, version: u64) -> Result<ServerState, Interruption> {
        if let Some((_, state)) = self.state.take_if(|(kept, _)| *kept == version) {
            return Ok(state);
        }
        let stored = self.core.store.server_state(self.context.id()).await?;
        let (found, bytes) = stored.ok_or_else(|| self.missing("server state"))?;
        if found != version {
            return Err(self.missing("server state of the newest model").into());
        }
        let settings = self.context.study().server_settings();
        let state = ServerState::from_bytes(self.context.model(), settings, &bytes);
        Ok(state.map_err(CoordinatorError::from)?)
    }

    /// A coordinator that died between giving up and saying so.
    fn given_up(&self, row: RoundRow) -> Interruption {
        let abandoned = super::Abandoned::new(row.key, row.detail);
        match abandoned.next(row.key.attempt) {
            Err(given_up) => StudyFailure::from(given_up).into(),
            Ok(_) => self.missing("next attempt").into(),
        }
    }

    fn missing(&self, what: &'static str) -> CoordinatorError {
        CoordinatorError::Missing { what, study: self.context.id().to_string() }
    }
}

/// Everything that a server step depends on.
struct Step {
    context: SharedContext,
    plan: Plan,
    aggregation: Aggregation,
    state: ServerState,
    updates: Vec<StoredUpdate>,
}

impl Step {
    /// The step and its storable form, off the async threads.
    async fn run(self) -> Result<(Applied, AppliedRound), Interruption> {
        let computed =
            tokio::task::spawn_blocking(|| self.compute()).await.map_err(CoordinatorError::from)?;
        Ok(computed.map_err(StudyFailure::from)?)
    }

    fn compute(self) -> Result<(Applied, AppliedRound), AggregationError> {
        let kind = self.context.update_kind(&self.plan);
        let key = self.aggregation.key();
        let mut applied = self.aggregation.apply(self.state, self.updates, &kind)?;
        // A loss is computed from whole records: where these are protected, sites send none.
        applied.public_loss = applied.public_loss.filter(|_| !self.context.study().noises_public_part());
        let next_is_private = self.plan.is_private_round(key.round + 1);
        let version = applied.finished.new_version();
        let model = trained_model(version, key.round, &applied.state, next_is_private);
        let next = match applied.finished.clone().next(self.plan.rounds) {
            Next::Round(selection) => Some(selection.key()),
            Next::Done => None,
        };
        let round = AppliedRound { key, model, public_loss: applied.public_loss, next };
        Ok((applied, round))
    }
}
