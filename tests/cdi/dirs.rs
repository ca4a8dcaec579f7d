//! `pkg/cdi/spec-dirs_test.go`, and who may have written a specification.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use kusabi::cdi::{Registry, SpecFile};
use kusabi::host::cdi_dirs::{Options, Trusted, read};
use tempfile::TempDir;

const VALID: &str = "cdiVersion: \"0.3.0\"\nkind: vendor.com/device\ndevices:\n  - name: \"dev1\"\n    \
                     containerEdits:\n      env:\n        - \"FOO=BAR\"\n";
const INVALID: &str =
    "cdiVersion: \"0.3.0\"\nkind: vendor.com/device\ndevices:\n  - name: \"dev1\"\n";

/// A host root with nothing but what a test puts there, not writable by others
/// whatever the umask is.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        Self(dir)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    fn dir(self, path: &str) -> Self {
        let mut dir = self.0.path().to_owned();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            dir.push(part);
            if !dir.exists() {
                fs::create_dir(&dir).unwrap();
                fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
            }
        }
        self
    }

    fn file(self, path: &str, text: &str) -> Self {
        let parent = Path::new(path)
            .parent()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let this = self.dir(&parent);
        fs::write(this.path(path), text).unwrap();
        this.mode(path, 0o644)
    }

    fn mode(self, path: &str, mode: u32) -> Self {
        fs::set_permissions(self.path(path), Permissions::from_mode(mode)).unwrap();
        self
    }

    fn link(self, target: &str, path: &str) -> Self {
        symlink(target, self.path(path)).unwrap();
        self
    }

    fn read(&self, dirs: &[&str]) -> Vec<SpecFile> {
        let caller = nix::unistd::geteuid().as_raw();
        let options = Options {
            root: self.0.path().to_owned(),
            trusted: Trusted::root_and(caller),
        };
        let dirs: Vec<_> = dirs.iter().map(PathBuf::from).collect();
        read(&dirs, &options)
    }

    /// `path ok` or `path reason` of everything found in `/etc/cdi`.
    fn found(&self) -> Vec<String> {
        self.read(&["/etc/cdi"])
            .into_iter()
            .map(|file| {
                let outcome = match file.content {
                    Ok(_) => "ok".to_owned(),
                    Err(reason) => reason,
                };
                format!("{} {outcome}", file.path.display())
            })
            .collect()
    }
}

#[test]
fn directories_are_scanned() {
    // Files, kinds of valid ones, names of broken ones.
    type Case = (
        &'static str,
        Vec<(&'static str, String)>,
        Vec<&'static str>,
        Vec<&'static str>,
    );
    let class = |n: u32| VALID.replace("/device", &format!("/device{n}"));
    let table: [Case; 4] = [
        ("no files", vec![], vec![], vec![]),
        (
            "one valid file",
            vec![("valid.yaml", VALID.into())],
            vec!["vendor.com/device"],
            vec![],
        ),
        (
            "one invalid file",
            vec![("invalid.yaml", INVALID.into())],
            vec![],
            vec!["/etc/cdi/invalid.yaml"],
        ),
        // The reference can also stop at the first error, which hides the rest.
        (
            "two valid files, one invalid",
            vec![
                ("valid1.yaml", class(1)),
                ("valid2.yaml", class(2)),
                ("invalid.yaml", INVALID.into()),
            ],
            vec!["vendor.com/device1", "vendor.com/device2"],
            vec!["/etc/cdi/invalid.yaml"],
        ),
    ];
    for (name, files, kinds, broken) in table {
        let mut machine = Machine::new().dir("/etc/cdi");
        for (file, text) in files {
            machine = machine.file(&format!("/etc/cdi/{file}"), &text);
        }
        let dirs = ["/no-such-dir", "/etc/cdi"];
        let registry = Registry::load(dirs.map(PathBuf::from).to_vec(), machine.read(&dirs));
        let found: Vec<_> = registry
            .specs()
            .iter()
            .map(|s| s.spec.kind.as_str())
            .collect();
        assert_eq!(found, kinds, "{name}");
        assert!(
            registry.specs().iter().all(|spec| spec.priority == 1),
            "{name}"
        );
        let found: Vec<_> = registry.broken().iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), broken.len(), "{name}: {found:?}");
        for (found, broken) in found.iter().zip(broken) {
            assert!(found.starts_with(broken), "{name}: {found}");
        }
    }
}

