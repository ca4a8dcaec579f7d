//! Making, entering and removing directories.

use std::path::Path;

use kusabi::cgroup::{Cgroup, CgroupSpec, SubCgroups};
use serde_json::{Value, json};

use crate::child::Child;
use crate::view::{PATIENCE, Scratch, everywhere};

#[test]
fn made_entered_and_removed() {
    everywhere("places::made_entered_and_removed", || {
        let scratch = Scratch::new("made");
        let cgroup = scratch.create("pod/ct", &Value::Null).unwrap();
        let own = scratch.path("pod/ct");
        for hierarchy in scratch.layout.hierarchies() {
            let path = hierarchy.mount_point.join(own.trim_start_matches('/'));
            assert!(path.is_dir(), "{} is missing", path.display());
        }
        assert!(cgroup.exists());
        assert!(cgroup.devices_target().unwrap().is_dir());

        let child = Child::born(&cgroup.entry().unwrap()).unwrap();
        child.settle();
        assert_eq!(cgroup.pids(true).unwrap(), [child.pid]);
        // In a hybrid layout every line, in the private view the unified one.
        for (names, path) in child.cgroups() {
            let seen = names
                .split(',')
                .any(|name| scratch.layout.hierarchy(name).is_some());
            assert_eq!(seen, path == own, "{names}: {path}");
        }

        // Stored and read back, as by a later command.
        let text = serde_json::to_string(&cgroup).unwrap();
        let later: Cgroup = serde_json::from_str(&text).unwrap();
        assert_eq!(later, cgroup);
        let busy = later
            .remove(std::time::Duration::ZERO)
            .unwrap_err()
            .to_string();
        assert!(
            busy.starts_with("unable to remove container's cgroup: rmdir /sys/fs/cgroup/")
                && busy.ends_with("/pod/ct: device or resource busy"),
            "{busy}"
        );
        drop(child);
        later.remove(PATIENCE).unwrap();
        assert!(!later.exists());
        scratch.assert_clean();
        // A second time there is nothing to do, and nothing wrong.
        later.remove(PATIENCE).unwrap();
    });
}

#[test]
fn undo_takes_back_what_create_made_and_no_more() {
    everywhere(
        "places::undo_takes_back_what_create_made_and_no_more",
        || {
            let scratch = Scratch::new("undo");
            for hierarchy in scratch.layout.hierarchies() {
                std::fs::create_dir(hierarchy.mount_point.join(&scratch.top()[1..])).unwrap();
            }
            let before = scratch.leftovers();
            let cgroup = scratch.create("a/b", &Value::Null).unwrap();
            cgroup.undo();
            assert!(!cgroup.exists());
            assert_eq!(scratch.leftovers(), before);
            for top in &before {
                assert!(!top.join("a").exists(), "{}", top.display());
                std::fs::remove_dir(top).unwrap();
            }

            // A directory that was there, and empty, is used, and survives an undo;
            // delete removes it.
            let first = scratch.create("c", &Value::Null).unwrap();
            let second = scratch.create("c", &Value::Null).unwrap();
            second.undo();
            assert!(first.exists());
            second.remove(PATIENCE).unwrap();
            assert!(!first.exists());
            first.remove(PATIENCE).unwrap();
            scratch.assert_clean();
        },
    );
}

#[test]
fn a_failed_create_leaves_nothing() {
    everywhere("places::a_failed_create_leaves_nothing", || {
        let scratch = Scratch::new("failed");
        if scratch.layout.is_v2() {
            // A tree that may not grow deep: the third directory is refused.
            let top = scratch.layout.hierarchies()[0]
                .mount_point
                .join(&scratch.top()[1..]);
            std::fs::create_dir(&top).unwrap();
            std::fs::write(top.join("cgroup.max.depth"), "2").unwrap();
            let error = scratch
                .create("a/b/c", &Value::Null)
                .unwrap_err()
                .to_string();
            assert_eq!(
                error,
                format!(
                    "unable to apply cgroup configuration: mkdir {}/a/b/c: resource temporarily unavailable",
                    top.display()
                )
            );
            assert!(!top.join("a").exists());
            std::fs::remove_dir(&top).unwrap();
        }
        if scratch.layout.hierarchy("cpuset").is_some() {
            let error = scratch
                .create("a", &json!({"cpu": {"cpus": "4095"}}))
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with(
                    "unable to apply cgroup configuration: failed to write \"4095\": write /sys/fs/cgroup/cpuset/"
                ),
                "{error}"
            );
            scratch.assert_clean();
        }
    });
}

