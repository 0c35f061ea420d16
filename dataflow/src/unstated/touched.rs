//! Files: what the commits of a pull request touch; what the stated commits of a ticket touched before, and those of tickets
//! connected with it.
//!
//! Only what is stated counts: an inferred link that made others likelier would support itself. Each file leads to the
//! ticket from the hour of the commit on, for the span of that hour and [`super::TOUCHED_BACK`] more, so that no change sees what
//! came after it.

use std::collections::{BTreeMap, BTreeSet};

use differential_dataflow::Hashable;
use flowsync_schemas::{
    EntityId, EntityKind, Text,
    fact::{CommitFact, EdgeKind, EvidenceKind},
};

use super::{TOUCHED_HOURS, Told, Work, hour, key};
use crate::{
    cx::Cx,
    ops::{Arranged, ByKey, Coll, Version, id, left_join, reduce, semijoin},
};

/// Paths of one change that are looked at: as many as connectors keep.
pub const PATHS: usize = 8;
/// Names of files of a pull request that are looked at.
pub const WORDS_MAX: usize = 96;
/// A ticket with more neighbours has none: everything would be near everything.
pub const NEIGHBOURS_MAX: usize = 24;

/// A key of the index, and the hour from which on it leads to a ticket.
type Touch = (u64, i64);

/// Whether evidence of this kind says which ticket a change is for, and not just of one.
pub(crate) fn names(kind: EvidenceKind) -> bool {
    use EvidenceKind::*;
    match kind {
        BranchKey | CommitKey | TitleKey | TolerantKey | ClosingKey | ViaPullRequest | ViaCommit | CherryPick
        | TrackerLink | ManualReport | Confirmed => true,
        BodyKey | NumberKey | Revert | Rejected => false,
        TextSimilarity | FileOverlap | AuthorIsAssignee | TimeProximity | Competition => false,
    }
}

/// The hour in which a commit was there.
fn commit_hour(version: &Version<impl std::ops::Deref<Target = CommitFact>>) -> i64 {
    hour(version.value.committed_at.or(version.value.authored_at).unwrap_or(version.at))
}

/// Tickets that commits state, and from which hour on at the earliest: a pull request may name its ticket later than its
/// commits were made.
fn stated<'s>(cx: &mut Cx<'s>) -> Arranged<'s, EntityId, (EntityId, i64)> {
    let said = cx.stated_evidence().flat_map_ref(|(commit, ticket, kind), (_, at, artifact, ..)| {
        let from = match kind {
            EvidenceKind::Rejected => None,
            EvidenceKind::ViaPullRequest => Some(hour(*at)),
            kind if names(*kind) => Some(i64::MIN),
            _ => return None,
        };
        (*artifact == EntityKind::Commit).then_some((*commit, (*ticket, from)))
    });
    reduce(said, "TicketsOfCommit", |_, said, out| {
        let mut earliest = BTreeMap::new();
        // Values come sorted: what is rejected comes first.
        for ((ticket, from), _) in said {
            earliest.entry(*ticket).or_insert(*from);
        }
        out.extend(earliest.into_iter().filter_map(|(ticket, from)| Some(((ticket, from?), 1))));
    })
}

/// A ticket by one that it is connected with.
type Pair = (EntityId, EntityId);

/// Tickets that their tracker connects, in both directions.
fn neighbours<'s>(cx: &mut Cx<'s>) -> Arranged<'s, EntityId, EntityId> {
    let parents = cx
        .tickets()
        .flat_map_ref(|ticket, v| v.value.parent_key.as_ref().map(|parent| (id(EntityKind::Ticket, parent), *ticket)));
    let related = cx.relations().flat_map(|v| {
        let r = &v.value;
        let connects = matches!(r.edge, EdgeKind::LinkedTo | EdgeKind::PartOf)
            && (r.src_kind, r.dst_kind) == (EntityKind::Ticket, EntityKind::Ticket);
        connects.then(|| (id(r.dst_kind, &r.dst_id), id(r.src_kind, &r.src_id)))
    });
    // As both are called now: trackers relate tickets by ids of their own.
    let named = |pairs: Coll<'s, Pair>, cx: &mut Cx<'s>| {
        left_join(pairs, cx.ticket_names(), |one, other, now| {
            [(*other, now.map_or(*one, |(_, key)| id(EntityKind::Ticket, key)))]
        })
    };
    let pairs = named(parents.consolidate_stream().concat(related), cx);
    let pairs = named(pairs, cx);
    let pairs = pairs.flat_map(|(one, other)| if one == other { vec![] } else { vec![(one, other), (other, one)] });
    // Whom too many would tell, and who would tell too many.
    few(few(pairs).as_collection(|one, other| (*other, *one)))
}

