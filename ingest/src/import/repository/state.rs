//! What the importer remembers of a repository: `DIR/git/<hash of the name>.json`.
//!
//! The file is written twice an import. Before the first signal: what is about to be said, marked unsettled. After the
//! last one is durable: the same, settled. An import that dies between the two leaves the marks, and the next one says
//! all of it again: signals that did reach the log have the same id and count once, and what has changed in the
//! repository meanwhile is said as a change (I2). Knows nothing of git objects.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use flowsync_schemas::{Micros, SignalId};
use serde::{Deserialize, Serialize};

/// Version of the file; another one is not read.
const FORMAT: u32 = 1;

/// What the log says of one commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Seen {
    /// How often it has come back, or has been read again.
    #[serde(skip_serializing_if = "is_default")]
    pub generation: u32,
    /// No ref reaches it any more.
    #[serde(skip_serializing_if = "is_default")]
    pub gone: bool,
    /// Its changed lines could not be read; tried again next time.
    #[serde(skip_serializing_if = "is_default")]
    pub partial: bool,
    /// Whether the signal reached the log is not known.
    #[serde(skip_serializing_if = "is_default")]
    pub unsettled: bool,
}

/// What the log says of one branch or tag.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SeenRef {
    /// Commit that it points to; missing when it is gone.
    pub sha: Option<String>,
    /// How often it has moved.
    pub generation: u32,
    /// Whether the signal reached the log is not known.
    #[serde(skip_serializing_if = "is_default")]
    pub unsettled: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What the log says of one repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    format: u32,
    /// Name of the repository.
    pub repo: String,
    /// Where it was read the last time.
    pub path: PathBuf,
    /// The clock of the last import.
    pub at: Micros,
    /// Commits by sha.
    pub commits: BTreeMap<String, Seen>,
    /// Branches and tags by full name.
    pub refs: BTreeMap<String, SeenRef>,
}

/// What there is to say: the difference between the log and the repository.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Commits to state, with their generation; in the order of `reachable`.
    pub new: Vec<(String, u32)>,
    /// Commits that are gone, with their generation.
    pub gone: Vec<(String, u32)>,
    /// Names of refs that appeared, moved or vanished.
    pub refs: Vec<String>,
}

impl Plan {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.new.is_empty() && self.gone.is_empty() && self.refs.is_empty()
    }
}

impl State {
    /// Nothing is known yet.
    pub fn new(repo: &str, path: &Path) -> Self {
        Self {
            format: FORMAT,
            repo: repo.to_owned(),
            path: path.to_owned(),
            at: Micros::default(),
            commits: BTreeMap::new(),
            refs: BTreeMap::new(),
        }
    }

    /// The file of a repository.
    pub fn file(dir: &Path, repo: &str) -> PathBuf {
        dir.join(format!("{}.json", SignalId::of_delivery("git-state", repo)))
    }

    /// Reads the state; nothing where there is no file.
    pub fn read(file: &Path) -> io::Result<Option<Self>> {
        let open = match File::open(file) {
            Ok(open) => open,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let state: State = serde_json::from_reader(BufReader::new(open))?;
        if state.format != FORMAT {
            return Err(io::Error::other(format!("format {} is not {FORMAT}, which this build reads", state.format)));
        }
        Ok(Some(state))
    }

    /// Writes the state: whole or not at all, and durable when this returns.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        let dir = file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(dir)?;
        let draft = file.with_extension("tmp");
        let mut out = BufWriter::new(File::create(&draft)?);
        serde_json::to_writer(&mut out, self)?;
        out.flush()?;
        out.get_ref().sync_all()?;
        fs::rename(&draft, file)?;
        File::open(dir)?.sync_all()
    }

    /// Compares with what the repository holds now, and marks what there is to say, unsettled.
    ///
    /// `reachable` are the shas of all commits that a ref reaches, `refs` all branches and tags with their commits;
    /// `readable` says whether the changed lines of a commit can be read now. Without `complete` knowledge of the
    /// repository nothing is declared gone.
    pub fn plan(
        &mut self,
        reachable: &[String],
        refs: &BTreeMap<String, String>,
        complete: bool,
        readable: impl Fn(&str) -> bool,
    ) -> Plan {
        let mut plan = Plan::default();
        for sha in reachable {
            let generation = match self.commits.get(sha) {
                None => 0,
                Some(seen) if seen.gone => seen.generation + 1,
                Some(seen) if seen.unsettled => seen.generation,
                Some(seen) if seen.partial && readable(sha) => seen.generation + 1,
                Some(_) => continue,
            };
            self.commits.insert(sha.clone(), Seen { generation, unsettled: true, ..Seen::default() });
            plan.new.push((sha.clone(), generation));
        }
        if complete {
            let held: BTreeSet<&str> = reachable.iter().map(String::as_str).collect();
            for (sha, seen) in &mut self.commits {
                if !held.contains(sha.as_str()) && (!seen.gone || seen.unsettled) {
                    (seen.gone, seen.unsettled) = (true, true);
                    plan.gone.push((sha.clone(), seen.generation));
                }
            }
        }
        self.plan_refs(refs, complete, &mut plan);
        plan
    }

