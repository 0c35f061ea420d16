//! The commit of one epoch: mint, write, append, manifest.
//!
//! ```text
//!  delta [lower, upper)          lower must be the committed epoch
//!        │
//!  mint  │  divide the changed rows over the buckets of their tables           (memory alone)
//!        ▼
//!  write │  per touched bucket: read its file, apply the differences,          new names; nothing refers to them
//!        │  write a new Parquet file; flushed                                   ── crash: orphans, swept later
//!        ▼
//! append │  per changed table, side by side: one Delta commit                  version = held + 1, put-if-absent,
//!        │  { remove old, add new, txn(app = view, version = upper) }; flushed  never rebased
//!        │                                                                      ── crash: tables ahead, brought back
//!        ▼
//! publish│  manifests/{upper}.json: version of every table; flushed             put-if-absent: THE commit point
//!        │                                                                      ── crash: committed
//!        ▼
//! absorb │  memory takes over what was published; then upkeep (`maintain.rs`)
//! ```
//!
//! 1. (I4) A manifest names only what is complete and durable, and all tables in it are at its epoch.
//! 2. (I2) An epoch is committed once: `upper` again is answered with the manifest that there is; any other interval
//!    that does not start at the committed epoch is refused. Differences that do not fit the rows are refused.
//! 3. An attempt that fails leaves the sink *unsettled*: the next call first brings memory and tables to what the newest
//!    manifest says, and only then begins. So each step can fail, or the process end, at any point, without harm.
//! 4. Tables that did not change make no commit and keep their version in the manifest.
//!
//! Must not know: how rows are laid out in files, SQL, timely.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use deltalake_core::kernel::Action;
use flowsync_schemas::{Epoch, EpochDelta, Manifest, TableVersion};
use futures::FutureExt;
use object_store::ObjectStore;

use crate::{
    Sink, SinkError,
    bucket::Place,
    job::{Job, Mode, Outcome, Share, Source, on_thread, shares, side_by_side},
    open::now,
    table::{Dead, Table, remove},
};

/// Where a commit leads.
#[derive(Clone, Debug)]
pub(crate) struct Goal {
    pub epoch: Epoch,
    pub positions: Vec<u64>,
}

impl Table {
    /// The files of the table.
    pub(crate) fn store(&self) -> Arc<dyn ObjectStore> {
        self.log.object_store(None)
    }
}

impl Sink {
    /// Commits what changed from the committed epoch to `delta.upper`: all tables, or none. Committing the same again is
    /// a no-op. After an error the same delta can be committed anew, not a longer one: what failed may have been committed,
    /// as far as anybody can tell. Drive the future to its end, for files may still be written behind one that was dropped.
    ///
    /// # Errors
    /// [`SinkError::OutOfOrder`] where the interval does not continue the committed epoch; [`SinkError::Diverged`] and
    /// [`SinkError::File`] where the tables have to be rebuilt; [`SinkError::OtherWriter`]; storage errors, which are
    /// retryable. Readers of manifests then see all of it, or nothing.
    pub async fn commit(&mut self, delta: impl Into<Arc<EpochDelta>>) -> Result<Arc<Manifest>, SinkError> {
        let (delta, started) = (delta.into(), Instant::now());
        let committed = self.continued().await?;
        if delta.upper == committed.epoch && delta.lower < delta.upper {
            return Ok(committed);
        }
        if delta.lower != committed.epoch || delta.upper <= delta.lower {
            let (committed, lower, upper) = (committed.epoch, delta.lower, delta.upper);
            return Err(SinkError::OutOfOrder { committed, lower, upper });
        }
        if let [first, ..] = self.stale_views()[..] {
            return Err(SinkError::NeedsReconcile(first.to_owned()));
        }
        self.unsettled = true;
        let jobs = self.mint(&delta, Mode::Apply, |_| true).await?;
        let outcomes = self.write(jobs).await?;
        let goal = Goal { epoch: delta.upper, positions: delta.positions.clone() };
        let manifest = self.append_and_publish(goal, outcomes, &BTreeSet::new()).await?;
        metrics::histogram!("flowsync_sink_commit_seconds").record(started.elapsed().as_secs_f64());
        if let Err(error) = self.maintain(now()).await {
            // What is committed stands; the next commit tries the upkeep again.
            tracing::warn!(%error, "upkeep of the tables failed");
        }
        Ok(manifest)
    }

