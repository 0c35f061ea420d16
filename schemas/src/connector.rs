//! What a connector says of itself, and what it says of a signal.

use crate::{
    fact::{Fact, FactBody},
    id::{Account, PersonId, Pseudonymizer, SignalId},
    record::Text,
    time::Micros,
};

/// A connector as data: what the catalogue lists and the gateway routes by.
#[derive(Debug, PartialEq, Eq)]
pub struct ConnectorSpec {
    /// Name: in the URL (`/hooks/{name}`), on the command line, in `source` columns.
    pub name: &'static str,
    /// Raised when `parse` reads the same bytes differently: history is then replayed.
    pub version: u32,
    /// One paragraph: what it reads.
    pub doc: &'static str,
    /// How the sender is verified, in words.
    pub verification: &'static str,
    /// The events that it reads.
    pub events: &'static [&'static str],
    /// The headers that the signal keeps, lower case: those that `parse` reads.
    pub headers: &'static [&'static str],
    /// The provider's documentation.
    pub reference: &'static str,
}

/// Input that a connector cannot read: shown in the view `rejects`, never dropped (I10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// What is wrong, where, and what to do.
    pub reason: Text,
}

/// A name or address behind a pseudonym. Goes into the identity vault, nowhere else (I8).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NameClaim {
    /// The pseudonym.
    pub person: PersonId,
    /// The name to show.
    pub name: String,
    /// The account it was made of: an e-mail address, or `source:login`.
    pub account: String,
}

/// All that one signal says. Filled by a connector's `parse`; a pure function of the signal's bytes and the tenant's key.
#[derive(Debug)]
pub struct Parsed<'a> {
    people: &'a Pseudonymizer,
    signal: SignalId,
    /// What the signal states.
    pub facts: Vec<Fact>,
    /// What could not be read.
    pub rejections: Vec<Rejection>,
    /// Who is behind the pseudonyms.
    pub names: Vec<NameClaim>,
}

impl<'a> Parsed<'a> {
    /// Nothing yet, for the signal with this id.
    pub fn new(signal: SignalId, people: &'a Pseudonymizer) -> Self {
        Self { people, signal, facts: Vec::new(), rejections: Vec::new(), names: Vec::new() }
    }

    /// States a fact. `at` is the tool's own version or clock: latest wins by it, then by signal id (I3).
    pub fn fact(&mut self, at: Micros, body: FactBody) {
        self.facts.push(Fact { signal: self.signal, seq: 0, at, body });
    }

    /// Numbers the facts; one stated twice by the same signal counts once (I2).
    pub fn finish(mut self) -> Self {
        let mut seen = std::collections::HashSet::with_capacity(self.facts.len());
        let first: Vec<bool> = self.facts.iter().map(|f| seen.insert((f.at, &f.body))).collect();
        let mut first = first.into_iter();
        self.facts.retain(|_| first.next().unwrap_or(true));
        for (seq, fact) in self.facts.iter_mut().enumerate() {
            fact.seq = seq as i64;
        }
        self
    }

    /// States that something could not be read, and why.
    pub fn reject(&mut self, reason: impl Into<Text>) {
        self.rejections.push(Rejection { reason: reason.into() });
    }

    /// The pseudonym of an account. Also states the account as a fact and its name to the vault.
    pub fn person(&mut self, at: Micros, source: &str, account: &Account<'_>, name: &str, bot: bool) -> PersonId {
        let person = self.people.person(account);
        let (kind, text) = match account {
            Account::Email(email) => ("email", email.trim().to_lowercase()),
            Account::Login { source, login } => ("login", format!("{source}:{login}")),
        };
        let name = if name.trim().is_empty() { text.as_str() } else { name.trim() };
        let claim = NameClaim { person, name: name.to_owned(), account: text.clone() };
        if !self.names.contains(&claim) {
            self.names.push(claim);
        }
        let body = crate::fact::AccountFact { person, source: source.into(), kind: kind.into(), bot };
        self.fact(at, FactBody::Account(body));
        person
    }
}
