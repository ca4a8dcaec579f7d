//! `bundle build`, `spec`, `write-config`, `clean` and `schema`, and the builder
//! that `run --service` uses.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::context::Context;
use super::output;
use super::prepare::flags;
use crate::bundle::{BundleBuilder, BundleSpec, MARKER, Machine, clean};
use crate::cli::{BundleCommand, BundleOf, Devices, Elsewhere, ServiceOptions};
use crate::error::{Error, Result};
use crate::host::image;
use crate::host::secrets::SecretDirectory;
use crate::policy::Policy;
use crate::service::{API_SOCKET, Platform, ServiceError, Socket, Volumes, schema};

/// Does what was asked for.
///
/// # Errors
/// Whatever kept it from being done; no half of a bundle stays behind.
pub fn run(
    root: impl FnOnce() -> Result<PathBuf>,
    command: &BundleCommand,
    policy: &Policy,
) -> Result<()> {
    let builder = |of: &BundleOf| builder(&of.service, &of.devices, &of.elsewhere, policy);
    match command {
        BundleCommand::Build(arguments) => {
            let builder = builder(&arguments.of)?;
            let out = match &arguments.out {
                Some(out) => out.clone(),
                None => default_directory(&root()?, &builder.id())?,
            };
            let built = builder.build(&out)?;
            warn(&built.spec);
            output::print(&format!("{}\n", built.path.display()))
        }
        BundleCommand::Spec(arguments) => {
            let builder = builder(arguments)?;
            let spec = builder.spec()?;
            warn(&spec);
            output::print_bytes(&spec.bytes()?)
        }
        BundleCommand::WriteConfig(arguments) => {
            let builder = builder(&arguments.of)?;
            let out = named(arguments.out.as_deref())?;
            let builder = match (&arguments.of.service.rootfs, out.join("rootfs")) {
                // Names of users are looked up in what will be the root.
                (None, rootfs) if rootfs.is_dir() => builder.users_of(rootfs),
                _ => builder,
            };
            warn(&builder.write_config(out)?);
            Ok(())
        }
        BundleCommand::Clean(arguments) => {
            clean(named(arguments.directory.as_deref())?, arguments.force)
        }
        BundleCommand::Schema => {
            let mut text = output::indented(&schema(), "  ")?;
            text.push('\n');
            output::print(&text)
        }
    }
}

fn named(directory: Option<&Path>) -> Result<&Path> {
    directory.ok_or_else(|| Error::Usage("no directory was named".to_owned()))
}

/// `bundles/ID` below the state root; `bundles` is made.
///
/// # Errors
/// A container is called `bundles`, or the directory cannot be made.
pub(super) fn default_directory(root: &Path, id: &str) -> Result<PathBuf> {
    let bundles = crate::runtime::state::Store::new(root.to_owned()).bundles()?;
    match DirBuilder::new().mode(0o711).create(&bundles) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            return Err(Error::io("mkdir", &bundles, e));
        }
        _ => {}
    }
    Ok(bundles.join(id))
}

/// Says what the user should know.
pub(super) fn warn(spec: &BundleSpec) {
    for warning in &spec.warnings {
        tracing::warn!("{warning}");
    }
}

