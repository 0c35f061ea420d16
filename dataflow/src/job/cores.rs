//! Each worker on a core of its own, where there is one for each (decision 16).
//!
//! In every epoch workers wait for each other and wake each other dozens of times. A scheduler takes that for one task that
//! moves between threads, and brings them together on one core, where the other one stays as long as something else keeps its
//! own core busy: a commit, for two seconds.

/// Keeps this thread, the worker of this index, to its core. Nothing where there are fewer workers than cores, or more: then the
/// scheduler knows better. `None` where it is not kept to one.
#[cfg(target_os = "linux")]
pub fn keep_to_one(worker: usize, workers: usize) -> Option<usize> {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    let ours = sched_getaffinity(None).ok()?;
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| ours.is_set(*core)).collect();
    let core = *cores.get(worker).filter(|_| cores.len() == workers)?;
    let mut own = CpuSet::new();
    own.set(core);
    sched_setaffinity(None, &own).ok().map(|()| core)
}

/// Keeps this thread to its core, where the system lets it: here it does not.
#[cfg(not(target_os = "linux"))]
pub fn keep_to_one(_worker: usize, _workers: usize) -> Option<usize> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::thread;

    use rustix::thread::{CpuSet, sched_getaffinity};

    use super::*;

    #[test]
    fn as_many_workers_as_cores_have_one_each_and_others_have_all() {
        let all = sched_getaffinity(None).unwrap();
        let count = all.count() as usize;
        let kept = |worker, workers| {
            thread::spawn(move || (keep_to_one(worker, workers), sched_getaffinity(None).unwrap())).join().unwrap()
        };
        let mut together = CpuSet::new();
        for worker in 0..count {
            let (core, own) = kept(worker, count);
            assert_eq!((own.count(), own.is_set(core.unwrap())), (1, true));
            together.set(core.unwrap());
        }
        assert_eq!(together, all);
        assert_eq!(kept(0, count + 1), (None, all));
        assert_eq!(kept(count, count), (None, all));
    }
}
