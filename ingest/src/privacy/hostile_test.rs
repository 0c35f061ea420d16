//! Whatever the bytes are: nothing panics, nothing is changed twice, nothing is left, and the time is that of the bytes.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use flowsync_schemas::Signal;
use proptest::prelude::*;

use super::{
    Subject,
    tests::{of, signal},
};

fn ada() -> Subject {
    of(
        &[
            ("Ada Lovelace", "ada.l@example.org"),
            ("", "github:ada-l"),
            ("", "7+ada-l@users.noreply.github.com"),
            ("fix", "jira:fix"),
            ("Łukasz Ó", "slack:U024BE7LH"),
            ("a a a a a a a a b", "git:a a a a a a a a b"),
        ],
        &["countess-99"],
    )
}

/// What may be left of nobody, in lower case.
const HIDDEN: &[&str] = &["ada lovelace", "ada.l@example.org", "ada-l", "u024be7lh", "countess-99"];

/// Texts that meet in a body.
fn piece() -> impl Strategy<Value = String> {
    let own = prop::sample::select(vec![
        "Ada Lovelace",
        "ADA  lovelace",
        "ada.l@example.org",
        "Ada.L@Example.org",
        "ada-l",
        "@ada-l",
        "Ada-L",
        "fix",
        "7+ada-l@users.noreply.github.com",
        "U024BE7LH",
        "<@U024BE7LH|fix>",
        "countess-99",
        "Łukasz Ó",
        "Lovelace, Ada",
        "https://github.com/ada-l/shop/pull/1",
        "ada%2Dl",
        "ada%2el%40example.org",
        "Ada%20Lovelace",
        "Ada+Lovelace",
        "\\u0061da-l",
        "ada-\\u006C",
        "Merge pull request #1 from ada-l/fix",
        "user_id=U024BE7LH",
        "SHOP-12",
    ]);
    let mark = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        "\"",
        ":",
        ",",
        "\\",
        "\\n",
        "\\u",
        "%",
        "%4",
        "&",
        "=",
        "+",
        "@",
        "/",
        "|",
        "<",
        ">",
        " ",
        "\n",
        "é",
        "-",
        "_",
        ".",
        "#",
        "(",
        "login",
        "\"login\":\"",
        "\"name\":",
        "\"user\":{",
        "erased-1a2b3c4d5e",
        "0",
    ]);
    prop_oneof![own.prop_map(str::to_owned), mark.prop_map(str::to_owned), any::<char>().prop_map(String::from)]
}

/// A JSON value with these strings.
fn json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let text = prop::collection::vec(piece(), 0..4).prop_map(|pieces| pieces.join(" ")).boxed();
    let key = prop_oneof![
            3 => prop::sample::select(vec![
                "login", "name", "email", "user", "id", "displayName", "profile", "title", "field", "from", "status", "state",
                "avatarUrls", "U024BE7LH", "ada-l", "full_name", "accountId", "key", "html_url",
            ]).prop_map(str::to_owned),
    // Two spellings of one login as keys would become one key.
            1 => any::<char>().prop_map(String::from),
        ];
    let leaf = prop_oneof![text.prop_map(Value::from), any::<i32>().prop_map(Value::from), Just(Value::Null)];
    leaf.prop_recursive(4, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..5).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

fn sources() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["github", "jira", "slack", "git", "manual", "settings", "other"])
}

