//! A disk in memory, and what can happen to it: a step is a write, a flush, a new name, a removal, a read or a listing, and
//! each can fail. Power loss takes what was not flushed: the end of a file, or all of it, and the newest names of a folder.
//!
//! Everything is drawn from one seed. What the sink writes goes through the same `write_durably` as on a real disk.
//!
//! Of tests alone: `cfg(test)`, and the feature `simulation`, which no build of the product has.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    path::{Path as FsPath, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use fastrand::Rng;
use flowsync_schemas::TableSpec;
use object_store::{ObjectMeta, Result, path::Path};

use crate::{Catalogue, Sink, SinkError, SinkOptions, store::generic};

mod files;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies before the step. What it wrote is there.
    KillBefore,
    /// The process dies after the step, before it hears of it.
    KillAfter,
    /// As `KillBefore`; what was not flushed may be gone.
    PowerLossBefore,
    /// As `KillAfter`; what was not flushed may be gone.
    PowerLossAfter,
    /// The step fails; a write has left a part.
    Error,
    /// The step is done, and reported as failed.
    ErrorAfter,
    /// From here on nothing can be written, until a removal or twenty steps.
    Full,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 7] = [
        Fault::KillBefore,
        Fault::KillAfter,
        Fault::PowerLossBefore,
        Fault::PowerLossAfter,
        Fault::Error,
        Fault::ErrorAfter,
        Fault::Full,
    ];

    /// Whether what was not flushed may be gone.
    pub fn is_power_loss(self) -> bool {
        matches!(self, Fault::PowerLossBefore | Fault::PowerLossAfter)
    }
}

/// How it lies: a disk that does, or a sink that does not flush, which is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lie {
    /// It does not.
    #[default]
    None,
    /// Files are not flushed.
    Files,
    /// Folders are not flushed.
    Folders,
}

#[derive(Default)]
struct File {
    bytes: Vec<u8>,
    /// How many of them survive a power loss, for certain.
    flushed: usize,
}

/// A change of the names of a folder that is not flushed yet.
enum Rename {
    Add(PathBuf, u64),
    Remove(PathBuf),
}

struct State {
    rng: Rng,
    files: BTreeMap<u64, File>,
    names: BTreeMap<PathBuf, u64>,
    folders: BTreeSet<PathBuf>,
    /// The names that survive a power loss, for certain, and what came to pass since.
    flushed_names: BTreeMap<PathBuf, u64>,
    renames: Vec<Rename>,
    next_file: u64,
    steps: usize,
    fault: Option<(usize, Fault)>,
    /// What happens when a file gets a name with this in it.
    naming: Option<(&'static str, Fault)>,
    fired: Option<Fault>,
    dead: bool,
    /// Set when the process dies, for what would otherwise try again.
    told: Arc<AtomicBool>,
    full_until: Option<usize>,
    lie: Lie,
}

/// The disk, for one process at a time.
#[derive(Clone)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimulatedDisk")
    }
}

impl fmt::Display for SimulatedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimulatedDisk")
    }
}

fn path_of(location: &Path) -> PathBuf {
    PathBuf::from(format!("/{location}"))
}

fn folder_of(path: &FsPath) -> &FsPath {
    path.parent().unwrap_or(FsPath::new("/"))
}

/// Opens the sink of a data directory on a disk; in `root` itself is the lock alone.
///
/// # Errors
/// As [`Sink::open`].
pub async fn open(
    disk: &SimulatedDisk,
    root: &FsPath,
    catalogue: Catalogue,
    program: String,
    options: SinkOptions,
) -> Result<Sink, SinkError> {
    // The Delta library asks the real disk whether a table's folder is there, before it asks the store.
    for TableSpec { name, .. } in catalogue.base.iter().chain(&catalogue.views) {
        let folder = root.join("tables").join(name);
        let failed = |e| SinkError::storage(folder.display().to_string())(generic(&folder, e));
        std::fs::create_dir_all(&folder).map_err(failed)?;
    }
    Sink::open_on(Arc::new(disk.clone()), root, catalogue, program, options).await
}

