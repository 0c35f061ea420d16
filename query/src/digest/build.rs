//! The queries behind a digest, and the document made of their rows.

use flowsync_schemas::{Day, Epoch, Micros, PersonId, Text};

use super::{
    Certainty, DEFAULT_DAYS, Digest, DigestRequest, Evidence, Line, MAX_LINES, Names, Person, Role, Section, Total,
    sections::{self, Items, KINDS, Part, kind_words},
};
use crate::{
    Param, QueryError, Snapshot,
    reports::{
        finance::{self, CapitalizationLine},
        format::{counted, minute, month_before, one_line, percent, person_days, share_bps},
        rows::{query_row, select},
    },
};

const MICROS_PER_DAY: i64 = 86_400_000_000;
/// Share of rejected deliveries from which the admin is alerted.
const ALERT_BPS: i64 = 500;
/// The part of a query that all counts and lists of items share.
const IN_WINDOW: &str = "from digest_items where at >= $1 and at < $2 and strpos(',' || audience || ',', $3) > 0";

/// Makes the digest of one role from one epoch. `now` is the end of the window unless the request has its own.
///
/// # Errors
/// Where the window is empty or reversed, or a query fails.
pub async fn digest(
    snapshot: &Snapshot,
    request: DigestRequest,
    names: &Names,
    now: Micros,
) -> Result<Digest, QueryError> {
    let until = request.until.unwrap_or(now);
    let since = request.since.unwrap_or(Micros(until.0.saturating_sub(DEFAULT_DAYS * MICROS_PER_DAY)));
    if since >= until {
        let message = format!("the digest's window is empty: since {since} is not before its end, {until}");
        return Err(QueryError::User(message));
    }
    // An epoch is the number of signals that it covers.
    if snapshot.epoch() == Epoch(0) {
        return Ok(no_data(request, since, until));
    }
    let limit = request.limit.clamp(1, MAX_LINES);
    let mut builder = Builder {
        snapshot,
        role: request.role,
        since,
        until,
        limit,
        names,
        alerts: Vec::new(),
        headline: Vec::new(),
        notes: Vec::new(),
    };
    let counts = builder.counts().await?;
    let mut sections = Vec::new();
    for part in sections::of(request.role) {
        builder.part(part, &counts, &mut sections).await?;
    }
    let totals = totals(&counts);
    builder.notes.extend(builder.nothing(&sections).await?);
    Ok(Digest {
        format: Digest::FORMAT,
        role: request.role,
        since,
        until,
        epoch: snapshot.epoch(),
        headline: if builder.headline.is_empty() { headline(&totals) } else { builder.headline.join("; ") },
        totals,
        alerts: builder.alerts,
        sections,
        notes: builder.notes,
    })
}

query_row! {
    struct Item {
        at: Micros,
        kind: Text,
        project: Option<Text>,
        ticket_key: Option<Text>,
        subject: Text,
        title: Text,
        person: Option<PersonId>,
        confidence_bps: i64,
        low_bps: i64,
        high_bps: i64,
        evidence_view: Text,
        evidence_key: Text,
    }
}

query_row! {
    struct Count {
        project: Option<Text>,
        kind: Text,
        items: i64,
    }
}

struct Builder<'a> {
    snapshot: &'a Snapshot,
    role: Role,
    since: Micros,
    until: Micros,
    limit: usize,
    names: &'a Names,
    alerts: Vec<String>,
    /// Where totals of items do not say what matters to the role.
    headline: Vec<String>,
    notes: Vec<String>,
}

