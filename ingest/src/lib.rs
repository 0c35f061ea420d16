//! Ingest: how signals come in and are kept. Connectors verify and read them, the gateway and the importers receive
//! them, the log keeps them.
//!
//! ```text
//! sender ─► gateway ─► appender ─► log      (durable before the answer, I1; a redelivery is one signal, I2)
//!             │            └─────► vault    (names, and nowhere else, I8)
//!             └ connector: verify, parse    (pure)
//! log ─► dataflow, at the epoch bounds that the mint decides
//!  └───► audit    (a Merkle tree over the records, signed)
//! backup: all that cannot be computed anew, in one stream, without the keys
//! facts: what was read from deliveries that were let go, outside of the tables
//! keys: what log and vault hold is sealed, piece by piece, and each piece's key can be destroyed
//! ```
//!
//! Architecture invariant: this crate knows nothing of the dataflow, of Arrow, of SQL. What it hands on is signals by
//! position, and the connectors' pure `parse`. Only the gateway and the appender's front are async.

pub mod appender;
pub mod audit;
pub mod backup;
pub mod connectors;
pub mod datadir;
pub mod facts;
pub mod gateway;
pub mod import;
pub mod log;
pub mod mint;
pub mod privacy;
pub mod seal;
pub mod serve;
pub mod simulate;
pub mod vault;

pub use appender::{AppendError, Appender, AppenderLimits};
pub use datadir::{DataDir, DataDirError, Holder};
pub use gateway::{GatewayLimits, GatewayState};
pub use log::{Appended, EmbeddedLog, Log, LogError};
pub use mint::{Mark, Mint, MintError};
pub use seal::{Keys, MasterKey, SealError};
pub use vault::{Names, Vault, VaultError};

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use flowsync_schemas::Micros;

/// Our clock, for `received_at`: the one place of this crate that reads it.
pub fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Locks. The data behind this crate's locks is changed in one step at the end of an operation, so a thread that
/// panicked while it held one left it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
