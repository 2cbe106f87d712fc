#![allow(clippy::unwrap_used)]

use std::{
    convert::Infallible,
    num::NonZeroU32,
    pin::pin,
    task::{Context, Poll, Waker},
};

use super::*;
use crate::{
    params::{ClipNorm, NoiseMultiplier, SamplingProbability},
    random::SecureRng,
};

/// Keeps entries in memory.
#[derive(Default)]
struct MemoryStore(Vec<LedgerEntry>);

impl LedgerStore for MemoryStore {
    type Error = Infallible;

    async fn append(&mut self, entries: &[LedgerEntry]) -> Result<(), Infallible> {
        self.0.extend_from_slice(entries);
        Ok(())
    }
}

/// Never stores anything.
struct FailingStore;

impl LedgerStore for FailingStore {
    type Error = std::io::Error;

    async fn append(&mut self, _: &[LedgerEntry]) -> std::io::Result<()> {
        Err(std::io::Error::other("disk full"))
    }
}

/// Never answers.
struct HangingStore;

impl LedgerStore for HangingStore {
    type Error = Infallible;

    async fn append(&mut self, _: &[LedgerEntry]) -> Result<(), Infallible> {
        std::future::pending().await
    }
}

fn now<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

fn event(noise: f64, steps: u32) -> DpEvent {
    DpEvent::PoissonSampledGaussian {
        noise_multiplier: NoiseMultiplier::new(noise).unwrap(),
        sampling_probability: SamplingProbability::new(0.01).unwrap(),
        steps: NonZeroU32::new(steps).unwrap(),
    }
}

/// A charge of a private sum.
pub(crate) fn request(time_ms: u64) -> ChargeRequest {
    ChargeRequest {
        time_ms,
        data_set: Digest::of(b"data"),
        study: "sepsis".to_owned(),
        study_digest: Digest::of(b"study"),
        round: 7,
        local_step: 0,
        event: event(1.5, 1),
        clip_norm: ClipNorm::new(0.7).unwrap(),
        unit: "patient".to_owned(),
        units: 14_293,
        model_digest: Digest::of(b"model"),
        update_id: UpdateId::from_bytes([9; 16]),
        released: Released::PrivateSum,
        protects: Protection::SensitiveValues,
    }
}

/// Charges that were stored in memory.
pub(crate) fn charge(ledger: &mut Ledger, requests: Vec<ChargeRequest>) -> Vec<CommittedCharge> {
    now(ledger.charge(requests, &mut MemoryStore::default())).unwrap().unwrap()
}

fn ledger(times: &[u64]) -> Ledger {
    let mut ledger = Ledger::open(Vec::new()).unwrap();
    drop(charge(&mut ledger, times.iter().map(|&time| request(time)).collect()));
    ledger
}

#[test]
fn a_charge_is_stored_then_permitted() {
    let (mut ledger, mut store) = (Ledger::open(Vec::new()).unwrap(), MemoryStore::default());
    assert_eq!(ledger.head(), Digest::of(b"fusiondp/ledger-genesis/v1"));
    let charges = now(ledger.charge(vec![request(5), request(5)], &mut store)).unwrap().unwrap();
    assert_eq!(charges.len(), 2);
    assert_eq!(ledger.entries(), store.0);
    assert_eq!(charges[1].entry(), &store.0[1]);
    assert_eq!(charges[1].event(), event(1.5, 1));
    assert_eq!(charges[1].clip_norm().get(), 0.7);
    assert_eq!(store.0[1].previous(), store.0[0].hash());
    assert_eq!(Ledger::open(store.0).unwrap().head(), ledger.head());
}

#[test]
fn dropping_a_charge_refunds_nothing() {
    let mut ledger = ledger(&[1]);
    drop(charge(&mut ledger, vec![request(2)]));
    assert_eq!(ledger.entries().len(), 2);
}

#[test]
fn after_a_failing_store_nothing_is_charged_before_the_ledger_is_opened_again() {
    let mut ledger = ledger(&[1]);
    let head = ledger.head();
    let error = now(ledger.charge(vec![request(2)], &mut FailingStore)).unwrap().unwrap_err();
    assert!(matches!(error, ChargeError::Store(_)), "{error}");
    assert_eq!((ledger.head(), ledger.entries().len()), (head, 1));
    // The store may hold the entry although it reported an error.
    let error = now(ledger.charge(vec![request(2)], &mut MemoryStore::default())).unwrap().unwrap_err();
    assert!(matches!(error, ChargeError::InDoubt), "{error}");
    let mut reopened = Ledger::open(ledger.entries().to_vec()).unwrap();
    assert_eq!(charge(&mut reopened, vec![request(2)])[0].entry().sequence(), 1);
}

