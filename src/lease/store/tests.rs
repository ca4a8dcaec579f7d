use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command};

use super::*;

struct Place {
    _dir: tempfile::TempDir,
    store: Store,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::at(dir.path().join("leases"));
    Place { _dir: dir, store }
}

fn container(id: &str) -> Container {
    Container {
        id: id.to_owned(),
        root: "/run/kusabi".into(),
    }
}

fn wanted(device: &str, mode: Mode) -> Wanted {
    Wanted {
        device: device.to_owned(),
        keys: [device.to_owned()].into(),
        mode,
    }
}

fn candidates(count: usize) -> Vec<Candidate> {
    (0..count)
        .map(|i| Candidate {
            device: format!("gpu{i}"),
            keys: [format!("gpu{i}")].into(),
            ..Candidate::default()
        })
        .collect()
}

fn pick_one(store: &Store, id: &str, mode: Mode) -> Result<(Reservation, Vec<usize>)> {
    let mut choosing = store.choose(&container(id))?;
    let places = choosing.pick(&candidates(2), 1, mode)?;
    Ok((choosing.finish()?, places))
}

/// A process that stands for a container's init.
struct Init(Child);

impl Init {
    fn new() -> Self {
        Self(Command::new("sleep").arg("1000").spawn().unwrap())
    }

