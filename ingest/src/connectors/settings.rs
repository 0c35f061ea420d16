//! `settings`: the configuration as signals, so that a result can be computed again from the log alone (I3, I7).
//!
//! The binary makes a signal when the `[settings]` of its configuration differ from the last ones, and for
//! `--project KEY`. A signal holds all settings and, under `removed`, those that are no longer set. Nobody sends
//! settings over HTTP.
//!
//! Invariant: of two versions of one setting the one made later holds. Knows nothing of files.

use std::collections::{BTreeMap, BTreeSet};

use flowsync_schemas::{ConnectorSpec, FactBody, Micros, Parsed, SignalId, fact::SettingFact};
use serde::{Deserialize, Serialize};

use super::{
    Connector, Delivery, Secret, Verified, VerifyError,
    json::{NO_NAME, Reader, is_name, shown},
};

/// What this connector is.
pub static SPEC: ConnectorSpec = ConnectorSpec {
    name: "settings",
    version: 2,
    doc: "The configuration: known ticket projects, day rates, cost centres, which kinds of ticket are capitalized, and \
          what needs a second person.",
    verification: "made on this machine from the configuration file and the command line; never accepted over HTTP",
    events: &["settings"],
    headers: &[],
    reference: "https://toml.io/en/v1.0.0",
};

/// The connector.
#[derive(Debug)]
pub struct SettingsConnector;

/// What decides results: the `[settings]` part of the configuration file.
///
/// ```toml
/// [settings]
/// projects = ["SHOP"]
///
/// [settings.finance]
/// currency = "EUR"
/// day_rate_minor = 60000
/// day_rates_minor = { PAY = 72000 }
/// cost_centres = { SHOP = "CC-100" }
/// capitalize_kinds = ["Story", "Epic"]
/// expense_kinds = ["Bug"]
///
/// [settings.second_person]
/// deploy = ["production"]
/// done = true
/// reopen = true
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Keys of ticket projects that count as known, beside those that a tracker tells of.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub projects: BTreeSet<String>,
    /// What effort costs and how it is booked.
    #[serde(skip_serializing_if = "is_default")]
    pub finance: Finance,
    /// Which reports by hand count only when a second person says the same.
    #[serde(skip_serializing_if = "is_default")]
    pub second_person: SecondPerson,
}

/// Which reports by hand count only when a second person says the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SecondPerson {
    /// That a ticket was deployed to one of these environments, in any case.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub deploy: BTreeSet<String>,
    /// That a ticket is done.
    #[serde(skip_serializing_if = "is_default")]
    pub done: bool,
    /// That work goes on, or is blocked, on a ticket that was done.
    #[serde(skip_serializing_if = "is_default")]
    pub reopen: bool,
}

/// What effort costs and how it is booked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Finance {
    /// ISO 4217 code of the currency, such as `EUR`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// What a person's day costs, in minor units of the currency (cents).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day_rate_minor: Option<i64>,
    /// The same for single projects, by project key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub day_rates_minor: BTreeMap<String, i64>,
    /// Cost centres by project key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub cost_centres: BTreeMap<String, String>,
    /// Kinds of ticket, as the tracker names them in any case, whose effort becomes an asset.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub capitalize_kinds: BTreeSet<String>,
    /// Kinds of ticket whose effort is an expense.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub expense_kinds: BTreeSet<String>,
}

