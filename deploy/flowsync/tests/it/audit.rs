//! The audit of the log as its users meet it: the operator beside a running server, an auditor with the public key alone,
//! and somebody who rewrote the log.

use std::{fs, path::Path, process::Output};

use flowsync_ingest::{DataDir, EmbeddedLog, Log, audit::Checkpoints};
use flowsync_schemas::LogPosition;
use tempfile::TempDir;

use crate::process::{Server, flowsync, said, succeed};

/// One `flowsync audit` over a data directory.
fn audit(dir: &Path, args: &[&str]) -> Output {
    flowsync().arg("audit").args(args).arg("--dir").arg(dir).output().expect("it runs")
}

fn audited(dir: &Path, args: &[&str]) -> String {
    succeed(flowsync().arg("audit").args(args).arg("--dir").arg(dir))
}

fn report(server: &Server, ticket: u32) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let request = agent
        .post(format!("http://{}/hooks/manual", server.address))
        .header("authorization", "Bearer token")
        .send(format!(r#"{{"verb":"start","ticket":"SHOP-{ticket}","reporter":"ada@example.org"}}"#));
    assert!(request.expect("an answer").status().is_success());
}

/// Rewrites the log as somebody would who knows how: one body is another, every hash and the index fit.
fn rewrite(dir: &Path, altered: u64) {
    let data = DataDir::open_writer(dir, "a test").expect("nobody else holds it");
    let log = EmbeddedLog::open(&data.log(), data.keyring().expect("keys")).expect("it opens");
    let end = log.ends().expect("the end")[0];
    let mut signals: Vec<_> = log
        .read(LogPosition::default(), usize::MAX, usize::MAX)
        .expect("it reads")
        .into_iter()
        .map(|(_, signal)| signal)
        .collect();
    drop(log);
    assert_eq!(signals.len() as u64, end);
    signals[altered as usize].body = br#"{"verb":"done","ticket":"SHOP-1","reporter":"ada@example.org"}"#.to_vec();
    fs::remove_dir_all(data.log()).expect("removed");
    EmbeddedLog::open(&data.log(), data.keyring().expect("keys"))
        .expect("a new log")
        .append(&signals)
        .expect("appended");
}

/// Signs the log as it is now, with the key at hand and without what was signed before.
fn sign_anew(dir: &Path) {
    let data = DataDir::open_writer(dir, "a test").expect("nobody else holds it");
    fs::remove_dir_all(data.audit()).expect("removed");
    let log = EmbeddedLog::open(&data.log(), data.keyring().expect("keys")).expect("it opens");
    let key = data.signing_key().expect("the key");
    let mut checkpoints = Checkpoints::open(&data.audit(), key).expect("a new file");
    checkpoints.sign(&*log.audited(0).expect("hashes")).expect("signed");
}

#[test]
fn the_log_is_proven_to_others_and_tells_who_rewrote_it() {
    let folder = TempDir::new().expect("a folder");
    let (dir, config) = (folder.path().join("data"), folder.path().join("flowsync.toml"));
    fs::write(&config, "[secrets]\nmanual = \"token\"\n").expect("written");
    let at = |name: &str| folder.path().join(name).display().to_string();

    // Beside a running server.
    let server = Server::start(&dir, &config);
    (1..=3).for_each(|ticket| report(&server, ticket));
    audited(&dir, &["prove", "0/1", "--out", &at("proof.json")]);
    audited(&dir, &["checkpoint", "--out", &at("checkpoint")]);
    fs::write(at("key"), audited(&dir, &["key"])).expect("written");
    let verified = audited(&dir, &["verify", "--checkpoint", &at("checkpoint"), "--key", &at("key")]);
    assert!(verified.contains("3 signals") && verified.contains("1 of them kept elsewhere"), "{verified}");
    let absent = audit(&dir, &["prove", "0/99"]);
    assert!(!absent.status.success() && said(&absent).contains("0/99"), "{}", said(&absent));
    (4..=5).for_each(|ticket| report(&server, ticket));
    server.stop();

    // Without one.
    let verified = audited(&dir, &["verify", "--checkpoint", &at("checkpoint")]);
    assert!(verified.contains("5 signals") && verified.contains("good"), "{verified}");
    audited(&dir, &["checkpoint", "--since", &at("checkpoint"), "--out", &at("grown.json")]);

    // An auditor has the proofs and the key.
    let check =
        |proof: &str| flowsync().args(["audit", "check", &at(proof), "--key", &at("key")]).output().expect("it runs");
    let proven = said(&check("proof.json"));
    assert!(proven.starts_with("good") && proven.contains("offset 1") && proven.contains("from manual"), "{proven}");
    let grown = said(&check("grown.json"));
    assert!(grown.starts_with("good") && grown.contains("of 5 signals begins with the 3"), "{grown}");
    let proof = fs::read_to_string(at("proof.json")).expect("a proof");
    fs::write(at("forged.json"), proof.replace("index 1", "index 0")).expect("written");
    let forged = check("forged.json");
    assert!(!forged.status.success() && said(&forged).contains("does not hold"), "{}", said(&forged));

    // Somebody rewrites the log.
    rewrite(&dir, 1);
    let found = audit(&dir, &["verify"]);
    let text = said(&found);
    assert!(!found.status.success() && text.contains("NOT GOOD: partition 0 offset"), "{text}");
    let proof = audit(&dir, &["prove", "0/1"]);
    assert!(!proof.status.success() && said(&proof).contains("audit verify"), "{}", said(&proof));
    // With the key at hand everything here fits together again; what was kept elsewhere does not.
    sign_anew(&dir);
    assert!(audited(&dir, &["verify"]).contains("good"));
    let found = audit(&dir, &["verify", "--checkpoint", &at("checkpoint"), "--json"]);
    assert!(!found.status.success(), "{}", said(&found));
    let told: serde_json::Value = serde_json::from_slice(&found.stdout).expect("JSON");
    assert_eq!((&told["finding"]["offset"], &told["finding"]["until"]), (&0.into(), &3.into()), "{told}");
}
