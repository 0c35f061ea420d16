//! The OpenAPI document: every address of the process, those of the gateway and the digest included.
//!
//! Written as one table. A test holds it equal to the routes of [`crate::server`].

use serde_json::{Map, Value, json};

use crate::server::{DOCUMENT, HEALTH, METRICS, SQL, VIEW, VIEWS, WHY};

/// Where a parameter is, its name, whether it must be there, and what it says.
type Parameter = (&'static str, &'static str, bool, &'static str);

struct Operation {
    path: &'static str,
    method: &'static str,
    summary: &'static str,
    parameters: &'static [Parameter],
    /// Media types of the body, where there is one.
    body: &'static [&'static str],
    /// Media types of the answer 200 (202 for hooks).
    answer: &'static [&'static str],
    /// Errors that the operation has beside 500.
    errors: &'static [u16],
}

const JSON: &str = "application/json";
const ARROW: &str = "application/vnd.apache.arrow.stream";
const PARQUET: &str = "application/vnd.apache.parquet";
const AS_OF: Parameter =
    ("query", "as_of", false, "Epoch (1200), time (2026-10-01T08:00:00Z) or day; without it the newest epoch.");
const FORMAT: Parameter = ("query", "format", false, "Form of the answer; without it `Accept` decides.");
const ROLE: Parameter = ("query", "role", true, "engineer, designer, product_manager, finance or admin.");

const OPERATIONS: &[Operation] = &[
    Operation {
        path: SQL,
        method: "post",
        summary: "Answers one read-only SQL statement at one epoch; the header x-flowsync-epoch names it.",
        parameters: &[AS_OF],
        body: &["text/plain", JSON],
        answer: &[JSON, "text/csv", "application/x-ndjson", ARROW, PARQUET],
        errors: &[400, 404, 413, 422, 503],
    },
    Operation {
        path: WHY,
        method: "get",
        summary: "The signals behind one row of a view, their facts and the deliveries themselves.",
        parameters: &[
            ("path", "view", true, "Name of the view."),
            ("path", "key", true, "Values of the key columns, joined by commas; a comma within a value is `\\,`."),
            AS_OF,
        ],
        body: &[],
        answer: &[JSON],
        errors: &[400, 404, 422, 503],
    },
    Operation {
        path: VIEWS,
        method: "get",
        summary: "Every view: key, columns with units and documentation, oracle and why.",
        parameters: &[],
        body: &[],
        answer: &[JSON],
        errors: &[],
    },
    Operation {
        path: VIEW,
        method: "get",
        summary: "One view.",
        parameters: &[("path", "name", true, "Name of the view.")],
        body: &[],
        answer: &[JSON],
        errors: &[404],
    },
    Operation {
        path: "/api/digest",
        method: "get",
        summary: "The digest of a role: every line with its band and the way to its evidence.",
        parameters: &[
            ROLE,
            ("query", "since", false, "Time or day that it starts at."),
            ("query", "until", false, "Time or day that it ends before."),
            ("query", "limit", false, "Lines at most."),
            FORMAT,
        ],
        body: &[],
        answer: &["text/markdown", "text/html", JSON],
        errors: &[400, 422, 503],
    },
    Operation {
        path: "/api/digest/stream",
        method: "get",
        summary: "The digest items of a role as server-sent events; resumes by Last-Event-ID.",
        parameters: &[
            ROLE,
            ("query", "from", false, "`now` (the default) or `start`: the current items first."),
            ("query", "since", false, "Time or day that current items start at."),
            ("header", "Last-Event-ID", false, "Id of the last event received: the stream goes on after it."),
        ],
        body: &[],
        answer: &["text/event-stream"],
        errors: &[400, 503],
    },
    Operation {
        path: "/api/finance/capitalization",
        method: "get",
        summary: "The capitalization report of a period: amounts as low, expected and high.",
        parameters: &[("query", "period", true, "Month, such as 2026-10."), FORMAT],
        body: &[],
        answer: &[JSON, "text/csv", PARQUET, "text/markdown"],
        errors: &[400, 422, 503],
    },
    Operation {
        path: "/hooks/{connector}",
        method: "post",
        summary: "Takes one delivery of a tool: 2xx once its bytes are durable.",
        parameters: &[("path", "connector", true, "Name of the connector.")],
        body: &[JSON, "application/x-www-form-urlencoded"],
        answer: &[JSON],
        errors: &[400, 401, 404, 413, 415, 429, 503],
    },
    Operation {
        path: "/api/audit/proof/{subject}",
        method: "get",
        summary: "The proof that a signal is in the log, for who has the public key; with the delivery's bytes.",
        parameters: &[("path", "subject", true, "Id of the signal, or PARTITION/OFFSET.")],
        body: &[],
        answer: &[JSON],
        errors: &[400, 404, 409, 503],
    },
    Operation {
        path: "/api/audit/extension",
        method: "post",
        summary: "The proof that the log has only grown since the signed checkpoint in the body.",
        parameters: &[],
        body: &["text/plain"],
        answer: &[JSON],
        errors: &[400, 409, 413, 503],
    },
    Operation {
        path: "/api/audit/verify",
        method: "post",
        summary: "Reads the whole log and compares it with its hashes and signed checkpoints, also those in the body.",
        parameters: &[],
        body: &[JSON],
        answer: &[JSON],
        errors: &[400, 409, 413, 503],
    },
    Operation {
        path: HEALTH,
        method: "get",
        summary: "Whether the process works: newest and committed epoch, lag.",
        parameters: &[],
        body: &[],
        answer: &[JSON],
        errors: &[503],
    },
    Operation {
        path: METRICS,
        method: "get",
        summary: "Metrics in Prometheus' text format.",
        parameters: &[],
        body: &[],
        answer: &["text/plain"],
        errors: &[404],
    },
    Operation {
        path: DOCUMENT,
        method: "get",
        summary: "This document.",
        parameters: &[],
        body: &[],
        answer: &[JSON],
        errors: &[],
    },
];

