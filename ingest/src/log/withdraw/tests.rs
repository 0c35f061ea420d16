#![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use flowsync_schemas::SignalId;
use tempfile::TempDir;

use super::*;
use crate::{
    audit::{Checked, Checkpoints, Content, Report, Signed, SigningKey, Subject, Verdict, check, prove, verify},
    log::{Log, audited::Audited, conformance::signal, record, store::packed, tree::TreeHash},
    seal::{Keys, Source},
};

fn keys(dir: &Path) -> Arc<Keys> {
    Arc::new(Keys::open(&dir.join("keys"), Source::Own, true).unwrap())
}

fn open(dir: &Path) -> EmbeddedLog {
    fs::create_dir_all(dir.join("keys")).unwrap();
    EmbeddedLog::open(&dir.join("log"), keys(dir)).unwrap()
}

fn at(offset: u64) -> LogPosition {
    LogPosition { partition: 0, offset }
}

fn read(log: &EmbeddedLog) -> Vec<Signal> {
    let read = log.read(at(0), usize::MAX, usize::MAX).unwrap();
    read.iter().for_each(|(at, signal)| assert_eq!(log.get(*at).unwrap().as_ref(), Some(signal)));
    read.into_iter().map(|(_, signal)| signal).collect()
}

fn redacted(number: u64) -> Signal {
    Signal { body: b"redacted".to_vec(), headers: vec![], ..signal(number, 0) }
}

fn filled(signals: u64) -> (TempDir, EmbeddedLog) {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.append(&(0..signals).map(|n| signal(n, 300)).collect::<Vec<_>>()).unwrap();
    (dir, log)
}

fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, out) } else { out.push(path) }
    }
}

fn copy(from: &Path, to: &Path) {
    let mut all = vec![];
    files(from, &mut all);
    for file in all {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(file, target).unwrap();
    }
}

/// The files that hold a text, as it is, in hexadecimal or in base64.
pub(crate) fn holding(dir: &Path, text: &[u8]) -> Vec<PathBuf> {
    let mut forms = vec![text.to_vec(), hex::encode(text).into_bytes(), hex::encode_upper(text).into_bytes()];
    for skip in 0..3 {
        // Of base64 at each of three places, what does not depend on the neighbours.
        let whole = &text[skip..skip + (text.len() - skip) / 3 * 3];
        forms.push(BASE64_STANDARD_NO_PAD.encode(whole).into_bytes());
    }
    let mut all = vec![];
    files(dir, &mut all);
    all.retain(|file| {
        // The store may delete a table meanwhile.
        let bytes = fs::read(file).unwrap_or_default();
        forms.iter().any(|form| bytes.windows(form.len()).any(|window| window == form))
    });
    all
}

#[test]
fn withdrawn_signals_read_as_what_stands_for_them_and_keep_place_and_id() {
    let (dir, log) = filled(10);
    let mut expected: Vec<_> = (0..10).map(|n| signal(n, 300)).collect();
    let asked = || vec![(at(7), None), (at(2), Some(redacted(2))), (at(3), None)];
    assert_eq!(log.withdraw(asked()).unwrap(), Withdrawn { replaced: 1, removed: 2, unchanged: 0 });
    expected[2] = redacted(2);
    for offset in [3, 7] {
        expected[offset] = envelope_of(&expected[offset]);
        assert_eq!((expected[offset].verified_by.as_str(), expected[offset].delivery.as_str()), ("withdrawn", ""));
    }
    let generation = log.store.keys.generation();
    let mut log = log;
    for _ in 0..2 {
        assert_eq!(read(&log), expected);
        assert_eq!(log.withdrawn(0).unwrap(), [2..4, 7..8]);
        assert_eq!(log.ends().unwrap(), [10]);
        assert!(log.append(&[signal(7, 300)]).unwrap()[0].duplicate);
        assert_eq!(log.withdraw(asked()).unwrap(), Withdrawn { unchanged: 3, ..Withdrawn::default() });
        assert_eq!(log.store.keys.generation(), generation);
        drop(log);
        log = open(dir.path());
    }
    // Once more, and otherwise: what stood for them is gone too.
    let again = vec![(at(2), None), (at(3), Some(redacted(3))), (at(9), None)];
    assert_eq!(log.withdraw(again).unwrap(), Withdrawn { replaced: 1, removed: 2, unchanged: 0 });
    expected[2] = envelope_of(&expected[2]);
    expected[3] = redacted(3);
    expected[9] = envelope_of(&expected[9]);
    drop(log);
    let log = open(dir.path());
    assert_eq!(read(&log), expected, "the newest one as well");
    assert_eq!(log.store.keys.destroyed(Purpose::Replacements), [0..2]);
    assert_eq!(log.append(&[signal(10, 5)]).unwrap()[0].position, at(10));
}

