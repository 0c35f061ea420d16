//! Digests of rows: what it takes to see whether two sides hold the same rows, without putting them side by side.
//!
//! A table's digest is the sum of the hashes of its rows, and their number: it does not depend on their order, follows changes,
//! and parts of it that were made elsewhere are added. It is compared within one process and never stored, so hash and
//! encoding may change with any build. It finds faults, not forgeries: the hash is no cryptographic one.

use xxhash_rust::xxh3::xxh3_128;

use crate::record::{Cell, Value};

/// One row as bytes: no two different rows have the same.
#[derive(Debug, Default)]
pub struct RowBytes(Vec<u8>);

impl RowBytes {
    /// Forgets the row; the next one begins.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Appends a missing value.
    pub fn null(&mut self) {
        self.0.push(0);
    }

    /// Appends a truth value.
    pub fn bool(&mut self, value: bool) {
        self.0.extend([1, u8::from(value)]);
    }

    /// Appends an integer, timestamp or date.
    pub fn int(&mut self, value: i64) {
        self.0.push(2);
        self.0.extend(value.to_le_bytes());
    }

    /// Appends a text.
    pub fn text(&mut self, value: &str) {
        self.0.push(3);
        // Length first, so that ("ab", "c") and ("a", "bc") differ.
        self.0.extend((value.len() as u64).to_le_bytes());
        self.0.extend(value.as_bytes());
    }

    /// Appends a value.
    pub fn cell(&mut self, cell: Cell<'_>) {
        match cell {
            Cell::Null => self.null(),
            Cell::Bool(value) => self.bool(value),
            Cell::Int(value) => self.int(value),
            Cell::Text(value) => self.text(value),
        }
    }
}

/// A digest of the rows of one table, each as often as it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowsDigest {
    rows: i64,
    sum: u128,
}

impl RowsDigest {
    /// Adds a row so many times; takes it back where `diff` is negative.
    pub fn add(&mut self, row: &RowBytes, diff: i64) {
        self.rows += diff;
        self.sum = self.sum.wrapping_add(xxh3_128(&row.0).wrapping_mul(i128::from(diff) as u128));
    }

    /// Adds all rows of another digest.
    pub fn merge(&mut self, other: Self) {
        self.rows += other.rows;
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

/// The digest of rows, each so many times.
impl<'a> FromIterator<(&'a [Value], i64)> for RowsDigest {
    fn from_iter<I: IntoIterator<Item = (&'a [Value], i64)>>(rows: I) -> Self {
        let (mut digest, mut bytes) = (Self::default(), RowBytes::default());
        for (row, diff) in rows {
            bytes.clear();
            row.iter().for_each(|value| bytes.cell(value.cell()));
            digest.add(&bytes, diff);
        }
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(rows: &[(&[Value], i64)]) -> RowsDigest {
        rows.iter().copied().collect()
    }

    #[test]
    fn order_does_not_matter_and_what_is_taken_back_was_never_there() {
        let text = |text: &str| Value::Text(text.into());
        let (a, b) = ([text("ab"), text("c")], [text("a"), text("bc")]);
        let both = digest(&[(&a, 1), (&b, 1)]);
        assert_eq!(both, digest(&[(&b, 1), (&a, 1)]));
        assert_eq!(digest(&[(&a, 1)]), digest(&[(&b, 1), (&a, 2), (&b, -1), (&a, -1)]));
        let mut parts = digest(&[(&a, 1)]);
        parts.merge(digest(&[(&b, 1)]));
        assert_eq!(parts, both);
    }

    #[test]
    fn every_value_and_every_repetition_counts() {
        let rows: [&[Value]; 9] = [
            &[],
            &[Value::Null],
            &[Value::Bool(false)],
            &[Value::Bool(true)],
            &[Value::Int(0)],
            &[Value::Int(1)],
            &[Value::Text("".into())],
            &[Value::Text("ab".into()), Value::Text("c".into())],
            &[Value::Text("a".into()), Value::Text("bc".into())],
        ];
        for (at, a) in rows.iter().enumerate() {
            assert_ne!(digest(&[(a, 1)]), digest(&[(a, 2)]));
            assert_ne!(digest(&[(a, 1)]), digest(&[]));
            for b in &rows[..at] {
                assert_ne!(digest(&[(a, 1)]), digest(&[(b, 1)]), "{a:?} {b:?}");
            }
        }
    }
}
