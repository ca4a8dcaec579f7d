//! The library's way to a bundle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::cgroup::nested;
use crate::cgroup::parent::Migration;
use crate::document::Document;
use crate::edit::{self, Applied, Explanation, Ledger, Plan};
use crate::error::{Error, Result};
use crate::host::bounded;
use crate::host::caller::caller;
use crate::lease::Reservation;
use crate::policy::Policy;
use crate::request::Flags;
use crate::resolve::rootless::conversion;
use crate::service::{
    ImageConfig, Overrides, SecretProvider, Service, ServiceError, ServiceFile, Socket, VolumeName,
    assemble, container_id,
};

use super::build::{self, Built};
use super::directory;
use super::facts;

/// Whose numbers, users and variables a specification has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Machine {
    /// This one's.
    #[default]
    Here,
    /// Those of the machine whose file tree this is.
    Tree(PathBuf),
    /// Nobody's: what would have to be looked up is an error.
    Unknown,
}

/// The most bytes a service file may have.
const MAX_SERVICE_FILE: usize = 8 << 20;

/// Describes a bundle; each method overrides what the service, the image or the
/// defaults say.
pub struct BundleBuilder {
    pub(super) deployment: String,
    pub(super) name: String,
    pub(super) service: Service,
    pub(super) replica: u32,
    pub(super) image: ImageConfig,
    pub(super) rootfs: Option<PathBuf>,
    pub(super) overrides: Overrides,
    pub(super) env: Vec<(String, String)>,
    pub(super) secrets: Option<Box<dyn SecretProvider>>,
    pub(super) machine: Machine,
    pub(super) host_env: BTreeMap<String, String>,
    pub(super) cdi_dirs: Vec<PathBuf>,
    pub(super) flags: Flags,
    pub(super) migrate: bool,
    pub(super) policy: Policy,
    pub(super) id: Option<String>,
    pub(super) users: Option<PathBuf>,
    pub(super) state_root: Option<PathBuf>,
}

impl BundleBuilder {
    /// A builder for a service that has been read already.
    #[must_use]
    pub fn new(deployment: &str, name: &str, service: Service) -> Self {
        Self {
            deployment: deployment.to_owned(),
            name: name.to_owned(),
            service,
            replica: 1,
            image: ImageConfig::default(),
            rootfs: None,
            overrides: Overrides::default(),
            env: Vec::new(),
            secrets: None,
            machine: Machine::Here,
            host_env: BTreeMap::new(),
            cdi_dirs: Vec::new(),
            flags: Flags::default(),
            migrate: false,
            policy: Policy::default(),
            id: None,
            users: None,
            state_root: None,
        }
    }

    /// Reads a service file and takes the service called `name`, or the only
    /// one.
    ///
    /// # Errors
    /// The file cannot be read or is not valid; it has no such service, or
    /// several and none is named.
    pub fn from_file(file: &Path, name: Option<&str>) -> Result<Self> {
        let bytes = bounded::read(file, MAX_SERVICE_FILE)?;
        let parsed = ServiceFile::parse(&bytes).map_err(|problems| ServiceError::File {
            file: file.to_owned(),
            problems,
        })?;
        let known = || {
            parsed
                .services
                .iter()
                .map(|(name, _)| name.clone())
                .collect()
        };
        let (name, service) = match (name, parsed.services.as_slice()) {
            (Some(name), services) => services
                .iter()
                .find(|(known, _)| known == name)
                .ok_or_else(|| ServiceError::NoService {
                    file: file.to_owned(),
                    name: name.to_owned(),
                    known: known(),
                })?,
            (None, [only]) => only,
            (None, _) => {
                return Err(ServiceError::Which {
                    file: file.to_owned(),
                    known: known(),
                }
                .into());
            }
        };
        Ok(Self::new(&parsed.deployment, name, service.clone()))
    }

    /// The container's id: `SERVICE-rep-N`, unless another was given.
    #[must_use]
    pub fn id(&self) -> String {
        match &self.id {
            Some(id) => id.clone(),
            None => container_id(&self.name, self.replica),
        }
    }

