//! Named questions over the tables of the process group, and the same text asked of DuckDB over the same files, which has to come to the
//! same rows.

use std::time::Instant;

use anyhow::{Context, Result};
use flowsync_query::{
    AsOf, Snapshot,
    format::{self, Format},
};
use serde_json::{Value, json};

use crate::{
    Size, peers,
    report::{RATIO, Report, Target, percentile},
    site::Site,
};

/// The questions. `{ticket}`, `{artifact}` and `{period}` stand for a busy one of the history.
const QUESTIONS: [(&str, &str); 11] = [
    (
        "digest of a week",
        "select * from digest_items where \"at\" >= timestamp '2026-11-13 00:00:00' and audience like '%engineer%'
         order by \"at\" desc, item desc limit 50",
    ),
    (
        "deployment frequency by repository and week",
        "select repo, date_trunc('week', finished_at) as week, count(*) as n from deployments
         where state = 'succeeded' and environment = 'production' group by 1, 2 order by 1, 2",
    ),
    (
        "lead time for changes by month, median",
        "select date_trunc('month', d.finished_at) as month_of,
                median(date_part('epoch', d.finished_at) - date_part('epoch', p.created_at)) as secs
         from deployments d join pull_requests p on p.merge_sha = d.sha
         where d.state = 'succeeded' and d.environment = 'production' group by 1 order by 1",
    ),
    (
        "failed deployments by month",
        "select date_trunc('month', finished_at) as month_of, count(*) as n,
                sum(case when state = 'failed' then 1 else 0 end) as failed
         from deployments where environment = 'production' group by 1 order by 1",
    ),
    (
        "time to restore by month, mean",
        "select date_trunc('month', opened_at) as month_of, count(*) as n,
                avg(date_part('epoch', resolved_at) - date_part('epoch', opened_at)) as secs
         from incidents where resolved_at is not null group by 1 order by 1",
    ),
    (
        "capitalization of a month",
        "select * from capitalization where period = '{period}' order by project, classification",
    ),
    (
        "why a link",
        "select signal, \"at\", kind, weight_millinats, spread_millinats from evidence
         where artifact_kind = 'PullRequest' and artifact_id = '{artifact}' and ticket_key = '{ticket}'
         order by weight_millinats desc, signal",
    ),
    (
        "neighbours of a ticket",
        "select edge, src_kind, src_id, confidence_bps from edges where dst_kind = 'Ticket' and dst_id = '{ticket}'
         union all
         select edge, dst_kind, dst_id, confidence_bps from edges where src_kind = 'Ticket' and src_id = '{ticket}'",
    ),
    (
        "two hops: who reviewed what belongs to a ticket",
        "select distinct b.dst_id from edges a
         join edges b on b.edge = 'REVIEWED_BY' and b.src_kind = a.src_kind and b.src_id = a.src_id
         where a.edge = 'LINKED_TO' and a.dst_id = '{ticket}'",
    ),
    (
        "three hops: who reviewed what came with the same person's work",
        "select distinct c.dst_id from edges a
         join edges b on b.edge = 'AUTHORED_BY' and b.src_kind = a.src_kind and b.src_id = a.src_id
         join edges w on w.edge = 'AUTHORED_BY' and w.dst_id = b.dst_id and w.src_kind = 'PullRequest'
         join edges c on c.edge = 'REVIEWED_BY' and c.src_kind = w.src_kind and c.src_id = w.src_id
         where a.edge = 'LINKED_TO' and a.dst_id = '{ticket}'",
    ),
    (
        "where tracker and evidence disagree, by project",
        "select project, count(*) as n from ticket_status where agrees = false group by project order by n desc, project limit 20",
    ),
];

/// The target for graph questions of two and three hops.
const HOPS_MS_MAX: f64 = 100.0;

/// Measures everything of this group, over the directory that the process group left.
pub fn measure(size: Size, site: &Site, report: &mut Report) -> Result<()> {
    let repetitions = if size == Size::Quick { 5 } else { 100 };
    let folder = tempfile::TempDir::new()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (_, engine) = flowsync::data::open(&site.dir())?;
    let (questions, ours) = runtime.block_on(async {
        let snapshot = engine.snapshot(AsOf::Newest).await?;
        let questions = filled(&snapshot).await?;
        let mut ours = Vec::new();
        for (number, (name, sql)) in questions.iter().enumerate() {
            let mut millis = Vec::new();
            let mut last = None;
            for _ in 0..repetitions {
                let started = Instant::now();
                // A snapshot for each: as every request takes one.
                let answer = engine.snapshot(AsOf::Newest).await?.sql(sql, &[]).await.with_context(|| name.clone())?;
                millis.push(started.elapsed().as_secs_f64() * 1_000.0);
                last = Some(answer);
            }
            let answer = last.context("no question was asked")?;
            let rows = answer.row_count();
            anyhow::ensure!(rows > 0 || size == Size::Quick, "{name}: no rows, which says nothing");
            std::fs::write(folder.path().join(number.to_string()), format::write(Format::Arrow, &answer)?)?;
            ours.push((rows, millis));
        }
        anyhow::Ok((questions, ours))
    })?;
    let asked = questions.iter().enumerate().map(
        |(number, (name, sql))| json!({ "name": name, "sql": sql, "expected": folder.path().join(number.to_string()) }),
    );
    let asked: Vec<Value> = asked.collect();
    let theirs = peers::duckdb_questions(&site.dir(), repetitions, &asked)?;
    report.add("files of all tables", theirs.files.values().sum(), "files");
    for (table, files) in theirs.files {
        report.add(format!("files of {table}"), files, "files");
    }
    for (((name, _), (rows, mut millis)), mut their) in questions.into_iter().zip(ours).zip(theirs.answers) {
        let (their_rows, differ) = (their.rows, their.differ);
        anyhow::ensure!(rows == their_rows && differ == 0, "{name}: {rows} and {their_rows} rows, {differ} differ");
        let [p50, p99] = [50.0, 99.0].map(|p| percentile(&mut millis, p));
        let duckdb = percentile(&mut their.millis, 50.0);
        report.add(format!("{name}: DuckDB's median against ours"), duckdb / p50, RATIO);
        report.add(format!("{name} ({rows} rows): p50"), p50, "ms");
        if name.contains("hops") {
            report.add_target(format!("{name}: p99"), p99, "ms", Target::AtMost(HOPS_MS_MAX));
        } else {
            report.add(format!("{name}: p99"), p99, "ms");
        }
        report.add(format!("{name}, DuckDB: p50"), duckdb, "ms");
        report.add(format!("{name}, DuckDB: p99"), percentile(&mut their.millis, 99.0), "ms");
    }
    Ok(())
}

/// The questions about something that is there.
async fn filled(snapshot: &Snapshot) -> Result<Vec<(String, String)>> {
    let busy =
        "select artifact_id, ticket_key from links where artifact_kind = 'PullRequest' and confidence_bps >= 5000
                order by evidence_count desc, stated_at desc, artifact_id limit 1";
    let rows = snapshot.rows(busy, &[]).await?;
    let row = rows.first().context("the history has no link")?;
    let (artifact, ticket) = (row.text("artifact_id")?, row.text("ticket_key")?);
    let fill =
        |sql: &str| sql.replace("{artifact}", artifact).replace("{ticket}", ticket).replace("{period}", "2026-10");
    Ok(QUESTIONS.iter().map(|(name, sql)| ((*name).to_owned(), fill(sql))).collect())
}
