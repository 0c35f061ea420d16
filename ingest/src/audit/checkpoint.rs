//! Checkpoints (c2sp.org/tlog-checkpoint): how long a log was, and the root of its tree, signed.
//!
//! `DIR/audit/checkpoints` keeps those of this log, one after the other with a blank line between: a plain file, because
//! other processes read it while the log's store is one process's own, and because it is easily copied elsewhere.
//!
//! Invariants: a checkpoint is only signed after its records are durable, and only where the log still begins with what
//! was signed last; what is in the file is never rewritten (a torn last one is cut off); the file grows only as the log
//! does.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use super::{
    AuditError, failed,
    note::{NOTE_BYTES_MAX, NoteError, PublicKey, SIGNATURE, SigningKey},
};
use crate::log::{Audited, tree::TreeHash};

const FILE: &str = "checkpoints";

/// What a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log: the name of the key that signs for it.
    pub origin: String,
    /// Number of records.
    pub size: u64,
    /// Root of the tree over them.
    pub root: TreeHash,
}

impl Checkpoint {
    /// Opens a signed checkpoint of the log that a key signs for.
    ///
    /// # Errors
    /// Where that key did not sign it as it is, or it is none.
    pub fn open(note: &str, key: &PublicKey) -> Result<Self, NoteError> {
        let text = key.open(note)?;
        let mut lines = text.lines();
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(NoteError::Malformed("origin, size and root are missing"));
        };
        if origin != key.name() {
            return Err(NoteError::Malformed("it is of another log than its key"));
        }
        let number = size.parse().ok().filter(|number: &u64| number.to_string() == size);
        match (number, TreeHash::parse(root)) {
            (Some(size), Some(root)) => Ok(Self { origin: origin.to_owned(), size, root }),
            _ => Err(NoteError::Malformed("its size or root cannot be read")),
        }
    }

    fn sign(size: u64, root: TreeHash, key: &SigningKey) -> String {
        key.sign(&format!("{}\n{size}\n{root}\n", key.public().name()))
    }
}

/// Reads notes that stand one after the other; a last one that is not whole is left out.
pub struct Notes<R> {
    from: R,
    /// The first line of the next note, which was read to see that the last one ended.
    ahead: Vec<u8>,
}

impl Notes<BufReader<File>> {
    /// The kept checkpoints of a data directory's `audit` folder, oldest first; none where there is no file yet.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn kept(dir: &Path) -> Result<Option<Self>, AuditError> {
        let path = dir.join(FILE);
        match File::open(&path) {
            Ok(file) => Ok(Some(Self::new(BufReader::new(file)))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed(&path)(e)),
        }
    }
}

impl<R: BufRead> Notes<R> {
    /// Notes from any text.
    pub fn new(from: R) -> Self {
        Self { from, ahead: Vec::new() }
    }

    fn line(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.from.by_ref().take(limit as u64).read_until(b'\n', &mut line)?;
        Ok(line)
    }

    fn note(&mut self) -> io::Result<Option<String>> {
        let mut note = std::mem::take(&mut self.ahead);
        let signature = |line: &[u8]| line.starts_with(SIGNATURE.as_bytes());
        let mut signed = false;
        loop {
            let line = self.line(NOTE_BYTES_MAX + 1)?;
            if note.is_empty() && line == b"\n" {
                continue;
            }
            if signed && !signature(&line) {
                if line != b"\n" {
                    self.ahead = line;
                }
                break;
            }
            if !line.ends_with(b"\n") || note.len() + line.len() > NOTE_BYTES_MAX {
                // The end, a torn note, or no note at all: what is longer than any note is shown as such.
                let broken = note.len() + line.len() > NOTE_BYTES_MAX;
                note.extend(line);
                return Ok((broken || signed).then(|| String::from_utf8_lossy(&note).into_owned()));
            }
            signed |= signature(&line);
            note.extend(line);
        }
        Ok(Some(String::from_utf8_lossy(&note).into_owned()))
    }
}

impl<R: BufRead> Iterator for Notes<R> {
    type Item = io::Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        self.note().transpose()
    }
}

/// The newest kept checkpoint, as it was signed.
///
/// # Errors
/// Where the file cannot be read.
pub fn newest(dir: &Path) -> Result<Option<String>, AuditError> {
    let path = dir.join(FILE);
    let read = || {
        let mut file = File::open(&path)?;
        // Two of the longest notes hold a whole one. What it begins with may be the end of another: `last` passes over it.
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(2 * NOTE_BYTES_MAX as u64)))?;
        Notes::new(BufReader::new(file)).last().transpose()
    };
    match read() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map_err(failed(&path)),
    }
}

/// The kept checkpoints, and the key that signs more. One writer: who holds the data directory.
pub struct Checkpoints {
    path: PathBuf,
    file: File,
    key: SigningKey,
    newest: Option<(Checkpoint, String)>,
    /// Why what stands last in the file is no checkpoint to go on from.
    refused: Option<NoteError>,
}

