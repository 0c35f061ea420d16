//! `flowsync run`.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context, Result, anyhow};
use flowsync_ingest::{
    DataDir,
    connectors::settings::{self, Settings},
    now,
};
use flowsync_query::Metrics;
use tokio::runtime::Runtime;

use crate::{
    config::Config,
    data,
    out::{heard_or_not, say},
    pipeline::Pipeline,
    retention::{Retention, Sweep},
    serve::{Server, interrupted},
};

/// The address without configuration: this machine only.
pub const LISTEN: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 8484));

pub fn run(config: Option<&Path>, dir: &Path, listen: Option<SocketAddr>, runtime: &Runtime) -> Result<()> {
    let config = Config::read(config)?;
    let (secrets, model) = (config.secrets()?, config.model()?);
    let metrics = Metrics::install()?;
    let dir = DataDir::open_writer(dir, &super::command_line())?;
    data::set_model(&dir, model.as_deref())?;
    let model = data::model(&dir)?;
    let pipeline = Pipeline::start(dir, &model, config.workers)?;
    apply_settings(&pipeline, &config.settings)?;
    let address = listen.or(config.listen).unwrap_or(LISTEN);
    let connectors: Vec<_> = secrets.keys().cloned().collect();
    // Before anybody is told that it serves, and might ask it to end.
    let interrupted = runtime.block_on(async { interrupted() })?;
    let server = runtime.block_on(Server::start(&pipeline, secrets, metrics, address))?;
    let receiving = if connectors.is_empty() {
        "no connector has a secret yet, so no delivery is let in: see `flowsync run --help`".to_owned()
    } else {
        format!("receiving {}", connectors.join(", "))
    };
    let sweeping = runtime.spawn(keep(&pipeline, config.retention_days));
    // It serves on without anybody who reads this.
    heard_or_not(say!("serving http://{}\n{receiving}", server.address))?;
    let ended = runtime.block_on(async {
        tokio::select! {
            () = interrupted => Ok(()),
            failed = failure(&pipeline) => Err(failed),
        }
    });
    sweeping.abort();
    pipeline.feed.close();
    runtime.block_on(server.stop())?;
    pipeline.stop()?;
    ended
}

/// How often deliveries are looked at that may be past their retention.
const SWEEP_EVERY: Duration = Duration::from_secs(3_600);

/// Lets go of deliveries that are past their retention, as long as it is driven.
fn keep(pipeline: &Pipeline, retention: Retention) -> impl Future<Output = ()> + use<> {
    let (status, log, engine) = (pipeline.status.clone(), pipeline.log.clone(), pipeline.engine.clone());
    async move {
        if retention.is_empty() {
            return;
        }
        // Before the tables are what they should be, they do not tell which signals they cover.
        while !status.get().checked {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let mut sweep = Sweep::new(retention, log, engine);
        loop {
            match sweep.run().await {
                Ok(0) => {}
                Ok(signals) => tracing::info!(signals, "deliveries past their retention are gone"),
                Err(error) => tracing::error!(error = format!("{error:#}"), "the retention was not applied"),
            }
            tokio::time::sleep(SWEEP_EVERY).await;
        }
    }
}

/// Waits until the pipeline fails.
pub async fn failure(pipeline: &Pipeline) -> anyhow::Error {
    loop {
        if let Some(reason) = pipeline.status.get().failed {
            return anyhow!("{reason}");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// States the configured settings as a signal, where they differ from those that were stated last.
pub fn apply_settings(pipeline: &Pipeline, settings: &Settings) -> Result<()> {
    let path = pipeline.dir.path().join("settings.json");
    let previous: Option<Settings> = match fs::read(&path) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).with_context(|| path.display().to_string())?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    if previous.as_ref().unwrap_or(&Settings::default()) == settings {
        return Ok(());
    }
    let signal = settings::signal(settings, previous.as_ref(), now())?;
    pipeline.appender.append_blocking(vec![signal.into_signal()])?;
    // Durable first: written before the signal, a crash between the two would forget the change.
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_vec_pretty(settings)?)?;
    fs::rename(&new, &path).with_context(|| path.display().to_string())
}
