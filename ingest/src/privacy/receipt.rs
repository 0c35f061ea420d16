//! The receipt of an erasure: that it was done, and to what; not of whom.
//!
//! One line of JSON in a signed note, by the key that signs the log's checkpoints. No checkpoint begins with a brace, so
//! neither can be taken for the other.

use flowsync_schemas::Micros;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::{
    subject::Subject,
    token::{Salt, Token},
};
use crate::audit::{NoteError, PublicKey, SigningKey};

const FORMAT: &str = "flowsync.privacy.receipt.v1";

/// Longest reason that is kept.
const REASON_BYTES_MAX: usize = 1_000;

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erased<'a> {
    /// When it was done.
    pub at: Micros,
    /// Signals that were replaced by ones without the person.
    pub signals_redacted: u64,
    /// Names and accounts that were taken out of the vault.
    pub claims_erased: u64,
    /// Why, in the operator's words.
    pub reason: &'a str,
    /// The last signed checkpoint of the log as it was, if there was one.
    pub log_before: Option<&'a str>,
    /// The first of the log as it is.
    pub log_after: Option<&'a str>,
    /// The generation of the keys that the log is sealed with from now on.
    pub ring_generation: u64,
}

/// A receipt. Holds no identifier: only the token, and a hash of them that nobody can guess without the salt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    format: String,
    /// When it was done.
    #[serde(with = "iso")]
    pub at: Micros,
    /// What stands in the person's place.
    pub token: Token,
    /// Hash of the sorted identifiers; see [`Receipt::is_of`].
    pub identifiers: String,
    /// Signals that were replaced by ones without the person.
    pub signals_redacted: u64,
    /// Names and accounts that were taken out of the vault.
    pub claims_erased: u64,
    /// Why.
    pub reason: String,
    /// The last signed checkpoint of the log as it was.
    pub log_before: Option<String>,
    /// The first of the log as it is.
    pub log_after: Option<String>,
    /// The generation of the keys that the log is sealed with from then on.
    pub ring_generation: u64,
}

/// A time as people write it.
mod iso {
    use flowsync_schemas::Micros;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(at: &Micros, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(at)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Micros, D::Error> {
        let text = String::deserialize(from)?;
        Micros::parse(&text).ok_or_else(|| D::Error::custom("expected a time such as 2026-10-01T08:00:00Z"))
    }
}

/// Why a receipt proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// It was not signed as it is.
    #[error("the receipt does not hold: {0}")]
    Note(#[from] NoteError),
    /// What was signed is no receipt.
    #[error("what is signed is no receipt of an erasure: {0}")]
    Malformed(String),
}

impl ReceiptError {
    /// Whether somebody else's key signed it, so that another log's key may verify it.
    pub fn is_other_key(&self) -> bool {
        matches!(self, ReceiptError::Note(NoteError::OtherKey { .. }))
    }
}

impl Receipt {
    /// The receipt of an erasure. What the reason says of the person is taken out of it.
    pub fn new(subject: &Subject, erased: &Erased<'_>) -> Self {
        let reason = subject.redact_text(erased.reason).unwrap_or_else(|| erased.reason.to_owned());
        Self {
            format: FORMAT.to_owned(),
            at: erased.at,
            token: subject.token().clone(),
            identifiers: hash(subject.salt(), &subject.identifiers()),
            signals_redacted: erased.signals_redacted,
            claims_erased: erased.claims_erased,
            reason: reason[..reason.floor_char_boundary(REASON_BYTES_MAX)].to_owned(),
            log_before: erased.log_before.map(str::to_owned),
            log_after: erased.log_after.map(str::to_owned),
            ring_generation: erased.ring_generation,
        }
    }

    /// Whether it is the receipt of who has this salt and these identifiers, all of them, as
    /// [`Subject::identifiers`] told them, in any order.
    pub fn is_of(&self, salt: &Salt, identifiers: &[String]) -> bool {
        let mut identifiers = identifiers.to_vec();
        identifiers.sort();
        identifiers.dedup();
        hash(salt, &identifiers) == self.identifiers
    }

