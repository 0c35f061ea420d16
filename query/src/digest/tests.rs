#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use flowsync_schemas::{Micros, Row, ViewSpec};

use super::*;
use crate::{
    AsOf, Engine, QueryError,
    fixtures::{
        CAPITALIZATION, EFFORT, HEALTH, ITEMS, News, PULL_REQUESTS, REJECTS, REVIEWS, TICKET_STATUS, at, engine, fill,
        row,
    },
};

const ADA: &str = "3f2a0000000000000000000000000001";
const GRACE: &str = "77770000000000000000000000000002";
const STATED: [i64; 3] = [10_000, 10_000, 10_000];

fn now() -> Micros {
    at("08T12:00")
}

fn names() -> Names {
    Arc::new(|id| (id.to_string() == ADA).then(|| "Ada <ada@example.org>".to_owned()))
}

fn news() -> Vec<News> {
    let news =
        |kind, at, audience, project, ticket, subject: &str, title: &str, person, bps, evidence: (_, &str)| News {
            kind,
            at,
            audience,
            project,
            ticket,
            subject: subject.to_owned(),
            title: title.to_owned(),
            person,
            bps,
            evidence: (evidence.0, evidence.1.to_owned()),
        };
    let pm = "engineer,product_manager";
    let all = "designer,engineer,finance,product_manager";
    let (shop, pay) = (Some("SHOP"), Some("PAY"));
    vec![
        news(
            "merged",
            at("05T10:00"),
            "engineer",
            shop,
            Some("SHOP-1"),
            "acme/shop#12",
            "Cart: | <script>alert(1)</script> `rm -rf` \u{1b}[31m\nnew *line*",
            Some(ADA),
            [9_712, 9_400, 9_861],
            ("links", "PullRequest,acme/shop#12,SHOP-1"),
        ),
        news(
            "merged",
            at("06T10:00"),
            "engineer",
            None,
            None,
            "acme/shop#13",
            "Bump serde",
            Some(GRACE),
            STATED,
            ("pull_requests", "acme/shop#13"),
        ),
        news(
            "merged",
            at("07T09:30"),
            "engineer",
            pay,
            Some("PAY-7"),
            "acme/pay#3",
            "PAY-7 retry it's \"flaky\"",
            None,
            [7_000, 5_500, 8_200],
            ("links", "PullRequest,acme/pay#3,PAY-7"),
        ),
        news(
            "done",
            at("06T16:00"),
            all,
            shop,
            Some("SHOP-1"),
            "SHOP-1",
            "A cart that keeps its contents",
            Some(ADA),
            STATED,
            ("tickets", "SHOP-1"),
        ),
        news(
            "started",
            at("07T08:00"),
            "designer,engineer,product_manager",
            shop,
            Some("SHOP-2"),
            "SHOP-2",
            "Checkout in one page",
            None,
            STATED,
            ("tickets", "SHOP-2"),
        ),
        news(
            "blocked",
            at("07T11:00"),
            pm,
            pay,
            Some("PAY-8"),
            "PAY-8",
            "Refunds",
            Some(GRACE),
            STATED,
            ("tickets", "PAY-8"),
        ),
        news(
            "deployed",
            at("07T12:00"),
            "admin,engineer,product_manager",
            Some("acme/shop"),
            None,
            "991",
            "acme/shop to production",
            None,
            STATED,
            ("deployments", "991"),
        ),
        news(
            "deploy_failed",
            at("07T11:50"),
            "admin,engineer",
            Some("acme/shop"),
            None,
            "990",
            "acme/shop to production",
            None,
            STATED,
            ("deployments", "990"),
        ),
        news(
            "incident_opened",
            at("07T13:00"),
            "admin,engineer,product_manager",
            None,
            Some("SHOP-1"),
            "INC-4",
            "Carts are empty",
            None,
            STATED,
            ("incidents", "INC-4"),
        ),
        news(
            "disagreement",
            at("07T14:00"),
            pm,
            pay,
            Some("PAY-7"),
            "PAY-7",
            "Retries (tracker: In Review, evidence: done)",
            None,
            [8_800, 8_100, 9_300],
            ("ticket_status", "PAY-7"),
        ),
        news(
            "reported",
            at("07T15:00"),
            pm,
            pay,
            Some("PAY-8"),
            "5d",
            "block PAY-8",
            Some(GRACE),
            [9_500, 9_000, 9_700],
            ("digest_items", "reported:5d"),
        ),
        // Before the window, and after it.
        news(
            "merged",
            at("01T11:59"),
            "engineer",
            shop,
            Some("SHOP-0"),
            "acme/shop#1",
            "Too old",
            None,
            STATED,
            ("pull_requests", "acme/shop#1"),
        ),
        news(
            "merged",
            now(),
            "engineer",
            shop,
            Some("SHOP-9"),
            "acme/shop#99",
            "Too new",
            None,
            STATED,
            ("pull_requests", "acme/shop#99"),
        ),
    ]
}

