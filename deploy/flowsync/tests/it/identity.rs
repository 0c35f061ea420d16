//! Who is who: identities against accounts that people verified, and a merge that is taken back.
//!
//! Outside data (Lucene's move from Jira to GitHub): for each Jira user the GitHub accounts found by searching all of
//! GitHub for the user's display name, and the list that people then verified. Harder than what a deployment sees, where
//! only accounts appear that took part: both are measured.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use flowsync_schemas::{
    EntityKind, Epoch, Fact, FactBody, LogPosition, Micros, Parsed, PersonId, Pseudonymizer, SignalId,
    fact::{ActivityFact, ActivityKind, IdentityFact},
    id::Account,
    model::Model,
};

use crate::{
    judge::{self, Tables},
    oracle::base,
    process::outside,
};

/// The rows of a plain CSV file, without its head.
fn rows(path: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path).expect("the file is text");
    let fields = |line: &str| line.split(',').map(|f| f.trim_matches('"').to_owned()).collect();
    text.lines().skip(1).filter(|l| !l.starts_with('#') && !l.is_empty()).map(fields).collect()
}

/// Facts on their way through the real job.
struct Case {
    people: Pseudonymizer,
    facts: Vec<(Micros, FactBody)>,
}

impl Case {
    fn new() -> Self {
        Self { people: Pseudonymizer::new(&[7; 32]), facts: Vec::new() }
    }

    /// States an account as connectors do.
    fn account(&mut self, account: Account<'_>, name: &str) -> PersonId {
        let mut parsed = Parsed::new(SignalId(1), &self.people);
        let person = parsed.person(Micros(1), "test", &account, name, false);
        self.facts.extend(parsed.facts.into_iter().map(|fact| (fact.at, fact.body)));
        person
    }

    /// States that an account did something about a ticket.
    fn comment(&mut self, person: PersonId, ticket: &str) {
        self.facts.push((Micros(1), comment(person, ticket, Micros(1))));
    }

    /// All tables, judged.
    fn tables(&self) -> Tables {
        let model = Model::shipped();
        let (job, deltas) = judge::job(1, &model);
        let signals = self.facts.chunks(50).enumerate().map(|(n, facts)| judge::signal(n as u64, facts, false));
        let placed: Vec<_> = (0..).zip(signals).map(|(offset, s)| (LogPosition { partition: 0, offset }, s)).collect();
        let end = Epoch(placed.len() as u64);
        job.push(end, vec![end.0], placed).expect("the job runs");
        let mut tables = Tables::default();
        tables.apply(&deltas.recv().expect("the epoch closes"));
        job.finish().expect("no worker died");
        tables
    }
}

fn comment(person: PersonId, ticket: &str, acted_at: Micros) -> FactBody {
    FactBody::Activity(ActivityFact {
        activity: format!("{person}/{ticket}/{acted_at}").into(),
        kind: ActivityKind::Comment,
        person: Some(person),
        subject_kind: EntityKind::Ticket,
        subject_id: ticket.into(),
        acted_at,
        spent_secs: None,
        detail: None,
        deleted: false,
    })
}

fn text(value: &flowsync_schemas::Value) -> PersonId {
    value.as_text().and_then(|t| t.parse().ok()).expect("a pseudonym")
}

/// Identity by account.
fn identities(tables: &Tables) -> BTreeMap<PersonId, PersonId> {
    tables.rows("identities").iter().map(|row| (text(&row[0]), text(&row[1]))).collect()
}

/// Pairs that have all of these kinds of evidence.
fn having(tables: &Tables, kinds: &[&str]) -> BTreeSet<(PersonId, PersonId)> {
    let mut of: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for row in tables.rows("identity_evidence") {
        let kind = row[2].as_text().expect("a kind").to_owned();
        of.entry((text(&row[0]), text(&row[1]))).or_default().insert(kind);
    }
    of.into_iter().filter(|(_, found)| kinds.iter().all(|kind| found.contains(*kind))).map(|(pair, _)| pair).collect()
}

/// A Jira user's name and a GitHub login.
type Names = (String, String);

