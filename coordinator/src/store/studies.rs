//! Studies: submission, enrollment, end.

use fusiondp_proto::v1;
use fusiondp_protocol::{Digest, Plan, SiteId, StudyDocument, StudyId, StudyState};
use prost::Message as _;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::models::{self, NewModel};
use super::row::{RowExt as _, beginning, int};
use super::{Store, StoreError, rounds};
use crate::round::RoundKey;

/// A study without its document.
#[derive(Debug, Clone)]
pub struct StudyRow {
    /// Id.
    pub id: StudyId,
    /// Name in the document.
    pub name: String,
    /// Digest of the document.
    pub digest: Digest,
    /// Where it stands.
    pub state: StudyState,
    /// Why, for people.
    pub detail: String,
    /// Rounds of the document.
    pub rounds: u32,
    /// Server steps taken.
    pub rounds_applied: u32,
    /// Newest trained version, 0 before enrollment has closed.
    pub model_version: u64,
    /// Version with averaged parameters, 0 while training.
    pub final_version: u64,
    /// The plan, once enrollment has closed.
    pub plan: Option<StoredPlan>,
    /// An administrator asked for its end.
    pub stop_requested: bool,
    /// Of the last applied round, nats per record.
    pub public_loss: Option<f64>,
    /// Unix milliseconds; `None` while the study waits for its turn.
    pub enrolment_deadline_ms: Option<u64>,
    /// Unix milliseconds.
    pub submitted_ms: u64,
    /// Unix milliseconds.
    pub started_ms: Option<u64>,
    /// Unix milliseconds.
    pub ended_ms: Option<u64>,
}

/// What became of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submission {
    /// The study is stored.
    Created,
    /// The same document was there before.
    Known,
    /// Another document has the id.
    IdTaken,
}

/// What a study starts with when enrollment closes.
pub struct StudyStart {
    /// Of the sites below.
    pub plan: Plan,
    /// The initial one.
    pub model: NewModel,
    /// The sites that the plan was made from.
    pub sites: Vec<SiteId>,
}

/// A plan as it is stored. It is read on use, so that one which this version cannot read hides no other study.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPlan(Vec<u8>);

impl StoredPlan {
    /// The stored form.
    pub fn of(plan: &Plan) -> Self {
        Self(v1::Plan::from(plan.clone()).encode_to_vec())
    }

    fn decode(&self) -> Result<Plan, StoreError> {
        let message =
            v1::Plan::decode(self.0.as_slice()).map_err(|source| StoreError::column("plan", source))?;
        Plan::try_from(message).map_err(|source| StoreError::column("plan", source))
    }
}

impl StudyRow {
    /// The plan, once enrollment has closed.
    ///
    /// # Errors
    /// [`StoreError::Column`] when this version cannot read it.
    pub fn plan(&self) -> Result<Option<Plan>, StoreError> {
        self.plan.as_ref().map(StoredPlan::decode).transpose()
    }
}

// The columns of a `StudyRow`.
beginning!(
    select_study,
    "SELECT study_id, name, digest, state, detail, rounds, rounds_applied, model_version, final_version, \
             plan, stop_requested, public_loss, enrolment_deadline_ms, submitted_ms, started_ms, ended_ms \
             FROM studies "
);

fn study_row(row: &AnyRow) -> Result<StudyRow, StoreError> {
    Ok(StudyRow {
        id: row.parsed("study_id")?,
        name: row.text("name")?,
        digest: row.parsed("digest")?,
        state: row.parsed("state")?,
        detail: row.text("detail")?,
        rounds: row.uint32("rounds")?,
        rounds_applied: row.uint32("rounds_applied")?,
        model_version: row.uint("model_version")?,
        final_version: row.uint("final_version")?,
        plan: row.optional_blob("plan")?.map(StoredPlan),
        stop_requested: row.uint("stop_requested")? != 0,
        public_loss: row.optional_real("public_loss")?,
        enrolment_deadline_ms: row.time("enrolment_deadline_ms")?,
        submitted_ms: row.uint("submitted_ms")?,
        started_ms: row.time("started_ms")?,
        ended_ms: row.time("ended_ms")?,
    })
}

