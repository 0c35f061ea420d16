//! `flowsync audit verify`: every record against every stored hash and every checkpoint, in one pass.
//!
//! ```text
//! records ─► tree of the records ─┬─ each leaf and node against the stored ones   exact, while those are as they were
//! hashes  ─► tree of the leaves ──┴─ the roots against each signed checkpoint     a range: from the last that agreed
//! ```
//!
//! The first difference ends the pass. Which side of it was altered, a checkpoint behind it decides: the one whose tree
//! has the signed root is as it was. Where no checkpoint is behind it, the report says that nothing does decide.
//!
//! A record that was withdrawn and is gone is represented by its stored hash, where the ring says that its key is destroyed;
//! what the hash is worth, the checkpoints say. A record that is missing while its key exists was removed.
//!
//! Memory is bounded by the checkpoints (48 bytes each) and the largest record (I9).

use std::path::Path;

use flowsync_schemas::{Signal, SignalId};
use serde::{Deserialize, Serialize};

use super::{AuditError, Checkpoint, Finding, Notes, PublicKey, Report, Verdict, failed};
use crate::log::{
    Audited, LogError, Stored, take,
    tree::{Edge, TreeHash},
};

/// Doubts that a report lists, at most.
const DOUBTS_MAX: usize = 20;

/// Checkpoints that somebody kept elsewhere.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Given {
    /// Where they come from, for the report.
    pub name: String,
    /// The notes, one after the other.
    pub text: String,
}

/// What was signed of a log. Read it before the log: what is signed meanwhile is behind what is looked at.
#[derive(Debug, Default)]
pub struct Signed {
    /// Sorted by size.
    marks: Vec<Mark>,
    doubts: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    size: u64,
    root: TreeHash,
    given: bool,
}

impl Signed {
    /// The checkpoints kept in a data directory's `audit` folder, and those that somebody kept elsewhere, as far as `key`
    /// signed them. What it did not sign becomes a doubt.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn read(dir: &Path, key: &PublicKey, given: &[Given]) -> Result<Self, AuditError> {
        let mut signed = Self::default();
        for (number, note) in Notes::kept(dir)?.into_iter().flatten().enumerate() {
            let note = note.map_err(failed(dir))?;
            signed.add(&note, key, false, || format!("kept checkpoint {}", number + 1));
        }
        for Given { name, text } in given {
            let mut notes = Notes::new(text.as_bytes()).peekable();
            if notes.peek().is_none() {
                signed.doubts.push(format!("{name} holds no signed checkpoint"));
            }
            for note in notes {
                signed.add(&note.map_err(failed(Path::new(name)))?, key, true, || name.clone());
            }
        }
        signed.marks.sort_by_key(|mark| mark.size);
        Ok(signed)
    }

    fn add(&mut self, note: &str, key: &PublicKey, given: bool, name: impl FnOnce() -> String) {
        match Checkpoint::open(note, key) {
            Ok(Checkpoint { size, root, .. }) => self.marks.push(Mark { size, root, given }),
            Err(error) => self.doubts.push(format!("{}: {error}", name())),
        }
    }
}

/// Compares a partition with its stored hashes and with what was signed of it.
///
/// # Errors
/// Where the log cannot be read for another reason than what is in it.
pub fn verify(log: &dyn Audited, partition: u32, signed: Signed) -> Result<Report, AuditError> {
    let Signed { marks, mut doubts } = signed;
    let hashed = log.leaves()? > 0;
    let mut walk =
        Walk { log, partition, marks: &marks, passed: 0, agreed: 0, edge: Edge::default(), withdrawn: 0, gone: 0 };
    let finding = walk.run(hashed)?;
    let passed = &marks[..walk.passed];
    if finding.is_none() && walk.edge.size() > 0 {
        if !hashed {
            doubts.push(
                "no hashes are kept: an older version wrote the log, or they were removed. `flowsync run` or \
                         `import` computes them anew, from the records as they are"
                    .into(),
            );
        }
        if !passed.iter().any(|mark| !mark.given) {
            doubts.push(
                "no checkpoint is kept that this key signed: the log was never opened for writing by this \
                         version, or they were removed"
                    .into(),
            );
        }
    }
    if doubts.len() > DOUBTS_MAX {
        let more = doubts.len() - DOUBTS_MAX;
        doubts.truncate(DOUBTS_MAX);
        doubts.push(format!("and {more} more"));
    }
    Ok(Report {
        size: walk.edge.size(),
        root: walk.edge.root().to_string(),
        checkpoints: passed.len() as u64,
        checkpoints_given: passed.iter().filter(|mark| mark.given).count() as u64,
        signed: walk.agreed,
        withdrawn: walk.withdrawn,
        withdrawn_gone: walk.gone,
        finding,
        doubts,
    })
}

