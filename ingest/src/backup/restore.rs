//! Builds a data directory from a backup and its keys.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use flowsync_schemas::SignalId;

use super::{
    BackupError, CHECKPOINTS, FACTS, IDS, NAMES, RECORDS, Summary, WITHDRAWALS, failed, is_file,
    stream::{Frame, Framed},
};
use crate::{
    audit::{AuditError, Checkpoint, newest},
    datadir::{self, DataDir, RESTORING},
    facts,
    log::{
        EmbeddedLog,
        copied::{Building, Copied, Record},
        tree::{HASH_BYTES, TreeHash},
    },
    seal::{Keys, Purpose, Source},
    vault::copied::{Kind, LINE_BYTES_MAX, kind},
};

/// What a data directory has; a restore makes some of it.
const DATA: [&str; 12] = [
    "log",
    "vault",
    "keys",
    "audit",
    "git",
    "privacy",
    "tables",
    "manifests",
    "feed",
    "settings.json",
    "model.toml",
    datadir::FACTS,
];

/// The files of the keys, and whether a directory cannot be without.
const KEYS: [(&str, bool); 5] =
    [("tenant.key", true), ("log.key", true), ("ring", true), ("master.key", false), ("master.new", false)];

/// Restores a backup to a directory without data, with the keys in a folder: those of today, so that what was erased since stays
/// erased. Killed at any moment, the directory is opened by nobody, and restoring again begins anew.
///
/// # Errors
/// Where the directory has data, keys are missing or others, or the backup is damaged, incomplete or not what was signed. The
/// directory is then marked, as if it had been killed.
pub fn restore(input: &mut impl Read, to: &Path, keys_from: &Path) -> Result<Summary, BackupError> {
    let frames = Framed::begin(input)?;
    for (name, needed) in KEYS {
        if needed && !keys_from.join(name).is_file() {
            return Err(BackupError::NoKey { path: keys_from.to_owned(), name });
        }
    }
    let (marker, _one) = begin(to)?;
    copy_keys(keys_from, &to.join("keys"))?;
    let source = Source::of(|name| std::env::var_os(name))?;
    let keys = Arc::new(Keys::open(&to.join("keys"), source, true)?);
    let summary = Restore { to, keys: keys.clone(), frames, newest: None, summary: Summary::default() }.run()?;
    // As the next start opens it: what was under way is finished, and what does not fit is found.
    drop(EmbeddedLog::open(&to.join("log"), keys)?);
    for folder in ["log", "vault", "keys", "audit", "git", "privacy", "."] {
        sync(&to.join(folder))?;
    }
    fs::remove_file(&marker).map_err(failed(&marker))?;
    sync(to)?;
    to.parent().map_or(Ok(()), sync)?;
    Ok(summary)
}

/// Reads a backup to its end, and says what it holds. Without the keys: whether they open it, only a restore tells.
///
/// # Errors
/// Where it is damaged or incomplete.
pub fn check(input: &mut impl Read) -> Result<Summary, BackupError> {
    let mut frames = Framed::begin(input)?;
    loop {
        if let Frame::End(totals) = frames.next()? {
            let totals = serde_json::from_slice(&totals).map_err(|e| frames.damaged(format!("its totals: {e}")))?;
            return Ok(Summary { bytes: frames.bytes, ..totals });
        }
    }
}

/// Marks the directory, and removes what an interrupted restore left there.
fn begin(to: &Path) -> Result<(PathBuf, File), BackupError> {
    let marker = to.join(RESTORING);
    let holds: Vec<_> = DATA.into_iter().filter(|name| to.join(name).exists()).collect();
    let interrupted = marker.exists();
    if let (Some(name), false) = (holds.first(), interrupted) {
        return Err(BackupError::NotEmpty { path: to.to_owned(), holds: format!("`{name}`") });
    }
    folder(to, 0o755)?;
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&marker).map_err(failed(&marker))?;
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => BackupError::Running { path: to.to_owned() },
        TryLockError::Error(source) => failed(&marker)(source),
    })?;
    for path in holds.into_iter().filter(|_| interrupted).map(|name| to.join(name)) {
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(failed(&path))?;
    }
    file.sync_all().map_err(failed(&marker))?;
    sync(to)?;
    for private in ["log", "vault", "keys"] {
        folder(&to.join(private), 0o700)?;
    }
    Ok((marker, file))
}

fn folder(path: &Path, mode: u32) -> Result<(), BackupError> {
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(failed(path))
}

fn sync(path: &Path) -> Result<(), BackupError> {
    match File::open(path).and_then(|folder| folder.sync_all()) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed(path)(e)),
        _ => Ok(()),
    }
}

fn copy_keys(from: &Path, to: &Path) -> Result<(), BackupError> {
    for (name, _) in KEYS {
        let (old, new) = (from.join(name), to.join(name));
        let bytes = match fs::read(&old) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            bytes => bytes.map_err(failed(&old))?,
        };
        let mut file = create(&new)?;
        file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed(&new))?;
    }
    Ok(())
}

