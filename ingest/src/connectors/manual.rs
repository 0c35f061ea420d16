//! `manual`: the reports of the chat command as JSON over HTTP, for scripts and for other tools.
//!
//! ```json
//! {"verb": "deploy", "ticket": "PROJ-456", "environment": "production", "reporter": "ada@example.org"}
//! ```
//!
//! `same` and `different` take `accounts` (two of them) in the place of a ticket. Also `artifact` (with `confirm` and `reject`), `at` (RFC 3339; else when it was received) and `id`. The sender shows
//! an API token, `Authorization: Bearer …`, compared in constant time.
//!
//! Invariants: pure, and never panics (I10); a report sent again with its `id`, or in the same bytes, is one signal
//! (I2). What a report may say is in `report.rs`.

use std::borrow::Cow;

use flowsync_schemas::{Channel, ConnectorSpec, Micros, Parsed, id::Account};
use serde::Deserialize;
use serde_json::json;
use subtle::ConstantTimeEq;

use super::{
    Connector, Delivery, Secret, Verified, VerifyError,
    json::Reader,
    report::{self, People, Report, Said, understood},
};

/// What this connector is.
pub static SPEC: ConnectorSpec = ConnectorSpec {
    name: "manual",
    version: 2,
    doc: "Reports as JSON: a person (or a script in their name) starts, finishes, blocks or deploys a ticket, confirms \
          or rejects a link, or says that two accounts are one person's, or not.",
    verification: "`Authorization: Bearer` with the configured API token",
    events: &["start", "done", "block", "deploy", "confirm", "reject", "same", "different"],
    headers: &[],
    reference: "https://www.rfc-editor.org/rfc/rfc6750",
};

const AUTHORIZATION: &str = "authorization";

/// The connector.
#[derive(Debug)]
pub struct Manual;

/// The body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    verb: String,
    ticket: Option<String>,
    accounts: Option<Vec<String>>,
    environment: Option<String>,
    artifact: Option<String>,
    reporter: String,
    at: Option<String>,
    #[serde(default, rename = "id")]
    _id: Option<String>,
}

