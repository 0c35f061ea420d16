//! Typed ids. Keys on the hot path are fixed-width hashes; people are pseudonyms from the connector onward (I8).

use std::{cell::RefCell, collections::HashMap, fmt, str::FromStr};

use foldhash::fast::RandomState;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    digest::RowBytes,
    record::{Cell, ColumnKind, Field, Texts, Value},
    words,
};

/// A commit point of the pipeline: the number of signals, over all partitions, that it covers.
///
/// With one partition epoch *e* covers exactly the first *e* signals of the log; the manifest of a commit records the
/// position of every partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

pub(crate) fn digest_128(parts: &[&[u8]]) -> u128 {
    let mut hash = Sha256::new();
    for part in parts {
        // Length first, so that ("ab", "c") and ("a", "bc") differ.
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let mut half = [0u8; 16];
    half.copy_from_slice(&digest[..16]);
    u128::from_be_bytes(half)
}

macro_rules! hex_id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u128);

        // For people 32 hexadecimal digits (JSON has no integers of 128 bits), for machines the integer.
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                if to.is_human_readable() { to.collect_str(self) } else { self.0.serialize(to) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                if from.is_human_readable() {
                    String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
                } else {
                    u128::deserialize(from).map($name)
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(std::str::from_utf8(&hex_digits(self.0)).unwrap_or_default())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                let wrong = || format!("{text:?} is no {}: 32 hexadecimal digits are expected", stringify!($name));
                of_hex_digits(text).map($name).ok_or_else(wrong)
            }
        }

        impl Field for $name {
            const KIND: ColumnKind = ColumnKind::Text;
            fn into_value(self) -> Value {
                Value::Text(std::str::from_utf8(&hex_digits(self.0)).unwrap_or_default().into())
            }
            fn push_bytes(&self, out: &mut RowBytes) {
                out.text(std::str::from_utf8(&hex_digits(self.0)).unwrap_or_default());
            }
            fn from_cell(cell: Cell<'_>, _: &mut Texts) -> Option<Self> {
                if let Cell::Text(digits) = cell { digits.parse().ok() } else { None }
            }
        }
    };
}

