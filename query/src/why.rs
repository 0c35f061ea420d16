//! Why is a row there? From a row to the signals behind it, their facts, and their place in the log (I7).
//!
//! A row is named by its key as text: the values of the key columns joined by `,`; within a value `\,` is a comma and
//! `\\` a backslash; `\N` is a missing value. Days are written `2026-10-01`, times in RFC 3339. [`key_text`] and
//! [`parse_key`] are the only ones who know this.
//!
//! This crate does not know the log: whoever does may add the deliveries themselves with [`Why::attach`].

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use flowsync_schemas::{
    ColumnKind, ColumnSpec, Day, Epoch, LogPosition, Micros, Signal, SignalId, TableSpec, Value,
    fact::{FACT_TABLES, REJECTS, SIGNALS},
};
use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use crate::{Param, QueryError, QueryResult, Snapshot, format::json_objects};

/// One row as a JSON object.
pub type JsonRow = Map<String, Json>;

/// Reads a signal back from the log; `None` where the log does not keep it any more. May block.
pub type SignalReader = Arc<dyn Fn(LogPosition) -> Option<Signal> + Send + Sync>;

/// Why a row is there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Why {
    /// The view.
    pub view: &'static str,
    /// Key of the row, as text.
    pub key: String,
    /// The epoch that this is said of.
    pub epoch: Epoch,
    /// The row itself.
    pub row: JsonRow,
    /// What the view's `why` query lists: the facts and views that speak for the row, and their signals.
    pub reasons: Vec<JsonRow>,
    /// The signals, oldest first.
    pub signals: Vec<WhySignal>,
    /// Signals behind the row; more than are shown where the limit `why_signals_max` cuts the list.
    pub signals_total: usize,
}

/// One signal behind a row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WhySignal {
    /// Its id.
    pub signal: SignalId,
    /// The connector.
    pub source: String,
    /// How it came in.
    pub channel: String,
    /// The check that let it in.
    pub verified_by: String,
    /// Our clock.
    pub received_at: String,
    /// Where it lies in the log.
    pub position: LogPosition,
    /// What it states.
    pub facts: Vec<WhyFact>,
    /// The delivery as received, where the log was asked: headers, and the body as text or base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Json>,
}

/// One fact (or rejection) of a signal.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WhyFact {
    /// The fact table.
    pub table: &'static str,
    /// Its row there.
    pub fact: JsonRow,
}

impl Why {
    /// Adds the deliveries themselves. Blocks as the reader does.
    pub fn attach(&mut self, read: &SignalReader) {
        for signal in &mut self.signals {
            signal.delivery = read(signal.position).filter(|s| s.id == signal.signal).map(|s| delivery(&s));
        }
    }
}

fn delivery(signal: &Signal) -> Json {
    let (encoding, body) = match std::str::from_utf8(&signal.body) {
        Ok(text) => ("text", text.to_owned()),
        Err(_) => ("base64", BASE64.encode(&signal.body)),
    };
    json!({ "delivery": signal.delivery, "headers": signal.headers, "body_encoding": encoding, "body": body })
}

/// The key of a row as text. `key` holds the values of the table's key columns, in their order.
pub fn key_text(table: &TableSpec, key: &[Value]) -> String {
    let columns = (table.columns)();
    let kinds = table.key_indices().into_iter().filter_map(|i| columns.get(i)).map(|c| c.kind);
    let parts = key.iter().zip(kinds).map(|(value, kind)| match value {
        Value::Null => "\\N".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Text(text) => text.replace('\\', "\\\\").replace(',', "\\,"),
        Value::Int(int) => match kind {
            ColumnKind::Timestamp => Micros(*int).to_string(),
            ColumnKind::Date => i32::try_from(*int).map_or_else(|_| int.to_string(), |day| Day(day).to_string()),
            _ => int.to_string(),
        },
    });
    parts.collect::<Vec<_>>().join(",")
}

