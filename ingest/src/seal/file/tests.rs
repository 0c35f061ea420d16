#![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]

use std::os::unix::fs::PermissionsExt;

use super::*;

fn writer(folder: &Path) -> Keys {
    Keys::open(folder, Source::Own, true).unwrap()
}

fn reader(folder: &Path) -> Result<Keys, SealError> {
    Keys::open(folder, Source::Own, false)
}

fn key(keys: &Keys, index: u64) -> Result<Secret, SealError> {
    keys.walk(Purpose::Records).key(index)
}

fn destroy(keys: &Keys, range: Range<u64>) {
    keys.destroy(&[(Purpose::Records, vec![range])]).unwrap();
}

#[test]
fn keys_are_made_once_private_and_the_same_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let before = reader(dir.path()).unwrap();
    assert!(matches!(key(&before, 3), Err(SealError::Missing { .. })));
    assert!(!before.is_destroyed(Purpose::Records, 3), "nothing is destroyed where nothing was");
    let first = writer(dir.path());
    let known = key(&first, 3).unwrap();
    before.refresh().unwrap();
    assert_eq!(key(&before, 3).unwrap(), known);
    assert_eq!(key(&writer(dir.path()), 3).unwrap(), known);
    for name in ["ring", "master.key"] {
        assert_eq!(dir.path().join(name).metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    let names = first.walk(Purpose::Names).key(3).unwrap();
    assert_ne!(names, known, "each purpose has its own");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn a_destroyed_key_stays_destroyed_and_readers_beside_the_writer_see_it() {
    let dir = tempfile::tempdir().unwrap();
    let (keys, beside) = (writer(dir.path()), reader(dir.path()).unwrap());
    let mut walk = keys.walk(Purpose::Records);
    let (old, kept) = (walk.key(5).unwrap(), walk.key(6).unwrap());
    assert_eq!(key(&beside, 5).unwrap(), old);
    destroy(&keys, 5..6);
    assert_eq!(keys.generation(), 2);
    assert!(walk.key(5).unwrap_err().is_destroyed(), "a walk that was under way has nothing left of it");
    assert_eq!(walk.key(6).unwrap(), kept);
    beside.refresh().unwrap();
    for keys in [&beside, &writer(dir.path()), &reader(dir.path()).unwrap()] {
        assert!(key(keys, 5).unwrap_err().is_destroyed() && keys.is_destroyed(Purpose::Records, 5));
        assert_eq!((key(keys, 6).unwrap(), keys.destroyed(Purpose::Records)), (kept.clone(), vec![5..6]));
        assert_eq!((keys.destroyed_end(Purpose::Records), keys.destroyed_end(Purpose::Names)), (6, 0));
    }
    destroy(&keys, 5..6);
    assert_eq!(keys.generation(), 2, "destroying again changes nothing");
    assert!(matches!(beside.destroy(&[]), Err(SealError::ReadOnly { .. })));
}

#[test]
fn two_writers_of_one_process_lose_nothing_of_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (writer(dir.path()), writer(dir.path()));
    destroy(&one, 1..2);
    destroy(&two, 3..4);
    destroy(&one, 5..6);
    assert_eq!(writer(dir.path()).destroyed(Purpose::Records), [1..2, 3..4, 5..6]);
}

#[test]
fn a_wrong_master_key_a_missing_one_and_a_damaged_ring_are_named() {
    let dir = tempfile::tempdir().unwrap();
    drop(writer(dir.path()));
    let (ring, master) = (dir.path().join("ring"), dir.path().join("master.key"));
    let good = fs::read(&ring).unwrap();
    let right = fs::read(&master).unwrap();
    fs::write(&master, [9; 32]).unwrap();
    let error = reader(dir.path()).unwrap_err();
    assert!(error.is_other_master() && error.to_string().contains("master.key"), "{error}");
    assert!(Keys::open(dir.path(), Source::Own, true).unwrap_err().is_other_master(), "and nothing is made anew");
    let given = Source::Given { key: MasterKey::new([3; 32]), from: "FLOWSYNC_MASTER_KEY".into() };
    let error = Keys::open(dir.path(), given, false).unwrap_err();
    assert!(error.to_string().contains("than FLOWSYNC_MASTER_KEY"), "{error}");
    fs::remove_file(&master).unwrap();
    let error = Keys::open(dir.path(), Source::Own, true).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
    fs::write(&master, &right[..31]).unwrap();
    assert!(reader(dir.path()).unwrap_err().to_string().contains("31 bytes"));
    fs::write(&master, right).unwrap();
    let mut bad = good.clone();
    bad[100] ^= 1;
    fs::write(&ring, bad).unwrap();
    let error = reader(dir.path()).unwrap_err();
    assert!(error.is_damaged() && error.to_string().contains("ring"), "{error}");
    fs::write(&ring, good).unwrap();
    reader(dir.path()).unwrap();
}

#[test]
fn rotation_leaves_one_of_both_keys_that_opens_the_ring_at_each_step() {
    for steps in 0..=3 {
        let dir = tempfile::tempdir().unwrap();
        let keys = writer(dir.path());
        destroy(&keys, 0..9);
        let known = key(&keys, 77).unwrap();
        let old_master = fs::read(own(dir.path())).unwrap();
        // As far as the process comes.
        let master = (steps > 0).then(|| keys.rotation_begins().unwrap());
        if let Some(master) = master.filter(|_| steps > 1) {
            keys.write(keys.state().ring.as_ref().unwrap(), &master).unwrap();
        }
        if steps > 2 {
            finish_rotation(dir.path(), Found::New).unwrap();
        }
        drop(keys);
        assert_eq!(key(&reader(dir.path()).unwrap(), 77).unwrap(), known, "a reader, {steps} steps");
        let next = writer(dir.path());
        assert_eq!((key(&next, 77).unwrap(), next.destroyed_end(Purpose::Records)), (known.clone(), 9));
        assert!(!new(dir.path()).exists(), "one key is left");
        assert_eq!(fs::read(own(dir.path())).unwrap() == old_master, steps < 2);
        next.rotate_master().unwrap();
        destroy(&next, 0..10);
        assert_eq!(key(&writer(dir.path()), 77).unwrap(), known);
        let old = Source::Given { key: MasterKey::new(old_master.try_into().unwrap()), from: "the old one".into() };
        assert!(Keys::open(dir.path(), old, false).unwrap_err().is_other_master());
    }
}

#[test]
fn a_master_key_from_outside_is_never_written_and_changed_by_giving_both() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (MasterKey::new([1; 32]), MasterKey::new([2; 32]));
    let open = |key: &MasterKey| {
        Keys::open(dir.path(), Source::Given { key: key.clone(), from: "FLOWSYNC_MASTER_KEY".into() }, true)
    };
    let keys = open(&old).unwrap();
    let known = key(&keys, 1).unwrap();
    assert!(!own(dir.path()).exists());
    let error = keys.rotate_master().unwrap_err();
    assert!(error.to_string().contains("FLOWSYNC_MASTER_KEY"), "{error}");
    for _ in 0..2 {
        Keys::reseal(dir.path(), &old, &new).unwrap();
        assert!(open(&old).unwrap_err().is_other_master());
        assert_eq!(key(&open(&new).unwrap(), 1).unwrap(), known);
    }
    assert!(keys.destroy(&[(Purpose::Records, vec![0..1])]).is_err(), "who has the old one changes nothing any more");
    assert!(Keys::reseal(dir.path(), &MasterKey::new([5; 32]), &old).unwrap_err().is_other_master());
}

#[test]
fn a_ring_beyond_its_limit_is_refused_and_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let keys = writer(dir.path());
    let scattered = (0..SEEDS_MAX as u64 / 30).map(|n| n << 40..(n << 40) + 1).collect();
    let error = keys.destroy(&[(Purpose::Records, scattered)]).unwrap_err();
    assert!(matches!(error, SealError::Full { .. }), "{error}");
    assert_eq!((keys.generation(), keys.destroyed(Purpose::Records)), (1, vec![]));
}
