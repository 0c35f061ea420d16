//! What did the work of a month cost, and what of it may be capitalized?
//!
//! Grain: one row a month, a project and a classification. Key: `period, project, cost_centre, classification, currency`.
//! Inputs: `effort`, `tickets`, settings (classification by kind of ticket, day rate, cost centre, currency).
//!
//! Every person-day is in exactly one row per share, so the rows of a month sum to its effort. Work without a known ticket
//! is `unattributed`; a ticket whose kind no rule names is `expense`. Amounts are rounded once a row, half up. Without a
//! currency the code is `XXX` (ISO 4217: no currency); without a rate amounts are zero.

use std::collections::BTreeMap;

use differential_dataflow::Hashable;
use flowsync_schemas::{Birth, Day, EntityId, EntityKind, Record, TableSpec, Text, ViewSpec};
use serde::{Deserialize, Serialize};

use crate::{
    cx::Cx,
    ops::{Arranged, Coll, Shared, distinct, id, latest, left_join, reduce, sums},
    views::evidence::project_of,
};

/// The view.
pub static VIEW: ViewSpec = ViewSpec {
    table: TableSpec {
        name: "capitalization",
        version: 2,
        key: &["period", "project", "cost_centre", "classification", "currency"],
        columns: || CapitalizationRow::COLUMNS.to_vec(),
        birth: Birth::Timeless,
        doc: "Effort and its cost by accounting classification, with the band that the links allow; one row a month, a project and a classification.",
    },
    oracle: ORACLE,
    why: "select e.signal, e.at, e.ticket_key, e.kind from evidence e
          join effort f on f.ticket_key = e.ticket_key
          where to_char(f.day, '%Y-%m') = $1 and e.project = $2 and $3 is not null and $4 is not null and $5 is not null
          union
          select a.signal, a.acted_at, a.subject_id, a.kind from fact_activities a
          join identities i on i.person = a.person
          join effort f on f.ticket_key = a.subject_id and f.day = cast(a.acted_at as date) and f.person = i.identity
          where to_char(f.day, '%Y-%m') = $1 and regexp_replace(a.subject_id, '[-#][0-9]+$', '') = $2
          union
          select s.signal, s.at, s.key, s.name from fact_settings s
          where s.name in ('classification', 'day_rate_minor', 'cost_centre', 'currency')",
};

const ORACLE: &str = "
    with classes as (
        select t.ticket_key, s.value as classification
        from tickets t join settings_in_force s on s.name = 'classification' and s.key = lower(t.kind)
    ),
    shares as (
        select to_char(e.day, '%Y-%m') as period, regexp_replace(e.ticket_key, '[-#][0-9]+$', '') as project,
               case when e.ticket_key = '' then 'unattributed' else coalesce(c.classification, 'expense') end
                   as classification,
               e.*
        from effort e left join classes c on e.ticket_key = c.ticket_key
    ),
    totals as (
        select period, project, classification, cast(sum(share_ppm) as bigint) as ppm,
               cast(sum(low_ppm) as bigint) as low, cast(sum(high_ppm) as bigint) as high,
               count(distinct ticket_key) as ticket_count, count(distinct person) as person_count
        from shares group by period, project, classification
    ),
    priced as (
        select t.*, coalesce(c.value, '') as cost_centre, coalesce(u.value, 'XXX') as currency,
               coalesce(try_cast(p.value as bigint), try_cast(d.value as bigint), 0) as rate
        from totals t
        left join settings_in_force c on c.name = 'cost_centre' and c.key = t.project
        left join settings_in_force u on u.name = 'currency' and u.key = ''
        left join settings_in_force p on p.name = 'day_rate_minor' and p.key = t.project and t.project <> ''
        left join settings_in_force d on d.name = 'day_rate_minor' and d.key = ''
    )
    select period, project, cost_centre, classification, currency, ppm as person_days_ppm, low as low_person_days_ppm,
           high as high_person_days_ppm, (ppm * rate + 500000) / 1000000 as amount_minor,
           (low * rate + 500000) / 1000000 as amount_low_minor, (high * rate + 500000) / 1000000 as amount_high_minor,
           ticket_count, person_count
    from priced";

/// One month, project and classification.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Record)]
pub struct CapitalizationRow {
    /// Month, `2026-10`, UTC.
    pub period: Text,
    /// Project; empty for work without a known ticket.
    pub project: Text,
    /// Cost centre of the project, from the settings; empty where none is set.
    pub cost_centre: Text,
    /// capitalize, expense, or unattributed.
    pub classification: Text,
    /// ISO 4217 code; XXX where none is set.
    pub currency: Text,
    /// Effort.
    #[unit = "millionths of a person-day"]
    pub person_days_ppm: i64,
    /// Low end of the effort's band.
    #[unit = "millionths of a person-day"]
    pub low_person_days_ppm: i64,
    /// High end of the effort's band.
    #[unit = "millionths of a person-day"]
    pub high_person_days_ppm: i64,
    /// Cost.
    #[unit = "minor units of the currency"]
    pub amount_minor: i64,
    /// Low end of the cost's band.
    #[unit = "minor units of the currency"]
    pub amount_low_minor: i64,
    /// High end of the cost's band.
    #[unit = "minor units of the currency"]
    pub amount_high_minor: i64,
    /// Tickets worked on.
    #[unit = "tickets"]
    pub ticket_count: i64,
    /// People who worked, each counted once by however many accounts.
    #[unit = "people"]
    pub person_count: i64,
}

