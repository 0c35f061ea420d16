//! A new log whose making was cut short by a crash.
//!
//! The store (fjall 3.1) makes its journal first and its marker of a whole store last, and then neither opens nor makes anew what
//! has the one without the other: a first start that was killed in between would have been the last. What is left of such a
//! one is removed where it holds nothing; nothing can have been acknowledged before the marker was there.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read},
    path::Path,
};

/// The store's files in the order in which it makes them.
const LOCK: &str = "lock";
const KEYSPACES: &str = "keyspaces";
const JOURNAL: &str = "0.jnl";
const MARKER: &str = "version";
/// Bytes of a whole marker, which is written in two parts.
const MARKER_BYTES: u64 = 4;

/// Removes the journal and the marker of a store that was never finished. Whatever holds anything stays, and so does what
/// another process is making.
pub(super) fn remove_unfinished(folder: &Path) -> io::Result<()> {
    let lock = match File::open(folder.join(LOCK)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let is_whole = fs::metadata(folder.join(MARKER)).is_ok_and(|marker| marker.len() >= MARKER_BYTES);
    if is_whole || lock.try_lock().is_err() || has_keyspaces(folder)? || !is_empty(&folder.join(JOURNAL))? {
        return Ok(());
    }
    tracing::warn!(folder = %folder.display(), "the making of the log was cut short: it is made anew");
    for file in [MARKER, JOURNAL] {
        match fs::remove_file(folder.join(file)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn has_keyspaces(folder: &Path) -> io::Result<bool> {
    match fs::read_dir(folder.join(KEYSPACES)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        entries => Ok(entries?.next().is_some()),
    }
}

/// Whether nothing was ever written to a file, which may have been allocated ahead.
fn is_empty(file: &Path) -> io::Result<bool> {
    let mut file = match File::open(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        opened => opened?,
    };
    let mut part = vec![0; 1 << 16];
    loop {
        match file.read(&mut part)? {
            0 => return Ok(true),
            read if part[..read].iter().any(|byte| *byte != 0) => return Ok(false),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Write;

    use flowsync_schemas::LogPosition;

    use super::*;
    use crate::{
        log::{EmbeddedLog, Log, conformance::signal},
        seal::Keys,
    };

    #[test]
    fn a_log_whose_making_was_cut_short_anywhere_is_made() {
        // How far it came; journal and marker get their names first.
        for steps in 0..=6 {
            let dir = tempfile::tempdir().unwrap();
            let folder = dir.path().join("log");
            fs::create_dir_all(&folder).unwrap();
            let make = |step: usize, name: &str| (steps >= step).then(|| File::create(folder.join(name)).unwrap());
            make(1, LOCK);
            (steps >= 2).then(|| fs::create_dir(folder.join(KEYSPACES)).unwrap());
            let journal = make(3, JOURNAL);
            (steps >= 4).then(|| journal.unwrap().set_len(64 << 20).unwrap());
            let marker = make(5, MARKER);
            (steps >= 6).then(|| marker.unwrap().write_all(b"FJL").unwrap());
            for opened in 0..2 {
                let log = EmbeddedLog::open(&folder, Keys::fixed()).unwrap_or_else(|e| panic!("step {steps}: {e}"));
                assert_eq!(log.ends().unwrap(), [opened]);
                log.append(&[signal(opened, 100)]).unwrap();
                assert!(log.get(LogPosition { partition: 0, offset: opened }).unwrap().is_some());
            }
        }
    }

    #[test]
    fn what_holds_anything_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("log");
        EmbeddedLog::open(&folder, Keys::fixed()).unwrap().append(&[signal(1, 100)]).unwrap();
        fs::remove_file(folder.join(MARKER)).unwrap();
        let before = fs::read(folder.join(JOURNAL)).unwrap();
        assert!(EmbeddedLog::open(&folder, Keys::fixed()).is_err());
        // Neither where the keyspaces are gone as well.
        fs::remove_dir_all(folder.join(KEYSPACES)).unwrap();
        assert!(EmbeddedLog::open(&folder, Keys::fixed()).is_err());
        assert!(fs::read(folder.join(JOURNAL)).unwrap() == before);
    }
}
