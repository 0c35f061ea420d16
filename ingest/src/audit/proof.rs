//! Proofs that leave the machine: that a record is in the log, and that a log only grew.
//!
//! A proof is one JSON object. It holds all that it speaks of; who checks it needs the public key, and trusts nothing
//! else in it. What proves an inclusion is in the form of c2sp.org/tlog-proof, so that other tools check it too: the
//! leaf is the record's bytes. Version 1 holds a record that was never sealed; version 2 a sealed one with its key, which the
//! record commits to, so that it opens to what was sealed and to nothing else. Of a withdrawn record the sealed bytes are
//! shown, or their hash, and nobody can say what they said.
//!
//! ```json
//! {"kind": "flowsync.audit.inclusion.v1", "signal": "075e29ed7080b54005c73ac87e769e33", "record": "AQd…",
//!  "proof": "c2sp.org/tlog-proof@v1\nindex 487\nPMfX…=\n…\n\nflowsync/9f1c2ab3d4e5f607/0\n512\n…"}
//! {"kind": "flowsync.audit.inclusion.v2", "signal": "…", "record": "Ag8c…", "key": "q83v…", "proof": "…"}
//! {"kind": "flowsync.audit.withdrawn.v1", "leaf": "PMfX…=", "proof": "…"}
//! {"kind": "flowsync.audit.extension.v1", "older": "…", "newer": "…", "hashes": ["…"]}
//! ```

use std::{fmt, str::FromStr};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use flowsync_schemas::{LogPosition, Signal, SignalId};
use serde::{Deserialize, Serialize};

use super::{AuditError, Checkpoint, PublicKey};
use crate::{
    log::{
        Audited,
        record::{self, RecordError},
        sealed,
        tree::{TreeHash, extends, includes},
    },
    seal::Secret,
};

const PLAIN: &str = "flowsync.audit.inclusion.v1";
const SEALED: &str = "flowsync.audit.inclusion.v2";
const WITHDRAWN: &str = "flowsync.audit.withdrawn.v1";
const EXTENSION: &str = "flowsync.audit.extension.v1";
/// First line of the standard's form.
const FORM: &str = "c2sp.org/tlog-proof@v1";

/// What is to be proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The record of a signal.
    Signal(SignalId),
    /// The record at a place.
    At(LogPosition),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Signal(id) => write!(f, "signal {id}"),
            Subject::At(at) => write!(f, "record {}/{}", at.partition, at.offset),
        }
    }
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((partition, offset)) = text.split_once('/')
            && let (Ok(partition), Ok(offset)) = (partition.parse(), offset.parse())
        {
            return Ok(Subject::At(LogPosition { partition, offset }));
        }
        text.parse().map(Subject::Signal).map_err(|_| {
            format!("{text:?} is neither a signal's id (32 hexadecimal digits) nor PARTITION/OFFSET, such as 0/487")
        })
    }
}

/// The proof that a record is in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inclusion {
    kind: String,
    /// The signal, where this build reads the record.
    signal: Option<SignalId>,
    /// The record as stored, in base64; none where it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    record: Option<String>,
    /// The record's key, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The hash of a record that is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leaf: Option<TreeHash>,
    /// Place, siblings and signed checkpoint, in the standard's form.
    proof: String,
}

/// The proof that a log only grew from one checkpoint to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    kind: String,
    /// The older checkpoint, as signed.
    older: String,
    /// The newer checkpoint, as signed.
    newer: String,
    /// RFC 6962, 2.1.2, in base64.
    hashes: Vec<TreeHash>,
}

/// What a proof that holds says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// A record is in the log.
    Inclusion {
        /// The signed state of the log.
        checkpoint: Checkpoint,
        /// Where the record is.
        offset: u64,
        /// What it says.
        content: Content,
    },
    /// The log of the newer checkpoint begins with that of the older one.
    Extension {
        /// Signed before.
        older: Checkpoint,
        /// Signed after.
        newer: Checkpoint,
    },
}

/// What a proof shows of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// What it says.
    Signal(Box<Signal>),
    /// Nothing that this version reads: a newer one wrote it.
    Newer,
    /// Its sealed bytes: it was withdrawn, and its key is destroyed.
    Sealed,
    /// Its hash: it was withdrawn, and its bytes are gone.
    Gone,
}

