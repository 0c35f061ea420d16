//! What people say by hand: how reliable it shows kinds of evidence to be, who is agreed with, and what waits for a second
//! person. The order in which the signals arrive does not matter.

use std::collections::BTreeMap;

use flowsync_schemas::{
    EntityKind, Epoch, Fact, FactBody, LogPosition, Micros, PersonId, Row, Value,
    fact::{
        AccountFact, EvidenceKind, MentionFact, Progress, PullRequestFact, PullRequestState, ReportFact, SettingFact,
        TicketFact, Verb,
    },
    model::Model,
};

use proptest::prelude::*;

use crate::{
    judge::{self, Tables},
    oracle::base,
};

/// What one signal states.
type Stated = Vec<(Micros, FactBody)>;

const ADA: PersonId = PersonId(1);
/// Another account of Ada's.
const ADA_TOO: PersonId = PersonId(5);
const BO: PersonId = PersonId(2);
const CY: PersonId = PersonId(3);
const BOT: PersonId = PersonId(9);

fn at(hours: i64) -> Micros {
    Micros::from_secs(1_700_006_400 + hours * 3_600)
}

/// The accounts, and a project whose keys count.
fn organisation() -> Vec<Stated> {
    let account = |person, same_as, bot| {
        let (source, kind) = ("github".into(), "login".into());
        (at(0), FactBody::Account(AccountFact { person, source, kind, bot, name: None, handle: None, same_as }))
    };
    let accounts = vec![
        account(ADA, None, false),
        account(ADA_TOO, Some(ADA), false),
        account(BO, None, false),
        account(CY, None, false),
        account(BOT, None, true),
    ];
    vec![accounts, setting("project", "SHOP", "", 0, false)]
}

fn setting(name: &str, key: &str, value: &str, hours: i64, deleted: bool) -> Stated {
    let setting = SettingFact { name: name.into(), key: key.into(), value: value.into(), deleted };
    vec![(at(hours), FactBody::Setting(setting))]
}

/// A pull request in which keys are found.
fn pull_request(number: i64, found: &[(EvidenceKind, &str)]) -> Stated {
    let pull_request = PullRequestFact {
        pull_request: format!("o/r#{number}").into(),
        repo: "o/r".into(),
        number,
        title: "A change".into(),
        words: "".into(),
        state: PullRequestState::Open,
        draft: false,
        author: None,
        head_branch: "topic".into(),
        head_sha: "x".into(),
        base_branch: "main".into(),
        merge_sha: None,
        created_at: None,
        merged_at: None,
        closed_at: None,
        added_lines: None,
        deleted_lines: None,
        changed_files: None,
        url: None,
        deleted: false,
    };
    let mention = |(kind, ticket): &(EvidenceKind, &str)| {
        let (artifact_kind, artifact_id) = (EntityKind::PullRequest, format!("o/r#{number}").into());
        let (kind, project, ticket_key) = (*kind, "SHOP".into(), (*ticket).into());
        (at(0), FactBody::Mention(MentionFact { artifact_kind, artifact_id, kind, project, ticket_key }))
    };
    let mentions = found.iter().map(mention);
    std::iter::once((at(0), FactBody::PullRequest(pull_request))).chain(mentions).collect()
}

fn report(person: PersonId, verb: Verb, ticket: &str, hours: i64) -> Stated {
    let report = ReportFact {
        person,
        verb,
        project: "SHOP".into(),
        ticket_key: ticket.into(),
        artifact_kind: None,
        artifact_id: None,
        environment: None,
    };
    vec![(at(hours), FactBody::Report(report))]
}

/// Somebody confirms or rejects that a pull request belongs to a ticket.
fn verdict(person: PersonId, verb: Verb, number: i64, ticket: &str, hours: i64) -> Stated {
    let mut said = report(person, verb, ticket, hours);
    if let FactBody::Report(report) = &mut said[0].1 {
        report.artifact_kind = Some(EntityKind::PullRequest);
        report.artifact_id = Some(format!("o/r#{number}").into());
    }
    said
}