#[test]
fn what_cannot_be_withdrawn_is_named_and_nothing_is_done() {
    let (_dir, log) = filled(4);
    for (bad, says) in [
        (vec![(at(1), None), (at(4), None)], "offset 4 cannot be withdrawn: the log ends at 4"),
        (vec![(at(1), None), (at(2), Some(signal(3, 0)))], "cannot stand for it"),
    ] {
        let error = log.withdraw(bad).unwrap_err();
        assert!(error.to_string().contains(says) && error.at().is_some(), "{error}");
    }
    let error = log.withdraw(vec![(LogPosition { partition: 1, offset: 0 }, None)]).unwrap_err();
    assert!(error.to_string().contains("no partition 1"), "{error}");
    assert_eq!(read(&log), (0..4).map(|n| signal(n, 300)).collect::<Vec<_>>());
    assert_eq!(log.withdrawn(0).unwrap(), []);
    // The last one of several counts.
    log.withdraw(vec![(at(0), None), (at(0), Some(redacted(0)))]).unwrap();
    assert_eq!(read(&log)[0], redacted(0));
}

#[test]
fn a_crash_between_any_two_steps_is_finished_when_the_log_is_opened() {
    for steps in 1..=3 {
        let (dir, log) = filled(6);
        let mut wanted = log.wanted(vec![(at(1), None), (at(5), Some(redacted(5)))]).unwrap();
        let (under_way, _) = log.withdrawal_begins(&mut wanted).unwrap();
        if steps > 1 {
            log.destroy_keys(&under_way).unwrap();
        }
        if steps > 2 {
            log.remove_records(&under_way).unwrap();
        }
        let mut expected: Vec<_> = (0..6).map(|n| signal(n, 300)).collect();
        expected[1] = envelope_of(&expected[1]);
        expected[5] = redacted(5);
        assert_eq!(read(&log), expected, "after {steps} steps");
        drop(log);
        let log = open(dir.path());
        assert_eq!(read(&log), expected, "after {steps} steps, opened anew");
        assert_eq!(log.withdrawn(0).unwrap(), [1..2, 5..6]);
        assert!(log.withdrawal().unwrap().under_way.offsets.is_empty());
        assert!(log.store.records.get(1u64.to_be_bytes()).unwrap().is_none());
    }
}

#[test]
fn a_copy_from_before_and_the_keys_from_after_do_not_give_the_originals() {
    let (dir, log) = filled(6);
    let before = tempfile::tempdir().unwrap();
    copy(&dir.path().join("log"), &before.path().join("log"));
    log.withdraw(vec![(at(1), None), (at(4), Some(redacted(4)))]).unwrap();
    copy(&dir.path().join("keys"), &before.path().join("keys"));
    let store = crate::log::store::Store::open(&before.path().join("log"), keys(before.path())).unwrap();
    let view: Box<dyn Audited> = Box::new(store.view());
    for (offset, record) in view.records(0).map(Result::unwrap) {
        let gone = [1, 4].contains(&offset);
        assert_eq!(view.opened(offset, &record), (!gone).then(|| signal(offset, 300)));
        assert_eq!(view.key(offset).unwrap().is_none(), gone);
    }
    drop((view, store));
    let log = open(before.path());
    for offset in [1, 4] {
        let error = log.get(at(offset)).unwrap_err();
        assert!(error.is_corrupt() && error.to_string().contains("destroyed"), "{error}");
    }
    assert_eq!(log.get(at(2)).unwrap(), Some(signal(2, 300)));
    // What stood for them can be given again.
    assert!(log.withdraw(vec![(at(1), Some(redacted(4)))]).is_err(), "under its own id");
    log.withdraw(vec![(at(1), Some(redacted(1))), (at(4), Some(redacted(4)))]).unwrap();
    assert_eq!(read(&log)[1], redacted(1));
    assert_eq!(log.withdraw(vec![(at(4), None)]).unwrap().removed, 1);
}

