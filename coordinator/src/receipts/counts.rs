//! Charges of tables of counts, as the last lines of a site's file list them, and what they cost.
//!
//! The lines are of reports that arrived. That one is left out shows where the report tells of more tables than are paid for; a
//! coordinator that leaves out the table too is found by the hospital's own file, which has all charges of its ledger.

use std::collections::{BTreeMap, BTreeSet};

use fusiondp_dp::{AccountantError, ChargeRequest, DpEvent, LedgerEntry, Released, StepCounts, UpdateId};
use fusiondp_protocol::receipt::ReceiptsFile;
use fusiondp_protocol::study::StudyDocument;
use serde::{Deserialize, Serialize};

use super::{Epsilons, Figures, SiteVerdict, TOLERANCE};
use crate::counts::CountsSteps;

/// What tables of counts cost, recomputed from their charges; upper bounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CountsVerdict {
    /// A patient of each cohort, who is in no other data.
    pub cohorts: Vec<CohortVerdict>,
    /// A patient who is in every cohort and in the training data.
    pub epsilon_with_training: Epsilons,
    /// The same of whole records, in a study that protects them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records_epsilon_with_training: Option<Epsilons>,
}

/// One cohort of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CohortVerdict {
    /// The cohort.
    pub cohort: String,
    /// Of one site, or of as many as may hold the same patient.
    pub tables: u64,
    /// What they cost.
    pub epsilon: Epsilons,
}

/// What `report.json` says of it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ReportedCounts {
    pub(super) cohorts: Vec<CohortVerdict>,
    pub(super) epsilon_with_training: Option<Epsilons>,
    pub(super) records_epsilon_with_training: Option<Epsilons>,
}

impl CountsVerdict {
    /// What the charges of all sites come to; `None` where there are none.
    pub(super) fn of(
        sites: &[SiteVerdict],
        max_overlap: u32,
        figures: &mut Figures,
    ) -> Result<Option<Self>, AccountantError> {
        let charges = sites
            .iter()
            .flat_map(|verdict| verdict.counts.values().map(move |entry| (&verdict.site, entry.charge())));
        let Some(steps) = CountsSteps::of_the_worst(charges, max_overlap) else { return Ok(None) };
        let mut cohorts = Vec::new();
        for (cohort, worst) in &steps.cohorts {
            let (cohort, tables) = (cohort.clone(), worst.total());
            cohorts.push(CohortVerdict { cohort, tables, epsilon: figures.of(worst)? });
        }
        let mut with = |of: fn(&SiteVerdict) -> &StepCounts| {
            figures.of(&steps.with_training(sites.iter().map(of), max_overlap))
        };
        let epsilon_with_training = with(|site| &site.steps)?;
        let whole_records = sites.iter().all(|site| site.records.is_some());
        let records_epsilon_with_training =
            whole_records.then(|| with(|site| &site.record_steps)).transpose()?;
        Ok(Some(Self { cohorts, epsilon_with_training, records_epsilon_with_training }))
    }

    /// What a report says otherwise. It may say more, for tasks of training that brought no update, and never less; of tables it
    /// tells of exactly those that are paid for.
    pub(super) fn compare(given: Option<&Self>, said: Option<&ReportedCounts>) -> Vec<String> {
        let (given, said) = match (given, said) {
            (None, None) => return Vec::new(),
            (Some(given), Some(said)) => (given, said),
            (None, Some(_)) => {
                return vec![
                    "report.json tells of tables of counts, and no line here pays for one".to_owned(),
                ];
            }
            (Some(_), None) => {
                return vec![
                    "report.json tells of no tables of counts, and lines here pay for some".to_owned(),
                ];
            }
        };
        let mut problems = Vec::new();
        let tables = |cohorts: &[CohortVerdict]| -> BTreeMap<String, u64> {
            cohorts.iter().map(|one| (one.cohort.clone(), one.tables)).collect()
        };
        let (of_report, of_lines) = (tables(&said.cohorts), tables(&given.cohorts));
        if of_report != of_lines {
            problems.push(format!(
                "report.json tells of these tables of counts by cohort: {of_report:?}; the lines here pay for {of_lines:?}"
            ));
        }
        let said_of = |cohort: &CohortVerdict| said.cohorts.iter().find(|one| one.cohort == cohort.cohort);
        let mut pairs: Vec<(String, Option<Epsilons>, Epsilons)> = Vec::new();
        for one in &given.cohorts {
            let said = said_of(one).map(|said| said.epsilon);
            pairs.push((format!("counts of cohort {}", one.cohort), said, one.epsilon));
        }
        let together = "counts and training together".to_owned();
        pairs.push((together, said.epsilon_with_training, given.epsilon_with_training));
        if let Some(of_records) = given.records_epsilon_with_training {
            let whole = "counts and training together, of whole records".to_owned();
            pairs.push((whole, said.records_epsilon_with_training, of_records));
        }
        problems.extend(pairs.into_iter().filter_map(|(what, said, given)| less(&what, said, given)));
        problems
    }
}

