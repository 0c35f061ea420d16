//! What arrives for an arrangement waits until its epoch closes, and is sorted then, in one go.
//!
//! ```text
//!  updates ─► chunks that wait ─► dealt out by rank ─► each part sorted, equal updates added up ─► a batch
//! ```
//!
//! Differential's own batcher merges chunks as they come, each update once for every doubling. Keys are hashes here, so where an
//! update belongs can be reckoned: it is moved once to its part, which fits into a near cache and is sorted there, and the
//! parts follow each other in order.

use differential_dataflow::{
    Data,
    logging::Logger,
    trace::{Batcher, Description},
};
use timely::{
    container::{ContainerBuilder, PushInto},
    progress::{Antichain, Timestamp, frontier::AntichainRef},
};

use super::{
    batch::{Diff, Update},
    seek::Ranked,
};

/// Bytes of updates that are sorted at once, about; without what they point to.
const PART_BYTES: usize = 1 << 18;
/// Parts that updates are dealt out to at a time, as a power of two: the processor remembers not many more pages.
const PARTS_BITS_MAX: u32 = 11;
/// Bytes of updates that wait as they came. Beyond, equal ones are added up before they are sealed (I9).
pub const WAITING_BYTES: usize = 16 << 20;
/// Updates up to which updates are sorted as they are.
const SORTED_DIRECTLY: usize = 20;

/// Gathers the small containers of a stream into chunks. Of a stream of keys alone it makes updates without values.
pub struct Gathering<K, V, R> {
    open: Vec<Update<K, V, R>>,
    given: Vec<Update<K, V, R>>,
}

impl<K, V, R> Default for Gathering<K, V, R> {
    fn default() -> Self {
        Self { open: Vec::new(), given: Vec::new() }
    }
}

impl<K, V, R> Gathering<K, V, R> {
    fn is_full(&self) -> bool {
        self.open.len() * size_of::<Update<K, V, R>>() >= PART_BYTES
    }

    fn give(&mut self) -> Option<&mut Vec<Update<K, V, R>>> {
        self.given = std::mem::take(&mut self.open);
        (!self.given.is_empty()).then_some(&mut self.given)
    }
}

impl<'a, K, V, R> PushInto<&'a mut Vec<Update<K, V, R>>> for Gathering<K, V, R> {
    fn push_into(&mut self, updates: &'a mut Vec<Update<K, V, R>>) {
        self.open.append(updates);
    }
}

impl<'a, K, R> PushInto<&'a mut Vec<(K, u64, R)>> for Gathering<K, (), R> {
    fn push_into(&mut self, updates: &'a mut Vec<(K, u64, R)>) {
        self.open.extend(updates.drain(..).map(|(key, time, diff)| ((key, ()), time, diff)));
    }
}

impl<K: Data, V: Data, R: Data> ContainerBuilder for Gathering<K, V, R> {
    type Container = Vec<Update<K, V, R>>;

    fn extract(&mut self) -> Option<&mut Self::Container> {
        if self.is_full() { self.give() } else { None }
    }

    fn finish(&mut self) -> Option<&mut Self::Container> {
        self.give()
    }
}

/// Updates that wait until their epoch closes.
pub struct Sorting<K, V, R> {
    waiting: Vec<Vec<Update<K, V, R>>>,
    /// How many they are.
    pub count: usize,
    /// From how many on they are added up.
    limit: usize,
    /// Everything before was sealed.
    lower: Antichain<u64>,
    /// The first time that waits.
    frontier: Antichain<u64>,
}

impl<K: Data + Ranked, V: Data, R: Diff> Sorting<K, V, R> {
    const LIMIT_MIN: usize = WAITING_BYTES / size_of::<Update<K, V, R>>();

    /// Adds up what waits.
    fn add_up(&mut self) {
        let before = self.count;
        self.waiting = sorted(std::mem::take(&mut self.waiting), |_| true, &mut Vec::new());
        self.count = self.waiting.iter().map(Vec::len).sum();
        // Where little comes of it, it is not worth doing often.
        let growth = if self.count > before / 4 * 3 { 4 } else { 2 };
        self.limit = Self::LIMIT_MIN.max(growth * self.count);
    }
}

impl<K: Data + Ranked, V: Data, R: Diff> PushInto<Vec<Update<K, V, R>>> for Sorting<K, V, R> {
    fn push_into(&mut self, chunk: Vec<Update<K, V, R>>) {
        self.count += chunk.len();
        self.waiting.push(chunk);
        if self.count > self.limit {
            self.add_up();
        }
    }
}

impl<K: Data + Ranked, V: Data, R: Diff> Batcher for Sorting<K, V, R> {
    type Output = Vec<Update<K, V, R>>;
    type Time = u64;

    fn new(_: Option<Logger>, _: usize) -> Self {
        let (lower, frontier) = (Antichain::from_elem(u64::minimum()), Antichain::new());
        Self { waiting: Vec::new(), count: 0, limit: Self::LIMIT_MIN, lower, frontier }
    }

