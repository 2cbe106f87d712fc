//! The receipts of one site.

use std::collections::{BTreeMap, BTreeSet};

use fusiondp_dp::{
    AccountantError, ChargeRequest, LedgerEntry, LedgerPublicKey, Protection, Released, StepCounts, UpdateId,
    verify_piece,
};
use fusiondp_protocol::SiteId;
use fusiondp_protocol::receipt::{Receipt, ReceiptEpsilons, ReceiptsFile, SignedReceipt};
use fusiondp_protocol::study::StudyDocument;
use fusiondp_runtime::tls::Authority;
use serde::Serialize;

use super::counts::CountsReading;
use super::key::{ChargeTime, KeyBinding};
use super::{Epsilons, Figures, ReportedSite, TOLERANCE};

/// Of a site that has released nothing.
const NONE: Epsilons = Epsilons { replace: 0.0, zero_out: 0.0 };

/// Problems that are listed; more of them tell nothing new.
const MAX_PROBLEMS: usize = 20;

/// What the receipts of one site show.
#[derive(Debug, Clone, Serialize)]
pub struct SiteVerdict {
    /// The site.
    pub site: SiteId,
    /// The key that signed.
    pub ledger_key: LedgerPublicKey,
    /// Whose it is, as far as that was checked.
    pub key_binding: KeyBinding,
    /// How many updates it has written receipts of.
    pub receipts: usize,
    /// How many charges they list.
    pub charges: u64,
    /// How many more the site counts.
    pub unlisted_charges: u64,
    /// How many tables of counts the file's last lines pay for.
    pub tables: usize,
    /// What the listed charges of training give, upper bounds.
    pub epsilon: Epsilons,
    /// What the site states in its newest receipt.
    pub epsilon_stated: Epsilons,
    /// The same of whole records, in a study that protects them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<RecordVerdict>,
    /// What does not hold.
    pub problems: Vec<String>,
    #[serde(skip)]
    times: Vec<ChargeTime>,
    /// Of tables of counts.
    #[serde(skip)]
    pub(super) counts: BTreeMap<u64, LedgerEntry>,
    #[serde(skip)]
    pub(crate) steps: StepCounts,
    #[serde(skip)]
    pub(crate) record_steps: StepCounts,
}

/// What whole records lose.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RecordVerdict {
    /// What the listed charges give, upper bounds.
    pub epsilon: Epsilons,
    /// What the site states in its newest receipt.
    pub epsilon_stated: Epsilons,
}

/// A verdict under construction.
struct Reading<'a> {
    document: &'a StudyDocument,
    file: &'a ReceiptsFile,
    charges: BTreeMap<u64, LedgerEntry>,
    updates: BTreeSet<UpdateId>,
    steps: StepCounts,
    record_steps: StepCounts,
    /// The first charge of each kind of release.
    kinds: Vec<ChargeRequest>,
    problems: Vec<String>,
}

impl SiteVerdict {
    pub(super) fn of(
        document: &StudyDocument,
        file: &ReceiptsFile,
        figures: &mut Figures,
        progress: &mut impl FnMut(),
    ) -> Result<Self, AccountantError> {
        let mut reading = Reading::new(document, file);
        // In the order of the chain, so that each receipt's figure can be recomputed where it was stated.
        let mut receipts: Vec<&SignedReceipt> = file.receipts.iter().collect();
        receipts.sort_by_key(|signed| signed.receipt.study_charges);
        for signed in &receipts {
            reading.read(signed, figures)?;
            progress();
        }
        let counts = CountsReading::of(document, file, &reading.charges);
        counts.problems.into_iter().for_each(|problem| reading.report(problem));
        reading.check_links(&counts.charges);
        reading.into_verdict(&receipts, counts.charges, figures)
    }

    /// Checks under the consortium's authority whose the key is.
    pub(super) fn check_binding(&mut self, file: &ReceiptsFile, authority: &Authority) {
        let (binding, problems) = KeyBinding::check(&file.header, &self.times, authority);
        self.key_binding = binding;
        self.problems.extend(problems);
    }

    /// Compares the key with what a hospital has told.
    pub(super) fn check_key(&mut self, keys: &BTreeMap<SiteId, LedgerPublicKey>) {
        if let Some(told) = keys.get(&self.site).filter(|told| **told != self.ledger_key) {
            self.problems.push(format!("signed with key {}, the hospital's is {told}", self.ledger_key));
        }
    }

