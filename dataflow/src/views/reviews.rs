//! Who reviewed which pull request, and with what verdict?
//!
//! Grain: one row a review. Key: `review`. Inputs: review facts. Keeps I3: the latest version holds.

use std::sync::Arc;

use flowsync_schemas::{
    Birth, EntityId, EntityKind, Micros, PersonId, Record, SignalId, TableSpec, Text, ViewSpec, fact::ReviewFact,
};

use crate::{
    cx::Cx,
    ops::{Arranged, Version, id, latest},
};

/// The view.
pub static VIEW: ViewSpec = ViewSpec {
    table: TableSpec {
        name: "reviews",
        version: 1,
        key: &["review"],
        columns: || ReviewRow::COLUMNS.to_vec(),
        birth: Birth::Dated("submitted_at"),
        doc: "Reviews of pull requests; one row a review.",
    },
    oracle: "
        with versions as (
            select *, row_number() over (partition by review order by at desc, signal desc, seq desc) as age
            from fact_reviews
        )
        select review, pull_request, reviewer, state, submitted_at, signal
        from versions where age = 1 and not deleted",
    why: "select signal, at, state, deleted from fact_reviews where review = $1 order by at",
};

/// One review.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Record)]
pub struct ReviewRow {
    /// Native id.
    pub review: Text,
    /// The pull request, `owner/repo#number`.
    pub pull_request: Text,
    /// Who reviewed, by pseudonym.
    pub reviewer: Option<PersonId>,
    /// Verdict as the host names it.
    pub state: Text,
    /// When it was submitted.
    pub submitted_at: Option<Micros>,
    /// The signal that states this version.
    pub signal: SignalId,
}

/// The latest undeleted versions.
pub fn define<'s>(cx: &mut Cx<'s>) -> Arranged<'s, EntityId, Version<Arc<ReviewFact>>> {
    let versions = cx.facts.reviews.clone().map(|v| (id(EntityKind::Review, &v.value.review), v));
    latest(versions, |v| v.deleted)
}

/// Installs the view.
pub fn install(cx: &mut Cx<'_>) {
    let rows = cx.reviews().as_collection(|_, v| {
        let r = ReviewFact::clone(&v.value);
        ReviewRow {
            review: r.review,
            pull_request: r.pull_request,
            reviewer: r.reviewer,
            state: r.state,
            submitted_at: r.submitted_at,
            signal: v.signal,
        }
    });
    cx.emit(&VIEW.table, rows);
}
