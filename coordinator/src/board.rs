//! What each site is to do next: the in-memory side of the long poll.
//!
//! Holds no truth. Everything on the board follows from the store and is posted again after a restart. An assignment
//! stays until it is answered or withdrawn, so a site that lost it in a crash gets it again with its next poll.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fusiondp_protocol::{
    Assignment, CohortName, EnrolmentOffer, EvaluationTask, SiteId, StudyId, TrainingTask,
};
use tokio::sync::Notify;

use crate::round::Reporting;

/// An evaluation yields to training for this long, in milliseconds: it must not slow a round, and must not starve.
const EVALUATION_PATIENCE_MS: u64 = 1_000;

/// An offer that waits for approval is held back for this long, in milliseconds, so that the site can work meanwhile.
const APPROVAL_PATIENCE_MS: u64 = 2_000;

/// Assignments by site.
#[derive(Default)]
pub(crate) struct Board {
    slots: Mutex<HashMap<SiteId, Slot>>,
}

#[derive(Default)]
struct Slot {
    changed: Arc<Notify>,
    enrolment: Option<PostedOffer>,
    training: Option<TrainingTask>,
    evaluations: VecDeque<PostedEvaluation>,
}

struct PostedOffer {
    not_before_ms: u64,
    offer: EnrolmentOffer,
}

struct PostedEvaluation {
    posted_ms: u64,
    task: EvaluationTask,
}

impl Slot {
    /// What is next. A task beyond its deadline is not handed out any more: its answer would count nothing.
    fn pick(&self, now_ms: u64) -> Option<Assignment> {
        let open = |one: &&PostedOffer| one.not_before_ms <= now_ms && now_ms < one.offer.deadline_ms;
        if let Some(one) = self.enrolment.as_ref().filter(open) {
            return Some(Assignment::Enrolment(one.offer.clone()));
        }
        let evaluation = self.evaluations.iter().find(|one| now_ms < one.task.deadline_ms);
        let training = self.training.as_ref().filter(|task| now_ms < task.deadline_ms);
        let starving =
            evaluation.filter(|one| now_ms.saturating_sub(one.posted_ms) >= EVALUATION_PATIENCE_MS);
        match (starving, training) {
            (Some(evaluation), _) => Some(Assignment::Evaluation(evaluation.task.clone())),
            (None, Some(task)) => Some(Assignment::Training(task.clone())),
            (None, None) => evaluation.map(|one| Assignment::Evaluation(one.task.clone())),
        }
    }
}

impl Board {
    fn slots(&self) -> MutexGuard<'_, HashMap<SiteId, Slot>> {
        // No code panics while it holds the lock; a poisoned board would still be as right as the store.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the site is to do now, and what to wait on if that is nothing.
    pub(crate) fn next(&self, site: &SiteId, now_ms: u64) -> (Option<Assignment>, Arc<Notify>) {
        let mut slots = self.slots();
        let slot = slots.entry(site.clone()).or_default();
        (slot.pick(now_ms), slot.changed.clone())
    }

    /// Offers a study.
    pub(crate) fn post_enrolment(&self, site: &SiteId, offer: EnrolmentOffer) {
        self.update(site, |slot| slot.enrolment = Some(PostedOffer { not_before_ms: 0, offer }));
    }

    /// The site has to ask somebody; the offer stays, and is made again in a moment.
    pub(crate) fn postpone_enrolment(&self, site: &SiteId, study: &StudyId, now_ms: u64) {
        self.update(site, |slot| {
            if let Some(one) = slot.enrolment.as_mut().filter(|one| one.offer.study_id == *study) {
                one.not_before_ms = now_ms.saturating_add(APPROVAL_PATIENCE_MS);
            }
        });
    }

    /// Whether an offer to the site is held back, so that there will be something to do without anything being posted.
    pub(crate) fn holds_back(&self, site: &SiteId, now_ms: u64) -> bool {
        self.slots()
            .get(site)
            .and_then(|slot| slot.enrolment.as_ref())
            .is_some_and(|one| now_ms < one.not_before_ms && now_ms < one.offer.deadline_ms)
    }

