//! Runs an attack against the runtime under test and against known-bad ones.

use std::path::PathBuf;

use crate::common::runtime::which;
use crate::common::{Kind, Runtime, Sandbox, skip, view};

/// What an attack came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing that must not happen did.
    Held,
    /// The attack worked; what was seen.
    Broken(String),
}

impl Outcome {
    /// Broken if `fault` says anything.
    pub fn from_fault(fault: Option<String>) -> Self {
        fault.map_or(Self::Held, Self::Broken)
    }

    /// Broken if there are any.
    pub fn from_changes(changes: &[String]) -> Self {
        Self::from_fault((!changes.is_empty()).then(|| changes.join("; ")))
    }
}

/// A runtime that falls for an attack.
#[derive(Debug, Clone, Copy)]
pub enum Bad {
    /// An old runc by its tag.
    Tag(&'static str),
    /// runc of `PATH`, up to and without this version.
    RuncBefore(&'static str),
    /// crun of `PATH`, up to and without this version.
    CrunBefore(&'static str),
}

impl Bad {
    fn find(self) -> Option<Runtime> {
        match self {
            Self::Tag(tag) => {
                let dir = PathBuf::from(std::env::var_os("KUSABI_TEST_BAD_RUNTIMES")?);
                let path = dir.join(format!("runc-{tag}"));
                path.is_file().then(|| Runtime::at(path))
            }
            Self::RuncBefore(limit) => older("runc", limit),
            Self::CrunBefore(limit) => older("crun", limit),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Tag(tag) => format!("runc {tag}"),
            Self::RuncBefore(limit) => format!("runc before {limit}"),
            Self::CrunBefore(limit) => format!("crun before {limit}"),
        }
    }
}

fn older(name: &str, limit: &str) -> Option<Runtime> {
    let path = which(name)?;
    let out = std::process::Command::new(&path)
        .arg("--version")
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&out.stdout);
    let version = text.lines().next()?.split_whitespace().last()?;
    (numbers(version) < numbers(limit)).then(|| Runtime::at(path))
}

/// `1.1.5+ds1` as numbers.
fn numbers(version: &str) -> Vec<u32> {
    let end = version
        .find(|c: char| c != '.' && !c.is_ascii_digit())
        .unwrap_or(version.len());
    version[..end]
        .split('.')
        .filter_map(|n| n.parse().ok())
        .collect()
}

/// The runtime under test must hold, each of `bad` that is here must not.
#[track_caller]
pub fn must_hold(sandbox: &Sandbox, bad: &[Bad], attack: impl Fn(&Sandbox) -> Outcome + Sync) {
    let outcome = attack(sandbox);
    assert_eq!(
        outcome,
        Outcome::Held,
        "{}",
        sandbox.runtime().path.display()
    );
    let mut shown = bad.is_empty();
    for runtime in bad {
        if let Some(found) = runtime.find() {
            shown = true;
            // This very runtime has just held: its distribution has mended it.
            if found.path == sandbox.runtime().path {
                panic!(
                    "{} holds: its version is not known-bad any more",
                    runtime.name()
                );
            }
            let outcome = attack_peer(sandbox, found, &attack);
            assert_ne!(
                outcome,
                Outcome::Held,
                "{}: the attack does not work",
                runtime.name()
            );
        }
    }
    if !shown {
        let names: Vec<String> = bad.iter().map(|b| b.name()).collect();
        skip::report(&format!(
            "the counter-check: none of these is here: {}",
            names.join(", ")
        ));
    }
}

fn attack_peer(
    sandbox: &Sandbox,
    runtime: Runtime,
    attack: &(impl Fn(&Sandbox) -> Outcome + Sync),
) -> Outcome {
    let kind = runtime.kind;
    let peer = sandbox.beside(runtime);
    // crun refuses a hybrid cgroup layout.
    let body = || {
        if kind == Kind::Crun {
            view::leave_hybrid();
        }
        let outcome = attack(&peer);
        drop(peer);
        outcome
    };
    std::thread::scope(|scope| scope.spawn(body).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
