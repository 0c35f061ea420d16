//! GitHub, by webhook.
//!
//! Verified by `X-Hub-Signature-256`, the HMAC-SHA-256 of the raw body under the webhook's secret. `X-GitHub-Delivery`
//! is the identity, so that a redelivery is the same signal (I2). `X-GitHub-Event` names the event; a recording without
//! it is read by its shape where only one event has that shape. Documentation: <https://docs.github.com/webhooks>.
//!
//! - Only what the payload states is stated: a push tells no lines and no parents, a review half a pull request.
//! - An event that GitHub has and this connector does not read ([`UNREAD`]) says nothing. Any other name is rejected:
//!   then something other than GitHub wrote it, or GitHub has a new event.
//! - GitHub's clock has whole seconds, so of two versions of one second the one that is further along is made the later
//!   ([`step`]): the order of arrival decides nothing (I3). Deletions carry no time of their own; they are later than
//!   the last version, and no earlier than their arrival.
//! - A commit that was pushed before (`distinct: false`, as when a branch is merged) is stated as of its own date. The
//!   push that brought it is later, so its mentions, the branch's keys among them, stay in force.
//! - The superseding of a deployment (`inactive`) is no outcome: it leaves the deployment as it ended.
//!
//! Nothing here knows which ticket projects exist, or what a fact leads to.

mod code;
mod issues;
mod runs;

use std::borrow::Cow;

use flowsync_schemas::{ConnectorSpec, Micros, Parsed, PersonId, id::Account};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{
    Channel, Connector, Delivery, Secret, Verified, VerifyError,
    json::{Name, Reader, Str, Time, shown},
    signature,
};

const EVENT: &str = "x-github-event";
const SIGNATURE: &str = "x-hub-signature-256";

/// The connector.
pub struct Github;

static SPEC: ConnectorSpec = ConnectorSpec {
    name: "github",
    version: 7,
    doc: "Webhooks of GitHub and GitHub Enterprise: commits, branches and tags, pull requests and reviews, issues and \
          comments, deployments, workflow runs and releases. Content type application/json.",
    verification: "X-Hub-Signature-256: HMAC-SHA-256 of the body under the webhook's secret",
    events: &[
        "push",
        "create",
        "delete",
        "pull_request",
        "pull_request_review",
        "issues",
        "issue_comment",
        "deployment",
        "deployment_status",
        "workflow_run",
        "release",
        "ping",
    ],
    headers: &[EVENT],
    reference: "https://docs.github.com/en/webhooks/webhook-events-and-payloads",
};

/// Events of GitHub that say nothing here.
#[rustfmt::skip]
const UNREAD: &[&str] = &[
    "branch_protection_configuration", "branch_protection_rule", "bypass_request_push_ruleset",
    "bypass_request_secret_scanning", "check_run", "check_suite", "code_scanning_alert", "commit_comment",
    "custom_property", "custom_property_values", "dependabot_alert", "deploy_key", "deployment_protection_rule",
    "deployment_review", "discussion", "discussion_comment", "dismissal_request_code_scanning",
    "dismissal_request_dependabot", "dismissal_request_secret_scanning", "exemption_request_push_ruleset",
    "exemption_request_secret_scanning", "fork",
    "github_app_authorization", "gollum", "installation", "installation_repositories", "installation_target",
    "integration_installation", "integration_installation_repositories", "issue_dependencies", "label",
    "marketplace_purchase", "member", "membership", "merge_group", "meta", "milestone", "org_block", "organization",
    "package", "page_build", "personal_access_token_request", "project", "project_card", "project_column",
    "projects_v2", "projects_v2_item", "projects_v2_status_update", "public", "pull_request_review_comment",
    "pull_request_review_thread", "registry_package", "repository", "repository_advisory", "repository_dispatch",
    "repository_import", "repository_ruleset", "repository_vulnerability_alert", "secret_scanning_alert",
    "secret_scanning_alert_location", "secret_scanning_scan", "security_advisory", "security_and_analysis",
    "sponsorship", "star", "status", "sub_issues", "team", "team_add", "watch", "workflow_dispatch", "workflow_job",
];

impl Connector for Github {
    fn spec(&self) -> &'static ConnectorSpec {
        &SPEC
    }

    fn verify(&self, delivery: Delivery<'_>, secret: Option<&Secret>) -> Result<Verified, VerifyError> {
        signature::check(delivery, SIGNATURE, SPEC.name, secret)?;
        Ok(Verified::new(&SPEC, delivery, self.delivery_id(delivery).as_deref(), Channel::Webhook, "hmac-sha256"))
    }

    fn delivery_id<'a>(&self, delivery: Delivery<'a>) -> Option<Cow<'a, str>> {
        delivery.header("x-github-delivery").filter(|id| !id.is_empty()).map(Cow::Borrowed)
    }

    fn parse(&self, verified: &Verified, out: &mut Parsed<'_>) {
        let signal = verified.signal();
        let named = signal.header(EVENT);
        if named.is_some_and(|event| UNREAD.contains(&event)) {
            return;
        }
        let advice = "redeliver the event from the webhook's page, or mend the recording";
        let mut cx = Reader { out, received_at: signal.received_at, advice };
        if signal.body.starts_with(b"payload=") {
            return cx.out.reject("body: form-encoded; set the webhook's content type to application/json");
        }
        let Some(body) = cx.body::<Envelope<'_>>(&signal.body) else { return };
        let Some(event) = named.or_else(|| body.infer()) else {
            return cx
                .out
                .reject("header X-GitHub-Event: missing, and the body fits no single event; record it with the body");
        };
        // A handler that stops early has said why.
        let _: Option<()> = match event {
            "push" => code::push(&mut cx, &body),
            "create" => code::created_ref(&mut cx, &body),
            "delete" => code::deleted_ref(&mut cx, &body),
            "pull_request" => code::pull_request(&mut cx, &body),
            "pull_request_review" => code::review(&mut cx, &body),
            "issues" => issues::issue(&mut cx, &body),
            "issue_comment" => issues::comment(&mut cx, &body),
            "deployment" => runs::deployment(&mut cx, &body),
            "deployment_status" => runs::deployment_status(&mut cx, &body),
            "workflow_run" => runs::workflow_run(&mut cx, &body),
            "release" => runs::release(&mut cx, &body),
            known if known == "ping" || UNREAD.contains(&known) => None,
            other => {
                let name = shown(other);
                cx.out
                    .reject(format!("header X-GitHub-Event: GitHub has no event {name}; update FlowSync if it is new"));
                None
            }
        };
    }
}

