//! Random histories of facts, on few things, so that versions tie, keys are taken over and links compete.

use flowsync_schemas::{
    EntityKind, FactBody, Micros, PersonId, Signal, Token,
    fact::{
        AccountFact, ActivityFact, ActivityKind, CommitFact, DeploymentFact, EdgeKind, EvidenceKind, Feature,
        IdentityFact, IncidentFact, MentionFact, Progress, PullRequestFact, PullRequestState, RelationFact, ReportFact,
        ReviewFact, RunState, SettingFact, TicketFact, TraceFact, TraceKind, Verb,
    },
    model::{Bins, Features, Model, Unstated},
};
use proptest::prelude::*;

use crate::judge;

type Stated = (Micros, FactBody);

fn at() -> impl Strategy<Value = Micros> + Clone {
    // Few clock readings, so that versions tie and the signal id decides.
    (0i64..12).prop_map(|n| Micros::from_secs(1_700_000_000 + n * 40_000))
}

fn some_at() -> impl Strategy<Value = Option<Micros>> {
    prop::option::weighted(0.8, at())
}

fn person() -> impl Strategy<Value = PersonId> + Clone {
    (1u128..7).prop_map(PersonId)
}

fn some_person() -> impl Strategy<Value = Option<PersonId>> {
    prop::option::weighted(0.8, person())
}

const TICKETS: [(&str, &str); 6] =
    [("SHOP", "SHOP-1"), ("SHOP", "SHOP-2"), ("PAY", "PAY-1"), ("PAY", "PAY-2"), ("o/r", "o/r#1"), ("UTF", "UTF-8")];

fn ticket_key() -> impl Strategy<Value = (&'static str, &'static str)> + Clone {
    prop::sample::select(TICKETS.to_vec())
}

/// Few ids, so that tickets change their keys, and take over those of others.
fn native_id() -> impl Strategy<Value = Option<&'static str>> + Clone {
    prop::option::weighted(0.7, prop::sample::select(vec!["10001", "10002", "10003"]))
}

fn sha() -> impl Strategy<Value = String> + Clone {
    (1u8..5).prop_map(|n| format!("{n:040}"))
}

fn pull() -> impl Strategy<Value = i64> + Clone {
    1i64..4
}

/// Words that the model knows, one that it does not, and a tag.
fn words() -> impl Strategy<Value = String> + Clone {
    let all = vec!["basket", "checkout", "coupon", "minor:", "price", "zebra"];
    prop::sample::subsequence(all, 0..4).prop_map(|words| words.join(" "))
}

/// The shipped model, with links that nothing states judged by few words and in favour of showing them.
pub fn model() -> Model {
    let bins = |from: &[i64], weight: &[i64]| Bins {
        from: from.to_vec(),
        weight: weight.to_vec(),
        spread: weight.iter().map(|w| w.abs() / 5).collect(),
    };
    let features = Features::new(|feature| match feature {
        Feature::Cover => bins(&[300, 800], &[-700, 300, 2_100]),
        Feature::Shared => bins(&[1_500, 4_000], &[0, 400, 900]),
        Feature::File => bins(&[1], &[0, 800]),
        Feature::Touched => bins(&[1, 2, 3], &[0, 300, 700, 1_100]),
        Feature::Age => bins(&[0, 24, 72], &[-600, 900, 300, 0]),
        Feature::Done => bins(&[1], &[0, -900]),
        Feature::Progress => bins(&[1, 2, 3], &[0, -500, -900, 1_200]),
        Feature::Owner => bins(&[1, 2, 3, 4, 5], &[-200, 0, 100, 700, 1_900, 1_500]),
        Feature::Tag => bins(&[1], &[0, -1_300]),
        Feature::Length => bins(&[2], &[0, -150]),
        Feature::Pull => bins(&[1], &[0, 250]),
    });
    let known = [("basket", 1_700), ("checkout", 1_100), ("coupon", 2_300), ("price", 2_300)];
    let mut model = Model::shipped();
    model.unstated = Some(Unstated {
        fitted_on: "nothing".into(),
        prior_millinats: -1_400,
        unknown_word: 3_100,
        no_ticket: vec!["minor".into()],
        features,
        words: known.into_iter().map(|(word, idf)| (word.into(), idf)).collect(),
    });
    model
}

/// Hashes of paths.
fn paths() -> impl Strategy<Value = String> + Clone {
    prop::sample::subsequence(vec!["00a1", "4b2c", "77d0"], 0..3).prop_map(|paths| paths.join(" "))
}

