//! Answers of Jira's API that state which commits and pull requests belong to an issue: its remote links
//! (<https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-remote-links/>) and its development panel.
//!
//! They name the issue by key or by number, in their address; numbers are resolved in the dataflow, which knows the issues.

use std::borrow::Cow;

use flowsync_schemas::{
    EntityKind, FactBody, Text,
    fact::{EdgeKind, RelationFact},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Cx, Str};
use crate::connectors::json::{is_name, shown};

#[derive(Deserialize)]
struct RemoteLink<'a> {
    #[serde(borrow)]
    object: Object<'a>,
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    url: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Panel<'a> {
    #[serde(borrow)]
    detail: Vec<Detail<'a>>,
}

#[derive(Deserialize)]
struct Detail<'a> {
    #[serde(borrow, default)]
    repositories: Vec<Repository<'a>>,
}

#[derive(Deserialize)]
struct Repository<'a> {
    #[serde(borrow, default)]
    commits: Vec<PanelCommit<'a>>,
}

#[derive(Deserialize)]
struct PanelCommit<'a> {
    #[serde(borrow)]
    id: Str<'a>,
}

/// Reads the answer to a request.
pub fn read(cx: Cx<'_, '_, '_>, address: &str, body: &[u8]) {
    let part = |after: &str| {
        let rest = address.split_once(after)?.1;
        rest.split(['/', '&', '?', '#']).next().filter(|p| is_name(p))
    };
    if let Some(issue) = part("/issue/").filter(|_| address.contains("/remotelink")) {
        // All links of the issue, or one of them.
        if let Ok(links) = serde_json::from_slice::<Vec<&RawValue>>(body) {
            for (index, raw) in links.into_iter().enumerate() {
                let link = cx.section::<RemoteLink<'_>>(&format!("[{index}]"), Some(raw));
                remote_link(cx, issue, link);
            }
        } else {
            let link = cx.body::<RemoteLink<'_>>(body);
            remote_link(cx, issue, link);
        }
    } else if let Some(issue) = part("issueId=").filter(|_| address.contains("/dev-status/")) {
        let Some(panel) = cx.body::<Panel<'_>>(body) else { return };
        for commit in panel.detail.into_iter().flat_map(|d| d.repositories).flat_map(|r| r.commits) {
            if is_sha(&commit.id) {
                state(cx, EntityKind::Commit, commit.id.to_ascii_lowercase().into(), issue);
            } else {
                cx.reject("detail.repositories.commits.id", &format!("{} is no full sha", shown(&commit.id)));
            }
        }
    } else {
        cx.reject("x-flowsync-request", "neither the remote links nor the development panel of an issue");
    }
}

fn remote_link(cx: Cx<'_, '_, '_>, issue: &str, link: Option<RemoteLink<'_>>) {
    // Links to pages, issues and builds say nothing here.
    if let Some((kind, native)) = link.and_then(|link| artifact(&link.object.url)) {
        state(cx, kind, native, issue);
    }
}

fn state(cx: Cx<'_, '_, '_>, src_kind: EntityKind, src_id: Text, issue: &str) {
    let dst_id = issue.into();
    let (edge, dst_kind) = (EdgeKind::LinkedTo, EntityKind::Ticket);
    let fact = RelationFact { edge, src_kind, src_id, dst_kind, dst_id, deleted: false };
    let at = cx.received_at;
    cx.out.fact(at, FactBody::Relation(fact));
}

fn is_sha(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The commit or pull request at an address: `…/commit/SHA`, `…/commits/SHA`, `https://HOST/OWNER/REPO/pull/12`,
/// `https://HOST/GROUP/PROJECT/-/merge_requests/12`.
fn artifact(url: &str) -> Option<(EntityKind, Text)> {
    let path = url.split(['?', '#']).next()?.trim_end_matches('/');
    let (head, last) = path.rsplit_once('/')?;
    let (repo, kind) = head.rsplit_once('/')?;
    if matches!(kind, "commit" | "commits") {
        return is_sha(last).then(|| (EntityKind::Commit, last.to_ascii_lowercase().into()));
    }
    let mark = match kind {
        "pull" => '#',
        "merge_requests" => '!',
        _ => return None,
    };
    let number: u64 = last.parse().ok()?;
    let (_, repo) = repo.split_once("://")?.1.split_once('/')?;
    let repo = repo.strip_suffix("/-").unwrap_or(repo);
    (repo.contains('/') && is_name(repo)).then(|| (EntityKind::PullRequest, format!("{repo}{mark}{number}").into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_work() {
        let sha = "0123456789ABCDEF0123456789abcdef01234567";
        let read = |url: &str| artifact(url).map(|(kind, id)| format!("{kind} {id}"));
        let commit = Some(format!("Commit {}", sha.to_lowercase()));
        assert_eq!(read(&format!("https://git.example.org/-/commit/{sha}")), commit);
        assert_eq!(read(&format!("https://git.example.org/a/b/commits/{sha}/?at=main")), commit);
        assert_eq!(read("https://github.com/acme/shop/pull/12"), Some("PullRequest acme/shop#12".into()));
        let merge = "https://git.example.org/g/s/p/-/merge_requests/7#note_1";
        assert_eq!(read(merge), Some("PullRequest g/s/p!7".into()));
        for none in
            ["", "x", "https://a/b/commit/c0ffee1", "https://github.com/acme/shop/issues/12", "https://a.org/pull/1"]
        {
            assert_eq!(read(none), None, "{none}");
        }
    }
}
