//! The digest: what happened, for one role, as one typed document that renders as Markdown, HTML and JSON.
//!
//! 1. Every line carries how sure it is and the way to its evidence (I7).
//! 2. All of it comes from one snapshot (I4). "Now" is decided here, never in a view.
//! 3. It reports work, it does not compare people: nothing is counted or sorted by person.
//! 4. An empty section says so, and what to do about it.
//!
//! It knows views by their columns; not HTTP (but for its routes), and not how views are computed.

mod build;
mod html;
mod markdown;
mod routes;
mod sections;

use std::sync::Arc;

use flowsync_schemas::{Epoch, Micros, PersonId, words};
use serde::{Serialize, Serializer};

pub(crate) use self::routes::{parameters, role as request_role, time as request_time};
pub use self::{
    build::digest,
    html::html,
    markdown::markdown,
    routes::{DigestState, digest_routes},
};
use crate::reports::format;

words! {
    /// Who a digest is for.
    pub enum Role {
        /// Writes and reviews code.
        Engineer = "engineer",
        /// Designs.
        Designer = "designer",
        /// Plans.
        ProductManager = "product_manager",
        /// Accounts.
        Finance = "finance",
        /// Runs FlowSync.
        Admin = "admin",
    }
}

/// Looks a person's name up in the identity vault; `None` where it has none.
pub type Names = Arc<dyn Fn(PersonId) -> Option<String> + Send + Sync>;

/// For callers without an identity vault.
pub fn no_names() -> Names {
    Arc::new(|_| None)
}

/// What a digest covers unless the caller says otherwise.
pub const DEFAULT_DAYS: i64 = 7;
/// Lines a section shows unless the caller says otherwise.
pub const DEFAULT_LINES: usize = 20;
/// Lines a section shows at most (I9).
pub const MAX_LINES: usize = 500;

/// What to make a digest of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DigestRequest {
    /// For whom.
    pub role: Role,
    /// From when on; by default [`DEFAULT_DAYS`] before `until`.
    pub since: Option<Micros>,
    /// Up to when (exclusive); by default now.
    pub until: Option<Micros>,
    /// Lines of a section at most; 1 to [`MAX_LINES`].
    pub limit: usize,
}

impl DigestRequest {
    /// The newest days, for a role.
    pub const fn new(role: Role) -> Self {
        Self { role, since: None, until: None, limit: DEFAULT_LINES }
    }
}

/// A digest. Its JSON is a public format: fields are added, not changed, while `format` stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Digest {
    /// Version of this document.
    pub format: u32,
    /// For whom.
    pub role: Role,
    /// From when on.
    #[serde(serialize_with = "rfc3339")]
    pub since: Micros,
    /// Up to when, exclusive.
    #[serde(serialize_with = "rfc3339")]
    pub until: Micros,
    /// The epoch that it was computed at.
    pub epoch: Epoch,
    /// One sentence with the totals.
    pub headline: String,
    /// The totals.
    pub totals: Vec<Total>,
    /// What needs somebody's attention now.
    pub alerts: Vec<String>,
    /// The sections, most urgent first.
    pub sections: Vec<Section>,
    /// What to know when reading it; what to do where there is nothing to read.
    pub notes: Vec<String>,
}

impl Digest {
    /// The format that this build writes.
    pub const FORMAT: u32 = 1;

    /// The digest as JSON.
    pub fn json(&self) -> String {
        #[allow(clippy::expect_used)] // Strings, integers and lists: nothing in it can fail to be written.
        let mut text = serde_json::to_string_pretty(self).expect("a digest is plain data");
        text.push('\n');
        text
    }
}

/// One total.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Total {
    /// What is counted.
    pub label: &'static str,
    /// How many.
    pub count: i64,
}

/// A titled list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Section {
    /// Stable name.
    pub id: &'static str,
    /// Title.
    pub title: String,
    /// The lines that are shown.
    pub lines: Vec<Line>,
    /// How many more there are.
    pub more: i64,
    /// Why there are no lines, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub empty: Option<String>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// When it happened.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rfc3339_opt")]
    pub at: Option<Micros>,
    /// What happened, in a word; empty where the section says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The ticket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket_key: Option<String>,
    /// Native id of the thing, in its tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Its title, as the tool has it.
    pub title: String,
    /// More, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Who did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person: Option<Person>,
    /// How sure it is.
    pub certainty: Certainty,
    /// The way to its evidence.
    pub evidence: Evidence,
}

