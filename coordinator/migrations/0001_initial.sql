-- State of one coordinator. Common subset of SQLite and PostgreSQL; every statement uses $1 placeholders.
--
-- Times are Unix milliseconds, UTC, 0 where something has not happened yet. Digests and ids are lower-case hex.
-- Reals that claim privacy are IEEE doubles. Migrations are append-only: change nothing here, add a file.

CREATE TABLE sites (
    site_id        TEXT   NOT NULL PRIMARY KEY, -- as in the certificate
    agent_version  TEXT   NOT NULL,             -- informative, as the site said it
    peer_address   TEXT   NOT NULL,             -- address of its newest connection
    last_seen_ms   BIGINT NOT NULL              -- time of its newest registration
);

CREATE TABLE studies (
    study_id              TEXT   NOT NULL PRIMARY KEY,
    name                  TEXT   NOT NULL,           -- as the document says it
    digest                TEXT   NOT NULL,           -- SHA-256 of `document`
    document              BYTEA  NOT NULL,           -- the TOML bytes as submitted
    state                 TEXT   NOT NULL,           -- enrolling, running, evaluating, finished, stopped, failed
    detail                TEXT   NOT NULL,           -- why, in a line for people
    rounds                BIGINT NOT NULL,           -- rounds of the document
    rounds_applied        BIGINT NOT NULL,           -- server steps taken, 0 to `rounds`
    model_version         BIGINT NOT NULL,           -- newest trained version, 0 before enrolment has closed
    final_version         BIGINT NOT NULL,           -- version with averaged parameters, 0 while training
    plan                  BYTEA,                     -- the plan as on the wire, absent until enrolment has closed
    stop_requested        BIGINT NOT NULL,           -- 1: ends after the current round
    public_loss           DOUBLE PRECISION,          -- of the last applied round, nats per record
    enrolment_deadline_ms BIGINT NOT NULL,           -- 0 while the study waits for its turn
    submitted_ms          BIGINT NOT NULL,
    started_ms            BIGINT NOT NULL,           -- enrolment closed and the plan stands
    ended_ms              BIGINT NOT NULL
);
CREATE INDEX studies_by_submission ON studies (submitted_ms);

CREATE TABLE study_sites (
    study_id            TEXT   NOT NULL REFERENCES studies (study_id),
    site_id             TEXT   NOT NULL,
    state               TEXT   NOT NULL,             -- invited, enrolled, declined (for good)
    detail              TEXT   NOT NULL,             -- the newest thing the site said, or why it is out
    units               BIGINT NOT NULL,             -- privacy units of the training data
    records             BIGINT NOT NULL,             -- records of the training data
    ledger_head         TEXT,                        -- chain head of the site's ledger at enrolment
    rounds_contributed  BIGINT NOT NULL,             -- applied rounds that hold an update of the site
    rounds_missed       BIGINT NOT NULL,             -- finished or abandoned attempts it was selected for without an update
    epsilon_replace     DOUBLE PRECISION NOT NULL,   -- the site's own figure of what this study has spent, upper bound
    epsilon_zero_out    DOUBLE PRECISION NOT NULL,
    mirror_gaps         BIGINT NOT NULL,             -- breaks seen between mirrored ledger entries
    PRIMARY KEY (study_id, site_id)
);

CREATE TABLE rounds (
    study_id       TEXT   NOT NULL REFERENCES studies (study_id),
    round          BIGINT NOT NULL,                  -- from 1
    attempt        BIGINT NOT NULL,                  -- from 1
    phase          TEXT   NOT NULL,                  -- selection, configuration, reporting, aggregation, finished, abandoned
    model_version  BIGINT NOT NULL,                  -- the version the sites train on
    detail         TEXT   NOT NULL,                  -- what it waits for, or why it was abandoned
    opened_ms      BIGINT NOT NULL,                  -- entered selection
    deadline_ms    BIGINT NOT NULL,                  -- of reporting, 0 before configuration
    ended_ms       BIGINT NOT NULL,                  -- finished or abandoned
    public_loss    DOUBLE PRECISION,                 -- mean over the public batches, nats per record
    PRIMARY KEY (study_id, round, attempt)
);

CREATE TABLE round_sites (
    study_id  TEXT   NOT NULL,
    round     BIGINT NOT NULL,
    attempt   BIGINT NOT NULL,
    site_id   TEXT   NOT NULL,
    outcome   TEXT   NOT NULL,                       -- working, reported, late, missing, failed, refused
    detail    TEXT   NOT NULL,
    PRIMARY KEY (study_id, round, attempt, site_id),
    FOREIGN KEY (study_id, round, attempt) REFERENCES rounds (study_id, round, attempt)
);

