//! Views: one file each, and the list [`ALL`].
//!
//! A view file holds, in this order: the question it answers (`//!`), its [`ViewSpec`] with oracle and why, its row, its
//! definition, its tests. To add a view, copy a neighbour and add two lines here; schemas, tables, documentation, the
//! oracle test and the benchmark follow from the list.

use flowsync_schemas::ViewSpec;

use crate::cx::Cx;

pub mod activity;
pub mod approvals;
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
pub mod reliability;
pub mod reputation;
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
    activity, approvals, capitalization, commits, deployments, digest_items, edges, effort, evidence, identities,
    identity_evidence, incidents, integration_health, links, people, pull_requests, rejects, reliability, reputation, reviews, ticket_status, tickets,
}

/// Collections that several oracles read and that are no views, as SQL over the fact tables; each reads only what precedes
/// it, and views.
pub fn oracle_helpers() -> impl Iterator<Item = (&'static str, &'static str)> {
    [GENERAL, evidence::HELPERS, identity_evidence::HELPERS, crate::unstated::HELPERS].into_iter().flatten().copied()
}

const GENERAL: &[(&str, &str)] = &[
    (
        // Of each commit that some repository still reaches, the version that tells most.
        "richest_commits",
        "with versions as (
            select *, row_number() over (partition by repo, sha order by at desc, signal desc, seq desc) as age
            from fact_commits
        ),
        alive as (select repo, sha from versions where age = 1 and not deleted)
        select * from (
            select f.*, row_number() over (
                partition by f.sha
                order by (f.added_lines is not null) desc, f.at desc, f.signal desc, f.seq desc) as rank
            from fact_commits f join alive a on f.repo = a.repo and f.sha = a.sha
            where not f.deleted
        ) where rank = 1",
    ),
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
        // Reports that need a second person: see `approvals`. Turns alternate between forward and back, so that a turn back
        // came after one forward where an odd number lies between.
        "critical_reports",
        "with said as (
            select r.signal, r.seq, r.at, coalesce(n.project, r.project) as project,
                   coalesce(n.ticket_key, r.ticket_key) as ticket_key, coalesce(i.identity, r.person) as person,
                   b.person is null as human, r.verb in ('done', 'deploy') as forward,
                   case when r.verb in ('done', 'deploy') then r.verb else 'reopen' end as action,
                   case r.verb when 'deploy' then lower(coalesce(r.environment, '')) else '' end as environment
            from fact_reports r
            left join ticket_names n on r.ticket_key = n.name
            left join identities i on r.person = i.person
            left join (select person from people where bot) b on r.person = b.person
            where r.verb not in ('confirm', 'reject')
         ),
         placed as (
            select s.*, s.at > coalesce(t.resolved_at, t.updated_at) as after_done, c.key is not null as critical,
                   row_number() over (partition by s.ticket_key order by s.at, s.signal, s.seq) as place,
                   lag(s.forward) over (partition by s.ticket_key order by s.at, s.signal, s.seq) as forward_before
            from said s
            left join tickets t on s.ticket_key = t.ticket_key and t.progress = 'done'
            left join (select key from settings_in_force where name = 'second_person') c
                on c.key = case s.action when 'deploy' then 'deploy:' || s.environment else s.action end
         ),
         turned as (
            select *, sum(case when forward = forward_before then 0 else 1 end)
                          over (partition by ticket_key order by place) as turn
            from placed
         ),
         counting as (
            select ticket_key, turn, bool_or(not critical or (human and person <> first_person)) as counts
            from (
                select *, first_value(person) over (
                    partition by ticket_key, turn, action, environment order by place) as first_person
                from turned
            ) group by ticket_key, turn
         ),
         standing as (
            select ticket_key, turn, max(case when counts then turn end) over (
                partition by ticket_key order by turn rows between unbounded preceding and 1 preceding) as counted_turn
            from counting
         )
         select t.*, first_value(t.person) over (
                    partition by t.ticket_key, t.turn, t.action, t.environment order by t.place) as opener
         from turned t join standing s on t.ticket_key = s.ticket_key and t.turn = s.turn
         where t.critical and (t.forward or (t.turn - s.counted_turn) % 2 = 1 or t.after_done)",
    ),
    (
        // Reports in force, of those that wait for no second person.
        "counting_reports",
        "select r.signal, r.seq, r.at, r.person, r.verb, coalesce(n.project, r.project) as project,
                coalesce(n.ticket_key, r.ticket_key) as ticket_key, r.environment
         from (
            select f.*, row_number() over (
                partition by f.person, f.ticket_key, f.artifact_kind, f.artifact_id
                order by f.at desc, f.signal desc, f.seq desc) as age
            from fact_reports f
            left join (
                select signal, seq, max(case when human and person <> opener then 1 else 0 end) over (
                    partition by ticket_key, turn, action, environment) as approved
                from critical_reports
            ) c on f.signal = c.signal and f.seq = c.seq and c.approved = 0
            where c.signal is null
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
        // Commits that the merge of a pull request brought along.
        "brought",
        "select b.target as sha, p.target as pull_request, b.committed_at
         from traces_in_force b join traces_in_force p on b.sha = p.sha
         where b.kind = 'brought' and p.kind = 'pull_request'",
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
        // What people say of links, each person once a link: the latest word, by whichever of their accounts.
        "verdicts",
        "select artifact_kind, artifact_id, ticket_key, person, verb from (
            select r.artifact_kind, r.artifact_id, r.ticket_key, coalesce(i.identity, r.person) as person, r.verb,
                   row_number() over (
                       partition by r.artifact_kind, r.artifact_id, r.ticket_key, coalesce(i.identity, r.person)
                       order by r.at desc, r.signal desc, r.seq desc) as age
            from reports_in_force r left join identities i on r.person = i.person
            where r.verb in ('confirm', 'reject') and r.artifact_id is not null
              and r.person not in (select person from people where bot)
        ) where age = 1",
    ),
    (
        "tallies",
        "select artifact_kind, artifact_id, ticket_key, count(*) filter (where verb = 'confirm') as confirmed,
                count(*) filter (where verb = 'reject') as rejected
         from verdicts group by artifact_kind, artifact_id, ticket_key",
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
