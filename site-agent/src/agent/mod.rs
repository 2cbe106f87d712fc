//! The orchestrator: connects, takes assignments, answers each, and knows nothing itself.
//!
//! ```text
//!            +--> connect, register --+        wait, jittered, forever; a message says why
//!            |                        v
//!   connection lost <------- next assignment <---------+
//!                              |    |    |             |
//!                        enrolment round evaluation    |   each ends in an answer: result, refusal or failure
//!                              +----+----+-------------+
//! ```
//!
//! * [`answer`]: what the coordinator is told of a task that is not done
//! * [`enrolment`]: checks a study against data, imputers and policy
//! * [`key`]: what the site states about the key of its ledger
//! * [`mirror`]: what a coordinator has seen of this site's ledger
//! * [`round`]: one training task from plan to receipt
//! * [`evaluation`]: one evaluation task, and `counts`: one whose metrics leave with noise

mod answer;
mod counts;
mod enrolment;
mod evaluation;
mod key;
mod mirror;
mod round;
mod sessions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fusiondp_dp::Digest;
use fusiondp_protocol::ids::{CohortName, StudyId};
use fusiondp_protocol::messages::{Assignment, Limits};
use fusiondp_runtime::clock::Clock;
use fusiondp_runtime::retry::Backoff;
use fusiondp_runtime::shutdown::Shutdown;
use tokio::sync::Mutex;

use crate::data::DataSource;
use crate::data::identity::DeclaredIdentity;
use crate::error::TaskError;
use crate::imputer::ImputerProvider;
use crate::imputer::cache::ImputationCache;
use crate::policy::{Budget, EpsilonMeter, Policy, PolicyLimits, Purpose};
use crate::random::RandomSource;
use crate::store::{SiteLedger, Store, ledger::SiteLedgerError};
use crate::train::session::SessionSources;
use crate::transport::{Connector, Link, TransportError};
use crate::workers::Workers;
use answer::subject;
use sessions::Sessions;

/// First and longest wait before connecting again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(60));

/// First and longest wait after a task that was not done, so that one that is handed out again and again costs little.
const CALM: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// Wait after the offer of a study that waits for approval; the coordinator holds the next one back on its own too.
const WAITING: Duration = Duration::from_secs(1);

/// What an agent is told.
#[derive(Debug, Clone)]
pub struct SiteSettings {
    /// What the site permits.
    pub policy: PolicyLimits,
    /// Identity that the site declares for its data.
    pub identity: Option<DeclaredIdentity>,
    /// Cohorts that the site declares to be data of their own.
    pub cohort_identities: BTreeMap<CohortName, DeclaredIdentity>,
    /// What the site is willing to take from the coordinator.
    pub limits: Limits,
    /// Longest wait of one poll, in milliseconds.
    pub poll_wait_ms: u32,
}

/// What an agent is made of. Agents of one process may share workers, meter and imputers.
pub struct SiteParts {
    /// What the agent is told.
    pub settings: SiteSettings,
    /// The site's records.
    pub source: Arc<dyn DataSource>,
    /// The site's imputers.
    pub imputers: Arc<ImputerProvider>,
    /// Ledger, outbox and studies.
    pub store: Arc<Store>,
    /// How to reach the coordinator.
    pub connector: Arc<dyn Connector>,
    /// Where randomness comes from.
    pub random: RandomSource,
    /// Epsilons, each computed once.
    pub meter: Arc<EpsilonMeter>,
    /// Bounds CPU work.
    pub workers: Workers,
    /// Ends the agent.
    pub shutdown: Shutdown,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

/// Why an agent ended.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The ledger cannot be used; nothing may be released.
    #[error(transparent)]
    Ledger(#[from] SiteLedgerError),
    /// Noise that can be repeated, on the way to a real coordinator.
    #[error(
        "the noise of this agent follows from a seed, which protects nobody, and its connection leaves the process; use the \
         operating system's randomness (RandomSource::Os)"
    )]
    SeedInProduction,
}

