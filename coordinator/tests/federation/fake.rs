//! A site without data: real protocol, real ledger entries, invented numbers.

use std::collections::HashMap;
use std::convert::Infallible;
use std::num::NonZeroU32;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fusiondp_dp::{
    ChargeRequest, ClipNorm, Delta, Digest, DpEvent, Epsilon, Ledger, LedgerEntry, LedgerKey, LedgerStore,
    NeighboringRelation, NoiseMultiplier, Protection, Released, SignedEntry, UpdateId, epsilon,
};
use fusiondp_proto::v1;
use fusiondp_proto::v1::federation_client::FederationClient;
use fusiondp_protocol::receipt::{Receipt, ReceiptEpsilons, ReceiptFormat};
use fusiondp_protocol::study::ImputerSpec;
use fusiondp_protocol::{
    Assignment, Decline, DeclineKind, DeclinedTask, Enrolment, EnrolmentOffer, EvaluationReport,
    EvaluationTask, Limits, MetricSummary, ModelHeader, ModelPart, ModelRequest, NoisyCounts,
    PROTOCOL_VERSION, Poll, Problem, ProblemType, Registered, Registration, ReleasedMetrics,
    SignedKeyStatement, SiteId, StudyDocument, TrainingTask, UpdateHeader, UpdateOutcome, UpdatePart, chunks,
};
use tonic::Status;
use tonic::transport::Channel;

/// What a site does beside the ordinary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behavior {
    /// Everything it is asked for.
    Works,
    /// Refuses the study.
    RefusesStudy,
    /// Asks somebody at the site, who takes two offers' time.
    AsksFirst,
    /// Refuses a round: its budget ends there.
    RefusesRound(u32),
    /// Cannot compute the first attempt of a round.
    FailsOnce(u32),
    /// Does not answer the first attempt of a round before the next one is out.
    SleepsThrough(u32),
    /// Says it has spent less than it has.
    Understates,
    /// Keeps its metrics.
    KeepsMetrics,
}

pub(crate) struct FakeSite {
    pub(crate) id: SiteId,
    pub(crate) units: u64,
    pub(crate) ledger: Ledger,
    /// Outcome of each upload, by round and attempt.
    pub(crate) receipts: Vec<(u32, u32, UpdateOutcome)>,
    /// Updates sent, for sending again.
    pub(crate) sent: Vec<(UpdateHeader, Vec<u8>)>,
    pub(crate) behavior: Behavior,
    /// Offers that it did not answer yet.
    pub(crate) asked: u32,
}

/// The key that every fake signs with.
pub(crate) fn ledger_key() -> LedgerKey {
    LedgerKey::from_seed([3; LedgerKey::SEED_BYTES])
}

/// The header of an update with a changed receipt, signed anew: what a site could send that lies on purpose.
pub(crate) fn restated(header: &UpdateHeader, change: impl FnOnce(&mut Receipt)) -> UpdateHeader {
    let mut receipt = header.receipt.receipt.clone();
    change(&mut receipt);
    UpdateHeader {
        update_id: receipt.update_id,
        study_id: receipt.study.clone(),
        round: receipt.round,
        attempt: receipt.attempt,
        model_version: receipt.model_version,
        public_values: receipt.public_values,
        private_values: receipt.private_values,
        payload_digest: receipt.payload_digest,
        receipt: receipt.signed(&ledger_key()),
        ..header.clone()
    }
}

/// A ledger store that keeps nothing: the ledger itself stays in memory.
pub(crate) struct Nowhere;

impl LedgerStore for Nowhere {
    type Error = Infallible;

    async fn append(&mut self, _: &[LedgerEntry]) -> Result<(), Infallible> {
        Ok(())
    }
}

impl FakeSite {
    pub(crate) fn new(id: &str, behavior: Behavior) -> Self {
        let ledger = Ledger::open(Vec::new()).unwrap();
        Self {
            id: id.parse().unwrap(),
            units: 100,
            ledger,
            receipts: Vec::new(),
            sent: Vec::new(),
            behavior,
            asked: 0,
        }
    }

    /// Works until the coordinator is gone.
    pub(crate) async fn run(mut self, channel: Channel) -> Self {
        let mut client = FederationClient::new(channel);
        // Any error means that the coordinator has ended; a refused call is a defect of the test and shows there.
        while let Err(status) = self.serve(&mut client).await {
            match Problem::from_status(&status).map(|problem| problem.kind) {
                None | Some(ProblemType::ShuttingDown) => return self,
                // A round or a study may end while an answer is on its way, and a real agent goes on too.
                Some(ProblemType::StaleTask | ProblemType::StudyEnded) => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Some(_) => panic!("{} was refused: {status}", self.id),
            }
        }
        self
    }

