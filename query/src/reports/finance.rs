//! The finance report: what the work of one month cost, by project, cost centre and classification, with the band that the
//! confidence of the links gives it.
//!
//! 1. A row of the export is a row of the view `capitalization`: no rounding, no totals among the data, a stable order.
//! 2. Every row names the epoch that it was computed at and the key under which `why` shows the signals behind it (I7).
//! 3. Amounts are integers in minor units; the decimal text beside them is made without floating point.
//! 4. Text of foreign tools cannot become a formula of a spreadsheet.
//!
//! Amounts of different currencies are never added.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};
use flowsync_schemas::{Epoch, Text};
use parquet::{arrow::ArrowWriter, basic::Compression, errors::ParquetError, file::properties::WriterProperties};
use serde::Serialize;

use super::{
    format::{amount, counted, decimal, minor_digits, one_line, person_days},
    rows::{key_of_texts, query_row, select},
};
use crate::{QueryError, Snapshot, digest::Certainty};

/// The view that the report reads.
pub const VIEW: &str = "capitalization";

query_row! {
    /// One row of the view.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
    pub struct CapitalizationLine {
        /// Month, as `2026-10`.
        pub period: Text,
        /// Project.
        pub project: Text,
        /// Cost centre.
        pub cost_centre: Text,
        /// `capitalize` or `expense`.
        pub classification: Text,
        /// ISO 4217 code.
        pub currency: Text,
        /// Effort, in millionths of a person-day.
        pub person_days_ppm: i64,
        /// Low end of the effort, in the same unit.
        pub low_person_days_ppm: i64,
        /// High end of the effort, in the same unit.
        pub high_person_days_ppm: i64,
        /// Amount, in minor units of the currency.
        pub amount_minor: i64,
        /// Low end of the amount, in the same unit.
        pub amount_low_minor: i64,
        /// High end of the amount, in the same unit.
        pub amount_high_minor: i64,
        /// Tickets worked on.
        pub ticket_count: i64,
        /// People who worked.
        pub person_count: i64,
    }
}

impl CapitalizationLine {
    /// The row's key, as `flowsync why capitalization KEY` takes it.
    pub fn why_key(&self) -> String {
        key_of_texts(&[&self.period, &self.project, &self.cost_centre, &self.classification, &self.currency])
    }

    /// The amount with its band; the effort where no currency is set.
    pub(crate) fn range(&self) -> Certainty {
        range(&self.currency, self.minor(), self.ppm())
    }

    /// Whether there is a currency.
    pub(crate) fn has_currency(&self) -> bool {
        self.currency.as_ref() != NO_CURRENCY
    }

    /// Project, cost centre and classification in words.
    pub(crate) fn name(&self) -> String {
        let or = |text: &str, none: &str| if text.is_empty() { none.to_owned() } else { text.to_owned() };
        let project = or(&self.project, "no known ticket");
        let parts = [project, self.cost_centre.to_string(), self.classification.to_string()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ")
    }

    fn ppm(&self) -> [i64; 3] {
        [self.person_days_ppm, self.low_person_days_ppm, self.high_person_days_ppm]
    }

    fn minor(&self) -> [i64; 3] {
        [self.amount_minor, self.amount_low_minor, self.amount_high_minor]
    }
}

/// ISO 4217's word for none.
const NO_CURRENCY: &str = "XXX";

/// An amount, or without a currency an effort, with its band; both as `[expected, low, high]`.
fn range(currency: &str, minor: [i64; 3], ppm: [i64; 3]) -> Certainty {
    let (unit, [expected, low, high]) = if currency == NO_CURRENCY {
        ("person-days".to_owned(), ppm.map(person_days))
    } else {
        (one_line(currency, 8), minor.map(|minor| amount(minor, currency)))
    };
    Certainty::Range { unit, low, expected, high }
}

/// Form of the exported file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExportFormat {
    /// RFC 4180, with a header.
    #[default]
    Csv,
    /// Parquet, compressed with zstd.
    Parquet,
}

impl ExportFormat {
    /// The media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }

    /// Ending of a file's name.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }
}

/// Checks a period.
///
/// # Errors
/// Where it is not a month such as `2026-10`.
pub fn check_period(period: &str) -> Result<(), QueryError> {
    let month = || {
        let (year, month) = period.split_once('-')?;
        let digits = |text: &str, width| text.len() == width && text.bytes().all(|b| b.is_ascii_digit());
        let month = month.parse::<u8>().ok().filter(|_| digits(month, 2))?;
        (digits(year, 4) && (1..=12).contains(&month)).then_some(())
    };
    month().ok_or_else(|| {
        QueryError::User(format!(
            "{:?} is no period: expected a year and a month, such as 2026-10",
            one_line(period, 40)
        ))
    })
}

/// The rows of one period, sorted by their key.
///
/// # Errors
/// Where the period is malformed or the query fails.
pub async fn lines(snapshot: &Snapshot, period: &str) -> Result<Vec<CapitalizationLine>, QueryError> {
    check_period(period)?;
    let sql = "select {columns} from capitalization where period = $1 \
               order by project, cost_centre, classification, currency";
    select(snapshot, sql, &[period.into()]).await
}

