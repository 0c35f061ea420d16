//! The lines of the vault's file.
//!
//! ```json
//! {"lines": 40}                                  of the lines numbered below 40, those that are missing were erased
//! {"line": 17, "sealed": "base64"}               a claim, sealed with the key of the number
//! {"person": "…", "name": "…", "account": "…"}   a claim as older builds wrote it
//! ```

use std::{collections::BTreeSet, ops::Range};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use flowsync_schemas::NameClaim;
use serde::{Deserialize, Serialize};

use crate::seal::{self, HEAD, Purpose, SealError, Walk};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Line {
    Sealed { line: u64, sealed: String },
    Plain(Claim),
    Counted { lines: u64 },
}

#[derive(Serialize, Deserialize)]
pub(super) struct Claim {
    person: String,
    name: String,
    account: String,
}

impl Claim {
    fn of(claim: &NameClaim) -> Self {
        Self { person: claim.person.to_string(), name: claim.name.clone(), account: claim.account.clone() }
    }

    fn read(self) -> Option<NameClaim> {
        Some(NameClaim { person: self.person.parse().ok()?, name: self.name, account: self.account })
    }
}

/// A claim as a line, sealed with the key of its number.
pub(super) fn sealed(claim: &NameClaim, line: u64, keys: &mut Walk<'_>) -> Result<Vec<u8>, SealError> {
    let mut out = vec![0; HEAD];
    #[allow(clippy::expect_used)] // Three strings.
    serde_json::to_writer(&mut out, &Claim::of(claim)).expect("a claim can be written");
    let key = keys.key(line)?;
    seal::seal_in_place(&key, &Purpose::Names.context(line), seal::nonce().map_err(seal::no_randomness)?, &mut out, 0);
    Ok(written(&Line::Sealed { line, sealed: BASE64_STANDARD.encode(out) }))
}

/// How many lines were ever numbered.
pub(super) fn counted(lines: u64) -> Vec<u8> {
    written(&Line::Counted { lines })
}

fn written(line: &Line) -> Vec<u8> {
    #[allow(clippy::expect_used)] // Numbers and strings.
    let mut out = serde_json::to_vec(line).expect("a line can be written");
    out.push(b'\n');
    out
}

/// What a line says.
pub(super) enum Said {
    /// A claim, and its number where it is sealed.
    Claim(Option<u64>, NameClaim),
    /// A claim whose key is destroyed.
    Erased,
    Counted(u64),
    /// Nothing that can be read; its number, where it has one.
    Nothing(Option<u64>),
}

pub(super) fn read(line: &[u8], keys: &mut Walk<'_>) -> Said {
    match serde_json::from_slice(line) {
        Ok(Line::Counted { lines }) => Said::Counted(lines),
        Ok(Line::Plain(claim)) => claim.read().map_or(Said::Nothing(None), |claim| Said::Claim(None, claim)),
        Ok(Line::Sealed { line, sealed }) => match keys.key(line) {
            Err(error) if error.is_destroyed() => Said::Erased,
            Err(_) => Said::Nothing(Some(line)),
            Ok(key) => {
                let text = BASE64_STANDARD.decode(sealed).ok();
                let text = text.and_then(|text| seal::open(&key, &Purpose::Names.context(line), &text).ok());
                let claim = text.and_then(|text| serde_json::from_slice::<Claim>(&text).ok()?.read());
                claim.map_or(Said::Nothing(Some(line)), |claim| Said::Claim(Some(line), claim))
            }
        },
        Err(_) => Said::Nothing(None),
    }
}

/// The numbers below `end` that are not among these.
pub(super) fn missing(there: &BTreeSet<u64>, end: u64) -> Vec<Range<u64>> {
    let mut next = 0;
    let mut out = Vec::new();
    for number in there.iter().copied().filter(|number| *number < end).chain([end]) {
        if next < number {
            out.push(next..number);
        }
        next = number + 1;
    }
    out
}
