//! Calls of sites.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use fusiondp_proto::v1;
use fusiondp_proto::v1::federation_server::Federation;
use fusiondp_protocol::{
    Assignment, Decline, DeclineKind, DeclinedTask, Enrolment, EvaluationReport, ModelHeader, ModelPart,
    ModelRequest, PROTOCOL_VERSION, Poll, ProblemType, Registered, Registration, SiteId, StudyId,
    UpdateHeader, UpdateOutcome, chunks,
};
use futures::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::errors::ApiError;
use super::keys::{self, Caller};
use super::update::{self, Expected};
use super::{identity, metrics};
use crate::round::reporting::SiteOutcome;
use crate::shared::Core;
use crate::store::{
    DeclinedTraining, NewUpdate, RegisteredRow, ReportReceipt, Standing, StudyRow, StudySiteRow,
};
use crate::study::{SharedContext, evaluation};

/// For one upload, its wait for the one before it included: the largest model over a line of one MiB per second takes
/// a quarter of an hour.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(1_800);

/// Wait before a poll looks at the board again while an offer is held back.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// A stream of chunks.
type Chunks<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service that sites call.
pub(crate) struct FederationService {
    core: Arc<Core>,
}

impl FederationService {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    async fn register_site(&self, request: Request<v1::RegisterRequest>) -> Result<Registered, ApiError> {
        let caller = identity::caller(&self.core, &request)?;
        let peer_address = identity::address(&request);
        let registration = Registration::try_from(request.into_inner())?;
        check_version(&caller.site, registration.protocol_version)?;
        if let Some(statement) = &registration.key_statement {
            keys::keep_statement(&self.core, &caller, statement).await?;
        }
        let site = caller.site;
        let limits = self.core.settings.limits.negotiate(registration.limits);
        let now_ms = self.core.clock.now_ms();
        self.core.presence.registered(&site, limits);
        let newest_entry = self.core.store.newest_entry(&site).await?;
        let agent_version = registration.agent_version;
        let row = RegisteredRow { site: site.clone(), agent_version, peer_address, last_seen_ms: now_ms };
        self.core.store.record_registration(&row).await?;
        tracing::info!(%site, agent_version = row.agent_version, peer = row.peer_address, "site registered");
        Ok(Registered {
            protocol_version: PROTOCOL_VERSION,
            site_id: site,
            consortium: self.core.settings.consortium.name.clone(),
            limits,
            server_time_ms: now_ms,
            newest_entry,
        })
    }

    async fn next_for(&self, site: &SiteId, poll: Poll) -> Result<Assignment, ApiError> {
        let guard = self.core.presence.poll(site);
        let wait = Duration::from_millis(u64::from(poll.wait_ms));
        let assignment = tokio::select! {
            assignment = self.wait_for_work(site) => assignment,
            () = tokio::time::sleep(wait) => Assignment::Idle,
            () = self.core.shutdown.wait() => {
                let detail = "the coordinator is shutting down; connect again later";
                return Err(ApiError::problem(ProblemType::ShuttingDown, detail));
            }
        };
        guard.answered();
        Ok(assignment)
    }

    async fn wait_for_work(&self, site: &SiteId) -> Assignment {
        let (_, changed) = self.core.board.next(site, self.core.clock.now_ms());
        loop {
            let mut change = std::pin::pin!(changed.notified());
            // Listens before it looks, so that nothing posted in between is missed.
            change.as_mut().enable();
            if let (Some(assignment), _) = self.core.board.next(site, self.core.clock.now_ms()) {
                return assignment;
            }
            match self.core.board.holds_back(site, self.core.clock.now_ms()) {
                false => change.await,
                true => drop(tokio::time::timeout(LOOK_AGAIN, change).await),
            }
        }
    }

    async fn enrol_site(&self, caller: Caller, enrolment: Enrolment) -> Result<(), ApiError> {
        let context = self.context(&enrolment.study_id).await?;
        let site = &caller.site;
        if enrolment.study_digest != context.digest() {
            let detail =
                format!("site {site} has checked other bytes than were submitted; fetch the offer again");
            return Err(ApiError::problem(ProblemType::StudyDigestMismatch, detail));
        }
        let binding = keys::check_enrolment(&self.core, &caller, &enrolment).await?;
        self.core.board.withdraw_enrolment(site, context.id());
        self.invited(context.id(), site).await?;
        if self.core.store.record_enrolment(site, &enrolment).await? {
            keys::note(&self.core, site, &enrolment, binding).await?;
            tracing::info!(%site, study = %context.id(), units = enrolment.units, "site enrolled");
            self.answered(&context);
            return Ok(());
        }
        // Said before, or too late.
        match self.invited(context.id(), site).await?.standing {
            Standing::Enrolled => Ok(()),
            Standing::Invited | Standing::Declined => Err(stale("enrollment has closed without this site")),
        }
    }

