//! Whose key signed: what a coordinator can do with the receipts that it hands out, and what the authority shows of it.

use std::path::PathBuf;

use fusiondp_dp::LedgerPublicKey;
use fusiondp_protocol::key_statement::{CertificateProof, HexBytes, KeyStatement, KeyStatementFormat};
use fusiondp_protocol::{SignedKeyStatement, SiteId};
use fusiondp_runtime::TlsFiles;

use super::*;
use crate::provision::{ConsortiumFile, provision};

const DAY_MS: u64 = 86_400_000;
/// When everything happens: in November 2023, so that every certificate here has ended long before the tests run.
const THEN_MS: u64 = 1_700_000_000_000;

/// A provisioned consortium of sites a and b, whose certificates live for 100 days.
struct Kits(tempfile::TempDir);

impl Kits {
    fn new() -> Self {
        let kits = Self(tempfile::tempdir().unwrap());
        kits.provision(THEN_MS);
        kits
    }

    fn provision(&self, now_ms: u64) {
        let path = self.0.path().join("consortium.toml");
        let text = "name = \"Demo\"\nvalidity_days = 100\n[coordinator]\nid = \"main\"\nurl = \"https://localhost:1\"\n\
                    [[sites]]\nid = \"a\"\ntitle = \"A\"\ncontact = \"a\"\n[[sites]]\nid = \"b\"\ntitle = \"B\"\ncontact = \"b\"\n";
        std::fs::write(&path, text).unwrap();
        provision(&ConsortiumFile::load(&path).unwrap(), &self.0.path().join("kits"), now_ms).unwrap();
    }

    /// Files of a kit, such as `sites/a`, whose own ones are called `stem`.
    fn files(&self, kit: &str, stem: &str) -> TlsFiles {
        let file = |name: String| -> PathBuf { self.0.path().join("kits").join(kit).join(name) };
        let (certificate, key) = (file(format!("{stem}.pem")), file(format!("{stem}.key")));
        TlsFiles { ca: file("ca.pem".to_owned()), certificate, key }
    }

    fn site(&self, id: &str) -> TlsFiles {
        self.files(&format!("sites/{id}"), "site")
    }

    /// A new certificate of a site for its old key.
    fn renew(&self, id: &str, now_ms: u64) {
        std::fs::remove_file(self.site(id).certificate).unwrap();
        self.provision(now_ms);
    }

    fn trust(&self) -> Trust {
        Trust { authority: Some(Authority::read(&self.site("a").ca).unwrap()), ..Trust::default() }
    }
}

/// What the holder of these files and of this key says that site `site` has for a key.
fn statement(files: &TlsFiles, site: &str, key: &LedgerKey, made_ms: u64) -> SignedKeyStatement {
    let public = key.public();
    stated(files, (site, public), key, made_ms)
}

/// The same of a key that is not the one that signs.
fn stated(
    files: &TlsFiles,
    (site, ledger_key): (&str, LedgerPublicKey),
    signs: &LedgerKey,
    made_ms: u64,
) -> SignedKeyStatement {
    let credentials = files.load().unwrap();
    let certificate = Digest::from_bytes(*credentials.identity().fingerprint());
    let site: SiteId = site.parse().unwrap();
    let statement = KeyStatement { format: KeyStatementFormat::V1, site, ledger_key, certificate, made_ms };
    let proof = credentials.sign(&statement.message()).unwrap();
    let proof = CertificateProof {
        scheme: proof.scheme,
        signature: HexBytes(proof.signature),
        chain: proof.chain.into_iter().map(HexBytes).collect(),
    };
    statement.signed(signs, proof)
}

/// A site with three rounds on day 1 after `THEN_MS`.
fn site(name: &'static str, seed: u8) -> Site {
    let mut site = Site::new(name, seed);
    site.time_ms = THEN_MS + DAY_MS;
    site.round(2, 0).round(3, 2).round(4, 0);
    site
}

fn checked(site: &Site, statements: Vec<SignedKeyStatement>, trust: &Trust) -> SiteVerdict {
    let sites = vec![site.file().with_key_statements(statements)];
    let folder = Folder { document: document(), sites, reported: None };
    folder.verify(trust, || ()).unwrap().sites.remove(0)
}

