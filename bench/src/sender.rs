//! The sender of deliveries: signed, over loopback, on connections that stay open, by one thread. It shares the cores with
//! what it measures, so it does no more than a sender has to: a general client took a third of both while the gateway was saturated.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use flowsync_ingest::{connectors::Secrets, now, simulate::Simulated};
use futures::future::try_join_all;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request,
    body::Bytes,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;

use crate::history::secrets;

/// How long a sender waits for room where the gateway has none.
const AGAIN: Duration = Duration::from_millis(20);
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// One delivery that was accepted.
pub struct Accepted {
    /// When the answer came.
    pub at: Instant,
    /// How long it took since it was due.
    pub took: Duration,
    /// The epoch that covers it.
    pub epoch: u64,
}

/// Sends deliveries on so many connections, so many a second or as fast as they are taken.
pub fn send(address: &str, deliveries: &[Simulated], connections: usize, rate: Option<usize>) -> Result<Vec<Accepted>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (next, secrets, started) = (AtomicUsize::new(0), secrets(), Instant::now());
    let one = async || -> Result<Vec<Accepted>> {
        let mut connection = Connection::open(address, &secrets).await?;
        let mut accepted = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(delivery) = deliveries.get(i) else { return Ok(accepted) };
            let due = match rate {
                Some(rate) => started + Duration::from_secs_f64(i as f64 / rate as f64),
                None => Instant::now(),
            };
            if rate.is_some() {
                // Not for what is due at once: the runtime's clock ticks by the millisecond.
                tokio::time::sleep_until(due.into()).await;
            }
            accepted.extend(connection.deliver(delivery, due).await?);
        }
    };
    let accepted = runtime.block_on(try_join_all((0..connections).map(|_| one())))?;
    Ok(accepted.into_iter().flatten().collect())
}

struct Connection<'a> {
    address: &'a str,
    secrets: &'a Secrets,
    requests: SendRequest<Full<Bytes>>,
}

impl<'a> Connection<'a> {
    async fn open(address: &'a str, secrets: &'a Secrets) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("no connection to {address}"))?;
        stream.set_nodelay(true)?;
        let (requests, connection) = handshake(TokioIo::new(stream)).await?;
        // What goes wrong with it, the request tells.
        tokio::spawn(connection);
        Ok(Self { address, secrets, requests })
    }

    /// Sends one delivery until it is taken; `None` where it is a chat command, whose answer does not tell its place.
    async fn deliver(&mut self, delivery: &Simulated, due: Instant) -> Result<Option<Accepted>> {
        #[derive(Deserialize)]
        struct Kept {
            position: Option<Position>,
        }
        #[derive(Deserialize)]
        struct Position {
            offset: u64,
        }
        loop {
            let mut request = Request::post(format!("/hooks/{}", delivery.connector)).header("host", self.address);
            for (name, value) in delivery.sign(self.secrets, now())? {
                request = request.header(name, value);
            }
            let request = request.body(Full::new(Bytes::copy_from_slice(&delivery.body)))?;
            let answered = async {
                self.requests.ready().await?;
                let answer = self.requests.send_request(request).await?;
                let status = answer.status().as_u16();
                Ok::<_, hyper::Error>((status, answer.into_body().collect().await?.to_bytes()))
            };
            let (status, body) = tokio::time::timeout(TIMEOUT, answered).await.context("the gateway is silent")??;
            match status {
                429 | 503 => tokio::time::sleep(AGAIN).await,
                200 | 202 | 422 => {
                    let at = Instant::now();
                    let kept: Kept = serde_json::from_slice(&body)
                        .with_context(|| format!("an answer: {}", String::from_utf8_lossy(&body)))?;
                    let epoch = kept.position.map(|position| position.offset + 1);
                    return Ok(epoch.map(|epoch| Accepted { at, took: at - due, epoch }));
                }
                other => bail!("the gateway answered {other} to a simulated delivery"),
            }
        }
    }
}
