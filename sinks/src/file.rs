//! One data file: columns to Parquet bytes and back, and the statistics that its table lists.
//!
//! Rows in a file are in the order of their key, without repetition. A file that is missing, cut short, altered or out of
//! order is an error that names it (I10), never fewer rows.
//!
//! Must not know: buckets, epochs, Delta transactions.

use std::{collections::HashSet, hash::Hash, sync::Arc};

use arrow::{
    array::{Array, AsArray},
    compute::{self, concat_batches},
    datatypes::{Date32Type, Int64Type, TimestampMicrosecondType},
    record_batch::RecordBatch,
};
use bytes::Bytes;
use flowsync_schemas::{ColumnKind, Day, Micros};
use parquet::{
    arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
    basic::{Compression, ZstdLevel},
    file::properties::{EnabledStatistics, WriterProperties},
    schema::types::ColumnPath,
};
use serde_json::{Map, Value as Json, json};

use crate::{SinkError, arrow::Shape};

/// Rows in a row group: what a reader with few columns to read holds at once.
const ROW_GROUP_ROWS: usize = 131_072;

/// Longest text that statistics hold; a longer smallest or largest value is left out.
const STATISTIC_TEXT_BYTES_MAX: usize = 128;

/// Values of a column that are looked at to see how far they repeat.
const SAMPLE: usize = 256;

/// Columns with so few values, in the sample, are not compressed: the places of values in a dictionary are small as they are.
const FEW: usize = 16;

/// How a file is written. What a commit takes is mostly this, so nothing is computed that readers have no use for: bounds of
/// texts that are no key, dictionaries of values that do not repeat (the file is smaller without them, too), and compression
/// where there is next to nothing to compress.
fn properties(shape: &Shape, batch: &RecordBatch) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_created_by(concat!("flowsync ", env!("CARGO_PKG_VERSION")).to_owned());
    for (at, column) in shape.columns.iter().enumerate() {
        let path = ColumnPath::from(column.name);
        if column.kind == ColumnKind::Text && !shape.key.contains(&at) {
            properties = properties.set_column_statistics_enabled(path.clone(), EnabledStatistics::None);
        }
        let values = Sampled::of(batch.column(at), column.kind);
        properties = properties.set_column_dictionary_enabled(path.clone(), values.repeat());
        if values.repeat() && values.distinct <= FEW {
            properties = properties.set_column_compression(path, Compression::UNCOMPRESSED);
        }
    }
    properties.build()
}

/// A sample from the whole of a column: how many values, and how many different ones. What is null is none.
struct Sampled {
    values: usize,
    distinct: usize,
}

impl Sampled {
    fn of(array: &dyn Array, kind: ColumnKind) -> Self {
        fn count<T: Eq + Hash>(array: &dyn Array, value: impl Fn(usize) -> T) -> Sampled {
            let at = (0..array.len()).step_by(array.len().div_ceil(SAMPLE).max(1));
            let valid = at.filter(|at| array.is_valid(*at));
            let distinct: HashSet<_> = valid.clone().map(value).collect();
            Sampled { values: valid.count(), distinct: distinct.len() }
        }
        match kind {
            ColumnKind::Bool => count(array, |at| array.as_boolean().value(at)),
            ColumnKind::Int => count(array, |at| array.as_primitive::<Int64Type>().value(at)),
            ColumnKind::Text => count(array, |at| array.as_string::<i32>().value(at)),
            ColumnKind::Timestamp => count(array, |at| array.as_primitive::<TimestampMicrosecondType>().value(at)),
            ColumnKind::Date => count(array, |at| array.as_primitive::<Date32Type>().value(at)),
        }
    }

    /// Whether a value occurs twice, on the average.
    fn repeat(&self) -> bool {
        2 * self.distinct <= self.values
    }
}

