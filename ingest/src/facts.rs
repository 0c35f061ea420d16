//! Rows of facts outside of their tables: in a backup, and in a directory that was restored from one until its tables are
//! computed. Of a delivery that was let go they are all that is left, and nobody can compute them anew.
//!
//! ```text
//! entry    number of its key (8) ‖ length (4) ‖ sealed: {"table": "fact_tickets", "columns": ["signal", …], "rows": [["0a…", …]]}
//! number   how many keys of the signal were destroyed before (24 bits) ‖ offset of the signal in the log (40 bits)
//! file     "flowsync facts 1\n", entries, an end: number of all ones, length 0
//! ```
//!
//! Rows are kept by the names of their columns, so that a build with other columns reads them; the rows of an entry are of one
//! signal. Its key is not that of the record, which a retention destroys: an erasure destroys it where signal or rows name the
//! person, and then seals what it made of them with the next.
//!
//! Must not know: where tables lie, SQL.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter, Read, Write},
    ops::Range,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use flowsync_schemas::{ColumnKind, ColumnSpec, Row, Value};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::seal::{self, Broken, HEAD, Keys, Purpose, SealError, Walk};

const MAGIC: &[u8] = b"flowsync facts 1\n";
const OFFSET_BITS: u32 = 40;
const GENERATIONS: u64 = 1 << (64 - OFFSET_BITS);
/// Number and length of an entry.
const ENTRY_HEAD: usize = 12;
/// The end of a file.
const END: u64 = u64::MAX;

/// Why rows of facts cannot be kept or read back.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// The keys.
    #[error(transparent)]
    Keys(#[from] SealError),
    /// The file is not what was written.
    #[error("{} is damaged: {detail}. Restore the backup again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// Rows that a table of this build cannot hold.
    #[error("rows of {table} cannot be carried over: {detail}")]
    Misfit {
        /// The table.
        table: String,
        /// What does not fit.
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

/// Some rows of a table, of one signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The table.
    pub table: String,
    /// Names of its columns.
    pub columns: Vec<String>,
    rows: Vec<Vec<Json>>,
}

impl Facts {
    /// Rows as they are kept.
    pub fn new(table: &str, columns: &[String], rows: &[Row]) -> Self {
        let json = |value: &Value| match value {
            Value::Null => Json::Null,
            Value::Bool(value) => (*value).into(),
            Value::Int(value) => (*value).into(),
            Value::Text(value) => (&**value).into(),
        };
        let rows = rows.iter().map(|row| row.iter().map(json).collect()).collect();
        Self { table: table.to_owned(), columns: columns.to_owned(), rows }
    }

    /// The rows for a table of these columns, by their names: one that is new and may be missing is.
    ///
    /// # Errors
    /// Where a column that may not be missing is, or holds something else.
    pub fn rows(&self, columns: &[ColumnSpec]) -> Result<Vec<Row>, FactsError> {
        let misfit = |detail: String| FactsError::Misfit { table: self.table.clone(), detail };
        let places: Vec<_> =
            columns.iter().map(|column| (column, self.columns.iter().position(|name| name == column.name))).collect();
        let cell = |row: &[Json], (column, place): &(&ColumnSpec, Option<usize>)| {
            let value = match (place.and_then(|at| row.get(at)), column.kind) {
                (None | Some(Json::Null), _) if column.nullable => Some(Value::Null),
                (Some(Json::Bool(value)), ColumnKind::Bool) => Some(Value::Bool(*value)),
                (Some(Json::String(value)), ColumnKind::Text) => Some(Value::Text(value.as_str().into())),
                (Some(Json::Number(value)), ColumnKind::Int | ColumnKind::Timestamp | ColumnKind::Date) => {
                    value.as_i64().map(Value::Int)
                }
                _ => None,
            };
            value.ok_or_else(|| misfit(format!("column {} is missing in them, or of another kind", column.name)))
        };
        self.rows.iter().map(|row| places.iter().map(|place| cell(row, place)).collect()).collect()
    }
}

/// The number of the key that seals the facts of the signal at an offset.
fn number(offset: u64, keys: &Keys) -> u64 {
    let numbers = (0..GENERATIONS).map(|generation| generation << OFFSET_BITS | offset);
    // Nobody is erased from one signal millions of times; the destroyed key that is left then is refused where it is used.
    numbers.take_while(|number| *number < END).find(|n| !keys.is_destroyed(Purpose::Backups, *n)).unwrap_or(offset)
}

/// Whose facts a key seals.
pub(crate) fn offset(number: u64) -> u64 {
    number & ((1 << OFFSET_BITS) - 1)
}

/// Destroys the keys that seal the facts of the signals at these offsets: nobody reads them in a backup any more.
///
/// # Errors
/// Where keys cannot be destroyed.
pub fn forget(offsets: impl IntoIterator<Item = u64>, keys: &Keys) -> Result<(), SealError> {
    let numbers = offsets.into_iter().map(|offset| number(offset, keys));
    let numbers: Vec<Range<u64>> = numbers.map(|number| number..number + 1).collect();
    if numbers.is_empty() { Ok(()) } else { keys.destroy(&[(Purpose::Backups, numbers)]) }
}

/// An entry of facts of the signal at an offset.
pub(crate) fn sealed(facts: &Facts, offset: u64, keys: &Keys, walk: &mut Walk<'_>) -> Result<Vec<u8>, SealError> {
    let number = number(offset, keys);
    let mut out = vec![0; ENTRY_HEAD + HEAD];
    out[..8].copy_from_slice(&number.to_be_bytes());
    #[allow(clippy::expect_used)] // Strings, numbers and lists of them.
    serde_json::to_writer(&mut out, facts).expect("rows can be written");
    let nonce = seal::nonce().map_err(seal::no_randomness)?;
    seal::seal_in_place(&walk.key(number)?, &Purpose::Backups.context(number), nonce, &mut out, ENTRY_HEAD);
    // The rows of one delivery: far shorter than 4 GiB.
    let length = (out.len() - ENTRY_HEAD) as u32;
    out[8..ENTRY_HEAD].copy_from_slice(&length.to_be_bytes());
    Ok(out)
}

/// Takes an entry off the front: its number, and what is sealed.
pub(crate) fn entry<'a>(bytes: &mut &'a [u8]) -> Option<(u64, &'a [u8])> {
    let number = u64::from_be_bytes(*bytes.split_off(..8)?.first_chunk()?);
    let length = u32::from_be_bytes(*bytes.split_off(..4)?.first_chunk()?);
    Some((number, bytes.split_off(..length as usize)?))
}

