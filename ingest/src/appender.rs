//! Group commit: one thread appends what has gathered since the last fsync, and answers everybody at once.
//!
//! ```text
//! gateway tasks ─┐
//! importers ─────┼─► queue (bounded by jobs and bytes) ─► thread: names to the vault, then one append ─► answers
//! pollers ───────┘
//! ```
//!
//! A commit begins at once, unless another has just begun: then it waits a moment for more to share its fsync.
//!
//! Invariants: an answer means durable, names included (I1); names come first, so that a signal is never there without
//! them; the queue is bounded, and who may not wait is told [`AppendError::Busy`] at once (I9). An appender that is
//! dropped first appends what is queued.
//!
//! Async ends here: the front awaits an answer, everything behind it blocks in the thread.

use std::{
    collections::VecDeque,
    io, mem,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use flowsync_schemas::{NameClaim, Pseudonymizer, Signal};
use tokio::sync::oneshot;

use crate::{
    connectors::{self, Verified},
    lock,
    log::{Appended, Log, LogError},
    vault::{Vault, VaultError},
};

/// From the beginning of one commit to that of the next, at least. One that comes alone is written at once; of a thousand a second
/// two share an fsync, and the threads that it wakes.
const COMMIT_EVERY: Duration = Duration::from_millis(2);

/// What a signal is counted as besides its body.
const ENVELOPE_BYTES: usize = 512;

/// Limits of the queue and of one commit.
#[derive(Clone, Copy, Debug)]
pub struct AppenderLimits {
    /// Jobs that wait: a delivery each, or a chunk of an import.
    pub queued_jobs_max: usize,
    /// Bytes that wait.
    pub queued_bytes_max: usize,
    /// Signals in one commit.
    pub batch_records_max: usize,
    /// Bytes in one commit; a single larger signal is committed alone.
    pub batch_bytes_max: usize,
}

impl Default for AppenderLimits {
    fn default() -> Self {
        Self {
            queued_jobs_max: 16_384,
            queued_bytes_max: 128 << 20,
            batch_records_max: 4096,
            batch_bytes_max: 16 << 20,
        }
    }
}

/// Why a signal was not acknowledged. It may be in the log all the same: the sender delivers again, and is told.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The queue is at its limit.
    #[error(
        "{queued_jobs} deliveries of {queued_bytes} bytes wait to be written, the limit: deliver again in a moment"
    )]
    Busy {
        /// Jobs that wait.
        queued_jobs: usize,
        /// Bytes that wait.
        queued_bytes: usize,
    },
    /// The process is stopping.
    #[error("the log takes no more signals: the process is stopping")]
    Closed,
    /// The log failed.
    #[error(transparent)]
    Log(Arc<LogError>),
    /// The vault failed.
    #[error(transparent)]
    Vault(Arc<VaultError>),
}

impl AppendError {
    /// Whether the queue was full.
    pub fn is_busy(&self) -> bool {
        matches!(self, AppendError::Busy { .. })
    }

    /// Whether the same call can succeed later in the same process.
    pub fn is_retryable(&self) -> bool {
        match self {
            AppendError::Busy { .. } => true,
            AppendError::Closed => false,
            AppendError::Log(error) => error.is_retryable(),
            AppendError::Vault(error) => error.is_retryable(),
        }
    }
}

type Answer = Result<Vec<Appended>, AppendError>;

/// Signals that are answered together.
struct Job {
    signals: Vec<Signal>,
    /// What each of them claims.
    names: Vec<Vec<NameClaim>>,
    bytes: usize,
    done: oneshot::Sender<Answer>,
}

impl Job {
    fn new(signals: Vec<Signal>, names: Vec<Vec<NameClaim>>) -> (Self, oneshot::Receiver<Answer>) {
        let (done, answer) = oneshot::channel();
        let bytes = signals.iter().map(bytes_of).sum();
        (Self { signals, names, bytes, done }, answer)
    }
}