impl SimulatedDisk {
    /// An empty one.
    pub fn new(seed: u64, lie: Lie) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: Rng::with_seed(seed),
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            folders: BTreeSet::from(["/".into()]),
            flushed_names: BTreeMap::new(),
            renames: Vec::new(),
            next_file: 0,
            steps: 0,
            fault: None,
            naming: None,
            fired: None,
            dead: false,
            told: Arc::default(),
            full_until: None,
            lie,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A new process: all that failed works again, until `fault` happens so many steps from now.
    pub fn start(&self, fault: Option<(usize, Fault)>) {
        let mut state = self.state();
        (state.fired, state.dead, state.full_until) = (None, false, None);
        (state.told, state.naming) = Default::default();
        drop(state);
        self.plan(fault);
    }

    /// Makes a fault happen so many steps from now, and no other.
    pub fn plan(&self, fault: Option<(usize, Fault)>) {
        let mut state = self.state();
        state.fault = fault.map(|(steps, fault)| (state.steps + steps, fault));
    }

    /// Makes a fault happen when the next file gets a name with `part` in it.
    pub fn plan_naming(&self, part: &'static str, fault: Fault) {
        self.state().naming = Some((part, fault));
    }

    fn names(&self, path: &FsPath) {
        let mut state = self.state();
        if let Some((_, fault)) = state.naming.take_if(|(part, _)| path.to_string_lossy().contains(*part)) {
            state.fault = Some((state.steps, fault));
        }
    }

    /// The process dies now, or power is lost.
    pub fn kill(&self, fault: Fault) {
        let mut state = self.state();
        state.fired = Some(fault);
        state.dies(fault.is_power_loss());
    }

    /// Becomes true when the process dies.
    pub fn death(&self) -> Arc<AtomicBool> {
        self.state().told.clone()
    }

    /// What happened since the process started.
    pub fn fired(&self) -> Option<Fault> {
        self.state().fired
    }

    /// Whether the process is dead.
    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// Steps so far.
    pub fn steps(&self) -> usize {
        self.state().steps
    }

    /// All files, as another process sees them.
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let state = self.state();
        state.names.iter().map(|(name, file)| (name.clone(), state.files[file].bytes.clone())).collect()
    }

    /// Flips a bit of a file that is one of `these`, for good; tells which, if there is one.
    pub fn alter(&self, these: impl Fn(&FsPath) -> bool) -> Option<PathBuf> {
        let mut state = self.state();
        let State { rng, names, files, .. } = &mut *state;
        let mut these: Vec<_> =
            names.iter().filter(|(name, file)| these(name) && !files[file].bytes.is_empty()).collect();
        // Names have a part that no seed repeats; the order in which files were made is the same.
        these.sort_by_key(|(_, file)| **file);
        let (name, file) = rng.choice(these)?;
        let bytes = &mut files.get_mut(file)?.bytes;
        let at = rng.usize(..bytes.len());
        bytes[at] ^= 1 << rng.u8(..8);
        Some(name.clone())
    }

    /// One step: whatever is to happen happens before, during or after `run`.
    fn step<T>(&self, writes: bool, run: impl FnOnce(&mut State, bool) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state();
        let failed = |what: &str| Err(io::Error::other(format!("simulated: {what}")));
        if state.dead {
            return failed("the process is dead");
        }
        let at = state.steps;
        state.steps += 1;
        let fault = state.fault.filter(|(when, _)| *when == at).map(|(_, fault)| fault);
        if fault.is_some() {
            state.fired = fault;
        }
        if fault == Some(Fault::Full) {
            state.full_until = Some(at + 20);
        }
        if state.full_until.is_some_and(|until| at < until) && writes {
            let _ = run(&mut state, true);
            return Err(io::ErrorKind::StorageFull.into());
        }
        match fault {
            None | Some(Fault::Full) => run(&mut state, false),
            Some(Fault::KillBefore) => {
                state.dies(false);
                failed("killed before")
            }
            Some(Fault::PowerLossBefore) => {
                state.dies(true);
                failed("power lost before")
            }
            Some(Fault::KillAfter) => {
                // Whatever came of it.
                drop(run(&mut state, false));
                state.dies(false);
                failed("killed after")
            }
            Some(Fault::PowerLossAfter) => {
                // Whatever came of it.
                drop(run(&mut state, false));
                state.dies(true);
                failed("power lost after")
            }
            Some(Fault::Error) => {
                let _ = run(&mut state, true);
                failed("failed")
            }
            Some(Fault::ErrorAfter) => {
                run(&mut state, false)?;
                failed("failed after it was done")
            }
        }
    }

    fn meta(&self, state: &State, name: &FsPath, file: u64) -> Result<ObjectMeta> {
        Ok(ObjectMeta {
            location: Path::from_absolute_path(name)?,
            last_modified: chrono::DateTime::UNIX_EPOCH,
            size: state.files[&file].bytes.len() as u64,
            e_tag: None,
            version: None,
        })
    }

    fn listed(&self, prefix: Option<&Path>) -> Result<Vec<ObjectMeta>> {
        let prefix = prefix.map(path_of);
        let names = self
            .step(false, |state, part| {
                if part {
                    return Ok(Vec::new());
                }
                Ok(state.names.iter().map(|(name, file)| (name.clone(), *file)).collect())
            })
            .map_err(|e| generic(prefix.as_deref().unwrap_or(FsPath::new("/")), e))?;
        let state = self.state();
        let within = |name: &PathBuf| prefix.as_ref().is_none_or(|prefix| name.starts_with(prefix) && name != prefix);
        names.iter().filter(|(name, _)| within(name)).map(|(name, file)| self.meta(&state, name, *file)).collect()
    }
}

