//! `exec`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::context::Context;
use crate::cli::Exec;
use crate::document::Document;
use crate::error::{Error, Result};
use crate::host::bounded;
use crate::log;
use crate::runtime::exec::{ExecRequest, exec};
use crate::runtime::process::inherit;
use crate::runtime::state::Store;
use crate::runtime::supervise::Supervisor;
use crate::runtime::{RuntimeError, notify, seal, start};

/// Executes a process; returns its exit status, 0 when detached.
///
/// # Errors
/// Always [`Error::Exec`], whose exit code is 255: callers must be able to tell
/// our failure from the process's.
pub fn run(context: &Context<'_>, arguments: &Exec) -> Result<u8> {
    execute(context, arguments).map_err(|error| Error::Exec {
        source: Box::new(error),
    })
}

fn execute(context: &Context<'_>, arguments: &Exec) -> Result<u8> {
    seal::ensure()?;
    let store = Store::new(context.root.path.clone());
    let locked = store.lock(arguments.id.as_str())?;
    let state = locked.read()?;
    let document = start::effective(&locked)?;
    let (process, origin) = process(arguments, &document)?;
    let supervisor = if arguments.detach {
        None
    } else {
        Some(Supervisor::new(false)?)
    };
    let absolute = |path: &Option<PathBuf>| -> Result<Option<PathBuf>> {
        path.as_deref()
            .map(|p| std::path::absolute(p).map_err(|e| Error::io("resolve", p, e)))
            .transpose()
    };
    let (console, pid_file, pidfd) = (
        absolute(&arguments.console_socket)?,
        absolute(&arguments.pid_file)?,
        absolute(&arguments.pidfd_socket)?,
    );
    let executed = exec(
        &store,
        &locked,
        &state,
        &document,
        &ExecRequest {
            process: &process,
            origin: &origin,
            detach: arguments.detach,
            console_socket: console.as_deref(),
            pid_file: pid_file.as_deref(),
            pidfd_socket: pidfd.as_deref(),
            preserve_fds: arguments.preserve_fds,
            listen_fds: context.listen_fds,
            listen_names: context.listen_names.as_deref(),
            cgroups: &arguments.cgroups,
            ignore_paused: arguments.ignore_paused,
        },
    )?;
    drop(locked);
    let Some(supervisor) = supervisor else {
        return Ok(0);
    };
    // It runs, for as long as it likes: what there is to warn of is said now.
    log::commit();
    let newborn = executed.newborn;
    let status = supervisor.run(newborn.pid, &newborn.pidfd, executed.console, None)?;
    Ok(u8::try_from(status & 0xff).unwrap_or(u8::MAX))
}

/// The `process` object: of the file, or of the container's configuration with
/// what the flags change.
fn process(arguments: &Exec, document: &Document) -> Result<(Value, String)> {
    if let Some(path) = &arguments.process {
        let process = inherit(read_process(path)?, &document.value()["process"]);
        return Ok((process, path.display().to_string()));
    }
    let mut process = document.value()["process"].clone();
    // Readiness is the affair of the container's own program.
    let notify = format!("{}={}", notify::VARIABLE, notify::address_inside());
    if let Some(env) = process["env"].as_array_mut() {
        env.retain(|entry| entry.as_str() != Some(&notify));
    }
    if arguments.args.is_empty() {
        return Err(RuntimeError::Refused("exec args cannot be empty".into()).into());
    }
    process["args"] = json!(arguments.args);
    if let Some(cwd) = arguments.cwd.as_deref().filter(|c| !c.is_empty()) {
        process["cwd"] = cwd.into();
    }
    if let Some(profile) = arguments.apparmor.as_deref().filter(|p| !p.is_empty()) {
        process["apparmorProfile"] = profile.into();
    }
    if let Some(label) = arguments.process_label.as_deref().filter(|l| !l.is_empty()) {
        process["selinuxLabel"] = label.into();
    }
    for capability in &arguments.cap {
        let mut sets = vec!["bounding", "effective", "permitted"];
        // Ambient needs inheritable, which --cap never sets by itself.
        if process["capabilities"]["inheritable"].as_array().is_some() {
            sets.push("ambient");
        }
        for set in sets {
            append(
                &mut process["capabilities"][set],
                capability.as_str().into(),
            );
        }
    }
    for variable in &arguments.env {
        append(&mut process["env"], variable.as_str().into());
    }
    process["terminal"] = arguments.tty.into();
    if let Some(value) = arguments.no_new_privs {
        process["noNewPrivileges"] = value.into();
    }
    if let Some(user) = arguments.user {
        process["user"]["uid"] = user.uid.into();
        if let Some(gid) = user.gid {
            process["user"]["gid"] = gid.into();
        }
    }
    for gid in &arguments.additional_gids {
        append(&mut process["user"]["additionalGids"], (*gid).into());
    }
    Ok((process, "config.json: process".to_owned()))
}

fn append(list: &mut Value, item: Value) {
    match list {
        Value::Array(items) => items.push(item),
        other => *other = Value::Array(vec![item]),
    }
}

fn read_process(path: &Path) -> Result<Value> {
    let bytes = bounded::read(path, bounded::MAX_JSON)?;
    let refused = |why: String| RuntimeError::Refused(format!("{}: {why}", path.display())).into();
    let process: Value = serde_json::from_slice(&bytes).map_err(|e| refused(e.to_string()))?;
    if process.is_object() {
        Ok(process)
    } else {
        Err(refused("expected an object".to_owned()))
    }
}
