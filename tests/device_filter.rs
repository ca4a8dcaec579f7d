//! The device filter on real cgroups: a process in the cgroup opens and makes
//! device nodes, and gets `EPERM` where the filter denies.
//!
//! Majors 60 to 63 are for local use and have no driver, so that an allowed open
//! answers `ENXIO` and touches nothing.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stderr)]

mod common;
mod device_probe;

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::View;
use device_probe::{Probe, Request, access, allowed, nodes, rules};
use kusabi::device::policy::NodeKind;
use kusabi::device::program::Program;
use kusabi::device::{DeviceError, DeviceFilter, Installed, Place, Standing, Target, v2 as ebpf};
use kusabi::edit::{Access, DeviceKind, DeviceRule};
use kusabi::sys::bpf;
use nix::sys::resource::{Resource, getrlimit};

/// Makes tests of `fn(&Hierarchy)`: `v1::NAME` with the devices controller,
/// `v2::NAME` with the cgroup2 mount of the host, and `unified::NAME` in a view
/// where cgroup2 is all there is.
macro_rules! on_hierarchies {
    ($($module:ident, $version:ident, $view:ident: [$($name:ident),+ $(,)?];)+) => {
        $(mod $module {
            $(#[test]
            fn $name() {
                let test = concat!(stringify!($module), "::", stringify!($name));
                super::run(test, super::Version::$version, super::View::$view, super::$name);
            })+
        })+
    };
}

on_hierarchies![
    v1, V1, Host: [
        the_kernel_agrees_with_the_policy,
        the_defaults_let_the_usual_nodes_work,
        an_update_keeps_what_stays_open,
        the_filter_holds_below,
        a_parent_that_denies_is_named,
        a_rule_that_somebody_added_is_found,
    ];
    v2, V2, Host: [
        the_kernel_agrees_with_the_policy,
        the_defaults_let_the_usual_nodes_work,
        an_update_keeps_what_stays_open,
        the_filter_holds_below,
        a_filter_that_is_gone_or_another_is_found,
        a_program_of_somebody_else_is_left_alone,
        lists_of_thousands_load,
        a_list_that_is_too_long_changes_nothing,
    ];
    unified, V2, Unified: [
        the_kernel_agrees_with_the_policy,
        an_update_keeps_what_stays_open,
        the_filter_holds_below,
    ];
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// A mounted hierarchy in which filters can be set.
struct Hierarchy {
    version: Version,
    mount: PathBuf,
}

fn run(test: &str, version: Version, view: View, body: fn(&Hierarchy)) {
    if !nix::unistd::geteuid().is_root() {
        common::skip::report("needs root");
        return;
    }
    view.enter(test, || match Hierarchy::find(version) {
        Some(hierarchy) => body(&hierarchy),
        None => common::skip::report("no such cgroup hierarchy is mounted"),
    });
}

impl Hierarchy {
    fn find(version: Version) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap();
        let mount = mounts.lines().find_map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            let fits = match version {
                Version::V1 => {
                    words[2] == "cgroup" && words[3].split(',').any(|option| option == "devices")
                }
                Version::V2 => words[2] == "cgroup2",
            };
            fits.then(|| PathBuf::from(words[1]))
        })?;
        Some(Self { version, mount })
    }

    /// Installs and checks through what `state.json` will hold.
    fn install(&self, cgroup: &Cgroup, filter: &DeviceFilter) -> Installed {
        let directory = cgroup.open();
        let target = self.target(cgroup, &directory);
        let installed = filter.install(&target).unwrap();
        let stored = serde_json::to_string(&installed).unwrap();
        let read: Installed = serde_json::from_str(&stored).unwrap();
        assert_eq!(read, installed);
        let standing = read.verify(&target).unwrap();
        let expected = if self.version == Version::V1 && filter.policy().allows_by_default() {
            Standing::ModeOnly
        } else {
            Standing::Exact
        };
        assert_eq!(standing, expected);
        installed
    }

    fn target<'a>(&self, cgroup: &'a Cgroup, directory: &'a File) -> Target<'a> {
        match self.version {
            Version::V1 => Target::V1(&cgroup.0),
            Version::V2 => Target::V2(directory.as_fd()),
        }
    }
}