CREATE TABLE updates (
    update_id             TEXT   NOT NULL PRIMARY KEY, -- 16 random bytes of the site
    study_id              TEXT   NOT NULL REFERENCES studies (study_id),
    round                 BIGINT NOT NULL,
    attempt               BIGINT NOT NULL,           -- the attempt it was computed for
    site_id               TEXT   NOT NULL,           -- from the certificate
    model_version         BIGINT NOT NULL,
    outcome               TEXT   NOT NULL,           -- accepted, late
    units                 BIGINT NOT NULL,
    records               BIGINT NOT NULL,           -- weight of the public part
    public_values         BIGINT NOT NULL,           -- f32 values at the start of the payload
    private_values        BIGINT NOT NULL,           -- i64 values after them, in grid steps
    public_loss           DOUBLE PRECISION NOT NULL, -- nats per record, of the site's public batch
    payload               BYTEA,                     -- absent once aggregated, and for late updates
    events                BIGINT NOT NULL,           -- ledger entries it was charged to
    ledger_head           TEXT,                      -- chain head after them
    epsilon_replace       DOUBLE PRECISION NOT NULL, -- the site's figure for this study so far
    epsilon_zero_out      DOUBLE PRECISION NOT NULL,
    data_epsilon_replace  DOUBLE PRECISION NOT NULL, -- the site's figure over all studies on the same data
    data_epsilon_zero_out DOUBLE PRECISION NOT NULL,
    received_ms           BIGINT NOT NULL
);
-- No site counts twice in a round, whatever the attempt.
CREATE UNIQUE INDEX updates_once ON updates (study_id, round, site_id) WHERE outcome = 'accepted';
CREATE INDEX updates_by_site ON updates (study_id, site_id, round);

CREATE TABLE models (
    study_id    TEXT   NOT NULL REFERENCES studies (study_id),
    version     BIGINT NOT NULL,                     -- from 1
    kind        TEXT   NOT NULL,                     -- trained, final
    round       BIGINT NOT NULL,                     -- the round whose application made it, 0 for the initial one
    digest      TEXT   NOT NULL,                     -- SHA-256 of `parameters`
    parameters  BYTEA  NOT NULL,                     -- P little-endian f32
    PRIMARY KEY (study_id, version)
);
-- No round is applied twice.
CREATE UNIQUE INDEX models_once ON models (study_id, round, kind);

CREATE TABLE server_states (
    study_id  TEXT   NOT NULL PRIMARY KEY REFERENCES studies (study_id),
    version   BIGINT NOT NULL,                       -- the model version the state belongs to
    state     BYTEA  NOT NULL                        -- parameters, optimizer and averaging state
);

CREATE TABLE mirror (
    site_id      TEXT   NOT NULL,
    hash         TEXT   NOT NULL,                    -- of the entry
    previous     TEXT   NOT NULL,                    -- hash of the entry before it in the site's chain
    sequence     BIGINT NOT NULL,                    -- position in the site's chain
    study_id     TEXT   NOT NULL,
    entry        TEXT   NOT NULL,                    -- canonical JSON
    received_ms  BIGINT NOT NULL,
    PRIMARY KEY (site_id, hash)
);
CREATE INDEX mirror_by_study ON mirror (study_id, site_id, sequence);
CREATE INDEX mirror_by_sequence ON mirror (site_id, sequence);

CREATE TABLE evaluations (
    study_id       TEXT   NOT NULL REFERENCES studies (study_id),
    model_version  BIGINT NOT NULL,
    cohort         TEXT   NOT NULL,
    round          BIGINT NOT NULL,                  -- rounds applied in that version
    state          TEXT   NOT NULL,                  -- open, closed
    opened_ms      BIGINT NOT NULL,
    deadline_ms    BIGINT NOT NULL,
    PRIMARY KEY (study_id, model_version, cohort)
);

CREATE TABLE evaluation_sites (
    study_id       TEXT   NOT NULL,
    model_version  BIGINT NOT NULL,
    cohort         TEXT   NOT NULL,
    site_id        TEXT   NOT NULL,
    outcome        TEXT   NOT NULL,                  -- asked, reported, declined, missing
    detail         TEXT   NOT NULL,
    report         BYTEA,                            -- the report as on the wire
    PRIMARY KEY (study_id, model_version, cohort, site_id),
    FOREIGN KEY (study_id, model_version, cohort) REFERENCES evaluations (study_id, model_version, cohort)
);

CREATE TABLE metrics (
    study_id       TEXT   NOT NULL REFERENCES studies (study_id),
    model_version  BIGINT NOT NULL,
    cohort         TEXT   NOT NULL,
    site_id        TEXT   NOT NULL,                  -- empty: pooled over sites
    round          BIGINT NOT NULL,
    records        BIGINT NOT NULL,
    positives      BIGINT NOT NULL,
    auroc          DOUBLE PRECISION,                 -- absent where a class is missing
    aupr           DOUBLE PRECISION,
    brier          DOUBLE PRECISION NOT NULL,        -- mean squared error of the probability
    log_loss       DOUBLE PRECISION NOT NULL,        -- nats per record
    PRIMARY KEY (study_id, model_version, cohort, site_id)
);

CREATE TABLE warnings (
    study_id  TEXT   NOT NULL REFERENCES studies (study_id),
    site_id   TEXT   NOT NULL,                       -- empty: of the whole study
    message   TEXT   NOT NULL,
    at_ms     BIGINT NOT NULL,                       -- first seen
    PRIMARY KEY (study_id, site_id, message)
);
