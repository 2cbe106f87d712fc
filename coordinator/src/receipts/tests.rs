#![allow(clippy::unwrap_used)]
use fusiondp_dp::{
    ChargeRequest, ClipNorm, Digest, DpEvent, Ledger, LedgerEntry, LedgerKey, NoiseMultiplier, Protection,
    Released, SamplingProbability, SignedEntry, UpdateId,
};
use fusiondp_protocol::receipt::{Receipt, ReceiptEpsilons, ReceiptFormat, SignedReceipt};

use super::*;
use crate::study::testing::charge;

mod counts;
mod keys;
mod records;

const STUDY: &str = crate::study::testing::STUDY;

/// A site that writes receipts without a coordinator.
struct Site {
    name: &'static str,
    key: LedgerKey,
    ledger: Ledger,
    noise: f64,
    /// Of its charges.
    time_ms: u64,
    document: StudyDocument,
    receipts: Vec<SignedReceipt>,
    /// Charges of tables of counts.
    counts: Vec<SignedEntry>,
}

fn document() -> StudyDocument {
    StudyDocument::from_bytes(STUDY.as_bytes()).unwrap()
}

impl Site {
    fn new(name: &'static str, seed: u8) -> Self {
        let ledger = Ledger::open(Vec::new()).unwrap();
        let key = LedgerKey::from_seed([seed; LedgerKey::SEED_BYTES]);
        let (receipts, counts) = (Vec::new(), Vec::new());
        Self { name, key, ledger, noise: 2.0, time_ms: 1, document: document(), receipts, counts }
    }

    /// Charges for a round, and for `lost` updates before that never arrive.
    fn round(&mut self, round: u32, lost: u8) -> &mut Self {
        let listed = self.listed();
        for attempt in 0..=lost {
            self.charge(round, attempt);
        }
        let receipt = self.receipt(round, lost, listed);
        self.receipts.push(receipt.signed(&self.key));
        self
    }

    fn listed(&self) -> usize {
        self.receipts.iter().map(|signed| signed.receipt.charges.len()).sum()
    }

    fn charge(&mut self, round: u32, attempt: u8) {
        let document = self.document.clone();
        let request = ChargeRequest {
            time_ms: self.time_ms,
            data_set: Digest::of(b"data"),
            study: document.id().to_string(),
            study_digest: document.digest(),
            round,
            local_step: 1,
            event: event(self.noise, 1),
            clip_norm: document.study().privacy.clip_norm,
            unit: document.study().privacy.unit_column.clone().unwrap_or("record".into()),
            units: 100,
            model_digest: Digest::of(b"model"),
            update_id: update_id(round, attempt),
            released: Released::PrivateSum,
            protects: Protection::SensitiveValues,
        };
        charge(&mut self.ledger, vec![request]);
    }

    fn receipt(&self, round: u32, attempt: u8, listed: usize) -> Receipt {
        let document = &self.document;
        let of_training = |entry: &&LedgerEntry| entry.charge().released == Released::PrivateSum;
        let entries: Vec<LedgerEntry> = self.ledger.entries().iter().filter(of_training).cloned().collect();
        let charges: Vec<SignedEntry> =
            entries[listed..].iter().map(|entry| self.key.sign_entry(entry.clone())).collect();
        let delta = document.study().privacy.delta;
        let events: Vec<DpEvent> = entries.iter().map(|entry| entry.charge().event).collect();
        let of = |relation| fusiondp_dp::epsilon(&events, delta, relation).unwrap();
        let (replace, zero_out) = (of(NeighboringRelation::Replace), of(NeighboringRelation::ZeroOut));
        Receipt {
            format: ReceiptFormat::V1,
            site: self.name.parse().unwrap(),
            study: document.id().clone(),
            study_digest: document.digest(),
            round,
            attempt: u32::from(attempt) + 1,
            update_id: update_id(round, attempt),
            model_version: u64::from(round),
            model_digest: Digest::of(b"model"),
            imputer: document.study().imputer.clone(),
            public_values: 3,
            private_values: 3,
            payload_digest: Digest::of(b"payload"),
            charges,
            study_charges: entries.len() as u64,
            ledger_head: self.ledger.head(),
            delta,
            epsilon: ReceiptEpsilons { replace, zero_out, data_replace: replace, data_zero_out: zero_out },
            epsilon_records: None,
        }
    }