fn bytes_of(signal: &Signal) -> usize {
    signal.body.len() + ENVELOPE_BYTES
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    bytes: usize,
    closed: bool,
}

/// Jobs that wait, bounded by number and bytes.
struct Queue {
    limits: AppenderLimits,
    waiting: Mutex<Waiting>,
    /// A job came, or the queue was closed.
    filled: Condvar,
    /// Jobs went.
    drained: Condvar,
}

impl Queue {
    fn new(limits: AppenderLimits) -> Self {
        Self { limits, waiting: Mutex::default(), filled: Condvar::new(), drained: Condvar::new() }
    }

    fn push(&self, job: Job, may_wait: bool) -> Result<(), AppendError> {
        let mut waiting = lock(&self.waiting);
        loop {
            if waiting.closed {
                return Err(AppendError::Closed);
            }
            // A job above the limit is taken by an empty queue: it was received within somebody's limit.
            let fits = waiting.jobs.is_empty()
                || (waiting.jobs.len() < self.limits.queued_jobs_max
                    && waiting.bytes.saturating_add(job.bytes) <= self.limits.queued_bytes_max);
            if fits {
                break;
            }
            if !may_wait {
                return Err(AppendError::Busy { queued_jobs: waiting.jobs.len(), queued_bytes: waiting.bytes });
            }
            waiting = self.drained.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.bytes += job.bytes;
        waiting.jobs.push_back(job);
        self.filled.notify_one();
        Ok(())
    }

    /// The jobs of one commit, once it may begin; none when the queue is closed and empty.
    fn take(&self, from: Instant) -> Option<Vec<Job>> {
        let mut waiting = lock(&self.waiting);
        while waiting.jobs.is_empty() {
            if waiting.closed {
                return None;
            }
            waiting = self.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let early = from.saturating_duration_since(Instant::now());
        if !early.is_zero() && !waiting.closed {
            drop(waiting);
            thread::sleep(early);
            waiting = lock(&self.waiting);
        }
        let (mut jobs, mut records, mut bytes): (Vec<Job>, usize, usize) = (Vec::new(), 0, 0);
        while let Some(job) = waiting.jobs.front() {
            records += job.signals.len();
            bytes += job.bytes;
            let over = records > self.limits.batch_records_max || bytes > self.limits.batch_bytes_max;
            if over && !jobs.is_empty() {
                break;
            }
            jobs.extend(waiting.jobs.pop_front());
        }
        waiting.bytes -= jobs.iter().map(|job| job.bytes).sum::<usize>();
        self.drained.notify_all();
        Some(jobs)
    }

    fn close(&self) -> VecDeque<Job> {
        let mut waiting = lock(&self.waiting);
        waiting.closed = true;
        self.filled.notify_all();
        self.drained.notify_all();
        mem::take(&mut waiting.jobs)
    }
}

/// See the module. Shared by everybody who appends.
pub struct Appender {
    queue: Arc<Queue>,
    people: Pseudonymizer,
    thread: Option<JoinHandle<()>>,
}

impl Appender {
    /// Starts the thread that appends to `log`, and writes names to `vault`.
    ///
    /// # Errors
    /// Where the operating system gives no thread.
    pub fn start(
        log: Arc<dyn Log>,
        vault: Arc<Vault>,
        people: Pseudonymizer,
        limits: AppenderLimits,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(limits));
        let worker = Worker { queue: queue.clone(), log, vault };
        let thread = thread::Builder::new().name("appender".into()).spawn(move || worker.run())?;
        Ok(Self { queue, people, thread: Some(thread) })
    }

    /// Appends one signal with the names that it claims; does not wait for room in the queue.
    ///
    /// # Errors
    /// Where the signal is not acknowledged; [`AppendError::Busy`] where the queue is full.
    pub async fn append(&self, signal: Signal, names: Vec<NameClaim>) -> Result<Appended, AppendError> {
        let (job, answer) = Job::new(vec![signal], vec![names]);
        self.queue.push(job, false)?;
        let appended = answer.await.map_err(|_| AppendError::Closed)??;
        appended.first().copied().ok_or(AppendError::Closed)
    }

    /// Appends signals in order, for importers and pollers; waits for room. The names that they claim are read here, on
    /// the caller's thread. After an error a first part of them may be in the log: append them again.
    ///
    /// # Errors
    /// Where not all signals are acknowledged.
    ///
    /// # Panics
    /// In async code: it blocks.
    pub fn append_blocking(&self, signals: Vec<Signal>) -> Answer {
        let mut out = Vec::with_capacity(signals.len());
        let mut signals = signals.into_iter().peekable();
        while signals.peek().is_some() {
            let (mut chunk, mut names, mut bytes) = (Vec::new(), Vec::new(), 0);
            while let Some(next) = signals.peek() {
                bytes += bytes_of(next);
                let over =
                    chunk.len() >= self.queue.limits.batch_records_max || bytes > self.queue.limits.batch_bytes_max;
                if over && !chunk.is_empty() {
                    break;
                }
                let Some(signal) = signals.next() else { break };
                let verified = Verified::from_log(signal);
                names.push(connectors::parse(&verified, &self.people).names);
                chunk.push(verified.into_signal());
            }
            let (job, answer) = Job::new(chunk, names);
            self.queue.push(job, true)?;
            out.extend(answer.blocking_recv().map_err(|_| AppendError::Closed)??);
        }
        Ok(out)
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        lock(&self.queue.waiting).closed = true;
        self.queue.filled.notify_all();
        self.queue.drained.notify_all();
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!(?panic, "the appender's thread panicked");
        }
    }
}