fn tickets() -> impl Strategy<Value = FactBody> {
    let kind = prop::sample::select(vec!["Bug", "Story", "Epic"]);
    let progress = prop::sample::select(Progress::ALL.to_vec());
    (
        ticket_key(),
        kind,
        progress,
        some_person(),
        some_at(),
        some_at(),
        prop::option::of(ticket_key()),
        (native_id(), words(), some_person()),
        prop::bool::weighted(0.15),
    )
        .prop_filter("UTF is no tracker's project", |t| t.0.0 != "UTF")
        .prop_map(|((project, key), kind, progress, assignee, created_at, resolved_at, parent, told, deleted)| {
            let (native_id, words, reporter) = told;
            FactBody::Ticket(TicketFact {
                ticket_key: key.into(),
                native_id: native_id.map(Into::into),
                project: project.into(),
                title: format!("{kind} {key}").into(),
                words: words.replace("minor:", "").trim().into(),
                kind: kind.into(),
                status: progress.word().to_uppercase().into(),
                progress,
                priority: None,
                labels: "".into(),
                reporter,
                assignee,
                parent_key: parent.map(|p| p.1.into()),
                estimate_secs: None,
                created_at,
                resolved_at,
                url: None,
                deleted,
            })
        })
}

fn commits() -> impl Strategy<Value = FactBody> {
    let repo = prop::sample::select(vec!["o/r", "o/s"]);
    let told = (words(), words(), paths(), prop::option::of(0i64..9));
    (repo, sha(), some_person(), some_at(), some_at(), told, prop::bool::weighted(0.2)).prop_map(
        |(repo, sha, author, authored_at, committed_at, (words, files, paths, lines), deleted)| {
            FactBody::Commit(CommitFact {
                repo: repo.into(),
                sha: sha.into(),
                author,
                committer: None,
                authored_at,
                committed_at,
                subject: "change".into(),
                words: words.into(),
                file_words: files.replace("minor:", "").trim().into(),
                paths: paths.into(),
                parent_count: lines,
                added_lines: lines,
                deleted_lines: lines,
                changed_files: lines,
                deleted,
            })
        },
    )
}

fn pull_requests() -> impl Strategy<Value = FactBody> {
    let state = prop::sample::select(PullRequestState::ALL.to_vec());
    (pull(), state, some_person(), some_at(), some_at(), words(), prop::bool::weighted(0.1)).prop_map(
        |(number, state, author, created_at, merged_at, words, deleted)| {
            FactBody::PullRequest(PullRequestFact {
                pull_request: format!("o/r#{number}").into(),
                repo: "o/r".into(),
                number,
                title: format!("Pull request {number}").into(),
                words: words.into(),
                state,
                draft: false,
                author,
                head_branch: "topic".into(),
                head_sha: "x".into(),
                base_branch: "main".into(),
                merge_sha: None,
                created_at,
                merged_at,
                closed_at: None,
                added_lines: None,
                deleted_lines: None,
                changed_files: None,
                url: None,
                deleted,
            })
        },
    )
}

fn reviews() -> impl Strategy<Value = FactBody> {
    (0u8..4, pull(), some_person(), some_at(), prop::bool::weighted(0.2)).prop_map(
        |(n, number, reviewer, submitted_at, deleted)| {
            FactBody::Review(ReviewFact {
                review: format!("review {n}").into(),
                pull_request: format!("o/r#{number}").into(),
                reviewer,
                state: "approved".into(),
                submitted_at,
                deleted,
            })
        },
    )
}

fn runs() -> impl Strategy<Value = FactBody> {
    let state = prop::sample::select(RunState::ALL.to_vec());
    let deployment = (0u8..3, sha(), state, some_at(), some_at(), prop::bool::weighted(0.1)).prop_map(
        |(n, sha, state, created_at, finished_at, deleted)| {
            FactBody::Deployment(DeploymentFact {
                deployment: format!("o/r/deployments/{n}").into(),
                repo: "o/r".into(),
                sha: sha.into(),
                environment: "production".into(),
                state,
                creator: None,
                created_at,
                finished_at,
                url: None,
                deleted,
            })
        },
    );
    let incident = (0u8..2, some_at(), some_at(), prop::option::of(ticket_key()), prop::bool::weighted(0.1)).prop_map(
        |(n, opened_at, resolved_at, ticket, deleted)| {
            FactBody::Incident(IncidentFact {
                incident: format!("incident {n}").into(),
                title: "It broke".into(),
                severity: None,
                ticket_key: ticket.map(|t| t.1.into()),
                opened_at,
                resolved_at,
                url: None,
                deleted,
            })
        },
    );
    prop_oneof![deployment, incident]
}

fn mention() -> impl Strategy<Value = (EvidenceKind, (&'static str, &'static str))> + Clone {
    use EvidenceKind::*;
    (
        prop::sample::select(vec![BranchKey, TitleKey, BodyKey, CommitKey, TolerantKey, NumberKey, ClosingKey]),
        ticket_key(),
    )
}

