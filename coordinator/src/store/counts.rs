//! What sites have charged for tables of counts, as far as their reports arrived.

use std::collections::BTreeMap;

use fusiondp_dp::SignedEntry;
use fusiondp_protocol::{ReleasedMetrics, SiteId, StudyId};
use sqlx::AnyConnection;

use super::evaluations::{EvaluationSite, evaluation_site};
use super::mirror::signed_entry;
use super::row::RowExt as _;
use super::{Store, StoreError};

impl Store {
    /// The signed charges of every table of counts that sites have sent, by site and in ledger order.
    pub async fn counts_charges(&self, id: &StudyId) -> Result<Vec<(SiteId, SignedEntry)>, StoreError> {
        self.read("counts_charges", |tx| {
            Box::pin(async move {
                let mut charges = mirrored(tx, id).await?;
                charges.extend(reported(tx, id).await?);
                // A charge that is in both is there once.
                let by_place = charges.into_iter().map(|(site, charge)| {
                    let place = (site, charge.entry.sequence(), charge.entry.hash().to_string());
                    (place, charge)
                });
                let by_place: BTreeMap<_, _> = by_place.collect();
                Ok(by_place.into_iter().map(|((site, ..), charge)| (site, charge)).collect())
            })
        })
        .await
    }
}

async fn mirrored(tx: &mut AnyConnection, id: &StudyId) -> Result<Vec<(SiteId, SignedEntry)>, StoreError> {
    let query =
        sqlx::query("SELECT site_id, entry, signature FROM mirror WHERE study_id = $1 AND counts = 1");
    let rows = query.bind(id.as_str()).fetch_all(tx).await?;
    rows.iter().map(|row| Ok((row.parsed("site_id")?, signed_entry(row)?))).collect()
}

/// Those of reports that are stored: all there was before charges of counts were mirrored.
async fn reported(tx: &mut AnyConnection, id: &StudyId) -> Result<Vec<(SiteId, SignedEntry)>, StoreError> {
    let query = sqlx::query(
        "SELECT site_id, outcome, detail, report FROM evaluation_sites WHERE study_id = $1 AND report IS NOT NULL",
    );
    let rows = query.bind(id.as_str()).fetch_all(tx).await?;
    let mut charges = Vec::new();
    for row in &rows {
        let EvaluationSite { site, report, .. } = evaluation_site(row)?;
        if let Some(ReleasedMetrics::Noisy(counts)) = report.map(|report| report.metrics) {
            charges.push((site, counts.charge));
        }
    }
    Ok(charges)
}