pub(super) async fn load(tx: &mut AnyConnection, id: &StudyId) -> Result<Option<StudyRow>, StoreError> {
    let query = select_study!("WHERE study_id = $1").bind(id.as_str());
    query.fetch_optional(tx).await?.map(|row| study_row(&row)).transpose()
}

impl Store {
    /// Stores a study and invites its sites.
    pub async fn submit_study(
        &self,
        document: &StudyDocument,
        invited: &[SiteId],
        now_ms: u64,
    ) -> Result<Submission, StoreError> {
        self.write("submit_study", |tx| {
            Box::pin(async move {
                if !insert_study(tx, document, now_ms).await? {
                    let known = load(tx, document.id()).await?.map(|row| row.digest);
                    let same = known == Some(document.digest());
                    return Ok(if same { Submission::Known } else { Submission::IdTaken });
                }
                for site in invited {
                    super::sites::invite(tx, document.id(), site).await?;
                }
                Ok(Submission::Created)
            })
        })
        .await
    }

    /// One study.
    pub async fn study(&self, id: &StudyId) -> Result<Option<StudyRow>, StoreError> {
        self.read("study", |tx| Box::pin(load(tx, id))).await
    }

    /// All studies, oldest first.
    pub async fn studies(&self) -> Result<Vec<StudyRow>, StoreError> {
        self.read("studies", |tx| {
            Box::pin(async move {
                let query = select_study!("ORDER BY submitted_ms, study_id");
                query.fetch_all(&mut **tx).await?.iter().map(study_row).collect()
            })
        })
        .await
    }

    /// The oldest study that has not ended: the one to drive.
    pub async fn next_study(&self) -> Result<Option<StudyRow>, StoreError> {
        self.read("next_study", |tx| {
            Box::pin(async move {
                let query = select_study!("WHERE ended_ms = 0 ORDER BY submitted_ms, study_id LIMIT 1");
                query.fetch_optional(&mut **tx).await?.map(|row| study_row(&row)).transpose()
            })
        })
        .await
    }

    /// The bytes of a study as submitted.
    pub async fn document(&self, id: &StudyId) -> Result<Option<Vec<u8>>, StoreError> {
        self.read("document", |tx| {
            Box::pin(async move {
                let query = sqlx::query("SELECT document FROM studies WHERE study_id = $1").bind(id.as_str());
                query.fetch_optional(&mut **tx).await?.map(|row| row.blob("document")).transpose()
            })
        })
        .await
    }

