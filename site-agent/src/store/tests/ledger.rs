//! What a ledger survives: restored backups, two histories, lost journals and keys, full disks, clocks that jump.

use std::path::PathBuf;

use super::*;
use crate::store::journal::{JournalError, default_path};
use crate::store::ledger_file::LedgerFile;
use crate::store::ledger_key::{KEY_FILE, LedgerKeyError};
use crate::store::repair::{Decision, RepairError, Restored};
use crate::store::verified::VerifiedLedger;
use crate::testing::closed;

/// A state folder with charges, and what is done to it.
struct Site {
    folder: tempfile::TempDir,
    session: Session,
}

const DECISION: Decision<'_> = Decision { reason: "why", decided_by: "it", now_ms: NOW_MS + 1_000 };

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let session = session(folder.path());
        Self { folder, session }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn journal(&self) -> PathBuf {
        default_path(&self.state())
    }

    async fn open(&self) -> Arc<Store> {
        Arc::new(Store::open(&self.state()).await.unwrap())
    }

    /// Charges for one round.
    async fn charge(&self, round: u32) {
        let store = self.open().await;
        drop(charges(&self.session, &task(&self.session, round), &store).await);
    }

    async fn ledger(&self) -> Result<SiteLedger, SiteLedgerError> {
        SiteLedger::open(self.open().await).await
    }

    async fn rounds(&self) -> Vec<u32> {
        let ledger = self.ledger().await.unwrap();
        ledger.entries().iter().map(|entry| entry.charge().round).collect()
    }

    /// Copies the state folder, as a backup would while no agent runs.
    async fn back_up(&self, name: &str) {
        closed(&self.state()).await;
        let (from, to) = (self.state(), self.folder.path().join(name));
        std::fs::create_dir_all(&to).unwrap();
        for file in [DATABASE_FILE, KEY_FILE] {
            std::fs::copy(from.join(file), to.join(file)).unwrap();
        }
    }

    async fn restore_backup(&self, name: &str) {
        closed(&self.state()).await;
        std::fs::remove_dir_all(self.state()).unwrap();
        std::fs::create_dir(self.state()).unwrap();
        for file in [DATABASE_FILE, KEY_FILE] {
            std::fs::copy(self.folder.path().join(name).join(file), self.state().join(file)).unwrap();
        }
    }

    async fn repair(&self, from: &Path) -> Result<Restored, RepairError> {
        SiteLedger::restore(self.open().await, LedgerFile::read(from).unwrap(), None, &DECISION).await
    }
}