impl Checkpoints {
    /// Opens the file in a folder, or creates it.
    ///
    /// # Errors
    /// Where it cannot be read or written. That its newest checkpoint is not one of this key is told by signing: taking
    /// signals in does not depend on it.
    pub fn open(dir: &Path, key: SigningKey) -> Result<Self, AuditError> {
        let path = dir.join(FILE);
        let open = || {
            fs::create_dir_all(dir)?;
            let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
            cut_torn(&mut file)?;
            File::open(dir)?.sync_all()?;
            Ok(file)
        };
        let file = open().map_err(failed(&path))?;
        let (mut last, mut refused) = (None, None);
        if let Some(note) = newest(dir)? {
            match Checkpoint::open(&note, key.public()) {
                Ok(checkpoint) => last = Some((checkpoint, note)),
                Err(error) => refused = Some(error),
            }
        }
        Ok(Self { path, file, key, newest: last, refused })
    }

    /// The folder that they are in.
    pub fn dir(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// What verifies them.
    pub fn key(&self) -> &PublicKey {
        self.key.public()
    }

    /// The newest one, and what it says.
    pub fn newest(&self) -> Option<(&Checkpoint, &str)> {
        self.newest.as_ref().map(|(checkpoint, note)| (checkpoint, note.as_str()))
    }

    /// Signs a log as it is and keeps the checkpoint; nothing to do where it has not grown since the newest one.
    ///
    /// # Errors
    /// Where the log does not begin with what was signed last, or the file cannot be written.
    pub fn sign(&mut self, log: &dyn Audited) -> Result<Option<&Checkpoint>, AuditError> {
        if let Some(source) = self.refused.clone() {
            return Err(AuditError::Kept { path: self.path.clone(), source });
        }
        let size = log.leaves()?;
        if let Some((newest, _)) = &self.newest
            && (size < newest.size || log.edge(newest.size)?.root() != newest.root)
        {
            return Err(AuditError::Rewritten { size, signed: newest.size });
        }
        if size == self.newest.as_ref().map_or(0, |(newest, _)| newest.size) {
            return Ok(None);
        }
        let root = log.edge(size)?.root();
        let note = Checkpoint::sign(size, root, &self.key);
        let len = self.file.metadata().map_err(failed(&self.path))?.len();
        let written = self.file.write_all(format!("{note}\n").as_bytes()).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // Half a checkpoint must not become the start of the next one.
            self.file.set_len(len).map_err(failed(&self.path))?;
            return Err(failed(&self.path)(error));
        }
        let origin = self.key.public().name().to_owned();
        Ok(Some(&self.newest.insert((Checkpoint { origin, size, root }, note)).0))
    }
}

