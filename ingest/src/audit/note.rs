//! Signed notes (c2sp.org/signed-note) with Ed25519: a text, a blank line, and a line for each signature.
//!
//! ```text
//! flowsync/9f1c2ab3d4e5f607/0                                   the text
//! 487
//! CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//!
//! — flowsync/9f1c2ab3d4e5f607/0 Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+…   name, and base64 of key id and signature
//! ```
//!
//! The key id is the beginning of a hash over name and public key. Lines by keys that are not asked for are passed over,
//! so that a witness can add its own. A public key is told as one line, `NAME+ID+BASE64`.

use std::{fmt, str::FromStr};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use sha2::{Digest, Sha256};

/// Longest note that is read.
pub(super) const NOTE_BYTES_MAX: usize = 64 << 10;

/// What a signature line begins with.
pub(super) const SIGNATURE: &str = "— ";

/// What signs, in front of a public key: Ed25519.
const ALGORITHM: u8 = 1;

/// Why a note says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It has not the form of a note, or its text not that of a checkpoint.
    #[error("it is no signed checkpoint: {0}")]
    Malformed(&'static str),
    /// Other keys signed it.
    #[error("it is signed by {found} and not by {wanted}")]
    OtherKey {
        /// Names of those who signed.
        found: String,
        /// The key that was asked for.
        wanted: String,
    },
    /// The text is not what was signed.
    #[error("its text is not what {0} signed")]
    Signature(String),
    /// A line that is no public key.
    #[error("{0:?} is no public key: one line is expected, NAME+ID+BASE64, as `flowsync audit key` prints it")]
    Key(String),
}

/// Verifies notes.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    key: [u8; 32],
}

impl PublicKey {
    /// The signer's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn id(&self) -> [u8; 4] {
        let hash: [u8; 32] = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', ALGORITHM])
            .chain_update(self.key)
            .finalize()
            .into();
        [hash[0], hash[1], hash[2], hash[3]]
    }

    /// The text of a note that this key signed.
    ///
    /// # Errors
    /// Where it is no note, is not signed by this key, or says something else than what was signed.
    pub fn open<'a>(&self, note: &'a str) -> Result<&'a str, NoteError> {
        let bad = |what| Err(NoteError::Malformed(what));
        if note.len() > NOTE_BYTES_MAX {
            return bad("it is too long");
        }
        if note.chars().any(|c| c < ' ' && c != '\n') {
            return bad("it has control characters");
        }
        let Some(middle) = note.rfind("\n\n") else { return bad("a blank line and signatures are missing") };
        let (text, signatures) = (&note[..=middle], &note[middle + 2..]);
        if signatures.is_empty() || !signatures.ends_with('\n') {
            return bad("the last signature is incomplete");
        }
        let (mut signed, mut others) = (false, Vec::new());
        for line in signatures.lines() {
            let parts = line.strip_prefix(SIGNATURE).and_then(|line| line.split_once(' '));
            let Some((name, bytes)) = parts else { return bad("a signature line is not `— NAME BASE64`") };
            let bytes = BASE64_STANDARD.decode(bytes).unwrap_or_default();
            let Some((id, signature)) = bytes.split_first_chunk::<4>() else { return bad("a signature is not base64") };
            if name != self.name || *id != self.id() {
                others.push(name);
                continue;
            }
            let key = UnparsedPublicKey::new(&ED25519, self.key);
            if key.verify(text.as_bytes(), signature).is_err() {
                return Err(NoteError::Signature(self.name.clone()));
            }
            signed = true;
        }
        if !signed {
            return Err(NoteError::OtherKey { found: others.join(", "), wanted: self.to_string() });
        }
        Ok(text)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![ALGORITHM];
        key.extend_from_slice(&self.key);
        write!(f, "{}+{}+{}", self.name, hex::encode(self.id()), BASE64_STANDARD.encode(key))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for PublicKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let read = || {
            let mut parts = text.trim().splitn(3, '+');
            let (name, id, key) = (parts.next()?, parts.next()?, parts.next()?);
            let key = BASE64_STANDARD.decode(key).ok()?;
            let key = key.strip_prefix(&[ALGORITHM])?.try_into().ok()?;
            let key = Self { name: name.to_owned(), key };
            let named = !name.is_empty() && !name.contains(char::is_whitespace);
            (named && hex::encode(key.id()) == id).then_some(key)
        };
        read().ok_or_else(|| NoteError::Key(text.to_owned()))
    }
}