#[test]
fn an_interrupted_charge_leaves_the_ledger_in_doubt() {
    let mut ledger = ledger(&[1]);
    assert!(now(ledger.charge(vec![request(2)], &mut HangingStore)).is_none());
    let error = now(ledger.charge(vec![request(2)], &mut MemoryStore::default())).unwrap().unwrap_err();
    assert!(matches!(error, ChargeError::InDoubt));
    assert_eq!(ledger.entries().len(), 1);
}

#[test]
fn a_clock_that_runs_backwards_is_refused_and_nothing_is_written() {
    let (mut ledger, mut store) = (ledger(&[100]), MemoryStore::default());
    for batch in [vec![request(99)], vec![request(101), request(100)]] {
        let error = now(ledger.charge(batch, &mut store)).unwrap().unwrap_err();
        assert!(matches!(error, ChargeError::Refused(LedgerError::TimeBackwards { .. })));
    }
    assert!(store.0.is_empty());
    assert_eq!(ledger.entries().len(), 1);
}

#[test]
fn an_empty_batch_touches_nothing() {
    let mut ledger = ledger(&[1]);
    assert!(now(ledger.charge(Vec::new(), &mut FailingStore)).unwrap().unwrap().is_empty());
}

#[test]
fn texts_are_limited() {
    let mut ledger = ledger(&[1]);
    let long = ChargeRequest { unit: "x".repeat(1025), ..request(2) };
    let error = now(ledger.charge(vec![long], &mut MemoryStore::default())).unwrap().unwrap_err();
    assert!(matches!(error, ChargeError::Refused(LedgerError::TextTooLong { field: "unit", .. })));
}

#[test]
fn canonical_json_round_trips_bit_for_bit() {
    let mut ledger = Ledger::open(Vec::new()).unwrap();
    let odd = ChargeRequest { event: event(0.1 + 0.2, 1), time_ms: u64::MAX, ..request(0) };
    drop(charge(&mut ledger, vec![odd]));
    let json = ledger.entries()[0].canonical_json();
    let parsed: LedgerEntry = serde_json::from_str(&json).unwrap();
    assert_eq!(parsed, ledger.entries()[0]);
    assert_eq!(parsed.canonical_json(), json);
    assert!(Ledger::open(vec![parsed]).is_ok());
    assert!(serde_json::from_str::<LedgerEntry>(&json.replacen('{', "{\"extra\":1,", 1)).is_err());
}

/// The encoding is a promise to other implementations; here it is put together from the documented table alone.
#[test]
fn the_hash_follows_the_documented_bytes() {
    let ledger = ledger(&[1_700_000_000_000]);
    let mut bytes = Vec::new();
    let mut put = |field: &[u8]| {
        bytes.extend_from_slice(&(field.len() as u32).to_le_bytes());
        bytes.extend_from_slice(field);
    };
    put(b"fusiondp/ledger-entry/v1");
    put(&[0; 8]);
    put(Digest::of(b"fusiondp/ledger-genesis/v1").as_bytes());
    put(&1_700_000_000_000_u64.to_le_bytes());
    put(Digest::of(b"data").as_bytes());
    put(b"sepsis");
    put(Digest::of(b"study").as_bytes());
    put(&[7, 0, 0, 0]);
    put(&[0; 4]);
    put(b"poisson_sampled_gaussian");
    put(&1.5_f64.to_bits().to_le_bytes());
    put(&0.01_f64.to_bits().to_le_bytes());
    put(&[1, 0, 0, 0]);
    put(&0.7_f64.to_bits().to_le_bytes());
    put(b"patient");
    put(&14_293_u64.to_le_bytes());
    put(Digest::of(b"model").as_bytes());
    put(&[9; 16]);
    assert_eq!(ledger.head(), Digest::of(&bytes));
}

