//! What every black-box test stands on: a [`Sandbox`] in which one runtime is
//! called as users call it, with busybox bundles, hard deadlines, and a check
//! that nothing of the test is left on the host when it ends.
//!
//! The runtime under test is this package's binary, or what
//! `KUSABI_TEST_RUNTIME` names: a path, or `runc` or `crun` from `PATH`. A test
//! of the runc contract that fails on runc is a wrong test.
//!
//! Test bodies are plain functions over `&Sandbox`. [`on_each_view!`] runs each
//! of them twice: on the host's own cgroup layout, and in a private mount
//! namespace where `/sys/fs/cgroup` is a pure cgroup v2 tree.

// Every test binary compiles this module and uses its own part of it.
#![allow(dead_code, unused_imports, unused_macros)]

pub mod config;
pub mod container;
pub mod criu;
pub mod host;
pub mod process;
pub mod program;
pub mod runtime;
pub mod sandbox;
pub mod skip;
pub mod survivors;
pub mod terminal;
pub mod view;

pub use config::Config;
pub use container::Container;
pub use criu::{has_criu, has_criu_feature};
pub use process::{Output, Running, Spawn, deadline, wait_until};
pub use runtime::{Kind, Runtime};
pub use sandbox::{Bundle, Sandbox, by_systemd, in_sandbox, in_sandbox_of};
pub(crate) use skip::skip;
pub use survivors::survivors_are_filtered;
pub use terminal::{ConsoleSocket, Terminal};
pub use view::View;

/// Makes two tests of each named `fn(&Sandbox)`: `as_mounted::NAME` and
/// `unified::NAME`.
macro_rules! on_each_view {
    ($($name:ident),+ $(,)?) => {
        mod as_mounted {
            $(#[test]
            fn $name() {
                let test = concat!(module_path!(), "::", stringify!($name));
                $crate::common::in_sandbox(test, $crate::common::View::Host, super::$name);
            })+
        }
        mod unified {
            $(#[test]
            fn $name() {
                let test = concat!(module_path!(), "::", stringify!($name));
                $crate::common::in_sandbox(test, $crate::common::View::Unified, super::$name);
            })+
        }
    };
}
pub(crate) use on_each_view;

/// Makes one test, on the host's own cgroup layout, of each named
/// `fn(&Sandbox)`: for what has nothing to do with cgroups.
macro_rules! on_host {
    ($($name:ident),+ $(,)?) => {
        mod host_only {
            $(#[test]
            fn $name() {
                let test = concat!(module_path!(), "::", stringify!($name));
                $crate::common::in_sandbox(test, $crate::common::View::Host, super::$name);
            })+
        }
    };
}
pub(crate) use on_host;