/// The file of one period. A period without data gives the header alone.
///
/// # Errors
/// Where the period is malformed or the query fails.
pub async fn export(snapshot: &Snapshot, period: &str, format: ExportFormat) -> Result<Vec<u8>, QueryError> {
    let lines = lines(snapshot, period).await?;
    match format {
        ExportFormat::Csv => Ok(csv(&lines, snapshot.epoch())),
        ExportFormat::Parquet => parquet(&lines, snapshot.epoch())
            .map_err(|e| QueryError::Internal(format!("the Parquet file cannot be made: {e}"))),
    }
}

/// One column of the export.
enum Cells {
    /// Text of foreign tools or of the configuration.
    Foreign(fn(&CapitalizationLine) -> String),
    /// Text made here.
    Ours(fn(&CapitalizationLine) -> String),
    /// Whole numbers.
    Int(fn(&CapitalizationLine) -> i64),
    /// The epoch.
    Epoch,
}

fn money(line: &CapitalizationLine, minor: i64) -> String {
    decimal(minor, minor_digits(&line.currency))
}

/// The columns of both formats, units last in their names.
const COLUMNS: &[(&str, Cells)] = &[
    ("period", Cells::Ours(|l| l.period.to_string())),
    ("project", Cells::Foreign(|l| l.project.to_string())),
    ("cost_centre", Cells::Foreign(|l| l.cost_centre.to_string())),
    ("classification", Cells::Foreign(|l| l.classification.to_string())),
    ("currency", Cells::Foreign(|l| l.currency.to_string())),
    ("person_days", Cells::Ours(|l| decimal(l.person_days_ppm, 6))),
    ("low_person_days", Cells::Ours(|l| decimal(l.low_person_days_ppm, 6))),
    ("high_person_days", Cells::Ours(|l| decimal(l.high_person_days_ppm, 6))),
    ("amount", Cells::Ours(|l| money(l, l.amount_minor))),
    ("amount_low", Cells::Ours(|l| money(l, l.amount_low_minor))),
    ("amount_high", Cells::Ours(|l| money(l, l.amount_high_minor))),
    ("person_days_ppm", Cells::Int(|l| l.person_days_ppm)),
    ("low_person_days_ppm", Cells::Int(|l| l.low_person_days_ppm)),
    ("high_person_days_ppm", Cells::Int(|l| l.high_person_days_ppm)),
    ("amount_minor", Cells::Int(|l| l.amount_minor)),
    ("amount_low_minor", Cells::Int(|l| l.amount_low_minor)),
    ("amount_high_minor", Cells::Int(|l| l.amount_high_minor)),
    ("ticket_count", Cells::Int(|l| l.ticket_count)),
    ("person_count", Cells::Int(|l| l.person_count)),
    ("why_view", Cells::Ours(|_| VIEW.to_owned())),
    ("why_key", Cells::Foreign(CapitalizationLine::why_key)),
    ("epoch", Cells::Epoch),
];

fn csv(lines: &[CapitalizationLine], epoch: Epoch) -> Vec<u8> {
    let header: Vec<_> = COLUMNS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut out = header.join(",") + "\r\n";
    for line in lines {
        let cells: Vec<_> = COLUMNS
            .iter()
            .map(|(_, cells)| match cells {
                Cells::Foreign(of) => quoted(&defused(&of(line))),
                Cells::Ours(of) => quoted(&of(line)),
                Cells::Int(of) => of(line).to_string(),
                Cells::Epoch => epoch.to_string(),
            })
            .collect();
        out.push_str(&cells.join(","));
        out.push_str("\r\n");
    }
    out.into_bytes()
}

/// Spreadsheets run cells that begin like a formula, also after blanks that they trim.
fn defused(text: &str) -> String {
    let risky = text.starts_with(['\t', '\r', '\n']) || text.trim_start().starts_with(['=', '+', '-', '@']);
    if risky { format!("'{text}") } else { text.to_owned() }
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

fn parquet(lines: &[CapitalizationLine], epoch: Epoch) -> Result<Vec<u8>, ParquetError> {
    let mut fields = Vec::new();
    let mut arrays: Vec<ArrayRef> = Vec::new();
    for (name, cells) in COLUMNS {
        let (kind, array): (_, ArrayRef) = match cells {
            Cells::Foreign(of) | Cells::Ours(of) => {
                (DataType::Utf8, Arc::new(lines.iter().map(|l| Some(of(l))).collect::<StringArray>()))
            }
            Cells::Int(of) => (DataType::Int64, Arc::new(lines.iter().map(of).collect::<Int64Array>())),
            Cells::Epoch => {
                let epoch = i64::try_from(epoch.0).unwrap_or(i64::MAX);
                (DataType::Int64, Arc::new(Int64Array::from(vec![epoch; lines.len()])))
            }
        };
        fields.push(Field::new(*name, kind, false));
        arrays.push(array);
    }
    let schema = Arc::new(Schema::new(fields));
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(Default::default())).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties))?;
    writer.write(&RecordBatch::try_new(schema, arrays)?)?;
    writer.into_inner()
}

