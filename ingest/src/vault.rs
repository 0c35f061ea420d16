//! The identity vault: the names behind pseudonyms (I8). The only place that holds them besides the raw bytes.
//!
//! One file, `names.ndjson`, a claim a line, appended and fsynced before the signal that made the claim is
//! acknowledged. Lines of a plain file, because other processes (`digest` beside a running server) read them while they grow,
//! and the log's store is one process's own. Each is sealed with the key of its number, counted over the life of the vault
//! (vault/lines.rs); those of older builds are not, and are sealed when a writer opens the vault.
//!
//! Invariants: a claim is written once; a person who is erased is first left out of the file, then the keys of the lines are
//! destroyed, and what a crash leaves to be done the next writer does: no copy of an older file gives the names back; the name shown is a function of the set of claims, whatever their order (I3); a
//! torn last line is no error to a reader and is cut off by the next writer; the number of claims and their length are
//! bounded (I9), and what is beyond is counted and told. It knows nothing of connectors.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use flowsync_schemas::{NameClaim, PersonId};
use lines::Said;

use crate::{
    lock,
    seal::{Keys, Purpose, SealError},
};

pub(crate) mod copied;
mod lines;

const FILE: &str = "names.ndjson";

/// Claims kept: some GiB of names at most, far above any organisation.
const CLAIMS_MAX: usize = 4_000_000;

/// Bytes of a name or account that are kept.
const TEXT_BYTES_MAX: usize = 512;

/// Why names could not be stored, read or erased.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The file system refuses.
    #[error("the identity vault {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The keys cannot be used.
    #[error("the identity vault's keys: {0}")]
    Keys(#[from] SealError),
}

