//! The receipts of one site.

use std::collections::{BTreeMap, BTreeSet};

use fusiondp_dp::{
    AccountantError, DpEvent, LedgerEntry, LedgerPublicKey, StepCounts, UpdateId, verify_piece,
};
use fusiondp_protocol::SiteId;
use fusiondp_protocol::receipt::{Receipt, ReceiptEpsilons, ReceiptsFile, SignedReceipt};
use fusiondp_protocol::study::StudyDocument;
use serde::Serialize;

use super::{Epsilons, Figures, ReportedSite, TOLERANCE};

/// Problems that are listed; more of them tell nothing new.
const MAX_PROBLEMS: usize = 20;

/// What the receipts of one site show.
#[derive(Debug, Clone, Serialize)]
pub struct SiteVerdict {
    /// The site.
    pub site: SiteId,
    /// The key that signed; whose it is, the hospital says.
    pub ledger_key: LedgerPublicKey,
    /// How many updates it has written receipts of.
    pub receipts: usize,
    /// How many charges they list.
    pub charges: u64,
    /// How many more the site counts.
    pub unlisted_charges: u64,
    /// What the listed charges give, upper bounds.
    pub epsilon: Epsilons,
    /// What the site states in its newest receipt.
    pub epsilon_stated: Epsilons,
    /// What does not hold.
    pub problems: Vec<String>,
    #[serde(skip)]
    pub(crate) steps: StepCounts,
}

/// A verdict under construction.
struct Reading<'a> {
    document: &'a StudyDocument,
    file: &'a ReceiptsFile,
    charges: BTreeMap<u64, LedgerEntry>,
    updates: BTreeSet<UpdateId>,
    steps: StepCounts,
    event: Option<DpEvent>,
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
        reading.check_links();
        let newest = receipts.last().map(|signed| &signed.receipt);
        let charges = reading.charges.len() as u64;
        let unlisted_charges = newest.map_or(0, |receipt| receipt.study_charges).saturating_sub(charges);
        if unlisted_charges > 0 {
            reading.report(format!("{unlisted_charges} charges that the site counts are in no receipt"));
        }
        Ok(Self {
            site: file.header.site.clone(),
            ledger_key: file.header.ledger_key,
            receipts: receipts.len(),
            charges,
            unlisted_charges,
            epsilon: figures.of(&reading.steps)?,
            epsilon_stated: newest
                .map_or(Epsilons { replace: 0.0, zero_out: 0.0 }, |newest| stated(&newest.epsilon)),
            problems: reading.problems,
            steps: reading.steps,
        })
    }

    /// Compares the key with what a hospital has told.
    pub(super) fn check_key(&mut self, keys: &BTreeMap<SiteId, LedgerPublicKey>) {
        if let Some(told) = keys.get(&self.site).filter(|told| **told != self.ledger_key) {
            self.problems.push(format!("signed with key {}, the hospital's is {told}", self.ledger_key));
        }
    }

    pub(super) fn check_report(&mut self, said: &ReportedSite) {
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
            event: None,
            problems: Vec::new(),
        };
        if file.header.study != *document.id() {
            reading.report(format!("the file is of study {}", file.header.study));
        }
        reading
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
        let listed = self.charges.len() as u64;
        let (given, stated) = (figures.of(&self.steps)?, stated(&receipt.epsilon));
        let complete = listed == receipt.study_charges;
        for (relation, stated, given) in
            [("replace", stated.replace, given.replace), ("zero_out", stated.zero_out, given.zero_out)]
        {
            let low = stated < given * (1.0 - TOLERANCE);
            let high = stated > given * (1.0 + TOLERANCE);
            if low || (complete && high) {
                self.report(format!(
                    "round {round}: {relation} epsilon {stated} is stated, its charges give {given}"
                ));
            }
        }
        Ok(())
    }

    /// What is wrong with a receipt in the light of the study.
    fn problem_of(&mut self, receipt: &Receipt) -> Option<String> {
        let study = self.document.study();
        let own = receipt.own_charges().len();
        let steps = study.training.local_steps as usize;
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
            () if own > 0 && own != steps => format!("{own} charges for {steps} steps"),
            () if own > 0 && receipt.round <= study.fusion.warmup_rounds => {
                "a warm-up round has charges".to_owned()
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
        let odd = match () {
            () if charge.clip_norm != study.privacy.clip_norm => "its clip norm is not the study's",
            () if charge.unit != unit => "its privacy unit is not the study's",
            () if self.event.is_some_and(|event| event != charge.event) => {
                "its noise, rate or steps are not those of the other charges"
            }
            () => "",
        };
        if !odd.is_empty() {
            self.report(format!("charge {sequence}: {odd}"));
        }
        self.event = Some(charge.event);
        self.steps.add(&charge.event, charge.event.steps().get().into());
        self.charges.insert(sequence, entry.clone());
    }

    /// Charges next to each other in the chain have to follow each other.
    fn check_links(&mut self) {
        let entries: Vec<&LedgerEntry> = self.charges.values().collect();
        let broken = entries.windows(2).find_map(|pair| {
            let adjacent = pair[0].sequence() + 1 == pair[1].sequence();
            adjacent.then(|| verify_piece(&[pair[0].clone(), pair[1].clone()]).err()).flatten()
        });
        if let Some(error) = broken {
            self.report(error.to_string());
        }
    }
}

fn stated(epsilon: &ReceiptEpsilons) -> Epsilons {
    Epsilons { replace: epsilon.replace.get(), zero_out: epsilon.zero_out.get() }
}
