//! Containers: creating, starting, joining, signalling and removing them.
//!
//! The only part of kusabi that makes processes. It takes an effective
//! [`Document`](crate::document::Document) and never looks at the bundle's
//! `config.json` again.
//!
//! | file | holds |
//! |---|---|
//! | `state` | the record of a container and its store: atomic, locked |
//! | `identity` | processes by pid *and* start time |
//! | `typed` | parts of a document as values, errors with the field |
//! | `undo`, `fault` | steps, their undo, and where tests may break them |
//! | `lower` | what libcontainer is given, and what it must not see |
//! | `create`, `start`, `exec`, `signal`, `delete` | the operations |
//! | `checkpoint`, `criu` | processes into an image; out of one: `create::restore` |
//! | `parked` | signals to a container that waits for `start` |
//! | `birth`, `idmap` | clone, limits, id maps: the parent's side of a new process |
//! | `child`, `tail` | the new process before and after libcontainer's part |
//! | `attributes`, `id_list` | scheduler, priorities, affinity, memory policy |
//! | `lsm` | AppArmor profiles and SELinux labels |
//! | `join` | namespaces joined by path |
//! | `mounts` | containers without a mount namespace of their own, or with another's |
//! | `inside`, `root` | helpers inside the container, and its root where they put it together |
//! | `sysctl` | `linux.sysctl` |
//! | `protect` | what of the root is hidden and read-only in the end |
//! | `hooks` | hooks, run one after the other |
//! | `seccomp` | profiles compiled once and cached |
//! | `delegate` | another runtime in our place |
//! | `supervise`, `console` | foreground containers |
//! | `network` | interfaces that move into a container |
//! | `resctrl` | shares of cache and memory bandwidth |
//! | `notify` | readiness passed on to systemd |
//! | `rootless` | what callers without privilege are refused |
//! | `population` | the processes of a container, also of one without a cgroup |

pub mod attributes;
pub mod birth;
pub mod checkpoint;
pub mod child;
pub mod console;
pub mod create;
pub mod credentials;
pub mod criu;
pub mod delegate;
pub mod delete;
mod error;
pub mod exec;
pub mod fault;
pub mod fifo;
pub mod hooks;
pub mod id_list;
pub mod identity;
pub mod idmap;
pub mod injected;
pub mod inside;
pub mod join;
pub mod live;
pub mod lower;
pub mod lower_mounts;
pub mod lsm;
pub mod mounts;
pub mod network;
pub mod notify;
pub mod parked;
pub mod population;
pub mod process;
pub mod protect;
pub mod resctrl;
pub mod root;
pub mod rootless;
pub mod seal;
pub mod seccomp;
pub mod signal;
pub mod start;
pub mod state;
pub mod supervise;
pub mod sysctl;
pub mod tail;
pub mod typed;
pub mod undo;

pub use error::RuntimeError;
