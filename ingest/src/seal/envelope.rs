//! A sealed text: AES-256-GCM under a key that the text commits to.
//!
//! ```text
//! nonce (12) ‖ commitment (32) ‖ ciphertext ‖ tag (16)
//! ```
//!
//! Both the key of the cipher and the commitment are derived from the one key that is given. GCM alone lets who knows two
//! keys make one ciphertext that opens under both, to different texts; the commitment binds it to one.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::Secret;

pub(crate) const NONCE_BYTES: usize = 12;
/// Bytes in front of the ciphertext.
pub(crate) const HEAD: usize = NONCE_BYTES + 32;
/// Bytes behind it.
pub(crate) const TAIL: usize = 16;

/// Why a sealed text does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// It was sealed with another key, or its head is damaged.
    OtherKey,
    /// It is not what was sealed here.
    Damaged,
}

/// A nonce that was not used before.
pub(crate) fn nonce() -> Result<[u8; NONCE_BYTES], getrandom::Error> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce)?;
    Ok(nonce)
}

fn cipher(key: &Secret) -> Result<LessSafeKey, Broken> {
    let key = UnboundKey::new(&AES_256_GCM, key.derive("flowsync seal cipher").bytes());
    key.map(LessSafeKey::new).map_err(|_| Broken::Damaged)
}

fn commitment(key: &Secret) -> Secret {
    key.derive("flowsync seal commit")
}

/// Seals what stands in `out` behind `at` and the [`HEAD`] bytes that are left free there. `context` must be the same again
/// for it to open.
pub(crate) fn seal_in_place(key: &Secret, context: &[u8], nonce: [u8; NONCE_BYTES], out: &mut Vec<u8>, at: usize) {
    let (head, text) = out[at..].split_at_mut(HEAD);
    head[..NONCE_BYTES].copy_from_slice(&nonce);
    head[NONCE_BYTES..].copy_from_slice(commitment(key).bytes());
    let nonce = Nonce::assume_unique_for_key(nonce);
    let sealed = cipher(key).and_then(|cipher| {
        cipher.seal_in_place_separate_tag(nonce, Aad::from(context), text).map_err(|_| Broken::Damaged)
    });
    #[allow(clippy::expect_used)] // The key has 32 bytes, and the text is far below the cipher's 64 GiB.
    out.extend(sealed.expect("a text can be sealed").as_ref());
}

/// Opens what [`seal_in_place`] sealed.
pub(crate) fn open(key: &Secret, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Broken> {
    let (nonce, rest) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(Broken::Damaged)?;
    let (committed, text) = rest.split_first_chunk::<32>().ok_or(Broken::Damaged)?;
    if committed != commitment(key).bytes() {
        return Err(Broken::OtherKey);
    }
    let (nonce, mut text) = (Nonce::assume_unique_for_key(*nonce), text.to_vec());
    let opened = cipher(key)?.open_in_place(nonce, Aad::from(context), &mut text).map_err(|_| Broken::Damaged)?;
    let length = opened.len();
    text.truncate(length);
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn sealed(key: &Secret, context: &[u8], text: &[u8]) -> Vec<u8> {
        let mut out = vec![9; 3 + HEAD];
        out.extend(text);
        seal_in_place(key, context, [1; NONCE_BYTES], &mut out, 3);
        assert_eq!((out.len(), &out[..3]), (3 + HEAD + text.len() + TAIL, &[9; 3][..]));
        out.split_off(3)
    }

    #[test]
    fn what_is_sealed_opens_with_its_key_and_context_only() {
        let (key, other) = (Secret::new([1; 32]), Secret::new([2; 32]));
        for text in [&b""[..], b"a", &[3; 1000]] {
            let bytes = sealed(&key, b"here", text);
            assert_eq!(open(&key, b"here", &bytes).unwrap(), text);
            assert_eq!(open(&key, b"there", &bytes), Err(Broken::Damaged));
            assert_eq!(open(&other, b"here", &bytes), Err(Broken::OtherKey));
            for at in 0..bytes.len() {
                let mut bad = bytes.clone();
                bad[at] ^= 4;
                assert!(open(&key, b"here", &bad).is_err(), "byte {at}");
                assert!(open(&key, b"here", &bytes[..at]).is_err(), "cut at {at}");
            }
        }
    }

    #[test]
    fn the_committed_key_and_the_key_of_the_cipher_tell_nothing_of_the_key() {
        let key = Secret::new([1; 32]);
        let all = [key.clone(), commitment(&key), key.derive("flowsync seal cipher")];
        assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2]);
    }
}
