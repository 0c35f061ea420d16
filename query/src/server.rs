//! The HTTP side of queries: SQL, why, the catalogue, health, metrics and the OpenAPI document.
//!
//! Keeps I9: bodies and queries are limited, and what is refused names its limit. A client that goes away takes its query
//! with it: the query runs inside the request's future. Every route is in [`ROUTES`], from which router and document are
//! made. Who may ask is decided in front of this router; the binary binds it to the loopback address by default.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Query, State, rejection::BytesRejection},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use flowsync_schemas::{ColumnSpec, ViewSpec};
use serde::Deserialize;
use serde_json::{Value as Json_, json};

use crate::{
    AsOf, Engine, Metrics, Param, QueryError, QueryResult, SignalReader,
    format::{Format, json_rows, write},
    http::{ApiError, with_request_ids},
    openapi,
    tables::kind_word,
};

/// Length of a request's body, in bytes: SQL and parameters.
const BODY_BYTES_MAX: usize = 1 << 20;
const EPOCH: HeaderName = HeaderName::from_static("x-flowsync-epoch");

/// How the rest of the process is.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// Whether it works.
    pub ok: bool,
    /// What there is to say: lag, positions, reasons.
    pub detail: Json_,
}

/// What the routes need.
#[derive(Clone)]
pub struct ServerState {
    /// For the data.
    pub engine: Engine,
    /// Asked by `/healthz`.
    pub health: Arc<dyn Fn() -> Health + Send + Sync>,
    /// Reads deliveries for `why`; without it `why` shows their positions only.
    pub signals: Option<SignalReader>,
    /// For `/metrics`.
    pub metrics: Option<Metrics>,
}

pub(crate) const SQL: &str = "/api/sql";
pub(crate) const WHY: &str = "/api/why/{view}/{*key}";
pub(crate) const VIEWS: &str = "/api/views";
pub(crate) const VIEW: &str = "/api/views/{name}";
pub(crate) const HEALTH: &str = "/healthz";
pub(crate) const METRICS: &str = "/metrics";
pub(crate) const DOCUMENT: &str = "/api/openapi.json";

type Route = (&'static str, fn() -> MethodRouter<ServerState>);

/// Every route of this module.
const ROUTES: [Route; 7] = [
    (SQL, || post(post_sql)),
    (WHY, || get(get_why)),
    (VIEWS, || get(get_views)),
    (VIEW, || get(get_view)),
    (HEALTH, || get(get_health)),
    (METRICS, || get(get_metrics)),
    (DOCUMENT, || get(|| async { Json(openapi::document()) })),
];

/// The routes of this module, and `others` (digest, feed, hooks), with request ids and errors of one shape around all.
pub fn router(state: ServerState, others: Router) -> Router {
    let routes = ROUTES.iter().fold(Router::new(), |router, (path, route)| router.route(path, route()));
    let routes = routes.layer(DefaultBodyLimit::max(BODY_BYTES_MAX)).with_state(state);
    with_request_ids(routes.merge(others).fallback(nowhere))
}

/// The addresses of [`ROUTES`], as the document writes them.
#[cfg(test)]
pub(crate) fn paths() -> Vec<String> {
    ROUTES.iter().map(|(path, _)| openapi::address(path)).collect()
}

async fn nowhere() -> ApiError {
    QueryError::NotFound(format!("there is no such address: {DOCUMENT} lists them")).into()
}

/// The JSON form of a request for SQL.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SqlRequest {
    sql: String,
    #[serde(default)]
    params: Vec<Json_>,
    #[serde(default)]
    as_of: Option<Json_>,
}

#[derive(Debug, Deserialize)]
struct AsOfQuery {
    as_of: Option<String>,
}

async fn post_sql(
    State(state): State<ServerState>,
    Query(query): Query<AsOfQuery>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let body = body.map_err(|e| match e.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let message = format!("limit body_bytes_max reached: the body has more than {BODY_BYTES_MAX} bytes");
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "limit", message)
        }
        status => ApiError::new(status, "bad_request", e.body_text()),
    })?;
    let request = sql_request(&headers, &body)?;
    let as_of = match (&request.as_of, &query.as_of) {
        (Some(Json_::String(text)), _) | (None, Some(text)) => text.parse()?,
        (Some(other), _) => other.to_string().parse()?,
        (None, None) => AsOf::Newest,
    };
    let params = request.params.iter().map(param).collect::<Result<Vec<_>, _>>()?;
    let format = accepted(&headers);
    let snapshot = state.engine.snapshot(as_of).await?;
    let answer = snapshot.sql(&request.sql, &params).await?;
    let epoch = HeaderValue::from(answer.epoch.0);
    let written = tokio::task::spawn_blocking(move || match format {
        Format::Json => json_answer(&answer),
        other => write(other, &answer),
    });
    let bytes = written.await.map_err(|e| QueryError::Internal(e.to_string()))??;
    let media = HeaderValue::from_static(format.media_type());
    Ok(([(header::CONTENT_TYPE, media), (EPOCH, epoch)], bytes).into_response())
}

