//! The master key: what the ring is sealed with. From the environment, or a file beside the ring.

use std::{ffi::OsString, fs, path::Path};

use super::{SealError, Secret};

/// 64 hexadecimal digits.
const VARIABLE: &str = "FLOWSYNC_MASTER_KEY";
/// Path of a file with 32 bytes or 64 hexadecimal digits.
const FILE_VARIABLE: &str = "FLOWSYNC_MASTER_KEY_FILE";

/// Seals the ring.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MasterKey(Secret);

impl MasterKey {
    /// From its bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Secret::new(bytes))
    }

    /// From 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.trim(), &mut bytes).ok()?;
        Some(Self::new(bytes))
    }

    /// The key in a file: 32 bytes, or 64 hexadecimal digits.
    ///
    /// # Errors
    /// Where the file cannot be read or holds something else.
    pub fn read(path: &Path) -> Result<Self, SealError> {
        let bytes = fs::read(path).map_err(super::failed(path))?;
        let key = bytes.as_slice().try_into().ok().map(Self::new);
        let key = key.or_else(|| Self::parse(std::str::from_utf8(&bytes).ok()?));
        let detail = || format!("it is {} bytes long, and neither 32 bytes nor 64 hexadecimal digits", bytes.len());
        key.ok_or_else(|| SealError::Master { from: path.display().to_string(), detail: detail() })
    }

    pub(super) fn random() -> Result<Self, getrandom::Error> {
        Secret::random().map(Self)
    }

    pub(super) fn secret(&self) -> &Secret {
        &self.0
    }
}

/// Where the master key comes from.
#[derive(Debug)]
pub(crate) enum Source {
    /// A file beside the ring, made where there is none.
    Own,
    /// Handed in from outside.
    Given {
        /// The key.
        key: MasterKey,
        /// By what, for messages.
        from: String,
    },
}

impl Source {
    /// As the environment says; `variable` reads it.
    pub fn of(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, SealError> {
        let given = |key, from: &str| Self::Given { key, from: from.to_owned() };
        if let Some(text) = variable(VARIABLE) {
            let detail = || "it is not 64 hexadecimal digits".to_owned();
            let key = text.to_str().and_then(MasterKey::parse);
            return key
                .map(|key| given(key, VARIABLE))
                .ok_or_else(|| SealError::Master { from: VARIABLE.into(), detail: detail() });
        }
        match variable(FILE_VARIABLE) {
            Some(path) => MasterKey::read(Path::new(&path)).map(|key| given(key, FILE_VARIABLE)),
            None => Ok(Self::Own),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_environment_comes_before_the_file_beside_the_ring() {
        let dir = tempfile::tempdir().unwrap();
        let (raw, text, bad) = (dir.path().join("raw"), dir.path().join("hex"), dir.path().join("bad"));
        fs::write(&raw, [1; 32]).unwrap();
        fs::write(&text, "02".repeat(32) + "\n").unwrap();
        fs::write(&bad, "short").unwrap();
        let of = |key: Option<&str>, file: Option<&Path>| {
            Source::of(|name| match name {
                VARIABLE => key.map(OsString::from),
                _ => file.map(|file| file.as_os_str().to_owned()),
            })
        };
        let key = |source: Result<Source, SealError>| match source.unwrap() {
            Source::Own => None,
            Source::Given { key, .. } => Some(key.secret().bytes()[0]),
        };
        assert_eq!(key(of(None, None)), None);
        assert_eq!(key(of(None, Some(&raw))), Some(1));
        assert_eq!(key(of(None, Some(&text))), Some(2));
        assert_eq!(key(of(Some(&"03".repeat(32)), Some(&raw))), Some(3));
        for (source, says) in [(of(Some("xyz"), None), VARIABLE), (of(None, Some(&bad)), "5 bytes")] {
            let error = source.unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("xyz"), "{error}");
        }
    }
}
