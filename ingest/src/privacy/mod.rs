//! Taking one person out of signals, and finding what is held of them.
//!
//! Whoever is to be forgotten is a [`Subject`]: the accounts and names that the vault knows of them, and a random token
//! that takes their place. A redacted signal is the same signal, of the same id and time, without them; parsed again, it
//! states the same facts, of the token's pseudonyms instead of theirs, so that every total stays.
//!
//! ```text
//! subject   accounts and names, what stands in the place of each, old and new pseudonyms
//! rules     the same, ready to be looked for
//! view      a text with its escapes undone     fold   what counts as the same character
//! text      a person in text                   link   where in a text a word is an account
//! walk      every value of a body in JSON      class  what a value is, by its key
//! json      which objects describe the person, and what becomes of each value
//! form      the same for forms                 receipt, held   what is handed out
//! row       rows that are left of signals that are gone
//! pending   an erasure that has begun
//! ```
//!
//! What is replaced, and where:
//!
//! - **E-mail addresses, names of several words, and words that can mean nobody else** (a digit, `-`, `_` or `.` and four
//!   characters, or eight letters) wherever they stand as whole words: values, titles, messages, links, branches, the bytes
//!   of what cannot be read. A hyphen ends a word: of the branch `ada-l/SHOP-1-fix` the ticket is left, and of
//!   `ada-l-2/shop` as well only `-2/shop`, although that is another's.
//! - **Words that could mean anything** (`main`, `fix`) only where they are an account: the login of an object that
//!   describes somebody, `@main`, `github:main`, links to users and their repositories, `main/shop#12`.
//! - **What else an object says of them** that describes them: pictures, links, numbers, time zones.
//! - An account is only replaced as a whole, so that nobody else's changes: not in `@ada-l-2`, nor in `x.ada-l@y.org`. A
//!   namesake keeps accounts and loses the name.
//! - Never the vocabulary of tools (`state`, `action`, …), nor other keys of objects than accounts.
//!
//! What cannot be found: accounts that nobody claimed, nicknames and initials, misspelt names, first names by themselves,
//! pictures and attachments, what several layers of encoding hide, and a description of the person in words. The id of a
//! signal whose tool numbers no deliveries stays the hash of its first bytes.
//!
//! Invariants: pure; a redacted signal is not changed again; nothing panics, and time and memory are linear in the bytes (I9,
//! I10). Knows nothing of the log, of files, or of who may ask for this.

mod class;
mod fold;
mod form;
mod held;
mod json;
mod link;
mod pending;
mod receipt;
mod row;
mod rules;
mod subject;
mod text;
mod token;
mod view;
mod walk;

#[cfg(test)]
mod facts_test;
#[cfg(test)]
mod hostile_test;
#[cfg(test)]
mod naive_test;
#[cfg(test)]
mod tests;

use flowsync_schemas::Signal;

pub use self::{
    held::exported,
    pending::{Pending, PendingError, erasures},
    receipt::{Erased, Receipt, ReceiptError},
    subject::{Claimed, Subject},
    token::{RandomError, Salt, Token, TokenError},
};
use self::{
    json::Redaction,
    text::{Ground, Written},
};

impl Subject {
    /// Whether a signal holds any of the identifiers, where they mean this person.
    pub fn is_in(&self, signal: &Signal) -> bool {
        self.redact(signal).is_some()
    }

    /// The signal without the person, `None` where they are not in it. Id, source, times, channel and check are the same;
    /// of body, headers and delivery id only what names them is replaced.
    pub fn redact(&self, signal: &Signal) -> Option<Signal> {
        let body = self.redact_body(&signal.source, &signal.body);
        let delivery = self.redact_text(&signal.delivery);
        let header = |(name, value): &(String, String)| {
            // The name of an event is the tool's.
            let words = name.ends_with("-event") || name.ends_with("-timestamp");
            if words { None } else { self.redact_text(value) }
        };
        let headers: Vec<_> = signal.headers.iter().map(header).collect();
        if body.is_none() && delivery.is_none() && headers.iter().all(Option::is_none) {
            return None;
        }
        let mut redacted = signal.clone();
        if let Some(body) = body {
            redacted.body = body;
        }
        if let Some(delivery) = delivery {
            redacted.delivery = delivery;
        }
        for ((_, value), new) in redacted.headers.iter_mut().zip(headers) {
            if let Some(new) = new {
                *value = new;
            }
        }
        Some(redacted)
    }

    /// The same for one text cell of a table, for rows whose signals are gone: `None` where the person is not in it. A cell
    /// that holds a pseudonym is replaced by [`Subject::pseudonyms`].
    pub fn redact_text(&self, text: &str) -> Option<String> {
        self.rules().rewrite_text(text)
    }

    fn redact_body(&self, source: &str, body: &[u8]) -> Option<Vec<u8>> {
        let rules = self.rules();
        if rules.is_clean(body) {
            return None;
        }
        let Ok(text) = std::str::from_utf8(body) else {
            return rules.rewrite(body, Written::Anyhow, Ground::Rough);
        };
        match Redaction::of(rules, source, text) {
            Ok(redacted) => redacted.map(String::into_bytes),
            Err(_) if form::is_form(text) => form::redacted(rules, source, text).map(String::into_bytes),
            Err(_) => rules.rewrite(body, Written::Anyhow, Ground::Rough),
        }
    }
}