/// The 32 hexadecimal digits. Every row has ids: the formatter of the standard library takes four times as long.
fn hex_digits(id: u128) -> [u8; 32] {
    let mut digits = [0; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(id.to_be_bytes()) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    digits
}

/// The value of each byte as a hexadecimal digit; 16 where it is none.
const DIGITS: [u8; 256] = {
    let mut digits = [16; 256];
    let mut value = 0;
    while value < 16 {
        digits[b"0123456789abcdef"[value] as usize] = value as u8;
        digits[b"0123456789ABCDEF"[value] as usize] = value as u8;
        value += 1;
    }
    digits
};

/// What 32 hexadecimal digits stand for. A restart reads millions of them.
fn of_hex_digits(text: &str) -> Option<u128> {
    if text.len() != 32 {
        return None;
    }
    let (mut id, mut all) = ([0u64; 2], 0);
    for (half, digits) in id.iter_mut().zip(text.as_bytes().chunks_exact(16)) {
        for digit in digits.iter().map(|byte| DIGITS[usize::from(*byte)]) {
            *half = *half << 4 | u64::from(digit & 15);
            all |= digit;
        }
    }
    (all < 16).then_some(u128::from(id[0]) << 64 | u128::from(id[1]))
}

hex_id! {
    /// Identity of a signal: a hash of its source and delivery id, so that a redelivery has the same id (I2).
    SignalId
}

impl SignalId {
    /// The id of a delivery that the tool numbered.
    pub fn of_delivery(source: &str, delivery: &str) -> Self {
        SignalId(digest_128(&[b"delivery", source.as_bytes(), delivery.as_bytes()]))
    }

    /// The id of a delivery that the tool did not number: its bytes.
    pub fn of_bytes(source: &str, bytes: &[u8]) -> Self {
        SignalId(digest_128(&[b"bytes", source.as_bytes(), bytes]))
    }
}

hex_id! {
    /// Identity of an entity: a hash of tenant, kind and native id. Used as key in the dataflow, never shown.
    EntityId
}

/// The tenant whose facts these are. One until tenants are configured; part of every id so that they can be.
const TENANT: &[u8] = b"default";

impl EntityId {
    /// The id of an entity that its tool calls `native`.
    pub fn of(kind: EntityKind, native: &str) -> Self {
        EntityId(digest_128(&[TENANT, kind.word().as_bytes(), native.as_bytes()]))
    }

    /// An id for something that several texts tell apart, of a sort that `sort` names: two lists of texts have the same id
    /// only where they are the same.
    pub fn of_parts(sort: &str, parts: &[&str]) -> Self {
        let mut all = vec![TENANT, sort.as_bytes()];
        all.extend(parts.iter().map(|part| part.as_bytes()));
        EntityId(digest_128(&all))
    }

    /// The id of a ticket project (or of a repository, for trackers whose project it is).
    pub fn of_project(key: &str) -> Self {
        EntityId(digest_128(&[TENANT, b"project", key.as_bytes()]))
    }
}

words! {
    /// What a fact can be about.
    pub enum EntityKind {
        /// A person, by pseudonym.
        User = "User",
        /// A commit; its native id is the sha.
        Commit = "Commit",
        /// A pull or merge request; `owner/repo#number`.
        PullRequest = "PullRequest",
        /// A review of a pull request.
        Review = "Review",
        /// A ticket; its key.
        Ticket = "Ticket",
        /// A run of a build or workflow.
        Build = "Build",
        /// A deployment.
        DeploymentEvent = "DeploymentEvent",
        /// An incident.
        Incident = "Incident",
        /// A design file.
        DesignFile = "DesignFile",
        /// A document.
        ContentDoc = "ContentDoc",
        /// A chat message.
        Message = "Message",
        /// A calendar event.
        CalendarEvent = "CalendarEvent",
        /// A focus session.
        FocusSession = "FocusSession",
    }
}

hex_id! {
    /// A person's pseudonym: HMAC-SHA-256 of an account under the tenant's key, cut to 128 bits (I8).
    PersonId
}

hex_id! {
    /// A name or login under the tenant's key, cut to 128 bits: two accounts can be compared by it, and it names nobody (I8).
    Token
}

/// What a [`Token`] is made of. Tokens of different kinds never equal one another, nor a [`PersonId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A display name, as [`crate::naming::name`] makes it comparable.
    Name,
    /// A login or e-mail address, as [`crate::naming::handle`] makes it comparable.
    Handle,
}

/// Makes pseudonyms under the tenant's key. A bare hash would be reversed by a list of e-mail addresses.
///
/// A name costs several digests, and a few people are named over and over: each thread remembers what it made lately. A
/// function of key and text all the same.
#[derive(Clone)]
pub struct Pseudonymizer {
    keyed: Hmac<Sha256>,
    /// Tells what was made with another key.
    key: u128,
}

/// Texts whose digest a thread remembers, and their length (I9): some MiB at most.
const REMEMBERED_MAX: usize = 16_384;
const REMEMBERED_BYTES_MAX: usize = 256;

thread_local! {
    static REMEMBERED: RefCell<HashMap<Box<[u8]>, Option<u128>, RandomState>> = RefCell::default();
}

impl fmt::Debug for Pseudonymizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pseudonymizer(key withheld)")
    }
}

impl Pseudonymizer {
    /// With the tenant's key, 32 random bytes.
    pub fn new(key: &[u8; 32]) -> Self {
        #[allow(clippy::expect_used)] // HMAC takes keys of every length.
        let keyed = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes any key");
        let key = cut(keyed.clone());
        Self { keyed, key }
    }

    /// The pseudonym of an account. E-mail addresses are compared without regard to case.
    pub fn person(&self, account: &Account<'_>) -> PersonId {
        let made = match account {
            Account::Email(email) => self.remembered(&[b"email", email.as_bytes()], || {
                Some(self.digest(&[b"email", email.trim().to_lowercase().as_bytes()]))
            }),
            Account::Login { source, login } => {
                let parts: [&[u8]; 3] = [b"login", source.as_bytes(), login.as_bytes()];
                self.remembered(&parts, || Some(self.digest(&parts)))
            }
        };
        PersonId(made.unwrap_or_default())
    }

