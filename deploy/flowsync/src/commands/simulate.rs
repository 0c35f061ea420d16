//! `flowsync simulate`: a simulated organisation of any size, to a running gateway or into files, and what is so beside it.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use flowsync_ingest::{
    connectors::Secrets,
    now,
    simulate::{CONNECTORS, Lines, Recording, Scale, Simulated, Simulation},
};
use flowsync_schemas::Micros;

use crate::{
    cli::Simulate,
    config::Config,
    out::say,
    send::{self, Target},
};

pub fn run(args: &Simulate) -> Result<()> {
    let until = match &args.until {
        Some(text) => {
            Micros::parse(text).with_context(|| format!("--until {text}: no time such as 2026-10-01T08:00:00Z"))?
        }
        None => now(),
    };
    let fitting = Scale::of_tickets(args.tickets);
    let people = args.people.unwrap_or(fitting.people);
    let days = args.days.unwrap_or(fitting.days);
    let scale = Scale { people, days, ..fitting };
    let mut simulation = Simulation::new(args.seed, until, scale);
    say!("simulated {} tickets of {people} invented people in the {days} days before {until}", args.tickets)?;
    let truth = args.truth.clone().or_else(|| args.out.as_ref().map(|dir| dir.join("truth.ndjson.gz")));
    if truth.is_none() {
        simulation = simulation.without_truth();
    }
    match (&args.to, &args.out) {
        (Some(url), _) => to_gateway(args, url, simulation, truth),
        (None, Some(dir)) => into_files(dir, simulation, truth),
        (None, None) => bail!("say where it goes: --to URL or --out DIR"),
    }
}

/// The simulation with its truth written beside it.
struct Telling {
    simulation: Simulation,
    truth: Option<Lines>,
}

impl Telling {
    fn new(simulation: Simulation, truth: Option<PathBuf>) -> Result<Self> {
        let truth = truth.map(|path| Lines::create(&path).with_context(|| path.display().to_string())).transpose()?;
        Ok(Self { simulation, truth })
    }

    fn next(&mut self) -> Result<Option<Simulated>> {
        let next = self.simulation.next();
        if let Some(truth) = &mut self.truth {
            truth.truth(self.simulation.truth()).context("the truth")?;
        }
        Ok(next)
    }

    fn finish(self) -> Result<()> {
        let Some(truth) = self.truth else { return Ok(()) };
        say!("truth     {} lines", truth.written)?;
        truth.finish().context("the truth")
    }
}

fn to_gateway(args: &Simulate, url: &str, simulation: Simulation, truth: Option<PathBuf>) -> Result<()> {
    let secrets: Secrets = Config::read(args.config.as_deref())?.secrets()?;
    if let Some(missing) = CONNECTORS.iter().find(|name| !secrets.contains_key(**name)) {
        bail!("no secret to sign with: set secrets.{missing} in the configuration that the gateway runs with");
    }
    let mut telling = Telling::new(simulation, truth)?;
    let target = Target { url, secrets: &secrets, senders: send::SENDERS, rate: args.rate };
    let started = Instant::now();
    let sent = send::send(&target, || telling.next())?;
    let secs = started.elapsed().as_secs_f64();
    say!(
        "sent      {}: {} accepted, {} kept as unreadable, {} forged and refused, {} retries ({secs:.1} s, {:.0} a second)",
        sent.all(),
        sent.accepted,
        sent.rejected,
        sent.refused,
        sent.retried,
        sent.all() as f64 / secs
    )?;
    telling.finish()
}

fn into_files(dir: &Path, simulation: Simulation, truth: Option<PathBuf>) -> Result<()> {
    let failed = || dir.display().to_string();
    let mut recording = Recording::create(dir).with_context(failed)?;
    let mut telling = Telling::new(simulation, truth)?;
    let started = Instant::now();
    let mut forged = 0;
    while let Some(delivery) = telling.next()? {
        forged += u64::from(delivery.forged);
        recording.write(&delivery).with_context(failed)?;
    }
    let files = recording.finish().with_context(failed)?;
    let all: u64 = files.iter().map(|(_, lines)| lines).sum();
    let secs = started.elapsed().as_secs_f64();
    say!("written   {all} deliveries ({secs:.1} s, {:.0} a second); {forged} forged ones left out", all as f64 / secs)?;
    for (connector, lines) in files {
        say!("  flowsync import {connector} {}    {lines}", dir.join(format!("{connector}.ndjson.gz")).display())?;
    }
    telling.finish()
}
