//! Which files a commit changed, and by how many lines, as `git log --numstat --no-renames` counts.
//!
//! Every blob, path list and message has a limit (I9): a larger blob counts as binary, further paths are in the sums
//! only. Filters, attributes and external diff drivers of the repository are not run.

use flowsync_schemas::Text;
use gix::{
    ObjectId,
    diff::{
        blob::{Algorithm, Diff, InternedInput},
        tree::{Recorder, State, recorder::Change},
    },
    objs::{FindExt, TreeRefIter, tree::EntryMode},
};

use crate::connectors::git::{ChangedFile, Stat};

/// Larger blobs are not compared.
const BLOB_BYTES_MAX: u64 = 8 << 20;
/// Paths that one signal lists.
const FILES_MAX: usize = 500;
/// As git does: a NUL byte this early makes a file binary.
const BINARY_PROBE_BYTES: usize = 8_000;

/// Compares trees of one repository; keeps its buffers.
pub(super) struct Lines<'r> {
    repo: &'r gix::Repository,
    state: State,
    old: Vec<u8>,
    new: Vec<u8>,
}

impl<'r> Lines<'r> {
    /// Over this repository.
    pub fn new(repo: &'r gix::Repository) -> Self {
        Self { repo, state: State::default(), old: Vec::new(), new: Vec::new() }
    }

    /// The repository.
    pub fn repo(&self) -> &'r gix::Repository {
        self.repo
    }

    /// What a commit with this tree changed against its first parent, or against nothing.
    ///
    /// # Errors
    /// Where the parent, a tree or a blob is missing or damaged.
    pub fn changed(&mut self, parent: Option<ObjectId>, tree: ObjectId) -> Result<(Vec<ChangedFile>, Stat), Text> {
        let before = match parent {
            Some(parent) => self.repo.find_commit(parent).and_then(|c| c.tree()).map_err(reason)?,
            None => self.repo.empty_tree(),
        };
        let after = self.repo.find_tree(tree).map_err(reason)?;
        let kind = self.repo.object_hash();
        let mut recorder = Recorder::default();
        gix::diff::tree(
            TreeRefIter::from_bytes(&before.data, kind),
            TreeRefIter::from_bytes(&after.data, kind),
            &mut self.state,
            &self.repo.objects,
            &mut recorder,
        )
        .map_err(reason)?;
        let (mut files, mut stat) = (Vec::new(), Stat::default());
        for change in recorder.records {
            let (path, old, new) = sides(change);
            if old.is_none() && new.is_none() {
                continue;
            }
            let counts = self.compare(old, new).map_err(|e| Text::from(format!("{path}: {e}")))?;
            stat.files += 1;
            stat.added += counts.map_or(0, |(added, _)| added);
            stat.deleted += counts.map_or(0, |(_, deleted)| deleted);
            if files.len() < FILES_MAX {
                files.push((path, counts.map(|c| c.0), counts.map(|c| c.1)));
            }
        }
        Ok((files, stat))
    }

    /// Lines added and deleted; nothing where a side is binary, too large, or a submodule.
    fn compare(&mut self, old: Option<Side>, new: Option<Side>) -> Result<Option<(u64, u64)>, Text> {
        if old.map(|s| s.id) == new.map(|s| s.id) {
            return Ok(Some((0, 0)));
        }
        let (Some(before), Some(after)) = (load(self.repo, old, &mut self.old)?, load(self.repo, new, &mut self.new)?)
        else {
            return Ok(None);
        };
        if old.is_none() || new.is_none() {
            return Ok(Some((count(after), count(before))));
        }
        let input = InternedInput::new(before, after);
        let diff = Diff::compute(Algorithm::Myers, &input);
        Ok(Some((diff.count_additions().into(), diff.count_removals().into())))
    }
}

/// A file before or after.
#[derive(Clone, Copy)]
struct Side {
    id: ObjectId,
    mode: EntryMode,
}

/// The two sides of a change; a folder is none.
fn sides(change: Change) -> (String, Option<Side>, Option<Side>) {
    let side = |id, mode: EntryMode| mode.is_no_tree().then_some(Side { id, mode });
    let (path, old, new) = match change {
        Change::Addition { entry_mode, oid, path, .. } => (path, None, side(oid, entry_mode)),
        Change::Deletion { entry_mode, oid, path, .. } => (path, side(oid, entry_mode), None),
        Change::Modification { previous_entry_mode, previous_oid, entry_mode, oid, path } => {
            (path, side(previous_oid, previous_entry_mode), side(oid, entry_mode))
        }
    };
    (path.to_string(), old, new)
}

/// The bytes of one side: empty where the file does not exist there, nothing where its lines cannot be counted.
fn load<'a>(repo: &gix::Repository, side: Option<Side>, buffer: &'a mut Vec<u8>) -> Result<Option<&'a [u8]>, Text> {
    let Some(side) = side else { return Ok(Some(&[])) };
    if side.mode.is_commit() || repo.find_header(side.id).map_err(reason)?.size() > BLOB_BYTES_MAX {
        return Ok(None);
    }
    let data = repo.objects.find_blob(&side.id, buffer).map_err(reason)?.data;
    Ok((!data[..data.len().min(BINARY_PROBE_BYTES)].contains(&0)).then_some(data))
}

fn count(data: &[u8]) -> u64 {
    let ends = data.iter().filter(|b| **b == b'\n').count() as u64;
    ends + u64::from(data.last().is_some_and(|b| *b != b'\n'))
}

/// The whole chain of an error in one line.
pub(super) fn reason(error: impl std::error::Error) -> Text {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let part = source.to_string();
        if !part.is_empty() && !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        next = source.source();
    }
    text.into()
}
