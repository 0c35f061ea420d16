//! Rows to Arrow and back: the one place where column kinds meet Arrow types.
//!
//! Text is read as `Utf8View` (no copy out of Parquet pages) and leaves the engine as `Utf8`, which every client reads.
//! Inside the engine every column may be missing, whatever its specification says: a scalar subquery or an outer join
//! over a column that may not be makes DataFusion fail at run time. `flowsync_columns` says what may really be missing.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanBuilder, Date32Builder, Int64Builder, RecordBatch, RecordBatchOptions,
        StringViewBuilder, TimestampMicrosecondBuilder,
    },
    compute::cast,
    datatypes::{DataType, Date32Type, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType},
    error::ArrowError,
};
use flowsync_schemas::{ColumnKind, ColumnSpec, Row, Value};

use crate::QueryError;

const UTC: &str = "UTC";

fn data_type(kind: ColumnKind) -> DataType {
    match kind {
        ColumnKind::Bool => DataType::Boolean,
        ColumnKind::Int => DataType::Int64,
        ColumnKind::Text => DataType::Utf8View,
        ColumnKind::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        ColumnKind::Date => DataType::Date32,
    }
}

/// The schema that these columns have inside the engine.
pub(crate) fn schema(columns: &[ColumnSpec]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|c| Field::new(c.name, data_type(c.kind), true)).collect::<Vec<_>>()))
}

/// Rows as one batch of `schema(columns)`.
pub(crate) fn batch<'a, R>(columns: &[ColumnSpec], rows: R) -> Result<RecordBatch, QueryError>
where
    R: ExactSizeIterator<Item = &'a Row> + Clone,
{
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    let arrays = columns
        .iter()
        .enumerate()
        .map(|(i, column)| array(column, rows.clone().map(move |row| row.get(i))))
        .collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new_with_options(schema(columns), arrays, &options)
        .map_err(|e| QueryError::Internal(format!("rows do not fit their table: {e}")))
}

fn array<'a>(
    column: &ColumnSpec,
    values: impl ExactSizeIterator<Item = Option<&'a Value>>,
) -> Result<ArrayRef, QueryError> {
    let wrong = |v: &dyn std::fmt::Debug| QueryError::Internal(format!("column {} cannot hold {v:?}", column.name));
    macro_rules! build {
        ($builder:expr, $pattern:pat => $value:expr) => {{
            let mut builder = $builder;
            for value in values {
                match value {
                    Some($pattern) => builder.append_value($value),
                    Some(Value::Null) => builder.append_null(),
                    other => return Err(wrong(&other)),
                }
            }
            Ok(Arc::new(builder.finish()))
        }};
    }
    let rows = values.len();
    match column.kind {
        ColumnKind::Bool => build!(BooleanBuilder::with_capacity(rows), Value::Bool(b) => *b),
        ColumnKind::Int => build!(Int64Builder::with_capacity(rows), Value::Int(i) => *i),
        ColumnKind::Text => build!(StringViewBuilder::with_capacity(rows), Value::Text(t) => &**t),
        ColumnKind::Timestamp => {
            build!(TimestampMicrosecondBuilder::with_capacity(rows).with_timezone(UTC), Value::Int(i) => *i)
        }
        ColumnKind::Date => {
            let mut builder = Date32Builder::with_capacity(rows);
            for value in values {
                match value {
                    Some(Value::Int(day)) => builder.append_value(i32::try_from(*day).map_err(|_| wrong(day))?),
                    Some(Value::Null) => builder.append_null(),
                    other => return Err(wrong(&other)),
                }
            }
            Ok(Arc::new(builder.finish()))
        }
    }
}

/// The same with text as `Utf8`.
pub(crate) fn plain_schema(schema: &Schema) -> SchemaRef {
    let plain = |field: &Arc<Field>| match field.data_type() {
        DataType::Utf8View => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8)),
        _ => field.clone(),
    };
    Arc::new(Schema::new(schema.fields().iter().map(plain).collect::<Vec<_>>()))
}

/// The same as `schema`, which [`plain_schema`] made.
pub(crate) fn plain(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let arrays = batch.columns().iter().zip(schema.fields()).map(|(array, field)| match array.data_type() {
        DataType::Utf8View => cast(array, field.data_type()),
        _ => Ok(array.clone()),
    });
    RecordBatch::try_new_with_options(schema.clone(), arrays.collect::<Result<_, _>>()?, &options)
}

/// A batch as plain rows.
///
/// # Errors
/// Where a column is of a type that no [`Value`] holds, such as a float: cast it in the query.
pub(crate) fn rows(batch: &RecordBatch) -> Result<Vec<Row>, QueryError> {
    let columns = batch
        .columns()
        .iter()
        .zip(batch.schema_ref().fields())
        .map(|(array, field)| values(array, field.name()))
        .collect::<Result<Vec<_>, _>>()?;
    Ok((0..batch.num_rows()).map(|row| columns.iter().map(|c| c[row].clone()).collect()).collect())
}

fn values(array: &ArrayRef, name: &str) -> Result<Vec<Value>, QueryError> {
    let to = |ty: DataType| cast(array, &ty).map_err(|e| QueryError::User(format!("column {name}: {e}")));
    let int = |v: Option<i64>| v.map_or(Value::Null, Value::Int);
    Ok(match array.data_type() {
        DataType::Null => vec![Value::Null; array.len()],
        DataType::Boolean => array.as_boolean().iter().map(|v| v.map_or(Value::Null, Value::Bool)).collect(),
        ty if ty.is_integer() => to(DataType::Int64)?.as_primitive::<Int64Type>().iter().map(int).collect(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => to(DataType::Utf8)?
            .as_string::<i32>()
            .iter()
            .map(|v| v.map_or(Value::Null, |t| Value::Text(t.into())))
            .collect(),
        DataType::Timestamp(_, zone) => to(DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?
            .as_primitive::<TimestampMicrosecondType>()
            .iter()
            .map(int)
            .collect(),
        DataType::Date32 => array.as_primitive::<Date32Type>().iter().map(|v| int(v.map(i64::from))).collect(),
        other => {
            return Err(QueryError::User(format!(
                "column {name} is {other}: cast it to bigint or varchar in the query"
            )));
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use flowsync_schemas::fact::{FACT_TABLES, SIGNALS};

    use super::*;

    #[test]
    fn every_kind_survives_arrow() {
        let kinds = [ColumnKind::Bool, ColumnKind::Int, ColumnKind::Text, ColumnKind::Timestamp, ColumnKind::Date];
        let columns: Vec<_> =
            kinds.iter().map(|kind| ColumnSpec { name: "c", kind: *kind, nullable: true, unit: "", doc: "" }).collect();
        let full: Row =
            [Value::Bool(true), Value::Int(-1), Value::Text("ü,\"".into()), Value::Int(7), Value::Int(-9)].into();
        let empty: Row = vec![Value::Null; kinds.len()].into();
        let all = vec![full, empty];
        assert_eq!(rows(&batch(&columns, all.iter()).unwrap()).unwrap(), all);
    }

    #[test]
    fn a_row_of_another_table_is_an_error_not_a_panic() {
        let columns = (SIGNALS.columns)();
        let short: Row = [Value::Int(1)].into();
        assert!(batch(&columns, [short].iter()).is_err());
        for table in FACT_TABLES {
            assert_eq!(schema(&(table.columns)()).fields().len(), (table.columns)().len());
        }
    }
}
