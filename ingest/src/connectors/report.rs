//! What people report by hand: one grammar, for chat commands and for JSON.
//!
//! ```text
//! start|done|block TICKET [remark]
//! deploy TICKET [to] ENVIRONMENT
//! confirm|reject ARTIFACT TICKET            in either order
//! ```
//!
//! A ticket is `SHOP-12` (in any case) or `owner/repo#12`; an artifact is a full commit sha, `owner/repo#12`, or the
//! address of a commit or pull request. What is not understood is an error that says how to write it; nothing is
//! guessed. An error repeats plain words only (I8). Knows nothing of who reports, or how the report came.

use flowsync_schemas::{
    EntityKind, PersonId, Text,
    fact::{ReportFact, Verb},
};

use super::{json::shown, keys};

/// How to write reports, one line each.
pub(super) const USAGE: &str = "\
`start SHOP-12`, `done SHOP-12`, `block SHOP-12 waiting for legal`
`deploy SHOP-12 to production`
`confirm ARTIFACT SHOP-12` or `reject ARTIFACT SHOP-12`, where ARTIFACT is a full commit sha, `owner/repo#12`, or the \
address of a commit or pull request";

/// Longest text of one part of a report.
const PART_BYTES_MAX: usize = 512;

/// A report without its reporter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    verb: Verb,
    ticket: Ticket,
    artifact: Option<Artifact>,
    environment: Option<Text>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Ticket {
    project: Text,
    key: Text,
}

type Artifact = (EntityKind, Text);

impl Report {
    /// Reads a command. Nothing said (or `help`) is no report.
    ///
    /// # Errors
    /// In words for the person who wrote it.
    pub fn read(text: &str) -> Result<Option<Self>, String> {
        let mut words = text.split_whitespace().map(unwrap_link);
        let Some(first) = words.next() else { return Ok(None) };
        let first = first.to_lowercase();
        if first == "help" {
            return Ok(None);
        }
        let verb = verb(&first)?;
        let words: Vec<&str> = words.collect();
        match (verb, words.as_slice()) {
            (Verb::Start | Verb::Done | Verb::Block, [ticket, remark @ ..]) => {
                if let Some(other) = remark.iter().find(|word| Ticket::read(word).is_some()) {
                    return Err(format!("one ticket a report: say the same of {} in its own report", shown(other)));
                }
                Self::build(verb, ticket, None, None)
            }
            (Verb::Deploy, [ticket, to, environment]) if to.eq_ignore_ascii_case("to") => {
                Self::build(verb, ticket, None, Some(environment))
            }
            (Verb::Deploy, [ticket, environment]) => Self::build(verb, ticket, None, Some(environment)),
            (Verb::Deploy, _) => Err("a deployment is reported as `deploy SHOP-12 to production`".to_owned()),
            (Verb::Confirm | Verb::Reject, [one, other]) => {
                // `owner/repo#12` can be either: then the artifact comes first.
                let artifact_first = artifact(one).is_some() || Ticket::read(one).is_none();
                if artifact_first && Ticket::read(other).is_some() {
                    Self::build(verb, other, Some(one), None)
                } else {
                    Self::build(verb, one, Some(other), None)
                }
            }
            (Verb::Confirm | Verb::Reject, _) => Err(format!("`{verb}` needs two things, an artifact and a ticket")),
            (_, []) => Err(format!("`{verb}` needs a ticket: `{verb} SHOP-12`")),
        }
        .map(Some)
    }

    /// A report from its parts.
    ///
    /// # Errors
    /// In words for the person who wrote it.
    pub fn build(verb: Verb, ticket: &str, artifact: Option<&str>, environment: Option<&str>) -> Result<Self, String> {
        let parts = [Some(ticket), artifact, environment];
        if parts.iter().flatten().any(|part| part.len() > PART_BYTES_MAX) {
            return Err(format!("a part of the report is longer than {PART_BYTES_MAX} bytes"));
        }
        let ticket = Ticket::read(ticket).ok_or_else(|| {
            format!("{} is no ticket: a ticket is written `SHOP-12` or `owner/repo#12`", shown(ticket))
        })?;
        let linking = matches!(verb, Verb::Confirm | Verb::Reject);
        let artifact = match artifact {
            Some(text) if linking => Some(self::artifact(text).ok_or_else(|| {
                format!(
                    "{} is no artifact: write the full sha of a commit (40 digits; `git rev-parse` prints it), \
                     `owner/repo#12`, or the address of a commit or pull request",
                    shown(text)
                )
            })?),
            Some(_) => return Err(format!("`{verb}` takes no artifact")),
            None if linking => return Err(format!("`{verb}` needs an artifact")),
            None => None,
        };
        let environment = environment.map(str::trim).filter(|e| !e.is_empty());
        match environment {
            None if verb == Verb::Deploy => return Err("`deploy` needs an environment, such as production".to_owned()),
            Some(_) if verb != Verb::Deploy => return Err(format!("`{verb}` takes no environment")),
            _ => {}
        }
        Ok(Self { verb, ticket, artifact, environment: environment.map(Into::into) })
    }

    /// The fact, once it is known who reports.
    pub fn fact(self, person: PersonId) -> ReportFact {
        let (artifact_kind, artifact_id) = self.artifact.unzip();
        ReportFact {
            person,
            verb: self.verb,
            project: self.ticket.project,
            ticket_key: self.ticket.key,
            artifact_kind,
            artifact_id,
            environment: self.environment,
        }
    }
}

/// A verb by its word.
///
/// # Errors
/// In words for the person who wrote it.
pub(super) fn verb(word: &str) -> Result<Verb, String> {
    word.parse().map_err(|_| format!("{} is not understood: a report begins with {}", shown(word), verbs()))
}

