//! What every HTTP answer of this crate has in common: the shape of an error, and the request id in it.
//!
//! ```json
//! {"error": {"code": "limit", "message": "limit rows_max reached: …", "request_id": "…"}}
//! ```

use axum::{
    Json, Router,
    extract::Request,
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};

use crate::QueryError;

const REQUEST_ID: &str = "x-request-id";
/// Seconds after which a busy server may be asked again.
const RETRY_AFTER_SECS: u16 = 1;

/// An error on its way to the client.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl ApiError {
    /// 503 with `Retry-After`: the limit is named by the code and told in the message.
    pub(crate) fn busy(code: &'static str, message: String) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
    }

    pub(crate) fn new(status: StatusCode, code: &'static str, message: String) -> Self {
        Self { status, code, message }
    }

    fn body(&self, request_id: &str) -> Response {
        let error = json!({ "code": self.code, "message": self.message, "request_id": request_id });
        let mut response = (self.status, Json(json!({ "error": error }))).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECS));
        }
        response
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let status = match &error {
            retry if retry.is_retryable() => StatusCode::SERVICE_UNAVAILABLE,
            QueryError::User(_) => StatusCode::BAD_REQUEST,
            QueryError::NotFound(_) => StatusCode::NOT_FOUND,
            QueryError::Limit { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            QueryError::Data(_) | QueryError::Io { .. } | QueryError::Internal(_) => {
                tracing::error!(%error, "a request failed");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self { status, code: error.code(), message: error.to_string() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.body("");
        // For the layer that knows the request id.
        response.extensions_mut().insert(self);
        response
    }
}

/// Gives every request an id (or keeps the sender's), and every error of this crate the id.
pub(crate) fn with_request_ids(router: Router) -> Router {
    router
        .layer(from_fn(complete_error))
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
}

async fn complete_error(request: Request, next: Next) -> Response {
    let id = request.headers().get(REQUEST_ID).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let mut response = next.run(request).await;
    match response.extensions_mut().remove::<ApiError>() {
        Some(error) => error.body(&id),
        None => response,
    }
}
