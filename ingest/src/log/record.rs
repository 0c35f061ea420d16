//! A signal as bytes: one format byte, the envelope in postcard, then the raw body up to the end. That is format 1; format 2
//! is the same, sealed (log/sealed.rs).
//!
//! Invariants: an old record stays readable by every newer build (the kept sample holds that); what a record looks like
//! does not follow from how `Signal` is declared, so a change there cannot change the format unseen; decoding any bytes
//! ends in a signal or an error (I10). There is no checksum here: the store verifies one over every block that it
//! reads, from its journal and from its tables.

use flowsync_schemas::{Micros, Signal, SignalId};
use serde::{Deserialize, Serialize};

/// The format that this build writes, and the newest that it reads. A change of [`Envelope`] takes a new number, a new
/// struct, and a new sample.
pub const FORMAT: u8 = SEALED;

/// As older builds wrote it, and as it is sealed.
const PLAIN: u8 = 1;

/// Format 1, sealed with a key of its own.
pub(super) const SEALED: u8 = 2;

/// Format 1. Field order is the format.
#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    id: [u8; 16],
    source: &'a str,
    delivery: &'a str,
    occurred_at: Option<i64>,
    received_at: i64,
    // As its word: the order of an enum's variants is no format.
    channel: &'a str,
    verified_by: &'a str,
    #[serde(borrow)]
    headers: Vec<(&'a str, &'a str)>,
}

/// Why bytes are no record.
#[derive(Debug, PartialEq, Eq)]
pub enum RecordError {
    /// A newer build wrote it.
    Newer(u8),
    /// It is sealed, and was to be read without a key.
    Sealed,
    /// It is damaged.
    Damaged(String),
}

/// A signal in format 1, as older builds kept it.
#[cfg(any(test, fuzzing))]
pub fn encode(signal: &Signal) -> Vec<u8> {
    encode_to(Vec::with_capacity(192 + signal.body.len()), signal)
}

/// A signal in format 1, behind what is in `out`.
pub(super) fn encode_to(mut out: Vec<u8>, signal: &Signal) -> Vec<u8> {
    let envelope = Envelope {
        id: signal.id.0.to_be_bytes(),
        source: &signal.source,
        delivery: &signal.delivery,
        occurred_at: signal.occurred_at.map(|t| t.0),
        received_at: signal.received_at.0,
        channel: signal.channel.word(),
        verified_by: &signal.verified_by,
        headers: signal.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect(),
    };
    out.push(PLAIN);
    #[allow(clippy::expect_used)] // Strings, integers and a list of known length: postcard refuses none, a Vec grows.
    let mut out = postcard::to_extend(&envelope, out).expect("an envelope can be encoded");
    out.extend_from_slice(&signal.body);
    out
}

/// The signal of a record of format 1.
pub fn decode(bytes: &[u8]) -> Result<Signal, RecordError> {
    let damaged = |what: String| RecordError::Damaged(what);
    let (&format, rest) = bytes.split_first().ok_or_else(|| damaged("an empty record".into()))?;
    if format > FORMAT {
        return Err(RecordError::Newer(format));
    }
    match format {
        0 => return Err(damaged("record format 0 does not exist".into())),
        SEALED => return Err(RecordError::Sealed),
        _ => {}
    }
    let (envelope, body) = postcard::take_from_bytes::<Envelope<'_>>(rest)
        .map_err(|e| damaged(format!("the envelope ends badly: {e}")))?;
    Ok(Signal {
        id: SignalId(u128::from_be_bytes(envelope.id)),
        source: envelope.source.to_owned(),
        delivery: envelope.delivery.to_owned(),
        occurred_at: envelope.occurred_at.map(Micros),
        received_at: Micros(envelope.received_at),
        channel: envelope.channel.parse().map_err(damaged)?,
        verified_by: envelope.verified_by.to_owned(),
        headers: envelope.headers.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
        body: body.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use flowsync_schemas::Channel;
    use proptest::prelude::*;

    use super::*;

    /// The signals of `sample/v1.hex`, one record a line.
    fn sample() -> Vec<Signal> {
        let plain = Signal {
            id: SignalId::of_delivery("github", "72d3162e"),
            source: "github".into(),
            delivery: "72d3162e".into(),
            occurred_at: Some(Micros::from_secs(1_790_000_000)),
            received_at: Micros(1_790_000_001_000_007),
            channel: Channel::Webhook,
            verified_by: "hmac-sha256".into(),
            headers: vec![("x-github-delivery".into(), "72d3162e".into()), ("x-github-event".into(), "ping".into())],
            body: br#"{"zen":"Keep it logically awesome."}"#.to_vec(),
        };
        let body = vec![0, 255, b'\n', 0x80];
        let raw = Signal {
            id: SignalId::of_bytes("manual", &body),
            source: "manual".into(),
            delivery: String::new(),
            occurred_at: None,
            received_at: Micros(-1),
            channel: Channel::ManualUserReport,
            verified_by: "api-token".into(),
            headers: vec![],
            body,
        };
        let empty = Signal { channel: Channel::Import, body: vec![], ..plain.clone() };
        vec![plain, raw, empty]
    }

    #[test]
    fn records_of_the_first_format_stay_readable_and_are_still_written() {
        let kept: Vec<Vec<u8>> = include_str!("sample/v1.hex").lines().map(|line| hex::decode(line).unwrap()).collect();
        let read: Vec<Signal> = kept.iter().map(|record| decode(record).unwrap()).collect();
        assert_eq!(read, sample(), "an old log would no longer be readable");
        // Other bytes for the same signals are another format: they need a new number and a new sample.
        assert_eq!(kept, sample().iter().map(encode).collect::<Vec<_>>());
    }

    #[test]
    fn a_newer_format_is_told_apart_from_damage() {
        let mut record = encode(&sample()[0]);
        record[0] = FORMAT + 1;
        assert_eq!(decode(&record), Err(RecordError::Newer(FORMAT + 1)));
        record[0] = SEALED;
        assert_eq!(decode(&record), Err(RecordError::Sealed));
        record[0] = 0;
        assert!(matches!(decode(&record), Err(RecordError::Damaged(_))));
        assert!(matches!(decode(&[]), Err(RecordError::Damaged(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(which in 0..3usize, flips in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..6), cut: usize) {
            let mut record = encode(&sample()[which]);
            for (at, to) in flips {
                let at = at % record.len();
                record[at] = to;
            }
            record.truncate(cut % (record.len() + 1));
            let _ = decode(&record);
        }
    }
}
