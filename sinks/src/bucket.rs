//! Where a row lives: tables are kept in one order, cut into files that each hold one run of it.
//!
//! The *place* of a row is `(birth, hash of the key)`: a pure function of the row, fixed for ever. A *bucket* is one file
//! with all rows from its first place up to the first place of the next bucket. Only the cuts are state: a bucket that
//! outgrows its limit is cut in two, so that a busy hour and a quiet year each get files of a good size, and new rows
//! meet the last bucket alone. (Decision record 0002 says why not calendar months.)
//!
//! The first place stands in the file's name, because a name is what every Delta reader, checkpoint and copy keeps.
//!
//! Must not know: Delta, epochs (a name carries one, for people), I/O.

use std::{collections::BTreeMap, fmt};

use arrow::{
    array::{Array, AsArray},
    datatypes::{Date32Type, TimestampMicrosecondType},
    record_batch::RecordBatch,
};
use flowsync_schemas::{ColumnKind, Epoch, FilesDigest, Row, Value, record::Cell};

use crate::arrow::{Column, Shape};

/// Where a row lives in the order of its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    birth: i64,
    hash: u64,
}

/// Rows without a birth come first.
const UNBORN: i64 = i64::MIN;

impl Place {
    /// The place of a row.
    pub fn of(shape: &Shape, row: &Row) -> Self {
        let birth = shape.birth.and_then(|at| row.get(at).and_then(Value::as_int));
        let birth = birth.unwrap_or(if shape.birth.is_some() { UNBORN } else { 0 });
        let hash =
            shape.key.iter().fold(HASH_START, |hash, at| hash_cell(hash, row.get(*at).map_or(Cell::Null, Value::cell)));
        Place { birth, hash: finish(hash) }
    }

    /// The places of all rows of a batch.
    pub fn of_batch(shape: &Shape, batch: &RecordBatch) -> Vec<Self> {
        let mut hashes = vec![HASH_START; batch.num_rows()];
        for at in &shape.key {
            let column = Column::new(batch.column(*at), shape.columns[*at].kind);
            hashes.iter_mut().enumerate().for_each(|(i, hash)| *hash = hash_cell(*hash, column.cell(i)));
        }
        let birth: Box<dyn Fn(usize) -> i64> = match shape.birth {
            None => Box::new(|_| 0),
            Some(at) if shape.columns[at].kind == ColumnKind::Date => {
                let days = batch.column(at).as_primitive::<Date32Type>();
                Box::new(|i| if days.is_null(i) { UNBORN } else { i64::from(days.value(i)) })
            }
            Some(at) => {
                let micros = batch.column(at).as_primitive::<TimestampMicrosecondType>();
                Box::new(|i| if micros.is_null(i) { UNBORN } else { micros.value(i) })
            }
        };
        hashes.into_iter().enumerate().map(|(i, hash)| Place { birth: birth(i), hash: finish(hash) }).collect()
    }
}

/// Sixteen hexadecimal digits each, in an order that text sorts alike.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}", (self.birth as u64) ^ (1 << 63), self.hash)
    }
}

// FNV-1a with a final mix: fixed for ever, because stored files are cut along it. Not for secrets: who crafts keys that
// collide makes one bucket too large, no more.
const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;

fn hash_bytes(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn hash_cell(hash: u64, cell: Cell<'_>) -> u64 {
    match cell {
        Cell::Null => hash_bytes(hash, &[0]),
        Cell::Bool(v) => hash_bytes(hash, &[1, u8::from(v)]),
        Cell::Int(v) => hash_bytes(hash_bytes(hash, &[2]), &v.to_le_bytes()),
        Cell::Text(v) => hash_bytes(hash_bytes(hash_bytes(hash, &[3]), v.as_bytes()), &[0xff]),
    }
}

fn finish(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

/// One data file of a table, as the table lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// Name below the table's folder.
    pub file: String,
    /// Rows in it.
    pub rows: u64,
    /// Size, in bytes.
    pub bytes: u64,
}

impl Bucket {
    /// With this file more.
    pub fn added_to(&self, digest: FilesDigest) -> FilesDigest {
        digest.with(&self.file, self.bytes, self.rows)
    }

    /// With this file less.
    pub fn taken_from(&self, digest: FilesDigest) -> FilesDigest {
        digest.without(&self.file, self.bytes, self.rows)
    }
}

/// The buckets of a table by first place.
pub(crate) type Buckets = BTreeMap<Place, Bucket>;

/// Name of a new file: first place, epoch, an attempt of its own, so that no retry ever writes over a file, and the checksum
/// of its bytes.
pub(crate) fn file_name(first: Place, epoch: Epoch, bytes: &[u8]) -> String {
    let (attempt, checksum) = (uuid::Uuid::new_v4().simple(), crc32fast::hash(bytes));
    format!("{first}-{epoch:020}-{attempt}-{checksum:08x}.parquet", epoch = epoch.0)
}

/// The first place of a file that this sink wrote; `None` for foreign files.
pub(crate) fn place_in(file: &str) -> Option<Place> {
    let mut parts = file.strip_suffix(".parquet")?.split('-');
    let mut number = || {
        let digits = parts.next()?;
        if digits.len() == 16 { u64::from_str_radix(digits, 16).ok() } else { None }
    };
    let place = Place { birth: (number()? ^ (1 << 63)) as i64, hash: number()? };
    // Files of older builds have no checksum.
    (2..=3).contains(&parts.count()).then_some(place)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use flowsync_schemas::checksum_in;

    use super::*;
    use crate::tests::specs;

    #[test]
    fn a_place_survives_its_file_name_and_its_order() {
        let places = [-5, 0, 7].map(|birth| Place { birth, hash: 3 });
        let names = places.map(|p| file_name(p, Epoch(12), b"rows"));
        assert!(names.is_sorted(), "{names:?}");
        assert!(names.iter().all(|n| checksum_in(n) == Some(crc32fast::hash(b"rows"))), "{names:?}");
        assert_eq!(names.map(|n| place_in(&n)), places.map(Some));
        for foreign in ["part-0001.parquet", "x.csv", "", "0-0-0-0.parquet"] {
            assert_eq!(place_in(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn places_are_fixed_and_the_same_by_row_and_by_column() {
        let shape = Shape::new(&specs::EVENTS).unwrap();
        let rows = [specs::event("a", 1, 5), specs::event("b", 9, 5), specs::event_without("c")];
        let batch = shape.to_batch(&rows.iter().collect::<Vec<_>>()).unwrap();
        let places: Vec<Place> = rows.iter().map(|r| Place::of(&shape, r)).collect();
        assert_eq!(Place::of_batch(&shape, &batch), places);
        // Files on disk are cut along this: another value here needs a migration, not a new expectation.
        assert_eq!(places[0].to_string(), "8000000000000001-1b1b65b61774d0cd");
        assert_eq!(places[2].birth, UNBORN);
    }
}
