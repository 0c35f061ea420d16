//! What people write to the chat command: an answer for every text, and for every report one meaning, however it comes.
//!
//! An input is the text of a command; it is read as the whole form as well, so that a fixture is an input as it stands.

#![no_main]

use std::sync::LazyLock;

use flowsync_ingest::connectors::{Connector, Delivery, Verified, by_name, sound};
use flowsync_schemas::{
    FactBody, Micros, Parsed, Pseudonymizer,
    fact::{IdentityFact, ReportFact, Verb},
};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

static PEOPLE: LazyLock<Pseudonymizer> = LazyLock::new(|| Pseudonymizer::new(&[7; 32]));

fuzz_target!(|data: &[u8]| {
    answered(&read("slack", data));
    let text = String::from_utf8_lossy(data);
    let parsed = typed(&text);
    answered(&parsed);
    if let Some(report) = report(&parsed) {
        again(report);
    }
    if let Some(IdentityFact { person, other, same, .. }) = identity(&parsed) {
        assert_ne!(person, other, "one account twice: {text:?}");
        let reversed: Vec<&str> = text.split_whitespace().skip(1).collect();
        let verb = if *same { "same" } else { "different" };
        let [one, two] = reversed[..] else { panic!("more than two accounts: {text:?}") };
        let turned = typed(&format!("{verb} {two} {one}"));
        let told = identity(&turned).map(|fact| (fact.person, fact.other, fact.same));
        assert_eq!(told, Some((*other, *person, *same)), "{text:?}");
    }
});

fn read(connector: &str, body: &[u8]) -> Parsed<'static> {
    let Some(connector) = by_name(connector) else { panic!("there is no connector {connector}") };
    let delivery = Delivery { headers: &[], body, received_at: Micros::from_secs(1_790_856_000) };
    sound::read(&Verified::imported(connector.spec(), delivery, None), &PEOPLE)
}

fn typed(text: &str) -> Parsed<'static> {
    let fields = [("command", "/flowsync"), ("user_id", "U1"), ("user_name", "ada"), ("text", text)];
    let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    read("slack", form.as_bytes())
}

/// One thing is understood, or it is said why nothing is, or nothing was said; the person sees which.
fn answered(parsed: &Parsed<'_>) {
    let said = parsed.facts.iter().filter(|f| matches!(f.body, FactBody::Report(_) | FactBody::Identity(_))).count();
    assert!(said + parsed.rejections.len() <= 1, "{said} reports and {:?}", parsed.rejections);
    assert!(said == 1 || parsed.facts.is_empty());
    let reply = by_name("slack").and_then(|slack: &dyn Connector| slack.reply(parsed));
    let text = reply.as_ref().and_then(|reply| reply["text"].as_str()).unwrap_or_default();
    assert_eq!(text.starts_with("Understood: "), said == 1, "{text}");
    assert!(!text.is_empty());
}

fn report<'p>(parsed: &'p Parsed<'_>) -> Option<&'p ReportFact> {
    parsed.facts.iter().find_map(|f| if let FactBody::Report(report) = &f.body { Some(report) } else { None })
}

fn identity<'p>(parsed: &'p Parsed<'_>) -> Option<&'p IdentityFact> {
    parsed.facts.iter().find_map(|f| if let FactBody::Identity(said) = &f.body { Some(said) } else { None })
}

/// What was understood, written out in full, means the same: typed, and as JSON.
fn again(said: &ReportFact) {
    let ReportFact { verb, ticket_key, artifact_id, environment, .. } = said;
    let environment = environment.as_deref();
    // Chat tools wrap addresses in these.
    if environment.is_some_and(|e| e.starts_with('<') && e.ends_with('>')) {
        return;
    }
    let text = match (verb, artifact_id, environment) {
        (Verb::Deploy, None, Some(environment)) => format!("deploy {ticket_key} to {environment}"),
        (Verb::Confirm | Verb::Reject, Some(artifact), None) => format!("{verb} {artifact} {ticket_key}"),
        (Verb::Start | Verb::Done | Verb::Block, None, None) => format!("{verb} {ticket_key}"),
        _ => panic!("{said:?} has too much or too little"),
    };
    assert_eq!(report(&typed(&text)), Some(said), "{text}");
    let body = json!({"verb": verb.word(), "ticket": ticket_key, "artifact": artifact_id, "environment": environment,
        "reporter": "ada@example.org"});
    let by_hand = read("manual", body.to_string().as_bytes());
    let told = report(&by_hand).map(|told| ReportFact { person: said.person, ..told.clone() });
    assert_eq!(told.as_ref(), Some(said), "{body}");
}