    /// Takes one update at a time from each site, within a time that no honest upload needs.
    async fn accept_update(
        &self,
        site: SiteId,
        stream: Streaming<v1::UpdateChunk>,
    ) -> Result<UpdateOutcome, ApiError> {
        let turn = self.core.presence.uploads(&site);
        let receiving = async {
            let _turn = turn.lock().await;
            self.receive_update(site, stream).await
        };
        tokio::time::timeout(UPLOAD_TIMEOUT, receiving).await.map_err(|_| {
            let detail =
                format!("the update did not arrive within {} s; send it again", UPLOAD_TIMEOUT.as_secs());
            ApiError::problem(ProblemType::DigestMismatch, detail)
        })?
    }

    async fn receive_update(
        &self,
        site: SiteId,
        mut stream: Streaming<v1::UpdateChunk>,
    ) -> Result<UpdateOutcome, ApiError> {
        let header = update::read_header(&mut stream).await?;
        let (context, row) = self.study(&header.study_id).await?;
        let plan = row.plan()?.ok_or_else(|| stale("the study has no plan yet"))?;
        let enrolled = self.enrolled(context.id(), &site).await?;
        let model = self.core.model(context.id(), header.model_version).await?;
        let (plan, enrolled, model_digest) = (&plan, &enrolled, model.map(|(digest, _)| digest));
        let expected = Expected { context: &context, plan, enrolled, model_digest };
        update::check_header(&expected, &header)?;
        let limits = self.core.presence.limits(&site, self.core.settings.limits);
        let payload = update::read_payload(&mut stream, &header, limits).await?;
        update::check_public_values(plan, &header, &payload)?;
        self.store_update(&context, NewUpdate { site, header, payload }).await
    }

    async fn store_update(
        &self,
        context: &SharedContext,
        update: NewUpdate,
    ) -> Result<UpdateOutcome, ApiError> {
        // A refused update belongs to no task that was given out; the one that is out stays.
        let outcome = self.core.store.record_update(&update, self.core.clock.now_ms()).await??;
        let UpdateHeader { round, attempt, .. } = update.header;
        // Counted, late or known: the site has answered the task.
        self.core.board.withdraw_training(&update.site, context.id(), round, None);
        tracing::debug!(site = %update.site, study = %context.id(), round, attempt, ?outcome, "update received");
        self.answered(context);
        Ok(outcome)
    }

    async fn accept_report(&self, site: SiteId, report: EvaluationReport) -> Result<(), ApiError> {
        let (context, row) = self.study(&report.study_id).await?;
        let enrolled = self.enrolled(context.id(), &site).await?;
        let model = self.core.model(context.id(), report.model_version).await?;
        let (enrolled, model_digest) = (&enrolled, model.map(|(digest, _)| digest));
        metrics::check_report(&metrics::Expected { context: &context, enrolled, model_digest }, &report)?;
        if !evaluation::takes_reports(row.state) {
            // Its figures count no more; what paid for a table was charged all the same.
            self.core.store.mirror_late_counts(&site, &report, self.core.clock.now_ms()).await?;
            return Err(ended(&row));
        }
        let receipt = self.core.store.record_evaluation(&site, &report, self.core.clock.now_ms()).await?;
        let cohort = Some(&report.cohort);
        self.core.board.withdraw_evaluation(&site, context.id(), report.model_version, cohort);
        if receipt == ReportReceipt::NotAsked {
            return Err(stale("this site was not asked to evaluate that version on that cohort"));
        }
        context.evaluated.notify_one();
        Ok(())
    }

