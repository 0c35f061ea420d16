//! One suite over every connector in [`ALL`].
//!
//! A case is `NAME/fixtures/CASE.headers.json` with the body `CASE.json` (or `CASE.form`) and `CASE.expected.json`: the
//! facts, rejections and names that the body says, as rows by column. Run with `FLOWSYNC_BLESS=1` to write the expected
//! files, and read the difference. The cases are of an invented organisation. No case holds a signature: the suite
//! signs them with [`SECRET`], as received at [`RECEIVED_AT`].
//!
//! Held here: the list equals the folder; fixtures match; every event, header and column is reached; only what the
//! sender signed is let in; a redelivery and an import are the same signal (I2); nothing that names a person is in a
//! fact (I8); no input panics, and a body cut short is rejected, not dropped (I10).

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use flowsync_schemas::{
    ColumnKind, Fact, FactBody, Micros, Parsed, Pseudonymizer, Row, Value as Cell,
    fact::{ActivityKind, FACT_TABLES},
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{
    ALL, Connector, Delivery, Secret, Verified, VerifyError, parse,
    sound::{self, SECRET, Signer, signer},
};

const RECEIVED_AT: &str = "2026-10-01T12:00:00Z";

/// Columns that no fixture fills, and why.
const UNREACHED: &[(&str, &str)] = &[
    ("fact_pull_requests.deleted", "GitHub does not delete pull requests"),
    ("fact_reviews.deleted", "GitHub dismisses reviews, it does not delete submitted ones"),
    ("fact_deployments.deleted", "GitHub tells nobody that a deployment was deleted"),
];

static PEOPLE: LazyLock<Pseudonymizer> = LazyLock::new(|| Pseudonymizer::new(&[7; 32]));

pub(super) struct Case {
    connector: &'static dyn Connector,
    pub name: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    expected: PathBuf,
}

impl Case {
    fn load(connector: &'static dyn Connector, folder: &Path, name: &str) -> Case {
        let headers: BTreeMap<String, String> =
            serde_json::from_slice(&fs::read(folder.join(format!("{name}.headers.json"))).unwrap()).unwrap();
        let read = |kind| fs::read(folder.join(format!("{name}.{kind}")));
        let body = read("json").or_else(|_| read("form"));
        let body = body.unwrap_or_else(|e| panic!("{name}.json or {name}.form in {}: {e}", folder.display()));
        let expected = folder.join(format!("{name}.expected.json"));
        let name = format!("{}/{name}", connector.spec().name);
        Case { connector, name, headers: headers.into_iter().collect(), body, expected }
    }

    fn signer(&self) -> Signer {
        signer(self.connector.spec().name)
    }

    fn signed(&self) -> Vec<(String, String)> {
        self.headers.iter().cloned().chain(self.signer().sign(&self.headers, &self.body)).collect()
    }

    fn verify(
        &self,
        headers: &[(String, String)],
        body: &[u8],
        secret: Option<&[u8]>,
    ) -> Result<Verified, VerifyError> {
        let delivery = Delivery { headers, body, received_at: received_at() };
        self.connector.verify(delivery, secret.map(Secret::new).as_ref())
    }

    fn imported(&self) -> Verified {
        let delivery = Delivery { headers: &self.headers, body: &self.body, received_at: received_at() };
        Verified::imported(self.connector.spec(), delivery, self.connector.delivery_id(delivery).as_deref())
    }

    fn verified(&self) -> Verified {
        if self.signer() == Signer::Local {
            return self.imported();
        }
        self.verify(&self.signed(), &self.body, Some(SECRET)).unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }

    /// The same delivery with another body, as if its sender had sent that.
    pub fn with_body(&self, body: Vec<u8>) -> Parsed<'static> {
        let mut signal = self.imported().into_signal();
        signal.body = body;
        sound::read(&Verified::from_log(signal), &PEOPLE)
    }
}

fn received_at() -> Micros {
    Micros::parse(RECEIVED_AT).unwrap()
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/connectors")
}

pub(super) static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let mut cases = Vec::new();
    for connector in ALL {
        let folder = sources().join(connector.spec().name).join("fixtures");
        let mut names: Vec<String> = fs::read_dir(&folder)
            .unwrap_or_else(|e| panic!("every connector has fixtures; {}: {e}", folder.display()))
            .filter_map(|file| Some(file.unwrap().file_name().to_str()?.strip_suffix(".headers.json")?.to_owned()))
            .collect();
        assert!(!names.is_empty(), "{} has no case", folder.display());
        names.sort();
        cases.extend(names.iter().map(|name| Case::load(*connector, &folder, name)));
    }
    cases
});

