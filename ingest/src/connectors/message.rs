//! What a commit's message says: ticket keys, numbers of issues, and traces of how the commit came to be.
//!
//! One reading for every connector that sees messages, so that a commit pushed and a commit imported state the same. All
//! that is stated holds as long as the version of the commit beside it. Nothing is known here of whether a project, a
//! number or a commit exists.

use std::collections::BTreeMap;

use flowsync_schemas::{
    EntityKind, FactBody, Micros, Parsed, PersonId, Text,
    fact::{EvidenceKind, MentionFact, TraceFact, TraceKind},
    id::Account,
};

use super::{
    keys,
    references::{self, Command, Dialect, MergeStyle, PullRef, Reverted},
};

/// Digits of a whole SHA-1: a shortened sha can mean another commit tomorrow.
const SHA_DIGITS_MIN: usize = 40;

/// A commit, as of the version `at`.
pub struct Commit<'a> {
    /// The connector that saw it.
    pub source: &'static str,
    /// The version of the commit.
    pub at: Micros,
    /// Its repository, `owner/name`.
    pub repo: &'a str,
    /// Its full sha.
    pub sha: &'a Text,
    /// The whole message.
    pub message: &'a str,
    /// Full shas of the commits that it brought along, where it is a merge.
    pub brought: &'a [String],
}

impl Commit<'_> {
    /// States all that the message says.
    pub fn read(&self, out: &mut Parsed<'_>) {
        let pull = references::pull_request(self.message);
        let dialect = match pull {
            Some(PullRef { how: MergeStyle::GitLabMerge, .. }) => Dialect::GitLab,
            _ => Dialect::GitHub,
        };
        let artifact = (EntityKind::Commit, self.sha);
        keys::mention(out, self.at, artifact, EvidenceKind::CommitKey, self.message);
        numbers(out, self.at, artifact, self.repo, self.message, dialect);
        let picked: Vec<&str> = references::cherry_picked_from(self.message).collect();
        // The number of a picked commit is that of the original's pull request.
        if let Some(pull) = pull.filter(|_| picked.is_empty()) {
            self.pull_request(out, &pull);
        }
        for sha in picked.into_iter().filter(|sha| sha.len() >= SHA_DIGITS_MIN) {
            self.trace(out, TraceKind::CherryPick, sha.to_ascii_lowercase());
        }
        for reverted in references::reverts(self.message) {
            if let Reverted::Sha(sha) = reverted
                && sha.len() >= SHA_DIGITS_MIN
            {
                self.trace(out, TraceKind::Revert, sha.to_ascii_lowercase());
            }
        }
        for (name, address) in references::co_authors(self.message) {
            let bot = name.ends_with("[bot]");
            let person = out.person(self.at, self.source, &Account::Email(address), name, bot);
            self.state(out, TraceKind::CoAuthor, String::new(), Some(person), None);
        }
        self.smart(out);
    }

    fn pull_request(&self, out: &mut Parsed<'_>, pull: &PullRef<'_>) {
        // Outside Apache projects, a bare `closes #12` names an issue; with the branch it came from, it is no issue.
        if pull.how == MergeStyle::Closes && pull.branch.is_none() {
            return;
        }
        let mark = if pull.how == MergeStyle::GitLabMerge { '!' } else { '#' };
        let id = format!("{}{mark}{}", pull.repo.unwrap_or(self.repo), pull.number);
        self.trace(out, TraceKind::PullRequest, id);
        if matches!(pull.how, MergeStyle::Merge | MergeStyle::GitLabMerge) {
            self.brought.iter().for_each(|sha| self.trace(out, TraceKind::Brought, sha.clone()));
        }
        if let Some(branch) = pull.branch {
            keys::mention(out, self.at, (EntityKind::Commit, self.sha), EvidenceKind::BranchKey, branch);
        }
    }

    /// Smart commits. Of one commit, the times for a ticket are added up; its other commands count once.
    fn smart(&self, out: &mut Parsed<'_>) {
        let mut secs: BTreeMap<&str, u64> = BTreeMap::new();
        let smart: Vec<_> = references::smart_commits(self.message).collect();
        for commit in &smart {
            for key in &commit.keys {
                let kind = match commit.command {
                    Command::Time { secs: more, .. } => {
                        let sum = secs.entry(key).or_default();
                        *sum = sum.saturating_add(more);
                        continue;
                    }
                    Command::Comment(_) => TraceKind::Comment,
                    Command::Transition { name, .. } => match transition(name) {
                        Some(kind) => kind,
                        None => continue,
                    },
                };
                self.trace(out, kind, (*key).to_owned());
            }
        }
        for (key, secs) in secs {
            self.state(out, TraceKind::Worklog, key.to_owned(), None, i64::try_from(secs).ok());
        }
    }

    fn trace(&self, out: &mut Parsed<'_>, kind: TraceKind, target: String) {
        self.state(out, kind, target, None, None);
    }

    fn state(
        &self,
        out: &mut Parsed<'_>,
        kind: TraceKind,
        target: String,
        person: Option<PersonId>,
        spent_secs: Option<i64>,
    ) {
        let trace = TraceFact { sha: self.sha.clone(), kind, target: target.into(), person, spent_secs };
        out.fact(self.at, FactBody::Trace(trace));
    }
}

