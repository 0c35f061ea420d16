//! From what happened to what arrives: delivery ids, and the disorder of the way.
//!
//! A delivery arrives late, after younger ones, or twice. Beside the organisation's own deliveries come some that cannot be
//! read and some that nobody signed; both are extra, so that nothing of the organisation is lost by them. Chat commands
//! arrive in order and once: their signature holds for five minutes only.

use flowsync_schemas::Micros;

use super::{
    Simulated, github, jira,
    story::Word,
    time::{HOUR, Iso, MINUTE, SECOND, happens},
    truth::{AccountKind, Truth},
    world::{Arrival, World},
};

/// The text of a command that is not understood: the first unreadable delivery, and the only one of the demo.
pub(super) const NOT_UNDERSTOOD: &str = "finished SHOP-9";

/// A person named in a delivery, by an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Email(u32),
    SecondEmail(u32),
    Github(u32),
    /// By the account id, and by the e-mail address unless that is hidden.
    Jira(u32),
    Slack(u32),
}

impl World {
    /// Sends a delivery; whether it arrives before the end. `named` are the people in it.
    pub fn send(
        &mut self,
        connector: &'static str,
        event: &'static str,
        body: Vec<u8>,
        named: &[Named],
        at: Micros,
    ) -> bool {
        let number = self.next_number();
        let headers = headers(connector, event, &number);
        let delivery = Simulated { connector, headers, body, at: self.arrival(connector, at), forged: false };
        let arrives = delivery.at <= self.until;
        if arrives {
            self.identities(named);
            self.again(&delivery);
        }
        self.beside(&delivery);
        self.put(delivery);
        arrives
    }

    /// A number for the next delivery: two organisations share none, or a receiver of both would take one for the other.
    pub fn next_number(&mut self) -> String {
        self.serial += 1;
        format!("{:08x}-{:06}", self.tag, self.serial)
    }

    /// A report by a script in somebody's name, dated.
    pub fn report(&mut self, word: Word, ticket: &str, person: u32, at: Micros) {
        let id = format!("simulated-{}", self.next_number());
        let environment = (word == Word::Deploy).then_some("production");
        let report = jira::Report {
            verb: word.verb(),
            ticket,
            environment,
            artifact: None,
            reporter: &self.org.people[person as usize].email,
            at: Iso(at),
            id: &id,
        };
        let body = github::body(&report);
        self.send("manual", "", body, &[Named::Email(person)], at);
    }

    /// What somebody types into the chat.
    pub fn command(&mut self, text: &str, person: u32, at: Micros) {
        let trigger = format!("simulated.{}", self.next_number());
        let body = jira::command(&self.org.people[person as usize], text, &trigger);
        self.send("slack", "", body, &[Named::Slack(person)], at);
    }

    fn put(&mut self, delivery: Simulated) {
        if delivery.at <= self.until {
            // Of what arrives at one moment, what was written first is first.
            self.order += 1;
            self.arrivals.push(Arrival { order: self.order, delivery });
        }
    }

    /// When something arrives that happened at `at`.
    fn arrival(&mut self, connector: &str, at: Micros) -> Micros {
        let disorder = self.scale.disorder;
        let prompt = at.0 + 3 * SECOND / 10;
        if connector == "slack" {
            return Micros(prompt);
        }
        Micros(match self.rng.u32(0..10_000) {
            n if n < disorder.late_bps => prompt + self.rng.i64(3 * HOUR..30 * HOUR),
            n if n < disorder.late_bps + disorder.out_of_order_bps => prompt + self.rng.i64(5 * SECOND..5 * MINUTE),
            _ => prompt,
        })
    }

    fn again(&mut self, delivery: &Simulated) {
        if delivery.connector != "slack" && happens(&mut self.rng, self.scale.disorder.redelivered_bps) {
            let mut again = delivery.clone();
            again.at.0 += self.rng.i64(10 * SECOND..6 * HOUR);
            self.put(again);
        }
    }

    /// What comes beside the organisation's own deliveries.
    fn beside(&mut self, delivery: &Simulated) {
        let disorder = self.scale.disorder;
        for (kind, share) in [disorder.unreadable_bps, disorder.forged_bps].into_iter().enumerate() {
            self.owed[kind] += share;
            if self.owed[kind] < 10_000 {
                continue;
            }
            self.owed[kind] -= 10_000;
            let extra = if kind == 0 { self.unreadable(delivery) } else { self.forged(delivery) };
            if extra.at <= self.until {
                let (connector, at) = (extra.connector.to_owned(), extra.at);
                self.tell(|| match kind {
                    0 => Truth::Unreadable { connector, at },
                    _ => Truth::Forged { connector, at },
                });
                self.put(extra);
            }
        }
    }

