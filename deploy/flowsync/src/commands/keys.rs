//! `flowsync keys`.

use anyhow::{Context, Result};
use flowsync_ingest::{DataDir, seal::MasterKey};

use super::command_line;
use crate::{cli::Keys, out::say};

pub fn run(command: &Keys) -> Result<()> {
    let Keys::Rotate { data, old, new } = command;
    let dir = DataDir::open_writer(&data.dir, &command_line())?;
    match (old, new) {
        (Some(old), Some(new)) => {
            let read = |path| MasterKey::read(path).context("a master key");
            dir.reseal(&read(old)?, &read(new)?)?;
        }
        _ => dir.rotate_master()?,
    }
    say!("the keys are sealed under the new master key alone")?;
    Ok(())
}