/// The step that a transition of this name leads to. Workflows name transitions as they like, and messages hold `#names`
/// that are none: only what is named like the steps of Jira's own workflows is read.
fn transition(name: &str) -> Option<TraceKind> {
    const START: &[&str] = &["start", "start-work", "start-progress", "in-progress"];
    const DONE: &[&str] = &["done", "close", "close-issue", "closed", "resolve", "resolve-issue", "resolved"];
    let is = |names: &[&str]| names.iter().any(|n| name.eq_ignore_ascii_case(n));
    if is(START) {
        Some(TraceKind::Start)
    } else if is(DONE) {
        Some(TraceKind::Done)
    } else {
        None
    }
}

/// States a mention for every issue that a text names by number. Numbers without a repository are those of `repo`.
pub fn numbers(
    out: &mut Parsed<'_>,
    at: Micros,
    artifact: (EntityKind, &Text),
    repo: &str,
    text: &str,
    dialect: Dialect,
) {
    for reference in references::numbers(text, dialect) {
        let kind = if reference.closes { EvidenceKind::ClosingKey } else { EvidenceKind::NumberKey };
        number(out, at, artifact, reference.repo.unwrap_or(repo), reference.number, kind);
    }
}

/// States a mention for every issue of `repo` that the name of a branch numbers.
pub fn branch_numbers(out: &mut Parsed<'_>, at: Micros, artifact: (EntityKind, &Text), repo: &str, name: &str) {
    for named in references::branch_numbers(name) {
        number(out, at, artifact, repo, named, EvidenceKind::NumberKey);
    }
}

fn number(
    out: &mut Parsed<'_>,
    at: Micros,
    artifact: (EntityKind, &Text),
    project: &str,
    number: u64,
    kind: EvidenceKind,
) {
    let body = MentionFact {
        artifact_kind: artifact.0,
        artifact_id: artifact.1.clone(),
        kind,
        ticket_key: format!("{project}#{number}").into(),
        project: project.into(),
    };
    out.fact(at, FactBody::Mention(body));
}

#[cfg(test)]
mod tests {
    use flowsync_schemas::{Pseudonymizer, SignalId};

    use super::*;

    fn stated(message: &str) -> Vec<String> {
        let people = Pseudonymizer::new(&[0; 32]);
        let mut out = Parsed::new(SignalId(1), &people);
        let sha: Text = "c0ffee".into();
        Commit { source: "git", at: Micros(5), repo: "acme/shop", sha: &sha, message, brought: &[] }.read(&mut out);
        let mut all: Vec<String> = out
            .facts
            .iter()
            .filter_map(|f| match &f.body {
                FactBody::Mention(m) => Some(format!("{} {}", m.kind, m.ticket_key)),
                FactBody::Trace(t) => {
                    let secs = t.spent_secs.map(|s| format!(" {s}")).unwrap_or_default();
                    let person = if t.person.is_some() { "someone" } else { "" };
                    Some(format!("{} {}{person}{secs}", t.kind, t.target))
                }
                _ => None,
            })
            .collect();
        all.sort();
        all
    }

    #[test]
    fn a_message_states_keys_numbers_and_traces() {
        let squash = "SHOP-1 Basket, shop-2 too (#12)\n\nFixes #3\n\nCo-authored-by: Jo <jo@example.org>";
        let want = [
            "closing_key acme/shop#3",
            "co_author someone",
            "commit_key SHOP-1",
            "number_key acme/shop#12",
            "pull_request acme/shop#12",
            "tolerant_key SHOP-2",
        ];
        assert_eq!(stated(squash), want);
        assert_eq!(
            stated("SHOP-1 #time 1h #done\nSHOP-1 #time 30m #get"),
            ["commit_key SHOP-1", "done SHOP-1", "worklog SHOP-1 5400"]
        );
        let sha = "0123456789abcdef0123456789abcdef01234567";
        let picked = format!("Basket (#12)\n\n(cherry picked from commit {sha})");
        assert_eq!(stated(&picked), [format!("cherry_pick {sha}"), "number_key acme/shop#12".to_owned()]);
        assert_eq!(stated(&format!("Revert \"x\"\n\nThis reverts commit {sha}.")), [format!("revert {sha}")]);
        assert_eq!(stated("x\n\nThis reverts commit c0ffee1."), [""; 0]);
        let merge = "Merge pull request #7 from jo/feature/pay-4-card";
        assert_eq!(
            stated(merge),
            ["branch_key PAY-4", "number_key acme/shop#7", "pull_request acme/shop#7", "tolerant_key PAY-4"]
        );
        let gitlab = "Merge branch 'a' into 'main'\n\nCloses #4, #6\n\nSee merge request g/p!9";
        assert_eq!(stated(gitlab), ["closing_key acme/shop#4", "closing_key acme/shop#6", "pull_request g/p!9"]);
        assert_eq!(stated("x\n\nCloses #12 from jo/b"), ["closing_key acme/shop#12", "pull_request acme/shop#12"]);
    }
}