/// A cgroup of this test's own; it goes when the test ends, however it ends.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(hierarchy: &Hierarchy) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = hierarchy
            .mount
            .join(format!("kusabi-test-{}-{count}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn child(&self) -> Self {
        let path = self.0.join("child");
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn open(&self) -> File {
        File::options()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(&self.0)
            .unwrap()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A process that has ended leaves its cgroup a moment later.
        let deadline = Instant::now() + Duration::from_secs(10);
        while let Err(error) = fs::remove_dir(&self.0) {
            assert!(Instant::now() < deadline, "{}: {error}", self.0.display());
            std::thread::yield_now();
        }
    }
}

fn filter(text: &str) -> DeviceFilter {
    DeviceFilter::build(&rules(text)).unwrap()
}

/// Every request against a filter, in one cgroup after the other.
fn requests() -> Vec<Request> {
    let mut requests = Vec::new();
    for device in [
        "c 60:0",
        "c 60:1",
        "c 61:0",
        "b 60:0",
        "b 61:1",
        "c 63:1048575",
    ] {
        for access in ["r", "w", "rw", "m"] {
            requests.push(Request::new(&format!("{device} {access}")));
        }
    }
    requests
}

/// What the kernel answers in a cgroup with each of these lists is what the
/// policy says.
fn the_kernel_agrees_with_the_policy(hierarchy: &Hierarchy) {
    let lists = [
        "deny a *:* rwm",
        "allow a *:* rwm",
        "allow c 60:0 rwm",
        "allow c 60:0 r",
        "allow c 60:0 r; allow c 60:0 w",
        "allow c 60:* r; allow c 60:0 w",
        "allow c 60:* rw; allow b *:* m",
        "allow c *:0 rw",
        "allow c *:* m; allow b *:* m; allow c 63:1048575 rw",
        "allow b *:* rwm; deny b *:* w",
        "allow c 60:0 rwm; allow c 60:1 rwm; deny c 60:* wm",
        "allow a *:* rwm; deny c 60:0 w",
        "allow a *:* rwm; deny c 60:* rwm; deny b 60:0 r",
        "allow a *:* rwm; deny c *:* m; deny c 63:1048575 rw",
        "allow a 60:0 rw",
    ];
    let directory = tempfile::tempdir().unwrap();
    let requests = requests();
    nodes(directory.path(), &requests);
    let cgroup = Cgroup::new(hierarchy);
    let mut probe = Probe::start(&cgroup.0);
    for list in lists {
        let filter = filter(list);
        hierarchy.install(&cgroup, &filter);
        for request in &requests {
            let answer = probe.ask(&request.line(directory.path()));
            let kind = if request.kind == "b" {
                NodeKind::Block
            } else {
                NodeKind::Char
            };
            let access = access(&request.access);
            assert_eq!(
                allowed(&answer),
                filter
                    .policy()
                    .allows(kind, request.major, request.minor, access),
                "{list}: {request:?} answers {answer}"
            );
        }
    }
}

/// The default rules let a container's own nodes work and others not.
fn the_defaults_let_the_usual_nodes_work(hierarchy: &Hierarchy) {
    let directory = tempfile::tempdir().unwrap();
    let requests: Vec<_> = [
        "c 1:3 rw",
        "c 1:5 r",
        "c 10:200 rw",
        "c 60:0 m",
        "c 60:0 r",
        "b 60:0 rw",
    ]
    .into_iter()
    .map(Request::new)
    .collect();
    nodes(directory.path(), &requests);
    let cgroup = Cgroup::new(hierarchy);
    let filter = DeviceFilter::for_container(&rules("deny a *:* rwm"), &[]).unwrap();
    hierarchy.install(&cgroup, &filter);
    let mut probe = Probe::start(&cgroup.0);
    let answers: Vec<_> = requests
        .iter()
        .map(|request| allowed(&probe.ask(&request.line(directory.path()))))
        .collect();
    assert_eq!(answers, [true, true, true, true, false, false]);
}

/// An update while a process holds what is taken away, and opens what stays.
fn an_update_keeps_what_stays_open(hierarchy: &Hierarchy) {
    let directory = tempfile::tempdir().unwrap();
    let (zero, fuse) = (Request::new("c 1:5 r"), Request::new("c 60:0 rw"));
    nodes(directory.path(), &[zero.clone(), fuse.clone()]);
    let zero_path = directory.path().join("c-1-5");
    let cgroup = Cgroup::new(hierarchy);
    let first = hierarchy.install(&cgroup, &filter("allow c 1:5 r; allow c 60:0 rw"));
    let mut probe = Probe::start(&cgroup.0);
    assert_eq!(probe.ask(&format!("hold r {}", zero_path.display())), "ok");

    let second = hierarchy.install(&cgroup, &filter("allow c 60:0 rw"));
    assert_ne!(first.digest, second.digest);
    assert_eq!(probe.ask("read"), "ok", "an open descriptor stays usable");
    assert_eq!(probe.ask(&zero.line(directory.path())), "EPERM");
    assert!(allowed(&probe.ask(&fuse.line(directory.path()))));

    let directory = cgroup.open();
    let target = hierarchy.target(&cgroup, &directory);
    match hierarchy.version {
        Version::V1 => assert!(matches!(first.verify(&target), Ok(Standing::Narrower(_)))),
        Version::V2 => {
            assert!(matches!(
                first.verify(&target),
                Err(DeviceError::Gone { .. })
            ));
            assert_eq!(ebpf::attached(directory.as_fd()).unwrap().len(), 1);
        }
    }
    // Back again.
    hierarchy.install(&cgroup, &filter("allow c 1:5 r; allow c 60:0 rw"));
    assert!(matches!(
        (hierarchy.version, second.verify(&target)),
        (Version::V2, Err(DeviceError::Gone { .. })) | (Version::V1, Err(DeviceError::Changed(_)))
    ));
}

/// A filter holds in cgroups that the container makes below its own.
fn the_filter_holds_below(hierarchy: &Hierarchy) {
    let directory = tempfile::tempdir().unwrap();
    let requests = [Request::new("c 60:0 r"), Request::new("c 60:1 r")];
    nodes(directory.path(), &requests);
    let cgroup = Cgroup::new(hierarchy);
    hierarchy.install(&cgroup, &filter("allow c 60:0 r"));
    let below = cgroup.child();
    let mut probe = Probe::start(&below.0);
    assert!(allowed(&probe.ask(&requests[0].line(directory.path()))));
    assert!(!allowed(&probe.ask(&requests[1].line(directory.path()))));
    drop(probe);
    drop(below);
}

fn a_parent_that_denies_is_named(hierarchy: &Hierarchy) {
    let parent = Cgroup::new(hierarchy);
    // The kernel refuses this once there is a child.
    hierarchy.install(&parent, &filter("allow c 60:0 rw"));
    let child = parent.child();
    hierarchy.install(&child, &filter("allow c 60:0 r"));
    let error = filter("allow c 60:0 rwm")
        .install(&Target::V1(&child.0))
        .unwrap_err();
    assert!(!error.is_unprivileged());
    assert_eq!(
        error.to_string(),
        format!(
            "write \"c 60:0 wm\" to {}/devices.allow: operation not permitted \
             (does the parent cgroup allow it?)",
            child.0.display()
        )
    );
    // The parent's loss is the child's.
    let installed = hierarchy.install(&child, &filter("allow c 60:0 rw"));
    hierarchy.install(&parent, &filter("allow c 60:0 r"));
    assert_eq!(
        installed.verify(&Target::V1(&child.0)).unwrap(),
        Standing::Narrower("the cgroup lacks \"c 60:0 w\"".to_owned())
    );
    drop(child);
}

fn a_rule_that_somebody_added_is_found(hierarchy: &Hierarchy) {
    let cgroup = Cgroup::new(hierarchy);
    let installed = hierarchy.install(&cgroup, &filter("allow c 60:0 rw"));
    fs::write(cgroup.0.join("devices.allow"), "b 61:* r").unwrap();
    assert_eq!(
        installed
            .verify(&Target::V1(&cgroup.0))
            .unwrap_err()
            .to_string(),
        format!(
            "device filter does not hold: {}/devices.list has \"b 61:* r\", which the filter \
             denies: recreate the container",
            cgroup.0.display()
        )
    );
    fs::write(cgroup.0.join("devices.allow"), "a").unwrap();
    let error = installed.verify(&Target::V1(&cgroup.0)).unwrap_err();
    assert!(error.to_string().contains("has \"a *:* rwm\""), "{error}");
}

#[test]
fn other_directories_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let nothing = filter("deny a *:* rwm");
    assert_eq!(
        nothing
            .install(&Target::V1(directory.path()))
            .unwrap_err()
            .to_string(),
        format!(
            "{}: not a directory of the cgroup v1 devices controller",
            directory.path().display()
        )
    );
    if nix::unistd::geteuid().is_root() {
        let opened = File::open(directory.path()).unwrap();
        let error = nothing.install(&Target::V2(opened.as_fd())).unwrap_err();
        assert_eq!(
            error.to_string(),
            "query device filter: bad file descriptor (is the directory in a \
             cgroup2 mount?)"
        );
    } else {
        common::skip::report("the part about v2 needs root");
    }
}