    /// The token of a name or a login as a tool writes it, where it can be compared: see [`crate::naming`].
    pub fn token(&self, kind: TokenKind, text: &str) -> Option<Token> {
        type Plain = fn(&str) -> Option<String>;
        let (word, plain): (&[u8], Plain) = match kind {
            TokenKind::Name => (b"name", crate::naming::name),
            TokenKind::Handle => (b"handle", crate::naming::handle),
        };
        let made = || plain(text).map(|plain| self.digest(&[word, plain.as_bytes()]));
        self.remembered(&[word, text.as_bytes()], made).map(Token)
    }

    /// The digest of texts, with a zero between them.
    fn digest(&self, parts: &[&[u8]]) -> u128 {
        let mut mac = self.keyed.clone();
        for (n, part) in parts.iter().enumerate() {
            if n > 0 {
                mac.update(b"\0");
            }
            mac.update(part);
        }
        cut(mac)
    }

    fn remembered(&self, parts: &[&[u8]], make: impl FnOnce() -> Option<u128>) -> Option<u128> {
        let mut text =
            Vec::with_capacity(size_of_val(&self.key) + parts.iter().map(|part| part.len() + 1).sum::<usize>());
        text.extend_from_slice(&self.key.to_le_bytes());
        for part in parts {
            text.extend_from_slice(part);
            text.push(0);
        }
        REMEMBERED.with_borrow_mut(|remembered| {
            if let Some(made) = remembered.get(text.as_slice()) {
                return *made;
            }
            if remembered.len() >= REMEMBERED_MAX {
                remembered.clear();
            }
            let made = make();
            // What is longer than a name is remembered by nobody.
            if text.len() <= REMEMBERED_BYTES_MAX {
                remembered.insert(text.into_boxed_slice(), made);
            }
            made
        })
    }
}

/// The first 128 bits of what was fed.
fn cut(mac: Hmac<Sha256>) -> u128 {
    let digest = mac.finalize().into_bytes();
    let mut half = [0u8; 16];
    half.copy_from_slice(&digest[..16]);
    u128::from_be_bytes(half)
}

/// How a tool names a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account<'a> {
    /// By e-mail address: the same person in every tool.
    Email(&'a str),
    /// By an account of one tool.
    Login {
        /// The tool.
        source: &'a str,
        /// Its native account id or login.
        login: &'a str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_stable_and_separate() {
        // A change here orphans every stored id: it needs a migration, not a new expectation.
        assert_eq!(SignalId::of_delivery("github", "1").to_string(), SignalId::of_delivery("github", "1").to_string());
        assert_ne!(SignalId::of_delivery("ab", "c"), SignalId::of_delivery("a", "bc"));
        assert_ne!(EntityId::of(EntityKind::Commit, "x"), EntityId::of(EntityKind::Ticket, "x"));
        let id = SignalId::of_bytes("git", b"x");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string(), format!("{:032x}", id.0));
        assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
        for wrong in ["xyz", "+0000000000000000000000000000000", "0000000000000000000000000000000g", "éééééééééééééééé"]
        {
            assert!(wrong.parse::<SignalId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn pseudonyms_need_the_key() {
        let one = Pseudonymizer::new(&[1; 32]);
        let two = Pseudonymizer::new(&[2; 32]);
        let mail = Account::Email("Ada@Example.org");
        assert_eq!(one.person(&mail), one.person(&Account::Email("ada@example.org ")));
        assert_ne!(one.person(&mail), two.person(&mail));
        assert!(!format!("{one:?}").contains('1'));
        // What was made before is remembered, by key and kind.
        let name = one.token(TokenKind::Name, "Ada Lovelace");
        assert!(name.is_some() && name == one.token(TokenKind::Name, "ada  lovelace"));
        assert_ne!(name, two.token(TokenKind::Name, "Ada Lovelace"));
        assert_ne!(name, one.token(TokenKind::Handle, "Ada Lovelace"));
        let many = (0..2 * REMEMBERED_MAX).map(|n| one.person(&Account::Email(&n.to_string())));
        assert_eq!(many.collect::<std::collections::BTreeSet<_>>().len(), 2 * REMEMBERED_MAX);
        assert_eq!(name, one.token(TokenKind::Name, "Ada Lovelace"));
    }
}