    /// The signed note.
    ///
    /// # Errors
    /// Where it cannot be written as JSON.
    pub fn sign(&self, key: &SigningKey) -> Result<String, serde_json::Error> {
        Ok(key.sign(&(serde_json::to_string(self)? + "\n")))
    }

    /// The receipt in a note.
    ///
    /// # Errors
    /// Where this key did not sign it as it is, or it is none.
    pub fn verify(note: &str, key: &PublicKey) -> Result<Self, ReceiptError> {
        let text = key.open(note)?;
        let receipt: Self = serde_json::from_str(text).map_err(|e| ReceiptError::Malformed(e.to_string()))?;
        if receipt.format != FORMAT {
            return Err(ReceiptError::Malformed(format!("its format is {:?}, and not {FORMAT:?}", receipt.format)));
        }
        Ok(receipt)
    }
}

/// HMAC-SHA-256 under the salt; the length before each, so that `ab`, `c` and `a`, `bc` differ.
fn hash(salt: &Salt, identifiers: &[String]) -> String {
    #[allow(clippy::expect_used)] // HMAC takes keys of every length.
    let mut mac = Hmac::<Sha256>::new_from_slice(&salt.0).expect("HMAC takes any key");
    for identifier in identifiers {
        mac.update(&(identifier.len() as u64).to_le_bytes());
        mac.update(identifier.as_bytes());
    }
    hex::encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use flowsync_schemas::{NameClaim, PersonId};

    use super::*;

    fn subject() -> Subject {
        let claim = NameClaim { person: PersonId(1), name: "Ada Lovelace".into(), account: "ada@example.org".into() };
        Subject::new(&[claim], &["github:ada-l".to_owned()], Token::from_bytes([3; 10]), Salt::random().unwrap())
    }

    fn receipt(subject: &Subject) -> Receipt {
        let erased = Erased {
            at: Micros::from_secs(1_790_000_000),
            signals_redacted: 12,
            claims_erased: 2,
            reason: "asked for by ada@example.org, article 17",
            log_before: Some("flowsync/1/0\n487\nroot\n\n— x y\n"),
            log_after: None,
            ring_generation: 3,
        };
        Receipt::new(subject, &erased)
    }

    #[test]
    fn a_receipt_is_verified_and_names_nobody() {
        let (subject, key) = (subject(), SigningKey::of_log(&[1; 32], 0));
        let receipt = receipt(&subject);
        let note = receipt.sign(&key).unwrap();
        assert_eq!(Receipt::verify(&note, key.public()).unwrap(), receipt);
        let told = note.to_lowercase();
        for hidden in ["ada", "lovelace", &subject.salt().to_string()] {
            assert!(!told.contains(hidden), "{note}");
        }
        assert!(note.contains("2026-09-21T") && note.contains(subject.token().as_str()), "{note}");
        let other = SigningKey::of_log(&[2; 32], 0);
        assert!(Receipt::verify(&note, other.public()).unwrap_err().is_other_key());
        let false_one = note.replace("\"signals_redacted\":12", "\"signals_redacted\":13");
        assert!(matches!(Receipt::verify(&false_one, key.public()), Err(ReceiptError::Note(NoteError::Signature(_)))));
        for bad in ["{}\n".to_owned(), serde_json::to_string(&receipt).unwrap().replace(".v1", ".v9") + "\n"] {
            let error = Receipt::verify(&key.sign(&bad), key.public()).unwrap_err();
            assert!(matches!(error, ReceiptError::Malformed(_)) && !error.is_other_key(), "{error}");
        }
    }

    #[test]
    fn only_who_has_the_salt_shows_that_it_is_theirs() {
        let subject = subject();
        let receipt = receipt(&subject);
        let mut identifiers = subject.identifiers();
        assert_eq!(identifiers, ["Ada Lovelace", "ada@example.org", "github:ada-l"]);
        identifiers.reverse();
        assert!(receipt.is_of(subject.salt(), &identifiers));
        assert!(!receipt.is_of(subject.salt(), &identifiers[1..]));
        assert!(!receipt.is_of(&Salt([0; 32]), &identifiers));
    }
}