#[test]
fn nothing_that_a_signal_says_can_be_found_in_the_files_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let marker = b"the-marker-of-this-test-0123456789";
    let text = String::from_utf8(marker.to_vec()).unwrap();
    let signals: Vec<_> = (0..300)
        .map(|n| Signal {
            body: marker.repeat(30),
            headers: vec![("x".into(), text.clone())],
            delivery: format!("{text}{n}"),
            ..signal(n, 0)
        })
        .collect();
    log.append(&signals).unwrap();
    log.store.records.rotate_memtable_and_wait().unwrap();
    log.withdraw(vec![(at(3), Some(Signal { body: marker.to_vec(), ..signals[3].clone() }))]).unwrap();
    assert_eq!(log.get(at(9)).unwrap().as_ref(), Some(&signals[9]));
    assert_eq!(holding(dir.path(), marker), Vec::<PathBuf>::new());
    // The judge sees: a record as an older build wrote it.
    log.store.records.insert(u64::MAX.to_be_bytes(), record::encode(&signals[0])).unwrap();
    assert!(!holding(dir.path(), &marker[..]).is_empty());
}

/// Records as an older build wrote them.
fn plain(log: &EmbeddedLog, signals: &[Signal]) {
    let mut edge = log.appending.lock().unwrap();
    for signal in signals {
        let (offset, record) = (edge.size().to_be_bytes(), record::encode(signal));
        log.store.hashes.insert(offset, packed(&edge.push(TreeHash::leaf(&record)))).unwrap();
        log.store.records.insert(offset, record).unwrap();
        log.store.ids.insert(signal.id.0.to_be_bytes(), offset).unwrap();
    }
    *log.end.lock().unwrap() = edge.size();
}

#[test]
fn records_of_an_older_build_are_read_and_leave_the_tables_when_they_are_withdrawn() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let marker = b"the-marker-of-a-plain-record";
    let old: Vec<_> = (0..50).map(|n| Signal { body: marker.to_vec(), ..signal(n, 0) }).collect();
    plain(&log, &old);
    drop(log);
    let log = open(dir.path());
    log.append(&[signal(50, 10)]).unwrap();
    assert_eq!(read(&log)[..50], old);
    log.store.records.rotate_memtable_and_wait().unwrap();
    assert!(holding(dir.path(), marker).iter().any(|file| file.parent().unwrap().ends_with("tables")));
    let all = (0..50).map(|n| (at(n), (n % 2 == 0).then(|| redacted(n)))).collect();
    assert_eq!(log.withdraw(all).unwrap(), Withdrawn { replaced: 25, removed: 25, unchanged: 0 });
    let left = holding(dir.path(), marker);
    assert!(left.iter().all(|file| file.extension().is_some_and(|e| e == "jnl")), "{left:?}");
    drop(log);
    let log = open(dir.path());
    assert_eq!((read(&log)[4].clone(), read(&log)[5].clone()), (redacted(4), envelope_of(&old[5])));
    assert_eq!(log.withdrawn(0).unwrap(), [0..50]);
    assert!(log.store.records.get(4u64.to_be_bytes()).unwrap().is_none(), "plain ones go even where another stands");
}

