//! `start`, `kill`, `delete`, `state`, `list`: small commands about one
//! container, or all of them.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::context::Context;
use super::output;
use crate::cli::{Delete, Kill, List, RootOrigin, TableFormat, Target};
use crate::error::{Error, Result};
use crate::runtime::RuntimeError;
use crate::runtime::notify::{self, Notify};
use crate::runtime::state::{State, Store};
use crate::runtime::{delete, signal, start};
use crate::sys::process::pidfd_open;

/// `start`.
///
/// # Errors
/// See [`start::start`].
pub fn start(context: &Context<'_>, arguments: &Target) -> Result<()> {
    let locked = store(context).lock(arguments.id.as_str())?;
    let notify = match &context.notify_socket {
        Some(host) if notify::directory(locked.path()).exists() => {
            Some(Notify::open(locked.path(), host)?)
        }
        Some(_) => {
            tracing::warn!("readiness is not passed on: NOTIFY_SOCKET was not set for create");
            None
        }
        None => None,
    };
    let state = start::start(&locked)?;
    // Others may look at, stop and delete it meanwhile.
    drop(locked);
    if let (Some(notify), Some(init)) = (notify, state.init) {
        // ESRCH: it has ended already.
        match pidfd_open(init.pid) {
            Ok(pidfd) if init.is_alive() => notify.wait(init.pid, &pidfd)?,
            _ => {}
        }
    }
    Ok(())
}

/// `kill`. Takes no lock: a signal must reach a container that another command
/// is waiting for.
///
/// # Errors
/// See [`signal::kill`].
pub fn kill(context: &Context<'_>, arguments: &Kill) -> Result<()> {
    let state = store(context).load(arguments.id.as_str())?;
    signal::kill(&state, arguments.signal.number(), arguments.all)
}

/// `delete`.
///
/// # Errors
/// See [`delete::delete`]. With `--force` a container that does not exist is
/// none, as for runc.
pub fn delete(context: &Context<'_>, arguments: &Delete) -> Result<()> {
    match store(context).lock(arguments.id.as_str()) {
        Err(Error::Runtime(RuntimeError::NotExist)) if arguments.force => Ok(()),
        Err(error) => Err(error),
        Ok(locked) => delete::delete(locked, arguments.force),
    }
}

/// `state`.
///
/// # Errors
/// A container that does not exist.
pub fn state(context: &Context<'_>, arguments: &Target) -> Result<()> {
    let state = store(context).load(arguments.id.as_str())?;
    let text = output::indented(&describe(&state), "  ")?;
    output::print(&text)
}

/// `list`.
///
/// # Errors
/// A given root that cannot be read.
pub fn list(context: &Context<'_>, arguments: &List) -> Result<()> {
    let store = store(context);
    if context.root.origin == RootOrigin::Flag && !store.root().exists() {
        let missing = std::io::Error::from_raw_os_error(libc::ENOENT);
        return Err(Error::io("open", store.root(), missing));
    }
    let mut rows = Vec::new();
    for id in store.ids()? {
        match store.load(&id) {
            Ok(state) => rows.push((state.id.clone(), describe(&state))),
            // Deleted meanwhile, or another runtime's record.
            Err(error) => tracing::warn!("load container {id}: {error}"),
        }
    }
    if arguments.quiet {
        let ids: String = rows.iter().map(|(id, _)| format!("{id}\n")).collect();
        return output::print(&ids);
    }
    match arguments.format {
        TableFormat::Json if rows.is_empty() => output::print("null\n"),
        TableFormat::Json => {
            let all: Vec<Value> = rows.into_iter().map(|(_, row)| row).collect();
            output::print(&format!("{}\n", json!(all)))
        }
        TableFormat::Table => output::print(&table(&rows)),
    }
}

fn store(context: &Context<'_>) -> Store {
    Store::new(context.root.path.clone())
}

/// The object `state` prints and `list` has one of for each container.
fn describe(state: &State) -> Value {
    let status = state.status();
    let mut value = json!({
        "ociVersion": state.oci_version,
        "id": state.id,
        "pid": state.visible_pid(status),
        "status": status.word(),
        "bundle": state.bundle,
        "rootfs": state.rootfs,
        "created": state.created,
    });
    if !state.annotations.is_empty() {
        value["annotations"] = json!(state.annotations);
    }
    value["owner"] = owner(state.owner).into();
    value
}

/// The user's name. Read from the file: the C library's look-up loads modules,
/// which a static binary must not do.
fn owner(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() > 2 && fields[2].parse() == Ok(uid))
        .map_or_else(|| format!("#{uid}"), |fields| fields[0].to_owned())
}

/// Columns as wide as their widest cell and at least 12, three blanks apart, as
/// runc's.
fn table(rows: &[(String, Value)]) -> String {
    const TITLES: [&str; 6] = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];
    let mut lines: Vec<[String; 6]> = vec![TITLES.map(str::to_owned)];
    for (id, row) in rows {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let pid = row["pid"].to_string();
        lines.push([
            id.clone(),
            pid,
            text("status"),
            text("bundle"),
            text("created"),
            text("owner"),
        ]);
    }
    let width = |column: usize| {
        lines
            .iter()
            .map(|l| l[column].len() + 3)
            .max()
            .unwrap_or(0)
            .max(12)
    };
    let widths: Vec<usize> = (0..TITLES.len()).map(width).collect();
    let mut out = String::new();
    for line in &lines {
        for (column, cell) in line.iter().enumerate() {
            if column + 1 == line.len() {
                out.push_str(cell);
            } else {
                let width = widths[column];
                // Writing to a string cannot fail.
                let _ = write!(out, "{cell:width$}");
            }
        }
        out.push('\n');
    }
    out
}
