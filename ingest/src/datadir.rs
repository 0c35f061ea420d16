//! The data directory: where everything is, who may write, and the tenant's key.
//!
//! Invariants: one writer, told by a lock that the operating system lifts when the process ends, however it ends; a
//! second writer is told who holds it. Readers take no lock. The tenant's key and the key that signs the log are made once,
//! from the system's randomness, and are whole or absent: every pseudonym hangs on the one (I8), what was signed on the other.
//! What holds raw identities (`log`, `vault`, `keys`) is closed to other users.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use flowsync_schemas::{Micros, Pseudonymizer};
use serde::{Deserialize, Serialize};

use crate::{
    audit::SigningKey,
    lock,
    seal::{Keys, MasterKey, SealError, Source},
};

/// Attempts at the lock, 50 ms apart: a reader that asks who writes touches it for a moment.
const LOCK_ATTEMPTS: u32 = 6;

/// Who writes to a data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// What it was started as.
    pub command: String,
    /// Since when.
    pub since: Micros,
    /// Where it serves HTTP, once it does.
    pub listen: Option<String>,
}

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Somebody else writes.
    #[error("{} is in use by {}: stop that process, or use another directory with --dir", path.display(), describe(holder))]
    Held {
        /// The directory.
        path: PathBuf,
        /// Who, where it could be read.
        holder: Option<Holder>,
    },
    /// There is nothing to read.
    #[error(
        "there is no FlowSync data in {}: fill it with `flowsync demo` or `flowsync import`, or name another directory with --dir",
        path.display()
    )]
    NoData {
        /// The directory.
        path: PathBuf,
    },
    /// A restore was interrupted.
    #[error("a backup was being restored to {} and is not whole: run `flowsync restore` again", path.display())]
    Restoring {
        /// The directory.
        path: PathBuf,
    },
    /// A key is damaged.
    #[error("{} is {bytes} bytes long, not 32: restore it from a backup. {needed_for}", path.display())]
    Key {
        /// The key file.
        path: PathBuf,
        /// Its length.
        bytes: usize,
        /// Why another one would not do.
        needed_for: &'static str,
    },
    /// The key that signs the log is not there yet.
    #[error(
        "the log in {} was never signed: the next `flowsync run` or `flowsync import` makes the key and signs it",
        path.display()
    )]
    NeverSigned {
        /// The directory.
        path: PathBuf,
    },
    /// The keys that seal log and vault cannot be used.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The file system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl DataDirError {
    /// Whether another process holds the directory.
    pub fn is_held(&self) -> bool {
        matches!(self, DataDirError::Held { .. })
    }

    /// Whether there is no data yet.
    pub fn is_no_data(&self) -> bool {
        matches!(self, DataDirError::NoData { .. })
    }
}

fn describe(holder: &Option<Holder>) -> String {
    match holder {
        Some(Holder { pid, command, since, .. }) => format!("`{command}` (process {pid}, since {since})"),
        None => "another process".to_owned(),
    }
}

/// A data directory, open for reading or as its one writer.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// The writer's lock and what it says of itself.
    lock: Option<Mutex<(File, Holder)>>,
    /// Opened when they are first asked for: one ring for all of this process.
    keyring: Mutex<Option<Arc<Keys>>>,
}

