//! Signs checkpoints while a log is open: at once, every few seconds where it has grown, and at the end.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{
    AuditError, Checkpoints, Extension, Given, Inclusion, PublicKey, Report, Signed, Subject, extend, prove, verify,
};
use crate::{
    lock,
    log::{Audited, Log},
};

/// How long a durable signal may wait for its checkpoint. A checkpoint is some 200 bytes, so even in a log that gets one
/// signal in this time the checkpoints stay a small part of it.
pub const SIGN_EVERY: Duration = Duration::from_secs(10);

/// The partition that is signed: the embedded log has one.
pub(super) const PARTITION: u32 = 0;

/// Checkpoints and the log that they are of, shared by everyone who wants one signed.
pub struct Keeper {
    signing: Arc<Signing>,
    thread: Option<JoinHandle<()>>,
}

struct Signing {
    log: Arc<dyn Log>,
    checkpoints: Mutex<Checkpoints>,
    stop: Mutex<bool>,
    stopped: Condvar,
}

impl Keeper {
    /// Starts the thread that signs. A log that keeps no hashes is never signed.
    ///
    /// # Errors
    /// Where the operating system gives no thread.
    pub fn start(log: Arc<dyn Log>, checkpoints: Checkpoints, every: Duration) -> io::Result<Self> {
        let checkpoints = Mutex::new(checkpoints);
        let signing = Arc::new(Signing { log, checkpoints, stop: Mutex::new(false), stopped: Condvar::new() });
        let of_thread = signing.clone();
        let thread = thread::Builder::new().name("checkpoints".into()).spawn(move || of_thread.run(every))?;
        Ok(Self { signing, thread: Some(thread) })
    }

    /// Signs what is durable now, where it is not signed yet: the newest checkpoint, and what verifies it.
    ///
    /// # Errors
    /// Those of signing, and where the log is empty.
    pub fn signed(&self) -> Result<(String, PublicKey), AuditError> {
        let mut checkpoints = lock(&self.signing.checkpoints);
        self.signing.sign(&mut checkpoints)?;
        let (_, note) = checkpoints.newest().ok_or(AuditError::Unsigned)?;
        Ok((note.to_owned(), checkpoints.key().clone()))
    }

    fn view(&self) -> Result<Box<dyn Audited>, AuditError> {
        self.signing.log.audited(PARTITION).ok_or(AuditError::Unsigned)
    }

    /// As [`prove`], under the newest checkpoint.
    ///
    /// # Errors
    /// Those of signing and proving.
    pub fn prove(&self, subject: Subject) -> Result<Inclusion, AuditError> {
        let (note, key) = self.signed()?;
        prove(&*self.view()?, subject, &note, &key)
    }

    /// As [`extend`], up to the newest checkpoint.
    ///
    /// # Errors
    /// Those of signing and proving.
    pub fn extend(&self, older: &str) -> Result<Extension, AuditError> {
        let (newer, key) = self.signed()?;
        extend(&*self.view()?, older, &newer, &key)
    }

    /// As [`verify`], of the log as it is now. By `key` instead of the log's own where one is handed in.
    ///
    /// # Errors
    /// Where log or checkpoints cannot be read.
    pub fn verify(&self, given: &[Given], key: Option<&PublicKey>) -> Result<Report, AuditError> {
        let (dir, own) = {
            let checkpoints = lock(&self.signing.checkpoints);
            (checkpoints.dir().to_owned(), checkpoints.key().clone())
        };
        let signed = Signed::read(&dir, key.unwrap_or(&own), given)?;
        verify(&*self.view()?, PARTITION, signed)
    }
}

impl Drop for Keeper {
    /// What was appended up to now is signed first.
    fn drop(&mut self) {
        *lock(&self.signing.stop) = true;
        self.signing.stopped.notify_all();
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!(?panic, "the thread that signs checkpoints panicked");
        }
    }
}

impl Signing {
    fn sign(&self, checkpoints: &mut Checkpoints) -> Result<(), AuditError> {
        let Some(view) = self.log.audited(PARTITION) else { return Ok(()) };
        if let Some(signed) = checkpoints.sign(&*view)? {
            metrics::gauge!("flowsync_log_signed_signals").set(signed.size as f64);
            tracing::debug!(size = signed.size, root = %signed.root, "checkpoint");
        }
        Ok(())
    }

    fn run(&self, every: Duration) {
        let mut stopping = false;
        loop {
            // Signals are taken in all the same: who audits is told by the checkpoints that are missing, too.
            if let Err(error) = self.sign(&mut lock(&self.checkpoints)) {
                tracing::error!(%error, "the log was not signed");
                metrics::counter!("flowsync_log_checkpoint_errors_total").increment(1);
            }
            if stopping {
                return;
            }
            let stop = lock(&self.stop);
            let waited = self.stopped.wait_timeout_while(stop, every, |stop| !*stop);
            stopping = *waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{
        audit::{Checkpoint, Notes, SigningKey, newest},
        log::{EmbeddedLog, conformance::signal},
        seal::Keys,
    };

    #[test]
    fn a_log_is_signed_when_it_is_opened_while_it_grows_and_when_it_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, audit) = (dir.path().join("log"), dir.path().join("audit"));
        let key = || SigningKey::of_log(&[5; 32], 0);
        let start = |every| {
            let log: Arc<dyn Log> = Arc::new(EmbeddedLog::open(&folder, Keys::fixed()).unwrap());
            (log.clone(), Keeper::start(log, Checkpoints::open(&audit, key()).unwrap(), every).unwrap())
        };
        let sizes = || {
            let notes = Notes::kept(&audit).unwrap().into_iter().flatten();
            notes.map(|note| Checkpoint::open(&note.unwrap(), key().public()).unwrap().size).collect::<Vec<_>>()
        };
        let wait_for = |wanted: &[u64]| {
            (0..2000).take_while(|_| sizes() != wanted).for_each(|_| thread::sleep(Duration::from_millis(5)));
            assert_eq!(sizes(), wanted);
        };
        let (log, keeper) = start(Duration::from_millis(5));
        thread::sleep(Duration::from_millis(30));
        assert_eq!(sizes(), [0; 0], "of an empty log there is nothing to say");
        log.append(&[signal(0, 10), signal(1, 10)]).unwrap();
        wait_for(&[2]);
        log.append(&[signal(1, 10)]).unwrap();
        thread::sleep(Duration::from_millis(30));
        log.append(&[signal(2, 10)]).unwrap();
        wait_for(&[2, 3]);
        drop((keeper, log));
        let (log, keeper) = start(Duration::from_secs(3600));
        log.append(&[signal(3, 10)]).unwrap();
        let (note, key_of_log) = keeper.signed().unwrap();
        assert_eq!(Checkpoint::open(&note, &key_of_log).unwrap().size, 4);
        log.append(&[signal(4, 10)]).unwrap();
        drop((keeper, log));
        assert_eq!(sizes(), [2, 3, 4, 5]);
        // As after kill -9: what nobody signed is signed by the next one.
        EmbeddedLog::open(&folder, Keys::fixed()).unwrap().append(&[signal(5, 10)]).unwrap();
        let held = start(Duration::from_secs(3600));
        wait_for(&[2, 3, 4, 5, 6]);
        drop(held);
        let note = newest(&audit).unwrap().unwrap();
        assert_eq!(Checkpoint::open(&note, key().public()).unwrap().size, 6);
    }
}
