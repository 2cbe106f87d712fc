//! Checks a study against policy, a person's approval, data and imputers, and joins it.

use std::sync::Arc;

use fusiondp_protocol::messages::{Enrolment, EnrolmentOffer};
use fusiondp_protocol::study::StudyDocument;

use super::SiteAgent;
use crate::error::TaskError;
use crate::policy::Refusal;
use crate::store::{EnrolledStudy, Look};
use crate::train::Session;
use crate::transport::Link;

/// Time before the data is read again for a study that it did not serve, in milliseconds.
const LOOK_AGAIN_MS: u64 = 60_000;

impl SiteAgent {
    /// Answers an offer: enrols, or returns why not.
    pub(super) async fn enrol(&mut self, link: &mut Link, offer: EnrolmentOffer) -> Result<(), TaskError> {
        let document = offer.document()?;
        self.store.record_offer(&offer, &link.registered().consortium, self.clock.now_ms()).await?;
        // Cheap questions first: nobody should wait for an imputation, or approve a study, that a policy refuses anyway.
        self.policy.check_document(document.study())?;
        self.check_offer(&document).await?;
        let session = self.prepare(document).await?;
        let study = session.study();
        let (units, records) = (session.units().count() as u64, session.records() as u64);
        self.policy.check_study(study, units)?;
        let (ledger_head, ledger_key) = {
            let books = self.books.lock().await;
            if study.fusion.mode.has_private_part() {
                self.policy.check_data(books.ledger.entries(), session.identity(), study)?;
            }
            (books.ledger.head(), books.ledger.key()?)
        };
        self.record_session(&session).await?;
        let enrolled = EnrolledStudy {
            study: offer.study_id.clone(),
            digest: offer.study_digest,
            document: offer.study_toml.to_vec(),
        };
        self.store.keep_study(&enrolled, self.clock.now_ms()).await?;
        let (study_id, study_digest) = (offer.study_id, offer.study_digest);
        let enrolment =
            Enrolment { study_id: study_id.clone(), study_digest, units, records, ledger_head, ledger_key };
        link.enrol(enrolment).await?;
        tracing::info!(study = %study_id, units, records, "enrolled");
        Ok(())
    }

    /// Whether the study is approved. While it waits, the site reads its data for whoever has to decide; what it finds stays
    /// here, also that the data does not serve.
    async fn check_offer(&mut self, document: &StudyDocument) -> Result<(), TaskError> {
        let verdict = self.store.verdict(document.digest()).await?;
        match self.policy.check_offer(verdict.as_ref()) {
            Err(Refusal::ApprovalPending) => {
                self.look(document).await?;
                Err(Refusal::ApprovalPending.into())
            }
            outcome => Ok(outcome?),
        }
    }

    async fn look(&mut self, document: &StudyDocument) -> Result<(), TaskError> {
        let now_ms = self.clock.now_ms();
        match self.store.last_look(document.digest()).await? {
            Some((Look::Ready { .. }, _)) => return Ok(()),
            Some((Look::Problem(_), then_ms)) if now_ms.saturating_sub(then_ms) < LOOK_AGAIN_MS => {
                return Ok(());
            }
            _ => {}
        }
        match self.prepare(document.clone()).await {
            Ok(session) => self.record_session(&session).await,
            Err(error) => {
                let look = Look::Problem(error.local_text());
                Ok(self.store.record_look(document.digest(), &look, now_ms).await?)
            }
        }
    }

    async fn record_session(&self, session: &Arc<Session>) -> Result<(), TaskError> {
        let look = Look::Ready {
            units: session.units().count() as u64,
            records: session.records() as u64,
            data_set: session.identity().digest,
        };
        Ok(self.store.record_look(session.document().digest(), &look, self.clock.now_ms()).await?)
    }
}
