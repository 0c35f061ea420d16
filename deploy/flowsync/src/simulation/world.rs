//! What outlives a process: two disks (that of the tables is simulated; the log and the marks lie in real files, of which images
//! are kept), who sends, and what anybody was ever told.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use fastrand::Rng;
use flowsync_ingest::{
    Mint,
    log::power_loss::{Image, image, torn, write},
};
use flowsync_schemas::{Epoch, Micros};
use flowsync_sinks::{
    SinkOptions,
    disk::{Fault, Lie, SimulatedDisk},
};
use tempfile::TempDir;

use super::senders::Senders;
use crate::pipeline::catalogue;

pub type Judged<T> = Result<T, String>;

pub fn ensure(holds: bool, what: impl FnOnce() -> String) -> Judged<()> {
    if holds { Ok(()) } else { Err(what()) }
}

/// What is broken on purpose: the judge has to find it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Canary {
    /// Nothing.
    #[default]
    None,
    /// The sink does not flush its files, or its folders.
    Sink(Lie),
    /// The log acknowledges before it flushes.
    Log,
    /// A restart forgets a part of the rows that it loads.
    Restart,
    /// A commit forgets a signal.
    Commit,
}

/// Files of the data directory.
const MARKS: &str = "feed/marks";
const ACKNOWLEDGED: &str = "log/acknowledged";

pub struct World {
    pub rng: Rng,
    pub canary: Canary,
    pub disk: SimulatedDisk,
    /// Holds the lock of the tables alone.
    pub tables: TempDir,
    /// The data directory: log, keys and marks.
    pub home: TempDir,
    /// What power loss leaves of it, at least.
    durable: Image,
    /// What the log's own note of how far it was acknowledged has said; it is never flushed.
    notes: Vec<Vec<u8>>,
    pub senders: Senders,
    /// The newest epoch that a commit was reported of.
    pub committed: Epoch,
    /// Bounds of epochs that were given out, and that a restart has to repeat.
    pub bounds: BTreeSet<Epoch>,
    /// The build that computes: a number that grows.
    pub build: u32,
    /// The one that computed the tables last.
    pub computed: u32,
    /// Views of which the disk altered a file since they were found to be right.
    pub altered: BTreeSet<String>,
    pub options: SinkOptions,
    clock: i64,
    /// What came to pass, in order; the same for the same seed.
    pub story: Vec<String>,
}

impl World {
    pub fn new(seed: u64, canary: Canary) -> Self {
        let mut rng = Rng::with_seed(seed);
        let lie = if let Canary::Sink(lie) = canary { lie } else { Lie::None };
        let home = folder();
        // Pseudonyms are the same for the same seed.
        fs::create_dir_all(home.path().join("keys")).expect("a folder");
        fs::write(home.path().join("keys/tenant.key"), [7; 32]).expect("written");
        let options = SinkOptions {
            // One after the other, so that a seed repeats what happened.
            parallelism: 1,
            bucket_rows_max: rng.usize(3..20),
            manifests_max: rng.usize(2..6),
            earlier_bytes_min: if rng.bool() { 0 } else { 1 << 30 },
            grace: Duration::ZERO,
            maintained_tables_max: usize::MAX,
            ..SinkOptions::default()
        };
        Self {
            canary,
            disk: SimulatedDisk::new(rng.u64(..), lie),
            tables: folder(),
            durable: image(home.path()),
            home,
            notes: Vec::new(),
            senders: Senders::new(&mut rng),
            committed: Epoch(0),
            bounds: BTreeSet::new(),
            build: 1,
            computed: 0,
            altered: BTreeSet::new(),
            options,
            clock: 1_700_000_000_000_000,
            story: Vec::new(),
            rng,
        }
    }

    pub fn tell(&mut self, what: impl Into<String>) {
        self.story.push(what.into());
    }

