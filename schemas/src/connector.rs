//! What a connector says of itself, and what it says of a signal.

use std::{
    collections::{HashSet, VecDeque},
    hash::Hash,
};

use foldhash::fast::RandomState;

use crate::{
    fact::{AccountFact, Fact, FactBody},
    id::{Account, PersonId, Pseudonymizer, SignalId, TokenKind},
    naming,
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

/// Rejections that one signal can cause; of more only the number is told (I9).
pub const REJECTIONS_MAX: usize = 1_000;

/// Input that a connector cannot read: shown in the view `rejects`, never dropped (I10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// What is wrong, where, and what to do.
    pub reason: Text,
}

/// A name or address behind a pseudonym. Goes into the identity vault, nowhere else (I8).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// Rejections beyond [`REJECTIONS_MAX`].
    unlisted: usize,
    /// Accounts that were stated last, the newest first.
    stated: VecDeque<Stated>,
}

/// Accounts of one signal that are remembered (I9): those of a push are a few people's, over and over.
const STATED_MAX: usize = 8;

/// An account that was stated, and what it was stated by.
#[derive(Debug)]
struct Stated {
    at: Micros,
    /// Login or address, as the tool writes it.
    login: String,
    name: String,
    body: AccountFact,
}

impl<'a> Parsed<'a> {
    /// Nothing yet, for the signal with this id.
    pub fn new(signal: SignalId, people: &'a Pseudonymizer) -> Self {
        Self {
            people,
            signal,
            facts: Vec::new(),
            rejections: Vec::new(),
            names: Vec::new(),
            unlisted: 0,
            stated: VecDeque::new(),
        }
    }

    /// States a fact. `at` is the tool's own version or clock: latest wins by it, then by signal id (I3).
    pub fn fact(&mut self, at: Micros, body: FactBody) {
        self.facts.push(Fact { signal: self.signal, seq: 0, at, body });
    }

    /// Numbers the facts; one stated twice by the same signal counts once (I2), and so does a name.
    pub fn finish(mut self) -> Self {
        let mut first = first_of_each(self.facts.iter().map(|fact| (fact.at, &fact.body)));
        self.facts.retain(|_| first.next().unwrap_or(true));
        for (seq, fact) in self.facts.iter_mut().enumerate() {
            fact.seq = seq as i64;
        }
        let mut first = first_of_each(self.names.iter());
        self.names.retain(|_| first.next().unwrap_or(true));
        if self.unlisted > 0 {
            let reason =
                format!("{} more, the limit of one delivery is {REJECTIONS_MAX} that are listed", self.unlisted);
            self.rejections.push(Rejection { reason: reason.into() });
            self.unlisted = 0;
        }
        self
    }

    /// States that something could not be read, and why.
    pub fn reject(&mut self, reason: impl Into<Text>) {
        if self.rejections.len() >= REJECTIONS_MAX {
            self.unlisted += 1;
            return;
        }
        self.rejections.push(Rejection { reason: reason.into() });
    }

    /// The pseudonym of an account that somebody speaks of: nothing is stated of it.
    pub fn pseudonym(&self, account: &Account<'_>) -> PersonId {
        self.people.person(account)
    }

    /// The pseudonym of an account. Also states the account as a fact and its name to the vault.
    pub fn person(&mut self, at: Micros, source: &str, account: &Account<'_>, name: &str, bot: bool) -> PersonId {
        self.person_also(at, source, account, None, name, bot)
    }

    /// As [`Parsed::person`], of a person whom the same record of the tool gives a second account. Both are stated, and that
    /// they are one person's. An address that GitHub made up names its login by itself.
    pub fn person_also(
        &mut self,
        at: Micros,
        source: &str,
        account: &Account<'_>,
        also: Option<Account<'_>>,
        name: &str,
        bot: bool,
    ) -> PersonId {
        let also = also.or_else(|| match account {
            Account::Email(email) => {
                naming::noreply_login(email).map(|login| Account::Login { source: "github", login })
            }
            Account::Login { .. } => None,
        });
        let same_as = also.map(|also| self.account(at, source, &also, None, name, bot));
        self.account(at, source, account, same_as, name, bot)
    }

