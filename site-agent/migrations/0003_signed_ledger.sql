-- Signatures under the ledger, receipts of updates, and what an administrator has decided about a ledger in question.

-- The public half of the key in `ledger.key`, which signs every entry: a ledger has one key for ever.
CREATE TABLE ledger_key (
    id         INTEGER PRIMARY KEY NOT NULL CHECK (id = 1), -- one row
    public_key TEXT    NOT NULL                             -- Ed25519, 64 digits
) STRICT;
CREATE TRIGGER ledger_key_stays BEFORE DELETE ON ledger_key
BEGIN SELECT RAISE(ABORT, 'the ledger key is never deleted'); END;
CREATE TRIGGER ledger_key_is_kept BEFORE UPDATE ON ledger_key
BEGIN SELECT RAISE(ABORT, 'the ledger key is never changed'); END;

-- Ed25519 over the entry's hash, 128 digits. The default is no signature and does not verify.
ALTER TABLE ledger ADD COLUMN signature TEXT NOT NULL DEFAULT '';
CREATE TRIGGER ledger_keeps_signature BEFORE UPDATE OF signature ON ledger
BEGIN SELECT RAISE(ABORT, 'ledger entries are never changed'); END;

-- What the site has stated in writing of each update it released.
CREATE TABLE receipt (
    update_id     TEXT    PRIMARY KEY NOT NULL, -- 32 digits
    study         TEXT    NOT NULL,             -- study id
    round         INTEGER NOT NULL,             -- from 1
    receipt       TEXT    NOT NULL,             -- canonical JSON with signature
    last_charge   INTEGER,                      -- position in the chain of the last charge that it lists; NULL: none
    confirmed_ms  INTEGER                       -- when the coordinator first confirmed it; NULL: not yet
) STRICT;
CREATE INDEX receipt_study ON receipt (study, confirmed_ms);
CREATE TRIGGER receipts_stay BEFORE DELETE ON receipt
BEGIN SELECT RAISE(ABORT, 'receipts are never deleted'); END;
CREATE TRIGGER receipts_are_kept BEFORE UPDATE OF update_id, study, round, receipt, last_charge ON receipt
BEGIN SELECT RAISE(ABORT, 'receipts are never changed'); END;

-- The receipt holds what these repeated.
ALTER TABLE outbox DROP COLUMN ledger_head;
ALTER TABLE outbox DROP COLUMN epsilons;

-- Entries of this site's ledger that a coordinator has shown and the ledger does not hold.
CREATE TABLE lost_entry (
    hash    TEXT    PRIMARY KEY NOT NULL, -- of the entry, 64 digits
    entry   TEXT    NOT NULL,             -- canonical JSON with signature, as shown
    seen_ms INTEGER NOT NULL
) STRICT;

-- What an administrator has decided, so that the agent may go on. Never deleted: an auditor reads it.
CREATE TABLE decision (
    id         INTEGER PRIMARY KEY NOT NULL,
    kind       TEXT    NOT NULL,             -- journal, clock, lost-entry, restored
    subject    TEXT    NOT NULL,             -- what it is about: a count of entries, a time, a hash
    reason     TEXT    NOT NULL,             -- in the administrator's words
    decided_by TEXT    NOT NULL,             -- as the operating system names the user
    decided_ms INTEGER NOT NULL
) STRICT;
CREATE TRIGGER decisions_stay BEFORE DELETE ON decision
BEGIN SELECT RAISE(ABORT, 'decisions are never deleted'); END;
CREATE TRIGGER decisions_are_kept BEFORE UPDATE ON decision
BEGIN SELECT RAISE(ABORT, 'decisions are never changed'); END;
