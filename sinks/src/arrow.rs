//! Rows as Arrow columns, and back; a table's columns as Arrow and as Delta schema.
//!
//! The mapping is part of the public format: `Bool` → `Boolean`, `Int` → `Int64`, `Text` → `Utf8`, `Timestamp` →
//! `Timestamp(µs, "UTC")`, `Date` → `Date32`. Bad rows are errors that name table and column, never panics (I10).
//!
//! Must not know: files, Delta transactions, epochs.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, BooleanBuilder, Date32Array, Date32Builder, Int64Array, Int64Builder,
        StringArray, StringBuilder, TimestampMicrosecondArray, TimestampMicrosecondBuilder, new_null_array,
    },
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
    record_batch::RecordBatch,
};
use deltalake_core::kernel::{DataType as DeltaType, StructField, StructType};
use flowsync_schemas::{
    Birth, ColumnKind, ColumnSpec, Row, RowBytes, RowsDigest, TableSpec, Value,
    record::{Cell, Cells},
};

use crate::SinkError;

/// The shape of one table: what its specification says, resolved and checked once.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Name of the table.
    pub name: &'static str,
    /// The columns.
    pub columns: Vec<ColumnSpec>,
    /// Positions of the key columns.
    pub key: Vec<usize>,
    /// Position of the column that orders the table, for tables that follow time.
    pub birth: Option<usize>,
    /// The Arrow schema of its files.
    pub schema: SchemaRef,
    /// Whether files may be of an earlier version, which lacks columns.
    pub earlier: bool,
}

impl Shape {
    /// Resolves a specification.
    pub fn new(spec: &TableSpec) -> Result<Self, SinkError> {
        let wrong = |reason: String| SinkError::Spec { table: spec.name.to_owned(), reason };
        let columns = (spec.columns)();
        let key = spec.key_indices();
        if key.is_empty() || key.len() != spec.key.len() {
            return Err(wrong(format!("the key {:?} is empty or names a missing column", spec.key)));
        }
        let birth = match spec.birth {
            Birth::Timeless => None,
            Birth::Dated(name) => Some(
                columns
                    .iter()
                    .position(|c| c.name == name && matches!(c.kind, ColumnKind::Timestamp | ColumnKind::Date))
                    .ok_or_else(|| wrong(format!("birth column {name:?} is no timestamp or date column")))?,
            ),
        };
        let fields: Vec<Field> = columns.iter().map(field).collect();
        Ok(Self { name: spec.name, columns, key, birth, schema: Arc::new(Schema::new(fields)), earlier: false })
    }

    /// The same for files of an earlier version of the table: a column that may be missing and is not there is empty, and one that
    /// is no longer known is left out.
    pub fn of_earlier(spec: &TableSpec) -> Result<Self, SinkError> {
        Ok(Self { earlier: true, ..Self::new(spec)? })
    }

    /// The rows as columns, in the order given.
    pub fn to_batch(&self, rows: &[&Row]) -> Result<RecordBatch, SinkError> {
        if let Some(row) = rows.iter().find(|row| row.len() != self.columns.len()) {
            return Err(self.misfit(0, format!("a row of {} values for {} columns", row.len(), self.columns.len())));
        }
        let columns = (0..self.columns.len()).map(|at| self.to_column(at, rows)).collect::<Result<Vec<_>, _>>()?;
        RecordBatch::try_new(self.schema.clone(), columns).map_err(|e| self.misfit(0, e.to_string()))
    }

    fn to_column(&self, at: usize, rows: &[&Row]) -> Result<ArrayRef, SinkError> {
        let column = &self.columns[at];
        macro_rules! build {
            ($builder:expr, $($pattern:pat => $value:expr),+) => {{
                let mut builder = $builder;
                for row in rows {
                    match &row[at] {
                        Value::Null if column.nullable => builder.append_null(),
                        $($pattern => builder.append_value($value),)+
                        other => return Err(self.misfit(at, format!("{other:?} is no {:?}", column.kind))),
                    }
                }
                Arc::new(builder.finish()) as ArrayRef
            }};
        }
        let len = rows.len();
        Ok(match column.kind {
            ColumnKind::Bool => build!(BooleanBuilder::with_capacity(len), Value::Bool(v) => *v),
            ColumnKind::Int => build!(Int64Builder::with_capacity(len), Value::Int(v) => *v),
            ColumnKind::Text => build!(StringBuilder::with_capacity(len, len * 16), Value::Text(v) => v),
            ColumnKind::Timestamp => {
                build!(TimestampMicrosecondBuilder::with_capacity(len).with_timezone("UTC"), Value::Int(v) => *v)
            }
            ColumnKind::Date => build!(Date32Builder::with_capacity(len), Value::Int(v) => {
                i32::try_from(*v).map_err(|_| self.misfit(at, format!("{v} days are outside of the calendar")))?
            }),
        })
    }