/// What is sealed in an entry; none where its key is destroyed.
pub(crate) fn opened(number: u64, sealed: &[u8], walk: &mut Walk<'_>) -> Result<Option<Facts>, String> {
    let key = match walk.key(number) {
        Ok(key) => key,
        Err(error) if error.is_destroyed() => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let text = seal::open(&key, &Purpose::Backups.context(number), sealed).map_err(|broken| match broken {
        Broken::OtherKey => "facts in it were sealed with another key than the ring has for them",
        Broken::Damaged => "facts in it are not what was sealed",
    })?;
    serde_json::from_slice(&text).map(Some).map_err(|e| format!("what was sealed are no facts: {e}"))
}

fn failed(path: &Path) -> impl Fn(io::Error) -> FactsError + use<> {
    let path = path.to_owned();
    move |source| FactsError::Io { path: path.clone(), source }
}

/// A file that is being written.
pub(crate) struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Writer {
    pub fn create(path: &Path) -> Result<Self, FactsError> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed(path))?;
        let mut file = BufWriter::new(file);
        file.write_all(MAGIC).map_err(failed(path))?;
        Ok(Self { path: path.to_owned(), file })
    }

    pub fn add(&mut self, number: u64, sealed: &[u8]) -> Result<(), FactsError> {
        // As it was read, so its length fits.
        let parts = [&number.to_be_bytes()[..], &(sealed.len() as u32).to_be_bytes(), sealed];
        parts.iter().try_for_each(|part| self.file.write_all(part)).map_err(failed(&self.path))
    }

    pub fn end(mut self) -> Result<(), FactsError> {
        self.add(END, &[])?;
        self.file.flush().and_then(|()| self.file.get_ref().sync_all()).map_err(failed(&self.path))
    }
}

/// Reads a file to its end; what is in it of which the keys are destroyed is left out.
///
/// # Errors
/// Where it is damaged, or `give` fails.
pub fn read<E: From<FactsError>>(
    path: &Path,
    keys: &Keys,
    mut give: impl FnMut(Facts) -> Result<(), E>,
) -> Result<(), E> {
    let damaged = |detail: &str| FactsError::Damaged { path: path.to_owned(), detail: detail.to_owned() };
    let mut file = BufReader::new(File::open(path).map_err(failed(path))?);
    // Takes memory as the bytes come, and not for what a damaged length says.
    let mut part = |length: u64| -> Result<Vec<u8>, FactsError> {
        let mut out = Vec::new();
        let read = file.by_ref().take(length).read_to_end(&mut out).map_err(failed(path))?;
        if read as u64 == length { Ok(out) } else { Err(damaged("it is cut")) }
    };
    if part(MAGIC.len() as u64)? != MAGIC {
        return Err(damaged("it begins with something else").into());
    }
    let mut walk = keys.walk(Purpose::Backups);
    loop {
        let head = part(ENTRY_HEAD as u64)?;
        let number = head[..8].iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
        let length = head[8..].iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
        if (number, length) == (END, 0) {
            break;
        }
        if let Some(facts) = opened(number, &part(length)?, &mut walk).map_err(|detail| damaged(&detail))? {
            give(facts)?;
        }
    }
    match part(1) {
        Err(FactsError::Damaged { .. }) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Err(damaged("something comes behind its end").into()),
    }
}

