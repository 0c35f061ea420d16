//! `git`: what the repository importer ([`crate::import::repository`]) saw in a repository on disk.
//!
//! The importer writes one signal a commit, and signals for commits that no ref reaches any more and for refs that
//! moved. Nobody sends such signals over HTTP: [`Git::verify`] refuses them all.
//!
//! Invariants: a fact's version clock is the import's own clock (`received_at`), which the importer never lets run
//! backwards for one repository, so that of "seen" and "gone" the later one holds (I3). A signal's id is made of the
//! repository, the sha and how often the commit has come back, so that importing again states nothing twice (I2).
//! People are pseudonyms from here on (I8). This file knows nothing of object databases.

use std::borrow::Cow;

use flowsync_schemas::{
    ConnectorSpec, FactBody, Micros, Parsed, PersonId, Text,
    fact::{CommitFact, RefFact},
    id::Account,
};
use serde::{Deserialize, Serialize};

use super::{
    Connector, Delivery, Secret, Verified, VerifyError,
    json::{NO_NAME, Reader, is_name},
    message, words,
};

/// What this connector is.
pub static SPEC: ConnectorSpec = ConnectorSpec {
    name: "git",
    version: 7,
    doc: "Any git repository on disk: commits with authors, parents and changed lines, branches and tags. Incremental: \
          a second import reads only what is new, and takes back commits that no branch or tag reaches any more.",
    verification: "read on this machine by `flowsync import git PATH…`; never accepted over HTTP",
    events: &["commit", "gone", "refs"],
    headers: &[],
    reference: "https://git-scm.com/docs/gitglossary",
};

/// The connector.
#[derive(Debug)]
pub struct Git;

/// The body of a signal: exactly one of `commit`, `gone` and `refs` is there.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Body<'a> {
    /// `owner/name`, or the folder's name where the repository has no origin.
    #[serde(borrow)]
    pub repo: Cow<'a, str>,
    /// A commit that a ref reaches.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<Commit<'a>>,
    /// Shas of commits that no ref reaches any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Vec<String>>,
    /// Branches and tags that appeared, moved or vanished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refs: Option<Vec<Ref>>,
}

/// Path, lines added, lines deleted; no counts for a binary file.
pub(crate) type ChangedFile = (String, Option<u64>, Option<u64>);

/// One commit.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Commit<'a> {
    /// Full sha.
    pub sha: String,
    /// Full shas of the parents.
    pub parents: Vec<String>,
    /// Who wrote it.
    #[serde(borrow)]
    pub author: Who<'a>,
    /// Who committed it.
    #[serde(borrow)]
    pub committer: Who<'a>,
    /// The message; what is no UTF-8 is replaced.
    #[serde(borrow)]
    pub message: Cow<'a, str>,
    /// Full shas of the commits that a merge on the main line brought along.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub brought: Vec<String>,
    /// The first of the changed files. Missing where the parent is not
    /// in the repository (a shallow clone); empty for a merge.
    pub files: Option<Vec<ChangedFile>>,
    /// Sums over all files, also those that `files` leaves out.
    pub stat: Option<Stat>,
}

/// Name, e-mail address and git's raw time (`1711398853 +0800`).
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Who<'a> {
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    #[serde(borrow)]
    pub email: Cow<'a, str>,
    #[serde(borrow)]
    pub time: Cow<'a, str>,
}

/// Sums over the changed files of a commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stat {
    pub files: u64,
    pub added: u64,
    pub deleted: u64,
}

/// A branch or tag; without a sha it is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ref {
    /// Full name.
    pub name: String,
    /// Commit that it points to, annotated tags followed.
    pub sha: Option<String>,
}

