//! The vault's lines in a backup, and what of them is put into a vault again.

use super::lines::{self, Said};
use crate::seal::Walk;

/// Longest line that is read. Names are cut far below.
pub(crate) const LINE_BYTES_MAX: usize = 64 << 10;

/// What a line is to a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It is put back as it is.
    Kept,
    /// Its key is destroyed.
    Erased,
    /// Anybody can read it: an older build wrote it.
    Plain,
}

/// What a line is, by the keys as they are now.
pub(crate) fn kind(line: &[u8], keys: &mut Walk<'_>) -> Kind {
    match lines::read(line, keys) {
        Said::Erased => Kind::Erased,
        Said::Claim(None, _) => Kind::Plain,
        Said::Claim(Some(_), _) | Said::Counted(_) | Said::Nothing(_) => Kind::Kept,
    }
}
