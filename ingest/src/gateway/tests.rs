//! The gateway on a loopback socket, with a real client, over the embedded log.

#![allow(clippy::unwrap_used)]

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use flowsync_schemas::{ConnectorSpec, LogPosition, Micros, SignalId, id::Account};

use super::*;
use crate::{
    appender::AppenderLimits,
    connectors::{Secret, Verified},
    log::{Appended, EmbeddedLog, Log, LogError},
    seal::Keys,
    serve::ServeLimits,
    vault::Vault,
};

static SPEC: ConnectorSpec = ConnectorSpec {
    name: "plain",
    version: 1,
    doc: "Test: one name a line; a line `bad` cannot be read.",
    verification: "the header x-token is the secret",
    events: &[],
    headers: &["x-delivery"],
    reference: "",
};

/// Small enough to see through: it exercises the gateway, not a tool's format.
struct Plain;

impl Connector for Plain {
    fn spec(&self) -> &'static ConnectorSpec {
        &SPEC
    }

    fn verify(&self, delivery: Delivery<'_>, secret: Option<&Secret>) -> Result<Verified, VerifyError> {
        let secret = secret.ok_or(VerifyError::NoSecret(SPEC.name))?;
        if delivery.header("x-token").map(str::as_bytes) != Some(secret.expose()) {
            return Err(VerifyError::Mismatch("x-token"));
        }
        Ok(Verified::imported(&SPEC, delivery, delivery.header("x-delivery")))
    }

    fn parse(&self, verified: &Verified, out: &mut Parsed<'_>) {
        for line in String::from_utf8_lossy(&verified.signal().body).lines() {
            if line == "bad" {
                out.reject("a line is bad");
            } else {
                out.person(Micros(0), SPEC.name, &Account::Login { source: SPEC.name, login: line }, line, false);
            }
        }
    }

    fn reply(&self, parsed: &Parsed<'_>) -> Option<Value> {
        parsed.names.iter().any(|n| n.name == "chat").then(|| json!({"text": "understood"}))
    }
}

/// The embedded log, which can be told to fail.
struct Failing(EmbeddedLog, std::sync::atomic::AtomicBool);

impl Log for Failing {
    fn append(&self, signals: &[Signal]) -> Result<Vec<Appended>, LogError> {
        if self.1.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(LogError::Full { path: "/secret/place".into(), free_bytes: 1, free_bytes_min: 2 });
        }
        self.0.append(signals)
    }
    fn read(&self, from: LogPosition, n: usize, bytes: usize) -> Result<Vec<(LogPosition, Signal)>, LogError> {
        self.0.read(from, n, bytes)
    }
    fn get(&self, at: LogPosition) -> Result<Option<Signal>, LogError> {
        self.0.get(at)
    }
    fn has(&self, id: SignalId) -> Result<bool, LogError> {
        self.0.has(id)
    }
    fn ends(&self) -> Result<Vec<u64>, LogError> {
        self.0.ends()
    }
    fn wait(&self, ends: &[u64], timeout: Duration) -> bool {
        self.0.wait(ends, timeout)
    }
}

struct Server {
    _dir: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
    log: Arc<Failing>,
    vault: Arc<Vault>,
    address: SocketAddr,
    agent: ureq::Agent,
}

struct Answer {
    status: u16,
    headers: ureq::http::HeaderMap,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers)).to_str().unwrap()
    }

    /// Asserts the error's form, and gives its message.
    fn error(&self, status: u16, code: &str) -> String {
        assert_eq!((self.status, self.body["error"]["code"].as_str()), (status, Some(code)), "{}", self.body);
        assert_eq!(self.body["error"]["request_id"], self.header("x-request-id"));
        self.body["error"]["message"].as_str().unwrap().to_owned()
    }
}

impl Server {
    fn start(limits: GatewayLimits) -> Self {
        static CONNECTORS: &[&dyn Connector] = &[&Plain];
        let dir = tempfile::tempdir().unwrap();
        let log = Arc::new(Failing(EmbeddedLog::open(&dir.path().join("log"), Keys::fixed()).unwrap(), false.into()));
        let vault = Arc::new(Vault::open(&dir.path().join("vault"), Keys::fixed()).unwrap());
        let people = Pseudonymizer::new(&[7; 32]);
        let appender = Appender::start(log.clone(), vault.clone(), people.clone(), AppenderLimits::default()).unwrap();
        let secrets = Secrets::from([("plain".to_owned(), Secret::new("s3cret"))]);
        let state = GatewayState { appender: Arc::new(appender), secrets, people, limits, connectors: CONNECTORS };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(crate::serve::serve(listener, router(state), ServeLimits::default(), std::future::pending()));
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        Self { _dir: dir, _runtime: runtime, log, vault, address, agent }
    }