fn sql_request(headers: &HeaderMap, body: &[u8]) -> Result<SqlRequest, QueryError> {
    let media = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if media.starts_with("application/json") {
        return serde_json::from_slice(body).map_err(|e| {
            QueryError::User(format!("the body is not {{\"sql\": …, \"params\": […], \"as_of\": …}}: {e}"))
        });
    }
    let sql = std::str::from_utf8(body).map_err(|e| QueryError::User(format!("the statement is not UTF-8: {e}")))?;
    Ok(SqlRequest { sql: sql.to_owned(), params: Vec::new(), as_of: None })
}

fn param(value: &Json_) -> Result<Param, QueryError> {
    match value {
        Json_::Null => Ok(Param::Null),
        Json_::Bool(b) => Ok(Param::Bool(*b)),
        Json_::String(text) => Ok(Param::Text(text.clone())),
        Json_::Number(n) if n.is_i64() => Ok(Param::Int(n.as_i64().unwrap_or_default())),
        other => Err(QueryError::User(format!("parameter {other} is no null, boolean, 64-bit integer or text"))),
    }
}

/// The first media type of `Accept` that can be given; JSON where there is none.
fn accepted(headers: &HeaderMap) -> Format {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = |media: &str| media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let given = [Format::Json, Format::Csv, Format::Ndjson, Format::Arrow, Format::Parquet];
    let wanted = accept.split(',').map(essence);
    let mut found = wanted.filter_map(|w| given.into_iter().find(|f| essence(f.media_type()) == w));
    found.next().unwrap_or(Format::Json)
}

fn json_answer(answer: &QueryResult) -> Result<Vec<u8>, QueryError> {
    let column = |f: &Arc<arrow::datatypes::Field>| json!({ "name": f.name(), "type": f.data_type().to_string() });
    let columns: Vec<_> = answer.schema.fields().iter().map(column).collect();
    let head = json!({ "epoch": answer.epoch, "columns": columns }).to_string();
    let mut out = head.into_bytes();
    // The rows are long and already text: they take the place of the closing brace.
    out.pop();
    out.extend_from_slice(b",\"rows\":");
    out.extend(json_rows(answer)?);
    out.push(b'}');
    Ok(out)
}

async fn get_why(
    State(state): State<ServerState>,
    Path((view, key)): Path<(String, String)>,
    Query(query): Query<AsOfQuery>,
) -> Result<Response, ApiError> {
    let as_of = query.as_of.as_deref().unwrap_or_default().parse()?;
    let mut why = state.engine.snapshot(as_of).await?.why(&view, &key).await?;
    if let Some(read) = state.signals {
        let attached = tokio::task::spawn_blocking(move || {
            why.attach(&read);
            why
        });
        why = attached.await.map_err(|e| QueryError::Internal(e.to_string()))?;
    }
    Ok(([(EPOCH, HeaderValue::from(why.epoch.0))], Json(why)).into_response())
}

async fn get_views(State(state): State<ServerState>) -> Json<Json_> {
    Json(json!({ "views": state.engine.views().map(view_json).collect::<Vec<_>>() }))
}

async fn get_view(State(state): State<ServerState>, Path(name): Path<String>) -> Result<Json<Json_>, ApiError> {
    let found = state.engine.views().find(|v| v.table.name == name);
    let missing = || QueryError::NotFound(format!("there is no view {name:?}: {VIEWS} lists them"));
    Ok(Json(view_json(found.ok_or_else(missing)?)))
}

fn view_json(view: &ViewSpec) -> Json_ {
    let column = |c: ColumnSpec| {
        let kind = kind_word(c.kind);
        json!({ "name": c.name, "kind": kind, "nullable": c.nullable, "unit": c.unit, "doc": c.doc })
    };
    let table = &view.table;
    let columns: Vec<_> = (table.columns)().into_iter().map(column).collect();
    json!({
        "name": table.name, "version": table.version, "doc": table.doc, "key": table.key, "columns": columns,
        "oracle": view.oracle, "why": view.why,
    })
}

async fn get_health(State(state): State<ServerState>) -> Response {
    let health = (state.health)();
    let (ok, epochs) = match state.engine.snapshot(AsOf::Newest).await {
        Ok(snapshot) => (health.ok, json!({ "newest": snapshot.epoch(), "committed": snapshot.committed_epoch() })),
        Err(error) => (false, json!({ "error": error.to_string() })),
    };
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ok": ok, "epoch": epochs, "detail": health.detail }))).into_response()
}

async fn get_metrics(State(state): State<ServerState>) -> Result<Response, ApiError> {
    let metrics = state.metrics.ok_or_else(|| QueryError::NotFound("metrics are not recorded here".to_owned()))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render()).into_response())
}
