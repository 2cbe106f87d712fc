//! A line now and then for what takes long.

use std::sync::Arc;

use fusiondp_runtime::clock::Clock;

/// Milliseconds between two lines; what is done sooner stays silent.
const INTERVAL_MS: u64 = 2_000;

/// Reports the progress of one piece of work to the log, at most every two seconds.
pub struct Progress {
    clock: Arc<dyn Clock>,
    next_ms: u64,
    what: &'static str,
}

impl Progress {
    /// Starts measuring `what`.
    pub fn start(clock: Arc<dyn Clock>, what: &'static str) -> Self {
        let next_ms = clock.now_ms().saturating_add(INTERVAL_MS);
        Self { clock, next_ms, what }
    }

    /// Says how many bytes are hashed, if it is time to.
    #[cfg(feature = "parquet")]
    pub(crate) fn hashed(&mut self, bytes_done: u64, bytes_total: u64) {
        if self.is_time() {
            tracing::info!(what = "hashing records", bytes_done, bytes_total, "working");
        }
    }

    fn is_time(&mut self) -> bool {
        let now_ms = self.clock.now_ms();
        let is_time = now_ms >= self.next_ms;
        if is_time {
            self.next_ms = now_ms.saturating_add(INTERVAL_MS);
        }
        is_time
    }

    /// Says how many records are done, if it is time to.
    pub fn advance(&mut self, records_done: usize, records_total: Option<usize>) {
        if !self.is_time() {
            return;
        }
        match records_total {
            Some(total) => tracing::info!(what = self.what, records_done, records_total = total, "working"),
            None => tracing::info!(what = self.what, records_done, "working"),
        }
    }
}