/// A fact by column: times as text, so that a person can read them.
fn readable(fact: &Fact) -> Value {
    let table = &FACT_TABLES[fact.table()];
    let mut out = Map::from_iter([("table".to_owned(), json!(table.name))]);
    for (column, cell) in (table.columns)().iter().zip(fact.clone().into_row()) {
        let value = match (column.kind, cell) {
            // The id of the signal is the same on all of them, and tested by itself.
            _ if column.name == "signal" || column.name == "seq" => continue,
            (_, Cell::Null) => continue,
            (ColumnKind::Timestamp, Cell::Int(at)) => json!(Micros(at).to_string()),
            (_, Cell::Int(int)) => json!(int),
            (_, Cell::Bool(bool)) => json!(bool),
            (_, Cell::Text(text)) => json!(&*text),
        };
        out.insert(column.name.to_owned(), value);
    }
    Value::Object(out)
}

fn said(parsed: &Parsed<'_>) -> Value {
    json!({
        "facts": parsed.facts.iter().map(readable).collect::<Vec<_>>(),
        "rejections": parsed.rejections.iter().map(|r| &*r.reason).collect::<Vec<_>>(),
        "names": parsed.names.iter().map(|n| json!([n.person.to_string(), n.name, n.account])).collect::<Vec<_>>(),
    })
}

#[test]
fn the_list_equals_the_folder() {
    let mut files = BTreeSet::new();
    for file in fs::read_dir(sources()).unwrap() {
        let path = file.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let is_source = path.extension().is_some_and(|e| e == "rs");
        if is_source && stem != "conformance" && fs::read_to_string(&path).unwrap().contains("\nimpl Connector for ") {
            files.insert(stem);
        }
    }
    let list: BTreeSet<String> = ALL.iter().map(|c| c.spec().name.to_owned()).collect();
    assert_eq!(list, files);
    assert_eq!(list.len(), ALL.len(), "a name occurs twice");
}

#[test]
fn fixtures_match() {
    let bless = std::env::var_os("FLOWSYNC_BLESS").is_some();
    for case in CASES.iter() {
        let said = said(&parse(&case.verified(), &PEOPLE));
        if bless {
            fs::write(&case.expected, serde_json::to_string_pretty(&said).unwrap() + "\n").unwrap();
            continue;
        }
        let expected =
            fs::read(&case.expected).unwrap_or_else(|e| panic!("{}: {e}: run with FLOWSYNC_BLESS=1", case.name));
        let expected: Value = serde_json::from_slice(&expected).unwrap();
        assert_eq!(said, expected, "{}: wanted on the right; if it is meant, run with FLOWSYNC_BLESS=1", case.name);
    }
}

#[test]
fn a_case_says_or_rejects_what_its_name_promises() {
    for case in CASES.iter() {
        let parsed = parse(&case.verified(), &PEOPLE);
        assert_eq!(
            case.name.contains("rejected"),
            !parsed.rejections.is_empty(),
            "{}: {:?}",
            case.name,
            parsed.rejections
        );
    }
}

#[test]
fn every_event_and_header_of_a_spec_is_reached() {
    for connector in ALL {
        let spec = connector.spec();
        let cases = || CASES.iter().filter(|c| c.connector.spec().name == spec.name);
        for event in spec.events {
            let reached = |c: &Case| {
                c.name.contains(event)
                    || c.headers.iter().any(|(_, value)| value == event)
                    || String::from_utf8_lossy(&c.body).contains(event)
            };
            assert!(cases().any(reached), "{}: no fixture of the event {event}", spec.name);
        }
        for header in spec.headers {
            assert!(cases().any(|c| c.signed().iter().any(|(name, _)| name == header)), "{}: {header}", spec.name);
        }
    }
}

