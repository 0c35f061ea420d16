//! An erasure that has begun: whom it is of, sealed, until it is done. It is why an erasure that was interrupted goes on with
//! the same token, and knows whom to look for when log and vault no longer tell.
//!
//! `erasing`: number of the key, big-endian, and what it seals. `receipt-N`: the signed receipts of those that are done.
//! Knows nothing of log, vault or tables.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::Subject;
use crate::seal::{self, Keys, Purpose, SealError};

const FILE: &str = "erasing";
const RECEIPT: &str = "receipt-";

/// Why the state of an erasure cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum PendingError {
    /// The keys.
    #[error(transparent)]
    Keys(#[from] SealError),
    /// The file is not what was written.
    #[error("{}: {detail}. Restore this file: it says whom an interrupted erasure was of", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The file system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl PendingError {
    /// Whether the file is damaged.
    pub fn is_damaged(&self) -> bool {
        matches!(self, PendingError::Damaged { .. })
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> PendingError + use<> {
    let path = path.to_owned();
    move |source| PendingError::Io { path: path.clone(), source }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    subject: Subject,
    reason: String,
}

/// See the module.
#[derive(Debug)]
pub struct Pending {
    number: u64,
    subject: Subject,
    reason: String,
}

/// Erasures that are done or have begun.
///
/// # Errors
/// Where the folder cannot be read.
pub fn erasures(folder: &Path) -> Result<u64, PendingError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(failed(folder)(e)),
    };
    let mut count = 0;
    for entry in entries {
        let name = entry.map_err(failed(folder))?.file_name();
        let name = name.to_string_lossy();
        count += u64::from(name == FILE || name.starts_with(RECEIPT));
    }
    Ok(count)
}

impl Pending {
    /// Whether an erasure has begun and is not done.
    pub fn is_there(folder: &Path) -> bool {
        folder.join(FILE).exists()
    }

    /// The erasure that has begun, if one has.
    ///
    /// # Errors
    /// Where its file or its key cannot be read.
    pub fn read(folder: &Path, keys: &Keys) -> Result<Option<Self>, PendingError> {
        let path = folder.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(&path)(e)),
        };
        let damaged = |detail: &str| PendingError::Damaged { path: path.clone(), detail: detail.to_owned() };
        let (number, sealed) = bytes.split_first_chunk::<8>().ok_or_else(|| damaged("it is too short"))?;
        let number = u64::from_be_bytes(*number);
        let key = keys.walk(Purpose::Erasures).key(number)?;
        let text = seal::open(&key, &Purpose::Erasures.context(number), sealed)
            .map_err(|_| damaged("it is not what was sealed"))?;
        let Sealed { subject, reason } = serde_json::from_slice(&text).map_err(|e| damaged(&e.to_string()))?;
        Ok(Some(Self { number, subject, reason }))
    }

    /// Begins an erasure: durable when it returns.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn begin(folder: &Path, keys: &Keys, subject: Subject, reason: &str) -> Result<Self, PendingError> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed(folder))?;
        let number = erasures(folder)?.max(keys.destroyed_end(Purpose::Erasures));
        let sealed = Sealed { subject, reason: reason.to_owned() };
        let path = folder.join(FILE);
        let text = serde_json::to_vec(&sealed).map_err(|e| failed(&path)(e.into()))?;
        let key = keys.walk(Purpose::Erasures).key(number)?;
        let mut bytes = number.to_be_bytes().to_vec();
        bytes.resize(8 + seal::HEAD, 0);
        bytes.extend(text);
        let nonce = seal::nonce().map_err(seal::no_randomness)?;
        seal::seal_in_place(&key, &Purpose::Erasures.context(number), nonce, &mut bytes, 8);
        write_new(&path, &bytes)?;
        let Sealed { subject, reason } = sealed;
        Ok(Self { number, subject, reason })
    }

    /// Whom it is of.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Why, in the operator's words.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Ends it: keeps the receipt, and forgets whom it was of. Returns the receipt's file.
    ///
    /// # Errors
    /// Where a file or the keys cannot be written; the erasure then still counts as begun.
    pub fn finish(self, folder: &Path, keys: &Keys, receipt: &str) -> Result<PathBuf, PendingError> {
        let path = folder.join(format!("{RECEIPT}{:06}", self.number + 1));
        write_new(&path, receipt.as_bytes())?;
        let begun = folder.join(FILE);
        fs::remove_file(&begun).map_err(failed(&begun))?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed(folder))?;
        let number = self.number;
        keys.destroy(&[(Purpose::Erasures, std::iter::once(number..number + 1).collect())])?;
        Ok(path)
    }
}

/// Whole and on the disk before it has its name.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), PendingError> {
    let new = path.with_extension("new");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    write().map_err(failed(path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use flowsync_schemas::{NameClaim, PersonId};

    use super::*;
    use crate::{
        DataDir,
        privacy::{Salt, Token},
    };

    #[test]
    fn an_erasure_goes_on_after_a_crash_and_forgets_whom_it_was_of() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open_writer(root.path(), "a test").unwrap();
        let (folder, keys) = (dir.privacy(), dir.keyring().unwrap());
        assert_eq!(erasures(&folder).unwrap(), 0);
        let claim = NameClaim { person: PersonId(1), name: "Ada Lovelace".into(), account: "ada@example.org".into() };
        let subject = Subject::new(&[claim], &[], Token::random().unwrap(), Salt::random().unwrap());
        let begun = Pending::begin(&folder, &keys, subject, "she asked").unwrap();
        let token = begun.subject().token().clone();
        let bytes = fs::read(folder.join(FILE)).unwrap();
        assert!(!bytes.windows(3).any(|part| part.eq_ignore_ascii_case(b"ada")), "whom it is of is sealed");
        drop(begun);

        let again = Pending::read(&folder, &keys).unwrap().unwrap();
        assert_eq!((again.subject().token(), again.reason()), (&token, "she asked"));
        assert_eq!(erasures(&folder).unwrap(), 1);
        let receipt = again.finish(&folder, &keys, "a receipt").unwrap();
        assert_eq!(fs::read_to_string(receipt).unwrap(), "a receipt");
        assert!(Pending::read(&folder, &keys).unwrap().is_none());
        assert_eq!(erasures(&folder).unwrap(), 1, "the tables are of the same erasure");
        fs::write(folder.join(FILE), bytes).unwrap();
        assert!(Pending::read(&folder, &keys).is_err(), "its key is destroyed");
    }
}