/// The tables after these signals, judged. They come one epoch a signal and are taken back one by one; in another order,
/// several at once and taken back together, the same comes out.
fn tables(signals: &[Stated]) -> Tables {
    let plain = run(signals, &(0..signals.len()).collect::<Vec<_>>(), 1);
    let mut order: Vec<_> = (0..signals.len()).collect();
    fastrand::Rng::with_seed(signals.len() as u64).shuffle(&mut order);
    let (mut one, mut other) = (plain.clone(), run(signals, &order, 4));
    // Where a signal lies in the log is another place by intent.
    one.0.remove("fact_signals");
    other.0.remove("fact_signals");
    assert_eq!(one.difference(&other), Vec::<String>::new(), "{order:?}");
    plain
}

fn run(signals: &[Stated], order: &[usize], size: usize) -> Tables {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let model = Model::shipped();
    let (job, deltas) = judge::job(2, &model);
    let judge = |tables: &Tables, what: &str| {
        runtime.block_on(judge::verdict(tables, &model)).unwrap_or_else(|e| panic!("{what}: {e}"));
    };
    let mut tables = Tables::default();
    let mut end = 0;
    for part in order.chunks(size) {
        let placed = (end..).zip(part).map(|(offset, which)| {
            (LogPosition { partition: 0, offset }, judge::signal(*which as u64, &signals[*which], false))
        });
        let placed: Vec<_> = placed.collect();
        end += part.len() as u64;
        job.push(Epoch(end), vec![end], placed).expect("the job runs");
        tables.apply(&deltas.recv().expect("the epoch closes"));
    }
    let mut left = tables.clone();
    if size == 1 {
        judge(&tables, "all said");
        let all = base(&tables).signals;
        for (n, signal) in (0..).zip(&all) {
            let mut gone = base(&left);
            gone.facts.retain(|f: &Fact| f.signal == signal.signal);
            gone.signals.retain(|s| s.signal == signal.signal);
            job.retract(Epoch(end + 1 + n as u64), vec![end], gone).expect("the job runs");
            left.apply(&deltas.recv().expect("the epoch closes"));
            if n == all.len() / 2 {
                judge(&left, "half taken back");
            }
        }
    } else {
        job.retract(Epoch(end + 1), vec![end], base(&tables)).expect("the job runs");
        left.apply(&deltas.recv().expect("the epoch closes"));
    }
    assert_eq!(left.difference(&Tables::default()), Vec::<String>::new(), "all is taken back, so nothing is left");
    job.finish().expect("no worker died");
    tables
}

/// A version of a ticket.
fn ticket(progress: Progress, hours: i64) -> Stated {
    let ticket = TicketFact {
        ticket_key: "SHOP-1".into(),
        native_id: None,
        project: "SHOP".into(),
        title: "A ticket".into(),
        words: "".into(),
        kind: "Story".into(),
        status: "As the tracker says".into(),
        progress,
        priority: None,
        labels: "".into(),
        reporter: None,
        assignee: None,
        parent_key: None,
        estimate_secs: None,
        created_at: None,
        resolved_at: None,
        url: None,
        deleted: false,
    };
    vec![(at(hours), FactBody::Ticket(ticket))]
}

fn texts(row: &Row, columns: &[usize]) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::Text(text) => text.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Bool(b) => b.to_string(),
        Value::Null => "-".to_owned(),
    };
    columns.iter().map(|i| text(&row[*i])).collect()
}

/// Confirmed and rejected links by kind of evidence.
fn reliability(tables: &Tables) -> BTreeMap<String, (i64, i64)> {
    let counts = |row: &Row| (row[1].as_int().expect("a count"), row[2].as_int().expect("a count"));
    tables.rows("reliability").iter().map(|row| (texts(row, &[0]).remove(0), counts(row))).collect()
}

/// Verdicts, how many agree and how many do not, by person.
fn reputation(tables: &Tables) -> BTreeMap<PersonId, [i64; 3]> {
    let row = |row: &Row| {
        let person = row[0].as_text().and_then(|t| t.parse().ok()).expect("a pseudonym");
        (person, [1, 2, 3].map(|i| row[i].as_int().expect("a count")))
    };
    tables.rows("reputation").iter().map(row).collect()
}