fn verbs() -> String {
    Verb::ALL.iter().map(|v| format!("`{v}`")).collect::<Vec<_>>().join(", ")
}

/// What was understood, as a sentence.
pub(super) fn sentence(report: &ReportFact) -> String {
    let ticket = &report.ticket_key;
    let artifact = report.artifact_id.as_deref().unwrap_or("the artifact");
    match report.verb {
        Verb::Start => format!("work on {ticket} has begun"),
        Verb::Done => format!("{ticket} is done"),
        Verb::Block => format!("{ticket} is blocked"),
        Verb::Deploy => {
            format!("{ticket} was deployed to {}", report.environment.as_deref().unwrap_or("an environment"))
        }
        Verb::Confirm => format!("{artifact} belongs to {ticket}"),
        Verb::Reject => format!("{artifact} does not belong to {ticket}"),
    }
}

impl Ticket {
    fn read(word: &str) -> Option<Self> {
        if let Some((repo, _)) = repo_and_number(word) {
            return Some(Self { project: repo.into(), key: word.into() });
        }
        let (project, key) = keys::branch(word).next()?;
        (key.len() == word.len()).then(|| Self { project: project.into(), key: key.into() })
    }
}

fn artifact(word: &str) -> Option<Artifact> {
    if is_sha(word) {
        return Some((EntityKind::Commit, word.to_ascii_lowercase().into()));
    }
    if repo_and_number(word).is_some() {
        return Some((EntityKind::PullRequest, word.into()));
    }
    let path = word.strip_prefix("https://").or_else(|| word.strip_prefix("http://"))?;
    let parts: Vec<&str> = path.split(['/', '?', '#']).collect();
    match parts.as_slice() {
        [_, owner, repo, "pull", number, ..] if is_number(number) => {
            Some((EntityKind::PullRequest, format!("{owner}/{repo}#{number}").into()))
        }
        [_, _, _, "commit", sha, ..] if is_sha(sha) => Some((EntityKind::Commit, sha.to_ascii_lowercase().into())),
        _ => None,
    }
}

fn is_sha(word: &str) -> bool {
    matches!(word.len(), 40 | 64) && word.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit())
}

/// `owner/repo#12`.
fn repo_and_number(word: &str) -> Option<(&str, &str)> {
    let (repo, number) = word.split_once('#')?;
    let (owner, name) = repo.split_once('/')?;
    let plain = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    (plain(owner) && plain(name) && is_number(number)).then_some((repo, number))
}

/// Chat tools wrap addresses: `<https://example.org|example.org>`.
fn unwrap_link(word: &str) -> &str {
    match word.strip_prefix('<').and_then(|w| w.strip_suffix('>')) {
        Some(inner) => inner.split('|').next().unwrap_or(inner),
        None => word,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

    fn said(text: &str) -> String {
        match Report::read(text) {
            Ok(Some(report)) => sentence(&report.fact(PersonId(1))),
            Ok(None) => "help".to_owned(),
            Err(reason) => format!("not understood: {reason}"),
        }
    }

    #[test]
    fn every_verb_is_understood() {
        assert_eq!(said("start PROJ-1"), "work on PROJ-1 has begun");
        assert_eq!(said("  Done proj-1 at last "), "PROJ-1 is done");
        assert_eq!(said("block owner/repo#7 waiting for legal"), "owner/repo#7 is blocked");
        assert_eq!(said("deploy PROJ-456 to production"), "PROJ-456 was deployed to production");
        assert_eq!(said("deploy PROJ-456 staging"), "PROJ-456 was deployed to staging");
        assert_eq!(said(&format!("confirm {SHA} PROJ-1")), format!("{SHA} belongs to PROJ-1"));
        assert_eq!(said(&format!("reject PROJ-1 {SHA}")), format!("{SHA} does not belong to PROJ-1"));
        assert_eq!(said("confirm o/r#3 o/r#4"), "o/r#3 belongs to o/r#4");
        let link = "<https://github.com/o/r/pull/3/files|o/r>";
        assert_eq!(said(&format!("confirm PROJ-1 {link}")), "o/r#3 belongs to PROJ-1");
        assert_eq!(
            said(&format!("reject https://github.com/o/r/commit/{SHA} PROJ-1")),
            format!("{SHA} does not belong to PROJ-1")
        );
        assert_eq!((said(""), said("HELP me")), ("help".to_owned(), "help".to_owned()));
    }

    #[test]
    fn nothing_is_guessed() {
        for (text, part) in [
            ("finish PROJ-1", "\"finish\" is not understood"),
            ("done", "needs a ticket"),
            ("done it", "\"it\" is no ticket"),
            ("done PROJ-1 PROJ-2", "one ticket a report"),
            ("deploy PROJ-1", "`deploy SHOP-12 to production`"),
            ("deploy PROJ-1 to production today", "`deploy SHOP-12 to production`"),
            ("confirm 0123abc PROJ-1", "full sha"),
            ("confirm PROJ-1 0123abc", "full sha"),
            ("confirm PROJ-1", "needs two things"),
            ("done PROJ-1x", "is no ticket"),
        ] {
            assert!(said(text).contains(part), "{text}: {}", said(text));
        }
        assert!(Report::build(Verb::Done, "PROJ-1", None, Some("production")).is_err());
        assert!(Report::build(Verb::Done, "PROJ-1", Some(SHA), None).is_err());
        assert!(Report::build(Verb::Confirm, "PROJ-1", None, None).is_err());
        assert!(Report::build(Verb::Done, &"A".repeat(600), None, None).is_err());
    }
}
