//! `create`, and the part of `run` that is the same.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::context::Context;
use super::prepare::{For, Options, prepare};
use crate::bundle::BundleSpec;
use crate::cdi::Mode;
use crate::cli::{Bundle, Create, Devices};
use crate::edit::{Edit, Mount, Origin, Plan, Rule, Source};
use crate::error::{Error, Result};
use crate::policy::Standing;
use crate::runtime::create::{CreateRequest, Created, create};
use crate::runtime::fault::{Step, point};
use crate::runtime::injected::Injected;
use crate::runtime::notify;
use crate::runtime::seal;
use crate::runtime::state::Store;

/// Creates a container that waits for `start`.
///
/// # Errors
/// Whatever kept it from being created; nothing of it is left then.
pub fn run(context: &Context<'_>, arguments: &Create) -> Result<()> {
    seal::ensure()?;
    create_from(
        context,
        &arguments.bundle,
        &arguments.devices,
        arguments.id.as_str(),
        false,
        None,
    )
    .map(drop)
}

/// Prepares and creates; `foreground` when the caller will supervise, `served`
/// what the bundle was made from just now.
///
/// # Errors
/// As [`run`].
pub(super) fn create_from(
    context: &Context<'_>,
    bundle: &Bundle,
    devices: &Devices,
    id: &str,
    foreground: bool,
    served: Option<&BundleSpec>,
) -> Result<Created> {
    with_request(context, bundle, devices, id, foreground, served, create)
}

/// Prepares what `create` needs, and has something done with it.
///
/// # Errors
/// As [`run`].
pub(super) fn with_request<T>(
    context: &Context<'_>,
    bundle: &Bundle,
    devices: &Devices,
    id: &str,
    foreground: bool,
    served: Option<&BundleSpec>,
    act: impl FnOnce(&Store, &CreateRequest<'_>) -> Result<T>,
) -> Result<T> {
    let mut policy = Cow::Borrowed(context.policy()?);
    let mut container = For::Container(&context.root.path);
    if served.is_some() {
        // What is asked for is in the bundle, and held.
        policy.to_mut().request = Standing::default();
        container = For::Nobody;
    }
    let options = Options {
        mode: Mode::Create,
        policy: &policy,
        id: Some(id),
        host: None,
        container,
    };
    let mut prepared = prepare(bundle.bundle.as_deref(), devices, &options)?;
    if policy.runtime.write_back {
        prepared.write_back()?;
    }
    // Of this container only: not for the bundle.
    if context.notify_socket.is_some() {
        let container = Store::new(context.root.path.clone()).path(id)?;
        prepared.add(notify_edits(&container))?;
    }
    for note in &prepared.plan.notes {
        tracing::warn!("{}", note.text);
    }
    point(Step::CreateLease)?;
    let (mut plan, mut original) = (prepared.explanation().report(), &prepared.original);
    if let Some(served) = served {
        let explanation = served.explanation();
        original = explanation.original;
        let mut whole = explanation.report();
        whole.append(plan);
        plan = whole;
    }
    // What is relative to the caller's directory is so no more once in the bundle.
    let absolute = |path: &Option<PathBuf>| -> Result<Option<PathBuf>> {
        path.as_deref()
            .map(|p| std::path::absolute(p).map_err(|e| Error::io("resolve", p, e)))
            .transpose()
    };
    let (console, pid_file, pidfd) = (
        absolute(&bundle.console_socket)?,
        absolute(&bundle.pid_file)?,
        absolute(&bundle.pidfd_socket)?,
    );
    let mut injected = Injected::default();
    if let Some(served) = served {
        injected.add(served.plan(), &[]);
    }
    injected.add(&prepared.plan, &absolute_all(&devices.cdi_dirs)?);
    act(
        &Store::new(context.root.path.clone()),
        &CreateRequest {
            id,
            bundle: &prepared.bundle,
            document: &prepared.applied.document,
            caller: &prepared.caller,
            plan: plan.json().as_bytes(),
            original: plan.changed.then(|| original.as_bytes()),
            console_socket: console.as_deref(),
            foreground,
            pid_file: pid_file.as_deref(),
            pidfd_socket: pidfd.as_deref(),
            no_pivot: bundle.no_pivot,
            no_new_keyring: bundle.no_new_keyring,
            preserve_fds: bundle.preserve_fds,
            listen_fds: context.listen_fds,
            lease: served
                .and_then(BundleSpec::lease)
                .or(prepared.lease.as_ref()),
            listen_names: context.listen_names.as_deref(),
            notify: context.notify_socket.is_some(),
            rootless_cgroups: context.rootless_cgroups(),
            systemd: context.globals.systemd_cgroup,
            injected: &injected,
        },
    )
}

fn absolute_all(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    paths
        .iter()
        .map(|p| std::path::absolute(p).map_err(|e| Error::io("resolve", p, e)))
        .collect()
}

/// What the container's configuration needs for readiness to be passed on.
fn notify_edits(container: &Path) -> Plan {
    let origin = Origin {
        rule: Rule::Builtin("readiness"),
        sources: vec![Source::Situation {
            reason: format!("{} is set for the runtime", notify::VARIABLE),
        }],
    };
    let mut plan = Plan::default();
    let mount = Edit::AddMount(Mount {
        destination: notify::IN_CONTAINER.into(),
        kind: None,
        source: Some(notify::directory(container)),
        options: ["bind", "nosuid", "noexec", "nodev", "ro"]
            .map(str::to_owned)
            .to_vec(),
    });
    plan.push(mount, origin.clone());
    let variable = Edit::SetEnv {
        name: notify::VARIABLE.to_owned(),
        value: notify::address_inside(),
    };
    plan.push(variable, origin);
    plan
}
