//! What every part of a running coordinator shares.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use fusiondp_protocol::{Digest, StudyDocument, StudyId};
use fusiondp_runtime::{Clock, Shutdown};
use tokio::sync::{Notify, watch};

use crate::app::CoordinatorSettings;
use crate::board::Board;
use crate::error::CoordinatorError;
use crate::presence::Presence;
use crate::store::{Store, StudyRow};
use crate::study::StudyContext;

/// Model versions whose bytes stay in memory, so that hundreds of sites do not read the same blob from disk.
const CACHED_MODELS: usize = 4;

/// Shared state. Everything but the store is lost with the process and made again from it.
pub(crate) struct Core {
    pub(crate) settings: CoordinatorSettings,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shutdown: Shutdown,
    pub(crate) board: Board,
    pub(crate) presence: Presence,
    /// A study was submitted.
    pub(crate) submitted: Notify,
    /// Counts changes of what a status shows.
    changes: watch::Sender<u64>,
    contexts: Mutex<HashMap<StudyId, Arc<StudyContext>>>,
    models: Mutex<Vec<CachedModel>>,
}

struct CachedModel {
    study: StudyId,
    version: u64,
    digest: Digest,
    bytes: Bytes,
}

impl Core {
    pub(crate) fn new(
        settings: CoordinatorSettings,
        store: Store,
        shutdown: Shutdown,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            settings,
            store,
            presence: Presence::new(clock.clone()),
            clock,
            shutdown,
            board: Board::default(),
            submitted: Notify::new(),
            changes: watch::Sender::new(0),
            contexts: Mutex::default(),
            models: Mutex::default(),
        }
    }

    /// Tells everybody who watches that something has changed.
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Follows changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The study's document and what follows from it, read once.
    pub(crate) async fn context(&self, id: &StudyId) -> Result<Option<Arc<StudyContext>>, CoordinatorError> {
        if let Some(context) = self.contexts.lock().unwrap_or_else(PoisonError::into_inner).get(id) {
            return Ok(Some(context.clone()));
        }
        let Some(bytes) = self.store.document(id).await? else { return Ok(None) };
        let context = Arc::new(StudyContext::new(StudyDocument::from_bytes(&bytes)?)?);
        let mut contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Some(contexts.entry(id.clone()).or_insert(context).clone()))
    }

    /// Forgets what is kept of a study that has ended.
    pub(crate) fn forget(&self, id: &StudyId) {
        self.contexts.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        self.models.lock().unwrap_or_else(PoisonError::into_inner).retain(|model| model.study != *id);
    }

    /// The row of a study that must be there.
    pub(crate) async fn study(&self, id: &StudyId) -> Result<StudyRow, CoordinatorError> {
        let missing = || CoordinatorError::Missing { what: "row", study: id.to_string() };
        self.store.study(id).await?.ok_or_else(missing)
    }

    /// When a round or an evaluation that begins now ends, Unix milliseconds.
    pub(crate) fn round_deadline(&self, context: &StudyContext) -> u64 {
        let timeout_ms = u64::from(context.study().federation.round_timeout_s) * 1_000;
        self.clock.now_ms().saturating_add(timeout_ms)
    }

    /// Bytes and digest of a model version, if it is still kept.
    pub(crate) async fn model(
        &self,
        id: &StudyId,
        version: u64,
    ) -> Result<Option<(Digest, Bytes)>, CoordinatorError> {
        let cached = {
            let models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
            let model = models.iter().find(|model| model.study == *id && model.version == version);
            model.map(|model| (model.digest, model.bytes.clone()))
        };
        if cached.is_some() {
            return Ok(cached);
        }
        let Some(row) = self.store.model(id, version).await? else { return Ok(None) };
        let bytes = Bytes::from(row.parameters);
        self.cache_model(id, version, row.digest, bytes.clone());
        Ok(Some((row.digest, bytes)))
    }

    /// Keeps a version's bytes at hand; the oldest one kept makes room.
    pub(crate) fn cache_model(&self, id: &StudyId, version: u64, digest: Digest, bytes: Bytes) {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.retain(|model| model.study != *id || model.version != version);
        if models.len() >= CACHED_MODELS {
            models.remove(0);
        }
        models.push(CachedModel { study: id.clone(), version, digest, bytes });
    }
}