    async fn serve(&mut self, client: &mut FederationClient<Channel>) -> Result<(), Status> {
        register(client).await?;
        loop {
            let poll = v1::NextAssignmentRequest::from(Poll { wait_ms: 1_000 });
            match Assignment::try_from(client.next_assignment(poll).await?.into_inner()).unwrap() {
                Assignment::Idle => {}
                Assignment::Enrolment(offer) => self.enrol(client, &offer).await?,
                Assignment::Training(task) => self.train(client, &task).await?,
                Assignment::Evaluation(task) => self.evaluate(client, &task).await?,
            }
        }
    }

    async fn enrol(
        &mut self,
        client: &mut FederationClient<Channel>,
        offer: &EnrolmentOffer,
    ) -> Result<(), Status> {
        let document = offer.document().unwrap();
        if self.behavior == Behavior::RefusesStudy {
            let problem = Problem::new(ProblemType::PolicyRefusal, "not with <us>; ask somebody else");
            return decline(
                client,
                offer.study_id.clone(),
                DeclinedTask::Enrolment,
                DeclineKind::Refusal,
                problem,
            )
            .await;
        }
        if self.behavior == Behavior::AsksFirst && self.asked < 2 {
            self.asked += 1;
            let problem =
                Problem::new(ProblemType::ApprovalPending, "the study waits for approval by the site");
            let (id, kind) = (offer.study_id.clone(), DeclineKind::Failure);
            return decline(client, id, DeclinedTask::Enrolment, kind, problem).await;
        }
        let enrolment = Enrolment {
            study_id: document.id().clone(),
            study_digest: document.digest(),
            units: self.units,
            records: self.units * 2,
            ledger_head: self.ledger.head(),
            ledger_key: ledger_key().public(),
        };
        client.enrol(v1::EnrolRequest::from(enrolment)).await?;
        Ok(())
    }

    async fn train(
        &mut self,
        client: &mut FederationClient<Channel>,
        task: &TrainingTask,
    ) -> Result<(), Status> {
        let (round, attempt) = (task.round, task.attempt);
        let task_id = DeclinedTask::Training { round, attempt };
        let study = task.plan.study_id.clone();
        match self.behavior {
            Behavior::RefusesRound(at) if at == round => {
                let problem =
                    Problem::new(ProblemType::BudgetExceeded, "epsilon 1.5 is above the limit of 1");
                return decline(client, study, task_id, DeclineKind::Refusal, problem).await;
            }
            Behavior::FailsOnce(at) if at == round && attempt == 1 => {
                let problem = Problem::new(ProblemType::DataError, "train.csv is locked");
                return decline(client, study, task_id, DeclineKind::Failure, problem).await;
            }
            Behavior::SleepsThrough(at) if at == round && attempt == 1 => {
                tokio::time::sleep(Duration::from_millis(2_600)).await;
            }
            _ => {}
        }
        let (header, payload) = self.update(client, task).await?;
        let outcome = submit(client, &header, &payload).await?;
        self.receipts.push((round, attempt, outcome));
        self.sent.push((header, payload));
        Ok(())
    }

    /// Computes an update for a task and charges for it.
    pub(crate) async fn update(
        &mut self,
        client: &mut FederationClient<Channel>,
        task: &TrainingTask,
    ) -> Result<(UpdateHeader, Vec<u8>), Status> {
        let request =
            ModelRequest { study_id: task.plan.study_id.clone(), model_version: task.model_version };
        let (header, model) = fetch(client, request).await?;
        assert_eq!(header.digest, task.model_digest);
        let parameters = model.len() / 4;
        let gradient: Vec<f32> = (0..parameters).map(|index| 0.01 * (index as f32 + 1.0)).collect();
        let mut payload = Vec::new();
        chunks::encode_f32(&gradient, &mut payload);
        let private: Vec<i64> = if task.private_part { vec![1 << 12; parameters] } else { Vec::new() };
        chunks::encode_i64(&private, &mut payload);
        let update_id = UpdateId::random(&mut fusiondp_dp::SecureRng::from_os().unwrap());
        if task.private_part {
            self.charge(task, update_id).await;
        }
        let receipt = Receipt {
            format: ReceiptFormat::V1,
            site: self.id.clone(),
            study: task.plan.study_id.clone(),
            study_digest: task.plan.study_digest,
            round: task.round,
            attempt: task.attempt,
            update_id,
            model_version: task.model_version,
            model_digest: task.model_digest,
            imputer: ImputerSpec::DeclaredNoise {},
            public_values: gradient.len() as u64,
            private_values: private.len() as u64,
            payload_digest: Digest::of(&payload),
            charges: self.charges(task),
            study_charges: self.charges(task).len() as u64,
            ledger_head: self.ledger.head(),
            delta: task.plan.delta,
            epsilon: self.epsilons(task),
            epsilon_records: None,
        };
        let header = UpdateHeader {
            update_id,
            study_id: task.plan.study_id.clone(),
            round: task.round,
            attempt: task.attempt,
            model_version: task.model_version,
            public_values: gradient.len() as u64,
            private_values: private.len() as u64,
            units: self.units,
            records: self.units * 2,
            payload_digest: Digest::of(&payload),
            public_loss: 0.7 / f64::from(task.round),
            receipt: receipt.signed(&ledger_key()),
        };
        Ok((header, payload))
    }

