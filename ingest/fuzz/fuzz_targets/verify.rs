//! Whatever is claimed of whatever body: a connector lets in what the sender signed, and nothing else.
//!
//! An input is two bytes that choose an alteration and its place, a line with the claimed signature, and the body.

#![no_main]

use flowsync_ingest::connectors::{
    ALL, Connector, Delivery, Secret, Verified, VerifyError,
    sound::{SECRET, Signer, signer},
};
use flowsync_schemas::Micros;
use libfuzzer_sys::fuzz_target;

const NOW: i64 = 1_790_856_000;
const TIMESTAMP: &str = "x-slack-request-timestamp";
const WINDOW_SECS: i64 = 300;

type Headers = Vec<(String, String)>;

fuzz_target!(|data: &[u8]| {
    let [how, place, rest @ ..] = data else { return };
    let (claimed, body) = rest.split_at(rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()));
    let claimed = String::from_utf8_lossy(claimed);
    let body = body.get(1..).unwrap_or_default();
    for connector in ALL {
        any_claim(*connector, &claimed, body);
        altered(*connector, *how, usize::from(*place), body);
    }
});

fn verify(connector: &dyn Connector, headers: &Headers, body: &[u8]) -> Result<Verified, VerifyError> {
    let delivery = Delivery { headers, body, received_at: Micros::from_secs(NOW) };
    let verified = connector.verify(delivery, Some(&Secret::new(SECRET)));
    if let Ok(verified) = &verified {
        kept(connector, verified, headers, body);
    }
    assert!(connector.verify(delivery, None).is_err() && connector.verify(delivery, Some(&Secret::new(""))).is_err());
    verified
}

/// What is let in is kept as it was sent, without what proved its sender.
fn kept(connector: &dyn Connector, verified: &Verified, headers: &Headers, body: &[u8]) {
    let (spec, signal) = (connector.spec(), verified.signal());
    assert_eq!((signal.source.as_str(), signal.body.as_slice()), (spec.name, body));
    assert!(signal.headers.iter().all(|h| spec.headers.contains(&h.0.as_str()) && headers.contains(h)));
    let first = |name: &str| headers.iter().find(|(n, _)| n == name);
    assert!(signal.headers.iter().all(|h| first(&h.0) == Some(h)), "not what was verified");
    let delivery = Delivery { headers, body, received_at: Micros::from_secs(NOW) };
    let imported = Verified::imported(spec, delivery, connector.delivery_id(delivery).as_deref());
    assert_eq!(imported.signal().id, signal.id, "an import is another signal");
}

fn sent_at(secs: i64) -> Headers {
    vec![(TIMESTAMP.to_owned(), secs.to_string())]
}

/// A claim that knows no secret is let in only where it happens to be right.
fn any_claim(connector: &dyn Connector, claimed: &str, body: &[u8]) {
    let signer = signer(connector.spec().name);
    let mut headers = sent_at(NOW);
    let signed = signer.sign(&headers, body);
    let name = signer.header().unwrap_or("authorization");
    headers.push((name.to_owned(), claimed.to_owned()));
    let right = signed.is_some_and(|(_, signed)| same(signer, &signed, claimed));
    assert_eq!(verify(connector, &headers, body).is_ok(), right, "{}: {claimed:?}", connector.spec().name);
}

/// Whether two values of the header mean the same: hexadecimal digits have no case, nor has the scheme of a token.
fn same(signer: Signer, signed: &str, claimed: &str) -> bool {
    let separator = if signer == Signer::Token { ' ' } else { '=' };
    let (Some((way, proof)), Some((claimed_way, claimed_proof))) =
        (signed.split_once(separator), claimed.split_once(separator))
    else {
        return false;
    };
    match signer {
        Signer::Token => way.eq_ignore_ascii_case(claimed_way) && proof == claimed_proof.trim(),
        _ => way == claimed_way && proof.eq_ignore_ascii_case(claimed_proof),
    }
}

/// What the sender signed is let in; with one alteration it is not.
fn altered(connector: &dyn Connector, how: u8, place: usize, body: &[u8]) {
    let signer = signer(connector.spec().name);
    let mut headers = sent_at(NOW);
    let mut body = body.to_vec();
    let Some((name, mut value)) = signer.sign(&headers, &body) else {
        assert!(verify(connector, &headers, &body).is_err(), "made on this machine only");
        return;
    };
    let mut right = true;
    match how % 6 {
        0 => {}
        1 => {
            if let Some(byte) = body.iter_mut().nth(place) {
                *byte ^= 1 << (how % 8);
                right = signer == Signer::Token;
            }
        }
        2 => {
            body.push(how);
            right = signer == Signer::Token;
        }
        3 => {
            let before = value.clone();
            let place = place % value.len();
            // The signature is ASCII.
            value.replace_range(place..=place, &char::from(32 + how % 95).to_string());
            right = same(signer, &before, &value);
        }
        4 => {
            value.truncate(place % value.len());
            right = false;
        }
        _ => {
            // Slack's time is signed: a later one needs a new signature, and outside the window none helps.
            let secs = NOW + (place as i64 - 128) * 4;
            headers = sent_at(secs);
            right = signer != Signer::SlackV0 || secs == NOW;
            if how & 128 != 0
                && let Some((_, signed)) = signer.sign(&headers, &body)
            {
                value = signed;
                right = signer != Signer::SlackV0 || secs.abs_diff(NOW) <= WINDOW_SECS.unsigned_abs();
            }
        }
    }
    headers.push((name, value));
    // What is sent twice counts once, and the first is what was signed.
    headers.extend(connector.spec().headers.iter().map(|kept| ((*kept).to_owned(), how.to_string())));
    headers.extend(sent_at(NOW - i64::from(how)));
    let verified = verify(connector, &headers, &body);
    assert_eq!(verified.is_ok(), right, "{}: alteration {how} at {place}", connector.spec().name);
}
