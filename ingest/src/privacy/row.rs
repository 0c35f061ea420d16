//! Taking a person out of rows of facts whose signals are gone: nobody can read them anew from redacted bytes.
//!
//! Texts are rewritten where they are. Beside them are the words of texts, sorted and taken apart (`words`, `file_words`), of which
//! nobody can tell any more whose name they were; so the words go that the row's texts lost, and of a text that is no longer
//! there, the words of a whole name. First names and short logins in such a text cannot be found, as in any other.

use std::collections::{BTreeMap, BTreeSet};

use flowsync_schemas::{ColumnKind, ColumnSpec, Row, Text, Value};

use super::Subject;
use crate::connectors::words;

fn words_of(text: &str) -> BTreeSet<String> {
    words::of_title(text).split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Whether a column holds words of texts.
fn holds_words(column: &ColumnSpec) -> bool {
    column.kind == ColumnKind::Text && (column.name == "words" || column.name.ends_with("_words"))
}

/// The words that a row's texts lost, and those that they got instead.
#[derive(Default)]
struct Words {
    gone: BTreeSet<String>,
    come: BTreeSet<String>,
}

impl Subject {
    /// A row of a table of facts without the person; `None` where they are not in it. `pseudonyms`: as of
    /// [`Subject::pseudonyms`], in text.
    pub fn redact_row(&self, columns: &[ColumnSpec], row: &Row, pseudonyms: &BTreeMap<String, String>) -> Option<Row> {
        let mut new = row.clone();
        let mut words = Words::default();
        for (cell, _) in new.iter_mut().zip(columns).filter(|(_, column)| !holds_words(column)) {
            let Value::Text(text) = cell else { continue };
            if let Some(other) = pseudonyms.get(&**text) {
                *cell = Value::Text(other.as_str().into());
            } else if let Some(without) = self.redact_text(text) {
                let before = words_of(text);
                // What stands in the person's place may have a word of theirs by chance.
                let token = self.token().as_str();
                let others = words_of(&without.replace(token, " ").replace(&token.replace('-', " "), " "));
                words.gone.extend(before.difference(&others).cloned());
                words.come.extend(words_of(&without).difference(&others).cloned());
                *cell = Value::Text(without.into());
            }
        }
        for (cell, column) in new.iter_mut().zip(columns).filter(|(_, column)| holds_words(column)) {
            if let Value::Text(text) = cell {
                // Names of files are no texts: nothing comes instead.
                let come = if column.name == "words" { Some(&words.come) } else { None };
                *text = self.redact_words(text, &words.gone, come);
            }
        }
        (new != *row).then_some(new)
    }

    fn redact_words(&self, text: &Text, gone: &BTreeSet<String>, come: Option<&BTreeSet<String>>) -> Text {
        let there: BTreeSet<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
        let mut left = there.clone();
        for name in self.full_names() {
            let name = words_of(name);
            if name.len() > 1 && name.iter().all(|word| there.contains(word.as_str())) {
                left.retain(|word| !name.contains(*word));
            }
        }
        left.retain(|word| !gone.contains(*word) && self.redact_text(word).is_none());
        if left == there {
            return text.clone();
        }
        left.extend(come.into_iter().flatten().map(String::as_str));
        left.into_iter().collect::<Vec<_>>().join(" ").into()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{
        super::{
            Salt,
            tests::{claim, of},
        },
        *,
    };

    const fn column(name: &'static str) -> ColumnSpec {
        ColumnSpec { name, kind: ColumnKind::Text, nullable: false, unit: "", doc: "" }
    }

    const COLUMNS: [ColumnSpec; 4] = [column("author"), column("subject"), column("words"), column("file_words")];

    fn ada() -> Subject {
        of(&[("Ada Lovelace", "ada@example.org"), ("", "github:ada-l-1815"), ("", "github:octolovelace")], &[])
    }

    fn redacted(cells: [&str; 4]) -> Option<Vec<String>> {
        let row: Row = cells.iter().map(|cell| Value::Text((*cell).into())).collect();
        let pseudonyms = [("0a".to_owned(), "0b".to_owned())].into();
        let new = ada().redact_row(&COLUMNS, &row, &pseudonyms)?;
        assert_eq!(ada().redact_row(&COLUMNS, &new, &pseudonyms), None, "{new:?}");
        Some(new.iter().map(|cell| cell.as_text().unwrap_or_default().to_owned()).collect())
    }

    #[test]
    fn words_that_a_title_lost_are_no_longer_among_its_words() {
        for title in ["Cart of Ada Lovelace breaks", "Cart breaks, says @ada-l-1815", "LOVELACE, Ada: the cart breaks"]
        {
            let words = words::of_title(title);
            let new = redacted(["0c", title, &words, "cart"]).unwrap();
            // As if the redacted title had been read.
            assert_eq!(*new[2], *words::of_title(&new[1]), "{title}");
            assert!(!new[2].contains("ada ") && !new[2].contains("lovelace") && new[2].contains("cart"), "{new:?}");
            assert_eq!((&*new[0], &*new[3]), ("0c", "cart"));
        }
    }

    #[test]
    fn a_token_that_has_a_word_of_theirs_by_chance_hides_nothing() {
        let claims = [claim("", "github:ada-l-1815")];
        let (token, salt) = ("erased-4ada4edd5c".parse().unwrap(), Salt::random().unwrap());
        let subject = Subject::new(&claims, &[], token, salt);
        let title = "As @ada-l-1815 says";
        let row: Row = ["0a", title, &words::of_title(title), ""].map(|cell| Value::Text(cell.into())).into();
        let new = subject.redact_row(&COLUMNS, &row, &BTreeMap::new()).unwrap();
        let title = "As @erased-4ada4edd5c says";
        assert_eq!(new[1..3], [title, &*words::of_title(title)].map(|text| Value::Text(text.into())));
    }

    #[test]
    fn words_of_a_text_that_is_not_in_the_row_are_found_by_whole_names_and_logins() {
        let new = redacted(["0a", "Basket", "ada basket lovelace octolovelace thank", "basket octolovelace"]);
        assert_eq!(new, Some(["0b", "Basket", "basket thank", "basket"].map(str::to_owned).to_vec()));
    }

    #[test]
    fn what_could_be_anybody_stays() {
        assert_eq!(redacted(["0c", "Basket", "ada basket", ""]), None);
        let cells = ["0a", "Basket", "ada basket", "lovelace"].map(str::to_owned).to_vec();
        let new = redacted(["0a", "Basket", "ada basket", "lovelace"]).unwrap();
        assert_eq!(new[1..], cells[1..]);
    }
}