#[test]
fn withdrawing_gives_the_space_back() {
    let (_dir, log) = filled(0);
    // What packing does not make smaller.
    let mut rng = fastrand::Rng::with_seed(1);
    let mut noise = || (0..50_000).map(|_| rng.u8(..)).collect::<Vec<_>>();
    let large: Vec<_> = (0..200).map(|n| Signal { body: noise(), ..signal(n, 0) }).collect();
    log.append(&large).unwrap();
    log.store.records.rotate_memtable_and_wait().unwrap();
    let before = log.store.records.disk_space();
    assert!(before > 10_000_000, "{before}");
    log.withdraw((0..200).filter(|n| n % 10 > 0).map(|n| (at(n), None)).collect()).unwrap();
    let after = log.store.records.disk_space();
    assert!(after < before / 8, "{before} before, {after} after");
    log.compact().unwrap();
    assert!(log.store.records.disk_space() <= after && read(&log).len() == 200);
}

#[test]
fn many_are_withdrawn_in_batches_while_others_read_and_append() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let count = BATCH_RECORDS_MAX as u64 + 500;
    log.append(&(0..count).map(|n| signal(n, 20)).collect::<Vec<_>>()).unwrap();
    std::thread::scope(|scope| {
        let withdrawing = scope.spawn(|| log.withdraw((0..count).map(|n| (at(n), None)).collect()).unwrap());
        let mut appended = count;
        while !withdrawing.is_finished() {
            for (at, found) in log.read(at(count - 700), 700, usize::MAX).unwrap() {
                let whole = signal(at.offset, 20);
                assert!(found == whole || found == envelope_of(&whole), "{at:?}");
            }
            log.append(&[signal(appended, 20)]).unwrap();
            appended += 1;
        }
        assert_eq!(withdrawing.join().unwrap().removed, count);
    });
    assert_eq!(log.withdrawn(0).unwrap(), [0..count]);
    drop(log);
    let log = open(dir.path());
    assert_eq!(log.get(at(17)).unwrap(), Some(envelope_of(&signal(17, 20))));
    assert_eq!(log.get(at(count)).unwrap(), Some(signal(count, 20)));
}

#[test]
fn a_log_that_is_older_than_its_keys_and_keys_of_another_log_are_named() {
    let (dir, log) = filled(3);
    drop(log);
    let before = tempfile::tempdir().unwrap();
    copy(dir.path(), before.path());
    let log = open(dir.path());
    log.append(&[signal(3, 10)]).unwrap();
    log.withdraw(vec![(at(3), None)]).unwrap();
    fs::remove_dir_all(before.path().join("keys")).unwrap();
    copy(&dir.path().join("keys"), &before.path().join("keys"));
    let error = EmbeddedLog::open(&before.path().join("log"), keys(before.path())).err().unwrap();
    assert!(error.to_string().contains("older than its keys"), "{error}");
    let (other, _) = filled(0);
    let error = EmbeddedLog::open(&before.path().join("log"), keys(other.path())).err().unwrap();
    assert!(error.is_corrupt() && error.to_string().contains("another key"), "{error}");
}

/// A log that is signed, with some of it withdrawn.
struct Audit {
    dir: TempDir,
    log: EmbeddedLog,
    key: SigningKey,
    note: String,
}

fn audited() -> Audit {
    let (dir, log) = filled(20);
    let key = || SigningKey::of_log(&[1; 32], 0);
    let mut checkpoints = Checkpoints::open(&dir.path().join("audit"), key()).unwrap();
    checkpoints.sign(&*log.audited(0).unwrap()).unwrap();
    log.withdraw(vec![(at(4), None), (at(5), None), (at(11), Some(redacted(11)))]).unwrap();
    let note = checkpoints.newest().unwrap().1.to_owned();
    Audit { dir, log, key: key(), note }
}

impl Audit {
    fn verify(&self) -> Report {
        let signed = Signed::read(&self.dir.path().join("audit"), self.key.public(), &[]).unwrap();
        verify(&*self.log.audited(0).unwrap(), 0, signed).unwrap()
    }
}

