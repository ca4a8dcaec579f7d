//! Every step of every operation, failing and killed: what a failed operation
//! leaves is what was there before it, and what a killed one leaves is filtered
//! and goes with `delete --force`.
//!
//! The runtime is always this package's binary with the cargo feature
//! `fault-injection`; `KUSABI_TEST_RUNTIME` names one that does not break.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod bundle;
#[path = "../common/mod.rs"]
mod common;
mod live;
mod restored;
mod scene;

use std::path::PathBuf;

use kusabi::runtime::fault::Step;

use common::{
    Config, Runtime, Sandbox, Spawn, View, host, in_sandbox_of, survivors_are_filtered, wait_until,
};
use live::{
    add_that_fails_changes_nothing, change_that_is_killed_can_be_done_again,
    heal_that_fails_changes_nothing, heal_that_is_killed_can_be_done_again,
    remove_that_fails_changes_nothing,
};
use restored::Image;
use scene::{Scene, Snapshot};

/// The commands whose steps may break. A new step needs its place here, or this
/// does not compile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Create,
    Start,
    Exec,
    /// devices add, devices remove, heal
    Change,
    Delete,
    Build,
    Clean,
    Restore,
}

fn operation(step: Step) -> Operation {
    match step {
        Step::CreateLease
        | Step::CreateState
        | Step::CreateConfig
        | Step::CreateCgroup
        | Step::CreateFilter
        | Step::CreateProcess
        | Step::CreateRelease
        | Step::CreateHooks
        | Step::CreateParked
        | Step::CreateVerify
        | Step::CreateCommit
        | Step::CreateRecord
        | Step::CreatePidFile => Operation::Create,
        Step::StartVerify | Step::StartRelease | Step::StartHooks => Operation::Start,
        Step::ExecVerify | Step::ExecProcess | Step::ExecRelease | Step::ExecPidFile => {
            Operation::Exec
        }
        Step::ChangeNodes
        | Step::ChangeMounts
        | Step::ChangeFilter
        | Step::ChangeTaken
        | Step::ChangeLease
        | Step::ChangeConfig
        | Step::ChangeRecord => Operation::Change,
        Step::DeleteKill
        | Step::DeleteCgroup
        | Step::DeleteHooks
        | Step::DeleteLease
        | Step::DeleteState => Operation::Delete,
        Step::BuildDirectory
        | Step::BuildNewMarker
        | Step::BuildMarker
        | Step::BuildRootfs
        | Step::BuildNewConfig
        | Step::BuildConfig => Operation::Build,
        Step::CleanRootfsAside | Step::CleanRootfs | Step::CleanConfigAside | Step::CleanConfig => {
            Operation::Clean
        }
        Step::RestoreState
        | Step::RestoreConfig
        | Step::RestoreCgroup
        | Step::RestoreFilter
        | Step::RestoreCriu
        | Step::RestoreHooks
        | Step::RestoreProcess
        | Step::RestoreVerify
        | Step::RestoreRecord
        | Step::RestorePidFile => Operation::Restore,
    }
}

/// The last hook that has run when a step is done, for those that follow one.
fn last_hook(step: Step) -> Option<&'static str> {
    match step {
        Step::CreateHooks => Some("createRuntime"),
        Step::CreateParked
        | Step::CreateVerify
        | Step::CreateCommit
        | Step::CreateRecord
        | Step::CreatePidFile
        | Step::StartVerify => Some("createContainer"),
        Step::StartRelease => Some("startContainer"),
        Step::StartHooks => Some("poststart"),
        Step::DeleteHooks | Step::DeleteLease | Step::DeleteState => Some("poststop"),
        _ => None,
    }
}

/// Calls `case` for each step of an operation, and says which one it was that
/// failed.
fn each(wanted: Operation, mut case: impl FnMut(Step)) {
    let mut count = 0;
    for &step in Step::ALL.iter().filter(|s| operation(**s) == wanted) {
        eprintln!("at {}", step.name());
        case(step);
        count += 1;
    }
    assert!(count > 0, "no step of {wanted:?}");
}

