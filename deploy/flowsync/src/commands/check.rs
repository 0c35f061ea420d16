//! `flowsync check`: the configuration, and every view against its definition, recomputed from the facts in SQL (I5).

use std::path::Path;

use anyhow::{Context, Result, bail};
use flowsync_dataflow::views;
use flowsync_query::{AsOf, Snapshot};
use tokio::runtime::Runtime;

use crate::{config::Config, data, out::say};

pub fn run(dir: &Path, config: Option<&Path>, runtime: &Runtime) -> Result<()> {
    if let Some(path) = config {
        let config = Config::read(Some(path))?;
        config.model()?;
        say!("{}: good; secrets for {} connectors", path.display(), config.secrets()?.len())?;
    }
    let (dir, engine) = data::open_patient(dir)?;
    if let Some(holder) = dir.holder()? {
        say!("written by process {} ({})", holder.pid, holder.command)?;
    }
    let mut differing = 0;
    runtime.block_on(async {
        let snapshot = engine.snapshot(AsOf::Newest).await?;
        say!("epoch {}", snapshot.epoch())?;
        against_definitions(&snapshot, |view, rows, differs| {
            differing += u64::from(differs > 0);
            say!("{view:20} {rows:>9} rows  {}", verdict(differs))
        })
        .await
    })?;
    if differing > 0 {
        bail!(
            "{differing} views differ from their definitions: `flowsync run` recomputes and repairs them at its start"
        );
    }
    Ok(())
}

/// Holds every view against its oracle; `tell` hears of each its name, its rows, and how many of them differ.
pub async fn against_definitions(
    snapshot: &Snapshot,
    mut tell: impl FnMut(&'static str, i64, i64) -> Result<()>,
) -> Result<()> {
    // Many definitions read these: each is computed once.
    for (name, sql) in views::oracle_helpers() {
        snapshot.keep(name, sql).await.with_context(|| format!("helper {name}"))?;
    }
    for view in views::ALL {
        let (rows, differs) = compare(snapshot, view).await?;
        tell(view.spec.table.name, rows, differs)?;
    }
    Ok(())
}

fn verdict(differs: i64) -> String {
    if differs == 0 { "as defined".to_owned() } else { format!("{differs} ROWS DIFFER") }
}

/// Rows of a view, and how many differ from its oracle, either way.
async fn compare(snapshot: &Snapshot, view: &views::View) -> Result<(i64, i64)> {
    let table = view.spec.table.name;
    let columns: Vec<_> = (view.spec.table.columns)().iter().map(|c| c.name).collect();
    let columns = columns.join(", ");
    let sql = format!(
        "with oracle as (select {columns} from ({}) as o), view as (select {columns} from {table})
         select (select count(*) from view) as all_rows,
                (select count(*) from (select * from view except all select * from oracle) as extra)
                + (select count(*) from (select * from oracle except all select * from view) as missing) as differs",
        view.spec.oracle
    );
    let rows = snapshot.rows(&sql, &[]).await?;
    let Some(row) = rows.first() else { bail!("{table}: no answer") };
    Ok((row.int("all_rows")?, row.int("differs")?))
}