/// The pairs of those that are in few.
fn few<'s>(pairs: Coll<'s, Pair>) -> Arranged<'s, EntityId, EntityId> {
    reduce(pairs, "Few", |_, others: &[(&EntityId, isize)], out| {
        if others.len() <= NEIGHBOURS_MAX {
            out.extend(others.iter().map(|(other, _)| (**other, 1)));
        }
    })
}

/// Keys of files, by the tickets that they lead to.
pub(super) fn touched<'s>(cx: &mut Cx<'s>) -> Coll<'s, (EntityId, Touch)> {
    let touches = stated(cx).join_core(cx.commits(), |_, (ticket, from), (version, _)| {
        let (ticket, hour) = (*ticket, commit_hour(version).max(*from));
        let span = hour.div_euclid(TOUCHED_HOURS);
        let paths: Vec<_> = paths(&version.value.paths).map(|path| (ticket, (key("path", path, span), hour))).collect();
        paths
    });
    // How often a ticket's commits touched a file in one span does not matter.
    let own = reduce(touches, "Touched", |_, touches: &[(&Touch, isize)], out| {
        let mut earliest = BTreeMap::new();
        for ((key, hour), _) in touches {
            earliest.entry(*key).or_insert(*hour);
        }
        out.extend(earliest.into_iter().map(|touch| (touch, 1)));
    });
    let theirs = own.clone().join_core(neighbours(cx), |_, touch, neighbour| [(*neighbour, *touch)]);
    own.as_collection(|ticket, touch| (*ticket, *touch)).concat(theirs)
}

/// The paths of a commit.
pub(super) fn paths(paths: &str) -> impl Iterator<Item = u64> {
    paths.split(' ').filter(|path| !path.is_empty()).take(PATHS).map(|path| path.hashed())
}

/// What the commits of a pull request touch, by names and paths, and the hour of the first.
pub(super) type Files = (Text, Text, i64);

/// What the commits of these pull requests touch.
pub(super) fn files_of_pulls<'s>(cx: &mut Cx<'s>, raw: &Arranged<'s, EntityId, Told>) -> Arranged<'s, EntityId, Files> {
    let pulls = raw.clone().flat_map_ref(|id, (_, _, work)| matches!(work, Work::Pull(_)).then_some(*id));
    let parts = cx.parts().map(|(commit, _, pull)| (id(EntityKind::PullRequest, &pull), commit));
    let parts = semijoin(parts, pulls);
    let files =
        parts.map(|(pull, commit)| (commit, pull)).by_key().join_core(cx.commit_versions(), |_, pull, version| {
            let c = &version.value;
            let told = !c.deleted && (!c.file_words.is_empty() || !c.paths.is_empty());
            told.then(|| (*pull, (c.file_words.clone(), c.paths.clone(), commit_hour(version))))
        });
    reduce(files, "FilesOfPulls", |_, files: &[(&Files, isize)], out| {
        let all = |of: fn(&Files) -> &Text, most| {
            let all: BTreeSet<&str> = files.iter().flat_map(|(files, _)| of(files).split(' ')).collect();
            let all: Vec<&str> = all.into_iter().filter(|one| !one.is_empty()).take(most).collect();
            Text::from(all.join(" "))
        };
        let first = files.iter().map(|(files, _)| files.2).min().unwrap_or_default();
        out.push(((all(|f| &f.0, WORDS_MAX), all(|f| &f.1, PATHS), first), 1));
    })
}
