-- What the site has stated about the key of its ledger: once for each certificate, and the same bytes to every coordinator.
CREATE TABLE key_statement (
    certificate TEXT    PRIMARY KEY NOT NULL, -- SHA-256 of the certificate in DER form, 64 digits
    statement   TEXT    NOT NULL,             -- canonical JSON with both signatures and the certificate's chain
    made_ms     INTEGER NOT NULL              -- Unix milliseconds, UTC
) STRICT;
CREATE TRIGGER key_statements_stay BEFORE DELETE ON key_statement
BEGIN SELECT RAISE(ABORT, 'key statements are never deleted'); END;
CREATE TRIGGER key_statements_are_kept BEFORE UPDATE ON key_statement
BEGIN SELECT RAISE(ABORT, 'key statements are never changed'); END;