/// The columns as a Parquet file.
pub(crate) fn encode(shape: &Shape, batch: &RecordBatch) -> Result<Vec<u8>, SinkError> {
    let write = || {
        let mut writer = ArrowWriter::try_new(Vec::new(), shape.schema.clone(), Some(properties(shape, batch)))?;
        writer.write(batch)?;
        writer.into_inner()
    };
    write().map_err(|e: parquet::errors::ParquetError| SinkError::Row {
        table: shape.name.to_owned(),
        column: String::new(),
        reason: format!("rows cannot be written as Parquet: {e}"),
    })
}

/// A Parquet file as columns with the table's schema, or the reason why it is none.
pub(crate) fn decode(shape: &Shape, bytes: Bytes) -> Result<RecordBatch, String> {
    let read = || -> Result<Vec<RecordBatch>, Box<dyn std::error::Error>> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
        Ok(builder.with_batch_size(ROW_GROUP_ROWS).build()?.collect::<Result<_, _>>()?)
    };
    let batches = read().map_err(|e| format!("cannot be read as Parquet ({e})"))?;
    let batches = batches.iter().map(|b| shape.adopt(b)).collect::<Result<Vec<_>, _>>()?;
    concat_batches(&shape.schema, &batches).map_err(|e| e.to_string())
}

/// The statistics of a file, as Delta has them: how many rows, and the bounds of the columns that people filter by (the
/// key, and the birth). A bound may be wider than the values, never narrower.
pub(crate) fn statistics(shape: &Shape, batch: &RecordBatch) -> String {
    let (mut least, mut most, mut nulls) = (Map::new(), Map::new(), Map::new());
    let mut columns = shape.key.clone();
    columns.extend(shape.birth.filter(|at| !shape.key.contains(at)));
    for at in columns {
        let column = &shape.columns[at];
        let array = batch.column(at);
        nulls.insert(column.name.to_owned(), json!(array.null_count()));
        if let Some((low, high)) = bounds(array, column.kind) {
            least.insert(column.name.to_owned(), low);
            most.insert(column.name.to_owned(), high);
        }
    }
    json!({ "numRecords": batch.num_rows(), "minValues": least, "maxValues": most, "nullCount": nulls }).to_string()
}

fn bounds(array: &Arc<dyn Array>, kind: ColumnKind) -> Option<(Json, Json)> {
    match kind {
        ColumnKind::Bool => None,
        ColumnKind::Int => {
            let array = array.as_primitive::<Int64Type>();
            Some((json!(compute::min(array)?), json!(compute::max(array)?)))
        }
        ColumnKind::Text => {
            let array = array.as_string::<i32>();
            let (low, high) = (compute::min_string(array)?, compute::max_string(array)?);
            (low.len().max(high.len()) <= STATISTIC_TEXT_BYTES_MAX).then(|| (json!(low), json!(high)))
        }
        ColumnKind::Timestamp => {
            let array = array.as_primitive::<TimestampMicrosecondType>();
            // Delta's statistics have milliseconds: the lower bound is cut, the upper one rounded up.
            let low = millis(compute::min(array)?.div_euclid(1000))?;
            let high = millis(compute::max(array)?.div_euclid(1000) + 1)?;
            Some((json!(low), json!(high)))
        }
        ColumnKind::Date => {
            let array = array.as_primitive::<Date32Type>();
            Some((json!(calendar(compute::min(array)?)?), json!(calendar(compute::max(array)?)?)))
        }
    }
}

// Outside of the years that ISO 8601 writes with four digits there are no bounds.
const YEARS_0_TO_9999_SECS: std::ops::Range<i64> = -62_167_219_200..253_402_300_800;

fn millis(millis: i64) -> Option<String> {
    if !YEARS_0_TO_9999_SECS.contains(&millis.div_euclid(1000)) {
        return None;
    }
    let text = Micros::from_millis(millis).to_string();
    // From microseconds (…00.123000Z) to the milliseconds that they are.
    text.strip_suffix("000Z").map(|t| format!("{t}Z"))
}

