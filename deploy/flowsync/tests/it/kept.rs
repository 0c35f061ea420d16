//! What was read from deliveries that are past their retention is in backups: restored elsewhere it is in the tables again, row
//! by row, and goes with the person who is erased.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use tempfile::TempDir;

use crate::{
    privacy::{filled, found, totals, until_let_go},
    process::{Server, flowsync, said, sql, succeed},
};

/// Every row of every table, of facts and of views.
fn rows(dir: &Path) -> BTreeMap<String, Vec<String>> {
    let tables = sql(dir, "csv", "select table_name from flowsync_tables order by 1");
    let rows = |table: &str| {
        let answer = sql(dir, "ndjson", &format!("select * from {table}"));
        let mut rows: Vec<String> = answer.lines().map(str::to_owned).collect();
        rows.sort();
        rows
    };
    tables.lines().skip(1).map(|table| (table.to_owned(), rows(table))).collect()
}

fn backup(dir: &Path, to: &Path) {
    succeed(flowsync().arg("backup").arg(to).arg("--dir").arg(dir));
}

fn restore(from: &Path, keys_of: &Path, to: &Path) -> Output {
    let mut command = flowsync();
    command.arg("restore").arg(from).arg("--keys").arg(keys_of.join("keys")).arg("--dir").arg(to);
    command.output().expect("the binary starts")
}

fn restored(from: &Path, keys_of: &Path, to: &Path) -> PathBuf {
    let done = restore(from, keys_of, to);
    assert!(done.status.success(), "{}", said(&done));
    to.to_owned()
}

/// Nobody is left of whom every file and table is searched, also not in the words of titles, and totals are as they were.
fn assert_erased(dir: &Path, before: &[String]) {
    assert_eq!(found(dir), [""; 0]);
    assert_eq!(totals(dir), before);
    for table in ["fact_tickets", "fact_commits"] {
        let words = sql(dir, "csv", &format!("select words from {table}"));
        // What stands in her place may have a word of hers by chance.
        let hers = |words: &str| words.split(' ').any(|word| word == "ada") && !words.contains("erased");
        assert!(!words.contains("lovelace") && !words.lines().any(hers), "{table}: {words}");
    }
    succeed(flowsync().args(["check", "--dir"]).arg(dir));
}

#[test]
fn facts_of_deliveries_past_their_retention_are_in_backups() {
    let folder = TempDir::new().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let (dir, config, all_kept) = (at("data"), at("flowsync.toml"), at("all-kept.toml"));
    filled(&dir);
    fs::write(&config, "[retention_days]\ngithub = 0\n").expect("written");
    fs::write(&all_kept, "").expect("written");
    let server = Server::start(&dir, &config);
    until_let_go(&server, 2);
    backup(&dir, &at("early.backup"));
    server.stop();
    fs::write(&config, "[retention_days]\ngithub = 0\njira = 0\n").expect("written");
    let server = Server::start(&dir, &config);
    until_let_go(&server, 4);
    backup(&dir, &at("first.backup"));
    server.stop();
    let (before, totals_before) = (rows(&dir), totals(&dir));
    assert!(before["fact_commits"].len() >= 4 && before["fact_tickets"].len() >= 2, "{before:?}");

    // A backup of what was restored and never started holds the same; so does one from before more was let go.
    let never_started = restored(&at("first.backup"), &dir, &at("never-started"));
    backup(&never_started, &at("second.backup"));
    for name in ["first", "second", "early"] {
        let elsewhere = restored(&at(&format!("{name}.backup")), &dir, &at(name));
        assert!(elsewhere.join("facts").exists());
        Server::start(&elsewhere, &all_kept).kill();
        Server::start(&elsewhere, &all_kept).stop();
        assert_eq!(rows(&elsewhere), before, "{name}");
        assert!(!elsewhere.join("facts").exists(), "they are in the tables");
        succeed(flowsync().args(["check", "--dir"]).arg(&elsewhere));
        Server::start(&elsewhere, &all_kept).stop();
        assert_eq!(rows(&elsewhere), before, "{name}, started again");
    }

    // What is damaged is refused.
    let bytes = fs::read(at("first.backup")).expect("a backup");
    let name = b"\0\0\0\x05facts";
    let section = bytes.windows(name.len()).position(|part| part == name).expect("a section of facts");
    for place in [section + 5, section + 60, section + 200] {
        let mut flipped = bytes.clone();
        flipped[place] ^= 1;
        for bad in [&flipped[..], &bytes[..place]] {
            fs::write(at("bad.backup"), bad).expect("written");
            let refused = restore(&at("bad.backup"), &dir, &at("bad"));
            assert!(!refused.status.success() && said(&refused).contains("Use another one"), "{}", said(&refused));
        }
    }

    // Which accounts are one person's, the tables tell.
    let mut at_once = flowsync();
    at_once.args(["privacy", "erase", "ada.lovelace@example.org", "--yes", "--dir"]).arg(&never_started);
    let refused = at_once.output().expect("the binary starts");
    assert!(!refused.status.success() && said(&refused).contains("flowsync run"), "{}", said(&refused));

    let erased = at("first");
    succeed(flowsync().args(["privacy", "erase", "ada.lovelace@example.org", "--yes", "--dir"]).arg(&erased));
    assert_erased(&erased, &totals_before);
    // What a backup from before then holds of the person, nobody reads: all else of it is there.
    let old = restored(&at("first.backup"), &erased, &at("from-before"));
    Server::start(&old, &all_kept).stop();
    assert_eq!(found(&old), [""; 0]);
    assert_eq!(sql(&old, "csv", "select title from tickets").lines().collect::<Vec<_>>(), ["title", "Basket"]);
    // One from after it is whole.
    backup(&erased, &at("after.backup"));
    let again = restored(&at("after.backup"), &erased, &at("from-after"));
    Server::start(&again, &all_kept).stop();
    assert_erased(&again, &totals_before);
    assert_eq!(rows(&again), rows(&erased));
}
