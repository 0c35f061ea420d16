//! Which critical reports wait for a second person, and which have one?
//!
//! Grain: one row a critical thing that somebody reported. Key: `signal`, of the first report of it. Inputs: reports of work,
//! `identities`, `tickets`, settings. What is critical the settings `second_person` say: `deploy` to named environments,
//! `done`, and `reopen`, which is a `start` or `block` on a ticket that is done.
//!
//! The reports on a ticket, in the order of their clocks, are *turns*: reports forward (`done`, `deploy`) until somebody
//! reports back (`start`, `block`), and the other way round. Reports of the same thing in one turn (for `deploy`: to the same
//! environment) stand together: all of them wait until a second person has said the same in that turn. So what was approved
//! before a ticket went back approves nothing after it. A person is one by however many accounts; a bot can be the first,
//! never the second.
//!
//! A ticket is done for `reopen` where its tracker says so since before the report, or where by reports the last turn that
//! counts went forward.
//!
//! What waits has not been said, for `ticket_status` and `digest_items`: the reporter's earlier report still holds. That it
//! was said is work all the same (`activity`), and no report of work speaks for a link (`evidence`); so identity, which
//! knows of work, does not depend on what it decides here. Keeps I3: the order is that of clocks, not of arrival.

use std::collections::BTreeMap;

use flowsync_schemas::{
    Birth, EntityId, EntityKind, Micros, PersonId, Record, SignalId, TableSpec, Text, ViewSpec,
    fact::{Progress, Verb},
    words,
};
use serde::{Deserialize, Serialize};

use crate::{
    cx::Cx,
    ops::{Coll, Version, antijoin, id, left_join, reduce},
    views::evidence::{Report, in_force},
};

/// The view.
pub static VIEW: ViewSpec = ViewSpec {
    table: TableSpec {
        name: "approvals",
        version: 1,
        key: &["signal"],
        columns: || ApprovalRow::COLUMNS.to_vec(),
        birth: Birth::Dated("at"),
        doc: "Reports that need a second person, by the settings, and who that was; one row a critical thing reported.",
    },
    oracle: "
        with claims as (
            select ticket_key, turn, action, environment, min(place) as first_place,
                   min(place) filter (where human and person <> opener) as second_place
            from critical_reports group by ticket_key, turn, action, environment
        )
        select f.signal, f.ticket_key, f.project, f.action, f.environment, f.person as reporter, f.at,
               s.person as second_person, s.at as second_at,
               case when s.person is null then 'pending' else 'approved' end as state
        from claims c
        join critical_reports f on c.ticket_key = f.ticket_key and c.first_place = f.place
        left join critical_reports s on c.ticket_key = s.ticket_key and c.second_place = s.place",
    why: "select a.signal, a.at, a.action as what from approvals a where a.signal = $1
          union all
          select r.signal, r.at, r.verb from fact_reports r join approvals a on r.ticket_key = a.ticket_key
          where a.signal = $1 and r.signal <> $1 and r.at >= a.at and (a.state = 'pending' or r.at <= a.second_at)
            and case when r.verb in ('start', 'block') then 'reopen' else r.verb end = a.action
          union all
          select s.signal, s.at, s.key from fact_settings s where s.name = 'second_person' and $1 is not null",
};

/// The setting whose keys say what is critical: `done`, `reopen`, `deploy:ENVIRONMENT`.
const SETTING: &str = "second_person";

words! {
    /// What is done to a ticket that can be critical.
    pub enum Action {
        /// It was deployed to an environment.
        Deploy = "deploy",
        /// It is done.
        Done = "done",
        /// It was done, and goes on.
        Reopen = "reopen",
    }
}

words! {
    /// Whether a critical report counts.
    pub enum ApprovalState {
        /// It waits for a second person, and does not count.
        Pending = "pending",
        /// A second person said the same: it counts.
        Approved = "approved",
    }
}

/// One critical thing that somebody reported.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Record)]
pub struct ApprovalRow {
    /// The signal of the first report.
    pub signal: SignalId,
    /// The ticket.
    pub ticket_key: Text,
    /// Its project.
    pub project: Text,
    /// deploy, done, reopen.
    pub action: Action,
    /// Environment that was deployed to, in lower case; empty for other actions.
    pub environment: Text,
    /// Who reported first, by identity.
    pub reporter: PersonId,
    /// Clock of the first report.
    pub at: Micros,
    /// The second person, by identity; missing while it waits.
    pub second_person: Option<PersonId>,
    /// Clock of the second person's report.
    pub second_at: Option<Micros>,
    /// pending, approved.
    pub state: ApprovalState,
}

/// A report of work: what is said, of what, by whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Said {
    action: Action,
    environment: Text,
    project: Text,
    ticket_key: Text,
    person: PersonId,
    human: bool,
    /// Whether it needs a second person; for `Reopen`, where the ticket is done.
    critical: bool,
    /// Whether the tracker called the ticket done before.
    after_done: bool,
}