impl Content {
    /// The signal, where it is shown.
    pub fn signal(&self) -> Option<&Signal> {
        match self {
            Content::Signal(signal) => Some(signal),
            _ => None,
        }
    }
}

/// Proves that a record is in the log, to whoever has the public key. `note` is a signed checkpoint of it.
///
/// # Errors
/// Where it is not there, the checkpoint does not cover it yet, or it is not what was signed.
pub fn prove(log: &dyn Audited, subject: Subject, note: &str, key: &PublicKey) -> Result<Inclusion, AuditError> {
    let checkpoint = Checkpoint::open(note, key)?;
    let offset = match subject {
        Subject::Signal(id) => log.offset_of(id)?,
        // The embedded log has one partition.
        Subject::At(at) => (at.partition == 0).then_some(at.offset),
    };
    let (Some(offset), size) = (offset, checkpoint.size) else { return Err(AuditError::Unknown(subject)) };
    let record = log.record(offset)?;
    let disclosed = log.key(offset)?;
    let gone =
        if disclosed.is_none() { log.hashes_at(offset)?.and_then(|hashes| hashes.first().copied()) } else { None };
    let Some(leaf) = record.as_deref().map(TreeHash::leaf).or(gone) else { return Err(AuditError::Unknown(subject)) };
    if offset >= size {
        return Err(AuditError::NotSigned { offset, size });
    }
    let path = log.prover().inclusion(offset, size)?;
    if !includes(leaf, offset, size, &path, &checkpoint.root) {
        return Err(AuditError::Unprovable { subject: subject.to_string() });
    }
    let path: String = path.iter().map(|hash| format!("{hash}\n")).collect();
    let disclosed = disclosed.filter(|_| record.as_deref().is_some_and(sealed::is_sealed));
    let kind = match &record {
        _ if log.is_withdrawn(offset) => WITHDRAWN,
        Some(_) if disclosed.is_some() => SEALED,
        _ => PLAIN,
    };
    Ok(Inclusion {
        kind: kind.to_owned(),
        signal: record.as_deref().and_then(|record| log.opened(offset, record)).map(|signal| signal.id),
        leaf: record.is_none().then_some(leaf),
        record: record.map(|record| BASE64_STANDARD.encode(record)),
        key: disclosed.map(|key| BASE64_STANDARD.encode(key.bytes())),
        proof: format!("{FORM}\nindex {offset}\n{path}\n{note}"),
    })
}

/// Proves that the log only grew since `older` was signed; both are signed checkpoints of it.
///
/// # Errors
/// Where they are not, or the log does not begin with what the older one says.
pub fn extend(log: &dyn Audited, older: &str, newer: &str, key: &PublicKey) -> Result<Extension, AuditError> {
    let (old, new) = (Checkpoint::open(older, key)?, Checkpoint::open(newer, key)?);
    let unprovable = || AuditError::Unprovable { subject: format!("the log of {} signals", old.size) };
    if old.size > new.size {
        return Err(unprovable());
    }
    let hashes = log.prover().consistency(old.size, new.size)?;
    if !extends((old.size, &old.root), (new.size, &new.root), &hashes) {
        return Err(unprovable());
    }
    Ok(Extension { kind: EXTENSION.to_owned(), older: older.to_owned(), newer: newer.to_owned(), hashes })
}

/// Checks a proof of either kind, with nothing but the public key.
///
/// # Errors
/// Where it proves nothing, or says of itself what it does not prove.
pub fn check(proof: &str, key: &PublicKey) -> Result<Checked, AuditError> {
    #[derive(Deserialize)]
    struct Kind {
        kind: String,
    }
    fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, AuditError> {
        serde_json::from_str(text).map_err(|e| AuditError::Disproved(format!("it is no proof that can be read: {e}")))
    }
    match read::<Kind>(proof)?.kind.as_str() {
        PLAIN | SEALED | WITHDRAWN => check_inclusion(&read(proof)?, key),
        EXTENSION => check_extension(&read(proof)?, key),
        other => Err(AuditError::Disproved(format!("{other:?} is no kind of proof that this version knows"))),
    }
}

