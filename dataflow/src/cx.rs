//! What a view is installed with.
//!
//! Data flows one way: facts → shared collections → rows. A collection that several views need is defined in the file
//! of the view that it belongs to, and built the first time someone asks for it: the order of [`crate::views::ALL`] does
//! not matter.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use differential_dataflow::input::Input;
use flowsync_schemas::{
    Fact, FactBody, PersonId, Record, Row, TableSpec,
    fact::{
        AccountFact, ActivityFact, CommitFact, DeploymentFact, IdentityFact, IncidentFact, MentionFact,
        PullRequestFact, RejectFact, RelationFact, ReportFact, ReviewFact, SettingFact, SignalFact, TicketFact,
        TraceFact,
    },
    model::Model,
};
use timely::dataflow::{Scope, operators::probe::Handle};

use crate::{
    ops::{ByKey, Coll, Version},
    views,
};

/// An input that the job feeds: one of the kinds of base rows.
pub type Session<D> = differential_dataflow::input::InputSession<u64, D, isize>;

macro_rules! inputs {
    ($($field:ident: $variant:ident($record:ident)),+ $(,)?) => {
        /// The facts that views read, by kind. Facts are wide, and many operators hold them: they share one copy.
        #[derive(Clone)]
        pub struct Facts<'s> {
            $(#[doc = concat!("Versions of `", stringify!($record), "`.")] pub $field: Coll<'s, Version<Arc<$record>>>,)+
            /// Every signal once.
            pub signals: Coll<'s, SignalFact>,
            /// Every rejection once.
            pub rejects: Coll<'s, RejectFact>,
        }

        /// The fact tables that views read: a restart needs no rows of the others.
        pub const TABLES_READ: &[&str] = &[$($record::TABLE),+];

        /// The sessions behind [`Facts`].
        pub struct Inputs {
            $($field: Session<Version<Arc<$record>>>,)+
            signals: Session<SignalFact>,
            rejects: Session<RejectFact>,
        }

        impl Inputs {
            /// New inputs in a scope, and what they feed.
            pub fn new<'s>(scope: Scope<'s, u64>) -> (Self, Facts<'s>) {
                $(let $field = scope.new_collection();)+
                let signals = scope.new_collection();
                let rejects = scope.new_collection();
                (
                    Inputs { $($field: $field.0,)+ signals: signals.0, rejects: rejects.0 },
                    Facts { $($field: $field.1,)+ signals: signals.1, rejects: rejects.1 },
                )
            }

            /// Adds base rows at the current epoch, or takes them back (`diff` −1). Facts of kinds that no view reads yet
            /// are in their tables only.
            pub fn update(
                &mut self,
                facts: impl IntoIterator<Item = Fact>,
                signals: impl IntoIterator<Item = SignalFact>,
                rejects: impl IntoIterator<Item = RejectFact>,
                diff: isize,
            ) {
                for Fact { at, signal, seq, body } in facts {
                    match body {
                        $(FactBody::$variant(value) => {
                            self.$field.update(Version { at, signal, seq, value: Arc::new(value) }, diff);
                        })+
                        FactBody::Build(_) | FactBody::Release(_) | FactBody::Ref(_) | FactBody::Sprint(_) => {}
                    }
                }
                signals.into_iter().for_each(|s| self.signals.update(s, diff));
                rejects.into_iter().for_each(|r| self.rejects.update(r, diff));
            }

            /// Closes all epochs before `time`.
            pub fn advance_to(&mut self, time: u64) {
                $(self.$field.advance_to(time); self.$field.flush();)+
                self.signals.advance_to(time);
                self.signals.flush();
                self.rejects.advance_to(time);
                self.rejects.flush();
            }
        }
    };
}

inputs! {
    tickets: Ticket(TicketFact),
    commits: Commit(CommitFact),
    pull_requests: PullRequest(PullRequestFact),
    reviews: Review(ReviewFact),
    deployments: Deployment(DeploymentFact),
    incidents: Incident(IncidentFact),
    accounts: Account(AccountFact),
    mentions: Mention(MentionFact),
    traces: Trace(TraceFact),
    relations: Relation(RelationFact),
    activities: Activity(ActivityFact),
    reports: Report(ReportFact),
    settings: Setting(SettingFact),
    identities: Identity(IdentityFact),
}

/// Changed rows on their way out: table, row, epoch, difference.
pub type Outbox = Rc<RefCell<Vec<(&'static str, Row, u64, i64)>>>;

/// A collection that is built the first time it is asked for.
macro_rules! shared {
    ($($(#[$meta:meta])* $name:ident: $ty:ty = $define:path),+ $(,)?) => {
        #[derive(Default)]
        struct Shared<'s> { $($name: Option<Coll<'s, $ty>>),+ }

        impl<'s> Cx<'s> {
            $($(#[$meta])*
            pub fn $name(&mut self) -> Coll<'s, $ty> {
                if let Some(built) = &self.shared.$name {
                    return built.clone();
                }
                let built: Coll<'s, $ty> = $define(self);
                self.shared.$name = Some(built.clone());
                built
            })+
        }
    };
}

/// What a view is installed with.
pub struct Cx<'s> {
    /// The facts.
    pub facts: Facts<'s>,
    /// The confidence model.
    pub model: Rc<Model>,
    shared: Shared<'s>,
    activity_by_person: Option<ByKey<'s, PersonId, views::activity::Deed>>,
    evidence_by_pair: Option<ByKey<'s, views::evidence::Pair, views::evidence::EvidenceRow>>,
    commit_versions: Option<views::commits::Versions<'s>>,
    outbox: Outbox,
    probe: Handle<u64>,
}