#[test]
fn most_people_decide_and_a_person_counts_once() {
    use EvidenceKind::{BodyKey, TitleKey};
    use Verb::{Confirm, Reject};
    let mut signals = organisation();
    signals.push(pull_request(1, &[(TitleKey, "SHOP-1"), (BodyKey, "SHOP-2")]));
    signals.push(pull_request(2, &[(TitleKey, "SHOP-1"), (BodyKey, "SHOP-1")]));
    // Two confirm and one rejects.
    signals.push(verdict(ADA, Confirm, 1, "SHOP-1", 1));
    signals.push(verdict(BO, Confirm, 1, "SHOP-1", 2));
    signals.push(verdict(CY, Reject, 1, "SHOP-1", 3));
    // By accounts most would confirm; by people it is a tie, which decides nothing. No bot decides it.
    signals.push(verdict(ADA, Confirm, 2, "SHOP-1", 4));
    signals.push(verdict(ADA_TOO, Confirm, 2, "SHOP-1", 5));
    signals.push(verdict(BO, Reject, 2, "SHOP-1", 6));
    signals.push(verdict(BOT, Confirm, 2, "SHOP-1", 7));
    let found = tables(&signals);
    assert_eq!(reliability(&found), BTreeMap::from([("title_key".to_owned(), (1, 0))]));
    let ada = [(ADA, [2, 1, 2]), (BO, [2, 1, 2]), (CY, [1, 0, 2])];
    assert_eq!(reputation(&found), BTreeMap::from(ada));
    let row = &found.rows("reliability")[0];
    let model = Model::shipped();
    let claimed = model.band(model.weight(TitleKey).weight, 0).confidence_bps;
    assert_eq!(row[1..], [1, 0, 6_667, 4_311, 9_023, claimed].map(Value::Int));

    // Ada changes her mind, by her other account; and a link that no key states has no kind to learn of.
    signals.push(verdict(ADA_TOO, Reject, 2, "SHOP-1", 8));
    signals.push(verdict(CY, Reject, 2, "SHOP-9", 9));
    let found = tables(&signals);
    let kinds = [("body_key".to_owned(), (0, 1)), ("title_key".to_owned(), (1, 1))];
    assert_eq!(reliability(&found), BTreeMap::from(kinds));
    assert_eq!(reputation(&found), BTreeMap::from([(ADA, [2, 2, 1]), (BO, [2, 2, 1]), (CY, [2, 0, 2])]));
}

/// What the settings make critical in these tests.
fn critical() -> Vec<Stated> {
    ["done", "reopen", "deploy:production"].map(|key| setting("second_person", key, "yes", 0, false)).into()
}

fn deploy(person: PersonId, ticket: &str, environment: &str, hours: i64) -> Stated {
    let mut said = report(person, Verb::Deploy, ticket, hours);
    if let FactBody::Report(report) = &mut said[0].1 {
        report.environment = Some(environment.into());
    }
    said
}

/// Ticket, action, environment, first reporter, second person, state; by the clock of the first report.
fn approvals(tables: &Tables) -> Vec<String> {
    let mut rows = tables.rows("approvals");
    rows.sort_by_key(|row| row[6].as_int());
    let name = |person: &str| match person.parse() {
        Ok(ADA) => "ada".to_owned(),
        Ok(BO) => "bo".to_owned(),
        Ok(CY) => "cy".to_owned(),
        _ => person.to_owned(),
    };
    let shown = rows.iter().map(|row| texts(row, &[1, 3, 4, 5, 7, 9]).iter().map(|t| name(t)).collect::<Vec<_>>());
    shown.map(|row| row.join(" ").replace("  ", " ")).collect()
}

/// Where tickets stand by the evidence.
fn progress(tables: &Tables) -> BTreeMap<String, String> {
    let rows = tables.rows("ticket_status");
    let row = |row: &Row| {
        let mut texts = texts(row, &[0, 5]);
        (texts.remove(0), texts.remove(0))
    };
    rows.iter().map(row).collect()
}

fn stand(tickets: &[(&str, &str)]) -> BTreeMap<String, String> {
    tickets.iter().map(|(ticket, progress)| ((*ticket).to_owned(), (*progress).to_owned())).collect()
}

