//! The catalogue of views and connectors is generated; this fails when it is stale. `FLOWSYNC_BLESS=1` writes it.

use flowsync_dataflow::views;
use flowsync_ingest::connectors;
use flowsync_schemas::fact::base_tables;

#[test]
fn the_catalogue_is_current() {
    let views: Vec<_> = views::ALL.iter().map(|v| v.spec).collect();
    let base: Vec<_> = base_tables().collect();
    let connectors: Vec<_> = connectors::ALL.iter().map(|c| c.spec()).collect();
    let current = flowsync_query::catalogue::markdown(&views, &base, &connectors);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/catalogue.md");
    if std::env::var_os("FLOWSYNC_BLESS").is_some() {
        std::fs::write(path, &current).expect("the catalogue can be written");
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(kept == current, "deploy/docs/catalogue.md is stale: run this test with FLOWSYNC_BLESS=1");
}