impl VaultError {
    /// Whether the same call can succeed later: when there is space again.
    pub fn is_retryable(&self) -> bool {
        match self {
            VaultError::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            VaultError::Keys(error) => error.is_retryable(),
        }
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> VaultError + use<> {
    let path = path.to_owned();
    move |source| VaultError::Io { path: path.clone(), source }
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
    /// Where the file or the keys cannot be read.
    pub fn read(dir: &Path, keys: &Keys) -> Result<Self, VaultError> {
        let path = dir.join(FILE);
        keys.refresh()?;
        match fs::read(&path) {
            Ok(bytes) => Ok(Contents::read(&bytes, &path, keys).names),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(failed(&path)(source)),
        }
    }

    /// Everything that is known of a person: name and account of each claim.
    pub fn claims(&self, person: PersonId) -> impl Iterator<Item = (&str, &str)> {
        self.claims.get(&person).into_iter().flatten().map(|(name, account)| (name.as_str(), account.as_str()))
    }

    /// Who has this name or account, in whatever case; a pseudonym is found as itself.
    pub fn find(&self, text: &str) -> Vec<PersonId> {
        let text = text.trim();
        let wanted = text.to_lowercase();
        let said = |(name, account): &(String, String)| [name, account].iter().any(|t| t.to_lowercase() == wanted);
        let mut found: Vec<_> =
            self.claims.iter().filter(|(_, claims)| claims.iter().any(said)).map(|(person, _)| *person).collect();
        found.extend(text.parse::<PersonId>().ok().filter(|person| !found.contains(person)));
        found
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

/// What a file says.
#[derive(Default)]
struct Contents {
    names: Names,
    /// Length of the whole lines.
    whole: usize,
    /// Numbers of the sealed lines that are there.
    numbers: BTreeSet<u64>,
    /// Of the lines below this number, those that are missing were erased.
    counted: u64,
    /// Claims that are not sealed.
    plain: Vec<NameClaim>,
    /// Lines that cannot be read.
    unreadable: usize,
}

impl Contents {
    fn read(bytes: &[u8], path: &Path, keys: &Keys) -> Self {
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let mut out = Self { whole, ..Self::default() };
        let mut walk = keys.walk(Purpose::Names);
        for line in whole_lines(bytes) {
            match lines::read(line, &mut walk) {
                Said::Claim(number, claim) => {
                    match number {
                        Some(number) => drop(out.numbers.insert(number)),
                        None => out.plain.push(claim.clone()),
                    }
                    out.names.add(claim);
                }
                Said::Counted(lines) => out.counted = out.counted.max(lines),
                Said::Erased => {}
                Said::Nothing(number) => {
                    out.numbers.extend(number);
                    out.unreadable += 1;
                }
            }
        }
        if out.unreadable > 0 {
            let unreadable = out.unreadable;
            tracing::warn!(path = %path.display(), unreadable, "the identity vault has lines that are no claims");
        }
        out
    }

    /// The number of the next line.
    fn next(&self, keys: &Keys) -> u64 {
        let last = self.numbers.last().map_or(0, |last| last + 1);
        self.counted.max(last).max(keys.destroyed_end(Purpose::Names))
    }

    /// Destroys the keys of the lines that were erased. Not where a line lost its number: it may be one of them.
    fn settle(&self, keys: &Keys) -> Result<(), SealError> {
        match lines::missing(&self.numbers, self.counted) {
            erased if erased.is_empty() || self.unreadable > 0 => Ok(()),
            erased => keys.destroy(&[(Purpose::Names, erased)]),
        }
    }
}

fn whole_lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    bytes[..whole].split(|b| *b == b'\n').filter(|line| !line.is_empty())
}

struct State {
    file: File,
    /// Number of the next line.
    next: u64,
    /// Length of the whole, synced lines.
    len: u64,
    names: Names,
    beyond: u64,
}

/// The vault of the data directory's one writer.
pub struct Vault {
    path: PathBuf,
    keys: Arc<Keys>,
    state: Mutex<State>,
}

impl Vault {
    /// Opens the vault in a folder, or creates it, and finishes what a crash left. The caller holds the data directory's lock.
    ///
    /// # Errors
    /// Where the file cannot be read or written, or the keys cannot be used.
    pub fn open(dir: &Path, keys: Arc<Keys>) -> Result<Self, VaultError> {
        let path = dir.join(FILE);
        let open = || {
            fs::create_dir_all(dir)?;
            let file = OpenOptions::new().create(true).append(true).open(&path)?;
            File::open(dir)?.sync_all()?;
            Ok((file, fs::read(&path)?))
        };
        let (file, bytes) = open().map_err(failed(&path))?;
        let contents = Contents::read(&bytes, &path, &keys);
        let len = contents.whole as u64;
        file.set_len(len).map_err(failed(&path))?;
        contents.settle(&keys)?;
        let next = contents.next(&keys);
        let Contents { names, plain, .. } = contents;
        let vault = Self { path, keys, state: Mutex::new(State { file, next, len, names, beyond: 0 }) };
        if !plain.is_empty() {
            tracing::info!(claims = plain.len(), "sealing the names that an older build wrote");
            let mut state = lock(&vault.state);
            let sealed = vault.sealed(plain.iter(), state.next)?;
            state.next += plain.len() as u64;
            vault.rewrite(&mut state, &sealed, |said| !matches!(said, Said::Claim(None, _)))?;
        }
        Ok(vault)
    }

    fn sealed<'a>(&self, claims: impl Iterator<Item = &'a NameClaim>, from: u64) -> Result<Vec<u8>, VaultError> {
        let mut walk = self.keys.walk(Purpose::Names);
        let mut out = Vec::new();
        for (number, claim) in (from..).zip(claims) {
            out.extend(lines::sealed(claim, number, &mut walk)?);
        }
        Ok(out)
    }

    /// Replaces the file by one with the lines that `keep` says and some more behind them. Gives the lines left out.
    fn rewrite(&self, state: &mut State, more: &[u8], keep: impl Fn(&Said) -> bool) -> Result<usize, VaultError> {
        let bytes = fs::read(&self.path).map_err(failed(&self.path))?;
        let mut walk = self.keys.walk(Purpose::Names);
        let (mut out, mut left_out) = (lines::counted(state.next), 0);
        for line in whole_lines(&bytes) {
            let said = lines::read(line, &mut walk);
            if matches!(said, Said::Counted(_)) {
                continue;
            } else if keep(&said) {
                out.extend(line);
                out.push(b'\n');
            } else {
                left_out += 1;
            }
        }
        out.extend(more);
        let new = self.path.with_extension("new");
        let replace = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&new)?;
            file.write_all(&out)?;
            file.sync_all()?;
            fs::rename(&new, &self.path)?;
            File::open(self.path.parent().unwrap_or(&self.path))?.sync_all()?;
            OpenOptions::new().append(true).open(&self.path)
        };
        state.file = replace().map_err(failed(&self.path))?;
        state.len = out.len() as u64;
        Ok(left_out)
    }

    /// Forgets everything of these people: the file is rewritten without them, then the keys of their lines are destroyed. The
    /// number of claims that were erased; again, it is 0.
    ///
    /// # Errors
    /// Where the file or the keys cannot be changed. What was begun is finished by the next call, or when the vault is opened.
    pub fn erase(&self, persons: &[PersonId]) -> Result<usize, VaultError> {
        let mut state = lock(&self.state);
        let wanted: BTreeSet<_> = persons.iter().collect();
        let erased = if persons.iter().any(|person| state.names.claims.contains_key(person)) {
            let keep = |said: &Said| !matches!(said, Said::Claim(_, claim) if wanted.contains(&claim.person));
            self.rewrite(&mut state, &[], keep)?
        } else {
            0
        };
        for person in wanted {
            let claims = state.names.claims.remove(person).map_or(0, |claims| claims.len());
            state.names.count -= claims;
        }
        let bytes = fs::read(&self.path).map_err(failed(&self.path))?;
        Contents::read(&bytes, &self.path, &self.keys).settle(&self.keys)?;
        Ok(erased)
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
        let lines = self.sealed(fresh.iter(), state.next)?;
        state.write(&lines).map_err(failed(&self.path))?;
        state.next += fresh.len() as u64;
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
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(lines).and_then(|()| self.file.sync_data());
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
mod tests;
