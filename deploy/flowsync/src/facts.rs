//! The tables of facts, as a backup takes them: those of the newest commit, or what another backup brought where nothing is
//! committed yet.

use std::path::PathBuf;

use flowsync_ingest::{
    backup::{BackupError, Give, Tables},
    facts::{self, Facts},
};
use flowsync_query::{AsOf, Param, QueryError, Snapshot};
use flowsync_schemas::{Epoch, Row, TableSpec, Value, fact::base_tables};
use tokio::runtime::Handle;

use crate::data;

/// Rows that are read in one go.
const PART_ROWS: usize = 50_000;

/// See the module.
pub struct Committed {
    pub dir: PathBuf,
    /// Reads the files. It is waited for on another thread than its own.
    pub runtime: Handle,
}

impl Tables for Committed {
    fn each(&self, give: &mut Give<'_>) -> Result<(), BackupError> {
        // Opened for this backup: without the limits of those whom others wait for, and without what is not committed.
        let (dir, engine) = data::open_patient(&self.dir).map_err(|e| BackupError::Tables(e.into()))?;
        let snapshot = self.runtime.block_on(engine.snapshot(AsOf::Newest)).map_err(failed)?;
        if snapshot.epoch() == Epoch(0) && dir.facts().exists() {
            let keys = dir.keyring()?;
            return facts::read(&dir.facts(), &keys, |facts: Facts| {
                let known = base_tables().find(|table| table.name == facts.table);
                let Some(table) = known else { return Ok(()) };
                give(table.name, &names(table), &facts.rows(&(table.columns)())?)
            });
        }
        base_tables().try_for_each(|table| self.table(&snapshot, table, give))
    }
}

impl Committed {
    /// In the order of the signals, so that memory does not grow with the table.
    fn table(&self, snapshot: &Snapshot, table: &TableSpec, give: &mut Give<'_>) -> Result<(), BackupError> {
        let key = table.key.join(", ");
        // A signal states facts by number.
        let behind = match table.key {
            [signal] => format!("{signal} > $1"),
            _ => "signal > $1 or signal = $1 and seq > $2".to_owned(),
        };
        let from = format!("select * from {}", table.name);
        let end = format!("order by {key} limit {PART_ROWS}");
        let mut last: Option<Vec<Param>> = None;
        loop {
            let sql = if last.is_some() { format!("{from} where {behind} {end}") } else { format!("{from} {end}") };
            let read = snapshot.rows(&sql, last.as_deref().unwrap_or_default());
            let rows = self.runtime.block_on(read).map_err(failed)?;
            let values: Vec<Row> = rows.iter().map(|row| row.values().into()).collect();
            let Some(row) = rows.last() else { return Ok(()) };
            give(table.name, row.columns(), &values)?;
            if rows.len() < PART_ROWS {
                return Ok(());
            }
            let mut after = Vec::with_capacity(table.key.len());
            for column in table.key {
                after.push(match row.get(column).map_err(failed)? {
                    Value::Text(text) => Param::Text(text.to_string()),
                    Value::Int(int) => Param::Int(*int),
                    other => return Err(BackupError::Tables(format!("{}: {other:?} is in a key", table.name).into())),
                });
            }
            last = Some(after);
        }
    }
}

fn names(table: &TableSpec) -> Vec<String> {
    (table.columns)().iter().map(|column| column.name.to_owned()).collect()
}

fn failed(error: QueryError) -> BackupError {
    BackupError::Tables(error.into())
}
