//! What people report by hand: one grammar, for chat commands and for JSON.
//!
//! ```text
//! start|done|block TICKET [remark]
//! deploy TICKET [to] ENVIRONMENT
//! confirm|reject ARTIFACT TICKET            in either order
//! same|different ACCOUNT ACCOUNT            of `different` the first is taken out
//! ```
//!
//! A ticket is `SHOP-12` (in any case) or `owner/repo#12`; an artifact is a full commit sha, `owner/repo#12`, or the
//! address of a commit or pull request; an account is an e-mail address, or a tool and what it calls somebody:
//! `github:LOGIN`, `jira:ACCOUNTID`, `slack:USERID` (or a mention). What is not understood is an error that says how to write it; nothing is
//! guessed. An error repeats plain words only (I8). Knows nothing of who reports, or how the report came.

use flowsync_schemas::{
    EntityKind, FactBody, Micros, Parsed, PersonId, Text,
    fact::{IdentityFact, ReportFact, Verb},
    id::Account,
};

use super::{json::shown, keys};

/// How to write reports, one line each.
pub(super) const USAGE: &str = "\
`start SHOP-12`, `done SHOP-12`, `block SHOP-12 waiting for legal`
`deploy SHOP-12 to production`
`confirm ARTIFACT SHOP-12` or `reject ARTIFACT SHOP-12`, where ARTIFACT is a full commit sha, `owner/repo#12`, or the \
address of a commit or pull request
`same ada@example.org github:ada`: both accounts are one person's; also `jira:ACCOUNTID` and `slack:USERID`
`different github:ada ada@example.org`: they are not, and `github:ada`, named first, is kept apart from all accounts that \
nobody said are the same";

/// Tools whose accounts can be named.
const TOOLS: [&str; 5] = ["git", "github", "jira", "manual", "slack"];

/// Longest text of one part of a report.
const PART_BYTES_MAX: usize = 512;

/// What somebody said, without who said it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Of work, or of a link.
    Work(Report),
    /// Of two accounts.
    People(People),
}

/// Whether two accounts are one person's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct People {
    same: bool,
    accounts: [Named; 2],
}

/// An account as it was written: an e-mail address (of no tool), or a tool and its account.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    tool: Option<&'static str>,
    text: String,
}

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

impl Said {
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
        let words: Vec<&str> = words.collect();
        let said = match same(&first) {
            Some(same) => Said::People(People::build(same, &words)?),
            None => Said::Work(Report::read(verb(&first)?, &words)?),
        };
        Ok(Some(said))
    }

    /// States what was said by this reporter.
    pub fn state(self, at: Micros, reporter: PersonId, out: &mut Parsed<'_>) {
        let body = match self {
            Said::Work(report) => FactBody::Report(report.fact(reporter)),
            Said::People(People { same, accounts }) => {
                let [person, other] = accounts.map(|named| out.pseudonym(&named.account()));
                FactBody::Identity(IdentityFact { reporter, person, other, same })
            }
        };
        out.fact(at, body);
    }
}

/// Whether a word says that two accounts are one person's, or that they are not.
pub(super) fn same(word: &str) -> Option<bool> {
    match word {
        "same" => Some(true),
        "different" => Some(false),
        _ => None,
    }
}

impl People {
    /// What is said of two accounts.
    ///
    /// # Errors
    /// In words for the person who wrote it.
    pub fn build(same: bool, accounts: &[&str]) -> Result<Self, String> {
        let verb = if same { "same" } else { "different" };
        let [one, other] = accounts else {
            return Err(format!("`{verb}` needs two accounts, such as `{verb} somebody@example.com github:somebody`"));
        };
        let accounts = [Named::read(one)?, Named::read(other)?];
        if accounts[0] == accounts[1] {
            return Err(format!("`{verb}` names one account twice"));
        }
        Ok(Self { same, accounts })
    }
}

