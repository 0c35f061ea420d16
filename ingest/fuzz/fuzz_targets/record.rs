//! Any bytes, as a record of the log, as a packed one, and as damaged ones: an error or a signal, and a signal survives its
//! record.
//!
//! An input is read as a record; as edits, four bytes each, of the record of a signal; and as the parts of a signal.

#![no_main]

use flowsync_ingest::log::record::{FORMAT, RecordError, decode, encode, pack_to, unpack};
use flowsync_schemas::{Channel, Micros, Signal, SignalId};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    read(data);
    let _ = unpack(data);
    let _ = unpack(&[b"L", data].concat());
    let signal = signal(data);
    let mut record = encode(&signal);
    assert_eq!(decode(&record).as_ref(), Ok(&signal), "a signal does not survive its record");
    let mut packed = pack_to(Vec::new(), &signal);
    assert!(
        packed.len() <= record.len() && unpack(&packed).as_ref() == Ok(&signal),
        "a signal does not survive packing"
    );
    if let [first, second, ..] = *data {
        let place = usize::from(first) * packed.len() / 256;
        packed[place] = second;
        let _ = unpack(&packed);
    }
    // Beside the texts themselves, an envelope is small.
    let texts: usize = signal.headers.iter().map(|(n, v)| n.len() + v.len() + 20).sum();
    let all = texts + signal.source.len() + signal.delivery.len() + signal.verified_by.len() + signal.body.len();
    assert!(record.len() <= all + 120, "{} bytes for {all}", record.len());
    for edit in data.chunks_exact(4).take(16) {
        let place = usize::from(u16::from_be_bytes([edit[1], edit[2]])) % (record.len() + 1);
        match edit[0] % 4 {
            0 if place < record.len() => record[place] = edit[3],
            1 => record.insert(place, edit[3]),
            2 => drop(record.drain(place..(place + usize::from(edit[3])).min(record.len()))),
            _ => record.truncate(place),
        }
        read(&record);
    }
});

fn read(record: &[u8]) {
    match decode(record) {
        Ok(signal) => {
            let written = encode(&signal);
            assert_eq!(decode(&written).as_ref(), Ok(&signal), "what was read cannot be written");
            // Nothing is made up, and nothing is counted that is not there.
            assert!(signal.body.len() + signal.headers.len() < record.len());
        }
        Err(RecordError::Newer(format)) => assert!(format > FORMAT),
        Err(RecordError::Sealed) => assert_eq!(record.first(), Some(&FORMAT)),
        Err(RecordError::Damaged(why)) => assert!(!why.is_empty() && why.len() < 4 * record.len() + 200),
    }
}

/// A signal made of the parts of an input.
fn signal(data: &[u8]) -> Signal {
    let number = |from: usize| {
        let bytes: Vec<u8> = data.iter().copied().cycle().skip(from).take(8).collect();
        bytes.try_into().map_or(i64::MIN, i64::from_be_bytes)
    };
    let mut parts = data.split(|b| *b == 0);
    let mut text = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let (source, delivery, verified_by) = (text(), text(), text());
    let count = data.first().map_or(0, |n| n % 5);
    Signal {
        id: SignalId::of_bytes(&source, data),
        source,
        delivery,
        occurred_at: (count % 2 == 0).then(|| Micros(number(1))),
        received_at: Micros(number(2)),
        channel: Channel::ALL[usize::from(count) % Channel::ALL.len()],
        verified_by,
        headers: (0..count).map(|_| (text(), text())).collect(),
        body: data.to_vec(),
    }
}