/// The body of a signal.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    projects: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    finance: Finance,
    #[serde(default, skip_serializing_if = "is_default")]
    second_person: SecondPerson,
    /// Name and key of settings that are taken back.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    removed: BTreeSet<(String, String)>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Settings {
    /// Settings that say no more than that these projects are known.
    pub fn of_projects(keys: impl IntoIterator<Item = String>) -> Self {
        Self { projects: keys.into_iter().collect(), ..Self::default() }
    }

    /// Whether the settings can be meant.
    ///
    /// # Errors
    /// Where a setting cannot be meant: which one, and what to write.
    pub fn check(&self) -> Result<(), String> {
        let finance = &self.finance;
        if let Some(key) = self.projects.iter().find(|key| key.trim().is_empty() || key.contains(char::is_whitespace)) {
            return Err(format!("projects: {} is no project key, such as \"SHOP\"", shown(key)));
        }
        if let Some(code) = finance.currency.as_ref()
            && !(code.len() == 3 && code.bytes().all(|b| b.is_ascii_uppercase()))
        {
            return Err(format!("finance.currency: {} is no ISO 4217 code, such as \"EUR\"", shown(code)));
        }
        if let Some(rate) =
            finance.day_rate_minor.iter().chain(finance.day_rates_minor.values()).find(|rate| **rate < 0)
        {
            return Err(format!("finance: a day rate of {rate} is negative"));
        }
        if self.second_person.deploy.iter().any(|environment| environment.trim().is_empty()) {
            return Err("second_person.deploy: an environment has no name, such as \"production\"".to_owned());
        }
        let expense: BTreeSet<String> = finance.expense_kinds.iter().map(|k| k.to_lowercase()).collect();
        match finance.capitalize_kinds.iter().find(|kind| expense.contains(&kind.to_lowercase())) {
            Some(kind) => Err(format!("finance: the kind {} is both capitalized and expensed", shown(kind))),
            None => Ok(()),
        }
    }

    /// Values by name and key.
    fn rows(&self) -> BTreeMap<(String, String), String> {
        let finance = &self.finance;
        let mut rows = BTreeMap::new();
        let mut row =
            |name: &str, key: &str, value: &str| drop(rows.insert((name.to_owned(), key.to_owned()), value.to_owned()));
        self.projects.iter().for_each(|key| row("project", key, ""));
        finance.currency.iter().for_each(|code| row("currency", "", code));
        finance.day_rate_minor.iter().for_each(|rate| row("day_rate_minor", "", &rate.to_string()));
        finance.day_rates_minor.iter().for_each(|(project, rate)| row("day_rate_minor", project, &rate.to_string()));
        finance.cost_centres.iter().for_each(|(project, centre)| row("cost_centre", project, centre));
        finance.capitalize_kinds.iter().for_each(|kind| row("classification", &kind.to_lowercase(), "capitalize"));
        finance.expense_kinds.iter().for_each(|kind| row("classification", &kind.to_lowercase(), "expense"));
        let second = &self.second_person;
        second
            .deploy
            .iter()
            .for_each(|to| row("second_person", &format!("deploy:{}", to.trim().to_lowercase()), "yes"));
        let actions = [("done", second.done), ("reopen", second.reopen)];
        actions.iter().filter(|(_, needed)| *needed).for_each(|(action, _)| row("second_person", action, "yes"));
        rows
    }
}

/// The signal that states `settings`, and takes back what only `previous` had set. Without `previous` it only adds.
///
/// # Errors
/// Where the settings cannot be written as JSON.
pub fn signal(settings: &Settings, previous: Option<&Settings>, now: Micros) -> Result<Verified, serde_json::Error> {
    let rows = settings.rows();
    let before = previous.map(Settings::rows).unwrap_or_default();
    let removed = before.into_keys().filter(|setting| !rows.contains_key(setting)).collect();
    let Settings { projects, finance, second_person } = settings.clone();
    let body = Body { projects, finance, second_person, removed };
    let body = serde_json::to_vec(&body)?;
    // Settings can come back to what they were, in the same bytes: the clock tells the signals apart.
    let id = format!("{}:{}", now.0, SignalId::of_bytes(SPEC.name, &body));
    Ok(Verified::imported(&SPEC, Delivery { headers: &[], body: &body, received_at: now }, Some(&id)))
}

