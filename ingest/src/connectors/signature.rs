//! The signature that GitHub, Jira and others share: `sha256=` and the hexadecimal HMAC-SHA-256 of the raw body.
//!
//! Compared in constant time. Knows nothing of what the body says.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::{Delivery, Secret, VerifyError};

/// Checks `header` (lower case) against the body under the secret of `connector`.
///
/// # Errors
/// Where there is no secret, the header is missing or malformed, or the signature does not fit.
pub fn check(
    delivery: Delivery<'_>,
    header: &'static str,
    connector: &'static str,
    secret: Option<&Secret>,
) -> Result<(), VerifyError> {
    // An empty secret signs what anybody can sign.
    let secret = secret.filter(|s| !s.expose().is_empty()).ok_or(VerifyError::NoSecret(connector))?;
    let claimed = delivery.header(header).and_then(|v| v.strip_prefix("sha256=")).ok_or(VerifyError::Header(header))?;
    let claimed = hex::decode(claimed).map_err(|_| VerifyError::Header(header))?;
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose()) else {
        return Err(VerifyError::NoSecret(connector));
    };
    mac.update(delivery.body);
    mac.verify_slice(&claimed).map_err(|_| VerifyError::Mismatch(header))
}

#[cfg(test)]
mod tests {
    use flowsync_schemas::Micros;

    use super::*;

    fn checked(value: Option<&str>, secret: &str) -> Result<(), VerifyError> {
        let headers: Vec<_> = value.map(|v| ("x-signature".to_owned(), v.to_owned())).into_iter().collect();
        let delivery = Delivery { headers: &headers, body: b"what do ya want for nothing?", received_at: Micros(0) };
        check(delivery, "x-signature", "github", Some(&Secret::new(secret)))
    }

    #[test]
    fn the_test_vector_of_rfc_4231() {
        let good = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(checked(Some(good), "Jefe"), Ok(()));
        assert_eq!(checked(Some(good), "jefe"), Err(VerifyError::Mismatch("x-signature")));
        assert_eq!(checked(Some(good), ""), Err(VerifyError::NoSecret("github")));
        assert_eq!(checked(None, "Jefe"), Err(VerifyError::Header("x-signature")));
        for malformed in ["", "sha256=xyz", "sha256=5", "sha1=5bdcc146", &good[7..]] {
            assert_eq!(checked(Some(malformed), "Jefe"), Err(VerifyError::Header("x-signature")), "{malformed}");
        }
        // A prefix of the right signature is no signature.
        for short in ["sha256=", "sha256=5bdc"] {
            assert_eq!(checked(Some(short), "Jefe"), Err(VerifyError::Mismatch("x-signature")), "{short}");
        }
    }
}
