//! The command line and the server as a user meets them.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use flowsync_dataflow::views;
use flowsync_ingest::{DataDir, simulate::CONNECTORS};
use tempfile::TempDir;

use crate::process::{Server, demo_dir, flowsync, said, sql, succeed};

#[test]
fn the_demo_fills_every_view_and_check_agrees() {
    let dir = demo_dir();
    for view in views::ALL {
        let name = view.spec.table.name;
        let counted = sql(dir, "csv", &format!("select count(*) from {name}"));
        assert_ne!(counted.lines().nth(1), Some("0"), "the demo shows nothing in {name}");
    }
    let checked = succeed(flowsync().args(["check", "--dir"]).arg(dir));
    assert_eq!(checked.matches("as defined").count(), views::ALL.len(), "{checked}");
}

#[test]
fn the_allocator_has_its_options() {
    let mut asked = flowsync();
    // It tells at the end of the process.
    asked.arg("--version").env("_RJEM_MALLOC_CONF", "stats_print:true");
    let told = said(&asked.output().expect("it runs"));
    assert!(told.contains("opt.oversize_threshold: 0\n"), "{told}");
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    assert!(told.contains("opt.background_thread: true"), "{told}");
}

#[test]
fn digests_finance_and_why_lead_to_their_evidence() {
    let dir = demo_dir();
    for role in ["engineer", "designer", "product_manager", "finance", "admin"] {
        let digest = succeed(flowsync().args(["digest", "--role", role, "--format", "json", "--dir"]).arg(dir));
        assert!(serde_json::from_str::<serde_json::Value>(&digest).expect("JSON")["epoch"].is_number());
    }
    let wrong = flowsync().args(["digest", "--role", "king", "--dir"]).arg(dir).output().expect("it runs");
    assert!(!wrong.status.success() && said(&wrong).contains("product_manager"), "{}", said(&wrong));

    // The evidence of every piece of news is there.
    let items =
        sql(dir, "ndjson", "select distinct evidence_view, min(evidence_key) as k from digest_items group by 1");
    for item in items.lines() {
        let item: serde_json::Value = serde_json::from_str(item).expect("JSON");
        let (view, key) = (item["evidence_view"].as_str().expect("a view"), item["k"].as_str().expect("a key"));
        let why = succeed(flowsync().args(["why", view, key, "--json", "--dir"]).arg(dir));
        let why: serde_json::Value = serde_json::from_str(&why).expect("JSON");
        let signals = why["signals"].as_array().expect("signals");
        assert!(!signals.is_empty(), "{view} {key} has no signal behind it");
        assert!(signals[0]["delivery"]["body"].as_str().is_some_and(|b| !b.is_empty()), "{view} {key}: no bytes");
    }

    let period = sql(dir, "csv", "select max(period) from capitalization").lines().nth(1).expect("a row").to_owned();
    let csv = succeed(flowsync().args(["finance", "export", "--period", &period, "--dir"]).arg(dir));
    let count = sql(dir, "csv", &format!("select count(*) from capitalization where period = '{period}'"));
    assert_eq!(Some(csv.lines().count() - 1), count.lines().nth(1).and_then(|n| n.parse().ok()), "{csv}");
    let wrong =
        flowsync().args(["finance", "export", "--period", "October", "--dir"]).arg(dir).output().expect("it runs");
    assert!(said(&wrong).contains("2026-10"), "{}", said(&wrong));
}

/// I7: every row of every view can be taken back to the signals behind it.
#[test]
fn every_view_can_say_why() {
    let dir = demo_dir();
    for view in views::ALL {
        let table = &view.spec.table;
        let keys: Vec<String> = table.key.iter().map(|k| format!("coalesce(cast({k} as varchar), '\\N')")).collect();
        // Dates and times are written as `why` reads them.
        let key = keys.join(" || ',' || ");
        let rows = sql(dir, "csv", &format!("select {key} as k from {} order by 1 limit 3", table.name));
        for key in rows.lines().skip(1).map(|line| line.trim_matches('"')) {
            let why = succeed(flowsync().args(["why", table.name, key, "--json", "--dir"]).arg(dir));
            let why: serde_json::Value = serde_json::from_str(&why).expect("JSON");
            assert!(why["signals_total"].as_u64() > Some(0), "{} {key} has no signal behind it", table.name);
        }
    }
}

#[test]
fn a_second_writer_is_told_who_holds_the_data() {
    let folder = TempDir::new().expect("a folder");
    let (dir, config) = (folder.path().join("data"), folder.path().join("flowsync.toml"));
    std::fs::write(&config, "[secrets]\nmanual = \"token\"\n\n[settings]\nprojects = [\"SHOP\"]\n").expect("written");
    let server = Server::start(&dir, &config);
    let second = flowsync().args(["import", "git", ".", "--dir"]).arg(&dir).output().expect("it runs");
    assert!(!second.status.success());
    assert!(said(&second).contains("flowsync run"), "{}", said(&second));
    // Readers are welcome.
    assert_eq!(sql(&dir, "csv", "select count(*) from tickets").lines().nth(1), Some("0"));
    report_is_seen_everywhere(&server, &dir);
    server.stop();
    assert_eq!(sql(&dir, "csv", "select verb from fact_reports").lines().nth(1), Some("start"));
}

