//! The machine, the commit and the versions that a figure belongs to; and how much memory a process holds.

use std::{fs, process::Command};

use serde::Serialize;

use crate::peers;

/// Where a run happened, and with what.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// Processor, as the kernel names it.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory of the machine.
    pub memory_bytes: u64,
    /// Kernel.
    pub kernel: String,
    /// Commit of this tree, with `+` where files differ from it.
    pub commit: String,
    /// Profile of this build: the folder that cargo put it in.
    pub profile: String,
    /// Versions of what does the work, and of the peers that are installed.
    pub versions: Vec<String>,
}

/// Packages whose versions are told.
const TOLD: [&str; 7] = ["timely", "differential-dataflow", "datafusion", "parquet", "deltalake-core", "fjall", "axum"];

impl Machine {
    /// Reads this machine.
    pub fn read() -> Self {
        let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|l| l.starts_with(name));
            line.and_then(|l| l.split_once(':')).map(|(_, v)| v.trim().to_owned()).unwrap_or_default()
        };
        let memory = field(&file("/proc/meminfo"), "MemTotal");
        let kib: u64 = memory.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or_default();
        Self {
            cpu: field(&file("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: kib * 1024,
            kernel: file("/proc/sys/kernel/osrelease").trim().to_owned(),
            commit: commit(),
            profile: profile().unwrap_or_else(|| "unknown".to_owned()),
            versions: [
                vec![compiler(include_str!("../../rust-toolchain.toml"))],
                versions(include_str!("../../Cargo.lock")),
                peers::versions(),
            ]
            .concat(),
        }
    }

    /// In one line.
    pub fn line(&self) -> String {
        let gib = self.memory_bytes >> 30;
        let Self { cpu, cores, kernel, commit, profile, versions, .. } = self;
        let versions = versions.join(", ");
        format!("{cpu}, {cores} cores, {gib} GiB, Linux {kernel}; commit {commit}, profile {profile}; {versions}")
    }
}

fn profile() -> Option<String> {
    Some(std::env::current_exe().ok()?.parent()?.file_name()?.to_string_lossy().into_owned())
}

fn commit() -> String {
    let git = |args: &[&str]| {
        let out = Command::new("git")
            .args(["-C", env!("CARGO_MANIFEST_DIR")])
            .args(args)
            .output()
            .ok()
            .filter(|o| o.status.success());
        out.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_none_or(|s| !s.is_empty());
    let sha = git(&["rev-parse", "--short=10", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    format!("{sha}{}", if changed { "+" } else { "" })
}

fn compiler(toolchain: &str) -> String {
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = "));
    format!("rustc {}", channel.unwrap_or("unknown").trim_matches('"'))
}

fn versions(lock: &str) -> Vec<String> {
    let value = |line: &str| line.split('"').nth(1).unwrap_or_default().to_owned();
    let lines: Vec<&str> = lock.lines().collect();
    let packages = lines.windows(2).filter(|w| w[0].starts_with("name = ") && w[1].starts_with("version = "));
    let packages: Vec<_> = packages.map(|w| (value(w[0]), value(w[1]))).collect();
    let found = TOLD.iter().filter_map(|name| packages.iter().find(|(n, _)| n == name));
    found.map(|(name, version)| format!("{name} {version}")).collect()
}

/// Memory that a process holds in RAM, in bytes; of this process where `pid` is `None`.
pub fn resident_bytes(pid: Option<u32>) -> u64 {
    let name = pid.map_or("self".to_owned(), |p| p.to_string());
    status(&name, "VmRSS:")
}

/// The most memory that a process ever held in RAM, in bytes.
pub fn peak_bytes(pid: u32) -> u64 {
    status(&pid.to_string(), "VmHWM:")
}

/// What the kernel tells of a process, in bytes.
fn status(process: &str, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(field)).unwrap_or_default();
    line.trim().split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or_default() * 1024
}

/// Bytes that a process has written to storage so far.
pub fn written_bytes(pid: u32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    io.lines().find_map(|l| l.strip_prefix("write_bytes:")).and_then(|n| n.trim().parse().ok()).unwrap_or_default()
}
