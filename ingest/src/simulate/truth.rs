//! What is so, whatever the tools say: the answers that a reader of the deliveries can be measured against.

use flowsync_schemas::{Day, EntityKind, Micros};
use serde::{Deserialize, Serialize};

/// One thing that is so, at the end of the simulation. As JSON: `{"truth":"link","artifact_kind":"Commit",…}`.
///
/// Tickets go by the key that they had when their story ended; [`Truth::Moved`] and [`Truth::Renamed`] tell of older ones.
/// People go by their first e-mail address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "truth", rename_all = "snake_case")]
pub enum Truth {
    /// An artifact belongs to a ticket. Artifacts of which no link is told belong to none.
    Link {
        /// `Commit` and `PullRequest`; `DesignFile` and `ContentDoc` too, which are addresses that no connector reads yet.
        artifact_kind: EntityKind,
        /// Native id, as the view `links` has it.
        artifact: String,
        /// Key.
        ticket: String,
        /// Whether the artifact itself names the key in the form that tools read, in a delivery that arrives and is in force at
        /// the end. Where not, only other evidence can connect the two.
        stated: bool,
    },
    /// An account is a person's. Told when the account is first named.
    Identity {
        /// Whose.
        person: String,
        /// What it is an account of.
        kind: AccountKind,
        /// E-mail address, login, account id or user id.
        account: String,
    },
    /// An incident was caused by an artifact that had been deployed.
    Cause {
        /// The incident, which is a ticket.
        incident: String,
        /// Kind of the artifact.
        artifact_kind: EntityKind,
        /// Native id.
        artifact: String,
    },
    /// How somebody spent a working day that is over. The shares of a person and a day sum to 10,000; days of absence,
    /// weekends and the unfinished last day have none.
    Effort {
        /// Who.
        person: String,
        /// UTC day.
        day: Day,
        /// For which ticket; none for meetings, mail and everything else.
        ticket: Option<String>,
        /// Share of the day, in basis points.
        share_bps: u32,
    },
    /// The work on a ticket was done, whatever the tracker says.
    Done {
        /// Key.
        ticket: String,
        /// When its last change was merged, or when it was said, where there was nothing to merge.
        at: Micros,
    },
    /// A ticket was deleted.
    Deleted {
        /// Key.
        ticket: String,
        /// When.
        at: Micros,
    },
    /// A ticket was moved to another project.
    Moved {
        /// Key before.
        from: String,
        /// Key since.
        to: String,
        /// When.
        at: Micros,
    },
    /// A project got another key, and with it all its tickets; their numbers stay.
    Renamed {
        /// Project key before.
        from: String,
        /// Project key since.
        to: String,
        /// When.
        at: Micros,
    },
    /// A change was taken back.
    Reverted {
        /// The commit on the main branch that was taken back.
        sha: String,
        /// The commit on the main branch that did it.
        by: String,
    },
    /// A delivery that is signed, and cannot be read.
    Unreadable {
        /// The connector.
        connector: String,
        /// When it arrives.
        at: Micros,
    },
    /// A delivery that the tool did not send.
    Forged {
        /// The connector.
        connector: String,
        /// When it arrives.
        at: Micros,
    },
}

/// What an account is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountKind {
    /// An e-mail address.
    Email,
    /// A login.
    Github,
    /// An account id.
    Jira,
    /// A user id.
    Slack,
}
