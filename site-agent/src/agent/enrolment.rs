//! Checks a study against data, imputers and policy, and joins it.

use fusiondp_protocol::messages::{Enrolment, EnrolmentOffer};

use super::SiteAgent;
use crate::error::TaskError;
use crate::store::EnrolledStudy;
use crate::transport::Link;

impl SiteAgent {
    /// Answers an offer: enrols, or returns why not.
    pub(super) async fn enrol(&mut self, link: &mut Link, offer: EnrolmentOffer) -> Result<(), TaskError> {
        let document = offer.document()?;
        // Cheap questions first: nobody should wait for an imputation that a policy refuses anyway.
        self.check_before_reading(&document)?;
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

    fn check_before_reading(
        &self,
        document: &fusiondp_protocol::study::StudyDocument,
    ) -> Result<(), TaskError> {
        let study = document.study();
        self.policy.check_study(study, u64::MAX)?;
        if study.fusion.mode.has_public_part() {
            self.policy.permit_public(study, u64::MAX)?;
        }
        Ok(())
    }
}