    /// Another id for the container.
    #[must_use]
    pub fn container_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Which of several containers of this service it is; from 1.
    #[must_use]
    pub fn replica(mut self, number: u32) -> Self {
        self.replica = number;
        self
    }

    /// What the image says of its process.
    #[must_use]
    pub fn image(mut self, image: ImageConfig) -> Self {
        self.image = image;
        self
    }

    /// The root file system: `root.path`, to which a built bundle also gets a
    /// symbolic link, and where names of users are looked up.
    #[must_use]
    pub fn rootfs(mut self, directory: impl Into<PathBuf>) -> Self {
        self.rootfs = Some(directory.into());
        self
    }

    /// Looks names of users up here where no [`Self::rootfs`] is given.
    #[must_use]
    pub fn users_of(mut self, rootfs: impl Into<PathBuf>) -> Self {
        self.users = Some(rootfs.into());
        self
    }

    /// The program and its arguments, in place of all others.
    #[must_use]
    pub fn args(mut self, words: impl IntoIterator<Item = String>) -> Self {
        self.overrides.args = words.into_iter().collect();
        self
    }

    /// The working directory.
    #[must_use]
    pub fn cwd(mut self, directory: impl Into<String>) -> Self {
        self.overrides.cwd = Some(directory.into());
        self
    }

    /// The user, as `USER[:GROUP]`.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.overrides.user = Some(user.into());
        self
    }

    /// The host name.
    #[must_use]
    pub fn hostname(mut self, name: impl Into<String>) -> Self {
        self.overrides.hostname = Some(name.into());
        self
    }

    /// A variable; the value may be `$E:NAME` or `$S:NAME`.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Where `$S:NAME` comes from.
    #[must_use]
    pub fn secrets(mut self, provider: Box<dyn SecretProvider>) -> Self {
        self.secrets = Some(provider);
        self
    }

    /// Where a volume is on the host.
    ///
    /// # Errors
    /// It has been said already, and differently.
    pub fn volume(mut self, name: VolumeName, path: impl Into<PathBuf>) -> Result<Self> {
        self.overrides.volumes.insert(name, path.into())?;
        Ok(self)
    }

    /// The API socket.
    #[must_use]
    pub fn socket(mut self, socket: Socket) -> Self {
        self.overrides.socket = Some(socket);
        self
    }

    /// Whether the process gets a terminal.
    #[must_use]
    pub fn terminal(mut self, terminal: bool) -> Self {
        self.overrides.terminal = terminal;
        self
    }

    /// Whose machine the specification is for.
    #[must_use]
    pub fn machine(mut self, machine: Machine) -> Self {
        self.machine = machine;
        self
    }

    /// A variable of that machine's environment, in place of this process's.
    #[must_use]
    pub fn host_env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.host_env.insert(name.into(), value.into());
        self
    }

    /// An explicit CDI registry: these directories and no others.
    #[must_use]
    pub fn cdi_dirs(mut self, directories: impl IntoIterator<Item = PathBuf>) -> Self {
        self.cdi_dirs = directories.into_iter().collect();
        self
    }

    /// Devices, GPUs and how they are shared, as the command line asks for them:
    /// CDI devices on top of what the service asks for, the rest in its place.
    #[must_use]
    pub fn requests(mut self, flags: Flags) -> Self {
        self.flags = flags;
        self
    }

    /// What the host's operator allows.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Whether processes may be moved that are in the way of a nested cgroup.
    #[must_use]
    pub fn migrate(mut self, allowed: bool) -> Self {
        self.migrate = allowed;
        self
    }

    /// GPUs are held for the container, whose state is below `root`, from the
    /// moment they are picked; see [`BundleSpec::lease`]. Otherwise nobody holds
    /// what a bundle names.
    #[must_use]
    pub fn hold_for(mut self, root: impl Into<PathBuf>) -> Self {
        self.state_root = Some(root.into());
        self
    }

    /// Looks everything up and puts the specification together; nothing is
    /// written.
    ///
    /// # Errors
    /// Whatever the service needs and does not get; each names its field.
    pub fn spec(&self) -> Result<BundleSpec> {
        let id = self.id();
        let (facts, migration) = facts::find(self)?;
        let root = self.rootfs.as_deref().map(|root| match self.machine {
            Machine::Here => directory::real(root),
            Machine::Tree(_) | Machine::Unknown => {
                std::path::absolute(root).map_err(|e| Error::io("resolve", root, e))
            }
        });
        let overrides = Overrides {
            // Not through the bundle's link: runc takes none for a root.
            root_path: root
                .transpose()?
                .as_deref()
                .map(directory::text)
                .transpose()?,
            ..self.overrides.clone()
        };
        let assembled = assemble(
            &self.name,
            &id,
            &self.service,
            &self.image,
            &overrides,
            &facts,
        )?;
        let original = Document::parse(assembled.config.to_string().as_bytes())?;
        let mut plan = assembled.plan;
        let mut ledger = Ledger::default();
        let (requested, lease) = facts::requested(self, &original, &mut ledger)?;
        plan.append(requested);
        let mut applied = edit::apply_traced(&original, &plan)?;
        if self.machine == Machine::Here {
            let more = conversion(&caller(), &applied.document, &plan)?;
            if !more.is_empty() {
                plan.append(more);
                applied = edit::apply_traced(&original, &plan)?;
            }
        }
        let mut warnings = assembled.warnings;
        warnings.extend(plan.notes.iter().map(|note| note.text.clone()));
        Ok(BundleSpec {
            id,
            original,
            applied,
            plan,
            ledger,
            lease,
            warnings,
            migration,
        })
    }

    /// Writes a bundle: `config.json`, and `rootfs` as a symbolic link to the
    /// root file system or as an empty directory. A bundle of ours is replaced.
    ///
    /// # Errors
    /// As [`Self::spec`]; the directory holds what kusabi did not make.
    pub fn build(&self, out: &Path) -> Result<Built> {
        let rootfs = self.rootfs.as_deref().map(directory::real).transpose()?;
        let spec = self.spec()?;
        spec.migrate()?;
        build::build(out, rootfs.as_deref(), spec)
    }

    /// Writes `config.json` alone into a directory that exists.
    ///
    /// # Errors
    /// As [`Self::spec`]; no directory, or something other than a file in the
    /// way.
    pub fn write_config(&self, out: &Path) -> Result<BundleSpec> {
        let spec = self.spec()?;
        spec.migrate()?;
        build::write_config(out, spec.document())?;
        Ok(spec)
    }
}