#[test]
fn containers_of_one_pod_come_and_go_together() {
    everywhere("places::containers_of_one_pod_come_and_go_together", || {
        let scratch = Scratch::new("pod");
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let scratch = &scratch;
                scope.spawn(move || {
                    for _ in 0..25 {
                        // The pod's directory vanishes and comes back all the
                        // time; nobody may stumble over that.
                        let cgroup = scratch
                            .create(&format!("pod/ct{thread}"), &Value::Null)
                            .unwrap();
                        assert!(cgroup.exists());
                        cgroup.remove(PATIENCE).unwrap();
                    }
                });
            }
        });
        // Whoever made the pod's directories last may have found them in use.
        let last = scratch.create("pod/last", &Value::Null).unwrap();
        last.remove(PATIENCE).unwrap();
    });
}

/// What is on record before anything is made is enough to remove all of it.
#[test]
fn a_plan_knows_what_will_be_made() {
    everywhere("places::a_plan_knows_what_will_be_made", || {
        let scratch = Scratch::new("plan");
        let path = scratch.path("pod/ct");
        let spec = CgroupSpec {
            cgroups_path: Some(&path),
            id: "unused",
            resources: &Value::Null,
            rootless: false,
            owner: None,
            systemd: None,
        };
        let planned = Cgroup::plan(&scratch.layout, &spec).unwrap();
        assert!(!planned.cgroup().exists());
        scratch.assert_clean();
        let recorded = planned.cgroup().clone();
        let (made, _) = planned.make().unwrap();
        assert_eq!(made, recorded);
        assert!(made.exists());
        recorded.remove(PATIENCE).unwrap();
        scratch.assert_clean();
    });
}

#[test]
fn a_cgroup_in_use_is_refused() {
    everywhere("places::a_cgroup_in_use_is_refused", || {
        let scratch = Scratch::new("use");
        let cgroup = scratch.create("ct", &Value::Null).unwrap();
        let child = Child::born(&cgroup.entry().unwrap()).unwrap();
        child.settle();
        let refused = scratch.create("ct", &Value::Null).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "container's cgroup is not empty: 1 process(es) found"
        );
        // Also when it is the parent of one in use.
        let parent = Cgroup::create(
            &scratch.layout,
            &CgroupSpec {
                cgroups_path: Some(&scratch.top()),
                id: "unused",
                resources: &Value::Null,
                rootless: false,
                owner: None,
                systemd: None,
            },
        );
        assert_eq!(
            parent.unwrap_err().to_string(),
            "container's cgroup is not empty: 1 process(es) found"
        );
        drop(child);

        cgroup.freeze(PATIENCE).unwrap();
        let refused = scratch.create("ct", &Value::Null).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "container's cgroup unexpectedly frozen"
        );
        cgroup.remove(PATIENCE).unwrap();
        scratch.assert_clean();
    });
}

#[test]
fn nothing_may_be_made_at_a_hierarchys_root() {
    everywhere("places::nothing_may_be_made_at_a_hierarchys_root", || {
        let scratch = Scratch::new("root");
        for path in ["/", "/../..", "/a/.."] {
            let spec = CgroupSpec {
                cgroups_path: Some(path),
                id: "unused",
                resources: &Value::Null,
                rootless: false,
                owner: None,
                systemd: None,
            };
            let error = Cgroup::create(&scratch.layout, &spec)
                .unwrap_err()
                .to_string();
            assert!(error.contains("is the root of the hierarchy"), "{error}");
        }
    });
}

#[test]
fn sub_cgroups_for_exec() {
    everywhere("places::sub_cgroups_for_exec", || {
        let scratch = Scratch::new("sub");
        let cgroup = scratch.create("ct", &Value::Null).unwrap();
        let init = Child::born(&cgroup.entry().unwrap()).unwrap();
        init.settle();
        let places = |arguments: &[&str]| {
            let sub = SubCgroups::parse(arguments).unwrap();
            cgroup
                .exec_places(init.pid, &sub)
                .map_err(|e| e.to_string())
        };
        assert_eq!(places(&[".."]).unwrap_err(), "bad sub cgroup path: ..");
        assert_eq!(
            places(&["whaaat:/"]).unwrap_err(),
            "unknown controller whaaat in SubCgroupPaths"
        );
        let missing = places(&["nonexistent"]).unwrap();
        assert_eq!(missing.len(), 1, "an explicit place has no fallback");
        let error = missing[0].open().unwrap_err().to_string();
        assert!(
            error.starts_with("error adding pid 0 to cgroups: open /sys/fs/cgroup/")
                && error.contains("/ct/nonexistent")
                && error.ends_with(": no such file or directory"),
            "{error}"
        );

        let target = cgroup.devices_target().unwrap().join("deep");
        std::fs::create_dir(&target).unwrap();
        let argument = if cgroup.is_v2() {
            "deep"
        } else {
            "devices:deep"
        };
        let place = &places(&[argument]).unwrap()[0];
        let exec = Child::born(&place.open().unwrap()).unwrap();
        exec.settle();
        let deep = scratch.path("ct/deep");
        let inside: Vec<_> = exec
            .cgroups()
            .into_iter()
            .filter(|(_, p)| *p == deep)
            .collect();
        assert_eq!(inside.len(), 1, "{:?}", exec.cgroups());
        drop((exec, init));
        cgroup.remove(PATIENCE).unwrap();
        scratch.assert_clean();
    });
}