    pub(super) fn check_report(&mut self, said: &ReportedSite) {
        let of_records = self.records.map(|records| records.epsilon_stated);
        if said.records_epsilon_claimed != of_records {
            self.problems
                .push("report.json and its newest receipt differ in the epsilon of whole records".to_owned());
        }
        if said.epsilon_claimed != self.epsilon_stated {
            self.problems.push(format!(
                "report.json says that the site claims {} and {}, its newest receipt states {} and {}",
                said.epsilon_claimed.replace,
                said.epsilon_claimed.zero_out,
                self.epsilon_stated.replace,
                self.epsilon_stated.zero_out
            ));
        }
        if (self.receipts as u64) < u64::from(said.rounds_contributed) {
            self.problems.push(format!(
                "{} receipts for {} rounds that the site took part in",
                self.receipts, said.rounds_contributed
            ));
        }
    }
}

impl<'a> Reading<'a> {
    fn new(document: &'a StudyDocument, file: &'a ReceiptsFile) -> Self {
        let mut reading = Self {
            document,
            file,
            charges: BTreeMap::new(),
            updates: BTreeSet::new(),
            steps: StepCounts::default(),
            record_steps: StepCounts::default(),
            kinds: Vec::new(),
            problems: Vec::new(),
        };
        if file.header.study != *document.id() {
            reading.report(format!("the file is of study {}", file.header.study));
        }
        reading
    }

    /// The verdict on `receipts`, which were read in the order of the chain, and on charges of counts.
    fn into_verdict(
        mut self,
        receipts: &[&SignedReceipt],
        counts: BTreeMap<u64, LedgerEntry>,
        figures: &mut Figures,
    ) -> Result<SiteVerdict, AccountantError> {
        let newest = receipts.last().map(|signed| &signed.receipt);
        let charges = self.charges.len() as u64;
        let unlisted_charges = newest.map_or(0, |receipt| receipt.study_charges).saturating_sub(charges);
        if unlisted_charges > 0 {
            self.report(format!("{unlisted_charges} charges that the site counts are in no receipt"));
        }
        Ok(SiteVerdict {
            site: self.file.header.site.clone(),
            ledger_key: self.file.header.ledger_key,
            key_binding: KeyBinding::NotChecked,
            receipts: receipts.len(),
            charges,
            unlisted_charges,
            tables: counts.len(),
            epsilon: figures.of(&self.steps)?,
            epsilon_stated: newest.map_or(NONE, |newest| stated(&newest.epsilon)),
            records: self.record_verdict(newest, figures)?,
            times: times(self.charges.values().chain(counts.values())),
            counts,
            problems: self.problems,
            steps: self.steps,
            record_steps: self.record_steps,
        })
    }

    fn record_verdict(
        &self,
        newest: Option<&Receipt>,
        figures: &mut Figures,
    ) -> Result<Option<RecordVerdict>, AccountantError> {
        if !self.whole_records() {
            return Ok(None);
        }
        let said = newest.and_then(|newest| newest.epsilon_records);
        Ok(Some(RecordVerdict {
            epsilon: figures.of(&self.record_steps)?,
            epsilon_stated: said.map_or(NONE, |one| stated(&one)),
        }))
    }

