//! What holds of every delivery, whatever is in it: asserted by the conformance suite and by the fuzz targets
//! (`ingest/fuzz`), and compiled for these alone.

#![allow(clippy::unwrap_used)]

use flowsync_schemas::{
    Fact, FactBody, Parsed, Pseudonymizer, Value as Cell, connector::REJECTIONS_MAX, fact::FACT_TABLES,
};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::{Verified, by_name, parse};

/// What deliveries are signed with.
pub const SECRET: &[u8] = b"fixture secret of example.org";

/// Longest reason of a rejection.
const REASON_BYTES_MAX: usize = 1_000;

/// Longest answer to a person.
const REPLY_BYTES_MAX: usize = 8_000;

/// Facts and names for a byte of a body: the most is stated by a push of many small commits on a branch that is named
/// after many tickets.
const SAID_PER_BYTE: usize = 4;

/// Columns that name a thing: no fact leaves one of them empty.
const NAMING: &[&str] = &[
    "activity",
    "artifact_id",
    "build",
    "deployment",
    "dst_id",
    "incident",
    "name",
    "native_id",
    "parent_key",
    "project",
    "pull_request",
    "repo",
    "review",
    "sha",
    "sprint",
    "src_id",
    "subject_id",
    "tag",
    "ticket_key",
];

/// Columns called `name` that show something instead of naming it.
const SHOWING: &[&str] = &["fact_accounts.name", "fact_builds.name", "fact_releases.name", "fact_sprints.name"];

/// How a connector's deliveries are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    /// `sha256=` and the HMAC of the body, in this header.
    Sha256(&'static str),
    /// Slack's signature over version, timestamp and body.
    SlackV0,
    /// A bearer token: it says who sends, not what.
    Token,
    /// Made on this machine; nothing sent over HTTP is let in.
    Local,
}

/// How the deliveries of this connector are signed.
pub fn signer(connector: &str) -> Signer {
    match connector {
        "github" => Signer::Sha256("x-hub-signature-256"),
        "jira" => Signer::Sha256("x-hub-signature"),
        "slack" => Signer::SlackV0,
        "manual" => Signer::Token,
        "git" | "settings" => Signer::Local,
        other => panic!("add how {other} is signed to the table of signers"),
    }
}

impl Signer {
    /// The header with the signature.
    pub fn header(self) -> Option<&'static str> {
        match self {
            Signer::Sha256(name) => Some(name),
            Signer::SlackV0 => Some("x-slack-signature"),
            Signer::Token => Some("authorization"),
            Signer::Local => None,
        }
    }

    /// Signs a body, as sent with these headers, with [`SECRET`]: the header to add.
    pub fn sign(self, headers: &[(String, String)], body: &[u8]) -> Option<(String, String)> {
        let hmac = |parts: &[&[u8]]| {
            let mut mac = Hmac::<Sha256>::new_from_slice(SECRET).unwrap();
            parts.iter().for_each(|part| mac.update(part));
            hex::encode(mac.finalize().into_bytes())
        };
        let value = match self {
            Signer::Sha256(_) => format!("sha256={}", hmac(&[body])),
            Signer::SlackV0 => {
                let timestamp = headers.iter().find(|(name, _)| name == "x-slack-request-timestamp").unwrap();
                format!("v0={}", hmac(&[b"v0:", timestamp.1.as_bytes(), b":", body]))
            }
            Signer::Token => format!("Bearer {}", String::from_utf8_lossy(SECRET)),
            Signer::Local => return None,
        };
        self.header().map(|name| (name.to_owned(), value))
    }
}

/// Reads a signal, and asserts what holds of all that can be read.
pub fn read<'a>(verified: &Verified, people: &'a Pseudonymizer) -> Parsed<'a> {
    let parsed = parse(verified, people);
    let again = parse(verified, people);
    assert_eq!(parsed.facts, again.facts, "parse is no pure function");
    assert_eq!(parsed.rejections, again.rejections, "parse is no pure function");
    assert_eq!(parsed.names, again.names, "parse is no pure function");

    let said_max = 64 + SAID_PER_BYTE * verified.signal().body.len();
    let (facts, names) = (parsed.facts.len(), parsed.names.len());
    assert!(facts.max(names) <= said_max, "{facts} facts and {names} names of {said_max}");
    assert!(parsed.rejections.len() <= REJECTIONS_MAX + 1, "{} rejections", parsed.rejections.len());
    for rejection in &parsed.rejections {
        let bytes = rejection.reason.trim().len();
        assert!((1..=REASON_BYTES_MAX).contains(&bytes), "a reason of {bytes} bytes");
    }
    for (place, fact) in parsed.facts.iter().enumerate() {
        assert_eq!((fact.signal, fact.seq), (verified.signal().id, place as i64));
        named(fact);
    }
    mentions_hold(&parsed.facts);
    if let Some(connector) = by_name(&verified.signal().source)
        && let Some(reply) = connector.reply(&parsed)
    {
        let bytes = reply.to_string().len();
        assert!(bytes <= REPLY_BYTES_MAX, "an answer of {bytes} bytes");
    }
    parsed
}

/// A fact survives its row, and what it names has a name.
fn named(fact: &Fact) {
    let table = &FACT_TABLES[fact.table()];
    let row = fact.clone().into_row();
    assert_eq!(Fact::from_row(fact.table(), &row).as_ref(), Ok(fact));
    for (column, cell) in (table.columns)().iter().zip(&row) {
        let shown = SHOWING.contains(&format!("{}.{}", table.name, column.name).as_str());
        if NAMING.contains(&column.name) && !shown {
            assert!(!matches!(cell, Cell::Text(text) if text.is_empty()), "{}.{} is empty", table.name, column.name);
        }
    }
}

/// A mention holds at the version of its artifact that the same signal states.
fn mentions_hold(facts: &[Fact]) {
    let versions: std::collections::HashSet<_> = facts
        .iter()
        .filter_map(|f| match &f.body {
            FactBody::Commit(commit) => Some((f.at, &commit.sha)),
            FactBody::PullRequest(pull) => Some((f.at, &pull.pull_request)),
            _ => None,
        })
        .collect();
    for fact in facts {
        if let FactBody::Mention(mention) = &fact.body {
            let key = (fact.at, &mention.artifact_id);
            assert!(versions.contains(&key), "{mention:?} without a version of its artifact");
        }
    }
}