/// A figure of the report that is below what the charges give, or is not there.
fn less(what: &str, said: Option<Epsilons>, given: Epsilons) -> Option<String> {
    let enough = |said: f64, given: f64| said >= given * (1.0 - TOLERANCE);
    let Some(said) = said else { return Some(format!("report.json has no epsilon of {what}")) };
    if enough(said.replace, given.replace) && enough(said.zero_out, given.zero_out) {
        return None;
    }
    Some(format!(
        "report.json says epsilon {} and {} of {what}, the charges give {} and {}",
        said.replace, said.zero_out, given.replace, given.zero_out
    ))
}

/// What the lines show.
#[derive(Debug, Default)]
pub(super) struct CountsReading {
    /// By place in the ledger, each once. What is odd about one is a problem, and it counts all the same.
    pub(super) charges: BTreeMap<u64, LedgerEntry>,
    /// What does not hold.
    pub(super) problems: Vec<String>,
}

impl CountsReading {
    /// Reads the lines of a file beside the charges of training that its receipts list.
    pub(super) fn of(
        document: &StudyDocument,
        file: &ReceiptsFile,
        training: &BTreeMap<u64, LedgerEntry>,
    ) -> Self {
        let mut reading = Self::default();
        let mut paid: BTreeSet<UpdateId> = BTreeSet::new();
        let mut last = None;
        for signed in &file.counts {
            let (sequence, charge) = (signed.entry.sequence(), signed.entry.charge());
            if let Err(error) = signed.verify(&file.header.ledger_key) {
                reading.problems.push(format!("charge of counts: {error}"));
                continue;
            }
            let problem = match () {
                () if last.is_some_and(|last| last >= sequence) => Some("is repeated or out of order"),
                () if training.contains_key(&sequence) => Some("stands at the place of a charge of training"),
                () if !paid.insert(charge.update_id) => Some("names a report that another one has paid for"),
                () => odd(document, charge),
            };
            reading.problems.extend(problem.map(|problem| format!("charge {sequence} of counts {problem}")));
            last = last.max(Some(sequence));
            reading.charges.insert(sequence, signed.entry.clone());
        }
        reading
    }
}

/// What is wrong with a charge in the light of the study.
fn odd(document: &StudyDocument, charge: &ChargeRequest) -> Option<&'static str> {
    let study = document.study();
    let Some(asked) = study.evaluation.noisy() else { return Some("is of a study that releases none") };
    let Released::Counts { cohort } = &charge.released else { return Some("paid for something else") };
    let named = [&study.evaluation.during, &study.evaluation.final_cohort];
    let one = DpEvent::GaussianHistogram {
        noise_multiplier: asked.noise_multiplier,
        steps: std::num::NonZeroU32::MIN,
    };
    match () {
        () if charge.study != document.id().as_str() || charge.study_digest != document.digest() => {
            Some("is of another study or study document")
        }
        () if !named.into_iter().flatten().any(|name| name.as_str() == cohort) => {
            Some("is of a cohort that the study does not name")
        }
        () if charge.event != one => Some("has another noise than the study's, or pays for several"),
        () if charge.unit != study.privacy.unit_column.as_deref().unwrap_or("record") => {
            Some("has another privacy unit than the study's")
        }
        () if charge.protects != study.protects() => Some("protects something else than the study"),
        () => None,
    }
}
