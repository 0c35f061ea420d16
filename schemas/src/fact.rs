//! Facts: what a connector reads from a signal. One struct a kind, one table a kind.
//!
//! A fact is never changed. An *entity version* replaces older versions of its entity: the latest `at` wins, then the
//! largest signal id (I3); `deleted` makes the version a tombstone. Everything else is derived by the dataflow.
//! Native ids are those of the tool, so that a reader of the tables can find the thing in the tool.

use crate::{
    id::{EntityKind, PersonId, SignalId, Token},
    record::{Cells, ColumnKind, ColumnSpec, Part, Reader, Record, RecordError, Row, Text, Texts, Value},
    time::Micros,
    view::{Birth, TableSpec},
};

mod base;
mod vocabulary;

pub use base::*;
pub use vocabulary::*;

/// A ticket of a tracker, as of one version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, Record)]
pub struct TicketFact {
    /// Key, such as `SHOP-12` or `owner/repo#12`.
    pub ticket_key: Text,
    /// The tracker's own id, which stays when the key changes. Missing where keys never change.
    pub native_id: Option<Text>,
    /// Project key, or `owner/repo`.
    pub project: Text,
    /// Summary.
    pub title: Text,
    /// Words of the summary, sorted, separated by spaces.
    pub words: Text,
    /// Type as the tracker names it: Bug, Story, Epic, …
    pub kind: Text,
    /// Status as the tracker names it.
    pub status: Text,
    /// Status in FlowSync's steps.
    pub progress: Progress,
    /// Priority as the tracker names it.
    pub priority: Option<Text>,
    /// Labels, sorted, separated by commas.
    pub labels: Text,
    /// Who reported it.
    pub reporter: Option<PersonId>,
    /// Who it is assigned to.
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
    /// Where to open it.
    pub url: Option<Text>,
    /// Whether this version says that the ticket is gone.
    pub deleted: bool,
}

/// A commit as seen in a repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, Record)]
pub struct CommitFact {
    /// Repository, `owner/name` where it is known.
    pub repo: Text,
    /// Full sha.
    pub sha: Text,
    /// Author.
    pub author: Option<PersonId>,
    /// Committer.
    pub committer: Option<PersonId>,
    /// Author's clock.
    pub authored_at: Option<Micros>,
    /// Committer's clock.
    pub committed_at: Option<Micros>,
    /// First line of the message.
    pub subject: Text,
    /// Words of the message, sorted, separated by spaces; `minor:` for a tag that it opens with.
    pub words: Text,
    /// Names of touched files as words, sorted, separated by spaces; empty where the source does not tell.
    pub file_words: Text,
    /// Whole paths of touched files, each as a hash of eight digits: the eight lowest, sorted, separated by spaces. Two commits
    /// that touch the same files keep the same ones.
    pub paths: Text,
    /// Number of parents; more than one is a merge. Missing where the source does not tell.
    #[unit = "commits"]
    pub parent_count: Option<i64>,
    /// Lines added; missing where the source does not tell.
    #[unit = "lines"]
    pub added_lines: Option<i64>,
    /// Lines deleted; missing where the source does not tell.
    #[unit = "lines"]
    pub deleted_lines: Option<i64>,
    /// Files changed.
    #[unit = "files"]
    pub changed_files: Option<i64>,
    /// Whether this version says that no ref of the repository reaches the commit any more.
    pub deleted: bool,
}

