//! Prepared studies and cohorts, kept in memory while they are in use.

use std::sync::Arc;

use fusiondp_dp::Digest;
use fusiondp_protocol::ids::{CohortName, StudyId};
use fusiondp_protocol::study::StudyDocument;

use super::SiteAgent;
use crate::error::TaskError;
use crate::train::Session;
use crate::train::session::CohortRecords;

/// Studies kept prepared; the coordinator runs one at a time and enrols the next beside it.
const MAX_SESSIONS: usize = 2;

/// Newest last.
#[derive(Default)]
pub(super) struct Sessions {
    sessions: Vec<Prepared>,
}

struct Prepared {
    study: StudyId,
    session: Arc<Session>,
    cohorts: Vec<(CohortName, Arc<CohortRecords>)>,
}

impl Sessions {
    fn find(&mut self, study: &StudyId) -> Option<&mut Prepared> {
        self.sessions.iter_mut().find(|prepared| prepared.study == *study)
    }

    fn keep(&mut self, study: StudyId, session: Arc<Session>) {
        self.sessions.retain(|prepared| prepared.study != study);
        if self.sessions.len() >= MAX_SESSIONS {
            self.sessions.remove(0);
        }
        self.sessions.push(Prepared { study, session, cohorts: Vec::new() });
    }
}

impl SiteAgent {
    /// Reads records and imputes for a study, anew also if it was prepared before: an enrolment looks at the file as it is.
    pub(super) async fn prepare(&mut self, document: StudyDocument) -> Result<Arc<Session>, TaskError> {
        let sources = Arc::clone(&self.sources);
        let study = document.id().clone();
        let session = self.workers.run(move || Session::prepare(document, &sources)).await??;
        self.policy.check_support(session.study(), session.support_listed())?;
        let session = Arc::new(session);
        self.sessions.keep(study, Arc::clone(&session));
        Ok(session)
    }

    /// The session of a study the site has enrolled in, prepared again if the agent was restarted.
    pub(super) async fn session(
        &mut self,
        study: &StudyId,
        digest: Digest,
    ) -> Result<Arc<Session>, TaskError> {
        let prepared = self.sessions.find(study).map(|prepared| Arc::clone(&prepared.session));
        let session = match prepared {
            Some(session) => session,
            None => {
                let kept = self.store.study(study).await?;
                let kept = kept.ok_or_else(|| TaskError::NotEnrolled { study: study.clone() })?;
                self.prepare(StudyDocument::from_bytes(&kept.document)?).await?
            }
        };
        if session.document().digest() != digest {
            return Err(TaskError::StudyChanged);
        }
        Ok(session)
    }

    /// The encoded records of a cohort, read once per study.
    pub(super) async fn cohort(
        &mut self,
        session: &Arc<Session>,
        name: &CohortName,
    ) -> Result<Arc<CohortRecords>, TaskError> {
        let study = session.document().id();
        if let Some(prepared) = self.sessions.find(study)
            && let Some((_, records)) = prepared.cohorts.iter().find(|(known, _)| known == name)
        {
            return Ok(Arc::clone(records));
        }
        let (sources, session, wanted) = (Arc::clone(&self.sources), Arc::clone(session), name.clone());
        let study = study.clone();
        let read = move || session.cohort(sources.source.as_ref(), &wanted);
        let records = Arc::new(self.workers.run(read).await??);
        if let Some(prepared) = self.sessions.find(&study) {
            prepared.cohorts.push((name.clone(), Arc::clone(&records)));
        }
        Ok(records)
    }
}
