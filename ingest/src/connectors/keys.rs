//! Ticket keys in text.
//!
//! A key is what a plain reading of `\b[A-Z][A-Z0-9_]+-[0-9]+\b` gives. `UTF-8` and `CVE-2021` are read like any other:
//! whether a project is known is decided in the dataflow, which alone knows all facts. Nothing is known here of tools.

use std::collections::HashSet;

use flowsync_schemas::{
    EntityKind, FactBody, Micros, Parsed, Text,
    fact::{EvidenceKind, MentionFact},
};

/// The keys of a text, each with its project, each once, in order: `("SHOP", "SHOP-12")`.
pub fn strict(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut seen = HashSet::new();
    spellings(text)
        .filter(|(project, _)| !project.bytes().any(|b| b.is_ascii_lowercase()))
        .filter(move |(_, key)| seen.insert(*key))
}

/// The keys of a branch name, where people write any case: `feature/shop-12-basket` gives `("SHOP", "SHOP-12")`.
pub fn branch(name: &str) -> impl Iterator<Item = (String, String)> {
    let mut seen = HashSet::new();
    spellings(name)
        .map(|(project, key)| (project.to_ascii_uppercase(), key.to_ascii_uppercase()))
        .filter(move |(_, key)| seen.insert(key.clone()))
}

/// States a mention for every key of `text`, at the version `at` of the artifact. A mention holds as long as the
/// version that its signal states, so whoever states a version states all its mentions again, with the same `at`.
pub fn mention(out: &mut Parsed<'_>, at: Micros, artifact: (EntityKind, &Text), kind: EvidenceKind, text: &str) {
    let mut state = |project: &str, key: &str| {
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
        branch(text).for_each(|(project, key)| state(&project, &key));
    } else {
        strict(text).for_each(|(project, key)| state(project, key));
    }
}

/// Whether a character is part of a word, as `\b` sees it.
fn in_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// `\b[A-Za-z][A-Za-z0-9_]+-[0-9]+\b` by hand. A match has one hyphen, and its two sides are whole words, so matches
/// cannot overlap and every hyphen is judged by itself.
fn spellings(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.match_indices('-').filter_map(move |(hyphen, _)| {
        let (before, after) = (&text[..hyphen], &text[hyphen + 1..]);
        let number = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if number == 0 || after[number..].starts_with(in_word) {
            return None;
        }
        let start = before.trim_end_matches(in_word).len();
        let project = &before[start..];
        let plain = project.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        (plain && project.len() >= 2 && project.starts_with(|c: char| c.is_ascii_alphabetic()))
            .then(|| (project, &text[start..hyphen + 1 + number]))
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
        assert_eq!(stated, [branch, (Micros(5), EvidenceKind::CommitKey, "PAY", "PAY-1")]);
    }
}
