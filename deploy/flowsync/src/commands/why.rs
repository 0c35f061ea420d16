//! `flowsync why`: the signals behind one row, down to their bytes.
//!
//! The bytes are in the log, which one process opens at a time: beside a running server the server is asked.

use std::{path::Path, sync::Arc};

use anyhow::Result;
use flowsync_ingest::{DataDir, EmbeddedLog};
use flowsync_query::AsOf;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::{
    data,
    out::{self, aside},
    serve::signal_reader,
};

pub fn run(dir: &Path, view: &str, key: &str, json: bool, runtime: &Runtime) -> Result<()> {
    let (reader, engine) = data::open(dir)?;
    let why = match reader.holder()?.and_then(|holder| holder.listen) {
        Some(address) => ask(&address, view, key)?,
        None => {
            let mut why = runtime.block_on(async { engine.snapshot(AsOf::Newest).await?.why(view, key).await })?;
            match log_of(dir)? {
                Some((_held, log)) => why.attach(&signal_reader(log)),
                None => {
                    aside!("flowsync: another command holds the log, so the deliveries themselves are not shown")
                }
            }
            serde_json::to_value(&why)?
        }
    };
    let text = if json { serde_json::to_string_pretty(&why)? + "\n" } else { show(&why) };
    out::bytes(text.as_bytes())
}

/// The log, where no other process holds it for longer than a moment.
fn log_of(dir: &Path) -> Result<Option<(DataDir, Arc<EmbeddedLog>)>> {
    let Some(writer) = super::hold(dir)? else { return Ok(None) };
    let log = Arc::new(EmbeddedLog::open(&writer.log(), writer.keyring()?)?);
    Ok(Some((writer, log)))
}

/// Asks the server that holds the data directory.
fn ask(address: &str, view: &str, key: &str) -> Result<Value> {
    let quoted: String =
        key.bytes()
            .map(|b| {
                if b.is_ascii_alphanumeric() || b"-_.~/,".contains(&b) {
                    (b as char).into()
                } else {
                    format!("%{b:02X}")
                }
            })
            .collect();
    super::ask(address, &format!("/api/why/{view}/{quoted}"), None)
}

/// For people.
pub fn show(why: &Value) -> String {
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let mut out = format!("{} {} at epoch {}\n", text(&why["view"]), text(&why["key"]), why["epoch"]);
    for (column, value) in why["row"].as_object().into_iter().flatten().filter(|(_, v)| !v.is_null()) {
        out.push_str(&format!("  {column:18} {}\n", text(value)));
    }
    out.push_str("because\n");
    for reason in why["reasons"].as_array().into_iter().flatten() {
        let parts: Vec<_> = reason
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, v)| !v.is_null())
            .map(|(column, v)| format!("{column} {}", text(v)))
            .collect();
        out.push_str(&format!("  - {}\n", parts.join(", ")));
    }
    out.push_str("stated by\n");
    for signal in why["signals"].as_array().into_iter().flatten() {
        let field = |name: &str| text(&signal[name]);
        out.push_str(&format!(
            "  signal {} from {} ({}, verified by {}), received {}, log offset {}\n",
            field("signal"),
            field("source"),
            field("channel"),
            field("verified_by"),
            field("received_at"),
            signal["position"]["offset"]
        ));
        for fact in signal["facts"].as_array().into_iter().flatten() {
            out.push_str(&format!("    {}\n", text(&fact["table"])));
        }
        if let Some(body) = signal["delivery"]["body"].as_str() {
            let short: String = body.chars().take(160).collect();
            let more = if short.len() < body.len() { "… (all of it with --json)" } else { "" };
            out.push_str(&format!("    bytes: {}{more}\n", short.replace(['\n', '\r'], " ")));
        }
    }
    out
}
