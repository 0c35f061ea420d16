//! Upkeep: what kept epochs and readers may need stays, all else goes, and opening stays quick.

use std::{collections::BTreeSet, path::Path, time::Duration};

use flowsync_schemas::{Epoch, Micros};
use proptest::prelude::*;
use tempfile::TempDir;

use super::model::{PROGRAM, Step, catalogue, epochs, histories, open, options, play, read_back, run};
use crate::{Sink, SinkOptions};

pub(super) fn data_files(dir: &Path) -> BTreeSet<String> {
    let tables = std::fs::read_dir(dir.join("tables")).unwrap().map(|t| t.unwrap().path());
    tables
        .flat_map(|table| std::fs::read_dir(table).unwrap().map(|f| f.unwrap().path()))
        .filter(|f| f.is_file())
        .map(|f| f.display().to_string())
        .collect()
}

/// The files that a kept epoch needs, by what Delta itself says.
pub(super) async fn needed(dir: &Path) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    for epoch in epochs(dir) {
        files.extend(listed(dir, epoch).await);
    }
    files
}

/// The files that one epoch needs.
async fn listed(dir: &Path, epoch: Epoch) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    for (name, version) in super::model::manifest(dir, epoch).tables {
        let folder = dir.canonicalize().unwrap().join("tables").join(name);
        let url = url::Url::from_directory_path(folder).unwrap();
        let table = deltalake_core::open_table_with_version(url, version.delta).await.unwrap();
        files.extend(table.get_file_uris().unwrap());
    }
    files
}

fn clock() -> Micros {
    Micros(chrono::Utc::now().timestamp_micros())
}

fn later(now: Micros, secs: i64) -> Micros {
    Micros(now.0 + secs * 1_000_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 100, ..ProptestConfig::default() })]

    /// With restarts and crashed attempts in between, exactly the files of kept epochs are left in the end.
    #[test]
    fn only_what_kept_epochs_need_is_left(history in histories(8), kept in 2..4usize, restart_at in 0..8usize) {
        run(async {
            let dir = TempDir::new().unwrap();
            let root = dir.path().canonicalize().unwrap();
            let options = SinkOptions { manifests_max: kept, grace: Duration::from_secs(500), ..options() };
            let (deltas, states) = play(&history);
            let mut sink = Sink::open(&root, catalogue(), PROGRAM.into(), options).await.unwrap();
            for (at, delta) in deltas.iter().enumerate() {
                if at == restart_at {
                    drop(sink);
                    std::fs::write(root.join("tables/events/orphan.parquet"), "left behind").unwrap();
                    std::fs::write(root.join("tables/events/_delta_log/x.staged"), "left behind").unwrap();
                    sink = Sink::open(&root, catalogue(), PROGRAM.into(), options).await.unwrap();
                }
                sink.commit(delta.clone()).await.unwrap();
                assert!(needed(&root).await.is_subset(&data_files(&root)), "a kept epoch lost a file");
            }
            let now = clock();
            sink.maintain(now).await.unwrap();
            let before = data_files(&root);
            sink.maintain(later(now, 400)).await.unwrap();
            assert_eq!(data_files(&root), before, "readers have their grace");
            sink.maintain(later(now, 600)).await.unwrap();
            assert_eq!(data_files(&root), needed(&root).await);
            assert!(!root.join("tables/events/_delta_log/x.staged").exists());
            let epochs = epochs(&root);
            assert_eq!(epochs.len(), kept.min(deltas.len() + 1));
            for epoch in epochs {
                let at = deltas.iter().position(|d| d.upper == epoch).map_or(0, |at| at + 1);
                assert_eq!(read_back(&root, epoch).await, states[at]);
            }
        });
    }
}

fn busy(epochs: i64) -> Vec<Vec<Step>> {
    (0..epochs).map(|n| (0..3).map(|table| Step { table, id: (n % 20) as u8, row: Some((1, n)) }).collect()).collect()
}

#[test]
fn epochs_retire_by_age_but_two_stay() {
    run(async {
        let dir = TempDir::new().unwrap();
        let (deltas, _) = play(&busy(5));
        let mut sink = open(dir.path()).await.unwrap();
        for delta in &deltas {
            sink.commit(delta.clone()).await.unwrap();
        }
        assert_eq!(epochs(dir.path()).len(), 6);
        sink.maintain(later(clock(), 6 * 86_400)).await.unwrap();
        assert_eq!(epochs(dir.path()).len(), 6);
        let done = sink.maintain(later(clock(), 8 * 86_400)).await.unwrap();
        assert_eq!(done.retired, 4);
        assert_eq!(epochs(dir.path()), [Epoch(40), Epoch(50)]);
    });
}