    fn post(&self, delivery: &str, body: &[u8]) -> Answer {
        self.post_to("plain", &[("x-token", "s3cret"), ("x-delivery", delivery)], body)
    }

    fn post_to(&self, connector: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut request = self.agent.post(format!("http://{}/hooks/{connector}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = request.send(body).unwrap();
        Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.body_mut().read_json().unwrap(),
        }
    }

    fn kept(&self) -> Vec<Signal> {
        let read = self.log.read(LogPosition::default(), 10_000, usize::MAX).unwrap();
        read.into_iter().map(|(_, signal)| signal).collect()
    }
}

fn limits() -> GatewayLimits {
    GatewayLimits { body_bytes_max: 200_000, in_flight_bytes_max: 400_000, ..GatewayLimits::default() }
}

#[test]
fn accepted_means_in_the_log_with_its_names() {
    let server = Server::start(limits());
    // Both below and above the size from which another thread reads the body.
    for (number, body) in ["Ada".to_owned(), "Grace\n".repeat(20_000)].into_iter().enumerate() {
        let answer = server.post(&number.to_string(), body.as_bytes());
        assert_eq!(answer.status, 202, "{}", answer.body);
        let kept = server.kept();
        let signal = kept.last().unwrap();
        assert_eq!((kept.len(), signal.body.as_slice()), (number + 1, body.as_bytes()));
        assert_eq!(answer.body["signal"], signal.id.to_string());
        assert_eq!(answer.body["position"], json!({"partition": 0, "offset": number}));
        assert_eq!(answer.body["duplicate"], false);
        assert_eq!(answer.body["facts"], 1);
        assert_eq!(signal.headers, [("x-delivery".to_owned(), number.to_string())], "the token is not kept");
        assert!(!answer.header("x-request-id").is_empty());
    }
    assert_eq!(server.vault.names().all().map(|(_, name)| name.to_owned()).collect::<Vec<_>>().len(), 2);
}

#[test]
fn a_redelivery_is_acknowledged_and_kept_once() {
    let server = Server::start(limits());
    assert_eq!(server.post("7", b"Ada").body["duplicate"], false);
    let again = server.post("7", b"Ada");
    assert_eq!((again.status, &again.body["duplicate"]), (202, &json!(true)));
    assert_eq!(again.body["position"]["offset"], 0);
    assert_eq!(server.kept().len(), 1);
}

#[test]
fn who_is_not_verified_leaves_nothing() {
    let server = Server::start(limits());
    let answer = server.post_to("plain", &[("x-token", "wrong")], b"Ada");
    let message = answer.error(401, "unauthorized");
    assert!(message.contains("x-token") && message.contains("plain verifies"), "{message}");
    assert!(!answer.body.to_string().contains("s3cret"));
    server.post_to("plain", &[], b"Ada").error(401, "unauthorized");
    assert!(server.kept().is_empty());
    assert_eq!(server.vault.names().all().count(), 0);
}

#[test]
fn an_unknown_connector_lists_those_there_are() {
    let server = Server::start(limits());
    let answer = server.post_to("nope", &[("x-request-id", "mine-1")], b"");
    assert!(answer.error(404, "unknown_connector").ends_with("there are: plain"));
    assert_eq!(answer.header("x-request-id"), "mine-1", "the sender's own id comes back");
    let wrong = server.agent.get(format!("http://{}/hooks/plain", server.address)).call().unwrap();
    assert_eq!(wrong.status().as_u16(), 405);
}

#[test]
fn what_cannot_be_read_is_kept_and_refused_with_its_reasons() {
    let server = Server::start(limits());
    let answer = server.post("1", "bad\n".repeat(50).as_bytes());
    answer.error(422, "unreadable");
    assert_eq!((&answer.body["rejections"], &answer.body["reasons"][0]), (&json!(50), &json!("a line is bad")));
    assert_eq!(answer.body["reasons"].as_array().unwrap().len(), REASONS_MAX);
    assert_eq!(server.kept().len(), 1, "kept: a better parser may read it");
    // Something was read: accepted, and the reasons are shown all the same.
    let partly = server.post("2", b"bad\nAda");
    assert_eq!((partly.status, &partly.body["rejections"]), (202, &json!(1)));
}

#[test]
fn a_reply_for_people_is_the_answer() {
    let server = Server::start(limits());
    let answer = server.post("1", b"chat");
    assert_eq!((answer.status, answer.body), (200, json!({"text": "understood"})));
    assert_eq!(server.kept().len(), 1);
}

#[test]
fn a_body_above_the_limit_is_refused_whether_or_not_it_says_so() {
    let server = Server::start(limits());
    let body = vec![b'a'; 200_001];
    assert!(server.post("1", &body).error(413, "body_too_large").contains("200000 bytes"));
    assert_eq!(server.post("2", &body[..200_000]).status, 202);
    let head = "POST /hooks/plain HTTP/1.1\r\nhost: x\r\nx-token: s3cret\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    for _ in 0..3 {
        stream.write_all(format!("{:x}\r\n{}\r\n", 100_000, "b".repeat(100_000)).as_bytes()).unwrap();
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    assert_eq!(server.kept().len(), 1);
}

#[test]
fn a_slow_body_times_out_and_memory_is_reserved_before_it_is_read() {
    let server = Server::start(GatewayLimits { in_flight_bytes_max: 200_000, body_secs_max: 2, ..limits() });
    let begin = || {
        let mut slow = TcpStream::connect(server.address).unwrap();
        slow.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        slow.write_all(b"POST /hooks/plain HTTP/1.1\r\nhost: x\r\ncontent-length: 199000\r\n\r\nbegin").unwrap();
        slow
    };
    let mut slow = begin();
    let mut answer = [0; 12];
    // The slow sender holds nearly all of the budget: others are told to come back.
    let busy = loop {
        let other = server.post("1", b"Ada");
        if other.status == 503 {
            break other;
        }
        // It may itself have been refused, while the other one was in flight.
        if slow.read(&mut answer).is_ok() {
            slow = begin();
        }
    };
    assert!(busy.error(503, "busy").contains("200000 bytes"));
    assert_eq!(busy.header("retry-after"), "1");
    slow.set_read_timeout(None).unwrap();
    slow.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    assert_eq!(server.post("2", b"Ada").status, 202, "the budget is free again");
}

#[test]
fn a_body_that_trickles_in_is_cut_off_as_a_whole() {
    let server = Server::start(GatewayLimits { body_secs_max: 1, ..limits() });
    let mut slow = TcpStream::connect(server.address).unwrap();
    slow.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    slow.write_all(b"POST /hooks/plain HTTP/1.1\r\nhost: x\r\nx-token: s3cret\r\ncontent-length: 100000\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    let mut chunk = [0; 1024];
    // A byte now and then keeps nothing alive: it is the whole body that has its time.
    let sent = (0..3_000).take_while(|_| {
        let cut_off = slow.write_all(b"a").is_err()
            || matches!(slow.read(&mut chunk), Ok(n) if {
                answer.extend_from_slice(&chunk[..n]);
                true
            });
        !cut_off
    });
    assert!(sent.count() < 3_000, "after a minute still not cut off");
    slow.set_read_timeout(None).unwrap();
    // The connection ends as well. It may be reset, as bytes were still on their way.
    slow.read_to_end(&mut answer).ok();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("body_too_slow"), "{answer}");
    assert!(server.kept().is_empty());
}

#[test]
fn a_packed_body_is_not_unpacked() {
    let server = Server::start(limits());
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(&vec![b'\n'; 16 << 20]).unwrap();
    let packed = packed.finish().unwrap();
    assert!(packed.len() < limits().body_bytes_max, "{} bytes: no bomb", packed.len());
    let headers = [("x-token", "s3cret"), ("x-delivery", "1"), ("content-encoding", "gzip")];
    server.post_to("plain", &headers, &packed).error(415, "packed");
    assert!(server.kept().is_empty());
    let plain = [("x-token", "s3cret"), ("x-delivery", "1"), ("content-encoding", "identity")];
    assert_eq!(server.post_to("plain", &plain, b"Ada").status, 202);
}

#[test]
fn an_address_that_is_no_text_is_refused_like_any_other() {
    let server = Server::start(limits());
    server.post_to("%ff", &[], b"").error(404, "unknown_connector");
}

#[test]
fn a_source_above_its_rate_is_told_when_to_come_back() {
    let server = Server::start(GatewayLimits { source_per_sec: 1, source_burst: 3, ..limits() });
    // A busy machine is no quick sender: how many it takes is up to it.
    let answers = (0..100).map(|n| server.post(&n.to_string(), b"Ada"));
    let (accepted, limited) = answers.enumerate().find(|(_, answer)| answer.status != 202).unwrap();
    assert!(accepted >= 3, "{accepted}");
    limited.error(429, "rate_limited");
    assert!(limited.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(server.kept().len(), accepted);
}

#[test]
fn a_log_that_takes_nothing_is_503_and_says_nothing_of_this_machine() {
    let server = Server::start(limits());
    server.log.1.store(true, std::sync::atomic::Ordering::SeqCst);
    let answer = server.post("1", b"Ada");
    answer.error(503, "log_unavailable");
    assert_eq!(answer.header("retry-after"), "1");
    assert!(!answer.body.to_string().contains("secret/place"));
    server.log.1.store(false, std::sync::atomic::Ordering::SeqCst);
    let again = server.post("1", b"Ada");
    assert_eq!((again.status, &again.body["duplicate"]), (202, &json!(false)));
}