fn check_inclusion(inclusion: &Inclusion, key: &PublicKey) -> Result<Checked, AuditError> {
    let bad = |what: &str| AuditError::Disproved(what.to_owned());
    let unreadable = || bad("its text is not of the form c2sp.org/tlog-proof@v1");
    let (head, note) = inclusion.proof.split_once("\n\n").ok_or_else(unreadable)?;
    let mut lines = head.lines();
    if lines.next() != Some(FORM) {
        return Err(unreadable());
    }
    let index = lines.next().and_then(|line| line.strip_prefix("index ")).ok_or_else(unreadable)?;
    let offset = index.parse().ok().filter(|offset: &u64| offset.to_string() == index).ok_or_else(unreadable)?;
    let path = lines.map(TreeHash::parse).collect::<Option<Vec<_>>>().ok_or_else(unreadable)?;
    let decoded = |text: &Option<String>| text.as_ref().map(|text| BASE64_STANDARD.decode(text)).transpose();
    let record = decoded(&inclusion.record).map_err(|_| bad("its record is not base64"))?;
    let disclosed = decoded(&inclusion.key).map_err(|_| bad("its key is not base64"))?;
    let leaf = record.as_deref().map(TreeHash::leaf).or(inclusion.leaf).ok_or_else(|| bad("it has no record"))?;
    let checkpoint = Checkpoint::open(note, key).map_err(|e| AuditError::Disproved(format!("the checkpoint: {e}")))?;
    if !includes(leaf, offset, checkpoint.size, &path, &checkpoint.root) {
        return Err(bad("the record is not at this place of the signed log"));
    }
    let read = match (inclusion.kind.as_str(), record, disclosed) {
        (PLAIN, Some(record), None) => record::decode(&record),
        (SEALED, Some(record), Some(key)) => {
            let key = key.try_into().map_err(|_| bad("its key is not 32 bytes"))?;
            sealed::open(&record, offset, &Secret::new(key))
        }
        (WITHDRAWN, Some(_), None) => return Ok(Checked::Inclusion { checkpoint, offset, content: Content::Sealed }),
        (WITHDRAWN, None, None) => return Ok(Checked::Inclusion { checkpoint, offset, content: Content::Gone }),
        _ => return Err(bad("it does not hold what its kind says")),
    };
    let content = match read {
        Ok(signal) if inclusion.signal.is_some_and(|id| id != signal.id) => {
            return Err(bad("the record is of another signal than it says"));
        }
        Ok(signal) => Content::Signal(Box::new(signal)),
        Err(RecordError::Newer(_)) => Content::Newer,
        Err(RecordError::Sealed) => return Err(bad("its record is sealed and its key is missing")),
        Err(RecordError::Damaged(detail)) => return Err(bad(&format!("its record cannot be read: {detail}"))),
    };
    Ok(Checked::Inclusion { checkpoint, offset, content })
}

