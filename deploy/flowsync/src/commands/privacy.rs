//! `flowsync privacy`: what is held of a person, handed out or erased.
//!
//! ```text
//! begin     who it is, sealed, in `privacy/erasing`            from here on a crash is continued, not forgotten
//! withdraw  every signal that names them: what stands for it does not; the original's key is destroyed
//! compute   the tables anew from the log, then nothing but their newest epoch; the live feed starts anew
//! erase     their claims in the vault, and the claims' keys
//! receipt   signed, in `privacy/`; then the file of the beginning, and its key
//! ```
//!
//! Both need the data directory for themselves: the log is open in one process only.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use flowsync_ingest::{
    DataDir, EmbeddedLog, Log, Names, Vault, audit, facts, now,
    privacy::{Claimed, Erased, Pending, Receipt, Salt, Subject, Token, exported},
};
use flowsync_query::{
    AsOf, Param,
    format::{self, Format},
};
use flowsync_schemas::{ColumnKind, Epoch, LogPosition, NameClaim, PersonId, Signal, fact::base_tables};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{
    cli::Privacy,
    committer::sink_runtime,
    data,
    out::{self, heard_or_not, say},
    pipeline::{Pipeline, Rewrite, open_sink},
};

/// As others are told who holds the directory: the command line names the person.
const WHO: &str = "flowsync privacy";
/// Signals that are read, and withdrawn, in one go.
const BATCH_RECORDS: usize = 2_000;
const BATCH_BYTES: usize = 32 << 20;

pub fn run(command: &Privacy, runtime: &Runtime) -> Result<()> {
    match command {
        Privacy::Export { person, data, also, out } => {
            let dir = DataDir::open_writer(&data.dir, WHO)?;
            let names = Names::read(&dir.vault(), &*dir.keyring()?)?;
            let subject = runtime.block_on(find(&dir, &names, Some(person), also))?;
            match out {
                Some(path) => {
                    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
                    let mut file = BufWriter::new(file.with_context(|| path.display().to_string())?);
                    runtime.block_on(export(&dir, &subject, &mut file))?;
                    file.flush().with_context(|| path.display().to_string())
                }
                None => {
                    let mut text = Vec::new();
                    runtime.block_on(export(&dir, &subject, &mut text))?;
                    out::bytes(&text)
                }
            }
        }
        Privacy::Erase { person, data, also, reason, yes } => {
            let dir = DataDir::open_writer(&data.dir, WHO)?;
            let keys = dir.keyring()?;
            let pending = match Pending::read(&dir.privacy(), &keys)? {
                Some(begun) => {
                    heard_or_not(say!("finishing the erasure that was interrupted"))?;
                    erase(dir, begun)?;
                    if person.is_some() {
                        bail!("that was the erasure that had been interrupted: say again who is to be erased now");
                    }
                    return Ok(());
                }
                None => {
                    let names = Names::read(&dir.vault(), &keys)?;
                    let subject = runtime.block_on(find(&dir, &names, person.as_deref(), also))?;
                    say!("known as {}", subject.identifiers().join(", "))?;
                    if !yes {
                        bail!(
                            "nothing is erased yet: say --yes where these are the person, and --also what is missing"
                        );
                    }
                    Pending::begin(&dir.privacy(), &keys, subject, reason)?
                }
            };
            erase(dir, pending)
        }
        Privacy::Check { receipt, key } => {
            let text = fs::read_to_string(receipt).with_context(|| receipt.display().to_string())?;
            let receipt = Receipt::verify(&text, &super::audit::public_key(key)?)?;
            out::bytes((serde_json::to_string_pretty(&receipt)? + "\n").as_bytes())
        }
    }
}