    fn identity(&self) -> Identity {
        Identity::of(i32::try_from(self.0.id()).unwrap()).unwrap()
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn one_alone_or_many_in_shares() {
    let Place { store, _dir } = place();
    let reserve = |id, mode| store.reserve(&container(id), &[wanted("a", mode)]);
    reserve("one", Mode::Shared).unwrap();
    reserve("two", Mode::Shared).unwrap();
    let error = reserve("three", Mode::Exclusive).unwrap_err().to_string();
    let me = std::process::id();
    assert_eq!(
        error,
        format!("a is held in shares by container one (pid {me})")
    );
    store
        .reserve(&container("four"), &[wanted("b", Mode::Exclusive)])
        .unwrap();
    let error = store
        .reserve(
            &container("five"),
            &[wanted("c", Mode::Shared), wanted("b", Mode::Shared)],
        )
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("b is held exclusively by container four (pid {me})")
    );
    // All or nothing.
    assert!(
        store
            .leases()
            .unwrap()
            .iter()
            .all(|lease| lease.device != "c")
    );
}

#[test]
fn counts_take_what_is_free_and_say_who_has_the_rest() {
    let Place { store, _dir } = place();
    assert_eq!(pick_one(&store, "one", Mode::Exclusive).unwrap().1, [0]);
    assert_eq!(pick_one(&store, "two", Mode::Exclusive).unwrap().1, [1]);
    let error = pick_one(&store, "three", Mode::Exclusive).unwrap_err();
    assert_eq!(
        error.to_string(),
        "1 GPUs asked for, 0 free; gpu0 is held by container one; gpu1 is held by container two"
    );
}

#[test]
fn one_container_gets_no_device_twice() {
    let Place { store, _dir } = place();
    let mut choosing = store.choose(&container("one")).unwrap();
    assert_eq!(
        choosing.pick(&candidates(2), 1, Mode::Exclusive).unwrap(),
        [0]
    );
    assert_eq!(
        choosing.pick(&candidates(2), 1, Mode::Exclusive).unwrap(),
        [1]
    );
    // Naming one's own device is no conflict, and takes nothing from it.
    choosing.take(&wanted("gpu0", Mode::Shared)).unwrap();
    let error = choosing
        .pick(&candidates(2), 1, Mode::Exclusive)
        .unwrap_err();
    assert!(
        error.to_string().contains("gpu0 is held by this container"),
        "{error}"
    );
    choosing.finish().unwrap();
    let leases = store.leases().unwrap();
    assert_eq!(leases.len(), 2);
    assert!(leases.iter().all(|lease| lease.mode == Mode::Exclusive));
}

#[test]
fn a_lease_lives_as_long_as_its_owner() {
    let Place { store, _dir } = place();
    let init = Init::new();
    let (reservation, _) = pick_one(&store, "one", Mode::Exclusive).unwrap();
    reservation.commit(init.identity()).unwrap();
    assert_eq!(store.leases().unwrap()[0].stage, Stage::Committed);
    // A container of the same name in another root, or by another init, is
    // somebody else.
    let other = Container {
        root: "/elsewhere".into(),
        ..container("one")
    };
    release(&store, &other, Some(init.identity())).unwrap();
    release(&store, &container("one"), None).unwrap();
    assert_eq!(store.leases().unwrap().len(), 1);
    let before = fs::read(store.dir().join(FILE)).unwrap();
    drop(init);
    assert_eq!(store.leases().unwrap(), []);
    assert_eq!(
        fs::read(store.dir().join(FILE)).unwrap(),
        before,
        "looking changes nothing"
    );
    // Taken again: the dead one is dropped on the way.
    assert_eq!(pick_one(&store, "two", Mode::Exclusive).unwrap().1, [0]);
    assert_eq!(store.read().unwrap().len(), 1);
}

#[test]
fn what_is_released_is_free() {
    let Place { store, _dir } = place();
    let init = Init::new();
    let (reservation, _) = pick_one(&store, "one", Mode::Exclusive).unwrap();
    reservation.release().unwrap();
    assert_eq!(store.leases().unwrap(), []);
    let (reservation, places) = pick_one(&store, "one", Mode::Exclusive).unwrap();
    assert_eq!(places, [0]);
    reservation.commit(init.identity()).unwrap();
    release(&store, &container("one"), Some(init.identity())).unwrap();
    assert_eq!(store.leases().unwrap(), []);
    // A commit that failed half-way is undone, too.
    let (reservation, _) = pick_one(&store, "one", Mode::Exclusive).unwrap();
    reservation.commit(init.identity()).unwrap();
    reservation.release().unwrap();
    assert_eq!(store.leases().unwrap(), []);
    assert!(reservation.commit(init.identity()).is_err());
}

#[test]
fn a_recycled_pid_is_not_the_owner_and_another_namespace_is_left_alone() {
    let Place { store, _dir } = place();
    pick_one(&store, "one", Mode::Exclusive).unwrap();
    let edit = |change: fn(&mut Lease)| {
        let mut leases = store.read().unwrap();
        leases.iter_mut().for_each(change);
        let content = Content {
            version: VERSION,
            leases,
        };
        fs::write(
            store.dir().join(FILE),
            serde_json::to_vec(&content).unwrap(),
        )
        .unwrap();
    };
    edit(|lease| lease.owner.start_time -= 1);
    assert_eq!(store.leases().unwrap(), []);
    edit(|lease| lease.pid_namespace += 1);
    assert_eq!(store.leases().unwrap().len(), 1);
}

#[test]
fn a_store_that_cannot_be_believed_is_an_error() {
    let Place { store, _dir } = place();
    pick_one(&store, "one", Mode::Shared).unwrap();
    let file = store.dir().join(FILE);
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o644);
    fs::write(&file, "{\"version\":2,\"leases\":[]}").unwrap();
    assert!(
        store
            .leases()
            .unwrap_err()
            .to_string()
            .contains("version 2 of another kusabi")
    );
    fs::write(&file, "{\"version\"").unwrap();
    assert!(
        store
            .leases()
            .unwrap_err()
            .to_string()
            .contains("remove it")
    );
    fs::remove_file(&file).unwrap();
    fs::set_permissions(store.dir(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = pick_one(&store, "one", Mode::Shared).unwrap_err();
    assert!(
        error.to_string().contains("nobody else may write"),
        "{error}"
    );
}

#[test]
fn a_running_container_holds_more_and_less() {
    let Place { store, _dir } = place();
    let init = Init::new();
    let hold = |device: &str| {
        let held = store.reserve(&container("one"), &[wanted(device, Mode::Shared)]);
        let held = held.unwrap();
        held.commit(init.identity()).unwrap();
        held
    };
    let devices = || -> Vec<String> {
        let leases = store.leases().unwrap();
        leases.into_iter().map(|lease| lease.device).collect()
    };
    hold("gpu0");
    let more = hold("gpu1");
    assert_eq!(devices(), ["gpu0", "gpu1"]);
    // Twice is once, and undoing nothing takes nothing.
    let twice = hold("gpu1");
    assert!(twice.is_empty());
    twice.release().unwrap();
    assert_eq!(devices(), ["gpu0", "gpu1"]);
    // An undo leaves what was held before.
    more.release().unwrap();
    assert_eq!(devices(), ["gpu0"]);

    hold("gpu1");
    let keys = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    let one = container("one");
    give_back(
        &store,
        &one,
        &keys(&["gpu0", "gpu1"]),
        &keys(&["gpu1", "x"]),
    )
    .unwrap();
    assert_eq!(devices(), ["gpu1"]);
    give_back(&store, &container("two"), &keys(&["gpu1"]), &keys(&[])).unwrap();
    assert_eq!(devices(), ["gpu1"], "another's");

    // Two that have traded names.
    hold("gpu0");
    let swap = [("gpu0", "gpu1"), ("gpu1", "gpu0")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    rename(&store, &one, &swap).unwrap();
    let now: Vec<_> = store.leases().unwrap();
    let now: Vec<_> = now.iter().map(|l| (l.device.as_str(), &l.keys)).collect();
    assert_eq!(
        now,
        [("gpu1", &keys(&["gpu0"])), ("gpu0", &keys(&["gpu1"]))]
    );
}
