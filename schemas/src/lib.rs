//! The nouns of FlowSync: signals, facts, ids, units, table and view specifications, changes and manifests.
//!
//! Architecture invariant: this crate does no I/O, and knows nothing of async, timely, Arrow or DataFusion.
//! Every other crate speaks to its neighbours in these words.

// The derive macro names this crate by its path; inside the crate itself that path needs an alias.
extern crate self as flowsync_schemas;

pub mod change;
pub mod connector;
pub mod digest;
pub mod fact;
pub mod id;
pub mod model;
pub mod naming;
pub mod record;
pub mod signal;
pub mod time;
pub mod view;

pub use change::{EpochDelta, FilesDigest, Manifest, TableChange, TableVersion, checksum_in};
pub use connector::{ConnectorSpec, NameClaim, Parsed, Rejection};
pub use digest::{RowBytes, RowsDigest};
pub use fact::{Fact, FactBody};
pub use id::{EntityId, EntityKind, Epoch, PersonId, Pseudonymizer, SignalId, Token};
pub use record::{ColumnKind, ColumnSpec, Record, RecordError, Row, Text, Value};
pub use signal::{Channel, LogPosition, Signal};
pub use time::{Day, Micros};
pub use view::{Birth, TableSpec, ViewSpec};
