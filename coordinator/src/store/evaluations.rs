//! Evaluations of stored models, and the metrics that came of them.

use fusiondp_proto::v1;
use fusiondp_protocol::{CohortName, EvaluationReport, ReleasedMetrics, SiteId, StudyId};
use prost::Message as _;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::mirror::{self, Paid};
use super::row::{BindExt as _, RowExt as _, beginning, int};
use super::{Store, StoreError};

/// One model version on one cohort.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluationRow {
    /// The version.
    pub model_version: u64,
    /// The cohort.
    pub cohort: CohortName,
    /// Rounds applied in that version.
    pub round: u32,
    /// Sites are still asked.
    pub open: bool,
    /// Unix milliseconds.
    pub opened_ms: u64,
    /// Last moment for a report, Unix milliseconds.
    pub deadline_ms: u64,
}

/// One site in one evaluation.
#[derive(Debug, Clone)]
pub struct EvaluationSite {
    /// The site.
    pub site: SiteId,
    /// It has neither reported nor declined.
    pub asked: bool,
    /// Why there is no report, where there is none.
    pub detail: String,
    /// Its report.
    pub report: Option<EvaluationReport>,
}

/// Figures of one evaluation, of one site or pooled.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricRow {
    /// The version.
    pub model_version: u64,
    /// Rounds applied in that version.
    pub round: u32,
    /// The cohort.
    pub cohort: CohortName,
    /// `None`: pooled over sites.
    pub site: Option<SiteId>,
    /// Records evaluated; with noise privacy units.
    pub records: u64,
    /// Those with label 1; with noise estimated and rounded.
    pub positives: u64,
    /// `None` where a class is missing, or within its noise.
    pub auroc: Option<f64>,
    /// `None` where a class is missing, and with noise.
    pub aupr: Option<f64>,
    /// Mean squared error of the probability; `None` with noise.
    pub brier: Option<f64>,
    /// Mean negative log likelihood, nats per record; `None` with noise.
    pub log_loss: Option<f64>,
    /// What noise does to the figures; `None` for exact ones.
    pub noise: Option<MetricNoise>,
}

/// Standard errors by the noise alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MetricNoise {
    /// Of the AUROC; `None` where there is none.
    pub auroc_error: Option<f64>,
    /// Of the number of positives.
    pub positives_error: f64,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportReceipt {
    /// Stored.
    Stored,
    /// The same site had answered before, or the evaluation is closed.
    TooLate,
    /// The site was not asked.
    NotAsked,
}

// The columns of a `EvaluationRow`.
beginning!(
    select_evaluation,
    "SELECT model_version, cohort, round, state, opened_ms, deadline_ms FROM evaluations \
             WHERE study_id = $1 "
);

fn evaluation_row(row: &AnyRow) -> Result<EvaluationRow, StoreError> {
    Ok(EvaluationRow {
        model_version: row.uint("model_version")?,
        cohort: row.parsed("cohort")?,
        round: row.uint32("round")?,
        open: row.text("state")? == "open",
        opened_ms: row.uint("opened_ms")?,
        deadline_ms: row.uint("deadline_ms")?,
    })
}

