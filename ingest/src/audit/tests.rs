//! What `verify` finds when somebody has been at the files of the log, with and without the tools to hide it.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, fs, path::PathBuf};

use flowsync_schemas::Signal;
use tempfile::TempDir;

use super::*;
use crate::{
    log::{
        Audited, EmbeddedLog, Log,
        conformance::signal,
        sealed,
        store::{Store, packed},
        tree::{Edge, TreeHash},
    },
    seal::{self, Keys, Purpose},
};

/// A closed log of 40 signals, signed at 10, 20 and 33.
struct Closed {
    dir: TempDir,
    key: PublicKey,
}

const SIGNALS: u64 = 40;

fn closed() -> Closed {
    let dir = tempfile::tempdir().unwrap();
    let key = SigningKey::of_log(&[1; 32], 0);
    let public = key.public().clone();
    let closed = Closed { dir, key: public };
    let log = EmbeddedLog::open(&closed.log(), Keys::fixed()).unwrap();
    let mut checkpoints = Checkpoints::open(&closed.audit(), key).unwrap();
    for number in 0..SIGNALS {
        log.append(&[signal(number, 30)]).unwrap();
        if [10, 20, 33].contains(&(number + 1)) {
            checkpoints.sign(&*log.audited(0).unwrap()).unwrap();
        }
    }
    closed
}

impl Closed {
    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn audit(&self) -> PathBuf {
        self.dir.path().join("audit")
    }

    fn verify_with(&self, given: &[Given]) -> Report {
        let signed = Signed::read(&self.audit(), &self.key, given).unwrap();
        verify(&*EmbeddedLog::as_it_lies(&self.log(), Keys::fixed()).unwrap(), 0, signed).unwrap()
    }

    fn found(&self) -> Finding {
        let report = self.verify_with(&[]);
        assert!(!report.is_good());
        report.finding.unwrap()
    }

    /// Does something to the files.
    fn tamper(&self, with: impl FnOnce(&Store)) -> &Self {
        with(&Store::open(&self.log(), Keys::fixed()).unwrap());
        self
    }

    /// Leaves the log of these signals, hashed and indexed as if they had always been there.
    fn rewrite(&self, signals: &[Signal], index: bool) -> &Self {
        self.tamper(|store| {
            let view = store.view();
            let mut old = BTreeMap::new();
            for (offset, bytes) in view.records(0).map(Result::unwrap) {
                let signal = (&view as &dyn Audited).opened(offset, &bytes).unwrap();
                store.records.remove(key(offset)).unwrap();
                store.hashes.remove(key(offset)).unwrap();
                if index {
                    store.ids.remove(signal.id.0.to_be_bytes()).unwrap();
                }
                old.insert(offset, (signal, bytes));
            }
            let mut edge = Edge::default();
            for signal in signals {
                let at = edge.size();
                // What stays as it was is not sealed anew.
                let same = old.remove(&at).filter(|(was, _)| was == signal).map(|(_, bytes)| bytes);
                let bytes = same.unwrap_or_else(|| sealed_at(at, signal));
                store.hashes.insert(key(at), packed(&edge.push(TreeHash::leaf(&bytes)))).unwrap();
                store.records.insert(key(at), bytes).unwrap();
                if index {
                    store.ids.insert(signal.id.0.to_be_bytes(), key(at)).unwrap();
                }
            }
        })
    }
}

fn key(offset: u64) -> [u8; 8] {
    offset.to_be_bytes()
}

fn signals() -> Vec<Signal> {
    (0..SIGNALS).map(|number| signal(number, 30)).collect()
}

fn put(store: &Store, offset: u64, signal: &Signal) {
    store.records.insert(key(offset), sealed_at(offset, signal)).unwrap();
}

/// Sealed anew by somebody who has the keys.
fn sealed_at(offset: u64, signal: &Signal) -> Vec<u8> {
    sealed::seal(signal, offset, &Keys::fixed().walk(Purpose::Records).key(offset).unwrap(), seal::nonce().unwrap())
}

/// Another body under the same id.
fn altered(number: u64) -> Signal {
    Signal { body: b"something else".to_vec(), ..signal(number, 30) }
}

fn exactly(finding: &Finding, offset: u64, verdict: &Verdict) {
    assert_eq!((finding.offset, finding.until, &finding.verdict), (offset, offset + 1, verdict), "{finding}");
    assert_eq!(finding.signal, Some(signal(offset, 30).id), "{finding}");
    let text = finding.to_string();
    assert!(text.contains(&format!("offset {offset}, signal {}", signal(offset, 30).id)), "{text}");
}

#[test]
fn a_log_that_nobody_touched_is_good() {
    let closed = closed();
    let report = closed.verify_with(&[]);
    assert!(report.is_good(), "{report:?}");
    assert_eq!((report.size, report.signed, report.checkpoints, report.checkpoints_given), (SIGNALS, 33, 3, 0));
    assert_eq!(
        report.root,
        EmbeddedLog::as_it_lies(&closed.log(), Keys::fixed()).unwrap().edge(SIGNALS).unwrap().root().to_string()
    );
    // It is still one that can be appended to.
    EmbeddedLog::open(&closed.log(), Keys::fixed()).unwrap().append(&[signal(SIGNALS, 30)]).unwrap();
    assert_eq!(closed.verify_with(&[]).size, SIGNALS + 1);
}

