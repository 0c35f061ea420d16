//! Retention: how long the deliveries themselves are kept, by source. What was read from them stays in the tables, and is
//! carried over where these are computed anew; the bytes, and the keys that they are sealed with, go.
//!
//! Only signals that the tables cover are let go. The settings that this process states are not deliveries, and stay.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use anyhow::{Result, bail};
use flowsync_ingest::{Log, connectors, now};
use flowsync_query::{AsOf, Engine, Param};
use flowsync_schemas::LogPosition;
use serde::Deserialize;

/// Signals that are looked up in one go.
const FOUND_MAX: usize = 100_000;

const DAY_MICROS: i64 = 86_400_000_000;

/// Applies to every source that has no retention of its own.
const DEFAULT: &str = "default";
/// What this process says itself.
const SETTINGS: &str = "settings";

/// Days that deliveries are kept, by source; those of a source that is not named, and where there is no `default`, for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Retention(BTreeMap<String, u32>);

impl Retention {
    /// Refuses what names no connector.
    pub fn check(&self) -> Result<()> {
        let odd = self.0.keys().find(|name| *name != DEFAULT && connectors::by_name(name).is_none());
        match odd {
            Some(odd) => bail!("retention_days.{odd}: there is no connector {odd}; see `flowsync connectors`"),
            None => Ok(()),
        }
    }

    /// Whether everything is kept for ever.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn days(&self, source: &str) -> Option<u32> {
        self.0.get(source).or_else(|| self.0.get(DEFAULT)).copied()
    }
}

/// Applies a retention, again and again.
pub struct Sweep {
    retention: Retention,
    log: Arc<dyn Log>,
    engine: Engine,
    /// What was received before was looked at, by source.
    done: BTreeMap<&'static str, i64>,
}

impl Sweep {
    /// Has looked at nothing yet.
    pub fn new(retention: Retention, log: Arc<dyn Log>, engine: Engine) -> Self {
        Self { retention, log, engine, done: BTreeMap::new() }
    }

    /// Lets go of every delivery that is past its retention; how many these were.
    pub async fn run(&mut self) -> Result<u64> {
        let mut count = 0;
        for connector in connectors::ALL {
            let source = connector.spec().name;
            let Some(days) = self.retention.days(source).filter(|_| source != SETTINGS) else { continue };
            let before = now().0.saturating_sub(i64::from(days) * DAY_MICROS);
            count += self.let_go(source, before).await?;
            // What had been received, and was not in the tables yet, is looked at again.
            self.done.insert(source, before.saturating_sub(DAY_MICROS));
        }
        Ok(count)
    }

    async fn let_go(&self, source: &str, before: i64) -> Result<u64> {
        let since = self.done.get(source).copied().unwrap_or(0);
        let sql = format!(
            "select log_partition, log_offset from fact_signals
             where source = $1 and received_at >= to_timestamp_micros($2) and received_at < to_timestamp_micros($3)
               and (log_partition > $4 or log_partition = $4 and log_offset > $5)
             order by log_partition, log_offset limit {FOUND_MAX}"
        );
        // The tables as committed: what they do not hold yet must stay readable.
        let committed = self.engine.snapshot(AsOf::Newest).await?.committed_epoch();
        let snapshot = self.engine.snapshot(AsOf::Epoch(committed)).await?;
        let (mut count, mut after) = (0, (0, -1));
        loop {
            let bounds = [since, before, after.0, after.1].map(Param::Int);
            let params: Vec<_> = [Param::Text(source.to_owned())].into_iter().chain(bounds).collect();
            let rows = snapshot.rows(&sql, &params).await?;
            let mut found = Vec::with_capacity(rows.len());
            for row in &rows {
                after = (row.int("log_partition")?, row.int("log_offset")?);
                found.push(LogPosition { partition: u32::try_from(after.0)?, offset: u64::try_from(after.1)? });
            }
            let log = self.log.clone();
            count += tokio::task::spawn_blocking(move || withdraw(&*log, found)).await??;
            if rows.len() < FOUND_MAX {
                return Ok(count);
            }
        }
    }
}

fn withdraw(log: &dyn Log, found: Vec<LogPosition>) -> Result<u64> {
    let gone: BTreeMap<u32, Vec<Range<u64>>> = (0..u32::try_from(log.ends()?.len())?)
        .map(|partition| Ok((partition, log.withdrawn(partition)?)))
        .collect::<Result<_>>()?;
    let mut left = Vec::with_capacity(found.len());
    for at in found {
        // What was redacted still says something.
        let is_gone = within(gone.get(&at.partition).map_or(&[], Vec::as_slice), at.offset)
            && log.get(at)?.is_some_and(|signal| signal.is_withdrawn());
        if !is_gone {
            left.push((at, None));
        }
    }
    let count = left.len() as u64;
    if count > 0 {
        log.withdraw(left)?;
    }
    Ok(count)
}

fn within(ranges: &[Range<u64>], offset: u64) -> bool {
    let next = ranges.partition_point(|range| range.end <= offset);
    ranges.get(next).is_some_and(|range| range.contains(&offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_its_own_days_or_those_of_all() {
        let retention: Retention = toml::from_str("default = 700\nslack = 90").expect("it reads");
        assert!(retention.check().is_ok());
        assert_eq!((retention.days("slack"), retention.days("github")), (Some(90), Some(700)));
        assert_eq!(Retention::default().days("github"), None);
        let odd: Retention = toml::from_str("slak = 90").expect("it reads");
        assert!(odd.check().is_err_and(|e| e.to_string().contains("slak")));
    }

    #[test]
    fn what_is_gone_is_found_in_ranges() {
        let ranges = [3..5, 9..10];
        let gone: Vec<u64> = (0..12).filter(|offset| within(&ranges, *offset)).collect();
        assert_eq!(gone, [3, 4, 9]);
    }
}