    /// Gives columns that were read from a file this table's schema, or says why they do not have it.
    pub fn adopt(&self, batch: &RecordBatch) -> Result<RecordBatch, String> {
        let column = |field: &Arc<Field>| match batch.column_by_name(field.name()) {
            Some(column) => Ok(column.clone()),
            None if self.earlier && field.is_nullable() => Ok(new_null_array(field.data_type(), batch.num_rows())),
            None => Err(format!("column {} is missing", field.name())),
        };
        let columns = self.schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
        RecordBatch::try_new(self.schema.clone(), columns).map_err(|e| e.to_string())
    }

    /// The columns of a batch that has this table's schema, to be read.
    pub fn columns_of<'a>(&self, batch: &'a RecordBatch) -> Vec<Column<'a>> {
        batch.columns().iter().zip(&self.columns).map(|(array, column)| Column::new(array, column.kind)).collect()
    }

    /// The columns as rows. `batch` has this table's schema.
    pub fn to_rows(&self, batch: &RecordBatch) -> Vec<Row> {
        let columns = self.columns_of(batch);
        let row = |i| columns.iter().map(|column| column.cell(i).into()).collect();
        (0..batch.num_rows()).map(row).collect()
    }

    /// The digest of the rows. `batch` has this table's schema.
    pub fn digest(&self, batch: &RecordBatch) -> RowsDigest {
        let (mut digest, mut bytes) = (RowsDigest::default(), RowBytes::default());
        let columns = self.columns_of(batch);
        for i in 0..batch.num_rows() {
            bytes.clear();
            columns.iter().for_each(|column| bytes.cell(column.cell(i)));
            digest.add(&bytes, 1);
        }
        digest
    }

    /// The key of one row, as text for messages.
    pub fn key_text(&self, batch: &RecordBatch, row: usize) -> String {
        let values = self.to_rows(&batch.slice(row, 1));
        let parts: Vec<String> = self
            .key
            .iter()
            .map(|at| match &values[0][*at] {
                Value::Null => "null".to_owned(),
                Value::Bool(v) => v.to_string(),
                Value::Int(v) => v.to_string(),
                Value::Text(v) => v.chars().take(80).collect(),
            })
            .collect();
        parts.join(", ")
    }

    /// The columns as a Delta schema, with what they mean as comments.
    pub fn delta_schema(&self) -> Result<StructType, SinkError> {
        StructType::try_new(self.columns.iter().map(|c| {
            let kind = match c.kind {
                ColumnKind::Bool => DeltaType::BOOLEAN,
                ColumnKind::Int => DeltaType::LONG,
                ColumnKind::Text => DeltaType::STRING,
                ColumnKind::Timestamp => DeltaType::TIMESTAMP,
                ColumnKind::Date => DeltaType::DATE,
            };
            StructField::new(c.name, kind, c.nullable).with_metadata([("comment", comment(c))])
        }))
        .map_err(|e| SinkError::Spec { table: self.name.to_owned(), reason: e.to_string() })
    }

    fn misfit(&self, column: usize, reason: String) -> SinkError {
        let column = self.columns.get(column).map_or("", |c| c.name).to_owned();
        SinkError::Row { table: self.name.to_owned(), column, reason }
    }
}

fn comment(column: &ColumnSpec) -> String {
    if column.unit.is_empty() { column.doc.to_owned() } else { format!("{} Unit: {}.", column.doc, column.unit) }
}

fn field(column: &ColumnSpec) -> Field {
    let kind = match column.kind {
        ColumnKind::Bool => DataType::Boolean,
        ColumnKind::Int => DataType::Int64,
        ColumnKind::Text => DataType::Utf8,
        ColumnKind::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        ColumnKind::Date => DataType::Date32,
    };
    Field::new(column.name, kind, column.nullable)
        .with_metadata(HashMap::from([("comment".to_owned(), comment(column))]))
}

