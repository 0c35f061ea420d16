//! Sends simulated deliveries to a running gateway, signed as the tools sign: what `demo` and `simulate` share.
//!
//! Several senders, each over a connection that it keeps. A gateway that has too much to do (429, 503) is obeyed and asked
//! again. An answer that nobody expects ends the sending: a forged delivery that is let in, a real one that is not.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use flowsync_ingest::{connectors::Secrets, now, simulate::Simulated};

/// Senders at once, unless said otherwise: each waits for the fsync that it shares with the others.
pub const SENDERS: usize = 16;
/// How often a delivery is sent that the gateway has no time for.
const ATTEMPTS_MAX: u32 = 120;
/// Longest time that an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Longest wait that a gateway is granted.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Where to send, and how.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Address of the gateway: `http://127.0.0.1:8484`.
    pub url: &'a str,
    /// The secrets that it verifies with.
    pub secrets: &'a Secrets,
    /// Senders at once.
    pub senders: usize,
    /// Deliveries a second; as fast as they are taken where there is none.
    pub rate: Option<u32>,
}

/// What became of deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Durable, and understood; or durable, where a person reads the answer.
    pub accepted: u64,
    /// Durable, and not understood (422).
    pub rejected: u64,
    /// Forged, and not let in (401).
    pub refused: u64,
    /// Sent again, because the gateway was busy.
    pub retried: u64,
}

impl Sent {
    /// All that were sent, each once.
    pub fn all(&self) -> u64 {
        self.accepted + self.rejected + self.refused
    }

    fn add(&mut self, other: Sent) {
        self.accepted += other.accepted;
        self.rejected += other.rejected;
        self.refused += other.refused;
        self.retried += other.retried;
    }
}

/// Sends what `next` gives until it gives nothing more. Deliveries that are under way at one time may change places.
///
/// # Errors
/// Where `next` fails, the gateway cannot be reached, or it answers what it must not.
pub fn send(target: &Target<'_>, next: impl FnMut() -> Result<Option<Simulated>> + Send) -> Result<Sent> {
    let next = Mutex::new(next);
    let (number, stopped) = (AtomicU64::new(0), AtomicBool::new(false));
    let started = Instant::now();
    let one = || -> Result<Sent> {
        let agent = agent();
        let mut sent = Sent::default();
        while !stopped.load(Ordering::Relaxed) {
            let (delivery, number) = {
                let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(delivery) = next()? else { break };
                (delivery, number.fetch_add(1, Ordering::Relaxed))
            };
            if let Some(rate) = target.rate.filter(|rate| *rate > 0) {
                let due = started + Duration::from_secs_f64(number as f64 / f64::from(rate));
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            deliver(&agent, target, &delivery, &mut sent)?;
        }
        Ok(sent)
    };
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..target.senders.max(1))
            .map(|_| {
                scope.spawn(|| {
                    let sent = one();
                    // The others stop too; what they have under way is answered first.
                    stopped.fetch_or(sent.is_err(), Ordering::Relaxed);
                    sent
                })
            })
            .collect();
        let mut all = Sent::default();
        let mut failed = None;
        for sender in senders {
            match sender.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a sender panicked"))) {
                Ok(sent) => all.add(sent),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(all), Err)
    })
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(ANSWER_MAX));
    config.build().into()
}

fn deliver(agent: &ureq::Agent, target: &Target<'_>, delivery: &Simulated, sent: &mut Sent) -> Result<()> {
    let connector = delivery.connector;
    let url = format!("{}/hooks/{connector}", target.url.trim_end_matches('/'));
    for _ in 0..ATTEMPTS_MAX {
        let mut request = agent.post(&url);
        for (name, value) in delivery.sign(target.secrets, now())? {
            request = request.header(name, value);
        }
        let mut answer = request.send(&delivery.body[..]).with_context(|| url.clone())?;
        let status = answer.status().as_u16();
        let wait = answer.headers().get("retry-after").and_then(|v| v.to_str().ok()?.parse().ok()).unwrap_or(1);
        let text = answer.body_mut().read_to_string().unwrap_or_default();
        match status {
            401 if delivery.forged => sent.refused += 1,
            200..=299 | 422 if delivery.forged => bail!("{url} let a forged delivery in (status {status}): {text}"),
            200..=299 => sent.accepted += 1,
            422 => sent.rejected += 1,
            429 | 503 => {
                sent.retried += 1;
                std::thread::sleep(Duration::from_secs(wait).min(RETRY_MAX));
                continue;
            }
            401 => bail!("{url} refuses: is secrets.{connector} the one that it runs with? {text}"),
            other => bail!("{url} answered {other} to a simulated delivery: {text}"),
        }
        return Ok(());
    }
    bail!("{url} was busy {ATTEMPTS_MAX} times in a row")
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Read, Write},
        net::TcpListener,
    };

    use flowsync_ingest::{connectors::Secret, simulate::CONNECTORS};
    use flowsync_schemas::Micros;

    use super::*;

    /// Answers one connection with these statuses in turn, and tells how many requests it had.
    fn gateway(answers: Vec<u16>) -> (String, std::thread::JoinHandle<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let serving = std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a connection");
            let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
            let mut writer = stream;
            let mut answered = 0;
            for status in answers {
                let (mut line, mut length) = (String::new(), 0);
                while reader.read_line(&mut line).expect("a line") > 2 {
                    let lower = line.to_ascii_lowercase();
                    length =
                        lower.strip_prefix("content-length:").and_then(|v| v.trim().parse().ok()).unwrap_or(length);
                    line.clear();
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).expect("a body");
                let answer = format!("HTTP/1.1 {status} x\r\nretry-after: 0\r\ncontent-length: 2\r\n\r\n{{}}");
                writer.write_all(answer.as_bytes()).expect("answered");
                answered += 1;
            }
            answered
        });
        (url, serving)
    }

    fn run(answers: Vec<u16>, forged: &[bool]) -> (Result<Sent>, usize) {
        let secrets: Secrets = CONNECTORS.iter().map(|c| ((*c).to_owned(), Secret::new(*c))).collect();
        let (url, serving) = gateway(answers);
        let delivery = |forged: &bool| Simulated {
            connector: "github",
            headers: vec![("x-github-event".to_owned(), "ping".to_owned())],
            body: b"{}".to_vec(),
            at: Micros(0),
            forged: *forged,
        };
        let mut deliveries = forged.iter().map(delivery);
        let target = Target { url: &url, secrets: &secrets, senders: 1, rate: Some(1_000) };
        let sent = send(&target, || Ok(deliveries.next()));
        (sent, serving.join().expect("it served"))
    }

    #[test]
    fn a_busy_gateway_is_asked_again_over_one_connection() {
        let (sent, requests) = run(vec![503, 429, 202, 422, 401, 200], &[false, false, true, false]);
        assert_eq!(sent.expect("sent"), Sent { accepted: 2, rejected: 1, refused: 1, retried: 2 });
        assert_eq!(requests, 6);
    }

    #[test]
    fn what_must_not_be_answered_ends_the_sending() {
        for (answer, forged) in [(202, true), (422, true), (401, false), (500, false)] {
            let (sent, _) = run(vec![answer], &[forged, false]);
            assert!(sent.is_err(), "{answer} {forged}");
        }
    }
}