/// A pull or merge request, as of one version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, Record)]
pub struct PullRequestFact {
    /// Native id, `owner/repo#number`.
    pub pull_request: Text,
    /// Repository, `owner/name`.
    pub repo: Text,
    /// Number within the repository.
    pub number: i64,
    /// Title.
    pub title: Text,
    /// Words of title and description, sorted, separated by spaces; `minor:` for a tag that the title opens with.
    pub words: Text,
    /// State.
    pub state: PullRequestState,
    /// Whether it is a draft.
    pub draft: bool,
    /// Author.
    pub author: Option<PersonId>,
    /// Branch that it would merge.
    pub head_branch: Text,
    /// Newest commit of that branch.
    pub head_sha: Text,
    /// Branch that it would merge into.
    pub base_branch: Text,
    /// Commit that the merge made.
    pub merge_sha: Option<Text>,
    /// When it was opened.
    pub created_at: Option<Micros>,
    /// When it was merged.
    pub merged_at: Option<Micros>,
    /// When it was closed, merged or not.
    pub closed_at: Option<Micros>,
    /// Lines added.
    #[unit = "lines"]
    pub added_lines: Option<i64>,
    /// Lines deleted.
    #[unit = "lines"]
    pub deleted_lines: Option<i64>,
    /// Files changed.
    #[unit = "files"]
    pub changed_files: Option<i64>,
    /// Where to open it.
    pub url: Option<Text>,
    /// Whether this version says that it is gone.
    pub deleted: bool,
}

/// A review of a pull request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, Record)]
pub struct ReviewFact {
    /// Native id of the review.
    pub review: Text,
    /// The pull request, `owner/repo#number`.
    pub pull_request: Text,
    /// Who reviewed.
    pub reviewer: Option<PersonId>,
    /// Verdict as the tool names it: approved, changes_requested, commented, dismissed.
    pub state: Text,
    /// When it was submitted.
    pub submitted_at: Option<Micros>,
    /// Whether this version says that it is gone.
    pub deleted: bool,
}

/// A deployment, as of one version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, Record)]
pub struct DeploymentFact {
    /// Native id, `owner/repo/deployments/id`.
    pub deployment: Text,
    /// Repository.
    pub repo: Text,
    /// Deployed commit.
    pub sha: Text,
    /// Environment as the tool names it.
    pub environment: Text,
    /// Outcome so far.
    pub state: RunState,
    /// Who started it.
    pub creator: Option<PersonId>,
    /// When it was started.
    pub created_at: Option<Micros>,
    /// When it ended.
    pub finished_at: Option<Micros>,
    /// Where to open it.
    pub url: Option<Text>,
    /// Whether this version says that it is gone.
    pub deleted: bool,
}

/// A run of a build or workflow, as of one version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, Record)]
pub struct BuildFact {
    /// Native id, `owner/repo/runs/id`.
    pub build: Text,
    /// Repository.
    pub repo: Text,
    /// Built commit.
    pub sha: Text,
    /// Branch.
    pub branch: Option<Text>,
    /// Name of the workflow.
    pub name: Text,
    /// Outcome so far.
    pub state: RunState,
    /// When it began.
    pub started_at: Option<Micros>,
    /// When it ended.
    pub finished_at: Option<Micros>,
}

/// An incident, as of one version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, Record)]
pub struct IncidentFact {
    /// Native id; the ticket's key where a tracker holds the incident.
    pub incident: Text,
    /// Title.
    pub title: Text,
    /// Severity as the tool names it.
    pub severity: Option<Text>,
    /// The ticket that stands for it, where there is one.
    pub ticket_key: Option<Text>,
    /// When it began.
    pub opened_at: Option<Micros>,
    /// When it was resolved.
    pub resolved_at: Option<Micros>,
    /// Where to open it.
    pub url: Option<Text>,
    /// Whether this version says that it is gone (or is no incident any more).
    pub deleted: bool,
}

/// A release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, Record)]
pub struct ReleaseFact {
    /// Repository.
    pub repo: Text,
    /// Tag.
    pub tag: Text,
    /// Name shown.
    pub name: Text,
    /// When it was published.
    pub published_at: Option<Micros>,
    /// Whether this version says that it is gone.
    pub deleted: bool,
}

