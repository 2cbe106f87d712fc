//! What an end leaves of a study: its history, the final model and the mirror.

use fusiondp_protocol::StudyId;
use sqlx::AnyConnection;

use super::StoreError;
use super::row::int;

/// Closes what is still open, in the order in which it was opened.
const CLOSING: [&str; 4] = [
    "UPDATE round_sites SET outcome = 'missing' WHERE study_id = $1 AND outcome = 'working'",
    "UPDATE evaluation_sites SET outcome = 'missing' WHERE study_id = $1 AND outcome = 'asked'",
    "UPDATE evaluations SET state = 'closed' WHERE study_id = $1 AND state = 'open'",
    "UPDATE updates SET payload = NULL WHERE study_id = $1 AND payload IS NOT NULL",
];

/// Frees what only going on would need. Without a final model, the newest trained one stays.
const FREEING: [&str; 2] = [
    "DELETE FROM server_states WHERE study_id = $1",
    "DELETE FROM models WHERE study_id = $1 AND kind = 'trained' AND version < \
     (SELECT MAX(version) FROM models WHERE study_id = $1)",
];

/// Closes and frees, and warns of every site whose data shaped less than all of the model.
pub(super) async fn close(tx: &mut AnyConnection, id: &StudyId, now_ms: u64) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE rounds SET phase = 'abandoned', detail = 'the study ended', ended_ms = $2 \
         WHERE study_id = $1 AND ended_ms = 0",
    )
    .bind(id.as_str())
    .bind(int(now_ms))
    .execute(&mut *tx)
    .await?;
    for statement in CLOSING.into_iter().chain(FREEING) {
        sqlx::query(statement).bind(id.as_str()).execute(&mut *tx).await?;
    }
    sqlx::query(
        "INSERT INTO warnings (study_id, site_id, message, at_ms) SELECT s.study_id, s.site_id, \
         'took part in ' || s.rounds_contributed || ' of ' || t.rounds_applied || ' rounds', $2 \
         FROM study_sites s JOIN studies t ON t.study_id = s.study_id \
         WHERE s.study_id = $1 AND s.units > 0 AND s.rounds_contributed < t.rounds_applied \
         ON CONFLICT (study_id, site_id, message) DO NOTHING",
    )
    .bind(id.as_str())
    .bind(int(now_ms))
    .execute(tx)
    .await?;
    Ok(())
}
