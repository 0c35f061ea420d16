//! `slack`: the slash command `/flowsync start|done|block|deploy|confirm|reject|same|different …`.
//!
//! Slack signs `v0:{timestamp}:{body}` with the app's signing secret; a request whose timestamp is more than five minutes
//! away from our clock is refused, so that a recorded one cannot be sent again. The person who typed the command is
//! answered with what was understood, or with how to write it: Slack shows bodies of 200 answers only.
//!
//! Invariants: pure, and never panics (I10); a command that Slack sends again is one signal (I2): `trigger_id` is never
//! the same twice. What a report may say is in `report.rs`.

use std::borrow::Cow;

use flowsync_schemas::{Channel, ConnectorSpec, Micros, Parsed, id::Account};
use hmac::{Hmac, Mac};
use serde_json::json;
use sha2::Sha256;

use super::{
    Connector, Delivery, Secret, Verified, VerifyError,
    report::{Said, USAGE, understood},
};

/// What this connector is.
pub static SPEC: ConnectorSpec = ConnectorSpec {
    name: "slack",
    version: 2,
    doc: "Slash commands: people report that they start, finish, block or deploy a ticket, confirm or reject links, and \
          say which accounts are one person's. The answer says what was understood.",
    verification: "`X-Slack-Signature` (v0, HMAC-SHA-256) with the app's signing secret, within five minutes",
    events: &["start", "done", "block", "deploy", "confirm", "reject", "same", "different"],
    headers: &["x-slack-request-timestamp"],
    reference: "https://api.slack.com/interactivity/slash-commands",
};

const SIGNATURE: &str = "x-slack-signature";
const TIMESTAMP: &str = "x-slack-request-timestamp";
const WINDOW_SECS: u64 = 300;

/// The connector.
#[derive(Debug)]
pub struct Slack;

/// The value of `X-Slack-Signature` for a body sent at `timestamp`.
///
/// # Errors
/// Where the secret cannot be a key.
pub(crate) fn sign(secret: &Secret, timestamp: &str, body: &[u8]) -> Result<String, VerifyError> {
    Ok(format!("v0={}", hex::encode(mac(secret, timestamp, body)?.finalize().into_bytes())))
}

fn mac(secret: &Secret, timestamp: &str, body: &[u8]) -> Result<Hmac<Sha256>, VerifyError> {
    let mut mac = Hmac::new_from_slice(secret.expose()).map_err(|_| VerifyError::NoSecret(SPEC.name))?;
    mac.update(b"v0:");
    mac.update(timestamp.as_bytes());
    mac.update(b":");
    mac.update(body);
    Ok(mac)
}

impl Connector for Slack {
    fn spec(&self) -> &'static ConnectorSpec {
        &SPEC
    }

    fn verify(&self, delivery: Delivery<'_>, secret: Option<&Secret>) -> Result<Verified, VerifyError> {
        // An empty secret signs what anybody can sign.
        let secret = secret.filter(|s| !s.expose().is_empty()).ok_or(VerifyError::NoSecret(SPEC.name))?;
        let timestamp = delivery.header(TIMESTAMP).ok_or(VerifyError::Header(TIMESTAMP))?;
        let sent = sent_at(timestamp).ok_or(VerifyError::Header(TIMESTAMP))?;
        if delivery.received_at.0.abs_diff(sent.0) > WINDOW_SECS * 1_000_000 {
            return Err(VerifyError::Stale(WINDOW_SECS));
        }
        let claimed =
            delivery.header(SIGNATURE).and_then(|v| v.strip_prefix("v0=")).ok_or(VerifyError::Header(SIGNATURE))?;
        let claimed = hex::decode(claimed).map_err(|_| VerifyError::Header(SIGNATURE))?;
        mac(secret, timestamp, delivery.body)?.verify_slice(&claimed).map_err(|_| VerifyError::Mismatch(SIGNATURE))?;
        let id = self.delivery_id(delivery);
        Ok(Verified::new(&SPEC, delivery, id.as_deref(), Channel::ManualUserReport, "slack-v0"))
    }

    /// `trigger_id` as it stands in the form, not decoded.
    fn delivery_id<'a>(&self, delivery: Delivery<'a>) -> Option<Cow<'a, str>> {
        let form = std::str::from_utf8(delivery.body).ok()?;
        form.split('&')
            .find_map(|field| field.strip_prefix("trigger_id="))
            .filter(|id| !id.is_empty())
            .map(Cow::Borrowed)
    }

    fn parse(&self, verified: &Verified, out: &mut Parsed<'_>) {
        let signal = verified.signal();
        let at = signal.header(TIMESTAMP).and_then(sent_at).unwrap_or(signal.received_at);
        let field = |name: &str| {
            form_urlencoded::parse(&signal.body).find(|(n, _)| n == name).map(|(_, v)| v).unwrap_or(Cow::Borrowed(""))
        };
        if field("ssl_check") == "1" {
            return;
        }
        if field("command").is_empty() {
            return out.reject("slack: the body is no slash command: it has no field `command`");
        }
        let user = field("user_id");
        if user.is_empty() {
            return out.reject("slack: the command does not say who wrote it: it has no field `user_id`");
        }
        match Said::read(&field("text")) {
            Ok(None) => {}
            Ok(Some(said)) => {
                let account = Account::Login { source: SPEC.name, login: &user };
                let person = out.person(at, SPEC.name, &account, &field("user_name"), false);
                said.state(at, person, out);
            }
            Err(reason) => out.reject(reason),
        }
    }

    /// Always an answer: Slack shows nothing else to the person.
    fn reply(&self, parsed: &Parsed<'_>) -> Option<serde_json::Value> {
        let text = match (understood(parsed), parsed.rejections.first()) {
            (Some(sentence), _) => format!("Understood: {sentence}."),
            (None, Some(rejection)) => format!("{}.\nThis is how to write it:\n{USAGE}", rejection.reason),
            (None, None) => format!("This is how to write a report:\n{USAGE}"),
        };
        Some(json!({ "response_type": "ephemeral", "text": text }))
    }
}