/// A specification and how it came about.
#[derive(Debug)]
pub struct BundleSpec {
    /// The container's id.
    pub id: String,
    /// Before the edits.
    original: Document,
    /// After them.
    applied: Applied,
    /// The edits.
    plan: Plan,
    /// What the service asks the host's devices for.
    ledger: Ledger,
    /// What is held for the container.
    lease: Option<Reservation>,
    /// What the user should know; one line each.
    pub warnings: Vec<String>,
    /// What must be moved before the container is made, as was allowed.
    migration: Option<Migration>,
}

impl BundleSpec {
    /// The `config.json`.
    #[must_use]
    pub fn document(&self) -> &Document {
        &self.applied.document
    }

    /// As a file has it: indented with tabs.
    ///
    /// # Errors
    /// None in practice.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        Ok(self.document().pretty()?)
    }

    /// Which edits were made, and why.
    #[must_use]
    pub fn explanation(&self) -> Explanation<'_> {
        Explanation {
            original: &self.original,
            plan: &self.plan,
            applied: &self.applied,
            decisions: self.ledger.decisions(),
        }
    }

    /// The edits that [`Self::explanation`] is about.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The devices that are held for the container; see
    /// [`BundleBuilder::hold_for`].
    #[must_use]
    pub fn lease(&self) -> Option<&Reservation> {
        self.lease.as_ref()
    }

    /// Moves what is in the way of a nested cgroup.
    fn migrate(&self) -> Result<()> {
        match &self.migration {
            Some(migration) => Ok(nested::migrate(migration)?),
            None => Ok(()),
        }
    }
}
