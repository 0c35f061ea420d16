//! The one door from reports to SQL: a query whose rows come back as structs.
//!
//! Invariant: columns are read by name, so a view may add or move columns; one that is missing, or of another kind, is an
//! error that names it, not a wrong report.

use flowsync_schemas::record::Field;

use crate::{Param, QueryError, Snapshot, SqlRow};

/// A struct that a query's rows are read as; [`query_row!`] makes one.
pub(crate) trait QueryRow: Sized {
    /// Names of the columns.
    const COLUMNS: &'static [&'static str];

    /// Reads one row.
    fn read(row: &SqlRow) -> Result<Self, QueryError>;
}

/// Declares a struct whose fields are columns of a query.
macro_rules! query_row {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$fmeta:meta])* $fvis:vis $field:ident: $ty:ty),+ $(,)? }) => {
        $(#[$meta])*
        $vis struct $name { $($(#[$fmeta])* $fvis $field: $ty),+ }

        impl $crate::reports::rows::QueryRow for $name {
            const COLUMNS: &'static [&'static str] = &[$(stringify!($field)),+];

            fn read(row: &$crate::SqlRow) -> Result<Self, $crate::QueryError> {
                Ok(Self { $($field: $crate::reports::rows::cell(row, stringify!($field))?),+ })
            }
        }
    };
}
pub(crate) use query_row;

/// One cell, as a type that a column can hold.
pub(crate) fn cell<F: Field>(row: &SqlRow, column: &str) -> Result<F, QueryError> {
    let value = row.get(column)?;
    F::from_value(value)
        .ok_or_else(|| QueryError::Internal(format!("column {column} of the answer: {value:?} is no {:?}", F::KIND)))
}

/// Runs a query and reads its rows. `{columns}` in the query stands for the names of the struct's fields.
pub(crate) async fn select<R: QueryRow>(
    snapshot: &Snapshot,
    sql: &str,
    params: &[Param],
) -> Result<Vec<R>, QueryError> {
    let rows = snapshot.rows(&sql.replace("{columns}", &R::COLUMNS.join(", ")), params).await?;
    rows.iter().map(R::read).collect()
}

/// The key text of a row whose key columns are all text, as [`crate::why::parse_key`] reads it.
pub(crate) fn key_of_texts(parts: &[&str]) -> String {
    parts.iter().map(|part| part.replace('\\', "\\\\").replace(',', "\\,")).collect::<Vec<_>>().join(",")
}