fn check_extension(extension: &Extension, key: &PublicKey) -> Result<Checked, AuditError> {
    let open = |which: &str, note| {
        Checkpoint::open(note, key).map_err(|e| AuditError::Disproved(format!("the {which} checkpoint: {e}")))
    };
    let (older, newer) = (open("older", &extension.older)?, open("newer", &extension.newer)?);
    if !extends((older.size, &older.root), (newer.size, &newer.root), &extension.hashes) {
        return Err(AuditError::Disproved("the newer log does not begin with the older one".to_owned()));
    }
    Ok(Checked::Extension { older, newer })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::{
        audit::{Checkpoints, SigningKey},
        log::{EmbeddedLog, Log, conformance::signal},
        seal::Keys,
    };

    struct Setup {
        _dir: tempfile::TempDir,
        log: EmbeddedLog,
        /// One after each signal.
        notes: Vec<String>,
        key: PublicKey,
    }

    fn setup(signals: u64) -> Setup {
        let dir = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(&dir.path().join("log"), Keys::fixed()).unwrap();
        let mut kept = Checkpoints::open(&dir.path().join("audit"), SigningKey::of_log(&[1; 32], 0)).unwrap();
        let notes = (0..signals).map(|number| {
            log.append(&[signal(number, 40)]).unwrap();
            kept.sign(&*log.audited(0).unwrap()).unwrap();
            kept.newest().unwrap().1.to_owned()
        });
        let notes = notes.collect();
        Setup { log, notes, key: kept.key().clone(), _dir: dir }
    }

    fn at(offset: u64) -> Subject {
        Subject::At(LogPosition { partition: 0, offset })
    }

    #[test]
    fn every_record_is_proven_under_every_checkpoint_that_covers_it() {
        let Setup { log, notes, key, _dir } = setup(13);
        let view = log.audited(0).unwrap();
        for (size, note) in notes.iter().enumerate().map(|(i, note)| (i as u64 + 1, note)) {
            for offset in 0..size {
                let wanted = signal(offset, 40);
                let proof = prove(&*view, Subject::Signal(wanted.id), note, &key).unwrap();
                assert_eq!(proof, prove(&*view, at(offset), note, &key).unwrap());
                let checked = check(&serde_json::to_string(&proof).unwrap(), &key).unwrap();
                let Checked::Inclusion { checkpoint, offset: found, content } = checked else { panic!("{checked:?}") };
                assert_eq!((checkpoint.size, found, content.signal()), (size, offset, Some(&wanted)));
            }
            for (older, from) in notes[..size as usize].iter().zip(1..) {
                let proof = serde_json::to_string(&extend(&*view, older, note, &key).unwrap()).unwrap();
                let Checked::Extension { older, newer } = check(&proof, &key).unwrap() else { panic!("{proof}") };
                assert_eq!((older.size, newer.size), (from, size));
            }
        }
        assert!(matches!(prove(&*view, at(5), &notes[4], &key), Err(AuditError::NotSigned { offset: 5, size: 5 })));
        assert!(prove(&*view, at(13), &notes[12], &key).unwrap_err().is_unknown());
        assert!(prove(&*view, Subject::Signal(SignalId(1)), &notes[12], &key).unwrap_err().is_unknown());
        assert!(matches!(extend(&*view, &notes[3], &notes[2], &key), Err(AuditError::Unprovable { .. })));
    }

    #[test]
    fn another_log_proves_nothing_of_this_one() {
        let (ours, other) = (setup(5), setup(4));
        let view = ours.log.audited(0).unwrap();
        let stranger = SigningKey::of_log(&[2; 32], 0);
        let proof = serde_json::to_string(&prove(&*view, at(2), &ours.notes[4], &ours.key).unwrap()).unwrap();
        assert!(check(&proof, stranger.public()).unwrap_err().to_string().contains(ours.key.name()));
        // The same key, and a log that says something else.
        other.log.append(&[signal(9, 1)]).unwrap();
        let view = other.log.audited(0).unwrap();
        assert!(matches!(prove(&*view, at(2), &ours.notes[4], &ours.key), Err(AuditError::Unprovable { .. })));
        assert!(matches!(
            extend(&*view, &ours.notes[3], &ours.notes[4], &ours.key),
            Err(AuditError::Unprovable { .. })
        ));
        for text in ["", "{}", r#"{"kind":"x"}"#, r#"{"kind":"flowsync.audit.inclusion.v1"}"#] {
            assert!(matches!(check(text, &ours.key), Err(AuditError::Disproved(_))), "{text}");
        }
    }

    #[test]
    fn subjects_are_read_as_they_are_shown() {
        let id = SignalId(0x075e_29ed);
        assert_eq!(id.to_string().parse(), Ok(Subject::Signal(id)));
        assert_eq!("0/487".parse(), Ok(at(487)));
        for bad in ["", "487", "0/", "0/-1", "x/1", "075e"] {
            assert!(bad.parse::<Subject>().unwrap_err().contains("0/487"), "{bad}");
        }
    }

    #[test]
    fn a_changed_proof_says_the_same_or_nothing() {
        let Setup { log, notes, key, _dir } = setup(11);
        let view = log.audited(0).unwrap();
        let inclusion = serde_json::to_string(&prove(&*view, at(6), &notes[9], &key).unwrap()).unwrap();
        let extension = serde_json::to_string(&extend(&*view, &notes[5], &notes[10], &key).unwrap()).unwrap();
        let config = ProptestConfig::with_cases(2000);
        proptest!(config, |(which: bool, at: prop::sample::Index, bit in 0..7u8)| {
            let good = if which { &inclusion } else { &extension };
            let mut bytes = good.clone().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let text = String::from_utf8_lossy(&bytes);
            if let Ok(checked) = check(&text, &key) {
                prop_assert_eq!(checked, check(good, &key).unwrap(), "{}", text);
            }
        });
    }
}
