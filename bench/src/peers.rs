//! The peers, by their own packages from PyPI: DuckDB and Pathway. Scripts in `bench/peers/`; Python by `FLOWSYNC_PYTHON` or
//! `python3`. A peer that is not installed is an error that says how to install it, never a silent gap.

use std::{
    collections::BTreeMap,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use flowsync_dataflow::views;
use flowsync_schemas::model::Model;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    Size, alone, history,
    incremental::{Running, thousands},
    report::{RATIO, Report, Target},
    site::Site,
};

/// Where the scripts are.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");

/// Packages whose versions are told.
const TOLD: &str = "import platform, importlib.metadata as m; print('python', platform.python_version()); \
                    [print(p, m.version(p)) for p in ('duckdb', 'pathway', 'deltalake', 'pyarrow')]";

fn python() -> String {
    std::env::var("FLOWSYNC_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// Names and versions of the peers' packages, as far as they are installed.
pub fn versions() -> Vec<String> {
    let said = Command::new(python()).args(["-c", TOLD]).stderr(Stdio::null()).output();
    said.map(|out| String::from_utf8_lossy(&out.stdout).lines().map(str::to_owned).collect()).unwrap_or_default()
}

/// Runs a script with something on its standard input; one JSON value a line comes out.
fn script(name: &str, args: &[&str], input: &str) -> Result<Vec<Value>> {
    let python = python();
    let mut child = Command::new(&python)
        .arg(format!("{SCRIPTS}/{name}"))
        .args(args)
        // DuckDB takes every core by itself, Pathway one where nobody says how many.
        .env("PATHWAY_THREADS", history::cores().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{python}: set FLOWSYNC_PYTHON to a Python with duckdb, deltalake and pathway"))?;
    child.stdin.take().context("the standard input of the script")?.write_all(input.as_bytes())?;
    let out = child.wait_with_output()?;
    ensure!(
        out.status.success(),
        "{name} failed; it needs the packages of bench/peers/requirements.txt (set FLOWSYNC_PYTHON, or leave the groups out: --only dataflow,served)"
    );
    String::from_utf8(out.stdout)?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

fn read<T: DeserializeOwned>(value: Option<Value>) -> Result<T> {
    Ok(serde_json::from_value(value.context("the script printed too little")?)?)
}

/// DuckDB's answers.
pub struct Answers {
    /// Live files of each table.
    pub files: BTreeMap<String, f64>,
    /// In the order of the questions.
    pub answers: Vec<Answer>,
}

/// One answer.
#[derive(Deserialize)]
pub struct Answer {
    /// Rows.
    pub rows: usize,
    /// Rows that we did not answer, and rows of ours that are not among them.
    pub differ: usize,
    /// Time of each repetition.
    pub millis: Vec<f64>,
}

/// DuckDB on the named questions: each with its text, and the file (an Arrow stream) of the rows that we answered.
pub fn duckdb_questions(dir: &Path, repetitions: usize, questions: &[Value]) -> Result<Answers> {
    #[derive(Deserialize)]
    struct Files {
        files: BTreeMap<String, f64>,
    }
    let dir = dir.display().to_string();
    let mut lines =
        script("questions.py", &[&dir, &repetitions.to_string()], &json!(questions).to_string())?.into_iter();
    let files: Files = read(lines.next())?;
    let answers: Vec<Answer> = lines.map(|line| read(Some(line))).collect::<Result<_>>()?;
    ensure!(answers.len() == questions.len(), "DuckDB answered {} of {} questions", answers.len(), questions.len());
    Ok(Answers { files: files.files, answers })
}

/// Measures everything of this group.
pub fn measure(size: Size, site: &Site, steady: Option<f64>, report: &mut Report) -> Result<()> {
    recompute(site, steady, report)?;
    stated_links(size, report)
}

/// A batch engine computes every view anew; FlowSync changes what changed.
fn recompute(site: &Site, steady: Option<f64>, report: &mut Report) -> Result<()> {
    #[derive(Deserialize)]
    struct Took {
        secs: f64,
    }
    #[derive(Deserialize)]
    struct Compared {
        name: String,
        rows: u64,
        differ: u64,
    }
    eprintln!("DuckDB computes every view from the fact tables");
    let model = Model::shipped();
    let weights: Vec<Value> =
        model.rows().into_iter().map(|r| json!([r.kind, r.weight, r.spread, r.prior, r.at_least, r.below])).collect();
    let helpers: Vec<Value> = views::oracle_helpers().map(|(name, sql)| json!({ "name": name, "sql": sql })).collect();
    let all: Vec<Value> = views::ALL
        .iter()
        .map(|v| {
            let columns: Vec<_> = (v.spec.table.columns)().iter().map(|c| c.name).collect();
            json!({ "name": v.spec.table.name, "sql": v.spec.oracle, "columns": columns })
        })
        .collect();
    let input = json!({ "views": all, "helpers": helpers, "model": weights }).to_string();
    let mut lines = script("recompute.py", &[&site.dir().display().to_string()], &input)?.into_iter();
    let took: Took = read(lines.next())?;
    let mut rows = 0;
    for line in lines {
        let view: Compared = read(Some(line))?;
        ensure!(
            view.differ == 0,
            "{}: {} of {} rows differ between DuckDB and FlowSync",
            view.name,
            view.differ,
            view.rows
        );
        rows += view.rows;
    }
    report.add("DuckDB computes all views once (the same rows came out)", took.secs, "s");
    report.add("rows of all views", rows as f64, "rows");
    if let Some(steady) = steady {
        report.add("signals that FlowSync keeps all views current for meanwhile", took.secs * steady, "signals");
    }
    Ok(())
}

/// A git history becomes the stated links of each ticket: Pathway on as many threads as FlowSync has workers, and FlowSync by
/// itself and through all views. Both read the same deliveries; Pathway is also given what FlowSync never is, one bare row of sha and
/// message for each commit.
fn stated_links(size: Size, report: &mut Report) -> Result<()> {
    let commits = if size == Size::Quick { 500 } else { 100_000 };
    eprintln!("Pathway, and FlowSync, on {} commits", thousands(commits as u64));
    let history = history::commits(commits)?;
    let bodies: Vec<&str> = history.pushes().map(|push| std::str::from_utf8(&push.body)).collect::<Result<_, _>>()?;
    let (of_deliveries, theirs) = pathway("deliveries", &bodies.join("\n"), &history.projects)?;
    let rows = history.commits.iter().map(|(sha, message)| json!({ "sha": sha, "message": message }).to_string());
    let (of_rows, of_rows_found) = pathway("rows", &rows.collect::<Vec<_>>().join("\n"), &history.projects)?;
    let same = |who: &str, found: &BTreeMap<String, i64>| {
        ensure!(*found == theirs, "Pathway and {who} disagree: {} and {} tickets", theirs.len(), found.len());
        Ok(())
    };
    same("Pathway on bare rows", &of_rows_found)?;
    let (alone, alone_took) = alone::stated_links(history::cores(), history::reader(), history.signals.clone())?;
    same("FlowSync by itself", &alone)?;
    let mut running = Running::start(history::cores(), history::reader(), &[])?;
    let pushed = running.push(history.signals, 20_000)?;
    let all = running.commits_named();
    running.finish()?;
    same("FlowSync with all views", &all)?;
    let commits = history.commits.len() as f64;
    let (of_deliveries, of_rows) = (commits / of_deliveries, commits / of_rows);
    let (alone, all) = (commits / alone_took.as_secs_f64(), commits / pushed.took.as_secs_f64());
    report.add("Pathway: push deliveries → stated links per ticket", of_deliveries, "commits/s");
    report.add("Pathway: the same, of bare rows of sha and message", of_rows, "commits/s");
    report.add("FlowSync: the same, of push deliveries", alone, "commits/s");
    report.add("FlowSync: the same, and all other views", all, "commits/s");
    let what = "FlowSync against Pathway on the same deliveries (the same rows came out)";
    report.add_target(what, alone / of_deliveries, RATIO, Target::AtLeast(5.0));
    report.add("FlowSync on deliveries against Pathway on bare rows", alone / of_rows, RATIO);
    report.add("FlowSync through all views against Pathway through one, of deliveries", all / of_deliveries, RATIO);
    Ok(())
}

/// Pathway on one input a line: how long it took in seconds, and the commits of each ticket.
fn pathway(shape: &str, input: &str, projects: &[String]) -> Result<(f64, BTreeMap<String, i64>)> {
    #[derive(Deserialize)]
    struct Took {
        secs: f64,
    }
    #[derive(Deserialize)]
    struct Ticket {
        ticket: String,
        commits: i64,
        diff: i64,
    }
    let folder = tempfile::TempDir::new()?;
    let (source, out) = (folder.path().join("commits.jsonl"), folder.path().join("tickets.jsonl"));
    std::fs::write(&source, input)?;
    let mut args = vec![shape, source.to_str().context("a path")?, out.to_str().context("a path")?];
    args.extend(projects.iter().map(String::as_str));
    let took: Took = read(script("stated_links.py", &args, "")?.into_iter().next_back())?;
    let mut found: BTreeMap<String, i64> = BTreeMap::new();
    for line in std::fs::read_to_string(&out)?.lines() {
        let ticket: Ticket = serde_json::from_str(line)?;
        if ticket.diff > 0 {
            found.insert(ticket.ticket, ticket.commits);
        }
    }
    Ok((took.secs, found))
}