    fn plan_refs(&mut self, refs: &BTreeMap<String, String>, complete: bool, plan: &mut Plan) {
        for (name, sha) in refs {
            let seen = self.refs.entry(name.clone()).or_default();
            let moved = seen.sha.as_ref() != Some(sha);
            if moved || seen.unsettled {
                let generation = seen.generation + u32::from(moved);
                *seen = SeenRef { sha: Some(sha.clone()), generation, unsettled: true };
                plan.refs.push(name.clone());
            }
        }
        for (name, seen) in self.refs.iter_mut().filter(|(name, _)| complete && !refs.contains_key(*name)) {
            if seen.sha.is_some() || seen.unsettled {
                let generation = seen.generation + u32::from(seen.sha.is_some());
                *seen = SeenRef { sha: None, generation, unsettled: true };
                plan.refs.push(name.clone());
            }
        }
    }

    /// Everything planned is durable. `partial` are the commits whose changed lines could not be read.
    pub fn settle(&mut self, partial: &BTreeSet<String>) {
        for (sha, seen) in self.commits.iter_mut().filter(|(_, seen)| seen.unsettled) {
            seen.unsettled = false;
            seen.partial = partial.contains(sha);
        }
        self.refs.values_mut().for_each(|seen| seen.unsettled = false);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shas(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    fn refs(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter().map(|(n, s)| ((*n).to_owned(), (*s).to_owned())).collect()
    }

    #[test]
    fn a_commit_that_goes_and_comes_back_is_new_each_time() {
        let mut state = State::new("owner/name", Path::new("/r"));
        let main = refs(&[("refs/heads/main", "b")]);
        let first = state.plan(&shas(&["a", "b"]), &main, true, |_| true);
        assert_eq!(first.new, [("a".into(), 0), ("b".into(), 0)]);
        state.settle(&BTreeSet::new());
        assert!(state.plan(&shas(&["a", "b"]), &main, true, |_| true).is_empty());

        let back = refs(&[("refs/heads/main", "a")]);
        let second = state.plan(&shas(&["a"]), &back, true, |_| true);
        assert_eq!((second.gone, second.refs.len()), (vec![("b".into(), 0)], 1));
        state.settle(&BTreeSet::new());

        let third = state.plan(&shas(&["a", "b"]), &main, true, |_| true);
        assert_eq!(third.new, [("b".into(), 1)]);
        state.settle(&BTreeSet::new());
        assert_eq!(state.refs["refs/heads/main"].generation, 3);
        let fourth = state.plan(&shas(&["a"]), &back, true, |_| true);
        assert_eq!(fourth.gone, [("b".into(), 1)], "another identity than the first time");
    }

    #[test]
    fn what_was_not_settled_is_said_again_under_the_same_identity() {
        let mut state = State::new("owner/name", Path::new("/r"));
        let main = refs(&[("refs/heads/main", "b")]);
        let planned = state.plan(&shas(&["a", "b"]), &main, true, |_| true);
        let again = state.clone().plan(&shas(&["a", "b"]), &main, true, |_| true);
        assert_eq!(planned, again);
        // The crash was between the signals and the state, and then `b` was forced away: it may be in the log.
        let less = state.plan(&shas(&["a"]), &refs(&[("refs/heads/main", "a")]), true, |_| true);
        assert_eq!(less.gone, [("b".into(), 0)]);
        // Again a crash, and `b` is back: the tombstone may be in the log, so `b` is stated anew.
        let back = state.plan(&shas(&["a", "b"]), &main, true, |_| true);
        assert!(back.new.contains(&("b".into(), 1)), "{back:?}");
    }

    #[test]
    fn partial_knowledge_retracts_nothing() {
        let mut state = State::new("owner/name", Path::new("/r"));
        state.plan(&shas(&["a"]), &refs(&[("refs/heads/main", "a")]), true, |_| true);
        state.settle(&BTreeSet::from(["a".to_owned()]));
        assert!(state.plan(&[], &refs(&[]), false, |_| true).is_empty());
        assert!(state.clone().plan(&shas(&["a"]), &refs(&[]), false, |_| false).is_empty());
        assert_eq!(state.plan(&shas(&["a"]), &refs(&[]), false, |_| true).new, [("a".into(), 1)]);
    }

    #[test]
    fn the_file_survives_and_another_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = State::file(dir.path(), "owner/name");
        assert_eq!(State::read(&file).unwrap(), None);
        let mut state = State::new("owner/name", Path::new("/r"));
        state.plan(&shas(&["a"]), &refs(&[("refs/tags/v1", "a")]), true, |_| true);
        state.write(&file).unwrap();
        assert_eq!(State::read(&file).unwrap(), Some(state.clone()));
        state.format = 9;
        state.write(&file).unwrap();
        assert!(State::read(&file).unwrap_err().to_string().contains("format 9"));
        fs::write(&file, "{").unwrap();
        assert!(State::read(&file).is_err());
    }
}
