//! One token ends a whole service.
//!
//! Every long-running task holds a clone and waits on it beside its own work. A child token ends with its parent, and can
//! also be triggered alone to end one part of the service.

use std::io;
use std::sync::Arc;

use futures::future::select_all;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Exit status of a process that was interrupted.
const INTERRUPTED: i32 = 130;

/// Cloneable shutdown token. Once triggered it stays triggered.
#[derive(Clone, Debug)]
pub struct Shutdown {
    /// Own flag first, then those of all ancestors.
    flags: Vec<Arc<watch::Sender<bool>>>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// A token that only [`trigger`](Self::trigger) ends.
    #[must_use]
    pub fn new() -> Self {
        Self { flags: vec![Arc::new(watch::Sender::new(false))] }
    }

    /// A token that SIGINT (Ctrl-C) and SIGTERM trigger.
    ///
    /// A second signal ends the process at once with status 130, for a person who does not want to wait: every
    /// durable write of the services survives that.
    ///
    /// # Errors
    /// If the signal handlers cannot be installed. Must be called within a tokio runtime.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::new();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let token = shutdown.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => token.on_signal("SIGINT"),
                    _ = terminate.recv() => token.on_signal("SIGTERM"),
                }
            }
        });
        Ok(shutdown)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "whoever signals twice does not want to wait for destructors"
    )]
    fn on_signal(&self, signal: &'static str) {
        if self.is_triggered() {
            tracing::warn!(signal, "second signal, exiting at once");
            std::process::exit(INTERRUPTED);
        }
        tracing::info!(signal, "shutting down");
        self.trigger();
    }

    /// A token that ends with this one, and that can be triggered without ending this one.
    #[must_use]
    pub fn child(&self) -> Self {
        let mut flags = Vec::with_capacity(self.flags.len() + 1);
        flags.push(Arc::new(watch::Sender::new(false)));
        flags.extend(self.flags.iter().cloned());
        Self { flags }
    }

    /// Ends everything that waits on this token, its clones or their children.
    pub fn trigger(&self) {
        self.flags[0].send_replace(true);
    }

    /// Whether this token or one of its ancestors was triggered.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        self.flags.iter().any(|flag| *flag.borrow())
    }

    /// Resolves as soon as the token is triggered, at once if it was before.
    pub async fn wait(&self) {
        let waits = self.flags.iter().map(|flag| {
            let mut receiver = flag.subscribe();
            // The sender lives as long as `self`, so the wait ends by a trigger only.
            Box::pin(async move { receiver.wait_for(|triggered| *triggered).await.is_ok() })
        });
        select_all(waits).await;
    }

    /// The work's result, or `None` if the token was triggered first.
    pub async fn unless_triggered<F: Future>(&self, work: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            () = self.wait() => None,
            output = work => Some(output),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_trigger_reaches_clones_children_and_late_waiters() {
        let shutdown = Shutdown::new();
        let grandchild = shutdown.child().child();
        let waiting = tokio::spawn({
            let token = grandchild.clone();
            async move { token.wait().await }
        });
        assert!(!grandchild.is_triggered());
        shutdown.clone().trigger();
        waiting.await.expect("the waiting task ends");
        grandchild.wait().await;
        assert!(grandchild.is_triggered());
    }

    #[tokio::test]
    async fn a_termination_signal_triggers() {
        let shutdown = Shutdown::on_signals().expect("handlers are installed");
        let pid = std::process::id().to_string();
        let sent = std::process::Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        assert!(sent.success());
        tokio::time::timeout(Duration::from_secs(10), shutdown.wait()).await.expect("the signal arrives");
    }

    #[tokio::test]
    async fn a_child_ends_alone() {
        let shutdown = Shutdown::new();
        let child = shutdown.child();
        child.trigger();
        assert!(child.is_triggered());
        assert!(!shutdown.is_triggered());
    }

    #[tokio::test(start_paused = true)]
    async fn work_is_abandoned_on_a_trigger_and_kept_otherwise() {
        let shutdown = Shutdown::new();
        assert_eq!(shutdown.unless_triggered(async { 7 }).await, Some(7));
        let token = shutdown.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            token.trigger();
        });
        assert_eq!(shutdown.unless_triggered(std::future::pending::<()>()).await, None);
    }
}
