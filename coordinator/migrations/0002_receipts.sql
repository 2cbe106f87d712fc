-- What sites state in writing of their updates, and the keys that sign it.

-- The key that the site signs its ledger and its receipts with in this study, 64 digits; empty before enrolment.
ALTER TABLE study_sites ADD COLUMN ledger_key TEXT NOT NULL DEFAULT '';
-- Charges of the study that the site's newest receipt counts; those that no receipt lists are `mirror_gaps`.
ALTER TABLE study_sites ADD COLUMN study_charges BIGINT NOT NULL DEFAULT 0;
-- The site's signature under the entry, 128 digits.
ALTER TABLE mirror ADD COLUMN signature TEXT NOT NULL DEFAULT '';

CREATE TABLE receipts (
    update_id    TEXT   NOT NULL PRIMARY KEY,
    study_id     TEXT   NOT NULL REFERENCES studies (study_id),
    site_id      TEXT   NOT NULL,
    round        BIGINT NOT NULL,
    receipt      TEXT   NOT NULL,                    -- canonical JSON with signature, the bytes as received
    received_ms  BIGINT NOT NULL
);
CREATE INDEX receipts_by_site ON receipts (study_id, site_id, round);