struct Walk<'a> {
    log: &'a dyn Audited,
    partition: u32,
    marks: &'a [Mark],
    /// Checkpoints that agree, from the first on.
    passed: usize,
    /// The size of the last of them.
    agreed: u64,
    /// The tree over the records that are as they were.
    edge: Edge,
    /// Of these, the withdrawn ones, and of those the ones that are gone.
    withdrawn: u64,
    gone: u64,
}

impl Walk<'_> {
    fn run(&mut self, hashed: bool) -> Result<Option<Finding>, AuditError> {
        let log = self.log;
        let mut records = log.stored(0).peekable();
        let mut hashes = self.log.hashes(0).peekable();
        loop {
            let at = self.edge.size();
            if let Some(finding) = self.checkpoints(at)? {
                return Ok(Some(finding));
            }
            let record = match take(&mut records, at) {
                Ok(record) => record,
                // What of the store is not about a record is no finding.
                Err(error) if error.is_corrupt() => {
                    return self.found(at, Verdict::Unreadable, error.to_string()).map(Some);
                }
                Err(error) => return Err(error.into()),
            };
            let kept = match take(&mut hashes, at) {
                Err(error) if error.is_corrupt() => {
                    return self.found(at, Verdict::Hashes, error.to_string()).map(Some);
                }
                other => other?,
            };
            let Some(record) = record else {
                let more = kept.is_some() || records.peek().is_some() || hashes.peek().is_some();
                return if more || self.passed < self.marks.len() {
                    self.removed(at, kept).map(Some)
                } else {
                    Ok(None)
                };
            };
            let Stored { leaf, record } = record;
            let before = self.edge.clone();
            let done = self.edge.push(leaf);
            if !hashed || kept.as_ref() == Some(&done) {
                self.withdrawn += u64::from(self.log.is_withdrawn(at));
                self.gone += u64::from(record.is_none());
                continue;
            }
            self.edge = before;
            return self.differs(at, leaf, &done, kept.as_deref()).map(Some);
        }
    }

    /// Compares the root with the checkpoints of this size.
    fn checkpoints(&mut self, size: u64) -> Result<Option<Finding>, AuditError> {
        while let Some(mark) = self.marks.get(self.passed).filter(|mark| mark.size == size) {
            if mark.root != self.edge.root() {
                let told = if mark.given { "a checkpoint that was kept elsewhere" } else { "the signed checkpoint" };
                let evidence = format!("{told} of {size} signals has another root");
                return self.rewritten(self.agreed, size, evidence).map(Some);
            }
            self.passed += 1;
            self.agreed = size;
        }
        Ok(None)
    }

    fn removed(&self, at: u64, kept: Option<Vec<TreeHash>>) -> Result<Finding, AuditError> {
        let evidence = match (kept, self.judge(at)?) {
            (Some(_), Some(judged)) if judged.hashes => judged.agree("its stored hash"),
            (Some(_), Some(judged)) => format!("its hash is stored; {}", judged.neither()),
            (Some(_), None) => "its hash is stored; no checkpoint covers it".to_owned(),
            (None, Some(judged)) => {
                let unsure = if self.agreed < at {
                    format!("; of those before it, no checkpoint tells behind the first {}", self.agreed)
                } else {
                    String::new()
                };
                format!("a checkpoint of {} signals was signed{unsure}", judged.size)
            }
            (None, None) => "signals behind it are there".to_owned(),
        };
        self.found(at, Verdict::Removed, evidence)
    }

    /// A record and its stored hashes differ.
    fn differs(
        &self,
        at: u64,
        leaf: TreeHash,
        done: &[TreeHash],
        kept: Option<&[TreeHash]>,
    ) -> Result<Finding, AuditError> {
        let judged = self.judge(at)?;
        let same = done.iter().zip(kept.unwrap_or_default()).take_while(|(own, kept)| own == kept).count();
        // The leaves under the first node that differs.
        let from = at + 1 - (1 << same.min(done.len() - 1));
        if let Some(judged) = judged.as_ref().filter(|judged| judged.records) {
            return Ok(self.finding(from, at + 1, None, Verdict::Hashes, judged.agree("the tree of the records")));
        }
        match (kept, judged) {
            (None, None) => {
                let evidence =
                    "no hash of it is stored, no checkpoint covers it: an older version took it in, or nobody";
                self.found(at, Verdict::Added, evidence.to_owned())
            }
            (None, Some(judged)) => {
                let evidence = format!("from offset {at} on no hash is stored; {}", judged.neither());
                self.rewritten(self.agreed, judged.size, evidence)
            }
            (Some(_), judged) if same > 0 => {
                let evidence = match judged {
                    Some(judged) => format!("the stored hashes over them do not fit together; {}", judged.neither()),
                    None => "the stored hashes over them do not fit together; no checkpoint covers them".to_owned(),
                };
                self.rewritten(from.max(self.agreed), at + 1, evidence)
            }
            (Some(_), judged) => {
                let evidence = match judged {
                    Some(judged) if judged.hashes => judged.agree("its stored hash, which is another,"),
                    Some(judged) => format!("its stored hash is another; {}", judged.neither()),
                    None => "its stored hash is another; no checkpoint covers it".to_owned(),
                };
                let verdict = match self.place_of(leaf)? {
                    Some(belongs_at) => Verdict::Reordered { belongs_at },
                    None => Verdict::Altered,
                };
                self.found(at, verdict, evidence)
            }
        }
    }

    /// Which of both is as the next checkpoint says: the records from `at` on, or the stored leaves.
    fn judge(&self, at: u64) -> Result<Option<Judged>, AuditError> {
        let Some(mark) = self.marks[self.passed..].iter().find(|mark| mark.size > at) else { return Ok(None) };
        let records = self.log.stored(at).map(|e| e.map(|(at, stored)| (at, Some(stored.leaf))));
        let leaves = self.log.hashes(at).map(|e| e.map(|(at, kept)| (at, kept.first().copied())));
        let (records, hashes) = (self.grown(records, mark.size)?, self.grown(leaves, mark.size)?);
        let agrees = |root: Option<TreeHash>| root == Some(mark.root);
        Ok(Some(Judged { size: mark.size, records: agrees(records), hashes: agrees(hashes) }))
    }

    /// The root when these leaves come behind those that are as they were; none where they have a gap.
    fn grown(
        &self,
        leaves: impl Iterator<Item = Result<(u64, Option<TreeHash>), LogError>>,
        size: u64,
    ) -> Result<Option<TreeHash>, AuditError> {
        let mut edge = self.edge.clone();
        for entry in leaves {
            if edge.size() == size {
                break;
            }
            match entry {
                Ok((at, Some(leaf))) if at == edge.size() => {
                    edge.push(leaf);
                }
                Err(error) if !error.is_corrupt() => return Err(error.into()),
                _ => return Ok(None),
            }
        }
        Ok((edge.size() == size).then(|| edge.root()))
    }

    /// Where a record with this hash belongs, by the stored hashes.
    fn place_of(&self, leaf: TreeHash) -> Result<Option<u64>, AuditError> {
        for entry in self.log.hashes(0) {
            match entry {
                Ok((at, kept)) if kept.first() == Some(&leaf) => return Ok(Some(at)),
                Err(error) if !error.is_corrupt() => return Err(error.into()),
                _ => {}
            }
        }
        Ok(None)
    }

    /// One of a range was rewritten together with its hashes. Where the index of ids was left as it was, it may tell more.
    fn rewritten(&self, from: u64, until: u64, mut evidence: String) -> Result<Finding, AuditError> {
        for entry in self.log.records(from) {
            let (at, record) = match entry {
                Ok(entry) if entry.0 < until => entry,
                Err(error) if !error.is_corrupt() => return Err(error.into()),
                _ => break,
            };
            // Of what was withdrawn, and without keys, nobody can tell.
            match self.log.key(at) {
                Ok(Some(_)) => {}
                Ok(None) => continue,
                Err(_) => break,
            }
            let Some(Signal { id, .. }) = self.log.opened(at, &record) else {
                evidence += &format!("; what lies at offset {at} does not open with its key");
                break;
            };
            let belongs = self.log.offset_of(id)?;
            if belongs != Some(at) {
                let place = belongs.map_or_else(|| "nowhere".to_owned(), |offset| format!("at offset {offset}"));
                evidence += &format!("; at offset {at} lies signal {id}, which the index of ids has {place}");
                break;
            }
        }
        let signal = if until - from == 1 { self.log.indexed_at(from)? } else { None };
        Ok(self.finding(from, until, signal, Verdict::Rewritten, evidence))
    }

    fn found(&self, at: u64, verdict: Verdict, evidence: String) -> Result<Finding, AuditError> {
        Ok(self.finding(at, at + 1, self.log.indexed_at(at)?, verdict, evidence))
    }

    fn finding(
        &self,
        offset: u64,
        until: u64,
        signal: Option<SignalId>,
        verdict: Verdict,
        evidence: String,
    ) -> Finding {
        Finding { partition: self.partition, offset, until, signal, verdict, evidence }
    }
}

/// What the next checkpoint says of a difference.
struct Judged {
    /// Its size.
    size: u64,
    /// Whether the tree of the records has its root.
    records: bool,
    /// Whether the tree of the stored leaves has its root.
    hashes: bool,
}

impl Judged {
    fn agree(&self, what: &str) -> String {
        format!("{what} agrees with the signed checkpoint of {} signals", self.size)
    }

    fn neither(&self) -> String {
        format!("neither records nor hashes agree with the signed checkpoint of {} signals: there is more", self.size)
    }
}
