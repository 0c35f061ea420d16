//! The HTTP server of one process: gateway, queries, digests, live feed, audit.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, Result};
use flowsync_ingest::{
    GatewayLimits, GatewayState, Log, audit::audit_routes, backup::backup_routes, connectors, connectors::Secrets,
    gateway, serve,
};
use flowsync_query::{
    Health, Metrics, ServerState, SignalReader,
    digest::{DigestState, Names, digest_routes},
    feed::{StreamState, stream_routes},
};
use flowsync_schemas::LogPosition;
use tokio::{net::TcpListener, runtime::Handle, sync::watch};

use crate::{facts::Committed, pipeline::Pipeline};

/// A server that was bound, and serves until it is told to stop.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

/// Reads deliveries back from the log, for `why`.
pub fn signal_reader(log: Arc<dyn Log>) -> SignalReader {
    Arc::new(move |at: LogPosition| {
        log.get(at).inspect_err(|error| tracing::error!(%error, "a signal cannot be read back")).ok().flatten()
    })
}

impl Server {
    /// Binds the address and serves. Needs a tokio runtime.
    pub async fn start(pipeline: &Pipeline, secrets: Secrets, metrics: Metrics, address: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}: choose another address with --listen"))?;
        let address = listener.local_addr()?;
        pipeline.dir.set_listen(&address.to_string())?;
        let vault = pipeline.vault.clone();
        let names: Names = Arc::new(move |person| vault.name(person));
        let (engine, feed, status, log) =
            (pipeline.engine.clone(), pipeline.feed.clone(), pipeline.status.clone(), pipeline.log.clone());
        let health = Arc::new(move || {
            let progress = status.get();
            let logged: Option<u64> = log.ends().ok().map(|ends| ends.iter().sum());
            let detail = serde_json::json!({
                "log_end": logged, "closed_epoch": progress.closed, "committed_epoch": progress.committed,
                "lag_signals": logged.map(|end| end.saturating_sub(progress.closed.0)),
                "reloading": progress.reloading, "checked": progress.checked, "corrected_rows": progress.corrected,
                "waiting_for_storage": progress.waiting_for_storage, "feed_interrupted": progress.feed_interrupted,
                "failed": progress.failed,
            });
            Health { ok: progress.failed.is_none() && logged.is_some(), detail }
        });
        let state = ServerState {
            engine: engine.clone(),
            health,
            signals: Some(signal_reader(pipeline.log.clone())),
            metrics: Some(metrics),
        };
        let hooks = gateway::router(GatewayState {
            appender: pipeline.appender.clone(),
            secrets,
            people: pipeline.people.clone(),
            limits: GatewayLimits::default(),
            connectors: connectors::ALL,
        });
        let tables = Committed { dir: pipeline.dir.path().to_owned(), runtime: Handle::current() };
        let others = digest_routes(DigestState { engine: engine.clone(), names: names.clone() })
            .merge(stream_routes(StreamState { engine, feed, names }))
            .merge(audit_routes(pipeline.keeper.clone()))
            .merge(backup_routes(&pipeline.dir, pipeline.embedded.clone(), Arc::new(tables)))
            .merge(hooks);
        let router = flowsync_query::router(state, others);
        let (stop, mut stopped) = watch::channel(false);
        let until = async move { drop(stopped.wait_for(|stop| *stop).await) };
        let task = tokio::spawn(serve::serve(listener, router, serve::ServeLimits::default(), until));
        Ok(Self { address, stop, task })
    }

    /// Ends: requests under way are answered first.
    pub async fn stop(self) -> Result<()> {
        self.stop.send_replace(true);
        Ok(self.task.await??)
    }
}

/// Waits for Ctrl-C or a request to terminate; from this call on neither ends the process by itself. Needs a tokio runtime.
pub fn interrupted() -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut pressed, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = pressed.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
