//! What a view is installed with.
//!
//! Data flows one way: facts → shared collections → rows. A collection that several views need is defined in the file
//! of the view that it belongs to, and built the first time someone asks for it: the order of [`crate::views::ALL`] does
//! not matter.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, sync::Arc};

use differential_dataflow::input::Input;
use flowsync_schemas::{
    EntityId, Fact, FactBody, PersonId, Record, Row, RowBytes, RowsDigest, TableSpec,
    fact::{
        AccountFact, ActivityFact, CommitFact, DeploymentFact, IdentityFact, IncidentFact, MentionFact,
        PullRequestFact, RejectFact, RelationFact, ReportFact, ReviewFact, SettingFact, SignalFact, TicketFact,
        TraceFact,
    },
    model::Model,
};
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        Scope,
        channels::pact::Pipeline,
        operators::{
            Operator,
            probe::{Handle, Probe},
        },
    },
};

use crate::{
    ops::{Arranged, Coll, Version},
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
            /// are in their tables only. Of equal texts one copy should be left by now: rows are long-lived.
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

/// A changed row on its way out: table, row, epoch, difference.
pub type Changed = (&'static str, Row, u64, i64);

/// The views of an epoch of which all rows are known elsewhere: what comes of them is summed, not kept.
#[derive(Debug)]
pub struct Summing {
    /// The epoch.
    pub epoch: u64,
    /// The views that this holds for.
    pub digests: BTreeMap<&'static str, RowsDigest>,
}

/// What is on its way out of a worker.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Changed rows.
    pub rows: Vec<Changed>,
    /// Until the epoch is closed that a job was brought to.
    pub summing: Option<Summing>,
    bytes: RowBytes,
}

impl Outbox {
    /// Takes a row.
    pub fn put(&mut self, table: &'static str, row: impl Record, epoch: u64, diff: i64) {
        let summing = self.summing.as_mut().filter(|summing| summing.epoch == epoch);
        let Some(digest) = summing.and_then(|summing| summing.digests.get_mut(table)) else {
            return self.rows.push((table, row.into_row(), epoch, diff));
        };
        self.bytes.clear();
        row.push_bytes(&mut self.bytes);
        digest.add(&self.bytes, diff);
    }
}

/// What is built the first time it is asked for.
macro_rules! shared {
    ($($(#[$meta:meta])* $name:ident: $ty:ty = $define:path),+ $(,)?) => {
        #[derive(Default)]
        struct Shared<'s> { $($name: Option<$ty>),+ }

        impl<'s> Cx<'s> {
            $($(#[$meta])*
            pub fn $name(&mut self) -> $ty {
                if let Some(built) = &self.shared.$name {
                    return built.clone();
                }
                let built: $ty = $define(self);
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
    outbox: Rc<RefCell<Outbox>>,
    probe: Handle<u64>,
}

impl<'s> Cx<'s> {
    /// A context whose rows go to `outbox`; `probe` passes a time when all rows of it have gone there.
    pub fn new(facts: Facts<'s>, model: Model, outbox: Rc<RefCell<Outbox>>, probe: Handle<u64>) -> Self {
        Self { facts, model: Rc::new(model), shared: Shared::default(), outbox, probe }
    }

    /// Sends rows to a table.
    pub fn emit<D>(&self, table: &'static TableSpec, rows: Coll<'s, D>)
    where
        D: Record + Clone + 'static,
    {
        let outbox = Rc::clone(&self.outbox);
        let name = table.name;
        let sent = rows.inner.unary::<CapacityContainerBuilder<Vec<()>>, _, _, _>(Pipeline, "Emit", move |_, _| {
            move |input, _| {
                input.for_each(|_, batch| {
                    let mut outbox = outbox.borrow_mut();
                    batch.drain(..).for_each(|(row, time, diff)| outbox.put(name, row, time, diff as i64));
                });
            }
        });
        let _ = sent.probe_with(&self.probe);
    }
}

shared! {
    /// Latest undeleted version of each ticket, by id.
    tickets: Arranged<'s, EntityId, Version<Arc<TicketFact>>> = views::tickets::define,
    /// Versions of tickets by id.
    ticket_versions: Arranged<'s, EntityId, Version<Arc<TicketFact>>> = views::tickets::versions,
    /// Names that tickets had before, and the tracker's own ids, with the keys that they have now.
    ticket_names: Arranged<'s, EntityId, views::tickets::Named> = views::tickets::names,
    /// Each commit that some repository still reaches, by id.
    commits: Arranged<'s, EntityId, views::commits::Known> = views::commits::define,
    /// What the messages of those commits say of other things, by id of the commit.
    traces: Coll<'s, views::commits::Trace> = views::commits::traces,
    /// Versions of commits by id.
    commit_versions: Arranged<'s, EntityId, Version<Arc<CommitFact>>> = views::commits::versions,
    /// Commits that the merge of a pull request brought along.
    brought: Coll<'s, views::commits::Brought> = views::commits::brought,
    /// Latest undeleted version of each pull request, by id.
    pull_requests: Arranged<'s, EntityId, Version<Arc<PullRequestFact>>> = views::pull_requests::define,
    /// Latest undeleted version of each review, by id.
    reviews: Arranged<'s, EntityId, Version<Arc<ReviewFact>>> = views::reviews::define,
    /// Latest undeleted version of each deployment, by id.
    deployments: Arranged<'s, EntityId, Version<Arc<DeploymentFact>>> = views::deployments::define,
    /// Latest undeleted version of each incident, by id.
    incidents: Arranged<'s, EntityId, Version<Arc<IncidentFact>>> = views::incidents::define,
    /// Latest undeleted version of each setting, by name and key.
    settings: Coll<'s, views::capitalization::Setting> = views::capitalization::settings,
    /// Projects whose keys count.
    known_projects: Coll<'s, EntityId> = views::evidence::known_projects,
    /// Latest undeleted version of each relation that a tool states.
    relations: Coll<'s, views::edges::Relation> = views::edges::relations,
    /// Every report, of tickets as they are called now.
    renamed_reports: Coll<'s, views::evidence::Renamed> = views::evidence::renamed_reports,
    /// Reports in force: the latest of a person on a ticket and artifact.
    reports: Coll<'s, views::evidence::Report> = views::evidence::reports,
    /// Critical things that people reported.
    claims: Coll<'s, views::approvals::Claim> = views::approvals::claims,
    /// Reports in force, of those that wait for no second person.
    counting_reports: Coll<'s, views::evidence::Report> = views::approvals::counting_reports,
    /// What smart commits ask for, by ticket.
    smart_commits: Coll<'s, views::ticket_status::Smart> = views::ticket_status::smart_commits,
    /// Commits and the pull requests that they are part of.
    parts: Coll<'s, views::evidence::Part> = views::evidence::parts,
    /// What is stated of links, by tools or people.
    stated_evidence: Arranged<'s, views::evidence::Key, views::evidence::Statement> = views::evidence::stated,
    /// What words, people and time say of links that nothing states.
    inferred_evidence: Coll<'s, crate::unstated::Inferred> = crate::unstated::evidence,
    /// What speaks for links, by artifact.
    reasons: Arranged<'s, EntityId, views::links::Reason> = views::links::reasons,
    /// Links, by artifact.
    links: Arranged<'s, EntityId, views::links::LinkRow> = views::links::define,
    /// Status rows.
    ticket_status: Coll<'s, views::ticket_status::TicketStatusRow> = views::ticket_status::define,
    /// Activity rows.
    activity: Coll<'s, views::activity::ActivityRow> = views::activity::define,
    /// Activity by account.
    activity_by_person: Arranged<'s, PersonId, views::activity::Deed> = views::activity::by_person,
    /// What tools say of accounts, each thing once.
    accounts: Coll<'s, AccountFact> = views::people::accounts,
    /// Accounts of which some tool says that they are no human's.
    bots: Coll<'s, PersonId> = views::people::bots,
    /// Statements on accounts in force, by the two accounts.
    identity_statements: Coll<'s, views::identity_evidence::Statement> = views::identity_evidence::statements,
    /// What ties two accounts together, whatever they worked on.
    resemblances: Arranged<'s, views::identity_evidence::Pair, views::identity_evidence::Resemblance> =
        views::identity_evidence::resemblances,
    /// Other accounts that may be the same person's.
    kin: Arranged<'s, PersonId, Vec<PersonId>> = views::identity_evidence::kin,
    /// Reasons to believe that two accounts are one person's, or not.
    identity_reasons: Coll<'s, views::identity_evidence::Reason> = views::identity_evidence::reasons,
    /// Accounts and the person they belong to.
    identities: Coll<'s, views::identities::IdentityRow> = views::identities::define,
    /// Accounts that act as the person behind them, or as nobody.
    aliases: Arranged<'s, PersonId, views::identities::Alias> = views::identities::aliases,
    /// What people say of links, each person once a link.
    verdicts: Coll<'s, views::reputation::Verdict> = views::reputation::verdicts,
    /// How many people confirm and reject each link.
    tallies: Coll<'s, views::reputation::Tally> = views::reputation::tallies,
    /// Effort rows.
    effort: Coll<'s, views::effort::EffortRow> = views::effort::define,
}
