//! A site recomputes every figure of a plan. Here a coordinator lies about one, and the real agent refuses to train.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fusiondp_dp::{Delta, Digest, Epsilon};
use fusiondp_proto::v1;
use fusiondp_proto::v1::assignment::Work;
use fusiondp_proto::v1::federation_server::{Federation, FederationServer};
use fusiondp_protocol::ids::SiteId;
use fusiondp_protocol::plan::{Plan, SiteSize};
use fusiondp_protocol::study::StudyDocument;
use fusiondp_runtime::tls::{MemoryConnector, memory_transport};
use fusiondp_runtime::{PeerIdentity, Role, Shutdown, SystemClock};
use fusiondp_site_agent::data::FileSource;
use fusiondp_site_agent::imputer::{ImputerProvider, ProviderSettings};
use fusiondp_site_agent::policy::limits::EpsilonLimit;
use fusiondp_site_agent::policy::{Approval, PolicyLimits, Purpose, UnitColumn};
use fusiondp_site_agent::store::Store;
use fusiondp_site_agent::transport::InProcess;
use fusiondp_site_agent::workers::Workers;
use fusiondp_site_agent::{RandomSource, SiteAgent, SiteParts, SiteSettings};
use fusiondp_tests::harness::{PublicColumns, small};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

/// Changes one figure of an honest plan.
type Lie = fn(&mut Plan);

/// What the lying coordinator is told and what it has heard.
struct Script {
    document: StudyDocument,
    lie: Lie,
    heard: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    enrolled: Option<v1::EnrolRequest>,
    declined: Vec<v1::DeclineRequest>,
    fetched: u32,
    updates: u32,
}

struct LyingCoordinator(Arc<Script>);

impl LyingCoordinator {
    fn offer(&self) -> Work {
        Work::Enrolment(v1::EnrolmentOffer {
            study_id: self.0.document.id().to_string(),
            study_digest: self.0.document.digest().as_bytes().to_vec().into(),
            study_toml: self.0.document.text().as_bytes().to_vec().into(),
            deadline_ms: u64::MAX,
        })
    }

    fn task(&self, enrolled: &v1::EnrolRequest) -> Work {
        let site: SiteId = "hospital-a".parse().unwrap();
        let size = SiteSize { site, units: enrolled.units, records: enrolled.records };
        let mut plan = Plan::derive(&self.0.document, &[size]).unwrap();
        (self.0.lie)(&mut plan);
        Work::Training(v1::TrainingTask {
            plan: Some(plan.into()),
            round: 1,
            model_version: 1,
            model_digest: Digest::of(b"model").as_bytes().to_vec().into(),
            attempt: 1,
            private_part: true,
            deadline_ms: u64::MAX,
        })
    }
}

#[tonic::async_trait]
impl Federation for LyingCoordinator {
    async fn register(
        &self,
        _: Request<v1::RegisterRequest>,
    ) -> Result<Response<v1::RegisterResponse>, Status> {
        Ok(Response::new(v1::RegisterResponse {
            protocol_version: 1,
            site_id: "hospital-a".to_owned(),
            consortium: "test".to_owned(),
            limits: Some(v1::Limits { max_chunk_bytes: 1 << 19, max_model_bytes: 1 << 28 }),
            server_time_ms: 1,
            newest_entry: Default::default(),
        }))
    }

    async fn next_assignment(
        &self,
        _: Request<v1::NextAssignmentRequest>,
    ) -> Result<Response<v1::Assignment>, Status> {
        let (enrolled, over) = {
            let heard = self.0.heard.lock().unwrap();
            (heard.enrolled.clone(), !heard.declined.is_empty())
        };
        let work = match enrolled {
            None => self.offer(),
            Some(enrolled) if !over => self.task(&enrolled),
            Some(_) => {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Work::Idle(v1::Idle {})
            }
        };
        Ok(Response::new(v1::Assignment { work: Some(work) }))
    }

    async fn enrol(&self, request: Request<v1::EnrolRequest>) -> Result<Response<v1::EnrolResponse>, Status> {
        self.0.heard.lock().unwrap().enrolled = Some(request.into_inner());
        Ok(Response::new(v1::EnrolResponse {}))
    }

    type FetchModelStream = tokio_stream::Empty<Result<v1::ModelChunk, Status>>;

    async fn fetch_model(
        &self,
        _: Request<v1::FetchModelRequest>,
    ) -> Result<Response<Self::FetchModelStream>, Status> {
        self.0.heard.lock().unwrap().fetched += 1;
        Ok(Response::new(tokio_stream::empty()))
    }