impl State {
    fn dies(&mut self, power: bool) {
        self.dead = true;
        self.told.store(true, Ordering::Release);
        if power {
            self.lose_power();
        }
    }

    fn lose_power(&mut self) {
        // Of a folder's changes a beginning survives: file systems keep them in order, and say no more.
        let mut names = std::mem::take(&mut self.flushed_names);
        let mut lost: BTreeSet<PathBuf> = BTreeSet::new();
        for rename in std::mem::take(&mut self.renames) {
            let (Rename::Add(name, _) | Rename::Remove(name)) = &rename;
            let folder = folder_of(name).to_owned();
            if lost.contains(&folder) || self.rng.bool() {
                lost.insert(folder);
                continue;
            }
            match rename {
                Rename::Add(name, file) => drop(names.insert(name, file)),
                Rename::Remove(name) => drop(names.remove(&name)),
            }
        }
        (self.names, self.flushed_names) = (names.clone(), names);
        for file in self.files.values_mut() {
            let kept = self.rng.usize(file.flushed..=file.bytes.len());
            file.bytes.truncate(kept);
            // A sector that was being written holds anything.
            if kept > file.flushed && self.rng.bool() {
                let at = self.rng.usize(file.flushed..kept);
                file.bytes[at..].fill(self.rng.u8(..));
            }
            file.flushed = file.bytes.len();
        }
    }

    fn add(&mut self, name: PathBuf, file: u64) {
        self.names.insert(name.clone(), file);
        self.renames.push(Rename::Add(name, file));
    }

    fn remove(&mut self, name: &FsPath) -> io::Result<u64> {
        let file = self.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        self.renames.push(Rename::Remove(name.to_owned()));
        // There is space again.
        self.full_until = None;
        Ok(file)
    }

    fn flush_folder(&mut self, folder: &FsPath) {
        for rename in std::mem::take(&mut self.renames) {
            let (Rename::Add(name, _) | Rename::Remove(name)) = &rename;
            if folder_of(name) != folder {
                self.renames.push(rename);
                continue;
            }
            match rename {
                Rename::Add(name, file) => drop(self.flushed_names.insert(name, file)),
                Rename::Remove(name) => drop(self.flushed_names.remove(&name)),
            }
        }
    }
}
