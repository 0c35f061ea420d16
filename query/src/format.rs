//! An answer as text or bytes: what `flowsync sql --format` and `Accept` choose from.

use std::str::FromStr;

use arrow::{
    csv, ipc,
    json::{
        StructMode, WriterBuilder,
        writer::{JsonArray, JsonFormat, LineDelimited},
    },
    util::pretty::pretty_format_batches_with_schema,
};
use parquet::{arrow::ArrowWriter, basic::Compression, file::properties::WriterProperties};
use serde_json::{Map, Value as Json};

use crate::{QueryError, QueryResult};

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A table for the terminal.
    Table,
    /// CSV with a header line.
    Csv,
    /// A JSON array of objects; NULL is written.
    Json,
    /// One JSON object a line.
    Ndjson,
    /// An Arrow IPC stream.
    Arrow,
    /// A Parquet file.
    Parquet,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 6] =
        [Format::Table, Format::Csv, Format::Json, Format::Ndjson, Format::Arrow, Format::Parquet];

    /// The word on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Format::Table => "table",
            Format::Csv => "csv",
            Format::Json => "json",
            Format::Ndjson => "ndjson",
            Format::Arrow => "arrow",
            Format::Parquet => "parquet",
        }
    }

    /// The media type in HTTP.
    pub const fn media_type(self) -> &'static str {
        match self {
            Format::Table => "text/plain; charset=utf-8",
            Format::Csv => "text/csv; charset=utf-8",
            Format::Json => "application/json",
            Format::Ndjson => "application/x-ndjson",
            Format::Arrow => "application/vnd.apache.arrow.stream",
            Format::Parquet => "application/vnd.apache.parquet",
        }
    }

    /// Whether the bytes are no text, so that a terminal should not get them.
    pub const fn is_binary(self) -> bool {
        matches!(self, Format::Arrow | Format::Parquet)
    }
}

impl FromStr for Format {
    type Err = QueryError;
    fn from_str(text: &str) -> Result<Self, QueryError> {
        Format::ALL.into_iter().find(|f| f.word() == text).ok_or_else(|| {
            let known = Format::ALL.map(Format::word).join(", ");
            QueryError::User(format!("there is no format {text:?}: formats are {known}"))
        })
    }
}

/// Writes an answer.
///
/// # Errors
/// Where a column is of a type that the format cannot hold.
pub fn write(format: Format, answer: &QueryResult) -> Result<Vec<u8>, QueryError> {
    match format {
        Format::Table => {
            let table = pretty_format_batches_with_schema(answer.schema.clone(), &answer.batches);
            Ok(format!("{}\n", table.map_err(unwritable)?).into_bytes())
        }
        Format::Csv => {
            let mut out = Vec::new();
            let mut writer = csv::WriterBuilder::new().with_header(true).build(&mut out);
            // An empty batch writes the header where there are no rows.
            writer.write(&arrow::array::RecordBatch::new_empty(answer.schema.clone())).map_err(unwritable)?;
            answer.batches.iter().try_for_each(|batch| writer.write(batch)).map_err(unwritable)?;
            drop(writer);
            Ok(out)
        }
        Format::Json => json::<JsonArray>(answer, StructMode::ObjectOnly),
        Format::Ndjson => json::<LineDelimited>(answer, StructMode::ObjectOnly),
        Format::Arrow => {
            let mut writer = ipc::writer::StreamWriter::try_new(Vec::new(), &answer.schema).map_err(unwritable)?;
            answer.batches.iter().try_for_each(|batch| writer.write(batch)).map_err(unwritable)?;
            writer.into_inner().map_err(unwritable)
        }
        Format::Parquet => {
            let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
            let mut writer =
                ArrowWriter::try_new(Vec::new(), answer.schema.clone(), Some(properties)).map_err(unwritable)?;
            answer.batches.iter().try_for_each(|batch| writer.write(batch)).map_err(unwritable)?;
            writer.into_inner().map_err(unwritable)
        }
    }
}

fn json<F: JsonFormat>(answer: &QueryResult, mode: StructMode) -> Result<Vec<u8>, QueryError> {
    let mut out = Vec::new();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).with_struct_mode(mode).build::<_, F>(&mut out);
    answer.batches.iter().try_for_each(|batch| writer.write(batch)).map_err(unwritable)?;
    writer.finish().map_err(unwritable)?;
    Ok(out)
}

/// A JSON array of arrays: rows without the names of their columns.
pub(crate) fn json_rows(answer: &QueryResult) -> Result<Vec<u8>, QueryError> {
    let rows = json::<JsonArray>(answer, StructMode::ListOnly)?;
    Ok(if rows.is_empty() { b"[]".to_vec() } else { rows })
}

/// Rows as JSON objects.
pub(crate) fn json_objects(answer: &QueryResult) -> Result<Vec<Map<String, Json>>, QueryError> {
    serde_json::from_slice(&write(Format::Json, answer)?).map_err(unwritable)
}

fn unwritable(error: impl std::fmt::Display) -> QueryError {
    QueryError::User(format!("the answer cannot be written in this format: {error}; cast the column in the query"))
}