fn a_filter_that_is_gone_or_another_is_found(hierarchy: &Hierarchy) {
    let cgroup = Cgroup::new(hierarchy);
    let directory = cgroup.open();
    let target = Target::V2(directory.as_fd());
    let installed = hierarchy.install(&cgroup, &filter("allow c 60:0 rw"));
    let Place::V2 { program } = &installed.place else {
        panic!("not on v2");
    };

    // The same rules in a program of the same name and tag: not ours.
    ebpf::detach(directory.as_fd()).unwrap();
    assert!(matches!(
        installed.verify(&target),
        Err(DeviceError::Gone { .. })
    ));
    let twin = hierarchy.install(&cgroup, &filter("allow c 60:0 rw"));
    let Place::V2 { program: other } = &twin.place else {
        panic!("not on v2");
    };
    assert_eq!(program.tag, other.tag);
    let error = installed.verify(&target).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "device filter is gone: program {} is not attached to the container's cgroup \
             (attached: {}): recreate the container",
            program.id, other.id
        )
    );

    // An id that was given again.
    let mut reused = installed.clone();
    reused.place = Place::V2 {
        program: ebpf::ProgramId {
            id: other.id,
            ..program.clone()
        },
    };
    assert!(matches!(
        reused.verify(&target),
        Err(DeviceError::Changed(_))
    ));
    assert!(matches!(
        twin.verify(&Target::V1(&cgroup.0)),
        Err(DeviceError::WrongVersion { .. })
    ));
}