    fn file(&self) -> ReceiptsFile {
        let (site, study) = (self.name.parse().unwrap(), self.document.id().clone());
        let file = ReceiptsFile::new(site, study, self.key.public(), self.receipts.clone());
        file.with_counts(self.counts.clone())
    }

    /// The last receipt, changed and signed again by the site.
    fn restate(&mut self, change: impl FnOnce(&mut Receipt)) {
        let mut receipt = self.receipts.pop().unwrap().receipt;
        change(&mut receipt);
        self.receipts.push(receipt.signed(&self.key));
    }
}

fn event(noise: f64, steps: u32) -> DpEvent {
    DpEvent::PoissonSampledGaussian {
        noise_multiplier: NoiseMultiplier::new(noise).unwrap(),
        sampling_probability: SamplingProbability::new(0.1).unwrap(),
        steps: std::num::NonZeroU32::new(steps).unwrap(),
    }
}

fn update_id(round: u32, attempt: u8) -> UpdateId {
    let mut bytes = [attempt; 16];
    bytes[..4].copy_from_slice(&round.to_le_bytes());
    UpdateId::from_bytes(bytes)
}

fn verify(sites: &[&Site]) -> Verified {
    let document = sites[0].document.clone();
    let sites = sites.iter().map(|site| site.file()).collect();
    let folder = Folder { document, sites, reported: None };
    folder.verify(&Trust::default(), || ()).unwrap()
}

fn problems(site: &Site) -> String {
    verify(&[site]).sites[0].problems.join("; ")
}

fn honest() -> Site {
    let mut site = Site::new("a", 1);
    site.round(2, 0).round(3, 2).round(4, 0);
    site
}

#[test]
fn honest_receipts_hold_and_give_the_epsilon_of_all_their_charges() {
    let (a, mut b) = (honest(), Site::new("b", 2));
    b.round(2, 0);
    let verified = verify(&[&a, &b]);
    assert!(verified.holds(), "{verified:?}");
    let (first, second) = (&verified.sites[0], &verified.sites[1]);
    assert_eq!((first.receipts, first.charges, first.unlisted_charges, second.charges), (3, 5, 0, 1));
    let delta = document().study().privacy.delta;
    let five = fusiondp_dp::epsilon(&[event(2.0, 5)], delta, NeighboringRelation::Replace).unwrap();
    assert_eq!(first.epsilon.replace, five.get());
    assert_eq!(first.epsilon, first.epsilon_stated);
    // One hospital a patient: the largest of both.
    assert_eq!((verified.max_overlap, verified.epsilon), (1, first.epsilon));
}

#[test]
fn every_lie_of_a_site_is_named() {
    let charged = |receipt: &mut Receipt| receipt.charges.len();
    assert_eq!(charged(&mut honest().receipts[1].receipt), 3);
    type Lie = fn(&mut Site);
    let lies: [(&str, Lie); 10] = [
        ("is stated, its charges give", |site| {
            site.restate(|receipt| receipt.epsilon.replace = Epsilon::new(0.01).unwrap());
        }),
        ("is stated, its charges give", |site| {
            site.restate(|receipt| receipt.epsilon.zero_out = Epsilon::new(9.0).unwrap());
        }),
        ("1 charges that the site counts are in no receipt", |site| {
            site.restate(|receipt| receipt.study_charges += 1);
        }),
        ("3 charges that the site counts are in no receipt", |site| {
            site.receipts.remove(1);
        }),
        ("an update has two receipts", |site| {
            let again = site.receipts[2].clone();
            site.receipts.push(again);
        }),
        ("its clip norm is not the study's", |site| {
            let entry = &site.receipts[2].receipt.charges[0].entry;
            let charge = ChargeRequest { clip_norm: ClipNorm::new(9.0).unwrap(), ..entry.charge().clone() };
            other_charge(site, charge);
        }),
        ("its noise, rate or steps are not those of the other charges", |site| {
            let entry = &site.receipts[2].receipt.charges[0].entry;
            let charge = ChargeRequest { event: event(9.0, 1), ..entry.charge().clone() };
            other_charge(site, charge);
        }),
        ("its delta", |site| {
            site.restate(|receipt| receipt.delta = fusiondp_dp::Delta::new(1e-3).unwrap());
        }),
        ("it is of site b", |site| site.restate(|receipt| receipt.site = "b".parse().unwrap())),
        ("another study document", |site| {
            site.restate(|receipt| {
                receipt.charges.clear();
                (receipt.private_values, receipt.study_digest) = (0, Digest::of(b"x"));
            });
        }),
    ];
    for (named, lie) in lies {
        let mut site = honest();
        lie(&mut site);
        let found = problems(&site);
        assert!(found.contains(named), "{named}: {found}");
    }
}

