//! Reading JSON that others wrote: borrowed fields, and errors that name the path.
//!
//! A payload is read in sections, so that one bad section does not lose the others. What is wrong is told by path and
//! expected type and never by the value itself, which may be an address or a name (I8). Nothing panics (I10).

use std::{borrow::Cow, fmt, ops::Deref};

use flowsync_schemas::{Micros, Parsed, Text};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};
use serde_json::{error::Category, value::RawValue};

/// Longest name of a thing that is read (I9): of all tools, none makes longer ones.
pub const NAME_BYTES_MAX: usize = 1_024;

/// Longest word, and longest path, of the sender's own that a rejection shows (I9).
const SHOWN_BYTES_MAX: usize = 40;
const PATH_PARTS_MAX: usize = 16;

/// Text, borrowed from the body where it has no escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Str<'a>(Cow<'a, str>);

impl Str<'_> {
    /// As facts carry it.
    pub fn text(&self) -> Text {
        Text::from(&*self.0)
    }
}

impl Deref for Str<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

/// The text of an optional field, where it holds any.
pub fn filled(field: &Option<Str<'_>>) -> Option<Text> {
    field.as_ref().filter(|s| !s.is_empty()).map(Str::text)
}

impl<'de: 'a, 'a> Deserialize<'de> for Str<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StrVisitor;
        impl<'de> Visitor<'de> for StrVisitor {
            type Value = Cow<'de, str>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_borrowed_str<E>(self, v: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(v))
            }
            fn visit_str<E>(self, v: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(v.to_owned()))
            }
        }
        deserializer.deserialize_str(StrVisitor).map(Str)
    }
}

/// Text that names a thing: not empty, and no longer than names are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name<'a>(Str<'a>);

impl Name<'_> {
    /// As facts carry it.
    pub fn text(&self) -> Text {
        self.0.text()
    }
}

impl Deref for Name<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Str::deserialize(deserializer)?;
        if is_name(&text) { Ok(Self(text)) } else { Err(D::Error::custom(NO_NAME)) }
    }
}

/// What a rejection says where [`is_name`] does not hold.
pub const NO_NAME: &str = "expected a name of 1 to 1024 bytes";

/// Whether a text can be the name of a thing.
pub fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
}

/// A native id that a tool writes as a number or as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Id(pub Text);

/// A time in ISO 8601, or in whole seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Micros);

/// Implements reading a type from text or from a number.
macro_rules! from_text_or_number {
    ($ty:ident, $expected:literal, $from_text:expr, $from_number:expr) => {
        impl<'de> Deserialize<'de> for $ty {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct AnyVisitor;
                impl Visitor<'_> for AnyVisitor {
                    type Value = $ty;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }
                    fn visit_str<E: Error>(self, v: &str) -> Result<$ty, E> {
                        let read: fn(&str) -> Option<$ty> = $from_text;
                        read(v).ok_or_else(|| E::custom(concat!("expected ", $expected)))
                    }
                    fn visit_i64<E: Error>(self, v: i64) -> Result<$ty, E> {
                        let read: fn(i64) -> $ty = $from_number;
                        Ok(read(v))
                    }
                    fn visit_u64<E: Error>(self, v: u64) -> Result<$ty, E> {
                        i64::try_from(v)
                            .map_err(|_| E::custom(concat!("expected ", $expected)))
                            .and_then(|v| self.visit_i64(v))
                    }
                }
                deserializer.deserialize_any(AnyVisitor)
            }
        }
    };
}

from_text_or_number!(Id, "a name of 1 to 1024 bytes, or a number", |v| is_name(v).then(|| Id(v.into())), |v| Id(v
    .to_string()
    .into()));
from_text_or_number!(Time, "a time such as 2026-10-01T08:00:00Z", |v| Micros::parse(v).map(Time), |v| Time(
    Micros::from_secs(v)
));

/// Reads one signal's sections, and rejects those that cannot be read.
pub struct Reader<'o, 'p> {
    /// Where facts and rejections go.
    pub out: &'o mut Parsed<'p>,
    /// Our clock: the version of what the tool does not date.
    pub received_at: Micros,
    /// What to do about a bad section.
    pub advice: &'static str,
}

impl Reader<'_, '_> {
    /// States that `path` could not be read.
    pub fn reject(&mut self, path: &str, problem: &str) {
        self.out.reject(format!("{path}: {problem}; {}", self.advice));
    }

    /// Reads the whole body.
    pub fn body<'de, T: Deserialize<'de>>(&mut self, body: &'de [u8]) -> Option<T> {
        match std::str::from_utf8(body) {
            Ok(json) => self.read("", json),
            Err(error) => {
                self.reject("body", &format!("no UTF-8 from byte {} on", error.valid_up_to()));
                None
            }
        }
    }

    /// Reads a section that must be there.
    pub fn section<'de, T: Deserialize<'de>>(&mut self, path: &str, raw: Option<&'de RawValue>) -> Option<T> {
        match raw {
            Some(raw) => self.read(path, raw.get()),
            None => {
                self.reject(path, "missing");
                None
            }
        }
    }

    fn read<'de, T: Deserialize<'de>>(&mut self, path: &str, json: &'de str) -> Option<T> {
        // serde would also read a list, by position.
        if json.trim_start().starts_with('[') {
            self.reject(if path.is_empty() { "body" } else { path }, "expected an object");
            return None;
        }
        // The path of an error costs time on every field, so it is only sought once there is an error.
        if let Ok(value) = serde_json::from_str(json) {
            return Some(value);
        }
        let mut deserializer = serde_json::Deserializer::from_str(json);
        match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
            Ok(_) => self.reject("body", "not one JSON value: something follows it"),
            Err(error) => {
                let (path, problem) = explain(path, &error);
                self.reject(&path, &problem);
            }
        }
        None
    }
}

