//! Manifests of a data directory: which epochs are committed, and what each lists.
//!
//! Keeps I4: a manifest is written last and never changed, so one that can be read names a whole epoch.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use flowsync_schemas::{Epoch, Manifest, Micros};

use crate::QueryError;

const CACHED_MAX: usize = 64;

/// Reads manifests; keeps the last few parsed.
#[derive(Debug)]
pub(crate) struct Manifests {
    dir: PathBuf,
    cache: Mutex<BTreeMap<Epoch, Arc<Manifest>>>,
}

impl Manifests {
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self { dir: data_dir.join("manifests"), cache: Mutex::default() }
    }

    /// The epochs that are committed and kept, ascending.
    pub(crate) fn epochs(&self) -> Result<Vec<Epoch>, QueryError> {
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(QueryError::io(&self.dir)(e)),
        };
        let mut epochs = Vec::new();
        for entry in entries {
            let name = entry.map_err(QueryError::io(&self.dir))?.file_name();
            let digits = name.to_str().and_then(|n| n.strip_suffix(".json")).filter(|d| d.len() == 20);
            // Anything else in the directory is a file that is still being written.
            if let Some(epoch) = digits.and_then(|d| d.parse().ok()) {
                epochs.push(Epoch(epoch));
            }
        }
        epochs.sort_unstable();
        Ok(epochs)
    }

    /// The manifest of an epoch, or `None` where it is not kept.
    pub(crate) fn get(&self, epoch: Epoch) -> Result<Option<Arc<Manifest>>, QueryError> {
        if let Some(manifest) = self.cache().get(&epoch) {
            return Ok(Some(manifest.clone()));
        }
        let path = self.dir.join(format!("{:020}.json", epoch.0));
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(QueryError::io(&path)(e)),
        };
        let manifest = Manifest::from_json(&bytes).map_err(|e| {
            QueryError::Data(format!("{}: {e}; without this file the epoch before is read", path.display()))
        })?;
        let manifest = Arc::new(manifest);
        let mut cache = self.cache();
        cache.insert(epoch, manifest.clone());
        while cache.len() > CACHED_MAX {
            cache.pop_first();
        }
        Ok(Some(manifest))
    }

    /// The newest manifest, or `None` where nothing is committed.
    pub(crate) fn newest(&self) -> Result<Option<Arc<Manifest>>, QueryError> {
        // A listed manifest may be cleaned away before it is read; the newest never is.
        for epoch in self.epochs()?.into_iter().rev() {
            if let Some(manifest) = self.get(epoch)? {
                return Ok(Some(manifest));
            }
        }
        Ok(None)
    }

    /// The newest manifest that was committed at or before `time`.
    pub(crate) fn at(&self, time: Micros) -> Result<Option<Arc<Manifest>>, QueryError> {
        let epochs = self.epochs()?;
        let (mut low, mut high) = (0, epochs.len());
        let mut found = None;
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(epochs[middle])? {
                Some(manifest) if manifest.committed_at <= time => {
                    found = Some(manifest);
                    low = middle + 1;
                }
                Some(_) => high = middle,
                // Cleaned away meanwhile: old ones go first.
                None => low = middle + 1,
            }
        }
        Ok(found)
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, BTreeMap<Epoch, Arc<Manifest>>> {
        // A panic elsewhere cannot leave a map of whole manifests half written.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn write(dir: &Path, epoch: u64, format: u32) {
        let manifest = Manifest {
            format,
            epoch: Epoch(epoch),
            positions: vec![epoch],
            committed_at: Micros(epoch as i64 * 10),
            program: String::new(),
            tables: BTreeMap::new(),
        };
        let path = dir.join("manifests");
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join(format!("{epoch:020}.json")), manifest.to_json().unwrap()).unwrap();
    }

    #[test]
    fn epochs_are_found_by_number_and_by_time() {
        let dir = tempfile::tempdir().unwrap();
        let manifests = Manifests::new(dir.path());
        assert_eq!(manifests.newest().unwrap(), None);
        for epoch in [3, 100, 20] {
            write(dir.path(), epoch, Manifest::FORMAT);
        }
        std::fs::write(dir.path().join("manifests/00000000000000000200.json.tmp"), b"half").unwrap();
        assert_eq!(manifests.epochs().unwrap(), [Epoch(3), Epoch(20), Epoch(100)]);
        assert_eq!(manifests.newest().unwrap().unwrap().epoch, Epoch(100));
        assert_eq!(manifests.get(Epoch(4)).unwrap(), None);
        let at = |t| manifests.at(Micros(t)).unwrap().map(|m| m.epoch.0);
        assert_eq!((at(29), at(30), at(199), at(200), at(i64::MAX)), (None, Some(3), Some(3), Some(20), Some(100)));
    }

    #[test]
    fn a_newer_format_and_garbage_are_refused_with_the_file_name() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), 7, Manifest::FORMAT + 1);
        std::fs::write(dir.path().join("manifests/00000000000000000008.json"), b"{").unwrap();
        let manifests = Manifests::new(dir.path());
        for epoch in [7, 8] {
            let error = manifests.get(Epoch(epoch)).unwrap_err().to_string();
            assert!(error.contains(&format!("{epoch:020}.json")), "{error}");
        }
    }
}