#[test]
fn an_audit_accepts_what_was_withdrawn_and_nothing_else_that_is_missing() {
    let audit = audited();
    let report = audit.verify();
    assert!(report.is_good(), "{report:?}");
    assert_eq!((report.size, report.signed, report.withdrawn, report.withdrawn_gone), (20, 20, 3, 2));
    // The hash that stands for it is worth what the checkpoints say.
    let kept = audit.log.store.hashes.get(4u64.to_be_bytes()).unwrap().unwrap();
    audit.log.store.hashes.insert(4u64.to_be_bytes(), [7; 32]).unwrap();
    let finding = audit.verify().finding.unwrap();
    assert!(finding.offset <= 4 && finding.until > 4, "{finding}");
    audit.log.store.hashes.insert(4u64.to_be_bytes(), kept).unwrap();
    // The sealed bytes of what was replaced are still verified.
    audit.log.store.records.insert(11u64.to_be_bytes(), b"\x02something else").unwrap();
    let finding = audit.verify().finding.unwrap();
    assert_eq!((finding.offset, &finding.verdict), (11, &Verdict::Altered));
    audit.log.store.records.remove(11u64.to_be_bytes()).unwrap();
    assert!(audit.verify().is_good());
    audit.log.store.records.remove(9u64.to_be_bytes()).unwrap();
    let finding = audit.verify().finding.unwrap();
    assert_eq!((finding.offset, &finding.verdict, finding.signal), (9, &Verdict::Removed, Some(signal(9, 0).id)));
}

#[test]
fn a_proof_discloses_one_key_and_of_what_was_withdrawn_none() {
    let audit = audited();
    let key = audit.key.public();
    let view = audit.log.audited(0).unwrap();
    let proof =
        |offset| serde_json::to_string(&prove(&*view, Subject::At(at(offset)), &audit.note, key).unwrap()).unwrap();
    let content = |proof: &str| match check(proof, key) {
        Ok(Checked::Inclusion { content, .. }) => content,
        other => panic!("{other:?}"),
    };
    assert_eq!(content(&proof(3)), Content::Signal(Box::new(signal(3, 300))));
    assert_eq!(content(&proof(11)), Content::Sealed);
    assert_eq!(content(&proof(4)), Content::Gone);
    assert!(!proof(11).contains("\"key\"") && !proof(11).contains(&signal(11, 0).id.to_string()));
    let by_id = prove(&*view, Subject::Signal(signal(4, 0).id), &audit.note, key).unwrap();
    assert_eq!(content(&serde_json::to_string(&by_id).unwrap()), Content::Gone);
    // With the key of another record it proves nothing, and neither does one that hides the key.
    let [three, six]: [serde_json::Value; 2] = [3, 6].map(|offset| serde_json::from_str(&proof(offset)).unwrap());
    let mut mixed = three.clone();
    mixed["key"] = six["key"].clone();
    let mut hidden = three.clone();
    hidden.as_object_mut().unwrap().remove("key");
    let mut renamed = three.clone();
    renamed["signal"] = serde_json::to_value(SignalId(1)).unwrap();
    for bad in [mixed, hidden, renamed] {
        assert!(check(&bad.to_string(), key).is_err(), "{bad}");
    }
    assert!(check(&three.to_string(), key).is_ok());
}

#[test]
fn a_record_that_was_never_sealed_is_proven_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    plain(&log, &[signal(0, 40), signal(1, 40)]);
    let key = SigningKey::of_log(&[1; 32], 0);
    let public = key.public().clone();
    let mut checkpoints = Checkpoints::open(&dir.path().join("audit"), key).unwrap();
    checkpoints.sign(&*log.audited(0).unwrap()).unwrap();
    let note = checkpoints.newest().unwrap().1;
    let proof = prove(&*log.audited(0).unwrap(), Subject::At(at(1)), note, &public).unwrap();
    let text = serde_json::to_string(&proof).unwrap();
    assert!(text.contains("inclusion.v1") && !text.contains("key\"") && !text.contains("leaf"), "{text}");
    let Checked::Inclusion { content, .. } = check(&text, &public).unwrap() else { panic!("{text}") };
    assert_eq!(content.signal(), Some(&signal(1, 40)));
}