macro_rules! cases {
    ($($name:ident),+ $(,)?) => {
        cases!(@view as_mounted, View::Host; $($name),+);
        cases!(@view unified, View::Unified; $($name),+);
    };
    (@view $module:ident, $view:expr; $($name:ident),+) => {
        mod $module {
            use super::*;
            $(#[test]
            fn $name() {
                let test = concat!(module_path!(), "::", stringify!($name));
                let runtime = Runtime::at(PathBuf::from(env!("CARGO_BIN_EXE_kusabi")));
                in_sandbox_of(runtime, test, $view, super::$name);
            })+
        }
    };
}

cases![
    create_that_fails_leaves_nothing,
    create_that_is_killed_can_be_deleted,
    create_that_is_killed_leaves_its_place_to_another,
    start_that_fails_leaves_a_created_or_a_stopped_container,
    start_that_is_killed_leaves_a_filtered_container,
    exec_that_fails_leaves_no_process,
    exec_that_is_killed_leaves_the_container_running,
    add_that_fails_changes_nothing,
    remove_that_fails_changes_nothing,
    heal_that_fails_changes_nothing,
    change_that_is_killed_can_be_done_again,
    heal_that_is_killed_can_be_done_again,
    delete_of_a_running_container_that_fails_can_go_on,
    delete_of_a_running_container_that_is_killed_can_go_on,
    delete_of_a_stopped_container_that_fails_can_go_on,
    delete_of_a_stopped_container_that_is_killed_can_go_on,
    restore_that_fails_leaves_nothing,
    restore_that_is_killed_can_be_deleted,
];

fn create_that_fails_leaves_nothing(sandbox: &Sandbox) {
    let scene = Scene::new(sandbox);
    each(Operation::Create, |step| {
        let before = Snapshot::of(sandbox, None);
        scene.fails(step, scene.create());
        assert_eq!(scene.last_hook().as_deref(), last_hook(step));
        before.still_holds(sandbox, None);
        assert_eq!(sandbox.left(), Vec::<String>::new());
        assert_eq!(scene.held(), []);
        scene.forget_hooks();
        // The id is free again, and nothing is in a next one's way.
        scene.create().output().succeeded();
        scene.remove();
    });
}

fn create_that_is_killed_can_be_deleted(sandbox: &Sandbox) {
    let scene = Scene::new(sandbox);
    each(Operation::Create, |step| {
        let before = Snapshot::of(sandbox, None);
        scene.is_killed(step, scene.create());
        if let Some(hook) = last_hook(step) {
            // Init goes on to its own hooks where it had been let go.
            let seen = scene.last_hook().expect("a hook");
            assert!(seen == hook || hook == "createRuntime", "{seen} for {hook}");
        }
        let survivors = survivors_are_filtered(sandbox, scene.id());
        let parked = matches!(
            step,
            Step::CreateParked
                | Step::CreateVerify
                | Step::CreateCommit
                | Step::CreateRecord
                | Step::CreatePidFile
        );
        assert!(survivors <= 1 && (survivors == 1 || !parked), "{survivors}");
        let recorded = matches!(step, Step::CreateRecord | Step::CreatePidFile);
        if step == Step::CreateLease {
            // Nothing had been made.
            assert_eq!(sandbox.left(), Vec::<String>::new());
        } else {
            assert_eq!(scene.status(), if recorded { "created" } else { "stopped" });
        }
        let held = scene.held();
        // A lease ends with kusabi, until the container has it.
        let committed = recorded || step == Step::CreateCommit;
        assert_eq!(held.len(), usize::from(committed), "{held:?}");
        // It is the caller's, who was to read the pid from it.
        assert_eq!(scene.take_pid_file(), step == Step::CreatePidFile);
        scene.remove();
        before.still_holds(sandbox, None);
    });
}

