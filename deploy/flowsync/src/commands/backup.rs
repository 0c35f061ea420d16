//! `flowsync backup` and `flowsync restore`.
//!
//! The log is open in one process only: beside a running server the server is asked, and goes on taking in signals meanwhile.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, Result, bail};
use flowsync_ingest::{
    EmbeddedLog, Vault,
    backup::{self, Summary},
};
use tokio::runtime::Runtime;

use super::{asked, audit::server, hold};
use crate::{facts::Committed, out::say};

pub fn backup(dir: &Path, to: &Path, runtime: &Runtime) -> Result<()> {
    // Under its name only when it is whole and read back.
    let new = to.with_added_extension("new");
    let failed = || new.display().to_string();
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new);
    let mut out = BufWriter::new(file.with_context(failed)?);
    match server(dir)? {
        Some(address) => {
            let mut answer = asked(&address, "/api/backup", None)?;
            io::copy(&mut answer.body_mut().as_reader(), &mut out).context("the server's backup")?;
        }
        None => {
            let Some(held) = hold(dir)? else {
                bail!("another command holds {}: try again when it has ended", dir.display());
            };
            // Seals what an older build left plain.
            Vault::open(&held.vault(), held.keyring()?)?;
            let log = EmbeddedLog::open(&held.log(), held.keyring()?)?;
            let tables = Committed { dir: dir.to_owned(), runtime: runtime.handle().clone() };
            backup::write(&held, &log, &tables, &mut out)?;
        }
    }
    out.flush().with_context(failed)?;
    out.get_ref().sync_all().with_context(failed)?;
    drop(out);
    let summary = backup::check(&mut BufReader::new(File::open(&new).with_context(failed)?))?;
    fs::rename(&new, to).with_context(failed)?;
    say!("{} in {}", describe(&summary), to.display())?;
    say!("the keys are not in it: keep a copy of {}, by itself and only the newest", dir.join("keys").display())?;
    Ok(())
}

pub fn restore(backup: &Path, dir: &Path, keys: &Path) -> Result<()> {
    let file = File::open(backup).with_context(|| backup.display().to_string())?;
    let summary = backup::restore(&mut BufReader::new(file), dir, keys)?;
    say!("{} restored into {}", describe(&summary), dir.display())?;
    if summary.erased_since > 0 {
        say!("the keys of {} signals were destroyed since: their deliveries cannot be read", summary.erased_since)?;
    }
    if summary.filled > 0 {
        say!("{} signals that came later, and whose keys were destroyed, are gone", summary.filled)?;
    }
    if summary.facts_erased > 0 {
        say!("{} pieces of facts that name somebody who was erased since are left out", summary.facts_erased)?;
    }
    if summary.names_erased > 0 {
        say!("{} names were erased since", summary.names_erased)?;
    }
    say!("the tables are computed anew when it is started: flowsync run --dir {}", dir.display())?;
    Ok(())
}

fn describe(summary: &Summary) -> String {
    format!("{} signals and {} names ({:.1} MB)", summary.signals, summary.names, summary.bytes as f64 / 1e6)
}
