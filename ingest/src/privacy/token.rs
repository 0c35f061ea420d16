//! What stands in the place of a person, and what a receipt is salted with.

use std::{fmt, str::FromStr};

use flowsync_schemas::naming;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

const PREFIX: &str = "erased-";
const DIGITS: usize = 10;
/// A domain that will never be anybody's (RFC 2606).
const DOMAIN: &str = "@erased.invalid";

/// A random word for one person who was taken out: `erased-1a2b3c4d5e`.
///
/// Its ten hexadecimal digits begin with a number and end with a letter, so that no reader of ticket keys or of issue
/// numbers finds one in it, whatever stands beside it: neither `erased-1234567890` nor `abcdef-2` may come to be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(String);

/// The text is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no token of an erasure, such as erased-1a2b3c4d5e")]
pub struct TokenError(String);

/// No random numbers could be had from the system.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random numbers: {0}")]
pub struct RandomError(String);

impl RandomError {
    /// Whether the same call can succeed later: a system that is starting may have none yet.
    pub fn is_retryable(&self) -> bool {
        true
    }
}

fn random<const N: usize>() -> Result<[u8; N], RandomError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| RandomError(e.to_string()))?;
    Ok(bytes)
}

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// Where the system gives no random numbers.
    pub fn random() -> Result<Self, RandomError> {
        Ok(Self::from_bytes(random()?))
    }

    /// The token that these random bytes make, a byte a digit.
    pub fn from_bytes(bytes: [u8; DIGITS]) -> Self {
        let digit = |(place, byte): (usize, &u8)| {
            let digits: &[u8] = match place {
                0 => b"0123456789",
                9 => b"abcdef",
                _ => b"0123456789abcdef",
            };
            char::from(digits[usize::from(*byte) % digits.len()])
        };
        Self(PREFIX.chars().chain(bytes.iter().enumerate().map(digit)).collect())
    }

    /// The word itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The person's account number `n`, from 1. What follows a plus is left out where accounts are compared
    /// ([`flowsync_schemas::naming::handle`]), so that all of them are still recognised as one person's.
    pub(super) fn account(&self, n: usize) -> String {
        if n <= 1 { self.0.clone() } else { format!("{}+{n}", self.0) }
    }

    /// The person's e-mail address number `n`.
    pub(super) fn email(&self, n: usize) -> String {
        self.account(n) + DOMAIN
    }

    /// What stands in the place of a name. Of a full name two words are left: what is compared by names ([`naming::name`])
    /// stays comparable, the account of a namesake too, and no name comes to be taken for a login. What ends in `[bot]` is no
    /// human's, and stays so.
    pub(super) fn name(&self, old: &str) -> String {
        let mut new = self.0.clone();
        if naming::name(old).is_some() {
            new = new.replace('-', " ");
        }
        bot(old, new)
    }

    /// Whether a text begins with what stands in the person's place.
    pub(super) fn opens(&self, text: &str) -> bool {
        let head = text.split_at_checked(PREFIX.len() + DIGITS);
        head.is_some_and(|(head, _)| head == self.0 || head == self.0.replace('-', " "))
    }

    /// Where a link to the person led.
    pub(super) fn url(&self) -> String {
        format!("https://erased.invalid/{}", self.0)
    }
}

/// What ends in `[bot]` goes on doing so.
pub(super) fn bot(old: &str, mut new: String) -> String {
    if old.trim_end().ends_with("[bot]") {
        new.push_str("[bot]");
    }
    new
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let digits = text.strip_prefix(PREFIX).unwrap_or_default().as_bytes();
        let hex = digits.len() == DIGITS && digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if hex && digits[0].is_ascii_digit() && digits[DIGITS - 1].is_ascii_alphabetic() {
            Ok(Self(text.to_owned()))
        } else {
            Err(TokenError(text.to_owned()))
        }
    }
}

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// What a receipt's hash of identifiers is salted with: 32 random bytes, as hexadecimal digits.
///
/// It is the person's, and in no receipt: with it, a list of e-mail addresses would tell whose the receipt is (I8).
#[derive(Clone, PartialEq, Eq)]
pub struct Salt(pub(super) [u8; 32]);

impl Salt {
    /// A new one.
    ///
    /// # Errors
    /// Where the system gives no random numbers.
    pub fn random() -> Result<Self, RandomError> {
        random().map(Self)
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(withheld)")
    }
}

impl fmt::Display for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for Salt {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, hex::FromHexError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.trim(), &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl Serialize for Salt {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Salt {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn tokens_are_read_again_and_nothing_else_is() {
        for _ in 0..200 {
            let token = Token::random().unwrap();
            assert_eq!(token.to_string().parse(), Ok(token.clone()));
            assert_eq!(serde_json::from_str::<Token>(&serde_json::to_string(&token).unwrap()).unwrap(), token);
        }
        assert_eq!(Token::from_bytes([0; 10]).as_str(), "erased-000000000a");
        for none in ["", "erased-", "erased-1234567890", "erased-a23456789a", "erased-1A2b3c4d5e", "1a2b3c4d5e"] {
            assert!(none.parse::<Token>().unwrap_err().to_string().contains("erased-1a2b3c4d5e"), "{none}");
        }
    }

    #[test]
    fn the_accounts_of_one_person_differ_and_have_one_handle() {
        let token = Token::from_bytes([7; 10]);
        let accounts = [token.account(1), token.account(2), token.email(1), token.email(2)];
        assert_eq!(accounts[3], format!("{token}+2@erased.invalid"));
        let handles: std::collections::BTreeSet<_> = accounts.iter().map(|a| naming::handle(a).unwrap()).collect();
        assert_eq!(handles.len(), 1);
        assert_eq!(naming::name(&token.name("ada")), None);
        assert_eq!(naming::name(&token.name("Ada Lovelace")), naming::name(&token.name("A. King")));
        assert!(naming::name(&token.name("Ada Lovelace")).is_some());
        for text in [token.name("ada"), token.name("Ada Lovelace"), token.email(2)] {
            assert!(token.opens(&text), "{text}");
        }
        assert!(!token.opens("erased-") && !token.opens("erased-é234567890"));
    }

    #[test]
    fn a_salt_is_read_again_and_not_shown_by_accident() {
        let salt = Salt::random().unwrap();
        assert_eq!(salt.to_string().parse(), Ok(salt.clone()));
        assert!(!format!("{salt:?}").contains(&salt.to_string()));
        assert!("12".parse::<Salt>().is_err());
    }
}
