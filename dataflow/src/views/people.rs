//! Who takes part, in which tools, and who of them is no human?
//!
//! Grain: one row a pseudonym (an e-mail address, or an account of one tool). Key: `person`. Inputs: account facts. Names
//! are in the identity vault alone (I8). A person is a bot as soon as one tool says so.

use std::{collections::BTreeSet, sync::Arc};

use flowsync_schemas::{Birth, PersonId, Record, TableSpec, Text, ViewSpec};

use crate::{cx::Cx, ops::distinct};

/// The view.
pub static VIEW: ViewSpec = ViewSpec {
    table: TableSpec {
        name: "people",
        version: 1,
        key: &["person"],
        columns: || PersonRow::COLUMNS.to_vec(),
        birth: Birth::Timeless,
        doc: "People by pseudonym, and the tools that name them; one row a pseudonym.",
    },
    oracle: "
        select person, array_to_string(array_sort(array_agg(distinct source)), ',') as sources,
               array_to_string(array_sort(array_agg(distinct kind)), ',') as account_kinds, bool_or(bot) as bot
        from fact_accounts group by person",
    why: "select signal, at, source, kind, bot from fact_accounts where person = $1 order by at",
};

/// One person.
#[derive(Clone, Debug, PartialEq, Eq, Record)]
pub struct PersonRow {
    /// Pseudonym.
    pub person: PersonId,
    /// Connectors that name the person, sorted, separated by commas.
    pub sources: Text,
    /// How they name the person: `email`, `login`; sorted, separated by commas.
    pub account_kinds: Text,
    /// Whether a tool says that this is no human.
    pub bot: bool,
}

/// Installs the view.
pub fn install(cx: &mut Cx<'_>) {
    let accounts = cx.facts.accounts.clone().map(|v| {
        let a = Arc::unwrap_or_clone(v.value);
        (a.person, (a.source, a.kind, a.bot))
    });
    // Distinct first: a person is named by thousands of signals, in a handful of ways.
    let rows = distinct(accounts)
        .reduce_named("People", |_, accounts, out| {
            let join = |words: BTreeSet<&str>| -> Text { words.into_iter().collect::<Vec<_>>().join(",").into() };
            let sources = join(accounts.iter().map(|((source, _, _), _)| &**source).collect());
            let kinds = join(accounts.iter().map(|((_, kind, _), _)| &**kind).collect());
            out.push(((sources, kinds, accounts.iter().any(|((_, _, bot), _)| *bot)), 1));
        })
        .map(|(person, (sources, account_kinds, bot))| PersonRow { person, sources, account_kinds, bot });
    cx.emit(&VIEW.table, rows);
}
