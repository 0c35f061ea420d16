//! A backup of a log that a running process holds: `flowsync backup` asks here, because one process opens the log at a time.
//!
//! Invariants: one backup at a time, some frames in memory, and who does not read on for a minute is cut off (I9): a backup holds on
//! to a snapshot of the log. A backup that fails has no end, which [`super::restore`] refuses; the connection is aborted, too.

use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Extension, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tower_http::request_id::RequestId;

use super::{Tables, stream::FRAME_BYTES, write::written};
use crate::{datadir::DataDir, log::EmbeddedLog};

/// Parts that wait for the reader.
const PARTS_MAX: usize = 4;

/// How long a reader may take for one part.
const STALL_MAX: Duration = Duration::from_secs(60);

#[derive(Clone)]
struct Backup {
    dir: PathBuf,
    log: Arc<EmbeddedLog>,
    tables: Arc<dyn Tables>,
    writing: Arc<Semaphore>,
}

/// `GET /api/backup`: a backup of a data directory, as a stream. Who may ask, the caller decides: names are sealed in it, and nothing
/// that the importer remembers is.
pub fn backup_routes(dir: &DataDir, log: Arc<EmbeddedLog>, tables: Arc<dyn Tables>) -> Router {
    let state = Backup { dir: dir.path().to_owned(), log, tables, writing: Arc::new(Semaphore::new(1)) };
    Router::new().route("/api/backup", get(backup)).with_state(state)
}

type Part = Result<Bytes, io::Error>;

async fn backup(State(backup): State<Backup>, id: Option<Extension<RequestId>>) -> Response {
    let Ok(permit) = backup.writing.clone().try_acquire_owned() else {
        let id = id.as_ref().and_then(|id| id.header_value().to_str().ok()).unwrap_or_default();
        let message = "limit backups_max reached: one backup is being made; ask again when it is done";
        let error = json!({ "error": { "code": "busy", "message": message, "request_id": id } });
        return (StatusCode::SERVICE_UNAVAILABLE, Json(error)).into_response();
    };
    let (parts, received) = mpsc::channel::<Part>(PARTS_MAX);
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || {
        let _one_at_a_time = permit;
        let mut out = BufWriter::with_capacity(FRAME_BYTES, Sender { parts: parts.clone(), runtime: runtime.clone() });
        match written(&backup.dir, &backup.log, &*backup.tables, &mut out) {
            Ok(summary) => tracing::info!(signals = summary.signals, bytes = summary.bytes, "a backup was made"),
            Err(error) => {
                tracing::error!(%error, "the backup failed");
                // Nothing more of it may be sent, and its reader has to know.
                drop(out.into_parts());
                let failed = Err(io::Error::other(error.to_string()));
                let _gone_as_well = runtime.block_on(timeout(STALL_MAX, parts.send(failed)));
            }
        }
    });
    let next = |mut received: mpsc::Receiver<Part>| async { received.recv().await.map(|part| (part, received)) };
    let body = Body::from_stream(futures::stream::unfold(received, next));
    ([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response()
}

struct Sender {
    parts: mpsc::Sender<Part>,
    runtime: Handle,
}

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.parts.send(Ok(Bytes::copy_from_slice(bytes)));
        match self.runtime.block_on(timeout(STALL_MAX, sent)) {
            Ok(Ok(())) => Ok(bytes.len()),
            Ok(Err(_)) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads it any more")),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "limit stall_secs_max reached: its reader waits")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