/// Reads a key back, typed by the key columns.
///
/// # Errors
/// Where the text has another number of values, or one does not fit its column.
pub fn parse_key(table: &TableSpec, text: &str) -> Result<Vec<Param>, QueryError> {
    let columns = (table.columns)();
    let key: Vec<_> = table.key_indices().into_iter().map(|i| columns[i]).collect();
    let parts = split(text);
    if parts.len() != key.len() {
        return Err(QueryError::User(format!(
            "key {text:?} has {} values: a row of {} is named by {} (separated by commas; a comma within a value is \\,)",
            parts.len(),
            table.name,
            table.key.join(",")
        )));
    }
    parts.into_iter().zip(&key).map(|(part, column)| param(part, column)).collect()
}

/// The values of a key text; `None` is a missing one.
fn split(text: &str) -> Vec<Option<String>> {
    let mut parts = vec![Some(String::new())];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == ',' {
            parts.push(Some(String::new()));
            continue;
        }
        let escaped = if c == '\\' { chars.next() } else { None };
        match (escaped, parts.last_mut()) {
            (Some('N'), Some(last)) if last.as_deref() == Some("") => *last = None,
            (_, Some(Some(last))) => last.push(escaped.unwrap_or(c)),
            _ => {}
        }
    }
    parts
}

fn param(part: Option<String>, column: &ColumnSpec) -> Result<Param, QueryError> {
    let Some(part) = part else { return Ok(Param::Null) };
    let day = |t: &str| Micros::parse(&format!("{t}T00:00:00Z")).map(Micros::day);
    let read = match column.kind {
        ColumnKind::Text => Some(Param::Text(part.clone())),
        ColumnKind::Bool => part.parse().ok().map(Param::Bool),
        ColumnKind::Int => part.parse().ok().map(Param::Int),
        ColumnKind::Date => day(&part).or_else(|| part.parse().ok().map(Day)).map(Param::Date),
        ColumnKind::Timestamp => {
            let time = Micros::parse(&part).or_else(|| day(&part).map(Day::start));
            time.or_else(|| part.parse().ok().map(Micros)).map(Param::Timestamp)
        }
    };
    let kind = crate::tables::kind_word(column.kind);
    read.ok_or_else(|| QueryError::User(format!("{part:?} is no {kind}, which the key column {} is", column.name)))
}

impl Snapshot {
    /// Why the row of `view` with this key is there. See [`key_text`] for keys.
    ///
    /// # Errors
    /// Where there is no such view or row, or a limit is reached.
    pub async fn why(&self, view: &str, key: &str) -> Result<Why, QueryError> {
        let spec = self.view(view)?;
        let params = parse_key(&spec.table, key)?;
        let row = self.keyed_row(&spec.table, key, &params).await?;
        let reasons = self.sql(spec.why, &params).await?;
        let ids = signals(&reasons)?;
        let signals_total = ids.len();
        let signals = self.signals(&ids, self.options().why_signals_max).await?;
        let reasons = json_objects(&reasons)?;
        Ok(Why {
            view: spec.table.name,
            key: key.to_owned(),
            epoch: self.epoch(),
            row,
            reasons,
            signals,
            signals_total,
        })
    }

    async fn keyed_row(&self, table: &TableSpec, key: &str, params: &[Param]) -> Result<JsonRow, QueryError> {
        let columns = table.key.iter().zip(1..);
        let conditions: Vec<_> = columns.map(|(c, n)| format!("(\"{c}\" is not distinct from ${n})")).collect();
        let sql = format!("select * from {} where {}", table.name, conditions.join(" and "));
        let row = json_objects(&self.sql(&sql, params).await?)?.into_iter().next();
        row.ok_or_else(|| {
            QueryError::NotFound(format!(
                "{} has no row with {} = {key} at epoch {}",
                table.name,
                table.key.join(","),
                self.epoch()
            ))
        })
    }