/// Changes every leaf of an entry's JSON in turn; none goes unnoticed.
#[test]
fn every_changed_field_is_detected() {
    let entries = ledger(&[10, 20, 30]).entries().to_vec();
    let edits = [
        ("\"sequence\":1", "\"sequence\":2"),
        ("\"time_ms\":20", "\"time_ms\":21"),
        ("sepsis", "sepsiS"),
        ("\"round\":7", "\"round\":8"),
        ("\"local_step\":0", "\"local_step\":1"),
        ("\"noise_multiplier\":1.5", "\"noise_multiplier\":1.5000000000000002"),
        ("\"sampling_probability\":0.01", "\"sampling_probability\":0.009"),
        ("\"steps\":1", "\"steps\":2"),
        ("\"clip_norm\":0.7", "\"clip_norm\":0.8"),
        ("patient", "visit"),
        ("\"units\":14293", "\"units\":14294"),
        ("\"update_id\":\"09", "\"update_id\":\"08"),
    ];
    let digest_fields = ["previous", "data_set", "study_digest", "model_digest", "hash"];
    let mut changed: Vec<String> = Vec::new();
    let json = entries[1].canonical_json();
    for (from, to) in edits {
        assert!(json.contains(from), "{from} in {json}");
        changed.push(json.replacen(from, to, 1));
    }
    for field in digest_fields {
        let place = json.find(&format!("\"{field}\":\"")).unwrap() + field.len() + 4;
        let flipped = if json.as_bytes()[place] == b'0' { "1" } else { "0" };
        changed.push(format!("{}{flipped}{}", &json[..place], &json[place + 1..]));
    }
    for text in changed {
        let mut tampered = entries.clone();
        tampered[1] = serde_json::from_str(&text).unwrap();
        assert_ne!(tampered[1], entries[1], "{text}");
        assert!(Ledger::open(tampered).is_err(), "{text}");
    }
}

#[test]
fn an_entry_rehashed_after_a_change_breaks_the_next_link() {
    let mut entries = ledger(&[10, 20, 30]).entries().to_vec();
    let cheaper = ChargeRequest { event: event(100.0, 1), ..request(20) };
    entries[1] = LedgerEntry::following(Some(&entries[0]), cheaper).unwrap();
    assert_eq!(Ledger::open(entries).unwrap_err(), LedgerError::Link { sequence: 2 });
}

#[test]
fn deletion_reordering_and_repetition_are_detected() {
    let entries = ledger(&[10, 10, 10, 10]).entries().to_vec();
    for removed in 0..3 {
        let mut rest = entries.clone();
        rest.remove(removed);
        assert!(Ledger::open(rest).is_err(), "without entry {removed}");
    }
    for first in 0..3 {
        let mut swapped = entries.clone();
        swapped.swap(first, first + 1);
        assert!(Ledger::open(swapped).is_err(), "entries {first} swapped");
        let mut repeated = entries.clone();
        repeated.insert(first, entries[first].clone());
        assert!(Ledger::open(repeated).is_err(), "entry {first} repeated");
    }
}

#[test]
fn a_piece_of_a_chain_verifies_from_wherever_it_begins() {
    let ledger = ledger(&[1, 2, 3, 4]);
    for start in 0..4 {
        verify_piece(&ledger.entries()[start..]).unwrap();
    }
    verify_piece(&[]).unwrap();
    let entries = &ledger.entries()[1..];
    let gap = [entries[0].clone(), entries[2].clone()];
    assert_eq!(verify_piece(&gap), Err(LedgerError::Sequence { expected: 2, found: 3 }));
    let altered = |index: usize, from: &str, to: &str| {
        let mut piece = entries.to_vec();
        let text = piece[index].canonical_json();
        assert!(text.contains(from), "{text}");
        piece[index] = serde_json::from_str(&text.replacen(from, to, 1)).unwrap();
        verify_piece(&piece)
    };
    for (index, sequence) in [(0, 1), (1, 2)] {
        assert_eq!(altered(index, "\"round\":7", "\"round\":8"), Err(LedgerError::Hash { sequence }));
    }
}

#[test]
fn a_mirror_follows_all_or_nothing_and_sees_a_cut_end() {
    let entries = ledger(&[10, 20, 30]).entries().to_vec();
    let mut mirror = Ledger::open(entries[..1].to_vec()).unwrap();
    assert!(mirror.mirror(vec![entries[2].clone()]).is_err());
    assert!(mirror.mirror(vec![entries[1].clone(), entries[1].clone()]).is_err());
    assert_eq!(mirror.entries().len(), 1);
    mirror.mirror(entries[1..].to_vec()).unwrap();
    assert_ne!(Ledger::open(entries[..2].to_vec()).unwrap().head(), mirror.head());
}

