//! `flowsync calibrate`: fits the model of links that nothing states on the links that are stated, and says how far it holds.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result};
use flowsync_dataflow::{
    calibrate::{
        calibrate,
        measure::{Calibration, Rate, Row},
        report::{Population, Report},
    },
    cx::TABLES_READ,
};
use flowsync_query::{AsOf, Snapshot};
use flowsync_schemas::{Fact, FactBody, fact::FACT_TABLES, model::Unstated};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{
    data,
    out::{self, say},
};

/// Projects that the model names as what it was fitted on.
const PROJECTS_NAMED: usize = 5;

pub fn run(dir: &Path, out: Option<&Path>, months: u32, runtime: &Runtime) -> Result<()> {
    let (data, engine) = data::open_patient(dir)?;
    let model = data::model(&data)?;
    let facts = runtime.block_on(async { facts(&engine.snapshot(AsOf::Newest).await?).await })?;
    let calibrated = calibrate(&projects(&facts), &facts, &model, months)?;
    let report = &calibrated.report;
    let out = out.map_or_else(|| dir.join("calibration"), Path::to_owned);
    std::fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
    let write = |name: &str, text: String| {
        let path = out.join(name);
        std::fs::write(&path, text).with_context(|| path.display().to_string())
    };
    write("model.toml", with_unstated(&data::model_text(&data)?, &calibrated.unstated))?;
    write("report.md", report.markdown())?;
    write("report.json", serde_json::to_string_pretty(&in_json(report))?)?;
    write("reliability.svg", report.svg())?;
    out::bytes(report.markdown().as_bytes())?;
    say!("Written to {0}. To use it, name {0}/model.toml as `model` in the configuration.", out.display())?;
    Ok(())
}

/// The facts that views read.
async fn facts(snapshot: &Snapshot) -> Result<Vec<Fact>> {
    let mut facts = Vec::new();
    for (n, table) in FACT_TABLES.iter().enumerate().filter(|(_, table)| TABLES_READ.contains(&table.name)) {
        let columns: Vec<_> = (table.columns)().iter().map(|c| c.name).collect();
        let rows = snapshot.rows(&format!("select {} from {}", columns.join(", "), table.name), &[]).await?;
        for row in rows {
            facts.push(Fact::from_row(n, row.values()).with_context(|| format!("table {}", table.name))?);
        }
    }
    Ok(facts)
}

/// What the model was fitted on, in words.
fn projects(facts: &[Fact]) -> String {
    let projects: BTreeSet<&str> = facts
        .iter()
        .filter_map(|fact| if let FactBody::Ticket(t) = &fact.body { Some(&*t.project) } else { None })
        .collect();
    let named: Vec<_> = projects.iter().take(PROJECTS_NAMED).copied().collect();
    match projects.len().saturating_sub(PROJECTS_NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more projects", named.join(", ")),
    }
}

/// The text of a model file with another part on links that nothing states; all else stays as people wrote it.
fn with_unstated(text: &str, unstated: &Unstated) -> String {
    let rest = text.find("\n[unstated]").map_or(text, |at| &text[..at]);
    format!("{}\n\n{}", rest.trim_end(), unstated.to_toml())
}

fn in_json(report: &Report) -> Value {
    let population = |p: &Population| {
        let m = &p.measures;
        let bm25 = p.bm25.unwrap_or_default();
        json!({
            "name": p.name,
            "changes": m.changes,
            "with_a_ticket": m.recall.of,
            "p_at_1": m.precision_at_1.value(),
            "recall_of_candidates": m.recall.value(),
            "bm25": { "p_at_1": bm25.precision_at_1.value(), "recall_at_8": bm25.recall_at_8.value() },
            "brier_pairs": m.brier_pairs,
            "brier_top1": m.brier_first,
            "ece_top1": m.first.error,
            "ece_top1_chance": chance(&m.first),
            "pairs": m.shown.pairs,
            "ece_pairs": m.shown.error,
            "ece_pairs_chance": chance(&m.shown),
            "thresholds": m.thresholds.iter().map(|t| json!({
                "from": t.from_bps as f64 / 10_000.0, "precision": rate(t.precision), "recall": rate(t.recall), "f1": t.f1(),
            })).collect::<Vec<_>>(),
            "bands": m.bands.iter().map(row).collect::<Vec<_>>(),
            "reliability_top1": m.first.rows.iter().map(row).collect::<Vec<_>>(),
            "reliability_pairs": m.shown.rows.iter().map(row).collect::<Vec<_>>(),
        })
    };
    let (fitted, tested) = (&report.fitted_period, &report.tested_period);
    json!({
        "data": report.data,
        "fitted": { "from": fitted.from, "until": fitted.until, "changes": rate(report.fitted_with_ticket) },
        "periods": { "from": tested.from, "until": tested.until, "months": report.months },
        "tested": report.populations.first().map(population),
        "stated": report.populations.get(1).map(population),
    })
}

fn chance(of: &Calibration) -> Value {
    json!({ "mean": of.chance_mean, "p95": of.chance_95, "holds": of.holds() })
}

fn rate(rate: Rate) -> Value {
    json!({ "share": rate.value(), "hits": rate.hits, "of": rate.of })
}

fn row(row: &Row) -> Value {
    let (low, high) = row.rate.wilson();
    json!({
        "from": row.from_bps as f64 / 10_000.0, "to": row.to_bps as f64 / 10_000.0, "probability": row.probability,
        "true": rate(row.rate), "interval": [low, high], "holds": row.holds(),
    })
}

#[cfg(test)]
mod tests {
    use flowsync_schemas::model::{DEFAULT, Model};

    use super::with_unstated;

    #[test]
    fn only_the_part_on_what_nothing_states_is_replaced() {
        let shipped = Model::shipped();
        let mut unstated = shipped.unstated.clone().expect("the shipped model has that part");
        unstated.prior_millinats += 1;
        unstated.words.insert("größe".into(), 7);
        let text = with_unstated(DEFAULT, &unstated);
        let model = Model::parse(&text).expect("a model");
        assert_eq!(model.unstated.as_ref(), Some(&unstated));
        assert_eq!((&model.name, model.prior_millinats), (&shipped.name, shipped.prior_millinats));
        assert_eq!(with_unstated(&text, &unstated), text);
    }
}