/// Holds for every signal.
fn sound(subject: &Subject, before: &Signal) -> Option<Signal> {
    let after = subject.redact(before);
    assert_eq!(after.is_some(), subject.is_in(before));
    let after = after?;
    assert_ne!(&after, before);
    assert_eq!(subject.redact(&after), None, "{:?}", String::from_utf8_lossy(&before.body));
    assert_eq!((after.id, &after.source, after.received_at), (before.id, &before.source, before.received_at));
    Some(after)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn any_bytes(source in sources(), bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        sound(&ada(), &signal(source, bytes));
    }

    #[test]
    fn any_pieces(source in sources(), pieces in prop::collection::vec(piece(), 0..24), broken in any::<bool>()) {
        let mut bytes = pieces.concat().into_bytes();
        if broken {
            bytes.push(0xff);
        }
        sound(&ada(), &signal(source, bytes));
    }

    #[test]
    fn json_stays_json_and_nothing_is_left(source in sources(), value in json(), ascii in any::<bool>()) {
        let mut body = value.to_string();
        if ascii {
            // As others write it.
            let escaped = |c: char| if c.is_ascii() { c.to_string() } else { c.encode_utf16(&mut [0; 2]).iter().map(|u| format!("\\u{u:04x}")).collect() };
            body = body.chars().map(escaped).collect();
        }
        let before = signal(source, body.clone());
        let after = sound(&ada(), &before).unwrap_or(before);
        let after: serde_json::Value = serde_json::from_slice(&after.body).unwrap();
        prop_assert_eq!(shape(&after), shape(&value));
        left(&after, &mut |text, vocabulary| {
            let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || matches!(c, '<' | '>' | '|' | '"' | '(' | ')' | ',')).collect();
            let alone = words.iter().find(|word| HIDDEN.contains(&&*word.to_lowercase()));
            assert!(vocabulary || alone.is_none(), "{alone:?} is left in {after}");
        });
    }

    #[test]
    fn who_is_not_in_it_changes_nothing(source in sources(), value in json()) {
        // The shortest login that no text is made to hold: a letter alone is among the characters that are drawn.
        let other = of(&[("Grace Hopper", "grace@example.com"), ("", "github:grace-h"), ("qz", "jira:qz")], &[]);
        prop_assert_eq!(other.redact(&signal(source, value.to_string())), None);
        prop_assert_eq!(other.redact(&signal(source, value.to_string().replace('{', "("))), None);
    }
}

/// Kinds of values, without what they are.
fn shape(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Null => "0".to_owned(),
        Value::Bool(_) => "b".to_owned(),
        Value::Number(_) => "n".to_owned(),
        Value::String(_) => "s".to_owned(),
        Value::Array(list) => format!("[{}]", list.iter().map(shape).collect::<Vec<_>>().join(",")),
        // Keys that are accounts become others, in another order.
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.values().map(shape).collect();
            fields.sort();
            format!("{{{}}}", fields.join(","))
        }
    }
}

/// Every text of a value, and whether it is the tool's own word.
fn left(value: &serde_json::Value, each: &mut dyn FnMut(&str, bool)) {
    fn go(value: &serde_json::Value, own: bool, each: &mut dyn FnMut(&str, bool)) {
        match value {
            serde_json::Value::String(text) => each(text, own),
            serde_json::Value::Array(list) => list.iter().for_each(|inner| go(inner, own, each)),
            serde_json::Value::Object(fields) => {
                for (key, inner) in fields {
                    go(inner, own || matches!(key.as_str(), "state" | "field" | "status"), each);
                }
            }
            _ => {}
        }
    }
    go(value, false, each);
}

#[test]
fn time_grows_with_the_bytes() {
    let subject = ada();
    let shapes: [fn(usize) -> String; 9] = [
        |n| "a ".repeat(n),
        |n| "ada-l.".repeat(n),
        |n| format!("{{\"a\":\"{}\"}}", "\\u0061".repeat(n)),
        |n| "[".repeat(n) + &"]".repeat(n),
        |n| "{\"login\":".repeat(n) + "1" + &"}".repeat(n),
        |n| format!("[{}0]", "{\"name\":\"ada-l\",\"id\":1},".repeat(n)),
        |n| "%61".repeat(n),
        |n| "a=ada-l&".repeat(n) + "a=b",
        |n| "https://x.org/".to_owned() + &"fix/".repeat(n),
    ];
    for (number, shape) in shapes.iter().enumerate() {
        // The best of three: other tests run beside this one.
        let time = |n: usize| {
            let signal = signal("github", shape(n));
            let once = || {
                let began = Instant::now();
                subject.is_in(&signal);
                began.elapsed()
            };
            [once(), once(), once()].into_iter().min().unwrap()
        };
        let (small, large) = (time(4_000), time(64_000));
        // Sixteen times the bytes; a square would take 256 times as long.
        let bound = small.max(Duration::from_millis(2)) * 100;
        assert!(large < bound, "shape {number}: {small:?} and {large:?}");
    }
}
