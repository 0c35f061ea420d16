//! `GET /api/digest` and `GET /api/finance/capitalization`.
//!
//! The form follows `format=`, else the `Accept` header. Both read one snapshot of the newest epoch (I4).

use axum::{
    Router,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};
use flowsync_schemas::Micros;
use serde::{Deserialize, Serialize};

use super::{DEFAULT_LINES, DigestRequest, MAX_LINES, Names, Role, digest, html, markdown};
use crate::{
    AsOf, Engine, QueryError,
    feed::now,
    http::ApiError,
    reports::finance::{self, CapitalizationLine, ExportFormat},
};

/// What the digest routes need.
#[derive(Clone)]
pub struct DigestState {
    /// For the data.
    pub engine: Engine,
    /// For names of people.
    pub names: Names,
}

/// The routes of the digest and the finance report.
pub fn digest_routes(state: DigestState) -> Router {
    Router::new()
        .route("/api/digest", get(get_digest))
        .route("/api/finance/capitalization", get(get_capitalization))
        .with_state(state)
}

#[derive(Deserialize)]
struct DigestQuery {
    role: Option<String>,
    since: Option<String>,
    until: Option<String>,
    limit: Option<usize>,
    format: Option<String>,
}

async fn get_digest(
    State(state): State<DigestState>,
    query: Result<Query<DigestQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let query = parameters(query)?;
    let form = form(query.format.as_deref(), &headers, &["md", "html", "json"])?;
    let limit = query.limit.unwrap_or(DEFAULT_LINES);
    if !(1..=MAX_LINES).contains(&limit) {
        return Err(user(format!("limit={limit} is outside 1 to {MAX_LINES}")).into());
    }
    let request = DigestRequest {
        role: role(query.role.as_deref())?,
        since: time("since", query.since.as_deref())?,
        until: time("until", query.until.as_deref())?,
        limit,
    };
    let snapshot = state.engine.snapshot(AsOf::Newest).await?;
    let digest = digest(&snapshot, request, &state.names, now()).await?;
    let body = match form {
        "html" => html(&digest),
        "json" => digest.json(),
        _ => markdown(&digest),
    };
    Ok(answer(media_type(form), body.into_bytes()))
}

#[derive(Deserialize)]
struct CapitalizationQuery {
    period: Option<String>,
    format: Option<String>,
}

/// The JSON of the report.
#[derive(Serialize)]
struct CapitalizationAnswer<'a> {
    epoch: flowsync_schemas::Epoch,
    period: &'a str,
    lines: Vec<CapitalizationLine>,
}

async fn get_capitalization(
    State(state): State<DigestState>,
    query: Result<Query<CapitalizationQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let query = parameters(query)?;
    let form = form(query.format.as_deref(), &headers, &["json", "csv", "parquet", "md"])?;
    let period = query.period.as_deref().ok_or_else(|| user("period is missing: add ?period=2026-10".to_owned()))?;
    let snapshot = state.engine.snapshot(AsOf::Newest).await?;
    let (media, bytes) = match form {
        "csv" | "parquet" => {
            let format = if form == "csv" { ExportFormat::Csv } else { ExportFormat::Parquet };
            (format.media_type(), finance::export(&snapshot, period, format).await?)
        }
        "md" => (media_type(form), finance::summary(&snapshot, period).await?.into_bytes()),
        _ => {
            let lines = finance::lines(&snapshot, period).await?;
            let answer = CapitalizationAnswer { epoch: snapshot.epoch(), period, lines };
            let json = serde_json::to_vec(&answer).map_err(|e| QueryError::Internal(e.to_string()))?;
            (media_type(form), json)
        }
    };
    let mut response = answer(media, bytes);
    if matches!(form, "csv" | "parquet") {
        // The period was checked: digits and a hyphen.
        let disposition = format!("attachment; filename=\"capitalization-{period}.{form}\"");
        if let Ok(value) = HeaderValue::from_str(&disposition) {
            response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
        }
    }
    Ok(response)
}

/// The parameters of a request; an odd one is answered like every other error.
pub(crate) fn parameters<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, QueryError> {
    query.map(|Query(query)| query).map_err(|rejection| user(rejection.body_text()))
}

/// The role of a request.
pub(crate) fn role(role: Option<&str>) -> Result<Role, QueryError> {
    let known = || Role::ALL.iter().map(|r| r.word()).collect::<Vec<_>>().join(", ");
    match role {
        None => Err(user(format!("role is missing: add ?role= with one of {}", known()))),
        Some(role) => role.parse().map_err(|_| user(format!("there is no role {role:?}: it is one of {}", known()))),
    }
}

/// A point in time of a request: RFC 3339, or a day.
pub(crate) fn time(name: &str, text: Option<&str>) -> Result<Option<Micros>, QueryError> {
    let read = |text: &str| Micros::parse(text).or_else(|| Micros::parse(&format!("{text}T00:00:00Z")));
    text.map(|text| {
        read(text).ok_or_else(|| {
            user(format!("{name}={text:?} is no time: expected a day (2026-10-01) or RFC 3339 (2026-10-01T08:00:00Z)"))
        })
    })
    .transpose()
}

fn user(message: String) -> QueryError {
    QueryError::User(message)
}

/// The form to answer in: what is asked for by name, else the first acceptable one, else the first.
fn form(named: Option<&str>, headers: &HeaderMap, forms: &'static [&'static str]) -> Result<&'static str, QueryError> {
    if let Some(named) = named {
        let known = forms.iter().find(|f| **f == named);
        return known
            .copied()
            .ok_or_else(|| user(format!("there is no format {named:?}: it is one of {}", forms.join(", "))));
    }
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let accepted = accept.split(',').filter_map(|part| {
        let media = part.split(';').next()?.trim();
        forms.iter().find(|f| media_type(f).split(';').next() == Some(media))
    });
    Ok(accepted.into_iter().next().unwrap_or(&forms[0]))
}

fn media_type(form: &str) -> &'static str {
    match form {
        "html" => "text/html; charset=utf-8",
        "json" => "application/json",
        "csv" => ExportFormat::Csv.media_type(),
        "parquet" => ExportFormat::Parquet.media_type(),
        _ => "text/markdown; charset=utf-8",
    }
}

fn answer(media: &'static str, body: Vec<u8>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, media),
        (header::CONTENT_SECURITY_POLICY, html::CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::VARY, "accept"),
    ];
    (headers, body).into_response()
}
