//! Rows without a storage format: a value is one of five kinds, a row a list of values, a record a struct that is both.
//!
//! Invariants: a record and its row hold the same columns in the same order (the derive macro makes both); values have
//! a total order, so rows can be sorted and consolidated; there is no floating point (fixed point, units in names).

use std::sync::Arc;

pub use flowsync_schemas_derive::Record;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    digest::RowBytes,
    time::{Day, Micros},
};

/// Text as it is carried through the dataflow: cloning it copies a pointer.
pub type Text = Arc<str>;

/// Short texts that were seen lately. What is long-lived holds one copy of each: the same sha, key or repository is in many
/// facts.
pub struct Texts(Box<[Option<Text>]>);

impl Texts {
    /// How many are remembered (I9), where nothing else is asked for: each at the place that its hash gives, until another one
    /// takes it.
    const PLACES: usize = 1 << 18;
    /// Longer ones, in bytes, are hardly ever seen twice: the longest that is, is a hash.
    const LONGEST: usize = 64;

    /// Remembers at most so many.
    pub fn of_places(places: usize) -> Self {
        Self(vec![None; places].into_boxed_slice())
    }

    fn place(&mut self, text: &str) -> Option<&mut Option<Text>> {
        let (places, short) = (self.0.len(), text.len() <= Self::LONGEST);
        (short && places > 0).then(|| &mut self.0[xxh3_64(text.as_bytes()) as usize % places])
    }

    /// Makes a text one with an equal one, if that is remembered.
    pub fn share(&mut self, text: &mut Text) {
        match self.place(text) {
            Some(Some(known)) if known == text => *text = known.clone(),
            Some(place) => *place = Some(text.clone()),
            None => {}
        }
    }

    /// The text, one with an equal one if that is remembered.
    pub fn text(&mut self, text: &str) -> Text {
        match self.place(text) {
            Some(Some(known)) if **known == *text => known.clone(),
            Some(place) => place.insert(text.into()).clone(),
            None => text.into(),
        }
    }
}

impl Default for Texts {
    fn default() -> Self {
        Self::of_places(Self::PLACES)
    }
}

/// What a column holds. Sinks map it onto Arrow: `Bool`, `Int64`, `Utf8`, `Timestamp(µs, UTC)`, `Date32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ColumnKind {
    /// True or false.
    Bool,
    /// A signed 64-bit integer; its unit is in the column's name.
    Int,
    /// UTF-8 text.
    Text,
    /// Microseconds since 1970-01-01T00:00:00 UTC.
    Timestamp,
    /// Days since 1970-01-01.
    Date,
}

/// One column of a table: part of the public schema, and of the generated catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnSpec {
    /// Name, in snake case, unit last (`_bps`, `_minor`, `_secs`).
    pub name: &'static str,
    /// Kind of value.
    pub kind: ColumnKind,
    /// Whether the value may be missing.
    pub nullable: bool,
    /// Unit in words; empty where the kind says it all.
    pub unit: &'static str,
    /// One sentence for the reader of the table.
    pub doc: &'static str,
}

/// One value of a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// A missing value.
    Null,
    /// See [`ColumnKind::Bool`].
    Bool(bool),
    /// See [`ColumnKind::Int`]; also a timestamp in microseconds and a date in days.
    Int(i64),
    /// See [`ColumnKind::Text`].
    Text(Text),
}

impl Value {
    /// The text, where this is one.
    pub fn as_text(&self) -> Option<&str> {
        if let Value::Text(text) = self { Some(text) } else { None }
    }

    /// The integer (or timestamp, or date), where this is one.
    pub fn as_int(&self) -> Option<i64> {
        if let Value::Int(int) = self { Some(*int) } else { None }
    }

    /// The value as it is read.
    pub fn cell(&self) -> Cell<'_> {
        match self {
            Value::Null => Cell::Null,
            Value::Bool(value) => Cell::Bool(*value),
            Value::Int(value) => Cell::Int(*value),
            Value::Text(text) => Cell::Text(text),
        }
    }
}

