//! Self-correction (I6) and rebuilding: making tables hold exactly the rows that were computed anew.
//!
//! `differing` finds the views whose files do not hold what a digest of their recomputed rows says: as a rule none, so that
//! nobody has to keep those rows. `reconcile` and `rebuild` compare, bucket by bucket and as multisets, what the files hold with
//! the rows that they should, and rewrite only buckets that differ. `reconcile` does it for views at the committed epoch: the
//! correction should be empty, and one that is not is logged and counted. `rebuild` does it for all tables at the epoch of the
//! recomputation, and makes no judgement: the program changed, so rows may. A damaged or missing file counts as empty, and is
//! written anew.
//!
//! Views whose version or columns changed are replaced: their files go, their columns are set, their rows are written,
//! all in one Delta version, so that the epochs before stay readable.
//!
//! Must not know: how rows are computed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use flowsync_schemas::{EpochDelta, Manifest, RowsDigest};
use futures::FutureExt;
use object_store::ObjectStore;

use crate::{
    Sink, SinkError,
    arrow::Shape,
    bucket::{Bucket, Place},
    commit::Goal,
    job::{Mode, Outcome, on_thread, read, side_by_side},
    open::now,
    table::Table,
};

/// What a reconciliation found and repaired. Empty when all is as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Correction {
    /// The tables that differed, by name.
    pub tables: BTreeMap<String, TableCorrection>,
    /// Views that were new or of another version, and were filled: no fault.
    pub replaced: BTreeSet<String>,
}

impl Correction {
    /// Whether no table differed.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }
}

/// How one table differed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableCorrection {
    /// Rows that should have been there and were not.
    pub missing: u64,
    /// Rows that were there and should not have been.
    pub extra: u64,
    /// Files that were written anew.
    pub files: u64,
}