/// The builder that the options describe.
///
/// # Errors
/// No `--service`; the file, the image or an option is wrong.
pub(super) fn builder(
    options: &ServiceOptions,
    devices: &Devices,
    elsewhere: &Elsewhere,
    policy: &Policy,
) -> Result<BundleBuilder> {
    let file = options.service.as_deref().ok_or_else(|| {
        Error::Usage("no service file was named, give it with --service FILE".to_owned())
    })?;
    let mut builder = BundleBuilder::from_file(file, options.name.as_deref())?
        .policy(policy.clone())
        .machine(machine(elsewhere)?)
        .terminal(options.terminal)
        .args(options.args.clone())
        .requests(flags(devices))
        .cdi_dirs(devices.cdi_dirs.clone());
    if let Some(replica) = options.replica {
        if replica == 0 {
            return Err(wrong("--replica", "0 is no replica, the first is 1"));
        }
        builder = builder.replica(replica);
    }
    if let Some(image) = &options.image {
        let wanted = match &options.platform {
            Some(platform) => {
                Platform::parse(platform).map_err(|reason| wrong("--platform", &reason))?
            }
            None => Platform::of_target(std::env::consts::ARCH),
        };
        builder = builder.image(image::config(image, &wanted)?);
    } else if options.platform.is_some() {
        return Err(wrong("--platform", "means nothing without --image"));
    }
    if let Some(rootfs) = &options.rootfs {
        builder = builder.rootfs(rootfs);
    }
    if let Some(cwd) = &options.cwd {
        builder = builder.cwd(cwd);
    }
    if let Some(user) = &options.user {
        builder = builder.user(user);
    }
    if let Some(hostname) = &options.hostname {
        builder = builder.hostname(hostname);
    }
    for entry in &options.env {
        let (key, value) = pair("--env", entry)?;
        builder = builder.env(key, value);
    }
    for entry in &elsewhere.host_env {
        let (key, value) = pair("--host-env", entry)?;
        builder = builder.host_env(key, value);
    }
    if let Some(secrets) = &options.secrets {
        builder = builder.secrets(Box::new(SecretDirectory::new(secrets.clone())));
    }
    for volume in &options.volumes {
        let (name, path) = Volumes::parse(volume)?;
        builder = builder.volume(name, absolute(&path)?)?;
    }
    if let Some(socket) = &options.socket {
        builder = builder.socket(parse_socket(socket)?);
    }
    Ok(builder)
}

/// A bundle for `run --service`.
pub(super) struct Served {
    /// Where it is.
    pub path: PathBuf,
    /// The container's id.
    pub id: String,
    /// What is in it, and what is held for the container.
    pub spec: BundleSpec,
    /// Whether this call made it.
    pub made: bool,
}

/// Builds the bundle of `run --service`, in `out` or at the usual place.
///
/// # Errors
/// As `bundle build`.
pub(super) fn serve(
    context: &Context<'_>,
    options: &ServiceOptions,
    devices: &Devices,
    out: Option<&Path>,
    id: Option<&str>,
) -> Result<Served> {
    let mut builder = builder(options, devices, &Elsewhere::default(), context.policy()?)?;
    if let Some(id) = id {
        builder = builder.container_id(id);
    }
    builder = builder.hold_for(&context.root.path);
    let id = builder.id();
    let out = match out {
        Some(out) => out.to_owned(),
        None => default_directory(&context.root.path, &id)?,
    };
    let made = !out.join(MARKER).exists();
    let built = builder.build(&out)?;
    warn(&built.spec);
    Ok(Served {
        path: built.path,
        id,
        spec: built.spec,
        made,
    })
}

/// A flag of `--service` that was given without it.
///
/// # Errors
/// Names the flag.
pub(super) fn refuse_stray(options: &ServiceOptions) -> Result<()> {
    match options.stray() {
        Some(flag) => Err(wrong(flag, "means nothing without --service")),
        None => Ok(()),
    }
}

fn machine(elsewhere: &Elsewhere) -> Result<Machine> {
    match (&elsewhere.host_root, elsewhere.no_probe) {
        (Some(_), true) => Err(wrong("--no-probe", "contradicts --host-root")),
        (Some(root), false) => Ok(Machine::Tree(root.clone())),
        (None, true) => Ok(Machine::Unknown),
        (None, false) => Ok(Machine::Here),
    }
}

fn pair<'t>(flag: &str, text: &'t str) -> Result<(&'t str, &'t str)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key, value)),
        _ => Err(wrong(&format!("{flag} {text}"), "is not NAME=VALUE")),
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::io("resolve", path, e))
}

/// `HOST[:CONTAINER]`
fn parse_socket(text: &str) -> Result<Socket> {
    let (host, container) = match text.split_once(':') {
        Some((host, container)) => (host, container),
        None => (text, API_SOCKET),
    };
    if host.is_empty() {
        return Err(wrong("--socket", "is not HOST[:CONTAINER]"));
    }
    Ok(Socket {
        host: absolute(Path::new(host))?,
        container: PathBuf::from(container),
    })
}

fn wrong(place: &str, reason: &str) -> Error {
    ServiceError::Value {
        place: place.to_owned(),
        reason: reason.to_owned(),
    }
    .into()
}
