//! What every command that reads a data directory opens.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use flowsync_dataflow::views;
use flowsync_ingest::{DataDir, Names};
use flowsync_query::{Engine, EngineOptions};
use flowsync_schemas::{ViewSpec, model::Model};

/// The views' specifications.
pub fn specs() -> Vec<&'static ViewSpec> {
    views::ALL.iter().map(|v| v.spec).collect()
}

/// A data directory for reading, beside a writer or without one.
pub fn open(dir: &Path) -> Result<(DataDir, Engine)> {
    let data = DataDir::open_reader(dir)?;
    let engine = engine(&data, &model(&data)?)?;
    Ok((data, engine))
}

/// As [`open`], for commands whose statements may take as long, and as much, as they need: nobody else waits for them.
pub fn open_patient(dir: &Path) -> Result<(DataDir, Engine)> {
    let data = DataDir::open_reader(dir)?;
    let options = EngineOptions {
        rows_max: usize::MAX,
        memory_bytes_max: 16 << 30,
        time_max: Duration::from_secs(24 * 3_600),
        ..EngineOptions::default()
    };
    let engine = Engine::open(data.path(), specs(), &model(&data)?, options)?;
    Ok((data, engine))
}

/// The confidence model of a data directory: the one that `run` was configured with last, or the shipped one.
pub fn model(data: &DataDir) -> Result<Model> {
    Model::parse(&model_text(data)?).with_context(|| model_file(data).display().to_string())
}

/// The text of that model.
pub fn model_text(data: &DataDir) -> Result<String> {
    let path = model_file(data);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(flowsync_schemas::model::DEFAULT.to_owned()),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// Makes a model that of the data directory, so that every command computes with the same one.
pub fn set_model(data: &DataDir, text: Option<&str>) -> Result<()> {
    let path = model_file(data);
    let changed = match text {
        Some(text) => std::fs::write(&path, text),
        None => std::fs::remove_file(&path),
    };
    match changed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).with_context(|| path.display().to_string()),
        _ => Ok(()),
    }
}

fn model_file(data: &DataDir) -> PathBuf {
    data.path().join("model.toml")
}

/// The query engine over a data directory.
pub fn engine(data: &DataDir, model: &Model) -> Result<Engine> {
    Ok(Engine::open(data.path(), specs(), model, EngineOptions::default())?)
}

/// Looks names up in the identity vault as it is now.
pub fn names(data: &DataDir) -> Result<flowsync_query::digest::Names> {
    let names = Names::read(&data.vault(), &*data.keyring()?)?;
    Ok(Arc::new(move |person| names.name(person).map(str::to_owned)))
}
