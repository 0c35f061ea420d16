//! A digest as Markdown that a terminal and a chat show as well: headings, plain lists, no tables, no HTML.
//!
//! Invariant: text of foreign tools stays text. It is one line, without control characters, and without a character that
//! Markdown (or a chat's mentions and links) would read as markup.

use std::fmt::Write as _;

use super::{Digest, Evidence, Line, Section};
use crate::reports::format::{grouped, minute, one_line};

/// Longest title that is shown.
const TITLE_CHARS: usize = 160;

/// The digest as Markdown.
pub fn markdown(digest: &Digest) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(out, "# Digest for {}\n", digest.role.word().replace('_', " "));
    let (since, until) = (minute(digest.since), minute(digest.until));
    let _ = writeln!(out, "{}\n{since} to {until} UTC · epoch {}", escaped(&digest.headline, 400), digest.epoch);
    if !digest.alerts.is_empty() {
        out.push_str("\n## Alerts\n\n");
        for alert in &digest.alerts {
            let _ = writeln!(out, "- {}", escaped(alert, 400));
        }
    }
    for section in &digest.sections {
        push_section(&mut out, section);
    }
    if !digest.notes.is_empty() {
        out.push('\n');
        for note in &digest.notes {
            // Notes are our own words, with commands in backticks.
            let _ = writeln!(out, "> {note}");
        }
    }
    out
}

fn push_section(out: &mut String, section: &Section) {
    let _ = writeln!(out, "\n## {}\n", escaped(&section.title, TITLE_CHARS));
    if let Some(empty) = &section.empty {
        let _ = writeln!(out, "{empty}");
    }
    for line in &section.lines {
        push_line(out, line);
    }
    if section.more > 0 {
        let _ = writeln!(out, "- … and {} more (raise `--limit`)", grouped(section.more, 0));
    }
}

fn push_line(out: &mut String, line: &Line) {
    let _ = writeln!(out, "- {}", words(line).iter().map(|w| escaped(w, TITLE_CHARS)).collect::<Vec<_>>().join(" · "));
    let _ = writeln!(out, "  {} · {}", escaped(&line.certainty.shown(), TITLE_CHARS), code(&command(&line.evidence)));
}

/// What a line says, in order; both renderers of text show it.
pub(super) fn words(line: &Line) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(at) = line.at {
        words.push(minute(at));
    }
    words.extend(line.label.clone());
    words.extend(line.ticket_key.clone());
    // The subject is often the ticket itself.
    words.extend(line.subject.clone().filter(|s| line.ticket_key.as_ref() != Some(s)).map(|s| short_subject(&s)));
    words.push(line.title.clone());
    words.extend(line.detail.clone());
    words.extend(line.person.as_ref().map(super::Person::shown));
    words.retain(|w| !w.is_empty());
    words
}

/// A hash is recognised by its first digits.
fn short_subject(subject: &str) -> String {
    let is_hash = subject.len() >= 32 && subject.bytes().all(|b| b.is_ascii_hexdigit());
    if is_hash { subject[..10].to_owned() } else { subject.to_owned() }
}

/// The command on one line; a line break inside a key would end the list item.
fn command(evidence: &Evidence) -> String {
    one_line(evidence.command(), 2_000)
}

/// A code span, fenced by more backticks than it holds in a row.
fn code(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let pad = if longest > 0 { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// Foreign text as text. An underscore within a word is no markup, and stays readable.
fn escaped(text: &str, max: usize) -> String {
    let line = one_line(text, max);
    let chars: Vec<char> = line.chars().collect();
    let is_word = |at: Option<usize>| at.and_then(|i| chars.get(i)).is_some_and(|c| c.is_alphanumeric() || *c == '_');
    let mut out = String::with_capacity(line.len());
    for (i, c) in chars.iter().enumerate() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '_' if is_word(i.checked_sub(1)) && is_word(Some(i + 1)) => out.push('_'),
            '\\' | '`' | '*' | '_' | '~' | '[' | ']' | '|' => out.extend(['\\', *c]),
            // Only where it would begin a block: the first text of a list item.
            '#' | '+' | '-' if i == 0 => out.extend(['\\', *c]),
            _ => out.push(*c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn markup_is_text() {
        assert_eq!(
            escaped("a | b <script> `x` *y* snake_case _z_\n# h & [l](u)", 99),
            r"a \| b &lt;script&gt; \`x\` \*y\* snake_case \_z\_ # h &amp; \[l\](u)"
        );
        assert_eq!(escaped("- x", 9), r"\- x");
        assert_eq!(escaped("<!channel>", 99), "&lt;!channel&gt;");
        assert_eq!(code("a `b` ``c``"), "``` a `b` ``c`` ```");
        assert_eq!(code("flowsync why links X"), "`flowsync why links X`");
    }

    proptest! {
        #[test]
        fn nothing_foreign_opens_markup(text: String) {
            let shown = escaped(&text, 200);
            prop_assert!(!shown.chars().any(|c| c.is_control() || c == '<' || c == '>'), "{shown:?}");
            // Every backtick and pipe has a backslash of its own before it.
            let mut escaping = false;
            for c in shown.chars() {
                if "`|*[]~".contains(c) { prop_assert!(escaping, "{shown}"); }
                escaping = c == '\\' && !escaping;
            }
        }

        #[test]
        fn code_spans_close(text in "[`a ]{1,12}") {
            let span = code(&text);
            let fence = span.len() - span.trim_start_matches('`').len();
            let inner = &span[fence..span.len() - fence];
            prop_assert!(inner.split(|c| c != '`').all(|run| run.len() < fence));
        }
    }
}
