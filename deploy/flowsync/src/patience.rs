//! Storage that is full, slow or away for a while is waited for: the same thing is tried again, at growing intervals and for
//! [`PATIENCE`] at most (I9). Meanwhile SQL and feed show what is known, and what comes behind waits in bounded queues.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::pipeline::{LOOK, Status};

/// How long storage that fails is tried again before the process ends.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between the first two attempts; doubles up to the second.
const RETRY_AFTER: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(20)];

/// Who waits.
#[derive(Clone)]
pub struct Patience {
    /// Where others see that somebody waits.
    pub status: Arc<Status>,
    /// Asked to stop, it tries once more.
    pub stop: Arc<AtomicBool>,
    /// Between the first two attempts, and the longest pause.
    pub pauses: [Duration; 2],
}

impl Patience {
    /// As long as the product waits.
    pub fn new(status: Arc<Status>, stop: Arc<AtomicBool>) -> Self {
        Self { status, stop, pauses: RETRY_AFTER }
    }

    /// Tries until it succeeds, fails in a way that does not pass, or patience ends.
    pub fn try_again<T, E: Error + Send + Sync + 'static>(
        &self,
        may_pass: impl Fn(&E) -> bool,
        mut attempt: impl FnMut() -> Result<T, E>,
    ) -> Result<T> {
        let started = Instant::now();
        let [mut pause, pause_max] = self.pauses;
        let mut waited = false;
        loop {
            let last = self.stop.load(Ordering::Acquire) || started.elapsed() > PATIENCE;
            let error = match attempt() {
                Ok(done) => {
                    if waited {
                        self.status.set(|p| p.waiting_for_storage = None);
                    }
                    return Ok(done);
                }
                Err(error) if !may_pass(&error) => return Err(error.into()),
                Err(error) if last => {
                    let after = started.elapsed();
                    return Err(error).with_context(|| format!("tried for {after:.0?}; the log holds every signal"));
                }
                Err(error) => error,
            };
            tracing::warn!(%error, again_in = ?pause, "storage is waited for");
            self.status.set(|p| p.waiting_for_storage = Some(error.to_string()));
            waited = true;
            let until = Instant::now() + pause;
            while Instant::now() < until && !self.stop.load(Ordering::Acquire) {
                std::thread::sleep(LOOK.min(pause));
            }
            pause = (2 * pause).min(pause_max);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn patience(stop: bool) -> Patience {
        Patience::new(Arc::default(), Arc::new(AtomicBool::new(stop)))
    }

    #[test]
    fn what_passes_is_tried_again_and_what_does_not_is_told() {
        let patience = patience(false);
        let mut left = 2;
        let full = |e: &io::Error| e.kind() == io::ErrorKind::StorageFull;
        let done = patience.try_again(full, || {
            left -= 1;
            if left > 0 {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            assert!(patience.status.get().waiting_for_storage.is_some(), "others see it meanwhile");
            Ok(left)
        });
        assert_eq!((done.ok(), patience.status.get().waiting_for_storage), (Some(0), None));
        let mut tried = 0;
        let denied: Result<()> = patience.try_again(full, || {
            tried += 1;
            Err(io::Error::from(io::ErrorKind::PermissionDenied))
        });
        assert!(denied.is_err() && tried == 1);
    }

    #[test]
    fn who_is_asked_to_stop_tries_once() {
        let mut tried = 0;
        let ended: Result<()> = patience(true).try_again(
            |_| true,
            || {
                tried += 1;
                Err(io::Error::from(io::ErrorKind::StorageFull))
            },
        );
        assert!(ended.is_err_and(|e| e.to_string().contains("the log holds every signal")) && tried == 1);
    }
}