/// Who is meant: all accounts and names of everyone who is known to be the same person.
async fn find(dir: &DataDir, names: &Names, person: Option<&str>, also: &[String]) -> Result<Subject> {
    let person =
        person.context("say whom: a name, an e-mail address, an account such as github:ada, or a pseudonym")?;
    let mut persons = names.find(person);
    for more in also {
        persons.extend(names.find(more));
    }
    if persons.is_empty() && also.is_empty() {
        bail!(
            "nobody here is known as {person:?}: give a name, an e-mail address, an account such as github:ada, or a pseudonym"
        );
    }
    persons.extend(same_people(dir, &persons).await?);
    persons.sort();
    persons.dedup();
    let claim = |person: &PersonId| -> Vec<NameClaim> {
        let claims = names.claims(*person);
        claims
            .map(|(name, account)| NameClaim { person: *person, name: name.into(), account: account.into() })
            .collect()
    };
    let mut claims: Vec<_> = persons.iter().flat_map(claim).collect();
    let (token, salt) = (Token::random()?, Salt::random()?);
    // The same account under another spelling is claimed by another pseudonym.
    loop {
        let subject = Subject::new(&claims, also, token.clone(), salt.clone());
        let known = claims.len();
        for (other, _) in names.all() {
            let theirs = claim(&other).into_iter().filter(|c| subject.claims(c) == Some(Claimed::ByAccount));
            let new: Vec<_> = theirs.filter(|c| !claims.contains(c)).collect();
            claims.extend(new);
        }
        if claims.len() == known {
            return Ok(subject);
        }
    }
}

/// The other accounts of the same people, by the view.
async fn same_people(dir: &DataDir, persons: &[PersonId]) -> Result<Vec<PersonId>> {
    let (_, engine) = data::open_patient(dir.path())?;
    let snapshot = engine.snapshot(AsOf::Newest).await?;
    if snapshot.epoch() == Epoch(0) {
        let dir = dir.path().display();
        bail!(
            "the tables, which tell who is the same person, are not computed yet: `flowsync run --dir {dir}` does it"
        );
    }
    let mut found = Vec::new();
    for person in persons {
        let sql = "select b.person from identities a join identities b on a.identity = b.identity where a.person = $1";
        for row in snapshot.rows(sql, &[Param::Text(person.to_string())]).await? {
            found.push(row.text("person")?.parse().map_err(anyhow::Error::msg)?);
        }
    }
    Ok(found)
}

/// Everything that is held, an object a line: who it is, every signal that names them, every row that is about them.
async fn export(dir: &DataDir, subject: &Subject, out: &mut impl Write) -> Result<()> {
    let mut line = |kind: &str, what: Value| -> Result<()> {
        serde_json::to_writer(&mut *out, &json!({ "kind": kind, kind: what }))?;
        Ok(out.write_all(b"\n")?)
    };
    let pseudonyms: Vec<PersonId> = subject.pseudonyms(&dir.pseudonymizer()?).into_iter().map(|(old, _)| old).collect();
    line("person", json!({ "known_as": subject.identifiers(), "pseudonyms": pseudonyms, "as_of": now().to_string() }))?;
    let log = EmbeddedLog::open(&dir.log(), dir.keyring()?)?;
    each_signal(&log, |part| {
        part.iter()
            .filter(|(_, signal)| subject.is_in(signal))
            .try_for_each(|(_, signal)| line("signal", exported(signal)))
    })?;
    let (_, engine) = data::open_patient(dir.path())?;
    let snapshot = engine.snapshot(AsOf::Newest).await?;
    let tables = base_tables().chain(data::specs().into_iter().map(|view| &view.table));
    let quoted: Vec<_> = pseudonyms.iter().map(|person| format!("'{person}'")).collect();
    for table in tables.filter(|_| !quoted.is_empty()) {
        let texts = (table.columns)().into_iter().filter(|column| column.kind == ColumnKind::Text);
        let about: Vec<_> = texts.map(|column| format!("{} in ({})", column.name, quoted.join(", "))).collect();
        if about.is_empty() {
            continue;
        }
        let sql = format!("select * from {} where {}", table.name, about.join(" or "));
        let rows = format::write(Format::Ndjson, &snapshot.sql(&sql, &[]).await?)?;
        for row in rows.split(|byte| *byte == b'\n').filter(|row| !row.is_empty()) {
            let values: Value = serde_json::from_slice(row)?;
            line("row", json!({ "table": table.name, "values": values }))?;
        }
    }
    Ok(())
}

