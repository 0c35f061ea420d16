//! What is held of a person, as it is handed out.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use flowsync_schemas::Signal;
use serde_json::{Map, Value, json};

/// A signal as one JSON document: all that the log holds of it. The body is `body`, as text, or `body_base64` where it is
/// no UTF-8; an `occurred_at` that no tool told is null.
pub fn exported(signal: &Signal) -> Value {
    let (name, body) = match std::str::from_utf8(&signal.body) {
        Ok(text) => ("body", text.to_owned()),
        Err(_) => ("body_base64", BASE64_STANDARD.encode(&signal.body)),
    };
    // The log keeps headers in a list; none stands in it twice.
    let headers: Map<String, Value> = signal.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    json!({
        "id": signal.id,
        "source": signal.source,
        "delivery": signal.delivery,
        "occurred_at": signal.occurred_at.map(|at| at.to_string()),
        "received_at": signal.received_at.to_string(),
        "channel": signal.channel,
        "verified_by": signal.verified_by,
        "headers": headers,
        name: body,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use flowsync_schemas::{Channel, Micros, SignalId};

    use super::*;

    #[test]
    fn all_of_a_signal_is_handed_out() {
        let mut signal = Signal {
            id: SignalId(7),
            source: "github".to_owned(),
            delivery: "d-1".to_owned(),
            occurred_at: None,
            received_at: Micros(0),
            channel: Channel::Webhook,
            verified_by: "hmac-sha256".to_owned(),
            headers: vec![("x-github-event".to_owned(), "push".to_owned())],
            body: "{\"é\": 1}".into(),
        };
        let expected = json!({
            "id": "00000000000000000000000000000007", "source": "github", "delivery": "d-1", "occurred_at": null,
            "received_at": "1970-01-01T00:00:00.000000Z", "channel": "webhook", "verified_by": "hmac-sha256",
            "headers": {"x-github-event": "push"}, "body": "{\"é\": 1}",
        });
        assert_eq!(exported(&signal), expected);
        signal.body = vec![0xff, b'a'];
        assert_eq!(exported(&signal)["body_base64"], "/2E=");
        assert_eq!(exported(&signal).as_object().unwrap().len(), 9);
    }
}