    /// Gives out a round; a newer one replaces an older one.
    pub(crate) fn post_training<'a>(&self, sites: impl IntoIterator<Item = &'a SiteId>, task: &TrainingTask) {
        for site in sites {
            self.update(site, |slot| slot.training = Some(task.clone()));
        }
    }

    /// Asks for an evaluation, once.
    pub(crate) fn post_evaluation(&self, site: &SiteId, task: EvaluationTask, now_ms: u64) {
        self.update(site, |slot| {
            let known = slot.evaluations.iter().any(|one| same_evaluation(&one.task, &task));
            if !known {
                slot.evaluations.push_back(PostedEvaluation { posted_ms: now_ms, task });
            }
        });
    }

    /// The site has answered an offer, or it has ended.
    pub(crate) fn withdraw_enrolment(&self, site: &SiteId, study: &StudyId) {
        self.update(site, |slot| {
            slot.enrolment.take_if(|one| one.offer.study_id == *study);
        });
    }

    /// The site has answered a round; without an attempt, in whatever attempt.
    pub(crate) fn withdraw_training(&self, site: &SiteId, study: &StudyId, round: u32, attempt: Option<u32>) {
        self.update(site, |slot| {
            slot.training.take_if(|task| {
                task.plan.study_id == *study
                    && task.round == round
                    && attempt.is_none_or(|attempt| task.attempt == attempt)
            });
        });
    }

    /// The site has answered an evaluation; without a cohort, all of the version.
    pub(crate) fn withdraw_evaluation(
        &self,
        site: &SiteId,
        study: &StudyId,
        model_version: u64,
        cohort: Option<&CohortName>,
    ) {
        let matches = |task: &EvaluationTask| {
            task.study_id == *study
                && task.model_version == model_version
                && cohort.is_none_or(|cohort| task.cohort == *cohort)
        };
        self.update(site, |slot| slot.evaluations.retain(|one| !matches(&one.task)));
    }

    /// Whoever has answered the round has no task of it.
    pub(crate) fn keep_training(&self, study: &StudyId, reporting: &Reporting) {
        for (site, slot) in self.slots().iter_mut() {
            slot.training.take_if(|task| task.plan.study_id == *study && !reporting.waits_for(site));
        }
    }

    /// Nobody trains any more.
    pub(crate) fn withdraw_round(&self, study: &StudyId) {
        for slot in self.slots().values_mut() {
            slot.training.take_if(|task| task.plan.study_id == *study);
        }
    }

    /// The study has ended.
    pub(crate) fn withdraw_study(&self, study: &StudyId) {
        self.withdraw_round(study);
        for slot in self.slots().values_mut() {
            slot.enrolment.take_if(|one| one.offer.study_id == *study);
            slot.evaluations.retain(|one| one.task.study_id != *study);
        }
    }

    fn update(&self, site: &SiteId, change: impl FnOnce(&mut Slot)) {
        let mut slots = self.slots();
        let slot = slots.entry(site.clone()).or_default();
        change(slot);
        slot.changed.notify_waiters();
    }
}

fn same_evaluation(left: &EvaluationTask, right: &EvaluationTask) -> bool {
    left.study_id == right.study_id
        && left.model_version == right.model_version
        && left.cohort == right.cohort
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use fusiondp_protocol::{Digest, Plan, SiteSize, StudyDocument};

    use super::*;
    use crate::round::RoundKey;
    use crate::round::reporting::SiteOutcome;

    fn task(deadline_ms: u64) -> TrainingTask {
        let document = StudyDocument::from_bytes(crate::study::testing::STUDY.as_bytes()).unwrap();
        let size = |id: &str| SiteSize { site: id.parse().unwrap(), units: 100, records: 200 };
        let plan = Plan::derive(&document, &[size("a"), size("b")]).unwrap();
        let model_digest = Digest::of(b"model");
        TrainingTask {
            plan,
            round: 1,
            model_version: 1,
            model_digest,
            attempt: 1,
            private_part: false,
            deadline_ms,
        }
    }

    fn sites() -> [SiteId; 2] {
        ["a", "b"].map(|id| id.parse().unwrap())
    }

    #[test]
    fn a_task_is_not_handed_out_beyond_its_deadline() {
        let (board, task) = (Board::default(), task(100));
        board.post_training(&sites(), &task);
        assert_eq!(board.next(&sites()[0], 99).0, Some(Assignment::Training(task)));
        assert_eq!(board.next(&sites()[0], 100).0, None);
    }

    #[test]
    fn an_offer_that_waits_for_approval_stays_and_blocks_nothing() {
        let (board, task, site) = (Board::default(), task(100_000), &sites()[0]);
        let document = StudyDocument::from_bytes(crate::study::testing::STUDY.as_bytes()).unwrap();
        let offer = EnrolmentOffer::new(&document, 50_000);
        board.post_enrolment(site, offer.clone());
        board.post_training(&sites(), &task);
        board.postpone_enrolment(site, &"another".parse().unwrap(), 10);
        assert_eq!(board.next(site, 10).0, Some(Assignment::Enrolment(offer.clone())));
        board.postpone_enrolment(site, document.id(), 10);
        assert_eq!(board.next(site, 2_009).0, Some(Assignment::Training(task)));
        assert!(board.holds_back(site, 2_009) && !board.holds_back(site, 2_010));
        assert_eq!(board.next(site, 2_010).0, Some(Assignment::Enrolment(offer)));
        board.withdraw_enrolment(site, document.id());
        assert!(!board.holds_back(site, 10));
    }

    #[test]
    fn whoever_has_answered_loses_the_task_and_nobody_else() {
        let (board, task) = (Board::default(), task(100));
        board.post_training(&sites(), &task);
        let outcomes = sites().into_iter().zip([SiteOutcome::Reported, SiteOutcome::Working]).collect();
        let reporting = Reporting::new(RoundKey::first_attempt(1, 1), 100, outcomes);
        board.keep_training(&"another".parse().unwrap(), &reporting);
        assert!(board.next(&sites()[0], 1).0.is_some(), "of another study");
        board.keep_training(&task.plan.study_id, &reporting);
        assert_eq!(board.next(&sites()[0], 1).0, None);
        assert_eq!(board.next(&sites()[1], 1).0, Some(Assignment::Training(task)));
    }
}
