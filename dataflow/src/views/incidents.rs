//! What broke, when, and is it resolved?
//!
//! Grain: one row an incident. Key: `incident`. Inputs: incident facts. Keeps I3: the latest version holds.

use std::sync::Arc;

use flowsync_schemas::{
    Birth, EntityId, EntityKind, Micros, Record, SignalId, TableSpec, Text, ViewSpec, fact::IncidentFact,
};

use crate::{
    cx::Cx,
    ops::{Arranged, Version, id, latest},
};

/// The view.
pub static VIEW: ViewSpec = ViewSpec {
    table: TableSpec {
        name: "incidents",
        version: 1,
        key: &["incident"],
        columns: || IncidentRow::COLUMNS.to_vec(),
        birth: Birth::Dated("opened_at"),
        doc: "Incidents as their tools show them now; one row an incident.",
    },
    oracle: "
        with versions as (
            select *, row_number() over (partition by incident order by at desc, signal desc, seq desc) as age
            from fact_incidents
        )
        select incident, title, severity, ticket_key, opened_at, resolved_at, url, signal
        from versions where age = 1 and not deleted",
    why: "select signal, at, title, deleted from fact_incidents where incident = $1 order by at",
};

/// One incident.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Record)]
pub struct IncidentRow {
    /// Native id; the ticket's key where a tracker holds the incident.
    pub incident: Text,
    /// Title.
    pub title: Text,
    /// Severity as the tool names it.
    pub severity: Option<Text>,
    /// The ticket that stands for it.
    pub ticket_key: Option<Text>,
    /// When it began.
    pub opened_at: Option<Micros>,
    /// When it was resolved.
    pub resolved_at: Option<Micros>,
    /// Where to open it.
    pub url: Option<Text>,
    /// The signal that states this version.
    pub signal: SignalId,
}

/// The latest undeleted versions.
pub fn define<'s>(cx: &mut Cx<'s>) -> Arranged<'s, EntityId, Version<Arc<IncidentFact>>> {
    let versions = cx.facts.incidents.clone().map(|v| (id(EntityKind::Incident, &v.value.incident), v));
    latest(versions, |v| v.deleted)
}

/// Installs the view.
pub fn install(cx: &mut Cx<'_>) {
    let rows = cx.incidents().as_collection(|_, v| {
        let i = IncidentFact::clone(&v.value);
        IncidentRow {
            incident: i.incident,
            title: i.title,
            severity: i.severity,
            ticket_key: i.ticket_key,
            opened_at: i.opened_at,
            resolved_at: i.resolved_at,
            url: i.url,
            signal: v.signal,
        }
    });
    cx.emit(&VIEW.table, rows);
}
