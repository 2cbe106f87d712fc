//! Captures what the server logs, on the test's own thread.

use std::io;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use tracing::Dispatch;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::Registry;
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
pub(super) struct Logs {
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Logs {
    /// Captures until the guard is dropped.
    pub(super) fn capture() -> (Self, DefaultGuard) {
        // While a process has a single subscriber, a log statement that another thread reaches first, without any, is
        // switched off for all threads. So there are always two.
        static ANOTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(Registry::default()));
        LazyLock::force(&ANOTHER);
        let logs = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::INFO)
            .with_ansi(false)
            .with_writer(logs.clone())
            .finish();
        (logs, tracing::subscriber::set_default(subscriber))
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.bytes.lock().unwrap().clone()).unwrap()
    }

    /// Waits for a line: the server logs a refusal after the client has read its alert.
    #[track_caller]
    pub(super) fn expect(&self, fragment: &str) -> impl Future<Output = ()> {
        let logs = self.clone();
        let fragment = fragment.to_owned();
        let caller = std::panic::Location::caller();
        async move {
            for _ in 0..500 {
                if logs.text().contains(&fragment) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            panic!("{caller}: no `{fragment}` in\n{}", logs.text());
        }
    }
}

impl io::Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Logs {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
