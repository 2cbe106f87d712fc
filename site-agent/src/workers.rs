//! CPU work off the async threads, no more of it at once than there are cores.

use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::sync::Semaphore;

/// CPU work that did not end.
#[derive(Debug, thiserror::Error)]
#[error("a computation panicked; this is a defect, please report the lines before it in the log")]
pub struct WorkerPanic;

/// Bounds the CPU work of a process. All agents of a simulation share one, so that hundreds of them use the cores and not
/// hundreds of threads.
#[derive(Debug, Clone)]
pub struct Workers(Arc<Semaphore>);

impl Workers {
    /// As many as the machine has cores.
    pub fn per_core() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// At most `count` at once, at least one.
    pub fn new(count: usize) -> Self {
        Self(Arc::new(Semaphore::new(count.max(1))))
    }

    /// Runs work that can use several threads: it is told how many, one and as many as are free at this moment.
    ///
    /// # Errors
    /// The work panicked.
    pub async fn run_wide<T: Send + 'static>(
        &self,
        work: impl FnOnce(NonZeroUsize) -> T + Send + 'static,
    ) -> Result<T, WorkerPanic> {
        let place = Arc::clone(&self.0).acquire_owned().await.ok();
        let mut spare = Vec::new();
        while let Ok(place) = Arc::clone(&self.0).try_acquire_owned() {
            spare.push(place);
        }
        let threads = NonZeroUsize::MIN.saturating_add(spare.len());
        let outcome = tokio::task::spawn_blocking(move || {
            let result = work(threads);
            drop((place, spare));
            result
        });
        outcome.await.map_err(|_| WorkerPanic)
    }

    /// Runs work on a thread of tokio's blocking pool, as soon as a place is free.
    ///
    /// # Errors
    /// The work panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkerPanic> {
        // The semaphore is never closed; should it be, work still runs, only unbounded.
        let place = Arc::clone(&self.0).acquire_owned().await.ok();
        let outcome = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(place);
            result
        });
        outcome.await.map_err(|_| WorkerPanic)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn no_more_runs_at_once_than_there_are_places() {
        let workers = Workers::new(2);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        // Nobody passes alone, so two do run at once.
        let pair = Arc::new(Barrier::new(2));
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (running, most) = (Arc::clone(&running), Arc::clone(&most));
                let (workers, pair) = (workers.clone(), Arc::clone(&pair));
                tokio::spawn(async move {
                    workers
                        .run(move || {
                            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            pair.wait();
                            running.fetch_sub(1, Ordering::SeqCst);
                        })
                        .await
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        assert_eq!(most.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn wide_work_takes_the_places_that_are_free_and_gives_them_back() {
        let workers = Workers::new(3);
        let (inner, outer) = (workers.clone(), workers.clone());
        assert_eq!(workers.run_wide(NonZeroUsize::get).await.unwrap(), 3);
        // While one place is taken, two are left.
        let (begun, wait) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
        let (its_begun, its_wait) = (Arc::clone(&begun), Arc::clone(&wait));
        let busy = tokio::spawn(async move {
            inner
                .run(move || {
                    its_begun.wait();
                    its_wait.wait();
                })
                .await
        });
        tokio::task::spawn_blocking(move || begun.wait()).await.unwrap();
        assert_eq!(outer.run_wide(NonZeroUsize::get).await.unwrap(), 2);
        tokio::task::spawn_blocking(move || wait.wait()).await.unwrap();
        busy.await.unwrap().unwrap();
        assert_eq!(workers.run_wide(NonZeroUsize::get).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_gives_its_place_back() {
        let workers = Workers::new(1);
        assert!(workers.run(|| panic!("expected in this test")).await.is_err());
        assert_eq!(workers.run(|| 7).await.unwrap(), 7);
    }
}
