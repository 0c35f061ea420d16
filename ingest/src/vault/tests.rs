#![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]

use super::*;
use crate::{log::withdraw_tests::holding, seal::Source};

fn claim(person: u128, name: &str, account: &str) -> NameClaim {
    NameClaim { person: PersonId(person), name: name.into(), account: account.into() }
}

#[test]
fn names_are_stored_once_and_read_beside_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open(dir.path(), Keys::fixed()).unwrap();
    let ada = claim(1, "Ada L.", "ada@example.org");
    vault.insert(&[ada.clone(), ada.clone()]).unwrap();
    vault.insert(std::slice::from_ref(&ada)).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join(FILE)).unwrap().lines().count(), 1);
    let reader = Names::read(dir.path(), &Keys::fixed()).unwrap();
    assert_eq!(reader.name(PersonId(1)), Some("Ada L."));
    assert_eq!(reader.name(PersonId(2)), None);
    assert_eq!(reader, vault.names());
    assert_eq!(Names::read(&dir.path().join("nowhere"), &Keys::fixed()).unwrap(), Names::default());
}

#[test]
fn the_name_shown_does_not_depend_on_the_order_of_claims() {
    let claims = [
        claim(1, "ada@example.org", "ada@example.org"),
        claim(1, "ada", "github:ada"),
        claim(1, "Ada Lovelace-King", "ada@example.org"),
        claim(1, "Ada Lovelace", "ada@example.org"),
        claim(1, "Ada", "slack:U1"),
    ];
    for start in 0..claims.len() {
        let mut names = Names::default();
        claims.iter().cycle().skip(start).take(claims.len()).for_each(|c| names.add(c.clone()));
        assert_eq!(names.name(PersonId(1)), Some("Ada Lovelace"));
        assert_eq!(names.all().collect::<Vec<_>>(), [(PersonId(1), "Ada Lovelace")]);
    }
    let mut lonely = Names::default();
    lonely.add(claims[1].clone());
    assert_eq!(lonely.name(PersonId(1)), Some("ada"), "an account is better than nothing");
}

#[test]
fn a_torn_last_line_is_passed_over_by_readers_and_cut_off_by_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    Vault::open(dir.path(), Keys::fixed())
        .unwrap()
        .insert(&[claim(1, "Ada", "a:1"), claim(2, "Grace", "a:2")])
        .unwrap();
    let file = dir.path().join(FILE);
    let whole = fs::read(&file).unwrap();
    for cut in 0..whole.len() {
        fs::write(&file, &whole[..cut]).unwrap();
        let kept = whole[..cut].iter().filter(|b| **b == b'\n').count();
        assert_eq!(Names::read(dir.path(), &Keys::fixed()).unwrap().all().count(), kept);
        let vault = Vault::open(dir.path(), Keys::fixed()).unwrap();
        vault.insert(&[claim(1, "Ada", "a:1"), claim(2, "Grace", "a:2")]).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 2);
        assert_eq!(Names::read(dir.path(), &Keys::fixed()).unwrap(), vault.names());
        assert_eq!(next(&vault), 2, "numbers of lines that were cut off are used again");
    }
}

#[test]
fn hostile_names_are_cut_and_stay_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open(dir.path(), Keys::fixed()).unwrap();
    let long = "é".repeat(100_000);
    vault.insert(&[claim(1, "A\nB \"C\"", "x:y"), claim(2, &long, "x:z")]).unwrap();
    vault.insert(&[claim(2, &long, "x:z")]).unwrap();
    assert!(fs::metadata(dir.path().join(FILE)).unwrap().len() < 2000);
    let names = Names::read(dir.path(), &Keys::fixed()).unwrap();
    assert_eq!(names.name(PersonId(1)), Some("A\nB \"C\""));
    assert_eq!(names.name(PersonId(2)).unwrap().chars().count(), TEXT_BYTES_MAX / 2);
}

fn next(vault: &Vault) -> u64 {
    lock(&vault.state).next
}

fn keys(dir: &Path) -> Arc<Keys> {
    let folder = dir.join("keys");
    fs::create_dir_all(&folder).unwrap();
    Arc::new(Keys::open(&folder, Source::Own, true).unwrap())
}