/// A setting in force: name and key, value.
pub type Setting = ((Text, Text), Text);

/// Settings in force.
pub fn settings<'s>(cx: &mut Cx<'s>) -> Coll<'s, Setting> {
    let versions = cx.facts.settings.clone().map(|v| ((v.value.name.clone(), v.value.key.clone()), v));
    latest(versions, |s| s.deleted).as_collection(|key, v| (key.clone(), v.value.value.clone()))
}

/// Values of the setting with this name, by key.
fn setting<'s>(cx: &mut Cx<'s>, wanted: &'static str) -> Coll<'s, (Text, Text)> {
    cx.settings().flat_map(move |((name, key), value)| (&*name == wanted).then_some((key, value)))
}

/// What projects cost, and who bears it: all settings that say so. They are few and seldom change.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Costs {
    centres: BTreeMap<Text, Text>,
    /// Day rates in minor units, by project; under no name that of all others.
    rates: BTreeMap<Text, i64>,
    currency: Option<Text>,
}

/// Where no setting says anything.
static NO_COSTS: Costs = Costs { centres: BTreeMap::new(), rates: BTreeMap::new(), currency: None };

fn costs<'s>(cx: &mut Cx<'s>) -> Arranged<'s, (), Shared<Costs>> {
    let said = cx.settings().filter(|((name, _), _)| matches!(&**name, "cost_centre" | "day_rate_minor" | "currency"));
    reduce(said.map(|setting| ((), setting)), "Costs", |(), settings, out| {
        let mut costs = Costs::default();
        for (((name, key), value), _) in settings {
            match &**name {
                "cost_centre" => {
                    costs.centres.insert(key.clone(), value.clone());
                }
                "day_rate_minor" => costs.rates.extend(value.parse().ok().map(|rate| (key.clone(), rate))),
                _ if key.is_empty() => costs.currency = Some(value.clone()),
                _ => {}
            }
        }
        out.push((Shared::new(costs), 1));
    })
}

/// First day of the month, project, classification. On the way to its sums its hash goes before it, so that the texts are
/// seldom compared.
type Group = (Day, Text, Text);

/// Effort, low, high, tickets and people of a group.
fn totals<'s>(cx: &mut Cx<'s>) -> Coll<'s, ((), (Group, [i64; 5]))> {
    let rules = setting(cx, "classification");
    let classes: Coll<'s, (EntityId, Text)> = cx
        .tickets()
        .as_collection(|ticket, v| (Text::from(v.value.kind.to_lowercase()), *ticket))
        .join_map(rules, |_, ticket, class| (*ticket, class.clone()));
    let effort = cx.effort().map(|e| (id(EntityKind::Ticket, &e.ticket_key), e));
    let shares = left_join(effort, classes, |ticket, e, class| {
        let class = match class {
            _ if e.ticket_key.is_empty() => "unattributed".into(),
            Some(class) => class.clone(),
            None => "expense".into(),
        };
        let (month, project) = (e.day.first_of_month(), project_of(&e.ticket_key));
        let group = (month, project, class);
        [((group.hashed(), group), *ticket, e.clone())]
    });
    let sums_of = shares.clone().map(|(group, _, e)| (group, [e.share_ppm, e.low_ppm, e.high_ppm, 0, 0]));
    let tickets = distinct(shares.clone().map(|((group, texts), ticket, _)| (group, ticket, texts)));
    let people = distinct(shares.map(|((group, texts), _, e)| (group, e.person, texts)));
    sums(
        sums_of
            .concat(tickets.map(|(group, _, texts)| ((group, texts), [0, 0, 0, 1, 0])))
            .concat(people.map(|(group, _, texts)| ((group, texts), [0, 0, 0, 0, 1]))),
        |(_, group), sums| [((), (group, sums))],
    )
}

/// Installs the view.
pub fn install(cx: &mut Cx<'_>) {
    let rows = left_join(totals(cx), costs(cx), |(), ((month, project, classification), sums), costs| {
        let costs = costs.map_or(&NO_COSTS, |costs| &**costs);
        let rate = costs.rates.get(project).or(costs.rates.get("")).copied().unwrap_or_default();
        let cost_centre = costs.centres.get(project).cloned().unwrap_or_default();
        let period = month.month().into();
        let [person_days_ppm, low_person_days_ppm, high_person_days_ppm, ticket_count, person_count] = *sums;
        let amount = |ppm: i64| ((i128::from(ppm) * i128::from(rate) + 500_000) / 1_000_000) as i64;
        [CapitalizationRow {
            period,
            project: project.clone(),
            cost_centre,
            classification: classification.clone(),
            currency: costs.currency.clone().unwrap_or("XXX".into()),
            person_days_ppm,
            low_person_days_ppm,
            high_person_days_ppm,
            amount_minor: amount(person_days_ppm),
            amount_low_minor: amount(low_person_days_ppm),
            amount_high_minor: amount(high_person_days_ppm),
            ticket_count,
            person_count,
        }]
    });
    cx.emit(&VIEW.table, rows);
}
