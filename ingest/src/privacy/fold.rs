//! Characters as they are compared.

/// How two texts are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// Without regard to case: accounts. `zoe` and `zoë` are two people's.
    Case,
    /// Also without diacritics, however they are written: names. Not everybody has the keys for `Zoë`.
    Marks,
}

/// Latin letters with diacritics behind the letter that is written without them.
const MARKED: &[&str] = &[
    "aàáâãäåāăą",
    "cçćĉċč",
    "dďđð",
    "eèéêëēĕėęě",
    "gĝğġģ",
    "iìíîïĩīĭįı",
    "kķ",
    "lĺļľł",
    "nñńņň",
    "oòóôõöøōŏő",
    "rŕřŗ",
    "sśŝşšș",
    "tţťț",
    "uùúûüũūŭůűų",
    "yýÿ",
    "zźżž",
    "'’‘`ʼ",
];

/// The one to three characters that stand for one where texts are compared; none for a mark of its own.
pub fn folded(c: char, fold: Fold) -> impl Iterator<Item = char> {
    // Most text is ASCII.
    let plain = c.is_ascii().then(|| c.to_ascii_lowercase());
    let lower = if plain.is_none() { Some(c.to_lowercase()) } else { None };
    plain.into_iter().chain(lower.into_iter().flatten()).flat_map(move |c| bare(c, fold))
}

fn bare(c: char, fold: Fold) -> impl Iterator<Item = char> {
    let (first, second) = match c {
        // Of a capital sigma it cannot be told which of the two it is.
        'ς' => (Some('σ'), None),
        _ if fold == Fold::Case || (c.is_ascii() && c != '`') => (Some(c), None),
        _ if is_mark(c) => (None, None),
        'æ' => (Some('a'), Some('e')),
        'œ' => (Some('o'), Some('e')),
        'ß' => (Some('s'), Some('s')),
        'þ' => (Some('t'), Some('h')),
        _ => (Some(MARKED.iter().find(|set| set.contains(c)).and_then(|set| set.chars().next()).unwrap_or(c)), None),
    };
    first.into_iter().chain(second)
}

/// A diacritic that is written after its letter.
pub fn is_mark(c: char) -> bool {
    ('\u{300}'..='\u{36f}').contains(&c)
}

/// A whole text as it is compared: its ends trimmed, one space for each gap.
pub fn text(text: &str, fold: Fold) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.extend(word.chars().flat_map(|c| folded(c, fold)));
    }
    out
}

/// Of scripts that set no spaces between words.
pub fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_without_marks_and_accounts_with_them() {
        for same in ["Zoë O’Connor", " zoe  O'CONNOR", "Zoe\u{308}\to'connor"] {
            assert_eq!(text(same, Fold::Marks), "zoe o'connor", "{same:?}");
        }
        assert_eq!(text("Zoë", Fold::Case), "zoë");
        assert_eq!(text("STRASSE", Fold::Marks), text("Straße", Fold::Marks));
        assert_eq!(text("ΣΟΦΟΣ", Fold::Case), text("σοφος", Fold::Case).replace('ς', "σ"));
        assert_eq!(text("李 小龙", Fold::Marks), "李 小龙");
    }
}
