//! One writer: a second sink is refused and told who holds the directory; a foreign Delta writer is noticed, never
//! rebased over, and undone at the next start. And what is read back says what is wrong with it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::record_batch::RecordBatch;
use deltalake_core::{DeltaTable, protocol::SaveMode};
use flowsync_schemas::{Epoch, Row};
use parquet::file::reader::{FileReader, SerializedFileReader};
use tempfile::TempDir;

use super::{
    model::{self, PROGRAM, Step, open, options, play, read_back, rows_of, run},
    specs::{EVENTS, event},
};
use crate::{Catalogue, Sink, SinkError, arrow::Shape};

fn history() -> Vec<Vec<Step>> {
    let steps = |n: i64| (0..6u8).flat_map(move |id| (0..3).map(move |table| Step { table, id, row: Some((1, n)) }));
    vec![steps(1).collect(), steps(2).collect(), steps(3).collect()]
}

#[test]
fn a_second_sink_is_refused() {
    run(async {
        let dir = TempDir::new().unwrap();
        let first = open(dir.path()).await.unwrap();
        let error = open(dir.path()).await.err().unwrap();
        let holder = format!("process {}", std::process::id());
        assert!(matches!(&error, SinkError::Locked { holder: h, .. } if *h == holder), "{error}");
        drop(first);
        open(dir.path()).await.unwrap();
    });
}

#[test]
fn a_foreign_commit_is_refused_and_undone() {
    run(async {
        let dir = TempDir::new().unwrap();
        let (deltas, states) = play(&history());
        let mut sink = open(dir.path()).await.unwrap();
        sink.commit(deltas[0].clone()).await.unwrap();

        let folder = dir.path().canonicalize().unwrap().join("tables/events");
        let table = deltalake_core::open_table(url::Url::from_directory_path(folder).unwrap()).await.unwrap();
        let shape = Shape::new(&EVENTS).unwrap();
        let batch: RecordBatch = shape.to_batch(&[&event("foreign", 1, 1)]).unwrap();
        let _: DeltaTable = table.write(vec![batch]).with_save_mode(SaveMode::Append).await.unwrap();

        let error = sink.commit(deltas[1].clone()).await.unwrap_err();
        assert!(matches!(&error, SinkError::OtherWriter { what } if what.contains("events")), "{error}");
        assert!(!error.is_retryable());
        assert_eq!(read_back(dir.path(), deltas[0].upper).await, states[1]);
        drop(sink);

        let mut sink = open(dir.path()).await.unwrap();
        sink.commit(deltas[1].clone()).await.unwrap();
        assert_eq!(read_back(dir.path(), deltas[1].upper).await, states[2]);
        let newest = model::read_table(dir.path(), &EVENTS, None).await;
        assert_eq!(newest.into_iter().collect::<std::collections::BTreeSet<_>>(), states[2]["events"]);
    });
}

/// Commits run in tasks of their own: this does not compile otherwise.
#[test]
fn futures_can_be_spawned() {
    fn spawnable(_: impl Send) {}
    #[allow(dead_code)]
    fn all(sink: &mut Sink, delta: flowsync_schemas::EpochDelta) {
        spawnable(sink.commit(delta.clone()));
        spawnable(sink.differing(&delta.digests));
        spawnable(sink.reconcile(delta.clone()));
        spawnable(sink.rebuild(delta.clone()));
        spawnable(sink.load(""));
    }
    spawnable(std::marker::PhantomData::<Sink>);
}

#[test]
fn unknown_tables_and_bad_catalogues_are_named() {
    run(async {
        let dir = TempDir::new().unwrap();
        let mut sink = open(dir.path()).await.unwrap();
        assert!(matches!(rows_of(sink.load("nothing")).await, Err(SinkError::UnknownTable(t)) if t == "nothing"));
        let (mut deltas, _) = play(&history());
        deltas[0].changes[0].table = "nothing";
        assert!(matches!(sink.commit(deltas[0].clone()).await, Err(SinkError::UnknownTable(_))));
        drop(sink);
        let twice = Catalogue { base: vec![EVENTS], views: vec![EVENTS] };
        let error = Sink::open(dir.path(), twice, PROGRAM.into(), options()).await.err().unwrap();
        assert!(matches!(error, SinkError::Spec { .. }), "{error}");
    });
}

