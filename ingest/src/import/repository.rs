//! Reads a git repository on disk into signals of the connector `git`.
//!
//! ```text
//! refs ─► walk: reachable commits ─► plan: difference from the state file ─► batches of signals ─► durable ─► state
//! ```
//!
//! Invariants: one signal a commit, its id made of repository, sha and generation, so that any number of imports state
//! a commit once (I2); a commit that no branch or tag reaches any more is taken back, also when its object is pruned;
//! where a part of the history cannot be read, nothing is declared gone; the clock of a repository's imports never
//! runs backwards (I3); batches, blobs, paths and messages are bounded (I9); a damaged repository is an error or a
//! listed problem, never a panic (I10). Knows nothing of logs: a batch is durable when the sink returns.

mod lines;
mod state;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::Path,
};

use flowsync_schemas::{Micros, SignalId, Text};
use gix::{
    ObjectId,
    bstr::{BStr, ByteSlice},
    objs::FindExt,
};

use self::{
    lines::{Lines, reason},
    state::{Plan, State},
};
use super::{ImportError, Progress, Sink, Summary};
use crate::connectors::{
    Delivery, Verified,
    git::{Body, Commit, Ref, SPEC, Who},
};

/// Commits of one batch, and shas or refs of one signal.
const BATCH: usize = 512;
/// Commits that a merge brings along, at most.
const BROUGHT_MAX: usize = 256;
/// Bytes of a message that are kept.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Objects that each thread keeps: neighbouring commits share most trees.
const OBJECT_CACHE_BYTES: usize = 32 << 20;
/// Threads at most; more wait for the disk.
const THREADS_MAX: usize = 8;

/// Imports what is new in the repository at (or around) `path`.
///
/// `state_dir` remembers what was imported before; `now` is our clock.
///
/// # Errors
/// Where there is no repository, its state cannot be read or written, or the sink fails. Single commits and refs that
/// cannot be read are problems in the summary.
pub fn repository(
    path: &Path,
    state_dir: &Path,
    now: Micros,
    progress: &mut dyn FnMut(Progress),
    sink: &mut Sink<'_>,
) -> Result<Summary, ImportError> {
    let repo = open(path)?;
    let home = repo.common_dir().canonicalize().unwrap_or_else(|_| repo.common_dir().to_owned());
    let name = repository_name(&repo, &home);
    let file = State::file(state_dir, &name);
    let state_error = |source| ImportError::State { path: file.clone(), source };
    let mut summary = Summary::default();
    let refs = read_refs(&repo, &mut summary)?;
    let (history, parents) = walk(&repo, refs.values(), &mut summary);
    let complete = summary.problem_count == 0;
    let mut state = State::read(&file).map_err(state_error)?.unwrap_or_else(|| State::new(&name, &home));
    if state.path != home && state.path.exists() && is_another(&state, &history) {
        return Err(ImportError::SameName { name, path: home, other: state.path });
    }
    let named: BTreeMap<String, String> = refs.iter().map(|(name, id)| (name.clone(), id.to_string())).collect();
    let plan = state.plan(&history, &named, complete, |sha| {
        read_commit(&mut Lines::new(&repo), sha).is_ok_and(|(commit, _)| commit.files.is_some())
    });
    summary.read = history.len() as u64;
    summary.unchanged = (history.len() - plan.new.len()) as u64;
    if plan.is_empty() {
        return Ok(summary);
    }
    state.at = now.max(Micros(state.at.0.saturating_add(1)));
    state.path = home;
    state.write(&file).map_err(state_error)?;
    let brought = main_line(&repo, &refs).map(|tip| brought(&parents, tip)).unwrap_or_default();
    let import = Import { repo: &repo, label: Label { name: &name, at: state.at, brought: &brought } };
    let outcome = import.emit(&plan, &state, &mut summary, progress, sink)?;
    for sha in &outcome.unreadable {
        state.commits.remove(sha);
    }
    state.settle(&outcome.partial);
    state.write(&file).map_err(state_error)?;
    Ok(summary)
}