#[test]
fn no_directory_is_no_error() {
    assert_eq!(Machine::new().read(&["/etc/cdi", "/var/run/cdi"]), []);
}

#[test]
fn only_json_and_yaml_count_in_one_directory_by_name() {
    let mut machine = Machine::new();
    for name in [
        "b.json",
        "a.yaml",
        ".json",
        "C.yaml",
        "c.yml",
        "d.JSON",
        "e.yaml.tmp",
        "f",
        "yaml",
    ] {
        machine = machine.file(&format!("/etc/cdi/{name}"), VALID);
    }
    machine = machine
        .dir("/etc/cdi/dir.json")
        .file("/etc/cdi/sub/x.json", VALID);
    assert_eq!(
        machine.found(),
        [
            "/etc/cdi/.json ok",
            "/etc/cdi/C.yaml ok",
            "/etc/cdi/a.yaml ok",
            "/etc/cdi/b.json ok"
        ]
    );
}

#[test]
fn a_later_directory_has_a_higher_priority() {
    let machine = Machine::new()
        .file("/a/x.yaml", VALID)
        .file("/b/x.yaml", VALID);
    let found: Vec<_> = machine
        .read(&["/b", "/none", "/a"])
        .into_iter()
        .map(|file| (file.path.display().to_string(), file.priority))
        .collect();
    assert_eq!(
        found,
        [("/b/x.yaml".to_owned(), 0), ("/a/x.yaml".to_owned(), 2)]
    );
}

/// `/var/run` is a link on every machine.
#[test]
fn a_directory_may_be_reached_through_links() {
    let machine = Machine::new()
        .file("/run/cdi/x.yaml", VALID)
        .dir("/var")
        .link("/run", "/var/run");
    let found = machine.read(&["/var/run/cdi"]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].path, Path::new("/var/run/cdi/x.yaml"));
    assert_eq!(found[0].content.as_deref(), Ok(VALID.as_bytes()));
}

const OTHERS: &str = "others may write it";

#[test]
fn a_file_that_others_may_write_is_refused_by_name() {
    let machine = Machine::new()
        .file("/etc/cdi/good.yaml", VALID)
        .file("/etc/cdi/world.yaml", VALID)
        .mode("/etc/cdi/world.yaml", 0o666);
    assert_eq!(
        machine.found(),
        [
            "/etc/cdi/good.yaml ok".to_owned(),
            format!(
                "/etc/cdi/world.yaml {OTHERS} (mode 0666, group {}), take it away with chmod go-w",
                nix::unistd::getegid()
            )
        ]
    );
}

#[test]
fn a_directory_that_others_may_write_is_refused_as_a_whole() {
    for mode in [0o777, 0o1777] {
        let machine = Machine::new()
            .file("/etc/cdi/good.yaml", VALID)
            .mode("/etc/cdi", mode);
        let found = machine.found();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with(&format!("/etc/cdi {OTHERS}")),
            "{found:?}"
        );
    }
}

#[test]
fn a_parent_that_others_may_rename_in_is_refused_unless_sticky() {
    let machine = |mode| {
        Machine::new()
            .file("/etc/cdi/good.yaml", VALID)
            .mode("/etc", mode)
    };
    let open = machine(0o777);
    let found = open.found();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("/etc/cdi its parent /"), "{found:?}");
    assert!(found[0].contains(OTHERS), "{found:?}");
    assert_eq!(machine(0o1777).found(), ["/etc/cdi/good.yaml ok"]);
}