impl DataDir {
    /// Opens the directory as its one writer, and creates what is missing. `who` is told to others: the command line.
    ///
    /// # Errors
    /// Where another process writes, or the file system refuses.
    pub fn open_writer(path: &Path, who: &str) -> Result<Self, DataDirError> {
        create_dir(path, 0o755)?;
        refuse_half_restored(path)?;
        let at = path.join("lock");
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&at).map_err(failed(&at))?;
        let mut attempt = 1;
        while let Err(error) = file.try_lock() {
            match error {
                TryLockError::Error(source) => return Err(DataDirError::Io { path: at, source }),
                TryLockError::WouldBlock if attempt == LOCK_ATTEMPTS => {
                    return Err(DataDirError::Held { path: path.to_owned(), holder: read_holder(&file) });
                }
                TryLockError::WouldBlock => std::thread::sleep(Duration::from_millis(50)),
            }
            attempt += 1;
        }
        let holder = Holder { pid: std::process::id(), command: who.to_owned(), since: crate::now(), listen: None };
        write_holder(&file, &holder).map_err(failed(&at))?;
        let dir = Self { path: path.to_owned(), lock: Some(Mutex::new((file, holder))), keyring: Mutex::default() };
        for private in [dir.log(), dir.vault(), dir.keys()] {
            create_dir(&private, 0o700)?;
        }
        for open in [dir.tables(), dir.manifests(), dir.git(), dir.feed(), dir.audit()] {
            create_dir(&open, 0o755)?;
        }
        dir.make_key(&dir.key_file())?;
        dir.make_key(&dir.log_key_file())?;
        Ok(dir)
    }

    /// Opens the directory for reading, beside a writer or without one.
    ///
    /// # Errors
    /// Where there is no data.
    pub fn open_reader(path: &Path) -> Result<Self, DataDirError> {
        let dir = Self { path: path.to_owned(), lock: None, keyring: Mutex::default() };
        refuse_half_restored(path)?;
        if dir.key_file().is_file() { Ok(dir) } else { Err(DataDirError::NoData { path: dir.path }) }
    }

    /// Tells others where this writer serves HTTP.
    ///
    /// # Errors
    /// Where the file system refuses. Does nothing for a reader.
    pub fn set_listen(&self, address: &str) -> Result<(), DataDirError> {
        let Some(held) = &self.lock else { return Ok(()) };
        let (file, holder) = &mut *lock(held);
        holder.listen = Some(address.to_owned());
        write_holder(file, holder).map_err(failed(&self.path.join("lock")))
    }

    /// The process that writes at this moment, if one does.
    ///
    /// # Errors
    /// Where the file system refuses.
    pub fn holder(&self) -> Result<Option<Holder>, DataDirError> {
        if let Some(held) = &self.lock {
            return Ok(Some(lock(held).1.clone()));
        }
        let at = self.path.join("lock");
        let file = match File::open(&at) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(DataDirError::Io { path: at, source }),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(read_holder(&file)),
            Err(TryLockError::Error(source)) => Err(DataDirError::Io { path: at, source }),
        }
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Folder of the embedded log.
    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Folder of the tables, one folder each.
    pub fn tables(&self) -> PathBuf {
        self.path.join("tables")
    }

    /// Folder of the manifests.
    pub fn manifests(&self) -> PathBuf {
        self.path.join("manifests")
    }

    /// Folder of the identity vault.
    pub fn vault(&self) -> PathBuf {
        self.path.join("vault")
    }

    /// Folder of the importer's state, by repository.
    pub fn git(&self) -> PathBuf {
        self.path.join("git")
    }

    /// Folder of the epoch marks and of what live feeds need to resume.
    pub fn feed(&self) -> PathBuf {
        self.path.join("feed")
    }

    /// Folder of erasures: the one that has begun, and the receipts of those that are done.
    pub fn privacy(&self) -> PathBuf {
        self.path.join("privacy")
    }

    /// File of the facts that were restored from a backup, until they are in the tables.
    pub fn facts(&self) -> PathBuf {
        self.path.join(FACTS)
    }

    /// Folder of the signed checkpoints of the log.
    pub fn audit(&self) -> PathBuf {
        self.path.join("audit")
    }

    fn keys(&self) -> PathBuf {
        self.path.join("keys")
    }

    fn key_file(&self) -> PathBuf {
        self.keys().join("tenant.key")
    }

    fn log_key_file(&self) -> PathBuf {
        self.keys().join("log.key")
    }

    /// Makes pseudonyms under the tenant's key.
    ///
    /// # Errors
    /// Where the key cannot be read or is damaged.
    pub fn pseudonymizer(&self) -> Result<Pseudonymizer, DataDirError> {
        let needed_for = "Another key would make every person somebody else";
        Ok(Pseudonymizer::new(&read_key(self.key_file(), needed_for)?))
    }

    /// The keys that seal log and vault: the same for everyone in this process. A writer makes them where there are none; a
    /// reader sees them as they are now. The master key is read from the environment first.
    ///
    /// # Errors
    /// Where they cannot be read, or the master key is another.
    pub fn keyring(&self) -> Result<Arc<Keys>, DataDirError> {
        let mut keyring = lock(&self.keyring);
        if let Some(keys) = &*keyring {
            return Ok(keys.clone());
        }
        let source = Source::of(|name| std::env::var_os(name))?;
        let keys = Arc::new(Keys::open(&self.keys(), source, self.lock.is_some())?);
        Ok(keyring.insert(keys).clone())
    }

    /// Makes a new master key and seals the keys with it: the old one opens nothing any more. Killed at any moment, the next
    /// writer finishes or forgets it.
    ///
    /// # Errors
    /// Where the master key comes from the environment (see [`DataDir::reseal`]), this process does not write, or the file
    /// system refuses.
    pub fn rotate_master(&self) -> Result<(), DataDirError> {
        Ok(self.keyring()?.rotate_master()?)
    }

    /// Seals the keys with another master key, where it comes from the environment: give both. Again, it does nothing.
    ///
    /// # Errors
    /// Where neither opens the keys, this process does not write, or the file system refuses.
    pub fn reseal(&self, old: &MasterKey, new: &MasterKey) -> Result<(), DataDirError> {
        if self.lock.is_none() {
            return Err(SealError::ReadOnly { path: self.keys() }.into());
        }
        // Who still holds the ring under the old one cannot change it any more.
        *lock(&self.keyring) = None;
        Ok(Keys::reseal(&self.keys(), old, new)?)
    }

    /// The key that signs the log's one partition.
    ///
    /// # Errors
    /// Where the key cannot be read or is damaged, or no writer has made it yet.
    pub fn signing_key(&self) -> Result<SigningKey, DataDirError> {
        let path = self.log_key_file();
        if !path.exists() {
            return Err(DataDirError::NeverSigned { path: self.path.clone() });
        }
        let needed_for = "What it signed is not verified by another key";
        Ok(SigningKey::of_log(&read_key(path, needed_for)?, 0))
    }

    /// The key that signs the log in a directory that is being restored.
    pub(crate) fn signing_key_in(path: &Path) -> Result<SigningKey, DataDirError> {
        Self { path: path.to_owned(), lock: None, keyring: Mutex::default() }.signing_key()
    }

    /// Makes a key where there is none: whole and on the disk before it has its name.
    fn make_key(&self, path: &Path) -> Result<(), DataDirError> {
        if path.exists() {
            return Ok(());
        }
        let new = path.with_extension("new");
        let make = || {
            let mut key = [0; 32];
            getrandom::fill(&mut key).map_err(|e| io::Error::other(e.to_string()))?;
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&key)?;
            file.sync_all()?;
            fs::rename(&new, path)?;
            for dir in [self.keys(), self.path.clone()] {
                File::open(dir)?.sync_all()?;
            }
            Ok(())
        };
        make().map_err(failed(path))
    }
}