/// Opens the repository at `path`, or the one that holds the folder `path`.
fn open(path: &Path) -> Result<gix::Repository, ImportError> {
    let failed = |error: gix::Error| ImportError::Open { path: path.to_owned(), reason: reason(error) };
    let (found, _) = gix::discover::upwards(path).map_err(failed)?;
    let (git_dir, _) = found.into_repository_and_work_tree_directories();
    // Nothing that the configuration names is run, so one that belongs to somebody else may be read.
    let options = gix::open::Options::isolated().open_path_as_is(true).filter_config_section(|_| true);
    Ok(options.open(git_dir).map_err(failed)?.to_thread_local())
}

/// `owner/name` of the origin, its host dropped; else the name of the folder.
fn repository_name(repo: &gix::Repository, home: &Path) -> String {
    let origin = repo.config_snapshot().string("remote.origin.url");
    origin.as_ref().and_then(|url| name_of_url(url.as_bstr())).unwrap_or_else(|| {
        let folder = if home.ends_with(".git") { home.parent().unwrap_or(home) } else { home };
        let folder = folder.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
        folder.strip_suffix(".git").unwrap_or(&folder).to_owned()
    })
}

fn name_of_url(url: &BStr) -> Option<String> {
    let url = gix::url::parse(url).ok()?;
    let path = url.path.to_str_lossy();
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path).trim_end_matches('/');
    // The folders above a repository on this machine are nobody's name for it.
    let name = if url.scheme == gix::url::Scheme::File { path.rsplit('/').next()? } else { path };
    (!name.is_empty()).then(|| name.to_owned())
}

/// Whether the state was made of a repository that shares no commit with this one.
fn is_another(state: &State, history: &[String]) -> bool {
    let live = |sha: &String| state.commits.get(sha).is_some_and(|seen| !seen.gone);
    !history.is_empty() && !state.commits.is_empty() && !history.iter().any(live)
}

/// Branches, tags and a detached `HEAD`, with the commits that they point to.
fn read_refs(repo: &gix::Repository, summary: &mut Summary) -> Result<BTreeMap<String, ObjectId>, ImportError> {
    let failed = |error: gix::Error| ImportError::Open { path: repo.common_dir().to_owned(), reason: reason(error) };
    let platform = repo.references().map_err(failed)?;
    // Collected first: the iterator holds the packed refs, which following a ref needs.
    let all: Vec<_> = [platform.local_branches(), platform.remote_branches(), platform.tags()]
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?
        .into_iter()
        .flatten()
        .collect();
    let mut refs = BTreeMap::new();
    for found in all {
        let mut found = match found {
            Ok(found) => found,
            Err(error) => {
                summary.problem(repo.common_dir(), None, format!("a ref cannot be read: {}", reason(error)));
                continue;
            }
        };
        let name = found.name().as_bstr().to_string();
        let elsewhere = name.strip_prefix("refs/remotes/").is_some_and(|n| !n.starts_with("origin/"));
        if elsewhere || name == "refs/remotes/origin/HEAD" {
            continue;
        }
        match found.peel_to_id().and_then(|id| Ok((id.detach(), id.header()?.kind()))) {
            Ok((id, gix::objs::Kind::Commit)) => drop(refs.insert(name, id)),
            Ok(_) => {}
            Err(error) => {
                summary.problem(repo.common_dir(), None, format!("{name} cannot be followed: {}", reason(error)))
            }
        }
    }
    if let Ok(head) = repo.head()
        && head.is_detached()
        && let Some(id) = head.id()
    {
        refs.insert("HEAD".to_owned(), id.detach());
    }
    Ok(refs)
}

/// The parents of commits, and commits that a merge brought along.
type Links = HashMap<ObjectId, Vec<ObjectId>>;

