//! What flows from the dataflow to the sinks, and what sinks and queries share.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    digest::RowsDigest,
    id::{Epoch, digest_128},
    record::Row,
    time::Micros,
};

/// The changed rows of one table over one epoch: consolidated, sorted, each with +1 or −1 (or more, for a faulty view).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableChange {
    /// Name of the table.
    pub table: &'static str,
    /// Rows and their differences.
    pub rows: Vec<(Row, i64)>,
}

/// All that changed from one closed epoch to the next: the half-open intervals `[lower, upper)` tile time (I4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpochDelta {
    /// The epoch before.
    pub lower: Epoch,
    /// The epoch that this brings the tables to.
    pub upper: Epoch,
    /// Position in every partition of the log that `upper` covers: offsets of the next signal.
    pub positions: Vec<u64>,
    /// The tables that changed, base tables and views; sorted by name.
    pub changes: Vec<TableChange>,
    /// Where a job was brought to an epoch: views that are told by a digest of all their rows instead.
    pub digests: BTreeMap<&'static str, RowsDigest>,
}

/// Which version of which table makes up an epoch. Written last: what it lists is committed, nothing else (I4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this document; readers refuse a larger one.
    pub format: u32,
    /// The epoch.
    pub epoch: Epoch,
    /// Position in every partition of the log: offsets of the next signal.
    pub positions: Vec<u64>,
    /// When it was committed.
    pub committed_at: Micros,
    /// What the rows were computed with: the model's and the connectors' versions. Another value means: compute anew.
    pub program: String,
    /// The tables by name.
    pub tables: BTreeMap<String, TableVersion>,
}

impl Manifest {
    /// The format that this build writes. Since format 2 a manifest and its tables carry checksums.
    pub const FORMAT: u32 = 2;

    /// The document, with a checksum over what it says.
    ///
    /// # Errors
    /// None that numbers, words and maps of them can cause.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec_pretty(&Checked { check: Some(self.check()?), manifest: self.clone() })
    }

    /// Reads a document.
    ///
    /// # Errors
    /// Where it is none, is of a newer format, or its checksum is another.
    pub fn from_json(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } = serde_json::from_slice(bytes).map_err(|e| format!("it is no manifest: {e}"))?;
        if format > Self::FORMAT {
            let known = Self::FORMAT;
            return Err(format!("it has format {format}, this build reads up to {known}: run the build that wrote it"));
        }
        let Checked { manifest, check } =
            serde_json::from_slice(bytes).map_err(|e| format!("it is no manifest: {e}"))?;
        let expected = manifest.check().map_err(|e| e.to_string())?;
        match check {
            Some(check) if check == expected => Ok(manifest),
            None if format == 1 => Ok(manifest),
            _ => Err("it is damaged: its checksum is another".to_owned()),
        }
    }

    fn check(&self) -> Result<String, serde_json::Error> {
        Ok(format!("{:032x}", digest_128(&[b"manifest", &serde_json::to_vec(self)?])))
    }
}

/// A manifest as it lies on the disk.
#[derive(Serialize, Deserialize)]
struct Checked {
    #[serde(flatten)]
    manifest: Manifest,
    check: Option<String>,
}

/// One table of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableVersion {
    /// Version of the view ([`crate::view::TableSpec::version`]).
    pub view: u32,
    /// Version of the Delta table.
    pub delta: u64,
    /// Rows in the table.
    pub rows: u64,
    /// What that version must list; missing in manifests of format 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesDigest>,
}

/// A digest of the data files that a table lists: tells a Delta log that was altered from the one that was written. It does
/// not depend on their order, and follows changes without the other files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct FilesDigest(u128);

impl FilesDigest {
    fn of(file: &str, bytes: u64, rows: u64) -> u128 {
        digest_128(&[b"file", file.as_bytes(), &bytes.to_be_bytes(), &rows.to_be_bytes()])
    }

    /// With one file more.
    #[must_use]
    pub fn with(self, file: &str, bytes: u64, rows: u64) -> Self {
        Self(self.0.wrapping_add(Self::of(file, bytes, rows)))
    }

    /// With one file less.
    #[must_use]
    pub fn without(self, file: &str, bytes: u64, rows: u64) -> Self {
        Self(self.0.wrapping_sub(Self::of(file, bytes, rows)))
    }
}

impl From<FilesDigest> for String {
    fn from(digest: FilesDigest) -> Self {
        format!("{:032x}", digest.0)
    }
}

impl TryFrom<String> for FilesDigest {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        u128::from_str_radix(&text, 16).map(Self).map_err(|e| format!("{text:?} is no digest: {e}"))
    }
}

/// The checksum (CRC-32) of a data file's bytes, which its name ends with: `….-0a1b2c3d.parquet`. `None` for files of builds
/// that wrote none.
pub fn checksum_in(file: &str) -> Option<u32> {
    let digits = file.strip_suffix(".parquet")?.rsplit_once('-')?.1;
    if digits.len() == 8 { u32::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn manifest(format: u32) -> Manifest {
        let files = Some(FilesDigest::default().with("a.parquet", 10, 2));
        Manifest {
            format,
            epoch: Epoch(7),
            positions: vec![7],
            committed_at: Micros(5),
            program: "p".into(),
            tables: [("t".to_owned(), TableVersion { view: 1, delta: 3, rows: 2, files })].into(),
        }
    }

    #[test]
    fn a_flipped_byte_of_a_manifest_is_told_or_harmless() {
        let manifest = manifest(Manifest::FORMAT);
        let written = manifest.to_json().unwrap();
        let mut told = 0;
        for at in 0..written.len() {
            for bit in 0..8 {
                let mut altered = written.clone();
                altered[at] ^= 1 << bit;
                match Manifest::from_json(&altered) {
                    Ok(read) => assert_eq!(read, manifest, "bit {bit} of byte {at}"),
                    Err(_) => told += 1,
                }
            }
        }
        assert!(told > 1_000, "{told}");
    }

    #[test]
    fn manifests_of_the_first_format_have_no_checksum() {
        let old = serde_json::to_vec(&manifest(1)).unwrap();
        assert_eq!(Manifest::from_json(&old).unwrap(), manifest(1));
        let stripped = serde_json::to_vec(&manifest(2)).unwrap();
        assert!(Manifest::from_json(&stripped).is_err());
        assert!(Manifest::from_json(&manifest(3).to_json().unwrap()).unwrap_err().contains("format 3"));
    }

    #[test]
    fn a_digest_follows_changes_in_any_order() {
        let empty = FilesDigest::default();
        let both = empty.with("a", 1, 2).with("b", 3, 4);
        assert_eq!(both, empty.with("b", 3, 4).with("a", 1, 2));
        assert_eq!(both.without("a", 1, 2), empty.with("b", 3, 4));
        assert_ne!(both, empty.with("a", 1, 2).with("b", 3, 5));
        assert_eq!(FilesDigest::try_from(String::from(both)), Ok(both));
    }

    #[test]
    fn a_checksum_is_read_from_a_name() {
        assert_eq!(checksum_in("8-1-00-ab-0a1b2c3d.parquet"), Some(0x0a1b_2c3d));
        assert_eq!(checksum_in("8-1-00-0123456789abcdef0123456789abcdef.parquet"), None);
        assert_eq!(checksum_in("0a1b2c3d.json"), None);
    }
}