/// A value where it lies: in a row, or in a column of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    /// A missing value.
    Null,
    /// As [`Value::Bool`].
    Bool(bool),
    /// As [`Value::Int`].
    Int(i64),
    /// As [`Value::Text`].
    Text(&'a str),
}

impl From<Cell<'_>> for Value {
    fn from(cell: Cell<'_>) -> Self {
        match cell {
            Cell::Null => Value::Null,
            Cell::Bool(value) => Value::Bool(value),
            Cell::Int(value) => Value::Int(value),
            Cell::Text(text) => Value::Text(text.into()),
        }
    }
}

/// One row: as many values as its table has columns, in their order.
pub type Row = Box<[Value]>;

/// A row where it lies.
pub trait Cells {
    /// How many cells.
    fn width(&self) -> usize;
    /// The cell of a column that there is.
    fn cell(&self, at: usize) -> Cell<'_>;
}

impl Cells for &[Value] {
    fn width(&self) -> usize {
        self.len()
    }
    fn cell(&self, at: usize) -> Cell<'_> {
        self[at].cell()
    }
}

/// Some cells of a row.
pub(crate) struct Part<'a> {
    pub cells: &'a dyn Cells,
    /// The first of them.
    pub from: usize,
    /// How many.
    pub width: usize,
}

impl Cells for Part<'_> {
    fn width(&self) -> usize {
        self.width
    }
    fn cell(&self, at: usize) -> Cell<'_> {
        self.cells.cell(self.from + at)
    }
}

/// A struct that is a row. Derived: `#[derive(Record)]`.
pub trait Record: Sized {
    /// The columns, in the order of the fields.
    const COLUMNS: &'static [ColumnSpec];

    /// Appends the values, in the order of the columns.
    fn push_values(self, out: &mut Vec<Value>);

    /// Appends the same as bytes of a row that is digested.
    fn push_bytes(&self, out: &mut RowBytes);

    /// Reads the values back from where they lie. What is one of `texts` is that one.
    ///
    /// # Errors
    /// Where the number of values or the kind of one does not fit the columns.
    fn from_cells(cells: &dyn Cells, texts: &mut Texts) -> Result<Self, RecordError>;

    /// Reads the values of a row back.
    ///
    /// # Errors
    /// As [`Record::from_cells`].
    fn from_values(values: &[Value]) -> Result<Self, RecordError> {
        Self::from_cells(&values, &mut Texts::of_places(0))
    }

    /// Lets equal texts be one.
    fn share(&mut self, texts: &mut Texts);

    /// The record as a row.
    fn into_row(self) -> Row {
        let mut out = Vec::new();
        self.push_values(&mut out);
        out.into_boxed_slice()
    }
}

/// A row that does not fit its table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The number of values differs from the number of columns.
    #[error("{record}: {found} values for {expected} columns")]
    Width {
        /// The record type.
        record: &'static str,
        /// Columns.
        expected: usize,
        /// Values.
        found: usize,
    },
    /// A value cannot be read as its column's type.
    #[error("{record}.{column}: cannot read {found}")]
    Kind {
        /// The record type.
        record: &'static str,
        /// The column.
        column: &'static str,
        /// The value, as debug text.
        found: String,
    },
}