struct Worker {
    queue: Arc<Queue>,
    log: Arc<dyn Log>,
    vault: Arc<Vault>,
}

impl Worker {
    fn run(self) {
        let mut next_from = Instant::now();
        while let Some(mut jobs) = self.queue.take(next_from) {
            next_from = Instant::now() + COMMIT_EVERY;
            let names: Vec<_> = jobs.iter_mut().flat_map(|job| mem::take(&mut job.names)).collect();
            let counts: Vec<_> = jobs.iter().map(|job| job.signals.len()).collect();
            let signals: Vec<_> = jobs.iter_mut().flat_map(|job| mem::take(&mut job.signals)).collect();
            metrics::histogram!("flowsync_log_batch_records").record(signals.len() as f64);
            match self.commit(names, &signals) {
                Ok(mut appended) => {
                    for (job, count) in jobs.into_iter().zip(counts) {
                        let rest = appended.split_off(count.min(appended.len()));
                        // Nobody waits any more where the sender hung up: the signal is durable all the same.
                        let _ = job.done.send(Ok(mem::replace(&mut appended, rest)));
                    }
                }
                Err(error) => {
                    tracing::error!(%error, signals = signals.len(), "signals were not acknowledged");
                    metrics::counter!("flowsync_log_append_errors_total").increment(1);
                    for job in jobs {
                        let _ = job.done.send(Err(error.clone()));
                    }
                }
            }
        }
    }

    fn commit(&self, names: Vec<Vec<NameClaim>>, signals: &[Signal]) -> Answer {
        let mut fresh = Vec::new();
        for (signal, names) in signals.iter().zip(names) {
            // What the log has was claimed before; of who was erased since, nobody is told again.
            if !names.is_empty() && !self.log.has(signal.id).map_err(|e| AppendError::Log(Arc::new(e)))? {
                fresh.extend(names);
            }
        }
        self.vault.insert(&fresh).map_err(|e| AppendError::Vault(Arc::new(e)))?;
        self.log.append(signals).map_err(|e| AppendError::Log(Arc::new(e)))
    }
}

