//! What is measured on: the history of a simulated organisation, as signals.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context, Result};
use flowsync_dataflow::Read;
use flowsync_ingest::{
    connectors::{self, Delivery, Secret, Secrets, Verified, settings},
    simulate::{self, Scale, Simulated, Simulation, Truth},
};
use flowsync_schemas::{Micros, Pseudonymizer, Signal};
use serde_json::Value;

/// Signals of one ticket's story, about: the simulation is asked for tickets.
const SIGNALS_PER_TICKET: u64 = 25;
/// The same in every run.
const SEED: u64 = 20;
const UNTIL: &str = "2026-11-20T12:00:00Z";

/// When every simulated history ends.
pub fn until() -> Result<Micros> {
    Micros::parse(UNTIL).context("the end of the simulated history")
}

/// How large an organisation makes at least so many signals.
pub fn scale(signals: u64) -> Scale {
    Scale::of_tickets(signals.div_ceil(SIGNALS_PER_TICKET).max(100))
}

/// The simulated organisation of at least so many signals.
pub fn simulation(signals: u64) -> Result<Simulation> {
    Ok(Simulation::new(SEED, until()?, scale(signals)))
}

/// Secrets that nobody needs to know.
pub fn secrets() -> Secrets {
    simulate::CONNECTORS.iter().map(|name| ((*name).to_owned(), Secret::new(format!("{name}-secret")))).collect()
}

/// Signals in order of arrival, verified as the gateway verifies them.
pub struct History {
    simulation: Simulation,
    secrets: Secrets,
    first: Option<Signal>,
}

impl History {
    /// Of at least so many signals; the first one states the settings.
    pub fn new(signals: u64) -> Result<Self> {
        Self::of(simulation(signals)?.without_truth())
    }

    /// The same, and what is true of it is kept until it is asked for.
    pub fn telling(signals: u64) -> Result<Self> {
        Self::of(simulation(signals)?)
    }

    fn of(simulation: Simulation) -> Result<Self> {
        let settings = settings::signal(&simulation.settings(), None, until()?)?;
        Ok(Self { simulation, secrets: secrets(), first: Some(settings.into_signal()) })
    }

    /// What is true, after the last signal.
    pub fn truth(&mut self) -> Vec<Truth> {
        self.simulation.truth()
    }

    /// The next so many signals, or fewer at the end.
    pub fn batch(&mut self, count: usize) -> Vec<Signal> {
        self.by_ref().take(count).collect()
    }

    /// The next so many deliveries as they are sent, without those that are refused by intent.
    pub fn deliveries(&mut self, count: usize) -> Vec<Simulated> {
        self.simulation.by_ref().filter(|sent| !sent.forged).take(count).collect()
    }
}

impl Iterator for History {
    type Item = Signal;

    fn next(&mut self) -> Option<Signal> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            let sent = self.simulation.next()?;
            let headers = sent.sign(&self.secrets, sent.at).ok()?;
            let connector = connectors::by_name(sent.connector)?;
            let delivery = Delivery { headers: &headers, body: &sent.body, received_at: sent.at };
            // What is forged does not get this far in the product either.
            if let Ok(verified) = connector.verify(delivery, self.secrets.get(sent.connector)) {
                return Some(verified.into_signal());
            }
        }
    }
}

/// Commits as they are pushed, and the same as plain rows.
pub struct Commits {
    /// Deliveries of pushes, after the settings.
    pub signals: Vec<Signal>,
    /// Sha and message of every commit in them, each once.
    pub commits: BTreeMap<String, String>,
    /// Known projects.
    pub projects: Vec<String>,
}

impl Commits {
    /// The deliveries of pushes alone.
    pub fn pushes(&self) -> impl Iterator<Item = &Signal> {
        self.signals.iter().filter(|signal| is_push(signal))
    }
}

/// Whether it is the delivery of a push.
pub fn is_push(signal: &Signal) -> bool {
    signal.header("x-github-event") == Some("push")
}

/// Whether it states the settings, as the first one does.
pub fn is_settings(signal: &Signal) -> bool {
    signal.source == "settings"
}

/// Pushes with at least so many commits.
pub fn commits(count: usize) -> Result<Commits> {
    let mut history = History::new(count as u64 * 8)?;
    let projects = history.simulation.settings().projects.into_iter().collect();
    let mut out = Commits { signals: history.batch(1), commits: BTreeMap::new(), projects };
    while out.commits.len() < count {
        let signal = history.next().with_context(|| format!("the simulated history ends before commit {count}"))?;
        if !is_push(&signal) {
            continue;
        }
        // Some deliveries are unreadable by intent.
        let Ok(push) = serde_json::from_slice::<Value>(&signal.body) else { continue };
        let text = |commit: &Value, field: &str| Some(commit[field].as_str()?.to_owned());
        let pushed = push["commits"].as_array().into_iter().flatten();
        out.commits.extend(pushed.filter_map(|c| Some((text(c, "id")?, text(c, "message")?))));
        out.signals.push(signal);
    }
    Ok(out)
}

/// Cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Whoever is named in a history, by pseudonym.
pub fn people() -> Pseudonymizer {
    Pseudonymizer::new(&[7; 32])
}

/// Reads signals as the product does.
pub fn reader() -> Read {
    let people = people();
    Arc::new(move |signal: &Signal| {
        let parsed = connectors::parse(&Verified::from_log(signal.clone()), &people);
        (parsed.facts, parsed.rejections)
    })
}
