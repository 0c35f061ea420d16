//! The manifests of a data directory: `DIR/manifests/{epoch:020}.json`, one an epoch that was committed.
//!
//! A manifest is written once, after everything that it names is durable, by put-if-absent; a repair of the same epoch
//! replaces it in one step. The newest one is the truth. Older ones stay for readers of the past, within limits (I9);
//! one that is retired leaves its files to readers for a grace period more: the *horizon* is the oldest manifest that
//! anybody can still be reading.
//!
//! Must not know: Delta, tables' contents.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use flowsync_schemas::{Epoch, Manifest, Micros};
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, path::Path};

use crate::{SinkError, store::STAGED};

/// Name of their folder.
pub(crate) const FOLDER: &str = "manifests";

/// Manifests retired in one go.
const RETIRED_MAX: usize = 64;

/// How long manifests are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    pub count_max: usize,
    pub count_min: usize,
    pub age_max: Duration,
    pub grace: Duration,
}

/// All manifests of a data directory.
pub(crate) struct Manifests {
    store: Arc<dyn ObjectStore>,
    /// The epochs that are kept, oldest first.
    kept: VecDeque<Epoch>,
    newest: Option<Arc<Manifest>>,
    /// The manifest of the first kept epoch, once it was needed.
    oldest: Option<Arc<Manifest>>,
    /// Since when which manifest is the oldest that is kept.
    oldest_since: VecDeque<(Micros, Arc<Manifest>)>,
    horizon: Option<Arc<Manifest>>,
}

fn path_of(epoch: Epoch) -> Path {
    Path::from(format!("{FOLDER}/{:020}.json", epoch.0))
}

fn epoch_of(path: &Path) -> Option<Epoch> {
    let digits = path.filename()?.strip_suffix(".json")?;
    if digits.len() == 20 { digits.parse().ok().map(Epoch) } else { None }
}

impl Manifests {
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, kept: VecDeque::new(), newest: None, oldest: None, oldest_since: VecDeque::new(), horizon: None }
    }

    /// Reads which manifests there are, and the newest; sweeps what a crash left half-written.
    pub async fn load(&mut self) -> Result<(), SinkError> {
        let folder = Path::from(FOLDER);
        let listed: Vec<_> =
            self.store.list(Some(&folder)).try_collect().await.map_err(SinkError::storage("listing the manifests"))?;
        for staged in listed.iter().filter(|m| m.location.as_ref().ends_with(STAGED)) {
            self.store.delete(&staged.location).await.map_err(SinkError::storage("sweeping the manifests"))?;
        }
        let mut epochs: Vec<Epoch> = listed.iter().filter_map(|m| epoch_of(&m.location)).collect();
        epochs.sort_unstable();
        self.newest = match epochs.last() {
            Some(epoch) => Some(Arc::new(self.read(*epoch).await?)),
            None => None,
        };
        self.kept = epochs.into();
        (self.oldest, self.horizon) = (None, None);
        self.oldest_since.clear();
        Ok(())
    }

    async fn read(&self, epoch: Epoch) -> Result<Manifest, SinkError> {
        let path = path_of(epoch);
        let wrong = |reason: String| SinkError::Manifest { path: path.to_string(), reason };
        let found = self.store.get(&path).await.map_err(SinkError::storage(path.to_string()))?;
        let bytes = found.bytes().await.map_err(SinkError::storage(path.to_string()))?;
        let manifest = Manifest::from_json(&bytes).map_err(wrong)?;
        if manifest.epoch != epoch {
            return Err(wrong(format!("it is of epoch {}, not of the one in its name", manifest.epoch)));
        }
        Ok(manifest)
    }

    /// The newest manifest.
    pub fn newest(&self) -> Option<&Arc<Manifest>> {
        self.newest.as_ref()
    }

    /// Writes a manifest durably: everything that it names is (I4). The same epoch again is a repair and replaces it.
    pub async fn publish(&mut self, manifest: Manifest) -> Result<Arc<Manifest>, SinkError> {
        let path = path_of(manifest.epoch);
        let repair = self.newest.as_ref().is_some_and(|m| m.epoch == manifest.epoch);
        let mode = if repair { PutMode::Overwrite } else { PutMode::Create };
        let bytes =
            manifest.to_json().map_err(|e| SinkError::Manifest { path: path.to_string(), reason: e.to_string() })?;
        let options = PutOptions { mode, ..Default::default() };
        self.store.put_opts(&path, bytes.into(), options).await.map_err(|source| match source {
            object_store::Error::AlreadyExists { .. } => SinkError::OtherWriter { what: path.to_string() },
            source => SinkError::Storage { what: path.to_string(), source },
        })?;
        let manifest = Arc::new(manifest);
        if !repair {
            self.kept.push_back(manifest.epoch);
        }
        self.newest = Some(manifest.clone());
        Ok(manifest)
    }

    /// Retires manifests beyond the limits, or as long as what is kept for the oldest one and those after it is `too_much`; moves
    /// the horizon. Returns how many were retired.
    pub async fn retire(
        &mut self,
        now: Micros,
        retention: Retention,
        too_much: impl Fn(&Manifest) -> bool,
    ) -> Result<usize, SinkError> {
        let micros = |d: Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
        let mut retired = 0;
        while let Some(oldest) = self.oldest().await? {
            if self.oldest_since.back().is_none_or(|(_, m)| m.epoch != oldest.epoch) {
                self.oldest_since.push_back((now, oldest.clone()));
            }
            let count = self.kept.len();
            let old = oldest.committed_at.0 < now.0.saturating_sub(micros(retention.age_max));
            let may_go =
                count > retention.count_min.max(1) && (count > retention.count_max || old || too_much(&oldest));
            if !may_go || retired == RETIRED_MAX {
                break;
            }
            self.store.delete(&path_of(oldest.epoch)).await.map_err(SinkError::storage("retiring a manifest"))?;
            self.kept.pop_front();
            self.oldest = None;
            retired += 1;
        }
        while self.oldest_since.front().is_some_and(|(at, _)| at.0.saturating_add(micros(retention.grace)) <= now.0) {
            self.horizon = self.oldest_since.pop_front().map(|(_, manifest)| manifest);
        }
        Ok(retired)
    }

    async fn oldest(&mut self) -> Result<Option<Arc<Manifest>>, SinkError> {
        if self.oldest.is_none()
            && let Some(epoch) = self.kept.front().copied()
        {
            self.oldest = Some(match &self.newest {
                Some(newest) if newest.epoch == epoch => newest.clone(),
                _ => Arc::new(self.read(epoch).await?),
            });
        }
        Ok(self.oldest.clone())
    }

    /// The oldest manifest that anybody can still be reading; `None` until the grace period after the start is over.
    pub fn horizon(&self) -> Option<&Arc<Manifest>> {
        self.horizon.as_ref()
    }
}
