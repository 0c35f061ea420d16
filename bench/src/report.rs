//! Figures: the table and the JSON.

use std::{fmt::Write as _, path::Path};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::machine::Machine;

/// What a figure is held against.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The figure should be at least this.
    AtLeast(f64),
    /// The figure should be at most this.
    AtMost(f64),
}

impl Target {
    fn met(self, value: f64) -> bool {
        match self {
            Target::AtLeast(bound) => value >= bound,
            Target::AtMost(bound) => value <= bound,
        }
    }

    fn words(self, unit: &str) -> String {
        match self {
            Target::AtLeast(bound) => format!("≥ {}", number(bound, unit)),
            Target::AtMost(bound) => format!("≤ {}", number(bound, unit)),
        }
    }
}

/// One measured figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What was measured, with its circumstances.
    pub what: String,
    /// How much.
    pub value: f64,
    /// In which unit; `×` is a ratio of two figures of this run.
    pub unit: &'static str,
    /// What is asked of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Whether that is met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub met: Option<bool>,
}

/// Everything that was measured in one run.
#[derive(Debug, Serialize)]
pub struct Report {
    machine: Machine,
    figures: Vec<Figure>,
}

/// The unit of a ratio.
pub const RATIO: &str = "×";

impl Report {
    /// Nothing measured yet.
    pub fn new(machine: Machine) -> Self {
        Self { machine, figures: Vec::new() }
    }

    /// Adds a figure, and shows it at once: a run takes long.
    pub fn add(&mut self, what: impl Into<String>, value: f64, unit: &'static str) {
        self.push(Figure { what: what.into(), value, unit, target: None, met: None });
    }

    /// Adds a figure that has a target.
    pub fn add_target(&mut self, what: impl Into<String>, value: f64, unit: &'static str, target: Target) {
        self.push(Figure { what: what.into(), value, unit, target: Some(target), met: Some(target.met(value)) });
    }

    fn push(&mut self, figure: Figure) {
        eprintln!("  {}: {}", figure.what, number(figure.value, figure.unit));
        self.figures.push(figure);
    }

    /// The table, in Markdown: ratios first.
    pub fn table(&self) -> String {
        let mut out = format!("\n{}\n\n| figure | measured | target |\n|---|---:|---|\n", self.machine.line());
        let (ratios, others): (Vec<_>, Vec<_>) = self.figures.iter().partition(|f| f.unit == RATIO);
        for figure in ratios.into_iter().chain(others) {
            let target = match (figure.target, figure.met) {
                (Some(target), Some(true)) => format!("{} ✓", target.words(figure.unit)),
                (Some(target), _) => format!("{} ✗", target.words(figure.unit)),
                _ => String::new(),
            };
            // Writing to a string cannot fail.
            let _ = writeln!(out, "| {} | {} | {target} |", figure.what, number(figure.value, figure.unit));
        }
        out
    }

    /// Writes machine, commit, versions and figures.
    pub fn write(&self, path: &Path) -> Result<()> {
        std::fs::write(path, serde_json::to_vec_pretty(self)?).with_context(|| path.display().to_string())
    }
}

/// Three significant digits, thousands set off, and the unit.
fn number(value: f64, unit: &str) -> String {
    let digits = if value == 0.0 || value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else {
        2
    };
    let plain = format!("{value:.digits$}");
    let (whole, rest) = plain.split_once('.').map_or((plain.as_str(), ""), |(w, r)| (w, r));
    let mut grouped = String::new();
    for (i, c) in whole.chars().enumerate() {
        if i > 0 && c.is_ascii_digit() && (whole.len() - i) % 3 == 0 && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(c);
    }
    let point = if rest.is_empty() { "" } else { "." };
    format!("{grouped}{point}{rest} {unit}")
}

/// The p-th percentile (0–100) of measurements, by nearest rank; sorts them. Zero where there are none.
pub fn percentile(values: &mut [f64], p: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let rank = (p / 100.0 * values.len() as f64).ceil() as usize;
    values.get(rank.clamp(1, values.len().max(1)) - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(number(1_234_567.0, "signals/s"), "1,234,567 signals/s");
        assert_eq!(number(0.514, RATIO), "0.51 ×");
        assert_eq!(number(42.04, "ms"), "42.0 ms");
        assert_eq!(number(-1_234.0, "B"), "-1,234 B");
    }

    #[test]
    fn percentiles_by_nearest_rank() {
        let mut values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!([50.0, 99.0, 100.0].map(|p| percentile(&mut values, p)), [50.0, 99.0, 100.0]);
        assert_eq!(percentile(&mut [], 50.0), 0.0);
    }

    #[test]
    fn ratios_come_first_and_a_missed_target_says_so() {
        let mut report = Report::new(Machine::read());
        report.add("rate", 5.0, "signals/s");
        report.add_target("share", 0.4, RATIO, Target::AtLeast(0.5));
        let table = report.table();
        assert!(table.find("| share | 0.40 × | ≥ 0.50 × ✗ |") < table.find("| rate |"), "{table}");
    }
}