/// Whoever is in the cgroup that was planned but never made is not the dead
/// container's to kill.
fn create_that_is_killed_leaves_its_place_to_another(sandbox: &Sandbox) {
    let scene = Scene::new(sandbox);
    scene.is_killed(Step::CreateState, scene.create());
    let config = Config::sleeper().set("/linux/cgroupsPath", scene.cgroups_path());
    let other = sandbox.run_detached(&sandbox.bundle(&config));
    scene.delete(true).output().succeeded();
    assert_eq!(other.status(), "running");
    other.delete_force();
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

fn start_that_fails_leaves_a_created_or_a_stopped_container(sandbox: &Sandbox) {
    let scene = Scene::new(sandbox);
    each(Operation::Start, |step| {
        let empty = Snapshot::of(sandbox, None);
        scene.create().output().succeeded();
        let init = scene.pid();
        let before = Snapshot::of(sandbox, Some(init));
        scene.fails(step, scene.start());
        assert_eq!(scene.last_hook().as_deref(), last_hook(step));
        if step == Step::StartVerify {
            before.still_holds(sandbox, Some(init));
            assert_eq!(scene.status(), "created");
            scene.start().output().succeeded();
            assert_eq!((scene.status().as_str(), scene.pid()), ("running", init));
        } else {
            // The program had begun: it is ended.
            wait_until("the end of init", || scene.status() == "stopped");
            assert_eq!(host::processes_in(scene.id()), []);
            scene.start().output().exited(1);
            scene.delete(false).output().succeeded();
        }
        assert!(scene.take_pid_file());
        scene.remove();
        empty.still_holds(sandbox, None);
    });
}

fn start_that_is_killed_leaves_a_filtered_container(sandbox: &Sandbox) {
    let scene = Scene::new(sandbox);
    each(Operation::Start, |step| {
        let empty = Snapshot::of(sandbox, None);
        scene.create().output().succeeded();
        let init = scene.pid();
        scene.is_killed(step, scene.start());
        assert_eq!(scene.last_hook().as_deref(), last_hook(step));
        assert_eq!(survivors_are_filtered(sandbox, scene.id()), 1);
        // Also where nobody could write it down any more.
        let waits = step == Step::StartVerify;
        assert_eq!(scene.status(), if waits { "created" } else { "running" });
        assert_eq!(scene.pid(), init);
        if waits {
            scene.start().output().succeeded();
        }
        assert!(scene.take_pid_file());
        scene.remove();
        empty.still_holds(sandbox, None);
    });
}

fn exec_that_fails_leaves_no_process(sandbox: &Sandbox) {
    let scene = Scene::new(sandbox);
    scene.run();
    let init = scene.pid();
    each(Operation::Exec, |step| {
        let before = Snapshot::of(sandbox, Some(init));
        let out = scene.fails(step, scene.exec());
        assert_eq!(out.code, Some(255), "{out}");
        before.still_holds(sandbox, Some(init));
        assert_eq!(host::processes_in(scene.id()).len(), 1);
        assert_eq!(scene.status(), "running");
        // It still takes processes.
        scene.exec().output().succeeded();
        assert!(scene.take_pid_file());
        scene.end_executed(init);
    });
    scene.remove();
}

fn exec_that_is_killed_leaves_the_container_running(sandbox: &Sandbox) {
    let scene = Scene::new(sandbox);
    each(Operation::Exec, |step| {
        let empty = Snapshot::of(sandbox, None);
        scene.run();
        let init = scene.pid();
        scene.is_killed(step, scene.exec());
        let survivors = survivors_are_filtered(sandbox, scene.id());
        match step {
            Step::ExecVerify => assert_eq!(survivors, 1),
            // It was not let go, and ends when nobody can do so any more.
            Step::ExecProcess => wait_until("the end of the child", || {
                host::processes_in(scene.id()).len() == 1
            }),
            Step::ExecPidFile => assert_eq!(survivors, 2),
            _ => assert!((1..=2).contains(&survivors), "{survivors}"),
        }
        assert_eq!((scene.status().as_str(), scene.pid()), ("running", init));
        // It is the caller's, who was to read the pid from it.
        assert_eq!(scene.take_pid_file(), step == Step::ExecPidFile);
        scene.exec().output().succeeded();
        assert!(scene.take_pid_file());
        scene.remove();
        empty.still_holds(sandbox, None);
    });
}

fn delete_of_a_running_container_that_fails_can_go_on(sandbox: &Sandbox) {
    delete_breaks(sandbox, true, |scene, step, call| {
        scene.fails(step, call);
    });
}

fn delete_of_a_running_container_that_is_killed_can_go_on(sandbox: &Sandbox) {
    delete_breaks(sandbox, true, |scene, step, call| {
        scene.is_killed(step, call);
    });
}

fn delete_of_a_stopped_container_that_fails_can_go_on(sandbox: &Sandbox) {
    delete_breaks(sandbox, false, |scene, step, call| {
        scene.fails(step, call);
    });
}

fn delete_of_a_stopped_container_that_is_killed_can_go_on(sandbox: &Sandbox) {
    delete_breaks(sandbox, false, |scene, step, call| {
        scene.is_killed(step, call);
    });
}

fn restore_that_fails_leaves_nothing(sandbox: &Sandbox) {
    let Some(image) = Image::of_a_sleeper(sandbox) else {
        return;
    };
    each(Operation::Restore, |step| {
        let before = Snapshot::of(sandbox, None);
        image.fails(step);
        before.still_holds(sandbox, None);
        assert_eq!(sandbox.left(), Vec::<String>::new());
    });
    // The image is still good, and nothing is in the way.
    image.restore(None).succeeded();
    assert_eq!(image.status(), "running");
    image.remove();
}

fn restore_that_is_killed_can_be_deleted(sandbox: &Sandbox) {
    let Some(image) = Image::of_a_sleeper(sandbox) else {
        return;
    };
    each(Operation::Restore, |step| {
        let before = Snapshot::of(sandbox, None);
        image.is_killed(step);
        let restored = matches!(
            step,
            Step::RestoreProcess | Step::RestoreVerify | Step::RestoreRecord | Step::RestorePidFile
        );
        if !restored {
            // What criu had begun it undoes.
            wait_until("the end of criu", || {
                host::processes_in(image.id()).is_empty()
            });
        }
        let survivors = survivors_are_filtered(sandbox, image.id());
        assert_eq!(survivors > 0, restored, "{survivors}");
        assert_eq!(image.take_pid_file(), step == Step::RestorePidFile);
        image.remove();
        before.still_holds(sandbox, None);
    });
}

fn delete_breaks(sandbox: &Sandbox, running: bool, breaks: impl Fn(&Scene<'_>, Step, Spawn)) {
    let scene = Scene::new(sandbox);
    each(Operation::Delete, |step| {
        let empty = Snapshot::of(sandbox, None);
        scene.run();
        if !running {
            scene.stop();
        }
        scene.forget_hooks();
        breaks(&scene, step, scene.delete(running));
        assert_eq!(scene.last_hook().as_deref(), last_hook(step));
        wait_until("the end of its processes", || {
            host::processes_in(scene.id()).is_empty()
        });
        let cgroups = host::cgroups_named(scene.id());
        assert_eq!(cgroups.is_empty(), step != Step::DeleteKill, "{cgroups:?}");
        if step == Step::DeleteState {
            assert_eq!(sandbox.left(), Vec::<String>::new());
        } else {
            // It is known until all of it has gone.
            assert_eq!(scene.status(), "stopped");
        }
        assert_eq!(scene.held(), []);
        scene.delete(true).output().succeeded();
        assert_eq!(scene.last_hook().as_deref(), Some("poststop"));
        scene.remove();
        empty.still_holds(sandbox, None);
    });
}
