//! The signal: one delivery, as received. Immutable; what the log holds.

use serde::{Deserialize, Serialize};

use crate::{id::SignalId, time::Micros, words};

words! {
    /// How a signal came in.
    pub enum Channel {
        /// Pushed by the tool.
        Webhook = "webhook",
        /// Fetched from the tool.
        Poll = "poll",
        /// Read from a file or a repository.
        Import = "import",
        /// Stated by a person.
        ManualUserReport = "manual_user_report",
        /// Received by mail.
        Email = "email",
    }
}

/// A place in the log: partition and offset of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogPosition {
    /// Partition, from 0.
    pub partition: u32,
    /// Offset within the partition, from 0, without gaps.
    pub offset: u64,
}

/// One delivery, as received, with who verified it and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// See [`SignalId`].
    pub id: SignalId,
    /// Name of the connector that reads it.
    pub source: String,
    /// The tool's id of the delivery, or an empty text where it sends none.
    pub delivery: String,
    /// The tool's clock, where the envelope tells it.
    pub occurred_at: Option<Micros>,
    /// Our clock at the gateway.
    pub received_at: Micros,
    /// How it came in.
    pub channel: Channel,
    /// The check that let it in: `hmac-sha256`, `slack-v0`, `api-token`, `local-import`, …
    pub verified_by: String,
    /// The headers that the connector reads, lower case, sorted.
    pub headers: Vec<(String, String)>,
    /// The raw bytes.
    pub body: Vec<u8>,
}

impl Signal {
    /// What a signal is verified by of which nobody may know any more what it said.
    pub const WITHDRAWN: &str = "withdrawn";

    /// Whether the envelope alone is left.
    pub fn is_withdrawn(&self) -> bool {
        self.verified_by == Self::WITHDRAWN
    }

    /// A header by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}
