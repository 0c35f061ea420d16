//! A signal as bytes: one format byte, the envelope in postcard, then the raw body up to the end. That is format 1; format 2
//! is the same, packed and sealed (log/sealed.rs).
//!
//! ```text
//! packed:  record of format 1                                              where that is not longer
//!          'L' ‖ length of the record (4, big-endian) ‖ its LZ4 block
//! ```
//!
//! Invariants: an old record stays readable by every newer build (the kept sample holds that); what a record looks like
//! does not follow from how `Signal` is declared, so a change there cannot change the format unseen; decoding any bytes
//! ends in a signal or an error (I10), and takes no more memory than a record may have (I9). There is no checksum here: the store verifies one over every block that it
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

/// What is sealed begins with it where it was made smaller.
const PACKED: u8 = b'L';

/// Largest record. Bodies are limited far below by whoever receives them.
pub(super) const RECORD_BYTES_MAX: usize = 256 << 20;

/// No LZ4 block stands for more bytes than this for each of its own.
const EXPANSION_MAX: usize = 256;

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

/// A signal as it is sealed, behind what is in `out`. What is sealed cannot be made smaller later.
pub fn pack_to(mut out: Vec<u8>, signal: &Signal) -> Vec<u8> {
    let (at, plain) = (out.len(), encode_to(Vec::with_capacity(192 + signal.body.len()), signal));
    // What is longer is refused as a record, and would not be read.
    if let (Ok(length), true) = (u32::try_from(plain.len()), plain.len() <= RECORD_BYTES_MAX) {
        out.push(PACKED);
        out.extend(length.to_be_bytes());
        let block = out.len();
        out.resize(block + lz4_flex::block::get_maximum_output_size(plain.len()), 0);
        if let Ok(bytes) = lz4_flex::block::compress_into(&plain, &mut out[block..])
            && block + bytes < at + plain.len()
        {
            out.truncate(block + bytes);
            return out;
        }
    }
    out.truncate(at);
    out.extend(plain);
    out
}

/// The signal that [`pack_to`] wrote.
pub fn unpack(bytes: &[u8]) -> Result<Signal, RecordError> {
    let Some((&PACKED, rest)) = bytes.split_first() else { return decode(bytes) };
    let damaged = |what: &str| RecordError::Damaged(what.to_owned());
    let (length, block) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("a packed record is too short"))?;
    let length = u32::from_be_bytes(*length) as usize;
    if length > RECORD_BYTES_MAX || length > block.len().saturating_mul(EXPANSION_MAX) {
        return Err(damaged("a packed record says that it is longer than it can be"));
    }
    let mut plain = vec![0; length];
    match lz4_flex::block::decompress_into(block, &mut plain) {
        Ok(found) if found == length => decode(&plain),
        Ok(_) => Err(damaged("a packed record is shorter than it says")),
        Err(error) => Err(RecordError::Damaged(format!("a packed record cannot be unpacked: {error}"))),
    }
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

    fn text() -> Signal {
        Signal { body: "{\"ticket\": \"OPS-17\"}".repeat(40).into_bytes(), ..sample().remove(0) }
    }

    #[test]
    fn what_can_become_smaller_does_and_nothing_becomes_larger() {
        for signal in sample().into_iter().chain([text()]) {
            let (packed, plain) = (pack_to(vec![7], &signal), encode(&signal));
            assert_eq!((packed[0], unpack(&packed[1..]).unwrap()), (7, signal));
            assert!(packed.len() <= 1 + plain.len());
        }
        assert!(pack_to(vec![], &text()).len() * 3 < encode(&text()).len());
        assert_eq!(unpack(&encode(&sample()[0])).unwrap(), sample()[0]);
    }

    #[test]
    fn a_packed_record_takes_no_more_memory_than_it_can_stand_for() {
        let packed = pack_to(vec![], &text());
        for length in [0, 1, encode(&text()).len() as u32 - 1, encode(&text()).len() as u32 + 1, 1 << 28, u32::MAX] {
            let mut bad = packed.clone();
            bad[1..5].copy_from_slice(&length.to_be_bytes());
            assert!(matches!(unpack(&bad), Err(RecordError::Damaged(_))), "{length}");
        }
        for short in 0..packed.len() {
            assert!(unpack(&packed[..short]).is_err(), "{short}");
        }
        // Packed twice is no record.
        let mut twice = vec![PACKED];
        twice.extend((packed.len() as u32).to_be_bytes());
        twice.extend(lz4_flex::block::compress(&packed));
        assert!(unpack(&twice).is_err());
    }

    proptest! {
        #[test]
        fn no_packed_bytes_panic(flips in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..6), cut: usize) {
            let mut packed = pack_to(vec![], &text());
            for (at, to) in flips {
                let at = at % packed.len();
                packed[at] = to;
            }
            packed.truncate(cut % (packed.len() + 1));
            let _ = unpack(&packed);
        }

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
