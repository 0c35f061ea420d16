//! The command line. Its `--help` is the first page of the manual.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// What is being worked on, what shipped, what it cost and how sure we are: now, and with proof.
///
/// FlowSync reads signals from the tools of an organisation, keeps every view of them current as they arrive, and answers
/// SQL, digests and finance reports over them. Every line can be taken back to the signals behind it.
#[derive(Debug, Parser)]
#[command(
    name = "flowsync",
    version,
    propagate_version = true,
    after_help = "First steps:\n  \
        flowsync demo                                    see everything at once, on simulated data\n  \
        flowsync import git . --project SHOP             read this repository; SHOP-12 is a ticket\n  \
        flowsync sql \"select * from links limit 5\"       ask\n  \
        flowsync run --config flowsync.toml              receive webhooks\n\n\
        The environment variable FLOWSYNC_LOG sets what is logged, such as FLOWSYNC_LOG=debug."
)]
pub struct Cli {
    /// Write the log as JSON, one object a line.
    #[arg(long, global = true)]
    pub log_json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Where the data is.
#[derive(Clone, Debug, Args)]
pub struct Data {
    /// Data directory.
    #[arg(long, value_name = "DIR", default_value = "./flowsync-data")]
    pub dir: PathBuf,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// See everything at once: this repository and a simulated organisation, through the real gateway.
    ///
    /// Imports the git repository that it stands in (where there is one), sends the signed deliveries of a small simulated
    /// organisation to its own gateway, shows a digest, a capitalization report and the proof of one line, and goes on
    /// serving until it is stopped.
    Demo {
        #[command(flatten)]
        data: Data,
        /// End after showing it, instead of going on serving.
        #[arg(long)]
        exit: bool,
        /// Which simulated organisation: the same seed gives the same one.
        #[arg(long, value_name = "N", default_value_t = 1)]
        seed: u64,
    },
    /// Receive webhooks, keep all views current, serve queries.
    ///
    /// Without a configuration every connector refuses deliveries, because it has no secret to verify them with; queries
    /// over imported data work.
    Run {
        /// Configuration: secrets, settings, address. See `deploy/docs/configuration.md`.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        data: Data,
        /// Address to serve on; overrides the configuration.
        #[arg(long, value_name = "ADDR")]
        listen: Option<SocketAddr>,
    },
    /// Read repositories (`git`), or files of recorded deliveries (every other connector).
    ///
    /// A second import of a repository reads what is new, and takes back what no branch or tag reaches any more. A file of
    /// deliveries has one {"headers": {…}, "body": <object or string>} a line, plain or gzip.
    Import {
        /// Connector: `flowsync connectors` lists them.
        connector: String,
        /// Repositories, or files.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Key of a ticket project that counts as known, such as SHOP; can be repeated. Projects of imported tickets are
        /// known anyway.
        #[arg(long = "project", value_name = "KEY")]
        projects: Vec<String>,
        #[command(flatten)]
        data: Data,
    },
    /// Ask in SQL, over the newest or a named epoch. `flowsync views` lists what there is.
    Sql {
        /// The query.
        query: String,
        #[command(flatten)]
        data: Data,
        /// table, csv, json, ndjson, arrow or parquet.
        #[arg(long, default_value = "table")]
        format: String,
        /// As of an epoch (1200), a time (2026-10-01T08:00:00Z) or a day (2026-10-01).
        #[arg(long, value_name = "EPOCH|TIME")]
        as_of: Option<String>,
    },
    /// What happened, for a role: every line with its band and the way to its evidence.
    Digest {
        /// engineer, designer, product_manager, finance or admin.
        #[arg(long)]
        role: String,
        #[command(flatten)]
        data: Data,
        /// From when on: a time or a day. By default the last seven days.
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Lines that a section shows at most.
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=500))]
        limit: u16,
        /// Form.
        #[arg(long, value_enum, default_value_t = DigestFormat::Md)]
        format: DigestFormat,
    },
    /// Reports for finance.
    Finance {
        #[command(subcommand)]
        report: Finance,
    },
    /// Show the signals behind one row of a view.
    ///
    /// KEY is the values of the key columns, joined by commas: `flowsync why links Commit,0a1b2c…,SHOP-12`.
    Why {
        /// The view.
        view: String,
        /// The row.
        key: String,
        #[command(flatten)]
        data: Data,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show that the log of signals is what was taken in: nothing altered, removed or reordered.
    ///
    /// Every signal is a leaf of a Merkle tree (RFC 6962). Every few seconds the tree's root is signed, as a checkpoint of a
    /// few lines. Keep one now and then where nobody who can write to the data directory can: what was taken in before it
    /// cannot be altered unnoticed from then on, not even with the signing key.
    #[command(after_help = "How:\n  \
            flowsync audit key > flowsync.pub                     once, to those who will check\n  \
            flowsync audit checkpoint > 2026-11-21.checkpoint     now and then, to be kept elsewhere\n  \
            flowsync audit verify --checkpoint 2026-11-21.checkpoint\n  \
            flowsync audit prove 075e29ed7080b54005c73ac87e769e33 --out proof.json\n  \
            flowsync audit check proof.json --key flowsync.pub    on any machine")]
    Audit {
        #[command(subcommand)]
        audit: Audit,
    },
    /// Hand out, or erase, what is held of a person.
    ///
    /// A person is who is known by a name, an e-mail address, an account such as github:ada, or a pseudonym, with all accounts
    /// that are known to be the same person's. No other process may hold the data directory meanwhile.
    Privacy {
        #[command(subcommand)]
        privacy: Privacy,
    },
    /// Write all that cannot be computed anew into one file, also while `run` goes on: log, names, checkpoints, settings, and the facts
    /// of deliveries that were let go.
    ///
    /// Tables are computed anew after a restore. The keys are not in it, so that what was erased is unreadable in backups as well:
    /// keep a copy of the folder `keys` by itself, and only the newest.
    Backup {
        /// File to write.
        to: PathBuf,
        #[command(flatten)]
        data: Data,
    },
    /// Make a data directory from a backup and the keys.
    Restore {
        /// The backup.
        backup: PathBuf,
        /// Folder of the keys: the newest copy of `keys`.
        #[arg(long, value_name = "FOLDER")]
        keys: PathBuf,
        #[command(flatten)]
        data: Data,
    },
    /// Give back the space of what is no longer there: withdrawn deliveries, epochs that are no longer kept.
    ///
    /// `run` does it by itself as it goes, a little after each commit; this does it at once, and needs the data directory for itself.
    Compact {
        #[command(flatten)]
        data: Data,
    },
    /// The keys that log and vault are sealed with.
    Keys {
        #[command(subcommand)]
        keys: Keys,
    },
    /// Make a simulated organisation of any size: its deliveries, to a running gateway or into files, and the truth beside.
    ///
    /// The same numbers give the same organisation. Nothing in it is real, so keep it out of data that is.
    Simulate(Simulate),
    /// Fit the model of links that nothing states on this data, and report how far its probabilities hold.
    ///
    /// Learns from the links that are stated, period by period and never from the future. Writes model.toml (name it as
    /// `model` in the configuration to use it), report.md, report.json and reliability.svg.
    Calibrate {
        #[command(flatten)]
        data: Data,
        /// Folder to write to; by default `calibration` in the data directory.
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
        /// Months of a period: each is tested with what was learnt before it.
        #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=120))]
        rolling_months: u32,
    },
    /// List the views and what they answer.
    Views,
    /// List the connectors and what they read.
    Connectors,
    /// Check the configuration and the data: every view against its definition, recomputed from the facts in SQL.
    Check {
        #[command(flatten)]
        data: Data,
        /// Configuration to check.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

/// A simulated organisation, and where it goes.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("target").required(true).args(["to", "out"])))]
pub struct Simulate {
    /// Tickets; about 27 deliveries come with each.
    #[arg(long, value_name = "N")]
    pub tickets: u64,
    /// People; by default as many as fit the tickets.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub people: Option<u32>,
    /// Calendar days that it spans; by default as many as fit the tickets.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3_650))]
    pub days: Option<u32>,
    /// Which organisation: the same seed gives the same one.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// When it ends; by default now.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Sends signed deliveries to the gateway there, such as http://127.0.0.1:8484.
    #[arg(long, value_name = "URL", requires = "config")]
    pub to: Option<String>,
    /// The configuration that the gateway runs with, for its secrets.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Deliveries a second; by default as fast as they are taken.
    #[arg(long, value_name = "N", requires = "to", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// Writes DIR/CONNECTOR.ndjson.gz, which `flowsync import CONNECTOR FILE` reads, and DIR/truth.ndjson.gz.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Writes the truth to this file, an object a line; packed where its name ends in .gz.
    #[arg(long, value_name = "FILE")]
    pub truth: Option<PathBuf>,
}

/// What there is to audit.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Read the whole log and compare it with its hashes and with every signed checkpoint; names the first difference.
    ///
    /// Ends with an error where anything is wrong. Where hashes were recomputed over what was altered, the difference is
    /// told as a range, between the last checkpoint that agrees and the first that does not.
    Verify {
        #[command(flatten)]
        data: Data,
        /// A checkpoint that was kept elsewhere; can be repeated.
        #[arg(long = "checkpoint", value_name = "FILE")]
        checkpoints: Vec<PathBuf>,
        /// Public key that was kept elsewhere, or a file of it; by default that of the data directory.
        #[arg(long, value_name = "KEY|FILE")]
        key: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write a proof that a signal is in the log: its bytes, its place, and the signed checkpoint.
    ///
    /// Another machine checks it with `flowsync audit check` and the public key alone. The proof holds the delivery as it was
    /// received, names included: it is for those who may read it.
    Prove {
        /// Id of the signal, as `flowsync why` shows it, or its place, such as 0/487.
        #[arg(value_name = "SIGNAL|PARTITION/OFFSET")]
        subject: String,
        #[command(flatten)]
        data: Data,
        /// File to write; by default standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Check a proof, without a data directory.
    Check {
        /// The proof.
        proof: PathBuf,
        /// Public key of the log, as `flowsync audit key` printed it, or a file of it.
        #[arg(long, value_name = "KEY|FILE")]
        key: String,
        /// Writes the delivery's bytes to this file.
        #[arg(long, value_name = "FILE")]
        body: Option<PathBuf>,
    },
    /// Print the public key of the log.
    Key {
        #[command(flatten)]
        data: Data,
    },
    /// Print the newest signed checkpoint, to be kept elsewhere.
    ///
    /// With `--since`, prove to whoever kept an older one that the log has only grown since: `flowsync audit check` checks it.
    Checkpoint {
        #[command(flatten)]
        data: Data,
        /// An older checkpoint.
        #[arg(long, value_name = "FILE")]
        since: Option<PathBuf>,
        /// File to write; by default standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// What is held of a person.
#[derive(Debug, Subcommand)]
pub enum Privacy {
    /// Write everything that is held of a person: an object a line, the deliveries that name them and the rows about them.
    Export {
        /// Whom.
        person: String,
        #[command(flatten)]
        data: Data,
        /// A further name, address or account of theirs; can be repeated.
        #[arg(long, value_name = "NAME|ADDRESS|ACCOUNT")]
        also: Vec<String>,
        /// File to write; by default standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Take a person out of everything: deliveries, tables, names. Nobody can undo it.
    ///
    /// A token takes their place, so that totals stay. The keys of the deliveries that named them are destroyed, which makes
    /// these unreadable in backups as well. Earlier epochs are no longer kept, and live feeds start anew. Ends with a signed
    /// receipt. What was interrupted is finished by the next call.
    Erase {
        /// Whom; not needed to finish an erasure that was interrupted.
        person: Option<String>,
        #[command(flatten)]
        data: Data,
        /// A further name, address or account of theirs; can be repeated.
        #[arg(long, value_name = "NAME|ADDRESS|ACCOUNT")]
        also: Vec<String>,
        /// Why; stands in the receipt.
        #[arg(long, default_value = "on request")]
        reason: String,
        /// Do it; without, only tell who would be erased.
        #[arg(long)]
        yes: bool,
    },
    /// Check a receipt, without a data directory.
    Check {
        /// The receipt.
        receipt: PathBuf,
        /// Public key of the log, as `flowsync audit key` printed it, or a file of it.
        #[arg(long, value_name = "KEY|FILE")]
        key: String,
    },
}

/// Keys.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Make a new master key, under which all others are sealed: the old one opens nothing any more.
    ///
    /// Where the master key comes from the environment, name the old and the new one as files of 64 hexadecimal digits.
    Rotate {
        #[command(flatten)]
        data: Data,
        /// File of the master key as it is, where it comes from the environment.
        #[arg(long, value_name = "FILE", requires = "new")]
        old: Option<PathBuf>,
        /// File of the new master key.
        #[arg(long, value_name = "FILE", requires = "old")]
        new: Option<PathBuf>,
    },
}

/// Finance reports.
#[derive(Debug, Subcommand)]
pub enum Finance {
    /// Write the capitalization report of a month.
    Export {
        /// Month, such as 2026-10.
        #[arg(long)]
        period: String,
        #[command(flatten)]
        data: Data,
        /// Form.
        #[arg(long, value_enum, default_value_t = ExportFormat::Csv)]
        format: ExportFormat,
        /// File to write; by default standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// Form of a digest.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum DigestFormat {
    /// Markdown, which reads well in a terminal.
    Md,
    /// A page.
    Html,
    /// For programs.
    Json,
}

/// Form of an export.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ExportFormat {
    /// Comma-separated values, RFC 4180.
    Csv,
    /// Parquet.
    Parquet,
}

impl Command {
    /// What is logged unless the environment says otherwise: a server tells its story, a question only its trouble.
    pub fn log_filter(&self) -> &'static str {
        match self {
            Command::Run { .. } => "info,fjall=warn,lsm_tree=warn",
            _ => "warn,fjall=error,lsm_tree=error",
        }
    }
}
