//! Ticket keys in text.
//!
//! A key is what a plain reading of `\b[A-Z][A-Z0-9_]+-[0-9]+\b` gives; other spellings that people use are keys as well,
//! and weaker evidence. No reader gives more than [`LIMIT`] of one text. `UTF-8` and `CVE-2021` are read like any other: whether a project is known is decided in the
//! dataflow, which alone knows all facts. Nothing is known here of tools.

use std::collections::HashSet;

use flowsync_schemas::{
    EntityKind, FactBody, Micros, Parsed, Text,
    fact::{EvidenceKind, MentionFact},
};

/// The most results that one reader gives for one text, where people, not tools, wrote it.
pub const LIMIT: usize = 64;

/// The keys of a text, each with its project, each once, in order: `("SHOP", "SHOP-12")`.
pub fn strict(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut seen = HashSet::new();
    let keys = spellings(text).filter(Spelling::is_strict).map(|s| (s.project, s.key));
    keys.filter(move |(_, key)| seen.insert(*key)).take(LIMIT)
}

/// The keys of a branch name, where people write any case: `feature/shop-12-basket` gives `("SHOP", "SHOP-12")`.
pub fn branch(name: &str) -> impl Iterator<Item = (String, String)> {
    let mut seen = HashSet::new();
    spellings(name)
        .filter(|s| s.separator == "-")
        .map(|s| (s.project.to_ascii_uppercase(), s.key.to_ascii_uppercase()))
        .filter(move |(_, key)| seen.insert(key.clone()))
        .take(LIMIT)
}

/// Keys in spellings that the strict reader does not take: `("KAFKA", "KAFKA-218")` for `KAFKA 218`.
///
/// - Any case with a hyphen: `kafka-128`. Not after `-` or `.`, where it is a version: `2.4-jenkins-15`.
/// - Upper case with something else between: `KAFKA:212`, `[KAFKA #218]`, `KAFKA_128`, `KAFKA - 128`. Only from 100 on
///   where that also precedes versions: `MATH 4`, `JAVA17`. `ACME/SHOP#12` is a number of GitHub.
/// - A capital, where the text opens with it: `Kafka 16887: …`. Never with `#` or with nothing between.
///
/// A number with a leading zero, of more than seven digits, or beside a further `.7` or `-7` is none: `kafka 0.8`,
/// `Kafka 2.0`, `MATH 2012-10-05`. What the strict reader finds in the same text is left out. The rules were chosen by
/// counting over the histories of Kafka, Maven, Jenkins, Calcite, Commons Lang and Commons Math.
pub fn tolerant(text: &str) -> Vec<(String, String)> {
    let found = spellings(text).filter(|s| !s.is_strict() && s.is_tolerable()).map(|s| {
        let project = s.project.to_ascii_uppercase();
        let key = format!("{project}-{}", s.number);
        (project, key)
    });
    let mut found = found.peekable();
    // Most texts have none.
    if found.peek().is_none() {
        return Vec::new();
    }
    let mut seen: HashSet<_> = spellings(text).filter(Spelling::is_strict).map(|s| s.key.to_owned()).collect();
    found.filter(|(_, key)| seen.insert(key.clone())).take(LIMIT).collect()
}

/// Where the keys of a text stand, in any spelling: byte positions, in order of their ends.
pub fn places(text: &str) -> impl Iterator<Item = (usize, usize)> {
    let keys = spellings(text).filter(|s| s.is_strict() || s.is_tolerable());
    keys.map(|s| (s.before.len(), s.before.len() + s.key.len()))
}

/// What people write between project and number instead of a hyphen.
const SEPARATORS: &[&str] = &["", " ", "- ", " - ", ":", ": ", "_", "#", " #", ":#", ": #"];

/// A word and a number that may be a key, with what stands between.
pub(super) struct Spelling<'a> {
    /// What precedes.
    before: &'a str,
    project: &'a str,
    separator: &'a str,
    number: &'a str,
    /// All three, as written.
    pub key: &'a str,
    /// What follows.
    rest: &'a str,
}