/// The shas of all commits that the tips reach, oldest first by the committer's clock, and their parents.
fn walk<'a>(
    repo: &gix::Repository,
    tips: impl Iterator<Item = &'a ObjectId>,
    summary: &mut Summary,
) -> (Vec<String>, Links) {
    let shallow: HashSet<ObjectId> =
        repo.shallow_commits().ok().flatten().map(|ids| ids.iter().copied().collect()).unwrap_or_default();
    let mut seen: HashSet<ObjectId> = HashSet::new();
    let mut stack: Vec<ObjectId> = tips.copied().collect();
    let (mut dated, mut parents) = (Vec::new(), Links::new());
    let mut buffer = Vec::new();
    while let Some(id) = stack.pop() {
        if !seen.insert(id) {
            continue;
        }
        match repo.objects.find_commit_iter(&id, &mut buffer) {
            Ok(commit) => {
                dated.push((commit.committer().map(|c| c.seconds()).unwrap_or_default(), id));
                if !shallow.contains(&id) {
                    let all: Vec<_> = commit.parent_ids().collect();
                    stack.extend(all.iter().filter(|parent| !seen.contains(*parent)));
                    parents.insert(id, all);
                }
            }
            Err(error) => {
                summary.problem(repo.common_dir(), None, format!("commit {id} cannot be read: {}", reason(error)))
            }
        }
    }
    dated.sort_unstable();
    (dated.into_iter().map(|(_, id)| id.to_string()).collect(), parents)
}

/// The tip of the main line: what the origin's `HEAD` points to, or our own, or `main` or `master` where that is of no use.
fn main_line(repo: &gix::Repository, refs: &BTreeMap<String, ObjectId>) -> Option<ObjectId> {
    let of_origin = repo.find_reference("refs/remotes/origin/HEAD").ok().and_then(|mut head| head.peel_to_id().ok());
    let head = of_origin.or_else(|| repo.head_id().ok()).map(|id| id.detach());
    head.or_else(|| ["refs/heads/main", "refs/heads/master"].iter().find_map(|name| refs.get(*name).copied()))
}

/// What each merge on the main line brought along: the commits that its other parents reach and its first does not.
/// Merges that brought more than [`BROUGHT_MAX`] merged whole lines, not a pull request.
fn brought(parents: &Links, tip: ObjectId) -> Links {
    let first = |id: &ObjectId| parents.get(id)?.first().copied();
    let line: Vec<ObjectId> = std::iter::successors(Some(tip), first).collect();
    // Oldest first, all that the line reaches so far is what the next first parent reaches.
    let (mut landed, mut brought) = (HashSet::new(), Links::new());
    for merge in line.into_iter().rev() {
        landed.insert(merge);
        let mut stack: Vec<ObjectId> = parents.get(&merge).into_iter().flatten().skip(1).copied().collect();
        let mut own = Vec::new();
        while let Some(id) = stack.pop() {
            if landed.insert(id) {
                own.push(id);
                stack.extend(parents.get(&id).into_iter().flatten());
            }
        }
        if (1..=BROUGHT_MAX).contains(&own.len()) {
            own.sort_unstable();
            brought.insert(merge, own);
        }
    }
    brought
}

/// What could not be said as planned.
#[derive(Default)]
struct Outcome {
    /// Commits whose changed lines are missing.
    partial: BTreeSet<String>,
    /// Commits that could not be read at all.
    unreadable: Vec<String>,
}

/// What all signals of an import share.
#[derive(Clone, Copy)]
struct Label<'a> {
    name: &'a str,
    at: Micros,
    brought: &'a Links,
}

/// One import under way.
struct Import<'a> {
    repo: &'a gix::Repository,
    label: Label<'a>,
}