    /// Says what keeps a study that has not ended from going on; empty when nothing does.
    pub async fn note_study(&self, id: &StudyId, detail: &str) -> Result<(), StoreError> {
        self.write("note_study", |tx| {
            Box::pin(async move {
                sqlx::query("UPDATE studies SET detail = $2 WHERE study_id = $1 AND ended_ms = 0")
                    .bind(id.as_str())
                    .bind(detail)
                    .execute(&mut **tx)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// Opens enrollment until `deadline_ms`. False when the study has ended meanwhile.
    pub async fn open_enrolment(&self, id: &StudyId, deadline_ms: u64) -> Result<bool, StoreError> {
        self.write("open_enrolment", |tx| {
            Box::pin(async move {
                let query = sqlx::query(
                    "UPDATE studies SET enrolment_deadline_ms = $2, detail = '' WHERE study_id = $1 AND ended_ms = 0",
                );
                let opened = query.bind(id.as_str()).bind(int(deadline_ms)).execute(&mut **tx).await?;
                Ok(opened.rows_affected() == 1)
            })
        })
        .await
    }

    /// Closes enrollment, in one transaction: sites that are not in the plan are out, the plan stands, the initial
    /// model is stored and the first round opens.
    pub async fn start_study(&self, id: &StudyId, start: &StudyStart, now_ms: u64) -> Result<(), StoreError> {
        let (model, plan) = (&start.model, &StoredPlan::of(&start.plan));
        self.write("start_study", |tx| {
            Box::pin(async move {
                sqlx::query(
                    "UPDATE studies SET state = 'running', detail = '', plan = $2, model_version = $3, \
                     started_ms = $4 WHERE study_id = $1",
                )
                .bind(id.as_str())
                .bind(plan.0.clone())
                .bind(int(model.version))
                .bind(int(now_ms))
                .execute(&mut **tx)
                .await?;
                super::sites::close_enrolment(tx, id, &start.sites).await?;
                models::insert(tx, id, model).await?;
                rounds::open(tx, id, RoundKey::first_attempt(1, model.version), now_ms).await
            })
        })
        .await
    }

    /// The last round is applied: the final model is stored and its evaluation begins.
    pub async fn begin_evaluation(&self, id: &StudyId, model: &NewModel) -> Result<(), StoreError> {
        self.write("begin_evaluation", |tx| {
            Box::pin(async move {
                models::insert(tx, id, model).await?;
                sqlx::query(
                    "UPDATE studies SET state = 'evaluating', detail = '', final_version = $2 WHERE study_id = $1",
                )
                .bind(id.as_str())
                .bind(int(model.version))
                .execute(&mut **tx)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// Ends a study and whatever of it is under way, and frees what only its going on would need. An end is final: a
    /// study that has ended stays as it is.
    pub async fn end_study(
        &self,
        id: &StudyId,
        state: StudyState,
        detail: &str,
        final_model: Option<&NewModel>,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        self.write("end_study", |tx| {
            Box::pin(async move {
                let ended = sqlx::query(
                    "UPDATE studies SET state = $2, detail = $3, ended_ms = $4, \
                     final_version = CASE WHEN $5 > 0 THEN $5 ELSE final_version END \
                     WHERE study_id = $1 AND ended_ms = 0",
                )
                .bind(id.as_str())
                .bind(state.as_str())
                .bind(detail)
                .bind(int(now_ms))
                .bind(int(final_model.map_or(0, |model| model.version)))
                .execute(&mut **tx)
                .await?;
                if ended.rows_affected() == 0 {
                    return Ok(());
                }
                if let Some(model) = final_model {
                    models::insert(tx, id, model).await?;
                }
                super::ending::close(tx, id, now_ms).await
            })
        })
        .await
    }

    /// Notes an administrator's wish to end the study after its current round. One that waits for its turn ends here.
    pub async fn request_stop(&self, id: &StudyId, now_ms: u64) -> Result<Option<StudyRow>, StoreError> {
        self.write("request_stop", |tx| {
            Box::pin(async move {
                sqlx::query(
                    "UPDATE studies SET state = 'stopped', detail = 'stopped before its turn', ended_ms = $2 \
                     WHERE study_id = $1 AND ended_ms = 0 AND state = 'enrolling' AND enrolment_deadline_ms = 0",
                )
                .bind(id.as_str())
                .bind(int(now_ms))
                .execute(&mut **tx)
                .await?;
                sqlx::query("UPDATE studies SET stop_requested = 1 WHERE study_id = $1 AND ended_ms = 0")
                    .bind(id.as_str())
                    .execute(&mut **tx)
                    .await?;
                load(tx, id).await
            })
        })
        .await
    }
}

async fn insert_study(
    tx: &mut AnyConnection,
    document: &StudyDocument,
    now_ms: u64,
) -> Result<bool, StoreError> {
    let study = document.study();
    let inserted = sqlx::query(
        "INSERT INTO studies (study_id, name, digest, document, state, detail, rounds, rounds_applied, \
         model_version, final_version, stop_requested, enrolment_deadline_ms, submitted_ms, started_ms, ended_ms) \
         VALUES ($1, $2, $3, $4, 'enrolling', '', $5, 0, 0, 0, 0, 0, $6, 0, 0) ON CONFLICT (study_id) DO NOTHING",
    )
    .bind(document.id().as_str())
    .bind(study.study.name.as_str())
    .bind(document.digest().to_string())
    .bind(document.text().as_bytes().to_vec())
    .bind(int(study.training.rounds))
    .bind(int(now_ms))
    .execute(tx)
    .await?;
    Ok(inserted.rows_affected() == 1)
}