/// One site's agent.
pub struct SiteAgent {
    settings: SiteSettings,
    policy: Policy,
    sources: Arc<SessionSources>,
    store: Arc<Store>,
    connector: Arc<dyn Connector>,
    random: RandomSource,
    meter: Arc<EpsilonMeter>,
    workers: Workers,
    shutdown: Shutdown,
    clock: Arc<dyn Clock>,
    books: Arc<Mutex<Books>>,
    sessions: Sessions,
    verified_plans: BTreeSet<Digest>,
    /// Studies that wait for approval, each logged once.
    waiting: BTreeSet<StudyId>,
}

/// Ledger and budget, which change together.
pub(crate) struct Books {
    pub(crate) ledger: SiteLedger,
    pub(crate) budget: Budget,
}

impl SiteSettings {
    /// Default limits of the connection and a poll of half a minute, with this policy.
    pub fn new(policy: PolicyLimits, identity: Option<DeclaredIdentity>) -> Self {
        Self {
            policy,
            identity,
            cohort_identities: BTreeMap::new(),
            limits: Limits::default(),
            poll_wait_ms: 30_000,
        }
    }
}

impl SiteAgent {
    /// Assembles an agent and verifies its ledger.
    ///
    /// # Errors
    /// The ledger's chain is broken, or it cannot be read; randomness has a seed and the connection leaves the process.
    pub async fn new(parts: SiteParts) -> Result<Self, AgentError> {
        if parts.random.purpose() == Purpose::Simulation && !parts.connector.is_in_process() {
            return Err(AgentError::SeedInProduction);
        }
        let ledger = SiteLedger::open(Arc::clone(&parts.store)).await?;
        let budget = Budget::new(Arc::clone(&parts.meter));
        let sources = SessionSources {
            source: parts.source,
            imputers: parts.imputers,
            cache: parts.store.cache_folder().map(ImputationCache::new),
            identity: parts.settings.identity.clone(),
            identity_key: parts.store.identity_key().await.map_err(SiteLedgerError::from)?,
        };
        if parts.random.purpose() == Purpose::Simulation {
            tracing::warn!("noise is reproducible: this agent simulates and protects nobody");
        }
        Ok(Self {
            policy: Policy::new(parts.settings.policy.clone(), parts.random.purpose()),
            settings: parts.settings,
            sources: Arc::new(sources),
            store: parts.store,
            connector: parts.connector,
            random: parts.random,
            meter: parts.meter,
            workers: parts.workers,
            shutdown: parts.shutdown,
            clock: parts.clock,
            books: Arc::new(Mutex::new(Books { ledger, budget })),
            sessions: Sessions::default(),
            verified_plans: BTreeSet::new(),
            waiting: BTreeSet::new(),
        })
    }

    /// Serves the coordinator until shutdown.
    ///
    /// # Errors
    /// The ledger cannot be used any more; everything else is answered, logged and tried again.
    pub async fn run(mut self) -> Result<(), AgentError> {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        while let Some(outcome) = self.connect().await? {
            let error = match outcome {
                Ok(mut link) => match self.serve(&mut link, &mut backoff).await? {
                    Some(error) => error,
                    None => break,
                },
                Err(error) => error,
            };
            if !self.pause(&error, &mut backoff).await {
                break;
            }
        }
        tracing::info!("agent ended");
        Ok(())
    }

    /// A registered connection; `None` on shutdown.
    async fn connect(&self) -> Result<Option<Result<Link, TransportError>>, AgentError> {
        let statement = match self.key_statement().await {
            Ok(statement) => statement,
            Err(error) => return Ok(Some(Err(error.lost()?))),
        };
        let link = Link::open(self.connector.as_ref(), self.settings.limits, statement);
        let link = self.shutdown.unless_triggered(link).await;
        if let Some(Ok(link)) = &link {
            let registered = link.registered();
            tracing::info!(site = %registered.site_id, consortium = registered.consortium, "registered with the coordinator");
        }
        Ok(link)
    }

