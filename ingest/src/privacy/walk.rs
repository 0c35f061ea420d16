//! Going through JSON that others wrote: every string and number, with the object that it stands in.
//!
//! Takes whatever a JSON reader takes, and more: what is wrong with a body is the connector's to say. Neither depth nor
//! size is a matter of the stack, and nothing is kept of what was passed but the way back (I9, I10).

use std::borrow::Cow;

use super::class::{Class, class};

/// Depth down to which the place of a value is told. No tool nests so deep; below, everything is text.
const DEPTH_MAX: usize = 256;

/// A part of a body.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    pub what: What,
    /// Without quotes, escapes as they are. Of an object, the key that it stands under.
    pub raw: &'a str,
    /// Where `raw` begins.
    pub at: usize,
    /// The number of the object that it stands in; of an object, its own. From 1 in order; 0 is none.
    pub object: usize,
    /// The object that a wrapper around it belongs to, or 0.
    pub owner: usize,
    pub class: Class,
    /// The class of the object that it stands in.
    pub within: Class,
}

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Key,
    Text,
    Number,
    Object,
}

/// What is open.
#[derive(Clone, Copy)]
struct Frame<'a> {
    object: usize,
    owner: usize,
    /// Its own class.
    class: Class,
    /// Of what stands in it next.
    next: Class,
    key: &'a str,
    close: u8,
}

/// Goes through a body; `None` where it is no JSON.
pub fn walk<'a>(body: &'a str, each: &mut dyn FnMut(Part<'a>)) -> Option<()> {
    let bytes = body.as_bytes();
    let root = Frame { object: 0, owner: 0, class: Class::Text, next: Class::Text, key: "", close: 0 };
    let mut stack = vec![root];
    let (mut at, mut objects, mut beyond, mut values) = (0, 0, 0_usize, 0);
    while let Some(byte) = bytes.get(at) {
        let frame = stack.last_mut()?;
        let top = stack_is_top(frame, beyond);
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b',' | b':' if !top => {}
            b'{' | b'[' => {
                values += usize::from(top);
                objects += usize::from(*byte == b'{');
                let mut inner = Frame { close: byte + 2, ..*frame };
                if *byte == b'{' {
                    let Frame { next, key, object, owner, class, .. } = *frame;
                    inner = Frame { object: objects, owner, class: next, next: Class::Text, key: "", close: b'}' };
                    if next == Class::Wrapper && owner == 0 {
                        inner.owner = object;
                    }
                    let part =
                        Part { what: What::Object, raw: key, at, object: objects, owner, class: next, within: class };
                    each(part);
                }
                if stack.len() < DEPTH_MAX {
                    stack.push(inner);
                } else {
                    beyond += 1;
                }
            }
            b'}' | b']' if beyond > 0 => beyond -= 1,
            b'}' | b']' => {
                if frame.close != *byte {
                    return None;
                }
                stack.pop();
            }
            b'"' => {
                values += usize::from(top);
                let start = at + 1;
                at = end_of_string(bytes, start)?;
                let raw = &body[start..at];
                let (object, owner, within) = (frame.object, frame.owner, frame.class);
                let is_key = !top && (frame.close == b'}' || beyond > 0) && is_key(bytes, at + 1);
                if is_key {
                    frame.next = if beyond > 0 { Class::Text } else { class(&decoded(raw), within) };
                    frame.key = raw;
                }
                let what = if is_key { What::Key } else { What::Text };
                each(Part { what, raw, at: start, object, owner, class: frame.next, within });
            }
            _ => {
                values += usize::from(top);
                let in_literal = |b: &&u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
                let end = at + bytes[at..].iter().take_while(in_literal).count();
                let raw = &body[at..end];
                if raw.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
                    let (object, owner, class, within) = (frame.object, frame.owner, frame.next, frame.class);
                    each(Part { what: What::Number, raw, at, object, owner, class, within });
                } else if !matches!(raw, "true" | "false" | "null") {
                    return None;
                }
                at = end - 1;
            }
        }
        at += 1;
    }
    (stack.len() == 1 && beyond == 0 && values == 1).then_some(())
}

fn stack_is_top(frame: &Frame<'_>, beyond: usize) -> bool {
    frame.close == 0 && beyond == 0
}

/// Where a string ends that begins here: at its quote.
fn end_of_string(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn is_key(bytes: &[u8], from: usize) -> bool {
    bytes[from..].iter().find(|b| !b.is_ascii_whitespace()) == Some(&b':')
}

/// The text that a string stands for. One that stands for nothing is no account and no name.
pub fn decoded(raw: &str) -> Cow<'_, str> {
    if !raw.contains('\\') {
        return Cow::Borrowed(raw);
    }
    Cow::Owned(serde_json::from_str(&format!("\"{raw}\"")).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(body: &str) -> Option<Vec<String>> {
        let mut told = Vec::new();
        let mut tell = |p: Part<'_>| {
            let what = format!("{:?}", p.what).chars().next().unwrap_or_default();
            told.push(format!("{what}{}:{}", p.object, p.raw));
        };
        walk(body, &mut tell).map(|()| told)
    }

    #[test]
    fn parts_are_told_with_their_objects() {
        let body = r#" {"a" : "x\"y", "user": {"login":"z", "ids": [1, {"b":2.5e1}], "c":true}, "d":"e"} "#;
        let expected = [
            "O1:",
            "K1:a",
            "T1:x\\\"y",
            "K1:user",
            "O2:user",
            "K2:login",
            "T2:z",
            "K2:ids",
            "N2:1",
            "O3:ids",
            "K3:b",
            "N3:2.5e1",
            "K2:c",
            "K1:d",
            "T1:e",
        ];
        assert_eq!(parts(body).unwrap_or_default(), expected);
        assert_eq!(parts("\"a\"").unwrap_or_default(), ["T0:a"]);
    }

    #[test]
    fn what_is_no_json_is_told() {
        let none = [
            "",
            " ",
            "{",
            "}",
            "{]",
            "[}",
            "{\"a\":",
            "{\"a",
            "{\"a\\",
            "a=b",
            "{} {}",
            "{},1",
            "{\"a\":nul}",
            "é",
            "'a'",
        ];
        for none in none {
            assert_eq!(parts(none), None, "{none}");
        }
    }

    #[test]
    fn any_depth_is_walked() {
        let deep = "[".repeat(1_000_000) + "{\"a\":\"b\"}" + &"]".repeat(1_000_000);
        let told = parts(&deep).unwrap_or_default();
        assert_eq!(told.len(), 3);
        assert!(told[2].ends_with(":b"), "{told:?}");
        assert_eq!(parts(&deep[..deep.len() - 1]), None);
        let deep = "{\"a\":".repeat(100_000) + "1" + &"}".repeat(100_000);
        assert_eq!(parts(&deep).unwrap_or_default().len(), 200_001);
    }
}