fn journal_error(result: Result<SiteLedger, SiteLedgerError>) -> JournalError {
    match result.err().unwrap() {
        SiteLedgerError::Journal(error) => error,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_restored_backup_is_refused_until_its_charges_are_back_from_the_journal() {
    let site = Site::new();
    site.charge(2).await;
    site.back_up("monday").await;
    site.charge(3).await;
    site.charge(4).await;
    let head = site.ledger().await.unwrap().head();
    site.restore_backup("monday").await;
    let error = journal_error(site.ledger().await);
    assert!(matches!(error, JournalError::Ahead { database: 1, journal: 3, .. }), "{error}");
    assert!(error.to_string().contains("ledger restore"), "{error}");
    let verified = VerifiedLedger::read(&site.state(), &site.journal()).await;
    assert!(verified.err().unwrap().to_string().contains("older backup"));

    let restored = site.repair(&site.journal()).await.unwrap();
    assert_eq!(restored, Restored { known: 1, appended: 2, charged_again: 0 });
    // The very same chain, and what came back counts as having left.
    assert_eq!(site.ledger().await.unwrap().head(), head);
    assert!(site.open().await.ledger_rows().await.unwrap()[2].released);
    site.charge(5).await;
    assert_eq!(site.rounds().await, [2, 3, 4, 5]);
    let again = site.repair(&site.journal()).await.unwrap();
    assert_eq!(again, Restored { known: 4, appended: 0, charged_again: 0 });
}

#[tokio::test]
async fn two_histories_are_both_paid_for() {
    let site = Site::new();
    site.charge(2).await;
    site.back_up("monday").await;
    site.charge(3).await;
    let other = site.folder.path().join("other.jsonl");
    std::fs::copy(site.journal(), &other).unwrap();
    // The folder is restored together with a journal of the time, and goes another way.
    site.restore_backup("monday").await;
    let lines = std::fs::read_to_string(site.journal()).unwrap();
    let older: String = lines.lines().take(2).map(|line| format!("{line}\n")).collect();
    std::fs::write(site.journal(), older).unwrap();
    site.charge(4).await;
    let own = std::fs::read_to_string(site.journal()).unwrap();
    std::fs::copy(&other, site.journal()).unwrap();
    let error = journal_error(site.ledger().await);
    assert!(matches!(error, JournalError::Forked { sequence: 1, .. }), "{error}");

    let restored = site.repair(&other).await.unwrap();
    assert_eq!(restored, Restored { known: 1, appended: 0, charged_again: 1 });
    assert_eq!(site.rounds().await, [2, 4, 3]);
    let events = site.ledger().await.unwrap().events(site.session.identity().digest);
    assert_eq!(events.iter().map(|event| event.steps().get()).sum::<u32>(), 3);
    // Either history is covered now, in whatever order they come.
    let mine = site.folder.path().join("mine.jsonl");
    std::fs::write(&mine, own).unwrap();
    for file in [&other, &mine] {
        assert_eq!(site.repair(file).await.unwrap().charged_again, 0);
    }
}

#[tokio::test]
async fn a_journal_that_lags_or_is_torn_catches_up() {
    let site = Site::new();
    site.charge(2).await;
    let before = std::fs::read(site.journal()).unwrap();
    site.charge(3).await;
    let whole = std::fs::read(site.journal()).unwrap();
    // Power was lost before the second copy was whole.
    for length in [before.len(), before.len() + 10, whole.len() - 1] {
        std::fs::write(site.journal(), &whole[..length]).unwrap();
        let verified = VerifiedLedger::read(&site.state(), &site.journal()).await.unwrap();
        assert_eq!((verified.chain.entries().len(), verified.unjournaled), (2, 1));
        site.ledger().await.unwrap();
        assert_eq!(std::fs::read(site.journal()).unwrap(), whole, "{length} bytes");
    }
}

#[tokio::test]
async fn a_lost_journal_needs_a_decision() {
    let site = Site::new();
    site.charge(2).await;
    std::fs::remove_file(site.journal()).unwrap();
    assert!(matches!(journal_error(site.ledger().await), JournalError::Missing { entries: 1, .. }));
    assert_eq!(site.open().await.accept_journal(&DECISION).await.unwrap(), 1);
    site.charge(3).await;
    assert_eq!(site.rounds().await, [2, 3]);
    let nothing = site.open().await.accept_journal(&DECISION).await.unwrap_err();
    assert!(matches!(nothing, RepairError::NothingToDecide(_)), "{nothing}");
    let store = site.open().await;
    for statement in ["DELETE FROM ledger_decision", "UPDATE ledger_decision SET reason = 'other'"] {
        assert!(sqlx::query(statement).execute(&mut *store.connection().await).await.is_err(), "{statement}");
    }
}

#[tokio::test]
async fn a_lost_state_folder_is_not_a_new_beginning() {
    let site = Site::new();
    site.charge(2).await;
    std::fs::remove_dir_all(site.state()).unwrap();
    let error = journal_error(site.ledger().await);
    assert!(matches!(error, JournalError::Foreign { .. }), "{error}");
    // A new folder has a new key: the old ledger is taken only by somebody who says that it is this hospital's.
    let old = site.folder.path().join("old.jsonl");
    std::fs::rename(site.journal(), &old).unwrap();
    site.ledger().await.unwrap();
    let file = LedgerFile::read(&old).unwrap();
    let key = file.key;
    let error = SiteLedger::restore(site.open().await, file, None, &DECISION).await.unwrap_err();
    assert!(matches!(error, RepairError::ForeignKey { found, .. } if found == key), "{error}");
    let file = LedgerFile::read(&old).unwrap();
    let restored = SiteLedger::restore(site.open().await, file, Some(key), &DECISION).await.unwrap();
    assert_eq!(restored, Restored { known: 0, appended: 0, charged_again: 1 });
    assert_eq!(site.rounds().await, [2]);
}

#[tokio::test]
async fn a_journal_of_another_site_is_refused() {
    let (site, other) = (Site::new(), Site::new());
    site.charge(2).await;
    other.charge(2).await;
    std::fs::copy(other.journal(), site.journal()).unwrap();
    assert!(matches!(journal_error(site.ledger().await), JournalError::Foreign { .. }));
    std::fs::write(site.journal(), "hello\n").unwrap();
    assert!(matches!(journal_error(site.ledger().await), JournalError::Form { .. }));
}

#[tokio::test]
async fn without_its_key_a_ledger_is_not_opened() {
    let site = Site::new();
    site.charge(2).await;
    let key = site.state().join(KEY_FILE);
    let bytes = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let error = Store::open(&site.state()).await.err().unwrap();
    assert!(matches!(error, StoreError::LedgerKey(LedgerKeyError::Missing { .. })), "{error}");
    std::fs::write(&key, "00".repeat(32)).unwrap();
    let error = Store::open(&site.state()).await.err().unwrap();
    assert!(matches!(error, StoreError::LedgerKey(LedgerKeyError::Other { .. })), "{error}");
    std::fs::write(&key, "no key").unwrap();
    let error = Store::open(&site.state()).await.err().unwrap();
    assert!(matches!(error, StoreError::LedgerKey(LedgerKeyError::Damaged { .. })), "{error}");
    std::fs::write(&key, bytes).unwrap();
    site.ledger().await.unwrap();
}

/// Whoever owns the file can drop the triggers and compute hashes, and still signs nothing.
#[tokio::test]
async fn an_entry_without_the_sites_signature_is_refused() {
    let site = Site::new();
    site.charge(2).await;
    let store = site.open().await;
    for statement in
        ["DROP TRIGGER ledger_keeps_signature", "UPDATE ledger SET signature = printf('%0128d', 0)"]
    {
        sqlx::query(statement).execute(&mut *store.connection().await).await.unwrap();
    }
    let error = SiteLedger::open(store).await.err().unwrap().to_string();
    assert!(error.contains("entry 0 is not signed"), "{error}");
}

#[tokio::test]
async fn a_full_disk_refuses_and_loses_nothing() {
    let site = Site::new();
    site.charge(2).await;
    // The second copy cannot be written: the system has a file that is always full.
    let mut ledger = site.ledger().await.unwrap();
    let aside = site.folder.path().join("aside");
    std::fs::rename(site.journal(), &aside).unwrap();
    std::os::unix::fs::symlink("/dev/full", site.journal()).unwrap();
    let error = charge_with(&site, &mut ledger, 3).await.unwrap_err();
    assert!(error.to_string().contains("no charge was made"), "{error}");
    // In doubt until it is opened again: nothing is charged on a ledger whose copies may differ.
    assert!(charge_with(&site, &mut ledger, 3).await.is_err());
    drop(ledger);
    std::fs::remove_file(site.journal()).unwrap();
    std::fs::rename(&aside, site.journal()).unwrap();
    // The database has the charge, so it counts; the journal catches up once there is room.
    assert_eq!(site.rounds().await.len(), 2);
    site.charge(4).await;

    // The database cannot grow: nothing is charged, nothing is lost.
    let store = site.open().await;
    let mut ledger = SiteLedger::open(Arc::clone(&store)).await.unwrap();
    sqlx::query("PRAGMA max_page_count = 1").execute(&mut *store.connection().await).await.unwrap();
    let filled = async {
        for round in 5..2_000 {
            charge_with(&site, &mut ledger, round).await?;
        }
        Ok::<_, SiteLedgerError>(())
    };
    let error = filled.await.unwrap_err();
    assert!(format!("{error}").contains("no charge was made"), "{error}");
    let charged = ledger.entries().len();
    drop((ledger, store));
    assert_eq!(site.rounds().await.len(), charged);
}

async fn charge_with(site: &Site, ledger: &mut SiteLedger, round: u32) -> Result<(), SiteLedgerError> {
    charge_at(site, ledger, round, NOW_MS).await
}

async fn charge_at(
    site: &Site,
    ledger: &mut SiteLedger,
    round: u32,
    now_ms: u64,
) -> Result<(), SiteLedgerError> {
    let task = task(&site.session, round % 9 + 2);
    let request = crate::policy::ReleaseRequest {
        document: site.session.document(),
        task: &task,
        data: site.session.identity(),
        units: 40,
    };
    let policy = crate::policy::Policy::new(crate::testing::limits(), crate::policy::Purpose::Production);
    let mut budget = crate::policy::Budget::new(Arc::default());
    let permit = policy
        .permit_release(&request, ledger.entries(), &crate::policy::Past::default(), &mut budget)
        .unwrap();
    let id = crate::RandomSource::Os.update_id().unwrap();
    ledger.charge(permit, id, now_ms).await.map(drop)
}

#[tokio::test]
async fn a_clock_that_ran_ahead_stops_charges_until_somebody_decides() {
    const YEAR_MS: u64 = 365 * 24 * 3_600_000;
    let site = Site::new();
    let store = site.open().await;
    let mut ledger = SiteLedger::open(Arc::clone(&store)).await.unwrap();
    charge_at(&site, &mut ledger, 2, NOW_MS + YEAR_MS).await.unwrap();
    assert!(charge_at(&site, &mut ledger, 3, NOW_MS).await.is_err());
    let ahead = store.accept_clock(&DECISION).await.unwrap();
    assert_eq!(ahead, NOW_MS + YEAR_MS);
    let mut ledger = SiteLedger::open(Arc::clone(&store)).await.unwrap();
    charge_at(&site, &mut ledger, 3, NOW_MS).await.unwrap();
    // It counts as charged when the newest charge was: no limit over time is loosened by it.
    assert_eq!(ledger.entries()[1].charge().time_ms, NOW_MS + YEAR_MS);
    charge_at(&site, &mut ledger, 4, NOW_MS + YEAR_MS + 1).await.unwrap();
    // The decision was about that jump, not about the next one.
    charge_at(&site, &mut ledger, 5, NOW_MS + 9 * YEAR_MS).await.unwrap();
    assert!(charge_at(&site, &mut ledger, 6, NOW_MS + 2 * YEAR_MS).await.is_err());
    let past = Decision { now_ms: NOW_MS + 10 * YEAR_MS, ..DECISION };
    assert!(matches!(store.accept_clock(&past).await, Err(RepairError::NothingToDecide(_))));
}