impl Sink {
    /// The views, of those that `digests` tell, that do not hold the rows that they tell, each at its place: also where a file
    /// is missing or damaged. Those that hold nothing yet ([`Sink::stale_views`]) are none of them.
    ///
    /// # Errors
    /// As [`Sink::commit`].
    pub async fn differing(
        &mut self,
        digests: &BTreeMap<&'static str, RowsDigest>,
    ) -> Result<BTreeSet<&'static str>, SinkError> {
        self.continued().await?;
        let told = |t: &&Table| !t.base && !t.stale && digests.contains_key(t.spec.name);
        let mut reads = Vec::new();
        for table in self.tables.values().filter(told) {
            let places: Vec<Place> = table.buckets.keys().copied().collect();
            for (at, bucket) in table.buckets.values().enumerate() {
                let (name, shape, store) = (table.spec.name, table.shape.clone(), table.store());
                let (bucket, within) = (bucket.clone(), (places[at], places.get(at + 1).copied()));
                reads.push(async move { (name, digest(shape, store, bucket, within).await) }.boxed());
            }
        }
        let (mut held, mut differing) = (BTreeMap::<&str, RowsDigest>::new(), BTreeSet::new());
        for (name, digest) in side_by_side(self.options.parallelism, reads).await {
            match digest {
                Ok(digest) => held.entry(name).or_default().merge(digest),
                Err(error @ SinkError::File { .. }) => {
                    tracing::error!(%error, "a view cannot be read");
                    differing.insert(name);
                }
                Err(error) => return Err(error),
            }
        }
        let differs = |t: &&Table| held.get(t.spec.name).copied().unwrap_or_default() != digests[t.spec.name];
        differing.extend(self.tables.values().filter(told).filter(differs).map(|t| t.spec.name));
        Ok(differing)
    }

    /// Compares with `full` every view but those that it tells by digests: it holds every row of them (each with +1) as
    /// recomputed at exactly the committed epoch; base tables in it are not looked at. What differs is repaired by a commit of
    /// the same epoch.
    ///
    /// # Errors
    /// [`SinkError::OutOfOrder`] where `full` is of another epoch; [`SinkError::NeedsRebuild`]; as [`Sink::commit`].
    pub async fn reconcile(&mut self, full: impl Into<Arc<EpochDelta>>) -> Result<Correction, SinkError> {
        let full = full.into();
        let committed = self.continued().await?;
        if full.upper != committed.epoch {
            let (committed, lower, upper) = (committed.epoch, full.lower, full.upper);
            return Err(SinkError::OutOfOrder { committed, lower, upper });
        }
        self.unsettled = true;
        let rows_are_here = |t: &Table| !t.base && !full.digests.contains_key(t.spec.name);
        let (outcomes, replaced) = self.compare(&full, rows_are_here).await?;
        let correction = judge(&outcomes, &replaced);
        for (table, found) in &correction.tables {
            let (missing, extra) = (found.missing, found.extra);
            tracing::error!(table, missing, extra, "a view differed from its recomputation and is repaired");
            metrics::counter!("flowsync_sink_corrections_total", "table" => table.clone())
                .increment((missing + extra).max(1));
        }
        if correction.is_empty() && replaced.is_empty() {
            self.unsettled = false;
            return Ok(correction);
        }
        let goal = Goal { epoch: committed.epoch, positions: committed.positions.clone() };
        self.append_and_publish(goal, outcomes, &replaced).await?;
        Ok(correction)
    }

    /// Makes all tables, of facts and of views, hold exactly the rows of `full` (each with +1), at its epoch and
    /// positions. Readers see the epoch before until it is done. Allowed in every standing.
    ///
    /// # Errors
    /// [`SinkError::OutOfOrder`] where `full` ends before the committed epoch (the log lost signals); as
    /// [`Sink::commit`].
    pub async fn rebuild(&mut self, full: impl Into<Arc<EpochDelta>>) -> Result<Arc<Manifest>, SinkError> {
        let full = full.into();
        if self.unsettled {
            self.settle().await?;
        }
        let committed = self.manifests.newest().map(|m| m.epoch).unwrap_or_default();
        if full.upper < committed {
            return Err(SinkError::OutOfOrder { committed, lower: full.lower, upper: full.upper });
        }
        self.unsettled = true;
        let (outcomes, replaced) = self.compare(&full, |_| true).await?;
        let goal = Goal { epoch: full.upper, positions: full.positions.clone() };
        let manifest = self.append_and_publish(goal, outcomes, &replaced).await?;
        tracing::info!(epoch = manifest.epoch.0, tables = manifest.tables.len(), "tables were rebuilt");
        if let Err(error) = self.maintain(now()).await {
            tracing::warn!(%error, "upkeep of the tables failed");
        }
        Ok(manifest)
    }

    async fn compare(
        &self,
        full: &Arc<EpochDelta>,
        takes: impl Fn(&Table) -> bool,
    ) -> Result<(Vec<Outcome>, BTreeSet<&'static str>), SinkError> {
        let replaced = self.tables.values().filter(|t| takes(t) && t.stale).map(|t| t.spec.name).collect();
        let jobs = self.mint(full, Mode::Compare, takes).await?;
        Ok((self.write(jobs).await?, replaced))
    }
}

/// The digest of a bucket's rows, all of which have to be from its first place on and before the next bucket's.
async fn digest(
    shape: Arc<Shape>,
    store: Arc<dyn ObjectStore>,
    bucket: Bucket,
    (first, next): (Place, Option<Place>),
) -> Result<RowsDigest, SinkError> {
    let path = format!("tables/{}/{}", shape.name, bucket.file);
    let rows = read(shape.clone(), store, bucket).await?;
    on_thread(move || {
        let places = Place::of_batch(&shape, &rows);
        if places.iter().any(|place| *place < first || next.is_some_and(|next| *place >= next)) {
            return Err(SinkError::File { path, reason: "rows belong to another file".to_owned() });
        }
        Ok(shape.digest(&rows))
    })
    .await
}

fn judge(outcomes: &[Outcome], replaced: &BTreeSet<&'static str>) -> Correction {
    let mut tables: BTreeMap<String, TableCorrection> = BTreeMap::new();
    let differ = |o: &&Outcome| o.gone.is_some() || !o.come.is_empty();
    for outcome in outcomes.iter().filter(|o| !replaced.contains(o.table)).filter(differ) {
        let found = tables.entry(outcome.table.to_owned()).or_default();
        found.missing += outcome.missing;
        found.extra += outcome.extra;
        found.files += outcome.come.len() as u64;
    }
    Correction { tables, replaced: replaced.iter().map(|t| (*t).to_owned()).collect() }
}