#[test]
fn a_stated_key_is_bound_to_the_certificate_also_when_that_has_ended_long_ago() {
    let (kits, honest) = (Kits::new(), site("a", 1));
    let statement = statement(&kits.site("a"), "a", &honest.key, THEN_MS);
    let verdict = checked(&honest, vec![statement.clone()], &kits.trust());
    assert_eq!(verdict.problems, [""; 0]);
    let KeyBinding::Bound(certificates) = &verdict.key_binding else { panic!("{verdict:?}") };
    assert_eq!(certificates.len(), 1);
    assert_eq!(certificates[0].fingerprint, statement.statement.certificate);
    assert!(certificates[0].until_ms.abs_diff(THEN_MS + 100 * DAY_MS) < 1_000);
    // Without the authority nobody looks, and that is said; files without a statement are read as ever.
    for statements in [vec![statement], Vec::new()] {
        let verdict = checked(&honest, statements, &Trust::default());
        assert_eq!((verdict.problems.len(), &verdict.key_binding), (0, &KeyBinding::NotChecked));
    }
}

/// The coordinator takes a hospital's charges out and signs the rest with a key of its own. Nothing in the receipts shows it.
#[test]
fn a_coordinator_that_signs_for_a_site_is_found_by_the_authority_alone() {
    let (kits, honest) = (Kits::new(), site("a", 1));
    let mut forged = Site::new("a", 66);
    forged.time_ms = THEN_MS + DAY_MS;
    forged.round(2, 0);
    let own = |files: &TlsFiles| vec![statement(files, "a", &forged.key, THEN_MS)];
    let true_statement = statement(&kits.site("a"), "a", &honest.key, THEN_MS);
    let foreign = Kits::new();
    let stolen_words =
        SignedKeyStatement { statement: own(&kits.site("b"))[0].statement.clone(), ..true_statement.clone() };
    let cases = [
        ("the file holds no key statement", Vec::new()),
        ("the receipts are signed with", vec![true_statement.clone()]),
        ("certificate of b.site.fusiondp", own(&kits.site("b"))),
        ("another purpose", own(&kits.files("coordinator", "coordinator"))),
        ("certificate of admin.admin.fusiondp", own(&kits.files("admin", "admin"))),
        ("unknown authority", own(&foreign.site("a"))),
        ("is of site b", vec![statement(&kits.site("b"), "b", &forged.key, THEN_MS)]),
        ("not of the certificate's key", vec![stolen_words]),
        // One that holds does not excuse one that does not.
        ("the receipts are signed with", [own(&kits.site("a")), vec![true_statement]].concat()),
    ];
    for (named, statements) in cases {
        let before = checked(&forged, statements.clone(), &Trust::default());
        assert_eq!(before.problems, [""; 0], "what nobody could see without the authority");
        let verdict = checked(&forged, statements, &kits.trust());
        assert_eq!(verdict.key_binding, KeyBinding::Unbound);
        let found = verdict.problems.join("; ");
        assert!(found.contains(named), "{named}: {found}");
    }
}

/// After a new authority, or in two consortia, a site's own file has statements under both.
#[test]
fn statements_under_two_authorities_stand_under_a_file_with_both() {
    let (kits, other, honest) = (Kits::new(), Kits::new(), site("a", 1));
    let both = [&kits, &other].map(|kits| statement(&kits.site("a"), "a", &honest.key, THEN_MS)).to_vec();
    let found = checked(&honest, both.clone(), &kits.trust()).problems.join("; ");
    assert!(found.contains("unknown authority") && found.contains("a PEM file with"), "{found}");
    let text = [&kits, &other].map(|kits| std::fs::read_to_string(kits.site("a").ca).unwrap()).concat();
    let file = kits.0.path().join("both.pem");
    std::fs::write(&file, text).unwrap();
    let trust = Trust { authority: Some(Authority::read(&file).unwrap()), ..Trust::default() };
    assert_eq!(checked(&honest, both, &trust).problems, [""; 0]);
}

#[test]
fn a_site_cannot_claim_a_key_that_it_does_not_hold() {
    let (kits, honest) = (Kits::new(), site("b", 1));
    let thief = LedgerKey::from_seed([7; LedgerKey::SEED_BYTES]);
    let claimed = stated(&kits.site("b"), ("b", honest.key.public()), &thief, THEN_MS);
    let verdict = checked(&honest, vec![claimed], &kits.trust());
    assert!(verdict.problems[0].contains("not signed with the ledger key"), "{verdict:?}");
}

