//! CPU work off the async threads, no more of it at once than there are cores.

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
    async fn a_panic_is_an_error_and_gives_its_place_back() {
        let workers = Workers::new(1);
        assert!(workers.run(|| panic!("expected in this test")).await.is_err());
        assert_eq!(workers.run(|| 7).await.unwrap(), 7);
    }
}
