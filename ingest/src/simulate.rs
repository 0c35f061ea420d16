//! A small simulated organisation: 45 days of deliveries in the shapes of GitHub, Jira, Slack and the report endpoint.
//!
//! It is what `flowsync demo` sends through the real gateway. Eight people in three teams work on sixty tickets. As in
//! life, keys stand in branches, titles, bodies or messages, or nowhere; some work has no ticket; trackers are not kept
//! up to date; deliveries come late or twice; a ticket is deleted, another renamed. Names say that all of it is
//! simulated.
//!
//! Invariants: the same seed and time give the same bytes; nothing is dated after `until`; exactly one delivery is not
//! understood, by intent ([`NOT_UNDERSTOOD`]). Knows nothing of facts: it writes what tools write.

mod catalogue;
mod github;
mod jira;
mod work;

use std::collections::BTreeSet;

use flowsync_schemas::Micros;
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;

use self::catalogue::PROJECTS;
use crate::connectors::{
    Secrets, VerifyError,
    settings::{Finance, Settings},
    slack,
};

/// Days that the simulation spans.
pub const DAYS: i32 = 45;

/// The text of the one command that is not understood, so that `rejects` has something to show.
pub const NOT_UNDERSTOOD: &str = "finished SHOP-9";

/// One delivery, not yet signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Simulated {
    /// The connector that it is for.
    pub connector: &'static str,
    /// Headers, names in lower case, without signature.
    pub headers: Vec<(String, String)>,
    /// Raw bytes.
    pub body: Vec<u8>,
    /// When it arrives; late deliveries tell of earlier things.
    pub at: Micros,
}

impl Simulated {
    /// The headers with the signature that the tool would send. Slack's also tells when it is sent, which is `now`: the
    /// receiver refuses what is older than five minutes.
    ///
    /// # Errors
    /// Where there is no secret for the connector.
    pub fn sign(&self, secrets: &Secrets, now: Micros) -> Result<Vec<(String, String)>, VerifyError> {
        let secret = secrets.get(self.connector).ok_or(VerifyError::NoSecret(self.connector))?;
        let mut headers = self.headers.clone();
        let mut add = |name: &str, value: String| headers.push((name.to_owned(), value));
        let sha256 = || {
            let mut mac =
                Hmac::<Sha256>::new_from_slice(secret.expose()).map_err(|_| VerifyError::NoSecret(self.connector))?;
            mac.update(&self.body);
            Ok(format!("sha256={}", hex::encode(mac.finalize().into_bytes())))
        };
        match self.connector {
            "github" => add("x-hub-signature-256", sha256()?),
            "jira" => add("x-hub-signature", sha256()?),
            "slack" => {
                let timestamp = (now.0 / 1_000_000).to_string();
                add("x-slack-signature", slack::sign(secret, &timestamp, &self.body)?);
                add("x-slack-request-timestamp", timestamp);
            }
            _ => add("authorization", format!("Bearer {}", String::from_utf8_lossy(secret.expose()))),
        }
        Ok(headers)
    }
}

/// The connectors that need a secret to receive the organisation's deliveries.
pub const CONNECTORS: [&str; 4] = ["github", "jira", "manual", "slack"];

/// All deliveries of the organisation that `seed` makes, up to `until`, in order of arrival.
pub fn organisation(seed: u64, until: Micros) -> Vec<Simulated> {
    let mut out = work::Organisation::new(seed, until).run();
    out.retain(|delivery| delivery.at <= until);
    out.sort_by_key(|delivery| delivery.at);
    out
}

/// What the organisation configures.
pub fn settings() -> Settings {
    let words = |list: &[&str]| list.iter().map(|w| (*w).to_owned()).collect::<BTreeSet<_>>();
    Settings {
        projects: PROJECTS.iter().map(|p| p.key.to_owned()).collect(),
        finance: Finance {
            currency: Some("EUR".to_owned()),
            day_rate_minor: Some(64_000),
            day_rates_minor: [("PAY".to_owned(), 72_000)].into(),
            cost_centres: PROJECTS.iter().map(|p| (p.key.to_owned(), p.cost_centre.to_owned())).collect(),
            capitalize_kinds: words(&["Epic", "New Feature", "Story"]),
            expense_kinds: words(&["Bug", "Incident", "Task"]),
        },
    }
}

/// A delivery of a tool that sends JSON and numbers its deliveries.
fn delivery(connector: &'static str, event: &str, number: &str, body: &Value, at: Micros) -> Simulated {
    let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    let mut add = |name: &str, value: String| headers.push((name.to_owned(), value));
    match connector {
        "github" => {
            add("x-github-event", event.to_owned());
            add("x-github-delivery", format!("simulated-{number}"));
        }
        "jira" => add("x-atlassian-webhook-identifier", format!("simulated-{number}")),
        _ => {}
    }
    Simulated { connector, headers, body: body.to_string().into_bytes(), at }
}

#[cfg(test)]
mod tests;
