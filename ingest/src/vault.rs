//! The identity vault: the names behind pseudonyms (I8). The only place that holds them besides the raw bytes.
//!
//! One file, `names.ndjson`, a claim a line, appended and fsynced before the signal that made the claim is
//! acknowledged. Plain lines, because other processes (`digest` beside a running server) read them while they grow, and
//! the log's store is one process's own.
//!
//! Invariants: a claim is written once; the name shown is a function of the set of claims, whatever their order (I3); a
//! torn last line is no error to a reader and is cut off by the next writer; the number of claims and their length are
//! bounded (I9), and what is beyond is counted and told. It knows nothing of connectors.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Mutex,
};

use flowsync_schemas::{NameClaim, PersonId};
use serde::{Deserialize, Serialize};

use crate::lock;

const FILE: &str = "names.ndjson";

/// Claims kept: some GiB of names at most, far above any organisation.
const CLAIMS_MAX: usize = 4_000_000;

/// Bytes of a name or account that are kept.
const TEXT_BYTES_MAX: usize = 512;

/// Why names could not be stored or read.
#[derive(Debug, thiserror::Error)]
#[error("the identity vault {path}: {source}")]
pub struct VaultError {
    path: PathBuf,
    source: io::Error,
}

impl VaultError {
    /// Whether the same call can succeed later: when there is space again.
    pub fn is_retryable(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

#[derive(Serialize, Deserialize)]
struct Line {
    person: String,
    name: String,
    account: String,
}

/// Names by pseudonym, as a reader sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    claims: BTreeMap<PersonId, BTreeSet<(String, String)>>,
    count: usize,
}

impl Names {
    /// The names in a vault's folder, whether or not somebody is writing; none where there is no vault yet.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn read(dir: &Path) -> Result<Self, VaultError> {
        let path = dir.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => Ok(Self::parse(&bytes, &path).0),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(VaultError { path, source }),
        }
    }

    /// The names, and the length of the whole lines.
    fn parse(bytes: &[u8], path: &Path) -> (Self, usize) {
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let mut names = Self::default();
        let mut unreadable = 0;
        for line in bytes[..whole].split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let claim = serde_json::from_slice::<Line>(line).ok().and_then(|line| {
                let person = line.person.parse().ok()?;
                Some(NameClaim { person, name: line.name, account: line.account })
            });
            match claim {
                Some(claim) => names.add(claim),
                None => unreadable += 1,
            }
        }
        if unreadable > 0 {
            tracing::warn!(path = %path.display(), unreadable, "the identity vault has lines that are no claims");
        }
        (names, whole)
    }

    fn has(&self, claim: &NameClaim) -> bool {
        // A set of pairs cannot be asked with borrowed halves; a person has a handful.
        self.claims
            .get(&claim.person)
            .is_some_and(|set| set.iter().any(|(n, a)| *n == claim.name && *a == claim.account))
    }

    fn add(&mut self, claim: NameClaim) {
        if self.claims.entry(claim.person).or_default().insert((claim.name, claim.account)) {
            self.count += 1;
        }
    }

    /// The name to show for a person: a full name before a single word before an account; of those the shortest, then the
    /// first in the order of the alphabet.
    pub fn name(&self, person: PersonId) -> Option<&str> {
        let rank = |name: &str, account: &str| {
            let is_account = name == account || account.ends_with(&format!(":{name}")) || name.contains('@');
            if is_account { 2 } else { u8::from(!name.contains(' ')) }
        };
        let claims = self.claims.get(&person)?.iter();
        claims.min_by_key(|(name, account)| (rank(name, account), name.chars().count(), name)).map(|(n, _)| n.as_str())
    }

    /// The name to show, for everybody.
    pub fn all(&self) -> impl Iterator<Item = (PersonId, &str)> {
        self.claims.keys().filter_map(|person| Some((*person, self.name(*person)?)))
    }
}

struct State {
    file: File,
    /// Length of the whole, synced lines.
    len: u64,
    names: Names,
    beyond: u64,
}

/// The vault of the data directory's one writer.
pub struct Vault {
    path: PathBuf,
    state: Mutex<State>,
}

impl Vault {
    /// Opens the vault in a folder, or creates it. The caller holds the data directory's lock.
    ///
    /// # Errors
    /// Where the file cannot be read or written.
    pub fn open(dir: &Path) -> Result<Self, VaultError> {
        let path = dir.join(FILE);
        let open = || {
            fs::create_dir_all(dir)?;
            let file = OpenOptions::new().create(true).append(true).open(&path)?;
            File::open(dir)?.sync_all()?;
            let bytes = fs::read(&path)?;
            let (names, whole) = Names::parse(&bytes, &path);
            file.set_len(whole as u64)?;
            Ok(State { file, len: whole as u64, names, beyond: 0 })
        };
        match open() {
            Ok(state) => Ok(Self { path, state: Mutex::new(state) }),
            Err(source) => Err(VaultError { path, source }),
        }
    }