    async fn submit_update(
        &self,
        _: Request<Streaming<v1::UpdateChunk>>,
    ) -> Result<Response<v1::UpdateReceipt>, Status> {
        self.0.heard.lock().unwrap().updates += 1;
        Err(Status::internal("unexpected"))
    }

    async fn submit_evaluation(
        &self,
        _: Request<v1::EvaluationReport>,
    ) -> Result<Response<v1::EvaluationReceipt>, Status> {
        Err(Status::internal("unexpected"))
    }

    async fn decline(
        &self,
        request: Request<v1::DeclineRequest>,
    ) -> Result<Response<v1::DeclineResponse>, Status> {
        self.0.heard.lock().unwrap().declined.push(request.into_inner());
        Ok(Response::new(v1::DeclineResponse {}))
    }
}

async fn agent(folder: &Path, connector: MemoryConnector, shutdown: Shutdown) -> (SiteAgent, Arc<Store>) {
    let clock = Arc::new(SystemClock);
    let site = small::sites(folder, 1, 200).unwrap().remove(0);
    let limit = EpsilonLimit::try_from(50.0).unwrap();
    let policy = PolicyLimits {
        max_epsilon_replace: limit,
        max_epsilon_zero_out: limit,
        delta: Delta::new(1e-5).unwrap(),
        min_noise_multiplier: None,
        max_clip_norm: None,
        max_sampling_probability: None,
        min_units: 1,
        allow_public_gradient: true,
        allow_metrics: true,
        min_metrics_noise: None,
        per_study: Default::default(),
        per_year: Default::default(),
        records: None,
        public_columns: PublicColumns::of_sample().columns,
        unit_column: UnitColumn::EveryRecord,
        allowed_imputers: None,
        require_support_ids: false,
        approval: Approval::Automatic,
    };
    let store = Arc::new(Store::in_memory().await.unwrap());
    let imputers = ImputerProvider::new(ProviderSettings::default(), Purpose::Production, clock.clone());
    let parts = SiteParts {
        settings: SiteSettings::new(policy, None),
        source: Arc::new(FileSource::csv(site.data.join("train.csv"), Default::default(), clock.clone())),
        imputers: Arc::new(imputers),
        store: store.clone(),
        connector: Arc::new(InProcess {
            connector,
            identity: PeerIdentity::declared("hospital-a", Role::Site).unwrap(),
        }),
        random: RandomSource::Os,
        meter: Arc::default(),
        workers: Workers::per_core(),
        shutdown,
        clock,
    };
    (SiteAgent::new(parts).await.unwrap(), store)
}

/// Lets the agent meet the liar until it declines; returns what it said and the entries of its ledger.
async fn meet(lie: Lie) -> (Heard, usize) {
    let folder = tempfile::tempdir().unwrap();
    let mut study = small::split_study(5).unwrap();
    study.set("federation", "min_sites", 1).unwrap();
    let document = StudyDocument::from_bytes(study.text().as_bytes()).unwrap();
    let script = Arc::new(Script { document, lie, heard: Mutex::default() });
    let (listener, connector) = memory_transport();
    let service = FederationServer::new(LyingCoordinator(script.clone()));
    let server = tokio::spawn(Server::builder().add_service(service).serve_with_incoming(listener));
    let shutdown = Shutdown::new();
    let (agent, store) = agent(folder.path(), connector, shutdown.clone()).await;
    let running = tokio::spawn(agent.run());
    for _ in 0..400 {
        if !script.heard.lock().unwrap().declined.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    shutdown.trigger();
    running.await.unwrap().unwrap();
    server.abort();
    let entries = store.ledger_entries().await.unwrap().len();
    let heard = std::mem::take(&mut *script.heard.lock().unwrap());
    (heard, entries)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_does_not_agree_is_refused_and_nothing_is_charged() {
    let lies: [(&str, Lie); 4] = [
        ("epsilon", |plan| plan.epsilon_replace = Epsilon::new(plan.epsilon_replace.get() * 0.9).unwrap()),
        ("more rounds", |plan| plan.rounds += 1),
        ("more units", |plan| {
            plan.total_units *= 2;
            plan.total_records *= 2;
        }),
        ("clip norm", |plan| plan.clip_norm = fusiondp_dp::ClipNorm::new(7.0).unwrap()),
    ];
    for (what, lie) in lies {
        let (heard, entries) = meet(lie).await;
        let declined = heard.declined.first().unwrap_or_else(|| panic!("{what}: the site went along"));
        assert_eq!(declined.problem, "plan-mismatch", "{what}: {declined:?}");
        assert_eq!(declined.kind, v1::decline_request::Kind::Refusal as i32, "{what}");
        assert!(declined.detail.len() > 20, "{what}: {}", declined.detail);
        assert_eq!((heard.updates, entries), (0, 0), "{what}: something was charged or sent");
    }
}
