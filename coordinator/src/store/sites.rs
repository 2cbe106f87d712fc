//! Sites of the consortium, and their standing in a study.

use fusiondp_dp::LedgerPublicKey;
use fusiondp_protocol::{Digest, Enrolment, SiteId, StudyId};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::row::{RowExt as _, beginning, int};
use super::{Store, StoreError};

/// A site that has registered at some time.
#[derive(Debug, Clone)]
pub struct RegisteredRow {
    /// The site.
    pub site: SiteId,
    /// As the site said it.
    pub agent_version: String,
    /// Where it dialed from.
    pub peer_address: String,
    /// Time of the registration, Unix milliseconds.
    pub last_seen_ms: u64,
}

/// Standing of a site in a study, as an administrator thinks of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Has not answered.
    Invited,
    /// Takes part.
    Enrolled,
    /// Is out for good.
    Declined,
}

/// One site in one study.
#[derive(Debug, Clone)]
pub struct StudySiteRow {
    /// The site.
    pub site: SiteId,
    /// Where it stands.
    pub standing: Standing,
    /// The newest thing it said, or why it is out.
    pub detail: String,
    /// Privacy units N_k, 0 before enrollment.
    pub units: u64,
    /// Records, 0 before enrollment.
    pub records: u64,
    /// Chain head of its ledger at enrollment.
    pub ledger_head: Option<Digest>,
    /// Applied rounds that hold its update.
    pub rounds_contributed: u32,
    /// Attempts it was selected for without an update.
    pub rounds_missed: u32,
    /// Its own figure of what the study has spent, upper bound.
    pub epsilon_replace: f64,
    /// The same under zero_out.
    pub epsilon_zero_out: f64,
    /// Its own figure of what whole records have lost by the study, upper bound; 0 where it does not protect them.
    pub records_replace: f64,
    /// The same under zero_out.
    pub records_zero_out: f64,
    /// Charges that its receipts count and none lists.
    pub mirror_gaps: u64,
    /// The key that it signs its ledger and its receipts with; `None` before enrollment.
    pub ledger_key: Option<LedgerPublicKey>,
}

impl Standing {
    /// Name in the store and in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Standing::Invited => "invited",
            Standing::Enrolled => "enrolled",
            Standing::Declined => "declined",
        }
    }

    fn parse(text: &str) -> Result<Self, StoreError> {
        [Standing::Invited, Standing::Enrolled, Standing::Declined]
            .into_iter()
            .find(|standing| standing.as_str() == text)
            .ok_or_else(|| StoreError::column("state", format!("unknown standing {text:?}")))
    }
}

// The columns of a `StudySiteRow`.
beginning!(
    select_study_site,
    "SELECT site_id, state, detail, units, records, ledger_head, rounds_contributed, rounds_missed, \
             epsilon_replace, epsilon_zero_out, records_replace, records_zero_out, mirror_gaps, ledger_key \
             FROM study_sites WHERE study_id = $1 "
);

fn study_site_row(row: &AnyRow) -> Result<StudySiteRow, StoreError> {
    let head = row.optional_text("ledger_head")?;
    let head = head.map(|text| text.parse()).transpose();
    Ok(StudySiteRow {
        site: row.parsed("site_id")?,
        standing: Standing::parse(&row.text("state")?)?,
        detail: row.text("detail")?,
        units: row.uint("units")?,
        records: row.uint("records")?,
        ledger_head: head.map_err(|source| StoreError::column("ledger_head", source))?,
        rounds_contributed: row.uint32("rounds_contributed")?,
        rounds_missed: row.uint32("rounds_missed")?,
        epsilon_replace: row.real("epsilon_replace")?,
        epsilon_zero_out: row.real("epsilon_zero_out")?,
        records_replace: row.real("records_replace")?,
        records_zero_out: row.real("records_zero_out")?,
        mirror_gaps: row.uint("mirror_gaps")?,
        ledger_key: match row.text("ledger_key")?.as_str() {
            "" => None,
            _ => Some(row.parsed("ledger_key")?),
        },
    })
}

pub(super) async fn invite(tx: &mut AnyConnection, id: &StudyId, site: &SiteId) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO study_sites (study_id, site_id, state, detail, units, records, rounds_contributed, \
         rounds_missed, epsilon_replace, epsilon_zero_out, mirror_gaps) \
         VALUES ($1, $2, 'invited', '', 0, 0, 0, 0, 0.0, 0.0, 0) ON CONFLICT (study_id, site_id) DO NOTHING",
    )
    .bind(id.as_str())
    .bind(site.as_str())
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn study_sites(
    tx: &mut AnyConnection,
    id: &StudyId,
) -> Result<Vec<StudySiteRow>, StoreError> {
    let query = select_study_site!("ORDER BY site_id");
    query.bind(id.as_str()).fetch_all(tx).await?.iter().map(study_site_row).collect()
}

/// Takes everybody out who is not among `sites`: nobody joins a plan that stands.
pub(super) async fn close_enrolment(
    tx: &mut AnyConnection,
    id: &StudyId,
    sites: &[SiteId],
) -> Result<(), StoreError> {
    for row in study_sites(tx, id).await? {
        let detail = match row.standing {
            Standing::Invited if !row.detail.is_empty() => "not approved by the end of enrollment",
            Standing::Invited => "no answer by the end of enrollment",
            Standing::Enrolled if !sites.contains(&row.site) => "enrolled when enrollment had closed",
            Standing::Enrolled | Standing::Declined => continue,
        };
        leave(tx, id, &row.site, detail).await?;
    }
    Ok(())
}