fn lists_of_thousands_load(hierarchy: &Hierarchy) {
    let directory = tempfile::tempdir().unwrap();
    let requests: Vec<_> = ["c 60:3999 rw", "c 60:4000 rw", "c 61:0 rw", "b 63:7 r"]
        .into_iter()
        .map(Request::new)
        .collect();
    nodes(directory.path(), &requests);
    let cgroup = Cgroup::new(hierarchy);
    let mut probe = Probe::start(&cgroup.0);
    let limit = getrlimit(Resource::RLIMIT_MEMLOCK).unwrap();
    // Many minors of one major, and all majors with one minor each, also where
    // only a part of the accesses is meant, allowed and denied.
    for verdict in ["allow", "deny"] {
        let default = if verdict == "allow" { "deny" } else { "allow" };
        for form in ["c 60:N rw", "c N:0 rw", "b N:7 rwm"] {
            let mut list = vec![format!("{default} a *:* rwm")];
            list.extend(
                (0..4000).map(|n| format!("{verdict} {}", form.replace('N', &n.to_string()))),
            );
            let filter = filter(&list.join("; "));
            hierarchy.install(&cgroup, &filter);
            for request in &requests {
                let kind = if request.kind == "b" {
                    NodeKind::Block
                } else {
                    NodeKind::Char
                };
                let answer = probe.ask(&request.line(directory.path()));
                assert_eq!(
                    allowed(&answer),
                    filter.policy().allows(
                        kind,
                        request.major,
                        request.minor,
                        access(&request.access)
                    ),
                    "{verdict} {form}: {request:?} answers {answer}"
                );
            }
        }
    }
    assert_eq!(getrlimit(Resource::RLIMIT_MEMLOCK).unwrap(), limit);
}

