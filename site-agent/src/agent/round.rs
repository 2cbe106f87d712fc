//! One training task, from plan to receipt.

use std::sync::Arc;

use fusiondp_dp::{
    self as dp, AccountantError, CommittedCharge, Delta, Digest, DpEvent, Epsilon, Protection, SignedEntry,
    UpdateId,
};
use fusiondp_protocol::ids::SiteId;
use fusiondp_protocol::messages::{TrainingTask, UpdateHeader, UpdateOutcome};
use fusiondp_protocol::plan::SiteSize;
use fusiondp_protocol::problem::ProblemType;
use fusiondp_protocol::receipt::{
    MAX_RECEIPT_CHARGES, Receipt, ReceiptEpsilons, ReceiptFormat, SignedReceipt,
};
use fusiondp_protocol::study::StudyDocument;

use super::SiteAgent;
use crate::error::TaskError;
use crate::policy::meter::StepCounts;
use crate::policy::{EpsilonMeter, Past, PublicPermit, ReleaseRequest, Spent};
use crate::store::{SiteLedger, StoredUpdate, TaskKey};
use crate::train::{RoundOutput, RoundWork, Session};
use crate::transport::link::WantedModel;
use crate::transport::{Link, TransportError};

/// Charges of one update and the ledger as it stood after them.
struct Charged {
    update_id: UpdateId,
    charges: Vec<CommittedCharge>,
    books: Bookkeeping,
}

/// What the receipt of an update says of the ledger, but for the epsilons.
struct Bookkeeping {
    /// The study's charges that no receipt lists which the coordinator has.
    charges: Vec<SignedEntry>,
    study_charges: u64,
    head: Digest,
    sensitive: TierSteps,
    /// In a study that protects whole records.
    records: Option<TierSteps>,
}

/// Steps of one tier.
#[derive(Clone)]
struct TierSteps {
    /// Of the study.
    study: StepCounts,
    /// Of all studies on the same data; `None` where their loss has no bound.
    data: Option<StepCounts>,
}

impl TierSteps {
    /// Adds releases that are to come.
    fn add(&mut self, event: &DpEvent, steps: u64) {
        self.study.add(event, steps);
        if let Some(data) = &mut self.data {
            data.add(event, steps);
        }
    }

    fn epsilons(&self, meter: &EpsilonMeter, delta: Delta) -> Result<ReceiptEpsilons, AccountantError> {
        let study = meter.spent(&self.study, delta)?;
        let unbounded = Spent { replace: Epsilon::INFINITE, zero_out: Epsilon::INFINITE };
        let data = self.data.as_ref().map_or(Ok(unbounded), |steps| meter.spent(steps, delta))?;
        Ok(ReceiptEpsilons {
            replace: study.replace,
            zero_out: study.zero_out,
            data_replace: data.replace,
            data_zero_out: data.zero_out,
        })
    }
}

impl SiteAgent {
    /// Answers a training task: sends its update, or returns why not.
    pub(super) async fn train(&mut self, link: &mut Link, task: TrainingTask) -> Result<(), TaskError> {
        let key = TaskKey::of(&task);
        self.check_approved(&key.study).await?;
        if self.answer_from_outbox(link, &key).await? {
            return Ok(());
        }
        self.discard_stale(&key).await?;
        let session = self.session(&task.plan.study_id, task.plan.study_digest).await?;
        self.verify_plan(&session, &task, link).await?;
        let wanted = WantedModel {
            study: task.plan.study_id.clone(),
            version: task.model_version,
            digest: task.model_digest,
            values: vec![session.model_values(task.private_part)],
        };
        let params = self.unless_shutdown(link.fetch_model(&wanted)).await?;
        let public = self.public_permit(&session, &task)?;
        let charged = self.charge(&session, &task).await?;
        let site = link.registered().site_id.clone();
        let update = self.compute(&session, &task, params, public, charged, &site).await?;
        let now_ms = self.clock.now_ms();
        self.store.release_update(&key, &update.header, &update.payload, now_ms).await?;
        self.send(link, update).await?;
        self.foresee(&session, &task).await;
        Ok(())
    }