/// A column that has the Arrow type of its kind, to be read.
pub(crate) enum Column<'a> {
    Bool(&'a BooleanArray),
    Int(&'a Int64Array),
    Text(&'a StringArray),
    Timestamp(&'a TimestampMicrosecondArray),
    Date(&'a Date32Array),
}

impl<'a> Column<'a> {
    pub fn new(array: &'a ArrayRef, kind: ColumnKind) -> Self {
        match kind {
            ColumnKind::Bool => Self::Bool(array.as_boolean()),
            ColumnKind::Int => Self::Int(array.as_primitive()),
            ColumnKind::Text => Self::Text(array.as_string()),
            ColumnKind::Timestamp => Self::Timestamp(array.as_primitive()),
            ColumnKind::Date => Self::Date(array.as_primitive()),
        }
    }

    /// The cell of a row.
    pub fn cell(&self, row: usize) -> Cell<'a> {
        match self {
            Self::Bool(array) if array.is_valid(row) => Cell::Bool(array.value(row)),
            Self::Int(array) if array.is_valid(row) => Cell::Int(array.value(row)),
            Self::Text(array) if array.is_valid(row) => Cell::Text(array.value(row)),
            Self::Timestamp(array) if array.is_valid(row) => Cell::Int(array.value(row)),
            Self::Date(array) if array.is_valid(row) => Cell::Int(i64::from(array.value(row))),
            _ => Cell::Null,
        }
    }
}

/// A row of a batch.
struct RowAt<'a> {
    columns: &'a [Column<'a>],
    row: usize,
}

impl Cells for RowAt<'_> {
    fn width(&self) -> usize {
        self.columns.len()
    }
    fn cell(&self, at: usize) -> Cell<'_> {
        self.columns[at].cell(self.row)
    }
}

/// The rows of a file, as they lie in it.
pub struct FileRows {
    pub(crate) shape: Arc<Shape>,
    pub(crate) batch: RecordBatch,
}

impl FileRows {
    /// How many.
    #[allow(clippy::len_without_is_empty)] // Every file has rows.
    pub fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// Reads each row in turn, until one cannot be read.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn each<E>(&self, mut read: impl FnMut(&dyn Cells) -> Result<(), E>) -> Result<(), E> {
        let columns = self.shape.columns_of(&self.batch);
        (0..self.batch.num_rows()).try_for_each(|row| read(&RowAt { columns: &columns, row }))
    }

    /// All of them.
    pub fn to_rows(&self) -> Vec<Row> {
        self.shape.to_rows(&self.batch)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::tests::specs;

    #[test]
    fn rows_survive_their_columns() {
        let shape = Shape::new(&specs::EVENTS).unwrap();
        let rows = [specs::event("a", 1, 5), specs::event_without("b")];
        let batch = shape.to_batch(&rows.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(shape.to_rows(&batch), rows);
        let (file, mut read) = (FileRows { shape: Arc::new(shape), batch: batch.clone() }, Vec::new());
        let shape = &file.shape;
        let row = |cells: &dyn Cells| -> Row { (0..cells.width()).map(|at| cells.cell(at).into()).collect() };
        let all = |cells: &dyn Cells| -> Result<(), ()> {
            read.push(row(cells));
            Ok(())
        };
        assert_eq!(file.each(all), Ok(()));
        assert_eq!((file.len(), read), (2, rows.to_vec()));
        assert_eq!(file.each(|cells| if cells.cell(0) == Cell::Text("b") { Err(2) } else { Ok(()) }), Err(2));
        assert_eq!(shape.digest(&batch), rows.iter().map(|row| (&**row, 1)).collect());
        assert_eq!(shape.key_text(&batch, 1), "b");
        assert_eq!(shape.adopt(&batch).unwrap(), batch);
        assert!(shape.adopt(&batch.project(&[1]).unwrap()).unwrap_err().contains("id"));
    }

    #[test]
    fn a_bad_row_names_its_column() {
        let shape = Shape::new(&specs::EVENTS).unwrap();
        let mut row = specs::event("a", 1, 5);
        row[1] = Value::Text("x".into());
        let text = shape.to_batch(&[&row]).unwrap_err().to_string();
        assert!(text.contains("events") && text.contains("at"), "{text}");
        row[1] = Value::Int(1);
        row[0] = Value::Null;
        assert!(shape.to_batch(&[&row]).unwrap_err().to_string().contains("column id"));
        let short: Row = row[..2].into();
        assert!(matches!(shape.to_batch(&[&short]), Err(SinkError::Row { .. })));
        let mut far = specs::event("a", 1, 5);
        far[3] = Value::Int(i64::MAX);
        assert!(shape.to_batch(&[&far]).unwrap_err().to_string().contains("column day"));
    }

    #[test]
    fn a_specification_is_checked() {
        let bad_key = TableSpec { key: &["nothing"], ..specs::EVENTS };
        assert!(matches!(Shape::new(&bad_key), Err(SinkError::Spec { .. })));
        let bad_birth = TableSpec { birth: Birth::Dated("id"), ..specs::EVENTS };
        assert!(matches!(Shape::new(&bad_birth), Err(SinkError::Spec { .. })));
    }
}