impl Builder<'_> {
    fn window(&self) -> [Param; 3] {
        [self.since.into(), self.until.into(), format!(",{},", self.role).into()]
    }

    fn limit(&self) -> i64 {
        i64::try_from(self.limit).unwrap_or(i64::MAX)
    }

    async fn counts(&self) -> Result<Vec<Count>, QueryError> {
        let sql = format!(
            "select project, kind, count(*) as items {IN_WINDOW} group by project, kind order by project, kind"
        );
        select(self.snapshot, &sql, &self.window()).await
    }

    async fn part(&mut self, part: &Part, counts: &[Count], out: &mut Vec<Section>) -> Result<(), QueryError> {
        match part {
            Part::Items(items) => out.push(self.items(items, counts).await?),
            Part::Projects => out.push(self.projects(counts)),
            Part::Disagreements => out.push(self.disagreements().await?),
            Part::Unreviewed => out.push(self.unreviewed().await?),
            Part::Capitalization => {
                for period in [self.last_day().month(), month_before(self.last_day())] {
                    out.push(self.capitalization(&period).await?);
                }
            }
            Part::Unattributed => out.push(self.unattributed().await?),
            Part::Integrations => out.push(self.integrations().await?),
            Part::Rejects => out.push(self.rejects().await?),
        }
        Ok(())
    }

    /// The last day of the window: its end is exclusive.
    fn last_day(&self) -> Day {
        Micros(self.until.0.saturating_sub(1)).day()
    }

    async fn items(&self, items: &Items, counts: &[Count]) -> Result<Section, QueryError> {
        let kinds: Vec<_> = items.kinds.iter().map(|k| format!("'{k}'")).collect();
        let sql = format!(
            "select {{columns}} {IN_WINDOW} and kind in ({}) order by at desc, item limit {}",
            kinds.join(", "),
            self.limit
        );
        let rows: Vec<Item> = select(self.snapshot, &sql, &self.window()).await?;
        let total: i64 = counts.iter().filter(|c| items.kinds.contains(&c.kind.as_ref())).map(|c| c.items).sum();
        let lines: Vec<_> = rows.into_iter().map(|row| self.item_line(row, items.kinds.len() > 1)).collect();
        Ok(section(items.id, items.title.to_owned(), lines, total, items.empty))
    }

    fn item_line(&self, row: Item, name_kind: bool) -> Line {
        Line {
            at: Some(row.at),
            label: name_kind.then(|| kind_words(&row.kind).0.to_owned()),
            project: row.project.as_deref().map(str::to_owned),
            ticket_key: row.ticket_key.as_deref().map(str::to_owned),
            subject: Some(row.subject.to_string()),
            title: row.title.to_string(),
            detail: None,
            person: row.person.map(|id| Person::of(id, self.names)),
            certainty: Certainty::of(row.confidence_bps, row.low_bps, row.high_bps),
            evidence: Evidence::row(&row.evidence_view, &row.evidence_key),
        }
    }

    fn projects(&self, counts: &[Count]) -> Section {
        let mut projects: Vec<&str> = counts.iter().filter_map(|c| c.project.as_deref()).collect();
        projects.sort_unstable();
        projects.dedup();
        let total = projects.len() as i64;
        let lines = projects.into_iter().take(self.limit).map(|project| {
            let of: Vec<_> = counts.iter().filter(|c| c.project.as_deref() == Some(project)).collect();
            let parts: Vec<_> = totals_of(&of).iter().map(total_words).collect();
            let sql = format!(
                "SELECT * FROM digest_items WHERE project = {} AND at >= '{}' AND at < '{}' ORDER BY at",
                sql_text(project),
                sql_time(self.since),
                sql_time(self.until)
            );
            summary_line(project, parts.join(", "), Certainty::Counted, Evidence::query(sql))
        });
        section("projects", "By project".to_owned(), lines.collect(), total, "Nothing happened in any known project.")
    }

    async fn disagreements(&self) -> Result<Section, QueryError> {
        query_row! {
            struct Row {
                ticket_key: Text,
                project: Text,
                title: Option<Text>,
                tracker_status: Option<Text>,
                evidence_progress: Option<Text>,
                evidence_at: Option<Micros>,
                confidence_bps: Option<i64>,
                low_bps: Option<i64>,
                high_bps: Option<i64>,
            }
        }
        let sql = "select {columns} from ticket_status where agrees = false order by evidence_at desc nulls last, ticket_key limit $1";
        let rows: Vec<Row> = select(self.snapshot, sql, &[self.limit().into()]).await?;
        let total = self.count("select count(*) as items from ticket_status where agrees = false", &[]).await?;
        let lines = rows.into_iter().map(|row| Line {
            at: row.evidence_at,
            label: None,
            project: Some(row.project.to_string()),
            ticket_key: Some(row.ticket_key.to_string()),
            subject: None,
            title: row.title.as_deref().unwrap_or_default().to_owned(),
            detail: Some(format!(
                "the tracker says {}, the evidence says {}",
                row.tracker_status.as_deref().unwrap_or("nothing"),
                row.evidence_progress.as_deref().unwrap_or("nothing").replace('_', " "),
            )),
            person: None,
            certainty: match (row.confidence_bps, row.low_bps, row.high_bps) {
                (Some(confidence), Some(low), Some(high)) => Certainty::of(confidence, low, high),
                _ => Certainty::Stated,
            },
            evidence: Evidence::row("ticket_status", &row.ticket_key),
        });
        let title = "Tracker and evidence disagree, now".to_owned();
        Ok(section("disagreements", title, lines.collect(), total, "Tracker and evidence agree on every ticket."))
    }

    async fn unreviewed(&self) -> Result<Section, QueryError> {
        query_row! {
            struct Row {
                pull_request: Text,
                repo: Text,
                title: Text,
                author: Option<PersonId>,
                created_at: Option<Micros>,
            }
        }
        const WAITING: &str = "from pull_requests where state = 'open' and not draft \
                               and pull_request not in (select pull_request from reviews)";
        let sql = format!("select {{columns}} {WAITING} order by created_at nulls last, pull_request limit $1");
        let rows: Vec<Row> = select(self.snapshot, &sql, &[self.limit().into()]).await?;
        let total = self.count(&format!("select count(*) as items {WAITING}"), &[]).await?;
        let lines = rows.into_iter().map(|row| Line {
            at: row.created_at,
            label: None,
            project: Some(row.repo.to_string()),
            ticket_key: None,
            subject: Some(row.pull_request.to_string()),
            title: row.title.to_string(),
            detail: None,
            person: row.author.map(|id| Person::of(id, self.names)),
            certainty: Certainty::Stated,
            evidence: Evidence::row("pull_requests", &row.pull_request),
        });
        let title = "Waiting for a first review, oldest first".to_owned();
        Ok(section("unreviewed", title, lines.collect(), total, "No open pull request waits for a first review."))
    }

    async fn capitalization(&mut self, period: &str) -> Result<Section, QueryError> {
        let rows = finance::lines(self.snapshot, period).await?;
        self.headline.push(finance::headline(period, &rows));
        if !rows.iter().all(CapitalizationLine::has_currency) && self.notes.is_empty() {
            self.notes.push(finance::NO_RATES.to_owned());
        }
        let total = rows.len() as i64;
        let lines = rows.iter().take(self.limit).map(|row| {
            let detail = format!(
                "{} person-days ({}–{}), {}",
                person_days(row.person_days_ppm),
                person_days(row.low_person_days_ppm),
                person_days(row.high_person_days_ppm),
                counted(row.ticket_count, "ticket", "tickets"),
            );
            let evidence = Evidence::row(finance::VIEW, &row.why_key());
            Line { project: Some(row.project.to_string()), ..summary_line(&row.name(), detail, row.range(), evidence) }
        });
        let title = format!("Capitalization {period}");
        let empty = "No effort is assigned to this period. It comes from dated activity (commits, reviews, ticket moves) linked to \
                     tickets; amounts also need day rates: see `flowsync sql \"SELECT * FROM effort\"`.";
        Ok(section("capitalization", title, lines.collect(), total, empty))
    }

    async fn unattributed(&self) -> Result<Section, QueryError> {
        query_row! {
            struct Row {
                without_ticket_ppm: Option<i64>,
                total_ppm: Option<i64>,
            }
        }
        let from = format!("{}-01", self.last_day().month());
        let sql = "select sum(case when ticket_key = '' then share_ppm else 0 end) as without_ticket_ppm, \
                   sum(share_ppm) as total_ppm from effort where day >= cast($1 as date) and day <= cast($2 as date)";
        let rows: Vec<Row> =
            select(self.snapshot, sql, &[from.as_str().into(), self.last_day().to_string().into()]).await?;
        let of = rows.into_iter().find_map(|row| Some((row.without_ticket_ppm?, row.total_ppm.filter(|t| *t > 0)?)));
        let lines: Vec<_> = of
            .map(|(without, total)| {
                let share = share_bps(without, total);
                let detail = format!(
                    "{} of {} person-days, {} %",
                    person_days(without),
                    person_days(total),
                    percent(share)
                );
                let last = self.last_day();
                let sql = format!(
                    "SELECT * FROM effort WHERE ticket_key = '' AND day >= DATE '{from}' AND day <= DATE '{last}' ORDER BY day"
                );
                summary_line("Effort without a known ticket", detail, Certainty::Counted, Evidence::query(sql))
            })
            .into_iter()
            .collect();
        let total = lines.len() as i64;
        let title = format!("Effort not assigned, {}", self.last_day().month());
        Ok(section("unattributed", title, lines, total, "No effort is recorded in this period."))
    }

    async fn integrations(&mut self) -> Result<Section, QueryError> {
        query_row! {
            struct Row {
                source: Text,
                signals: Option<i64>,
                facts: Option<i64>,
                rejected: Option<i64>,
                last_hour: Option<Micros>,
            }
        }
        let sql = "select source, \
                   sum(case when hour >= $1 then signal_count else 0 end) as signals, \
                   sum(case when hour >= $1 then fact_count else 0 end) as facts, \
                   sum(case when hour >= $1 then reject_count else 0 end) as rejected, \
                   max(hour) as last_hour \
                   from integration_health where hour < $2 group by source order by source";
        let rows: Vec<Row> = select(self.snapshot, sql, &[self.since.into(), self.until.into()]).await?;
        let total = rows.len() as i64;
        let signals: i64 = rows.iter().filter_map(|row| row.signals).sum();
        let rejected: i64 = rows.iter().filter_map(|row| row.rejected).sum();
        self.headline.push(format!(
            "{}, {}, {}",
            counted(total, "integration", "integrations"),
            counted(signals, "signal", "signals"),
            counted(rejected, "rejection", "rejections")
        ));
        let mut lines = Vec::new();
        for row in rows {
            let (signals, rejected) = (row.signals.unwrap_or(0), row.rejected.unwrap_or(0));
            let last = row.last_hour.unwrap_or(Micros(0));
            // One delivery can hold several rejections: a share above 100 % means just that.
            let bps = share_bps(rejected, signals);
            if signals == 0 {
                self.alerts.push(format!("{}: silent since {}", one_line(&row.source, 40), minute(last)));
            } else if bps >= ALERT_BPS {
                self.alerts.push(format!(
                    "{}: {} in {}, {} % (alert at {} %)",
                    one_line(&row.source, 40),
                    counted(rejected, "rejection", "rejections"),
                    counted(signals, "signal", "signals"),
                    percent(bps),
                    ALERT_BPS / 100
                ));
            }
            let detail = format!(
                "{}, {}, {} ({} %)",
                counted(signals, "signal", "signals"),
                counted(row.facts.unwrap_or(0), "fact", "facts"),
                counted(rejected, "rejection", "rejections"),
                percent(bps)
            );
            let sql =
                format!("SELECT * FROM integration_health WHERE source = {} ORDER BY hour", sql_text(&row.source));
            let line = summary_line(&row.source, detail, Certainty::Counted, Evidence::query(sql));
            lines.push(Line { at: Some(last), ..line });
        }
        lines.truncate(self.limit);
        let empty = "No integration has delivered anything yet. Import a repository (`flowsync import git PATH --project KEY`) \
                     or point a tool's webhook at `/hooks/github`, `/hooks/jira` or `/hooks/slack`.";
        Ok(section("integrations", "Integrations".to_owned(), lines, total, empty))
    }

    async fn rejects(&self) -> Result<Section, QueryError> {
        query_row! {
            struct Row {
                source: Text,
                reason: Text,
                items: i64,
                last_at: Option<Micros>,
            }
        }
        let window = [self.since.into(), self.until.into()];
        let grouped_sql = "select source, reason, count(*) as items, max(received_at) as last_at from rejects \
                           where received_at >= $1 and received_at < $2 group by source, reason";
        let sql = format!("{grouped_sql} order by items desc, source, reason limit {}", self.limit);
        let rows: Vec<Row> = select(self.snapshot, &sql, &window).await?;
        let total = self.count(&format!("select count(*) as items from ({grouped_sql})"), &window).await?;
        let lines = rows.into_iter().map(|row| {
            let sql = format!(
                "SELECT * FROM rejects WHERE source = {} AND reason = {} ORDER BY received_at",
                sql_text(&row.source),
                sql_text(&row.reason)
            );
            let detail = counted(row.items, "time", "times");
            let line = summary_line(&row.reason, detail, Certainty::Counted, Evidence::query(sql));
            Line { at: row.last_at, label: Some(row.source.to_string()), ..line }
        });
        let title = "Rejected, by reason".to_owned();
        Ok(section("rejects", title, lines.collect(), total, "Everything that came in could be read."))
    }

    async fn count(&self, sql: &str, params: &[Param]) -> Result<i64, QueryError> {
        query_row! {
            struct Row {
                items: i64,
            }
        }
        let rows: Vec<Row> = select(self.snapshot, sql, params).await?;
        Ok(rows.first().map_or(0, |row| row.items))
    }

    /// What to say where there is nothing to read.
    async fn nothing(&self, sections: &[Section]) -> Result<Option<String>, QueryError> {
        query_row! {
            struct Row {
                newest: Option<Micros>,
            }
        }
        if sections.iter().any(|s| !s.lines.is_empty()) {
            return Ok(None);
        }
        let sql = "select max(at) as newest from digest_items where at < $1 and strpos(',' || audience || ',', $2) > 0";
        let rows: Vec<Row> = select(self.snapshot, sql, &self.window()[1..]).await?;
        Ok(Some(match rows.first().and_then(|row| row.newest) {
            Some(newest) => {
                let (role, day) = (self.role, newest.day());
                format!("The newest item for this role is of {day}: try `flowsync digest --role {role} --since {day}`.")
            }
            None => "Signals came in, but none led to an item for this role yet. `flowsync digest --role admin` shows what was \
                     received and what was rejected; ticket keys count only for known projects (`--project KEY`)."
                .to_owned(),
        }))
    }
}

