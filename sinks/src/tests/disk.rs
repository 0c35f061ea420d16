//! A disk in memory, and what can happen to it: a step is a write, a flush, a new name, a removal, a read or a listing, and
//! each can fail. Power loss takes what was not flushed: the end of a file, or all of it, and the newest names of a folder.
//!
//! Everything is drawn from one seed. What the sink writes goes through the same `write_durably` as on a real disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::{self, Write},
    path::{Path as FsPath, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use fastrand::Rng;
use futures::{StreamExt, stream, stream::BoxStream};
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, path::Path,
};

use crate::store::{Disk, DurableStore, NewFile, Upload, generic, replaces, write_durably};

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
    pub const ALL: [Fault; 7] = [
        Fault::KillBefore,
        Fault::KillAfter,
        Fault::PowerLossBefore,
        Fault::PowerLossAfter,
        Fault::Error,
        Fault::ErrorAfter,
        Fault::Full,
    ];
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
    fired: Option<Fault>,
    dead: bool,
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

impl SimulatedDisk {
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
            fired: None,
            dead: false,
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
        state.fault = fault.map(|(steps, fault)| (state.steps + steps, fault));
        (state.fired, state.dead, state.full_until) = (None, false, None);
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
                state.dead = true;
                failed("killed before")
            }
            Some(Fault::PowerLossBefore) => {
                state.dead = true;
                state.lose_power();
                failed("power lost before")
            }
            Some(Fault::KillAfter) => {
                run(&mut state, false)?;
                state.dead = true;
                failed("killed after")
            }
            Some(Fault::PowerLossAfter) => {
                run(&mut state, false)?;
                state.dead = true;
                state.lose_power();
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

/// A file that is being written.
pub struct Written {
    disk: SimulatedDisk,
    file: u64,
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk.step(true, |state, part| {
            let end = if part { state.rng.usize(0..=bytes.len()) } else { bytes.len() };
            let Some(file) = state.files.get_mut(&self.file) else { return Err(io::ErrorKind::NotFound.into()) };
            file.bytes.extend_from_slice(&bytes[..end]);
            Ok(end)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewFile for Written {
    fn make_durable(&mut self) -> io::Result<()> {
        self.disk.step(false, |state, part| {
            let lies = state.lie == Lie::Files;
            if let Some(file) = state.files.get_mut(&self.file)
                && !part
                && !lies
            {
                file.flushed = file.bytes.len();
            }
            Ok(())
        })
    }
}

impl Disk for SimulatedDisk {
    type File = Written;

    fn has_folder(&self, folder: &FsPath) -> bool {
        self.state().folders.contains(folder)
    }

    fn create_folder(&self, folder: &FsPath) -> io::Result<()> {
        self.step(true, |state, part| {
            if !part {
                state.folders.insert(folder.to_owned());
            }
            Ok(())
        })
    }

    fn create(&self, path: &FsPath) -> io::Result<Written> {
        let file = self.step(true, |state, part| {
            if part {
                return Ok(0);
            }
            if state.names.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            state.next_file += 1;
            let file = state.next_file;
            state.files.insert(file, File::default());
            state.add(path.to_owned(), file);
            Ok(file)
        })?;
        Ok(Written { disk: self.clone(), file })
    }

    fn rename(&self, from: &FsPath, to: &FsPath) -> io::Result<()> {
        self.step(false, |state, part| {
            if !part {
                let file = state.remove(from)?;
                state.add(to.to_owned(), file);
            }
            Ok(())
        })
    }

    fn link(&self, from: &FsPath, to: &FsPath) -> io::Result<()> {
        self.step(true, |state, part| {
            if part {
                return Ok(());
            }
            if state.names.contains_key(to) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let file = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
            state.add(to.to_owned(), file);
            Ok(())
        })
    }

    fn remove(&self, path: &FsPath) -> io::Result<()> {
        self.step(false, |state, part| if part { Ok(()) } else { state.remove(path).map(drop) })
    }

    fn flush_folder(&self, folder: &FsPath) -> io::Result<()> {
        self.step(false, |state, part| {
            if !part && state.lie != Lie::Folders {
                state.flush_folder(folder);
            }
            Ok(())
        })
    }
}

impl DurableStore for SimulatedDisk {
    fn flush_folders(&self, folder: &FsPath) -> Result<()> {
        let folders: BTreeSet<PathBuf> = self.state().names.keys().map(|name| folder_of(name).to_owned()).collect();
        let mut within = folders.iter().filter(|within| within.starts_with(folder));
        within.try_for_each(|folder| Disk::flush_folder(self, folder).map_err(|e| generic(folder, e)))
    }
}

#[async_trait::async_trait]
impl ObjectStore for SimulatedDisk {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        write_durably(self, &path_of(location), &payload, replaces(self, &opts)?)?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(Upload::new(self.clone(), location.clone())))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let path = path_of(location);
        let found = self.step(false, |state, part| {
            let file = *state.names.get(&path).ok_or(io::ErrorKind::NotFound)?;
            if part { Err(io::ErrorKind::Other.into()) } else { Ok((file, state.files[&file].bytes.clone())) }
        });
        let (file, bytes) = found.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::NotFound { path: location.to_string(), source: e.into() },
            _ => generic(&path, e),
        })?;
        let meta = self.meta(&self.state(), &path, file)?;
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            Some(range) => range.as_range(meta.size).map_err(|e| generic(&path, io::Error::other(e)))?,
            None => 0..meta.size,
        };
        let wanted = Bytes::from(bytes).slice(range.start as usize..range.end as usize);
        let payload = GetResultPayload::Stream(stream::once(async { Ok(wanted) }).boxed());
        Ok(GetResult { payload, meta, range, attributes: Default::default() })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let disk = self.clone();
        let deleted = locations.map(move |location| {
            let location = location?;
            match Disk::remove(&disk, &path_of(&location)) {
                Ok(()) => Ok(location),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    Err(Error::NotFound { path: location.to_string(), source: e.into() })
                }
                Err(e) => Err(generic(&path_of(&location), e)),
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.listed(prefix) {
            Ok(all) => stream::iter(all.into_iter().map(Ok)).boxed(),
            Err(e) => stream::iter([Err(e)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let (mut objects, mut folders) = (Vec::new(), BTreeSet::new());
        let depth = prefix.map_or(0, |prefix| prefix.parts().count());
        for meta in self.listed(prefix)? {
            let parts: Vec<_> = meta.location.parts().collect();
            if parts.len() == depth + 1 {
                objects.push(meta);
            } else {
                folders.insert(parts.into_iter().take(depth + 1).collect::<Path>());
            }
        }
        let common_prefixes = folders.into_iter().collect();
        Ok(ListResult { common_prefixes, objects })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (from, to) = (path_of(from), path_of(to));
        let replace = options.mode == CopyMode::Overwrite && self.state().names.contains_key(&to);
        let copy = || {
            if replace {
                Disk::remove(self, &to)?;
            }
            self.link(&from, &to)?;
            Disk::flush_folder(self, folder_of(&to))
        };
        copy().map_err(|e| generic(&to, e))
    }
}