/// Signs notes.
pub struct SigningKey {
    public: PublicKey,
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// The key of a log's partition. Its name is made from the public key, so that no two logs share one.
    pub fn of_log(seed: &[u8; 32], partition: u32) -> Self {
        Self::new(seed, |key| {
            let id: [u8; 32] = Sha256::digest(key).into();
            format!("flowsync/{}/{partition}", hex::encode(&id[..8]))
        })
    }

    fn new(seed: &[u8; 32], name: impl FnOnce(&[u8; 32]) -> String) -> Self {
        #[allow(clippy::expect_used)] // Any 32 bytes are a seed, and 32 bytes are a public key (RFC 8032, 5.1.5).
        let (pair, key) = {
            let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("a seed of 32 bytes");
            let key: [u8; 32] = pair.public_key().as_ref().try_into().expect("a key of 32 bytes");
            (pair, key)
        };
        Self { public: PublicKey { name: name(&key), key }, pair }
    }

    /// What verifies its signatures.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The signed note of a text, which ends in a line break.
    pub fn sign(&self, text: &str) -> String {
        let mut bytes = self.public.id().to_vec();
        bytes.extend_from_slice(self.pair.sign(text.as_bytes()).as_ref());
        format!("{text}\n{SIGNATURE}{} {}\n", self.public.name, BASE64_STANDARD.encode(bytes))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_example_of_the_specification() {
        let key: PublicKey = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k".parse().unwrap();
        let note = "This is an example message.\n\n— example.com/foo \
                    Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
        assert_eq!(key.open(note).unwrap(), "This is an example message.\n");
        assert_eq!(key.to_string().parse::<PublicKey>().unwrap(), key);
    }

    /// The key and note of the tests of Go's `golang.org/x/mod/sumdb/note`.
    #[test]
    fn signs_as_others_do() {
        let seed = BASE64_STANDARD.decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz").unwrap();
        let key = SigningKey::new(seed[1..].try_into().unwrap(), |_| "PeterNeumann".into());
        assert_eq!(key.public().to_string(), "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW");
        let text =
            "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
        let signed = "— PeterNeumann \
                      x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        assert_eq!(key.sign(text), format!("{text}\n{signed}"));
    }

    #[test]
    fn other_signatures_are_passed_over_and_a_false_one_is_not() {
        let (ours, other) = (SigningKey::of_log(&[1; 32], 0), SigningKey::of_log(&[2; 32], 0));
        let line = |key: &SigningKey, text| key.sign(text).lines().last().unwrap().to_owned() + "\n";
        let both = ours.sign("a\n") + &line(&other, "a\n");
        assert_eq!(ours.public().open(&both), Ok("a\n"));
        assert_eq!(other.public().open(&both), Ok("a\n"));
        let error = other.public().open(&ours.sign("a\n")).unwrap_err();
        assert!(error.to_string().contains(ours.public().name()), "{error}");
        let false_one = other.sign("a\n") + &line(&ours, "b\n");
        assert_eq!(ours.public().open(&false_one), Err(NoteError::Signature(ours.public().name().to_owned())));
        for bad in ["", "\n", "a\n", "a\n\n", "a\n\n— ", "a\n\n— x\n", "a\n\n— x !\n", "a\t\n\n— x aaaaaaaa\n"]
        {
            assert!(matches!(ours.public().open(bad), Err(NoteError::Malformed(_))), "{bad:?}");
        }
        for bad in ["", "a", "a+b", "a+00000000+AAAA", &ours.public().to_string()[1..]] {
            assert!(bad.parse::<PublicKey>().unwrap_err().to_string().contains("audit key"), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_changed_note_is_not_what_was_signed(at: prop::sample::Index, to: char, text in "[a-z0-9\n ]{0,80}") {
            let key = SigningKey::of_log(&[3; 32], 0);
            let text = format!("x{text}\n");
            let note = key.sign(&text);
            prop_assert_eq!(key.public().open(&note).unwrap(), &text);
            let at = at.index(note.chars().count());
            let changed: String = note.chars().enumerate().map(|(i, c)| if i == at { to } else { c }).collect();
            prop_assert!(changed == note || key.public().open(&changed).is_err());
        }
    }
}