fn rows() -> Vec<(&'static ViewSpec, Row)> {
    let mut rows: Vec<(&'static ViewSpec, Row)> = news().iter().map(|n| (&ITEMS, n.row())).collect();
    let capital: [Row; 5] = [
        row![
            "2026-10",
            "SHOP",
            "cc-web",
            "capitalize",
            "EUR",
            12_345_678,
            11_000_000,
            13_000_000,
            1_234_568,
            1_100_000,
            1_300_000,
            8,
            3
        ],
        row![
            "2026-10", "SHOP", "cc-web", "expense", "EUR", 2_000_000, 1_500_000, 2_500_000, 200_000, 150_000, 250_000,
            1, 1
        ],
        row![
            "2026-10",
            "PAY",
            "=cmd|' /C calc'!A0",
            "capitalize",
            "JPY",
            1_000_000,
            900_000,
            1_000_000,
            65_000,
            58_500,
            65_000,
            2,
            1
        ],
        row![
            "2026-10",
            "",
            "",
            "unattributed",
            "EUR",
            3_000_000,
            3_000_000,
            3_000_000,
            300_000,
            300_000,
            300_000,
            0,
            2
        ],
        row!["2026-09", "SHOP", "", "capitalize", "XXX", 20_000_000, 18_000_000, 21_000_000, 0, 0, 0, 11, 3],
    ];
    rows.extend(capital.map(|row| (&CAPITALIZATION, row)));
    let day = |text: &str| i64::from(at(text).day().0);
    let effort: [Row; 4] = [
        row![ADA, day("05T00:00"), "SHOP-1", 750_000, 700_000, 800_000],
        row![ADA, day("05T00:00"), "", 250_000, 200_000, 300_000],
        row![GRACE, day("06T00:00"), "PAY-7", 1_000_000, 1_000_000, 1_000_000],
        row![GRACE, day("08T00:00") + 30, "", 1_000_000, 1_000_000, 1_000_000],
    ];
    rows.extend(effort.map(|row| (&EFFORT, row)));
    let none = None::<i64>;
    let status: [Row; 3] = [
        row!["PAY-7", "PAY", "Retries", "In Review", "done", false, at("07T14:00"), 8_800, 8_100, 9_300],
        row![
            "SHOP-1",
            "SHOP",
            "A cart that keeps its contents",
            "Done",
            "done",
            true,
            at("06T16:00"),
            9_700,
            9_400,
            9_800
        ],
        row!["SHOP-2", "SHOP", None::<&str>, "To Do", None::<&str>, None::<bool>, none, none, none, none],
    ];
    rows.extend(status.map(|row| (&TICKET_STATUS, row)));
    let health: [Row; 4] = [
        row!["github", at("05T10:00"), 1_000, 2_500, 10],
        row!["github", at("07T10:00"), 204, 500, 2],
        row!["jira", at("07T10:00"), 40, 90, 2],
        row!["slack", at("01T08:00"), 5, 5, 0],
    ];
    rows.extend(health.map(|row| (&HEALTH, row)));
    let rejects: [Row; 4] = [
        row!["aa", 0, "jira", at("07T10:01"), "issue: field `key` is missing"],
        row!["ab", 0, "jira", at("07T10:02"), "issue: field `key` is missing"],
        row!["ac", 0, "github", at("05T10:02"), "push: it's no JSON at line 1"],
        row!["ad", 0, "github", at("01T10:02"), "before the window"],
    ];
    rows.extend(rejects.map(|row| (&REJECTS, row)));
    let pulls: [Row; 4] = [
        row!["acme/shop#14", "acme/shop", "Reviewed", "open", false, ADA, at("03T10:00")],
        row!["acme/shop#15", "acme/shop", "Waits", "open", false, GRACE, at("04T10:00")],
        row!["acme/shop#16", "acme/shop", "A draft", "open", true, GRACE, at("02T10:00")],
        row!["acme/shop#12", "acme/shop", "Merged", "merged", false, ADA, at("02T10:00")],
    ];
    rows.extend(pulls.map(|row| (&PULL_REQUESTS, row)));
    rows.push((&REVIEWS, row!["1", "acme/shop#14"]));
    rows
}

fn filled(dir: &std::path::Path) -> Engine {
    let engine = engine(dir);
    fill(&engine, rows());
    engine
}

async fn of(engine: &Engine, role: Role) -> Digest {
    let snapshot = engine.snapshot(AsOf::Newest).await.unwrap();
    digest(&snapshot, DigestRequest::new(role), &names(), now()).await.unwrap()
}

#[tokio::test]
async fn every_role_in_markdown() {
    let dir = tempfile::tempdir().unwrap();
    let engine = filled(dir.path());
    for role in Role::ALL {
        insta::assert_snapshot!(format!("{role}.md"), markdown(&of(&engine, *role).await));
    }
}

#[tokio::test]
async fn pages_and_json() {
    let dir = tempfile::tempdir().unwrap();
    let engine = filled(dir.path());
    let digest = of(&engine, Role::Engineer).await;
    let page = html(&digest);
    insta::assert_snapshot!("engineer.html", page);
    assert!(!page.contains("<script") && !page.contains('\u{1b}'), "foreign text is text");
    assert!(!page.contains("://") && !page.contains("url("), "nothing is loaded from anywhere");
    insta::assert_snapshot!("engineer.json", digest.json());
    insta::assert_snapshot!("admin.html", html(&of(&engine, Role::Admin).await));
}

#[tokio::test]
async fn nothing_to_read_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    let mut all = String::new();
    for role in Role::ALL {
        all.push_str(&markdown(&of(&engine, *role).await));
    }
    fill(&engine, rows());
    let snapshot = engine.snapshot(AsOf::Newest).await.unwrap();
    let later = at("30T00:00");
    let digest = digest(&snapshot, DigestRequest::new(Role::Designer), &names(), later).await.unwrap();
    all.push_str(&markdown(&digest));
    insta::assert_snapshot!("nothing.md", all);
}

