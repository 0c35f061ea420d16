//! The catalogue of views, fact tables and connectors as Markdown, written from their specifications, so that document
//! and program cannot differ.

use std::fmt::Write;

use flowsync_schemas::{ColumnSpec, ConnectorSpec, TableSpec, ViewSpec};

use crate::tables::kind_word;

/// The document: views with their oracle-checked columns and `why`, then fact tables, then connectors.
pub fn markdown(views: &[&ViewSpec], base_tables: &[&TableSpec], connectors: &[&ConnectorSpec]) -> String {
    let mut out = String::from(
        "# Catalogue\n\nWritten from the specifications in the code; a test fails when it is stale. \
         In SQL the same is in `flowsync_tables` and `flowsync_columns`.\n",
    );
    contents(&mut out, "Views", views.iter().map(|v| (v.table.name, v.table.doc)));
    contents(&mut out, "Fact tables", base_tables.iter().map(|t| (t.name, t.doc)));
    contents(&mut out, "Connectors", connectors.iter().map(|c| (c.name, c.doc)));
    for view in views {
        table(&mut out, "View", &view.table);
        let _ =
            write!(out, "\nThe signals behind a row ({}):\n\n```sql\n{}\n```\n", parameters(view), dedent(view.why));
    }
    for base in base_tables {
        table(&mut out, "Fact table", base);
    }
    for connector in connectors {
        connector_section(&mut out, connector);
    }
    out
}

fn contents<'a>(out: &mut String, title: &str, entries: impl Iterator<Item = (&'a str, &'a str)>) {
    let _ = writeln!(out, "\n## {title}\n\n| name | what it is |\n|---|---|");
    for (name, doc) in entries {
        let _ = writeln!(out, "| [`{name}`](#{name}) | {} |", cell(doc));
    }
}

fn table(out: &mut String, class: &str, table: &TableSpec) {
    let key = table.key.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
    let _ = write!(
        out,
        "\n### {}\n\n{class}, version {}. {}\nKey: {key}.\n\n| column | kind | unit | what it holds |\n|---|---|---|---|\n",
        table.name, table.version, table.doc
    );
    for ColumnSpec { name, kind, nullable, unit, doc } in (table.columns)() {
        let missing = if nullable { ", may be missing" } else { "" };
        let _ = writeln!(out, "| `{name}` | {}{missing} | {} | {} |", kind_word(kind), cell(unit), cell(doc));
    }
}

fn connector_section(out: &mut String, connector: &ConnectorSpec) {
    let list = |words: &[&str]| words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ");
    let ConnectorSpec { name, version, doc, verification, events, headers, reference } = connector;
    let _ = writeln!(out, "\n### {name}\n\nConnector, version {version}. {doc}\n");
    let _ = writeln!(out, "- Verified by: {verification}");
    let _ = writeln!(out, "- Reads: {}", list(events));
    if !headers.is_empty() {
        let _ = writeln!(out, "- Headers kept: {}", list(headers));
    }
    let _ = writeln!(out, "- Reference: <{reference}>");
}

fn parameters(view: &ViewSpec) -> String {
    let named = view.table.key.iter().zip(1..).map(|(k, n)| format!("`${n}` is `{k}`"));
    named.collect::<Vec<_>>().join(", ")
}

/// Text for a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// Takes away the indentation that the text has in the source.
fn dedent(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().skip_while(|l| l.trim().is_empty()).collect();
    let indent = |line: &&str| line.len() - line.trim_start().len();
    let margin = lines.iter().skip(1).filter(|l| !l.trim().is_empty()).map(indent).min().unwrap_or_default();
    let cut = |line: &&str| line.get(margin.min(indent(line))..).unwrap_or_default().trim_end().to_owned();
    lines.iter().map(cut).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use flowsync_schemas::fact::base_tables;

    use super::*;

    #[test]
    fn every_table_column_and_connector_is_in_it() {
        let tables: Vec<_> = base_tables().collect();
        static CONNECTOR: ConnectorSpec = ConnectorSpec {
            name: "sample",
            version: 3,
            doc: "Reads a | b.",
            verification: "by hand",
            events: &["push"],
            headers: &[],
            reference: "https://example.org/",
        };
        let text = markdown(&[], &tables, &[&CONNECTOR]);
        for table in tables {
            assert!(text.contains(&format!("\n### {}\n", table.name)));
            for column in (table.columns)() {
                assert!(text.contains(&format!("| `{}` |", column.name)), "{}.{}", table.name, column.name);
            }
        }
        assert!(text.contains("Connector, version 3.") && text.contains("Reads a \\| b."));
    }

    #[test]
    fn sql_loses_the_indentation_of_the_source() {
        assert_eq!(dedent("\n        select a\n          from b\n        where c"), "select a\n  from b\nwhere c");
        assert_eq!(dedent("select a"), "select a");
    }
}
