//! Who takes part, in which tools, and who of them is no human?
//!
//! Grain: one row a pseudonym (an e-mail address, or an account of one tool). Key: `person`. Inputs: account facts. Names
//! are in the identity vault alone (I8). A person is a bot as soon as one tool says so. Which of them are one person's
//! accounts is in `identities`, so that a merge does not rewrite these rows.

use std::{collections::BTreeSet, sync::Arc};

use flowsync_schemas::{Birth, PersonId, Record, TableSpec, Text, ViewSpec, fact::AccountFact};

use crate::{
    cx::Cx,
    ops::{Coll, distinct, reduce},
};

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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Record)]
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

/// What tools say of accounts, each thing once: an account is named by thousands of signals, in a handful of ways.
pub fn accounts<'s>(cx: &mut Cx<'s>) -> Coll<'s, AccountFact> {
    distinct(cx.facts.accounts.clone().map(|v| Arc::unwrap_or_clone(v.value)))
}

/// Accounts of which some tool says that they are no human's.
pub fn bots<'s>(cx: &mut Cx<'s>) -> Coll<'s, PersonId> {
    distinct(cx.accounts().filter(|a| a.bot).map(|a| a.person))
}

/// Installs the view.
pub fn install(cx: &mut Cx<'_>) {
    let accounts = cx.accounts().map(|a| (a.person, (a.source, a.kind, a.bot)));
    let people = reduce(accounts, "People", |person, accounts, out| {
        let join = |words: BTreeSet<&str>| -> Text { words.into_iter().collect::<Vec<_>>().join(",").into() };
        let sources = join(accounts.iter().map(|((source, _, _), _)| &**source).collect());
        let account_kinds = join(accounts.iter().map(|((_, kind, _), _)| &**kind).collect());
        let bot = accounts.iter().any(|((_, _, bot), _)| *bot);
        out.push((PersonRow { person: *person, sources, account_kinds, bot }, 1));
    });
    let rows = people.as_collection(|_, row| row.clone());
    cx.emit(&VIEW.table, rows);
}
