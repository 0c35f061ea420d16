//! Sealed signals: record format 2, and what stands for a withdrawn record.
//!
//! ```text
//! record:       2 ‖ sealed packed record                        with the key of its offset
//! replacement:  2 ‖ its number (8) ‖ sealed packed record       with the key of its number, for its offset only
//! ```
//!
//! Invariants: as for format 1 (log/record.rs): a kept sample stays readable, decoding any bytes ends in a signal or an error
//! (I10). A sealed record opens with one key to one signal, so that a key that is disclosed proves what was sealed.

use flowsync_schemas::Signal;

use super::record::{self, RecordError, SEALED};
use crate::seal::{self, Broken, HEAD, NONCE_BYTES, Purpose, Secret};

/// Bytes that sealing adds to a packed record.
pub(super) const OVERHEAD: usize = 1 + HEAD + seal::TAIL;

fn sealed(prefix: &[u8], context: &[u8], signal: &Signal, key: &Secret, nonce: [u8; NONCE_BYTES]) -> Vec<u8> {
    let mut out = Vec::with_capacity(prefix.len() + OVERHEAD + 192 + signal.body.len());
    out.extend(prefix);
    out.resize(prefix.len() + HEAD, 0);
    let mut out = record::pack_to(out, signal);
    seal::seal_in_place(key, context, nonce, &mut out, prefix.len());
    out
}

fn opened(context: &[u8], text: &[u8], key: &Secret) -> Result<Signal, RecordError> {
    let damaged = |what: &str| RecordError::Damaged(what.to_owned());
    let plain = seal::open(key, context, text).map_err(|broken| match broken {
        Broken::OtherKey => damaged("it is sealed with another key than the ring has for it"),
        Broken::Damaged => damaged("it is not what was sealed"),
    })?;
    record::unpack(&plain)
}

/// The record of a signal at an offset. A nonce is used once.
pub(crate) fn seal(signal: &Signal, offset: u64, key: &Secret, nonce: [u8; NONCE_BYTES]) -> Vec<u8> {
    sealed(&[SEALED], &Purpose::Records.context(offset), signal, key, nonce)
}

/// The signal of a record at an offset. Of format 1 it needs no key.
pub(crate) fn open(record: &[u8], offset: u64, key: &Secret) -> Result<Signal, RecordError> {
    match record.split_first() {
        Some((&SEALED, text)) => opened(&Purpose::Records.context(offset), text, key),
        _ => record::decode(record),
    }
}

/// What stands for the record at an offset, as it is stored. A nonce is used once.
pub(super) fn seal_replacement(
    signal: &Signal,
    number: u64,
    offset: u64,
    key: &Secret,
    nonce: [u8; NONCE_BYTES],
) -> Vec<u8> {
    let mut prefix = vec![SEALED];
    prefix.extend(number.to_be_bytes());
    sealed(&prefix, &replacement(number, offset), signal, key, nonce)
}

fn replacement(number: u64, offset: u64) -> Vec<u8> {
    [&Purpose::Replacements.context(number)[..], &offset.to_be_bytes()].concat()
}

fn split(value: &[u8]) -> Result<(u64, &[u8]), RecordError> {
    match value.split_first().map(|(format, rest)| (*format, rest.split_first_chunk::<8>())) {
        Some((SEALED, Some((number, text)))) => Ok((u64::from_be_bytes(*number), text)),
        Some((format, _)) if format > SEALED => Err(RecordError::Newer(format)),
        _ => Err(RecordError::Damaged("what stands for it is no replacement".to_owned())),
    }
}

/// The number of a replacement.
pub(super) fn number(value: &[u8]) -> Result<u64, RecordError> {
    split(value).map(|(number, _)| number)
}

/// The signal that stands for the record at an offset.
pub(super) fn open_replacement(value: &[u8], offset: u64, key: &Secret) -> Result<Signal, RecordError> {
    let (number, text) = split(value)?;
    opened(&replacement(number, offset), text, key)
}

/// Whether a record needs its key.
pub(crate) fn is_sealed(record: &[u8]) -> bool {
    record.first() == Some(&SEALED)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::{log::conformance::signal, seal::Keys};

    #[test]
    fn sealed_records_stay_readable_and_are_still_written() {
        let keys = Keys::fixed();
        let mut walk = keys.walk(Purpose::Records);
        let kept: Vec<_> = include_str!("sample/v2.hex").lines().map(|line| hex::decode(line).unwrap()).collect();
        assert_eq!(kept.len(), 4);
        for (offset, record) in (0..).zip(kept) {
            // The last one is packed. Another packer may make other bytes of it, and the same signal of these.
            let (signal, key) = (signal(offset, if offset == 3 { 2000 } else { 20 }), walk.key(offset).unwrap());
            assert_eq!(open(&record, offset, &key).unwrap(), signal, "an old log would no longer be readable");
            if offset < 3 {
                assert_eq!(hex::encode(seal(&signal, offset, &key, [9; NONCE_BYTES])), hex::encode(record));
            } else {
                assert!(record.len() < 1000);
            }
        }
    }

    #[test]
    fn a_record_opens_at_its_place_with_its_key_only() {
        let keys = Keys::fixed();
        let mut walk = keys.walk(Purpose::Records);
        let (key, other) = (walk.key(5).unwrap(), walk.key(6).unwrap());
        let record = seal(&signal(5, 100), 5, &key, seal::nonce().unwrap());
        assert!(is_sealed(&record));
        assert_eq!(record.len(), record::pack_to(vec![], &signal(5, 100)).len() + OVERHEAD);
        assert_eq!(open(&record, 5, &key).unwrap(), signal(5, 100));
        for (offset, key) in [(5, &other), (6, &key), (6, &other)] {
            assert!(matches!(open(&record, offset, key), Err(RecordError::Damaged(_))));
        }
        assert_eq!(record::decode(&record), Err(RecordError::Sealed));
        assert_eq!(open(&record::encode(&signal(5, 3)), 9, &other).unwrap(), signal(5, 3), "format 1 needs none");
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_none_open_to_another_signal(
            flips in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..4), cut in 0..400usize,
        ) {
            let key = Secret::new([3; 32]);
            let good = seal(&signal(1, 50), 1, &key, [1; NONCE_BYTES]);
            let mut record = good.clone();
            for (at, to) in flips {
                let at = at % record.len();
                record[at] = to;
            }
            record.truncate(cut);
            if let Ok(found) = open(&record, 1, &key) {
                prop_assert_eq!(found, signal(1, 50));
                prop_assert_eq!(record, good);
            }
        }
    }
}