#[test]
fn events_are_selected_and_merged() {
    let mut ledger = Ledger::open(Vec::new()).unwrap();
    let other_data = Digest::of(b"other");
    drop(charge(
        &mut ledger,
        vec![
            request(1),
            ChargeRequest { data_set: other_data, event: event(9.0, 1), ..request(1) },
            ChargeRequest { round: 8, event: event(1.5, u32::MAX - 1), ..request(2) },
            ChargeRequest { round: 9, ..request(3) },
            ChargeRequest { study: "bank".to_owned(), event: event(2.0, 4), ..request(4) },
        ],
    ));
    let data = Digest::of(b"data");
    assert_eq!(ledger.events(data), [event(1.5, u32::MAX), event(1.5, 1), event(2.0, 4)]);
    assert_eq!(ledger.study_events("bank", data), [event(2.0, 4)]);
    assert_eq!(ledger.events(other_data), [event(9.0, 1)]);
    assert!(ledger.study_events("bank", other_data).is_empty());
}

#[test]
fn update_ids_are_random_and_have_a_text_form() {
    let mut rng = SecureRng::seeded_for_simulation(1, 1);
    let (a, b) = (UpdateId::random(&mut rng), UpdateId::random(&mut rng));
    assert_ne!(a, b);
    assert_eq!(a.to_string().len(), 32);
    assert_eq!(a.to_string().parse::<UpdateId>().unwrap(), a);
}

fn key(seed: u8) -> LedgerKey {
    LedgerKey::from_seed([seed; 32])
}

/// RFC 8032, section 7.1, test 1: the key of this seed.
#[test]
fn a_seed_gives_the_key_of_the_standard() {
    let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    let mut bytes = [0; 32];
    hex::decode_to_slice(seed, &mut bytes).unwrap();
    let key = LedgerKey::from_seed(bytes);
    let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    assert_eq!(key.public().to_string(), public);
    assert_eq!(key.seed(), &bytes);
    assert!(!format!("{key:?}").contains(&seed[..8]), "{key:?}");
}

#[test]
fn random_keys_differ() {
    let mut rng = SecureRng::seeded_for_simulation(1, 1);
    assert_ne!(LedgerKey::random(&mut rng).public(), LedgerKey::random(&mut rng).public());
}

/// The signed bytes are a promise to other implementations; here they are put together from the documented table alone.
#[test]
fn the_signature_follows_the_documented_bytes() {
    let signed = key(1).sign_entry(ledger(&[1]).entries()[0].clone());
    let message = [b"fusiondp/ledger-signature/v1\0".as_slice(), signed.entry.hash().as_bytes()].concat();
    let public = key(1).public();
    let verifier = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, public.as_bytes());
    verifier.verify(&message, signed.signature.as_bytes()).unwrap();
}

#[test]
fn a_signed_entry_verifies_under_its_key_and_its_statement_only() {
    let signed = key(1).sign_entry(ledger(&[1]).entries()[0].clone());
    signed.verify(&key(1).public()).unwrap();
    let foreign = LedgerError::Signature { sequence: 0, key: key(2).public() };
    assert_eq!(signed.verify(&key(2).public()), Err(foreign));
    let hash = signed.entry.hash();
    assert!(key(1).public().verify(Statement::Receipt, hash, &signed.signature).is_err());
    let mut bytes = *signed.signature.as_bytes();
    for place in [0, 31, 32, 63] {
        bytes[place] ^= 1;
        let altered = SignedEntry { signature: Signature::from_bytes(bytes), ..signed.clone() };
        assert!(altered.verify(&key(1).public()).is_err(), "byte {place}");
        bytes[place] ^= 1;
    }
}

/// Who holds copies can compute hashes, and still invents no entry.
#[test]
fn an_entry_rehashed_after_a_change_needs_the_key() {
    let signed = key(1).sign_entry(ledger(&[10]).entries()[0].clone());
    let cheaper = ChargeRequest { event: event(100.0, 1), ..request(10) };
    let forged = SignedEntry { entry: LedgerEntry::following(None, cheaper).unwrap(), ..signed.clone() };
    forged.entry.verify().unwrap();
    assert!(forged.verify(&key(1).public()).is_err());
    let text = signed.canonical_json();
    assert_eq!(serde_json::from_str::<SignedEntry>(&text).unwrap(), signed);
    assert!(serde_json::from_str::<SignedEntry>(&text.replacen('{', "{\"extra\":1,", 1)).is_err());
}

#[test]
fn a_chain_covers_its_entries_also_where_they_were_brought_back_to_another_place() {
    let lost = ledger(&[1, 2]);
    let mut restored = ledger(&[1]);
    drop(charge(&mut restored, vec![ChargeRequest { round: 8, ..request(5) }]));
    let entry = &lost.entries()[1];
    let other = ChargeRequest { round: 9, ..request(2) };
    let unknown = LedgerEntry::following(Some(&lost.entries()[0]), other).unwrap();
    assert!(lost.covers(entry) && !restored.covers(&unknown));
    // The same charge under another time and in another place of the chain is the same release.
    drop(charge(&mut restored, vec![ChargeRequest { time_ms: 6, ..unknown.charge().clone() }]));
    assert!(restored.covers(&unknown));
}