#[test]
fn an_altered_record_is_named() {
    for offset in [0, 9, 10, 19, 20, 32, 33, 39] {
        let closed = closed();
        let finding = closed.tamper(|store| put(store, offset, &altered(offset))).found();
        exactly(&finding, offset, &Verdict::Altered);
        let certain = offset < 33;
        assert_eq!(finding.evidence.contains("agrees with the signed checkpoint"), certain, "{finding}");
    }
}

#[test]
fn the_first_of_several_is_named() {
    let closed = closed();
    let finding = closed.tamper(|store| [25, 12, 31].into_iter().for_each(|at| put(store, at, &altered(at)))).found();
    exactly(&finding, 12, &Verdict::Altered);
}

#[test]
fn a_removed_record_is_named() {
    for offset in [0, 14, 33, 39] {
        let closed = closed();
        let finding = closed.tamper(|store| store.records.remove(key(offset)).unwrap()).found();
        exactly(&finding, offset, &Verdict::Removed);
    }
}

#[test]
fn records_that_changed_places_are_named() {
    let closed = closed();
    let finding = closed
        .tamper(|store| {
            let [seven, seventeen] = [7, 17].map(|at| store.records.get(key(at)).unwrap().unwrap());
            store.records.insert(key(7), seventeen).unwrap();
            store.records.insert(key(17), seven).unwrap();
        })
        .found();
    exactly(&finding, 7, &Verdict::Reordered { belongs_at: 17 });
    // Also where the index of ids says the same.
    closed.tamper(|store| {
        store.ids.insert(signal(7, 30).id.0.to_be_bytes(), key(17)).unwrap();
        store.ids.insert(signal(17, 30).id.0.to_be_bytes(), key(7)).unwrap();
    });
    let finding = closed.found();
    assert_eq!((finding.offset, &finding.verdict), (7, &Verdict::Reordered { belongs_at: 17 }));
}

#[test]
fn a_record_that_was_removed_and_the_gap_closed_is_named() {
    let closed = closed();
    let finding = closed
        .tamper(|store| {
            for at in 12..SIGNALS - 1 {
                let next = store.records.get(key(at + 1)).unwrap().unwrap();
                store.records.insert(key(at), next).unwrap();
            }
            store.records.remove(key(SIGNALS - 1)).unwrap();
        })
        .found();
    exactly(&finding, 12, &Verdict::Reordered { belongs_at: 13 });
}

#[test]
fn with_its_stored_hash_recomputed_it_lies_among_those_under_the_node_that_differs() {
    let closed = closed();
    let finding = closed
        .tamper(|store| {
            put(store, 13, &altered(13));
            let mut hashes = closed_hashes(store, 13);
            hashes[0] = TreeHash::leaf(&store.records.get(key(13)).unwrap().unwrap());
            store.hashes.insert(key(13), packed(&hashes)).unwrap();
        })
        .found();
    assert_eq!((finding.offset, finding.until, &finding.verdict), (12, 14, &Verdict::Rewritten), "{finding}");
}

fn closed_hashes(store: &Store, offset: u64) -> Vec<TreeHash> {
    store.view().hashes_at(offset).unwrap().unwrap()
}

#[test]
fn with_all_hashes_recomputed_it_lies_between_two_checkpoints() {
    for (offset, from, until) in [(3, 0, 10), (10, 10, 20), (19, 10, 20), (32, 20, 33)] {
        let closed = closed();
        let mut signals = signals();
        signals[offset] = altered(offset as u64);
        let finding = closed.rewrite(&signals, true).found();
        assert_eq!((finding.offset, finding.until, &finding.verdict), (from, until, &Verdict::Rewritten), "{finding}");
        assert!(finding.to_string().contains(&format!("offset {from} to {}", until - 1)), "{finding}");
    }
    // Behind the newest checkpoint nothing tells it.
    let closed = closed();
    let mut signals = signals();
    signals[35] = altered(35);
    let report = closed.rewrite(&signals, true).verify_with(&[]);
    assert!(report.is_good() && report.signed == 33, "{report:?}");
}

#[test]
fn removed_swapped_and_cut_with_all_hashes_recomputed() {
    let removed = closed();
    let mut left = signals();
    left.remove(15);
    let finding = removed.rewrite(&left, true).found();
    assert_eq!((finding.offset, finding.until, &finding.verdict), (10, 20, &Verdict::Rewritten), "{finding}");
    // An index of ids that was left as it was tells more.
    let removed = closed();
    let finding = removed.rewrite(&left, false).found();
    assert!(finding.evidence.contains("at offset 15") && finding.evidence.contains("at offset 16"), "{finding}");
    let swapped = closed();
    let mut signals = signals();
    signals.swap(21, 29);
    let finding = swapped.rewrite(&signals, true).found();
    assert_eq!((finding.offset, finding.until, &finding.verdict), (20, 33, &Verdict::Rewritten), "{finding}");
    let cut = closed();
    let finding = cut.rewrite(&signals[..25], true).found();
    assert_eq!((finding.offset, &finding.verdict), (25, &Verdict::Removed), "{finding}");
    let told = "33 signals was signed; of those before it, no checkpoint tells behind the first 20";
    assert!(finding.evidence.contains(told), "{finding}");
}

