//! The keys of a data directory: the ring in its file, shared by who seals and who reads.
//!
//! Invariants: one writer, who holds the data directory's lock; the file is replaced as a whole, on the disk before the
//! change counts; other processes read it beside the writer. While the master key changes, the ring opens with the key in
//! `master.key` or with the one in `master.new`, whenever the process dies.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    ops::Range,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, RwLock, RwLockReadGuard},
    thread,
    time::Duration,
};

use super::{
    MasterKey, Purpose, SealError, Secret, Source, failed, no_randomness,
    ring::{self, Ring, SEEDS_MAX, Unread},
    tree::Path as TreePath,
};
use crate::lock;

/// Attempts of a reader, 10 ms apart: the writer may be replacing what it reads.
const READ_ATTEMPTS: u32 = 5;

/// See the module.
#[derive(Debug)]
pub struct Keys {
    folder: PathBuf,
    source: Source,
    writer: bool,
    /// Held while the file changes.
    changing: Mutex<()>,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    master: Option<MasterKey>,
    /// None where no writer has made one yet.
    ring: Option<Ring>,
}

/// Which file the master key was in that opened the ring.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Given,
    Own,
    /// A rotation did not come to its end.
    New,
}

impl Keys {
    /// The keys in a folder, made where there are none and `writer` says that the caller holds the data directory.
    pub(crate) fn open(folder: &Path, source: Source, writer: bool) -> Result<Self, SealError> {
        let found = load(folder, &source)?;
        let keys = |master, ring| Self {
            folder: folder.to_owned(),
            source,
            writer,
            changing: Mutex::default(),
            state: RwLock::new(State { master, ring }),
        };
        match found {
            Some((master, ring, found)) => {
                if writer {
                    finish_rotation(folder, found)?;
                }
                Ok(keys(Some(master), Some(ring)))
            }
            None if writer => {
                let keys = keys(None, None);
                keys.make()?;
                Ok(keys)
            }
            None => Ok(keys(None, None)),
        }
    }