#[test]
fn every_column_of_every_fact_is_reached() {
    let rows: Vec<(usize, Row)> = CASES
        .iter()
        .flat_map(|case| parse(&case.verified(), &PEOPLE).facts)
        .map(|fact| (fact.table(), fact.into_row()))
        .collect();
    let mut unreached = BTreeSet::new();
    for (index, table) in FACT_TABLES.iter().enumerate() {
        for (place, column) in (table.columns)().iter().enumerate().skip(2) {
            let filled = |cell: &Cell| !matches!(cell, Cell::Null | Cell::Bool(false)) && cell.as_text() != Some("");
            if !rows.iter().any(|(of, row)| *of == index && filled(&row[place])) {
                unreached.insert(format!("{}.{}", table.name, column.name));
            }
        }
    }
    let allowed: BTreeSet<String> = UNREACHED.iter().map(|(column, _)| (*column).to_owned()).collect();
    assert_eq!(unreached, allowed, "unreached on the left, listed as such on the right");
}

#[test]
fn tampering_and_missing_secrets_fail() {
    for case in CASES.iter() {
        let (name, signer, headers) = (&case.name, case.signer(), case.signed());
        if signer == Signer::Local {
            assert!(case.verify(&case.headers, &case.body, Some(SECRET)).is_err(), "{name}");
            continue;
        }
        let no_secret = VerifyError::NoSecret(case.connector.spec().name);
        assert_eq!(case.verify(&headers, &case.body, None), Err(no_secret.clone()), "{name}");
        assert_eq!(case.verify(&headers, &case.body, Some(b"")), Err(no_secret), "{name}: empty secret");
        assert!(case.verify(&headers, &case.body, Some(b"another secret")).is_err(), "{name}: another secret");
        assert!(case.verify(&case.headers, &case.body, Some(SECRET)).is_err(), "{name}: unsigned");
        if signer != Signer::Token {
            for place in [0, case.body.len() / 2, case.body.len() - 1] {
                let mut body = case.body.clone();
                body[place] ^= 1;
                assert!(case.verify(&headers, &body, Some(SECRET)).is_err(), "{name}: byte {place} flipped");
            }
        }
        let (header, value) = headers.last().unwrap().clone();
        for place in 0..value.len() {
            let mut tampered = value.clone().into_bytes();
            // Flips a letter's case nowhere: of hexadecimal digits that would be the same number.
            tampered[place] = if tampered[place] == b'0' { b'1' } else { b'0' };
            let mut headers = case.headers.clone();
            headers.push((header.clone(), String::from_utf8(tampered).unwrap()));
            assert!(case.verify(&headers, &case.body, Some(SECRET)).is_err(), "{name}: character {place} of {header}");
        }
    }
}

#[test]
fn replay_redelivery_and_import_are_the_same_signal() {
    let mut ids = BTreeMap::new();
    for case in CASES.iter() {
        let verified = case.verified();
        let first = parse(&verified, &PEOPLE);
        let replayed = Verified::from_log(verified.signal().clone());
        assert_eq!(parse(&replayed, &PEOPLE).facts, first.facts, "{}", case.name);
        assert_eq!(case.imported().signal().id, verified.signal().id, "{}: import", case.name);
        if case.signer() != Signer::Local {
            let headers = case.signed();
            let later = Micros(received_at().0 + 60_000_000);
            let delivery = Delivery { headers: &headers, body: &case.body, received_at: later };
            let again = case.connector.verify(delivery, Some(&Secret::new(SECRET))).unwrap();
            assert_eq!(again.signal().id, verified.signal().id, "{}: redelivery", case.name);
        }
        let kept: Vec<_> = verified.signal().headers.iter().map(|(name, _)| name.as_str()).collect();
        assert!(kept.iter().all(|name| case.connector.spec().headers.contains(name)), "{}: {kept:?}", case.name);
        if let Some(other) = ids.insert(verified.signal().id, &case.name) {
            panic!("{} and {other} are one signal: give them different delivery ids", case.name);
        }
    }
}

#[test]
fn every_case_is_sound() {
    for case in CASES.iter() {
        sound::read(&case.verified(), &PEOPLE);
    }
}