/// Kinds of news of reports.
fn news(tables: &Tables, kind: &str) -> Vec<String> {
    let of_kind = |row: &Row| row[3].as_text() == Some(kind);
    let mut titles: Vec<_> =
        tables.rows("digest_items").iter().filter(|row| of_kind(row)).map(|row| texts(row, &[8]).remove(0)).collect();
    titles.sort();
    titles
}

#[test]
fn a_critical_report_waits_for_another_person() {
    let mut signals = [organisation(), critical()].concat();
    // Another account is no other person, and a bot is none.
    signals.push(report(ADA, Verb::Done, "SHOP-1", 1));
    signals.push(report(ADA_TOO, Verb::Done, "SHOP-1", 2));
    signals.push(report(BOT, Verb::Done, "SHOP-1", 3));
    // Of who waits, what they said before still holds.
    signals.push(report(BO, Verb::Start, "SHOP-2", 4));
    signals.push(report(BO, Verb::Done, "SHOP-2", 5));
    // Only the environment that is named is critical, in any case; another one approves nothing.
    signals.push(deploy(ADA, "SHOP-3", "staging", 6));
    signals.push(deploy(ADA, "SHOP-4", "Production", 7));
    signals.push(deploy(BO, "SHOP-4", "staging", 8));
    let found = tables(&signals);
    let waiting = ["SHOP-1 done ada - pending", "SHOP-2 done bo - pending", "SHOP-4 deploy production ada - pending"];
    assert_eq!(approvals(&found), waiting);
    assert_eq!(
        progress(&found),
        stand(&[("SHOP-2", "in_progress"), ("SHOP-3", "done"), ("SHOP-4", "done")]),
        "what waits has not been said"
    );
    assert_eq!(news(&found, "pending"), ["deploy SHOP-4 to production", "done SHOP-1", "done SHOP-2"]);
    assert_eq!(news(&found, "reported"), ["deploy SHOP-3 to staging", "deploy SHOP-4 to staging", "start SHOP-2"]);

    signals.push(report(BO, Verb::Done, "SHOP-1", 9));
    signals.push(deploy(CY, "SHOP-4", "production", 10));
    let found = tables(&signals);
    let known = ["SHOP-1 done ada bo approved", "SHOP-2 done bo - pending", "SHOP-4 deploy production ada cy approved"];
    assert_eq!(approvals(&found), known);
    assert_eq!(progress(&found)["SHOP-1"], "done");
    assert_eq!(news(&found, "pending"), ["done SHOP-2"]);

    // Settings that are taken back make nothing wait.
    signals.extend(["done", "deploy:production"].map(|key| setting("second_person", key, "", 11, true)));
    let found = tables(&signals);
    assert_eq!(approvals(&found), Vec::<String>::new());
    assert_eq!(progress(&found)["SHOP-2"], "done");
}

#[test]
fn reopening_waits_and_old_approvals_approve_nothing_new() {
    let mut signals = [organisation(), critical()].concat();
    // That only one person calls it done makes it not done: to go on is no reopening.
    signals.push(report(ADA, Verb::Done, "SHOP-1", 1));
    signals.push(report(CY, Verb::Start, "SHOP-1", 2));
    // And nobody's word from before approves what comes after.
    signals.push(report(BO, Verb::Done, "SHOP-1", 3));
    let found = tables(&signals);
    assert_eq!(approvals(&found), ["SHOP-1 done ada - pending", "SHOP-1 done bo - pending"]);
    assert_eq!(progress(&found), stand(&[("SHOP-1", "in_progress")]));

    signals.push(report(ADA, Verb::Done, "SHOP-1", 4));
    signals.push(report(CY, Verb::Start, "SHOP-1", 5));
    let found = tables(&signals);
    let two = ["SHOP-1 done ada - pending", "SHOP-1 done bo ada approved"].map(str::to_owned);
    assert_eq!(approvals(&found), [&two[..], &["SHOP-1 reopen cy - pending".to_owned()]].concat());
    assert_eq!(progress(&found), stand(&[("SHOP-1", "done")]));

    signals.push(report(BO, Verb::Block, "SHOP-1", 6));
    signals.push(report(CY, Verb::Done, "SHOP-1", 7));
    signals.push(report(BO, Verb::Start, "SHOP-1", 8));
    let found = tables(&signals);
    let more = ["SHOP-1 reopen cy bo approved", "SHOP-1 done cy - pending"].map(str::to_owned);
    assert_eq!(approvals(&found), [&two[..], &more].concat(), "reopened, not done again, and so not reopened again");
    assert_eq!(progress(&found), stand(&[("SHOP-1", "in_progress")]));
}