#[test]
fn a_missing_or_damaged_file_is_named() {
    run(async {
        let dir = TempDir::new().unwrap();
        let (deltas, _) = play(&history());
        open(dir.path()).await.unwrap().commit(deltas[0].clone()).await.unwrap();
        // A process that does not hold the rows that it wrote.
        let mut sink = open(dir.path()).await.unwrap();
        let file = std::fs::read_dir(dir.path().join("tables/events"))
            .unwrap()
            .map(|e| e.unwrap().path())
            .find(|p| p.extension().is_some_and(|e| e == "parquet"))
            .unwrap();
        let bytes = std::fs::read(&file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        for damage in [None, Some(bytes[..bytes.len() / 2].to_vec()), Some(vec![0; bytes.len()])] {
            match damage {
                None => std::fs::remove_file(&file).unwrap(),
                Some(bytes) => std::fs::write(&file, bytes).unwrap(),
            }
            for error in
                [rows_of(sink.load("events")).await.unwrap_err(), sink.commit(deltas[1].clone()).await.unwrap_err()]
            {
                let text = error.to_string();
                assert!(matches!(error, SinkError::File { .. }) && error.calls_for_rebuild(), "{text}");
                assert!(text.contains(name) && text.contains("rebuild the tables"), "{text}");
            }
        }
        std::fs::write(&file, bytes).unwrap();
        sink.commit(deltas[1].clone()).await.unwrap();
    });
}

#[test]
fn a_flipped_bit_of_a_data_file_or_of_a_delta_log_is_told_or_harmless() {
    run(async {
        let dir = TempDir::new().unwrap();
        let (deltas, _) = play(&history());
        let mut sink = open(dir.path()).await.unwrap();
        for delta in deltas {
            sink.commit(delta).await.unwrap();
        }
        let held = sorted(rows_of(sink.load("events")).await.unwrap());
        drop(sink);
        let folder = dir.path().join("tables/events");
        let files = [folder.clone(), folder.join("_delta_log")].into_iter().flat_map(|f| std::fs::read_dir(f).unwrap());
        let files: Vec<_> = files.map(|e| e.unwrap().path()).filter(|p| p.is_file()).collect();
        let mut told = 0;
        for file in files {
            let bytes = std::fs::read(&file).unwrap();
            for _ in 0..24 {
                let (at, bit) = (fastrand::usize(..bytes.len()), fastrand::u8(..8));
                let what = format!("bit {bit} of byte {at} of {}", file.display());
                let mut altered = bytes.clone();
                altered[at] ^= 1 << bit;
                std::fs::write(&file, altered).unwrap();
                let read = match open(dir.path()).await {
                    Ok(sink) => rows_of(sink.load("events")).await,
                    Err(error) => Err(error),
                };
                match read {
                    Ok(rows) => assert_eq!(sorted(rows), held, "{what}"),
                    Err(error) => {
                        assert!(error.to_string().contains("events"), "{what}: {error}");
                        told += 1;
                    }
                }
                std::fs::write(&file, &bytes).unwrap();
            }
        }
        // Every flip in the table's one file; of the Delta log, entries of old versions are no longer read in full.
        assert!(told > 24, "{told} flips were told");
    });
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort();
    rows
}

#[test]
fn a_checkpoint_at_which_its_reader_panics_is_told() {
    run(async {
        let (deltas, _) = play(&history());
        let dir = TempDir::new().unwrap();
        let mut sink = open(dir.path()).await.unwrap();
        for delta in deltas {
            sink.commit(delta).await.unwrap();
        }
        drop(sink);
        let checkpoint = checkpoint(dir.path());
        let bytes = std::fs::read(&checkpoint).unwrap();
        let mut panics = 0;
        // Headers of pages; that of the first column is among them.
        for bit in 0..8 * 32 {
            let mut altered = bytes.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&checkpoint, altered).unwrap();
            let Err(error) = open(dir.path()).await else { continue };
            let text = error.to_string();
            assert!(text.contains("tables/events/"), "bit {bit}: {text}");
            panics += usize::from(error.calls_for_rebuild() && text.contains("its reader panicked"));
        }
        assert!(panics > 0, "no bit made the reader panic");
    });
}

