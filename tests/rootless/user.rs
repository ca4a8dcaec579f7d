//! The plain user.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use crate::common::host::make_dir;
use crate::common::{Bundle, Config, Output, Runtime, Sandbox, Spawn};

/// Its uid and gid, which no account of the host has.
pub const UID: u32 = 61_742;

/// What stands in both subid files unless a test says otherwise: two ranges by
/// name, one by uid, one of them twice, and lines of others.
pub const SUBIDS: &str = "\
somebody:100000:65536
kusabitest:200000:1000
61742:300000:500
kusabitest:200000:1000
7:1:5
kusabitest:400000:1
";

/// The map that [`SUBIDS`] means, as `/proc/PID/uid_map` shows it, blanks
/// squeezed.
pub const MAP: &str = "0 61742 1\n1 200000 1000\n1001 300000 500\n1501 400000 1";

/// A user and what it sees of the host.
pub struct User<'s> {
    sandbox: &'s Sandbox,
    home: PathBuf,
    runtime: Runtime,
    /// Shell commands run before the privileges go.
    prelude: String,
    /// More arguments for setpriv.
    groups: String,
}

impl<'s> User<'s> {
    /// With [`SUBIDS`] in both files.
    pub fn new(sandbox: &'s Sandbox) -> Self {
        Self::with(sandbox, SUBIDS, SUBIDS)
    }

    /// With these lines.
    pub fn with(sandbox: &'s Sandbox, subuid: &str, subgid: &str) -> Self {
        let home = sandbox.dir().join(format!("user-{}", sandbox.fresh()));
        make_dir(&home);
        for dir in ["run", "etc"] {
            make_dir(&home.join(dir));
        }
        let passwd = fs::read_to_string("/etc/passwd").expect("passwd");
        let line = format!("kusabitest:x:{UID}:{UID}::/:/bin/sh\n");
        fs::write(home.join("etc/passwd"), passwd + &line).expect("write");
        fs::write(home.join("etc/subuid"), subuid).expect("write");
        fs::write(home.join("etc/subgid"), subgid).expect("write");
        // As a login has it.
        give(&home.join("run"));
        give(&home);
        // The state root that `--root` names, so that the sandbox cleans up.
        if !sandbox.root().exists() {
            make_dir(&sandbox.root());
        }
        give(&sandbox.root());
        Self {
            sandbox,
            home,
            runtime: sandbox.runtime().clone(),
            prelude: String::new(),
            groups: "--clear-groups".to_owned(),
        }
    }

    /// Another runtime than the one under test.
    #[must_use]
    pub fn of(mut self, runtime: Runtime) -> Self {
        self.runtime = runtime;
        self
    }

    /// In these groups besides its own.
    #[must_use]
    pub fn in_groups(mut self, groups: &str) -> Self {
        self.groups = format!("--groups {groups}");
        self
    }

    /// With a shell command run first, as root, by the process that becomes the
    /// user.
    #[must_use]
    pub fn after(mut self, prelude: &str) -> Self {
        self.prelude = prelude.to_owned();
        self
    }

    /// Where it may put files, and `XDG_RUNTIME_DIR` is `run` below it.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// A program run as this user, with `runtime` in its home being the runtime.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Spawn {
        let script = format!(
            "set -e; cd \"$1\"; \
             for f in passwd subuid subgid; do \
               [ -e /etc/$f ] || continue; mount --bind etc/$f /etc/$f; done; \
             [ -e runtime ] || : > runtime; mount --bind \"$2\" runtime; shift 2; {} \n\
             exec setpriv --reuid {UID} --regid {UID} {} \"$@\"",
            self.prelude, self.groups
        );
        let stem = self
            .sandbox
            .dir()
            .join(format!("user-{}", self.sandbox.fresh()));
        Spawn::new("unshare", &stem)
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg(script)
            .arg("sh")
            .arg(&self.home)
            .arg(&self.runtime.path)
            .args(args)
            .env("XDG_RUNTIME_DIR", self.home.join("run"))
            .env("HOME", &self.home)
            .env("USER", "kusabitest")
    }

    /// A call of the runtime with `--root`.
    pub fn call<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Spawn {
        let runtime = self.home.join("runtime");
        self.command([
            runtime.as_os_str(),
            OsStr::new("--root"),
            self.sandbox.root().as_os_str(),
        ])
        .args(args)
    }

    /// A call of the runtime with nothing but `args`.
    pub fn call_bare<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Spawn {
        self.command([self.home.join("runtime")]).args(args)
    }

    /// A bundle of the user's own, without a cgroup asked for.
    pub fn bundle(&self, config: &Config) -> Bundle {
        let config = if config.has("/linux/cgroupsPath") {
            config.clone()
        } else {
            config.clone().set("/linux/cgroupsPath", "")
        };
        let bundle = self.sandbox.bundle(&config);
        give_tree(&bundle.path);
        bundle
    }

    /// Runs `config` in the foreground to its end.
    #[track_caller]
    pub fn run(&self, config: &Config) -> Output {
        let bundle = self.bundle(config);
        self.run_bundle("run", &[], &bundle)
    }

    /// `run` or `create` of a bundle.
    #[track_caller]
    pub fn run_bundle(&self, command: &str, flags: &[&str], bundle: &Bundle) -> Output {
        self.call([command])
            .args(flags)
            .arg("--bundle")
            .arg(&bundle.path)
            .arg(&bundle.id)
            .output_to(&self.sandbox.dir().join(format!("container-{}", bundle.id)))
            .output()
    }

    /// A container that sleeps. Its name is in its arguments, since no cgroup
    /// bears it.
    #[track_caller]
    pub fn sleeper(&self, config: impl FnOnce(Config) -> Config) -> Bundle {
        let name = self.sandbox.fresh();
        let sleeper = Config::new(&["/bin/sh", "-c", "sleep 100000 & wait", &name]);
        let bundle = self.bundle(&config(sleeper));
        self.run_bundle("run", &["--detach"], &bundle).succeeded();
        bundle
    }

    /// What a script says in a running container.
    #[track_caller]
    pub fn exec(&self, bundle: &Bundle, script: &str) -> String {
        let out = self.call(["exec", &bundle.id, "sh", "-c", script]).output();
        out.succeeded().stdout
    }
}

/// Makes the user the owner.
pub fn give(path: &Path) {
    chown(path, Some(UID), Some(UID)).expect("chown");
}

/// Makes the user the owner of a tree.
pub fn give_tree(path: &Path) {
    let done = std::process::Command::new("chown")
        .args(["-R", "-h", &format!("{UID}:{UID}")])
        .arg(path)
        .status();
    assert!(done.expect("chown").success(), "chown {}", path.display());
}

/// Blanks squeezed, line by line.
pub fn squeezed(text: &str) -> String {
    let lines = text.lines();
    let line = |l: &str| l.split_whitespace().collect::<Vec<_>>().join(" ");
    lines.map(line).collect::<Vec<_>>().join("\n")
}
