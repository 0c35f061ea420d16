#![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]

use std::{
    fs,
    io::Read as _,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use flowsync_schemas::{LogPosition, NameClaim, PersonId, Row, Signal, SignalId, Value, record::Field};
use tempfile::TempDir;

use super::*;
use crate::{
    audit::{Checkpoints, Signed, verify},
    datadir::DataDir,
    facts::{self, Facts},
    log::{
        EmbeddedLog, Log,
        conformance::signal,
        record,
        store::{Store, packed},
        tree::TreeHash,
        withdraw_tests::holding,
    },
    vault::{Names, Vault},
};

fn at(offset: u64) -> LogPosition {
    LogPosition { partition: 0, offset }
}

/// What the tests look for in files.
fn secret(number: u64) -> Vec<u8> {
    format!("Secret Words Of Number {number:06}, Told Once").into_bytes()
}

fn told(number: u64) -> Signal {
    Signal { body: secret(number), ..signal(number, 0) }
}

fn claim(number: u64) -> NameClaim {
    let (name, account) = (format!("Maria Muster{number:05}"), format!("maria{number:05}"));
    NameClaim { person: PersonId(u128::from(number) + 1), name, account }
}

/// Tables with two rows of each of the first signals.
struct Stated(u64);

const COLUMNS: [&str; 3] = ["signal", "seq", "title"];

fn stated(number: u64) -> Vec<Row> {
    let title = String::from_utf8(secret(number)).unwrap();
    let row = |seq| [told(number).id.into_value(), Value::Int(seq), Value::Text(title.as_str().into())].into();
    vec![row(0), row(1)]
}

impl Tables for Stated {
    fn each(&self, give: &mut Give<'_>) -> Result<(), BackupError> {
        let rows: Vec<Row> = (0..self.0).flat_map(stated).collect();
        give("fact_things", &COLUMNS.map(str::to_owned), &rows)
    }
}

/// Of which signals a restored directory has facts.
fn kept(dir: &DataDir) -> Vec<SignalId> {
    let mut kept = Vec::new();
    let columns = COLUMNS.map(str::to_owned);
    facts::read(&dir.facts(), &dir.keyring().unwrap(), |facts| {
        let number = (0..100).find(|n| facts == Facts::new("fact_things", &columns, &stated(*n))).unwrap();
        kept.push(told(number).id);
        Ok::<_, BackupError>(())
    })
    .unwrap();
    kept
}

/// A data directory in use.
struct Used {
    root: TempDir,
    dir: DataDir,
    log: EmbeddedLog,
    vault: Vault,
    checkpoints: Checkpoints,
}

fn open(path: &Path) -> (DataDir, EmbeddedLog, Vault, Checkpoints) {
    let dir = DataDir::open_writer(path, "flowsync test").unwrap();
    let keys = dir.keyring().unwrap();
    let log = EmbeddedLog::open(&dir.log(), keys.clone()).unwrap();
    let vault = Vault::open(&dir.vault(), keys).unwrap();
    let checkpoints = Checkpoints::open(&dir.audit(), dir.signing_key().unwrap()).unwrap();
    (dir, log, vault, checkpoints)
}

fn used(signals: u64) -> Used {
    let root = tempfile::tempdir().unwrap();
    let (dir, log, vault, mut checkpoints) = open(&root.path().join("data"));
    log.append(&(0..signals).map(told).collect::<Vec<_>>()).unwrap();
    vault.insert(&(0..5).map(claim).collect::<Vec<_>>()).unwrap();
    checkpoints.sign(&*log.audited(0).unwrap()).unwrap();
    fs::write(dir.path().join("settings.json"), b"{\"theme\": 1}").unwrap();
    fs::write(dir.git().join("0a1b.json"), b"{\"format\": 1}").unwrap();
    fs::write(dir.git().join("0a1b.json.new"), b"half").unwrap();
    fs::create_dir(dir.path().join("privacy")).unwrap();
    fs::write(dir.path().join("privacy/receipt-1.json"), b"{\"erased\": 1}").unwrap();
    fs::write(dir.path().join("privacy/plan.json"), b"{}").unwrap();
    Used { root, dir, log, vault, checkpoints }
}

impl Used {
    fn backup(&self) -> (Vec<u8>, Summary) {
        let mut out = Vec::new();
        let summary = write(&self.dir, &self.log, &Stated(12), &mut out).unwrap();
        assert_eq!(summary.bytes, out.len() as u64);
        (out, summary)
    }

    fn to(&self) -> PathBuf {
        self.root.path().join("restored")
    }

    fn restore(&self, backup: &[u8]) -> Result<Summary, BackupError> {
        restore(&mut &backup[..], &self.to(), &self.dir.path().join("keys"))
    }
}

fn signals(log: &EmbeddedLog) -> Vec<Signal> {
    log.read(at(0), usize::MAX, usize::MAX).unwrap().into_iter().map(|(_, signal)| signal).collect()
}

fn root(log: &EmbeddedLog, size: u64) -> TreeHash {
    log.audited(0).unwrap().edge(size).unwrap().root()
}

fn assert_audit(dir: &DataDir, log: &EmbeddedLog, withdrawn: u64) {
    let signed = Signed::read(&dir.audit(), dir.signing_key().unwrap().public(), &[]).unwrap();
    let report = verify(&*log.audited(0).unwrap(), 0, signed).unwrap();
    assert!(report.is_good() && report.signed > 0, "{report:?}");
    assert_eq!((report.size, report.withdrawn), (log.ends().unwrap()[0], withdrawn));
}

#[test]
fn what_is_backed_up_while_signals_come_in_is_restored_elsewhere() {
    let used = used(300);
    // Withdrawn before: one is replaced, one is gone.
    used.log.withdraw(vec![(at(3), Some(Signal { body: b"other".to_vec(), ..told(3) })), (at(4), None)]).unwrap();
    let stop = AtomicBool::new(false);
    let (backup, made) = std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in (300..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                used.vault.insert(&[claim(number)]).unwrap();
                used.log.append(&[told(number)]).unwrap();
            }
        });
        while used.log.ends().unwrap()[0] < 310 {
            std::thread::yield_now();
        }
        let made = used.backup();
        stop.store(true, Ordering::Relaxed);
        made
    });
    assert!(made.signals >= 310 && made.names >= made.signals - 300 + 5 && made.files == 4, "{made:?}");
    let before = signals(&used.log);
    let done = used.restore(&backup).unwrap();
    assert_eq!((done.signals, done.names, done.files, done.bytes), (made.signals, made.names, made.files, made.bytes));
    assert_eq!((done.signed, done.erased_since, done.filled, done.names_erased), (Some(300), 0, 0, 0));
    assert_eq!(done.root, Some(root(&used.log, made.signals).to_string()));
    let (dir, log, vault, mut checkpoints) = open(&used.to());
    assert_eq!(signals(&log), before[..made.signals as usize]);
    assert_audit(&dir, &log, 2);
    assert_eq!(vault.names().all().count() as u64, made.names);
    for file in ["settings.json", "git/0a1b.json", "privacy/receipt-1.json", "audit/checkpoints"] {
        assert_eq!(fs::read(dir.path().join(file)).unwrap(), fs::read(used.dir.path().join(file)).unwrap(), "{file}");
    }
    for left_out in ["git/0a1b.json.new", "privacy/plan.json", "restoring"] {
        assert!(!dir.path().join(left_out).exists(), "{left_out}");
    }
    for (path, mode) in
        [("keys", 0o700), ("log", 0o700), ("vault", 0o700), ("keys/ring", 0o600), ("keys/log.key", 0o600)]
    {
        assert_eq!(fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777, mode, "{path}");
    }
    // Redelivery is known, and what comes next is signed.
    assert!(log.append(&[told(4)]).unwrap()[0].duplicate);
    log.append(&[told(99_999)]).unwrap();
    checkpoints.sign(&*log.audited(0).unwrap()).unwrap();
    assert_audit(&dir, &log, 2);
}