impl<'s> Cx<'s> {
    /// A context whose rows go to `outbox`; `probe` passes a time when all rows of it have gone there.
    pub fn new(facts: Facts<'s>, model: Model, outbox: Outbox, probe: Handle<u64>) -> Self {
        Self {
            facts,
            model: Rc::new(model),
            shared: Shared::default(),
            activity_by_person: None,
            evidence_by_pair: None,
            commit_versions: None,
            outbox,
            probe,
        }
    }

    /// Activity by account, arranged.
    pub fn activity_by_person(&mut self) -> ByKey<'s, PersonId, views::activity::Deed> {
        if let Some(built) = &self.activity_by_person {
            return built.clone();
        }
        let built = views::activity::by_person(self);
        self.activity_by_person = Some(built.clone());
        built
    }

    /// Versions of commits by id, arranged.
    pub fn commit_versions(&mut self) -> views::commits::Versions<'s> {
        let facts = &self.facts;
        self.commit_versions.get_or_insert_with(|| views::commits::versions(facts)).clone()
    }

    /// Evidence by artifact and ticket, arranged.
    pub fn evidence_by_pair(&mut self) -> ByKey<'s, views::evidence::Pair, views::evidence::EvidenceRow> {
        if let Some(built) = &self.evidence_by_pair {
            return built.clone();
        }
        let built = views::evidence::by_pair(self);
        self.evidence_by_pair = Some(built.clone());
        built
    }

    /// Sends rows to a table.
    pub fn emit<D>(&self, table: &'static TableSpec, rows: Coll<'s, D>)
    where
        D: Record + Clone + 'static,
    {
        let outbox = Rc::clone(&self.outbox);
        let name = table.name;
        let _ = rows
            .inspect_batch(move |_, batch| {
                let mut outbox = outbox.borrow_mut();
                for (row, time, diff) in batch {
                    outbox.push((name, row.clone().into_row(), *time, *diff as i64));
                }
            })
            .probe_with(&self.probe);
    }
}

shared! {
    /// Latest undeleted version of each ticket, by id.
    tickets: views::tickets::Keyed = views::tickets::define,
    /// Names that tickets had before, and the tracker's own ids, with the keys that they have now.
    ticket_names: views::tickets::Name = views::tickets::names,
    /// Each commit that some repository still reaches, by id.
    commits: views::commits::Keyed = views::commits::define,
    /// What the messages of those commits say of other things, by id of the commit.
    traces: views::commits::Trace = views::commits::traces,
    /// Latest undeleted version of each pull request, by id.
    pull_requests: views::pull_requests::Keyed = views::pull_requests::define,
    /// Latest undeleted version of each review, by id.
    reviews: views::reviews::Keyed = views::reviews::define,
    /// Latest undeleted version of each deployment, by id.
    deployments: views::deployments::Keyed = views::deployments::define,
    /// Latest undeleted version of each incident, by id.
    incidents: views::incidents::Keyed = views::incidents::define,
    /// Latest undeleted version of each setting, by name and key.
    settings: views::capitalization::Setting = views::capitalization::settings,
    /// Projects whose keys count.
    known_projects: flowsync_schemas::EntityId = views::evidence::known_projects,
    /// Latest undeleted version of each relation that a tool states.
    relations: views::edges::Relation = views::edges::relations,
    /// Every report, of tickets as they are called now.
    renamed_reports: views::evidence::Renamed = views::evidence::renamed_reports,
    /// Reports in force: the latest of a person on a ticket and artifact.
    reports: views::evidence::Report = views::evidence::reports,
    /// Critical things that people reported.
    claims: views::approvals::Claim = views::approvals::claims,
    /// Reports in force, of those that wait for no second person.
    counting_reports: views::evidence::Report = views::approvals::counting_reports,
    /// What smart commits ask for, by ticket.
    smart_commits: views::ticket_status::Smart = views::ticket_status::smart_commits,
    /// Commits and the pull requests that they are part of.
    parts: views::evidence::Part = views::evidence::parts,
    /// What is stated of links, by tools or people.
    stated_evidence: views::evidence::Stated = views::evidence::stated,
    /// Evidence rows.
    evidence: views::evidence::EvidenceRow = views::evidence::define,
    /// Links with their ids.
    links: views::links::Keyed = views::links::define,
    /// Status rows.
    ticket_status: views::ticket_status::TicketStatusRow = views::ticket_status::define,
    /// Activity rows.
    activity: views::activity::ActivityRow = views::activity::define,
    /// What tools say of accounts, each thing once.
    accounts: flowsync_schemas::fact::AccountFact = views::people::accounts,
    /// Accounts of which some tool says that they are no human's.
    bots: flowsync_schemas::PersonId = views::people::bots,
    /// Statements on accounts in force, by the two accounts.
    identity_statements: views::identity_evidence::Statement = views::identity_evidence::statements,
    /// What ties two accounts together, whatever they worked on.
    resemblances: views::identity_evidence::Resemblance = views::identity_evidence::resemblances,
    /// Other accounts that may be the same person's.
    kin: (flowsync_schemas::PersonId, Vec<flowsync_schemas::PersonId>) = views::identity_evidence::kin,
    /// Reasons to believe that two accounts are one person's, or not.
    identity_reasons: views::identity_evidence::Reason = views::identity_evidence::reasons,
    /// Accounts and the person they belong to.
    identities: views::identities::IdentityRow = views::identities::define,
    /// Accounts that act as the person behind them, or as nobody.
    aliases: views::identities::Alias = views::identities::aliases,
    /// What people say of links, each person once a link.
    verdicts: views::reputation::Verdict = views::reputation::verdicts,
    /// How many people confirm and reject each link.
    tallies: views::reputation::Tally = views::reputation::tallies,
    /// Effort rows.
    effort: views::effort::EffortRow = views::effort::define,
}
