//! The configuration file.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use flowsync_ingest::connectors::{self, Secret, Secrets, settings::Settings};
use flowsync_schemas::model::Model;
use serde::Deserialize;

use crate::retention::Retention;

/// The configuration file. Unknown entries are errors, so that a misspelt one is noticed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address to serve on.
    pub listen: Option<SocketAddr>,
    /// Worker threads of the dataflow; by default one a core.
    pub workers: Option<usize>,
    /// Confidence model; by default the shipped one.
    pub model: Option<PathBuf>,
    /// Secrets by connector: the webhook's secret, Slack's signing secret, the API token of manual reports.
    secrets: BTreeMap<String, SecretSource>,
    /// How long deliveries are kept.
    pub retention_days: Retention,
    /// What decides results.
    pub settings: Settings,
}

/// Where a secret comes from.
#[derive(Deserialize)]
#[serde(untagged)]
enum SecretSource {
    /// `github = "…"`
    Text(String),
    /// `github = { env = "GITHUB_WEBHOOK_SECRET" }`
    Env { env: String },
    /// `github = { file = "/run/secrets/github" }`
    File { file: PathBuf },
}

impl std::fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretSource(withheld)")
    }
}

impl SecretSource {
    fn read(&self) -> Result<Secret> {
        Ok(match self {
            SecretSource::Text(text) => Secret::new(text.as_bytes()),
            SecretSource::Env { env } => {
                Secret::new(std::env::var(env).with_context(|| format!("environment variable {env}"))?)
            }
            SecretSource::File { file } => {
                let text = std::fs::read_to_string(file).with_context(|| format!("secret file {}", file.display()))?;
                Secret::new(text.trim_end_matches(['\r', '\n']))
            }
        })
    }
}

impl Config {
    /// Reads a file; without one, everything is as by default.
    pub fn read(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path).with_context(|| format!("configuration {}", path.display()))?;
        let config: Config = toml::from_str(&text).with_context(|| format!("configuration {}", path.display()))?;
        if let Err(reason) = config.settings.check() {
            bail!("configuration {}: settings.{reason}", path.display());
        }
        config.retention_days.check().with_context(|| format!("configuration {}", path.display()))?;
        if let Some(odd) = config.secrets.keys().find(|name| connectors::by_name(name).is_none()) {
            bail!(
                "configuration {}: secrets.{odd}: there is no connector {odd}; see `flowsync connectors`",
                path.display()
            );
        }
        Ok(config)
    }

    /// The connectors' secrets.
    pub fn secrets(&self) -> Result<Secrets> {
        self.secrets
            .iter()
            .map(|(name, source)| {
                let secret = source.read().with_context(|| format!("secrets.{name}"))?;
                if secret.expose().is_empty() {
                    bail!("secrets.{name} is empty: anybody could sign with it");
                }
                Ok((name.clone(), secret))
            })
            .collect()
    }

    /// The configured confidence model, as text; `None` for the shipped one.
    pub fn model(&self) -> Result<Option<String>> {
        let Some(path) = &self.model else { return Ok(None) };
        let text = std::fs::read_to_string(path).with_context(|| format!("model {}", path.display()))?;
        Model::parse(&text).with_context(|| format!("model {}", path.display()))?;
        Ok(Some(text))
    }
}
