//! Facts of signals that are past their retention: nobody can compute them anew, so they are carried over into new tables, from the
//! old ones or from what a backup brought.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
    sync::Arc,
};

use anyhow::{Context, Result};
use flowsync_ingest::{
    Keys, Log,
    facts::{self, Facts},
};
use flowsync_schemas::{LogPosition, Row, SignalId, TableSpec, fact::base_tables, record::Field};
use flowsync_sinks::Sink;
use futures::StreamExt;
use tokio::runtime::Runtime;

use crate::pipeline::Rewrite;

/// Signals of a part.
const PART_SIGNALS: usize = 50_000;
/// Bytes of signals that are looked at in one go.
const PART_BYTES: usize = 32 << 20;

/// See the module.
pub struct Kept {
    pub log: Arc<dyn Log>,
    pub keys: Arc<Keys>,
    pub rewrite: Option<Rewrite>,
    /// What a backup brought, where there are no tables yet.
    pub restored: Option<PathBuf>,
}

impl Kept {
    /// Their rows, by base table.
    pub fn rows(&self, sink: &Sink, runtime: &Runtime) -> Result<Vec<(&'static str, Vec<Row>)>> {
        let signals = self.signals()?;
        if signals.is_empty() {
            return Ok(Vec::new());
        }
        let mut restored = self.restored()?;
        let mut carried = Vec::new();
        let mut named = BTreeSet::new();
        for table in base_tables() {
            let columns = (table.columns)();
            let signal = columns.iter().position(|column| column.name == "signal");
            let signal = signal.with_context(|| format!("table {} has no signals", table.name))?;
            let mut of_table = Vec::new();
            let mut keep = |rows: Vec<Row>| {
                for row in rows {
                    let of = row.get(signal).and_then(SignalId::from_value);
                    let Some(offset) = of.and_then(|id| signals.get(&id)) else { continue };
                    match self.rewrite.as_ref().and_then(|rewrite| rewrite(&columns, &row)) {
                        Some(new) => {
                            named.insert(*offset);
                            of_table.push(new);
                        }
                        None => of_table.push(row),
                    }
                }
            };
            match &mut restored {
                Some(restored) => keep(restored.remove(table.name).unwrap_or_default()),
                None => {
                    let mut files = sink.load_replaced(table.name);
                    while let Some(file) = runtime.block_on(files.next()) {
                        let file = file.with_context(|| {
                            format!(
                                "the facts of {} signals that are past their retention can be taken from the old tables \
                                 only: start the build that wrote them",
                                signals.len()
                            )
                        })?;
                        keep(file.to_rows());
                    }
                }
            }
            carried.push((table.name, of_table));
        }
        // Before the rows are replaced: an erasure that is interrupted here finds them again.
        facts::forget(named, &self.keys)?;
        tracing::info!(signals = signals.len(), "the facts of signals past their retention are carried over");
        Ok(carried)
    }

    /// The rows are in the tables.
    pub fn done(&self) -> Result<()> {
        self.restored.as_deref().map_or(Ok(()), |path| Ok(facts::remove(path)?))
    }

    fn restored(&self) -> Result<Option<BTreeMap<&'static str, Vec<Row>>>> {
        let Some(path) = &self.restored else { return Ok(None) };
        let mut rows: BTreeMap<&'static str, Vec<Row>> = BTreeMap::new();
        let known: HashMap<&str, &TableSpec> = base_tables().map(|table| (table.name, table)).collect();
        facts::read(path, &self.keys, |facts: Facts| {
            // A table that is no longer known has no rows.
            if let Some(table) = known.get(&*facts.table) {
                rows.entry(table.name).or_default().extend(facts.rows(&(table.columns)())?);
            }
            anyhow::Ok(())
        })?;
        Ok(Some(rows))
    }

    /// The signals of which the envelope alone is left, and where they lie.
    fn signals(&self) -> Result<HashMap<SignalId, u64>> {
        let mut signals = HashMap::new();
        for partition in 0..u32::try_from(self.log.ends()?.len())? {
            for range in self.log.withdrawn(partition)? {
                let mut offset = range.start;
                while offset < range.end {
                    let from = LogPosition { partition, offset };
                    let room = usize::try_from(range.end - offset)?.min(PART_SIGNALS);
                    let part = self.log.read(from, room, PART_BYTES)?;
                    let Some((last, _)) = part.last() else { break };
                    offset = last.offset + 1;
                    let gone = part.iter().filter(|(_, signal)| signal.is_withdrawn());
                    signals.extend(gone.map(|(at, signal)| (signal.id, at.offset)));
                }
            }
        }
        Ok(signals)
    }
}
