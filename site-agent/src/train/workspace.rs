//! Workspaces that outlive a round.
//!
//! A round is short, and the memory of a workspace costs more to get from the system anew than many a pass over it. A site's
//! session may not keep it: with a thousand simulated sites in one process it would be there a thousand times. So the
//! process keeps as many as were in use at once, which is about one per core.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use fusiondp_learn::model::Workspace;

/// Most workspaces kept while nobody uses them.
const MOST_IDLE: usize = 64;

/// Workspaces that nobody uses. A pass overwrites what it reads, so it does not matter who used one before.
static IDLE: Mutex<Vec<Workspace<f32>>> = Mutex::new(Vec::new());

/// A workspace that goes back to the process's idle ones. Has no `Debug`: it holds patients' values.
pub(super) struct KeptWorkspace(Workspace<f32>);

impl KeptWorkspace {
    /// An idle workspace, or a new one.
    pub(super) fn take() -> Self {
        Self(idle().pop().unwrap_or_default())
    }
}

impl Drop for KeptWorkspace {
    fn drop(&mut self) {
        // What a panic left behind may be half written, which a pass would overwrite, but nothing is lost by a new one.
        if std::thread::panicking() {
            return;
        }
        let mut idle = idle();
        if idle.len() < MOST_IDLE {
            idle.push(std::mem::take(&mut self.0));
        }
    }
}

impl Deref for KeptWorkspace {
    type Target = Workspace<f32>;

    fn deref(&self) -> &Workspace<f32> {
        &self.0
    }
}

impl DerefMut for KeptWorkspace {
    fn deref_mut(&mut self) -> &mut Workspace<f32> {
        &mut self.0
    }
}

fn idle() -> std::sync::MutexGuard<'static, Vec<Workspace<f32>>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}