fn calendar(day: i32) -> Option<String> {
    YEARS_0_TO_9999_SECS.contains(&(i64::from(day) * 86_400)).then(|| Day(day).to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::array::StringArray;

    use super::*;
    use crate::tests::specs;

    #[test]
    fn a_file_survives_and_a_damaged_one_says_why() {
        let shape = Shape::new(&specs::EVENTS).unwrap();
        let rows = [specs::event("a", 1, 5), specs::event_without("b"), specs::event("c", -9_000_001, -7)];
        let batch = shape.to_batch(&rows.iter().collect::<Vec<_>>()).unwrap();
        let bytes = encode(&shape, &batch).unwrap();
        assert_eq!(decode(&shape, bytes.clone().into()).unwrap(), batch);
        for cut in [0, 4, bytes.len() / 2, bytes.len() - 1] {
            assert!(decode(&shape, bytes[..cut].to_vec().into()).unwrap_err().contains("Parquet"));
        }
    }

    #[test]
    fn values_that_repeat_have_a_dictionary_few_are_not_compressed_and_keys_alone_have_bounds() {
        let shape = Shape::new(&specs::EVENTS).unwrap();
        let rows: Vec<_> = (0..5_000).map(|i| specs::event(&format!("k{i:05}"), i, i % 53)).collect();
        let batch = shape.to_batch(&rows.iter().collect::<Vec<_>>()).unwrap();
        let bytes = encode(&shape, &batch).unwrap();
        let builder = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).unwrap();
        let group = builder.metadata().row_group(0);
        let written = |name: &str| {
            let column = group.column(shape.columns.iter().position(|c| c.name == name).unwrap());
            (column.dictionary_page_offset().is_some(), column.compression() != Compression::UNCOMPRESSED)
        };
        let [many, some, few] = [(false, true), (true, true), (false, false)];
        assert_eq!(["id", "at", "n", "day", "note", "ok"].map(written), [many, many, some, some, some, few]);
        assert!(group.column(0).statistics().is_some());
        let others =
            shape.columns.iter().enumerate().filter(|(at, c)| !shape.key.contains(at) && c.kind == ColumnKind::Text);
        for (at, column) in others {
            assert!(group.column(at).statistics().is_none(), "{}", column.name);
        }
        let repeat = |values: Vec<Option<&str>>| Sampled::of(&StringArray::from(values), ColumnKind::Text).repeat();
        assert!(repeat(vec![Some("a"), Some("b"), Some("a"), Some("a")]));
        assert!(repeat(vec![None; 10]) && repeat(Vec::new()));
        assert!(!repeat(vec![Some("a"), Some("b"), Some("c"), None]));
        // What is rare and long does not make a dictionary that is left as it is.
        assert!(!repeat([None; 9].into_iter().chain([Some("a"), Some("b")]).collect()));
    }

    #[test]
    fn statistics_hold_every_value() {
        let shape = Shape::new(&specs::EVENTS).unwrap();
        let rows = [specs::event("a", 1_234_567, 5), specs::event_without("b"), specs::event("c", -1, 5)];
        let batch = shape.to_batch(&rows.iter().collect::<Vec<_>>()).unwrap();
        let json: Json = serde_json::from_str(&statistics(&shape, &batch)).unwrap();
        assert_eq!(json["numRecords"], 3);
        assert_eq!(json["minValues"], json!({ "id": "a", "at": "1969-12-31T23:59:59.999Z" }));
        assert_eq!(json["maxValues"], json!({ "id": "c", "at": "1970-01-01T00:00:01.235Z" }));
        assert_eq!(json["nullCount"], json!({ "id": 0, "at": 1 }));
        let far = shape.to_batch(&[&specs::event("a", i64::MAX, 5)]).unwrap();
        assert!(!statistics(&shape, &far).contains("\"at\":\""));
    }
}
