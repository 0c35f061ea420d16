//! Bytes that a disk altered are told by name, with what to do, and never served: data files, Delta logs, manifests, log.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use tempfile::TempDir;

use crate::process::{Server, demo_dir, flowsync, said, sql};

/// Flips of each kind of file.
const FLIPS: usize = 24;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)
        } else {
            fs::copy(entry.path(), target).map(drop).expect("copied")
        }
    }
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path());
    let mut files: Vec<_> = entries.filter(|p| p.extension().is_some_and(|e| e == ending)).collect();
    files.sort();
    files
}

struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

/// Rows of one table, or what was said.
fn asked(dir: &Path) -> Result<String, String> {
    let output = flowsync()
        .args(["sql", "--format", "csv", "select * from links order by 1, 2, 3", "--dir"])
        .arg(dir)
        .output()
        .expect("the binary starts");
    if output.status.success() { Ok(String::from_utf8_lossy(&output.stdout).into_owned()) } else { Err(said(&output)) }
}

#[test]
fn a_flipped_bit_is_told_by_name_and_never_served() {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").subsec_nanos() as u64;
    let seed = std::env::var("FLOWSYNC_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(seed);
    println!("FLOWSYNC_SEED={seed} repeats the flips");
    let mut chance = Chance(seed);
    let folder = TempDir::new().expect("a folder");
    let dir = folder.path().join("data");
    copy(demo_dir(), &dir);
    let right = asked(&dir).expect("nothing is damaged yet");
    let table = dir.join("tables/links");
    let newest = files(&dir.join("manifests"), "json").pop().expect("a manifest");
    for (kind, candidates) in [
        ("data file", files(&table, "parquet")),
        ("Delta log", files(&table.join("_delta_log"), "json")),
        ("manifest", vec![newest]),
    ] {
        let mut told = 0;
        for _ in 0..FLIPS {
            let file = &candidates[chance.below(candidates.len())];
            let bytes = fs::read(file).expect("a file");
            let (at, bit) = (chance.below(bytes.len()), chance.below(8));
            let mut altered = bytes.clone();
            altered[at] ^= 1 << bit;
            fs::write(file, altered).expect("written");
            match asked(&dir) {
                Ok(rows) => assert!(rows == right, "bit {bit} of byte {at} of {} was served", file.display()),
                Err(said) => {
                    told += 1;
                    let name = file.file_name().expect("a name").to_string_lossy();
                    assert!(said.contains(&*name) || said.contains("links"), "{said}");
                }
            }
            fs::write(file, bytes).expect("written");
        }
        println!("{kind}: {told} of {FLIPS} flips were told, the others changed nothing");
        assert!(told > 0, "no flip of a {kind} was told");
    }
    assert_eq!(asked(&dir).as_ref(), Ok(&right));
}

#[test]
fn tables_that_are_damaged_are_computed_anew_from_the_log() {
    let folder = TempDir::new().expect("a folder");
    let dir = folder.path().join("data");
    copy(demo_dir(), &dir);
    let count = "select count(*) as n, sum(confidence_bps) as p from links";
    let right = sql(&dir, "csv", count);
    let file = files(&dir.join("tables/links"), "parquet").pop().expect("a data file");
    let mut bytes = fs::read(&file).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).expect("written");
    // As the error says.
    for gone in ["tables", "manifests"] {
        fs::remove_dir_all(dir.join(gone)).expect("removed");
    }
    let config = folder.path().join("flowsync.toml");
    fs::write(&config, "").expect("written");
    Server::start(&dir, &config).stop();
    assert_eq!(sql(&dir, "csv", count), right);
}

/// I6: at a restart digests tell which views differ, and their rows alone are computed once more.
#[test]
fn a_damaged_view_is_repaired_by_a_restart() {
    let folder = TempDir::new().expect("a folder");
    let dir = folder.path().join("data");
    copy(demo_dir(), &dir);
    let right = asked(&dir).expect("nothing is damaged yet");
    let file = files(&dir.join("tables/links"), "parquet").pop().expect("a data file");
    fs::write(&file, "no Parquet").expect("written");
    asked(&dir).expect_err("it is damaged");
    let config = folder.path().join("flowsync.toml");
    fs::write(&config, "").expect("written");
    let server = Server::start(&dir, &config);
    let health = || -> serde_json::Value {
        let mut answer = ureq::get(format!("http://{}/healthz", server.address)).call().expect("it serves");
        answer.body_mut().read_json().expect("JSON")
    };
    while health()["detail"]["checked"] != true {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let corrected = health()["detail"]["corrected_rows"].as_u64();
    server.stop();
    assert!(corrected.is_some_and(|rows| rows > 0), "{corrected:?}");
    assert_eq!(asked(&dir).as_ref(), Ok(&right));
}
