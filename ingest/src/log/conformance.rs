//! What every transport of the log must do: one list of checks, run over each of them.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use flowsync_schemas::{Channel, LogPosition, Micros, Signal, SignalId};
use proptest::{prelude::*, test_runner::TestRunner};

use super::{
    Appended, Log,
    tree::{Edge, TreeHash},
};

/// Opens the log of a folder: a second time, after the first was dropped, it is the same log.
pub(crate) type Open<'a> = &'a dyn Fn(&Path) -> Box<dyn Log>;

type Check = fn(Open<'_>, &Path);

/// A signal with a body of `body_bytes` bytes; equal numbers are redeliveries.
pub(crate) fn signal(number: u64, body_bytes: usize) -> Signal {
    let delivery = format!("delivery-{number}");
    Signal {
        id: SignalId::of_delivery("test", &delivery),
        source: "test".into(),
        delivery,
        occurred_at: number.is_multiple_of(2).then_some(Micros(number as i64)),
        received_at: Micros(1_790_000_000_000_000 + number as i64),
        channel: Channel::ALL[number as usize % Channel::ALL.len()],
        verified_by: "hmac-sha256".into(),
        headers: vec![("x-number".into(), number.to_string())],
        body: (0..body_bytes).map(|i| (i as u64 * 31 + number) as u8).collect(),
    }
}

/// Runs every check, each on a folder of its own.
pub(crate) fn run(open: Open<'_>) {
    let checks: &[(&str, Check)] = &[
        ("append and read back", append_and_read_back),
        ("duplicates", duplicates),
        ("reopening", reopening),
        ("read limits", read_limits),
        ("bodies of every size", bodies_of_every_size),
        ("waiting", waiting),
        ("concurrent appenders", concurrent_appenders),
        ("unknown partition", unknown_partition),
        ("withdrawals", withdrawals),
        ("random batches against a list", random_batches_against_a_list),
    ];
    for (name, check) in checks {
        eprintln!("log conformance: {name}");
        let dir = tempfile::tempdir().unwrap();
        check(open, dir.path());
    }
}

fn at(offset: u64) -> LogPosition {
    LogPosition { partition: 0, offset }
}

/// Everything, over all partitions.
fn all(log: &dyn Log) -> Vec<(LogPosition, Signal)> {
    let mut out = vec![];
    for (partition, end) in log.ends().unwrap().into_iter().enumerate() {
        let mut from = LogPosition { partition: partition as u32, offset: 0 };
        while from.offset < end {
            let read = log.read(from, 7, 10_000).unwrap();
            assert!(!read.is_empty(), "a read before the end makes progress");
            from.offset += read.len() as u64;
            out.extend(read);
        }
    }
    out
}

/// The Merkle clause: where a log can be audited, its tree is that of its records as stored, and those are its signals.
fn tree_is_of_the_records(log: &dyn Log) {
    for (partition, end) in log.ends().unwrap().into_iter().enumerate() {
        let partition = partition as u32;
        let Some(view) = log.audited(partition) else { continue };
        let mut edge = Edge::default();
        let stored = view.records(0).zip(view.hashes(0)).map(|(record, hashes)| (record.unwrap(), hashes.unwrap()));
        for ((offset, record), (hashed, hashes)) in stored {
            assert_eq!((offset, hashed), (edge.size(), edge.size()));
            assert_eq!(edge.push(TreeHash::leaf(&record)), hashes);
            let signal = log.get(LogPosition { partition, offset }).unwrap().unwrap();
            assert_eq!(view.opened(offset, &record).unwrap(), signal);
            assert_eq!(view.offset_of(signal.id).unwrap(), Some(offset));
        }
        assert_eq!((edge.size(), view.leaves().unwrap()), (end, end));
        assert_eq!(view.edge(end).unwrap(), edge);
    }
    assert!(log.audited(log.ends().unwrap().len() as u32).is_none());
}

fn append_and_read_back(open: Open<'_>, dir: &Path) {
    let log = open(dir);
    assert_eq!(log.ends().unwrap(), [0]);
    assert_eq!(log.append(&[]).unwrap(), []);
    assert!(log.read(at(0), 10, 1000).unwrap().is_empty());
    let signals: Vec<_> = (0..25).map(|i| signal(i, 100)).collect();
    let first = log.append(&signals[..10]).unwrap();
    let second = log.append(&signals[10..]).unwrap();
    let expected: Vec<_> = (0..25).map(|i| Appended { position: at(i), duplicate: false }).collect();
    assert_eq!([first, second].concat(), expected, "offsets have no gaps");
    assert_eq!(log.ends().unwrap(), [25]);
    let read = all(&*log);
    assert!(read.iter().map(|(p, _)| p.offset).eq(0..25));
    assert!(read.into_iter().map(|(_, s)| s).eq(signals.iter().cloned()), "in the order of appending");
    assert_eq!(log.get(at(13)).unwrap().as_ref(), Some(&signals[13]));
    assert_eq!(log.get(at(25)).unwrap(), None);
    assert!(log.read(at(25), 10, 1000).unwrap().is_empty());
    assert!(log.read(at(u64::MAX), 10, 1000).unwrap().is_empty());
}

fn duplicates(open: Open<'_>, dir: &Path) {
    let log = open(dir);
    let batch = [signal(1, 5), signal(2, 5), signal(1, 5)];
    let appended = log.append(&batch).unwrap();
    assert_eq!(appended.iter().map(|a| a.duplicate).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(appended[2].position, appended[0].position);
    let again = log.append(&[signal(2, 5), signal(3, 5)]).unwrap();
    assert_eq!(again[0], Appended { position: at(1), duplicate: true });
    assert_eq!(again[1], Appended { position: at(2), duplicate: false });
    // The id is the identity: other bytes under the same id do not replace what was acknowledged.
    let other = Signal { body: b"other".to_vec(), ..signal(1, 5) };
    assert!(log.append(&[other]).unwrap()[0].duplicate);
    assert_eq!(log.get(at(0)).unwrap().unwrap(), signal(1, 5));
    assert_eq!(log.ends().unwrap(), [3]);
}

fn reopening(open: Open<'_>, dir: &Path) {
    let mut expected = vec![];
    for round in 0..4u64 {
        let log = open(dir);
        assert_eq!(log.ends().unwrap(), [round * 10]);
        if round > 0 {
            assert!(log.append(&[signal(round * 10 - 1, 50)]).unwrap()[0].duplicate, "ids survive");
        }
        let batch: Vec<_> = (round * 10..round * 10 + 10).map(|i| signal(i, 50)).collect();
        assert_eq!(log.append(&batch).unwrap()[0].position, at(round * 10));
        expected.extend(batch);
        assert!(all(&*log).into_iter().map(|(_, s)| s).eq(expected.iter().cloned()));
    }
}

fn read_limits(open: Open<'_>, dir: &Path) {
    let log = open(dir);
    log.append(&(0..10).map(|i| signal(i, 1000)).collect::<Vec<_>>()).unwrap();
    assert_eq!(log.read(at(0), 3, usize::MAX).unwrap().len(), 3);
    assert_eq!(log.read(at(8), 3, usize::MAX).unwrap().len(), 2);
    assert_eq!(log.read(at(0), 0, usize::MAX).unwrap().len(), 0);
    assert_eq!(log.read(at(0), 10, 0).unwrap().len(), 1, "a record above the limit still comes, alone");
    let some = log.read(at(0), 10, 3500).unwrap().len();
    assert!((2..=3).contains(&some), "{some} records of a little over 1000 bytes within 3500");
}

fn bodies_of_every_size(open: Open<'_>, dir: &Path) {
    let sizes = [0, 1, 4095, 4096, 70_000, 3 << 20, 0];
    let signals: Vec<_> = sizes.iter().enumerate().map(|(i, size)| signal(i as u64, *size)).collect();
    open(dir).append(&signals).unwrap();
    tree_is_of_the_records(&*open(dir));
    assert!(all(&*open(dir)).into_iter().map(|(_, s)| s).eq(signals));
}

fn waiting(open: Open<'_>, dir: &Path) {
    let log = open(dir);
    assert!(!log.wait(&[0], Duration::from_millis(20)), "nothing came");
    log.append(&[signal(0, 1)]).unwrap();
    assert!(log.wait(&[0], Duration::ZERO), "it is longer already");
    std::thread::scope(|scope| {
        let started = Instant::now();
        let waiter = scope.spawn(|| log.wait(&[1], Duration::from_secs(60)));
        std::thread::sleep(Duration::from_millis(50));
        log.append(&[signal(0, 1)]).unwrap();
        assert!(!waiter.is_finished(), "a duplicate wakes nobody");
        log.append(&[signal(1, 1)]).unwrap();
        assert!(waiter.join().unwrap());
        assert!(started.elapsed() < Duration::from_secs(30), "woken, not timed out");
    });
    assert_eq!(log.read(at(1), 1, 1000).unwrap().len(), 1);
}

fn concurrent_appenders(open: Open<'_>, dir: &Path) {
    let log = open(dir);
    // Four threads append overlapping numbers: each number is there once, and all are told the same position.
    let told: Vec<(u64, Appended)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4u64)
            .map(|thread| {
                let log = &log;
                scope.spawn(move || {
                    (0..40)
                        .map(|i| thread * 20 + i)
                        .map(|number| (number, log.append(&[signal(number, 64)]).unwrap()[0]))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    let mut places = BTreeMap::new();
    for (number, appended) in &told {
        assert_eq!(*places.entry(*number).or_insert(appended.position), appended.position);
    }
    assert_eq!(told.iter().filter(|(_, a)| !a.duplicate).count(), 100);
    let read = all(&*log);
    assert_eq!(read.len(), 100);
    for (position, found) in read {
        let number = found.header("x-number").unwrap().parse().unwrap();
        assert_eq!(places[&number], position);
        assert_eq!(found, signal(number, 64));
    }
    tree_is_of_the_records(&*log);
}

fn unknown_partition(open: Open<'_>, dir: &Path) {
    let log = open(dir);
    let partition = log.ends().unwrap().len() as u32;
    let nowhere = LogPosition { partition, offset: 0 };
    for error in [log.read(nowhere, 1, 1).unwrap_err(), log.get(nowhere).unwrap_err()] {
        assert!(error.to_string().contains(&format!("no partition {partition}")), "{error}");
    }
}

fn withdrawals(open: Open<'_>, dir: &Path) {
    let log = open(dir);
    let signals: Vec<_> = (0..12).map(|i| signal(i, 50)).collect();
    log.append(&signals).unwrap();
    let redacted = Signal { body: b"redacted".to_vec(), ..signals[5].clone() };
    let done = log.withdraw(vec![(at(5), Some(redacted.clone())), (at(8), None)]).unwrap();
    assert_eq!((done.replaced, done.removed), (1, 1));
    drop(log);
    let log = open(dir);
    let bare = log.get(at(8)).unwrap().unwrap();
    assert_eq!(
        (bare.id, bare.received_at, bare.verified_by.as_str()),
        (signals[8].id, signals[8].received_at, "withdrawn")
    );
    assert!(bare.body.is_empty() && bare.headers.is_empty() && bare.delivery.is_empty());
    let mut expected = signals.clone();
    (expected[5], expected[8]) = (redacted, bare);
    assert!(all(&*log).into_iter().map(|(_, s)| s).eq(expected));
    assert_eq!(log.withdrawn(0).unwrap(), [5..6, 8..9]);
    assert!(log.append(&signals).unwrap().iter().all(|a| a.duplicate), "ids stay");
    assert_eq!(log.withdraw(vec![(at(8), None)]).unwrap().unchanged, 1);
    assert!(log.withdraw(vec![(at(12), None)]).is_err());
    let view = log.audited(0).unwrap();
    let mut edge = Edge::default();
    view.stored(0).for_each(|entry| drop(edge.push(entry.unwrap().1.leaf)));
    assert_eq!(view.edge(12).unwrap(), edge, "the tree is that of what was taken in");
}

fn random_batches_against_a_list(open: Open<'_>, dir: &Path) {
    let batch = prop::collection::vec((0..60u64, 0..2000usize), 0..12);
    // Every step: a batch, and whether the log is reopened after it.
    let steps = prop::collection::vec((batch, prop::bool::weighted(0.2)), 1..8);
    let config = ProptestConfig { source_file: Some(file!()), ..ProptestConfig::with_cases(24) };
    let mut runner = TestRunner::new(config);
    let result = runner.run(&steps, |steps| {
        let dir = tempfile::tempdir_in(dir).unwrap();
        let dir = dir.path();
        let mut log = open(dir);
        let mut model: Vec<Signal> = vec![];
        for (batch, reopen) in steps {
            let signals: Vec<_> = batch.into_iter().map(|(number, size)| signal(number, size)).collect();
            let answers = log.append(&signals).unwrap();
            for (signal, answer) in signals.into_iter().zip(answers) {
                let known = model.iter().position(|s| s.id == signal.id);
                prop_assert_eq!(answer.duplicate, known.is_some());
                prop_assert_eq!(answer.position, at(known.unwrap_or(model.len()) as u64));
                if known.is_none() {
                    model.push(signal);
                }
            }
            if reopen {
                drop(log);
                log = open(dir);
            }
            prop_assert!(all(&*log).into_iter().map(|(_, s)| s).eq(model.iter().cloned()));
            tree_is_of_the_records(&*log);
        }
        Ok(())
    });
    result.unwrap();
}