impl Spelling<'_> {
    /// `KEY-12` in upper case.
    pub fn is_strict(&self) -> bool {
        self.separator == "-" && self.is_upper()
    }

    fn is_upper(&self) -> bool {
        !self.project.bytes().any(|b| b.is_ascii_lowercase())
    }

    fn is_tolerable(&self) -> bool {
        let further = self.rest.strip_prefix(['.', '-']).is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()));
        if self.number.starts_with('0') || self.number.len() > 7 || further {
            return false;
        }
        if self.separator == "-" {
            return !self.before.ends_with(['-', '.']);
        }
        let versionlike = matches!(self.separator, "" | " " | "- " | " - ") && self.number.len() < 3;
        let numbered = self.separator.ends_with('#');
        let spelled = if self.is_upper() {
            !(numbered && self.before.ends_with('/'))
        } else {
            let capital = self.project.starts_with(|c: char| c.is_ascii_uppercase());
            capital && matches!(self.before, "" | "[") && !numbered && !self.separator.is_empty()
        };
        spelled && !versionlike && SEPARATORS.contains(&self.separator)
    }
}

/// All spellings. Each ends with a number, so that every number is judged by itself.
pub(super) fn spellings(text: &str) -> impl Iterator<Item = Spelling<'_>> {
    digit_runs(text).filter_map(move |(start, end)| {
        // Before a hyphen, an underscore belongs to the project: `A_-1` is a key.
        let underscore = if text[..start].ends_with('-') { '-' } else { '_' };
        let word = text[..start].trim_end_matches([' ', ':', '#', '-', underscore]);
        let at = word.trim_end_matches(in_word).len();
        let project = &word[at..];
        is_project(project).then(|| Spelling {
            before: &text[..at],
            project,
            separator: &text[word.len()..start],
            number: &text[start..end],
            key: &text[at..end],
            rest: &text[end..],
        })
    })
}

/// Two characters or more, ASCII, a letter first.
fn is_project(word: &str) -> bool {
    word.len() >= 2
        && word.starts_with(|c: char| c.is_ascii_alphabetic())
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// States a mention for every key of `text`, at the version `at` of the artifact. A mention holds as long as the
/// version that its signal states, so whoever states a version states all its mentions again, with the same `at`.
pub fn mention(out: &mut Parsed<'_>, at: Micros, artifact: (EntityKind, &Text), kind: EvidenceKind, text: &str) {
    let mut state = |kind, project: &str, key: &str| {
        let body = MentionFact {
            artifact_kind: artifact.0,
            artifact_id: artifact.1.clone(),
            kind,
            project: project.into(),
            ticket_key: key.into(),
        };
        out.fact(at, FactBody::Mention(body));
    };
    if kind == EvidenceKind::BranchKey {
        branch(text).for_each(|(project, key)| state(kind, &project, &key));
    } else {
        strict(text).for_each(|(project, key)| state(kind, project, key));
        for (project, key) in tolerant(text) {
            state(EvidenceKind::TolerantKey, &project, &key);
        }
    }
}

/// Whether a character is part of a word, as `\b` sees it.
pub(super) fn in_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The leading characters of a sort, and the rest.
pub(super) fn lead(text: &str, of: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !of(c)).unwrap_or(text.len()))
}

/// The runs of digits that end their word.
pub(super) fn digit_runs(text: &str) -> impl Iterator<Item = (usize, usize)> {
    // By bytes: an ASCII digit is never part of another character.
    let bytes = text.as_bytes();
    let mut from = 0;
    let runs = std::iter::from_fn(move || {
        let start = from + bytes[from..].iter().position(u8::is_ascii_digit)?;
        from = bytes[start..].iter().position(|b| !b.is_ascii_digit()).map_or(bytes.len(), |n| start + n);
        Some((start, from))
    });
    runs.filter(|(_, end)| !text[*end..].starts_with(in_word))
}

/// The longest runs of characters of a sort: where each starts and ends.
pub(super) fn runs(text: &str, of: impl Fn(char) -> bool) -> impl Iterator<Item = (usize, usize)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let start = from + text[from..].find(&of)?;
        from = start + lead(&text[start..], &of).0.len();
        Some((start, from))
    })
}

#[cfg(test)]
mod tests {
    use flowsync_schemas::{Pseudonymizer, SignalId};

    use super::*;

    fn keys(text: &str) -> Vec<&str> {
        strict(text).map(|(_, key)| key).collect()
    }