#[test]
fn nothing_that_names_a_person_is_in_a_fact() {
    for case in CASES.iter() {
        let parsed = parse(&case.verified(), &PEOPLE);
        let mut said = serde_json::to_string(&parsed.facts).unwrap().to_lowercase();
        parsed.rejections.iter().for_each(|r| said.push_str(&r.reason.to_lowercase()));
        let is_bot = |person| {
            let body = |f: &Fact| matches!(&f.body, FactBody::Account(a) if a.person == person && a.bot);
            parsed.facts.iter().any(body)
        };
        // "GitHub", who merges, is nobody's name.
        for claim in parsed.names.iter().filter(|claim| !is_bot(claim.person)) {
            let account = claim.account.rsplit_once(':').map_or(&*claim.account, |(_, login)| login);
            for raw in [&*claim.name, account] {
                assert!(!said.contains(&raw.to_lowercase()), "{}: {raw:?} is in the facts (I8)", case.name);
            }
        }
    }
}

#[test]
fn activities_of_all_tools_have_ids_of_their_own() {
    let mut seen = BTreeMap::new();
    for case in CASES.iter() {
        for fact in parse(&case.verified(), &PEOPLE).facts {
            if let FactBody::Activity(activity) = fact.body {
                let key: (ActivityKind, _) = (activity.kind, activity.activity);
                let source = case.connector.spec().name;
                assert_eq!(*seen.entry(key.clone()).or_insert(source), source, "{key:?}");
            }
        }
    }
}

#[test]
fn a_body_cut_short_is_rejected() {
    for case in CASES.iter() {
        let says = !parse(&case.imported(), &PEOPLE).facts.is_empty();
        let one_json = serde_json::from_slice::<serde::de::IgnoredAny>(&case.body).is_ok();
        for end in (0..case.body.trim_ascii_end().len()).step_by(1 + case.body.len() / 512) {
            let parsed = case.with_body(case.body[..end].to_vec());
            if says && one_json {
                assert!(!parsed.rejections.is_empty(), "{}: {end} bytes are silently dropped", case.name);
                assert!(parsed.facts.is_empty(), "{}: {end} bytes", case.name);
            }
        }
    }
}

/// Replaces the value at the n-th place of a document, in the order of a walk.
pub(super) fn replace(document: &mut Value, place: &mut usize, with: &Value) {
    if *place == 0 {
        *document = with.clone();
    }
    *place = place.wrapping_sub(1);
    match document {
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, place, with)),
        Value::Object(fields) => fields.values_mut().for_each(|field| replace(field, place, with)),
        _ => {}
    }
}

pub(super) fn places(document: &Value) -> usize {
    1 + match document {
        Value::Array(items) => items.iter().map(places).sum(),
        Value::Object(fields) => fields.values().map(places).sum(),
        _ => 0,
    }
}

/// Values that payloads should not have, at some place or other.
fn strange() -> Vec<Value> {
    let deep = (0..200).fold(json!(0), |inner, _| json!([inner]));
    vec![
        Value::Null,
        json!(true),
        json!(0),
        json!(-1),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(1e300),
        json!(""),
        json!("-"),
        json!("A-1"),
        json!("9999-99-99T99:99:99Z"),
        json!("+262142-12-31T23:59:59Z"),
        json!("ada@example.org"),
        json!("\u{0}\u{1F600}é"),
        json!("\\/#:-issue/comment/rest/"),
        json!([]),
        json!({}),
        json!([null, {}, [], 7]),
        deep,
    ]
}

fn repeats_no_value(name: &str, parsed: &Parsed<'_>) {
    for rejection in &parsed.rejections {
        let reason = &rejection.reason;
        assert!(!reason.contains("ada@example.org"), "{name}: a rejection repeats a value: {reason}");
    }
}

#[test]
fn a_strange_value_at_any_place_is_data() {
    let strange = strange();
    for case in CASES.iter() {
        let Ok(document) = serde_json::from_slice::<Value>(&case.body) else { continue };
        for place in 0..places(&document) {
            for with in &strange {
                let mut mutated = document.clone();
                replace(&mut mutated, &mut place.clone(), with);
                let parsed = case.with_body(mutated.to_string().into_bytes());
                repeats_no_value(&format!("{} with {with} at {place}", case.name), &parsed);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn mutated_bytes_never_panic(
        case in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..8),
    ) {
        let case = case.get(&CASES);
        let mut body = case.body.clone();
        for (place, byte, how) in edits {
            let place = place.index(body.len());
            match how {
                0 => body[place] = byte,
                1 => body.insert(place, byte),
                _ => drop(body.splice(place..(place + usize::from(byte)).min(body.len() - 1), [])),
            }
        }
        repeats_no_value(&case.name, &case.with_body(body));
    }
}
