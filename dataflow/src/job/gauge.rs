//! How many epochs, or parts of base rows, are inside: who brings one more waits for a place (I9).

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// See the module.
pub(super) struct Gauge {
    /// `None` when the job has ended.
    inside: Mutex<Option<usize>>,
    changed: Condvar,
}

impl Gauge {
    /// With nothing inside.
    pub fn empty() -> Self {
        Self { inside: Mutex::new(Some(0)), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<usize>> {
        // A number cannot be left half-written by a panic elsewhere.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place; false when the job has ended.
    pub fn enter(&self, max: usize) -> bool {
        let mut inside = self.lock();
        loop {
            match *inside {
                None => return false,
                Some(n) if n < max => {
                    *inside = Some(n + 1);
                    return true;
                }
                Some(_) => inside = self.changed.wait(inside).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Gives a place back.
    pub fn leave(&self) {
        let mut inside = self.lock();
        *inside = inside.map(|n| n.saturating_sub(1));
        self.changed.notify_all();
    }

    /// The job has ended: nobody waits any more.
    pub fn close(&self) {
        *self.lock() = None;
        self.changed.notify_all();
    }
}

/// Lets nobody wait for a worker that has ended, also by a panic.
pub(super) struct Gates<'a>(pub &'a [Arc<Gauge>; 2]);

impl Drop for Gates<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|gauge| gauge.close());
    }
}