#[test]
fn altered_hashes_are_told_from_altered_signals() {
    let closed_ = closed();
    let finding = closed_
        .tamper(|store| {
            let mut hashes = closed_hashes(store, 11);
            hashes[2].0[5] ^= 1;
            store.hashes.insert(key(11), packed(&hashes)).unwrap();
        })
        .found();
    assert_eq!((finding.offset, finding.until, &finding.verdict), (8, 12, &Verdict::Hashes), "{finding}");
    let closed_ = closed();
    let finding = closed_.tamper(|store| store.hashes.remove(key(4)).unwrap()).found();
    assert_eq!((finding.offset, &finding.verdict), (4, &Verdict::Hashes), "{finding}");
    let closed_ = closed();
    closed_.tamper(|store| (0..SIGNALS).for_each(|at| store.hashes.remove(key(at)).unwrap()));
    let report = closed_.verify_with(&[]);
    assert!(report.finding.is_none() && report.doubts[0].contains("no hashes"), "{report:?}");
    assert_eq!(report.checkpoints, 3, "the records are still compared with what was signed");
    closed_.tamper(|store| put(store, 22, &altered(22)));
    let finding = closed_.found();
    assert_eq!((finding.offset, finding.until, &finding.verdict), (20, 33, &Verdict::Rewritten), "{finding}");
}

#[test]
fn a_record_that_was_put_behind_the_log_is_named() {
    let closed = closed();
    let finding = closed.tamper(|store| put(store, SIGNALS, &signal(SIGNALS, 30))).found();
    assert_eq!((finding.offset, &finding.verdict), (SIGNALS, &Verdict::Added), "{finding}");
}

#[test]
fn a_log_rewritten_with_the_key_at_hand_is_told_by_a_checkpoint_kept_elsewhere() {
    let closed = closed();
    let elsewhere = |name: &str, number: usize| {
        let note = Notes::kept(&closed.audit()).unwrap().unwrap().nth(number).unwrap().unwrap();
        Given { name: name.into(), text: note }
    };
    let given = [elsewhere("a", 1), elsewhere("b", 2)];
    let report = closed.verify_with(&given);
    assert!(report.is_good() && report.checkpoints_given == 2 && report.checkpoints == 5, "{report:?}");
    let mut signals = signals();
    signals[24] = altered(24);
    closed.rewrite(&signals, true);
    fs::remove_dir_all(closed.audit()).unwrap();
    let log = EmbeddedLog::open(&closed.log(), Keys::fixed()).unwrap();
    let mut forged = Checkpoints::open(&closed.audit(), SigningKey::of_log(&[1; 32], 0)).unwrap();
    forged.sign(&*log.audited(0).unwrap()).unwrap();
    drop(log);
    assert!(closed.verify_with(&[]).is_good(), "everything on this machine fits together");
    let finding = closed.verify_with(&given).finding.unwrap();
    assert_eq!((finding.offset, finding.until, &finding.verdict), (20, 33, &Verdict::Rewritten), "{finding}");
    assert!(finding.evidence.contains("elsewhere"), "{finding}");
}

#[test]
fn checkpoints_of_other_keys_and_damaged_ones_are_doubts() {
    let closed = closed();
    let other = SigningKey::of_log(&[2; 32], 0);
    let given = |text: String| [Given { name: "a file".into(), text }];
    let report = closed.verify_with(&given(other.sign(&format!("{}\n1\n\n", other.public().name()))));
    assert!(
        report.finding.is_none() && report.doubts[0].starts_with("a file: it is signed by flowsync/"),
        "{report:?}"
    );
    assert!(closed.verify_with(&given(String::new())).doubts[0].contains("a file holds no"));
    let stranger = Signed::read(&closed.audit(), other.public(), &[]).unwrap();
    let report = verify(&*EmbeddedLog::as_it_lies(&closed.log(), Keys::fixed()).unwrap(), 0, stranger).unwrap();
    assert!(report.doubts.len() == 4 && report.doubts[3].contains("no checkpoint is kept"), "{report:?}");
    let file = closed.audit().join("checkpoints");
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, good.replacen("\n20\n", "\n21\n", 1)).unwrap();
    let report = closed.verify_with(&[]);
    assert!(report.doubts[0].contains("kept checkpoint 2") && report.checkpoints == 2, "{report:?}");
    fs::remove_file(&file).unwrap();
    let report = closed.verify_with(&[]);
    assert!(!report.is_good() && report.doubts[0].contains("no checkpoint is kept"), "{report:?}");
}

#[test]
fn a_report_is_the_same_after_it_was_sent() {
    let closed = closed();
    let report = closed.tamper(|store| store.records.remove(key(3)).unwrap()).verify_with(&[]);
    let sent = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&sent).unwrap(), report, "{sent}");
}
