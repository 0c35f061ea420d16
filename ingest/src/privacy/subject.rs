//! Who is taken out, and what stands in the place of each of their accounts and names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use flowsync_schemas::{NameClaim, PersonId, Pseudonymizer, id::Account, naming};
use serde::{Deserialize, Serialize};

use super::{
    fold::{self, Fold},
    rules::Rules,
    token::{Salt, Token, bot},
};
use crate::connectors;

/// Sources of which somebody given by a bare word can have an account.
const TOOLS: [&str; 5] = ["git", "github", "jira", "manual", "slack"];

/// A person who is taken out: by which accounts and names the signals know them, and the token that replaces these.
///
/// Serialisable, so that an erasure that was interrupted goes on with the same token. What it holds names the person:
/// whoever stores it removes it when the erasure is done.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Subject {
    stored: Stored,
    accounts: Accounts,
    rules: Rules,
}

/// What a subject is made of.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    token: Token,
    salt: Salt,
    claims: Vec<Claim>,
    more: Vec<String>,
}

/// A [`NameClaim`].
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    person: PersonId,
    name: String,
    account: String,
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subject({}, names withheld)", self.stored.token)
    }
}

impl From<Stored> for Subject {
    fn from(stored: Stored) -> Self {
        let accounts = Accounts::of(&stored);
        let rules = Rules::new(&accounts, &stored.token);
        Self { stored, accounts, rules }
    }
}

impl From<Subject> for Stored {
    fn from(subject: Subject) -> Self {
        subject.stored
    }
}

impl Subject {
    /// The person of these claims. They should be the claims of all pseudonyms that are known to be this person's: what is
    /// not claimed is not found. `more` are further identifiers that somebody knows of: e-mail addresses, `source:login`,
    /// names of several words, or single words, which are taken for logins of any tool.
    pub fn new(claims: &[NameClaim], more: &[String], token: Token, salt: Salt) -> Self {
        let claims: BTreeSet<&NameClaim> = claims.iter().collect();
        let claim =
            |c: &NameClaim| Claim { person: c.person, name: c.name.trim().to_owned(), account: c.account.clone() };
        let more: BTreeSet<_> =
            more.iter().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect();
        let claims = claims.into_iter().map(claim).collect();
        Stored { token, salt, claims, more: more.into_iter().collect() }.into()
    }

    /// What stands in the person's place.
    pub fn token(&self) -> &Token {
        &self.stored.token
    }

    /// What the receipt's hash of identifiers is salted with: to be handed to the person, and kept nowhere.
    pub fn salt(&self) -> &Salt {
        &self.stored.salt
    }

    /// Everything that is looked for, sorted, each once: e-mail addresses in lower case, `source:login`, names. The text
    /// that the receipt's hash is made of.
    pub fn identifiers(&self) -> Vec<String> {
        let Accounts { emails, logins, names, .. } = &self.accounts;
        let logins = logins.iter().flat_map(|(login, of)| {
            let named = of.sources.iter().map(move |source| format!("{source}:{login}"));
            named.chain(of.anywhere.then(|| login.clone()))
        });
        let all = emails.keys().cloned().chain(logins).chain(names.keys().cloned());
        all.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// By what a claim of the vault is this person's, also one that was not given, such as the same login in another case.
    /// Whoever erases looks through the vault with it first, and starts with what is found.
    pub fn claims(&self, claim: &NameClaim) -> Option<Claimed> {
        let account = match classify(&claim.account) {
            Identifier::Email(email) => self.rules.email(&email).is_some(),
            Identifier::Login(source, login) => self.rules.login(&login, source.as_deref()).is_some(),
            Identifier::Name(_) => false,
        };
        let login = claim.account.split_once(':').map_or("", |(_, login)| login);
        let named = self.rules.is_free_name(&claim.name) || self.rules.is_free_name(login);
        if account { Some(Claimed::ByAccount) } else { named.then_some(Claimed::ByName) }
    }

    /// The pseudonyms that the signals gave this person, each with the one that they give when they are redacted.
    pub fn pseudonyms(&self, people: &Pseudonymizer) -> Vec<(PersonId, PersonId)> {
        let claimed = self.stored.claims.iter().filter_map(|claim| {
            let new = match classify(&claim.account) {
                Identifier::Email(email) => people.person(&Account::Email(self.accounts.emails.get(&email)?)),
                Identifier::Login(source, login) => {
                    let (source, login) =
                        (source.as_deref().unwrap_or_default(), &self.accounts.logins.get(&login)?.new);
                    people.person(&Account::Login { source, login })
                }
                Identifier::Name(_) => return None,
            };
            Some((claim.person, new))
        });
        let emails = self.accounts.emails.iter();
        let emails =
            emails.map(|(old, new)| (people.person(&Account::Email(old)), people.person(&Account::Email(new))));
        let logins = self.accounts.logins.iter().flat_map(|(old, of)| {
            // Such a word is replaced as an account of any tool, claimed or not.
            let anywhere = of.anywhere || self.rules.is_free_login(old);
            let anywhere = TOOLS.iter().filter(move |_| anywhere).map(|tool| (*tool).to_owned());
            of.sources.iter().cloned().chain(anywhere).map(move |source| {
                let person = |login: &str| people.person(&Account::Login { source: &source, login });
                (person(old), person(&of.new))
            })
        });
        // In old histories, the name is the account where there is no address.
        let names = self.accounts.names.keys().filter(|name| self.rules.is_full_name(name)).map(|name| {
            let person = |login: &str| people.person(&Account::Login { source: "git", login });
            (person(name), person(&self.stored.token.name(name)))
        });
        let pairs: BTreeSet<_> =
            claimed.chain(emails).chain(logins).chain(names).filter(|(old, new)| old != new).collect();
        pairs.into_iter().collect()
    }

    /// Their names of several words that are nobody else's and nothing else.
    pub(super) fn full_names(&self) -> impl Iterator<Item = &str> {
        self.accounts.names.keys().filter(|name| self.rules.is_full_name(name)).map(String::as_str)
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }
}

/// By what a claim is somebody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The account is theirs, or another spelling of one.
    ByAccount,
    /// The name is one of theirs, or the login is spelled like one. It may be a namesake's: somebody has to decide.
    ByName,
}