    /// A delivery of this moment that its sender wrote wrongly.
    fn unreadable(&mut self, beside: &Simulated) -> Simulated {
        let number = self.next_number();
        let kind = if std::mem::replace(&mut self.misread, true) { self.rng.u32(0..7) } else { 0 };
        let command = |text: &str, world: &Self| {
            let person = 1.min(world.org.people.len() - 1);
            jira::command(&world.org.people[person], text, &format!("simulated.{number}"))
        };
        let (connector, event, body) = match kind {
            0 => ("slack", "", command(NOT_UNDERSTOOD, self)),
            1 => ("slack", "", command("done", self)),
            2 => ("github", "push", br#"{"ref":"refs/heads/main","before":"0000000000"#.to_vec()),
            3 => ("github", "simulated_event", br#"{"action":"created"}"#.to_vec()),
            4 => ("jira", "", br#"{"timestamp":1,"issue":{"id":"1"}}"#.to_vec()),
            5 => ("jira", "", b"<html><body>503 Service Unavailable</body></html>".to_vec()),
            _ => ("manual", "", format!(r#"{{"id":"simulated-{number}","verb":"finish"}}"#).into_bytes()),
        };
        let at = Micros(beside.at.0 + SECOND);
        Simulated { connector, headers: headers(connector, event, &number), body, at, forged: false }
    }

    /// This delivery once more, from somebody who does not know the secret.
    fn forged(&mut self, real: &Simulated) -> Simulated {
        let number = self.next_number();
        let mut forged = Simulated { at: Micros(real.at.0 + SECOND), forged: true, ..real.clone() };
        let ids = ["x-github-delivery", "x-atlassian-webhook-identifier"];
        for (_, id) in forged.headers.iter_mut().filter(|(name, _)| ids.contains(&name.as_str())) {
            *id = format!("forged-{number}");
        }
        forged
    }

    /// Tells of accounts that are named for the first time.
    fn identities(&mut self, named: &[Named]) {
        for one in named {
            match *one {
                Named::Jira(person) => {
                    self.identity(person, AccountKind::Jira, 1);
                    if !self.org.people[person as usize].hides_email {
                        self.identity(person, AccountKind::Email, 2);
                    }
                }
                Named::Email(person) => self.identity(person, AccountKind::Email, 2),
                Named::SecondEmail(person) => self.identity(person, AccountKind::Email, 4),
                Named::Github(person) => self.identity(person, AccountKind::Github, 8),
                Named::Slack(person) => self.identity(person, AccountKind::Slack, 16),
            }
        }
    }

    fn identity(&mut self, person: u32, kind: AccountKind, bit: u8) {
        let who = &mut self.org.people[person as usize];
        if who.told & bit != 0 || self.truth.is_none() {
            return;
        }
        who.told |= bit;
        let account = match kind {
            AccountKind::Email if bit == 4 => who.second_email.clone().unwrap_or_default(),
            AccountKind::Email => who.email.clone(),
            AccountKind::Github => who.github.clone(),
            AccountKind::Jira => who.account_id(),
            AccountKind::Slack => who.user_id(),
        };
        let person = who.email.clone();
        self.tell(|| Truth::Identity { person, kind, account });
    }
}

impl Word {
    pub fn verb(self) -> &'static str {
        match self {
            Word::Start => "start",
            Word::Done => "done",
            Word::Block => "block",
            Word::Deploy | Word::Second => "deploy",
            Word::Confirm => "confirm",
            Word::Reject => "reject",
        }
    }
}

/// The headers that a tool sends, without signature.
fn headers(connector: &str, event: &str, number: &str) -> Vec<(String, String)> {
    let mut headers = Vec::with_capacity(5);
    let mut add = |name: &str, value: String| headers.push((name.to_owned(), value));
    match connector {
        "slack" => add("content-type", "application/x-www-form-urlencoded".to_owned()),
        _ => add("content-type", "application/json".to_owned()),
    }
    match connector {
        "github" => {
            add("x-github-event", event.to_owned());
            add("x-github-delivery", format!("simulated-{number}"));
        }
        "jira" => add("x-atlassian-webhook-identifier", format!("simulated-{number}")),
        _ => {}
    }
    headers
}