fn report_is_seen_everywhere(server: &Server, dir: &Path) {
    let at = |path: &str| format!("http://{}{path}", server.address);
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let stream = agent.get(at("/api/digest/stream?role=engineer")).call().expect("a stream");
    let report = r#"{"verb":"start","ticket":"SHOP-1","reporter":"ada@example.org"}"#;
    let post = |token: &str| {
        let request = agent.post(at("/hooks/manual")).header("authorization", format!("Bearer {token}"));
        request.send(report).expect("an answer").status().as_u16()
    };
    assert_eq!(post("wrong"), 401);
    assert!(post("token") < 300);
    // The feed tells of it before any file does.
    let mut lines = BufReader::new(stream.into_body().into_reader()).lines();
    let told = lines.find(|line| line.as_ref().is_ok_and(|l| l.contains("SHOP-1")));
    assert!(told.is_some(), "the live feed ended without the news");
    let ask = |sql: &str| {
        let mut answer = agent.post(at("/api/sql")).send(sql).expect("an answer");
        (answer.status().as_u16(), answer.body_mut().read_to_string().expect("text"))
    };
    let (status, answer) = ask("select ticket_key, evidence_progress from ticket_status");
    assert!(status == 200 && answer.contains("in_progress"), "{status} {answer}");
    assert_eq!(ask("drop table links").0, 400);
    // Beside the server `why` asks the server, which can open the log.
    let why = succeed(flowsync().args(["why", "ticket_status", "SHOP-1", "--dir"]).arg(dir));
    assert!(why.contains("ada@example.org"), "the bytes of the report are behind the row: {why}");
    let mut document = agent.get(at("/api/openapi.json")).call().expect("an answer");
    let document: serde_json::Value = document.body_mut().read_json().expect("JSON");
    for route in ["/hooks/{connector}", "/api/sql", "/api/digest", "/api/digest/stream", "/healthz", "/metrics"] {
        assert!(document["paths"][route].is_object(), "{route} is not in the OpenAPI document");
    }
    let mut metrics = agent.get(at("/metrics")).call().expect("an answer");
    let metrics = metrics.body_mut().read_to_string().expect("text");
    assert!(metrics.contains("flowsync_gateway_unauthorized_total{connector=\"manual\"} 1"), "{metrics}");
}

#[test]
fn a_simulated_organisation_is_the_same_over_the_gateway_and_from_files() {
    let folder = TempDir::new().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let secrets = CONNECTORS.map(|c| format!("{c} = \"{c}-secret\"\n")).concat();
    std::fs::write(at("flowsync.toml"), format!("[secrets]\n{secrets}")).expect("written");
    let simulate = || {
        let mut command = flowsync();
        command.args(["simulate", "--tickets", "150", "--until", "2026-11-20T12:00:00Z"]);
        command
    };
    let server = Server::start(&at("sent"), &at("flowsync.toml"));
    let url = format!("http://{}", server.address);
    let config = at("flowsync.toml");
    let truth = at("truth.ndjson");
    let told = succeed(simulate().args(["--to", &url, "--config"]).arg(&config).arg("--truth").arg(&truth));
    assert!(!told.contains(" 0 forged and refused"), "{told}");
    // An organisation of another seed is another one; the wrong secrets send nothing of it.
    std::fs::write(at("wrong.toml"), format!("[secrets]\n{}", secrets.replace("-secret", ""))).expect("written");
    let wrong =
        simulate().args(["--seed", "2", "--to", &url, "--config"]).arg(at("wrong.toml")).output().expect("it runs");
    assert!(!wrong.status.success() && said(&wrong).contains("secrets."), "{}", said(&wrong));
    server.stop();

    succeed(simulate().arg("--out").arg(at("files")));
    for connector in CONNECTORS {
        let file = at("files").join(format!("{connector}.ndjson.gz"));
        succeed(flowsync().args(["import", connector]).arg(file).arg("--dir").arg(at("imported")));
    }
    assert!(at("files").join("truth.ndjson.gz").exists());
    assert!(std::fs::read_to_string(&truth).expect("the truth").lines().count() > 1_000);
    // Chat commands are of the moment at which they are sent, and deletions of comments are dated when they arrive.
    for question in [
        "select * from tickets",
        "select * from pull_requests",
        "select sha, repo from commits",
        "select artifact_id, ticket_key from links",
        "select person, ticket_key, verb from fact_reports",
    ] {
        let rows = |dir| {
            let mut rows: Vec<String> = sql(&at(dir), "csv", question).lines().map(str::to_owned).collect();
            rows.sort();
            rows
        };
        let (sent, imported) = (rows("sent"), rows("imported"));
        assert!(sent.len() > 20, "{question}");
        assert_eq!(sent.len(), imported.len(), "{question}");
    }
}

