-- Studies that were offered to the site, each document by its digest. Times are Unix milliseconds, UTC.
CREATE TABLE offer (
    digest      TEXT    PRIMARY KEY NOT NULL, -- SHA-256 of the document, 64 digits
    study       TEXT    NOT NULL,             -- study id
    document    BLOB    NOT NULL,             -- the document's bytes as offered
    asked_by    TEXT    NOT NULL,             -- consortium, as the coordinator names it
    deadline_ms INTEGER NOT NULL,             -- end of the newest offer
    first_ms    INTEGER NOT NULL,             -- first offer
    newest_ms   INTEGER NOT NULL,             -- newest offer
    looked_ms   INTEGER,                      -- when the site last read its data for the study; NULL: not yet
    units       INTEGER,                      -- privacy units that it found; NULL: data or imputer did not serve
    records     INTEGER,                      -- records that it found
    data_set    TEXT,                         -- identity of the data set in the ledger, 64 digits
    problem     TEXT                          -- why data or imputer did not serve, for people at the site
) STRICT;

-- What people at the site decided; the newest decision about a document counts.
CREATE TABLE approval (
    decision    INTEGER PRIMARY KEY NOT NULL, -- in the order of time
    digest      TEXT    NOT NULL,             -- SHA-256 of the document, 64 digits
    study       TEXT    NOT NULL,             -- study id
    verdict     TEXT    NOT NULL CHECK (verdict IN ('approved', 'rejected')),
    decided_by  TEXT    NOT NULL,             -- name of the person
    reason      TEXT    NOT NULL,             -- why it was rejected; empty for an approval
    decided_ms  INTEGER NOT NULL
) STRICT;
CREATE INDEX approval_digest ON approval (digest);
CREATE TRIGGER approval_stays BEFORE DELETE ON approval
BEGIN SELECT RAISE(ABORT, 'decisions are never deleted'); END;
CREATE TRIGGER approval_is_kept BEFORE UPDATE ON approval
BEGIN SELECT RAISE(ABORT, 'decisions are never changed; decide again'); END;

-- What the site did not do and why. Equal ones are counted.
CREATE TABLE refusal (
    study     TEXT    NOT NULL, -- study id
    stage     TEXT    NOT NULL, -- enrolment, training or evaluation
    decline   TEXT    NOT NULL, -- refusal: the site will not; failure: it could not
    problem   TEXT    NOT NULL, -- problem type, as the coordinator hears it
    text      TEXT    NOT NULL, -- for people at the site; the coordinator hears less
    times     INTEGER NOT NULL, -- how often
    first_ms  INTEGER NOT NULL,
    newest_ms INTEGER NOT NULL,
    PRIMARY KEY (study, stage, decline, problem, text)
) STRICT;
