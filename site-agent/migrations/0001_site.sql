-- State of one site agent. Append-only migrations: never edit this file, add another.
-- Times are Unix milliseconds, UTC. Digests and ids are lower-case hexadecimal.

-- The hash chain of charges. `entry` is the truth; the other columns repeat parts of it to look entries up by.
CREATE TABLE ledger (
    sequence    INTEGER PRIMARY KEY NOT NULL, -- position in the chain
    entry       TEXT    NOT NULL,             -- canonical JSON of the entry
    update_id   TEXT    NOT NULL,             -- update the charge was made for, 32 digits
    study       TEXT    NOT NULL,             -- study id
    round       INTEGER NOT NULL,             -- from 1
    local_step  INTEGER NOT NULL,             -- from 1
    released_ms INTEGER                       -- when the noised bytes were stored; NULL: charged and never released
) STRICT;
CREATE INDEX ledger_update ON ledger (update_id);

-- A charge is never taken back and never rewritten, whatever a defect elsewhere asks for.
CREATE TRIGGER ledger_keeps_entries BEFORE DELETE ON ledger
BEGIN SELECT RAISE(ABORT, 'ledger entries are never deleted'); END;
CREATE TRIGGER ledger_keeps_content BEFORE UPDATE OF sequence, entry, update_id, study, round, local_step ON ledger
BEGIN SELECT RAISE(ABORT, 'ledger entries are never changed'); END;
CREATE TRIGGER ledger_releases_once BEFORE UPDATE OF released_ms ON ledger WHEN OLD.released_ms IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'an update is released once'); END;

-- Studies the site has enrolled in.
CREATE TABLE study (
    study       TEXT    PRIMARY KEY NOT NULL, -- study id
    digest      TEXT    NOT NULL,             -- SHA-256 of the document, 64 digits
    document    BLOB    NOT NULL,             -- the document's bytes as offered
    enrolled_ms INTEGER NOT NULL
) STRICT;

-- Updates from the moment they exist until a later round of their study replaces them. Payloads are noised or permitted.
CREATE TABLE outbox (
    update_id      TEXT    PRIMARY KEY NOT NULL, -- 32 digits
    study          TEXT    NOT NULL,             -- study id
    round          INTEGER NOT NULL,             -- from 1
    attempt        INTEGER NOT NULL,             -- from 1
    model_version  INTEGER NOT NULL,             -- version the update was computed on
    model_digest   TEXT    NOT NULL,             -- digest of that version, 64 digits
    public_values  INTEGER NOT NULL,             -- f32 values at the start of the payload
    private_values INTEGER NOT NULL,             -- i64 values after them
    units          INTEGER NOT NULL,             -- privacy units of the site
    records        INTEGER NOT NULL,             -- weight of the public gradient
    public_loss    REAL    NOT NULL,             -- mean loss of the hybrid view over the public batch
    payload        BLOB    NOT NULL,             -- the values, little-endian
    payload_digest TEXT    NOT NULL,             -- SHA-256 of the payload, 64 digits
    ledger_head    TEXT,                         -- chain head after the update's charges; NULL without charges
    epsilons       TEXT,                         -- JSON of the four mirrored epsilons; NULL without charges
    stored_ms      INTEGER NOT NULL,
    sent_ms        INTEGER                       -- when the coordinator first confirmed it; NULL: not yet
) STRICT;
CREATE UNIQUE INDEX outbox_task ON outbox (study, round, attempt, model_version);