/// Runs through the log, in parts.
fn each_signal(log: &EmbeddedLog, mut each: impl FnMut(Vec<(LogPosition, Signal)>) -> Result<()>) -> Result<()> {
    for (partition, end) in (0..).zip(log.ends()?) {
        let mut offset = 0;
        while offset < end {
            let part = log.read(LogPosition { partition, offset }, BATCH_RECORDS, BATCH_BYTES)?;
            let Some((last, _)) = part.last() else { break };
            offset = last.offset + 1;
            each(part)?;
        }
    }
    Ok(())
}

fn erase(dir: DataDir, pending: Pending) -> Result<()> {
    let subject = pending.subject();
    let keys = dir.keyring()?;
    let model = data::model(&dir)?;
    let before = audit::newest(&dir.audit())?;

    let log = EmbeddedLog::open(&dir.log(), keys.clone())?;
    // Of an erasure that was interrupted, some are redacted already.
    let (mut redacted, mut lets_go, token) = (Vec::new(), false, subject.token().as_str());
    each_signal(&log, |part| {
        let without = |(at, signal): (LogPosition, Signal)| {
            let without = subject.redact(&signal);
            let holds = |text: &[u8]| String::from_utf8_lossy(text).contains(token);
            if without.is_some() || holds(&signal.body) {
                redacted.push(at.offset);
            }
            lets_go |= signal.is_withdrawn();
            Some((at, Some(without?)))
        };
        Ok(log.withdraw(part.into_iter().filter_map(without).collect()).map(drop)?)
    })?;
    drop(log);
    let signals_redacted = redacted.len() as u64;
    // What was read from them is in backups since the first delivery was let go.
    facts::forget(redacted.into_iter().filter(|_| lets_go), &keys)?;
    heard_or_not(say!("{signals_redacted} signals are redacted"))?;

    // It repeats rows, and clients are told to start anew.
    remove_folder(&dir.feed().join("journal"))?;
    let path = dir.path().to_owned();
    let old_and_new: BTreeMap<String, String> = subject
        .pseudonyms(&dir.pseudonymizer()?)
        .into_iter()
        .map(|(old, new)| (old.to_string(), new.to_string()))
        .collect();
    let persons: Vec<PersonId> = subject.pseudonyms(&dir.pseudonymizer()?).into_iter().map(|(old, _)| old).collect();
    let rewritten = subject.clone();
    let rewrite: Rewrite = Arc::new(move |columns, row| rewritten.redact_row(columns, row, &old_and_new));
    let pipeline = Pipeline::start_erasing(dir, &model, None, Some(rewrite))?;
    let epoch = pipeline.catch_up()?;
    pipeline.stop()?;
    let dir = DataDir::open_writer(&path, WHO)?;
    let files = sink_runtime()?;
    files.block_on(async { open_sink(&dir, &model).await?.purge().await.context("earlier epochs") })?;
    heard_or_not(say!("the tables are computed anew, and hold epoch {epoch} alone"))?;

    let keys = dir.keyring()?;
    let vault = Vault::open(&dir.vault(), keys.clone())?;
    let claims = vault.erase(&persons)?;
    let after = audit::newest(&dir.audit())?;
    let receipt = Receipt::new(
        subject,
        &Erased {
            at: now(),
            signals_redacted,
            claims_erased: claims as u64,
            reason: pending.reason(),
            log_before: before.as_deref(),
            log_after: after.as_deref(),
            ring_generation: keys.generation(),
        },
    );
    let note = receipt.sign(&dir.signing_key()?)?;
    heard_or_not(say!("for the person, and for nobody else: the receipt is theirs by the salt {}", subject.salt()))?;
    let path = pending.finish(&dir.privacy(), &keys, &note)?;
    heard_or_not(say!("receipt in {}\n{note}", path.display()))?;
    heard_or_not(say!(
        "Backups from before hold nothing readable of the person once the keys in them are these; tables in copies of\nthis \
         folder are not sealed: delete those."
    ))
}

fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| path.display().to_string())
        }
        _ => Ok(()),
    }
}