/// The top of every payload; its sections are read one by one.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    action: Option<Str<'a>>,
    #[serde(rename = "ref")]
    git_ref: Option<Str<'a>>,
    ref_type: Option<Str<'a>>,
    after: Option<Str<'a>>,
    deleted: Option<bool>,
    repository: Option<&'a RawValue>,
    commits: Option<Vec<&'a RawValue>>,
    head_commit: Option<&'a RawValue>,
    pull_request: Option<&'a RawValue>,
    review: Option<&'a RawValue>,
    issue: Option<&'a RawValue>,
    comment: Option<&'a RawValue>,
    label: Option<&'a RawValue>,
    deployment: Option<&'a RawValue>,
    deployment_status: Option<&'a RawValue>,
    workflow: Option<&'a RawValue>,
    workflow_run: Option<&'a RawValue>,
    release: Option<&'a RawValue>,
    // Read for the shape alone.
    number: Option<IgnoredAny>,
    master_branch: Option<IgnoredAny>,
    pusher_type: Option<IgnoredAny>,
    zen: Option<IgnoredAny>,
    thread: Option<IgnoredAny>,
    sub_issue: Option<IgnoredAny>,
    workflow_job: Option<IgnoredAny>,
    deployment_callback_url: Option<IgnoredAny>,
    approver: Option<IgnoredAny>,
    reviewers: Option<IgnoredAny>,
}

impl Envelope<'_> {
    fn action(&self) -> &str {
        self.action.as_deref().unwrap_or_default()
    }

    /// The event whose payload alone has this shape, if there is one.
    fn infer(&self) -> Option<&'static str> {
        let branch = self.git_ref.is_some() && self.pusher_type.is_some();
        let acted = self.action.is_some();
        Some(match () {
            () if self.zen.is_some() => "ping",
            () if self.commits.is_some() && self.git_ref.is_some() && self.after.is_some() => "push",
            () if branch && self.ref_type.is_some() && self.master_branch.is_some() => "create",
            () if branch && self.ref_type.is_some() => "delete",
            () if self.deployment_status.is_some() && self.deployment.is_some() => "deployment_status",
            () if self.workflow_job.is_some() => "workflow_job",
            () if self.deployment_callback_url.is_some() => "deployment_protection_rule",
            () if self.deployment.is_some() => "deployment",
            () if self.approver.is_some() || self.reviewers.is_some() => "deployment_review",
            () if self.workflow_run.is_some() && self.workflow.is_some() && acted => "workflow_run",
            () if self.pull_request.is_some() && self.review.is_some() => "pull_request_review",
            () if self.pull_request.is_some() && self.thread.is_some() => "pull_request_review_thread",
            () if self.pull_request.is_some() && self.comment.is_some() => "pull_request_review_comment",
            () if self.pull_request.is_some() && self.number.is_some() && acted => "pull_request",
            () if self.sub_issue.is_some() => "sub_issues",
            () if self.issue.is_some() && self.comment.is_some() && acted => "issue_comment",
            () if self.issue.is_some() && acted => "issues",
            () if self.release.is_some() && acted => "release",
            () => return None,
        })
    }
}

#[derive(Deserialize)]
struct Repository<'a> {
    #[serde(borrow)]
    full_name: Name<'a>,
    default_branch: Option<Str<'a>>,
    pushed_at: Option<Time>,
}

#[derive(Deserialize)]
struct User<'a> {
    #[serde(borrow)]
    login: Str<'a>,
    #[serde(rename = "type")]
    kind: Option<Str<'a>>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    name: Str<'a>,
}

/// An issue or pull request of which only the number matters.
#[derive(Deserialize)]
struct Numbered {
    number: i64,
    updated_at: Option<Time>,
    // Set on an issue that is a pull request.
    pull_request: Option<IgnoredAny>,
}

type Cx<'c, 'o, 'p> = &'c mut Reader<'o, 'p>;

fn repository<'a>(cx: Cx<'_, '_, '_>, body: &Envelope<'a>) -> Option<Repository<'a>> {
    cx.section("repository", body.repository)
}

/// The person behind an account; deleted accounts are null.
fn person(cx: Cx<'_, '_, '_>, at: Micros, user: Option<&User<'_>>) -> Option<PersonId> {
    let user = user?;
    let bot = user.kind.as_deref() == Some("Bot") || user.login.ends_with("[bot]");
    let account = Account::Login { source: SPEC.name, login: &user.login };
    Some(cx.out.person(at, SPEC.name, &account, "", bot))
}

/// A version within its second, by how far along it is; see the top of the file.
fn step(at: Option<Time>, received_at: Micros, step: i64) -> Micros {
    let at = at.map_or(received_at, |t| t.0);
    Micros(at.0.saturating_add(step))
}

/// When something was deleted whose last version is of `updated_at`.
fn gone(updated_at: Option<Time>, received_at: Micros) -> Micros {
    step(updated_at, received_at, 9).max(received_at)
}