#[test]
fn help_teaches_and_lists_are_complete() {
    let help = succeed(flowsync().arg("--help"));
    for command in [
        "demo",
        "run",
        "import",
        "sql",
        "digest",
        "finance",
        "why",
        "audit",
        "views",
        "connectors",
        "check",
        "simulate",
    ] {
        assert!(help.contains(command), "--help does not name {command}");
    }
    let listed = succeed(flowsync().arg("views"));
    assert!(views::ALL.iter().all(|v| listed.contains(v.spec.table.name)));
    let listed = succeed(flowsync().arg("connectors"));
    assert!(flowsync_ingest::connectors::ALL.iter().all(|c| listed.contains(c.spec().name)));
    let empty = TempDir::new().expect("a folder");
    let nothing = flowsync().args(["sql", "select 1", "--dir"]).arg(empty.path()).output().expect("it runs");
    assert!(!nothing.status.success() && said(&nothing).contains("flowsync"), "{}", said(&nothing));
}

/// Where nobody reads.
fn closed() -> Stdio {
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

#[test]
fn a_command_whose_reader_is_gone_ends_quietly() {
    let dir = demo_dir();
    let query = ["sql", "select * from links"];
    let commands: [&[&str]; 6] =
        [&["check"], &query, &["digest", "--role", "engineer"], &["audit", "verify"], &["views"], &["connectors"]];
    for args in commands {
        let mut command = flowsync();
        command.args(args).stdout(closed());
        if !["views", "connectors"].contains(&args[0]) {
            command.arg("--dir").arg(dir);
        }
        let ended = command.output().expect("the binary starts");
        assert_eq!((ended.status.code(), said(&ended)), (Some(141), String::new()), "{args:?}");
    }
    // `| head -1`: what it began with was read.
    let mut child = flowsync().args(["check", "--dir"]).arg(dir).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.as_mut().expect("the binary starts");
    let mut first = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut first).expect("a line");
    assert!(first.starts_with("epoch"), "{first}");
    let mut complaint = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut complaint).expect("text");
    assert_eq!((child.wait().expect("it ends").code(), complaint.as_str()), (Some(141), ""));
}

#[test]
fn a_server_goes_on_when_nobody_reads_what_it_says() {
    let folder = TempDir::new().expect("a folder");
    let dir = folder.path().join("data");
    let mut command = flowsync();
    command.args(["run", "--listen", "127.0.0.1:0", "--dir"]).arg(&dir).env("FLOWSYNC_LOG", "debug");
    let mut server = command.stdout(closed()).stderr(closed()).spawn().expect("the binary starts");
    let started = Instant::now();
    let address = loop {
        let holder = DataDir::open_reader(&dir).ok().and_then(|dir| dir.holder().ok()).flatten();
        if let Some(address) = holder.and_then(|holder| holder.listen) {
            break address;
        }
        assert!(started.elapsed().as_secs() < 60, "it does not serve: {:?}", server.try_wait());
        std::thread::sleep(Duration::from_millis(50));
    };
    // Who asks, and is gone before the answer.
    for _ in 0..5 {
        let mut asking = std::net::TcpStream::connect(&address).expect("it listens");
        asking.write_all(b"GET /api/digest HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
    }
    let agent = crate::kill::agent();
    let answer = agent.get(format!("http://{address}/healthz")).call().expect("it answers");
    assert!(answer.status().is_success(), "{}", answer.status());
    assert!(Command::new("kill").args(["-TERM", &server.id().to_string()]).status().expect("kill").success());
    assert!(server.wait().expect("it ends").success());
}

#[test]
fn a_backup_that_the_server_refuses_says_why() {
    let folder = TempDir::new().expect("a folder");
    let dir = folder.path().join("data");
    let held = DataDir::open_writer(&dir, "a test that serves").expect("nobody else holds it");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    held.set_listen(&listener.local_addr().expect("an address").to_string()).expect("told");
    let busy = "{\"error\":{\"code\":\"busy\",\"message\":\"one backup is being made\"}}";
    for (body, shown) in [(busy, "one backup is being made"), ("a proxy in between", "503 Service Unavailable a proxy")]
    {
        let answered = std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut asking, _) = listener.accept().expect("it is asked");
                let mut request = BufReader::new(asking.try_clone().expect("the same")).lines();
                while request.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                let head =
                    format!("HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: {}", body.len());
                asking.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).expect("sent");
            });
            flowsync().arg("backup").arg(folder.path().join("backup")).arg("--dir").arg(&dir).output()
        });
        let answered = answered.expect("the binary starts");
        assert!(!answered.status.success() && said(&answered).contains(shown), "{}", said(&answered));
    }
}