fn a_program_of_somebody_else_is_left_alone(hierarchy: &Hierarchy) {
    let directory = tempfile::tempdir().unwrap();
    let request = Request::new("c 60:0 rw");
    nodes(directory.path(), std::slice::from_ref(&request));
    let cgroup = Cgroup::new(hierarchy);
    let opened = cgroup.open();
    let target = Target::V2(opened.as_fd());
    let mut probe = Probe::start(&cgroup.0);

    let deny = Program::compile(filter("deny a *:* rwm").policy()).bytes();
    let foreign = bpf::load_device_program(&deny, c"somebody", None).unwrap();
    bpf::attach_device_program(opened.as_fd(), foreign.as_fd(), None).unwrap();
    let installed = filter("allow c 60:0 rw").install(&target).unwrap();
    let others =
        Standing::Narrower("device programs attached to the cgroup beside the filter: 1".into());
    assert_eq!(installed.verify(&target).unwrap(), others);
    let allow = Program::compile(filter("allow a *:* rwm").policy()).bytes();
    let later = bpf::load_device_program(&allow, c"later", None).unwrap();
    bpf::attach_device_program(opened.as_fd(), later.as_fd(), None).unwrap();
    let again = filter("allow c 60:0 rwm").install(&target).unwrap();
    let names: Vec<_> = ebpf::attached(opened.as_fd())
        .unwrap()
        .into_iter()
        .map(|program| (program.name, program.ours))
        .collect();
    // In the place of the first filter, which is what replacing in one step does.
    assert_eq!(
        names,
        [
            ("somebody".to_owned(), false),
            ("kusabi_devices".to_owned(), true),
            ("later".to_owned(), false),
        ]
    );
    bpf::detach_device_program(opened.as_fd(), later.as_fd()).unwrap();
    assert_eq!(again.verify(&target).unwrap(), others);
    // All must allow.
    assert_eq!(probe.ask(&request.line(directory.path())), "EPERM");

    bpf::detach_device_program(opened.as_fd(), foreign.as_fd()).unwrap();
    assert_eq!(again.verify(&target).unwrap(), Standing::Exact);
    assert!(allowed(&probe.ask(&request.line(directory.path()))));
    ebpf::detach(opened.as_fd()).unwrap();
    assert_eq!(ebpf::attached(opened.as_fd()).unwrap(), []);
}

/// A list too long for the kernel is an error, and the old filter stays.
fn a_list_that_is_too_long_changes_nothing(hierarchy: &Hierarchy) {
    let cgroup = Cgroup::new(hierarchy);
    let directory = cgroup.open();
    let target = Target::V2(directory.as_fd());
    let before = hierarchy.install(&cgroup, &filter("allow c 60:0 rw"));
    let endless: Vec<_> = (0..400_000)
        .map(|minor| DeviceRule {
            allow: true,
            kind: DeviceKind::Char,
            major: Some(60),
            minor: Some(minor),
            access: Access::all(),
        })
        .collect();
    let filter = DeviceFilter::build(&endless).unwrap();
    assert!(Program::compile(filter.policy()).instructions().len() > 1_000_000);
    let error = filter.install(&target).unwrap_err().to_string();
    assert!(
        error.starts_with("load device filter: ") && error.contains("too many device rules"),
        "{error}"
    );
    assert_eq!(before.verify(&target).unwrap(), Standing::Exact);
}