/// See [`DataDir::facts`].
pub(crate) const FACTS: &str = "facts";

/// What lies in a directory while a backup is restored to it.
pub(crate) const RESTORING: &str = "restoring";

fn refuse_half_restored(path: &Path) -> Result<(), DataDirError> {
    if path.join(RESTORING).exists() {
        return Err(DataDirError::Restoring { path: path.to_owned() });
    }
    Ok(())
}

fn failed(path: &Path) -> impl Fn(io::Error) -> DataDirError + use<> {
    let path = path.to_owned();
    move |source| DataDirError::Io { path: path.clone(), source }
}

fn read_key(path: PathBuf, needed_for: &'static str) -> Result<[u8; 32], DataDirError> {
    let bytes = fs::read(&path).map_err(failed(&path))?;
    bytes.try_into().map_err(|bytes: Vec<u8>| DataDirError::Key { path, bytes: bytes.len(), needed_for })
}

fn create_dir(path: &Path, mode: u32) -> Result<(), DataDirError> {
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(failed(path))
}

fn write_holder(mut file: &File, holder: &Holder) -> io::Result<()> {
    let text = serde_json::to_vec(holder)?;
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&text)
}

fn read_holder(mut file: &File) -> Option<Holder> {
    let mut text = String::new();
    // Written in two steps: a reader in between looks again.
    for _ in 0..3 {
        text.clear();
        file.rewind().ok()?;
        file.take(64 << 10).read_to_string(&mut text).ok()?;
        if let Ok(holder) = serde_json::from_str(&text) {
            return Some(holder);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt;

    use flowsync_schemas::id::Account;

    use super::*;

    #[test]
    fn a_second_writer_is_told_who_holds_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("new/data");
        let writer = DataDir::open_writer(&path, "flowsync run").unwrap();
        let error = DataDir::open_writer(&path, "flowsync import").unwrap_err();
        assert!(error.is_held(), "{error}");
        let text = error.to_string();
        for part in ["`flowsync run`", &format!("process {}", std::process::id()), "since 20", "--dir"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        drop(writer);
        let writer = DataDir::open_writer(&path, "flowsync import").unwrap();
        assert_eq!(writer.holder().unwrap().unwrap().command, "flowsync import");
    }

    #[test]
    fn readers_take_no_lock_and_see_where_the_writer_listens() {
        let root = tempfile::tempdir().unwrap();
        let error = DataDir::open_reader(root.path()).unwrap_err();
        assert!(error.is_no_data() && error.to_string().contains("flowsync demo"), "{error}");
        let writer = DataDir::open_writer(root.path(), "flowsync run --listen [::1]:0").unwrap();
        let reader = DataDir::open_reader(root.path()).unwrap();
        writer.set_listen("127.0.0.1:4711").unwrap();
        assert_eq!(reader.holder().unwrap().unwrap().listen.as_deref(), Some("127.0.0.1:4711"));
        writer.set_listen("[::1]:1").unwrap();
        assert_eq!(reader.holder().unwrap(), writer.holder().unwrap());
        drop(writer);
        assert_eq!(reader.holder().unwrap(), None, "what a dead writer left behind says nothing");
    }

    #[test]
    fn the_key_is_made_once_and_private() {
        let root = tempfile::tempdir().unwrap();
        let mail = Account::Email("ada@example.org");
        let first = DataDir::open_writer(root.path(), "a").unwrap().pseudonymizer().unwrap().person(&mail);
        let dir = DataDir::open_writer(root.path(), "b").unwrap();
        assert_eq!(dir.pseudonymizer().unwrap().person(&mail), first);
        assert_eq!(DataDir::open_reader(root.path()).unwrap().pseudonymizer().unwrap().person(&mail), first);
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir.key_file()), 0o600);
        assert_eq!([dir.keys(), dir.vault(), dir.log()].map(|p| mode(&p)), [0o700; 3]);
        fs::write(dir.key_file(), b"short").unwrap();
        assert!(dir.pseudonymizer().unwrap_err().to_string().contains("backup"));
        let other = tempfile::tempdir().unwrap();
        let other = DataDir::open_writer(other.path(), "c").unwrap();
        assert_ne!(other.pseudonymizer().unwrap().person(&mail), first);
    }

    #[test]
    fn the_keyring_is_made_by_a_writer_shared_and_its_master_key_changed() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open_writer(root.path(), "a").unwrap();
        let keys = dir.keyring().unwrap();
        assert!(Arc::ptr_eq(&keys, &dir.keyring().unwrap()));
        let master = || fs::read(dir.keys().join("master.key")).unwrap();
        let (old, generation) = (master(), keys.generation());
        dir.rotate_master().unwrap();
        assert_ne!(master(), old);
        let reader = DataDir::open_reader(root.path()).unwrap();
        assert_eq!(reader.keyring().unwrap().generation(), generation + 1);
        assert!(reader.rotate_master().is_err());
        let [old, new] = [old, master()].map(|key| MasterKey::new(key.try_into().unwrap()));
        assert!(reader.reseal(&old, &new).is_err());
        dir.reseal(&old, &new).unwrap();
        assert!(dir.reseal(&new, &old).is_ok() && dir.keyring().is_err(), "the file beside it has the new one");
    }

    #[test]
    fn the_key_that_signs_is_made_by_the_first_writer_that_knows_of_it() {
        let root = tempfile::tempdir().unwrap();
        let public = |dir: &DataDir| dir.signing_key().map(|key| key.public().to_string());
        let dir = DataDir::open_writer(root.path(), "a").unwrap();
        let first = public(&dir).unwrap();
        assert_eq!(dir.log_key_file().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        drop(dir);
        assert_eq!(public(&DataDir::open_writer(root.path(), "b").unwrap()).unwrap(), first);
        // As an older version left it.
        let reader = DataDir::open_reader(root.path()).unwrap();
        fs::remove_file(reader.log_key_file()).unwrap();
        assert!(public(&reader).unwrap_err().to_string().contains("flowsync run"));
        assert_ne!(public(&DataDir::open_writer(root.path(), "c").unwrap()).unwrap(), first);
    }
}