/// One way in which a person is named.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Identifier {
    /// In lower case.
    Email(String),
    /// Of a tool, or of any.
    Login(Option<String>, String),
    Name(String),
}

/// What the account of a claim is: `source:login`, or an e-mail address. Those of old histories have no `@`.
fn classify(account: &str) -> Identifier {
    let email = || Identifier::Email(account.trim().to_lowercase());
    let Some((source, login)) = account.split_once(':') else { return email() };
    let is_word = !source.is_empty() && source.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'-' | b'_'));
    if connectors::by_name(source).is_some() || (is_word && !account.contains('@')) {
        Identifier::Login(Some(source.to_owned()), login.to_owned())
    } else {
        email()
    }
}

/// What an operator means by a text.
fn meant(text: &str) -> Identifier {
    let known = text.split_once(':').is_some_and(|(source, _)| connectors::by_name(source).is_some());
    if known || is_address(text) {
        classify(text)
    } else if text.contains(char::is_whitespace) || text.chars().all(fold::is_unspaced) {
        Identifier::Name(text.to_owned())
    } else {
        Identifier::Login(None, text.to_owned())
    }
}

fn is_address(text: &str) -> bool {
    let halves = text.split_once('@');
    !text.contains(char::is_whitespace) && halves.is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty())
}

/// A login, and of whom.
#[derive(Clone, Debug, Default)]
pub struct LoginOf {
    pub sources: BTreeSet<String>,
    /// Whether any tool can have it.
    pub anywhere: bool,
    /// What stands in its place.
    pub new: String,
}

/// All accounts and names, and what stands in their place: a function of the sorted identifiers and the token.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    /// By the address in lower case.
    pub emails: BTreeMap<String, String>,
    /// By the login as it is written.
    pub logins: BTreeMap<String, LoginOf>,
    /// By the name as it is written. Whether an operator gave it.
    pub names: BTreeMap<String, bool>,
}

impl Accounts {
    fn of(stored: &Stored) -> Self {
        let mut made = Self::default();
        for claim in &stored.claims {
            made.add(classify(&claim.account), false);
            // Where a tool tells no name, the account stands for it.
            let name = claim.name.as_str();
            if is_address(name) {
                made.add(Identifier::Email(name.to_lowercase()), false);
            } else if name != claim.account && !name.is_empty() {
                made.add(Identifier::Name(name.to_owned()), false);
            }
        }
        stored.more.iter().for_each(|text| made.add(meant(text), true));
        let Self { emails, logins, names } = &mut made;
        names.retain(|name, _| !logins.contains_key(name));
        let mut numbers = [0; 2];
        for (login, of) in logins.iter_mut() {
            // In old histories the name is the account, and goes on being a name.
            let is_name = naming::name(login).is_some();
            let number = &mut numbers[usize::from(is_name)];
            *number += 1;
            let new = stored.token.account(*number);
            of.new = bot(login, if is_name { new.replace('-', " ") } else { new });
        }
        let mut numbers = [0; 2];
        for (email, new) in emails.iter_mut() {
            let login = naming::noreply_login(email).and_then(|login| same_login(logins, login));
            let number = &mut numbers[usize::from(login.is_some())];
            *number += 1;
            *new = match login {
                // Such an address says whose login it is, and has to go on saying it.
                Some(login) => noreply(*number, login),
                None if email.contains('@') => stored.token.email(*number),
                None => stored.token.account(*number),
            };
        }
        made
    }

    fn add(&mut self, identifier: Identifier, by_hand: bool) {
        match identifier {
            Identifier::Email(email) if !email.is_empty() => {
                if let Some(login) = naming::noreply_login(&email)
                    && same_login(&self.logins, login).is_none()
                {
                    self.add(Identifier::Login(Some("github".to_owned()), login.to_owned()), by_hand);
                }
                self.emails.insert(email, String::new());
            }
            Identifier::Login(source, login) if !login.trim().is_empty() => {
                let of = self.logins.entry(login).or_default();
                of.anywhere |= source.is_none();
                of.sources.extend(source);
            }
            Identifier::Name(name) => *self.names.entry(name).or_default() |= by_hand,
            Identifier::Email(_) | Identifier::Login(..) => {}
        }
    }
}

/// What stands in the place of a login that is this one in any case.
fn same_login<'a>(logins: &'a BTreeMap<String, LoginOf>, login: &str) -> Option<&'a str> {
    let exact = logins.get(login);
    let login = fold::text(login, Fold::Case);
    let other = || logins.iter().find(|(known, _)| fold::text(known, Fold::Case) == login).map(|(_, of)| of);
    exact.or_else(other).map(|of| of.new.as_str())
}

/// An address that GitHub makes up for a login.
pub fn noreply(number: usize, login: &str) -> String {
    format!("{number}+{login}@users.noreply.github.com")
}