/// A person: a pseudonym, and the name where the identity vault has one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Person {
    /// The pseudonym, 32 hexadecimal digits.
    pub id: String,
    /// The name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Person {
    pub(crate) fn of(id: PersonId, names: &Names) -> Self {
        Self { id: id.to_string(), name: names(id) }
    }

    /// The name, or the start of the pseudonym.
    pub fn shown(&self) -> String {
        match &self.name {
            Some(name) => format::one_line(name, 60),
            None => format!("person {}…", self.id.get(..4).unwrap_or_default()),
        }
    }
}

/// How sure a line is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Certainty {
    /// The tool that owns it says so, or a person did.
    Stated,
    /// Counted from what was received.
    Counted,
    /// Inferred.
    Estimated {
        /// Probability.
        confidence_bps: i64,
        /// Low end of its band.
        low_bps: i64,
        /// High end of its band.
        high_bps: i64,
    },
    /// A quantity whose inputs are inferred.
    Range {
        /// Its unit: a currency, or `person-days`.
        unit: String,
        /// Low end, as decimal text.
        low: String,
        /// Expected.
        expected: String,
        /// High end.
        high: String,
    },
}

impl Certainty {
    pub(crate) fn of(confidence_bps: i64, low_bps: i64, high_bps: i64) -> Self {
        if low_bps >= 10_000 { Self::Stated } else { Self::Estimated { confidence_bps, low_bps, high_bps } }
    }

    /// As a reader sees it: `stated`, `97 % (94–99)`, `EUR 1,200.00 (1,100.00–1,300.00)`.
    pub fn shown(&self) -> String {
        match self {
            Self::Stated => "stated".to_owned(),
            Self::Counted => "counted".to_owned(),
            Self::Estimated { confidence_bps, low_bps, high_bps } => {
                let [c, l, h] = [*confidence_bps, *low_bps, *high_bps].map(format::percent);
                format!("{c} % ({l}–{h})")
            }
            Self::Range { unit, low, expected, high } if unit.contains('-') => {
                format!("{expected} {unit} ({low}–{high})")
            }
            Self::Range { unit, low, expected, high } => format!("{unit} {expected} ({low}–{high})"),
        }
    }
}

/// The way from a line to what it rests on (I7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Evidence {
    /// One row of a view: ask for the signals behind it.
    Row {
        /// The view.
        view: String,
        /// The row's key.
        key: String,
        /// Path of the HTTP interface.
        path: String,
        /// The command that shows the same.
        command: String,
    },
    /// Several rows: a query lists them.
    Query {
        /// The query.
        sql: String,
        /// The command that runs it.
        command: String,
    },
}

impl Evidence {
    pub(crate) fn row(view: &str, key: &str) -> Self {
        Self::Row {
            view: view.to_owned(),
            key: key.to_owned(),
            path: format!("/api/why/{}/{}", format::path_segment(view), format::path_segment(key)),
            command: format!("flowsync why {} {}", format::shell_word(view), format::shell_word(key)),
        }
    }

    pub(crate) fn query(sql: String) -> Self {
        let command = format!("flowsync sql {}", format::shell_word(&sql));
        Self::Query { sql, command }
    }

    /// Path of the HTTP interface, where there is one.
    pub fn path(&self) -> Option<&str> {
        if let Self::Row { path, .. } = self { Some(path) } else { None }
    }

    /// The command that shows the evidence.
    pub fn command(&self) -> &str {
        let (Self::Row { command, .. } | Self::Query { command, .. }) = self;
        command
    }
}

fn rfc3339<S: Serializer>(at: &Micros, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(at)
}

fn rfc3339_opt<S: Serializer>(at: &Option<Micros>, to: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => rfc3339(at, to),
        None => to.serialize_none(),
    }
}

#[cfg(test)]
mod tests;