impl Connector for Manual {
    fn spec(&self) -> &'static ConnectorSpec {
        &SPEC
    }

    fn verify(&self, delivery: Delivery<'_>, secret: Option<&Secret>) -> Result<Verified, VerifyError> {
        // An empty token is one that everybody knows.
        let secret = secret.filter(|s| !s.expose().is_empty()).ok_or(VerifyError::NoSecret(SPEC.name))?;
        let shown = delivery.header(AUTHORIZATION).and_then(bearer).ok_or(VerifyError::Header(AUTHORIZATION))?;
        if !bool::from(shown.as_bytes().ct_eq(secret.expose())) {
            return Err(VerifyError::Mismatch(AUTHORIZATION));
        }
        let id = self.delivery_id(delivery);
        Ok(Verified::new(&SPEC, delivery, id.as_deref(), Channel::ManualUserReport, "api-token"))
    }

    /// The sender's `id`. One that JSON has to escape is none: then the bytes are the identity.
    fn delivery_id<'a>(&self, delivery: Delivery<'a>) -> Option<Cow<'a, str>> {
        #[derive(Deserialize)]
        struct Identity<'a> {
            id: Option<&'a str>,
        }
        serde_json::from_slice::<Identity<'a>>(delivery.body).ok()?.id.filter(|id| !id.is_empty()).map(Cow::Borrowed)
    }

    fn parse(&self, verified: &Verified, out: &mut Parsed<'_>) {
        let signal = verified.signal();
        let received_at = signal.received_at;
        let mut reader = Reader { out, received_at, advice: "see `flowsync connectors` for the shape of a report" };
        let Some(body) = reader.body::<Body>(&signal.body) else { return };
        match read(&body, received_at) {
            Ok((said, at)) => {
                let reporter = body.reporter.trim();
                let account = if reporter.contains('@') {
                    Account::Email(reporter)
                } else {
                    Account::Login { source: SPEC.name, login: reporter }
                };
                let person = out.person(at, SPEC.name, &account, reporter, false);
                said.state(at, person, out);
            }
            Err(reason) => out.reject(reason),
        }
    }

    fn reply(&self, parsed: &Parsed<'_>) -> Option<serde_json::Value> {
        understood(parsed).map(|sentence| json!({ "understood": sentence }))
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn read(body: &Body, received_at: Micros) -> Result<(Said, Micros), String> {
    let said = match report::same(&body.verb) {
        Some(same) => Said::People(people(same, body)?),
        None => Said::Work(work(body)?),
    };
    let at = match &body.at {
        Some(text) => Micros::parse(text).ok_or("`at` is no RFC 3339 time, such as 2026-10-01T08:00:00Z")?,
        None => received_at,
    };
    if body.reporter.trim().is_empty() {
        return Err("`reporter` is empty: write an e-mail address".to_owned());
    }
    Ok((said, at))
}

fn work(body: &Body) -> Result<Report, String> {
    let verb = report::verb(&body.verb)?;
    if body.accounts.is_some() {
        return Err(format!("`{verb}` takes no accounts"));
    }
    let ticket = body.ticket.as_deref().ok_or_else(|| format!("`{verb}` needs a ticket"))?;
    Report::build(verb, ticket, body.artifact.as_deref(), body.environment.as_deref())
}

fn people(same: bool, body: &Body) -> Result<People, String> {
    if body.ticket.is_some() || body.artifact.is_some() || body.environment.is_some() {
        return Err("`same` and `different` take accounts only".to_owned());
    }
    let accounts: Vec<&str> = body.accounts.iter().flatten().map(String::as_str).collect();
    People::build(same, &accounts)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use flowsync_schemas::{Pseudonymizer, SignalId};

    use super::*;
    use crate::connectors::parse;

    fn verify(token: &str, body: &str) -> Result<Verified, VerifyError> {
        let headers = [(AUTHORIZATION.to_owned(), token.to_owned())];
        let delivery = Delivery { headers: &headers, body: body.as_bytes(), received_at: Micros(5) };
        Manual.verify(delivery, Some(&Secret::new("a token")))
    }

    #[test]
    fn only_the_whole_token_opens() {
        assert!(verify("Bearer a token", "{}").is_ok());
        assert!(verify("bearer  a token ", "{}").is_ok());
        for wrong in ["Bearer a toke", "Bearer a tokens", "Bearer ", "Basic a token", "a token"] {
            assert!(verify(wrong, "{}").is_err(), "{wrong}");
        }
    }

    #[test]
    fn identity_is_the_id_or_the_bytes() {
        let id = |body: &str| verify("Bearer a token", body).unwrap().into_signal().id;
        assert_eq!(id(r#"{"id": "r-1", "verb": "done"}"#), SignalId::of_delivery("manual", "r-1"));
        for body in [r#"{"verb": "done"}"#, r#"{"id": ""}"#, r#"{"id": "a\nb"}"#, "no JSON"] {
            assert_eq!(id(body), SignalId::of_bytes("manual", body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn the_answer_says_what_was_understood() {
        let people = Pseudonymizer::new(&[7; 32]);
        let answer = |body: &str| Manual.reply(&parse(&verify("Bearer a token", body).unwrap(), &people));
        let done = r#"{"verb":"done","ticket":"SHOP-12","reporter":"ada@example.org"}"#;
        assert_eq!(answer(done), Some(json!({ "understood": "SHOP-12 is done" })));
        assert_eq!(answer(&done.replace("done", "finish")), None);
        let same = r#"{"verb":"same","accounts":["ada@example.org","github:ada"],"reporter":"ada@example.org"}"#;
        assert_eq!(answer(same), Some(json!({ "understood": "both accounts are one person's" })));
        for wrong in [
            same.replace("same", "done"),
            same.replace("github:ada", "ada"),
            same.replace(r#","reporter""#, r#","ticket":"A-1","reporter""#),
            done.replace(r#""ticket":"SHOP-12","#, ""),
        ] {
            assert_eq!(answer(&wrong), None, "{wrong}");
        }
    }
}