    /// The committed manifest, once memory agrees with the files.
    pub(crate) async fn continued(&mut self) -> Result<Arc<Manifest>, SinkError> {
        if self.unsettled {
            self.settle().await?;
        }
        match (&self.rebuild, self.manifests.newest()) {
            (Some(reason), _) => Err(SinkError::NeedsRebuild(reason.clone())),
            (None, Some(newest)) => Ok(newest.clone()),
            (None, None) => Err(SinkError::NeedsRebuild("no manifest".to_owned())),
        }
    }

    /// Divides the rows over the buckets of the tables that `takes`.
    pub(crate) async fn mint(
        &self,
        delta: &Arc<EpochDelta>,
        mode: Mode,
        takes: impl Fn(&Table) -> bool,
    ) -> Result<Vec<Job>, SinkError> {
        let mut named = BTreeSet::new();
        for change in &delta.changes {
            if !self.tables.contains_key(change.table) {
                return Err(SinkError::UnknownTable(change.table.to_owned()));
            }
            if !named.insert(change.table) {
                return Err(SinkError::Spec {
                    table: change.table.into(),
                    reason: "changed twice in one delta".into(),
                });
            }
        }
        let compares = mode == Mode::Compare;
        let touched = self.tables.values().filter(|t| takes(t) && (compares || named.contains(t.spec.name)));
        let mut jobs = Vec::new();
        for table in touched {
            let source = Source::of(delta, table.spec.name);
            let (shape, rows) = (table.shape.clone(), source.clone());
            let starts: Vec<Place> = table.buckets.keys().copied().collect();
            let rows_max = self.options.limits().rows;
            let divided = on_thread(move || Ok(shares(&shape, &starts, rows.rows(), rows_max, compares))).await?;
            jobs.extend(divided.into_iter().map(|share| self.job(table, delta.upper, mode, source.clone(), share)));
        }
        Ok(jobs)
    }

    fn job(&self, table: &Table, epoch: Epoch, mode: Mode, source: Source, share: Share) -> Job {
        Job {
            table: table.spec.name,
            shape: table.shape.clone(),
            store: table.store(),
            epoch,
            limits: self.options.limits(),
            warm: self.warm.clone(),
            threads: self.threads.clone(),
            mode,
            source,
            old: share.bucket.and_then(|place| table.buckets.get(&place)).cloned(),
            share,
        }
    }

    /// Writes the files of all jobs. All of them end before this returns, also where one fails: nothing is under way
    /// behind the caller's back.
    pub(crate) async fn write(&self, jobs: Vec<Job>) -> Result<Vec<Outcome>, SinkError> {
        let parallelism = self.options.parallelism;
        let outcomes =
            side_by_side(parallelism, jobs.into_iter().map(|job| job.run(parallelism).boxed()).collect()).await;
        outcomes.into_iter().collect()
    }

    /// Commits each changed table, then the epoch, then takes it over. `replaced` tables lose all that they held.
    pub(crate) async fn append_and_publish(
        &mut self,
        goal: Goal,
        outcomes: Vec<Outcome>,
        replaced: &BTreeSet<&'static str>,
    ) -> Result<Arc<Manifest>, SinkError> {
        let appended = self.append(goal.epoch, &outcomes, replaced).await?;
        let manifest = Manifest {
            format: Manifest::FORMAT,
            epoch: goal.epoch,
            positions: goal.positions,
            committed_at: now(),
            program: self.program.clone(),
            tables: self.versions_after(&outcomes, &appended),
        };
        let manifest = self.manifests.publish(manifest).await?;
        self.absorb(outcomes, &appended, replaced);
        Ok(manifest)
    }