#[test]
fn a_ticket_that_its_tracker_calls_done_is_reopened_by_two_or_by_the_tracker() {
    let mut signals = [organisation(), critical()].concat();
    signals.push(report(BO, Verb::Start, "SHOP-1", 1));
    signals.push(ticket(Progress::Done, 2));
    signals.push(report(ADA, Verb::Block, "SHOP-1", 3));
    let found = tables(&signals);
    assert_eq!(approvals(&found), ["SHOP-1 reopen ada - pending"], "what was said before is no reopening");
    assert_eq!(progress(&found)["SHOP-1"], "in_progress");
    signals.push(ticket(Progress::InProgress, 4));
    let found = tables(&signals);
    assert_eq!(approvals(&found), Vec::<String>::new());
    assert_eq!(progress(&found)["SHOP-1"], "blocked");
}

/// Few people, tickets and moments, so that turns, ties and second people are common.
fn said() -> impl Strategy<Value = Stated> {
    let person = prop::sample::select(vec![ADA, ADA_TOO, BO, CY, BOT]);
    let verb = prop::sample::select(Verb::ALL.to_vec());
    let ticket = prop::sample::select(vec!["SHOP-1", "SHOP-2"]);
    let environment = prop::sample::select(vec!["production", "Production", "staging"]);
    (person, verb, ticket, environment, 1i64..3, 0i64..12).prop_map(
        |(person, verb, ticket, environment, number, hours)| match verb {
            Verb::Deploy => deploy(person, ticket, environment, hours),
            Verb::Confirm | Verb::Reject => verdict(person, verb, number, ticket, hours),
            Verb::Start | Verb::Done | Verb::Block => report(person, verb, ticket, hours),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// I5, I3: what people say in any way, by accounts that turn out to be one person's at any moment.
    #[test]
    fn what_people_say_equals_its_oracle_in_any_order(
        said in prop::collection::vec(said(), 1..30),
        tracker in prop::collection::vec((prop::sample::select(Progress::ALL.to_vec()), 0i64..12), 0..3),
        order in any::<u64>(),
    ) {
        let mut signals = [organisation(), critical()].concat();
        signals.push(pull_request(1, &[(EvidenceKind::TitleKey, "SHOP-1"), (EvidenceKind::BodyKey, "SHOP-2")]));
        signals.extend(tracker.into_iter().map(|(progress, hours)| ticket(progress, hours)));
        signals.extend(said);
        let model = Model::shipped();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let mut placed: Vec<_> = (0..).zip(&signals).map(|(n, facts)| judge::signal(n, facts, false)).collect();
        fastrand::Rng::with_seed(order).shuffle(&mut placed);
        let (job, deltas) = judge::job(1, &model);
        let mut tables = Tables::default();
        for (n, signals) in (1..).zip(placed.chunks(placed.len() / 2 + 1)) {
            let offsets = n * 1_000..;
            let batch = offsets.zip(signals).map(|(offset, s)| (LogPosition { partition: 0, offset }, s.clone()));
            job.push(Epoch(n), vec![n * 1_000 + 999], batch.collect()).expect("the job runs");
            tables.apply(&deltas.recv().expect("the epoch closes"));
        }
        let verdict = runtime.block_on(judge::verdict(&tables, &model));
        prop_assert!(verdict.is_ok(), "{}", verdict.unwrap_err());
        job.retract(Epoch(3), vec![2_999], base(&tables)).expect("the job runs");
        tables.apply(&deltas.recv().expect("the epoch closes"));
        job.finish().expect("no worker died");
        prop_assert_eq!(tables.difference(&Tables::default()), Vec::<String>::new());
    }
}
