//! Aggregation: one server step from stored updates.

use std::collections::BTreeSet;

use fusiondp_learn::server::{PrivateScale, ServerError, ServerState, SiteContribution, SiteDifference};
use fusiondp_protocol::SiteId;
use fusiondp_protocol::chunks::{ChunkError, decode_f32, decode_i64};

use super::{Finished, RoundKey};

/// Enough updates are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aggregation {
    key: RoundKey,
    reported: BTreeSet<SiteId>,
}

/// One update as stored: public constants of the site and released values only.
#[derive(Clone)]
pub struct StoredUpdate {
    /// The site.
    pub site: SiteId,
    /// Its privacy units N_k.
    pub units: u64,
    /// Its records, the weight of its public part.
    pub records: u64,
    /// Mean loss over its public batch, nats per record.
    pub public_loss: f64,
    /// Number of f32 values at the start of `payload`.
    pub public_values: usize,
    /// Number of i64 values after them, in grid steps.
    pub private_values: usize,
    /// `4 * public_values + 8 * private_values` bytes.
    pub payload: Vec<u8>,
}

/// What travels in a round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum UpdateKind {
    /// A mean public gradient and a noised private sum (FedSgd).
    Gradients {
        /// Units of the private sums.
        scale: PrivateScale,
        /// Coordinates that take the public gradient. An update without a public part stands for zeros there.
        public_length: usize,
    },
    /// A model difference after several local steps (FedAvg).
    Differences,
}

/// A server step that has been computed and not yet stored.
pub struct Applied {
    /// The end of the attempt.
    pub finished: Finished,
    /// The state after the step.
    pub state: ServerState,
    /// Record-weighted mean of the sites' public losses, nats; `None` without a public part.
    pub public_loss: Option<f64>,
}

/// Why stored updates cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum AggregationError {
    /// The store does not hold what the phase says.
    #[error(
        "round {round} counts updates of {expected:?} and holds those of {found:?}; the store is damaged, restore a backup"
    )]
    WrongUpdates {
        /// Round.
        round: u32,
        /// Sites that have reported.
        expected: Vec<String>,
        /// Sites with a stored update.
        found: Vec<String>,
    },
    /// A stored payload does not hold what its row says.
    #[error("stored update of site {site} is damaged; restore a backup")]
    Payload {
        /// The site.
        site: SiteId,
        /// What is wrong with the bytes.
        #[source]
        source: ChunkError,
    },
    /// A stored payload has another length than its row says.
    #[error("stored update of site {site} has {bytes} bytes, {expected} were announced; restore a backup")]
    Length {
        /// The site.
        site: SiteId,
        /// Bytes stored.
        bytes: usize,
        /// Bytes announced.
        expected: usize,
    },
    /// The learning engine refuses.
    #[error(
        "round {round} cannot be applied to the updates of {sites}: {source}; compare what these sites sent, lower \
         training.optimizer.learning_rate if the model diverges, or leave out the site at fault, and submit again"
    )]
    Step {
        /// Round.
        round: u32,
        /// Whose updates it was made of.
        sites: String,
        /// What the engine says.
        #[source]
        source: ServerError,
    },
}

impl Aggregation {
    /// An attempt whose updates of `reported` are stored.
    pub fn new(key: RoundKey, reported: BTreeSet<SiteId>) -> Self {
        Self { key, reported }
    }

    /// The attempt.
    pub fn key(&self) -> RoundKey {
        self.key
    }

    /// The sites whose updates count.
    pub fn reported(&self) -> &BTreeSet<SiteId> {
        &self.reported
    }

    /// Takes the server step: post-processing of released values, so it costs no privacy, however often it runs.
    ///
    /// The result depends on the set of updates only: they are brought into the order of site ids first.
    ///
    /// # Errors
    /// [`AggregationError`] when the updates are not those of the phase, or the step would not be finite.
    pub fn apply(
        self,
        mut state: ServerState,
        mut updates: Vec<StoredUpdate>,
        kind: &UpdateKind,
    ) -> Result<Applied, AggregationError> {
        let round = self.key.round;
        updates.sort_by(|left, right| left.site.cmp(&right.site));
        self.check_sites(&updates)?;
        let public_loss = mean_loss(&updates);
        // Payloads are dropped one by one as they are read: thousands of sites are gigabytes.
        match kind {
            UpdateKind::Gradients { scale, public_length } => {
                let read = |update| contribution(update, *public_length);
                let contributions = updates.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
                state.apply_gradients(round, &contributions, scale)
            }
            UpdateKind::Differences => {
                let differences = updates.into_iter().map(difference).collect::<Result<Vec<_>, _>>()?;
                state.apply_differences(round, &differences)
            }
        }
        .map_err(|source| AggregationError::Step { round, sites: names(&self.reported), source })?;
        Ok(Applied { finished: Finished::new(self.key), state, public_loss })
    }

    fn check_sites(&self, updates: &[StoredUpdate]) -> Result<(), AggregationError> {
        if updates.iter().map(|update| &update.site).eq(self.reported.iter()) {
            return Ok(());
        }
        Err(AggregationError::WrongUpdates {
            round: self.key.round,
            expected: self.reported.iter().map(SiteId::to_string).collect(),
            found: updates.iter().map(|update| update.site.to_string()).collect(),
        })
    }
}

fn names(sites: &BTreeSet<SiteId>) -> String {
    sites.iter().map(SiteId::as_str).collect::<Vec<_>>().join(", ")
}

fn contribution(update: StoredUpdate, public_length: usize) -> Result<SiteContribution, AggregationError> {
    let (public, private_sum) = values(&update)?;
    let silent = public.is_empty();
    Ok(SiteContribution {
        units: update.units,
        // Zeros weigh nothing, but a weighted mean needs a weight.
        records: if silent { 1 } else { update.records },
        public_gradient: if silent { vec![0.0; public_length] } else { public },
        private_sum,
    })
}

fn difference(update: StoredUpdate) -> Result<SiteDifference, AggregationError> {
    let (difference, _) = values(&update)?;
    Ok(SiteDifference { units: update.units, difference })
}

fn values(update: &StoredUpdate) -> Result<(Vec<f32>, Option<Vec<i64>>), AggregationError> {
    let damaged = |source| AggregationError::Payload { site: update.site.clone(), source };
    let split = update.public_values * 4;
    let expected = split + update.private_values * 8;
    if update.payload.len() != expected {
        let (site, bytes) = (update.site.clone(), update.payload.len());
        return Err(AggregationError::Length { site, bytes, expected });
    }
    let (public, private) = update.payload.split_at(split);
    let private = if private.is_empty() { None } else { Some(decode_i64(private).map_err(damaged)?) };
    Ok((decode_f32(public).map_err(damaged)?, private))
}

fn mean_loss(updates: &[StoredUpdate]) -> Option<f64> {
    let with_public = || updates.iter().filter(|update| update.public_values > 0);
    let records: f64 = with_public().map(|update| update.records as f64).sum();
    // By shares: a site may report any finite loss, and the mean must stay finite too.
    let mean: f64 = with_public().map(|update| update.records as f64 / records * update.public_loss).sum();
    (records > 0.0).then(|| mean.min(f64::MAX))
}