#[test]
fn earlier_epochs_hold_no_more_bytes_than_the_newest() {
    run(async {
        let dir = TempDir::new().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (deltas, _) = play(&busy(60));
        let bounded = SinkOptions { earlier_bytes_min: 0, grace: Duration::ZERO, ..options() };
        let mut sink = Sink::open(&root, catalogue(), PROGRAM.into(), bounded).await.unwrap();
        let bytes = |files: &BTreeSet<String>| files.iter().map(|f| std::fs::metadata(f).unwrap().len()).sum::<u64>();
        let mut epochs_kept = 0;
        for (at, delta) in deltas.iter().enumerate() {
            // What a restart finds of earlier epochs is counted as well.
            if at == 40 {
                drop(sink);
                sink = Sink::open(&root, catalogue(), PROGRAM.into(), bounded).await.unwrap();
            }
            sink.commit(delta.clone()).await.unwrap();
            let now = clock();
            sink.maintain(later(now, 1)).await.unwrap();
            sink.maintain(later(now, 2)).await.unwrap();
            epochs_kept = epochs(&root).len();
            let newest = bytes(&listed(&root, delta.upper).await);
            let earlier = bytes(&data_files(&root)) - newest;
            assert!(epochs_kept == 2 || earlier <= newest, "{epochs_kept} epochs: {earlier} bytes beside {newest}");
        }
        assert!((3..60).contains(&epochs_kept), "{epochs_kept}");
        drop(sink);
        // A gigabyte may be there in any case.
        let mut sink = Sink::open(&root, catalogue(), PROGRAM.into(), options()).await.unwrap();
        assert_eq!(sink.maintain(later(clock(), 3)).await.unwrap().retired, 0);
    });
}

#[test]
fn logs_get_checkpoints_and_are_cleaned_up() {
    run(async {
        let dir = TempDir::new().unwrap();
        let (deltas, states) = play(&busy(30));
        let options = SinkOptions { manifests_max: 3, grace: Duration::ZERO, checkpoint_interval: 5, ..options() };
        let mut sink = Sink::open(dir.path(), catalogue(), PROGRAM.into(), options).await.unwrap();
        for delta in &deltas {
            sink.commit(delta.clone()).await.unwrap();
        }
        drop(sink);
        let log: Vec<String> = std::fs::read_dir(dir.path().join("tables/events/_delta_log"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(log.iter().any(|f| f.ends_with(".checkpoint.parquet")), "{log:?}");
        assert!(log.iter().filter(|f| f.ends_with(".json")).count() <= 15, "{log:?}");
        for epoch in epochs(dir.path()) {
            assert_eq!(read_back(dir.path(), epoch).await, states[epoch.0 as usize / 10], "from checkpoint and log");
        }
        let sink = Sink::open(dir.path(), catalogue(), PROGRAM.into(), options).await.unwrap();
        assert_eq!(&super::model::loaded(&sink).await, states.last().unwrap());
    });
}

#[test]
fn purging_leaves_the_newest_epoch_alone() {
    run(async {
        let dir = TempDir::new().unwrap();
        let (deltas, states) = play(&busy(12));
        let mut sink = Sink::open(dir.path(), catalogue(), PROGRAM.into(), options()).await.unwrap();
        for delta in &deltas {
            sink.commit(delta.clone()).await.unwrap();
        }
        std::fs::write(dir.path().join("tables/events/orphan.parquet"), "left behind").unwrap();
        sink.purge().await.unwrap();
        sink.purge().await.unwrap();
        let newest = *epochs(dir.path()).last().unwrap();
        assert_eq!(epochs(dir.path()), [newest]);
        assert_eq!(data_files(dir.path()), needed(dir.path()).await);
        let log: Vec<_> = std::fs::read_dir(dir.path().join("tables/events/_delta_log")).unwrap().collect();
        let entries = log.iter().map(|e| e.as_ref().unwrap().file_name().into_string().unwrap());
        assert!(entries.filter(|name| name.ends_with(".json")).count() <= 1, "{log:?}");
        assert_eq!(read_back(dir.path(), newest).await, *states.last().unwrap());
        drop(sink);
        let sink = Sink::open(dir.path(), catalogue(), PROGRAM.into(), options()).await.unwrap();
        assert_eq!(&super::model::loaded(&sink).await, states.last().unwrap());
    });
}