#[test]
fn what_was_erased_since_stays_erased() {
    let mut used = used(40);
    let (backup, _) = used.backup();
    // A second backup, from behind the first: nobody may need it.
    used.log.append(&(40..50).map(told).collect::<Vec<_>>()).unwrap();
    used.checkpoints.sign(&*used.log.audited(0).unwrap()).unwrap();
    let redacted = Signal { body: b"redacted".to_vec(), ..told(9) };
    used.log.withdraw(vec![(at(7), None), (at(9), Some(redacted)), (at(44), None)]).unwrap();
    used.vault.erase(&[claim(2).person]).unwrap();
    let done = used.restore(&backup).unwrap();
    assert_eq!((done.signals, done.erased_since, done.filled, done.names, done.names_erased), (40, 2, 5, 4, 1));
    let (dir, log, vault, _) = open(&used.to());
    let read = signals(&log);
    assert_eq!(read.len(), 45);
    for (number, found) in (0..40).zip(&read) {
        if number == 7 || number == 9 {
            let said = (found.id, found.verified_by.as_str(), found.body.len(), found.headers.len());
            assert_eq!(said, (told(number).id, "withdrawn", 0, 0));
        } else {
            assert_eq!(*found, told(number));
        }
    }
    assert!(read[40..].iter().all(|signal| signal.verified_by == "withdrawn" && signal.body.is_empty()));
    assert_audit(&dir, &log, 3);
    assert_eq!(root(&log, 40), root(&used.log, 40));
    assert!(log.append(&[told(9)]).unwrap()[0].duplicate);
    assert_eq!(log.append(&[told(41)]).unwrap()[0].position, at(45), "what was lost can come again");
    assert_eq!(vault.name(claim(2).person), None);
    assert_eq!(vault.name(claim(3).person).as_deref(), Some("Maria Muster00003"));
    // A replacement can be given again, and all of it goes through another backup.
    log.withdraw(vec![(at(9), Some(Signal { body: b"again".to_vec(), ..told(9) }))]).unwrap();
    let mut second = Vec::new();
    write(&dir, &log, &Stated(0), &mut second).unwrap();
    let elsewhere = used.root.path().join("second");
    let again = restore(&mut &second[..], &elsewhere, &used.to().join("keys")).unwrap();
    assert_eq!((again.signals, again.erased_since, again.filled), (46, 0, 0));
    assert_eq!(signals(&open(&elsewhere).1), signals(&log));
}