impl Import<'_> {
    fn emit(
        &self,
        plan: &Plan,
        state: &State,
        summary: &mut Summary,
        progress: &mut dyn FnMut(Progress),
        sink: &mut Sink<'_>,
    ) -> Result<Outcome, ImportError> {
        let mut outcome = Outcome::default();
        let total = plan.new.len() as u64;
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(THREADS_MAX);
        let mut workers: Vec<gix::Repository> = (0..threads).map(|_| self.repo.clone()).collect();
        workers.iter_mut().for_each(|repo| repo.object_cache_size(OBJECT_CACHE_BYTES));
        for batch in plan.new.chunks(BATCH) {
            let mut signals = Vec::with_capacity(batch.len());
            for ((sha, _), read) in batch.iter().zip(self.read_batch(&mut workers, batch)) {
                match read {
                    Ok((signal, None)) => signals.push(signal),
                    Ok((signal, Some(damage))) => {
                        outcome.partial.insert(sha.clone());
                        signals.push(signal);
                        if let Damage::Broken(why) = damage {
                            let text = format!("the changed lines of commit {sha} cannot be read: {why}");
                            summary.problem(self.repo.common_dir(), None, text);
                        }
                    }
                    Err(why) => {
                        outcome.unreadable.push(sha.clone());
                        summary.problem(self.repo.common_dir(), None, format!("commit {sha} cannot be read: {why}"));
                    }
                }
            }
            summary.signals += signals.len() as u64;
            sink(signals).map_err(ImportError::Sink)?;
            progress(Progress { done: summary.signals, total: Some(total), unit: "commits" });
        }
        summary.partial = outcome.partial.len() as u64;
        self.emit_gone(plan, summary, sink)?;
        self.emit_refs(plan, state, summary, sink)?;
        Ok(outcome)
    }

    /// Reads the commits of a batch on all threads; the answers are in the order of the batch.
    fn read_batch(&self, workers: &mut [gix::Repository], batch: &[(String, u32)]) -> Vec<Result<Made, Text>> {
        let label = self.label;
        let share = batch.len().div_ceil(workers.len().max(1)).max(1);
        std::thread::scope(|scope| {
            let running: Vec<_> = workers
                .iter_mut()
                .zip(batch.chunks(share))
                .map(|(repo, part)| {
                    scope.spawn(move || {
                        let mut lines = Lines::new(repo);
                        part.iter().map(|(sha, generation)| label.commit(&mut lines, sha, *generation)).collect()
                    })
                })
                .collect();
            let all = running.into_iter().map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            all.collect::<Vec<Vec<_>>>().into_iter().flatten().collect()
        })
    }

    fn emit_gone(&self, plan: &Plan, summary: &mut Summary, sink: &mut Sink<'_>) -> Result<(), ImportError> {
        for part in plan.gone.chunks(BATCH) {
            let identity: String = part.iter().map(|(sha, generation)| format!("{sha}:{generation} ")).collect();
            let gone = part.iter().map(|(sha, _)| sha.clone()).collect();
            let body = Body { gone: Some(gone), ..Body::default() };
            sink(vec![self.label.many("gone", &identity, body)?]).map_err(ImportError::Sink)?;
            summary.gone += part.len() as u64;
            summary.signals += 1;
        }
        Ok(())
    }

    fn emit_refs(
        &self,
        plan: &Plan,
        state: &State,
        summary: &mut Summary,
        sink: &mut Sink<'_>,
    ) -> Result<(), ImportError> {
        for part in plan.refs.chunks(BATCH) {
            let seen = || part.iter().filter_map(|name| Some((name, state.refs.get(name)?)));
            let identity: String = seen().map(|(name, r)| format!("{name} {:?} {}\n", r.sha, r.generation)).collect();
            let refs = seen().map(|(name, r)| Ref { name: name.clone(), sha: r.sha.clone() }).collect();
            let body = Body { refs: Some(refs), ..Body::default() };
            sink(vec![self.label.many("refs", &identity, body)?]).map_err(ImportError::Sink)?;
            summary.refs += part.len() as u64;
            summary.signals += 1;
        }
        Ok(())
    }
}