    /// The oldest `max` of these signals, with their facts.
    async fn signals(&self, ids: &[SignalId], max: usize) -> Result<Vec<WhySignal>, QueryError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "select * from {} where signal in ({}) order by received_at, log_partition, log_offset limit {max}",
            SIGNALS.name,
            list(ids.iter().copied())
        );
        let answer = self.sql(&sql, &[]).await?;
        let rows = answer.rows()?;
        let mut signals = Vec::with_capacity(rows.len());
        for row in &rows {
            let position = |column| row.int(column);
            signals.push(WhySignal {
                signal: signal_id(row.text("signal")?)?,
                source: row.text("source")?.to_owned(),
                channel: row.text("channel")?.to_owned(),
                verified_by: row.text("verified_by")?.to_owned(),
                received_at: Micros(row.int("received_at")?).to_string(),
                position: LogPosition {
                    partition: u32::try_from(position("log_partition")?).unwrap_or_default(),
                    offset: u64::try_from(position("log_offset")?).unwrap_or_default(),
                },
                facts: Vec::new(),
                delivery: None,
            });
        }
        self.facts(&mut signals).await?;
        Ok(signals)
    }

    async fn facts(&self, signals: &mut [WhySignal]) -> Result<(), QueryError> {
        if signals.is_empty() {
            return Ok(());
        }
        let wanted = list(signals.iter().map(|s| s.signal));
        for table in FACT_TABLES.iter().chain([&REJECTS]).filter(|t| !self.is_empty(t)) {
            let sql = format!("select * from {} where signal in ({wanted}) order by signal, seq", table.name);
            for fact in json_objects(&self.sql(&sql, &[]).await?)? {
                let id = fact.get("signal").and_then(Json::as_str).unwrap_or_default();
                let id = signal_id(id)?;
                if let Some(signal) = signals.iter_mut().find(|s| s.signal == id) {
                    signal.facts.push(WhyFact { table: table.name, fact });
                }
            }
        }
        Ok(())
    }
}

/// Ids as SQL literals: hexadecimal digits by their type.
fn list(ids: impl Iterator<Item = SignalId>) -> String {
    ids.map(|id| format!("'{id}'")).collect::<Vec<_>>().join(",")
}

fn signal_id(text: &str) -> Result<SignalId, QueryError> {
    text.parse().map_err(QueryError::Data)
}

/// The distinct signals in the first column, which every `why` query names `signal`.
fn signals(reasons: &QueryResult) -> Result<Vec<SignalId>, QueryError> {
    let mut ids = Vec::new();
    for row in reasons.rows()? {
        if let Some(id) = row.opt_text("signal")? {
            ids.push(signal_id(id)?);
        }
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use flowsync_schemas::Birth;
    use proptest::prelude::*;

    use super::*;

    const fn key(name: &'static str, kind: ColumnKind) -> ColumnSpec {
        ColumnSpec { name, kind, nullable: true, unit: "", doc: "" }
    }

    static TABLE: TableSpec = TableSpec {
        name: "t",
        version: 1,
        key: &["text", "int", "at", "day", "flag"],
        columns: || {
            vec![
                key("flag", ColumnKind::Bool),
                key("text", ColumnKind::Text),
                key("int", ColumnKind::Int),
                key("at", ColumnKind::Timestamp),
                key("day", ColumnKind::Date),
            ]
        },
        birth: Birth::Timeless,
        doc: "",
    };

    fn value(param: &Param) -> Value {
        match param {
            Param::Null => Value::Null,
            Param::Bool(b) => Value::Bool(*b),
            Param::Int(i) | Param::Timestamp(Micros(i)) => Value::Int(*i),
            Param::Text(t) => Value::Text(t.as_str().into()),
            Param::Date(d) => Value::Int(i64::from(d.0)),
        }
    }

    proptest! {
        #[test]
        fn keys_survive_their_text(
            text in proptest::option::of("[a-zN,\\\\/ü ]{0,8}"),
            int in any::<i64>(), at in 0i64..4_000_000_000_000_000, day in 0i32..40_000, flag in any::<bool>(),
        ) {
            let text = text.map_or(Value::Null, |t| Value::Text(t.into()));
            let key = [text, Value::Int(int), Value::Int(at), Value::Int(i64::from(day)), Value::Bool(flag)];
            let read = parse_key(&TABLE, &key_text(&TABLE, &key)).unwrap();
            prop_assert_eq!(read.iter().map(value).collect::<Vec<_>>(), key);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,40}") {
            let _ = parse_key(&TABLE, &text);
        }
    }

    #[test]
    fn a_wrong_key_is_told_what_is_expected() {
        let error = parse_key(&TABLE, "a,1").unwrap_err();
        assert!(error.is_user_error() && error.to_string().contains("text,int,at,day,flag"), "{error}");
        let error = parse_key(&TABLE, "a,x,0,0,true").unwrap_err();
        assert!(error.to_string().contains("key column int"), "{error}");
    }
}
