//! Tickets, as changes are compared with them, under the keys that lead to them.

use std::{collections::BTreeSet, rc::Rc, sync::Arc};

use differential_dataflow::operators::CountTotal;
use flowsync_schemas::{
    EntityId, Micros, PersonId, Text,
    fact::{Progress, TicketFact},
    model::Unstated,
};
use serde::{Deserialize, Serialize};

use super::{OWN_HOURS, SPAN_HOURS, SPANS_TOGETHER, TICKETS_MAX, Word, apart, hashed, hour, key, touched, words};
use crate::{
    cx::Cx,
    ops::{Arranged, Coll, Shared, Version, antijoin, by_self, reduce},
};

/// Which ticket: what is told of one that is a candidate. By key, which decides between candidates of one rank.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Named {
    /// Its key.
    pub key: Text,
    /// Its id.
    pub id: EntityId,
    /// Its project.
    pub project: Text,
}

/// A ticket, as changes are compared with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ticket {
    /// Which; first, so that comparing two tickets ends there.
    pub(super) named: Shared<Named>,
    pub(super) words: Vec<Word>,
    /// Information of all words.
    pub(super) information: i64,
    pub(super) assignee: Option<PersonId>,
    pub(super) reporter: Option<PersonId>,
    pub(super) created_hour: i64,
    pub(super) resolved_hour: Option<i64>,
    /// Since when it stood where; empty where its tracker did not tell from the beginning.
    pub(super) course: Vec<(Micros, Progress)>,
}

impl Ticket {
    /// Of all versions, sorted by age.
    fn new<'a>(
        model: &Unstated,
        id: EntityId,
        versions: impl Iterator<Item = &'a Version<Arc<TicketFact>>> + Clone,
    ) -> Option<Self> {
        let t = &versions.clone().last().filter(|last| !last.value.deleted)?.value;
        let created_hour = hour(t.created_at?);
        // No ticket is born done. What was first told later may be the last of several versions: that nothing came after it
        // is more than was known at the time of the work.
        let told =
            |first: &Version<Arc<TicketFact>>| hour(first.at) <= created_hour && first.value.progress != Progress::Done;
        let told = versions.clone().next().is_some_and(told);
        let mut course: Vec<_> = versions.filter(|_| told).map(|v| (v.at, v.value.progress)).collect();
        course.dedup_by_key(|(_, progress)| *progress);
        let words = hashed(words(model, &t.words));
        Some(Self {
            named: Shared::new(Named { key: t.ticket_key.clone(), id, project: t.project.clone() }),
            information: words.iter().map(|w| w.1).sum(),
            words,
            assignee: t.assignee,
            reporter: t.reporter,
            created_hour,
            resolved_hour: t.resolved_at.map(hour),
            course,
        })
    }

    /// The span in which it was created.
    pub(super) fn span(&self) -> i64 {
        self.created_hour.div_euclid(SPAN_HOURS)
    }

    /// Where it stood at a time, in the words of [`flowsync_schemas::fact::Feature::Progress`].
    pub(super) fn stood(&self, at: Micros) -> i64 {
        let until = &self.course[..self.course.partition_point(|(since, _)| *since <= at)];
        match until.last() {
            None => 0,
            Some((_, Progress::InProgress | Progress::Blocked)) => 3,
            Some(_) if until.iter().any(|(_, progress)| *progress != Progress::Todo) => 2,
            Some(_) => 1,
        }
    }
}

/// A ticket under a key, behind what tells it [`apart`]. Where a touched file leads to it, since which hour; else [`ALWAYS`].
pub(super) type Posting = (u64, Shared<Ticket>, i64);

/// The hour of what leads to a ticket at any time.
pub(super) const ALWAYS: i64 = i64::MIN;

/// Tickets by their ids.
fn tickets<'s>(cx: &mut Cx<'s>, model: &Rc<Unstated>) -> Arranged<'s, EntityId, Shared<Ticket>> {
    let model = Rc::clone(model);
    // Most new versions change nothing that is looked at here.
    reduce(cx.ticket_versions(), "TicketsToCompare", move |id, versions, out| {
        let ticket = Ticket::new(&model, *id, versions.iter().map(|(version, _)| *version));
        out.extend(ticket.map(|ticket| (Shared::new(ticket), 1)));
    })
}

/// Tickets under the keys that lead to them, where these do not lead to too many: of a word in each span by itself.
pub(super) fn postings<'s>(cx: &mut Cx<'s>, model: &Rc<Unstated>) -> Coll<'s, (u64, Posting)> {
    let tickets = tickets(cx, model);
    let named = tickets.clone().flat_map_ref(|id, ticket| {
        let (span, own) = (ticket.span(), ticket.created_hour.div_euclid(OWN_HOURS));
        let persons: BTreeSet<_> = [ticket.assignee, ticket.reporter].into_iter().flatten().collect();
        let persons = persons.into_iter().map(|person| key("person", person, own)).map(|key| (key, key));
        let block = span.div_euclid(SPANS_TOGETHER);
        let words = ticket.words.iter().map(|(word, _)| (key("word", word, span), key("word", word, block)));
        let keys: Vec<(u64, u64)> = words.chain(persons).collect();
        let (id, ticket) = (apart(*id), ticket.clone());
        keys.into_iter().map(move |(crowd, key)| (crowd, (key, (id, ticket.clone(), ALWAYS))))
    });
    let touched = touched::touched(cx)
        .join_core(tickets, |id, (key, hour), ticket| [(*key, (*key, (apart(*id), ticket.clone(), *hour)))]);
    let posted = named.concat(touched);
    let crowded = by_self(posted.clone().map(|(key, _)| key));
    let crowded = crowded.count_total().flat_map(|(key, n)| (n as i64 > TICKETS_MAX).then_some(key));
    antijoin(posted, crowded).map(|(_, posting)| posting)
}
