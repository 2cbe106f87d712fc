#![allow(clippy::unwrap_used)]
use super::*;
use crate::testing::{key_statement, ledger_key, plan, receipt};

/// A change and the error that it must give.
type Case = (fn(&mut Receipt), fn(&ReceiptError) -> bool);

fn verify(receipt: &Receipt) -> Result<(), ReceiptError> {
    receipt.clone().signed(&ledger_key()).verify(&ledger_key().public())
}

/// Two charges whose update never arrived, then three of the update.
fn base() -> Receipt {
    receipt(&plan(), 2, 3)
}

#[test]
fn a_receipt_stands_under_its_key_and_survives_its_canonical_form() {
    let signed = base().signed(&ledger_key());
    signed.verify(&ledger_key().public()).unwrap();
    assert_eq!(signed.receipt.own_charges().len(), 3);
    let text = signed.canonical_json();
    let read: SignedReceipt = serde_json::from_str(&text).unwrap();
    assert_eq!((&read, read.canonical_json()), (&signed, text.clone()));
    let other = LedgerKey::from_seed([9; LedgerKey::SEED_BYTES]);
    assert!(matches!(signed.verify(&other.public()), Err(ReceiptError::Signature(_))));
    for (from, to) in
        [("\"round\":", "\"round\":1"), ("receipt/v1", "receipt/v2"), ("{\"format\"", "{\"x\":1,\"format\"")]
    {
        let changed = text.replacen(from, to, 1);
        let read = serde_json::from_str::<SignedReceipt>(&changed);
        assert!(read.is_err() || read.unwrap().verify(&ledger_key().public()).is_err(), "{to}");
    }
}

#[test]
fn a_receipt_without_charges_stands_if_nothing_noised_left() {
    let warmup = Receipt { private_values: 0, ..receipt(&plan(), 0, 0) };
    verify(&warmup).unwrap();
    assert!(warmup.own_charges().is_empty());
    let free = Receipt { private_values: 1, ..warmup };
    assert_eq!(verify(&free), Err(ReceiptError::Uncharged { private_values: 1 }));
    // Charges of updates that never arrived pay for nothing here.
    let unpaid = Receipt { private_values: 1, ..receipt(&plan(), 2, 0) };
    assert_eq!(verify(&unpaid), Err(ReceiptError::Uncharged { private_values: 1 }));
}

/// Whoever has the key can sign anything; what a receipt says must hold together all the same.
#[test]
fn what_does_not_hold_together_is_named() {
    let cases: [Case; 8] = [
        (|receipt| receipt.charges.swap(0, 1), |error| matches!(error, ReceiptError::Order { .. })),
        (
            |receipt| receipt.charges[1] = receipt.charges[0].clone(),
            |error| matches!(error, ReceiptError::Order { .. }),
        ),
        (|receipt| drop(receipt.charges.remove(3)), |error| *error == ReceiptError::Scattered),
        (
            |receipt| receipt.update_id = UpdateId::from_bytes([6; 16]),
            |error| *error == ReceiptError::Scattered,
        ),
        (|receipt| receipt.ledger_head = Digest::of(b"x"), |error| *error == ReceiptError::Head),
        (
            |receipt| receipt.study_digest = Digest::of(b"x"),
            |error| matches!(error, ReceiptError::OtherStudy { .. }),
        ),
        (|receipt| receipt.study_charges = 4, |error| matches!(error, ReceiptError::Count { listed: 5, .. })),
        (
            |receipt| receipt.charges[0].signature = Signature::from_bytes([0; 64]),
            |error| matches!(error, ReceiptError::Charge(_)),
        ),
    ];
    for (index, (change, expected)) in cases.into_iter().enumerate() {
        let mut changed = base();
        change(&mut changed);
        let error = verify(&changed).unwrap_err();
        assert!(expected(&error), "case {index}: {error}");
    }
}

#[test]
fn a_file_of_receipts_comes_back_and_a_changed_one_is_named_by_line() {
    let receipts = vec![base().signed(&ledger_key()), receipt(&plan(), 0, 1).signed(&ledger_key())];
    let (site, study) = (base().site, base().study);
    let file = ReceiptsFile::new(site.clone(), study, ledger_key().public(), receipts);
    let stated = file.clone().with_key_statements(vec![key_statement()]);
    assert_eq!(ReceiptsFile::parse(&stated.to_text()).unwrap(), stated);
    let charge = base().charges.remove(0);
    let counted = file.clone().with_counts(vec![charge.clone(), charge]);
    assert_eq!(ReceiptsFile::parse(&counted.to_text()).unwrap(), counted);
    let text = file.to_text();
    assert!(!text.contains("key_statements"), "as a file of the older format");
    let older = ReceiptsFile::parse(&text.replacen("receipts/v2", "receipts/v1", 1)).unwrap();
    assert_eq!((older.header.key_statements.len(), &older.receipts), (0, &file.receipts));
    assert_eq!((ReceiptsFile::parse(&text).unwrap(), text.lines().count()), (file, 3));
    assert_eq!(ReceiptsFile::name(&site), "receipts-site-1.jsonl");
    let edits = [
        ("receipts/v2", "receipts/v0", 1),
        ("{\"receipt\"", "{ \"receipt\"", 2),
        ("\"round\":3", "\"round\":\"x\"", 2),
    ];
    for (from, to, line) in edits {
        assert!(text.contains(from), "{from}");
        assert_eq!(ReceiptsFile::parse(&text.replacen(from, to, 1)).unwrap_err().line, line, "{to}");
    }
    assert_eq!(ReceiptsFile::parse("").unwrap_err().line, 1);
    // What an older file cannot hold. Who leaves that out too can still make one of a newer file; where a report tells of tables,
    // the verifier takes none.
    let older = |file: &ReceiptsFile| file.to_text().replacen("receipts/v2", "receipts/v1", 1);
    assert_eq!(ReceiptsFile::parse(&older(&stated)).unwrap_err().line, 1);
    assert_eq!(ReceiptsFile::parse(&older(&counted)).unwrap_err().line, 4);
    let spaced = counted.to_text().replacen("{\"entry\":{\"sequence", "{\"entry\":{ \"sequence", 2);
    assert!(ReceiptsFile::parse(&spaced).is_err());
    let last = text.lines().last().unwrap();
    let behind = ReceiptsFile::parse(&format!("{}{last}\n", counted.to_text())).unwrap_err();
    assert_eq!((behind.line, behind.problem.contains("which end a file")), (6, true));
}
