//! What arrives for an arrangement is sorted by the megabyte.
//!
//! Differential's own chunker sorts eight kilobytes, a few dozen updates, and its batcher merges those chunks, each update once for
//! every doubling. Here a merge begins with what fits into a near cache; wide updates are moved once, after their ranks are sorted.

use std::collections::VecDeque;

use differential_dataflow::Data;
use timely::container::{ContainerBuilder, PushInto};

use super::{
    batch::{Diff, Update},
    seek::Ranked,
};

/// Bytes of updates that are sorted at once, at most; without what they point to.
const SORTED_BYTES_MAX: usize = 1 << 20;
/// Updates up to which, and bytes of an update up to which, updates are sorted as they are.
const SORTED_DIRECTLY: (usize, usize) = (20, 32);

/// Sorts updates as they arrive, and adds up those that are the same.
pub struct Sorting<K, V, R> {
    pending: Vec<Update<K, V, R>>,
    ready: VecDeque<Vec<Update<K, V, R>>>,
    given: Vec<Update<K, V, R>>,
}

impl<K, V, R> Default for Sorting<K, V, R> {
    fn default() -> Self {
        Self { pending: Vec::new(), ready: VecDeque::new(), given: Vec::new() }
    }
}

impl<K: Data + Ranked, V: Data, R: Diff> Sorting<K, V, R> {
    /// Updates that are sorted at once, at most.
    const SORTED_MAX: usize = {
        let fit = SORTED_BYTES_MAX / size_of::<Update<K, V, R>>();
        if fit < SORTED_DIRECTLY.0 { SORTED_DIRECTLY.0 } else { fit }
    };

    fn give(&mut self) -> Option<&mut Vec<Update<K, V, R>>> {
        self.given = self.ready.pop_front()?;
        Some(&mut self.given)
    }
}

impl<'a, K: Data + Ranked, V: Data, R: Diff> PushInto<&'a mut Vec<Update<K, V, R>>> for Sorting<K, V, R> {
    fn push_into(&mut self, updates: &'a mut Vec<Update<K, V, R>>) {
        self.pending.append(updates);
        if self.pending.len() >= Self::SORTED_MAX {
            settle(&mut self.pending);
            // Where much was added up, there is room for more.
            if self.pending.len() > Self::SORTED_MAX / 2 {
                self.ready.push_back(std::mem::take(&mut self.pending));
            }
        }
    }
}

impl<K: Data + Ranked, V: Data, R: Diff> ContainerBuilder for Sorting<K, V, R> {
    type Container = Vec<Update<K, V, R>>;

    fn extract(&mut self) -> Option<&mut Self::Container> {
        self.give()
    }

    fn finish(&mut self) -> Option<&mut Self::Container> {
        settle(&mut self.pending);
        if !self.pending.is_empty() {
            self.ready.push_back(std::mem::take(&mut self.pending));
        }
        self.give()
    }
}

/// Sorts updates and adds up those that are the same.
fn settle<K: Data + Ranked, V: Data, R: Diff>(updates: &mut Vec<Update<K, V, R>>) {
    if updates.len() <= SORTED_DIRECTLY.0 || size_of::<Update<K, V, R>>() <= SORTED_DIRECTLY.1 {
        updates.sort_unstable_by(|(a, s, _), (b, t, _)| (a, s).cmp(&(b, t)));
    } else {
        by_rank(updates);
        let runs = updates.chunk_by_mut(|((a, _), ..), ((b, _), ..)| a.rank() == b.rank());
        runs.filter(|run| run.len() > 1)
            .for_each(|run| run.sort_unstable_by(|(a, s, _), (b, t, _)| (a, s).cmp(&(b, t))));
    }
    add_up(updates);
}

/// Sorts by the ranks of keys alone, and moves each update to its place.
fn by_rank<K: Ranked, V, R>(updates: &mut [Update<K, V, R>]) {
    let mut order: Vec<(u64, usize)> = updates.iter().zip(0..).map(|(((key, _), ..), at)| (key.rank(), at)).collect();
    order.sort_unstable();
    for first in 0..order.len() {
        let mut at = first;
        // Follows a circle of places, and marks each as done.
        loop {
            let from = std::mem::replace(&mut order[at].1, at);
            if from == first {
                break;
            }
            updates.swap(at, from);
            at = from;
        }
    }
}

/// Adds up neighbours that are the same, and leaves out what comes to nothing.
fn add_up<K: Data + Ranked, V: Data, R: Diff>(updates: &mut Vec<Update<K, V, R>>) {
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