/// Ids are unique within a role only.
#[test]
fn an_administrators_certificate_is_no_sites_of_the_same_id() {
    let (kits, named) = (Kits::new(), site("admin", 1));
    let statement = statement(&kits.files("admin", "admin"), "admin", &named.key, THEN_MS);
    let verdict = checked(&named, vec![statement], &kits.trust());
    let found = verdict.problems.join("; ");
    assert!(found.contains("certificate of admin.admin.fusiondp"), "{found}");
}

#[test]
fn altered_statements_are_named() {
    let (kits, honest) = (Kits::new(), site("a", 1));
    let true_statement = statement(&kits.site("a"), "a", &honest.key, THEN_MS);
    let other = statement(&kits.site("b"), "b", &honest.key, THEN_MS);
    type Change = fn(&mut SignedKeyStatement, &SignedKeyStatement);
    let cases: [(&str, Change); 7] = [
        ("certificate's key", |signed, _| signed.statement.made_ms += 1),
        ("certificate's key", |signed, _| signed.certificate.signature.0[9] ^= 1),
        ("the ledger key that it is about", |signed, _| {
            signed.signature = fusiondp_dp::Signature::from_bytes([1; 64])
        }),
        ("scheme is unknown", |signed, _| signed.certificate.scheme = "none".to_owned()),
        ("no certificate", |signed, _| signed.certificate.chain.clear()),
        ("certificate's key", |signed, other| signed.certificate.chain = other.certificate.chain.clone()),
        // The same key's older certificate would do for the signature.
        ("certificate's key", |signed, _| signed.statement.certificate = Digest::of(b"another")),
    ];
    for (index, (named, change)) in cases.into_iter().enumerate() {
        let mut altered = true_statement.clone();
        change(&mut altered, &other);
        let verdict = checked(&honest, vec![altered], &kits.trust());
        let found = verdict.problems.join("; ");
        assert!(found.contains(named), "case {index}, {named}: {found}");
    }
}

/// A renewed certificate is of the same key, so its signature is valid under the old one too.
#[test]
fn the_certificate_is_the_one_that_the_statement_names() {
    let (kits, honest) = (Kits::new(), site("a", 1));
    let old = statement(&kits.site("a"), "a", &honest.key, THEN_MS);
    kits.renew("a", THEN_MS + DAY_MS / 2);
    let new = statement(&kits.site("a"), "a", &honest.key, THEN_MS + DAY_MS);
    let swapped = SignedKeyStatement {
        certificate: CertificateProof { chain: old.certificate.chain.clone(), ..new.certificate.clone() },
        ..new.clone()
    };
    assert_ne!(old.statement.certificate, new.statement.certificate);
    let verdict = checked(&honest, vec![swapped], &kits.trust());
    assert!(verdict.problems[0].contains("names another certificate"), "{verdict:?}");
    assert_eq!(checked(&honest, vec![old, new], &kits.trust()).problems, [""; 0]);
}

#[test]
fn every_charge_needs_a_certificate_that_was_valid_then() {
    let kits = Kits::new();
    let mut long = site("a", 1);
    long.time_ms = THEN_MS + 150 * DAY_MS;
    long.round(5, 0).round(6, 0);
    let first = statement(&kits.site("a"), "a", &long.key, THEN_MS);
    kits.renew("a", THEN_MS + 90 * DAY_MS);
    let second = statement(&kits.site("a"), "a", &long.key, THEN_MS + 90 * DAY_MS);
    assert_eq!(checked(&long, vec![first.clone(), second.clone()], &kits.trust()).problems, [""; 0]);
    for (statements, named) in [
        (
            vec![first.clone()],
            "charge 5 was made at 2024-04-12 22:13:20 UTC, when no certificate of the site was valid, and 1 more",
        ),
        (
            vec![second],
            "charge 0 was made at 2023-11-15 22:13:20 UTC, when no certificate of the site was valid, and 4 more",
        ),
    ] {
        let found = checked(&long, statements, &kits.trust()).problems.join("; ");
        assert!(found.contains(named), "{named}: {found}");
    }
    // A statement from after its certificate's end shows nothing: whoever finds an old key could make one.
    let late = statement(&kits.site("a"), "a", &long.key, THEN_MS + 191 * DAY_MS);
    let found = checked(&long, vec![first, late], &kits.trust()).problems.join("; ");
    assert!(found.contains("certificate has expired"), "{found}");
}
