//! The commands that read: `sql`, `digest`, `finance export`, `views`, `connectors`.

use std::{io::IsTerminal, path::Path};

use anyhow::{Context, Result, bail};
use flowsync_dataflow::views as all_views;
use flowsync_ingest::{connectors as all_connectors, now};
use flowsync_query::{
    AsOf,
    digest::{self, DigestRequest, Role},
    format::{self, Format},
    reports::finance as report,
};
use flowsync_schemas::Micros;

use crate::{
    cli::{DigestFormat, ExportFormat},
    data,
    out::{self, aside},
};

pub async fn sql(dir: &Path, query: &str, format: &str, as_of: Option<&str>) -> Result<()> {
    let format: Format = format.parse()?;
    if format.is_binary() && std::io::stdout().is_terminal() {
        bail!("{} is no text: send it to a file, with > FILE", format.word());
    }
    let as_of: AsOf = as_of.unwrap_or("newest").parse()?;
    let (_, engine) = data::open(dir)?;
    let answer = engine.snapshot(as_of).await?.sql(query, &[]).await?;
    out::bytes(&format::write(format, &answer)?)
}

pub async fn digest(dir: &Path, role: &str, since: Option<&str>, limit: usize, format: DigestFormat) -> Result<()> {
    let role: Role = role.parse().map_err(|_| {
        let roles: Vec<_> = Role::ALL.iter().map(|r| r.word()).collect();
        anyhow::anyhow!("there is no role {role:?}: roles are {}", roles.join(", "))
    })?;
    let since = since
        .map(|text| {
            Micros::parse(text)
                .or_else(|| Micros::parse(&format!("{text}T00:00:00Z")))
                .with_context(|| format!("{text:?} is no time (2026-10-01T08:00:00Z) or day (2026-10-01)"))
        })
        .transpose()?;
    let (dir, engine) = data::open(dir)?;
    let names = data::names(&dir)?;
    let snapshot = engine.snapshot(AsOf::Newest).await?;
    let digest =
        digest::digest(&snapshot, DigestRequest { since, limit, ..DigestRequest::new(role) }, &names, now()).await?;
    let text = match format {
        DigestFormat::Md => digest::markdown(&digest),
        DigestFormat::Html => digest::html(&digest),
        DigestFormat::Json => digest.json(),
    };
    out::bytes(text.as_bytes())
}

pub async fn finance(dir: &Path, period: &str, format: ExportFormat, out: Option<&Path>) -> Result<()> {
    report::check_period(period)?;
    let format = match format {
        ExportFormat::Csv => report::ExportFormat::Csv,
        ExportFormat::Parquet => report::ExportFormat::Parquet,
    };
    let (_, engine) = data::open(dir)?;
    let snapshot = engine.snapshot(AsOf::Newest).await?;
    let bytes = report::export(&snapshot, period, format).await?;
    match out {
        Some(path) => {
            std::fs::write(path, bytes).with_context(|| path.display().to_string())?;
            aside!("{}", report::summary(&snapshot, period).await?);
            aside!("written to {}", path.display());
            Ok(())
        }
        None if format == report::ExportFormat::Parquet && std::io::stdout().is_terminal() => {
            bail!("parquet is no text: name a file with --out")
        }
        None => out::bytes(&bytes),
    }
}

pub fn views() -> Result<()> {
    let mut text = String::new();
    for view in all_views::ALL {
        let table = &view.spec.table;
        text.push_str(&format!("{:20} {}\n{:20} key: {}\n", table.name, table.doc, "", table.key.join(", ")));
    }
    text.push_str("\nColumns: flowsync sql \"describe links\", or deploy/docs/catalogue.md\n");
    out::bytes(text.as_bytes())
}

pub fn connectors() -> Result<()> {
    let mut text = String::new();
    for connector in all_connectors::ALL {
        let spec = connector.spec();
        text.push_str(&format!("{:10} {}\n{:10} verified by: {}\n", spec.name, spec.doc, "", spec.verification));
        if !spec.events.is_empty() {
            text.push_str(&format!("{:10} events: {}\n", "", spec.events.join(", ")));
        }
    }
    out::bytes(text.as_bytes())
}
