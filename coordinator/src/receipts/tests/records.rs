//! Receipts of a study that protects whole records.

use super::*;

fn document() -> StudyDocument {
    let records = "[privacy.records]\nclip_norm = 0.5\nexpected_batch_size = 20\n\
                   target = { noise_multiplier = 3.0 }\n[training]";
    let batch = STUDY.lines().find(|line| line.starts_with("public_batch_size")).unwrap();
    let text = STUDY.replace(&format!("{batch}\n"), "").replace("[training]", records);
    let text = match text.find("release = \"summary\"") {
        Some(_) => text.replace("release = \"summary\"", "release = \"none\""),
        None => text,
    };
    StudyDocument::from_bytes(text.as_bytes()).unwrap()
}

/// One site's receipts of rounds 1 (warm-up) and 2, with what it does to its charges and to its statements.
struct Told {
    charges: fn(u32, &mut Vec<ChargeRequest>),
    receipt: fn(&mut Receipt),
}

const HONEST: Told = Told { charges: |_, _| (), receipt: |_| () };

fn request(round: u32, released: Released) -> ChargeRequest {
    let document = document();
    let privacy = &document.study().privacy;
    let (noise, clip_norm) = match released {
        Released::PublicSum => (3.0, privacy.records.as_ref().unwrap().clip_norm),
        _ => (2.0, privacy.clip_norm),
    };
    ChargeRequest {
        study: document.id().to_string(),
        study_digest: document.digest(),
        round,
        event: event(noise, 1),
        clip_norm,
        update_id: update_id(round, 0),
        released,
        protects: Protection::WholeRecords,
        ..honest().ledger.entries()[0].charge().clone()
    }
}

fn epsilons(events: &[DpEvent]) -> ReceiptEpsilons {
    let delta = document().study().privacy.delta;
    let of = |relation| fusiondp_dp::epsilon(events, delta, relation).unwrap();
    let (replace, zero_out) = (of(NeighboringRelation::Replace), of(NeighboringRelation::ZeroOut));
    ReceiptEpsilons { replace, zero_out, data_replace: replace, data_zero_out: zero_out }
}

fn file(told: &Told) -> ReceiptsFile {
    let (key, document) = (LedgerKey::from_seed([1; LedgerKey::SEED_BYTES]), document());
    let mut ledger = Ledger::open(Vec::new()).unwrap();
    let mut receipts = Vec::new();
    for (round, planned) in
        [(1, vec![Released::PublicSum]), (2, vec![Released::PrivateSum, Released::PublicSum])]
    {
        let before = ledger.entries().len();
        let mut requests = planned.into_iter().map(|released| request(round, released)).collect();
        (told.charges)(round, &mut requests);
        charge(&mut ledger, requests);
        let events = |wanted: fn(&Released) -> bool| {
            let charges = ledger.entries().iter().map(|entry| entry.charge());
            charges.filter(|one| wanted(&one.released)).map(|one| one.event).collect::<Vec<_>>()
        };
        let listed = ledger.entries()[before..].iter();
        let mut receipt = Receipt {
            study: document.id().clone(),
            study_digest: document.digest(),
            round,
            update_id: update_id(round, 0),
            imputer: document.study().imputer.clone(),
            private_values: if round == 1 { 0 } else { 3 },
            charges: listed.map(|entry| key.sign_entry(entry.clone())).collect(),
            study_charges: ledger.entries().len() as u64,
            ledger_head: ledger.head(),
            epsilon: epsilons(&events(|released| *released != Released::PublicSum)),
            epsilon_records: Some(epsilons(&events(|_| true))),
            ..honest().receipts[0].receipt.clone()
        };
        (told.receipt)(&mut receipt);
        receipts.push(receipt.signed(&key));
    }
    ReceiptsFile::new("a".parse().unwrap(), document.id().clone(), key.public(), receipts)
}

fn verified(told: &Told) -> Verified {
    let folder = Folder { document: document(), sites: vec![file(told)], reported: None };
    folder.verify(&Trust::default(), || ()).unwrap()
}

#[test]
fn both_tiers_are_recomputed_from_honest_receipts() {
    let verified = verified(&HONEST);
    assert!(verified.holds(), "{verified:?}");
    let site = &verified.sites[0];
    assert_eq!(site.charges, 3);
    assert_eq!(site.epsilon.replace, epsilons(&[event(2.0, 1)]).replace.get());
    let all = epsilons(&[event(2.0, 1), event(3.0, 2)]).replace.get();
    assert_eq!(site.records.unwrap().epsilon.replace, all);
    assert_eq!(verified.records_epsilon.unwrap().replace, all);
    assert!(all > site.epsilon.replace);
}

/// Every one signs what it says, so that nothing but the check of the second tier can find it.
#[test]
fn every_lie_about_the_second_tier_is_named() {
    let lies: [(&str, Told); 7] = [
        ("no charge for 1 noised sums", Told { charges: |round, all| all.retain(|_| round == 2), ..HONEST }),
        ("1 charges for 2 noised sums", Told { charges: |_, all| all.truncate(1), ..HONEST }),
        (
            "epsilon of whole records",
            Told { receipt: |receipt| receipt.epsilon_records = Some(receipt.epsilon), ..HONEST },
        ),
        ("it speaks of whole records", Told { receipt: |receipt| receipt.epsilon_records = None, ..HONEST }),
        (
            "it protects something else",
            Told { charges: |_, all| all[0].protects = Protection::SensitiveValues, ..HONEST },
        ),
        (
            "its clip norm is not the study's",
            Told { charges: |_, all| all[0].clip_norm = ClipNorm::new(9.0).unwrap(), ..HONEST },
        ),
        (
            "the study makes no such release in training",
            Told {
                charges: |_, all| all[0].released = Released::Counts { cohort: "test".to_owned() },
                ..HONEST
            },
        ),
    ];
    for (named, told) in lies {
        let found = verified(&told).sites[0].problems.join("; ");
        assert!(found.contains(named), "{named}: {found}");
    }
}
