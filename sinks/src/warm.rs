//! Rows of the files that were written last, as columns: what work touches now it touches again, so the next commit finds the
//! rows of most files that it rewrites here, and does not read them back.
//!
//! Files are immutable and every attempt has names of its own, so what is held under a name is never stale (I2), whatever
//! becomes of the attempt. Beyond its limit what was written earliest goes (I9).
//!
//! Must not know: tables, places, epochs.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use arrow::record_batch::RecordBatch;

/// See the module.
#[derive(Debug)]
pub(crate) struct Warm {
    bytes_max: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    files: HashMap<String, RecordBatch>,
    /// Names in the order in which they came; of some the rows have been taken.
    came: VecDeque<String>,
}

impl Warm {
    /// With nothing in it.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, held: Mutex::default() }
    }

    /// Holds the rows of a file that was written.
    pub fn keep(&self, file: &str, rows: RecordBatch) {
        self.change(|held| {
            let bytes = rows.get_array_memory_size();
            held.remove(file);
            held.bytes += bytes;
            held.files.insert(file.to_owned(), rows);
            held.came.push_back(file.to_owned());
            while held.bytes > self.bytes_max
                && let Some(first) = held.came.pop_front()
            {
                held.remove(&first);
            }
        });
    }

    /// The rows of a file that is about to be rewritten, where they are held. They are no longer.
    pub fn take(&self, file: &str) -> Option<RecordBatch> {
        self.change(|held| held.remove(file))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Held) -> T) -> T {
        // A change that panics has lost rows at most: they are read.
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut held);
        // Not many more names than files.
        if held.came.len() > 2 * held.files.len() + 16 {
            let Held { files, came, .. } = &mut *held;
            came.retain(|name| files.contains_key(name));
        }
        metrics::gauge!("flowsync_sink_warm_bytes").set(held.bytes as f64);
        changed
    }
}

impl Held {
    fn remove(&mut self, file: &str) -> Option<RecordBatch> {
        let rows = self.files.remove(file)?;
        self.bytes -= rows.get_array_memory_size();
        Some(rows)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{arrow::Shape, tests::specs};

    #[test]
    fn what_came_first_goes_first_and_the_limit_holds() {
        let shape = Shape::new(&specs::EVENTS).unwrap();
        let batch = shape.to_batch(&[&specs::event("a", 1, 5)]).unwrap();
        let one = batch.get_array_memory_size();
        let warm = Warm::new(3 * one);
        for at in 0..1_000 {
            warm.keep(&format!("file {at}"), batch.clone());
            let held = warm.held.lock().unwrap();
            assert!(held.bytes <= 3 * one && held.came.len() <= 3, "{held:?}");
        }
        assert_eq!(warm.take("file 996"), None);
        for at in 997..1_000 {
            assert_eq!(warm.take(&format!("file {at}")), Some(batch.clone()));
            assert_eq!(warm.take(&format!("file {at}")), None, "it was taken");
        }
        for at in 0..1_000 {
            warm.keep(&format!("file {at}"), batch.clone());
            warm.keep(&format!("file {at}"), batch.clone());
            warm.take(&format!("file {at}"));
        }
        let held = warm.held.lock().unwrap();
        assert!(held.bytes == 0 && held.files.is_empty() && held.came.len() < 20, "{held:?}");

        let nothing = Warm::new(0);
        nothing.keep("file", batch);
        assert_eq!(nothing.take("file"), None);
    }
}