/// The path and the problem of an error, without the value that caused it.
fn explain(root: &str, error: &serde_path_to_error::Error<serde_json::Error>) -> (String, String) {
    let inner = error.inner();
    let relative = plain_path(&error.path().to_string());
    if inner.classify() != Category::Data && root.is_empty() {
        let problem = if inner.is_eof() { "the JSON ends too early" } else { "not JSON" };
        return ("body".to_owned(), format!("{problem} (line {}, column {})", inner.line(), inner.column()));
    }
    let mut path = match (root, relative.as_str()) {
        ("", ".") => "body".to_owned(),
        ("", _) => relative,
        (root, ".") => root.to_owned(),
        (root, relative) => format!("{root}.{relative}"),
    };
    // The whole was JSON, so this is a number or an escape of it that stands for nothing: `1e400`, `"\ud800"`.
    if inner.classify() != Category::Data {
        return (path, "not JSON that can be read".to_owned());
    }
    let message = inner.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(m, _)| m);
    if let Some(field) = message.strip_prefix("missing field `").and_then(|m| m.strip_suffix('`')) {
        if path == "body" {
            field.clone_into(&mut path)
        } else {
            path = format!("{path}.{field}")
        }
        return (path, "missing".to_owned());
    }
    let problem = match message.rsplit_once("expected ") {
        Some((_, what)) => format!("expected {}", json_word(what)),
        None => "cannot be read".to_owned(),
    };
    (path, problem)
}

/// A path as a rejection may show it: a field of the sender's own can be called anything, also what names a person.
fn plain_path(path: &str) -> String {
    let plain_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'[' | b']');
    let plain = |part: &str| part.len() <= SHOWN_BYTES_MAX && part.bytes().all(plain_byte);
    let parts: Vec<&str> =
        path.split('.').take(PATH_PARTS_MAX).map(|part| if plain(part) { part } else { "…" }).collect();
    parts.join(".")
}

/// serde names the Rust type that it was reading; whoever mends a payload wants the JSON word.
fn json_word(expected: &str) -> &str {
    match expected {
        "i64" => "an integer",
        "a sequence" => "a list",
        other if other.starts_with("struct ") => "an object",
        other => other,
    }
}

/// A word of the payload as a rejection may show it: what is no plain word is not repeated, for it may name a person.
pub fn shown(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b':' | b' ');
    if word.len() <= SHOWN_BYTES_MAX && word.bytes().all(plain) {
        format!("{word:?}")
    } else {
        format!("a text of {} bytes", word.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use flowsync_schemas::{Pseudonymizer, SignalId};

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Inner<'a> {
        #[serde(borrow)]
        name: Str<'a>,
        #[allow(dead_code)]
        at: Option<Time>,
        #[allow(dead_code)]
        id: Option<Id>,
    }

    #[derive(Debug, Deserialize)]
    struct Outer<'a> {
        #[serde(borrow)]
        #[allow(dead_code)]
        list: Vec<Inner<'a>>,
    }

    fn reason(json: &str) -> String {
        let people = Pseudonymizer::new(&[0; 32]);
        let mut out = Parsed::new(SignalId(0), &people);
        let mut reader = Reader { out: &mut out, received_at: Micros(0), advice: "mend it" };
        assert!(reader.body::<Outer<'_>>(json.as_bytes()).is_none(), "{json} was read");
        out.rejections[0].reason.to_string()
    }

    #[test]
    fn plain_text_is_borrowed_and_escaped_text_is_read() {
        let inner: Inner<'_> = serde_json::from_str(r#"{"name":"ada"}"#).unwrap();
        assert!(matches!(inner.name.0, Cow::Borrowed("ada")));
        let inner: Inner<'_> = serde_json::from_str(r#"{"name":"a\nb","at":0,"id":7}"#).unwrap();
        assert_eq!(&*inner.name, "a\nb");
        assert_eq!(inner.id.unwrap().0.as_ref(), "7");
    }

    #[test]
    fn a_rejection_names_the_path_and_never_the_value() {
        assert_eq!(reason(r#"{"list":[{"name":"x"},{"name":3}]}"#), "list[1].name: expected a text; mend it");
        assert_eq!(reason(r#"{"list":[{}]}"#), "list[0].name: missing; mend it");
        assert_eq!(reason("{}"), "list: missing; mend it");
        assert_eq!(reason(r#"{"list":[{"name":"x","#), "body: the JSON ends too early (line 1, column 21); mend it");
        assert_eq!(reason("nothing"), "body: not JSON (line 1, column 2); mend it");
        assert_eq!(reason(r#"{"list":[]} {}"#), "body: not one JSON value: something follows it; mend it");
        let leaked = reason(r#"{"list":[{"name":"x","at":"ada@example.org"}]}"#);
        assert_eq!(leaked, "list[0].at: expected a time such as 2026-10-01T08:00:00Z; mend it");
        let leaked = reason(r#"{"list":"ada@example.org"}"#);
        assert_eq!(leaked, "list: expected a list; mend it");
        assert_eq!(reason(r#" ["ada@example.org"]"#), "body: expected an object; mend it");
        assert_eq!(reason(r#"{"list":["ada@example.org"]}"#), "list[0]: expected an object; mend it");
        assert_eq!(shown("in_progress"), "\"in_progress\"");
        assert_eq!(shown("ada@example.org"), "a text of 15 bytes");
    }
}