/// A branch or tag, as of one version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, Record)]
pub struct RefFact {
    /// Repository.
    pub repo: Text,
    /// Full name, `refs/heads/main`.
    pub name: Text,
    /// Commit it points to; missing where the source does not tell.
    pub sha: Option<Text>,
    /// Whether this version says that it is gone.
    pub deleted: bool,
}

/// A sprint, as of one version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, Record)]
pub struct SprintFact {
    /// Native id.
    pub sprint: Text,
    /// Name.
    pub name: Text,
    /// State as the tracker names it.
    pub state: Text,
    /// When it starts.
    pub starts_at: Option<Micros>,
    /// When it ends.
    pub ends_at: Option<Micros>,
    /// Whether this version says that it is gone.
    pub deleted: bool,
}

/// An account that a signal names. The name itself is in the identity vault (I8).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, Record)]
pub struct AccountFact {
    /// Pseudonym.
    pub person: PersonId,
    /// The connector that saw it; of a login the tool whose login it is.
    pub source: Text,
    /// `email` or `login`.
    pub kind: Text,
    /// Whether the tool says that it is no human.
    pub bot: bool,
    /// Token of the name shown beside it, where that can be a person's.
    pub name: Option<Token>,
    /// Token of the login, or of the address before the `@`, where it can be a person's own.
    pub handle: Option<Token>,
    /// Another account that the same record of the tool gives to the same person.
    pub same_as: Option<PersonId>,
}

/// A ticket key found in an artifact. Holds as long as the version of the artifact that its signal states.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, Record)]
pub struct MentionFact {
    /// Kind of the artifact.
    pub artifact_kind: EntityKind,
    /// Native id of the artifact.
    pub artifact_id: Text,
    /// Where the key was found.
    pub kind: EvidenceKind,
    /// Project part of the key. Counts only where the project is known.
    pub project: Text,
    /// The key.
    pub ticket_key: Text,
}

/// What a commit's message says of something else. Holds as long as the version of the commit that its signal states.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, Record)]
pub struct TraceFact {
    /// The commit.
    pub sha: Text,
    /// What is said.
    pub kind: TraceKind,
    /// Of what: a pull request, a sha, a ticket key; empty where it is a person.
    pub target: Text,
    /// Who wrote it as well.
    pub person: Option<PersonId>,
    /// Time worked on the ticket.
    #[unit = "seconds"]
    pub spent_secs: Option<i64>,
}

/// A relation that a tool states, as of one version. Its identity is edge, source and target.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, Record)]
pub struct RelationFact {
    /// Kind of edge.
    pub edge: EdgeKind,
    /// Kind of the source.
    pub src_kind: EntityKind,
    /// Native id of the source.
    pub src_id: Text,
    /// Kind of the target.
    pub dst_kind: EntityKind,
    /// Native id of the target.
    pub dst_id: Text,
    /// Whether this version says that it is gone.
    pub deleted: bool,
}

/// A dated action of a person on a ticket or an artifact, as of one version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, Record)]
pub struct ActivityFact {
    /// Native id, unique within its kind.
    pub activity: Text,
    /// Kind.
    pub kind: ActivityKind,
    /// Who acted; missing on a tombstone.
    pub person: Option<PersonId>,
    /// Kind of what was acted on.
    pub subject_kind: EntityKind,
    /// Native id of what was acted on.
    pub subject_id: Text,
    /// When it happened.
    pub acted_at: Micros,
    /// Time that the person stated.
    #[unit = "seconds"]
    pub spent_secs: Option<i64>,
    /// What changed, for a transition: `To Do → In Progress`.
    pub detail: Option<Text>,
    /// Whether this version says that it is gone.
    pub deleted: bool,
}

/// What a person reported by hand. Its identity is its signal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, Record)]
pub struct ReportFact {
    /// Who reported.
    pub person: PersonId,
    /// What.
    pub verb: Verb,
    /// Project part of the ticket's key.
    pub project: Text,
    /// The ticket.
    pub ticket_key: Text,
    /// Kind of the artifact that is confirmed or rejected.
    pub artifact_kind: Option<EntityKind>,
    /// Native id of the artifact that is confirmed or rejected.
    pub artifact_id: Option<Text>,
    /// Environment that was deployed to.
    pub environment: Option<Text>,
}