    /// Waits before the next attempt; false on shutdown.
    async fn pause(&self, error: &TransportError, backoff: &mut Backoff) -> bool {
        let wait = backoff.next_wait();
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        if error.needs_attention() {
            tracing::error!(reason = %error, wait_ms, "no connection to the coordinator; somebody has to look at this");
        } else {
            tracing::warn!(reason = %error, wait_ms, "no connection to the coordinator; trying again");
        }
        self.shutdown.unless_triggered(tokio::time::sleep(wait)).await.is_some()
    }

    /// Takes assignments until the connection is lost (the error) or shutdown (`None`). The first answered poll shows that
    /// the connection serves, and ends the back-off.
    async fn serve(
        &mut self,
        link: &mut Link,
        backoff: &mut Backoff,
    ) -> Result<Option<TransportError>, AgentError> {
        self.check_mirror(link.registered()).await?;
        let mut calm = Backoff::new(CALM.0, CALM.1);
        loop {
            let asked = Instant::now();
            let next = link.next_assignment(self.settings.poll_wait_ms);
            let assignment = match self.shutdown.unless_triggered(next).await {
                None => return Ok(None),
                Some(Err(error)) => return Ok(Some(error)),
                Some(Ok(assignment)) => assignment,
            };
            backoff.reset();
            let Some((study, task)) = subject(&assignment) else {
                // A long poll has had its time; one that comes back at once would make a busy loop.
                if asked.elapsed() >= self.poll_wait() / 2 {
                    calm.reset();
                } else if !self.rest(&mut calm).await {
                    return Ok(None);
                }
                continue;
            };
            let Err(error) = self.handle(link, assignment).await else {
                calm.reset();
                continue;
            };
            self.recover(&error).await?;
            let waits = error.is_waiting();
            if let Some(lost) = self.answer(link, study, task, error).await {
                return Ok(Some(lost));
            }
            let rested = match waits {
                true => self.shutdown.unless_triggered(tokio::time::sleep(WAITING)).await.is_some(),
                false => self.rest(&mut calm).await,
            };
            if !rested {
                return Ok(None);
            }
        }
    }

    fn poll_wait(&self) -> Duration {
        Duration::from_millis(self.settings.poll_wait_ms.into())
    }

    /// Waits a while, each time longer; false on shutdown.
    async fn rest(&self, calm: &mut Backoff) -> bool {
        self.shutdown.unless_triggered(tokio::time::sleep(calm.next_wait())).await.is_some()
    }

    /// Ends a wait for the coordinator when the agent is told to end. What is waited for may be given up at any moment: a
    /// model is fetched before anything is charged, and an update that was not delivered stays in the outbox.
    async fn unless_shutdown<T>(
        &self,
        call: impl Future<Output = Result<T, TransportError>>,
    ) -> Result<T, TaskError> {
        match self.shutdown.unless_triggered(call).await {
            Some(answer) => Ok(answer?),
            None => Err(TaskError::Shutdown),
        }
    }

    async fn handle(&mut self, link: &mut Link, assignment: Assignment) -> Result<(), TaskError> {
        match assignment {
            Assignment::Idle => Ok(()),
            Assignment::Enrolment(offer) => self.enrol(link, offer).await,
            Assignment::Training(task) => self.train(link, task).await,
            Assignment::Evaluation(task) => self.evaluate(link, task).await,
        }
    }

    /// After a failure of the ledger the chain is read again from the disk, which alone is true.
    async fn recover(&mut self, error: &TaskError) -> Result<(), AgentError> {
        if matches!(error, TaskError::Ledger(_)) {
            self.books.lock().await.ledger = SiteLedger::open(Arc::clone(&self.store)).await?;
        }
        Ok(())
    }

    /// Whether the site goes on with a study that it has joined: an approval may have been withdrawn since.
    async fn check_approved(&self, study: &StudyId) -> Result<(), TaskError> {
        let verdict = self.store.verdict_of_study(study).await?;
        Ok(self.policy.check_task(verdict.as_ref())?)
    }
}

#[cfg(test)]
mod tests;