    /// Sends the stored update of the task's round, if there is one; false if there is none to send.
    ///
    /// Release once: whatever the reason for asking again, the answer is the same bytes. Only an update of another
    /// attempt, which the coordinator says it never asked for, gives way to a new one.
    async fn answer_from_outbox(&self, link: &mut Link, key: &TaskKey) -> Result<bool, TaskError> {
        let Some(update) = self.store.update_of(key).await? else { return Ok(false) };
        if update.model_digest != key.model_digest {
            return Err(TaskError::ModelReplaced { version: key.model_version });
        }
        self.permit_again(key, &update).await?;
        let (update_id, attempt) = (update.header.update_id, update.header.attempt);
        tracing::info!(study = %key.study, round = key.round, attempt, sent_before = update.sent, "sending the stored update again");
        match self.send(link, update).await {
            Ok(()) => Ok(true),
            Err(TaskError::Transport(TransportError::Refused(problem)))
                if attempt != key.attempt && problem.kind == ProblemType::StaleTask =>
            {
                self.store.discard_update(update_id).await?;
                tracing::warn!(study = %key.study, round = key.round, attempt, "the coordinator knows nothing of that attempt; its charge stays");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// A policy that was tightened since binds what has not left yet too.
    async fn permit_again(&self, key: &TaskKey, update: &StoredUpdate) -> Result<(), TaskError> {
        if update.header.public_values == 0 {
            return Ok(());
        }
        let kept = self.store.study(&key.study).await?;
        let kept = kept.ok_or_else(|| TaskError::NotEnrolled { study: key.study.clone() })?;
        let document = StudyDocument::from_bytes(&kept.document)?;
        if document.study().fusion.mode.has_public_part() {
            self.policy.check_public(document.study(), update.header.units)?;
        }
        Ok(())
    }

    /// Computes the next round's epsilons while the coordinator aggregates, which is the longest part of a round. A
    /// figure that is needed before it is ready is waited for, not computed twice.
    async fn foresee(&self, session: &Session, task: &TrainingTask) {
        let releases = task.plan.releases(task.round.saturating_add(1));
        if releases.is_empty() {
            return;
        }
        let (mut sensitive, mut records) = self.steps(session, &self.books.lock().await.ledger);
        for release in &releases {
            let steps = u64::from(task.plan.local_steps);
            if release.released == dp::Released::PrivateSum {
                sensitive.add(&release.event, steps);
            }
            if let Some(records) = &mut records {
                records.add(&release.event, steps);
            }
        }
        let (meter, delta, workers) = (Arc::clone(&self.meter), task.plan.delta, self.workers.clone());
        // Whatever fails here fails again, and is reported, when the figure is needed.
        tokio::spawn(async move {
            let tiers = std::iter::once(sensitive).chain(records);
            let figures = move || tiers.map(|tier| tier.epsilons(&meter, delta).ok()).collect::<Vec<_>>();
            workers.run(figures).await
        });
    }

    /// Steps charged by the session's study, and by all studies, on its data: those that sensitive values lose by, and those
    /// that whole records lose by in a study that protects them.
    fn steps(&self, session: &Session, ledger: &SiteLedger) -> (TierSteps, Option<TierSteps>) {
        let (study, data_set) = (session.document().id().as_str(), session.identity().digest);
        let sensitive = TierSteps {
            study: StepCounts::of(&ledger.study_events(study, data_set)),
            data: Some(StepCounts::of(&ledger.events(data_set))),
        };
        let whole = session.study().protects() == Protection::WholeRecords;
        let records = whole.then(|| TierSteps {
            study: StepCounts::of(&ledger.study_record_events(study, data_set)),
            data: ledger.record_events(data_set).map(|events| StepCounts::of(&events)),
        });
        (sensitive, records)
    }

    /// Refuses a task of an earlier round, and drops updates that nobody waits for any more.
    async fn discard_stale(&self, key: &TaskKey) -> Result<(), TaskError> {
        let newest = self.store.newest_round(&key.study).await?;
        if key.round < newest {
            return Err(TaskError::Stale { round: key.round, newest });
        }
        let discarded = self.store.discard_stale(key).await?;
        if discarded > 0 {
            tracing::info!(study = %key.study, discarded, "dropped updates of tasks that are over; their charges stay");
        }
        Ok(())
    }

    /// Verifies a plan once; later tasks repeat it.
    async fn verify_plan(
        &mut self,
        session: &Arc<Session>,
        task: &TrainingTask,
        link: &Link,
    ) -> Result<(), TaskError> {
        let digest = task.plan.digest();
        if self.verified_plans.contains(&digest) {
            return Ok(());
        }
        let own = SiteSize {
            site: link.registered().site_id.clone(),
            units: session.units().count() as u64,
            records: session.records() as u64,
        };
        let (session, plan) = (Arc::clone(session), task.plan.clone());
        self.workers.run(move || plan.verify(session.document(), &own)).await??;
        self.verified_plans.insert(digest);
        tracing::info!(
            study = %task.plan.study_id,
            noise_multiplier = task.plan.noise_multiplier.map(fusiondp_dp::NoiseMultiplier::get),
            epsilon_replace = task.plan.epsilon_replace.rounded_up(4),
            "plan verified"
        );
        Ok(())
    }

    fn public_permit(
        &self,
        session: &Session,
        task: &TrainingTask,
    ) -> Result<Option<PublicPermit>, TaskError> {
        let study = session.study();
        if !study.fusion.has_public_part(task.private_part) || study.noises_public_part() {
            return Ok(None);
        }
        Ok(Some(self.policy.permit_public(study, session.units().count() as u64)?))
    }

    /// Permits and commits the charges of the task's noised parts; none in a round without any.
    async fn charge(&self, session: &Arc<Session>, task: &TrainingTask) -> Result<Charged, TaskError> {
        let update_id = self.random.update_id()?;
        let confirmed = self.store.last_confirmed_charge(session.document().id()).await?;
        let mut books = Arc::clone(&self.books).lock_owned().await;
        if task.plan.releases(task.round).is_empty() {
            let books = self.bookkeeping(session, &books.ledger, confirmed)?;
            return Ok(Charged { update_id, charges: Vec::new(), books });
        }
        let (policy, task, prepared) = (self.policy.clone(), task.clone(), Arc::clone(session));
        let now_ms = self.clock.now_ms();
        let permit = move || {
            let request = ReleaseRequest {
                document: prepared.document(),
                task: &task,
                data: prepared.identity(),
                units: prepared.units().count() as u64,
            };
            let inner = &mut *books;
            let entries = inner.ledger.entries();
            let past = Past::of(entries, request.data.digest, request.document.id().as_str(), now_ms);
            let permit = policy.permit_release(&request, entries, &past, &mut inner.budget);
            (books, permit)
        };
        let (mut books, permit) = self.workers.run(permit).await?;
        let charges = books.ledger.charge(permit?, update_id, now_ms).await?;
        let books = self.bookkeeping(session, &books.ledger, confirmed)?;
        Ok(Charged { update_id, charges, books })
    }

    /// The ledger as it stands, for a receipt that follows on one which lists the charge at place `confirmed`.
    fn bookkeeping(
        &self,
        session: &Session,
        ledger: &SiteLedger,
        confirmed: Option<u64>,
    ) -> Result<Bookkeeping, TaskError> {
        let (study, data_set) = (session.document().id().as_str(), session.identity().digest);
        let mut charges = ledger.study_charges(study, data_set, confirmed)?;
        // The newest ones pay for this update. Older ones beyond the limit stay out, and the number of charges shows it.
        charges.drain(..charges.len().saturating_sub(MAX_RECEIPT_CHARGES));
        let (sensitive, records) = self.steps(session, ledger);
        let study_charges = ledger.study_charge_count(study, data_set);
        Ok(Bookkeeping { charges, study_charges, head: ledger.head(), sensitive, records })
    }

    /// Computes the update and, beside it, the site's own epsilons.
    async fn compute(
        &self,
        session: &Arc<Session>,
        task: &TrainingTask,
        params: Vec<f32>,
        public: Option<PublicPermit>,
        charged: Charged,
        site: &SiteId,
    ) -> Result<StoredUpdate, TaskError> {
        let Charged { update_id, charges, books } = charged;
        let random = self.random;
        let (inner, its_task) = (Arc::clone(session), task.clone());
        let gradient = self.workers.run_wide(move |threads| {
            RoundWork { params, public, charges, random, threads }.compute(&inner, &its_task)
        });
        let (output, figures) = tokio::join!(gradient, self.epsilons(task, &books));
        let output = output??;
        let receipt = receipt(&Released { site, session, task, update_id, output: &output }, books, figures?);
        let header = header(session, &output, self.store.sign_receipt(receipt)?);
        let payload = output.payload.into();
        Ok(StoredUpdate { header, payload, sent: false, model_digest: task.model_digest })
    }

    async fn epsilons(&self, task: &TrainingTask, books: &Bookkeeping) -> Result<Figures, TaskError> {
        let (meter, delta) = (Arc::clone(&self.meter), task.plan.delta);
        let (sensitive, records) = (books.sensitive.clone(), books.records.clone());
        let figures = move || {
            let records = records.map(|records| records.epsilons(&meter, delta)).transpose()?;
            Ok(Figures { sensitive: sensitive.epsilons(&meter, delta)?, records })
        };
        let figures: Result<Figures, AccountantError> = self.workers.run(figures).await?;
        Ok(figures?)
    }

    /// Sends a stored update. A connection that breaks leaves it in the outbox.
    async fn send(&self, link: &mut Link, update: StoredUpdate) -> Result<(), TaskError> {
        let StoredUpdate { header, payload, .. } = update;
        let (update_id, round, study) = (header.update_id, header.round, header.study_id.clone());
        let outcome = self.unless_shutdown(link.submit_update(header, payload)).await?;
        self.store.mark_sent(update_id, self.clock.now_ms()).await?;
        match outcome {
            UpdateOutcome::Accepted | UpdateOutcome::Duplicate => {
                tracing::debug!(study = %study, round, "update delivered");
            }
            UpdateOutcome::Late => {
                tracing::warn!(study = %study, round, "the update came late; its charge stays");
            }
        }
        Ok(())
    }
}

/// An update that has been computed, and for what.
struct Released<'a> {
    site: &'a SiteId,
    session: &'a Session,
    task: &'a TrainingTask,
    update_id: UpdateId,
    output: &'a RoundOutput,
}

/// The site's figures of both tiers.
struct Figures {
    sensitive: ReceiptEpsilons,
    records: Option<ReceiptEpsilons>,
}

fn receipt(released: &Released<'_>, books: Bookkeeping, figures: Figures) -> Receipt {
    let Released { site, session, task, update_id, output } = *released;
    Receipt {
        format: ReceiptFormat::V1,
        site: site.clone(),
        study: task.plan.study_id.clone(),
        study_digest: task.plan.study_digest,
        round: task.round,
        attempt: task.attempt,
        update_id,
        model_version: task.model_version,
        model_digest: task.model_digest,
        imputer: session.study().imputer.clone(),
        public_values: output.public_values,
        private_values: output.private_values,
        payload_digest: output.digest,
        charges: books.charges,
        study_charges: books.study_charges,
        ledger_head: books.head,
        delta: task.plan.delta,
        epsilon: figures.sensitive,
        epsilon_records: figures.records,
    }
}

fn header(session: &Session, output: &RoundOutput, receipt: SignedReceipt) -> UpdateHeader {
    let stated = &receipt.receipt;
    UpdateHeader {
        update_id: stated.update_id,
        study_id: stated.study.clone(),
        round: stated.round,
        attempt: stated.attempt,
        model_version: stated.model_version,
        public_values: stated.public_values,
        private_values: stated.private_values,
        units: session.units().count() as u64,
        records: session.records() as u64,
        payload_digest: stated.payload_digest,
        public_loss: output.public_loss,
        receipt,
    }
}
