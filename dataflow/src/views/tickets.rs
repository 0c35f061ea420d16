//! Which tickets are there, and what does their tracker say of them now?
//!
//! Grain: one row a ticket. Key: `ticket_key`. Inputs: ticket facts of every tracker. A ticket that its tracker deleted or
//! moved away is gone. Keeps I3: the latest version holds, by the tracker's clock, then by signal id.

use std::sync::Arc;

use flowsync_schemas::{
    Birth, EntityId, EntityKind, Micros, PersonId, Record, SignalId, TableSpec, Text, ViewSpec,
    fact::{Progress, TicketFact},
};

use crate::{
    cx::Cx,
    ops::{Coll, Version, distinct, id, latest},
};

/// The view.
pub static VIEW: ViewSpec = ViewSpec {
    table: TableSpec {
        name: "tickets",
        version: 1,
        key: &["ticket_key"],
        columns: || TicketRow::COLUMNS.to_vec(),
        birth: Birth::Dated("created_at"),
        doc: "Tickets as their trackers show them now; one row a ticket.",
    },
    oracle: "
        with versions as (
            select *, row_number() over (partition by ticket_key order by at desc, signal desc, seq desc) as age
            from fact_tickets
        )
        select ticket_key, project, title, kind, status, progress, priority, labels, reporter, assignee, parent_key,
               estimate_secs, created_at, resolved_at, at as updated_at, url, signal
        from versions where age = 1 and not deleted",
    why: "select signal, at, title, status, deleted from fact_tickets where ticket_key = $1 order by at",
};

/// One ticket.
#[derive(Clone, Debug, PartialEq, Eq, Record)]
pub struct TicketRow {
    /// Key, such as `SHOP-12` or `owner/repo#12`.
    pub ticket_key: Text,
    /// Project key, or `owner/repo`.
    pub project: Text,
    /// Summary.
    pub title: Text,
    /// Type as the tracker names it.
    pub kind: Text,
    /// Status as the tracker names it.
    pub status: Text,
    /// Status in FlowSync's steps: todo, in_progress, blocked, done.
    pub progress: Progress,
    /// Priority as the tracker names it.
    pub priority: Option<Text>,
    /// Labels, sorted, separated by commas.
    pub labels: Text,
    /// Who reported it, by pseudonym.
    pub reporter: Option<PersonId>,
    /// Who it is assigned to, by pseudonym.
    pub assignee: Option<PersonId>,
    /// Key of the epic or parent.
    pub parent_key: Option<Text>,
    /// Original estimate.
    #[unit = "seconds"]
    pub estimate_secs: Option<i64>,
    /// When it was created.
    pub created_at: Option<Micros>,
    /// When it was resolved.
    pub resolved_at: Option<Micros>,
    /// The version shown here, by the tracker's clock.
    pub updated_at: Micros,
    /// Where to open it.
    pub url: Option<Text>,
    /// The signal that states this version.
    pub signal: SignalId,
}

/// A ticket by id.
pub type Keyed = (EntityId, Version<Arc<TicketFact>>);

/// The latest undeleted versions.
pub fn define<'s>(cx: &mut Cx<'s>) -> Coll<'s, Keyed> {
    let versions = cx.facts.tickets.clone().map(|v| (id(EntityKind::Ticket, &v.value.ticket_key), v));
    latest(versions).filter(|(_, v)| !v.value.deleted)
}

/// A name that a ticket had before, or its tracker's own id, and the project and key that it has now.
pub type Name = (EntityId, (Text, Text));

/// The names that lead to another key: a ticket that moved keeps its tracker's id, and so what was said of its old key
/// stays with it. A key that some ticket has now is its own.
pub fn names<'s>(cx: &mut Cx<'s>) -> Coll<'s, Name> {
    let versions = cx.facts.tickets.clone().flat_map(|v| {
        let native = v.value.native_id.clone()?;
        let tracked = EntityId::of_parts("tracker id", &[&native]);
        Some((tracked, v.map(|t| (t.project.clone(), t.ticket_key.clone(), native))))
    });
    let current = latest(versions.clone()).map(|(tracked, v)| (tracked, (v.value.0, v.value.1)));
    let used = versions.flat_map(|(tracked, v)| {
        let names = [id(EntityKind::Ticket, &v.value.1), id(EntityKind::Ticket, &v.value.2)];
        names.map(|name| (name, v.clone().map(|_| tracked)))
    });
    let held = distinct(current.clone().map(|(_, (_, key))| id(EntityKind::Ticket, &key)));
    latest(used).map(|(name, v)| (v.value, name)).join(current).map(|(_, named)| named).antijoin(held)
}

/// Installs the view.
pub fn install(cx: &mut Cx<'_>) {
    let rows = cx.tickets().map(|(_, Version { at, signal, value, .. })| {
        let t = Arc::unwrap_or_clone(value);
        TicketRow {
            ticket_key: t.ticket_key,
            project: t.project,
            title: t.title,
            kind: t.kind,
            status: t.status,
            progress: t.progress,
            priority: t.priority,
            labels: t.labels,
            reporter: t.reporter,
            assignee: t.assignee,
            parent_key: t.parent_key,
            estimate_secs: t.estimate_secs,
            created_at: t.created_at,
            resolved_at: t.resolved_at,
            updated_at: at,
            url: t.url,
            signal,
        }
    });
    cx.emit(&VIEW.table, rows);
}
