#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use super::*;
use crate::{
    log::{
        conformance::{self, signal},
        record,
    },
    seal::Source,
};

#[test]
fn conforms() {
    conformance::run(&|dir| {
        let folder = dir.join("keys");
        std::fs::create_dir_all(&folder).unwrap();
        let keys = Arc::new(Keys::open(&folder, Source::Own, true).unwrap());
        Box::new(EmbeddedLog::open(&dir.join("log"), keys).unwrap())
    });
}

#[test]
fn a_full_disk_is_an_error_and_the_log_goes_on_when_there_is_space_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = EmbeddedLog::open(dir.path(), Keys::fixed()).unwrap();
    log.append(&[signal(0, 10)]).unwrap();
    log.free_bytes_min = u64::MAX;
    let error = log.append(&[signal(1, 10)]).unwrap_err();
    assert!(error.is_full() && error.is_retryable() && !error.is_corrupt(), "{error}");
    assert!(error.to_string().contains("free space"), "{error}");
    assert!(log.append(&[signal(0, 10)]).unwrap()[0].duplicate, "what is there can still be acknowledged");
    log.free_bytes_min = 0;
    assert_eq!(log.append(&[signal(1, 10)]).unwrap()[0].position.offset, 1);
}

#[test]
fn a_read_is_bounded_by_what_it_unpacks_to() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path(), Keys::fixed()).unwrap();
    let all: Vec<_> = (0..8).map(|n| Signal { body: vec![b' '; 1 << 20], ..signal(n, 0) }).collect();
    log.append(&all).unwrap();
    let stored: usize = log.audited(0).unwrap().records(0).map(|record| record.unwrap().1.len()).sum();
    assert!(stored < 1 << 20, "{stored}");
    let read = log.read(LogPosition::default(), usize::MAX, (3 << 20) + 1000).unwrap();
    assert!(read.into_iter().map(|(_, signal)| signal).eq(all[..3].iter().cloned()));
    assert_eq!(log.read(LogPosition::default(), 9, 1).unwrap().len(), 1);
}

#[test]
fn a_second_process_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let _log = EmbeddedLog::open(dir.path(), Keys::fixed()).unwrap();
    let error = EmbeddedLog::open(dir.path(), Keys::fixed()).err().unwrap();
    assert!(matches!(error, LogError::Locked { .. }), "{error}");
}

fn root(log: &EmbeddedLog) -> TreeHash {
    let view = log.audited(0).unwrap();
    view.edge(view.leaves().unwrap()).unwrap().root()
}

#[test]
fn a_log_of_an_older_build_is_hashed_when_it_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path(), Keys::fixed()).unwrap();
    let count = BUILD_RECORDS_MAX as u64 * 2 + 3;
    log.append(&(0..count).map(|i| signal(i, 20)).collect::<Vec<_>>()).unwrap();
    let whole = root(&log);
    // As it was before there were hashes.
    log.store.database.delete_keyspace(log.store.hashes.clone()).unwrap();
    drop(log);
    assert_eq!(EmbeddedLog::as_it_lies(dir.path(), Keys::fixed()).unwrap().leaves().unwrap(), 0);
    let log = EmbeddedLog::open(dir.path(), Keys::fixed()).unwrap();
    assert_eq!(root(&log), whole);
    // As after a crash in the middle of it, and as after an older build that appended to a newer one's log.
    for offset in BUILD_RECORDS_MAX as u64..count {
        log.store.hashes.remove(offset.to_be_bytes()).unwrap();
    }
    drop(log);
    let log = EmbeddedLog::open(dir.path(), Keys::fixed()).unwrap();
    assert_eq!(root(&log), whole);
    log.append(&[signal(count, 20)]).unwrap();
    assert_eq!(log.audited(0).unwrap().leaves().unwrap(), count + 1);
}

#[test]
fn records_that_do_not_fit_their_hashes_are_no_log_to_append_to() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path(), Keys::fixed()).unwrap();
    log.append(&(0..5).map(|i| signal(i, 20)).collect::<Vec<_>>()).unwrap();
    log.store.records.insert(4u64.to_be_bytes(), record::encode(&signal(4, 21))).unwrap();
    drop(log);
    let error = EmbeddedLog::open(dir.path(), Keys::fixed()).err().unwrap();
    assert!(error.is_corrupt() && error.at().is_some_and(|at| at.offset == 4), "{error}");
    Store::open(dir.path(), Keys::fixed()).unwrap().records.remove(4u64.to_be_bytes()).unwrap();
    let error = EmbeddedLog::open(dir.path(), Keys::fixed()).err().unwrap();
    assert!(error.to_string().contains("offset 4") && error.to_string().contains("5 records"), "{error}");
}

/// Writes some records into table files, so that they are read from there.
fn on_disk(dir: &Path) -> Vec<Signal> {
    let log = EmbeddedLog::open(dir, Keys::fixed()).unwrap();
    let signals: Vec<_> = (0..200).map(|i| signal(i, 300)).collect();
    log.append(&signals).unwrap();
    log.store.records.rotate_memtable_and_wait().unwrap();
    log.store.ids.rotate_memtable_and_wait().unwrap();
    signals
}

fn tables(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tables(&path, out);
        } else if path.parent().unwrap().ends_with("tables") {
            out.push(path);
        }
    }
}

#[test]
fn a_flipped_bit_is_an_error_at_its_offset_or_harmless_never_another_signal() {
    let dir = tempfile::tempdir().unwrap();
    let signals = on_disk(dir.path());
    let mut files = vec![];
    tables(dir.path(), &mut files);
    let file = files.iter().max_by_key(|f| f.metadata().unwrap().len()).unwrap();
    let good = std::fs::read(file).unwrap();
    let mut damaged = 0;
    for at in (0..good.len()).step_by(good.len() / 40) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        std::fs::write(file, &bad).unwrap();
        let read = EmbeddedLog::open(dir.path(), Keys::fixed())
            .and_then(|log| log.read(LogPosition::default(), usize::MAX, usize::MAX));
        match read {
            Ok(read) => assert!(read.into_iter().map(|(_, s)| s).eq(signals.iter().cloned()), "byte {at}"),
            Err(error) => {
                assert!(error.is_corrupt() && !error.is_retryable(), "byte {at}: {error}");
                assert!(error.to_string().contains("backup"), "{error}");
                damaged += 1;
            }
        }
    }
    assert!(damaged > 20, "only {damaged} of 40 flips were noticed");
}