#[test]
fn exec_finds_a_place_when_the_containers_own_takes_no_process() {
    everywhere(
        "places::exec_finds_a_place_when_the_containers_own_takes_no_process",
        || {
            let scratch = Scratch::new("leaf");
            if !scratch.layout.is_v2() {
                return;
            }
            let cgroup = scratch.create("ct", &Value::Null).unwrap();
            let init = Child::born(&cgroup.entry().unwrap()).unwrap();
            let own = cgroup.directory("").unwrap();
            // What a nested service manager does: move away, then hand a
            // controller on.
            let moved = own.join("init.scope");
            std::fs::create_dir(&moved).unwrap();
            std::fs::write(moved.join("cgroup.procs"), init.pid.to_string()).unwrap();
            let available = std::fs::read_to_string(own.join("cgroup.controllers")).unwrap();
            let Some(controller) = available.split_whitespace().next() else {
                // Version 1 holds them all, and has no such rule.
                drop(init);
                cgroup.remove(PATIENCE).unwrap();
                return;
            };
            std::fs::write(own.join("cgroup.subtree_control"), format!("+{controller}")).unwrap();

            let places = cgroup
                .exec_places(init.pid, &SubCgroups::default())
                .unwrap();
            let born: Vec<_> = places
                .iter()
                .map(|place| Child::born(&place.open().unwrap()))
                .collect();
            let error = born[0].as_ref().err().unwrap().to_string();
            assert!(
                error.starts_with("error adding pid 0 to cgroups: ")
                    && error.ends_with("/ct: device or resource busy"),
                "{error}"
            );
            let at = |index: usize| born[index].as_ref().ok().unwrap().cgroups()[0].1.clone();
            let last = |path: &str| Path::new(path).file_name().unwrap().to_owned();
            assert_eq!(places.len(), 3);
            // The unified line is the last of /proc/PID/cgroup here.
            let unified = |index: usize| {
                let child = born[index].as_ref().ok().unwrap();
                child.cgroups().pop().unwrap().1
            };
            assert_eq!(last(&unified(1)), "init.scope", "{}", at(1));
            assert_eq!(last(&unified(2)), "kusabi-exec", "{}", at(2));
            drop((born, init));
            cgroup.remove(PATIENCE).unwrap();
            scratch.assert_clean();
        },
    );
}

#[test]
fn a_delegated_cgroup_belongs_to_its_owner() {
    everywhere("places::a_delegated_cgroup_belongs_to_its_owner", || {
        use std::os::unix::fs::MetadataExt;
        let scratch = Scratch::new("owner");
        let path = scratch.path("ct");
        let cgroup = Cgroup::create(
            &scratch.layout,
            &CgroupSpec {
                cgroups_path: Some(&path),
                id: "unused",
                resources: &Value::Null,
                rootless: false,
                owner: Some(100_000),
                systemd: None,
            },
        )
        .unwrap();
        let uid = |path: &Path| std::fs::metadata(path).unwrap().uid();
        for (_, directory) in cgroup.directories() {
            // Version 1 cannot be delegated safely.
            let want = if cgroup.is_v2() { 100_000 } else { 0 };
            assert_eq!(uid(directory), want, "{}", directory.display());
            assert_eq!(uid(&directory.join("cgroup.procs")), want);
            assert_eq!(uid(directory.parent().unwrap()), 0);
        }
        if cgroup.is_v2() {
            let directory = cgroup.directory("").unwrap();
            assert_eq!(
                uid(&directory.join("cgroup.freeze")),
                0,
                "not the owner's to change"
            );
        }
        cgroup.remove(PATIENCE).unwrap();
        scratch.assert_clean();
    });
}
