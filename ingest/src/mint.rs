//! The mint: the one place that decides where an epoch ends.
//!
//! An epoch is the number of signals that it covers over all partitions; its mark says up to which offset of each. The
//! dataflow's input advances from mark to mark, and after a restart along the same marks again, so a feed that had seen
//! epoch *e* goes on with the next one, without loss or repetition.
//!
//! `marks`: a line a mark, `EPOCH POSITION[,POSITION…] CHECK`. Not fsynced: after `kill -9` the operating system still
//! has every line that was written. After power loss the newest may be missing. Then the bounds behind the last one are
//! decided anew, which changes no row of any epoch, and which nobody can have committed: a commit's manifest is fsynced
//! and records its own positions.
//!
//! Invariants: marks only grow, in every partition (I4); a torn or damaged tail is cut off when the file is opened; the
//! file is bounded by [`Mint::trim`], and minting stops at a limit where nobody trims (I9).

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use flowsync_schemas::Epoch;

const FILE: &str = "marks";

/// Marks kept: more than a day of ten epochs a second without any commit.
const MARKS_MAX: usize = 1 << 20;

/// The file is rewritten when it has this many lines more than twice the marks that are kept.
const SLACK_LINES: usize = 1024;

/// The end of an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The epoch: the sum of `positions`.
    pub epoch: Epoch,
    /// Offset of the first signal that it does not cover, by partition.
    pub positions: Vec<u64>,
}

impl Mark {
    fn at(positions: Vec<u64>) -> Self {
        Self { epoch: Epoch(positions.iter().fold(0, |sum: u64, p| sum.saturating_add(*p))), positions }
    }

    fn covers(&self, other: &[u64]) -> bool {
        other.len() <= self.positions.len() && other.iter().zip(&self.positions).all(|(other, own)| other <= own)
    }

    fn line(&self) -> String {
        let positions: Vec<_> = self.positions.iter().map(u64::to_string).collect();
        let text = format!("{} {}", self.epoch, positions.join(","));
        format!("{text} {:08x}\n", check(&text))
    }

    fn parse(line: &str) -> Option<Self> {
        let (text, sum) = line.rsplit_once(' ')?;
        if u32::from_str_radix(sum, 16).ok()? != check(text) {
            return None;
        }
        let (epoch, positions) = text.split_once(' ')?;
        let positions = positions.split(',').map(|p| p.parse().ok()).collect::<Option<Vec<u64>>>()?;
        let mark = Mark::at(positions);
        (mark.epoch.0 == epoch.parse::<u64>().ok()?).then_some(mark)
    }
}

/// FNV-1a: tells a torn or overwritten line from a whole one.
fn check(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Why an epoch could not be minted.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The file cannot be read or written.
    #[error("the epoch marks in {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The positions lie before the last mark: the log is shorter than what was already read from it.
    #[error(
        "positions {asked:?} lie before the epoch mark {marked:?}: the log lost signals that were processed. Restore the \
         log's folder from a backup"
    )]
    Backwards {
        /// What was to be minted.
        asked: Vec<u64>,
        /// The last mark.
        marked: Vec<u64>,
    },
    /// Nobody trims.
    #[error("{limit} epochs wait for a commit, the limit: see why the sinks do not commit")]
    TooMany {
        /// The limit.
        limit: usize,
    },
}

impl MintError {
    /// Whether the same call may succeed later: storage was full or away.
    pub fn is_retryable(&self) -> bool {
        matches!(self, MintError::Io { .. })
    }
}

/// See the module.
#[derive(Debug)]
pub struct Mint {
    path: PathBuf,
    file: File,
    marks: VecDeque<Mark>,
    /// Lines in the file, those of trimmed marks included.
    lines: usize,
}

impl Mint {
    /// Opens the marks in a folder, or creates them. The caller holds the data directory's lock.
    ///
    /// # Errors
    /// Where the file cannot be read or written.
    pub fn open(dir: &Path) -> Result<Self, MintError> {
        let path = dir.join(FILE);
        let open = || {
            fs::create_dir_all(dir)?;
            let file = OpenOptions::new().create(true).append(true).open(&path)?;
            let bytes = fs::read(&path)?;
            let (marks, whole) = whole_marks(&bytes);
            file.set_len(whole as u64)?;
            Ok((file, marks))
        };
        match open() {
            Ok((file, marks)) => Ok(Self { lines: marks.len(), path, file, marks }),
            Err(source) => Err(MintError::Io { path, source }),
        }
    }

    /// The newest mark.
    pub fn last(&self) -> Option<&Mark> {
        self.marks.back()
    }

    /// The marks behind an epoch, in order.
    pub fn marks_after(&self, epoch: Epoch) -> Vec<Mark> {
        let first = self.marks.partition_point(|mark| mark.epoch <= epoch);
        self.marks.range(first..).cloned().collect()
    }

    /// Ends an epoch at these positions. The same positions again are the same epoch.
    ///
    /// # Errors
    /// Where they lie before the last mark, the limit is reached, or the file cannot be written.
    pub fn mint(&mut self, positions: Vec<u64>) -> Result<Mark, MintError> {
        let mark = Mark::at(positions);
        if let Some(last) = self.marks.back() {
            if last.positions == mark.positions {
                return Ok(mark);
            }
            if !mark.covers(&last.positions) {
                return Err(MintError::Backwards { asked: mark.positions, marked: last.positions.clone() });
            }
        }
        if self.marks.len() >= MARKS_MAX {
            return Err(MintError::TooMany { limit: MARKS_MAX });
        }
        self.write(mark.line().as_bytes())?;
        self.lines += 1;
        self.marks.push_back(mark.clone());
        Ok(mark)
    }