    /// Keys that are in no file.
    #[cfg(test)]
    pub(crate) fn fixed() -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self {
            folder: PathBuf::from("nowhere"),
            source: Source::Own,
            writer: false,
            changing: Mutex::default(),
            state: RwLock::new(State { master: None, ring: Some(Ring::fixed()) }),
        })
    }

    /// The master key where there is none, then the ring.
    fn make(&self) -> Result<(), SealError> {
        let master = match &self.source {
            Source::Given { key, .. } => key.clone(),
            Source::Own if own(&self.folder).exists() => MasterKey::read(&own(&self.folder))?,
            Source::Own => {
                let master = MasterKey::random().map_err(no_randomness)?;
                write_new(&new(&self.folder), master.secret().bytes())?;
                replace(&new(&self.folder), &own(&self.folder))?;
                master
            }
        };
        let ring = Ring::random().map_err(no_randomness)?;
        self.write(&ring, &master)?;
        *self.state_mut() = State { master: Some(master), ring: Some(ring) };
        Ok(())
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often the ring has changed; 0 where there is none.
    pub fn generation(&self) -> u64 {
        self.state().ring.as_ref().map_or(0, |ring| ring.generation)
    }

    /// Reads the file again, where another process may have changed it.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn refresh(&self) -> Result<(), SealError> {
        if let Some((master, ring, _)) = load(&self.folder, &self.source)? {
            let mut state = self.state_mut();
            // Between reading the file and now, this process may have changed it.
            if state.ring.as_ref().is_none_or(|known| known.generation < ring.generation) {
                *state = State { master: Some(master), ring: Some(ring) };
            }
        }
        Ok(())
    }

    /// Derives keys of one purpose, best in order.
    pub fn walk(&self, purpose: Purpose) -> Walk<'_> {
        Walk { keys: self, purpose, generation: 0, path: TreePath::default() }
    }

    /// Whether the ring says that a key is destroyed.
    pub fn is_destroyed(&self, purpose: Purpose, index: u64) -> bool {
        self.state().ring.as_ref().is_some_and(|ring| ring.tree(purpose).is_punctured(index))
    }

    /// The destroyed keys of a purpose, in order.
    pub fn destroyed(&self, purpose: Purpose) -> Vec<Range<u64>> {
        self.state().ring.as_ref().map(|ring| ring.tree(purpose).punctured()).unwrap_or_default()
    }

    /// The first number from which on no key is destroyed.
    pub fn destroyed_end(&self, purpose: Purpose) -> u64 {
        self.destroyed(purpose).last().map_or(0, |range| range.end)
    }

    /// Destroys keys for ever, all or none; done on the disk when it returns. Destroying again changes nothing.
    ///
    /// # Errors
    /// Where this process does not write, the ring would become too large, or the file system refuses.
    pub fn destroy(&self, what: &[(Purpose, Vec<Range<u64>>)]) -> Result<(), SealError> {
        let (_one, mut ring, master) = self.changing()?;
        for (purpose, ranges) in what {
            ring.puncture(*purpose, ranges);
        }
        if self.state().ring.as_ref() == Some(&ring) {
            return Ok(());
        }
        if ring.seeds() > SEEDS_MAX {
            return Err(SealError::Full { seeds: ring.seeds(), seeds_max: SEEDS_MAX });
        }
        ring.generation += 1;
        self.write(&ring, &master)?;
        self.state_mut().ring = Some(ring);
        Ok(())
    }

    /// The right to change the file, and what is in it.
    fn changing(&self) -> Result<(std::sync::MutexGuard<'_, ()>, Ring, MasterKey), SealError> {
        let path = || ring_file(&self.folder);
        if !self.writer {
            return Err(SealError::ReadOnly { path: path() });
        }
        let one = lock(&self.changing);
        self.refresh()?;
        let state = self.state();
        match (&state.ring, &state.master) {
            (Some(ring), Some(master)) => Ok((one, ring.clone(), master.clone())),
            _ => Err(SealError::Missing { path: path() }),
        }
    }

    /// Makes a new master key and seals the ring with it: the old one opens nothing any more.
    ///
    /// # Errors
    /// Where the master key is not in the data directory, this process does not write, or the file system refuses. Then one
    /// of both keys opens the ring, and the next writer finishes or forgets the rotation.
    pub fn rotate_master(&self) -> Result<(), SealError> {
        if let Source::Given { from, .. } = &self.source {
            let detail = "it is not kept in the data directory: give the old and the new one".to_owned();
            return Err(SealError::Master { from: from.clone(), detail });
        }
        let (_one, mut ring, _) = self.changing()?;
        let master = self.rotation_begins()?;
        ring.generation += 1;
        self.write(&ring, &master)?;
        *self.state_mut() = State { master: Some(master), ring: Some(ring) };
        finish_rotation(&self.folder, Found::New)
    }

    fn rotation_begins(&self) -> Result<MasterKey, SealError> {
        let master = MasterKey::random().map_err(no_randomness)?;
        write_new(&new(&self.folder), master.secret().bytes())?;
        Ok(master)
    }

    /// Seals the ring in a folder with another master key, where neither of them is kept there. Done already, it does nothing.
    pub(crate) fn reseal(folder: &Path, old: &MasterKey, new: &MasterKey) -> Result<(), SealError> {
        let given = |key: &MasterKey, from: &str| Source::Given { key: key.clone(), from: from.to_owned() };
        if load(folder, &given(new, "the new one")).is_ok_and(|found| found.is_some()) {
            return Ok(());
        }
        let keys = Self::open(folder, given(old, "the old one"), false)?;
        let Some(mut ring) = keys.state_mut().ring.take() else {
            return Err(SealError::Missing { path: ring_file(folder) });
        };
        ring.generation += 1;
        keys.write(&ring, new)
    }

    fn write(&self, ring: &Ring, master: &MasterKey) -> Result<(), SealError> {
        let path = ring_file(&self.folder);
        let bytes = ring.seal(master).map_err(no_randomness)?;
        write_new(&path.with_extension("new"), &bytes)?;
        replace(&path.with_extension("new"), &path)
    }
}

/// Derives keys of one purpose. Keys in order cost about two hashes each, others 64.
#[derive(Debug)]
pub struct Walk<'a> {
    keys: &'a Keys,
    purpose: Purpose,
    /// Of the ring that `path` is of.
    generation: u64,
    path: TreePath,
}

