-- Tables of counts that have left with noise, each from the moment it exists. Kept, so that whoever asks again gets the same
-- bytes and nothing is charged twice.
CREATE TABLE noisy_counts (
    study          TEXT    NOT NULL,        -- study id
    model_version  INTEGER NOT NULL,        -- version that was evaluated
    cohort         TEXT    NOT NULL,        -- cohort that was counted
    model_digest   TEXT    NOT NULL,        -- SHA-256 of the version's parameters, 64 digits
    update_id      TEXT    NOT NULL UNIQUE, -- 32 digits; that of its charge in the ledger
    payload        TEXT    NOT NULL,        -- JSON of units, noisy counts and signed charge
    payload_digest TEXT    NOT NULL,        -- SHA-256 of it, 64 digits
    stored_ms      INTEGER NOT NULL,        -- Unix milliseconds, UTC
    PRIMARY KEY (study, model_version, cohort)
) STRICT;
CREATE TRIGGER noisy_counts_stay BEFORE DELETE ON noisy_counts
BEGIN SELECT RAISE(ABORT, 'counts that have left are kept'); END;
CREATE TRIGGER noisy_counts_are_kept BEFORE UPDATE ON noisy_counts
BEGIN SELECT RAISE(ABORT, 'counts that have left are never changed'); END;
