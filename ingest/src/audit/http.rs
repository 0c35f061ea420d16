//! The audit of a log that a running process holds: `flowsync audit` asks here, because one process opens the log at a time.
//!
//! Invariants: bodies are limited, and one verification runs at a time (I9): it reads the whole log. Every error is
//! `{"error": {"code", "message", "request_id"}}`. What is answered here is what the process says of itself; who does not
//! trust it checks proofs with the public key, and verifies a stopped or copied log.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Extension, Path, State, rejection::BytesRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Semaphore;
use tower_http::request_id::RequestId;

use super::{AuditError, Given, Keeper, PublicKey};

/// Length of a request's body, in bytes: checkpoints of a few hundred bytes each.
const BODY_BYTES_MAX: usize = 1 << 20;

/// What `POST /api/audit/verify` is asked with.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VerifyRequest {
    /// Checkpoints that were kept elsewhere.
    pub given: Vec<Given>,
    /// Public key to verify them with, as `flowsync audit key` prints it; by default the log's own.
    pub key: Option<String>,
}

#[derive(Clone)]
struct Audit {
    keeper: Arc<Keeper>,
    verifying: Arc<Semaphore>,
}

/// `/api/audit/…`, over a log that is being signed.
pub fn audit_routes(keeper: Arc<Keeper>) -> Router {
    let state = Audit { keeper, verifying: Arc::new(Semaphore::new(1)) };
    Router::new()
        .route("/api/audit/proof/{*subject}", get(proof))
        .route("/api/audit/extension", post(extension))
        .route("/api/audit/verify", post(verification))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(state)
}

type Id = Option<Extension<RequestId>>;

async fn proof(State(audit): State<Audit>, id: Id, Path(subject): Path<String>) -> Response {
    match subject.parse() {
        Ok(subject) => answer(id, move || audit.keeper.prove(subject)).await,
        Err(message) => refusal(&id, StatusCode::BAD_REQUEST, "bad_request", &message),
    }
}

type Body = Result<Bytes, BytesRejection>;

/// The body is an older checkpoint.
async fn extension(State(audit): State<Audit>, id: Id, body: Body) -> Response {
    match body {
        Ok(older) => answer(id, move || audit.keeper.extend(&String::from_utf8_lossy(&older))).await,
        Err(error) => refusal(&id, error.status(), "bad_request", &error.body_text()),
    }
}

async fn verification(State(audit): State<Audit>, id: Id, body: Body) -> Response {
    let request: VerifyRequest = match body.map(|body| serde_json::from_slice(&body)) {
        Ok(Ok(request)) => request,
        Ok(Err(error)) => return refusal(&id, StatusCode::BAD_REQUEST, "bad_request", &error.to_string()),
        Err(error) => return refusal(&id, error.status(), "bad_request", &error.body_text()),
    };
    let Ok(permit) = audit.verifying.try_acquire_owned() else {
        let message = "limit verifying_max reached: one verification is running; ask again when it is done";
        return refusal(&id, StatusCode::SERVICE_UNAVAILABLE, "busy", message);
    };
    answer(id, move || {
        let _one_at_a_time = permit;
        let key = request.key.as_deref().map(str::parse::<PublicKey>).transpose()?;
        audit.keeper.verify(&request.given, key.as_ref())
    })
    .await
}

/// Does blocking work, and answers with what comes of it.
async fn answer<T: Serialize + Send + 'static>(
    id: Id,
    work: impl FnOnce() -> Result<T, AuditError> + Send + 'static,
) -> Response {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Json(done).into_response(),
        Ok(Err(error)) => {
            let (status, code) = match &error {
                error if error.is_unknown() => (StatusCode::NOT_FOUND, "not_found"),
                error if error.is_bad_input() => (StatusCode::BAD_REQUEST, "bad_request"),
                error if error.is_retryable() => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
                _ => (StatusCode::CONFLICT, "audit_failed"),
            };
            refusal(&id, status, code, &error.to_string())
        }
        Err(panic) => refusal(&id, StatusCode::INTERNAL_SERVER_ERROR, "internal", &panic.to_string()),
    }
}

fn refusal(id: &Id, status: StatusCode, code: &str, message: &str) -> Response {
    let id = id.as_ref().and_then(|id| id.header_value().to_str().ok()).unwrap_or_default();
    (status, Json(json!({ "error": { "code": code, "message": message, "request_id": id } }))).into_response()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;
    use crate::{
        audit::{Checked, Checkpoints, Extension, Inclusion, Notes, Report, SigningKey, check},
        log::{EmbeddedLog, Log, conformance::signal},
        seal::Keys,
    };

    #[test]
    fn a_running_process_proves_and_verifies_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = Arc::new(EmbeddedLog::open(&dir.path().join("log"), Keys::fixed()).unwrap());
        let key = SigningKey::of_log(&[4; 32], 0);
        let public = key.public().clone();
        let checkpoints = Checkpoints::open(&dir.path().join("audit"), key).unwrap();
        let keeper = Arc::new(Keeper::start(log.clone(), checkpoints, Duration::from_secs(3600)).unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let at = format!("http://{}/api/audit", listener.local_addr().unwrap());
        let router = audit_routes(keeper.clone());
        runtime.spawn(async move { axum::serve(listener, router).await });
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let get = |path: &str| agent.get(format!("{at}{path}")).call().unwrap();
        let post = |path: &str, body: &str| agent.post(format!("{at}{path}")).send(body).unwrap();
        let code = |mut answer: ureq::http::Response<ureq::Body>| {
            let body: serde_json::Value = answer.body_mut().read_json().unwrap();
            (answer.status().as_u16(), body["error"]["code"].as_str().unwrap().to_owned())
        };
        assert_eq!(code(get("/proof/0/0")), (503, "busy".to_owned()), "nothing is there yet");
        log.append(&(0..4).map(|n| signal(n, 20)).collect::<Vec<_>>()).unwrap();
        let mut answer = get(&format!("/proof/{}", signal(2, 20).id));
        let proof: Inclusion = answer.body_mut().with_config().limit(1 << 20).read_json().unwrap();
        let Ok(Checked::Inclusion { offset: 2, .. }) = check(&serde_json::to_string(&proof).unwrap(), &public) else {
            panic!("{proof:?}");
        };
        let (older, _) = keeper.signed().unwrap();
        log.append(&[signal(4, 20)]).unwrap();
        let proof: Extension = post("/extension", &older).body_mut().read_json().unwrap();
        let checked = check(&serde_json::to_string(&proof).unwrap(), &public).unwrap();
        assert!(matches!(checked, Checked::Extension { older, newer } if (older.size, newer.size) == (4, 5)));
        let given = Given { name: "elsewhere".into(), text: older };
        let request = VerifyRequest { given: vec![given], key: Some(public.to_string()) };
        let request = serde_json::to_string(&request).unwrap();
        let report: Report = post("/verify", &request).body_mut().read_json().unwrap();
        assert!(report.is_good() && (report.size, report.checkpoints_given) == (5, 1), "{report:?}");
        assert!(Notes::kept(&dir.path().join("audit")).unwrap().unwrap().count() >= 2);
        assert_eq!(code(get("/proof/0/9")), (404, "not_found".to_owned()));
        for (path, body) in [("/extension", "x"), ("/verify", "x"), ("/verify", r#"{"key":"x"}"#)] {
            assert_eq!(code(post(path, body)), (400, "bad_request".to_owned()), "{path} {body}");
        }
        assert_eq!(code(get("/proof/x")).0, 400);
        assert_eq!(code(post("/extension", &"x".repeat(BODY_BYTES_MAX + 1))).0, 413);
    }
}