fn sent_at(timestamp: &str) -> Option<Micros> {
    timestamp.parse().ok().map(Micros::from_secs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use flowsync_schemas::{Pseudonymizer, SignalId};

    use super::*;
    use crate::connectors::parse;

    const SENT: i64 = 1_790_856_000;

    fn verify(body: &str, secs_later: i64) -> Result<Verified, VerifyError> {
        let secret = Secret::new("signing secret of example.org");
        let signature = sign(&secret, &SENT.to_string(), body.as_bytes()).unwrap();
        let headers = [(SIGNATURE.to_owned(), signature), (TIMESTAMP.to_owned(), SENT.to_string())];
        let received_at = Micros::from_secs(SENT + secs_later);
        Slack.verify(Delivery { headers: &headers, body: body.as_bytes(), received_at }, Some(&secret))
    }

    #[test]
    fn the_signature_is_the_one_that_openssl_makes() {
        let secret = Secret::new("signing secret of example.org");
        let body = b"command=%2Fflowsync&text=done+SHOP-12";
        let by_openssl = "caee345dd535cfc18e0c1ea69c13a5b118f8cbd8713c9b0799c4fac597f03bdb";
        assert_eq!(sign(&secret, &SENT.to_string(), body).unwrap(), format!("v0={by_openssl}"));
    }

    #[test]
    fn the_window_is_five_minutes_each_way() {
        let body = "command=%2Fflowsync&user_id=U1&text=done+SHOP-12&trigger_id=1.2";
        for (later, fits) in [(0, true), (300, true), (-300, true), (301, false), (-301, false), (i64::MIN / 2, false)]
        {
            let outcome = verify(body, later.max(-SENT));
            assert_eq!(outcome.is_ok(), fits, "{later}");
            assert!(fits || outcome == Err(VerifyError::Stale(300)));
        }
        let signal = verify(body, 0).unwrap().into_signal();
        assert_eq!(signal.id, SignalId::of_delivery("slack", "1.2"));
        assert_eq!((signal.channel, &*signal.verified_by), (Channel::ManualUserReport, "slack-v0"));
    }

    #[test]
    fn only_the_time_that_was_signed_is_kept() {
        let (secret, body) = (Secret::new("signing secret of example.org"), b"command=%2Fflowsync");
        let signature = sign(&secret, &SENT.to_string(), body).unwrap();
        // Another one, which would come first where they are sorted.
        let times = [SENT.to_string(), "1".to_owned()].map(|time| (TIMESTAMP.to_owned(), time));
        let headers: Vec<_> = times.into_iter().chain([(SIGNATURE.to_owned(), signature)]).collect();
        let delivery = Delivery { headers: &headers, body, received_at: Micros::from_secs(SENT) };
        let signal = Slack.verify(delivery, Some(&secret)).unwrap().into_signal();
        assert_eq!(signal.headers, [(TIMESTAMP.to_owned(), SENT.to_string())]);
    }

    #[test]
    fn the_answer_says_what_was_understood_or_how_to_write_it() {
        let people = Pseudonymizer::new(&[7; 32]);
        let answer = |text: &str| {
            let body = form_urlencoded::Serializer::new(String::new())
                .extend_pairs([("command", "/flowsync"), ("user_id", "U1"), ("text", text)])
                .finish();
            let reply = Slack.reply(&parse(&verify(&body, 0).unwrap(), &people)).unwrap();
            assert_eq!(reply["response_type"], "ephemeral");
            reply["text"].as_str().unwrap().to_owned()
        };
        assert_eq!(answer("deploy SHOP-12 to production"), "Understood: SHOP-12 was deployed to production.");
        assert_eq!(answer("same <@U1|ada> github:ada"), "Understood: both accounts are one person's.");
        assert!(answer("help").starts_with("This is how to write a report"));
        let lost = answer("finished SHOP-12");
        assert!(lost.contains("\"finished\" is not understood") && lost.contains(USAGE), "{lost}");
    }
}
