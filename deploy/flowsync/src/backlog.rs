//! Closed epochs on their way to the committer.
//!
//! Bounded by what they hold, not by how many they are (I9): under a light load epochs are small and many, and a commit
//! that takes a second must not hold back the publisher, behind whom live feed and SQL wait.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use flowsync_schemas::EpochDelta;

#[derive(Default)]
struct State {
    waiting: VecDeque<Arc<EpochDelta>>,
    rows: usize,
    /// The other side has gone.
    closed: bool,
}

struct Shared {
    rows_max: usize,
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Queue and sum change together, under the lock: a panic elsewhere leaves them whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}

/// The way in.
pub struct Publish(Arc<Shared>);

/// The way out.
pub struct Waiting(Arc<Shared>);

/// What [`Waiting::next`] came to.
pub enum Next {
    /// The oldest epoch.
    Delta(Arc<EpochDelta>),
    /// None in time.
    Timeout,
    /// None any more.
    End,
}

/// A backlog that takes epochs until they hold `rows_max` changed rows. One epoch always fits.
pub fn bounded(rows_max: usize) -> (Publish, Waiting) {
    let shared = Arc::new(Shared { rows_max, state: Mutex::default(), changed: Condvar::new() });
    (Publish(shared.clone()), Waiting(shared))
}

fn rows_of(delta: &EpochDelta) -> usize {
    // An epoch without rows counts as well: it takes room.
    1 + delta.changes.iter().map(|change| change.rows.len()).sum::<usize>()
}

impl Publish {
    /// Adds an epoch; waits for room. False where nobody takes epochs any more.
    pub fn send(&self, delta: Arc<EpochDelta>) -> bool {
        let rows = rows_of(&delta);
        let mut state = self.0.lock();
        while !state.closed && state.rows > 0 && state.rows + rows > self.0.rows_max {
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return false;
        }
        state.rows += rows;
        state.waiting.push_back(delta);
        drop(state);
        self.0.changed.notify_all();
        true
    }
}

impl Waiting {
    /// The oldest epoch; waits at most `wait` for one.
    pub fn next(&self, wait: Duration) -> Next {
        let until = Instant::now() + wait;
        let mut state = self.0.lock();
        loop {
            if let Some(delta) = state.waiting.pop_front() {
                state.rows -= rows_of(&delta);
                drop(state);
                self.0.changed.notify_all();
                return Next::Delta(delta);
            }
            let left = until.saturating_duration_since(Instant::now());
            match (state.closed, left.is_zero()) {
                (true, _) => return Next::End,
                (_, true) => return Next::Timeout,
                _ => state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            }
        }
    }

    /// The oldest epoch, however long it takes; `None` where none comes any more.
    pub fn wait(&self) -> Option<Arc<EpochDelta>> {
        loop {
            match self.next(Duration::from_secs(60)) {
                Next::Delta(delta) => return Some(delta),
                Next::Timeout => {}
                Next::End => return None,
            }
        }
    }
}

impl Drop for Publish {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use flowsync_schemas::{Epoch, TableChange};

    use super::*;

    fn delta(upper: u64, rows: usize) -> Arc<EpochDelta> {
        let rows = (0..rows).map(|_| (Default::default(), 1)).collect();
        let changes = vec![TableChange { table: "t", rows }];
        Arc::new(EpochDelta {
            lower: Epoch(upper - 1),
            upper: Epoch(upper),
            positions: vec![],
            changes,
            ..Default::default()
        })
    }

    fn upper(next: Next) -> Option<u64> {
        match next {
            Next::Delta(delta) => Some(delta.upper.0),
            Next::Timeout | Next::End => None,
        }
    }

    #[test]
    fn many_small_epochs_wait_and_one_large_one_always_fits() {
        let (publish, waiting) = bounded(1_000);
        assert!(publish.send(delta(1, 5_000)));
        assert_eq!(upper(waiting.next(Duration::ZERO)), Some(1));
        for at in 2..=300 {
            assert!(publish.send(delta(at, 1)));
        }
        for at in 2..=300 {
            assert_eq!(upper(waiting.next(Duration::ZERO)), Some(at));
        }
        assert!(matches!(waiting.next(Duration::ZERO), Next::Timeout));
        drop(publish);
        assert!(matches!(waiting.next(Duration::from_secs(60)), Next::End));
    }

    #[test]
    fn a_full_backlog_holds_the_sender_until_there_is_room_or_nobody_left() {
        let (publish, waiting) = bounded(10);
        assert!(publish.send(delta(1, 9)));
        let sender = std::thread::spawn(move || (publish.send(delta(2, 9)), publish.send(delta(3, 9))));
        assert_eq!(upper(waiting.next(Duration::from_secs(60))), Some(1));
        assert_eq!(upper(waiting.next(Duration::from_secs(60))), Some(2));
        assert_eq!(upper(waiting.next(Duration::from_secs(60))), Some(3));
        assert_eq!(sender.join().ok(), Some((true, true)));

        let (publish, waiting) = bounded(10);
        assert!(publish.send(delta(1, 9)));
        let sender = std::thread::spawn(move || publish.send(delta(2, 9)));
        drop(waiting);
        assert_eq!(sender.join().ok(), Some(false));
    }
}
