//! Upkeep: retiring epochs, removing files that nobody can read any more, checkpoints and clean-up of Delta logs.
//!
//! Bounded work after each commit (I9), spread over tables. Nothing is removed that a kept epoch needs, or that a reader
//! may still hold: a file that left its table at version *v* goes when the oldest manifest that anybody can be reading
//! (the *horizon*, see `manifest.rs`) names version *v* or a later one. Which files left when is remembered as commits
//! go; for what earlier processes left behind, each table is swept once: its Delta log after the horizon says what left
//! since, and files that neither the table nor this list knows are of attempts that crashed.
//!
//! Must not know: rows.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use deltalake_core::{DeltaTable, checkpoints, kernel::Action, logstore::get_actions};
use flowsync_schemas::{Manifest, Micros};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{ObjectMeta, path::Path};

use crate::{
    Sink, SinkError,
    manifest::Retention,
    open::now,
    store::STAGED,
    table::{Dead, Table},
};

/// Files of one table that are removed in one go.
const REMOVED_MAX: usize = 256;

/// What one round of upkeep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintenance {
    /// Epochs that can no longer be read.
    pub retired: usize,
    /// Data files removed.
    pub removed: usize,
    /// Checkpoints of Delta logs written.
    pub checkpoints: usize,
}

impl Sink {
    /// One round of upkeep; every commit ends with one. `now` is the clock, which only decides what is old.
    ///
    /// # Errors
    /// Storage and Delta errors; what is committed is not touched by them, and a later round goes on.
    pub async fn maintain(&mut self, now: Micros) -> Result<Maintenance, SinkError> {
        if self.unsettled {
            self.settle().await?;
        }
        let bytes_max = self.tables.values().map(Table::bytes).sum::<u64>().max(self.options.earlier_bytes_min);
        let too_much = |oldest: &Manifest| {
            let earlier = self.tables.values().map(|table| {
                let since = oldest.tables.get(table.spec.name).map_or(0, |listed| listed.delta);
                table.bytes_gone_after(since)
            });
            earlier.sum::<u64>() > bytes_max
        };
        let retired = self.manifests.retire(now, self.options.retention(), too_much).await?;
        let mut done = Maintenance { retired, ..Default::default() };
        let horizon = self.manifests.horizon().cloned();
        let cutoff_millis = now.0 / 1000 - i64::try_from(self.options.grace.as_millis()).unwrap_or(i64::MAX / 1000);
        let mut swept = 0;
        for table in self.tables.values_mut() {
            // Tables that the horizon does not list are younger than it: nothing of theirs is old.
            let before = horizon.as_ref().and_then(|h| h.tables.get(table.spec.name)).map(|t| t.delta);
            if let Some(before) = before {
                if !table.swept && swept < self.options.maintained_tables_max {
                    swept += 1;
                    done.removed += table.sweep(before, cutoff_millis).await?;
                }
                done.removed += table.vacuum(before).await?;
            }
            let interval = self.options.checkpoint_interval.max(1);
            if table.version / interval != table.checkpointed / interval
                && done.checkpoints < self.options.maintained_tables_max
            {
                table.checkpoint(before, cutoff_millis).await?;
                done.checkpoints += 1;
            }
        }
        metrics::counter!("flowsync_sink_files_vacuumed_total").increment(done.removed as u64);
        Ok(done)
    }
}

impl Sink {
    /// Leaves the newest epoch and nothing else: no earlier manifest, no file that only those list, no entry of a Delta log that
    /// tells of them, whoever may be reading. Erasing a person ends with it.
    ///
    /// # Errors
    /// Storage and Delta errors; what is committed is not touched by them, and the same call goes on.
    pub async fn purge(&mut self) -> Result<(), SinkError> {
        self.settle().await?;
        let newest_alone = Retention { count_max: 1, count_min: 1, age_max: Duration::MAX, grace: Duration::MAX };
        while self.manifests.retire(now(), newest_alone, |_| false).await? > 0 {}
        for table in self.tables.values_mut() {
            table.sweep(table.version, i64::MAX).await?;
            table.checkpoint(Some(table.version), i64::MAX).await?;
        }
        Ok(())
    }
}

impl Table {
    /// Bytes of its files.
    fn bytes(&self) -> u64 {
        self.buckets.values().map(|bucket| bucket.bytes).sum()
    }