/// A commit's signal, and what is missing in it.
type Made = (Verified, Option<Damage>);

impl Label<'_> {
    fn commit(self, lines: &mut Lines<'_>, sha: &str, generation: u32) -> Result<Made, Text> {
        let (mut commit, damage) = read_commit(lines, sha)?;
        let id = ObjectId::from_hex(sha.as_bytes()).map_err(reason)?;
        commit.brought = self.brought.get(&id).into_iter().flatten().map(ToString::to_string).collect();
        let body = Body { repo: self.name.into(), commit: Some(commit), ..Body::default() };
        Ok((self.signal(&format!("{}:{sha}:{generation}", self.name), &body).map_err(reason)?, damage))
    }

    /// A signal about many commits or refs: what it says, and how often each came before, is its identity.
    fn many(self, what: &str, identity: &str, body: Body<'_>) -> Result<Verified, ImportError> {
        let id = format!("{}:{what}:{}", self.name, SignalId::of_bytes(SPEC.name, identity.as_bytes()));
        self.signal(&id, &Body { repo: self.name.into(), ..body })
    }

    fn signal(self, delivery_id: &str, body: &Body<'_>) -> Result<Verified, ImportError> {
        let body = serde_json::to_vec(body).map_err(ImportError::Write)?;
        let delivery = Delivery { headers: &[], body: &body, received_at: self.at };
        Ok(Verified::imported(&SPEC, delivery, Some(delivery_id)))
    }
}

/// Why the changed lines of a commit are missing.
enum Damage {
    /// The parent is not in a shallow clone.
    Shallow,
    /// An object is missing or damaged.
    Broken(Text),
}

/// Reads one commit. A merge changes no lines: its parents did.
fn read_commit(lines: &mut Lines<'_>, sha: &str) -> Result<(Commit<'static>, Option<Damage>), Text> {
    let repo = lines.repo();
    let object = repo.find_commit(ObjectId::from_hex(sha.as_bytes()).map_err(reason)?).map_err(reason)?;
    let commit = object.decode().map_err(reason)?;
    let parents: Vec<ObjectId> = commit.parents().collect();
    let mut damage = None;
    let changed = if parents.len() > 1 {
        Some(Default::default())
    } else {
        let parent = parents.first().copied();
        lines
            .changed(parent, commit.tree())
            .map_err(|why| {
                let shallow = parent.is_some_and(|id| !repo.has_object(id));
                damage = Some(if shallow { Damage::Shallow } else { Damage::Broken(why) });
            })
            .ok()
    };
    let (files, stat) = changed.unzip();
    let read = Commit {
        sha: sha.to_owned(),
        parents: parents.iter().map(ToString::to_string).collect(),
        author: who(commit.author),
        committer: who(commit.committer),
        message: Cow::Owned(text(commit.message, MESSAGE_BYTES_MAX)),
        brought: Vec::new(),
        files,
        stat,
    };
    Ok((read, damage))
}

/// Name, address and time as they stand; a line that is no signature is all name.
fn who(raw: &BStr) -> Who<'static> {
    let owned = |t: &BStr| Cow::Owned(text(t, MESSAGE_BYTES_MAX));
    match gix::actor::SignatureRef::from_bytes(raw) {
        Ok(signature) => {
            let signature = signature.trim();
            Who {
                name: owned(signature.name),
                email: owned(signature.email),
                time: Cow::Owned(signature.time.to_owned()),
            }
        }
        Err(_) => Who { name: owned(raw), email: "".into(), time: "".into() },
    }
}

/// At most so many bytes, as text.
fn text(bytes: &BStr, limit: usize) -> String {
    let mut text = bytes[..bytes.len().min(limit)].to_str_lossy().into_owned();
    if bytes.len() > limit {
        // A character that the cut went through became a replacement character.
        text.truncate(text.trim_end_matches(char::REPLACEMENT_CHARACTER).len());
    }
    text
}

#[cfg(test)]
mod tests;