    /// Forgets the marks below an epoch, which no restart begins before; keeps the newest in any case.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn trim(&mut self, below: Epoch) -> Result<(), MintError> {
        while self.marks.len() > 1 && self.marks.front().is_some_and(|mark| mark.epoch < below) {
            self.marks.pop_front();
        }
        if self.lines <= 2 * self.marks.len() + SLACK_LINES {
            return Ok(());
        }
        let text: String = self.marks.iter().map(Mark::line).collect();
        let new = self.path.with_extension("new");
        let rewrite = || {
            fs::write(&new, &text)?;
            fs::rename(&new, &self.path)?;
            OpenOptions::new().append(true).open(&self.path)
        };
        self.file = rewrite().map_err(|source| MintError::Io { path: self.path.clone(), source })?;
        self.lines = self.marks.len();
        Ok(())
    }

    fn write(&mut self, line: &[u8]) -> Result<(), MintError> {
        let mut write = || {
            let len = self.file.metadata()?.len();
            // Half a line must not become the start of the next one.
            self.file.write_all(line).or_else(|e| self.file.set_len(len).and(Err(e)))
        };
        write().map_err(|source| MintError::Io { path: self.path.clone(), source })
    }
}

/// The marks up to the first line that is torn, damaged or goes backwards, and their length.
fn whole_marks(bytes: &[u8]) -> (VecDeque<Mark>, usize) {
    let mut marks: VecDeque<Mark> = VecDeque::new();
    let mut whole = 0;
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        let mark = line.strip_suffix(b"\n").and_then(|l| std::str::from_utf8(l).ok()).and_then(Mark::parse);
        match mark {
            Some(mark) if marks.back().is_none_or(|last| last.epoch < mark.epoch && mark.covers(&last.positions)) => {
                marks.push_back(mark);
            }
            _ => break,
        }
        whole += line.len();
    }
    (marks, whole)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn epochs(marks: &[Mark]) -> Vec<u64> {
        marks.iter().map(|m| m.epoch.0).collect()
    }

    #[test]
    fn a_restart_sees_the_same_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let mut mint = Mint::open(dir.path()).unwrap();
        assert_eq!(mint.last(), None);
        for positions in [vec![3, 0], vec![3, 4], vec![3, 4], vec![10, 4]] {
            mint.mint(positions).unwrap();
        }
        // A new partition appears.
        mint.mint(vec![10, 4, 1]).unwrap();
        let before = mint.marks_after(Epoch(0));
        drop(mint);
        let mint = Mint::open(dir.path()).unwrap();
        assert_eq!(mint.marks_after(Epoch(0)), before);
        assert_eq!(epochs(&before), [3, 7, 14, 15]);
        assert_eq!(epochs(&mint.marks_after(Epoch(7))), [14, 15]);
        assert_eq!(epochs(&mint.marks_after(Epoch(8))), [14, 15]);
        assert_eq!(mint.last().unwrap().positions, [10, 4, 1]);
    }

    #[test]
    fn marks_do_not_go_backwards() {
        let dir = tempfile::tempdir().unwrap();
        let mut mint = Mint::open(dir.path()).unwrap();
        mint.mint(vec![5, 5]).unwrap();
        for positions in [vec![4, 9], vec![10], vec![0, 0]] {
            let error = mint.mint(positions).unwrap_err();
            assert!(matches!(error, MintError::Backwards { .. }), "{error}");
        }
        assert_eq!(epochs(&mint.marks_after(Epoch(0))), [10]);
    }

    #[test]
    fn trimming_bounds_the_file_and_keeps_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let mut mint = Mint::open(dir.path()).unwrap();
        for end in 1..=10_000u64 {
            mint.mint(vec![end]).unwrap();
            mint.trim(Epoch(end.saturating_sub(5))).unwrap();
            let lines = fs::read_to_string(dir.path().join(FILE)).map(|t| t.lines().count());
            assert!(end % 997 != 0 || lines.unwrap() <= SLACK_LINES + 20);
        }
        mint.trim(Epoch(u64::MAX)).unwrap();
        assert_eq!(epochs(&mint.marks_after(Epoch(0))), [10_000]);
        mint.mint(vec![10_001]).unwrap();
        drop(mint);
        assert_eq!(Mint::open(dir.path()).unwrap().last().unwrap().epoch, Epoch(10_001));
    }

    proptest! {
        #[test]
        fn a_damaged_tail_is_cut_off(ends in prop::collection::vec(1..9u64, 1..9), cut: usize, garbage: Vec<u8>) {
            // A line that was cut just before its end is made whole by one.
            prop_assume!(garbage.first() != Some(&b'\n'));
            let dir = tempfile::tempdir().unwrap();
            let mut mint = Mint::open(dir.path()).unwrap();
            let mut end = 0;
            for step in ends {
                end += step;
                mint.mint(vec![end]).unwrap();
            }
            let before = mint.marks_after(Epoch(0));
            drop(mint);
            let file = dir.path().join(FILE);
            let mut bytes = fs::read(&file).unwrap();
            bytes.truncate(cut % (bytes.len() + 1));
            let whole = bytes.iter().filter(|b| **b == b'\n').count();
            bytes.extend(garbage);
            fs::write(&file, bytes).unwrap();
            let mut mint = Mint::open(dir.path()).unwrap();
            prop_assert_eq!(mint.marks_after(Epoch(0)), before[..whole].to_vec());
            mint.mint(vec![end + 1]).unwrap();
            drop(mint);
            prop_assert_eq!(Mint::open(dir.path()).unwrap().marks_after(Epoch(0)).len(), whole + 1);
        }
    }
}