/// How many of the pairs that were found are true, and how many of the true ones were found, in basis points.
fn measure(what: &str, found: &BTreeSet<&Names>, truth: &BTreeSet<&Names>) -> (usize, usize) {
    let right = found.intersection(truth).count();
    let (precision, recall) = (right * 10_000 / found.len().max(1), right * 10_000 / truth.len().max(1));
    let percent = |bps: usize| bps as f64 / 100.0;
    println!(
        "{what:<58} {:>4} pairs, {right:>4} of {} true: precision {:.1} %, recall {:.1} %",
        found.len(),
        truth.len(),
        percent(precision),
        percent(recall)
    );
    (precision, recall)
}

/// Lucene's accounts under the names that the tools have for them.
struct Lucene {
    case: Case,
    candidates: BTreeMap<Names, (PersonId, PersonId)>,
}

impl Lucene {
    /// The candidates that `kept` takes; whoever is known to have committed has worked on what every Jira user did, where
    /// `at_work` says so.
    fn new(all: &[Vec<String>], kept: impl Fn(&[String]) -> bool, at_work: bool) -> Self {
        let mut case = Case::new();
        let mut candidates = BTreeMap::new();
        for row in all.iter().filter(|row| kept(row)) {
            let [jira, github, name, author, ..] = row.as_slice() else { panic!("{row:?}") };
            let of_jira = case.account(Account::Login { source: "jira", login: jira }, name);
            let of_github = case.account(Account::Login { source: "github", login: github }, name);
            candidates.insert((jira.clone(), github.clone()), (of_jira, of_github));
            if at_work {
                case.comment(of_jira, "LUCENE-1");
                if author == "yes" {
                    case.comment(of_github, "LUCENE-1");
                }
            }
        }
        Self { case, candidates }
    }

    /// The candidates of which `holds` says so.
    fn pairs(&self, holds: impl Fn(PersonId, PersonId) -> bool) -> BTreeSet<&Names> {
        self.candidates.iter().filter(|(_, (jira, github))| holds(*jira, *github)).map(|(names, _)| names).collect()
    }
}

#[test]
fn lucenes_accounts_are_merged_as_people_verified() {
    let file = |name: &str| outside(&format!("links/lucene-jira-archive/{name}"));
    let (Some(candidates), Some(verified)) =
        (file("account-map.csv.20220722.232738"), file("account-map.csv.20220722.verified"))
    else {
        return;
    };
    let verified: BTreeSet<Names> = rows(&verified).into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let users: BTreeSet<&str> = verified.iter().map(|(jira, _)| jira.as_str()).collect();
    let candidates = rows(&candidates);
    println!("{} candidates, {} accounts verified", candidates.len(), verified.len());

    let compare = |what: &str, lucene: &Lucene| {
        let tables = lucene.case.tables();
        let of_users = |pairs: BTreeSet<&Names>| -> BTreeSet<Names> {
            pairs.into_iter().filter(|(jira, _)| users.contains(jira.as_str())).cloned().collect()
        };
        let truth: BTreeSet<&Names> = verified.iter().filter(|pair| lucene.candidates.contains_key(*pair)).collect();
        for kinds in [&["same_name"][..], &["same_handle"], &["same_name", "same_handle"], &["same_name", "same_work"]]
        {
            let having = having(&tables, kinds);
            let found = of_users(lucene.pairs(|a, b| having.contains(&(a.min(b), a.max(b)))));
            measure(&format!("{what}: {}", kinds.join(" and ")), &found.iter().collect(), &truth);
        }
        let identities = identities(&tables);
        let found = of_users(lucene.pairs(|a, b| identities[&a] == identities[&b]));
        measure(&format!("{what}: merged"), &found.iter().collect(), &truth)
    };

    // Every homonym on GitHub, and nothing known but name and login.
    let alone = compare("all of GitHub", &Lucene::new(&candidates, |_| true, false));
    // As above, and who committed to the repository has worked on what the users of its Jira worked on: coarser than one
    // ticket, which the data does not tell.
    let at_work = compare("all of GitHub, with work", &Lucene::new(&candidates, |_| true, true));
    // What a deployment sees: accounts that took part.
    let seen = compare("who committed", &Lucene::new(&candidates, |row| row[3] == "yes", true));
    for (what, (precision, recall), floor) in
        [("alone", alone, FLOOR_ALONE), ("at work", at_work, FLOOR_AT_WORK), ("seen", seen, FLOOR_SEEN)]
    {
        assert!(precision >= floor.0 && recall >= floor.1, "{what}: {precision}, {recall} under {floor:?}");
    }
}

