//! Connectors: one file each, and the list [`ALL`].
//!
//! A connector verifies a delivery, which makes it a [`Verified`] signal, and reads facts from it. Both are pure: the
//! same bytes give the same facts, so a better `parse` can replay history. Bytes that nobody verified cannot be parsed:
//! only this module makes a [`Verified`]. Nothing here panics on any input (I10).

#[cfg(test)]
mod conformance;
pub(crate) mod git;
mod github;
#[cfg(test)]
mod hostile_test;
mod jira;
mod json;
mod keys;
mod manual;
mod message;
#[cfg(test)]
mod payloads_test;
mod references;
mod report;
pub mod settings;
mod signature;
pub(crate) mod slack;
#[cfg(any(test, fuzzing))]
pub mod sound;
pub(crate) mod words;

use std::{borrow::Cow, collections::BTreeMap, fmt};

use flowsync_schemas::{Channel, ConnectorSpec, Micros, Parsed, Pseudonymizer, Signal, SignalId};

/// A delivery as it arrived, not yet verified.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// Headers, names in lower case.
    pub headers: &'a [(String, String)],
    /// Raw bytes.
    pub body: &'a [u8],
    /// Our clock.
    pub received_at: Micros,
}

impl<'a> Delivery<'a> {
    /// A header by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// A shared secret; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Wraps the secret's bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, for the check itself.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(withheld)")
    }
}

/// The secrets of all connectors, by connector name.
pub type Secrets = BTreeMap<String, Secret>;

/// Why a delivery is not let in. Answered 401 and counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// No secret is configured for this connector.
    #[error("no secret is configured for connector {0}: set secrets.{0} in the configuration")]
    NoSecret(&'static str),
    /// A header that the check needs is missing or malformed.
    #[error("header {0} is missing or malformed")]
    Header(&'static str),
    /// The signature or token does not fit.
    #[error("the signature in {0} does not match the body")]
    Mismatch(&'static str),
    /// The signature is too old (or from the future).
    #[error("the signature is outside its window of {0} seconds: check the sender's clock")]
    Stale(u64),
    /// The connector's signals are made on this machine.
    #[error("connector {0} takes no deliveries over HTTP: its signals are made by flowsync itself")]
    NotOverHttp(&'static str),
}

/// A signal whose sender was verified. Only connectors, importers and the log make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified(Signal);

impl Verified {
    /// A verified delivery. `delivery_id` is the tool's own id of the delivery; without one the bytes are the identity.
    fn new(
        spec: &'static ConnectorSpec,
        delivery: Delivery<'_>,
        delivery_id: Option<&str>,
        channel: Channel,
        verified_by: &str,
    ) -> Self {
        let id = match delivery_id {
            Some(native) => SignalId::of_delivery(spec.name, native),
            None => SignalId::of_bytes(spec.name, delivery.body),
        };
        // The first of each name: that is the one that was verified.
        let kept = spec.headers.iter().filter_map(|kept| delivery.headers.iter().find(|(name, _)| name == kept));
        let mut headers: Vec<_> = kept.cloned().collect();
        headers.sort();
        Self(Signal {
            id,
            source: spec.name.to_owned(),
            delivery: delivery_id.unwrap_or_default().to_owned(),
            occurred_at: None,
            received_at: delivery.received_at,
            channel,
            verified_by: verified_by.to_owned(),
            headers,
            body: delivery.body.to_vec(),
        })
    }

    /// A recorded delivery, or one that an importer made, on this machine: whoever may write the data directory vouches for it.
    pub fn imported(spec: &'static ConnectorSpec, delivery: Delivery<'_>, delivery_id: Option<&str>) -> Self {
        Self::new(spec, delivery, delivery_id, Channel::Import, "local-import")
    }

    /// A signal read back from the log: it was verified before it was appended.
    pub fn from_log(signal: Signal) -> Self {
        Self(signal)
    }

    /// The signal.
    pub fn signal(&self) -> &Signal {
        &self.0
    }

    /// The signal, to append it.
    pub fn into_signal(self) -> Signal {
        self.0
    }
}

/// One connector.
pub trait Connector: Send + Sync {
    /// What the connector is, as data.
    fn spec(&self) -> &'static ConnectorSpec;

    /// Checks who sent the delivery.
    ///
    /// # Errors
    /// Where it cannot be told that the configured sender sent exactly these bytes.
    fn verify(&self, delivery: Delivery<'_>, secret: Option<&Secret>) -> Result<Verified, VerifyError>;

    /// Reads the facts. What cannot be read is rejected with its reason; a delivery that has nothing to say
    /// (a `ping`, an event of a kind that is not read) says nothing.
    fn parse(&self, verified: &Verified, out: &mut Parsed<'_>);

    /// The tool's own id of the delivery, where it sends one, so that a recorded delivery is the signal that it was as a
    /// webhook (I2).
    fn delivery_id<'a>(&self, _delivery: Delivery<'a>) -> Option<Cow<'a, str>> {
        None
    }

    /// The body of the 2xx answer to the sender, where the tool shows it to a person.
    fn reply(&self, _parsed: &Parsed<'_>) -> Option<serde_json::Value> {
        None
    }
}

/// Reads a verified signal with its connector. A signal of a connector that this build does not have is rejected, not lost; one
/// that was withdrawn says nothing.
pub fn parse<'a>(verified: &Verified, people: &'a Pseudonymizer) -> Parsed<'a> {
    let signal = verified.signal();
    let mut out = Parsed::new(signal.id, people);
    if signal.is_withdrawn() {
        return out.finish();
    }
    match by_name(&signal.source) {
        Some(connector) => connector.parse(verified, &mut out),
        None => out.reject(format!("this build has no connector named {:?}", signal.source)),
    }
    out.finish()
}

/// The connector with this name.
pub fn by_name(name: &str) -> Option<&'static dyn Connector> {
    ALL.iter().copied().find(|c| c.spec().name == name)
}

/// Every connector. A test holds this list equal to the folder.
pub static ALL: &[&dyn Connector] =
    &[&git::Git, &github::Github, &jira::Jira, &manual::Manual, &settings::SettingsConnector, &slack::Slack];