    fn data_set(&self) -> Digest {
        Digest::of(self.id.as_str().as_bytes())
    }

    async fn charge(&mut self, task: &TrainingTask, update_id: UpdateId) {
        let plan = &task.plan;
        let request = ChargeRequest {
            time_ms: 1_000,
            data_set: self.data_set(),
            study: plan.study_id.to_string(),
            study_digest: plan.study_digest,
            round: task.round,
            local_step: 1,
            event: plan.step_event().unwrap(),
            clip_norm: plan.clip_norm,
            unit: "id".into(),
            units: self.units,
            model_digest: task.model_digest,
            update_id,
            released: Released::PrivateSum,
            protects: Protection::SensitiveValues,
        };
        drop(self.ledger.charge(vec![request], &mut Nowhere).await.unwrap());
    }

    /// Charges for a table of counts of one edge with noise 5, and reports it.
    pub(crate) async fn noisy_report(
        &mut self,
        document: &StudyDocument,
        model: (u64, Digest),
        cohort: &str,
    ) -> EvaluationReport {
        let request = ChargeRequest {
            time_ms: 2_000,
            data_set: self.data_set(),
            study: document.id().to_string(),
            study_digest: document.digest(),
            round: 0,
            local_step: 0,
            event: DpEvent::GaussianHistogram {
                noise_multiplier: NoiseMultiplier::new(5.0).unwrap(),
                steps: NonZeroU32::MIN,
            },
            clip_norm: ClipNorm::new(1.0).unwrap(),
            unit: "id".into(),
            units: self.units,
            model_digest: model.1,
            update_id: UpdateId::random(&mut fusiondp_dp::SecureRng::from_os().unwrap()),
            released: Released::Counts { cohort: cohort.to_owned() },
            protects: Protection::SensitiveValues,
        };
        drop(self.ledger.charge(vec![request], &mut Nowhere).await.unwrap());
        let charge = ledger_key().sign_entry(self.ledger.entries().last().unwrap().clone());
        let counts = NoisyCounts { units: self.units, counts: vec![1 << 30; 4], charge };
        EvaluationReport {
            study_id: document.id().clone(),
            model_version: model.0,
            cohort: cohort.parse().unwrap(),
            metrics: ReleasedMetrics::Noisy(Box::new(counts)),
        }
    }

    /// Every charge of the study: listing one again does no harm.
    fn charges(&self, task: &TrainingTask) -> Vec<SignedEntry> {
        let of_study = |entry: &&LedgerEntry| entry.charge().study == task.plan.study_id.as_str();
        self.ledger
            .entries()
            .iter()
            .filter(of_study)
            .map(|entry| ledger_key().sign_entry(entry.clone()))
            .collect()
    }

    fn epsilons(&self, task: &TrainingTask) -> ReceiptEpsilons {
        let (study, delta) = (task.plan.study_id.as_str(), task.plan.delta);
        let study = figures(&self.ledger.study_events(study, self.data_set()), delta);
        let data = figures(&self.ledger.events(self.data_set()), delta);
        let factor = if self.behavior == Behavior::Understates { 0.9 } else { 1.0 };
        let figure = |value: f64| Epsilon::new(value * factor).unwrap();
        ReceiptEpsilons {
            replace: figure(study.0),
            zero_out: figure(study.1),
            data_replace: figure(data.0),
            data_zero_out: figure(data.1),
        }
    }

