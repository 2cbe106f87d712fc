//! Calls of administrators.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use fusiondp_proto::v1;
use fusiondp_proto::v1::administration_server::Administration;
use fusiondp_protocol::{
    ExportPart, ProblemType, RegisteredSite, SiteId, StudyDocument, StudyId, StudyStatus, SubmittedStudy,
    chunks,
};
use futures::Stream;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::errors::ApiError;
use super::identity;
use crate::app::Submissions;
use crate::report;
use crate::shared::Core;
use crate::store::{MAX_BLOB_BYTES, Submission};
use crate::study::{StudyContext, status};

/// Shortest time between two statuses of a watch.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);

/// Longest time between two: presence and rates change without an event.
const WATCH_REFRESH: Duration = Duration::from_secs(5);

/// Parameters, both moments of an optimizer and an averaged copy, of 4 or 8 bytes each.
const STATE_BYTES_PER_PARAMETER: u64 = 20;

/// Statuses on their way to a slow watcher.
const WATCH_BACKLOG: usize = 2;

type Items<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service that administrators call.
pub(crate) struct AdministrationService {
    core: Arc<Core>,
}

impl AdministrationService {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    async fn submit(&self, bytes: &[u8]) -> Result<SubmittedStudy, ApiError> {
        let document = StudyDocument::from_bytes(bytes)?;
        if self.core.settings.submissions == Submissions::Deployed {
            document.study().validate_for_submission()?;
        }
        let context = StudyContext::new(document).map_err(|error| invalid(error.to_string()))?;
        self.check_size(&context)?;
        let document = context.document();
        let invited = self.invited(document)?;
        let now_ms = self.core.clock.now_ms();
        let submission = self.core.store.submit_study(document, &invited, now_ms).await?;
        match submission {
            Submission::Created => {
                tracing::info!(study = %document.id(), sites = invited.len(), "study submitted");
                self.core.submitted.notify_one();
                self.core.changed();
            }
            Submission::Known => {}
            Submission::IdTaken => {
                let detail = format!("another document has the id {}; change study.name", document.id());
                return Err(ApiError::problem(ProblemType::Duplicate, detail));
            }
        }
        let created = submission == Submission::Created;
        Ok(SubmittedStudy { study_id: document.id().clone(), created })
    }

    /// Whether models and updates of a study fit the limits of a connection.
    fn check_size(&self, context: &StudyContext) -> Result<(), ApiError> {
        let (public, private) = context.update_shape(true);
        let directions = context.study().direction_values(context.model());
        let bytes = (4 * public + 8 * private).max(4 * (context.model().parameters() + directions)) as u64;
        let limit = self.core.settings.limits.max_model_bytes;
        let parameters = context.model().parameters() as u64;
        if bytes > limit {
            return Err(invalid(format!(
                "[model] has {parameters} parameters, and a model version or an update {bytes} bytes, the coordinator takes \
                 {limit}; choose smaller widths or fewer fusion.private_directions, or raise [limits] max_model_mib"
            )));
        }
        let state =
            STATE_BYTES_PER_PARAMETER.saturating_mul(parameters).saturating_add(4 * directions as u64);
        if state > MAX_BLOB_BYTES {
            return Err(invalid(format!(
                "[model] has {parameters} parameters, whose training state takes about {state} bytes, a database value \
                 holds {MAX_BLOB_BYTES}; choose smaller widths"
            )));
        }
        Ok(())
    }

    /// The sites that are offered a study: those it names, else all of the consortium.
    fn invited(&self, document: &StudyDocument) -> Result<Vec<SiteId>, ApiError> {
        let members = &self.core.settings.consortium.sites;
        let federation = &document.study().federation;
        let invited: Vec<SiteId> =
            federation.sites.clone().unwrap_or_else(|| members.iter().cloned().collect());
        if let Some(stranger) = invited.iter().find(|site| !members.contains(site)) {
            let known: Vec<&str> = members.iter().map(SiteId::as_str).collect();
            let detail = format!(
                "federation.sites names {stranger}, which is not a member of the consortium ({}); correct the name or \
                 add the site to the consortium file",
                known.join(", ")
            );
            return Err(invalid(detail));
        }
        if invited.len() < federation.min_sites as usize {
            let (count, needed) = (invited.len(), federation.min_sites);
            return Err(invalid(format!(
                "federation.min_sites is {needed} and only {count} sites can be invited; lower it or invite more"
            )));
        }
        Ok(invited)
    }

    async fn status(&self, id: &StudyId) -> Result<StudyStatus, ApiError> {
        status::status(&self.core, id).await?.ok_or_else(|| ApiError::unknown_study(id))
    }

    async fn stop(&self, id: &StudyId) -> Result<StudyStatus, ApiError> {
        let now_ms = self.core.clock.now_ms();
        let row =
            self.core.store.request_stop(id, now_ms).await?.ok_or_else(|| ApiError::unknown_study(id))?;
        // A study whose document this version cannot read is ended by the supervisor, which needs no context for it.
        if let (false, Ok(Some(context))) = (row.state.has_ended(), self.core.context(id).await) {
            context.answered.notify_one();
        }
        tracing::info!(study = %id, "stop requested");
        self.core.changed();
        self.status(id).await
    }

