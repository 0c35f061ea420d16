//! The gateway: `POST /hooks/{connector}` takes a delivery in.
//!
//! ```text
//! 404 unknown ─ 429 rate ─ 415 packed ─ 413 size / 503 memory ─ 408 slow ─ 401 verify ─ parse (for the answer) ─ append ─ 2xx
//! ```
//!
//! Invariants: 2xx, and 422, only after the bytes are durable (I1); a redelivery is acknowledged as `duplicate` (I2);
//! memory is bounded by bytes in flight, reserved before a body is read (I9); a body that is verified but says nothing
//! readable is kept and answered 422 with the reasons (I10); a delivery that is not verified is counted, not kept. Every
//! error is `{"error": {"code", "message", "request_id"}}`.
//!
//! Where a connector has a reply for the person behind the tool, that is the answer, also to what was not understood:
//! chat tools show people the body of a 200 only, and the reply says how to write it.
//!
//! The gateway knows nothing of facts: it counts them.

mod rate;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::{Body, BodyDataStream},
    extract::{ConnectInfo, Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use flowsync_schemas::{NameClaim, Parsed, Pseudonymizer, Signal};
use futures::TryStreamExt;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tower_http::{
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, RequestId, SetRequestIdLayer},
    trace::TraceLayer,
};

use self::rate::RateLimiter;
use crate::{
    appender::{AppendError, Appender},
    connectors::{Connector, Delivery, Secrets, VerifyError},
};

/// Bodies up to this size are verified and parsed on the task itself, larger ones on a thread of their own.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// What the smallest request is counted as.
const REQUEST_BYTES_MIN: usize = 4 << 10;

/// What is read of a body that is refused for its size, at most.
const DISCARDED_BYTES_MAX: usize = 1 << 20;
/// For how long, at most.
const DISCARDING_MAX: Duration = Duration::from_secs(1);

/// Reasons that an answer lists; the view `rejects` has all.
const REASONS_MAX: usize = 20;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Limits of the gateway.
#[derive(Clone, Copy, Debug)]
pub struct GatewayLimits {
    /// Largest body. GitHub sends up to 25 MB.
    pub body_bytes_max: usize,
    /// Bytes of all bodies that are being received, parsed and written. Not less than `body_bytes_max`.
    pub in_flight_bytes_max: usize,
    /// How long a body may take to arrive.
    pub body_secs_max: u64,
    /// Deliveries a second from one source: connector and peer address.
    pub source_per_sec: u32,
    /// Deliveries at once from one source.
    pub source_burst: u32,
    /// Sources that are told apart at one time.
    pub sources_max: usize,
    /// What `Retry-After` says where nothing better is known.
    pub retry_after_secs: u64,
}

impl Default for GatewayLimits {
    fn default() -> Self {
        Self {
            body_bytes_max: 25 << 20,
            in_flight_bytes_max: 256 << 20,
            body_secs_max: 30,
            source_per_sec: 20_000,
            source_burst: 20_000,
            sources_max: 10_000,
            retry_after_secs: 1,
        }
    }
}

/// What the gateway needs.
pub struct GatewayState {
    /// Where signals go; it writes the names to the vault.
    pub appender: Arc<Appender>,
    /// The senders' secrets.
    pub secrets: Secrets,
    /// Makes pseudonyms.
    pub people: Pseudonymizer,
    /// Limits.
    pub limits: GatewayLimits,
    /// The connectors that are served: [`crate::connectors::ALL`].
    pub connectors: &'static [&'static dyn Connector],
}

struct Gateway {
    state: GatewayState,
    rate: RateLimiter,
    in_flight: Arc<Semaphore>,
}

/// The gateway's routes. Serve them with [`crate::serve::serve`]: without the peer's
/// address a connector's senders share one rate limit.
pub fn router(state: GatewayState) -> Router {
    let limits = state.limits;
    let gateway = Gateway {
        rate: RateLimiter::new(limits.source_per_sec, limits.source_burst, limits.sources_max),
        in_flight: Arc::new(Semaphore::new(limits.in_flight_bytes_max.max(limits.body_bytes_max))),
        state,
    };
    let span = |request: &Request| {
        let id = request_id(request.extensions().get());
        tracing::info_span!("delivery", method = %request.method(), path = request.uri().path(), request_id = id)
    };
    // The last layer is the outermost.
    Router::new()
        .route("/hooks/{connector}", post(deliver).fallback(wrong_method))
        .with_state(Arc::new(gateway))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(TraceLayer::new_for_http().make_span_with(span))
        .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
}

fn request_id(id: Option<&RequestId>) -> String {
    id.and_then(|id| id.header_value().to_str().ok()).unwrap_or_default().to_owned()
}