    async fn accept_decline(&self, site: SiteId, decline: Decline) -> Result<(), ApiError> {
        let context = self.context(&decline.study_id).await?;
        let detail = decline.problem.to_string();
        if decline.problem.kind != ProblemType::ApprovalPending {
            tracing::warn!(%site, study = %context.id(), kind = ?decline.kind, task = ?decline.task, detail, "site declined");
        }
        match decline.task {
            DeclinedTask::Enrolment if decline.problem.kind == ProblemType::ApprovalPending => {
                return self.wait_for_approval(&context, &site, &detail).await;
            }
            DeclinedTask::Enrolment => self.decline_enrolment(&context, &site, &detail).await?,
            DeclinedTask::Training { round, attempt } => {
                self.decline_training(&context, &site, (round, attempt), decline.kind, &detail).await?;
            }
            DeclinedTask::Evaluation { model_version } => {
                let store = &self.core.store;
                store.record_evaluation_decline(context.id(), model_version, &site, &detail).await?;
                self.core.board.withdraw_evaluation(&site, context.id(), model_version, None);
                context.evaluated.notify_one();
            }
        }
        self.answered(&context);
        Ok(())
    }

    /// Somebody at the site has to decide: the offer stays open until enrollment ends.
    async fn wait_for_approval(
        &self,
        context: &SharedContext,
        site: &SiteId,
        detail: &str,
    ) -> Result<(), ApiError> {
        self.invited(context.id(), site).await?;
        self.core.board.postpone_enrolment(site, context.id(), self.core.clock.now_ms());
        if self.core.store.record_approval_pending(context.id(), site, detail).await? {
            tracing::info!(%site, study = %context.id(), "the site has to approve the study");
            self.core.changed();
        }
        Ok(())
    }

    async fn decline_enrolment(
        &self,
        context: &SharedContext,
        site: &SiteId,
        detail: &str,
    ) -> Result<(), ApiError> {
        self.invited(context.id(), site).await?;
        self.core.board.withdraw_enrolment(site, context.id());
        Ok(self.core.store.record_enrolment_decline(context.id(), site, detail).await?)
    }

    async fn decline_training(
        &self,
        context: &SharedContext,
        site: &SiteId,
        (round, attempt): (u32, u32),
        kind: DeclineKind,
        detail: &str,
    ) -> Result<(), ApiError> {
        self.enrolled(context.id(), site).await?;
        // A failure is of one attempt: the site may be able to do the next one, whose task may be out already.
        let (outcome, answered) = match kind {
            DeclineKind::Refusal => (SiteOutcome::Refused, None),
            DeclineKind::Failure => (SiteOutcome::Failed, Some(attempt)),
        };
        let declined = DeclinedTraining { site, round, attempt, outcome, detail };
        let now_ms = self.core.clock.now_ms();
        if self.core.store.record_training_decline(context.id(), &declined, now_ms).await? {
            self.core.board.withdraw_training(site, context.id(), round, answered);
        }
        Ok(())
    }

    async fn model_stream(
        &self,
        site: SiteId,
        request: ModelRequest,
    ) -> Result<Chunks<v1::ModelChunk>, ApiError> {
        self.enrolled(&request.study_id, &site).await?;
        let found = self.core.model(&request.study_id, request.model_version).await?;
        let Some((digest, bytes)) = found else {
            let detail = format!(
                "model version {} of study {} is not kept; ask for the next assignment",
                request.model_version, request.study_id
            );
            return Err(ApiError::problem(ProblemType::UnknownModelVersion, detail));
        };
        let limits = self.core.presence.limits(&site, self.core.settings.limits);
        if bytes.len() as u64 > limits.max_model_bytes {
            let detail =
                format!("the model has {} bytes, this site takes {}", bytes.len(), limits.max_model_bytes);
            return Err(ApiError::problem(ProblemType::TooLarge, detail));
        }
        let parameters = bytes.len() as u64 / 4;
        let header = ModelHeader { model_version: request.model_version, parameters, digest };
        let data = chunks::split(bytes, limits.max_chunk_bytes as usize).map(ModelPart::Data);
        let parts = std::iter::once(ModelPart::Header(header)).chain(data);
        Ok(Box::pin(tokio_stream::iter(parts.map(|part| Ok(part.into())))))
    }

    /// The study, known to exist.
    async fn context(&self, id: &StudyId) -> Result<SharedContext, ApiError> {
        self.core.context(id).await?.ok_or_else(|| ApiError::unknown_study(id))
    }

    /// The study with its row. One that has ended still reads late updates and tables of counts: their charges belong into the
    /// mirror.
    async fn study(&self, id: &StudyId) -> Result<(SharedContext, StudyRow), ApiError> {
        let context = self.context(id).await?;
        let row = self.core.store.study(id).await?.ok_or_else(|| ApiError::unknown_study(id))?;
        Ok((context, row))
    }