    async fn export(&self, id: &StudyId) -> Result<Vec<ExportPart>, ApiError> {
        let context = self.core.context(id).await?.ok_or_else(|| ApiError::unknown_study(id))?;
        let files = report::export(&self.core, &context).await?;
        let step = self.core.settings.limits.max_chunk_bytes as usize;
        let parts = files.into_iter().flat_map(|file| {
            let name = file.name;
            chunks::split(file.bytes.into(), step).map(move |data| ExportPart { file: name.clone(), data })
        });
        Ok(parts.collect())
    }

    async fn sites(&self) -> Result<Vec<RegisteredSite>, ApiError> {
        let registered = self.core.store.registered().await?;
        let site = |id: &SiteId| {
            let row = registered.iter().find(|row| row.site == *id);
            RegisteredSite {
                site_id: id.clone(),
                connected: self.core.presence.is_connected(id),
                agent_version: row.map_or_else(String::new, |row| row.agent_version.clone()),
                last_seen_ms: self.core.presence.last_seen_ms(id).or(row.map(|row| row.last_seen_ms)),
                peer_address: row.map_or_else(String::new, |row| row.peer_address.clone()),
            }
        };
        Ok(self.core.settings.consortium.sites.iter().map(site).collect())
    }
}

/// Sends a status after every change until the study has ended or nobody listens.
async fn watch(
    core: Arc<Core>,
    id: StudyId,
    mut changes: watch::Receiver<u64>,
    watcher: mpsc::Sender<Result<v1::StudyStatus, Status>>,
) {
    loop {
        changes.borrow_and_update();
        let status = match status::status(&core, &id).await {
            Ok(Some(status)) => status,
            Ok(None) => return,
            Err(fault) => {
                // Nobody listening any more is no problem.
                let _ = watcher.send(Err(ApiError::from(fault).into())).await;
                return;
            }
        };
        let ended = status.state.has_ended();
        if watcher.send(Ok(status.into())).await.is_err() || ended {
            return;
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
        tokio::select! {
            // The sender lives in the core that this task holds.
            _ = changes.changed() => {}
            () = tokio::time::sleep(WATCH_REFRESH) => {}
            () = core.shutdown.wait() => return,
            () = watcher.closed() => return,
        }
    }
}

fn invalid(detail: String) -> ApiError {
    ApiError::problem(ProblemType::StudyInvalid, detail)
}

fn study_id(text: &str) -> Result<StudyId, ApiError> {
    text.parse().map_err(|error: fusiondp_protocol::IdError| {
        ApiError::problem(ProblemType::UnknownStudy, format!("{error}; `study list` shows all"))
    })
}

#[tonic::async_trait]
impl Administration for AdministrationService {
    type WatchStudyStream = Items<v1::StudyStatus>;
    type ExportStudyStream = Items<v1::ExportChunk>;

    async fn submit_study(
        &self,
        request: Request<v1::SubmitStudyRequest>,
    ) -> Result<Response<v1::SubmitStudyResponse>, Status> {
        identity::admin(&request)?;
        Ok(Response::new(self.submit(&request.into_inner().study_toml).await?.into()))
    }

    async fn list_studies(
        &self,
        request: Request<v1::ListStudiesRequest>,
    ) -> Result<Response<v1::ListStudiesResponse>, Status> {
        identity::admin(&request)?;
        let studies = status::all(&self.core).await.map_err(ApiError::from)?;
        Ok(Response::new(v1::ListStudiesResponse { studies: studies.into_iter().map(Into::into).collect() }))
    }

    async fn get_study_status(
        &self,
        request: Request<v1::GetStudyStatusRequest>,
    ) -> Result<Response<v1::StudyStatus>, Status> {
        identity::admin(&request)?;
        let id = study_id(&request.into_inner().study_id)?;
        Ok(Response::new(self.status(&id).await?.into()))
    }

    async fn watch_study(
        &self,
        request: Request<v1::WatchStudyRequest>,
    ) -> Result<Response<Self::WatchStudyStream>, Status> {
        identity::admin(&request)?;
        let id = study_id(&request.into_inner().study_id)?;
        let changes = self.core.subscribe();
        self.status(&id).await?;
        let (sender, receiver) = mpsc::channel(WATCH_BACKLOG);
        tokio::spawn(watch(self.core.clone(), id, changes, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn stop_study(
        &self,
        request: Request<v1::StopStudyRequest>,
    ) -> Result<Response<v1::StudyStatus>, Status> {
        identity::admin(&request)?;
        let id = study_id(&request.into_inner().study_id)?;
        Ok(Response::new(self.stop(&id).await?.into()))
    }

    async fn export_study(
        &self,
        request: Request<v1::ExportStudyRequest>,
    ) -> Result<Response<Self::ExportStudyStream>, Status> {
        identity::admin(&request)?;
        let id = study_id(&request.into_inner().study_id)?;
        let parts = self.export(&id).await?;
        Ok(Response::new(Box::pin(tokio_stream::iter(parts.into_iter().map(|part| Ok(part.into()))))))
    }

    async fn list_sites(
        &self,
        request: Request<v1::ListSitesRequest>,
    ) -> Result<Response<v1::ListSitesResponse>, Status> {
        identity::admin(&request)?;
        let sites = self.sites().await?;
        Ok(Response::new(v1::ListSitesResponse { sites: sites.into_iter().map(Into::into).collect() }))
    }
}