    async fn evaluate(
        &self,
        client: &mut FederationClient<Channel>,
        task: &EvaluationTask,
    ) -> Result<(), Status> {
        if self.behavior == Behavior::KeepsMetrics {
            let problem = Problem::new(ProblemType::PolicyRefusal, "metrics stay here");
            let task_id = DeclinedTask::Evaluation { model_version: task.model_version };
            return decline(client, task.study_id.clone(), task_id, DeclineKind::Refusal, problem).await;
        }
        let request = ModelRequest { study_id: task.study_id.clone(), model_version: task.model_version };
        let (header, _) = fetch(client, request).await?;
        assert_eq!(header.digest, task.model_digest);
        let report = report(task);
        client.submit_evaluation(v1::EvaluationReport::from(report)).await?;
        Ok(())
    }
}

/// 10 positives of which 8 score high, 30 negatives of which 6 score high.
fn report(task: &EvaluationTask) -> EvaluationReport {
    let counts = |low, high| {
        let mut counts = vec![0; 4096];
        (counts[1_000], counts[3_000]) = (low, high);
        counts
    };
    EvaluationReport {
        study_id: task.study_id.clone(),
        model_version: task.model_version,
        cohort: task.cohort.clone(),
        metrics: ReleasedMetrics::Summary(MetricSummary {
            records: 40,
            positives: 10,
            brier: 0.2,
            log_loss: 0.6,
            positive_counts: counts(2, 8),
            negative_counts: counts(24, 6),
        }),
    }
}

pub(crate) async fn register(client: &mut FederationClient<Channel>) -> Result<Registered, Status> {
    register_with(client, None).await
}

/// Registers with what the site states about its ledger's key.
pub(crate) async fn register_with(
    client: &mut FederationClient<Channel>,
    key_statement: Option<SignedKeyStatement>,
) -> Result<Registered, Status> {
    let registration = Registration {
        protocol_version: PROTOCOL_VERSION,
        agent_version: "fake 1".into(),
        limits: Limits { max_chunk_bytes: 4096, max_model_bytes: 1 << 20 },
        key_statement: key_statement.map(Box::new),
    };
    let answer = client.register(v1::RegisterRequest::from(registration)).await?;
    Ok(Registered::try_from(answer.into_inner()).unwrap())
}

async fn fetch(
    client: &mut FederationClient<Channel>,
    request: ModelRequest,
) -> Result<(ModelHeader, Vec<u8>), Status> {
    let mut parts = client.fetch_model(v1::FetchModelRequest::from(request)).await?.into_inner();
    let first = ModelPart::try_from(parts.message().await?.unwrap()).unwrap();
    let ModelPart::Header(header) = first else { panic!("the stream begins without a header") };
    let mut bytes = Vec::new();
    while let Some(part) = parts.message().await? {
        match ModelPart::try_from(part).unwrap() {
            ModelPart::Data(data) => bytes.extend_from_slice(&data),
            ModelPart::Header(_) => panic!("a second header"),
        }
    }
    assert_eq!(Digest::of(&bytes), header.digest);
    assert_eq!(bytes.len() as u64, header.payload_bytes());
    Ok((header, bytes))
}

pub(crate) async fn submit(
    client: &mut FederationClient<Channel>,
    header: &UpdateHeader,
    payload: &[u8],
) -> Result<UpdateOutcome, Status> {
    let mut parts = vec![UpdatePart::Header(Box::new(header.clone()))];
    parts.extend(chunks::split(Bytes::copy_from_slice(payload), 16).map(UpdatePart::Data));
    let messages = parts.into_iter().map(v1::UpdateChunk::from).collect::<Vec<_>>();
    let receipt = client.submit_update(tokio_stream::iter(messages)).await?;
    Ok(UpdateOutcome::try_from(receipt.into_inner()).unwrap())
}

async fn decline(
    client: &mut FederationClient<Channel>,
    study_id: fusiondp_protocol::StudyId,
    task: DeclinedTask,
    kind: DeclineKind,
    problem: Problem,
) -> Result<(), Status> {
    let decline = Decline { study_id, task, kind, problem };
    client.decline(v1::DeclineRequest::from(decline)).await?;
    Ok(())
}

/// Both epsilons; all sites of all tests ask for the same few.
fn figures(events: &[DpEvent], delta: Delta) -> (f64, f64) {
    static KNOWN: LazyLock<Mutex<HashMap<String, (f64, f64)>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap();
    let of = |relation| epsilon(events, delta, relation).unwrap().get();
    *known
        .entry(format!("{events:?} {delta}"))
        .or_insert_with(|| (of(NeighboringRelation::Replace), of(NeighboringRelation::ZeroOut)))
}
