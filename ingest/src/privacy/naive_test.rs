//! What is left of a person, looked for anew and naively: nothing here knows how they are taken out.

#![allow(clippy::unwrap_used)]

use flowsync_schemas::naming;

/// Whether something stands in a text as a word of its own. Written anew, and naively.
pub(super) fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let ends = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '-' | '_' | '.' | '+'));
        ends(text[..at].chars().next_back()) && ends(text[at + word.len()..].chars().next())
    })
}

/// Bytes in lower case: as they are, with percents undone, and with escapes undone.
pub(super) fn readings(bytes: &[u8]) -> Vec<String> {
    let raw = String::from_utf8_lossy(bytes).to_lowercase();
    let field = format!("x={}", raw.replace('+', "%2b").replace('&', "%26"));
    let decoded = form_urlencoded::parse(field.as_bytes()).next().unwrap().1.into_owned();
    let mut escaped = String::new();
    let mut rest = raw.as_str();
    while let Some((head, tail)) = rest.split_once("\\u") {
        escaped.push_str(head);
        let number = tail.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        escaped.push(number.and_then(char::from_u32).unwrap_or('?'));
        rest = tail.get(4..).unwrap_or_default();
    }
    escaped.push_str(rest);
    let escaped = escaped.replace("\\n", " ").replace("\\r", " ").replace("\\t", " ").to_lowercase();
    vec![decoded.to_lowercase(), escaped, raw]
}

/// Whether a word may only mean the person.
pub(super) fn is_odd(word: &str) -> bool {
    word.contains('@')
        || naming::name(word).is_some()
        || (word.len() >= 4 && word.contains(|c: char| c.is_ascii_digit() || matches!(c, '-' | '_' | '.')))
            && word.contains(char::is_alphabetic)
}
