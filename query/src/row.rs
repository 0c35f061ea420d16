//! Values into and out of SQL: typed parameters, and rows whose cells are asked for by column name.

use std::sync::Arc;

use datafusion::scalar::ScalarValue;
use flowsync_schemas::{Day, Micros, PersonId, Row, SignalId, Value};

use crate::QueryError;

/// A value for `$1`, `$2`, …
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Param {
    /// NULL.
    Null,
    /// A boolean.
    Bool(bool),
    /// A 64-bit integer.
    Int(i64),
    /// Text.
    Text(String),
    /// A point in time.
    Timestamp(Micros),
    /// A day.
    Date(Day),
}

impl Param {
    pub(crate) fn scalar(&self) -> ScalarValue {
        match self {
            Param::Null => ScalarValue::Null,
            Param::Bool(b) => ScalarValue::Boolean(Some(*b)),
            Param::Int(i) => ScalarValue::Int64(Some(*i)),
            Param::Text(t) => ScalarValue::Utf8(Some(t.clone())),
            Param::Timestamp(t) => ScalarValue::TimestampMicrosecond(Some(t.0), Some("UTC".into())),
            Param::Date(d) => ScalarValue::Date32(Some(d.0)),
        }
    }
}

macro_rules! param_from {
    ($($ty:ty => |$v:ident| $param:expr;)+) => {
        $(impl From<$ty> for Param {
            fn from($v: $ty) -> Self {
                $param
            }
        })+
    };
}

param_from! {
    bool => |v| Param::Bool(v);
    i64 => |v| Param::Int(v);
    &str => |v| Param::Text(v.to_owned());
    String => |v| Param::Text(v);
    Micros => |v| Param::Timestamp(v);
    Day => |v| Param::Date(v);
    PersonId => |v| Param::Text(v.to_string());
    SignalId => |v| Param::Text(v.to_string());
}

/// One row of an answer. Timestamps are microseconds since 1970, dates are days since 1970; there are no floats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlRow {
    pub(crate) columns: Arc<[String]>,
    pub(crate) values: Row,
}

impl SqlRow {
    /// Names of the columns, in order.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The values, in the order of the columns.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// The value of a column.
    ///
    /// # Errors
    /// Where there is no such column.
    pub fn get(&self, column: &str) -> Result<&Value, QueryError> {
        let at = self.columns.iter().position(|c| c == column);
        at.map(|i| &self.values[i]).ok_or_else(|| QueryError::Internal(format!("the answer has no column {column}")))
    }

    fn wrong(&self, column: &str, wanted: &str) -> QueryError {
        QueryError::Internal(format!("column {column} of the answer is no {wanted}: {:?}", self.get(column).ok()))
    }

    /// Text, or `None` for NULL.
    ///
    /// # Errors
    /// Where there is no such column, or it holds something else.
    pub fn opt_text(&self, column: &str) -> Result<Option<&str>, QueryError> {
        match self.get(column)? {
            Value::Null => Ok(None),
            Value::Text(text) => Ok(Some(text)),
            _ => Err(self.wrong(column, "text")),
        }
    }

    /// Text.
    ///
    /// # Errors
    /// Where there is no such column, or it holds NULL or something else.
    pub fn text(&self, column: &str) -> Result<&str, QueryError> {
        self.opt_text(column)?.ok_or_else(|| self.wrong(column, "text"))
    }

    /// An integer (or timestamp, or date), or `None` for NULL.
    ///
    /// # Errors
    /// Where there is no such column, or it holds something else.
    pub fn opt_int(&self, column: &str) -> Result<Option<i64>, QueryError> {
        match self.get(column)? {
            Value::Null => Ok(None),
            Value::Int(int) => Ok(Some(*int)),
            _ => Err(self.wrong(column, "integer")),
        }
    }

    /// An integer (or timestamp, or date).
    ///
    /// # Errors
    /// Where there is no such column, or it holds NULL or something else.
    pub fn int(&self, column: &str) -> Result<i64, QueryError> {
        self.opt_int(column)?.ok_or_else(|| self.wrong(column, "integer"))
    }

    /// A boolean.
    ///
    /// # Errors
    /// Where there is no such column, or it holds NULL or something else.
    pub fn bool(&self, column: &str) -> Result<bool, QueryError> {
        match self.get(column)? {
            Value::Bool(b) => Ok(*b),
            _ => Err(self.wrong(column, "boolean")),
        }
    }
}