#[test]
fn a_damaged_or_cut_backup_is_refused_and_restoring_begins_anew() {
    let used = used(12);
    used.log.withdraw(vec![(at(2), None)]).unwrap();
    let (backup, made) = used.backup();
    assert_eq!(made.facts, 12);
    let mut sections = 0;
    let mut at = b"flowsync backup 1\n".len();
    let mut places: Vec<usize> = (0..backup.len()).step_by(backup.len() / 12).collect();
    while at < backup.len() {
        let length = u32::from_be_bytes(backup[at + 1..at + 5].try_into().unwrap()) as usize;
        sections += usize::from(backup[at] == b'S');
        places.extend([at, at + 3, at + 5 + length + 10]);
        at += 5 + length + 32;
    }
    assert_eq!(sections, 9);
    for place in places {
        assert!(check(&mut &backup[..place]).unwrap_err().is_bad_backup());
        let error = used.restore(&backup[..place]).unwrap_err();
        assert!(error.is_bad_backup(), "cut at {place}: {error}");
        let mut bad = backup.clone();
        bad[place] ^= 0x20;
        let error = used.restore(&bad).unwrap_err();
        assert!(error.is_bad_backup() || matches!(error, BackupError::Newer { .. }), "byte {place}: {error}");
    }
    let error = used.restore(&[&backup[..], b"x"].concat()).unwrap_err();
    assert!(error.to_string().contains("its end"), "{error}");
    let error = used.restore(&backup[..backup.len() / 2]).unwrap_err().to_string();
    assert!(["log/", "facts", "vault/"].iter().any(|part| error.contains(&format!("within {part}"))), "{error}");
    // Nobody opens what is half restored.
    assert!(DataDir::open_writer(&used.to(), "flowsync run").unwrap_err().to_string().contains("flowsync restore"));
    assert!(DataDir::open_reader(&used.to()).is_err());
    let done = used.restore(&backup).unwrap();
    let held = check(&mut &backup[..]).unwrap();
    assert_eq!((held.signals, held.names, held.files, held.bytes), (12, done.names, done.files, done.bytes));
    assert_eq!((held.facts, done.facts, done.facts_erased), (12, 12, 0));
    assert_eq!(signals(&open(&used.to()).1), signals(&used.log));
}

