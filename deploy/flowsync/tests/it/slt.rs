//! SQL over a fixed history, against expected rows: `query/tests/slt/*.slt`, one file a report or question.
//!
//! The history is the demo's organisation, ended at a fixed time, under a fixed tenant's key: the same rows in every run.
//! `FLOWSYNC_BLESS=1` writes the rows that come out into the files; read every line of the difference.

use std::path::{Path, PathBuf};

use flowsync::pipeline::Pipeline;
use flowsync_ingest::{
    DataDir,
    connectors::{self, Delivery, Secret, Secrets, settings},
    simulate::{self, Scale, Simulation},
};
use flowsync_query::{AsOf, Engine, QueryError};
use flowsync_schemas::{Micros, Value, model::Model};
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner, default_normalizer, default_validator};
use tempfile::TempDir;

/// Fills a data directory with the history.
fn fill(dir: &Path) {
    std::fs::create_dir_all(dir.join("keys")).expect("a folder");
    std::fs::write(dir.join("keys/tenant.key"), [7; 32]).expect("written");
    let dir = DataDir::open_writer(dir, "a test").expect("a data directory");
    let pipeline = Pipeline::start(dir, &Model::shipped(), None).expect("it starts");
    let until = Micros::parse("2026-10-15T15:00:00Z").expect("a time");
    let simulation = Simulation::new(1, until, Scale::DEMO);
    let secrets: Secrets = simulate::CONNECTORS.iter().map(|c| ((*c).to_owned(), Secret::new(*c))).collect();
    let stated = settings::signal(&simulation.settings(), None, until).expect("settings");
    let mut signals = vec![stated.into_signal()];
    for sent in simulation {
        let headers = sent.sign(&secrets, sent.at).expect("a secret");
        let connector = connectors::by_name(sent.connector).expect("a connector");
        let delivery = Delivery { headers: &headers, body: &sent.body, received_at: sent.at };
        signals.push(connector.verify(delivery, secrets.get(sent.connector)).expect("signed").into_signal());
    }
    pipeline.appender.append_blocking(signals).expect("appended");
    pipeline.catch_up().expect("committed");
    pipeline.stop().expect("it ends");
}

/// The engine, as the runner asks it.
struct Tables(Engine);

#[async_trait::async_trait]
impl AsyncDB for Tables {
    type Error = QueryError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, QueryError> {
        let rows = self.0.snapshot(AsOf::Newest).await?.rows(sql, &[]).await?;
        let types = vec![DefaultColumnType::Any; rows.first().map_or(0, |row| row.columns().len())];
        let cell = |value: &Value| match value {
            Value::Null => "NULL".to_owned(),
            Value::Bool(b) => b.to_string(),
            Value::Int(i) => i.to_string(),
            Value::Text(text) if text.is_empty() => "(empty)".to_owned(),
            Value::Text(text) => text.to_string(),
        };
        let rows = rows.iter().map(|row| row.values().iter().map(cell).collect()).collect();
        Ok(DBOutput::Rows { types, rows })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "flowsync"
    }
}

#[test]
fn sql_over_a_fixed_history_gives_the_expected_rows() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let dir = TempDir::new().expect("a folder");
    fill(dir.path());
    let (_, engine) = flowsync::data::open(dir.path()).expect("an engine");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../query/tests/slt");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).expect("the folder").map(|f| f.expect("a file").path()).collect();
    files.sort();
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        let mut runner = Runner::new(|| async { Ok(Tables(engine.clone())) });
        if std::env::var_os("FLOWSYNC_BLESS").is_some() {
            let updated = runner.update_test_file(&file, " ", default_validator, default_normalizer, |_, _| true);
            runtime.block_on(updated).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        } else {
            let run = runtime.block_on(runner.run_file_async(&file));
            run.unwrap_or_else(|e| panic!("{}", e.display(false)));
        }
    }
}
