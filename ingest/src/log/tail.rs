//! The end of the embedded log, where a crash leaves its traces: how far it was acknowledged, and an append that power loss
//! has torn.
//!
//! The store (fjall 3.1) forgets an append that is not there to its end, as it should. But where a later part of one
//! reached the disk and an earlier part did not, it calls the journal damaged and does not open; and where a damaged byte
//! makes what follows unreadable, it forgets all of that, acknowledged or not. So the log keeps beside it how far it was
//! acknowledged: less than that is damage (I10), and a torn append beyond it is cut off, since nobody was told of it (I1).

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::SeekFrom;

use super::{audited::Audited, store::Store};
use crate::seal::Keys;

/// The offset of the next signal after the last append that was acknowledged; written after every append, and left to the
/// system to flush. So it survives the process; after a power loss it may be an older one, which is still right.
pub(super) struct Mark(File);

/// Name of the mark's file.
pub(super) const NAME: &str = "acknowledged";

impl Mark {
    /// Opens the mark of the log in `folder`, or makes it. Gives what it says; nothing where it says nothing sound.
    pub fn open(folder: &Path) -> io::Result<(Self, Option<u64>)> {
        fs::create_dir_all(folder)?;
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(folder.join(NAME))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let halves =
            bytes.split_at_checked(8).and_then(|(end, check)| Some((end.try_into().ok()?, check.try_into().ok()?)));
        let end = halves.map(|(end, check)| (u64::from_be_bytes(end), u64::from_be_bytes(check)));
        Ok((Self(file), end.filter(|(end, check)| *end == !check).map(|(end, _)| end)))
    }

    /// Keeps the offset of the next signal.
    pub fn set(&self, end: u64) -> io::Result<()> {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&end.to_be_bytes());
        bytes[8..].copy_from_slice(&(!end).to_be_bytes());
        rustix::io::pwrite(&self.0, &bytes, 0).map(drop).map_err(io::Error::from)
    }
}

/// Cuts the newest journal of the store in `folder` so far that the store opens: before the end of the first append that is
/// damaged. Gives the length that is left; nothing where that does not help, or leaves fewer than the signals that were
/// acknowledged. Looks for the place by trying it on copies, so that nothing here depends on how the store lays out its
/// journal.
pub(super) fn cut_torn_append(folder: &Path, acknowledged: u64, keys: &Arc<Keys>) -> io::Result<Option<u64>> {
    let Some(journal) = newest_journal(folder)? else { return Ok(None) };
    let trial = folder.with_extension("trial");
    // How many signals there are with so much of the journal, where the store opens.
    let opens = |length: u64| -> io::Result<Option<u64>> {
        remove(&trial)?;
        copy(folder, &trial, &journal, length)?;
        Ok(Store::open(&trial, keys.clone()).and_then(|store| store.view().leaves()).ok())
    };
    // It opens at the one length, and not at the other. Journals are allocated ahead: in front of a hole is all that counts.
    let mut long = rustix::fs::seek(File::open(&journal)?, SeekFrom::Hole(0))
        .or_else(|_| fs::metadata(&journal).map(|m| m.len()))?;
    let (mut short, mut left) = (long, opens(long)?);
    if left.is_none() {
        (short, left) = (0, opens(0)?);
    }
    while left.is_some() && long - short > 1 {
        let half = short.midpoint(long);
        match opens(half)? {
            None => long = half,
            opened => (short, left) = (half, opened),
        }
    }
    remove(&trial)?;
    if left.is_none_or(|left| left < acknowledged) {
        return Ok(None);
    }
    let file = File::options().write(true).open(&journal)?;
    file.set_len(short)?;
    file.sync_all()?;
    Ok(Some(short))
}

/// Journals are numbered.
fn newest_journal(folder: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest: Option<(u64, PathBuf)> = None;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        if let (Some("jnl"), Some(number)) = (path.extension().and_then(|e| e.to_str()), stem) {
            newest = newest.max(Some((number, path)));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Copies a folder, of one file only so many bytes.
fn copy(from: &Path, to: &Path, cut: &Path, length: u64) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy(&path, &target, cut, length)?;
        } else if path == cut {
            let mut file = File::create(&target)?;
            io::copy(&mut File::open(&path)?.take(length), &mut file)?;
            file.flush()?;
        } else if path.parent().is_none_or(|parent| !parent.ends_with("tables"))
            || fs::hard_link(&path, &target).is_err()
        {
            // Tables are never written again; all else may be.
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}
