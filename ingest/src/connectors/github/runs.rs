//! GitHub's events of what is run and shipped: deployments, workflow runs, releases.
//!
//! A function that returns `None` early has rejected what it lacks; what it stated before is sound and stays (I10).

use flowsync_schemas::{
    FactBody, Micros, Text,
    fact::{BuildFact, DeploymentFact, ReleaseFact, RunState},
};
use serde::Deserialize;

use super::{Cx, Envelope, Named, User, gone, person, repository, step};
use crate::connectors::json::{Name, Str, Time, filled, shown};

#[derive(Deserialize)]
struct Deployment<'a> {
    #[serde(borrow)]
    sha: Name<'a>,
    id: i64,
    environment: Option<Str<'a>>,
    creator: Option<User<'a>>,
    created_at: Option<Time>,
}

#[derive(Deserialize)]
struct DeploymentStatus<'a> {
    #[serde(borrow)]
    state: Str<'a>,
    environment: Option<Str<'a>>,
    created_at: Option<Time>,
    log_url: Option<Str<'a>>,
    target_url: Option<Str<'a>>,
}

pub fn deployment(cx: Cx<'_, '_, '_>, body: &Envelope<'_>) -> Option<()> {
    let repo = repository(cx, body)?.full_name.text();
    let deployment: Deployment<'_> = cx.section("deployment", body.deployment)?;
    let at = step(deployment.created_at, cx.received_at, 0);
    let fact = deployment_fact(cx, at, repo, &deployment);
    cx.out.fact(at, FactBody::Deployment(fact));
    Some(())
}

pub fn deployment_status(cx: Cx<'_, '_, '_>, body: &Envelope<'_>) -> Option<()> {
    let repo = repository(cx, body)?.full_name.text();
    let deployment: Deployment<'_> = cx.section("deployment", body.deployment)?;
    let status: DeploymentStatus<'_> = cx.section("deployment_status", body.deployment_status)?;
    let state = match &*status.state {
        "queued" | "pending" | "waiting" => RunState::Pending,
        "in_progress" => RunState::Running,
        "success" => RunState::Succeeded,
        "failure" | "error" => RunState::Failed,
        "inactive" => return None,
        other => {
            let problem = format!("{} is no state that this build knows", shown(other));
            cx.reject("deployment_status.state", &problem);
            return None;
        }
    };
    let at = step(status.created_at, cx.received_at, 1 + rank(state));
    let mut fact = deployment_fact(cx, at, repo, &deployment);
    fact.state = state;
    fact.environment = filled(&status.environment).unwrap_or(fact.environment);
    fact.finished_at = status.created_at.filter(|_| rank(state) == 2).map(|t| t.0);
    fact.url = filled(&status.log_url).or_else(|| filled(&status.target_url));
    cx.out.fact(at, FactBody::Deployment(fact));
    Some(())
}

fn deployment_fact(cx: Cx<'_, '_, '_>, at: Micros, repo: Text, deployment: &Deployment<'_>) -> DeploymentFact {
    DeploymentFact {
        deployment: format!("{repo}/deployments/{}", deployment.id).into(),
        repo,
        sha: deployment.sha.text(),
        environment: filled(&deployment.environment).unwrap_or_default(),
        state: RunState::Pending,
        creator: person(cx, at, deployment.creator.as_ref()),
        created_at: deployment.created_at.map(|t| t.0),
        finished_at: None,
        url: None,
        deleted: false,
    }
}

/// How far along a run is.
fn rank(state: RunState) -> i64 {
    match state {
        RunState::Pending => 0,
        RunState::Running => 1,
        RunState::Succeeded | RunState::Failed | RunState::Cancelled => 2,
    }
}

#[derive(Deserialize)]
struct WorkflowRun<'a> {
    #[serde(borrow)]
    head_sha: Name<'a>,
    id: i64,
    name: Option<Str<'a>>,
    head_branch: Option<Str<'a>>,
    status: Str<'a>,
    conclusion: Option<Str<'a>>,
    created_at: Option<Time>,
    updated_at: Option<Time>,
    run_started_at: Option<Time>,
}

pub fn workflow_run(cx: Cx<'_, '_, '_>, body: &Envelope<'_>) -> Option<()> {
    let repo = repository(cx, body)?.full_name.text();
    let run: WorkflowRun<'_> = cx.section("workflow_run", body.workflow_run)?;
    let state = match (&*run.status, run.conclusion.as_deref()) {
        ("queued" | "requested" | "waiting" | "pending", _) | ("completed", Some("action_required")) => {
            RunState::Pending
        }
        ("in_progress", _) => RunState::Running,
        ("completed", Some("success" | "neutral")) => RunState::Succeeded,
        ("completed", Some("failure" | "timed_out" | "startup_failure")) => RunState::Failed,
        ("completed", Some("cancelled" | "skipped" | "stale")) => RunState::Cancelled,
        (status, conclusion) => {
            let words = [shown(status), conclusion.map_or("none".to_owned(), shown)].join(" with conclusion ");
            cx.reject("workflow_run.status", &format!("{words} is no state that this build knows"));
            return None;
        }
    };
    let mut name = filled(&run.name);
    if name.is_none() && body.workflow.is_some() {
        name = cx.section::<Named<'_>>("workflow", body.workflow).map(|w| w.name.text());
    }
    let at = step(run.updated_at, cx.received_at, rank(state));
    let fact = BuildFact {
        build: format!("{repo}/runs/{}", run.id).into(),
        repo,
        sha: run.head_sha.text(),
        branch: filled(&run.head_branch),
        name: name.unwrap_or_default(),
        state,
        started_at: run.run_started_at.or(run.created_at).map(|t| t.0),
        finished_at: run.updated_at.filter(|_| rank(state) == 2).map(|t| t.0),
    };
    cx.out.fact(at, FactBody::Build(fact));
    Some(())
}

#[derive(Deserialize)]
struct Release<'a> {
    #[serde(borrow)]
    tag_name: Name<'a>,
    name: Option<Str<'a>>,
    created_at: Option<Time>,
    published_at: Option<Time>,
    updated_at: Option<Time>,
}

pub fn release(cx: Cx<'_, '_, '_>, body: &Envelope<'_>) -> Option<()> {
    let repo = repository(cx, body)?;
    let release: Release<'_> = cx.section("release", body.release)?;
    let action = body.action();
    // Older payloads do not date an edit: it is then no earlier than its arrival.
    let dated = match action {
        "edited" | "unpublished" => release.updated_at,
        _ => release.updated_at.or(release.published_at).or(release.created_at),
    };
    let deleted = action == "deleted";
    let rank = i64::from(action != "created");
    let at = if deleted { gone(dated, cx.received_at) } else { step(dated, cx.received_at, rank) };
    let fact = ReleaseFact {
        repo: repo.full_name.text(),
        tag: release.tag_name.text(),
        name: filled(&release.name).unwrap_or_else(|| release.tag_name.text()),
        published_at: release.published_at.map(|t| t.0),
        deleted,
    };
    cx.out.fact(at, FactBody::Release(fact));
    Some(())
}