#[test]
fn links_stay_in_their_directory() {
    let machine = Machine::new()
        .file("/etc/shadow.yaml", VALID)
        .file("/etc/cdi/real.yaml", VALID)
        // As Kubernetes projects a config map.
        .file("/etc/cdi/..data/map.yaml", VALID)
        .link("real.yaml", "/etc/cdi/a.yaml")
        .link("..data/map.yaml", "/etc/cdi/b.yaml")
        .link("..data/../real.yaml", "/etc/cdi/c.yaml")
        .link("/etc/shadow.yaml", "/etc/cdi/d.yaml")
        .link("../shadow.yaml", "/etc/cdi/e.yaml")
        .link("..data/../../shadow.yaml", "/etc/cdi/f.yaml")
        .link("nothing.yaml", "/etc/cdi/g.yaml")
        .link("h.yaml", "/etc/cdi/h.yaml")
        .link("..data", "/etc/cdi/i.yaml")
        // A link to a link that leaves: it cannot, and so leads nowhere.
        .link("..data/out", "/etc/cdi/j.yaml")
        .link("/etc/shadow.yaml", "/etc/cdi/..data/out");
    const OUT: &str = "a symbolic link out of its directory, put the file itself there";
    assert_eq!(
        machine.found(),
        [
            "/etc/cdi/a.yaml ok",
            "/etc/cdi/b.yaml ok",
            "/etc/cdi/c.yaml ok",
            &format!("/etc/cdi/d.yaml {OUT}"),
            &format!("/etc/cdi/e.yaml {OUT}"),
            &format!("/etc/cdi/f.yaml {OUT}"),
            "/etc/cdi/g.yaml a symbolic link to nowhere",
            "/etc/cdi/h.yaml too many symbolic links encountered",
            "/etc/cdi/i.yaml not a regular file",
            "/etc/cdi/j.yaml a symbolic link to nowhere",
            "/etc/cdi/real.yaml ok",
        ]
    );
}

#[test]
fn a_link_into_a_directory_that_others_may_write_is_refused() {
    let machine = Machine::new()
        .file("/etc/cdi/open/map.yaml", VALID)
        .mode("/etc/cdi/open", 0o777)
        .link("open/map.yaml", "/etc/cdi/a.yaml");
    let found = machine.found();
    assert!(
        found.len() == 1 && found[0].starts_with("/etc/cdi/a.yaml its parent "),
        "{found:?}"
    );
}

#[test]
fn what_is_no_file_is_reported_without_waiting_for_it() {
    let machine = Machine::new().dir("/etc/cdi");
    let fifo = machine.path("/etc/cdi/fifo.yaml");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert_eq!(machine.found(), ["/etc/cdi/fifo.yaml not a regular file"]);
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let machine = Machine::new().file("/etc/cdi/large.json", "{");
    let file = fs::OpenOptions::new()
        .write(true)
        .open(machine.path("/etc/cdi/large.json"))
        .unwrap();
    file.set_len((8 << 20) + 1).unwrap();
    assert_eq!(
        machine.found(),
        ["/etc/cdi/large.json 8388609 bytes, more than the 8388608 that a specification may have"]
    );
}

#[test]
fn a_directory_that_is_a_file_is_reported() {
    let machine = Machine::new().file("/etc/cdi", VALID);
    assert_eq!(machine.found(), ["/etc/cdi not a directory"]);
}

#[test]
fn files_of_other_users_are_refused() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIP files_of_other_users_are_refused: needs root for chown");
        return;
    }
    let chown = |machine: &Machine, path: &str, uid: u32, gid: u32| {
        std::os::unix::fs::chown(machine.path(path), Some(uid), Some(gid)).unwrap();
    };
    let machine = Machine::new()
        .file("/etc/cdi/other.yaml", VALID)
        .file("/etc/cdi/shared.yaml", VALID)
        .mode("/etc/cdi/shared.yaml", 0o664)
        .file("/etc/cdi/roots.yaml", VALID)
        .mode("/etc/cdi/roots.yaml", 0o664);
    chown(&machine, "/etc/cdi/other.yaml", 1234, 0);
    chown(&machine, "/etc/cdi/shared.yaml", 0, 100);
    assert_eq!(
        machine.found(),
        [
            "/etc/cdi/other.yaml owned by uid 1234, who is neither root nor the caller (uid 0)",
            "/etc/cdi/roots.yaml ok",
            &format!(
                "/etc/cdi/shared.yaml {OTHERS} (mode 0664, group 100), take it away with chmod go-w"
            ),
        ]
    );

    // The caller's own, with a group of their own, as a umask of 002 makes them.
    let machine = machine.mode("/etc/cdi/other.yaml", 0o664);
    chown(&machine, "/etc/cdi/other.yaml", 1234, 1234);
    let options = Options {
        root: machine.0.path().to_owned(),
        trusted: Trusted::root_and(1234),
    };
    let found = read(&[PathBuf::from("/etc/cdi")], &options);
    assert!(found[0].content.is_ok(), "{found:?}");
    chown(&machine, "/etc/cdi", 1235, 0);
    let found = read(&[PathBuf::from("/etc/cdi")], &options);
    assert_eq!(
        (found.len(), found[0].content.as_ref().unwrap_err().as_str()),
        (
            1,
            "owned by uid 1235, who is neither root nor the caller (uid 1234)"
        )
    );
}
