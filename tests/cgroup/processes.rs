//! Freezing and killing.

use kusabi::cgroup::{CgroupError, FreezerState};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::child::Child;
use crate::view::{PATIENCE, Scratch, everywhere};

#[test]
fn frozen_processes_stand_still_until_thawed() {
    everywhere(
        "processes::frozen_processes_stand_still_until_thawed",
        || {
            let scratch = Scratch::new("freeze");
            let cgroup = scratch.create("ct", &Value::Null).unwrap();
            assert_eq!(cgroup.freezer_state().unwrap(), FreezerState::Thawed);
            let child = Child::born(&cgroup.entry().unwrap()).unwrap();
            child.settle();
            cgroup.freeze(PATIENCE).unwrap();
            assert_eq!(cgroup.freezer_state().unwrap(), FreezerState::Frozen);
            // It would have to run to die of this one: other than for SIGTERM,
            // the kernel does not see to it from outside.
            nix::sys::signal::kill(child.pid, Signal::SIGQUIT).unwrap();
            assert!(
                !child.ends_within(100),
                "a frozen process acted on a signal"
            );
            cgroup.thaw().unwrap();
            assert_eq!(cgroup.freezer_state().unwrap(), FreezerState::Thawed);
            assert_eq!(child.killed_by(), Signal::SIGQUIT);
            cgroup.remove(PATIENCE).unwrap();
            assert_eq!(cgroup.freezer_state().unwrap(), FreezerState::Undefined);
            scratch.assert_clean();
        },
    );
}

#[test]
fn an_ancestors_freeze_is_not_the_containers() {
    everywhere(
        "processes::an_ancestors_freeze_is_not_the_containers",
        || {
            let scratch = Scratch::new("ancestor");
            let pod = scratch.create("pod", &Value::Null).unwrap();
            let cgroup = scratch.create("pod/ct", &Value::Null).unwrap();
            pod.freeze(PATIENCE).unwrap();
            assert_eq!(pod.freezer_state().unwrap(), FreezerState::Frozen);
            assert_eq!(cgroup.freezer_state().unwrap(), FreezerState::Thawed);
            pod.thaw().unwrap();
            pod.remove(PATIENCE).unwrap();
            scratch.assert_clean();
        },
    );
}

#[test]
fn everything_is_killed_frozen_or_nested() {
    everywhere("processes::everything_is_killed_frozen_or_nested", || {
        let scratch = Scratch::new("kill");
        for frozen in [false, true] {
            let cgroup = scratch.create("ct", &Value::Null).unwrap();
            let entry = cgroup.entry().unwrap();
            let mut children: Vec<Child> = (0..5).map(|_| Child::born(&entry).unwrap()).collect();
            // One that has gone below, in every hierarchy.
            let below = Child::born(&entry).unwrap();
            children.iter().chain([&below]).for_each(Child::settle);
            for (controller, directory) in cgroup.directories() {
                // Version 1's cpusets are born empty and take nobody.
                if controller == "cpuset" {
                    continue;
                }
                let nested = directory.join("nested");
                if !nested.exists() {
                    std::fs::create_dir(&nested).unwrap();
                }
                std::fs::write(nested.join("cgroup.procs"), below.pid.to_string()).unwrap();
            }
            children.push(below);
            assert_eq!(cgroup.pids(true).unwrap().len(), 6);
            assert_eq!(cgroup.pids(false).unwrap().len(), 5);
            if frozen {
                cgroup.freeze(PATIENCE).unwrap();
            }
            cgroup.kill_all().unwrap();
            for child in children {
                assert_eq!(child.killed_by(), Signal::SIGKILL);
            }
            cgroup.remove(PATIENCE).unwrap();
            assert!(matches!(cgroup.kill_all(), Err(CgroupError::Gone)));
            scratch.assert_clean();
        }
    });
}

#[test]
fn a_process_outside_the_unified_hierarchy_is_killed_too() {
    everywhere(
        "processes::a_process_outside_the_unified_hierarchy_is_killed_too",
        || {
            let scratch = Scratch::new("stray");
            if !scratch.layout.is_hybrid() {
                return;
            }
            let cgroup = scratch.create("ct", &Value::Null).unwrap();
            let child = Child::born(&cgroup.entry().unwrap()).unwrap();
            child.settle();
            let elsewhere = scratch.create("elsewhere", &Value::Null).unwrap();
            let unified = elsewhere.directory("").unwrap().join("cgroup.procs");
            std::fs::write(unified, child.pid.to_string()).unwrap();
            cgroup.kill_all().unwrap();
            assert_eq!(child.killed_by(), Signal::SIGKILL);
            // The one that made their parent goes last.
            elsewhere.remove(PATIENCE).unwrap();
            cgroup.remove(PATIENCE).unwrap();
            scratch.assert_clean();
        },
    );
}

#[test]
fn any_signal_reaches_everyone() {
    everywhere("processes::any_signal_reaches_everyone", || {
        let scratch = Scratch::new("signal");
        let cgroup = scratch.create("ct", &Value::Null).unwrap();
        let entry = cgroup.entry().unwrap();
        let children: Vec<Child> = (0..3).map(|_| Child::born(&entry).unwrap()).collect();
        children.iter().for_each(Child::settle);
        cgroup
            .signal_all(|pid| nix::sys::signal::kill(pid, Signal::SIGUSR1))
            .unwrap();
        assert_eq!(cgroup.freezer_state().unwrap(), FreezerState::Thawed);
        for child in children {
            assert_eq!(child.killed_by(), Signal::SIGUSR1);
        }
        cgroup.remove(PATIENCE).unwrap();
        scratch.assert_clean();
    });
}