#[tokio::test]
async fn limits_cut_lines_not_totals() {
    let dir = tempfile::tempdir().unwrap();
    let engine = filled(dir.path());
    let snapshot = engine.snapshot(AsOf::Newest).await.unwrap();
    let request = DigestRequest { limit: 1, ..DigestRequest::new(Role::Engineer) };
    let digest = digest(&snapshot, request, &no_names(), now()).await.unwrap();
    let merged = digest.sections.iter().find(|s| s.id == "merged").unwrap();
    assert_eq!((merged.lines.len(), merged.more), (1, 2));
    assert_eq!(merged.lines[0].subject.as_deref(), Some("acme/pay#3"), "the newest");
    assert_eq!(digest.totals.iter().find(|t| t.label == "merged").unwrap().count, 3);
}

#[tokio::test]
async fn an_empty_window_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    let snapshot = engine.snapshot(AsOf::Newest).await.unwrap();
    let request = DigestRequest { since: Some(now()), ..DigestRequest::new(Role::Admin) };
    let error = digest(&snapshot, request, &no_names(), now()).await.unwrap_err();
    assert!(matches!(&error, QueryError::User(m) if m.contains("window is empty")), "{error}");
}

/// No line compares people: persons appear only beside a single piece of work.
#[tokio::test]
async fn every_line_has_its_band_and_its_evidence() {
    let dir = tempfile::tempdir().unwrap();
    let engine = filled(dir.path());
    for role in Role::ALL {
        for line in of(&engine, *role).await.sections.iter().flat_map(|s| &s.lines) {
            assert!(!line.certainty.shown().is_empty());
            assert!(line.evidence.command().starts_with("flowsync "));
            if line.person.is_some() {
                assert!(line.subject.is_some(), "{line:?}");
            }
            if let Evidence::Row { view, key, .. } = &line.evidence {
                let spec = engine.views().find(|v| v.table.name == *view);
                if let Some(spec) = spec {
                    crate::why::parse_key(&spec.table, key).unwrap();
                }
            }
        }
    }
}