    fn seal(&mut self, upper: Antichain<u64>) -> (Vec<Self::Output>, Description<u64>) {
        let mut later = Vec::new();
        let sealed = sorted(std::mem::take(&mut self.waiting), |time| !upper.less_equal(time), &mut later);
        (self.count, self.limit) = (later.len(), Self::LIMIT_MIN.max(2 * later.len()));
        self.frontier = later.iter().map(|(_, time, _)| *time).min().into_iter().collect();
        self.waiting.extend((!later.is_empty()).then_some(later));
        let since = Antichain::from_elem(u64::minimum());
        (sealed, Description::new(std::mem::replace(&mut self.lower, upper.clone()), upper, since))
    }

    fn frontier(&mut self) -> AntichainRef<'_, u64> {
        self.frontier.borrow()
    }
}

/// Those of the updates whose time is wanted, in order, each there once; `others` takes the rest.
fn sorted<K: Data + Ranked, V: Data, R: Diff>(
    mut chunks: Vec<Vec<Update<K, V, R>>>,
    wanted: impl Fn(&u64) -> bool,
    others: &mut Vec<Update<K, V, R>>,
) -> Vec<Vec<Update<K, V, R>>> {
    let count: usize = chunks.iter().map(Vec::len).sum();
    let parts_wanted = count * size_of::<Update<K, V, R>>() / PART_BYTES;
    let bits = (parts_wanted + 1).next_power_of_two().ilog2().min(PARTS_BITS_MAX);
    let mut parts = match chunks.pop() {
        Some(mut only) if bits == 0 && chunks.is_empty() => {
            others.extend(only.extract_if(.., |(_, time, _)| !wanted(time)));
            vec![only]
        }
        last => {
            // Hashes are spread evenly: few parts outgrow this.
            let room = (count >> bits) + (count >> bits >> 4) + 16;
            let mut parts: Vec<Vec<_>> = (0..1 << bits).map(|_| Vec::with_capacity(room)).collect();
            // Shifted twice, for no number is shifted by all of its bits: of no bits there is one part.
            for update in chunks.into_iter().chain(last).flatten() {
                let ((key, _), time, _) = &update;
                let part =
                    if wanted(time) { &mut parts[(key.rank() >> 1 >> (63 - bits)) as usize] } else { &mut *others };
                part.push(update);
            }
            parts
        }
    };
    for part in &mut parts {
        settle(part);
        if part.len() < part.capacity() / 2 {
            part.shrink_to_fit();
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// Sorts updates and adds up those that are the same.
fn settle<K: Data + Ranked, V: Data, R: Diff>(updates: &mut Vec<Update<K, V, R>>) {
    if updates.len() <= SORTED_DIRECTLY {
        updates.sort_unstable_by(|(a, s, _), (b, t, _)| (a, s).cmp(&(b, t)));
    } else {
        by_rank(updates);
        let runs = updates.chunk_by_mut(|((a, _), ..), ((b, _), ..)| a.rank() == b.rank());
        runs.filter(|run| run.len() > 1)
            .for_each(|run| run.sort_unstable_by(|(a, s, _), (b, t, _)| (a, s).cmp(&(b, t))));
    }
    add_up_equal(updates);
}

/// Sorts by the ranks of keys alone, and moves each update to its place. Ranks are dealt out to as many slots as there are updates, or
/// up to twice as many: of ranks that are spread evenly, few meet in a slot and have to be compared.
fn by_rank<K: Ranked, V, R>(updates: &mut [Update<K, V, R>]) {
    let ranks: Vec<u64> = updates.iter().map(|((key, _), ..)| key.rank()).collect();
    let (least, most) = ranks.iter().fold((u64::MAX, 0), |(least, most), rank| (least.min(*rank), most.max(*rank)));
    let bits = u64::BITS - (most - least).leading_zeros();
    let shift = bits.saturating_sub(updates.len().ilog2() + 1);
    let slot = |rank: u64| ((rank - least) >> shift) as usize;
    // Where the slots begin; and where they end, once everything is dealt out.
    let mut ends = vec![0; slot(most) + 2];
    ranks.iter().for_each(|rank| ends[slot(*rank) + 1] += 1);
    (1..ends.len()).for_each(|at| ends[at] += ends[at - 1]);
    let mut order = vec![0; updates.len()];
    for (at, rank) in ranks.iter().enumerate() {
        let end = &mut ends[slot(*rank)];
        order[*end] = at;
        *end += 1;
    }
    let mut start = 0;
    for end in ends.into_iter().take(slot(most) + 1) {
        order[start..end].sort_unstable_by_key(|at| ranks[*at]);
        start = end;
    }
    for first in 0..order.len() {
        let mut at = first;
        // Follows a circle of places, and marks each as done.
        loop {
            let from = std::mem::replace(&mut order[at], at);
            if from == first {
                break;
            }
            updates.swap(at, from);
            at = from;
        }
    }
}

/// Adds up neighbours that are the same, and leaves out what comes to nothing.
fn add_up_equal<K: Data + Ranked, V: Data, R: Diff>(updates: &mut Vec<Update<K, V, R>>) {
    let mut kept = 0;
    for at in 1..updates.len() {
        let (before, rest) = updates.split_at_mut(at);
        let (last, next) = (&mut before[kept], &rest[0]);
        if last.0 == next.0 && last.1 == next.1 {
            last.2.plus_equals(&next.2);
        } else {
            kept += usize::from(!last.2.is_zero());
            updates.swap(kept, at);
        }
    }
    let some = updates.get(kept).is_some_and(|(.., diff)| !diff.is_zero());
    updates.truncate(kept + usize::from(some));
}