    /// The disk alters a file of a view, of the newest epoch or of one before.
    pub fn alter(&mut self) {
        let views: BTreeSet<_> = catalogue().views.iter().map(|view| view.name.to_owned()).collect();
        let view_of = |file: &Path| Some(file.parent()?.file_name()?.to_str()?.to_owned());
        let a_views = |file: &Path| {
            file.extension().is_some_and(|e| e == "parquet") && view_of(file).is_some_and(|of| views.contains(&of))
        };
        if let Some(view) = self.disk.alter(a_views).as_deref().and_then(view_of) {
            self.tell(format!("alters {view}"));
            self.altered.insert(view);
        }
    }

    /// The clock, which jumps, backwards too.
    pub fn now(&mut self) -> Micros {
        self.clock += self.rng.i64(-86_400_000_000..900_000_000_000);
        Micros(self.clock)
    }

    /// Later than any clock that something went by.
    pub fn later(&mut self) -> Micros {
        self.clock = self.clock.max(flowsync_ingest::now().0) + 400 * 86_400_000_000;
        Micros(self.clock)
    }

    /// The log has been opened: what it is made of survives.
    pub fn is_open(&mut self) {
        self.durable = image(self.home.path());
    }

    /// The log says that what it holds now survives.
    pub fn is_durable(&mut self) {
        let now = image(self.home.path());
        self.notes.extend(now.get(Path::new(ACKNOWLEDGED)).map(|(note, _)| note.clone()));
        if self.canary != Canary::Log {
            self.durable = now;
        }
    }

    /// The files of the data directory as they are now.
    pub fn files(&self) -> Image {
        image(self.home.path())
    }

    /// The files as they are now, but that the last of the marks was cut short.
    pub fn half_a_mark(&mut self) -> Image {
        let mut files = self.files();
        if let Some((marks, length)) = files.get_mut(Path::new(MARKS)) {
            let whole = marks.len().saturating_sub(1);
            let before = marks[..whole].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            marks.truncate(self.rng.usize(before..=whole));
            *length = marks.len() as u64;
        }
        files
    }

    /// The end of a process, when the files were these: `after` is what an append that was under way would have made of them.
    /// The next process finds what is left of them in another folder, so that what this one does when it is dropped does not count.
    pub fn end(&mut self, now: Image, after: Option<Image>, fault: Fault) {
        let mut left = match after {
            Some(after) if fault.is_power_loss() => torn(&self.durable, &after, &mut self.rng),
            // What a process had written is in the hands of the system: all of the append, or nothing.
            Some(after) if self.rng.bool() => after,
            Some(_) => now.clone(),
            None if fault.is_power_loss() => self.durable.clone(),
            None => now.clone(),
        };
        let marks = now.get(Path::new(MARKS)).map(|(marks, _)| marks.clone()).unwrap_or_default();
        let marks = if fault.is_power_loss() { self.lost(marks) } else { marks };
        left.insert(PathBuf::from(MARKS), (marks.clone(), marks.len() as u64));
        if fault.is_power_loss() {
            // Decided anew, but for the marks that are left: they are not flushed.
            self.bounds = marked(&marks);
            if let Some(note) = self.rng.choice(&self.notes) {
                left.insert(PathBuf::from(ACKNOWLEDGED), (note.clone(), note.len() as u64));
            }
        }
        let next = folder();
        write(&left, next.path());
        self.home = next;
        self.durable = left;
    }

    /// The marks, cut off anywhere; what was being written holds anything.
    fn lost(&mut self, mut marks: Vec<u8>) -> Vec<u8> {
        marks.truncate(self.rng.usize(0..=marks.len()));
        if let Some(last) = marks.last_mut().filter(|_| self.rng.bool()) {
            *last = self.rng.u8(..);
        }
        marks
    }
}

/// The epochs of which the next process finds marks.
fn marked(marks: &[u8]) -> BTreeSet<Epoch> {
    let look = folder();
    let path = look.path().join(MARKS);
    fs::create_dir_all(path.with_file_name("")).expect("a folder");
    fs::write(&path, marks).expect("written");
    let mint = Mint::open(&path.with_file_name("")).expect("marks, whatever they hold");
    mint.marks_after(Epoch(0)).into_iter().map(|mark| mark.epoch).collect()
}

/// A folder, in memory where the system has such: thousands of processes flush into it.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    made.expect("a folder")
}
