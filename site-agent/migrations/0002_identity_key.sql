-- The secret that keys identities which follow from the data. Made once, never sent, backed up with the ledger.
CREATE TABLE identity_key (
    id  INTEGER PRIMARY KEY NOT NULL CHECK (id = 1), -- one row
    key BLOB    NOT NULL CHECK (length(key) = 32)    -- of the operating system's randomness
) STRICT;
CREATE TRIGGER identity_key_stays BEFORE DELETE ON identity_key
BEGIN SELECT RAISE(ABORT, 'the identity key is never deleted'); END;
CREATE TRIGGER identity_key_is_kept BEFORE UPDATE ON identity_key
BEGIN SELECT RAISE(ABORT, 'the identity key is never changed'); END;
