//! A digest as one HTML page: no script, no external asset, readable by eye, by screen reader and on paper.
//!
//! Invariant: all text passes [`escaped`]; markup is made of literals of this file alone. The page's content security
//! policy forbids everything but its own style, so that even a mistake here could load nothing.

use std::fmt::Write as _;

use super::{Certainty, Digest, Evidence, Line, Section};
use crate::reports::format::{grouped, minute, one_line};

const TITLE_CHARS: usize = 300;

/// What the page may do. Also to be sent as a header by whoever serves it.
pub const CONTENT_SECURITY_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

const STYLE: &str = include_str!("style.css");

/// The digest as HTML.
pub fn html(digest: &Digest) -> String {
    let role = digest.role.word().replace('_', " ");
    let (since, until) = (minute(digest.since), minute(digest.until));
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{CONTENT_SECURITY_POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>Digest for {role}, {until}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<p class=\"eyebrow\">FlowSync</p>\n\
         <h1>Digest for {role}</h1>\n<p class=\"headline\">{}</p>\n\
         <p class=\"meta\">{since} to {until} UTC · epoch {}</p>\n</header>\n<main>\n",
        escaped(&digest.headline, TITLE_CHARS),
        digest.epoch,
    );
    if !digest.alerts.is_empty() {
        out.push_str("<section class=\"alerts\" role=\"status\" aria-labelledby=\"alerts\">\n<h2 id=\"alerts\">Alerts</h2>\n<ul>\n");
        for alert in &digest.alerts {
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(out, "<li>{}</li>", escaped(alert, TITLE_CHARS));
        }
        out.push_str("</ul>\n</section>\n");
    }
    for (at, section) in digest.sections.iter().enumerate() {
        push_section(&mut out, at, section);
    }
    for note in &digest.notes {
        let _ = writeln!(out, "<p class=\"note\">{}</p>", with_code(note));
    }
    out.push_str("</main>\n<footer>Every line names how sure it is, and the command that shows its evidence.</footer>\n</body>\n</html>\n");
    out
}

fn push_section(out: &mut String, at: usize, section: &Section) {
    let title = escaped(&section.title, TITLE_CHARS);
    let _ = writeln!(out, "<section aria-labelledby=\"s{at}\">\n<h2 id=\"s{at}\">{title}</h2>");
    if let Some(empty) = &section.empty {
        let _ = writeln!(out, "<p class=\"empty\">{}</p>", with_code(empty));
    }
    if !section.lines.is_empty() {
        out.push_str("<ul>\n");
        for line in &section.lines {
            push_line(out, line);
        }
        out.push_str("</ul>\n");
    }
    if section.more > 0 {
        let _ = writeln!(out, "<p class=\"empty\">… and {} more</p>", grouped(section.more, 0));
    }
    out.push_str("</section>\n");
}

fn push_line(out: &mut String, line: &Line) {
    out.push_str("<li>\n<p>");
    if let Some(label) = &line.label {
        let _ = write!(out, "<span class=\"label\">{}</span> ", escaped(label, 60));
    }
    if let Some(key) = &line.ticket_key {
        let _ = write!(out, "<span class=\"key\">{}</span> ", escaped(key, 80));
    }
    let _ = writeln!(out, "<span class=\"title\">{}</span></p>", escaped(&line.title, TITLE_CHARS));
    let mut facts = Vec::new();
    if let Some(at) = line.at {
        facts.push(format!("<time datetime=\"{at}\">{}</time>", minute(at)));
    }
    if let Some(subject) = line.subject.as_ref().filter(|s| line.ticket_key.as_ref() != Some(s)) {
        facts.push(format!("<span class=\"subject\">{}</span>", escaped(subject, 80)));
    }
    facts.extend(line.detail.as_ref().map(|d| escaped(d, TITLE_CHARS)));
    facts.extend(line.person.as_ref().map(|p| escaped(&p.shown(), 80)));
    facts.push(certainty(&line.certainty));
    let _ = writeln!(out, "<p class=\"meta\">{}</p>", facts.join(" · "));
    out.push_str(&evidence(&line.evidence));
    out.push_str("</li>\n");
}

fn certainty(certainty: &Certainty) -> String {
    let class = match certainty {
        Certainty::Stated | Certainty::Counted => "sure",
        Certainty::Estimated { low_bps, .. } if *low_bps >= 8_000 => "likely",
        Certainty::Estimated { .. } => "unsure",
        Certainty::Range { .. } => "range",
    };
    format!("<span class=\"band {class}\">{}</span>", escaped(&certainty.shown(), 120))
}

fn evidence(evidence: &Evidence) -> String {
    let command = escaped(evidence.command(), 2_000);
    let way = match evidence.path() {
        // The path is made of percent-encoded segments; escaping it as well costs nothing.
        Some(path) => format!("<a href=\"{}\">why</a> ", escaped(path, 4_000)),
        None => String::new(),
    };
    format!("<details><summary>Evidence</summary><p>{way}<code>{command}</code></p></details>\n")
}

/// Our own words, in which backticks mark commands.
fn with_code(text: &str) -> String {
    let mut out = String::new();
    for (i, part) in text.split('`').enumerate() {
        let part = escaped_as_is(part);
        out.push_str(&if i % 2 == 1 { format!("<code>{part}</code>") } else { part });
    }
    out
}

fn escaped(text: &str, max: usize) -> String {
    escaped_as_is(&one_line(text, max))
}

fn escaped_as_is(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn foreign_text_never_becomes_markup(text: String) {
            prop_assert!(!escaped(&text, 500).contains(['<', '>', '"', '\'']));
        }
    }

    #[test]
    fn commands_in_our_words_are_code() {
        assert_eq!(with_code("run `a <b>` now"), "run <code>a &lt;b&gt;</code> now");
    }
}