    /// One Delta commit a changed table, side by side; all of them end before this returns.
    async fn append(
        &self,
        epoch: Epoch,
        outcomes: &[Outcome],
        replaced: &BTreeSet<&'static str>,
    ) -> Result<BTreeMap<&'static str, u64>, SinkError> {
        let mut actions: BTreeMap<&'static str, Vec<Action>> =
            replaced.iter().map(|table| (*table, Vec::new())).collect();
        for outcome in outcomes.iter().filter(|o| o.gone.is_some() || !o.come.is_empty()) {
            let actions = actions.entry(outcome.table).or_default();
            // Buckets are limited far below 2^63 bytes.
            actions.extend(outcome.gone.iter().map(|(_, b)| Action::from(remove(&b.file, b.bytes as i64))));
            actions.extend(outcome.come.iter().map(|(_, add, _)| Action::from(add.clone())));
        }
        let mut commits = Vec::new();
        for (name, actions) in actions {
            let table = self.tables.get(name).ok_or_else(|| SinkError::UnknownTable(name.to_owned()))?;
            commits.push(advance(table, actions, epoch, replaced.contains(name)).boxed());
        }
        let commits = side_by_side(self.options.parallelism, commits).await;
        commits.into_iter().collect()
    }

    /// The tables as the manifest lists them now.
    pub(crate) fn table_versions(&self) -> BTreeMap<String, TableVersion> {
        self.versions_after(&[], &BTreeMap::new())
    }

    fn versions_after(
        &self,
        outcomes: &[Outcome],
        appended: &BTreeMap<&'static str, u64>,
    ) -> BTreeMap<String, TableVersion> {
        let mut versions: BTreeMap<String, TableVersion> = BTreeMap::new();
        for (name, table) in &self.tables {
            let delta = appended.get(name).copied().unwrap_or(table.version);
            let files = Some(table.digest());
            let version = TableVersion { view: table.spec.version, delta, rows: table.rows(), files };
            versions.insert((*name).to_owned(), version);
        }
        for outcome in outcomes {
            if let Some(version) = versions.get_mut(outcome.table) {
                version.rows += outcome.come.iter().map(|(_, _, bucket)| bucket.rows).sum::<u64>();
                version.rows -= outcome.gone.as_ref().map_or(0, |(_, bucket)| bucket.rows);
                let digest = version.files.unwrap_or_default();
                let digest = outcome.come.iter().fold(digest, |digest, (_, _, bucket)| bucket.added_to(digest));
                version.files = Some(outcome.gone.iter().fold(digest, |digest, (_, gone)| gone.taken_from(digest)));
            }
        }
        versions
    }

    /// Memory takes over what was published.
    fn absorb(
        &mut self,
        outcomes: Vec<Outcome>,
        appended: &BTreeMap<&'static str, u64>,
        replaced: &BTreeSet<&'static str>,
    ) {
        measure(&outcomes);
        for (name, version) in appended {
            let Some(table) = self.tables.get_mut(name) else { continue };
            table.version = *version;
            if replaced.contains(name) {
                // Which files went is in the Delta log; upkeep reads it there.
                (table.stale, table.swept) = (false, false);
                table.dead.clear();
            }
        }
        // All that goes first: what comes may start at the same place.
        for outcome in &outcomes {
            let Some(table) = self.tables.get_mut(outcome.table) else { continue };
            if let Some((place, bucket)) = &outcome.gone {
                table.buckets.remove(place);
                table.dead.push_back(Dead { version: table.version, file: bucket.file.clone(), bytes: bucket.bytes });
            }
        }
        for outcome in outcomes {
            let Some(table) = self.tables.get_mut(outcome.table) else { continue };
            table.buckets.extend(outcome.come.into_iter().map(|(place, _, bucket)| (place, bucket)));
        }
        self.rebuild = None;
        self.unsettled = false;
    }
}

/// One Delta commit, under the version after the one that is held.
async fn advance(
    table: &Table,
    actions: Vec<Action>,
    epoch: Epoch,
    replaced: bool,
) -> Result<(&'static str, u64), SinkError> {
    let mut all = if replaced { table.replacement().await? } else { Vec::new() };
    all.extend(actions);
    let version = table.version + 1;
    table.append(version, all, epoch).await.map(|()| (table.spec.name, version))
}

/// Write amplification: bytes written, over an estimate of the bytes that the changed rows alone would have taken.
fn measure(outcomes: &[Outcome]) {
    let (mut written, mut changed, mut files, mut removed) = (0u64, 0u64, 0u64, 0u64);
    for outcome in outcomes {
        let come = || outcome.come.iter().map(|(_, _, bucket)| bucket);
        let old = outcome.gone.as_ref().map(|(_, bucket)| bucket);
        let sample: Vec<_> = if outcome.come.is_empty() { old.into_iter().collect() } else { come().collect() };
        let (rows, bytes) = sample.iter().fold((0, 0), |(rows, bytes), b| (rows + b.rows, bytes + b.bytes));
        changed += outcome.keys * bytes / rows.max(1);
        written += come().map(|bucket| bucket.bytes).sum::<u64>();
        files += outcome.come.len() as u64;
        removed += u64::from(old.is_some());
    }
    metrics::counter!("flowsync_sink_bytes_written_total").increment(written);
    metrics::counter!("flowsync_sink_bytes_changed_total").increment(changed);
    metrics::counter!("flowsync_sink_files_written_total").increment(files);
    metrics::counter!("flowsync_sink_files_replaced_total").increment(removed);
    metrics::counter!("flowsync_sink_commits_total").increment(1);
}