/// Removes a file, where there is one: its rows are in the tables.
///
/// # Errors
/// Where the file system refuses.
pub fn remove(path: &Path) -> Result<(), FactsError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(path)(error)),
        Ok(()) => {
            let folder = path.parent().unwrap_or(path);
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed(folder))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::DataDir;

    const fn column(name: &'static str, kind: ColumnKind, nullable: bool) -> ColumnSpec {
        ColumnSpec { name, kind, nullable, unit: "", doc: "" }
    }

    const COLUMNS: [ColumnSpec; 3] = [
        column("signal", ColumnKind::Text, false),
        column("at", ColumnKind::Timestamp, false),
        column("done", ColumnKind::Bool, true),
    ];

    fn facts(signal: &str) -> (Facts, Vec<Row>) {
        let names: Vec<_> = COLUMNS.iter().map(|column| column.name.to_owned()).collect();
        let row = |at, done| -> Row { [Value::Text(signal.into()), Value::Int(at), done].into() };
        let rows = vec![row(i64::MAX, Value::Null), row(-1, Value::Bool(true))];
        (Facts::new("fact_things", &names, &rows), rows)
    }

    #[test]
    fn rows_are_read_by_the_names_of_their_columns() {
        let (facts, rows) = facts("a");
        assert_eq!(facts.rows(&COLUMNS).unwrap(), rows);
        let other = [COLUMNS[1], column("new", ColumnKind::Text, true), COLUMNS[0]];
        let read = facts.rows(&other).unwrap();
        assert_eq!(read[1][..], [Value::Int(-1), Value::Null, Value::Text("a".into())]);
        for wrong in [column("new", ColumnKind::Text, false), column("at", ColumnKind::Text, true)] {
            let error = facts.rows(&[wrong]).unwrap_err().to_string();
            assert!(error.contains("fact_things") && error.contains(wrong.name), "{error}");
        }
    }

    #[test]
    fn a_file_is_read_whole_or_not_at_all_and_without_what_was_forgotten() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open_writer(&root.path().join("data"), "a test").unwrap();
        let (keys, path) = (dir.keyring().unwrap(), root.path().join("facts"));
        let mut writer = Writer::create(&path).unwrap();
        for offset in [3, 900, 4] {
            let entry = sealed(&facts(&offset.to_string()).0, offset, &keys, &mut keys.walk(Purpose::Backups)).unwrap();
            let (number, sealed) = super::entry(&mut &entry[..]).unwrap();
            assert_eq!(super::offset(number), offset);
            writer.add(number, sealed).unwrap();
        }
        writer.end().unwrap();
        let all = |path: &Path| {
            let mut all = Vec::new();
            read(path, &keys, |facts| {
                all.push(facts);
                Ok::<_, FactsError>(())
            })
            .map(|()| all)
        };
        assert_eq!(all(&path).unwrap(), ["3", "900", "4"].map(|signal| facts(signal).0));
        let (bytes, bad) = (fs::read(&path).unwrap(), root.path().join("bad"));
        assert!(!bytes.windows(6).any(|part| part == b"signal"), "it is sealed");
        for at in 0..bytes.len() {
            fs::write(&bad, &bytes[..at]).unwrap();
            assert!(matches!(all(&bad), Err(FactsError::Damaged { .. })), "cut at {at}");
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            fs::write(&bad, flipped).unwrap();
            assert!(all(&bad).is_err(), "byte {at}");
        }

        // What is sealed after one was forgotten has another key.
        forget([900], &keys).unwrap();
        assert_eq!(all(&path).unwrap(), ["3", "4"].map(|signal| facts(signal).0));
        let again = sealed(&facts("900").0, 900, &keys, &mut keys.walk(Purpose::Backups)).unwrap();
        let (number, _) = super::entry(&mut &again[..]).unwrap();
        assert_eq!((super::offset(number), number >> OFFSET_BITS), (900, 1));
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
    }
}