/// A refusal: what the sender is told.
struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    retry_after: Option<Duration>,
    more: Value,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None, more: json!({}) }
    }

    fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    fn answer(self, request_id: &str) -> Response {
        let mut body = json!({"error": {"code": self.code, "message": self.message, "request_id": request_id}});
        if let (Value::Object(body), Value::Object(more)) = (&mut body, self.more) {
            body.extend(more);
        }
        let mut response = (self.status, Json(body)).into_response();
        if let Some(after) = self.retry_after {
            // Whole seconds, rounded up: nobody is told to come back too early.
            let secs = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, secs.max(1).into());
        }
        response
    }
}

async fn wrong_method(request: Request) -> Response {
    let message = format!("{} is not served here: deliveries are sent with POST", request.method());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
        .answer(&request_id(request.extensions().get()))
}

async fn deliver(
    State(gateway): State<Arc<Gateway>>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let request_id = request_id(request.extensions().get());
    // No connector is called what is no text.
    let name = name.map(|Path(name)| name).unwrap_or_default();
    match gateway.take_in(&name, request).await {
        Ok(response) => response,
        Err(refusal) => {
            tracing::info!(status = refusal.status.as_u16(), code = refusal.code, message = refusal.message, "refused");
            refusal.answer(&request_id)
        }
    }
}

/// A delivery that was verified and read.
struct Understood {
    signal: Signal,
    names: Vec<NameClaim>,
    facts: usize,
    reasons: Vec<String>,
    rejections: usize,
    reply: Option<Value>,
}