/// A path as OpenAPI writes it: without the star that lets a parameter hold slashes.
pub(crate) fn address(path: &str) -> String {
    path.replace("{*", "{")
}

/// The document.
pub fn document() -> Value {
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let path = paths.entry(address(operation.path)).or_insert_with(|| json!({}));
        path[operation.method] = describe(operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "FlowSync",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Views that are always current, always explained and always reproducible.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": { "schemas": { "Error": error_schema() } },
    })
}

fn describe(operation: &Operation) -> Value {
    let parameters: Vec<_> = operation
        .parameters
        .iter()
        .map(|(place, name, required, doc)| {
            json!({ "in": place, "name": name, "required": required, "description": doc, "schema": { "type": "string" } })
        })
        .collect();
    let content = |media: &[&str]| -> Value {
        media.iter().map(|m| ((*m).to_owned(), json!({ "schema": schema(m) }))).collect::<Map<_, _>>().into()
    };
    let mut responses = Map::new();
    responses.insert("200".to_owned(), json!({ "description": "The answer.", "content": content(operation.answer) }));
    for status in operation.errors.iter().chain([&500]) {
        let error = json!({ "schema": { "$ref": "#/components/schemas/Error" } });
        responses.insert(status.to_string(), json!({ "description": meaning(*status), "content": { JSON: error } }));
    }
    let mut described = json!({ "summary": operation.summary, "parameters": parameters, "responses": responses });
    if !operation.body.is_empty() {
        described["requestBody"] = json!({ "required": true, "content": content(operation.body) });
    }
    if operation.path == SQL {
        described["requestBody"]["content"][JSON]["schema"] = sql_schema();
    }
    described
}

fn schema(media: &str) -> Value {
    match media {
        JSON => json!({ "type": "object" }),
        ARROW | PARQUET => json!({ "type": "string", "format": "binary" }),
        _ => json!({ "type": "string" }),
    }
}

fn sql_schema() -> Value {
    json!({
        "type": "object",
        "required": ["sql"],
        "additionalProperties": false,
        "properties": {
            "sql": { "type": "string", "description": "SELECT, WITH, VALUES, EXPLAIN, SHOW or DESCRIBE." },
            "params": {
                "type": "array", "description": "Values of $1, $2, …",
                "items": { "type": ["string", "integer", "boolean", "null"] },
            },
            "as_of": { "type": ["string", "integer"], "description": AS_OF.3 },
        },
    })
}

fn error_schema() -> Value {
    let text = json!({ "type": "string" });
    json!({
        "type": "object",
        "required": ["error"],
        "properties": { "error": {
            "type": "object",
            "required": ["code", "message", "request_id"],
            "properties": { "code": text, "message": text, "request_id": text },
        } },
    })
}

fn meaning(status: u16) -> &'static str {
    match status {
        400 => "The request is wrong; the message says what to change.",
        401 => "It cannot be told that the sender is who it should be.",
        404 => "There is no such thing, or not at this epoch.",
        409 => "The log is not what was signed; the message says what to do.",
        413 => "The body is too long.",
        415 => "The body is packed; send it plain.",
        422 => "The query reached a limit, which the message names.",
        429 => "Too many deliveries of this source; see Retry-After.",
        503 => "Busy or not ready; see Retry-After.",
        _ => "The server failed.",
    }
}
