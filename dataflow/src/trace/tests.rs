//! Joins, reductions and counts over these arrangements against the same over differential's own: the same changes at every epoch.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use differential_dataflow::{
    VecCollection,
    consolidation::consolidate_updates,
    input::{Input, InputSession},
    operators::CountTotal,
    trace::{
        Batch as _, BatchReader, Batcher, Builder, Cursor, Description, Merger, Navigable,
        implementations::{ValBuilder, ValSpine},
    },
};
use proptest::prelude::*;
use timely::{
    container::{ContainerBuilder, PushInto},
    dataflow::operators::probe::Handle,
    progress::Antichain,
};

use super::*;

/// A hash, as keys are, and something behind it.
type Key = (u64, u8);
type Val = (u8, [u64; 4]);

/// An epoch: rows of the left and of the right side that come or go.
type Changes = Vec<(bool, Key, Val, isize)>;

fn key() -> impl Strategy<Value = Key> {
    // Some keys meet often, some once; of some the hashes are alike.
    let hash = prop_oneof![
        (0u64..24).prop_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        any::<u64>(),
        (0u64..8).prop_map(|n| n << 3),
    ];
    (hash, 0u8..2)
}

fn epochs() -> impl Strategy<Value = Vec<Changes>> {
    let row = (
        any::<bool>(),
        key(),
        (0u8..4).prop_map(|v| (v, [u64::from(v); 4])),
        prop::sample::select(vec![1, 1, 1, -1, 2, -2]),
    );
    prop::collection::vec(prop::collection::vec(row, 0..60), 1..40)
}

