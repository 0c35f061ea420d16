//! Over real repositories that `git` makes, and against what `git log --numstat` says of them.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

use flowsync_schemas::{
    FactBody, Pseudonymizer,
    fact::{CommitFact, RefFact, TraceKind},
};
use tempfile::TempDir;

use super::*;
use crate::connectors::{by_name, parse};

/// A folder with a repository, and the importer's state beside it.
struct Lab {
    dir: TempDir,
    clock: i64,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { dir: tempfile::tempdir().unwrap(), clock: 0 };
        lab.git(&["init", "-q", "-b", "main"]);
        lab.git(&["remote", "add", "origin", "git@example.org:owner/name.git"]);
        lab
    }

    fn repo(&self) -> PathBuf {
        let path = self.dir.path().join("work");
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn git_in(&self, folder: &Path, arguments: &[&str]) -> String {
        let out = Command::new("git")
            .args(["-c", "protocol.file.allow=always", "-c", "gc.auto=0"])
            .args(arguments)
            .current_dir(folder)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .envs([("GIT_AUTHOR_NAME", "Ada"), ("GIT_AUTHOR_EMAIL", "Ada@example.org")])
            .envs([("GIT_COMMITTER_NAME", "Grace"), ("GIT_COMMITTER_EMAIL", "grace@example.org")])
            .envs([("GIT_AUTHOR_DATE", "1700000000 +0200"), ("GIT_COMMITTER_DATE", "1700000060 +0000")])
            .output()
            .unwrap();
        assert!(out.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    fn git(&self, arguments: &[&str]) -> String {
        self.git_in(&self.repo(), arguments)
    }

    /// Writes a file and commits it; gives the sha.
    fn commit(&self, file: &str, content: impl AsRef<[u8]>, message: &str) -> String {
        let path = self.repo().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn import_from(&mut self, path: &Path, fail_at: Option<usize>) -> (Result<Summary, ImportError>, Vec<Verified>) {
        self.clock += 10;
        let (mut got, mut batches) = (Vec::new(), 0);
        let outcome = repository(path, &self.dir.path().join("state"), Micros(self.clock), &mut |_| {}, &mut |batch| {
            if fail_at == Some(batches) {
                return Err("the disk is full".into());
            }
            batches += 1;
            got.extend(batch);
            Ok(())
        });
        (outcome, got)
    }

    fn import(&mut self) -> (Summary, Vec<Verified>) {
        let (summary, got) = self.import_from(&self.repo(), None);
        (summary.unwrap(), got)
    }
}

fn facts(signals: &[Verified]) -> Vec<FactBody> {
    let people = Pseudonymizer::new(&[7; 32]);
    signals
        .iter()
        .flat_map(|signal| {
            let parsed = parse(signal, &people);
            assert_eq!(parsed.rejections, []);
            parsed.facts
        })
        .map(|fact| fact.body)
        .collect()
}

fn commits(signals: &[Verified]) -> BTreeMap<String, CommitFact> {
    let only = |body| if let FactBody::Commit(c) = body { Some((c.sha.to_string(), c)) } else { None };
    facts(signals).into_iter().filter_map(only).collect()
}

fn refs(signals: &[Verified]) -> BTreeMap<String, RefFact> {
    let only = |body| if let FactBody::Ref(r) = body { Some((r.name.to_string(), r)) } else { None };
    facts(signals).into_iter().filter_map(only).collect()
}

fn ids(signals: &[Verified]) -> BTreeSet<SignalId> {
    signals.iter().map(|s| s.signal().id).collect()
}

/// A history with a branch, a merge, a binary file, a deleted file, a renamed file and tags.
fn history(lab: &Lab) -> Vec<String> {
    let mut shas = vec![
        lab.commit("a.txt", "one\ntwo\nthree\n", "SHOP-1: begin"),
        lab.commit("src/b.txt", "no newline at the end", "more\n\nRelates to PAY-2 and UTF-8"),
        lab.commit("image.bin", [0u8, 1, 2, 10, 3], "a picture"),
    ];
    lab.git(&["checkout", "-q", "-b", "side", &shas[0]]);
    shas.push(lab.commit("a.txt", "one\n2\nthree\nfour\n", "side work"));
    lab.git(&["checkout", "-q", "main"]);
    lab.git(&["merge", "-q", "--no-ff", "-m", "Merge pull request #7 from owner/SHOP-3-side", "side"]);
    shas.push(lab.git(&["rev-parse", "HEAD"]));
    lab.git(&["mv", "src/b.txt", "c.txt"]);
    lab.git(&["rm", "-q", "image.bin"]);
    shas.push(lab.commit("a.txt", "", "clear out"));
    lab.git(&["tag", "light", &shas[0]]);
    lab.git(&["tag", "-a", "-m", "annotated", "v1", &shas[1]]);
    let blob = lab.git(&["hash-object", "-w", "a.txt"]);
    lab.git(&["tag", "blob", &blob]);
    shas
}

#[test]
fn a_history_is_read_as_git_tells_it() {
    let mut lab = Lab::new();
    let shas = history(&lab);
    let (summary, signals) = lab.import();
    assert_eq!((summary.read, summary.signals, summary.refs, summary.problem_count), (6, 7, 4, 0));
    let commits = commits(&signals);
    for sha in &shas {
        let seen = &commits[sha];
        let numstat = lab.git(&["show", "--numstat", "--no-renames", "--format=", "--first-parent", sha]);
        let merge = seen.parent_count == Some(2);
        let lines: Vec<Vec<&str>> = numstat.lines().filter(|_| !merge).map(|l| l.split('\t').collect()).collect();
        let sum = |i: usize| Some(lines.iter().map(|l| l[i].parse().unwrap_or(0i64)).sum::<i64>());
        assert_eq!((seen.added_lines, seen.deleted_lines), (sum(0), sum(1)), "{sha}");
        assert_eq!(seen.changed_files, Some(lines.len() as i64), "{sha}");
    }
    let first = &commits[&shas[0]];
    assert_eq!((&*first.repo, &*first.subject, first.parent_count), ("owner/name", "SHOP-1: begin", Some(0)));
    assert_eq!(first.authored_at, Some(Micros::from_secs(1_700_000_000)));
    assert_eq!(first.committed_at, Some(Micros::from_secs(1_700_000_060)));
    assert!(first.author.is_some() && first.committer.is_some() && first.author != first.committer);
    assert_eq!(commits[&shas[4]].parent_count, Some(2));

    let refs = refs(&signals);
    assert_eq!(
        refs.keys().collect::<Vec<_>>(),
        ["refs/heads/main", "refs/heads/side", "refs/tags/light", "refs/tags/v1"]
    );
    assert_eq!(refs["refs/tags/v1"].sha.as_deref(), Some(&*shas[1]), "annotated tags are followed");

    let mentioned: BTreeSet<String> = facts(&signals)
        .into_iter()
        .filter_map(|f| if let FactBody::Mention(m) = f { Some(m.ticket_key.to_string()) } else { None })
        .collect();
    assert_eq!(
        mentioned.iter().map(String::as_str).collect::<Vec<_>>(),
        ["PAY-2", "SHOP-1", "SHOP-3", "UTF-8", "owner/name#7"]
    );
}

#[test]
fn a_merge_on_the_main_line_says_what_it_brought_along() {
    let mut lab = Lab::new();
    let shas = history(&lab);
    // A line that takes the main line in before it is merged brings its own commits alone.
    lab.git(&["checkout", "-q", "-b", "long", &shas[2]]);
    let own = [lab.commit("d.txt", "d", "one"), {
        lab.git(&["merge", "-q", "--no-ff", "-m", "Merge branch 'main'", "main"]);
        lab.git(&["rev-parse", "HEAD"])
    }];
    lab.git(&["checkout", "-q", "main"]);
    lab.git(&["merge", "-q", "--no-ff", "-m", "Merge pull request #8 from owner/long", "long"]);
    let merge = lab.git(&["rev-parse", "HEAD"]);
    let (_, signals) = lab.import();
    let traced = facts(&signals).into_iter().filter_map(|body| match body {
        FactBody::Trace(t) if t.kind == TraceKind::Brought => Some((t.sha.to_string(), t.target.to_string())),
        _ => None,
    });
    let known = |first: &str, second: &str| lab.git(&["rev-list", &format!("{first}..{second}")]);
    assert_eq!(known(&format!("{merge}^1"), &format!("{merge}^2")).lines().count(), 2);
    let want = [(&shas[4], &shas[3]), (&merge, &own[0]), (&merge, &own[1])];
    let want: BTreeSet<_> = want.map(|(merge, sha)| (merge.clone(), sha.clone())).into_iter().collect();
    assert_eq!(traced.collect::<BTreeSet<_>>(), want);
}

#[test]
fn a_second_import_says_only_what_changed() {
    let mut lab = Lab::new();
    let shas = history(&lab);
    let (_, first) = lab.import();
    let (summary, nothing) = lab.import();
    assert_eq!((summary.unchanged, summary.signals, nothing.len()), (6, 0, 0));

    // Force-push, a deleted branch, and the objects pruned: the state alone still knows the commits.
    lab.git(&["branch", "-D", "side"]);
    lab.git(&["reset", "-q", "--hard", &shas[2]]);
    lab.git(&["reflog", "expire", "--expire=now", "--all"]);
    lab.git(&["gc", "-q", "--prune=now"]);
    let new = lab.commit("d.txt", "new\n", "instead");
    let (summary, second) = lab.import();
    assert_eq!((summary.gone, summary.refs, summary.signals), (3, 2, 3));
    let told = commits(&second);
    assert!(!told[&new].deleted);
    assert!(shas[3..].iter().all(|sha| told[sha].deleted), "{told:?}");
    assert!(refs(&second)["refs/heads/side"].deleted);
    assert!(second.iter().all(|s| s.signal().received_at > first[0].signal().received_at));

    // The same commit is made again (equal content and clocks), and stated again under another identity.
    lab.git(&["checkout", "-q", "-b", "side", &shas[0]]);
    assert_eq!(lab.commit("a.txt", "one\n2\nthree\nfour\n", "side work"), shas[3]);
    lab.clock = -1_000;
    let (_, third) = lab.import();
    let back = &commits(&third)[&shas[3]];
    assert_eq!((back.deleted, back.added_lines), (false, Some(2)));
    assert!(ids(&third).is_disjoint(&ids(&first)));
    assert!(third[0].signal().received_at > second[0].signal().received_at, "a clock that went back loses nothing");
}

#[test]
fn a_crash_between_signals_and_state_changes_nothing() {
    let mut lab = Lab::new();
    history(&lab);
    let undisturbed = {
        let mut other = Lab { dir: tempfile::tempdir().unwrap(), clock: 0 };
        let (summary, signals) = other.import_from(&lab.repo(), None);
        summary.unwrap();
        ids(&signals)
    };
    let (failed, none) = lab.import_from(&lab.repo(), Some(0));
    assert!(matches!(failed, Err(ImportError::Sink(_))), "{failed:?}");
    // The commits are durable, the refs are not, and the state was never settled.
    let (failed, some) = lab.import_from(&lab.repo(), Some(1));
    assert!(failed.is_err() && none.is_empty() && some.len() == 6);
    let (_, rest) = lab.import();
    assert_eq!(ids(&rest), undisturbed);
    assert!(ids(&some).is_subset(&undisturbed));
    assert_eq!(lab.import().1, []);
}

#[test]
fn a_shallow_clone_is_partial_until_it_is_whole() {
    let mut lab = Lab::new();
    let shas = history(&lab);
    let clone = lab.dir.path().join("clone");
    let url = format!("file://{}", lab.repo().display());
    lab.git_in(lab.dir.path(), &["clone", "-q", "--depth=1", "--branch=main", &url, "clone"]);
    let (summary, signals) = lab.import_from(&clone, None);
    let summary = summary.unwrap();
    assert_eq!((summary.read, summary.partial, summary.problem_count), (1, 1, 0));
    assert_eq!(commits(&signals)[&shas[5]].added_lines, None);
    assert!(lab.import_from(&clone, None).1.is_empty());

    lab.git_in(&clone, &["fetch", "-q", "--unshallow"]);
    let (summary, signals) = lab.import_from(&clone, None);
    assert_eq!((summary.unwrap().gone, commits(&signals).len()), (0, 6));
    assert_eq!(commits(&signals)[&shas[5]].deleted_lines, Some(5));
    assert!(lab.import_from(&clone, None).1.is_empty());
}

#[test]
fn damage_is_listed_and_retracts_nothing() {
    let mut lab = Lab::new();
    let shas = history(&lab);
    lab.import().0.signals.checked_sub(7).unwrap();
    let object = |sha: &str| lab.dir.path().join("work/.git/objects").join(&sha[..2]).join(&sha[2..]);
    let victim = object(&shas[2]);
    fs::remove_file(&victim).unwrap();
    fs::write(&victim, b"no object").unwrap();
    let (summary, signals) = lab.import();
    assert_eq!((summary.problem_count, summary.gone, signals.len()), (1, 0, 0));
    assert!(summary.problems[0].to_string().contains(&shas[2]), "{}", summary.problems[0]);

    // A damaged blob costs the lines of one commit, not the commit.
    let mut lab = Lab::new();
    let sha = lab.commit("a.txt", "content\n", "SHOP-1");
    let blob = lab.git(&["rev-parse", "HEAD:a.txt"]);
    let victim = lab.dir.path().join("work/.git/objects").join(&blob[..2]).join(&blob[2..]);
    fs::remove_file(victim).unwrap();
    let (summary, signals) = lab.import();
    assert_eq!((summary.partial, summary.problem_count), (1, 1));
    assert_eq!(commits(&signals)[&sha].added_lines, None);
}

#[test]
fn every_kind_of_repository_opens_under_its_name() {
    let mut lab = Lab::new();
    let sha = lab.commit("deep/a.txt", "x\n", "x");
    lab.git(&["worktree", "add", "-q", "../tree", "-b", "other"]);
    lab.git_in(lab.dir.path(), &["clone", "-q", "--bare", "work", "bare.git"]);
    for folder in ["work/deep", "tree", "bare.git"] {
        let mut fresh = Lab { dir: tempfile::tempdir().unwrap(), clock: 0 };
        let (summary, signals) = fresh.import_from(&lab.dir.path().join(folder), None);
        assert_eq!(summary.unwrap().problem_count, 0, "{folder}");
        let name = if folder == "bare.git" { "work" } else { "owner/name" };
        assert_eq!(&*commits(&signals)[&sha].repo, name, "{folder}");
    }
    let nowhere = tempfile::tempdir().unwrap();
    let (error, _) = lab.import_from(nowhere.path(), None);
    assert!(error.unwrap_err().to_string().contains("no git repository"));
    lab.git_in(nowhere.path(), &["init", "-q", "empty"]);
    let (summary, _) = lab.import_from(&nowhere.path().join("empty"), None);
    assert_eq!(summary.unwrap(), Summary::default());
}

#[test]
fn two_repositories_of_one_name_are_told_apart() {
    let mut lab = Lab::new();
    lab.commit("a.txt", "x\n", "x");
    lab.import();
    let other = Lab::new();
    other.commit("b.txt", "y\n", "y");
    let (error, signals) = lab.import_from(&other.repo(), None);
    assert!(matches!(error, Err(ImportError::SameName { .. })) && signals.is_empty(), "{error:?}");
}

#[test]
fn names_come_from_the_origin() {
    for (url, name) in [
        ("https://user:secret@github.com/apache/kafka.git", Some("apache/kafka")),
        ("git@github.com:owner/name.git", Some("owner/name")),
        ("ssh://git@example.org:2222/group/sub/name/", Some("group/sub/name")),
        ("/srv/git/name.git", Some("name")),
        ("file:///srv/git/name", Some("name")),
        ("", None),
    ] {
        assert_eq!(name_of_url(url.into()).as_deref(), name, "{url}");
    }
}

#[test]
fn nothing_of_this_comes_over_http() {
    let delivery = Delivery { headers: &[], body: b"{}", received_at: Micros(0) };
    let refused = by_name("git").unwrap().verify(delivery, None);
    assert!(refused.unwrap_err().to_string().contains("takes no deliveries over HTTP"));
}

#[test]
fn long_texts_are_cut_at_a_character() {
    assert_eq!(text("aé".into(), 2), "a");
    assert_eq!(text("aé".into(), 3), "aé");
    assert_eq!(who("nobody at all".into()).name, "nobody at all");
}
