//! What every command that reads a data directory opens.

use std::{path::Path, sync::Arc};

use anyhow::Result;
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
    let engine = engine(&data, &Model::shipped())?;
    Ok((data, engine))
}

/// The query engine over a data directory.
pub fn engine(data: &DataDir, model: &Model) -> Result<Engine> {
    Ok(Engine::open(data.path(), specs(), model, EngineOptions::default())?)
}

/// Looks names up in the identity vault as it is now.
pub fn names(data: &DataDir) -> Result<flowsync_query::digest::Names> {
    let names = Names::read(&data.vault())?;
    Ok(Arc::new(move |person| names.name(person).map(str::to_owned)))
}