/// Upkeep reads columns of a checkpoint that opening does not need.
#[test]
fn upkeep_that_meets_a_damaged_checkpoint_says_so() {
    run(async {
        let mut epochs = history();
        epochs.push(vec![Step { table: 0, id: 0, row: Some((1, 9)) }]);
        let (deltas, _) = play(&epochs);
        let dir = TempDir::new().unwrap();
        let mut sink = open(dir.path()).await.unwrap();
        for delta in deltas {
            sink.commit(delta).await.unwrap();
        }
        drop(sink);
        let path = checkpoint(dir.path());
        let bytes = std::fs::read(&path).unwrap();
        let read = SerializedFileReader::new(bytes::Bytes::from(bytes.clone())).unwrap();
        let columns = read.metadata().row_group(0).columns();
        let column = columns.iter().find(|column| column.column_path().parts() == ["remove", "stats"]);
        let start = column.unwrap().byte_range().0 as usize;
        let mut panics = 0;
        // In the header of its first page.
        for bit in 40..46 {
            let mut altered = bytes.clone();
            altered[start + bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, altered).unwrap();
            let mut sink = open(dir.path()).await.unwrap();
            let error = sink.purge().await.unwrap_err();
            let text = error.to_string();
            assert!(error.calls_for_rebuild() && text.contains("tables/events/"), "bit {bit}: {text}");
            panics += usize::from(text.contains("its reader panicked"));
        }
        assert!(panics > 0, "no bit made the reader panic");
        std::fs::write(&path, bytes).unwrap();
        open(dir.path()).await.unwrap().purge().await.unwrap();
    });
}

/// The checkpoint of a table's Delta log.
fn checkpoint(dir: &Path) -> PathBuf {
    let mut log = std::fs::read_dir(dir.join("tables/events/_delta_log")).unwrap().map(|e| e.unwrap().path());
    log.find(|p| p.extension().is_some_and(|end| end == "parquet")).unwrap()
}

#[test]
fn manifests_of_the_future_or_torn_are_refused() {
    run(async {
        let dir = TempDir::new().unwrap();
        drop(open(dir.path()).await.unwrap());
        let path = dir.path().join(format!("manifests/{:020}.json", 7));
        for text in [r#"{"format": 99}"#, "{", r#"{"format": 1}"#] {
            std::fs::write(&path, text).unwrap();
            let error = open(dir.path()).await.err().unwrap();
            assert!(matches!(&error, SinkError::Manifest { .. }) && error.to_string().contains("0007.json"), "{error}");
        }
        let mut other = model::manifest(dir.path(), Epoch(0));
        other.epoch = Epoch(8);
        std::fs::write(&path, other.to_json().unwrap()).unwrap();
        assert!(open(dir.path()).await.err().unwrap().to_string().contains("epoch 8"));
    });
}

#[test]
fn what_outsiders_see_of_a_table() {
    run(async {
        let dir = TempDir::new().unwrap();
        let (deltas, _) = play(&history());
        let mut sink = open(dir.path()).await.unwrap();
        sink.commit(deltas[0].clone()).await.unwrap();
        let folder = dir.path().canonicalize().unwrap().join("tables/events");
        let table = deltalake_core::open_table(url::Url::from_directory_path(folder).unwrap()).await.unwrap();
        let state = table.snapshot().unwrap();
        assert_eq!(state.metadata().name(), Some("events"));
        assert_eq!(state.metadata().description(), Some(EVENTS.doc));
        assert_eq!(state.metadata().configuration()["flowsync.view_version"], "1");
        assert!(state.metadata().partition_columns().is_empty());
        let comment = state.schema().field("n").unwrap().metadata()["comment"].to_string();
        assert!(comment.contains("Unit: pieces."), "{comment}");
        let log: Arc<dyn deltalake_core::logstore::LogStore> = table.log_store();
        let txn = state.transaction_version(log.as_ref(), "flowsync/events/v1").await.unwrap();
        assert_eq!(txn, Some(deltas[0].upper.0 as i64));
    });
}
