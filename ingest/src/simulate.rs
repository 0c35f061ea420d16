//! Simulated organisations: their deliveries in the shapes of GitHub, Jira, Slack and the report endpoint, and the truth.
//!
//! A seeded generator, from the eight people and sixty tickets of `flowsync demo` to twenty thousand people and a million
//! tickets. As in life, keys stand in branches, titles, bodies or messages, or nowhere; some work has no ticket; trackers are
//! not kept up to date; people have several accounts, weekends and leave; deployments break things that are then taken back;
//! deliveries come late, twice, out of order, unreadable or forged ([`Disorder`]). What is so, whatever the tools say, is
//! told beside it ([`Truth`]). Names say that all of it is simulated.
//!
//! ```text
//! plan, pull        tickets and pull requests are told, step by step, when they are thought of
//! world             plays the steps of everybody in order
//! tracker, code, ship    write what the tools send of a step
//! send              late, twice, forged; in order of arrival
//! ```
//!
//! Invariants: the same seed, end and scale give the same bytes; deliveries are given in order of arrival; nothing is dated
//! after `until`; memory holds the work in progress, not the history. Knows nothing of facts: it writes what tools write.

mod calendar;
mod catalogue;
mod code;
mod github;
mod jira;
mod organisation;
mod plan;
mod pull;
mod record;
mod scale;
mod send;
mod ship;
mod story;
mod time;
mod tracker;
mod truth;
mod words;
mod world;

use std::collections::BTreeSet;

use flowsync_schemas::Micros;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use self::world::World;
pub use self::{
    record::{Lines, Recording},
    scale::{Disorder, Scale},
    truth::{AccountKind, Truth},
};
use crate::connectors::{
    Secret, Secrets, VerifyError,
    settings::{Finance, SecondPerson, Settings},
    slack,
};

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
    /// Not sent by the tool: [`Simulated::sign`] signs it wrongly, and a receiver has to refuse it.
    pub forged: bool,
}

impl Simulated {
    /// The headers with the signature that the tool would send; a wrong one where the delivery is forged. Slack's also tells
    /// when it is sent, which is `now`: the receiver refuses what is older than five minutes.
    ///
    /// # Errors
    /// Where there is no secret for the connector.
    pub fn sign(&self, secrets: &Secrets, now: Micros) -> Result<Vec<(String, String)>, VerifyError> {
        let secret = secrets.get(self.connector).ok_or(VerifyError::NoSecret(self.connector))?;
        let guessed = Secret::new("what somebody guessed");
        let secret = if self.forged { &guessed } else { secret };
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

/// The deliveries of one organisation, in order of arrival.
pub struct Simulation {
    world: World,
}

impl Simulation {
    /// The organisation that `seed` makes, over the time before `until`.
    pub fn new(seed: u64, until: Micros, scale: Scale) -> Self {
        Self { world: World::new(seed, until, scale) }
    }

    /// Without the truth, which is kept until it is asked for: a reader who never asks would keep all of it.
    #[must_use]
    pub fn without_truth(mut self) -> Self {
        self.world.truth = None;
        self
    }

    /// The truth told since the last call. With the last delivery all of it has been told.
    pub fn truth(&mut self) -> Vec<Truth> {
        self.world.truth.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// What the organisation configures.
    pub fn settings(&self) -> Settings {
        let words = |list: &[&str]| list.iter().map(|w| (*w).to_owned()).collect::<BTreeSet<_>>();
        let projects = &self.world.org.projects;
        Settings {
            projects: projects.iter().map(|p| p.key.clone()).collect(),
            finance: Finance {
                currency: Some("EUR".to_owned()),
                day_rate_minor: Some(64_000),
                day_rates_minor: projects.iter().filter(|p| p.key == "PAY").map(|p| (p.key.clone(), 72_000)).collect(),
                cost_centres: projects.iter().map(|p| (p.key.clone(), p.cost_centre.clone())).collect(),
                capitalize_kinds: words(&["Epic", "New Feature", "Story"]),
                expense_kinds: words(&["Bug", "Incident", "Task"]),
            },
            second_person: SecondPerson { deploy: words(&["production"]), ..SecondPerson::default() },
        }
    }
}

impl Iterator for Simulation {
    type Item = Simulated;

    fn next(&mut self) -> Option<Simulated> {
        self.world.next()
    }
}

#[cfg(test)]
mod tests;