/// The hash of an entry without the later fields is what it was before there were any.
#[test]
fn entries_of_private_sums_are_written_and_hashed_as_ever() {
    let entry = &ledger(&[5]).entries()[0].clone();
    let text = entry.canonical_json();
    assert!(!text.contains("released") && !text.contains("protects"), "{text}");
    // Both hashes are those of the documented table of bytes, computed by another program.
    assert_eq!(entry.hash().to_string(), "9f4d2500d2e32c3fc46655ff16fad7a4d25ce86563fec1fad1dec3d2976fb9ca");
    let noise_multiplier = NoiseMultiplier::new(1.5).unwrap();
    let table = ChargeRequest {
        event: DpEvent::GaussianHistogram { noise_multiplier, steps: NonZeroU32::MIN },
        released: Released::Counts { cohort: "test".to_owned() },
        protects: Protection::WholeRecords,
        ..request(5)
    };
    let mut of_counts = Ledger::open(Vec::new()).unwrap();
    assert_eq!(
        charge(&mut of_counts, vec![table])[0].entry().hash().to_string(),
        "0fe22ae1fe2999a5ca485d69c8250fc7291567a04c1a5556c0b87f9c8b25fe3e"
    );
    let mut hashes = vec![entry.hash()];
    let counts = |cohort: &str| Released::Counts { cohort: cohort.to_owned() };
    for released in [Released::PublicSum, counts("test"), counts("val"), counts("")] {
        for protects in [Protection::SensitiveValues, Protection::WholeRecords] {
            let mut ledger = Ledger::open(Vec::new()).unwrap();
            let request = ChargeRequest { released: released.clone(), protects, ..request(5) };
            drop(charge(&mut ledger, vec![request]));
            let entry = ledger.entries()[0].clone();
            assert_eq!(serde_json::from_str::<LedgerEntry>(&entry.canonical_json()).unwrap(), entry);
            hashes.push(entry.hash());
        }
    }
    let distinct: std::collections::HashSet<_> = hashes.iter().map(Digest::to_string).collect();
    assert_eq!(distinct.len(), hashes.len());
}

#[test]
fn what_is_released_decides_which_tier_pays() {
    let whole = |released: Released, noise: f64| ChargeRequest {
        released,
        event: event(noise, 1),
        protects: Protection::WholeRecords,
        ..request(1)
    };
    let counts = Released::Counts { cohort: "test".to_owned() };
    let mut ledger = Ledger::open(Vec::new()).unwrap();
    let data = request(1).data_set;
    drop(charge(
        &mut ledger,
        vec![
            whole(Released::PrivateSum, 2.0),
            whole(Released::PublicSum, 3.0),
            whole(counts, 4.0),
            whole(Released::PrivateSum, 2.0),
        ],
    ));
    assert_eq!(ledger.events(data), [event(2.0, 1), event(4.0, 1), event(2.0, 1)]);
    assert_eq!(ledger.study_events("sepsis", data), [event(2.0, 2)]);
    let all = [event(2.0, 1), event(3.0, 1), event(4.0, 1), event(2.0, 1)];
    assert_eq!(ledger.record_events(data).unwrap(), all);
    assert_eq!(ledger.study_record_events("sepsis", data), [event(2.0, 1), event(3.0, 1), event(2.0, 1)]);
    // One study that lets public gradients out as they are, and nothing bounds the loss of records any more.
    drop(charge(&mut ledger, vec![ChargeRequest { study: "other".to_owned(), ..request(1) }]));
    assert_eq!(ledger.record_events(data), None);
    assert_eq!(ledger.record_events(Digest::of(b"other data")), Some(Vec::new()));
}

#[test]
fn an_unknown_release_is_no_entry() {
    let mut ledger = Ledger::open(Vec::new()).unwrap();
    drop(charge(&mut ledger, vec![ChargeRequest { released: Released::PublicSum, ..request(1) }]));
    let text = ledger.entries()[0].canonical_json();
    assert!(serde_json::from_str::<LedgerEntry>(&text).is_ok());
    for (from, to) in [("public_sum", "public_mean"), ("\"released\"", "\"free\"")] {
        assert!(serde_json::from_str::<LedgerEntry>(&text.replace(from, to)).is_err(), "{to}");
    }
}