/// Sums of one classification in one currency: `[expected, low, high]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FinanceTotal {
    /// Rows that were added.
    pub lines: i64,
    /// Effort.
    pub person_days_ppm: [i64; 3],
    /// Amount.
    pub amount_minor: [i64; 3],
}

/// Totals by currency and classification; they saturate rather than wrap.
pub fn totals(lines: &[CapitalizationLine]) -> BTreeMap<(Text, Text), FinanceTotal> {
    let mut totals: BTreeMap<_, FinanceTotal> = BTreeMap::new();
    for line in lines {
        let total = totals.entry((line.currency.clone(), line.classification.clone())).or_default();
        total.lines += 1;
        for i in 0..3 {
            total.person_days_ppm[i] = total.person_days_ppm[i].saturating_add(line.ppm()[i]);
            total.amount_minor[i] = total.amount_minor[i].saturating_add(line.minor()[i]);
        }
    }
    totals
}

/// The totals of a period in one sentence.
pub fn headline(period: &str, lines: &[CapitalizationLine]) -> String {
    if lines.is_empty() {
        return format!("{period}: no data");
    }
    let parts: Vec<_> = totals(lines)
        .iter()
        .map(|((currency, classification), total)| {
            format!("{classification} {}", range(currency, total.amount_minor, total.person_days_ppm).shown())
        })
        .collect();
    format!("{period}: {}", parts.join(", "))
}

/// What to say where amounts are missing.
pub(crate) const NO_RATES: &str =
    "No currency is set, so amounts are 0: set `currency` and `day_rate_minor` in the configuration.";

/// The report of one period as text: an aligned Markdown table that a terminal shows as well, and the totals.
///
/// # Errors
/// Where the period is malformed or the query fails.
pub async fn summary(snapshot: &Snapshot, period: &str) -> Result<String, QueryError> {
    let lines = lines(snapshot, period).await?;
    Ok(render(period, &lines, snapshot.epoch()))
}

fn render(period: &str, lines: &[CapitalizationLine], epoch: Epoch) -> String {
    let mut out =
        format!("# Capitalization {period}\n\nEpoch {epoch} · {}\n\n", counted(lines.len() as i64, "row", "rows"));
    if lines.is_empty() {
        out.push_str(
            "No effort is assigned to this period. It comes from dated activity (commits, reviews, ticket moves) that is \
             linked to tickets. To see what there is: `flowsync sql \"SELECT DISTINCT period FROM capitalization\"`.\n",
        );
        return out;
    }
    let mut table = vec![
        ["Project", "Cost centre", "Class", "Person-days", "Low–high", "Amount", "Low–high", "Tickets"]
            .map(str::to_owned),
    ];
    for line in lines {
        let [days, low_days, high_days] = line.ppm().map(person_days);
        let [money, low, high] = line.minor().map(|minor| amount(minor, &line.currency));
        let text = |text: &str| one_line(text, 40).replace('\\', "\\\\").replace('|', "\\|");
        table.push([
            text(if line.project.is_empty() { "(no known ticket)" } else { &line.project }),
            text(&line.cost_centre),
            text(&line.classification),
            days,
            format!("{low_days}–{high_days}"),
            format!("{} {money}", text(&line.currency)),
            format!("{low}–{high}"),
            line.ticket_count.to_string(),
        ]);
    }
    push_table(&mut out, &table, 3);
    out.push_str("\nTotals\n\n");
    for ((currency, classification), total) in totals(lines) {
        let [expected, low, high] = total.amount_minor.map(|minor| amount(minor, &currency));
        let [days, low_days, high_days] = total.person_days_ppm.map(person_days);
        let (currency, classification) = (one_line(&currency, 8), one_line(&classification, 40));
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "- {classification}: {currency} {expected} ({low}–{high}), {days} person-days ({low_days}–{high_days})"
        );
    }
    if !lines.iter().all(CapitalizationLine::has_currency) {
        let _ = writeln!(out, "\n{NO_RATES}");
    }
    let first = crate::digest::Evidence::row(VIEW, &lines[0].why_key());
    let _ = write!(
        out,
        "\nLow and high follow the confidence of the links between work and tickets. The signals behind a row: `{}`.\n",
        first.command()
    );
    out
}

/// A Markdown table with aligned columns; numbers, from column `right` on, to the right.
fn push_table<const N: usize>(out: &mut String, rows: &[[String; N]], right: usize) {
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0).max(3);
    let widths: Vec<_> = (0..N).map(width).collect();
    for (at, row) in rows.iter().enumerate() {
        for (i, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[i] - cell.chars().count());
            out.push_str(&if i >= right { format!("| {pad}{cell} ") } else { format!("| {cell}{pad} ") });
        }
        out.push_str("|\n");
        if at == 0 {
            for (i, width) in widths.iter().enumerate() {
                let dashes = "-".repeat(width + 1);
                out.push_str(&if i >= right { format!("|{dashes}:") } else { format!("|{dashes}-") });
            }
            out.push_str("|\n");
        }
    }
}