impl Gateway {
    async fn take_in(self: &Arc<Self>, name: &str, request: Request) -> Result<Response, Refusal> {
        let limits = &self.state.limits;
        let connector = self.connector(name)?;
        let name = connector.spec().name;
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        self.rate.take((name, peer), Instant::now()).map_err(|wait| {
            metrics::counter!("flowsync_gateway_limited_total", "connector" => name).increment(1);
            let (rate, burst) = (limits.source_per_sec, limits.source_burst);
            let message = format!("more than {rate} deliveries a second (after {burst} at once) from one sender");
            Refusal::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message).retry_after(wait)
        })?;
        let bytes = match unpacked(request.headers()).and_then(|()| self.announced_bytes(request.headers())) {
            Ok(bytes) => bytes,
            Err(refusal) => {
                discard(request.into_body().into_data_stream()).await;
                return Err(refusal);
            }
        };
        let Ok(_reserved) = self.in_flight.clone().try_acquire_many_owned(bytes) else {
            metrics::counter!("flowsync_gateway_busy_total", "connector" => name).increment(1);
            let message = format!("{} bytes of deliveries are in flight, the limit", limits.in_flight_bytes_max);
            return Err(self.unavailable("busy", message));
        };
        let (head, body) = request.into_parts();
        let body = self.receive(body).await?;
        metrics::histogram!("flowsync_gateway_body_bytes", "connector" => name).record(body.len() as f64);
        let understood = self.understand(connector, text_headers(&head.headers), body).await?;
        self.append(name, understood).await
    }

    fn connector(&self, name: &str) -> Result<&'static dyn Connector, Refusal> {
        let all = self.state.connectors;
        all.iter().copied().find(|c| c.spec().name == name).ok_or_else(|| {
            let names: Vec<_> = all.iter().map(|c| c.spec().name).collect();
            let message = format!("there is no connector of that name; there are: {}", names.join(", "));
            Refusal::new(StatusCode::NOT_FOUND, "unknown_connector", message)
        })
    }

    /// What to reserve for a request: the length that it announces, or the largest where it announces none.
    fn announced_bytes(&self, headers: &HeaderMap) -> Result<u32, Refusal> {
        let max = self.state.limits.body_bytes_max;
        let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
        let bytes: usize = length.unwrap_or(max);
        if bytes > max {
            return Err(self.too_large());
        }
        Ok(u32::try_from(bytes.max(REQUEST_BYTES_MIN)).unwrap_or(u32::MAX))
    }

    fn too_large(&self) -> Refusal {
        let message = format!("the body is larger than {} bytes, the limit", self.state.limits.body_bytes_max);
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    }

    fn unavailable(&self, code: &'static str, message: impl Into<String>) -> Refusal {
        let after = Duration::from_secs(self.state.limits.retry_after_secs);
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, code, message).retry_after(after)
    }

    async fn receive(&self, body: Body) -> Result<Vec<u8>, Refusal> {
        let limits = &self.state.limits;
        let receive = async {
            let mut out = Vec::new();
            let mut chunks = body.into_data_stream();
            loop {
                match chunks.try_next().await {
                    Ok(Some(chunk)) if out.len() + chunk.len() > limits.body_bytes_max => {
                        discard(chunks).await;
                        return Err(self.too_large());
                    }
                    Ok(Some(chunk)) => out.extend_from_slice(&chunk),
                    Ok(None) => return Ok(out),
                    Err(e) => {
                        let message = format!("the body ended early: {e}");
                        return Err(Refusal::new(StatusCode::BAD_REQUEST, "body_incomplete", message));
                    }
                }
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(limits.body_secs_max), receive).await;
        in_time.unwrap_or_else(|_| {
            let message = format!("the body did not arrive within {} seconds, the limit", limits.body_secs_max);
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", message))
        })
    }

    async fn understand(
        self: &Arc<Self>,
        connector: &'static dyn Connector,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    ) -> Result<Understood, Refusal> {
        let large = body.len() > INLINE_BYTES_MAX;
        let gateway = self.clone();
        let read = move || gateway.read(connector, &headers, &body);
        let read = if large {
            tokio::task::spawn_blocking(read).await.map_err(|e| {
                tracing::error!(error = %e, "a connector panicked");
                Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the connector failed on this body")
            })?
        } else {
            read()
        };
        read.map_err(|error| {
            let name = connector.spec().name;
            metrics::counter!("flowsync_gateway_unauthorized_total", "connector" => name).increment(1);
            let message = format!("{error}. {name} verifies: {}", connector.spec().verification);
            Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
        })
    }

    fn read(
        &self,
        connector: &dyn Connector,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Result<Understood, VerifyError> {
        let delivery = Delivery { headers, body, received_at: crate::now() };
        let verified = connector.verify(delivery, self.state.secrets.get(connector.spec().name))?;
        let mut parsed = Parsed::new(verified.signal().id, &self.state.people);
        connector.parse(&verified, &mut parsed);
        let parsed = parsed.finish();
        Ok(Understood {
            facts: parsed.facts.len(),
            reasons: parsed.rejections.iter().take(REASONS_MAX).map(|r| r.reason.to_string()).collect(),
            rejections: parsed.rejections.len(),
            reply: connector.reply(&parsed),
            names: parsed.names,
            signal: verified.into_signal(),
        })
    }

    async fn append(&self, name: &'static str, understood: Understood) -> Result<Response, Refusal> {
        let Understood { signal, names, facts, reasons, rejections, reply } = understood;
        let id = signal.id;
        let started = Instant::now();
        let appended = self.state.appender.append(signal, names).await.map_err(|e| self.refused(name, &e))?;
        metrics::histogram!("flowsync_gateway_append_seconds").record(started.elapsed().as_secs_f64());
        metrics::counter!("flowsync_gateway_accepted_total", "connector" => name).increment(1);
        if appended.duplicate {
            metrics::counter!("flowsync_gateway_duplicate_total", "connector" => name).increment(1);
        }
        let unreadable = rejections > 0 && facts == 0;
        if unreadable {
            metrics::counter!("flowsync_gateway_rejected_total", "connector" => name).increment(1);
        }
        tracing::debug!(%id, ?appended, facts, rejections, "durable");
        let kept = json!({
            "signal": id.to_string(), "position": appended.position, "duplicate": appended.duplicate,
            "facts": facts, "rejections": rejections, "reasons": reasons,
        });
        match reply {
            Some(reply) => Ok(Json(reply).into_response()),
            None if unreadable => {
                let message =
                    "the delivery is kept, but nothing in it could be read: see reasons, and the view rejects";
                let refusal = Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "unreadable", message);
                Err(Refusal { more: kept, ..refusal })
            }
            None => Ok((StatusCode::ACCEPTED, Json(kept)).into_response()),
        }
    }

    /// Not acknowledged: the sender delivers again.
    fn refused(&self, name: &'static str, error: &AppendError) -> Refusal {
        let code = if error.is_busy() { "busy" } else { "log_unavailable" };
        metrics::counter!("flowsync_gateway_busy_total", "connector" => name).increment(1);
        // What failed inside names folders of this machine: that is for its log, where the appender wrote it.
        let message =
            if error.is_busy() { error.to_string() } else { "the log takes nothing at the moment".to_owned() };
        self.unavailable(code, message)
    }
}

/// Refuses a packed body: none of the tools packs theirs, the bytes that are signed are the bytes that are kept, and what
/// is never unpacked cannot burst (I9).
fn unpacked(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    if codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    let message = "deliveries are taken as they are, without Content-Encoding: send the plain body";
    Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "packed", message))
}

/// Reads on for a moment, and forgets it: a sender that is cut off while it writes does not get to see the answer.
async fn discard(mut chunks: BodyDataStream) {
    let mut left = DISCARDED_BYTES_MAX;
    let read = async {
        while let Ok(Some(chunk)) = chunks.try_next().await {
            let Some(less) = left.checked_sub(chunk.len()) else { break };
            left = less;
        }
    };
    // Whoever takes longer is cut off.
    tokio::time::timeout(DISCARDING_MAX, read).await.ok();
}

/// The headers that are text, names in lower case.
fn text_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    headers.iter().filter_map(|(n, v)| Some((n.as_str().to_owned(), v.to_str().ok()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests;