impl Walk<'_> {
    /// A key.
    ///
    /// # Errors
    /// Where it is destroyed, or there are no keys yet.
    pub fn key(&mut self, index: u64) -> Result<Secret, SealError> {
        let state = self.keys.state();
        let missing = || SealError::Missing { path: ring_file(&self.keys.folder) };
        let ring = state.ring.as_ref().ok_or_else(missing)?;
        if self.generation != ring.generation {
            (self.path, self.generation) = (TreePath::default(), ring.generation);
        }
        let destroyed = || SealError::Destroyed { purpose: self.purpose, index };
        self.path.key(ring.tree(self.purpose), index).ok_or_else(destroyed)
    }
}

fn ring_file(folder: &Path) -> PathBuf {
    folder.join("ring")
}

fn own(folder: &Path) -> PathBuf {
    folder.join("master.key")
}

fn new(folder: &Path) -> PathBuf {
    folder.join("master.new")
}

/// The ring in a folder, what opened it and where that was; none where there is no ring.
fn load(folder: &Path, source: &Source) -> Result<Option<(MasterKey, Ring, Found)>, SealError> {
    let mut attempt = 1;
    loop {
        match load_once(folder, source) {
            Err(error) if attempt < READ_ATTEMPTS && (error.is_other_master() || error.is_damaged()) => {
                attempt += 1;
                thread::sleep(Duration::from_millis(10));
            }
            other => return other,
        }
    }
}

fn load_once(folder: &Path, source: &Source) -> Result<Option<(MasterKey, Ring, Found)>, SealError> {
    let path = ring_file(folder);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(&path)(e)),
    };
    let (masters, tried) = match source {
        Source::Given { key, from } => (vec![(key.clone(), Found::Given)], from.clone()),
        Source::Own => {
            let files = [(own(folder), Found::Own), (new(folder), Found::New)];
            let there = files.into_iter().filter(|(file, _)| file.exists());
            let masters = there.map(|(file, found)| Ok((MasterKey::read(&file)?, found)));
            (masters.collect::<Result<Vec<_>, SealError>>()?, own(folder).display().to_string())
        }
    };
    if masters.is_empty() {
        let detail =
            "it is missing, and the ring beside it needs it: restore it, or set FLOWSYNC_MASTER_KEY".to_owned();
        return Err(SealError::Master { from: tried, detail });
    }
    for (master, found) in masters {
        match Ring::open(&bytes, &master) {
            Ok(ring) => return Ok(Some((master, ring, found))),
            Err(Unread::OtherMaster) => {}
            Err(Unread::Newer(found)) => return Err(SealError::Newer { path, found, known: ring::FORMAT }),
            Err(Unread::Damaged(detail)) => return Err(SealError::Damaged { path, detail: detail.to_owned() }),
        }
    }
    Err(SealError::OtherMaster { path, master: tried })
}

/// Leaves one master key: the one that opens the ring.
fn finish_rotation(folder: &Path, found: Found) -> Result<(), SealError> {
    let (new, own) = (new(folder), own(folder));
    match found {
        Found::New => replace(&new, &own),
        Found::Own if new.exists() => fs::remove_file(&new).map_err(failed(&new)),
        _ => Ok(()),
    }
}

/// Writes a file that nobody else reads, to the disk.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), SealError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(failed(path))
}

/// Puts a written file into the place of another, which is overwritten where the file system writes in place.
fn replace(new: &Path, path: &Path) -> Result<(), SealError> {
    let old = OpenOptions::new().write(true).open(path).ok();
    fs::rename(new, path).map_err(failed(path))?;
    let folder = path.parent().unwrap_or(path);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed(folder))?;
    if let Some(mut old) = old {
        let zeros = old.metadata().map_or(0, |meta| meta.len());
        let overwritten = io::copy(&mut io::Read::take(io::repeat(0), zeros), &mut old).and_then(|_| old.sync_data());
        if let Err(error) = overwritten {
            tracing::warn!(%error, path = %path.display(), "what was replaced could not be overwritten");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