    /// Bytes of files that are still there because version `since` lists them, or a later one that is no longer the newest.
    fn bytes_gone_after(&self, since: u64) -> u64 {
        self.dead.iter().rev().take_while(|dead| dead.version > since).map(|dead| dead.bytes).sum()
    }

    /// Removes files that left the table at or before version `before`.
    async fn vacuum(&mut self, before: u64) -> Result<usize, SinkError> {
        if !self.swept {
            return Ok(0);
        }
        let count = self.dead.iter().take(REMOVED_MAX).take_while(|dead| dead.version <= before).count();
        let files: Vec<Path> = self.dead.iter().take(count).map(|dead| Path::from(dead.file.as_str())).collect();
        self.delete(files).await?;
        self.dead.drain(..count);
        Ok(count)
    }

    /// Looks once through what earlier processes left behind.
    async fn sweep(&mut self, before: u64, cutoff_millis: i64) -> Result<usize, SinkError> {
        let dead = self.left_since(before).await?;
        let listed: Vec<ObjectMeta> = self
            .store()
            .list(None)
            .try_collect()
            .await
            .map_err(SinkError::storage(format!("listing table {}", self.spec.name)))?;
        let mut known: BTreeSet<&str> = self.buckets.values().map(|b| b.file.as_str()).collect();
        known.extend(dead.iter().map(|d| d.file.as_str()));
        let orphan = |meta: &ObjectMeta| {
            let path = meta.location.as_ref();
            // The Delta log has files of its own; of those only staged ones are ours to sweep.
            let data = !path.contains('/') && path.ends_with(".parquet") && !known.contains(path);
            (data || path.ends_with(STAGED)) && meta.last_modified.timestamp_millis() <= cutoff_millis
        };
        let orphans: Vec<Path> = listed.iter().filter(|m| orphan(m)).map(|m| m.location.clone()).collect();
        let count = orphans.len();
        self.delete(orphans).await?;
        self.dead = dead;
        self.swept = true;
        Ok(count)
    }

    /// The files that left the table after version `before`, by rising version, as its Delta log says.
    async fn left_since(&self, before: u64) -> Result<VecDeque<Dead>, SinkError> {
        let mut dead: Vec<Dead> = Vec::new();
        for version in before + 1..=self.version {
            let entry = self.log.read_commit_entry(version).await.map_err(SinkError::delta(self.spec.name))?;
            let entry = entry.ok_or_else(|| SinkError::File {
                path: format!("tables/{}/_delta_log/{version:020}.json", self.spec.name),
                reason: "the entry is missing, though a kept epoch needs it".to_owned(),
            })?;
            for action in get_actions(version, &entry).map_err(SinkError::delta(self.spec.name))? {
                match action {
                    Action::Remove(remove) => {
                        let bytes = remove.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
                        dead.push(Dead { version, file: remove.path, bytes });
                    }
                    // Brought back after a crash.
                    Action::Add(add) => dead.retain(|d| d.file != add.path),
                    _ => {}
                }
            }
        }
        Ok(dead.into())
    }

    async fn delete(&self, files: Vec<Path>) -> Result<(), SinkError> {
        let store = self.store();
        let locations = stream::iter(files.into_iter().map(Ok)).boxed();
        let deleted = store.delete_stream(locations).filter(|deleted| {
            // One that is gone already is as well.
            std::future::ready(!matches!(deleted, Err(object_store::Error::NotFound { .. })))
        });
        deleted
            .try_collect::<Vec<_>>()
            .await
            .map(|_| ())
            .map_err(SinkError::storage(format!("removing old files of table {}", self.spec.name)))
    }

    /// Writes a checkpoint of the Delta log, so that opening reads little, and cleans the log up to the horizon.
    async fn checkpoint(&mut self, before: Option<u64>, cutoff_millis: i64) -> Result<(), SinkError> {
        let mut table = DeltaTable::new(self.log.clone());
        self.read(table.load_version(self.version)).await?;
        // Reads more of the checkpoint before it than loading does.
        self.read(checkpoints::create_checkpoint(&table, None)).await?;
        self.checkpointed = self.version;
        if let Some(before) = before {
            // It cleans no further than the newest checkpoint at or before this version: all later ones stay readable.
            checkpoints::cleanup_expired_logs_for(before, self.log.as_ref(), cutoff_millis, None)
                .await
                .map_err(SinkError::delta(self.spec.name))?;
        }
        Ok(())
    }
}
