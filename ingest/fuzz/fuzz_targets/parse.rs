//! Any bytes, as the body of any connector: what is read is sound, and the same each time.
//!
//! An input is a body, read by every connector without headers, so that a fixture is an input as it stands. An input
//! that opens with a byte below 8 is read by one connector: that byte chooses it, and a line follows with the value of
//! the headers that it keeps; where the line is one byte, that byte chooses among the values that tools send.

#![no_main]

use std::sync::LazyLock;

use flowsync_ingest::connectors::{ALL, Connector, Delivery, Verified, sound};
use flowsync_schemas::{Micros, Pseudonymizer};
use libfuzzer_sys::fuzz_target;

static PEOPLE: LazyLock<Pseudonymizer> = LazyLock::new(|| Pseudonymizer::new(&[7; 32]));

/// Values of headers that no connector lists among its events.
const VALUES: &[&str] = &[
    "1790856000",
    "https://jira.example.org/rest/api/3/issue/SHOP-1/remotelink",
    "https://jira.example.org/rest/dev-status/1.0/issue/detail?issueId=10001",
];

fuzz_target!(|data: &[u8]| match data {
    [which @ ..8, rest @ ..] => {
        let connector = ALL[usize::from(*which) % ALL.len()];
        let (line, body) = rest.split_at(rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()));
        let value = match line {
            [choice] => {
                let values: Vec<&str> = connector.spec().events.iter().chain(VALUES).copied().collect();
                values[usize::from(*choice) % values.len()].to_owned()
            }
            text => String::from_utf8_lossy(text).into_owned(),
        };
        read(connector, &value, body.get(1..).unwrap_or_default());
    }
    body => ALL.iter().for_each(|connector| read(*connector, "", body)),
});

/// Reads a recorded delivery: those that importers hand over are parsed as those that a sender signed.
fn read(connector: &dyn Connector, value: &str, body: &[u8]) {
    let spec = connector.spec();
    let kept = spec.headers.iter().filter(|_| !value.is_empty());
    let headers: Vec<_> = kept.map(|name| ((*name).to_owned(), value.to_owned())).collect();
    let delivery = Delivery { headers: &headers, body, received_at: Micros::from_secs(1_790_856_000) };
    let id = connector.delivery_id(delivery);
    let verified = Verified::imported(spec, delivery, id.as_deref());
    assert_eq!(verified.signal().body, body);
    sound::read(&verified, &PEOPLE);
}