fn trace() -> impl Strategy<Value = TraceFact> + Clone {
    let kind = prop::sample::select(TraceKind::ALL.to_vec());
    let ticket = prop_oneof![4 => ticket_key().prop_map(|t| t.1), 1 => Just("10001")];
    (kind, sha(), pull(), ticket, person(), prop::option::of(-10i64..9_000)).prop_map(
        |(kind, sha, number, ticket, person, spent_secs)| {
            let (target, who) = match kind {
                TraceKind::PullRequest => (format!("o/r#{number}"), None),
                TraceKind::Brought | TraceKind::CherryPick | TraceKind::Revert => (sha, None),
                TraceKind::CoAuthor => (String::new(), Some(person)),
                _ => (ticket.to_owned(), None),
            };
            let spent_secs = spent_secs.filter(|_| kind == TraceKind::Worklog);
            TraceFact { sha: "".into(), kind, target: target.into(), person: who, spent_secs }
        },
    )
}

fn relations() -> impl Strategy<Value = FactBody> {
    (
        prop::sample::select(EdgeKind::ALL.to_vec()),
        prop::sample::select(vec![EntityKind::Commit, EntityKind::PullRequest, EntityKind::Ticket]),
        sha(),
        pull(),
        ticket_key(),
        prop::sample::select(vec!["10001", "SHOP-1", "PAY-2"]),
        prop::bool::weighted(0.3),
    )
        .prop_map(|(edge, src_kind, sha, number, ticket, other, deleted)| {
            let src_id = match src_kind {
                EntityKind::Commit => sha,
                EntityKind::PullRequest => format!("o/r#{number}"),
                _ => other.to_owned(),
            };
            let (dst_kind, dst_id) = if src_kind == EntityKind::Commit && edge == EdgeKind::PartOf {
                (EntityKind::PullRequest, format!("o/r#{number}"))
            } else {
                (EntityKind::Ticket, ticket.1.to_owned())
            };
            FactBody::Relation(RelationFact {
                edge,
                src_kind,
                src_id: src_id.into(),
                dst_kind,
                dst_id: dst_id.into(),
                deleted,
            })
        })
}

fn activities() -> impl Strategy<Value = FactBody> {
    let kind = prop::sample::select(vec![ActivityKind::Comment, ActivityKind::Transition, ActivityKind::Worklog]);
    (
        0u8..5,
        kind,
        some_person(),
        any::<bool>(),
        ticket_key(),
        pull(),
        at(),
        prop::option::of(-10i64..9_000),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(n, kind, person, on_ticket, ticket, number, acted_at, spent_secs, deleted)| {
            let (subject_kind, subject_id) = if on_ticket {
                (EntityKind::Ticket, if number == 1 { "10001".to_owned() } else { ticket.1.to_owned() })
            } else {
                (EntityKind::PullRequest, format!("o/r#{number}"))
            };
            FactBody::Activity(ActivityFact {
                activity: n.to_string().into(),
                kind,
                person,
                subject_kind,
                subject_id: subject_id.into(),
                acted_at,
                spent_secs,
                detail: None,
                deleted,
            })
        })
}

fn reports() -> impl Strategy<Value = FactBody> {
    (person(), prop::sample::select(Verb::ALL.to_vec()), ticket_key(), prop::option::of((any::<bool>(), sha(), pull())))
        .prop_map(|(person, verb, (project, key), artifact)| {
            let (artifact_kind, artifact_id) = match artifact {
                Some((true, sha, _)) => (Some(EntityKind::Commit), Some(sha.into())),
                Some((false, _, number)) => (Some(EntityKind::PullRequest), Some(format!("o/r#{number}").into())),
                None => (None, None),
            };
            FactBody::Report(ReportFact {
                person,
                verb,
                project: project.into(),
                ticket_key: key.into(),
                artifact_kind,
                artifact_id,
                environment: (verb == Verb::Deploy).then(|| "production".into()),
            })
        })
}

fn settings() -> impl Strategy<Value = FactBody> {
    let entry = prop::sample::select(vec![
        ("project", "UTF", ""),
        ("project", "SHOP", ""),
        ("currency", "", "EUR"),
        ("currency", "", "USD"),
        ("day_rate_minor", "", "60000"),
        ("day_rate_minor", "", "a lot"),
        ("day_rate_minor", "PAY", "77777"),
        ("cost_centre", "SHOP", "CC-1"),
        ("classification", "story", "capitalize"),
        ("classification", "bug", "expense"),
        ("second_person", "deploy:production", "yes"),
        ("second_person", "done", "yes"),
        ("second_person", "reopen", "yes"),
    ]);
    (entry, prop::bool::weighted(0.2)).prop_map(|((name, key, value), deleted)| {
        FactBody::Setting(SettingFact { name: name.into(), key: key.into(), value: value.into(), deleted })
    })
}

