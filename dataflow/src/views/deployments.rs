//! What was deployed where, when, and did it work?
//!
//! Grain: one row a deployment. Key: `deployment`. Inputs: deployment facts. Keeps I3: the latest version holds.

use std::sync::Arc;

use flowsync_schemas::{
    Birth, EntityId, EntityKind, Micros, PersonId, Record, SignalId, TableSpec, Text, ViewSpec,
    fact::{DeploymentFact, RunState},
};

use crate::{
    cx::Cx,
    ops::{Arranged, Version, id, latest},
};

/// The view.
pub static VIEW: ViewSpec = ViewSpec {
    table: TableSpec {
        name: "deployments",
        version: 1,
        key: &["deployment"],
        columns: || DeploymentRow::COLUMNS.to_vec(),
        birth: Birth::Dated("created_at"),
        doc: "Deployments and their outcome; one row a deployment.",
    },
    oracle: "
        with versions as (
            select *, row_number() over (partition by deployment order by at desc, signal desc, seq desc) as age
            from fact_deployments
        )
        select deployment, repo, sha, environment, state, creator, created_at, finished_at, url, signal
        from versions where age = 1 and not deleted",
    why: "select signal, at, state, deleted from fact_deployments where deployment = $1 order by at",
};

/// One deployment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Record)]
pub struct DeploymentRow {
    /// Native id.
    pub deployment: Text,
    /// Repository.
    pub repo: Text,
    /// Deployed commit.
    pub sha: Text,
    /// Environment as the tool names it.
    pub environment: Text,
    /// Outcome so far: pending, running, succeeded, failed, cancelled.
    pub state: RunState,
    /// Who started it, by pseudonym.
    pub creator: Option<PersonId>,
    /// When it was started.
    pub created_at: Option<Micros>,
    /// When it ended.
    pub finished_at: Option<Micros>,
    /// Where to open it.
    pub url: Option<Text>,
    /// The signal that states this version.
    pub signal: SignalId,
}

/// The latest undeleted versions.
pub fn define<'s>(cx: &mut Cx<'s>) -> Arranged<'s, EntityId, Version<Arc<DeploymentFact>>> {
    let versions = cx.facts.deployments.clone().map(|v| (id(EntityKind::DeploymentEvent, &v.value.deployment), v));
    latest(versions, |v| v.deleted)
}

/// Installs the view.
pub fn install(cx: &mut Cx<'_>) {
    let rows = cx.deployments().as_collection(|_, v| {
        let d = DeploymentFact::clone(&v.value);
        DeploymentRow {
            deployment: d.deployment,
            repo: d.repo,
            sha: d.sha,
            environment: d.environment,
            state: d.state,
            creator: d.creator,
            created_at: d.created_at,
            finished_at: d.finished_at,
            url: d.url,
            signal: v.signal,
        }
    });
    cx.emit(&VIEW.table, rows);
}