#[test]
fn an_erased_person_is_gone_from_every_copy_and_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, keys) = (dir.path().join("vault"), keys(dir.path()));
    let vault = Vault::open(&folder, keys.clone()).unwrap();
    let claims =
        [claim(1, "Ada", "a:1"), claim(2, "Grace", "a:2"), claim(1, "Ada L", "ada@x"), claim(3, "Edsger", "a:3")];
    claims.iter().for_each(|claim| vault.insert(std::slice::from_ref(claim)).unwrap());
    let before = fs::read(folder.join(FILE)).unwrap();
    assert_eq!(vault.erase(&[PersonId(1), PersonId(3), PersonId(9)]).unwrap(), 3);
    assert_eq!(vault.erase(&[PersonId(1)]).unwrap(), 0);
    assert_eq!(keys.destroyed(Purpose::Names), [0..1, 2..4]);
    let left = |names: Names| names.all().map(|(person, name)| (person.0, name.to_owned())).collect::<Vec<_>>();
    assert_eq!(left(vault.names()), [(2, "Grace".to_owned())]);
    assert_eq!(left(Names::read(&folder, &keys).unwrap()), [(2, "Grace".to_owned())]);
    // Who comes again is written under a number that was never used.
    vault.insert(&[claims[0].clone()]).unwrap();
    drop(vault);
    let vault = Vault::open(&folder, keys.clone()).unwrap();
    vault.insert(&[claims[3].clone()]).unwrap();
    assert_eq!(left(vault.names()).len(), 3);
    assert_eq!((next(&vault), vault.names().count), (6, 3));
    assert_eq!(keys.destroyed(Purpose::Names), [0..1, 2..4]);
    // The file as it was, with the keys as they are.
    drop(vault);
    fs::write(folder.join(FILE), before).unwrap();
    assert_eq!(left(Names::read(&folder, &keys).unwrap()), [(2, "Grace".to_owned())]);
}

#[test]
fn an_erasure_that_a_crash_stopped_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, keys) = (dir.path().join("vault"), keys(dir.path()));
    let vault = Vault::open(&folder, keys.clone()).unwrap();
    vault.insert(&[claim(1, "Ada", "a:1")]).unwrap();
    vault.insert(&[claim(2, "Grace", "a:2")]).unwrap();
    // The file is rewritten, and the process ends.
    let keep = |said: &Said| !matches!(said, Said::Claim(_, claim) if claim.person == PersonId(2));
    vault.rewrite(&mut lock(&vault.state), &[], keep).unwrap();
    assert_eq!(keys.destroyed(Purpose::Names), []);
    drop(vault);
    let vault = Vault::open(&folder, keys.clone()).unwrap();
    assert_eq!((keys.destroyed(Purpose::Names), next(&vault)), (vec![1..2], 2));
    // A vault whose file is lost is no erased one.
    drop(vault);
    fs::remove_file(folder.join(FILE)).unwrap();
    drop(Vault::open(&folder, keys.clone()).unwrap());
    assert_eq!(keys.destroyed(Purpose::Names), [1..2]);
}

#[test]
fn plain_lines_of_an_older_build_are_read_and_sealed_by_the_next_writer() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, keys) = (dir.path().join("vault"), keys(dir.path()));
    fs::create_dir_all(&folder).unwrap();
    let person = PersonId(1);
    let old = format!("{{\"person\":\"{person}\",\"name\":\"Ada Marker\",\"account\":\"ada.marker@example.org\"}}\n");
    fs::write(folder.join(FILE), &old).unwrap();
    let read = || Names::read(&folder, &keys).unwrap().name(person).map(str::to_owned);
    assert_eq!(read().as_deref(), Some("Ada Marker"));
    let vault = Vault::open(&folder, keys.clone()).unwrap();
    vault
        .insert(&[claim(1, "Ada Marker", "ada.marker@example.org"), claim(2, "Grace Marker", "grace.marker")])
        .unwrap();
    drop(vault);
    for _ in 0..2 {
        let vault = Vault::open(&folder, keys.clone()).unwrap();
        assert_eq!((next(&vault), vault.names().count), (2, 2));
    }
    assert_eq!(read().as_deref(), Some("Ada Marker"));
    for marker in ["Ada Marker", "ada.marker@example.org", "Grace Marker", "grace.marker", &person.to_string()] {
        assert_eq!(holding(dir.path(), marker.as_bytes()), Vec::<PathBuf>::new(), "{marker}");
    }
    fs::write(folder.join("old"), &old).unwrap();
    assert_eq!(holding(dir.path(), b"Ada Marker").len(), 1, "the judge sees");
}

#[test]
fn people_are_found_by_name_account_and_pseudonym() {
    let mut names = Names::default();
    let claims = [claim(1, "Ada L.", "ada@example.org"), claim(1, "ada", "github:ada"), claim(2, "ADA", "slack:U1")];
    claims.iter().for_each(|claim| names.add(claim.clone()));
    assert_eq!(names.find(" ada@EXAMPLE.org "), [PersonId(1)]);
    assert_eq!(names.find("Ada"), [PersonId(1), PersonId(2)]);
    assert_eq!(names.find("github:ada"), [PersonId(1)]);
    assert_eq!(names.find(&PersonId(2).to_string()), [PersonId(2)]);
    assert_eq!(names.find("nobody"), []);
    assert_eq!(names.claims(PersonId(1)).collect::<Vec<_>>(), [("Ada L.", "ada@example.org"), ("ada", "github:ada")]);
    assert_eq!(names.claims(PersonId(7)).count(), 0);
}