/// Without any signal nothing can be said, not even that nothing happened.
fn no_data(request: DigestRequest, since: Micros, until: Micros) -> Digest {
    Digest {
        format: Digest::FORMAT,
        role: request.role,
        since,
        until,
        epoch: Epoch(0),
        headline: "There is no data yet".to_owned(),
        totals: Vec::new(),
        alerts: Vec::new(),
        sections: Vec::new(),
        notes: vec![
            "`flowsync import git PATH --project KEY` reads a repository.".to_owned(),
            "`flowsync run` takes webhooks at `/hooks/github`, `/hooks/jira` and `/hooks/slack`.".to_owned(),
            "`flowsync demo` shows everything on simulated data.".to_owned(),
        ],
    }
}

fn section(id: &'static str, title: String, lines: Vec<Line>, total: i64, empty: &str) -> Section {
    let more = total.saturating_sub(lines.len() as i64).max(0);
    let empty = lines.is_empty().then(|| empty.to_owned());
    Section { id, title, lines, more, empty }
}

fn summary_line(title: &str, detail: String, certainty: Certainty, evidence: Evidence) -> Line {
    Line {
        at: None,
        label: None,
        project: None,
        ticket_key: None,
        subject: None,
        title: title.to_owned(),
        detail: Some(detail),
        person: None,
        certainty,
        evidence,
    }
}

fn totals(counts: &[Count]) -> Vec<Total> {
    totals_of(&counts.iter().collect::<Vec<_>>())
}

fn totals_of(counts: &[&Count]) -> Vec<Total> {
    let of = |kind: &str| counts.iter().filter(|c| c.kind.as_ref() == kind).map(|c| c.items).sum();
    KINDS.iter().map(|kind| Total { label: kind, count: of(kind) }).filter(|total| total.count > 0).collect()
}

fn total_words(total: &Total) -> String {
    let (one, many) = kind_words(total.label);
    counted(total.count, one, many)
}

fn headline(totals: &[Total]) -> String {
    if totals.is_empty() {
        return "Nothing happened".to_owned();
    }
    totals.iter().map(total_words).collect::<Vec<_>>().join(", ")
}

fn sql_time(at: Micros) -> String {
    at.to_string().replace(".000000Z", "Z")
}

/// Text as a literal of SQL, for the queries that readers run themselves.
fn sql_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