#[test]
fn facts_of_what_is_let_go_are_restored_and_none_of_what_is_erased() {
    let used = used(12);
    assert_eq!(used.backup().1.facts, 0, "nothing is let go yet: all of them are computed anew");
    let envelopes = |numbers: &[u64]| numbers.iter().map(|n| (at(*n), None)).collect();
    used.log.withdraw(envelopes(&[2, 3])).unwrap();
    let (backup, _) = used.backup();
    let searched = used.root.path().join("searched");
    fs::create_dir(&searched).unwrap();
    fs::write(searched.join("backup"), &backup).unwrap();
    assert!((0..12).all(|number| holding(&searched, &secret(number)).is_empty()), "facts are sealed");

    // Let go since, redacted since, and one of which the facts named who was erased.
    used.log.withdraw(envelopes(&[5])).unwrap();
    used.log.withdraw(vec![(at(6), Some(Signal { body: b"redacted".to_vec(), ..told(6) }))]).unwrap();
    facts::forget([3, 6], &used.dir.keyring().unwrap()).unwrap();
    let done = used.restore(&backup).unwrap();
    assert_eq!((done.facts, done.facts_erased, done.erased_since), (10, 2, 2));
    let (dir, log, ..) = open(&used.to());
    assert_eq!(kept(&dir), [told(2).id, told(5).id]);
    let gone = |signal: &Signal| signal.is_withdrawn();
    assert_eq!(signals(&log).iter().filter(|signal| gone(signal)).count(), 4);

    // What is made after it is whole.
    let mut second = Vec::new();
    write(&used.dir, &used.log, &Stated(12), &mut second).unwrap();
    let elsewhere = used.root.path().join("second");
    let again = restore(&mut &second[..], &elsewhere, &used.dir.path().join("keys")).unwrap();
    assert_eq!((again.facts, again.facts_erased), (12, 0));
    assert_eq!(kept(&open(&elsewhere).0), [2, 3, 5, 6].map(|number| told(number).id));
}

#[test]
fn a_restore_touches_no_data_and_needs_the_keys() {
    let used = used(3);
    let (backup, _) = used.backup();
    let keys = used.dir.path().join("keys");
    let error = restore(&mut &backup[..], used.dir.path(), &keys).unwrap_err();
    assert!(error.is_not_empty() && error.to_string().contains("`log`"), "{error}");
    let error = restore(&mut &backup[..], &used.to(), used.root.path()).unwrap_err();
    assert!(error.to_string().contains("tenant.key") && !used.to().exists(), "{error}");
    assert!(matches!(restore(&mut &b"PK"[..], &used.to(), &keys), Err(BackupError::NoBackup)));
    // The keys of another directory.
    let other = self::used(3);
    let error = restore(&mut &backup[..], &used.to(), &other.dir.path().join("keys")).unwrap_err();
    assert!(matches!(error, BackupError::Audit(_)), "{error}");
    assert_eq!(signals(&used.log).len(), 3);
}