impl Connector for Git {
    fn spec(&self) -> &'static ConnectorSpec {
        &SPEC
    }

    fn verify(&self, _delivery: Delivery<'_>, _secret: Option<&Secret>) -> Result<Verified, VerifyError> {
        Err(VerifyError::NotOverHttp(SPEC.name))
    }

    fn parse(&self, verified: &Verified, out: &mut Parsed<'_>) {
        let signal = verified.signal();
        let at = signal.received_at;
        let mut reader = Reader { out, received_at: at, advice: "import the repository again" };
        let Some(body) = reader.body::<Body<'_>>(&signal.body) else { return };
        if let Some(path) = nameless(&body) {
            return reader.reject(&path, NO_NAME);
        }
        let repo = &body.repo;
        match body {
            Body { commit: Some(ref commit), gone: None, refs: None, .. } => read_commit(at, repo, commit, out),
            Body { commit: None, gone: Some(ref gone), refs: None, .. } => {
                let repo: Text = (&**repo).into();
                for sha in gone {
                    out.fact(at, FactBody::Commit(gone_commit(&repo, sha)));
                }
            }
            Body { commit: None, gone: None, refs: Some(ref refs), .. } => {
                let repo: Text = (&**repo).into();
                for r in refs {
                    let sha = r.sha.as_deref().map(Into::into);
                    let deleted = sha.is_none();
                    let fact = RefFact { repo: repo.clone(), name: (&*r.name).into(), sha, deleted };
                    out.fact(at, FactBody::Ref(fact));
                }
            }
            _ => out.reject("body: exactly one of commit, gone and refs is needed; import the repository again"),
        }
    }
}

/// Where a body names something by nothing, or by too much.
fn nameless(body: &Body<'_>) -> Option<String> {
    if !is_name(&body.repo) {
        return Some("repo".to_owned());
    }
    if body.commit.as_ref().is_some_and(|commit| !is_name(&commit.sha)) {
        return Some("commit.sha".to_owned());
    }
    if let Some(index) = body.gone.iter().flatten().position(|sha| !is_name(sha)) {
        return Some(format!("gone[{index}]"));
    }
    let refs = || body.refs.iter().flatten();
    let name = refs().position(|r| !is_name(&r.name)).map(|index| format!("refs[{index}].name"));
    name.or_else(|| {
        let index = refs().position(|r| r.sha.as_deref().is_some_and(|sha| !is_name(sha)))?;
        Some(format!("refs[{index}].sha"))
    })
}

fn read_commit(at: Micros, repo: &str, commit: &Commit<'_>, out: &mut Parsed<'_>) {
    let sha: Text = commit.sha.as_str().into();
    let author = person(at, &commit.author, out);
    let committer = person(at, &commit.committer, out);
    let count = |n: fn(&Stat) -> u64| commit.stat.as_ref().map(|s| i64::try_from(n(s)).unwrap_or(i64::MAX));
    let fact = CommitFact {
        repo: repo.into(),
        sha: sha.clone(),
        author,
        committer,
        authored_at: time(&commit.author.time),
        committed_at: time(&commit.committer.time),
        subject: commit.message.trim_start().lines().next().unwrap_or_default().trim_end().into(),
        words: words::of_message(&commit.message),
        file_words: words::of_files(commit.files.iter().flatten().map(|(path, ..)| path.as_str())),
        paths: words::of_paths(commit.files.iter().flatten().map(|(path, ..)| path.as_str())),
        parent_count: i64::try_from(commit.parents.len()).ok(),
        added_lines: count(|s| s.added),
        deleted_lines: count(|s| s.deleted),
        changed_files: count(|s| s.files),
        deleted: false,
    };
    out.fact(at, FactBody::Commit(fact));
    let (message, brought) = (&commit.message, &commit.brought);
    message::Commit { source: SPEC.name, at, repo, sha: &sha, message, brought }.read(out);
}

fn gone_commit(repo: &Text, sha: &str) -> CommitFact {
    CommitFact {
        repo: repo.clone(),
        sha: sha.into(),
        author: None,
        committer: None,
        authored_at: None,
        committed_at: None,
        subject: "".into(),
        words: "".into(),
        file_words: "".into(),
        paths: "".into(),
        parent_count: None,
        added_lines: None,
        deleted_lines: None,
        changed_files: None,
        deleted: true,
    }
}

/// Old histories have commits without an address: then the name is the account.
fn person(at: Micros, who: &Who<'_>, out: &mut Parsed<'_>) -> Option<PersonId> {
    let bot = who.name.trim_end().ends_with("[bot]");
    let account = match (who.email.trim(), who.name.trim()) {
        ("", "") => return None,
        ("", login) => Account::Login { source: SPEC.name, login },
        (email, _) => Account::Email(email),
    };
    Some(out.person(at, SPEC.name, &account, &who.name, bot))
}

/// Reads git's raw time. Clocks of old commits can be anything; what is no number is missing.
fn time(raw: &str) -> Option<Micros> {
    raw.split_whitespace().next()?.parse().ok().map(Micros::from_secs)
}
