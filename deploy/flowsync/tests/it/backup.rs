//! A backup that is made while the server takes in signals is restored elsewhere, audited, started, and gives the same rows.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
};

use flowsync_ingest::simulate::{Scale, Simulation};
use flowsync_schemas::Micros;
use tempfile::TempDir;

use crate::{
    kill::{agent, configuration, rows, send},
    process::{Server, flowsync, said, sql, succeed},
};

#[test]
fn a_backup_under_load_is_restored_elsewhere() {
    let folder = TempDir::new().expect("a folder");
    let (dir, config) = (folder.path().join("data"), configuration(folder.path()));
    let until = Micros::parse("2026-11-20T12:00:00Z").expect("a time");
    let deliveries: Vec<_> =
        Simulation::new(9, until, Scale::DEMO).filter(|d| d.connector != "slack").take(600).collect();
    let server = Server::start(&dir, &config);
    let (agent, busy) = (agent(), folder.path().join("busy.backup"));
    let backup = |to: &std::path::Path| succeed(flowsync().arg("backup").arg(to).arg("--dir").arg(&dir));
    let under_way = AtomicBool::new(true);
    let (before, sent) = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let taken =
                deliveries.iter().take_while(|d| under_way.load(Ordering::Relaxed) && send(&agent, &server.address, d));
            taken.count()
        });
        std::thread::sleep(std::time::Duration::from_millis(500));
        backup(&busy);
        let sent_meanwhile = !sender.is_finished();
        under_way.store(false, Ordering::Relaxed);
        (sent_meanwhile, sender.join().expect("the sender ends"))
    });
    assert!(before || sent == deliveries.len());
    assert!(deliveries[sent..].iter().all(|d| send(&agent, &server.address, d)));
    let quiet = folder.path().join("quiet.backup");
    let said_of_it = backup(&quiet);
    assert!(said_of_it.contains("keys"), "{said_of_it}");
    server.stop();

    let restore = |from: &std::path::Path, to: &std::path::Path| {
        let mut command = flowsync();
        command.arg("restore").arg(from).arg("--keys").arg(dir.join("keys")).arg("--dir").arg(to);
        command.output().expect("the binary starts")
    };
    for (from, all) in [(&busy, false), (&quiet, true)] {
        let elsewhere = from.with_extension("restored");
        let restored = restore(from, &elsewhere);
        assert!(restored.status.success(), "{}", said(&restored));
        // It signs what nobody had signed yet when the backup was made.
        Server::start(&elsewhere, &config).stop();
        let audited = succeed(flowsync().args(["audit", "verify", "--dir"]).arg(&elsewhere));
        assert!(audited.contains("good"), "{audited}");
        succeed(flowsync().args(["check", "--dir"]).arg(&elsewhere));
        if all {
            assert_eq!(rows(&elsewhere), rows(&dir));
            let query = "select signal, source, body_bytes, fact_count from fact_signals order by 1";
            assert_eq!(sql(&elsewhere, "csv", query), sql(&dir, "csv", query));
        }
        let again = restore(from, &elsewhere);
        assert!(!again.status.success(), "into a directory that holds data: {}", said(&again));
    }
    // Half a backup is none.
    let bytes = fs::read(&quiet).expect("a backup");
    fs::write(&busy, &bytes[..bytes.len() / 2]).expect("written");
    let half = restore(&busy, &folder.path().join("half"));
    assert!(!half.status.success() && said(&half).contains("backup"), "{}", said(&half));
}
