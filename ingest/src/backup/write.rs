//! Makes a backup, while signals come in.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    path::Path,
};

use flowsync_schemas::{SignalId, record::Field};

use super::{
    BackupError, CHECKPOINTS, FACTS, IDS, NAMES, RECORDS, Summary, Tables, WITHDRAWALS, failed, is_file,
    stream::{FRAME_BYTES, Frames},
};
use crate::{
    datadir::DataDir,
    facts::{self, Facts},
    log::{
        EmbeddedLog,
        copied::{Copied, Copy, Record},
    },
    seal::Purpose,
    vault::copied::{Kind, LINE_BYTES_MAX, kind},
};

/// Writes a backup of a data directory, whose log this process has open; signals are taken in meanwhile. `out` is not synced.
///
/// # Errors
/// Where something cannot be read, is damaged, or `out` takes no more. What was written then is refused by [`super::restore`].
pub fn write(
    dir: &DataDir,
    log: &EmbeddedLog,
    tables: &dyn Tables,
    out: &mut impl Write,
) -> Result<Summary, BackupError> {
    written(dir.path(), log, tables, out)
}

pub(super) fn written(
    dir: &Path,
    log: &EmbeddedLog,
    tables: &dyn Tables,
    out: &mut impl Write,
) -> Result<Summary, BackupError> {
    let mut frames = Frames::begin(out)?;
    let mut summary = Summary::default();
    for name in ["settings.json", "model.toml"] {
        summary.files += file(&mut frames, dir, name)?;
    }
    summary.files += folder(&mut frames, dir, "git")?;
    summary.files += file(&mut frames, dir, CHECKPOINTS)?;
    let copy = log.copy();
    frames.section(WITHDRAWALS)?;
    frames.add(&copy.withdrawals()?)?;
    frames.section(RECORDS)?;
    summary.signals = copy.each(|copied| frames.add(&entry(&copied)))?;
    frames.section(IDS)?;
    for id in copy.ids() {
        let (id, offset) = id?;
        frames.add(&[&id.0.to_be_bytes()[..], &offset.to_be_bytes()].concat())?;
    }
    if copy.lets_go()? {
        summary.facts = facts(&mut frames, &copy, log, tables)?;
    }
    drop(copy);
    summary.names = names(&mut frames, dir, log)?;
    summary.files += folder(&mut frames, dir, "privacy")?;
    let totals = serde_json::to_vec(&summary).map_err(|e| BackupError::Written(e.into()))?;
    summary.bytes = frames.end(&totals)?;
    Ok(summary)
}

/// kind ‖ leaf (32) ‖ length (4) ‖ record ‖ length (4) ‖ what stands for it
fn entry(copied: &Copied) -> Vec<u8> {
    let (kind, record) = match &copied.record {
        Record::Gone => (0, &[][..]),
        Record::Sealed(record) => (1, &record[..]),
        Record::Plain(record) => (2, &record[..]),
    };
    let stands = copied.replaced.as_deref().unwrap_or_default();
    let mut out = Vec::with_capacity(41 + record.len() + stands.len());
    out.push(kind);
    out.extend(copied.leaf.0);
    for part in [record, stands] {
        // Records are far shorter than 4 GiB.
        out.extend((part.len() as u32).to_be_bytes());
        out.extend(part);
    }
    out
}

/// The facts of the signals that are copied, each piece sealed with its signal's key.
fn facts<W: Write>(
    frames: &mut Frames<W>,
    copy: &Copy,
    log: &EmbeddedLog,
    tables: &dyn Tables,
) -> Result<u64, BackupError> {
    frames.section(FACTS)?;
    let keys = log.keys();
    let (mut walk, mut count) = (keys.walk(Purpose::Backups), 0);
    tables.each(&mut |table, columns, rows| {
        let none = || BackupError::Tables(format!("{table} does not say of which signals it is").into());
        let signal = columns.iter().position(|column| column == "signal").ok_or_else(none)?;
        for rows in rows.chunk_by(|a, b| a.get(signal) == b.get(signal)) {
            let id = rows.first().and_then(|row| row.get(signal)).and_then(SignalId::from_value);
            // What came later has its record.
            let Some(offset) = copy.offset(id.ok_or_else(none)?)? else { continue };
            let entry = facts::sealed(&Facts::new(table, columns, rows), offset, &keys, &mut walk)?;
            frames.add(&entry)?;
            count += 1;
        }
        Ok(())
    })?;
    Ok(count)
}

/// A file as long as it is now, if it grows; 0 where there is none. A checkpoint that is being written is cut off when they are
/// opened.
fn file<W: Write>(frames: &mut Frames<W>, dir: &Path, name: &str) -> Result<u64, BackupError> {
    let path = dir.join(name);
    let mut from = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(failed(&path)(e)),
    };
    frames.section(name)?;
    let mut left = from.metadata().map_err(failed(&path))?.len();
    let mut part = vec![0; FRAME_BYTES];
    while left > 0 {
        let wanted = usize::try_from(left).map_or(part.len(), |left| left.min(part.len()));
        from.read_exact(&mut part[..wanted]).map_err(failed(&path))?;
        frames.add(&part[..wanted])?;
        left -= wanted as u64;
    }
    Ok(1)
}

/// What of a folder belongs into a backup, in the order of the names.
fn folder<W: Write>(frames: &mut Frames<W>, dir: &Path, folder: &str) -> Result<u64, BackupError> {
    let path = dir.join(folder);
    let entries = match fs::read_dir(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries.map_err(failed(&path))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed(&path))?;
        let Some(name) = entry.file_name().to_str().map(|name| format!("{folder}/{name}")) else { continue };
        if is_file(&name) && entry.file_type().map_err(failed(&path))?.is_file() {
            names.push(name);
        }
    }
    names.sort();
    let mut files = 0;
    for name in names {
        files += file(frames, dir, &name)?;
    }
    Ok(files)
}

/// The vault's whole lines.
fn names<W: Write>(frames: &mut Frames<W>, dir: &Path, log: &EmbeddedLog) -> Result<u64, BackupError> {
    let path = dir.join(NAMES);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(failed(&path)(e)),
    };
    frames.section(NAMES)?;
    let keys = log.keys();
    let mut walk = keys.walk(Purpose::Names);
    let (mut lines, mut count) = (BufReader::new(file), 0);
    loop {
        let mut line = Vec::new();
        lines.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line).map_err(failed(&path))?;
        if line.last() != Some(&b'\n') {
            if line.len() == LINE_BYTES_MAX {
                return Err(failed(&path)(io::Error::other("a line is longer than any name")));
            }
            return Ok(count);
        }
        match kind(&line, &mut walk) {
            Kind::Plain => return Err(BackupError::PlainNames { path }),
            Kind::Erased => continue,
            Kind::Kept => frames.add(&line)?,
        }
        count += 1;
    }
}