#[test]
fn nothing_that_was_said_can_be_read_in_a_backup_not_even_what_an_older_build_left_plain() {
    let Used { root, dir, log, vault, checkpoints } = used(20);
    drop((log, vault));
    let keys = dir.keyring().unwrap();
    let store = Store::open(&dir.log(), keys.clone()).unwrap();
    let mut edge = (&store.view() as &dyn crate::log::Audited).edge(20).unwrap();
    for number in 20..24u64 {
        let (signal, place) = (told(number), number.to_be_bytes());
        let plain = record::encode(&signal);
        store.hashes.insert(place, packed(&edge.push(TreeHash::leaf(&plain)))).unwrap();
        store.records.insert(place, plain).unwrap();
        store.ids.insert(signal.id.0.to_be_bytes(), place).unwrap();
    }
    drop(store);
    let log = EmbeddedLog::open(&dir.log(), keys.clone()).unwrap();
    let vault = Vault::open(&dir.vault(), keys).unwrap();
    let used = Used { root, dir, log, vault, checkpoints };
    let (backup, _) = used.backup();
    let kept = used.root.path().join("kept");
    fs::create_dir(&kept).unwrap();
    fs::write(kept.join("backup"), &backup).unwrap();
    for text in (0..24).map(secret).chain((0..5).map(|number| claim(number).name.into_bytes())) {
        assert!(holding(&kept, &text).is_empty());
    }
    used.log.withdraw(vec![(at(21), None)]).unwrap();
    assert_eq!(used.restore(&backup).unwrap().erased_since, 1);
    assert!(holding(&used.to(), &secret(21)).is_empty());
    let (dir, log, ..) = open(&used.to());
    assert_eq!((signals(&log)[20].clone(), signals(&log)[21].body.len()), (told(20), 0));
    assert_audit(&dir, &log, 1);
}

#[test]
fn another_record_than_the_signed_one_is_refused() {
    let used = used(5);
    let mut out = Vec::new();
    write(&used.dir, &used.log, &Stated(0), &mut out).unwrap();
    // The same keys and checkpoints, and another log.
    let keys = used.dir.keyring().unwrap();
    let other = EmbeddedLog::open(&used.root.path().join("other"), keys).unwrap();
    other.append(&[told(0), told(1), told(2), told(3), told(77)]).unwrap();
    let mut forged = Vec::new();
    write(&used.dir, &other, &Stated(0), &mut forged).unwrap();
    assert!(matches!(used.restore(&forged), Err(BackupError::Altered { size: 5 })));
    let shorter = EmbeddedLog::open(&used.root.path().join("shorter"), used.dir.keyring().unwrap()).unwrap();
    shorter.append(&[told(0)]).unwrap();
    let mut forged = Vec::new();
    write(&used.dir, &shorter, &Stated(0), &mut forged).unwrap();
    assert!(matches!(used.restore(&forged), Err(BackupError::Altered { size: 5 })));
}

#[test]
fn many_frames_are_read_as_they_were_written() {
    let used = used(0);
    let mut rng = fastrand::Rng::with_seed(3);
    let mut all: Vec<_> =
        (0..400).map(|n| Signal { body: (0..5000).map(|_| rng.u8(..)).collect(), ..signal(n, 0) }).collect();
    all.push(Signal { body: (0..3 << 20).map(|_| rng.u8(..)).collect(), ..signal(400, 0) });
    used.log.append(&all).unwrap();
    let (backup, _) = used.backup();
    used.restore(&backup).unwrap();
    assert_eq!(signals(&open(&used.to()).1), all);
}

#[test]
fn a_running_process_streams_its_backup() {
    let Used { root, dir, log, vault, checkpoints: _checkpoints } = used(200);
    let log = std::sync::Arc::new(log);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = format!("http://{}/api/backup", listener.local_addr().unwrap());
    let router = backup_routes(&dir, log.clone(), std::sync::Arc::new(Stated(0)));
    runtime.spawn(async move { axum::serve(listener, router).await });
    let mut backup = Vec::new();
    ureq::get(&address).call().unwrap().body_mut().as_reader().read_to_end(&mut backup).unwrap();
    let to = root.path().join("restored");
    let done = restore(&mut &backup[..], &to, &dir.path().join("keys")).unwrap();
    assert_eq!((done.signals, done.names), (200, 5));
    let keys = dir.keyring().unwrap();
    assert_eq!(Names::read(&to.join("vault"), &keys).unwrap(), vault.names());
    // One that fails has no end.
    fs::write(
        dir.vault().join("names.ndjson"),
        b"{\"person\":\"00000000000000000000000000000001\",\"name\":\"a\",\"account\":\"b\"}\n",
    )
    .unwrap();
    let mut cut = Vec::new();
    let read =
        ureq::get(&address).call().and_then(|mut answer| Ok(answer.body_mut().as_reader().read_to_end(&mut cut)?));
    assert!(read.is_err(), "{read:?}");
}