/// What a person says of two accounts. Of one reporter on two accounts, in either order, the latest holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, Record)]
pub struct IdentityFact {
    /// Who says it.
    pub reporter: PersonId,
    /// The account named first: where they are different people's, the one that is taken out.
    pub person: PersonId,
    /// The other account.
    pub other: PersonId,
    /// Whether they are one person's.
    pub same: bool,
}

/// One setting, as of one version. Settings are signals, so that a result can be reproduced (I3, I7).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, Record)]
pub struct SettingFact {
    /// What is set: `project`, `cost_centre`, `day_rate`, `capitalize`, …
    pub name: Text,
    /// For which key; empty for all.
    pub key: Text,
    /// The value.
    pub value: Text,
    /// Whether this version takes the setting back.
    pub deleted: bool,
}

/// One fact and the signal that states it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Fact {
    /// The signal.
    pub signal: SignalId,
    /// Number within the signal, from 0.
    pub seq: i64,
    /// The tool's version or clock of the fact.
    pub at: Micros,
    /// What is stated.
    pub body: FactBody,
}

const META: [ColumnSpec; 3] = [
    ColumnSpec {
        name: "signal",
        kind: ColumnKind::Text,
        nullable: false,
        unit: "",
        doc: "The signal that states the fact.",
    },
    ColumnSpec {
        name: "seq",
        kind: ColumnKind::Int,
        nullable: false,
        unit: "",
        doc: "Number of the fact within its signal, from 0.",
    },
    ColumnSpec {
        name: "at",
        kind: ColumnKind::Timestamp,
        nullable: false,
        unit: "",
        doc: "The tool's version or clock: of two versions of one thing the later one holds, then the larger signal.",
    },
];

fn with_meta(columns: &[ColumnSpec]) -> Vec<ColumnSpec> {
    META.iter().chain(columns).copied().collect()
}

macro_rules! fact_kinds {
    ($($variant:ident($record:ident) = $table:literal version $version:literal, $doc:literal;)+) => {
        /// What a fact states.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum FactBody { $(#[doc = $doc] $variant($record)),+ }

        /// The tables of facts, in the order of [`FactBody`]'s variants.
        pub static FACT_TABLES: &[TableSpec] = &[$(TableSpec {
            name: $table,
            version: $version,
            key: &["signal", "seq"],
            columns: || with_meta($record::COLUMNS),
            birth: Birth::Dated("at"),
            doc: $doc,
        }),+];

        $(impl $record {
            /// The table of these facts.
            pub const TABLE: &'static str = $table;
        })+

        impl Fact {
            /// Index of the fact's table in [`FACT_TABLES`].
            pub fn table(&self) -> usize {
                self.body.table()
            }

            /// Lets equal texts be one.
            pub fn share(&mut self, texts: &mut Texts) {
                match &mut self.body { $(FactBody::$variant(body) => body.share(texts)),+ }
            }

            /// The fact as a row of its table.
            pub fn into_row(self) -> Row {
                let mut out = vec![
                    crate::record::Field::into_value(self.signal),
                    Value::Int(self.seq),
                    Value::Int(self.at.0),
                ];
                match self.body { $(FactBody::$variant(body) => body.push_values(&mut out)),+ }
                out.into_boxed_slice()
            }

            /// A row of the fact table with this index, read back.
            ///
            /// # Errors
            /// Where the row does not fit the table.
            pub fn from_row(table: usize, row: &[Value]) -> Result<Self, RecordError> {
                Self::from_cells(table, &row, &mut Texts::of_places(0))
            }

            /// The same from where it lies. What is one of `texts` is that one.
            ///
            /// # Errors
            /// As [`Fact::from_row`].
            pub fn from_cells(table: usize, cells: &dyn Cells, texts: &mut Texts) -> Result<Self, RecordError> {
                let readers: &[(&str, fn(&dyn Cells, &mut Texts) -> Result<FactBody, RecordError>)] = &[$((
                    stringify!($variant),
                    |cells, texts| $record::from_cells(cells, texts).map(FactBody::$variant),
                )),+];
                let Some((record, read)) = readers.get(table) else {
                    return Err(RecordError::Kind { record: "Fact", column: "table", found: table.to_string() });
                };
                let Some(body) = cells.width().checked_sub(META.len()) else {
                    return Err(RecordError::Width { record, expected: META.len(), found: cells.width() });
                };
                let meta = Part { cells, from: 0, width: META.len() };
                let mut meta = Reader::new(record, &META, &meta, texts)?;
                let (signal, seq, at) = (meta.next()?, meta.next()?, meta.next()?);
                let body = read(&Part { cells, from: META.len(), width: body }, texts)?;
                Ok(Fact { signal, seq, at, body })
            }
        }

        impl FactBody {
            /// Index of the table in [`FACT_TABLES`].
            pub fn table(&self) -> usize {
                #[allow(non_camel_case_types)]
                enum Index { $($variant),+ }
                match self { $(FactBody::$variant(_) => Index::$variant as usize),+ }
            }
        }
    };
}

