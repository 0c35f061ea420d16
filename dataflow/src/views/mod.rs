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
        "reports_in_force",
        "select * from (
            select *, row_number() over (
                partition by person, ticket_key, artifact_kind, artifact_id order by at desc, signal desc, seq desc) as age
            from fact_reports
        ) where age = 1",
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
