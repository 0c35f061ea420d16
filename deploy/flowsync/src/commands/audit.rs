//! `flowsync audit`: that the log is what was taken in, with proof.
//!
//! The log is opened by one process at a time: beside a running server the server is asked. Public key and newest checkpoint
//! are files, read beside any process; a proof is checked without any of it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use flowsync_ingest::{
    DataDir, EmbeddedLog, Log,
    audit::{
        self, AuditError, Checked, Checkpoints, Content, Extension, Given, Inclusion, Keeper, PublicKey, Report,
        SIGN_EVERY, Signed, Subject, VerifyRequest,
    },
};
use serde::Serialize;

use super::{ask, hold};
use crate::{cli::Audit, out};

pub fn run(command: &Audit) -> Result<()> {
    match command {
        Audit::Verify { data, checkpoints, key, json } => verify(&data.dir, checkpoints, key.as_deref(), *json),
        Audit::Prove { subject, data, out } => prove(&data.dir, subject, out.as_deref()),
        Audit::Check { proof, key, body } => check(proof, key, body.as_deref()),
        Audit::Key { data } => {
            let key = DataDir::open_reader(&data.dir)?.signing_key()?;
            out::bytes(format!("{}\n", key.public()).as_bytes())
        }
        Audit::Checkpoint { data, since, out } => checkpoint(&data.dir, since.as_deref(), out.as_deref()),
    }
}

fn verify(dir: &Path, checkpoints: &[PathBuf], key: Option<&str>, json: bool) -> Result<()> {
    let given = |path: &PathBuf| Ok(Given { name: path.display().to_string(), text: read(path)? });
    let given = checkpoints.iter().map(given).collect::<Result<Vec<_>>>()?;
    let key = key.map(public_key).transpose()?;
    let report: Report = match server(dir)? {
        Some(address) => {
            let request = VerifyRequest { given, key: key.map(|key| key.to_string()) };
            ask(&address, "/api/audit/verify", Some(&serde_json::to_string(&request)?))?
        }
        None => {
            let held = held(dir)?;
            let own = held.signing_key()?.public().clone();
            let signed = Signed::read(&held.audit(), key.as_ref().unwrap_or(&own), &given)?;
            // Not opened as a log is: what does not fit together is to be told, not repaired or refused.
            audit::verify(&*EmbeddedLog::as_it_lies(&held.log(), held.keyring()?)?, 0, signed)?
        }
    };
    out::bytes(if json { serde_json::to_string_pretty(&report)? + "\n" } else { show(&report) }.as_bytes())?;
    if !report.is_good() {
        bail!(match report.finding {
            Some(_) => "the log is not what was taken in: restore it from a backup, and find out who wrote to it",
            None => "not everything that should tell is there: it cannot be said that the log is what was taken in",
        });
    }
    Ok(())
}

fn show(report: &Report) -> String {
    let Report { size, root, checkpoints, checkpoints_given, signed, withdrawn, withdrawn_gone, finding, doubts } =
        report;
    let mut out = match finding {
        None => format!("{size} signals, root {root}\n"),
        Some(finding) => format!("NOT GOOD: {finding}\n{size} signals before it are as they were\n"),
    };
    out.push_str(&format!("{checkpoints} signed checkpoints agree, {checkpoints_given} of them kept elsewhere"));
    match size.saturating_sub(*signed) {
        0 => out.push('\n'),
        newer => out.push_str(&format!("; {newer} newer signals have no checkpoint yet\n")),
    }
    if *withdrawn > 0 {
        out.push_str(&format!(
            "{withdrawn} of the signals were withdrawn and can be read by nobody; of {withdrawn_gone} the hashes alone are left\n"
        ));
    }
    for doubt in doubts {
        out.push_str(&format!("NOT GOOD: {doubt}\n"));
    }
    if report.is_good() {
        out.push_str("good: nothing is altered, removed or reordered\n");
    }
    out
}