/// Precision and recall reached, in basis points, rounded down.
const FLOOR_ALONE: (usize, usize) = (9_490, 5_940);
const FLOOR_AT_WORK: (usize, usize) = (9_500, 8_540);
const FLOOR_SEEN: (usize, usize) = (10_000, 9_740);

/// DevLake ties accounts to users by e-mail address, else by full name or user name alone. An address is the same account
/// here; a name alone is on purpose not enough, and stays visible as evidence.
#[test]
fn devlakes_accounts_are_tied_by_address_and_not_by_name_alone() {
    let folder = |name: &str| outside(&format!("payloads/devlake/org/{name}"));
    let (Some(accounts), Some(users), Some(given), Some(want)) = (
        folder("raw_tables/accounts.csv"),
        folder("raw_tables/users.csv"),
        folder("raw_tables/user_accounts.csv"),
        folder("snapshot_tables/user_accounts.csv"),
    ) else {
        return;
    };
    // The data has words for addresses and names; here they are made to look like such.
    let address = |word: &str| format!("{word}@example.org");
    let name = |word: &str| format!("{word} devlake");
    let mut case = Case::new();
    let mut user_of = BTreeMap::new();
    for row in rows(&users) {
        user_of.insert(row[0].clone(), case.account(Account::Email(&address(&row[7])), &name(&row[8])));
    }
    let mut account_of = BTreeMap::new();
    for row in rows(&accounts) {
        let (email, login) = (address(&row[7]), row[10].clone());
        let account =
            if row[7].is_empty() { Account::Login { source: "github", login: &login } } else { Account::Email(&email) };
        account_of.insert(row[0].clone(), case.account(account, &name(&row[9])));
    }
    let given: BTreeSet<String> = rows(&given).into_iter().map(|row| row[0].clone()).collect();
    let tables = case.tables();
    let (identities, named) = (identities(&tables), having(&tables, &["same_name"]));
    let (mut right, mut by_name, mut all) = (0, 0, 0);
    // What was given beforehand ties accounts to users that do not exist.
    for row in rows(&want).into_iter().filter(|row| !given.contains(&row[0])) {
        let (account, user) = (account_of[&row[0]], user_of[&row[1]]);
        all += 1;
        right += usize::from(identities[&account] == identities[&user]);
        by_name += usize::from(named.contains(&(account.min(user), account.max(user))));
    }
    println!(
        "{all} accounts tied by DevLake: {right} are one person here, {by_name} have the same name and are not merged"
    );
    assert_eq!((all, right, by_name), (7, 3, 2));
}

/// Rows of all tables, other than those of facts and signals.
fn views(mut tables: Tables) -> Tables {
    tables.0.retain(|name, _| !name.starts_with("fact_"));
    tables
}

