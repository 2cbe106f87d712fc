//! A coordinator over memory, its administrator, and small studies.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use fusiondp_coordinator::{Consortium, Coordinator, CoordinatorSettings, RunningCoordinator, Submissions};
use fusiondp_coordinator::{Store, StoreOptions};
use fusiondp_proto::v1;
use fusiondp_proto::v1::administration_client::AdministrationClient;
use fusiondp_protocol::{ExportPart, Limits, StudyDocument, StudyId, StudyStatus, SubmittedStudy};
use fusiondp_runtime::tls::{Authority, MemoryConnector, memory_transport};
use fusiondp_runtime::{PeerIdentity, Role, Shutdown, SystemClock};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::fake::{Behavior, FakeSite};

/// One public and one sensitive column, a linear model, public and private part; with short deadlines and an evaluation.
pub(crate) static STUDY: LazyLock<String> = LazyLock::new(|| {
    let small = include_str!("../data/study.toml");
    let edits = [
        ("name = \"small\"", "name = \"small <study> & more\""),
        (
            "min_sites = 2\n",
            "min_sites = 2\nenrolment_timeout_s = 2\nround_timeout_s = 2\nmax_round_attempts = 3\n\
             [evaluation]\nrelease = \"summary\"\nevery_rounds = 2\nduring = \"val\"\nfinal_cohort = \"test\"\n",
        ),
    ];
    edited(small, &edits)
});

/// The document of [`STUDY`] after edits.
pub(crate) fn document(edits: &[(&str, &str)]) -> StudyDocument {
    StudyDocument::from_bytes(edited(&STUDY, edits).as_bytes()).unwrap()
}

fn edited(text: &str, edits: &[(&str, &str)]) -> String {
    let edit = |text: String, (from, to): &(&str, &str)| {
        assert_eq!(text.matches(from).count(), 1, "{from:?} must occur once");
        text.replace(from, to)
    };
    edits.iter().fold(text.to_owned(), edit)
}

/// A database of this state folder's own, where FUSIONDP_TEST_DATABASE_URL names a database on a PostgreSQL whose user may
/// create more, in a build that has the driver.
pub(crate) async fn database_url(folder: &Path) -> Option<String> {
    let server = std::env::var("FUSIONDP_TEST_DATABASE_URL").ok()?;
    sqlx::any::install_default_drivers();
    let name: String = folder.to_string_lossy().chars().filter(char::is_ascii_alphanumeric).collect();
    let name = format!("fusiondp{}", name.to_lowercase());
    let mut connection = sqlx::AnyConnection::connect(&server).await.unwrap();
    // After a restart it is there.
    let _ = connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await;
    connection.close().await.unwrap();
    Some(format!("{}/{name}", server.rsplit_once('/').unwrap().0))
}

pub(crate) async fn open_store(folder: &Path) -> Store {
    let options = StoreOptions { state_dir: folder.to_owned(), database_url: database_url(folder).await };
    // A coordinator that was dropped a moment ago frees the folder when its last task has ended.
    for _ in 0..200 {
        match Store::open(&options).await {
            Ok(store) => return store,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    Store::open(&options).await.unwrap()
}

/// A running coordinator of a consortium, with its sites.
pub(crate) struct Federation {
    pub(crate) connector: MemoryConnector,
    pub(crate) store: Store,
    pub(crate) admin: AdministrationClient<Channel>,
    pub(crate) sites: JoinSet<FakeSite>,
    coordinator: RunningCoordinator,
    shutdown: Shutdown,
}

impl Federation {
    /// A coordinator on the state in `folder` whose consortium has these sites.
    pub(crate) async fn start(folder: &Path, members: &[&str]) -> Self {
        Self::start_under(folder, members, None).await
    }

    /// The same with an authority that tells whose ledger keys are.
    pub(crate) async fn start_under(folder: &Path, members: &[&str], authority: Option<Authority>) -> Self {
        let store = open_store(folder).await;
        let sites = members.iter().map(|id| id.parse().unwrap()).collect();
        let settings = CoordinatorSettings {
            consortium: Consortium { name: "tests".into(), sites },
            limits: Limits::default(),
            submissions: Submissions::Deployed,
            authority,
        };
        let (listener, connector) = memory_transport();
        let shutdown = Shutdown::new();
        let clock = Arc::new(SystemClock);
        let coordinator = Coordinator::start(settings, store.clone(), listener, shutdown.clone(), clock);
        let admin = AdministrationClient::new(channel(&connector, "admin", Role::Admin));
        let admin = admin.max_decoding_message_size(64 << 20);
        Self { connector, store, admin, sites: JoinSet::new(), coordinator, shutdown }
    }

    /// Adds a site at work.
    pub(crate) fn join(&mut self, id: &str, behavior: Behavior) {
        let site = FakeSite::new(id, behavior);
        self.rejoin(site);
    }

    /// Adds a site that goes on with its ledger.
    pub(crate) fn rejoin(&mut self, site: FakeSite) {
        let channel = channel(&self.connector, site.id.as_str(), Role::Site);
        self.sites.spawn(site.run(channel));
    }

    /// Adds a site at work, whose connection has this certificate.
    pub(crate) fn join_as(&mut self, identity: PeerIdentity) {
        let site = FakeSite::new(identity.id(), Behavior::Works);
        self.sites.spawn(site.run(self.connector.channel(identity)));
    }

    pub(crate) async fn submit(&mut self, document: &StudyDocument) -> StudyId {
        let request = v1::SubmitStudyRequest { study_toml: document.text().to_owned().into() };
        let answer = self.admin.submit_study(request).await.unwrap().into_inner();
        SubmittedStudy::try_from(answer).unwrap().study_id
    }

    pub(crate) async fn status(&mut self, id: &StudyId) -> StudyStatus {
        let request = v1::GetStudyStatusRequest { study_id: id.to_string() };
        StudyStatus::try_from(self.admin.get_study_status(request).await.unwrap().into_inner()).unwrap()
    }

    /// Waits until a status satisfies the condition.
    pub(crate) async fn wait(
        &mut self,
        id: &StudyId,
        what: &str,
        reached: impl Fn(&StudyStatus) -> bool,
    ) -> StudyStatus {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let status = self.status(id).await;
            if reached(&status) {
                return status;
            }
            assert!(Instant::now() < end, "no {what} after 30 s: {status:#?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn wait_end(&mut self, id: &StudyId) -> StudyStatus {
        self.wait(id, "end", |status| status.state.has_ended()).await
    }

    pub(crate) async fn export(&mut self, id: &StudyId) -> BTreeMap<String, Vec<u8>> {
        let request = v1::ExportStudyRequest { study_id: id.to_string() };
        let mut parts = self.admin.export_study(request).await.unwrap().into_inner();
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        while let Some(part) = parts.message().await.unwrap() {
            let part = ExportPart::try_from(part).unwrap();
            files.entry(part.file).or_default().extend_from_slice(&part.data);
        }
        files
    }

    /// Ends coordinator and sites; the sites come back with what they remember.
    pub(crate) async fn stop(mut self) -> Vec<FakeSite> {
        self.shutdown.trigger();
        self.coordinator.finished().await.unwrap();
        let mut sites = Vec::new();
        while let Some(site) = self.sites.join_next().await {
            sites.push(site.unwrap());
        }
        sites
    }
}

/// A connection under a declared identity.
pub(crate) fn channel(connector: &MemoryConnector, id: &str, role: Role) -> Channel {
    connector.channel(PeerIdentity::declared(id, role).unwrap())
}