impl Named {
    fn read(word: &str) -> Result<Self, String> {
        let no_account = || {
            let tools: Vec<_> = TOOLS.iter().map(|tool| format!("`{tool}:…`")).collect();
            format!("{} is no account: write an e-mail address, or one of {}", shown(word), tools.join(", "))
        };
        let word = word.trim();
        if word.len() > PART_BYTES_MAX {
            return Err(format!("a part of the report is longer than {PART_BYTES_MAX} bytes"));
        }
        // Slack makes links of addresses, and mentions of people.
        if let Some(user) = word.strip_prefix('@').filter(|user| !user.is_empty()) {
            return Ok(Self { tool: Some("slack"), text: user.to_owned() });
        }
        let word = word.strip_prefix("mailto:").unwrap_or(word);
        if let Some((tool, login)) = word.split_once(':') {
            let tool = TOOLS.iter().find(|known| tool.eq_ignore_ascii_case(known)).ok_or_else(no_account)?;
            let login = Some(login.trim()).filter(|login| !login.is_empty()).ok_or_else(no_account)?;
            return Ok(Self { tool: Some(tool), text: login.to_owned() });
        }
        let is_address = word.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty());
        if is_address { Ok(Self { tool: None, text: word.to_lowercase() }) } else { Err(no_account()) }
    }

    fn account(&self) -> Account<'_> {
        match self.tool {
            Some(source) => Account::Login { source, login: &self.text },
            None => Account::Email(&self.text),
        }
    }
}

impl Report {
    fn read(verb: Verb, words: &[&str]) -> Result<Self, String> {
        match (verb, words) {
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
    fn fact(self, person: PersonId) -> ReportFact {
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
    let words = Verb::ALL.iter().map(|v| v.word()).chain(["same", "different"]);
    words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// What was understood, as a sentence; `None` where nothing was said by hand.
pub(super) fn understood(parsed: &Parsed<'_>) -> Option<String> {
    parsed.facts.iter().find_map(|fact| match &fact.body {
        FactBody::Report(report) => Some(sentence(report)),
        FactBody::Identity(IdentityFact { same: true, .. }) => Some("both accounts are one person's".to_owned()),
        FactBody::Identity(_) => {
            Some("the accounts are different people's; the one named first is kept apart".to_owned())
        }
        _ => None,
    })
}

fn sentence(report: &ReportFact) -> String {
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
    use flowsync_schemas::{Pseudonymizer, SignalId};

    use super::*;

    const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

    fn said(text: &str) -> String {
        let people = Pseudonymizer::new(&[7; 32]);
        let mut out = Parsed::new(SignalId(1), &people);
        match Said::read(text) {
            Ok(Some(said)) => {
                said.state(Micros(1), PersonId(1), &mut out);
                understood(&out).unwrap()
            }
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
    fn two_accounts_are_said_to_be_one_persons_or_not() {
        assert_eq!(said("same Ada@Example.org github:ada"), "both accounts are one person's");
        assert!(said("different jira:557058:f5 <@U024|ada>").contains("different people's"));
        let people = Pseudonymizer::new(&[7; 32]);
        let mut out = Parsed::new(SignalId(1), &people);
        let text = "Same <mailto:ada@example.org|ada@example.org> <@U024|ada>";
        Said::read(text).unwrap().unwrap().state(Micros(1), PersonId(1), &mut out);
        let FactBody::Identity(fact) = &out.facts[0].body else { panic!("{:?}", out.facts) };
        let slack = people.person(&Account::Login { source: "slack", login: "U024" });
        assert_eq!((fact.person, fact.other), (people.person(&Account::Email("Ada@example.org")), slack));
        assert!(fact.same);
        assert!(out.names.is_empty(), "of an account that is only spoken of nothing is known");
        assert!(TOOLS.iter().all(|tool| super::super::by_name(tool).is_some()));
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
            ("same ada@example.org", "needs two accounts"),
            ("same ada@example.org github:ada jira:ada", "needs two accounts"),
            ("same ada@example.org mastodon:ada", "is no account"),
            ("same ada@example.org github:", "is no account"),
            ("different ada bob", "is no account"),
            ("same Ada@example.org <mailto:ada@example.org|ada@example.org>", "one account twice"),
        ] {
            assert!(said(text).contains(part), "{text}: {}", said(text));
        }
        assert!(Report::build(Verb::Done, "PROJ-1", None, Some("production")).is_err());
        assert!(Report::build(Verb::Done, "PROJ-1", Some(SHA), None).is_err());
        assert!(Report::build(Verb::Confirm, "PROJ-1", None, None).is_err());
        assert!(Report::build(Verb::Done, &"A".repeat(600), None, None).is_err());
    }
}
