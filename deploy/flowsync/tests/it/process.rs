//! The real binary as a process, and what every test of it needs.

use std::{
    io::{BufRead, BufReader, Lines},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    sync::OnceLock,
};

use tempfile::TempDir;

/// The binary, as a command.
pub fn flowsync() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowsync"));
    command.env_remove("FLOWSYNC_LOG").stdin(Stdio::null());
    command
}

/// Runs to the end; panics with what it said where it fails.
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("the binary starts");
    assert!(output.status.success(), "{command:?}\n{}", said(&output));
    String::from_utf8(output.stdout).expect("text")
}

/// What a process said.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// One question in SQL.
pub fn sql(dir: &Path, format: &str, query: &str) -> String {
    succeed(flowsync().args(["sql", "--format", format, query, "--dir"]).arg(dir))
}

/// A data directory that `flowsync demo --exit` made, once for all tests that only read it.
pub fn demo_dir() -> &'static Path {
    static DIR: OnceLock<(TempDir, String)> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = TempDir::new().expect("a folder");
        let shown = succeed(flowsync().args(["demo", "--exit", "--dir"]).arg(dir.path()));
        assert!(shown.contains("simulated"), "{shown}");
        (dir, shown)
    })
    .0
    .path()
}

/// Outside data, or `None` where it is absent; in CI that is an error.
pub fn outside(path: &str) -> Option<PathBuf> {
    let at = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(path);
    if at.exists() {
        return Some(at);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is absent, and CI does not skip", at.display());
    println!("skipped: {} is absent", at.display());
    None
}

/// The page "How sure are we" says what was measured: in the row that begins so, `3,410 of 3,441` and what else is given.
pub fn documented(row: &str, (found, all): (usize, usize), more: Option<usize>) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/confidence.md");
    let text = std::fs::read_to_string(&page).expect("the page");
    let more = more.map(grouped).unwrap_or_default();
    let cells = format!("| {} of {} | {more}", grouped(found), grouped(all));
    let holds = text.lines().any(|line| line.starts_with(&format!("| {row}")) && line.contains(cells.trim_end()));
    assert!(holds, "{} has no row \"{row}\" with \"{cells}\"", page.display());
}

/// `14,054`.
fn grouped(n: usize) -> String {
    if n < 1_000 { n.to_string() } else { format!("{},{:03}", grouped(n / 1_000), n % 1_000) }
}

/// `flowsync run` as a process; killed when it goes out of scope, so that a failed test leaves nothing running.
pub struct Server {
    child: Child,
    /// Where it serves.
    pub address: String,
    /// Held open: the server may go on talking.
    _said: Lines<BufReader<ChildStdout>>,
}

impl Server {
    /// Starts it, and waits until it serves.
    pub fn start(dir: &Path, config: &Path) -> Self {
        Self::start_as(flowsync(), dir, config)
    }

    /// The same, by a command of which the binary is the last part.
    pub fn start_as(mut command: Command, dir: &Path, config: &Path) -> Self {
        let mut child = command
            .args(["run", "--listen", "127.0.0.1:0", "--config"])
            .arg(config)
            .arg("--dir")
            .arg(dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .env("FLOWSYNC_LOG", "warn")
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let first = lines.next().expect("a line").expect("text");
        let address = first.strip_prefix("serving http://").expect("the address").to_owned();
        Self { child, address, _said: lines }
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub fn kill(self) {
        drop(self);
    }

    /// Asks it to end, and waits for it.
    pub fn stop(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
        assert!(self.child.wait().expect("it ends").success(), "the server ended with an error");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