    /// Stores the claims that are new; durable when it returns. Costs nothing where none is.
    ///
    /// # Errors
    /// Where the file cannot be written: none of the claims is then stored.
    pub fn insert(&self, claims: &[NameClaim]) -> Result<(), VaultError> {
        let mut state = lock(&self.state);
        let mut fresh = BTreeSet::new();
        for claim in claims {
            let (name, account) = (cut(&claim.name).to_owned(), cut(&claim.account).to_owned());
            let claim = NameClaim { person: claim.person, name, account };
            if !state.names.has(&claim) {
                fresh.insert(claim);
            }
        }
        if fresh.is_empty() {
            return Ok(());
        }
        if state.names.count + fresh.len() > CLAIMS_MAX {
            if state.beyond == 0 {
                tracing::warn!(
                    "the identity vault holds {CLAIMS_MAX} claims, its limit: new people show as pseudonyms"
                );
            }
            state.beyond += fresh.len() as u64;
            metrics::counter!("flowsync_vault_beyond_limit_total").increment(fresh.len() as u64);
            return Ok(());
        }
        state.write(&fresh).map_err(|source| VaultError { path: self.path.clone(), source })?;
        fresh.into_iter().for_each(|claim| state.names.add(claim));
        Ok(())
    }

    /// The name to show for a person; see [`Names::name`].
    pub fn name(&self, person: PersonId) -> Option<String> {
        lock(&self.state).names.name(person).map(str::to_owned)
    }

    /// All names as of now.
    pub fn names(&self) -> Names {
        lock(&self.state).names.clone()
    }
}

impl State {
    fn write(&mut self, claims: &BTreeSet<NameClaim>) -> io::Result<()> {
        let mut lines = Vec::new();
        for claim in claims {
            let line =
                Line { person: claim.person.to_string(), name: claim.name.clone(), account: claim.account.clone() };
            serde_json::to_writer(&mut lines, &line)?;
            lines.push(b'\n');
        }
        let written = self.file.write_all(&lines).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => self.len += lines.len() as u64,
            // Half a line must not become the start of the next one.
            Err(_) => self.file.set_len(self.len)?,
        }
        written
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn claim(person: u128, name: &str, account: &str) -> NameClaim {
        NameClaim { person: PersonId(person), name: name.into(), account: account.into() }
    }

    #[test]
    fn names_are_stored_once_and_read_beside_the_writer() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open(dir.path()).unwrap();
        let ada = claim(1, "Ada L.", "ada@example.org");
        vault.insert(&[ada.clone(), ada.clone()]).unwrap();
        vault.insert(std::slice::from_ref(&ada)).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join(FILE)).unwrap().lines().count(), 1);
        let reader = Names::read(dir.path()).unwrap();
        assert_eq!(reader.name(PersonId(1)), Some("Ada L."));
        assert_eq!(reader.name(PersonId(2)), None);
        assert_eq!(reader, vault.names());
        assert_eq!(Names::read(&dir.path().join("nowhere")).unwrap(), Names::default());
    }

    #[test]
    fn the_name_shown_does_not_depend_on_the_order_of_claims() {
        let claims = [
            claim(1, "ada@example.org", "ada@example.org"),
            claim(1, "ada", "github:ada"),
            claim(1, "Ada Lovelace-King", "ada@example.org"),
            claim(1, "Ada Lovelace", "ada@example.org"),
            claim(1, "Ada", "slack:U1"),
        ];
        for start in 0..claims.len() {
            let mut names = Names::default();
            claims.iter().cycle().skip(start).take(claims.len()).for_each(|c| names.add(c.clone()));
            assert_eq!(names.name(PersonId(1)), Some("Ada Lovelace"));
            assert_eq!(names.all().collect::<Vec<_>>(), [(PersonId(1), "Ada Lovelace")]);
        }
        let mut lonely = Names::default();
        lonely.add(claims[1].clone());
        assert_eq!(lonely.name(PersonId(1)), Some("ada"), "an account is better than nothing");
    }

    #[test]
    fn a_torn_last_line_is_passed_over_by_readers_and_cut_off_by_the_writer() {
        let dir = tempfile::tempdir().unwrap();
        Vault::open(dir.path()).unwrap().insert(&[claim(1, "Ada", "a:1"), claim(2, "Grace", "a:2")]).unwrap();
        let file = dir.path().join(FILE);
        let whole = fs::read(&file).unwrap();
        for cut in 0..whole.len() {
            fs::write(&file, &whole[..cut]).unwrap();
            let kept = whole[..cut].iter().filter(|b| **b == b'\n').count();
            assert_eq!(Names::read(dir.path()).unwrap().all().count(), kept);
            let vault = Vault::open(dir.path()).unwrap();
            vault.insert(&[claim(1, "Ada", "a:1"), claim(2, "Grace", "a:2")]).unwrap();
            assert_eq!(fs::read(&file).unwrap(), whole);
        }
    }

    #[test]
    fn hostile_names_are_cut_and_stay_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open(dir.path()).unwrap();
        let long = "é".repeat(100_000);
        vault.insert(&[claim(1, "A\nB \"C\"", "x:y"), claim(2, &long, "x:z")]).unwrap();
        vault.insert(&[claim(2, &long, "x:z")]).unwrap();
        assert!(fs::metadata(dir.path().join(FILE)).unwrap().len() < 2000);
        let names = Names::read(dir.path()).unwrap();
        assert_eq!(names.name(PersonId(1)), Some("A\nB \"C\""));
        assert_eq!(names.name(PersonId(2)).unwrap().chars().count(), TEXT_BYTES_MAX / 2);
    }
}
