//! A full disk under the real process: what cannot be kept is not acknowledged, what was acknowledged is there, nothing has
//! to be restarted, and everything goes on when there is space again.
//!
//! The disk is a file system in memory of the size of a large log and a reserve, mounted for the server alone
//! (`unshare`); this test reaches into it through `/proc`.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use flowsync_ingest::simulate::{Scale, Simulated, Simulation};
use flowsync_schemas::Micros;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    kill::{agent, configuration, send},
    process::{Server, flowsync, sql, succeed},
};

/// More than the log keeps in reserve (256 MiB) and everything that the test writes.
const DISK_MIB: u64 = 640;

/// `flowsync` with the folder as a small disk that nobody else sees; none where the machine does not allow it.
fn on_a_small_disk(disk: &Path) -> Option<Command> {
    let mount = format!("mount -t tmpfs -o size={DISK_MIB}m tmpfs \"$0\" && exec \"$@\"");
    for unshare in [&["-m"][..], &["-Urm"]] {
        let shell = |command: &mut Command| {
            command.args(unshare).args(["sh", "-c", &mount]).arg(disk);
        };
        let mut tried = Command::new("unshare");
        shell(&mut tried);
        if tried.arg("true").output().is_ok_and(|out| out.status.success()) {
            let mut command = Command::new("unshare");
            shell(&mut command);
            command.arg(env!("CARGO_BIN_EXE_flowsync"));
            return Some(command);
        }
    }
    assert!(std::env::var_os("CI").is_none(), "no small disk can be mounted here, and CI does not skip");
    println!("skipped: no small disk can be mounted here");
    None
}

/// Takes all space but `free` bytes.
fn fill(disk: &Path, free: u64) {
    let found = rustix::fs::statvfs(disk).expect("a file system");
    let taken = (found.f_bavail * found.f_frsize).saturating_sub(free);
    let mut ballast = fs::File::options().create(true).append(true).open(disk.join("ballast")).expect("a file");
    let block = vec![0; 1 << 20];
    let mut left = taken;
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(block.len()).min(block.len());
        // The server may have taken the rest meanwhile.
        if ballast.write_all(&block[..part]).is_err() {
            return;
        }
        left -= part as u64;
    }
}

fn health(agent: &ureq::Agent, address: &str) -> Value {
    let mut answer = agent.get(format!("http://{address}/healthz")).call().expect("an answer");
    let health: Value = answer.body_mut().read_json().expect("JSON");
    health["detail"].clone()
}

/// Waits for something of the server's health.
fn until(agent: &ureq::Agent, address: &str, what: &str, holds: impl Fn(&Value) -> bool) {
    let started = Instant::now();
    loop {
        let health = health(agent, address);
        if holds(&health) {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(90), "waited for {what}: {health}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_full_disk_loses_nothing_and_needs_no_restart() {
    let folder = TempDir::new().expect("a folder");
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).expect("a folder");
    let Some(command) = on_a_small_disk(&disk) else { return };
    let config = configuration(folder.path());
    let until_then = Micros::parse("2026-11-20T12:00:00Z").expect("a time");
    let deliveries: Vec<Simulated> =
        Simulation::new(5, until_then, Scale::DEMO).filter(|d| d.connector != "slack").collect();

    let server = Server::start_as(command, &disk.join("data"), &config);
    let inside: PathBuf = format!("/proc/{}/root{}", server.id(), disk.display()).into();
    let (agent, address) = (agent(), server.address.clone());
    let acknowledged = |part: &[Simulated]| part.iter().filter(|d| send(&agent, &address, d)).count();
    // No room at all, at once and under load: what was just acknowledged is not in the tables yet.
    let taken = std::thread::scope(|scope| {
        let taken = scope.spawn(|| deliveries.iter().take_while(|d| send(&agent, &address, d)).count());
        std::thread::sleep(Duration::from_millis(500));
        fill(&inside, 0);
        taken.join().expect("the sender ends")
    });
    assert!((20..deliveries.len() - 40).contains(&taken), "{taken} were acknowledged");
    until(&agent, &address, "a commit that fails", |h| !h["waiting_for_storage"].is_null());
    let full = health(&agent, &address);
    println!("waiting for storage: {}", full["waiting_for_storage"]);
    assert!(full["failed"].is_null() && full["committed_epoch"].as_u64() < full["closed_epoch"].as_u64(), "{full}");
    // The log keeps a reserve, says so, and acknowledges nothing but what it has: that needs no room.
    let key = |d: &Simulated| (d.connector, d.headers.clone(), d.body.clone());
    let kept: BTreeSet<_> = deliveries[..taken].iter().map(key).collect();
    let (again, fresh): (Vec<_>, Vec<_>) =
        deliveries.iter().skip(taken - 20).take(60).cloned().partition(|d| kept.contains(&key(d)));
    assert_eq!(acknowledged(&fresh), 0, "an acknowledgement without room to keep it");
    assert_eq!(acknowledged(&again), again.len(), "what is kept was acknowledged once");
    assert_eq!(full["log_end"], health(&agent, &address)["log_end"]);
    // Views are answered meanwhile, in a moment with all that was acknowledged.
    until(&agent, &address, "what was acknowledged", |h| h["closed_epoch"] == full["log_end"]);

    fs::remove_file(inside.join("ballast")).expect("removed");
    assert_eq!(acknowledged(&deliveries[taken..]), deliveries.len() - taken);
    until(&agent, &address, "the tables to catch up", |h| {
        h["waiting_for_storage"].is_null() && h["committed_epoch"] == h["log_end"]
    });

    let all = format!("\n{}\n", health(&agent, &address)["log_end"]);
    let signed = || fs::read_to_string(inside.join("data/audit/checkpoints")).is_ok_and(|text| text.contains(&all));
    until(&agent, &address, "a checkpoint of all signals", |_| signed());
    // What the process would leave behind if it were killed now.
    let saved = folder.path().join("saved");
    succeed(Command::new("cp").arg("-r").arg(inside.join("data")).arg(&saved));
    server.stop();
    let audited = succeed(flowsync().args(["audit", "verify", "--dir"]).arg(&saved));
    assert!(audited.contains("good"), "{audited}");
    succeed(flowsync().args(["check", "--dir"]).arg(&saved));
    let sent: BTreeSet<_> = deliveries.iter().map(key).collect();
    let counted = sql(&saved, "csv", "select count(*) from fact_signals");
    assert_eq!(counted.lines().nth(1), Some(&*sent.len().to_string()), "each signal once");
}