impl Store {
    /// Asks `sites` to evaluate a version. Asking again changes nothing.
    pub async fn open_evaluation(
        &self,
        id: &StudyId,
        evaluation: &EvaluationRow,
        sites: &[SiteId],
    ) -> Result<(), StoreError> {
        self.write("open_evaluation", |tx| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO evaluations (study_id, model_version, cohort, round, state, opened_ms, deadline_ms) \
                     VALUES ($1, $2, $3, $4, 'open', $5, $6) ON CONFLICT (study_id, model_version, cohort) DO NOTHING",
                )
                .evaluated(id, evaluation.model_version, &evaluation.cohort)
                .bind(int(evaluation.round))
                .bind(int(evaluation.opened_ms))
                .bind(int(evaluation.deadline_ms))
                .execute(&mut **tx)
                .await?;
                for site in sites {
                    ask(tx, id, evaluation, site).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Gives the sites of every open evaluation time until `deadline_ms`, if they have less.
    pub async fn extend_evaluations(&self, id: &StudyId, deadline_ms: u64) -> Result<(), StoreError> {
        self.write("extend_evaluations", |tx| {
            Box::pin(async move {
                sqlx::query(
                    "UPDATE evaluations SET deadline_ms = $2 WHERE study_id = $1 AND state = 'open' AND deadline_ms < $2",
                )
                .bind(id.as_str())
                .bind(int(deadline_ms))
                .execute(&mut **tx)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// Evaluations that sites are still asked for, oldest first.
    pub async fn open_evaluations(&self, id: &StudyId) -> Result<Vec<EvaluationRow>, StoreError> {
        self.read("open_evaluations", |tx| {
            Box::pin(async move {
                let query = select_evaluation!("AND state = 'open' ORDER BY model_version, cohort");
                query.bind(id.as_str()).fetch_all(&mut **tx).await?.iter().map(evaluation_row).collect()
            })
        })
        .await
    }

    /// Every site of one evaluation, by id.
    pub async fn evaluation_sites(
        &self,
        id: &StudyId,
        evaluation: &EvaluationRow,
    ) -> Result<Vec<EvaluationSite>, StoreError> {
        self.read("evaluation_sites", |tx| Box::pin(evaluation_sites(tx, id, evaluation))).await
    }

    /// Stores a site's report, and mirrors what paid for it. The charge of a report that comes too late was made all the same.
    pub async fn record_evaluation(
        &self,
        site: &SiteId,
        report: &EvaluationReport,
        now_ms: u64,
    ) -> Result<ReportReceipt, StoreError> {
        let bytes = v1::EvaluationReport::from(report.clone()).encode_to_vec();
        let bytes = &bytes;
        self.write("record_evaluation", |tx| {
            Box::pin(async move {
                let updated = sqlx::query(
                    "UPDATE evaluation_sites SET outcome = 'reported', detail = '', report = $5 \
                     WHERE study_id = $1 AND model_version = $2 AND cohort = $3 AND site_id = $4 \
                     AND outcome = 'asked'",
                )
                .bind(report.study_id.as_str())
                .bind(int(report.model_version))
                .bind(report.cohort.as_str())
                .bind(site.as_str())
                .bind(bytes.clone())
                .execute(&mut **tx)
                .await?;
                if updated.rows_affected() == 0 && !was_asked(tx, site, report).await? {
                    return Ok(ReportReceipt::NotAsked);
                }
                mirror_counts(tx, site, report, now_ms).await?;
                let stored = updated.rows_affected() == 1;
                Ok(if stored { ReportReceipt::Stored } else { ReportReceipt::TooLate })
            })
        })
        .await
    }

    /// Mirrors what paid for a table of counts that a site was asked for, and keeps nothing else of its report: the study has
    /// ended. Whether it was asked.
    pub async fn mirror_late_counts(
        &self,
        site: &SiteId,
        report: &EvaluationReport,
        now_ms: u64,
    ) -> Result<bool, StoreError> {
        self.write("mirror_late_counts", |tx| {
            Box::pin(async move {
                let asked = was_asked(tx, site, report).await?;
                if asked {
                    mirror_counts(tx, site, report, now_ms).await?;
                }
                Ok(asked)
            })
        })
        .await
    }

    /// A site does not evaluate a version, on any cohort it was asked for.
    pub async fn record_evaluation_decline(
        &self,
        id: &StudyId,
        model_version: u64,
        site: &SiteId,
        detail: &str,
    ) -> Result<(), StoreError> {
        self.write("record_evaluation_decline", |tx| {
            Box::pin(async move {
                sqlx::query(
                    "UPDATE evaluation_sites SET outcome = 'declined', detail = $4 WHERE study_id = $1 \
                     AND model_version = $2 AND site_id = $3 AND outcome = 'asked'",
                )
                .bind(id.as_str())
                .bind(int(model_version))
                .bind(site.as_str())
                .bind(detail)
                .execute(&mut **tx)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// Sites that have neither reported nor declined.
    pub async fn evaluation_waits_for(
        &self,
        id: &StudyId,
        evaluation: &EvaluationRow,
    ) -> Result<u64, StoreError> {
        self.read("evaluation_waits_for", |tx| {
            Box::pin(async move {
                let query = sqlx::query(
                    "SELECT COUNT(*) AS asked FROM evaluation_sites WHERE study_id = $1 AND model_version = $2 \
                     AND cohort = $3 AND outcome = 'asked'",
                );
                let query = query.bind(id.as_str()).bind(int(evaluation.model_version));
                query.bind(evaluation.cohort.as_str()).fetch_one(&mut **tx).await?.uint("asked")
            })
        })
        .await
    }

    /// Closes an evaluation with the figures of its reports, in one transaction: a report that was acknowledged is in
    /// them. Returns the sites as they were at the close.
    pub async fn close_evaluation(
        &self,
        id: &StudyId,
        evaluation: &EvaluationRow,
        figures: fn(&EvaluationRow, &[EvaluationSite]) -> Vec<MetricRow>,
    ) -> Result<Vec<EvaluationSite>, StoreError> {
        self.write("close_evaluation", |tx| {
            Box::pin(async move {
                let closing = [
                    "UPDATE evaluations SET state = 'closed' WHERE study_id = $1 AND model_version = $2 AND cohort = $3",
                    "UPDATE evaluation_sites SET outcome = 'missing' WHERE study_id = $1 AND model_version = $2 \
                     AND cohort = $3 AND outcome = 'asked'",
                ];
                for statement in closing {
                    sqlx::query(statement)
                        .evaluated(id, evaluation.model_version, &evaluation.cohort)
                        .execute(&mut **tx)
                        .await?;
                }
                let sites = evaluation_sites(tx, id, evaluation).await?;
                for metric in figures(evaluation, &sites) {
                    insert_metric(tx, id, &metric).await?;
                }
                Ok(sites)
            })
        })
        .await
    }

    /// Every figure of a study, oldest first; sites by id, the pooled figure before them.
    pub async fn metrics(&self, id: &StudyId) -> Result<Vec<MetricRow>, StoreError> {
        self.read("metrics", |tx| Box::pin(metrics(tx, id))).await
    }
}

async fn evaluation_sites(
    tx: &mut AnyConnection,
    id: &StudyId,
    evaluation: &EvaluationRow,
) -> Result<Vec<EvaluationSite>, StoreError> {
    let query = sqlx::query(
        "SELECT site_id, outcome, detail, report FROM evaluation_sites WHERE study_id = $1 \
         AND model_version = $2 AND cohort = $3 ORDER BY site_id",
    );
    let query = query.bind(id.as_str()).bind(int(evaluation.model_version));
    let rows = query.bind(evaluation.cohort.as_str()).fetch_all(tx).await?;
    rows.iter().map(evaluation_site).collect()
}

pub(super) fn evaluation_site(row: &AnyRow) -> Result<EvaluationSite, StoreError> {
    let report = match row.optional_blob("report")? {
        None => None,
        Some(bytes) => {
            let message = v1::EvaluationReport::decode(bytes.as_slice())
                .map_err(|source| StoreError::column("report", source))?;
            let report = EvaluationReport::try_from(message);
            Some(report.map_err(|source| StoreError::column("report", source))?)
        }
    };
    Ok(EvaluationSite {
        site: row.parsed("site_id")?,
        asked: row.text("outcome")? == "asked",
        detail: row.text("detail")?,
        report,
    })
}

pub(super) async fn metrics(tx: &mut AnyConnection, id: &StudyId) -> Result<Vec<MetricRow>, StoreError> {
    let query = sqlx::query(
        "SELECT model_version, round, cohort, site_id, records, positives, auroc, aupr, brier, log_loss, \
         auroc_error, positives_error FROM metrics WHERE study_id = $1 ORDER BY model_version, cohort, site_id",
    );
    query.bind(id.as_str()).fetch_all(tx).await?.iter().map(metric_row).collect()
}

fn metric_row(row: &AnyRow) -> Result<MetricRow, StoreError> {
    Ok(MetricRow {
        model_version: row.uint("model_version")?,
        round: row.uint32("round")?,
        cohort: row.parsed("cohort")?,
        site: row.optional_id("site_id")?,
        records: row.uint("records")?,
        positives: row.uint("positives")?,
        auroc: row.optional_real("auroc")?,
        aupr: row.optional_real("aupr")?,
        brier: row.optional_real("brier")?,
        log_loss: row.optional_real("log_loss")?,
        noise: match row.optional_real("positives_error")? {
            None => None,
            Some(positives_error) => {
                Some(MetricNoise { auroc_error: row.optional_real("auroc_error")?, positives_error })
            }
        },
    })
}

/// Mirrors the charge of a report of counts; others have none.
async fn mirror_counts(
    tx: &mut AnyConnection,
    site: &SiteId,
    report: &EvaluationReport,
    now_ms: u64,
) -> Result<(), StoreError> {
    let ReleasedMetrics::Noisy(counts) = &report.metrics else { return Ok(()) };
    mirror::insert(tx, &report.study_id, site, (&counts.charge, Paid::Counts), now_ms).await
}

async fn was_asked(
    tx: &mut AnyConnection,
    site: &SiteId,
    report: &EvaluationReport,
) -> Result<bool, StoreError> {
    let query = sqlx::query(
        "SELECT 1 FROM evaluation_sites WHERE study_id = $1 AND model_version = $2 AND cohort = $3 AND site_id = $4",
    );
    let query = query.bind(report.study_id.as_str()).bind(int(report.model_version));
    let query = query.bind(report.cohort.as_str()).bind(site.as_str());
    Ok(query.fetch_optional(tx).await?.is_some())
}

async fn ask(
    tx: &mut AnyConnection,
    id: &StudyId,
    evaluation: &EvaluationRow,
    site: &SiteId,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO evaluation_sites (study_id, model_version, cohort, site_id, outcome, detail) \
         VALUES ($1, $2, $3, $4, 'asked', '') ON CONFLICT (study_id, model_version, cohort, site_id) DO NOTHING",
    )
    .evaluated(id, evaluation.model_version, &evaluation.cohort)
    .bind(site.as_str())
    .execute(tx)
    .await?;
    Ok(())
}

async fn insert_metric(tx: &mut AnyConnection, id: &StudyId, metric: &MetricRow) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO metrics (study_id, model_version, cohort, site_id, round, records, positives, auroc, aupr, \
         brier, log_loss, auroc_error, positives_error) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
         ON CONFLICT (study_id, model_version, cohort, site_id) DO NOTHING",
    )
    .bind(id.as_str())
    .bind(int(metric.model_version))
    .bind(metric.cohort.as_str())
    .bind(metric.site.as_ref().map_or("", SiteId::as_str))
    .bind(int(metric.round))
    .bind(int(metric.records))
    .bind(int(metric.positives))
    .bind(metric.auroc)
    .bind(metric.aupr)
    .bind(metric.brier)
    .bind(metric.log_loss)
    .bind(metric.noise.and_then(|noise| noise.auroc_error))
    .bind(metric.noise.map(|noise| noise.positives_error))
    .execute(tx)
    .await?;
    Ok(())
}