/// What came out: by what and epoch, what was added up.
type Out = Arc<Mutex<BTreeMap<(&'static str, u64, String), isize>>>;

fn told<'s, D: std::fmt::Debug + Clone + 'static>(
    all: VecCollection<'s, u64, D>,
    what: &'static str,
    out: &Out,
    probe: &Handle<u64>,
) {
    let out = Arc::clone(out);
    let all = all.inspect(move |(row, time, diff)| {
        *out.lock().unwrap().entry((what, *time, format!("{row:?}"))).or_default() += diff;
    });
    let _ = all.probe_with(probe);
}

type Side = InputSession<u64, (Key, Val), isize>;

fn feed(epochs: &[Changes], left: &mut Side, right: &mut Side, step: &mut dyn FnMut(u64)) {
    for (time, epoch) in (0u64..).zip(epochs) {
        for (on_left, key, val, diff) in epoch {
            if *on_left { &mut *left } else { &mut *right }.update((*key, *val), *diff);
        }
        left.advance_to(time + 1);
        left.flush();
        right.advance_to(time + 1);
        right.flush();
        // Several epochs are inside at a time.
        step(time.saturating_sub(2));
    }
}

macro_rules! run {
    ($epochs:expr, $arrange:expr, $builder:ty, $spine:ty) => {{
        let out = Out::default();
        let (epochs, told_to) = ($epochs.clone(), Arc::clone(&out));
        timely::execute_directly(move |worker| {
            let probe = Handle::new();
            let (mut left, mut right) = worker.dataflow::<u64, _, _>(|scope| {
                let (left_in, left) = scope.new_collection::<(Key, Val), isize>();
                let (right_in, right) = scope.new_collection::<(Key, Val), isize>();
                let arrange = $arrange;
                let (left, right) = (arrange(left), arrange(right));
                let joined = left.clone().join_core(right.clone(), |key, l, r| [(*key, *l, *r)]);
                told(joined, "joined", &told_to, &probe);
                let reduced = right.reduce_abelian::<_, $builder, $spine, _, _>(
                    "Reduced",
                    |_, values, out| out.extend(values.iter().map(|(value, n)| ((**value, *n), 1))),
                    |batch, key, values| {
                        batch.clear();
                        batch.extend(values.drain(..).map(|(value, time, diff)| ((*key, value), time, diff)));
                    },
                );
                told(reduced.clone().as_collection(|key, value| (*key, *value)), "reduced", &told_to, &probe);
                let both = left.join_core(reduced, |key, l, (r, n)| [(*key, *l, *r, *n)]);
                told(both, "joined with reduced", &told_to, &probe);
                (left_in, right_in)
            });
            feed(&epochs, &mut left, &mut right, &mut |time| worker.step_while(|| probe.less_than(&time)));
        });
        out.lock().unwrap().retain(|_, n| *n != 0);
        Arc::into_inner(out).unwrap().into_inner().unwrap()
    }};
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn joins_and_reductions_change_as_over_differentials_own(epochs in epochs()) {
        let ours = run!(epochs, |all| arrange(all, "Ours"), RankedBuilder<_, _, _>, RankedSpine<Key, (Val, isize), isize>);
        let theirs = run!(
            epochs,
            VecCollection::arrange_by_key,
            ValBuilder<_, _, _, _>,
            ValSpine<Key, (Val, isize), u64, isize>
        );
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn counts_change_as_over_differentials_own(epochs in epochs()) {
        let (ours, theirs) = (Out::default(), Out::default());
        let told_to = [Arc::clone(&ours), Arc::clone(&theirs)];
        timely::execute_directly(move |worker| {
            let probe = Handle::new();
            let (mut left, mut right) = worker.dataflow::<u64, _, _>(|scope| {
                let (left_in, left) = scope.new_collection::<(Key, Val), isize>();
                let (right_in, right) = scope.new_collection::<(Key, Val), isize>();
                let keys = left.concat(right).map(|(key, _)| key);
                told(arrange(keys.clone().map(|key| (key, ())), "Ours").count_total(), "counts", &told_to[0], &probe);
                told(keys.count_total(), "counts", &told_to[1], &probe);
                (left_in, right_in)
            });
            feed(&epochs, &mut left, &mut right, &mut |time| worker.step_while(|| probe.less_than(&time)));
        });
        ours.lock().unwrap().retain(|_, n| *n != 0);
        theirs.lock().unwrap().retain(|_, n| *n != 0);
        prop_assert_eq!(&*ours.lock().unwrap(), &*theirs.lock().unwrap());
    }
}

type Batch = RankedBatch<Key, Val, isize>;
type Updates = Vec<Update<Key, Val, isize>>;

/// Updates of times from `lower` on, as one batch.
fn batch(updates: Updates, lower: u64, upper: u64) -> Batch {
    let frontier = Antichain::from_elem;
    let mut sorting = Sorting::new(None, 0);
    sorting.push_into(updates);
    let (mut chain, _) = sorting.seal(frontier(upper));
    batch::Building::seal(&mut chain, Description::new(frontier(lower), frontier(upper), frontier(0)))
}

/// What a reader finds in a batch.
fn read(batch: &Batch) -> Updates {
    let rows = batch.cursor().to_vec(batch, |key| *key, |val| *val);
    rows.into_iter().flat_map(|(row, times)| times.into_iter().map(move |(time, diff)| (row, time, diff))).collect()
}

fn updates(times: std::ops::Range<u64>) -> impl Strategy<Value = Updates> {
    let val = (0u8..4).prop_map(|v| (v, [u64::from(v); 4]));
    prop::collection::vec(((key(), val), times, prop::sample::select(vec![1, 1, -1, 2])), 0..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_merge_in_any_steps_holds_what_is_left_of_both(one in updates(0..9), other in updates(9..20), since in 0u64..24, fuel in 1isize..50) {
        let (a, b) = (batch(one.clone(), 0, 9), batch(other.clone(), 9, 20));
        let right = |mut all: Updates, since: u64| {
            all.iter_mut().for_each(|(_, time, _)| *time = (*time).max(since));
            consolidate_updates(&mut all);
            all
        };
        prop_assert_eq!(read(&a), right(one.clone(), 0));
        let mut merge = a.begin_merge(&b, Antichain::from_elem(since).borrow());
        for step in 0.. {
            let mut left = fuel;
            merge.work(&a, &b, &mut left);
            if left > 0 {
                break;
            }
            prop_assert!(step < 1_000, "a merge comes to its end");
        }
        let merged = merge.done();
        prop_assert_eq!((merged.lower().clone(), merged.upper().clone()), (Antichain::from_elem(0), Antichain::from_elem(20)));
        prop_assert_eq!(read(&merged), right([one, other].concat(), since));
        // Every key is found from wherever a reader stands, and nothing else is.
        for (at, key) in merged.columns.keys.iter().enumerate() {
            let mut cursor = merged.cursor();
            (0..at / 2).for_each(|_| cursor.step_key(&merged));
            cursor.seek_key(&merged, key);
            prop_assert_eq!(cursor.get_key(&merged), Some(key));
            prop_assert!(cursor.get_val(&merged).is_some());
        }
    }

    #[test]
    fn what_is_sealed_is_sorted_and_each_there_once(all in updates(0..6), copies in 1usize..400, upper in 1u64..7, spread in any::<bool>()) {
        // Up to hundreds of thousands: more than wait unsorted, and more than go into one part. Of some the ranks are alike.
        let copy = |n: u64| all.iter().map(move |((key, val), time, diff)| {
            let rank = if spread { key.0 ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15) } else { key.0 % 3 };
            (((rank, key.1), (val.0, [n % 7; 4])), *time, *diff)
        });
        let many: Updates = (0..copies as u64).flat_map(copy).collect();
        let mut gathering = Gathering::default();
        let mut sorting = Sorting::new(None, 0);
        for part in many.chunks(1_000) {
            gathering.push_into(&mut part.to_vec());
            while let Some(chunk) = gathering.extract() {
                sorting.push_into(std::mem::take(chunk));
            }
        }
        while let Some(chunk) = gathering.finish() {
            sorting.push_into(std::mem::take(chunk));
        }
        let right = |from: u64, to: u64| {
            let mut of: Updates = many.iter().filter(|(_, time, _)| (from..to).contains(time)).copied().collect();
            consolidate_updates(&mut of);
            of
        };
        let first = many.iter().map(|(_, time, _)| *time).filter(|time| *time >= upper).min();
        for (from, to, left) in [(0, upper, first), (upper, 9, None)] {
            let (chunks, description) = sorting.seal(Antichain::from_elem(to));
            prop_assert_eq!(description.lower(), &Antichain::from_elem(from));
            prop_assert_eq!(description.upper(), &Antichain::from_elem(to));
            let sealed = chunks.concat();
            prop_assert!(sealed.is_sorted_by(|(a, s, _), (b, t, _)| (a, s) < (b, t)));
            let mut sealed = sealed;
            consolidate_updates(&mut sealed);
            prop_assert_eq!(sealed, right(from, to));
            prop_assert_eq!(sorting.frontier().to_owned(), left.into_iter().collect::<Antichain<_>>());
        }
    }
}

#[test]
fn what_comes_to_nothing_takes_no_room() {
    // Twice as much as waits unsorted, added and taken back, over and over; and something that stays.
    let many = 2 * (sort::WAITING_BYTES / size_of::<Update<Key, Val, isize>>()) as u64;
    let mut sorting = Sorting::new(None, 0);
    for (round, diff) in [1, -1].into_iter().cycle().take(12).enumerate() {
        let row = |n: u64| (((n.wrapping_mul(0x9e37_79b9_7f4a_7c15), 0), (0, [0; 4])), 3, diff);
        sorting.push_into((0..many).map(row).collect::<Updates>());
        sorting.push_into(vec![(((7, 1), (0, [0; 4])), round as u64, 1)]);
        assert!(sorting.count as u64 <= 5 * many + 12, "{} wait", sorting.count);
    }
    let (sealed, _) = sorting.seal(Antichain::new());
    assert_eq!(sealed.concat(), (0..12).map(|round| (((7, 1), (0, [0; 4])), round, 1)).collect::<Updates>());
}