fn prove(dir: &Path, subject: &str, out: Option<&Path>) -> Result<()> {
    let subject: Subject = subject.parse().map_err(anyhow::Error::msg)?;
    let proof: Inclusion = match server(dir)? {
        Some(address) => {
            let path = match subject {
                Subject::Signal(id) => id.to_string(),
                Subject::At(at) => format!("{}/{}", at.partition, at.offset),
            };
            ask(&address, &format!("/api/audit/proof/{path}"), None)?
        }
        None => {
            let (_held, keeper) = keeper(dir)?;
            keeper.prove(subject)?
        }
    };
    write_json(&proof, out)
}

fn checkpoint(dir: &Path, since: Option<&Path>, out: Option<&Path>) -> Result<()> {
    let Some(since) = since else {
        let newest = audit::newest(&DataDir::open_reader(dir)?.audit())?.ok_or(AuditError::Unsigned)?;
        return write(&newest, out);
    };
    let older = read(since)?;
    let proof: Extension = match server(dir)? {
        Some(address) => ask(&address, "/api/audit/extension", Some(&older))?,
        None => {
            let (_held, keeper) = keeper(dir)?;
            keeper.extend(&older)?
        }
    };
    write_json(&proof, out)
}

fn check(proof: &Path, key: &str, body: Option<&Path>) -> Result<()> {
    match audit::check(&read(proof)?, &public_key(key)?)? {
        Checked::Extension { older, newer } => out::bytes(
            format!(
                "good: the log {} of {} signals begins with the {} that were signed before\n",
                newer.origin, newer.size, older.size
            )
            .as_bytes(),
        ),
        Checked::Inclusion { checkpoint, offset, content } => {
            let mut text = format!(
                "good: this is the record at offset {offset} of the log {}, which had {} signals when that was signed\n",
                checkpoint.origin, checkpoint.size
            );
            match &content {
                Content::Signal(signal) => text.push_str(&format!(
                    "  signal {} from {} ({}, verified by {}), delivery {:?}, received {}, {} bytes\n",
                    signal.id,
                    signal.source,
                    signal.channel.word(),
                    signal.verified_by,
                    signal.delivery,
                    signal.received_at,
                    signal.body.len()
                )),
                Content::Newer => text.push_str("  a newer version wrote it: this one cannot show what it says\n"),
                Content::Sealed => {
                    text.push_str("  it was withdrawn: these are its sealed bytes, and their key is destroyed\n")
                }
                Content::Gone => text.push_str("  it was withdrawn: of its bytes the hash alone is left\n"),
            }
            if let Some(path) = body {
                let signal = content.signal().context("the proof does not show the delivery's bytes")?;
                fs::write(path, &signal.body).with_context(|| path.display().to_string())?;
            }
            out::bytes(text.as_bytes())
        }
    }
}

/// Where the process that holds the data directory serves, if one does.
pub fn server(dir: &Path) -> Result<Option<String>> {
    Ok(DataDir::open_reader(dir)?.holder()?.and_then(|holder| holder.listen))
}

fn held(dir: &Path) -> Result<DataDir> {
    hold(dir)?.context("another command holds the log: ask again when it has ended")
}

/// The log, open and signed, where no server holds it.
fn keeper(dir: &Path) -> Result<(DataDir, Keeper)> {
    let held = held(dir)?;
    let log: Arc<dyn Log> = Arc::new(EmbeddedLog::open(&held.log(), held.keyring()?)?);
    let checkpoints = Checkpoints::open(&held.audit(), held.signing_key()?)?;
    Ok((held, Keeper::start(log, checkpoints, SIGN_EVERY)?))
}

pub fn public_key(given: &str) -> Result<PublicKey> {
    match (given.parse(), fs::read_to_string(given)) {
        (Ok(key), _) => Ok(key),
        (Err(_), Ok(text)) => Ok(text.parse().with_context(|| given.to_owned())?),
        (Err(error), Err(_)) => Err(anyhow::Error::from(error).context("neither a key nor a file that can be read")),
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

fn write_json(proof: &impl Serialize, out: Option<&Path>) -> Result<()> {
    write(&(serde_json::to_string_pretty(proof)? + "\n"), out)
}

fn write(text: &str, out: Option<&Path>) -> Result<()> {
    match out {
        Some(path) => fs::write(path, text).with_context(|| path.display().to_string()),
        None => out::bytes(text.as_bytes()),
    }
}
