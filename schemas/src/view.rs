//! Tables and views as data.

use crate::record::{ColumnSpec, Row};

/// Which of a table's rows change together. The sink keeps rows in files ordered by birth and rewrites whole files, so a good
/// choice meets few of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Birth {
    /// Ordered by this timestamp or date column (one that hardly ever changes), for rows that follow time: work touches
    /// recent things.
    Dated(&'static str),
    /// Ordered by a hash of the key alone: for small tables and rows without a date.
    Timeless,
}

/// A table: name, version, key, columns.
#[derive(Clone, Copy, Debug)]
pub struct TableSpec {
    /// Name of the table and of its folder.
    pub name: &'static str,
    /// Raised when the same facts give other rows, or the columns change: the table is then rebuilt.
    pub version: u32,
    /// Names of the key columns: at most one row has a given key.
    pub key: &'static [&'static str],
    /// The columns, in order.
    pub columns: fn() -> Vec<ColumnSpec>,
    /// How rows are bucketed.
    pub birth: Birth,
    /// One sentence: the question that the table answers, and its grain.
    pub doc: &'static str,
}

impl TableSpec {
    /// Positions of the key columns.
    pub fn key_indices(&self) -> Vec<usize> {
        let columns = (self.columns)();
        self.key.iter().filter_map(|k| columns.iter().position(|c| c.name == *k)).collect()
    }

    /// The key of a row, in the order of `key`.
    pub fn key_of(&self, row: &Row) -> Row {
        self.key_indices().into_iter().map(|i| row[i].clone()).collect()
    }
}

/// A view: a table that the dataflow maintains, with its judge and its provenance.
#[derive(Clone, Copy, Debug)]
pub struct ViewSpec {
    /// Name, key and columns.
    pub table: TableSpec,
    /// The same view as plain SQL over the fact tables and the table `model` (I5). Columns in the order of `table`.
    pub oracle: &'static str,
    /// SQL that lists the signals behind one row (I7): a query over facts and views whose first column is `signal`, and
    /// whose parameters `$1`, `$2`, … are the values of the key columns.
    pub why: &'static str,
}