    fn account(
        &mut self,
        at: Micros,
        source: &str,
        account: &Account<'_>,
        same_as: Option<PersonId>,
        name: &str,
        bot: bool,
    ) -> PersonId {
        let name = name.trim();
        let (kind, source, login) = match account {
            Account::Email(email) => ("email", source, *email),
            Account::Login { source, login } => ("login", *source, *login),
        };
        let again = |stated: &&Stated| {
            let body = &stated.body;
            let same = stated.login == login && stated.name == name && *body.kind == *kind && *body.source == *source;
            same && body.bot == bot && body.same_as == same_as.filter(|other| *other != body.person)
        };
        if let Some(Stated { at: when, body, .. }) = self.stated.iter().find(again) {
            let (person, body) = (body.person, (*when != at).then(|| body.clone()));
            body.into_iter().for_each(|body| self.fact(at, FactBody::Account(body)));
            return person;
        }
        let person = self.people.person(account);
        let text = match account {
            Account::Email(_) => login.trim().to_lowercase(),
            Account::Login { .. } => format!("{source}:{login}"),
        };
        let shown = if name.is_empty() { text.clone() } else { name.to_owned() };
        self.names.push(NameClaim { person, name: shown, account: text });
        let handle = match account {
            Account::Login { .. } if naming::is_opaque(source, login) => {
                // Then the name beside it may be the login that people see, as in Slack.
                if name.contains(char::is_whitespace) { "" } else { name }
            }
            Account::Email(_) | Account::Login { .. } => login,
        };
        let body = AccountFact {
            person,
            source: source.into(),
            kind: kind.into(),
            bot,
            name: self.people.token(TokenKind::Name, name),
            handle: self.people.token(TokenKind::Handle, handle),
            same_as: same_as.filter(|other| *other != person),
        };
        self.stated.truncate(STATED_MAX - 1);
        self.stated.push_front(Stated { at, login: login.to_owned(), name: name.to_owned(), body: body.clone() });
        self.fact(at, FactBody::Account(body));
        person
    }
}

/// Whether each is the first of those that are the same.
fn first_of_each<K: Eq + Hash>(keys: impl ExactSizeIterator<Item = K>) -> std::vec::IntoIter<bool> {
    let mut seen = HashSet::with_capacity_and_hasher(keys.len(), RandomState::default());
    keys.map(|key| seen.insert(key)).collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Accounts as they were stated: kind, source, whether they have name and handle, whether they are tied to another.
    fn stated(f: impl FnOnce(&mut Parsed<'_>) -> PersonId) -> Vec<(String, String, bool, bool, bool)> {
        let people = Pseudonymizer::new(&[7; 32]);
        let mut out = Parsed::new(SignalId(1), &people);
        f(&mut out);
        let of = |fact: Fact| match fact.body {
            FactBody::Account(a) => {
                (a.kind.to_string(), a.source.to_string(), a.name.is_some(), a.handle.is_some(), a.same_as.is_some())
            }
            other => panic!("{other:?}"),
        };
        out.finish().facts.into_iter().map(of).collect()
    }

    fn row(kind: &str, source: &str, name: bool, handle: bool, tied: bool) -> (String, String, bool, bool, bool) {
        (kind.into(), source.into(), name, handle, tied)
    }

    #[test]
    fn an_account_has_what_can_be_compared() {
        let mail = Account::Email("ada.l@example.org");
        let of = |name| stated(|out| out.person(Micros(1), "git", &mail, name, false));
        assert_eq!(of("Ada Lovelace"), [row("email", "git", true, true, false)]);
        assert_eq!(of("ada"), [row("email", "git", false, true, false)]);
        let slack = Account::Login { source: "slack", login: "U024BE7LH" };
        let of = |name| stated(|out| out.person(Micros(1), "slack", &slack, name, false));
        assert_eq!(of("ada.lovelace"), [row("login", "slack", false, true, false)]);
        assert_eq!(of("Ada Lovelace"), [row("login", "slack", true, false, false)]);
        assert_eq!(of(""), [row("login", "slack", false, false, false)]);
    }

    #[test]
    fn an_account_that_is_stated_again_counts_once_unless_something_of_it_differs() {
        let mail = |n: usize| format!("ada{n}@example.org");
        let (one, other) = ("Ada Lovelace", "Ada Byron");
        let many = (0..2 * STATED_MAX)
            .flat_map(|n| [(1, one), (1, one), (2, one), (1, other)].map(|(at, name)| (at, mail(n), name)));
        let people = Pseudonymizer::new(&[7; 32]);
        let mut out = Parsed::new(SignalId(1), &people);
        for (at, mail, name) in many.clone().chain(many.rev()) {
            let person = out.person(Micros(at), "git", &Account::Email(&mail), name, false);
            assert_eq!(person, people.person(&Account::Email(&mail)));
        }
        let out = out.finish();
        assert_eq!((out.facts.len(), out.names.len()), (3 * 2 * STATED_MAX, 2 * 2 * STATED_MAX));
    }

    #[test]
    fn a_second_account_of_the_same_record_is_stated_and_tied() {
        let mail = Account::Email("ada@example.org");
        let login = Account::Login { source: "github", login: "ada-l" };
        let both = stated(|out| out.person_also(Micros(1), "github", &mail, Some(login), "Ada Lovelace", false));
        assert_eq!(both, [row("login", "github", true, true, false), row("email", "github", true, false, true)]);
        let noreply = Account::Email("7+ada-l@users.noreply.github.com");
        let both = stated(|out| out.person(Micros(1), "git", &noreply, "Ada Lovelace", false));
        assert_eq!(both, [row("login", "github", true, true, false), row("email", "git", true, true, true)]);
    }
}
