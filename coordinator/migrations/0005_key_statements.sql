-- What sites have stated about the keys of their ledgers, each signed with a certificate's key and with the ledger's own. Never
-- changed and never deleted: receipts are verified with them after the certificate has been replaced.
CREATE TABLE key_statements (
    site_id      TEXT   NOT NULL,                    -- from the certificate
    certificate  TEXT   NOT NULL,                    -- SHA-256 of the certificate in DER form, 64 digits
    ledger_key   TEXT   NOT NULL,                    -- the key that the statement is about, 64 digits
    statement    TEXT   NOT NULL,                    -- canonical JSON with both signatures and the certificate's chain, the bytes as received
    made_ms      BIGINT NOT NULL,                    -- as the site says, Unix milliseconds
    received_ms  BIGINT NOT NULL,                    -- of the first registration with it, Unix milliseconds
    PRIMARY KEY (site_id, certificate, ledger_key)
);