/// What readers are told to run runs, and finds what the line counts.
#[tokio::test]
async fn queries_given_as_evidence_run() {
    let dir = tempfile::tempdir().unwrap();
    let engine = filled(dir.path());
    let snapshot = engine.snapshot(AsOf::Newest).await.unwrap();
    let mut ran = 0;
    for role in Role::ALL {
        for line in of(&engine, *role).await.sections.iter().flat_map(|s| &s.lines) {
            if let Evidence::Query { sql, .. } = &line.evidence {
                assert!(!snapshot.rows(sql, &[]).await.unwrap().is_empty(), "{sql}");
                ran += 1;
            }
        }
    }
    assert!(ran >= 8, "{ran}");
}

mod http {
    use axum::{
        body::{Body, to_bytes},
        http::{Request, StatusCode},
    };
    use tower::ServiceExt;

    use super::*;

    async fn ask(engine: &Engine, uri: &str, accept: &str) -> (StatusCode, String, Vec<u8>) {
        let routes = digest_routes(DigestState { engine: engine.clone(), names: names() });
        let request = Request::get(uri).header("accept", accept).body(Body::empty()).unwrap();
        let response = routes.oneshot(request).await.unwrap();
        let media = response.headers()["content-type"].to_str().unwrap().to_owned();
        (response.status(), media, to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec())
    }

    #[tokio::test]
    async fn the_form_follows_name_and_accept() {
        let dir = tempfile::tempdir().unwrap();
        let engine = filled(dir.path());
        let window = "/api/digest?role=engineer&since=2026-10-01T12:00:00Z&until=2026-10-08T12:00:00Z";
        for (uri, accept, media, start) in [
            (window.to_owned(), "*/*", "text/markdown", "# Digest"),
            (window.to_owned(), "text/html,application/xhtml+xml", "text/html", "<!doctype html>"),
            (window.to_owned(), "application/json", "application/json", "{"),
            (format!("{window}&format=html"), "application/json", "text/html", "<!doctype html>"),
            ("/api/finance/capitalization?period=2026-10".into(), "text/csv", "text/csv", "period,project"),
            ("/api/finance/capitalization?period=2026-10".into(), "*/*", "application/json", "{\"epoch\":100"),
            (
                "/api/finance/capitalization?period=2026-10&format=parquet".into(),
                "*/*",
                "application/vnd.apache.parquet",
                "PAR1",
            ),
        ] {
            let (status, found, body) = ask(&engine, &uri, accept).await;
            assert_eq!((status, found.split(';').next()), (StatusCode::OK, Some(media)), "{uri}");
            assert!(body.starts_with(start.as_bytes()), "{uri}: {}", String::from_utf8_lossy(&body));
        }
    }

    #[tokio::test]
    async fn odd_requests_are_told_what_to_write() {
        let dir = tempfile::tempdir().unwrap();
        let engine = filled(dir.path());
        for (uri, word) in [
            ("/api/digest", "role is missing"),
            ("/api/digest?role=cook", "product_manager"),
            ("/api/digest?role=admin&since=monday", "since=\\\"monday\\\" is no time"),
            ("/api/digest?role=admin&format=pdf", "md, html, json"),
            ("/api/digest?role=admin&limit=0", "limit=0"),
            ("/api/digest?role=admin&limit=x", "limit"),
            ("/api/finance/capitalization", "period is missing"),
            ("/api/finance/capitalization?period=October", "such as 2026-10"),
        ] {
            let (status, media, body) = ask(&engine, uri, "*/*").await;
            let body = String::from_utf8(body).unwrap();
            assert_eq!((status, media.as_str()), (StatusCode::BAD_REQUEST, "application/json"), "{uri}: {body}");
            assert!(body.contains(word) && body.contains("\"code\":\"bad_request\""), "{uri}: {body}");
        }
    }
}

mod finance_report {
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;
    use crate::reports::finance::{self, ExportFormat};