impl Drop for Worker {
    /// Also where the log panicked: who waits is answered instead of waiting for ever.
    fn drop(&mut self) {
        drop(self.queue.close());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::{AtomicUsize, Ordering};

    use flowsync_schemas::{LogPosition, PersonId, SignalId};

    use super::*;
    use crate::{
        log::{EmbeddedLog, conformance::signal},
        seal::Keys,
    };

    /// The embedded log, held at a gate, and counting appends.
    struct Gated {
        log: EmbeddedLog,
        gate: Mutex<()>,
        appends: AtomicUsize,
    }

    impl Log for Gated {
        fn append(&self, signals: &[Signal]) -> Result<Vec<Appended>, LogError> {
            self.appends.fetch_add(1, Ordering::SeqCst);
            let _open = lock(&self.gate);
            assert!(signals.iter().all(|s| s.delivery != "panic"), "a bug in the log");
            self.log.append(signals)
        }
        fn read(&self, from: LogPosition, n: usize, bytes: usize) -> Result<Vec<(LogPosition, Signal)>, LogError> {
            self.log.read(from, n, bytes)
        }
        fn get(&self, at: LogPosition) -> Result<Option<Signal>, LogError> {
            self.log.get(at)
        }
        fn has(&self, id: SignalId) -> Result<bool, LogError> {
            self.log.has(id)
        }
        fn ends(&self) -> Result<Vec<u64>, LogError> {
            self.log.ends()
        }
        fn wait(&self, ends: &[u64], timeout: Duration) -> bool {
            self.log.wait(ends, timeout)
        }
    }

    struct Setup {
        _dir: tempfile::TempDir,
        log: Arc<Gated>,
        vault: Arc<Vault>,
        appender: Arc<Appender>,
    }

    fn setup(limits: AppenderLimits) -> Setup {
        let dir = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(&dir.path().join("log"), Keys::fixed()).unwrap();
        let log = Arc::new(Gated { log, gate: Mutex::new(()), appends: AtomicUsize::new(0) });
        let vault = Arc::new(Vault::open(&dir.path().join("vault"), Keys::fixed()).unwrap());
        let appender = Appender::start(log.clone(), vault.clone(), Pseudonymizer::new(&[7; 32]), limits).unwrap();
        Setup { _dir: dir, log, vault, appender: Arc::new(appender) }
    }

    fn wait_for(what: impl Fn() -> bool) {
        for _ in 0..2000 {
            if what() {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("waited for 10 s");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_gathers_behind_one_fsync_shares_the_next() {
        let Setup { _dir, log, vault, appender } = setup(AppenderLimits::default());
        let spawn = |number: u64| {
            let appender = appender.clone();
            let claim = NameClaim { person: PersonId(u128::from(number)), name: "Ada".into(), account: "a:1".into() };
            tokio::spawn(async move { appender.append(signal(number, 10), vec![claim]).await })
        };
        let closed = lock(&log.gate);
        let first = spawn(0);
        wait_for(|| log.appends.load(Ordering::SeqCst) == 1);
        let rest: Vec<_> = (1..=200).map(|n| spawn(n % 100 + 1)).collect();
        wait_for(|| lock(&appender.queue.waiting).jobs.len() == 200);
        assert!(!first.is_finished(), "no answer before the log has it");
        drop(closed);
        assert!(!first.await.unwrap().unwrap().duplicate);
        let mut duplicates = 0;
        for answer in rest {
            duplicates += usize::from(answer.await.unwrap().unwrap().duplicate);
        }
        assert_eq!(duplicates, 100);
        assert_eq!(log.appends.load(Ordering::SeqCst), 2, "200 deliveries, one commit");
        assert_eq!(log.ends().unwrap(), [101]);
        assert_eq!(vault.names().all().count(), 101, "the names came with them");
    }

    #[test]
    fn a_full_queue_says_so_at_once_and_importers_wait() {
        let limits = AppenderLimits { queued_jobs_max: 3, queued_bytes_max: 1 << 20, ..AppenderLimits::default() };
        let Setup { _dir, log, appender, .. } = setup(limits);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let closed = lock(&log.gate);
        let mut accepted = vec![];
        for number in 0..4 {
            let clone = appender.clone();
            accepted.push(runtime.spawn(async move { clone.append(signal(number, 10), vec![]).await }));
            wait_for(|| log.appends.load(Ordering::SeqCst) == 1);
            wait_for(|| lock(&appender.queue.waiting).jobs.len() == number as usize);
        }
        let error = runtime.block_on(appender.append(signal(9, 10), vec![])).unwrap_err();
        assert!(error.is_busy() && error.is_retryable(), "{error}");
        let clone = appender.clone();
        let import = thread::spawn(move || clone.append_blocking((10..20).map(|n| signal(n, 10)).collect()));
        thread::sleep(Duration::from_millis(30));
        assert!(!import.is_finished());
        drop(closed);
        for answer in accepted {
            runtime.block_on(answer).unwrap().unwrap();
        }
        assert_eq!(import.join().unwrap().unwrap().len(), 10);
        assert_eq!(log.ends().unwrap(), [14]);
    }

    #[test]
    fn bytes_are_a_limit_of_the_queue_too_and_chunks_are_split() {
        let limits = AppenderLimits {
            batch_records_max: 7,
            batch_bytes_max: 10_000,
            queued_bytes_max: 9000,
            ..Default::default()
        };
        let Setup { _dir, log, appender, .. } = setup(limits);
        let signals: Vec<_> = (0..50).map(|n| signal(n, if n == 20 { 50_000 } else { 1000 })).collect();
        let appended = appender.append_blocking(signals).unwrap();
        assert!(appended.iter().map(|a| a.position.offset).eq(0..50));
        assert!(log.appends.load(Ordering::SeqCst) >= 50 / 7);
        let queue = &appender.queue;
        let closed = lock(&log.gate);
        let push = |n| queue.push(Job::new(vec![signal(n, 4000)], vec![vec![]]).0, false);
        push(60).unwrap();
        wait_for(|| lock(&queue.waiting).jobs.is_empty());
        push(61).unwrap();
        assert!(push(62).unwrap_err().to_string().contains("4512 bytes"), "two of 4512 bytes are more than 9000");
        drop(closed);
    }

    #[test]
    fn what_comes_before_a_commit_may_begin_shares_it_and_who_stops_does_not_wait() {
        let queue = Arc::new(Queue::new(AppenderLimits::default()));
        let push = |n| queue.push(Job::new(vec![signal(n, 10)], vec![vec![]]).0, false).unwrap();
        push(1);
        let waiting = queue.clone();
        let taker = thread::spawn(move || waiting.take(Instant::now() + Duration::from_secs(3)).unwrap().len());
        thread::sleep(Duration::from_millis(50));
        push(2);
        assert_eq!(taker.join().unwrap(), 2);
        push(3);
        lock(&queue.waiting).closed = true;
        assert_eq!(queue.take(Instant::now() + Duration::from_secs(3600)).unwrap().len(), 1);
    }

    #[test]
    fn dropping_appends_what_is_queued() {
        let Setup { _dir, log, appender, .. } = setup(AppenderLimits::default());
        let closed = lock(&log.gate);
        for n in 0..50 {
            appender.queue.push(Job::new(vec![signal(n, 10)], vec![vec![]]).0, false).unwrap();
        }
        let dropping = thread::spawn(move || drop(appender));
        thread::sleep(Duration::from_millis(20));
        drop(closed);
        dropping.join().unwrap();
        assert_eq!(log.ends().unwrap(), [50]);
    }

    #[test]
    fn a_panic_behind_the_queue_leaves_nobody_waiting() {
        let Setup { _dir, appender, .. } = setup(AppenderLimits::default());
        let bad = Signal { delivery: "panic".into(), ..signal(1, 1) };
        assert!(matches!(appender.append_blocking(vec![bad]), Err(AppendError::Closed)));
        wait_for(|| lock(&appender.queue.waiting).closed);
        assert!(matches!(appender.append_blocking(vec![signal(2, 1)]), Err(AppendError::Closed)));
    }
}
