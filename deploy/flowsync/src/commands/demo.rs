//! `flowsync demo`: everything at once. The deliveries are simulated and say so; everything else is the real thing.

use std::{net::SocketAddr, path::Path, time::Instant};

use anyhow::{Result, bail};
use flowsync_ingest::{
    DataDir,
    connectors::{Secret, Secrets},
    now,
    simulate::{CONNECTORS, Scale, Simulation},
};
use flowsync_query::{
    AsOf, Metrics, Snapshot,
    digest::{self, DigestRequest, Role},
    reports::finance,
};
use flowsync_schemas::{Epoch, model::Model};
use tokio::runtime::Runtime;

use super::{
    import,
    run::{LISTEN, apply_settings, failure},
};
use crate::{
    out::say,
    pipeline::Pipeline,
    send::{SENDERS, Target, send},
    serve::{Server, interrupted},
};

/// Marks a data directory as a demo's: simulated signals do not get mixed with real ones.
const MARKER: &str = "DEMO";

pub fn run(dir: &Path, exit: bool, seed: u64, runtime: &Runtime) -> Result<()> {
    let metrics = Metrics::install()?;
    let shown = dir.display().to_string();
    let data = DataDir::open_writer(dir, &super::command_line())?;
    let marker = data.path().join(MARKER);
    let pipeline = Pipeline::start(data, &Model::shipped(), None)?;
    if !marker.exists() && pipeline.status.get().committed > Epoch(0) {
        bail!("{shown} holds data that is no demo's; keep it clean of simulated signals: flowsync demo --dir OTHER");
    }
    std::fs::write(&marker, "Simulated signals: see `flowsync demo --help`.\n")?;
    let simulation = Simulation::new(seed, now(), Scale::DEMO).without_truth();
    apply_settings(&pipeline, &simulation.settings())?;

    let secrets = secrets();
    let server = runtime.block_on(async {
        match Server::start(&pipeline, secrets.clone(), metrics.clone(), LISTEN).await {
            Ok(server) => Ok(server),
            // Somebody else has the usual port: any other does.
            Err(_) => Server::start(&pipeline, secrets.clone(), metrics, SocketAddr::new(LISTEN.ip(), 0)).await,
        }
    })?;
    say!("FlowSync demo. Data in {shown}, serving http://{}\n", server.address)?;
    let here = std::env::current_dir()?;
    if here.ancestors().any(|d| d.join(".git").exists()) {
        let started = Instant::now();
        let summary = import::into(&pipeline, "git", &[here], Vec::new())?;
        say!("git       {} ({:.1} s)", import::describe(&summary), started.elapsed().as_secs_f64())?;
    }
    deliver(&server, &secrets, simulation)?;
    let started = Instant::now();
    let epoch = pipeline.catch_up()?;
    say!("tables    at epoch {epoch}, all views at once ({:.1} s)\n", started.elapsed().as_secs_f64())?;
    runtime.block_on(show(&pipeline))?;
    next_steps(&server, &shown)?;
    if !exit {
        say!("\nServing until you press Ctrl-C.")?;
        runtime.block_on(async {
            tokio::select! {
                () = interrupted()? => Ok(()),
                failed = failure(&pipeline) => Err(failed),
            }
        })?;
    }
    pipeline.feed.close();
    runtime.block_on(server.stop())?;
    pipeline.stop()
}

/// Secrets that nobody needs to know: this process signs and verifies.
fn secrets() -> Secrets {
    let secret = |name: &str| Secret::new(format!("{name}-{}-{}", std::process::id(), now().0));
    CONNECTORS.iter().copied().map(|name| (name.to_owned(), secret(name))).collect()
}

/// Sends the simulated organisation's deliveries to the gateway, signed as the tools sign.
fn deliver(server: &Server, secrets: &Secrets, mut simulation: Simulation) -> Result<()> {
    let started = Instant::now();
    let url = format!("http://{}", server.address);
    let target = Target { url: &url, secrets, senders: SENDERS, rate: None };
    let sent = send(&target, || Ok(simulation.next()))?;
    say!(
        "simulated {} signed deliveries of an invented organisation: {} accepted, {} kept as unreadable ({:.1} s)",
        sent.all(),
        sent.accepted,
        sent.rejected,
        started.elapsed().as_secs_f64()
    )?;
    Ok(())
}

async fn show(pipeline: &Pipeline) -> Result<()> {
    let snapshot = pipeline.engine.snapshot(AsOf::Newest).await?;
    let vault = pipeline.vault.clone();
    let names: digest::Names = std::sync::Arc::new(move |person| vault.name(person));
    let request = DigestRequest { limit: 5, ..DigestRequest::new(Role::ProductManager) };
    say!("{}", digest::markdown(&digest::digest(&snapshot, request, &names, now()).await?))?;
    let period = now().day().month();
    say!("{}", finance::summary(&snapshot, &period).await?)?;
    say!("## Why?\n\nThe most contested link, taken back to its signals:\n")?;
    if let Some(key) = contested(&snapshot).await? {
        let why = serde_json::to_value(snapshot.why("links", &key).await?)?;
        say!("$ flowsync why links '{key}'\n{}", super::why::show(&why))?;
    }
    Ok(())
}

/// The link with the most, and the most different, evidence.
async fn contested(snapshot: &Snapshot) -> Result<Option<String>> {
    let sql = "select artifact_kind || ',' || artifact_id || ',' || ticket_key as key from links
               order by provenance = 'mixed' desc, evidence_count desc, high_bps - low_bps desc, artifact_id limit 1";
    let rows = snapshot.rows(sql, &[]).await?;
    Ok(rows.first().map(|row| row.text("key").map(str::to_owned)).transpose()?)
}

fn next_steps(server: &Server, dir: &str) -> Result<()> {
    let address = server.address;
    say!("## Where to go next\n")?;
    say!("  flowsync sql --dir {dir} \"select project, classification, amount_minor from capitalization\"")?;
    say!("  flowsync digest --dir {dir} --role engineer")?;
    say!("  flowsync finance export --dir {dir} --period {}", now().day().month())?;
    say!("  flowsync check --dir {dir}                 every view recomputed in SQL")?;
    say!("  flowsync import git PATH --project KEY     your own repository")?;
    say!("  open http://{address}/api/digest?role=engineer&format=html")?;
    say!("  curl -N \"http://{address}/api/digest/stream?role=engineer\"     the live feed")
}
