//! kusabi: a runc-compatible OCI runtime that edits, filters and explains
//! containers which ask for devices.
//!
//! # How data flows
//!
//! ```text
//! argv ── cli ──────────────▶ Invocation ─┐
//! bundle/config.json ────────▶ Document  ─┤
//! policy file ── policy ─────▶ Policy ────┤
//!   request: annotations, flags, environment, mounts, policy ▶ Vec<Request>
//!   resolve: which host facts are needed ─ host probes just these ▶ Snapshot
//!                                        ▶ Plan (ordered edits with provenance)
//!   edit::apply ▶ the effective Document
//!   runtime::lower ▶ what libcontainer can do, and host actions for the rest
//!   runtime ▶ cgroup, device filter, process, state
//! ```
//!
//! # Who is trusted
//!
//! The engine's `config.json`, root-owned CDI specifications, the host policy
//! and the command line are trusted. The root file system, the image's
//! environment, volumes shared with running containers and every process in a
//! container are not. Annotations and environment are *requests*: they say what
//! is wanted, never what is allowed.
//!
//! # Where things may happen
//!
//! [`document`], [`request`], [`cdi`] (bytes in), [`gpu`], [`edit`],
//! [`policy`], [`rootless`], [`service`], [`yaml`], `device::{rules, policy, program}`,
//! `cgroup::{parent, path}`, what `cgroup::systemd` asks for, and
//! `host::facts` are pure: values in, values out, no file system, environment,
//! process or system call. A test (`tests/purity.rs`) enforces it. Probing the
//! host lives in the rest of [`host`]; `unsafe` is confined to [`sys`].
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::print_stderr
    )
)]

pub mod bundle;
pub mod cdi;
pub mod cgroup;
pub mod cli;
pub mod command;
pub mod device;
pub mod doctor;
pub mod document;
pub mod edit;
pub mod error;
pub mod gpu;
pub mod host;
pub mod lease;
pub mod log;
pub mod policy;
pub mod request;
mod resolve;
pub mod rootfs;
pub mod rootless;
pub mod runtime;
pub mod service;
pub mod sys;
pub mod yaml;

pub use error::{Error, Result};
