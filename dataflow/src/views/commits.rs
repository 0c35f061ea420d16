//! Which commits are there, by whom, and how large?
//!
//! Grain: one row a commit. Key: `sha`. Inputs: commit facts of repositories and code hosts. A commit is there as long as
//! the latest word of some repository on it is no tombstone; what is told of it comes from the richest such word (one with
//! line counts), then the latest. Keeps I3.

use std::{collections::BTreeMap, sync::Arc};

use flowsync_schemas::{
    Birth, EntityId, EntityKind, Micros, PersonId, Record, SignalId, TableSpec, Text, ViewSpec,
    fact::{CommitFact, TraceFact, TraceKind},
};

use crate::{
    cx::Cx,
    ops::{Arranged, ByKey, Coll, Version, distinct, id, reduce},
};

/// The view.
pub static VIEW: ViewSpec = ViewSpec {
    table: TableSpec {
        name: "commits",
        version: 1,
        key: &["sha"],
        columns: || CommitRow::COLUMNS.to_vec(),
        birth: Birth::Dated("committed_at"),
        doc: "Commits that some repository still reaches; one row a commit.",
    },
    oracle: "
        select sha, repo, author, committer, authored_at, committed_at, subject, parent_count, added_lines,
               deleted_lines, changed_files, signal
        from richest_commits",
    why: "select signal, at, repo, subject, deleted from fact_commits where sha = $1 order by at",
};

/// One commit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Record)]
pub struct CommitRow {
    /// Full sha.
    pub sha: Text,
    /// Repository that tells most of it.
    pub repo: Text,
    /// Author, by pseudonym.
    pub author: Option<PersonId>,
    /// Committer, by pseudonym.
    pub committer: Option<PersonId>,
    /// Author's clock.
    pub authored_at: Option<Micros>,
    /// Committer's clock.
    pub committed_at: Option<Micros>,
    /// First line of the message.
    pub subject: Text,
    /// Number of parents; more than one is a merge.
    #[unit = "commits"]
    pub parent_count: Option<i64>,
    /// Lines added.
    #[unit = "lines"]
    pub added_lines: Option<i64>,
    /// Lines deleted.
    #[unit = "lines"]
    pub deleted_lines: Option<i64>,
    /// Files changed.
    #[unit = "files"]
    pub changed_files: Option<i64>,
    /// The signal that tells most of it.
    pub signal: SignalId,
}

/// What is told of a commit, and every signal whose word still holds, sorted.
pub type Known = (Version<Arc<CommitFact>>, Vec<SignalId>);

/// The versions of commits.
pub fn versions<'s>(cx: &mut Cx<'s>) -> Arranged<'s, EntityId, Version<Arc<CommitFact>>> {
    cx.facts.commits.clone().map(|v| (id(EntityKind::Commit, &v.value.sha), v)).by_key()
}

/// Commits that some repository still reaches.
pub fn define<'s>(cx: &mut Cx<'s>) -> Arranged<'s, EntityId, Known> {
    reduce(cx.commit_versions(), "Commits", |_, words, out| {
        // Words come sorted by age, so the last of a repository is its latest.
        let mut latest: BTreeMap<&str, bool> = BTreeMap::new();
        for (word, _) in words {
            latest.insert(&word.value.repo, !word.value.deleted);
        }
        let holds =
            |v: &Version<Arc<CommitFact>>| !v.value.deleted && latest.get(&*v.value.repo).copied().unwrap_or_default();
        let richest = words
            .iter()
            .map(|(w, _)| *w)
            .filter(|w| holds(w))
            .max_by_key(|w| (w.value.added_lines.is_some(), w.at, w.signal, w.seq));
        if let Some(richest) = richest {
            let mut signals: Vec<_> = words.iter().filter(|(w, _)| holds(w)).map(|(w, _)| w.signal).collect();
            signals.sort_unstable();
            signals.dedup();
            out.push(((richest.clone(), signals), 1));
        }
    })
}

/// A trace in force, by its commit.
pub type Trace = (EntityId, Traced);

/// A trace, and what the commit tells of who and when.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Traced {
    /// The trace.
    pub fact: Arc<TraceFact>,
    /// Author of the commit.
    pub author: Option<PersonId>,
    /// Author's clock.
    pub authored_at: Option<Micros>,
    /// Committer's clock.
    pub committed_at: Option<Micros>,
}

/// Traces of commits whose word holds; each once, however many signals state it.
pub fn traces<'s>(cx: &mut Cx<'s>) -> Coll<'s, Trace> {
    let stated = cx.facts.traces.clone().map(|v| (id(EntityKind::Commit, &v.value.sha), (v.signal, v.value)));
    let traced = stated.by_key().join_core(cx.commits(), |commit, (signal, fact), (v, signals)| {
        let (author, authored_at, committed_at) = (v.value.author, v.value.authored_at, v.value.committed_at);
        let traced = || (*commit, Traced { fact: fact.clone(), author, authored_at, committed_at });
        signals.binary_search(signal).is_ok().then(traced)
    });
    distinct(traced)
}

/// A commit that the merge of a pull request brought along, the pull request, and the merge's clock.
pub type Brought = (Text, Text, Option<Micros>);

/// What merges brought along, as long as they hold.
pub fn brought<'s>(cx: &mut Cx<'s>) -> Coll<'s, Brought> {
    let of =
        |kind| move |(merge, t): Trace| (t.fact.kind == kind).then(|| (merge, (t.fact.target.clone(), t.committed_at)));
    let pulls = cx.traces().flat_map(of(TraceKind::PullRequest));
    let brought = cx.traces().flat_map(of(TraceKind::Brought));
    brought.join_map(pulls, |_, (sha, merged_at), (pull, _)| (sha.clone(), pull.clone(), *merged_at))
}

/// Installs the view.
pub fn install(cx: &mut Cx<'_>) {
    let rows = cx.commits().as_collection(|_, (v, _)| {
        let c = CommitFact::clone(&v.value);
        CommitRow {
            sha: c.sha,
            repo: c.repo,
            author: c.author,
            committer: c.committer,
            authored_at: c.authored_at,
            committed_at: c.committed_at,
            subject: c.subject,
            parent_count: c.parent_count,
            added_lines: c.added_lines,
            deleted_lines: c.deleted_lines,
            changed_files: c.changed_files,
            signal: v.signal,
        }
    });
    cx.emit(&VIEW.table, rows);
}