impl Said {
    fn goes_forward(&self) -> bool {
        self.action != Action::Reopen
    }
}

/// Reports of work, by the ticket as it is called now.
fn said<'s>(cx: &mut Cx<'s>) -> Coll<'s, (EntityId, Version<Said>)> {
    let reports = cx.renamed_reports().flat_map(|(_, v)| {
        let action = match v.value.verb {
            Verb::Deploy => Action::Deploy,
            Verb::Done => Action::Done,
            Verb::Start | Verb::Block => Action::Reopen,
            Verb::Confirm | Verb::Reject => return None,
        };
        Some((v.value.person, (action, v)))
    });
    let by_setting = left_join(reports, cx.aliases(), |account, (action, v), alias| {
        let action = *action;
        let said = v.clone().map(|r| Said {
            action,
            environment: match (action, &r.environment) {
                (Action::Deploy, Some(environment)) => environment.to_lowercase().into(),
                _ => "".into(),
            },
            project: r.project.clone(),
            ticket_key: r.ticket_key.clone(),
            person: alias.copied().flatten().unwrap_or(*account),
            human: alias != Some(&None),
            critical: false,
            after_done: false,
        });
        let key = match action {
            Action::Deploy => format!("{action}:{}", said.value.environment).into(),
            Action::Done | Action::Reopen => Text::from(action.word()),
        };
        [(key, said)]
    });
    let settings = cx.settings().flat_map(|((name, key), _)| (&*name == SETTING).then_some((key, ())));
    let by_ticket = left_join(by_setting, settings, |_, v, critical| {
        let mut v = v.clone();
        v.value.critical = critical.is_some();
        [(id(EntityKind::Ticket, &v.value.ticket_key), v)]
    });
    left_join(by_ticket, cx.tickets(), |ticket, v, tracked| {
        let mut v = v.clone();
        let done = tracked.filter(|t| t.value.progress == Progress::Done);
        v.value.after_done = done.is_some_and(|t| t.value.resolved_at.unwrap_or(t.at) < v.at);
        [(*ticket, v)]
    })
}

/// A critical thing that was reported, and the reports of it: signal, and place within it.
pub type Claim = (ApprovalRow, Vec<(SignalId, i64)>);

/// The claims of one ticket, of its reports in the order of their clocks.
fn of_ticket(reports: &[&Version<Said>]) -> Vec<Claim> {
    let mut claims = Vec::new();
    let mut done = false;
    for turn in reports.chunk_by(|a, b| a.value.goes_forward() == b.value.goes_forward()) {
        let mut critical: BTreeMap<(Action, &Text), Vec<&Version<Said>>> = BTreeMap::new();
        let mut counts = false;
        for &report in turn {
            let said = &report.value;
            if said.critical && (said.goes_forward() || done || said.after_done) {
                critical.entry((said.action, &said.environment)).or_default().push(report);
            } else {
                counts = true;
            }
        }
        for reports in critical.into_values() {
            let Some(first) = reports.first() else { continue };
            let second = reports.iter().find(|r| r.value.human && r.value.person != first.value.person);
            counts |= second.is_some();
            let said = &first.value;
            let row = ApprovalRow {
                signal: first.signal,
                ticket_key: said.ticket_key.clone(),
                project: said.project.clone(),
                action: said.action,
                environment: said.environment.clone(),
                reporter: said.person,
                at: first.at,
                second_person: second.map(|r| r.value.person),
                second_at: second.map(|r| r.at),
                state: if second.is_some() { ApprovalState::Approved } else { ApprovalState::Pending },
            };
            claims.push((row, reports.iter().map(|r| (r.signal, r.seq)).collect()));
        }
        if counts {
            done = turn.iter().all(|r| r.value.goes_forward());
        }
    }
    claims
}

/// The claims.
pub fn claims<'s>(cx: &mut Cx<'s>) -> Coll<'s, Claim> {
    let claims = reduce(said(cx), "Claims", |_, reports, out| {
        // Values come sorted: by clock, then by signal.
        let reports: Vec<_> = reports.iter().map(|(report, _)| *report).collect();
        out.extend(of_ticket(&reports).into_iter().map(|claim| (claim, 1)));
    });
    claims.as_collection(|_, claim| claim.clone())
}

/// Reports in force, of those that wait for nobody.
pub fn counting_reports<'s>(cx: &mut Cx<'s>) -> Coll<'s, Report> {
    let waiting =
        cx.claims().flat_map(|(row, reports)| if row.state == ApprovalState::Pending { reports } else { Vec::new() });
    let counting = antijoin(cx.renamed_reports().map(|(name, v)| ((v.signal, v.seq), (name, v))), waiting);
    in_force(counting.map(|(_, report)| report))
}

/// Installs the view.
pub fn install(cx: &mut Cx<'_>) {
    let rows = cx.claims().map(|(row, _)| row);
    cx.emit(&VIEW.table, rows);
}