impl Connector for SettingsConnector {
    fn spec(&self) -> &'static ConnectorSpec {
        &SPEC
    }

    fn verify(&self, _delivery: Delivery<'_>, _secret: Option<&Secret>) -> Result<Verified, VerifyError> {
        Err(VerifyError::NotOverHttp(SPEC.name))
    }

    fn parse(&self, verified: &Verified, out: &mut Parsed<'_>) {
        let signal = verified.signal();
        let at = signal.received_at;
        let mut reader = Reader { out, received_at: at, advice: "restart flowsync with its configuration" };
        let Some(body) = reader.body::<Body>(&signal.body) else { return };
        let settings = Settings { projects: body.projects, finance: body.finance, second_person: body.second_person };
        if let Err(reason) = settings.check() {
            return out.reject(reason);
        }
        if body.removed.iter().any(|(name, _)| !is_name(name)) {
            return out.reject(format!("removed: a setting is called nothing: {NO_NAME}"));
        }
        let mut state = |name: &str, key: &str, value: &str, deleted| {
            let fact = SettingFact { name: name.into(), key: key.into(), value: value.into(), deleted };
            out.fact(at, FactBody::Setting(fact));
        };
        let rows = settings.rows();
        rows.iter().for_each(|((name, key), value)| state(name, key, value, false));
        let removed = body.removed.iter().filter(|setting| !rows.contains_key(*setting));
        removed.for_each(|(name, key)| state(name, key, "", true));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use flowsync_schemas::Pseudonymizer;

    use super::*;
    use crate::connectors::parse;

    fn rows(signal: &Verified) -> Vec<(String, String, String, bool)> {
        let people = Pseudonymizer::new(&[7; 32]);
        let parsed = parse(signal, &people);
        assert_eq!(parsed.rejections, []);
        let row = |fact| match fact {
            FactBody::Setting(s) => (s.name.to_string(), s.key.to_string(), s.value.to_string(), s.deleted),
            other => panic!("{other:?}"),
        };
        parsed.facts.into_iter().map(|fact| row(fact.body)).collect()
    }

    fn row(name: &str, key: &str, value: &str, deleted: bool) -> (String, String, String, bool) {
        (name.to_owned(), key.to_owned(), value.to_owned(), deleted)
    }

    #[test]
    fn what_is_no_longer_set_is_taken_back() {
        let mut before = Settings::of_projects(["SHOP".to_owned(), "PAY".to_owned()]);
        before.finance.capitalize_kinds = ["Story".to_owned()].into();
        let mut after = Settings::of_projects(["SHOP".to_owned()]);
        after.finance.expense_kinds = ["STORY".to_owned()].into();
        let told = rows(&signal(&after, Some(&before), Micros(2)).unwrap());
        let expected = [
            row("classification", "story", "expense", false),
            row("project", "SHOP", "", false),
            row("project", "PAY", "", true),
        ];
        assert_eq!(told, expected);
        let only_added = rows(&signal(&after, None, Micros(2)).unwrap());
        assert_eq!(only_added, expected[..2]);
    }

    #[test]
    fn settings_that_come_back_are_another_signal() {
        let settings = Settings::of_projects(["SHOP".to_owned()]);
        let id = |now| signal(&settings, None, Micros(now)).unwrap().into_signal().id;
        assert_eq!(id(1), id(1));
        assert_ne!(id(1), id(2));
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        let wrong = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.check().unwrap_err()
        };
        assert!(wrong(|s| s.projects = [" ".to_owned()].into()).contains("projects"));
        assert!(wrong(|s| s.finance.currency = Some("Euro".to_owned())).contains("ISO 4217"));
        assert!(wrong(|s| s.second_person.deploy = [String::new()].into()).contains("second_person.deploy"));
        assert!(wrong(|s| s.finance.day_rate_minor = Some(-1)).contains("negative"));
        let both = wrong(|s| {
            s.finance.capitalize_kinds = ["Story".to_owned()].into();
            s.finance.expense_kinds = ["story".to_owned()].into();
        });
        assert!(both.contains("both"));
        assert!(serde_json::from_str::<Settings>(r#"{"project": []}"#).is_err(), "a misspelt setting is no setting");
    }
}