    /// Where the site stands in the study; an error if it was never invited.
    async fn invited(&self, id: &StudyId, site: &SiteId) -> Result<StudySiteRow, ApiError> {
        self.core.store.study_site(id, site).await?.ok_or_else(|| not_enrolled(id, site))
    }

    /// The site as it has enrolled; one that has left since still belongs to its updates.
    async fn enrolled(&self, id: &StudyId, site: &SiteId) -> Result<StudySiteRow, ApiError> {
        let row = self.invited(id, site).await?;
        if row.units > 0 { Ok(row) } else { Err(not_enrolled(id, site)) }
    }

    fn answered(&self, context: &SharedContext) {
        context.answered.notify_one();
        self.core.changed();
    }
}

fn check_version(site: &SiteId, version: u32) -> Result<(), ApiError> {
    if version == PROTOCOL_VERSION {
        return Ok(());
    }
    let detail = format!(
        "site {site} speaks protocol version {version}, this coordinator speaks {PROTOCOL_VERSION}; \
         install the release of the site agent that belongs to the coordinator's"
    );
    Err(ApiError::problem(ProblemType::ProtocolVersionMismatch, detail))
}

fn not_enrolled(id: &StudyId, site: &SiteId) -> ApiError {
    let detail = format!("site {site} takes no part in study {id}; ask for the next assignment");
    ApiError::problem(ProblemType::NotEnrolled, detail)
}

fn stale(what: &str) -> ApiError {
    ApiError::problem(ProblemType::StaleTask, format!("{what}; ask for the next assignment"))
}

fn ended(row: &StudyRow) -> ApiError {
    let detail = format!("study {} has ended ({}); ask for the next assignment", row.id, row.state);
    ApiError::problem(ProblemType::StudyEnded, detail)
}

#[tonic::async_trait]
impl Federation for FederationService {
    type FetchModelStream = Chunks<v1::ModelChunk>;

    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<v1::RegisterResponse>, Status> {
        Ok(Response::new(self.register_site(request).await?.into()))
    }

    async fn next_assignment(
        &self,
        request: Request<v1::NextAssignmentRequest>,
    ) -> Result<Response<v1::Assignment>, Status> {
        let site = identity::site(&self.core, &request)?;
        let poll = Poll::try_from(request.into_inner()).map_err(ApiError::from)?;
        Ok(Response::new(self.next_for(&site, poll).await?.into()))
    }

    async fn enrol(&self, request: Request<v1::EnrolRequest>) -> Result<Response<v1::EnrolResponse>, Status> {
        let caller = identity::caller(&self.core, &request)?;
        let enrolment = Enrolment::try_from(request.into_inner()).map_err(ApiError::from)?;
        self.enrol_site(caller, enrolment).await?;
        Ok(Response::new(v1::EnrolResponse {}))
    }

    async fn fetch_model(
        &self,
        request: Request<v1::FetchModelRequest>,
    ) -> Result<Response<Self::FetchModelStream>, Status> {
        let site = identity::site(&self.core, &request)?;
        let wanted = ModelRequest::try_from(request.into_inner()).map_err(ApiError::from)?;
        Ok(Response::new(self.model_stream(site, wanted).await?))
    }

    async fn submit_update(
        &self,
        request: Request<Streaming<v1::UpdateChunk>>,
    ) -> Result<Response<v1::UpdateReceipt>, Status> {
        let site = identity::site(&self.core, &request)?;
        Ok(Response::new(self.accept_update(site, request.into_inner()).await?.into()))
    }

    async fn submit_evaluation(
        &self,
        request: Request<v1::EvaluationReport>,
    ) -> Result<Response<v1::EvaluationReceipt>, Status> {
        let site = identity::site(&self.core, &request)?;
        let report = EvaluationReport::try_from(request.into_inner()).map_err(ApiError::from)?;
        self.accept_report(site, report).await?;
        Ok(Response::new(v1::EvaluationReceipt {}))
    }

    async fn decline(
        &self,
        request: Request<v1::DeclineRequest>,
    ) -> Result<Response<v1::DeclineResponse>, Status> {
        let site = identity::site(&self.core, &request)?;
        let decline = Decline::try_from(request.into_inner()).map_err(ApiError::from)?;
        self.accept_decline(site, decline).await?;
        Ok(Response::new(v1::DeclineResponse {}))
    }
}