    fn report(&mut self, problem: String) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        }
    }

    fn read(&mut self, signed: &SignedReceipt, figures: &mut Figures) -> Result<(), AccountantError> {
        let receipt = &signed.receipt;
        let round = receipt.round;
        if let Err(error) = signed.verify(&self.file.header.ledger_key) {
            self.report(format!("round {round}: {error}"));
            return Ok(());
        }
        if let Some(problem) = self.problem_of(receipt) {
            self.report(format!("round {round}: {problem}"));
        }
        for charge in &receipt.charges {
            self.add(&charge.entry);
        }
        self.compare(round, "epsilon", (stated(&receipt.epsilon), figures.of(&self.steps)?), receipt);
        if let Some(of_records) = &receipt.epsilon_records {
            let figures = (stated(of_records), figures.of(&self.record_steps)?);
            self.compare(round, "epsilon of whole records", figures, receipt);
        }
        Ok(())
    }

    /// Compares what a receipt states with what all charges up to it give.
    fn compare(&mut self, round: u32, what: &str, (stated, given): (Epsilons, Epsilons), receipt: &Receipt) {
        let complete = self.charges.len() as u64 == receipt.study_charges;
        for (relation, stated, given) in
            [("replace", stated.replace, given.replace), ("zero_out", stated.zero_out, given.zero_out)]
        {
            let low = stated < given * (1.0 - TOLERANCE);
            let high = stated > given * (1.0 + TOLERANCE);
            if low || (complete && high) || stated.is_nan() {
                self.report(format!(
                    "round {round}: {relation} {what} {stated} is stated, its charges give {given}"
                ));
            }
        }
    }

    fn whole_records(&self) -> bool {
        self.document.study().protects() == Protection::WholeRecords
    }

    /// What is wrong with a receipt in the light of the study.
    fn problem_of(&mut self, receipt: &Receipt) -> Option<String> {
        let study = self.document.study();
        let own = receipt.own_charges().len();
        let sums = study.noised_sums(receipt.round) * study.training.local_steps as usize;
        let problem = match () {
            () if receipt.site != self.file.header.site => format!("it is of site {}", receipt.site),
            () if receipt.study_digest != self.document.digest() => {
                "it is of another study document than study.toml".to_owned()
            }
            () if receipt.delta != study.privacy.delta => {
                format!("its delta {} is not the study's", receipt.delta)
            }
            () if receipt.imputer != study.imputer => "its imputer is not the study's".to_owned(),
            () if !self.updates.insert(receipt.update_id) => "an update has two receipts".to_owned(),
            () if own > 0 && sums == 0 => "a warm-up round has charges".to_owned(),
            () if own > 0 && own != sums => format!("{own} charges for {sums} noised sums"),
            () if own == 0 && sums > 0 && receipt.public_values > 0 && study.noises_public_part() => {
                format!("no charge for {sums} noised sums")
            }
            () if receipt.epsilon_records.is_some() != self.whole_records() => {
                "it speaks of whole records where the study does not, or the other way round".to_owned()
            }
            () => return None,
        };
        Some(problem)
    }

    /// Adds a charge that is not known yet.
    fn add(&mut self, entry: &LedgerEntry) {
        let (sequence, charge) = (entry.sequence(), entry.charge());
        if let Some(known) = self.charges.get(&sequence) {
            if known.hash() != entry.hash() {
                self.report(format!("two different charges stand at place {sequence} of the ledger"));
            }
            return;
        }
        let study = self.document.study();
        let unit = study.privacy.unit_column.as_deref().unwrap_or("record");
        let clip_norm = match (&charge.released, &study.privacy.records) {
            (Released::PrivateSum, _) => Some(study.privacy.clip_norm),
            (Released::PublicSum, Some(records)) => Some(records.clip_norm),
            (Released::PublicSum, None) | (Released::Counts { .. }, _) => None,
        };
        let of_its_kind = self.kinds.iter().find(|kind| kind.released == charge.released);
        let odd = match () {
            () if clip_norm.is_none() => "the study makes no such release in training",
            () if clip_norm != Some(charge.clip_norm) => "its clip norm is not the study's",
            () if charge.unit != unit => "its privacy unit is not the study's",
            () if charge.protects != study.protects() => "it protects something else than the study",
            () if of_its_kind.is_some_and(|kind| kind.event != charge.event) => {
                "its noise, rate or steps are not those of the other charges"
            }
            () => "",
        };
        let is_new = of_its_kind.is_none();
        if !odd.is_empty() {
            self.report(format!("charge {sequence}: {odd}"));
        }
        if is_new {
            self.kinds.push(charge.clone());
        }
        let steps = charge.event.steps().get().into();
        self.record_steps.add(&charge.event, steps);
        if charge.released != Released::PublicSum {
            self.steps.add(&charge.event, steps);
        }
        self.charges.insert(sequence, entry.clone());
    }

    /// Charges next to each other in the chain have to follow each other.
    fn check_links(&mut self, counts: &BTreeMap<u64, LedgerEntry>) {
        let mut entries: Vec<&LedgerEntry> = self.charges.values().chain(counts.values()).collect();
        entries.sort_by_key(|entry| entry.sequence());
        let broken = entries.windows(2).find_map(|pair| {
            let adjacent = pair[0].sequence() + 1 == pair[1].sequence();
            adjacent.then(|| verify_piece(&[pair[0].clone(), pair[1].clone()]).err()).flatten()
        });
        if let Some(error) = broken {
            self.report(error.to_string());
        }
    }
}

fn times<'a>(charges: impl Iterator<Item = &'a LedgerEntry>) -> Vec<ChargeTime> {
    charges.map(|entry| (entry.sequence(), entry.charge().time_ms)).collect()
}

fn stated(epsilon: &ReceiptEpsilons) -> Epsilons {
    Epsilons { replace: epsilon.replace.get(), zero_out: epsilon.zero_out.get() }
}
