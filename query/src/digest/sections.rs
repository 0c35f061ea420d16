//! Which sections each role's digest has, as data: most urgent first.

use super::Role;

/// A section of `digest_items`, by kind.
pub(super) struct Items {
    pub id: &'static str,
    pub title: &'static str,
    /// Kinds of items; with several the line names its kind.
    pub kinds: &'static [&'static str],
    /// What an empty section says.
    pub empty: &'static str,
}

/// One section.
pub(super) enum Part {
    /// Items of some kinds.
    Items(Items),
    /// Counts by project.
    Projects,
    /// Tickets whose tracker and evidence disagree now.
    Disagreements,
    /// Pull requests that nobody reviewed.
    Unreviewed,
    /// Amounts by project, cost centre and classification.
    Capitalization,
    /// How much effort has no ticket.
    Unattributed,
    /// Signals, facts and rejections by connector.
    Integrations,
    /// The commonest reasons of rejection.
    Rejects,
}

const BLOCKED: Items = Items { id: "blocked", title: "Blocked", kinds: &["blocked"], empty: "Nothing was blocked." };
const INCIDENTS: Items = Items {
    id: "incidents",
    title: "Incidents",
    kinds: &["incident_opened", "incident_resolved"],
    empty: "No incidents.",
};
const MERGED: Items = Items { id: "merged", title: "Merged", kinds: &["merged"], empty: "Nothing was merged." };
const DONE: Items = Items { id: "done", title: "Done", kinds: &["done"], empty: "Nothing was finished." };
const STARTED: Items = Items { id: "started", title: "Started", kinds: &["started"], empty: "Nothing was started." };
const MOVED: Items = Items {
    id: "moved",
    title: "Tickets started and done",
    kinds: &["started", "done"],
    empty: "No ticket was started or finished.",
};
const DEPLOYS: Items = Items {
    id: "deployments",
    title: "Deployments",
    kinds: &["deployed", "deploy_failed"],
    empty: "Nothing was deployed.",
};
const DIFFERING: Items = Items {
    id: "disagreements",
    title: "Tracker and evidence disagree",
    kinds: &["disagreement"],
    empty: "Tracker and evidence agree.",
};
const REPORTED: Items = Items {
    id: "reported",
    title: "Reported by hand",
    kinds: &["reported"],
    empty: "No reports. `/flowsync start|done|block|deploy KEY` in Slack makes one.",
};
const PENDING: Items = Items {
    id: "pending",
    title: "Waiting for a second person",
    kinds: &["pending"],
    empty: "Nothing waits for a second person.",
};

/// The sections of a role.
pub(super) fn of(role: Role) -> &'static [Part] {
    use Part::{Capitalization, Disagreements, Integrations, Projects, Rejects, Unattributed, Unreviewed};
    match role {
        Role::Engineer => &[
            Part::Items(INCIDENTS),
            Part::Items(BLOCKED),
            Unreviewed,
            Part::Items(MERGED),
            Part::Items(MOVED),
            Part::Items(DEPLOYS),
            Part::Items(DIFFERING),
            Part::Items(REPORTED),
            Part::Items(PENDING),
        ],
        Role::Designer => &[Part::Items(STARTED), Part::Items(DONE)],
        Role::ProductManager => &[
            Part::Items(BLOCKED),
            Part::Items(PENDING),
            Disagreements,
            Projects,
            Part::Items(DONE),
            Part::Items(STARTED),
            Part::Items(DEPLOYS),
            Part::Items(INCIDENTS),
        ],
        Role::Finance => &[Capitalization, Unattributed, Part::Items(DONE)],
        Role::Admin => &[Integrations, Rejects, Part::Items(INCIDENTS), Part::Items(PENDING), Part::Items(DEPLOYS)],
    }
}

/// A kind of item, in words, for one and for several.
pub(super) fn kind_words(kind: &str) -> (&'static str, &'static str) {
    match kind {
        "merged" => ("merged", "merged"),
        "started" => ("started", "started"),
        "done" => ("done", "done"),
        "blocked" => ("blocked", "blocked"),
        "deployed" => ("deployed", "deployed"),
        "deploy_failed" => ("deployment failed", "deployments failed"),
        "incident_opened" => ("incident opened", "incidents opened"),
        "incident_resolved" => ("incident resolved", "incidents resolved"),
        "disagreement" => ("disagreement", "disagreements"),
        "reported" => ("report", "reports"),
        "pending" => ("waits for a second person", "wait for a second person"),
        _ => ("other", "others"),
    }
}

/// Kinds in the order in which totals name them.
pub(super) const KINDS: [&str; 11] = [
    "incident_opened",
    "incident_resolved",
    "blocked",
    "deploy_failed",
    "deployed",
    "done",
    "merged",
    "started",
    "disagreement",
    "reported",
    "pending",
];