/// Cuts off a last checkpoint that a crash left without its signature.
fn cut_torn(file: &mut File) -> io::Result<()> {
    let len = file.metadata()?.len();
    let from = len.saturating_sub(2 * NOTE_BYTES_MAX as u64);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let mut whole = 0;
    let mut at = 0;
    for line in tail.split_inclusive(|byte| *byte == b'\n') {
        at += line.len();
        let ended = line.starts_with(SIGNATURE.as_bytes()) && line.ends_with(b"\n");
        // The blank line behind a checkpoint goes with it.
        if ended || (line == b"\n" && at == whole + 1) {
            whole = at;
        }
    }
    // More than a checkpoint is not what a crash leaves: it is left for an audit to find.
    if (1..=NOTE_BYTES_MAX).contains(&(tail.len() - whole)) {
        tracing::warn!(bytes = tail.len() - whole, "cutting off a checkpoint that was not written to its end");
        file.set_len(from + whole as u64)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{
        log::{EmbeddedLog, Log, conformance::signal},
        seal::Keys,
    };

    fn key() -> SigningKey {
        SigningKey::of_log(&[7; 32], 0)
    }

    #[test]
    fn a_checkpoint_is_read_as_it_was_signed_and_nothing_else_is_one() {
        let key = key();
        let root = TreeHash([9; 32]);
        let note = Checkpoint::sign(12, root, &key);
        let read = Checkpoint::open(&note, key.public()).unwrap();
        assert_eq!(read, Checkpoint { origin: key.public().name().to_owned(), size: 12, root });
        let name = key.public().name();
        for text in [
            format!("{name}\n12\n"),
            format!("{name}\n012\n{root}\n"),
            format!("{name}\n+12\n{root}\n"),
            format!("{name}\n12\nAAAA\n"),
            format!("{name}/1\n12\n{root}\n"),
        ] {
            let error = Checkpoint::open(&key.sign(&text), key.public()).unwrap_err();
            assert!(matches!(error, NoteError::Malformed(_)), "{text}");
        }
    }

    #[test]
    fn a_torn_checkpoint_is_passed_over_by_readers_and_cut_off_by_the_writer() {
        let dir = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(&dir.path().join("log"), Keys::fixed()).unwrap();
        let audit = dir.path().join("audit");
        let mut kept = Checkpoints::open(&audit, key()).unwrap();
        for number in 0..3 {
            log.append(&[signal(number, 10)]).unwrap();
            kept.sign(&*log.audited(0).unwrap()).unwrap().unwrap();
            assert!(kept.sign(&*log.audited(0).unwrap()).unwrap().is_none(), "once");
        }
        let file = audit.join(FILE);
        let whole = fs::read(&file).unwrap();
        let signature_ends = |end: &usize| {
            let line = whole[..*end].strip_suffix(b"\n").and_then(|text| text.rsplit(|byte| *byte == b'\n').next());
            line.is_some_and(|line| line.starts_with(SIGNATURE.as_bytes()))
        };
        let ends: Vec<_> = (0..whole.len()).filter(signature_ends).collect();
        assert_eq!(ends.len(), 3);
        // Everywhere in the last one, and at the beginning.
        for cut in (0..8).chain(ends[1] - 2..whole.len()) {
            fs::write(&file, &whole[..cut]).unwrap();
            let notes: Vec<String> = Notes::kept(&audit).unwrap().unwrap().map(Result::unwrap).collect();
            let complete = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(notes.len(), complete, "cut at {cut}");
            assert_eq!(newest(&audit).unwrap(), notes.last().cloned());
            let mut kept = Checkpoints::open(&audit, key()).unwrap();
            assert_eq!(kept.newest().map(|(c, _)| c.size), (complete > 0).then_some(complete as u64));
            let signed = kept.sign(&*log.audited(0).unwrap()).unwrap().is_some();
            assert_eq!(signed, complete < 3);
            let sizes = Notes::kept(&audit).unwrap().unwrap();
            let sizes: Vec<_> =
                sizes.map(|n| Checkpoint::open(&n.unwrap(), key().public()).unwrap().size as usize).collect();
            assert_eq!(sizes, (1..=complete.min(2)).chain([3]).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_newest_is_found_at_the_end_of_a_long_file() {
        let dir = tempfile::tempdir().unwrap();
        let (key, root) = (key(), TreeHash([1; 32]));
        let note = |size| Checkpoint::sign(size, root, &key);
        let many: String = (1..=1500).map(|size| note(size) + "\n").collect();
        assert!(many.len() > 2 * NOTE_BYTES_MAX);
        // A reader that starts anywhere in the middle of a checkpoint.
        for padding in 0..note(1).len() {
            fs::write(dir.path().join(FILE), "x".repeat(padding) + &many).unwrap();
            assert_eq!(newest(dir.path()).unwrap(), Some(note(1500)));
        }
        let kept = Checkpoints::open(dir.path(), SigningKey::of_log(&[7; 32], 0)).unwrap();
        assert_eq!(kept.newest().unwrap().0.size, 1500);
    }

    #[test]
    fn nothing_is_signed_that_contradicts_what_was_signed() {
        let dir = tempfile::tempdir().unwrap();
        let audit = dir.path().join("audit");
        let open = |name: &str, from: u64| {
            let log = EmbeddedLog::open(&dir.path().join(name), Keys::fixed()).unwrap();
            log.append(&(from..from + 5).map(|n| signal(n, 10)).collect::<Vec<_>>()).unwrap();
            log
        };
        let (log, other) = (open("log", 0), open("other", 1));
        Checkpoints::open(&audit, key()).unwrap().sign(&*log.audited(0).unwrap()).unwrap();
        other.append(&[signal(9, 10)]).unwrap();
        let mut kept = Checkpoints::open(&audit, key()).unwrap();
        let error = kept.sign(&*other.audited(0).unwrap()).unwrap_err();
        assert!(matches!(error, AuditError::Rewritten { size: 6, signed: 5 }), "{error}");
        let shorter = EmbeddedLog::open(&dir.path().join("shorter"), Keys::fixed()).unwrap();
        shorter.append(&[signal(0, 10)]).unwrap();
        assert!(matches!(kept.sign(&*shorter.audited(0).unwrap()), Err(AuditError::Rewritten { .. })));
        let as_long = open("as long", 1);
        assert!(matches!(kept.sign(&*as_long.audited(0).unwrap()), Err(AuditError::Rewritten { .. })));
        let mut foreign = Checkpoints::open(&audit, SigningKey::of_log(&[8; 32], 0)).unwrap();
        let error = foreign.sign(&*log.audited(0).unwrap()).unwrap_err();
        assert!(error.to_string().contains("audit verify"), "{error}");
        fs::write(audit.join(FILE), vec![b'x'; 3 * NOTE_BYTES_MAX]).unwrap();
        let error = Checkpoints::open(&audit, key()).unwrap().sign(&*log.audited(0).unwrap()).unwrap_err();
        assert!(matches!(error, AuditError::Kept { .. }), "{error}");
        assert_eq!(fs::metadata(audit.join(FILE)).unwrap().len(), 3 * NOTE_BYTES_MAX as u64);
    }
}
