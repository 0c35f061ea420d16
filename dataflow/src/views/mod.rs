//! Views: one file each, and the list [`ALL`].
//!
//! A view file holds, in this order: the question it answers (`//!`), its [`ViewSpec`] with oracle and why, its row, its
//! definition, its tests. To add a view, copy a neighbour and add two lines here; schemas, tables, documentation, the
//! oracle test and the benchmark follow from the list.

use flowsync_schemas::ViewSpec;

use crate::cx::Cx;

pub mod activity;
pub mod capitalization;
pub mod commits;
pub mod deployments;
pub mod digest_items;
pub mod edges;
pub mod effort;
pub mod evidence;
pub mod identities;
pub mod identity_evidence;
pub mod incidents;
pub mod integration_health;
pub mod links;
pub mod people;
pub mod pull_requests;
pub mod rejects;
pub mod reviews;
pub mod ticket_status;
pub mod tickets;

/// A view and the function that installs it.
pub struct View {
    /// The view as data.
    pub spec: &'static ViewSpec,
    /// Defines the view in a dataflow.
    pub install: for<'s> fn(&mut Cx<'s>),
}

macro_rules! list {
    ($($name:ident),+ $(,)?) => {
        /// Every view, sorted by name. A test holds this list equal to the folder.
        pub static ALL: &[View] = &[$(View { spec: &$name::VIEW, install: |cx| $name::install(cx) }),+];
    };
}

list! {
    activity, capitalization, commits, deployments, digest_items, edges, effort, evidence, identities,
    identity_evidence, incidents, integration_health, links, people, pull_requests, rejects, reviews, ticket_status, tickets,
}

/// Collections that several oracles read and that are no views, as SQL over the fact tables.
pub static ORACLE_HELPERS: &[(&str, &str)] = &[
    (
        "settings_in_force",
        "select name, key, value from (
            select *, row_number() over (partition by name, key order by at desc, signal desc, seq desc) as age
            from fact_settings
        ) where age = 1 and not deleted",
    ),
    (
        "known_projects",
        "select project from tickets
         union
         select key from settings_in_force where name = 'project'",
    ),
    (
        // Names that tickets had before, and their trackers' own ids, with the keys that they have now.
        "ticket_names",
        "with versions as (
            select native_id, ticket_key, project, at, signal, seq from fact_tickets where native_id is not null
        ),
        current as (
            select native_id, ticket_key, project from (
                select *, row_number() over (partition by native_id order by at desc, signal desc, seq desc) as age
                from versions
            ) where age = 1
        ),
        used as (
            select *, row_number() over (partition by name order by at desc, signal desc, seq desc) as age
            from (
                select ticket_key as name, native_id, at, signal, seq from versions
                union all
                select native_id as name, native_id, at, signal, seq from versions
            )
        )
        select u.name, c.project, c.ticket_key
        from used u join current c on u.native_id = c.native_id
        where u.age = 1 and u.name not in (select ticket_key from current)",
    ),
    (
        "reports_in_force",
        "select r.signal, r.seq, r.at, r.person, r.verb, coalesce(n.project, r.project) as project,
                coalesce(n.ticket_key, r.ticket_key) as ticket_key, r.artifact_kind, r.artifact_id, r.environment
         from (
            select *, row_number() over (
                partition by person, ticket_key, artifact_kind, artifact_id order by at desc, signal desc, seq desc) as age
            from fact_reports
         ) r left join ticket_names n on r.ticket_key = n.name
         where age = 1",
    ),
    (
        "relations_in_force",
        "select * from (
            select *, row_number() over (
                partition by edge, src_kind, src_id, dst_kind, dst_id order by at desc, signal desc, seq desc) as age
            from fact_relations
        ) where age = 1 and not deleted",
    ),
    (
        // Versions of commits whose word holds.
        "standing_commits",
        "select distinct f.sha, f.signal
         from fact_commits f
         join (
            select repo, sha from (
                select repo, sha, deleted, row_number() over (
                    partition by repo, sha order by at desc, signal desc, seq desc) as age
                from fact_commits
            ) where age = 1 and not deleted
         ) a on f.repo = a.repo and f.sha = a.sha
         where not f.deleted",
    ),
    (
        "traces_in_force",
        "select distinct t.sha, t.kind, t.target, t.person, t.spent_secs, c.author, c.authored_at, c.committed_at
         from fact_traces t
         join standing_commits s on t.sha = s.sha and t.signal = s.signal
         join commits c on t.sha = c.sha",
    ),
    (
        // What smart commits ask for.
        "smart_commits",
        "select t.sha, t.kind, coalesce(n.ticket_key, t.target) as ticket_key, p.project, t.spent_secs, t.author,
                t.authored_at, t.committed_at
         from traces_in_force t
         left join ticket_names n on t.target = n.name
         join known_projects p on coalesce(n.project, regexp_replace(t.target, '[-#][0-9]+$', '')) = p.project
         where t.kind in ('worklog', 'comment', 'start', 'done')",
    ),
    (
        "identity_statements_in_force",
        "select * from (
            select *, row_number() over (
                partition by reporter, least(person, other), greatest(person, other)
                order by at desc, signal desc, seq desc) as age
            from fact_identities where person <> other
        ) where age = 1",
    ),
];

/// Probability from which on a link is asserted, in basis points: at least as likely as not.
pub const ASSERTED_BPS: i64 = 5_000;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_list_equals_the_folder_and_specs_hold_together() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/views");
        let files: BTreeSet<String> = std::fs::read_dir(folder)
            .expect("the folder of this file")
            .filter_map(|f| f.ok()?.file_name().into_string().ok()?.strip_suffix(".rs").map(str::to_owned))
            .filter(|f| f != "mod")
            .collect();
        let list: BTreeSet<String> = ALL.iter().map(|v| v.spec.table.name.to_owned()).collect();
        assert_eq!(files, list);
        for view in ALL {
            let table = &view.spec.table;
            assert_eq!(table.key_indices().len(), table.key.len(), "{}: a key column is no column", table.name);
            for column in (table.columns)() {
                assert!(!column.doc.is_empty(), "{}.{} has no documentation", table.name, column.name);
            }
            for n in 1..=table.key.len() {
                assert!(view.spec.why.contains(&format!("${n}")), "{}: why does not use ${n}", table.name);
            }
        }
    }
}