#[test]
fn an_unmerged_identity_leaves_all_views_as_if_it_had_never_been_merged() {
    // Three accounts: the name and the login tie the first two, a record the third to the second.
    let mut case = Case::new();
    let login = |source, login| Account::Login { source, login };
    let jira = case.account(login("jira", "ada.lovelace"), "Ada Lovelace");
    let github = case.account(login("github", "ada-lovelace"), "Ada Lovelace");
    let mail = case.account(Account::Email("9+ada-lovelace@users.noreply.github.com"), "A. Lovelace");
    let reporter = PersonId(7);
    let day = |hours: i64| Micros::from_secs(1_700_006_400 + hours * 3_600);
    let mut work = Vec::new();
    for (n, person) in (0..).zip([jira, github, mail]) {
        work.push((day(n), comment(person, &format!("SHOP-{n}"), day(n))));
        work.push((day(30 + n), comment(person, "SHOP-9", day(30 + n))));
    }
    let state =
        |same, at| (Micros(at), FactBody::Identity(IdentityFact { reporter, person: jira, other: github, same }));

    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let model = Model::shipped();
    // The signals come one epoch after the other, and every epoch is judged.
    let run = |batches: &[Vec<(Micros, FactBody)>]| {
        let (job, deltas) = judge::job(2, &model);
        let mut tables = Tables::default();
        let mut seen = Vec::new();
        for (n, facts) in (1..).zip(batches) {
            let signal = judge::signal(n, facts, false);
            job.push(Epoch(n), vec![n], vec![(LogPosition { partition: 0, offset: n }, signal)]).expect("the job runs");
            tables.apply(&deltas.recv().expect("the epoch closes"));
            runtime.block_on(judge::verdict(&tables, &model)).unwrap_or_else(|e| panic!("epoch {n}: {e}"));
            seen.push(tables.clone());
        }
        job.finish().expect("no worker died");
        seen
    };
    let days = |tables: &Tables| -> BTreeSet<(PersonId, i64)> {
        tables.rows("effort").iter().map(|row| (text(&row[0]), row[1].as_int().expect("a day"))).collect()
    };

    let seen =
        run(&[case.facts.clone(), work.clone(), vec![state(false, 5)], vec![state(true, 6)], vec![state(false, 7)]]);
    let smallest = jira.min(github).min(mail);
    let of = |tables: &Tables| [jira, github, mail].map(|account| identities(tables)[&account]);
    assert_eq!(of(&seen[1]), [smallest; 3], "one person");
    assert_eq!(days(&seen[1]).len(), 2, "with one working day a day");
    let apart = [jira, github.min(mail), github.min(mail)];
    assert_eq!(of(&seen[2]), apart, "taken back");
    assert_eq!(days(&seen[2]).len(), 4);
    assert_eq!(of(&seen[3]), [smallest; 3], "and stated: the later statement holds");
    assert_eq!(of(&seen[4]), apart, "and taken back again");

    // A run in which nothing ever tied the first account to the others: it has no name and no login to compare.
    let mut never = case.facts.clone();
    for (_, body) in &mut never {
        if let FactBody::Account(account) = body
            && account.person == jira
        {
            (account.name, account.handle) = (None, None);
        }
    }
    let never = run(&[never, work.clone(), vec![], vec![], vec![]]);
    let (mut un_merged, mut never) = (views(seen[4].clone()), views(never[4].clone()));
    // That people said something, and that the two share a name, stays visible as evidence.
    for tables in [&mut un_merged, &mut never] {
        assert!(tables.0.remove("identity_evidence").is_some());
        tables.0.remove("integration_health");
    }
    assert_eq!(un_merged.difference(&never), Vec::<String>::new());

    // The signal of the statement itself taken back: as if it had never been said.
    let (job, deltas) = judge::job(1, &model);
    let signals = [case.facts.clone(), work, vec![state(false, 5)]];
    let placed =
        (1..).zip(&signals).map(|(n, facts)| (LogPosition { partition: 0, offset: n }, judge::signal(n, facts, false)));
    job.push(Epoch(3), vec![3], placed.collect()).expect("the job runs");
    let mut tables = Tables::default();
    tables.apply(&deltas.recv().expect("the epoch closes"));
    let mut statement = base(&tables);
    let is_statement = |fact: &Fact| matches!(fact.body, FactBody::Identity(_));
    let signal = statement.facts.iter().find(|f| is_statement(f)).expect("it was said").signal;
    statement.facts.retain(is_statement);
    statement.signals.retain(|s| s.signal == signal);
    statement.rejects.clear();
    job.retract(Epoch(4), vec![3], statement).expect("the job runs");
    tables.apply(&deltas.recv().expect("the epoch closes"));
    job.finish().expect("no worker died");
    let before = views(seen[1].clone());
    let mut after = views(tables);
    after.0.remove("integration_health");
    let mut before_plain = before;
    before_plain.0.remove("integration_health");
    assert_eq!(after.difference(&before_plain), Vec::<String>::new());
}