/// Few names and logins, so that accounts share them: some more than are looked at.
fn token(kind: u128) -> impl Strategy<Value = Option<Token>> + Clone {
    prop::option::weighted(0.7, (0u128..4).prop_map(move |n| Token(kind << 64 | n)))
}

/// More accounts than act, so that merges reach over accounts without activity, and one token is too common.
fn account() -> impl Strategy<Value = PersonId> + Clone {
    (1u128..14).prop_map(PersonId)
}

fn accounts() -> impl Strategy<Value = FactBody> {
    let source = prop::sample::select(vec!["github", "jira"]);
    let kind = prop::sample::select(vec!["login", "email"]);
    let same_as = prop::option::weighted(0.2, account());
    (account(), source, kind, prop::bool::weighted(0.07), token(1), token(2), same_as).prop_map(
        |(person, source, kind, bot, name, handle, same_as)| {
            FactBody::Account(AccountFact {
                person,
                source: source.into(),
                kind: kind.into(),
                bot,
                name,
                handle,
                same_as,
            })
        },
    )
}

fn identities() -> impl Strategy<Value = FactBody> {
    let reporter = (20u128..22).prop_map(PersonId);
    (reporter, account(), account(), any::<bool>())
        .prop_map(|(reporter, person, other, same)| FactBody::Identity(IdentityFact { reporter, person, other, same }))
}

/// A signal states a version of one thing, and where that is an artifact the keys found in it.
fn stated() -> impl Strategy<Value = Vec<Stated>> {
    let body = prop_oneof![
        3 => tickets(), 3 => commits(), 3 => pull_requests(), 2 => reviews(), 2 => runs(), 2 => relations(),
        3 => activities(), 3 => reports(), 2 => settings(), 6 => accounts(), 2 => identities(),
    ];
    let texts = (prop::collection::vec(mention(), 0..3), prop::collection::vec(trace(), 0..3));
    (at(), body, texts).prop_map(|(at, body, (mentions, traces))| {
        let artifact = match &body {
            FactBody::Commit(c) if !c.deleted => Some((EntityKind::Commit, c.sha.clone())),
            FactBody::PullRequest(p) => Some((EntityKind::PullRequest, p.pull_request.clone())),
            _ => None,
        };
        let mut facts = vec![(at, body)];
        if let Some((EntityKind::Commit, sha)) = &artifact {
            for trace in traces {
                let trace = (at, FactBody::Trace(TraceFact { sha: sha.clone(), ..trace }));
                if !facts.contains(&trace) {
                    facts.push(trace);
                }
            }
        }
        if let Some((artifact_kind, artifact_id)) = artifact {
            for (kind, (project, key)) in mentions {
                let mention = MentionFact {
                    artifact_kind,
                    artifact_id: artifact_id.clone(),
                    kind,
                    project: project.into(),
                    ticket_key: key.into(),
                };
                let mention = (at, FactBody::Mention(mention));
                if !facts.contains(&mention) {
                    facts.push(mention);
                }
            }
        }
        facts
    })
}

/// A history: signals, each rejected in part or not.
pub fn history(signals: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Signal>> {
    prop::collection::vec((stated(), prop::bool::weighted(0.05)), signals).prop_map(|signals| {
        (0..).zip(signals).map(|(n, (facts, rejected))| judge::signal(n, &facts, rejected)).collect()
    })
}

/// Tickets of every half-year, in which they are looked up, around pull requests of the same words that nothing links.
pub fn years() -> impl Strategy<Value = Vec<Signal>> {
    const HALF_YEAR: i64 = 4_383 * 3_600_000_000;
    const WORDS: &str = "basket coupon price";
    let ticket = (at(), tickets(), -7i64..4).prop_map(|(at, mut body, half_years)| {
        if let FactBody::Ticket(ticket) = &mut body {
            ticket.created_at = Some(Micros(at.0 + half_years * HALF_YEAR));
            (ticket.words, ticket.deleted) = (WORDS.into(), false);
        }
        (at, body)
    });
    let pull = (at(), pull_requests()).prop_map(|(at, mut body)| {
        if let FactBody::PullRequest(pull) = &mut body {
            pull.created_at = Some(at);
            (pull.words, pull.deleted) = (WORDS.into(), false);
        }
        (at, body)
    });
    (prop::collection::vec(ticket, 4..12), prop::collection::vec(pull, 1..4)).prop_map(|(tickets, pulls)| {
        let facts = tickets.into_iter().chain(pulls);
        (0..).zip(facts).map(|(n, fact)| judge::signal(n, &[fact], false)).collect()
    })
}
