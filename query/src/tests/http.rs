//! The HTTP interface through its router.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode},
};
use serde_json::{Value as Json, json};
use tower::ServiceExt;

use super::kit::{Store, THINGS, TOTAL, thing, total};
use crate::{EngineOptions, Health, ServerState, openapi, router};

async fn served(options: EngineOptions) -> (Store, Router) {
    let mut store = Store::new();
    let rows = (0..3).map(|part| thing(Some("a/b"), part, "x")).collect();
    store.commit(7, &[(&THINGS.table, rows), (&TOTAL.table, vec![total(3)])]).await;
    let health = || Health { ok: true, detail: json!({ "lag_epochs": 0 }) };
    let engine = store.engine_with(options);
    let state = ServerState { engine, health: Arc::new(health), signals: None, metrics: None };
    (store, router(state, Router::new()))
}

async fn ask(router: &Router, request: Request<Body>) -> (StatusCode, HeaderMap, Vec<u8>) {
    let response = router.clone().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    (head.status, head.headers, to_bytes(body, 1 << 24).await.unwrap().to_vec())
}

fn sql(text: &str, accept: &str) -> Request<Body> {
    Request::post("/api/sql").header("accept", accept).body(Body::from(text.to_owned())).unwrap()
}

fn json_sql(body: &Json) -> Request<Body> {
    let request = Request::post("/api/sql").header("content-type", "application/json");
    request.body(Body::from(body.to_string())).unwrap()
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

fn parsed(body: &[u8]) -> Json {
    serde_json::from_slice(body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_is_answered_in_the_form_that_accept_asks_for() {
    let (_store, router) = served(EngineOptions::default()).await;
    let text = "select id, part, day from things order by part";
    let (status, headers, body) = ask(&router, sql(text, "*/*")).await;
    assert_eq!((status, headers["x-flowsync-epoch"].to_str().unwrap()), (StatusCode::OK, "7"));
    let answer = parsed(&body);
    assert_eq!((&answer["epoch"], &answer["columns"][1]["name"]), (&json!(7), &json!("part")));
    assert_eq!(answer["rows"][1], json!(["a/b", 1, "1970-01-02"]));
    let (_, headers, body) = ask(&router, sql(text, "text/html, text/csv;q=0.9")).await;
    assert!(headers["content-type"].to_str().unwrap().starts_with("text/csv"));
    assert!(body.starts_with(b"id,part,day\n"));
    let (_, headers, body) = ask(&router, sql(text, "application/vnd.apache.arrow.stream")).await;
    assert_eq!(headers["content-type"], "application/vnd.apache.arrow.stream");
    assert!(arrow::ipc::reader::StreamReader::try_new(body.as_slice(), None).is_ok());
    let none = ask(&router, sql("select part from things where part < 0", "application/json")).await.2;
    assert_eq!(parsed(&none)["rows"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_and_epochs_come_in_json() {
    let (_store, router) = served(EngineOptions::default()).await;
    let body = json!({ "sql": "select count(*) from things where part < $1", "params": [2], "as_of": 7 });
    assert_eq!(parsed(&ask(&router, json_sql(&body)).await.2)["rows"], json!([[2]]));
    let body = json!({ "sql": "select 1", "as_of": "6" });
    assert_eq!(ask(&router, json_sql(&body)).await.0, StatusCode::NOT_FOUND);
    for wrong in [json!({ "sql": "select $1", "params": [1.5] }), json!({ "query": "select 1" }), json!([])] {
        assert_eq!(ask(&router, json_sql(&wrong)).await.0, StatusCode::BAD_REQUEST, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_one_shape_and_carry_the_request_id() {
    let (_store, router) = served(EngineOptions { rows_max: 2, queue_max: 0, ..Default::default() }).await;
    let mut request = sql("drop table things", "*/*");
    request.headers_mut().insert("x-request-id", "mine".parse().unwrap());
    let (status, headers, body) = ask(&router, request).await;
    let error = &parsed(&body)["error"];
    assert_eq!(
        (status, &error["code"], &error["request_id"]),
        (StatusCode::BAD_REQUEST, &json!("bad_request"), &json!("mine"))
    );
    assert_eq!(headers["x-request-id"], "mine");
    let (status, _, body) = ask(&router, sql("select * from things", "*/*")).await;
    let error = &parsed(&body)["error"];
    assert_eq!((status, &error["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("limit")));
    assert!(error["message"].as_str().unwrap().contains("rows_max"));
    assert!(!error["request_id"].as_str().unwrap().is_empty());
    let long = format!("select '{}'", "x".repeat(2 << 20));
    let (status, _, body) = ask(&router, sql(&long, "*/*")).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(parsed(&body)["error"]["message"].as_str().unwrap().contains("body_bytes_max"));
    let (status, _, body) = ask(&router, get("/api/nothing")).await;
    assert_eq!((status, &parsed(&body)["error"]["code"]), (StatusCode::NOT_FOUND, &json!("not_found")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_server_says_so_and_when_to_come_back() {
    let (_store, router) = served(EngineOptions { queries_max: 1, queue_max: 0, ..Default::default() }).await;
    let slow = "select count(*) from generate_series(1, 1000000) a, generate_series(1, 1000000) b";
    let running = tokio::spawn({
        let router = router.clone();
        async move { ask(&router, sql(slow, "*/*")).await }
    });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let (status, headers, body) = ask(&router, sql("select 1", "*/*")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(headers.contains_key("retry-after"));
    assert!(parsed(&body)["error"]["message"].as_str().unwrap().contains("queue_max"));
    // A client that goes away takes its query with it.
    running.abort();
    let _ = running.await;
    assert_eq!(ask(&router, sql("select 1", "*/*")).await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn why_views_and_health() {
    let (_store, router) = served(EngineOptions::default()).await;
    let (status, _, body) = ask(&router, get("/api/why/things/a/b,1")).await;
    assert_eq!((status, &parsed(&body)["row"]["id"]), (StatusCode::OK, &json!("a/b")));
    assert_eq!(ask(&router, get("/api/why/things/a/b,9")).await.0, StatusCode::NOT_FOUND);
    assert_eq!(ask(&router, get("/api/why/things/a")).await.0, StatusCode::BAD_REQUEST);
    let views = parsed(&ask(&router, get("/api/views")).await.2);
    assert_eq!(views["views"].as_array().unwrap().len(), 2);
    let view = parsed(&ask(&router, get("/api/views/total")).await.2);
    assert_eq!(view["key"], json!(["one"]));
    let (status, _, body) = ask(&router, get("/healthz")).await;
    assert_eq!((status, &parsed(&body)["epoch"]["newest"]), (StatusCode::OK, &json!(7)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_lists_every_route_and_no_other() {
    let (_store, router) = served(EngineOptions::default()).await;
    let document = parsed(&ask(&router, get("/api/openapi.json")).await.2);
    assert_eq!(document, openapi::document());
    let paths = document["paths"].as_object().unwrap();
    let listed: BTreeSet<&str> = paths.keys().map(String::as_str).collect();
    // Served by the digest, the feed, the gateway and the audit, which are merged into the same router.
    let elsewhere = [
        "/api/audit/extension",
        "/api/audit/proof/{subject}",
        "/api/audit/verify",
        "/api/digest",
        "/api/digest/stream",
        "/api/finance/capitalization",
        "/hooks/{connector}",
    ];
    let ours = crate::server::paths();
    let expected: BTreeSet<&str> = ours.iter().map(String::as_str).chain(elsewhere).collect();
    assert_eq!(listed, expected);
    for (path, operations) in paths.iter().filter(|(p, _)| !elsewhere.contains(&p.as_str())) {
        for (method, operation) in operations.as_object().unwrap() {
            let mut address = path.clone();
            for parameter in operation["parameters"].as_array().unwrap().iter().filter(|p| p["in"] == "path") {
                let name = parameter["name"].as_str().unwrap();
                assert!(address.contains(&format!("{{{name}}}")), "{path} has no {name}");
                address = address.replace(&format!("{{{name}}}"), "x");
            }
            assert!(!address.contains('{'), "{path} has a parameter that the document does not describe");
            let request = Request::builder().method(method.to_uppercase().as_str()).uri(&address);
            let (status, _, body) = ask(&router, request.body(Body::empty()).unwrap()).await;
            assert_ne!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {address}");
            let told = String::from_utf8_lossy(&body).into_owned();
            assert!(!told.contains("no such address"), "{method} {address}: {told}");
        }
    }
}