/// Reads the values of one row in turn; used by the derive macro.
pub struct Reader<'a> {
    record: &'static str,
    columns: &'static [ColumnSpec],
    cells: &'a dyn Cells,
    texts: &'a mut Texts,
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first value.
    ///
    /// # Errors
    /// Where there are not exactly as many values as columns.
    pub fn new(
        record: &'static str,
        columns: &'static [ColumnSpec],
        cells: &'a dyn Cells,
        texts: &'a mut Texts,
    ) -> Result<Self, RecordError> {
        if columns.len() != cells.width() {
            return Err(RecordError::Width { record, expected: columns.len(), found: cells.width() });
        }
        Ok(Self { record, columns, cells, texts, at: 0 })
    }

    /// The next value, as a field.
    ///
    /// # Errors
    /// Where it is of another kind.
    // Not an iterator: each call reads another type.
    #[allow(clippy::should_implement_trait)]
    pub fn next<F: Field>(&mut self) -> Result<F, RecordError> {
        let cell = self.cells.cell(self.at);
        let column = &self.columns[self.at];
        self.at += 1;
        F::from_cell(cell, self.texts).ok_or_else(|| RecordError::Kind {
            record: self.record,
            column: column.name,
            found: format!("{cell:?}"),
        })
    }
}

/// A type that a column can hold.
pub trait Field: Sized {
    /// The kind of column.
    const KIND: ColumnKind;
    /// Whether the value may be missing.
    const NULLABLE: bool = false;
    /// The value.
    fn into_value(self) -> Value;
    /// Appends the value to a row that is digested.
    fn push_bytes(&self, out: &mut RowBytes);
    /// The value read back, or `None` where it is of another kind. A text that is one of `texts` is that one.
    fn from_cell(cell: Cell<'_>, texts: &mut Texts) -> Option<Self>;
    /// The same, of a row.
    fn from_value(value: &Value) -> Option<Self> {
        Self::from_cell(value.cell(), &mut Texts::of_places(0))
    }
    /// Lets equal texts be one.
    fn share(&mut self, _texts: &mut Texts) {}
}

impl Field for bool {
    const KIND: ColumnKind = ColumnKind::Bool;
    fn into_value(self) -> Value {
        Value::Bool(self)
    }
    fn push_bytes(&self, out: &mut RowBytes) {
        out.bool(*self);
    }
    fn from_cell(cell: Cell<'_>, _: &mut Texts) -> Option<Self> {
        if let Cell::Bool(value) = cell { Some(value) } else { None }
    }
}

impl Field for i64 {
    const KIND: ColumnKind = ColumnKind::Int;
    fn into_value(self) -> Value {
        Value::Int(self)
    }
    fn push_bytes(&self, out: &mut RowBytes) {
        out.int(*self);
    }
    fn from_cell(cell: Cell<'_>, _: &mut Texts) -> Option<Self> {
        if let Cell::Int(value) = cell { Some(value) } else { None }
    }
}

impl Field for Text {
    const KIND: ColumnKind = ColumnKind::Text;
    fn into_value(self) -> Value {
        Value::Text(self)
    }
    fn push_bytes(&self, out: &mut RowBytes) {
        out.text(self);
    }
    fn from_cell(cell: Cell<'_>, texts: &mut Texts) -> Option<Self> {
        if let Cell::Text(text) = cell { Some(texts.text(text)) } else { None }
    }
    fn share(&mut self, texts: &mut Texts) {
        texts.share(self);
    }
}

impl Field for Micros {
    const KIND: ColumnKind = ColumnKind::Timestamp;
    fn into_value(self) -> Value {
        Value::Int(self.0)
    }
    fn push_bytes(&self, out: &mut RowBytes) {
        out.int(self.0);
    }
    fn from_cell(cell: Cell<'_>, texts: &mut Texts) -> Option<Self> {
        i64::from_cell(cell, texts).map(Micros)
    }
}

impl Field for Day {
    const KIND: ColumnKind = ColumnKind::Date;
    fn into_value(self) -> Value {
        Value::Int(i64::from(self.0))
    }
    fn push_bytes(&self, out: &mut RowBytes) {
        out.int(i64::from(self.0));
    }
    fn from_cell(cell: Cell<'_>, texts: &mut Texts) -> Option<Self> {
        i64::from_cell(cell, texts).and_then(|day| i32::try_from(day).ok()).map(Day)
    }
}

impl<F: Field> Field for Option<F> {
    const KIND: ColumnKind = F::KIND;
    const NULLABLE: bool = true;
    fn into_value(self) -> Value {
        self.map_or(Value::Null, Field::into_value)
    }
    fn push_bytes(&self, out: &mut RowBytes) {
        match self {
            Some(value) => value.push_bytes(out),
            None => out.null(),
        }
    }
    fn from_cell(cell: Cell<'_>, texts: &mut Texts) -> Option<Self> {
        if cell == Cell::Null { Some(None) } else { F::from_cell(cell, texts).map(Some) }
    }
    fn share(&mut self, texts: &mut Texts) {
        self.iter_mut().for_each(|value| value.share(texts));
    }
}

/// Declares an enum whose values are fixed words: `Display`, `FromStr`, `ALL` and [`Field`].
#[macro_export]
macro_rules! words {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        $vis enum $name { $($(#[$vmeta])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// Every value, in declaration order.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The word that tables and documents show.
            pub const fn word(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok($name::$variant),)+
                    other => Err(format!("{other:?} is no {}", stringify!($name))),
                }
            }
        }

        impl $crate::record::Field for $name {
            const KIND: $crate::record::ColumnKind = $crate::record::ColumnKind::Text;
            fn into_value(self) -> $crate::record::Value {
                // Every row has words: all rows of a thread share one copy of each, and no two threads count the same one.
                std::thread_local! {
                    static TEXTS: Vec<$crate::record::Text> = $name::ALL.iter().map(|word| word.word().into()).collect();
                }
                $crate::record::Value::Text(TEXTS.with(|texts| texts[self as usize].clone()))
            }
            fn push_bytes(&self, out: &mut $crate::RowBytes) {
                out.text(self.word());
            }
            fn from_cell(cell: $crate::record::Cell<'_>, _: &mut $crate::record::Texts) -> Option<Self> {
                if let $crate::record::Cell::Text(word) = cell { word.parse().ok() } else { None }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RowsDigest;

    #[derive(Debug, Clone, PartialEq, Record)]
    struct Sample {
        /// A word.
        word: Text,
        /// Basis points.
        #[unit = "basis points"]
        share_bps: Option<i64>,
        /// A day.
        day: Day,
    }

    #[test]
    fn a_record_survives_its_row() {
        let sample = Sample { word: "x".into(), share_bps: None, day: Day(3) };
        let row = sample.clone().into_row();
        let mut bytes = RowBytes::default();
        sample.push_bytes(&mut bytes);
        let mut digest = RowsDigest::default();
        digest.add(&bytes, 1);
        assert_eq!(digest, [(&*row, 1)].into_iter().collect());
        assert_eq!(Sample::from_values(&row), Ok(sample));
        assert_eq!(Sample::COLUMNS[1].unit, "basis points");
        assert!(Sample::COLUMNS[1].nullable);
    }

    #[test]
    fn equal_texts_become_one_unless_they_are_long() {
        let sample = |word: &str| Sample { word: word.into(), share_bps: None, day: Day(3) };
        let (long, mut texts) = ("x".repeat(Texts::LONGEST + 1), Texts::default());
        let shared = |word: &str, texts: &mut Texts| {
            let (mut a, mut b) = (sample(word), sample(word));
            a.share(texts);
            b.share(texts);
            assert_eq!(a, b);
            Arc::ptr_eq(&a.word, &b.word)
        };
        assert!(shared("SHOP-1", &mut texts) && !shared(&long, &mut texts));
        let row = sample("SHOP-1").into_row();
        let mut read = || Sample::from_cells(&&*row, &mut texts).expect("the row is one");
        assert!(Arc::ptr_eq(&read().word, &read().word));
    }

    #[test]
    fn a_wrong_row_names_its_column() {
        let wrong = [Value::Int(1), Value::Null, Value::Int(3)];
        let error = Sample::from_values(&wrong).expect_err("an integer is no text");
        assert!(error.to_string().contains("Sample.word"), "{error}");
        assert!(matches!(Sample::from_values(&wrong[..2]), Err(RecordError::Width { .. })));
    }
}