/// Takes a site out of a study for good.
pub(super) async fn leave(
    tx: &mut AnyConnection,
    id: &StudyId,
    site: &SiteId,
    detail: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE study_sites SET state = 'declined', detail = $3 WHERE study_id = $1 AND site_id = $2",
    )
    .bind(id.as_str())
    .bind(site.as_str())
    .bind(detail)
    .execute(tx)
    .await?;
    Ok(())
}

impl Store {
    /// Notes a registration.
    pub async fn record_registration(&self, seen: &RegisteredRow) -> Result<(), StoreError> {
        self.write("record_registration", |tx| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO sites (site_id, agent_version, peer_address, last_seen_ms) \
                     VALUES ($1, $2, $3, $4) ON CONFLICT (site_id) DO UPDATE SET \
                     agent_version = excluded.agent_version, peer_address = excluded.peer_address, \
                     last_seen_ms = excluded.last_seen_ms",
                )
                .bind(seen.site.as_str())
                .bind(seen.agent_version.as_str())
                .bind(seen.peer_address.as_str())
                .bind(int(seen.last_seen_ms))
                .execute(&mut **tx)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// Every site that has ever registered.
    pub async fn registered(&self) -> Result<Vec<RegisteredRow>, StoreError> {
        self.read("registered", |tx| {
            Box::pin(async move {
                let sql =
                    "SELECT site_id, agent_version, peer_address, last_seen_ms FROM sites ORDER BY site_id";
                let rows = sqlx::query(sql).fetch_all(&mut **tx).await?;
                let read = |row: &AnyRow| {
                    Ok(RegisteredRow {
                        site: row.parsed("site_id")?,
                        agent_version: row.text("agent_version")?,
                        peer_address: row.text("peer_address")?,
                        last_seen_ms: row.uint("last_seen_ms")?,
                    })
                };
                rows.iter().map(read).collect()
            })
        })
        .await
    }

    /// Every invited site of a study, by id.
    pub async fn study_sites(&self, id: &StudyId) -> Result<Vec<StudySiteRow>, StoreError> {
        self.read("study_sites", |tx| Box::pin(study_sites(tx, id))).await
    }

    /// One site of a study, if it was invited.
    pub async fn study_site(&self, id: &StudyId, site: &SiteId) -> Result<Option<StudySiteRow>, StoreError> {
        self.read("study_site", |tx| {
            Box::pin(async move {
                let query = select_study_site!("AND site_id = $2").bind(id.as_str()).bind(site.as_str());
                query.fetch_optional(&mut **tx).await?.map(|row| study_site_row(&row)).transpose()
            })
        })
        .await
    }

    /// A site joins. False when it had answered before or enrollment has closed, which changes nothing.
    pub async fn record_enrolment(&self, site: &SiteId, enrolment: &Enrolment) -> Result<bool, StoreError> {
        self.write("record_enrolment", |tx| {
            Box::pin(async move {
                let updated = sqlx::query(
                    "UPDATE study_sites SET state = 'enrolled', detail = '', units = $3, records = $4, \
                     ledger_head = $5, ledger_key = $6 WHERE study_id = $1 AND site_id = $2 AND state = 'invited' \
                     AND EXISTS (SELECT 1 FROM studies WHERE study_id = $1 AND state = 'enrolling')",
                )
                .bind(enrolment.study_id.as_str())
                .bind(site.as_str())
                .bind(int(enrolment.units))
                .bind(int(enrolment.records))
                .bind(enrolment.ledger_head.to_string())
                .bind(enrolment.ledger_key.to_string())
                .execute(&mut **tx)
                .await?;
                Ok(updated.rows_affected() == 1)
            })
        })
        .await
    }

    /// A study that the site has enrolled in with another ledger key.
    pub async fn study_with_other_key(
        &self,
        site: &SiteId,
        key: &LedgerPublicKey,
    ) -> Result<Option<StudyId>, StoreError> {
        self.read("study_with_other_key", |tx| {
            Box::pin(async move {
                let query = sqlx::query(
                    "SELECT study_id FROM study_sites WHERE site_id = $1 AND ledger_key <> '' AND ledger_key <> $2 \
                     ORDER BY study_id LIMIT 1",
                );
                let row = query.bind(site.as_str()).bind(key.to_string()).fetch_optional(&mut **tx).await?;
                row.map(|row| row.parsed("study_id")).transpose()
            })
        })
        .await
    }

    /// A site has to ask somebody before it answers. False when that was known, or it has answered before.
    pub async fn record_approval_pending(
        &self,
        id: &StudyId,
        site: &SiteId,
        detail: &str,
    ) -> Result<bool, StoreError> {
        self.write("record_approval_pending", |tx| {
            Box::pin(async move {
                let updated = sqlx::query(
                    "UPDATE study_sites SET detail = $3 WHERE study_id = $1 AND site_id = $2 AND state = 'invited' \
                     AND detail <> $3",
                )
                .bind(id.as_str())
                .bind(site.as_str())
                .bind(detail)
                .execute(&mut **tx)
                .await?;
                Ok(updated.rows_affected() == 1)
            })
        })
        .await
    }

    /// A site declines a study that it was invited to. One that has answered before keeps its answer.
    pub async fn record_enrolment_decline(
        &self,
        id: &StudyId,
        site: &SiteId,
        detail: &str,
    ) -> Result<(), StoreError> {
        self.write("record_enrolment_decline", |tx| {
            Box::pin(async move {
                sqlx::query(
                    "UPDATE study_sites SET state = 'declined', detail = $3 WHERE study_id = $1 AND site_id = $2 \
                     AND state = 'invited'",
                )
                .bind(id.as_str())
                .bind(site.as_str())
                .bind(detail)
                .execute(&mut **tx)
                .await?;
                Ok(())
            })
        })
        .await
    }
}