fact_kinds! {
    Ticket(TicketFact) = "fact_tickets" version 3, "Versions of tickets.";
    Commit(CommitFact) = "fact_commits" version 3, "Commits as repositories show them.";
    PullRequest(PullRequestFact) = "fact_pull_requests" version 2, "Versions of pull requests.";
    Review(ReviewFact) = "fact_reviews" version 1, "Versions of reviews.";
    Deployment(DeploymentFact) = "fact_deployments" version 1, "Versions of deployments.";
    Build(BuildFact) = "fact_builds" version 1, "Versions of builds and workflow runs.";
    Incident(IncidentFact) = "fact_incidents" version 1, "Versions of incidents.";
    Release(ReleaseFact) = "fact_releases" version 1, "Versions of releases.";
    Ref(RefFact) = "fact_refs" version 1, "Versions of branches and tags.";
    Sprint(SprintFact) = "fact_sprints" version 1, "Versions of sprints.";
    Account(AccountFact) = "fact_accounts" version 2, "Accounts that signals name, by pseudonym.";
    Mention(MentionFact) = "fact_mentions" version 1, "Ticket keys found in artifacts.";
    Trace(TraceFact) = "fact_traces" version 1, "What commit messages say of other things.";
    Relation(RelationFact) = "fact_relations" version 1, "Relations that tools state.";
    Activity(ActivityFact) = "fact_activities" version 1, "Dated actions of persons.";
    Report(ReportFact) = "fact_reports" version 1, "What persons reported by hand.";
    Setting(SettingFact) = "fact_settings" version 1, "Settings: known projects, rates, policy rules.";
    Identity(IdentityFact) = "fact_identities" version 1, "What persons say of two accounts: one person's, or not.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_survives_its_row() {
        let fact = Fact {
            signal: SignalId(7),
            seq: 2,
            at: Micros(9),
            body: FactBody::Setting(SettingFact {
                name: "project".into(),
                key: "SHOP".into(),
                value: "".into(),
                deleted: false,
            }),
        };
        let table = fact.table();
        assert_eq!(FACT_TABLES[table].name, "fact_settings");
        let row = fact.clone().into_row();
        assert_eq!(row.len(), (FACT_TABLES[table].columns)().len());
        assert_eq!(Fact::from_row(table, &row), Ok(fact));
        assert!(Fact::from_row(table, &row[1..]).is_err());
        assert!(Fact::from_row(99, &row).is_err());
    }
}