/// The last receipt with another charge in its ledger's last place.
fn other_charge(site: &mut Site, other: ChargeRequest) {
    let mut ledger = Ledger::open(site.ledger.entries()[..4].to_vec()).unwrap();
    charge(&mut ledger, vec![other]);
    let signed = site.key.sign_entry(ledger.entries()[4].clone());
    site.restate(|receipt| (receipt.ledger_head, receipt.charges) = (ledger.head(), vec![signed]));
}

/// Whoever has no key can neither change nor invent a receipt.
#[test]
fn what_others_change_is_named() {
    let mut site = honest();
    site.receipts[0].receipt.payload_digest = Digest::of(b"other");
    assert!(problems(&site).contains("round 2: the receipt was altered"), "{}", problems(&site));
    let site = honest();
    let folder = Folder { document: document(), sites: vec![site.file()], reported: None };
    let told = |seed| LedgerKey::from_seed([seed; LedgerKey::SEED_BYTES]).public();
    let keys = |name: &str, seed| Trust {
        keys: BTreeMap::from([(name.parse().unwrap(), told(seed))]),
        authority: None,
    };
    assert!(folder.verify(&keys("a", 1), || ()).unwrap().holds());
    let other = folder.verify(&keys("a", 2), || ()).unwrap();
    assert!(other.sites[0].problems[0].contains("the hospital's is"), "{other:?}");
    assert!(!folder.verify(&keys("z", 1), || ()).unwrap().holds());
}

#[test]
fn a_report_that_says_less_than_its_receipts_is_named() {
    let site = honest();
    let stated = verify(&[&site]).sites[0].epsilon_stated;
    let says = |epsilon: Epsilons, claimed: Epsilons, rounds: u32| {
        let details = vec![ReportedSite {
            site: "a".into(),
            rounds_contributed: rounds,
            epsilon_claimed: claimed,
            records_epsilon_claimed: None,
        }];
        let reported = Some(Reported { epsilon, records_epsilon: None, counts: None, site_details: details });
        let folder = Folder { document: document(), sites: vec![site.file()], reported };
        folder.verify(&Trust::default(), || ()).unwrap()
    };
    assert!(says(stated, stated, 3).holds());
    let less = Epsilons { replace: stated.replace * 0.99, ..stated };
    assert!(says(less, stated, 3).problems[0].contains("report.json says replace epsilon"));
    assert!(!says(Epsilons { replace: f64::NAN, ..stated }, stated, 3).holds());
    let more = Epsilons { replace: stated.replace * 1.5, ..stated };
    assert!(says(more, stated, 3).holds(), "a report may count tasks that brought no update");
    assert!(!says(stated, less, 3).holds());
    assert!(!says(stated, stated, 4).holds());
}

#[test]
fn a_folder_without_receipts_or_with_others_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let read = || Folder::read(folder.path()).err().unwrap().to_string();
    assert!(read().contains("study.toml"), "{}", read());
    std::fs::write(folder.path().join("study.toml"), STUDY).unwrap();
    assert!(read().contains("receipts-SITE.jsonl"), "{}", read());
    std::fs::write(folder.path().join("receipts-b.jsonl"), honest().file().to_text()).unwrap();
    assert!(read().contains("the receipts are of site a"), "{}", read());
    std::fs::remove_file(folder.path().join("receipts-b.jsonl")).unwrap();
    std::fs::write(folder.path().join("receipts-a.jsonl"), honest().file().to_text()).unwrap();
    std::fs::write(folder.path().join("report.json"), "{}").unwrap();
    assert!(read().contains("report.json"), "{}", read());
    std::fs::remove_file(folder.path().join("report.json")).unwrap();
    let read = Folder::read(folder.path()).unwrap();
    assert_eq!(read.receipts(), 3);
    assert!(read.verify(&Trust::default(), || ()).unwrap().holds());
}
