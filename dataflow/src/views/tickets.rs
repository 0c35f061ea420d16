//! Which tickets are there, and what does their tracker say of them now?
//!
//! Grain: one row a ticket. Key: `ticket_key`. Inputs: ticket facts of every tracker. A ticket that its tracker deleted or
//! moved away is gone. Keeps I3: the latest version holds, by the tracker's clock, then by signal id.

use std::{collections::BTreeMap, sync::Arc};

use flowsync_schemas::{
    Birth, EntityId, EntityKind, Micros, PersonId, Record, SignalId, TableSpec, Text, ViewSpec,
    fact::{Progress, TicketFact},
};
use serde::{Deserialize, Serialize};

use crate::{
    cx::Cx,
    ops::{Arranged, ByKey, Version, id, latest, reduce},
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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Record)]
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

/// The versions of tickets.
pub fn versions<'s>(cx: &mut Cx<'s>) -> Arranged<'s, EntityId, Version<Arc<TicketFact>>> {
    let tickets = cx.facts.tickets.clone();
    tickets.map(|v| (id(EntityKind::Ticket, &v.value.ticket_key), v)).by_key()
}

/// The latest undeleted versions.
pub fn define<'s>(cx: &mut Cx<'s>) -> Arranged<'s, EntityId, Version<Arc<TicketFact>>> {
    latest(cx.ticket_versions(), |v| v.deleted)
}

/// The project and key that a ticket has now.
pub type Named = (Text, Text);

/// What a tracker calls a ticket: project, key, the tracker's own id.
type Calls = (Text, Text, Text);

/// What a name is to one of the tickets that ever had it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Use {
    /// It was its name last in this version; now the ticket is called otherwise.
    Former(Version<Named>),
    /// It is its key.
    Current,
}

/// Names that tickets had before, and their trackers' own ids, where they lead to another key. A ticket that moved keeps its
/// tracker's id, and so what was said of its old key stays with it. A key that some ticket has now is its own.
pub fn names<'s>(cx: &mut Cx<'s>) -> Arranged<'s, EntityId, Named> {
    let versions = cx.facts.tickets.clone().flat_map(|v| {
        let native = v.value.native_id.clone()?;
        let tracked = EntityId::of_parts("tracker id", &[&native]);
        Some((tracked, v.map(|t| (t.project.clone(), t.ticket_key.clone(), native))))
    });
    let uses = reduce(versions, "NamesOfTicket", |_, versions: &[(&Version<Calls>, isize)], out| {
        // Versions sort by age.
        let Some((last, _)) = versions.last() else { return };
        let (project, current, _) = &last.value;
        let mut former = BTreeMap::new();
        for (version, _) in versions {
            let (_, key, native) = &version.value;
            former.insert(key, version);
            // Nobody else's name: it need not change with every version.
            former.entry(native).or_insert(version);
        }
        former.remove(current);
        let named = |v: &Version<Calls>| v.clone().map(|_| (project.clone(), current.clone()));
        let former = former.into_iter().map(|(name, v)| (id(EntityKind::Ticket, name), Use::Former(named(v))));
        out.extend(former.chain([(id(EntityKind::Ticket, current), Use::Current)]).map(|used| (used, 1)));
    });
    reduce(uses.as_collection(|_, used| used.clone()), "TicketNames", |_, uses, out| {
        // Who has it now comes last, before that who had it last.
        if let Some((Use::Former(version), _)) = uses.last() {
            out.push((version.value.clone(), 1));
        }
    })
}

/// Installs the view.
pub fn install(cx: &mut Cx<'_>) {
    let rows = cx.tickets().as_collection(|_, v| {
        let t = TicketFact::clone(&v.value);
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
            updated_at: v.at,
            url: t.url,
            signal: v.signal,
        }
    });
    cx.emit(&VIEW.table, rows);
}