    #[test]
    fn a_plain_reading() {
        assert_eq!(strict("SHOP-12").collect::<Vec<_>>(), [("SHOP", "SHOP-12")]);
        assert_eq!(keys("PAY-1: as in SHOP-12, (PAY-1) and A_1-07."), ["PAY-1", "SHOP-12", "A_1-07"]);
        assert_eq!(keys("UTF-8 and CVE-2021-44228"), ["UTF-8", "CVE-2021"]);
        assert_eq!(keys("AB-12-CD-34"), ["AB-12", "CD-34"]);
        assert_eq!(
            keys("shop-12 Shop-12 S-12 SHOP-12a SHOP-12_ xSHOP-1 éSHOP-1 _A-1 1AB-2 SHOP-é SHOP- -12 SHOP--12"),
            [""; 0]
        );
        assert_eq!(keys("SHOP-1é SHOP-1-é 界SHOP-2 ,SHOP-3"), ["SHOP-1", "SHOP-3"]);
        assert_eq!(keys(""), [""; 0]);
    }

    #[test]
    fn branches_in_any_case() {
        let found = |name| branch(name).collect::<Vec<_>>();
        assert_eq!(found("feature/shop-12-basket"), [("SHOP".to_owned(), "SHOP-12".to_owned())]);
        assert_eq!(found("Shop-12/SHOP-12"), [("SHOP".to_owned(), "SHOP-12".to_owned())]);
        assert_eq!(found("main"), []);
    }

    fn loose(text: &str) -> String {
        tolerant(text).into_iter().map(|(_, key)| key).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn keys_as_people_spell_them() {
        assert_eq!(tolerant("shop-12"), [("SHOP".to_owned(), "SHOP-12".to_owned())]);
        assert_eq!(loose("Jo; shop-1\nShop-2, #shop-3 me/shop-4-basket é,a_b-5"), "SHOP-1 SHOP-2 SHOP-3 SHOP-4 A_B-5");
        assert_eq!(loose("AB 218 [AB 219] AB220 AB - 221 AB- 222"), "AB-218 AB-219 AB-220 AB-221 AB-222");
        assert_eq!(loose("AB:1, AB: 2 (AB #3) AB#4 AB: #5 AB_6"), "AB-1 AB-2 AB-3 AB-4 AB-5 AB-6");
        assert_eq!(loose("Shop 218: basket") + &loose("[Shop_7] basket"), "SHOP-218SHOP-7");
        assert_eq!(loose("SHOP 218 and shop-218"), "SHOP-218");
    }

    #[test]
    fn what_is_no_key() {
        for text in [
            "shop 0.8, Shop 2.0, SHOP to 3.1, SHOP 218.1, shop-2.1, opt/shop-3.6.0, 1.5-shop-2",
            "SHOP 4, SHOP17, SHOP 07, SHOP:012, shop-12345678, SHOP 2012-10-05, SHOP 218th",
            "in Shop 218, shop 218, Shop:218, acme/shop#12, ACME/SHOP#12, Shop218, SHOP -218",
            "SHOP-12 A_-1 AB_1-07 SHOP--12 s-12 éshop-12 shopé-12 shop-12é 界shop-1 shop-１",
            "SHOP 218, then SHOP-218",
            "SHOP-218.5 shop-218",
            "",
        ] {
            assert_eq!(loose(text), "", "{text}");
        }
    }

    #[test]
    fn a_mention_carries_the_version_of_its_artifact() {
        let people = Pseudonymizer::new(&[0; 32]);
        let mut out = Parsed::new(SignalId(1), &people);
        let sha: Text = "c0ffee".into();
        mention(&mut out, Micros(5), (EntityKind::Commit, &sha), EvidenceKind::BranchKey, "fix/shop-12");
        mention(&mut out, Micros(5), (EntityKind::Commit, &sha), EvidenceKind::CommitKey, "fix shop-12 for PAY-1");
        let stated: Vec<_> = out
            .facts
            .iter()
            .map(|f| match &f.body {
                FactBody::Mention(m) => (f.at, m.kind, &*m.project, &*m.ticket_key),
                other => panic!("{other:?}"),
            })
            .collect();
        let branch = (Micros(5), EvidenceKind::BranchKey, "SHOP", "SHOP-12");
        let strict = (Micros(5), EvidenceKind::CommitKey, "PAY", "PAY-1");
        assert_eq!(stated, [branch, strict, (Micros(5), EvidenceKind::TolerantKey, "SHOP", "SHOP-12")]);
    }
}