    #[tokio::test]
    async fn files_and_summary() {
        let dir = tempfile::tempdir().unwrap();
        let engine = filled(dir.path());
        let snapshot = engine.snapshot(AsOf::Newest).await.unwrap();
        let csv = finance::export(&snapshot, "2026-10", ExportFormat::Csv).await.unwrap();
        insta::assert_snapshot!("capitalization.csv", String::from_utf8(csv).unwrap());
        insta::assert_snapshot!("capitalization.md", finance::summary(&snapshot, "2026-10").await.unwrap());
        insta::assert_snapshot!("no_rates.md", finance::summary(&snapshot, "2026-09").await.unwrap());
    }

    #[tokio::test]
    async fn parquet_and_csv_hold_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let engine = filled(dir.path());
        let snapshot = engine.snapshot(AsOf::Newest).await.unwrap();
        let file = finance::export(&snapshot, "2026-10", ExportFormat::Parquet).await.unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(file)).unwrap().build().unwrap();
        let batches: Vec<_> = reader.map(Result::unwrap).collect();
        let text = arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string();
        assert!(text.contains("12345.68") && text.contains("1234568"), "{text}");
        // A formula is harmless in Parquet, and stays what the configuration says.
        assert!(text.contains(" =cmd|' /C calc'!A0 "), "{text}");
        let names: Vec<_> = batches[0].schema().fields().iter().map(|f| f.name().clone()).collect();
        let csv = String::from_utf8(finance::export(&snapshot, "2026-10", ExportFormat::Csv).await.unwrap()).unwrap();
        assert_eq!(csv.lines().next().unwrap(), names.join(","));
        assert_eq!(csv.lines().count() - 1, batches.iter().map(|b| b.num_rows()).sum::<usize>());
    }

    #[tokio::test]
    async fn totals_are_the_sums_of_the_lines() {
        let dir = tempfile::tempdir().unwrap();
        let engine = filled(dir.path());
        let snapshot = engine.snapshot(AsOf::Newest).await.unwrap();
        let lines = finance::lines(&snapshot, "2026-10").await.unwrap();
        let totals = finance::totals(&lines);
        let sql = "select currency, classification, sum(amount_minor) as amount from capitalization \
                   where period = '2026-10' group by currency, classification";
        let sums = snapshot.rows(sql, &[]).await.unwrap();
        assert_eq!(sums.len(), totals.len());
        for sum in sums {
            let key = (sum.text("currency").unwrap().into(), sum.text("classification").unwrap().into());
            assert_eq!(totals[&key].amount_minor[0], sum.int("amount").unwrap());
        }
    }

    #[tokio::test]
    async fn a_period_without_data_and_one_that_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let engine = filled(dir.path());
        let snapshot = engine.snapshot(AsOf::Newest).await.unwrap();
        let csv = finance::export(&snapshot, "2025-01", ExportFormat::Csv).await.unwrap();
        assert_eq!(String::from_utf8(csv).unwrap().lines().count(), 1, "the header alone");
        let file = finance::export(&snapshot, "2025-01", ExportFormat::Parquet).await.unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(file)).unwrap();
        assert_eq!((reader.metadata().file_metadata().num_rows(), reader.schema().fields().len()), (0, 22));
        assert!(finance::summary(&snapshot, "2025-01").await.unwrap().contains("No effort is assigned"));
        for odd in ["2026-13", "2026-00", "2026-1", "26-10", "2026-10-01", "2026_10", "", "२०२६-१०", "+026-10"]
        {
            let error = finance::lines(&snapshot, odd).await.unwrap_err();
            assert!(error.is_user_error() && error.to_string().contains("2026-10"), "{odd}: {error}");
        }
    }

    #[tokio::test]
    async fn keys_lead_back_to_their_rows() {
        let dir = tempfile::tempdir().unwrap();
        let engine = filled(dir.path());
        let snapshot = engine.snapshot(AsOf::Newest).await.unwrap();
        for mut line in finance::lines(&snapshot, "2026-10").await.unwrap() {
            line.project = r"a,b\c,".into();
            let key = crate::why::parse_key(&CAPITALIZATION.table, &line.why_key()).unwrap();
            let parts = [&line.period, &line.project, &line.cost_centre, &line.classification, &line.currency];
            assert_eq!(key, parts.map(|p| crate::Param::from(p.as_ref())));
        }
    }
}
