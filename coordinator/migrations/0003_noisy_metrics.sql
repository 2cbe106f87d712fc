-- Figures of counts with noise: some figures of exact metrics do not exist there, and what exists has an error.
CREATE TABLE metrics_with_noise (
    study_id         TEXT   NOT NULL REFERENCES studies (study_id),
    model_version    BIGINT NOT NULL,
    cohort           TEXT   NOT NULL,
    site_id          TEXT   NOT NULL,                -- empty: pooled over sites
    round            BIGINT NOT NULL,
    records          BIGINT NOT NULL,                -- with noise: privacy units
    positives        BIGINT NOT NULL,                -- with noise: privacy units, estimated and rounded
    auroc            DOUBLE PRECISION,               -- absent where a class is missing, or within its noise
    aupr             DOUBLE PRECISION,               -- absent with noise
    brier            DOUBLE PRECISION,               -- mean squared error of the probability; absent with noise
    log_loss         DOUBLE PRECISION,               -- nats per record; absent with noise
    auroc_error      DOUBLE PRECISION,               -- standard error of auroc by the noise; absent without noise
    positives_error  DOUBLE PRECISION,               -- standard error of positives, privacy units; absent without noise
    PRIMARY KEY (study_id, model_version, cohort, site_id)
);
INSERT INTO metrics_with_noise (study_id, model_version, cohort, site_id, round, records, positives, auroc, aupr, brier, log_loss)
    SELECT study_id, model_version, cohort, site_id, round, records, positives, auroc, aupr, brier, log_loss FROM metrics;
DROP TABLE metrics;
ALTER TABLE metrics_with_noise RENAME TO metrics;
