//! Statements: what is answered, what is refused, and which limit says so.

use std::time::Duration;

use flowsync_schemas::{Channel, Day, Epoch, LogPosition, Micros, Record, Row, SignalId, fact};

use super::kit::{Store, THINGS, change, delta, thing};
use crate::{
    AsOf, EngineOptions, Param, QueryError, Snapshot,
    format::{self, Format},
};

async fn filled() -> (Store, Snapshot) {
    filled_with(EngineOptions::default()).await
}

async fn filled_with(options: EngineOptions) -> (Store, Snapshot) {
    let mut store = Store::new();
    let rows: Vec<Row> = (0..100).map(|part| thing(Some("a"), part, "it's, \"x\"")).collect();
    store.commit(7, &[(&THINGS.table, rows)]).await;
    let snapshot = store.engine_with(options).snapshot(AsOf::Newest).await.unwrap();
    (store, snapshot)
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_of_every_kind_find_their_row() {
    let (_store, snapshot) = filled().await;
    let sql =
        "select part from things where flag = $1 and id = $2 and part = $3 and at = $4 and day = $5 and $6 is null";
    let at = Micros(1_700_000_000_000_004);
    let params = [true.into(), "a".into(), 4i64.into(), at.into(), Day(4).into(), Param::Null];
    let rows = snapshot.rows(sql, &params).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].int("part").unwrap(), 4);
    assert!(rows[0].text("part").is_err() && rows[0].int("nothing").is_err());
    let missing = snapshot.sql(sql, &[]).await.unwrap_err();
    assert!(missing.is_user_error(), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_queries_are_answered() {
    let (store, snapshot) = filled().await;
    let path = store.dir.path().join("out.csv");
    let refused = [
        "create table t as select 1".to_owned(),
        "create external table t stored as csv location '/etc/passwd'".to_owned(),
        "create view v as select 1".to_owned(),
        "drop table things".to_owned(),
        "insert into things select * from things".to_owned(),
        "insert into model values ('x', 1, 1, 1)".to_owned(),
        "delete from things".to_owned(),
        "update things set part = 1".to_owned(),
        format!("copy things to '{}'", path.display()),
        format!("explain analyze copy things to '{}'", path.display()),
        "set datafusion.execution.batch_size = 1".to_owned(),
        "prepare p as select 1".to_owned(),
        "begin".to_owned(),
        "select 1; drop table things".to_owned(),
        "select * from '/etc/passwd'".to_owned(),
        "select * from \"file:///etc/passwd\"".to_owned(),
        "select * from read_csv('/etc/passwd')".to_owned(),
        "selec 1".to_owned(),
        "select nothing from things".to_owned(),
        "select * from nowhere".to_owned(),
        String::new(),
    ];
    for sql in refused {
        let error = snapshot.sql(&sql, &[]).await.unwrap_err();
        assert!(error.is_user_error(), "{sql}: {error:?}");
    }
    assert!(!path.exists());
    for sql in [
        "select 1",
        "with t as (select 1 as a) select * from t",
        "values (1), (2)",
        "explain select * from things",
        "show tables",
        "show columns from things",
        "describe things",
        "select THINGS.ID from Things",
        "select table_name, column_name, unit from information_schema.columns c join flowsync_columns using (table_name, column_name)",
        "select kind, weight, spread, prior from model",
        "select doc from flowsync_tables where table_name = 'things'",
        "select now()",
    ] {
        let answer = snapshot.sql(sql, &[]).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        assert!(answer.row_count() > 0 && answer.epoch == Epoch(7), "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_limit_names_itself() {
    let limit = |error: QueryError, name: &str| {
        assert!(error.is_limit() && error.to_string().contains(name), "{name}: {error:?}");
    };
    let big = "select count(distinct a.value * 1000000 + b.value) from generate_series(1, 100000) a, generate_series(1, 100000) b";
    let (_store, snapshot) = filled_with(EngineOptions { rows_max: 99, ..Default::default() }).await;
    limit(snapshot.sql("select * from things", &[]).await.unwrap_err(), "rows_max");
    assert_eq!(snapshot.sql("select * from things limit 99", &[]).await.unwrap().row_count(), 99);
    let (_store, snapshot) = filled_with(EngineOptions { memory_bytes_max: 4 << 20, ..Default::default() }).await;
    limit(snapshot.sql(big, &[]).await.unwrap_err(), "memory_bytes_max");
    let (_store, snapshot) =
        filled_with(EngineOptions { time_max: Duration::from_millis(200), ..Default::default() }).await;
    limit(snapshot.sql(big, &[]).await.unwrap_err(), "time_max");
    let (_store, snapshot) = filled_with(EngineOptions { sql_bytes_max: 10, ..Default::default() }).await;
    limit(snapshot.sql("select 1000000", &[]).await.unwrap_err(), "sql_bytes_max");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_overwhelm_the_parser_is_refused() {
    let (_store, snapshot) = filled_with(EngineOptions::default()).await;
    let chain = |n: usize, part: &str| format!("select 1{}", part.repeat(n));
    let cases = |n: usize| format!("select {}1{}", "case when 1 = 1 then ".repeat(n), " end".repeat(n));
    for (sql, name) in [
        (chain(100_000, "+1"), "sql_words_max"),
        (chain(50_000, "::int"), "sql_words_max"),
        (chain(80_000, "[1]"), "sql_words_max"),
        (cases(40), "sql_cases_max"),
    ] {
        let error = snapshot.sql(&sql, &[]).await.unwrap_err();
        assert!(error.is_limit() && error.to_string().contains(name), "{name}: {error}");
    }
    // As long as is allowed.
    snapshot.sql(&cases(12), &[]).await.unwrap();
    for part in ["+1", "::int", " or 1 = 1", " || 'a'"] {
        let words = if part == "+1" || part.starts_with(" ||") { 1 } else { 2 };
        let _ = snapshot.sql(&chain(1_190 / words, part), &[]).await;
    }
    let list: Vec<String> = (0..5_000).map(|n| format!("'{n}'")).collect();
    snapshot.sql(&format!("select * from things where part in ({})", list.join(", ")), &[]).await.unwrap();
    // In quotes and comments nothing counts.
    snapshot.sql(&format!("select '{}' -- {}", "case ".repeat(50), "case ".repeat(50)), &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn any_words_get_an_answer_or_an_error() {
    const WORDS: &[&str] = &[
        "select",
        "*",
        "from",
        "things",
        "where",
        "(",
        ")",
        ",",
        "1",
        "'a'",
        "part",
        "and",
        "or",
        "not",
        "in",
        "between",
        "case",
        "when",
        "then",
        "else",
        "end",
        "group by",
        "order by",
        "limit",
        "with",
        "as",
        "x",
        "join",
        "on",
        "=",
        "<",
        "+",
        "-",
        "[",
        "]",
        "::",
        "int",
        "null",
        "is",
        "union",
        "all",
        "over",
        "partition by",
        "count(*)",
        "$1",
        "\"",
        "'",
        "--",
        "/*",
        "*/",
        ";",
        "interval '1 day'",
        "exists",
        "lateral",
        "recursive",
        "values",
        "array",
    ];
    let options = EngineOptions { time_max: std::time::Duration::from_secs(5), ..Default::default() };
    let (_store, snapshot) = filled_with(options).await;
    let mut rng = fastrand::Rng::with_seed(1);
    for n in 0..3_000 {
        let mut sql = String::from(if rng.bool() { "select " } else { "" });
        for _ in 0..rng.usize(0..40) {
            sql.push_str(WORDS[rng.usize(0..WORDS.len())]);
            sql.push(' ');
        }
        if let Err(error) = snapshot.sql(&sql, &[]).await {
            assert!(!error.to_string().is_empty(), "statement {n}: {sql}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn epochs_are_named_by_number_and_by_time() {
    let mut store = Store::new();
    for epoch in [10, 20, 30] {
        let rows: Vec<Row> = (0..epoch).map(|part| thing(Some("a"), part as i64, "")).collect();
        store.commit(epoch, &[(&THINGS.table, rows)]).await;
    }
    let engine = store.engine();
    let count = |as_of: AsOf| {
        let engine = engine.clone();
        async move {
            let snapshot = engine.snapshot(as_of).await?;
            let rows = snapshot.rows("select count(*) as n from things", &[]).await?;
            rows[0].int("n")
        }
    };
    for (as_of, expected) in [("newest", 30), ("20", 20), ("10", 10), ("1970-01-01T00:00:25Z", 20), ("1970-01-02", 30)]
    {
        assert_eq!(count(as_of.parse().unwrap()).await.unwrap(), expected, "{as_of}");
    }
    let error = count(AsOf::Epoch(Epoch(25))).await.unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains("20 and 30"), "{error}");
    assert!(count(AsOf::Time(Micros(1))).await.unwrap_err().is_not_found());
    assert!("soon".parse::<AsOf>().unwrap_err().is_user_error());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_directory_has_empty_tables_and_no_directory_is_an_error() {
    let store = Store::new();
    let snapshot = store.engine().snapshot(AsOf::Newest).await.unwrap();
    assert_eq!(snapshot.epoch(), Epoch(0));
    assert_eq!(snapshot.rows("select * from things, fact_tickets", &[]).await.unwrap(), []);
    let model = flowsync_schemas::model::Model::shipped();
    let nowhere = store.dir.path().join("nowhere");
    let error = crate::Engine::open(&nowhere, vec![], &model, EngineOptions::default()).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_gone_is_named() {
    let (store, snapshot) = filled().await;
    let dir = store.dir.path().join("tables/things");
    let files = std::fs::read_dir(dir).unwrap().filter_map(|f| Some(f.ok()?.path()));
    let file = files.into_iter().find(|f| f.extension().is_some_and(|e| e == "parquet")).unwrap();
    std::fs::remove_file(&file).unwrap();
    let error = snapshot.sql("select * from things", &[]).await.unwrap_err();
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(matches!(error, QueryError::Data(_)) && error.to_string().contains(name), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_at_which_its_reader_panics_is_told() {
    let mut store = Store::new();
    for epoch in 1..=4 {
        store.commit(epoch, &[(&THINGS.table, vec![thing(Some("a"), epoch as i64, "")])]).await;
    }
    let log = std::fs::read_dir(store.dir.path().join("tables/things/_delta_log")).unwrap();
    let mut log = log.map(|entry| entry.unwrap().path());
    let checkpoint = log.find(|path| path.extension().is_some_and(|end| end == "parquet")).unwrap();
    let bytes = std::fs::read(&checkpoint).unwrap();
    let mut panics = 0;
    // Headers of pages; that of the first column is among them.
    for bit in 0..8 * 32 {
        let mut altered = bytes.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&checkpoint, altered).unwrap();
        let snapshot = store.engine().snapshot(AsOf::Newest).await.unwrap();
        let Err(error) = snapshot.sql("select * from things", &[]).await else { continue };
        let text = error.to_string();
        assert!(text.contains("things"), "bit {bit}: {text}");
        let panicked = text.contains("its Delta log panicked");
        panics += usize::from(panicked && matches!(error, QueryError::Data(_)));
    }
    assert!(panics > 0, "no bit made the reader panic");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_holds_every_kind() {
    let (_store, snapshot) = filled().await;
    let answer = snapshot.sql("select * from things where part < 2 order by part", &[]).await.unwrap();
    let text = |f| String::from_utf8(format::write(f, &answer).unwrap()).unwrap();
    assert!(text(Format::Table).contains("| it's, \"x\" |"));
    assert_eq!(
        text(Format::Csv).lines().nth(1).unwrap(),
        "true,a,0,\"it's, \"\"x\"\"\",2023-11-14T22:13:20Z,1970-01-01"
    );
    let json: serde_json::Value = serde_json::from_str(&text(Format::Json)).unwrap();
    assert_eq!(json[1]["day"], "1970-01-02");
    assert_eq!(text(Format::Ndjson).lines().count(), 2);
    let ipc = format::write(Format::Arrow, &answer).unwrap();
    let read = arrow::ipc::reader::StreamReader::try_new(ipc.as_slice(), None).unwrap();
    assert_eq!(read.map(|b| b.unwrap().num_rows()).sum::<usize>(), 2);
    let parquet = bytes::Bytes::from(format::write(Format::Parquet, &answer).unwrap());
    let read = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(parquet).unwrap();
    assert_eq!(read.metadata().file_metadata().num_rows(), 2);
    // Text leaves as Utf8, which every client reads.
    assert_eq!(answer.schema.field(1).data_type(), &arrow::datatypes::DataType::Utf8);
    let empty = snapshot.sql("select part from things where part < 0", &[]).await.unwrap();
    let text = |f| String::from_utf8(format::write(f, &empty).unwrap()).unwrap();
    assert_eq!((text(Format::Csv).trim(), text(Format::Json).trim(), text(Format::Ndjson).trim()), ("part", "[]", ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn why_leads_from_a_row_to_its_signals_facts_and_bytes() {
    let id = SignalId(0xabc);
    let signal = fact::SignalFact {
        signal: id,
        source: "manual".into(),
        channel: Channel::ManualUserReport,
        verified_by: "api-token".into(),
        received_at: Micros(5),
        log_partition: 0,
        log_offset: 41,
        body_bytes: 3,
        fact_count: 1,
        reject_count: 0,
    };
    let setting = fact::SettingFact { name: "a,b".into(), key: "".into(), value: "1".into(), deleted: false };
    let body = fact::FactBody::Setting(setting);
    let setting = fact::Fact { signal: id, seq: 1, at: Micros(5), body };
    let mut store = Store::new();
    store.commit(1, &[(&fact::SIGNALS, vec![signal.into_row()])]).await;
    let engine = store.engine();
    let settings = change("fact_settings", &[], &[setting.into_row()]);
    engine.overlay().apply(delta(1, 2, vec![settings, change("things", &[], &[thing(Some("a,b"), 1, "x")])]));
    let snapshot = engine.snapshot(AsOf::Newest).await.unwrap();
    let mut why = snapshot.why("things", "a\\,b,1").await.unwrap();
    assert_eq!((why.row["note"].as_str(), why.signals_total, why.reasons.len()), (Some("x"), 1, 1));
    let found = &why.signals[0];
    assert_eq!((found.signal, found.position), (id, LogPosition { partition: 0, offset: 41 }));
    assert_eq!((found.facts[0].table, found.facts[0].fact["value"].as_str()), ("fact_settings", Some("1")));
    why.attach(
        &(std::sync::Arc::new(move |at: LogPosition| {
            (at.offset == 41).then(|| flowsync_schemas::Signal {
                id,
                source: "manual".to_owned(),
                delivery: String::new(),
                occurred_at: None,
                received_at: Micros(5),
                channel: Channel::ManualUserReport,
                verified_by: "api-token".to_owned(),
                headers: vec![],
                body: vec![0xff, 1, 2],
            })
        }) as crate::SignalReader),
    );
    assert_eq!(why.signals[0].delivery.as_ref().unwrap()["body"], "/wEC");
    assert!(snapshot.why("things", "a,1").await.unwrap_err().is_not_found());
    assert!(snapshot.why("nothing", "a").await.unwrap_err().is_not_found());
}