fn create(path: &Path) -> Result<File, BackupError> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed(path))
}

/// What the section that is being read becomes.
enum Target {
    Nothing,
    File(PathBuf, File),
    Withdrawals(Vec<u8>),
    Records,
    Ids,
    Facts(facts::Writer),
    /// The file, and the beginning of a line whose end is in the next frame.
    Names(PathBuf, File, Vec<u8>),
}

struct Restore<'a, R> {
    to: &'a Path,
    keys: Arc<Keys>,
    frames: Framed<R>,
    /// The newest checkpoint of the backup.
    newest: Option<Checkpoint>,
    summary: Summary,
}

impl<R: Read> Restore<'_, R> {
    fn run(mut self) -> Result<Summary, BackupError> {
        let (mut log, mut target) = (None, Target::Nothing);
        let mut seen: Vec<String> = Vec::new();
        let totals = loop {
            match self.frames.next()? {
                Frame::Section(name) => {
                    self.ended(target, &mut log)?;
                    if seen.contains(&name) || seen.len() > SECTIONS_MAX {
                        return Err(self.frames.damaged("it comes twice, or there are too many"));
                    }
                    target = self.begun(&name, &log)?;
                    seen.push(name);
                }
                Frame::Data(bytes) => self.data(&bytes, &mut target, &mut log)?,
                Frame::End(totals) => {
                    self.ended(target, &mut log)?;
                    break totals;
                }
            }
        };
        let totals: Summary =
            serde_json::from_slice(&totals).map_err(|e| self.frames.damaged(format!("its totals: {e}")))?;
        let Some(log) = log else { return Err(self.frames.damaged("there is no log in it")) };
        let of = |s: &Summary| (s.signals, s.names + s.names_erased, s.facts + s.facts_erased, s.files);
        if of(&totals) != of(&self.summary) || log.ids() != self.summary.signals {
            return Err(self.frames.damaged("there is more or less in it than it says"));
        }
        let (erased, filled, root) = log.finish()?;
        self.summary.bytes = self.frames.bytes;
        self.summary.erased_since = erased;
        self.summary.filled = filled;
        self.summary.root = Some(root.to_string());
        Ok(self.summary)
    }

    fn begun(&mut self, name: &str, log: &Option<Building>) -> Result<Target, BackupError> {
        match (name, log) {
            (WITHDRAWALS, None) => Ok(Target::Withdrawals(Vec::new())),
            (RECORDS, Some(_)) => Ok(Target::Records),
            (IDS, Some(_)) => Ok(Target::Ids),
            (FACTS, Some(_)) => Ok(Target::Facts(facts::Writer::create(&self.to.join(datadir::FACTS))?)),
            (NAMES, _) => {
                let path = self.to.join(NAMES);
                Ok(Target::Names(path.clone(), create(&path)?, Vec::new()))
            }
            (CHECKPOINTS, Some(_)) => Err(self.frames.damaged("it comes behind the log")),
            (name, _) if is_file(name) => {
                let path = self.to.join(name);
                if let Some(parent) = path.parent() {
                    folder(parent, if name.starts_with("privacy") { 0o700 } else { 0o755 })?;
                }
                self.summary.files += 1;
                Ok(Target::File(path.clone(), create(&path)?))
            }
            _ => Err(self.frames.damaged("no such section is known, or not here")),
        }
    }

    fn data(&mut self, bytes: &[u8], target: &mut Target, log: &mut Option<Building>) -> Result<(), BackupError> {
        match (target, log) {
            (Target::File(path, file), _) => file.write_all(bytes).map_err(failed(path)),
            // Some numbers for each record of one batch.
            (Target::Withdrawals(all), _) if all.len() + bytes.len() <= WITHDRAWALS_BYTES_MAX => {
                all.extend(bytes);
                Ok(())
            }
            (Target::Records, Some(log)) => self.records(bytes, log),
            (Target::Ids, Some(log)) => {
                let (ids, rest) = bytes.as_chunks::<24>();
                if !rest.is_empty() {
                    return Err(self.frames.damaged("an id is cut"));
                }
                for entry in ids {
                    let (id, offset) = entry.split_at(16);
                    let number = |bytes: &[u8]| bytes.iter().fold(0, |all: u128, byte| all << 8 | u128::from(*byte));
                    log.id(SignalId(number(id)), number(offset) as u64)?;
                }
                Ok(())
            }
            (Target::Facts(file), _) => self.facts(bytes, file),
            (Target::Names(path, file, begun), _) => {
                begun.extend(bytes);
                let whole = begun.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                if begun.len() - whole > LINE_BYTES_MAX {
                    return Err(self.frames.damaged("a line is longer than any name"));
                }
                let rest = begun.split_off(whole);
                let (kept, lines, erased) = kept(&std::mem::replace(begun, rest), &self.keys);
                self.summary.names += lines;
                self.summary.names_erased += erased;
                file.write_all(&kept).map_err(failed(path))
            }
            _ => Err(self.frames.damaged("it holds what it should not")),
        }
    }

    fn ended(&mut self, target: Target, log: &mut Option<Building>) -> Result<(), BackupError> {
        match target {
            Target::File(path, file) => file.sync_all().map_err(failed(&path)),
            Target::Names(path, file, begun) if begun.is_empty() => file.sync_all().map_err(failed(&path)),
            Target::Names(..) => Err(self.frames.damaged("its last line is cut")),
            Target::Withdrawals(bytes) => {
                let mut begun = Building::begin(&self.to.join("log"), self.keys.clone())?;
                begun.withdrawals(&bytes)?;
                self.newest = self.newest()?;
                *log = Some(begun);
                Ok(())
            }
            Target::Records => self.signed(log.as_ref()),
            Target::Facts(file) => Ok(file.end()?),
            Target::Ids | Target::Nothing => Ok(()),
        }
    }

    /// Records, until one is not whole; see [`super::write`].
    fn records(&mut self, mut bytes: &[u8], log: &mut Building) -> Result<(), BackupError> {
        while !bytes.is_empty() {
            let Some((kind, leaf, record, stands)) = entry(&mut bytes) else {
                return Err(self.frames.damaged("a record is cut"));
            };
            let record = match kind {
                0 => Record::Gone,
                1 => Record::Sealed(record.to_vec()),
                2 => Record::Plain(record.to_vec()),
                _ => return Err(self.frames.damaged("a record of an unknown kind")),
            };
            let replaced = (!stands.is_empty()).then(|| stands.to_vec());
            log.push(Copied { leaf: TreeHash(leaf), record, replaced })?;
            self.summary.signals += 1;
            if let Some(signed) = self.newest.as_ref().filter(|signed| signed.size == log.edge().size()) {
                if signed.root != log.edge().root() {
                    return Err(BackupError::Altered { size: signed.size });
                }
                self.summary.signed = Some(signed.size);
            }
        }
        Ok(())
    }

    /// Facts, until a piece is not whole. What is read from a record that is there is computed anew.
    fn facts(&mut self, mut bytes: &[u8], file: &mut facts::Writer) -> Result<(), BackupError> {
        let mut walk = self.keys.walk(Purpose::Backups);
        while !bytes.is_empty() {
            let Some((number, sealed)) = facts::entry(&mut bytes) else {
                return Err(self.frames.damaged("a piece of facts is cut"));
            };
            if self.keys.is_destroyed(Purpose::Backups, number) {
                self.summary.facts_erased += 1;
                continue;
            }
            self.summary.facts += 1;
            if self.keys.is_destroyed(Purpose::Records, facts::offset(number)) {
                facts::opened(number, sealed, &mut walk).map_err(|detail| self.frames.damaged(detail))?;
                file.add(number, sealed)?;
            }
        }
        Ok(())
    }

    /// The newest checkpoint that was restored, by the log's own key.
    fn newest(&self) -> Result<Option<Checkpoint>, BackupError> {
        let Some(note) = newest(&self.to.join("audit"))? else { return Ok(None) };
        let key = DataDir::signing_key_in(self.to)?;
        Ok(Some(Checkpoint::open(&note, key.public()).map_err(AuditError::from)?))
    }

    fn signed(&self, log: Option<&Building>) -> Result<(), BackupError> {
        let end = log.map_or(0, |log| log.edge().size());
        match &self.newest {
            Some(newest) if newest.size > end => Err(BackupError::Altered { size: newest.size }),
            _ => Ok(()),
        }
    }
}

/// Far more than there are repositories and receipts.
const SECTIONS_MAX: usize = 100_000;

const WITHDRAWALS_BYTES_MAX: usize = 1 << 20;

type Entry<'a> = (u8, [u8; HASH_BYTES], &'a [u8], &'a [u8]);

fn entry<'a>(bytes: &mut &'a [u8]) -> Option<Entry<'a>> {
    let kind = *bytes.split_off_first()?;
    let leaf = *bytes.split_off(..HASH_BYTES)?.first_chunk()?;
    let mut part = || {
        let length = u32::from_be_bytes(*bytes.split_off(..4)?.first_chunk()?);
        bytes.split_off(..length as usize)
    };
    Some((kind, leaf, part()?, part()?))
}

/// The lines whose keys are there; how many these are, and how many others.
fn kept(bytes: &[u8], keys: &Keys) -> (Vec<u8>, u64, u64) {
    let mut walk = keys.walk(Purpose::Names);
    let (mut out, mut lines, mut erased) = (Vec::with_capacity(bytes.len()), 0, 0);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if kind(line, &mut walk) == Kind::Erased {
            erased += 1;
        } else {
            out.extend(line);
            lines += 1;
        }
    }
    (out, lines, erased)
}
