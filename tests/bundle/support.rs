//! A directory with what services refer to, and calls of `kusabi bundle` in it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// What a command did.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// Its output, which must be all there is.
    #[track_caller]
    pub fn quiet(self) -> String {
        assert_eq!(
            (self.code, self.stderr.as_str()),
            (0, ""),
            "{}",
            self.stdout
        );
        self.stdout
    }

    /// The message of its one error.
    #[track_caller]
    pub fn error(&self) -> String {
        assert_eq!(
            (self.code, self.stdout.as_str()),
            (1, ""),
            "{}",
            self.stderr
        );
        assert_eq!(self.stderr.matches('\n').count(), 1, "{}", self.stderr);
        let message = self.stderr.split_once("msg=").unwrap().1.trim_end();
        // Quoted as Go does it, which JSON understands.
        match message.strip_prefix('"') {
            Some(_) => serde_json::from_str(message).unwrap(),
            None => message.to_owned(),
        }
    }

    /// The messages of its warnings; it must have succeeded.
    #[track_caller]
    pub fn warnings(&self) -> Vec<String> {
        assert_eq!(self.code, 0, "{}", self.stderr);
        let message = |line: &str| {
            assert!(line.contains("level=warning"), "{line}");
            let message = line.split_once("msg=").unwrap().1;
            match message.strip_prefix('"') {
                Some(_) => serde_json::from_str(message).unwrap(),
                None => message.to_owned(),
            }
        };
        self.stderr.lines().map(message).collect()
    }
}

/// The directory, gone at the end.
pub struct Workspace {
    dir: TempDir,
}

impl Workspace {
    /// With a root file system's users, volumes, secrets, a socket, and `host`, a
    /// tree of another machine that has the same and two device nodes.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let here = dir.path();
        let write = |path: &str, text: &str| {
            let path = here.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(
            "rootfs/etc/passwd",
            "root:x:0:0::/root:/bin/sh\napp:x:1001:2002::/:/bin/sh\n",
        );
        write(
            "rootfs/etc/group",
            "root:x:0:\nvideo:x:44:app\nrender:x:106:app\napp:x:2002:\n",
        );
        write("secrets/demo/token", "hunter2\n");
        for host in ["", "host/"] {
            write(&format!("{host}srv/data/file"), "");
            write(&format!("{host}srv/one.conf"), "");
        }
        write(
            "host/kusabi-nodes",
            "/dev/fuse c 10:229 0666 0:0\n/dev/sda b 8:0 0660 0:6\n\
             /dev/nvidia-uvm c 511:1048575 0666 0:0\n",
        );
        write(
            "host/proc/self/status",
            "Name:\tx\nCapBnd:\t000001ffffffffff\n",
        );
        // A process there that may not pass everything on.
        write(
            "bounded/proc/self/status",
            "Name:\tx\nCapBnd:\t000001fffeffffff\n",
        );
        write(
            "image.json",
            r#"{"architecture": "amd64", "os": "linux", "config": {
                "User": "app", "Env": ["PATH=/image/bin", "FROM=image", "ALSO=image"],
                "Entrypoint": ["/entry"], "Cmd": ["cmd"], "WorkingDir": "/image"}}"#,
        );
        UnixListener::bind(here.join("host/srv/api.sock")).unwrap();
        symlink("data", here.join("host/srv/link")).unwrap();
        Self { dir }
    }

    /// The same, and `gpus`: a recorded host with four GPUs, and with what
    /// sharing them needs.
    pub fn with_gpus() -> Self {
        let workspace = Self::new();
        let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hosts/nvidia-4");
        let copied = Command::new("cp")
            .args(["-r".as_ref(), recorded.as_os_str()])
            .arg(workspace.path().join("gpus"))
            .status();
        assert!(copied.unwrap().success());
        for dir in [
            "tmp/nvidia-mps",
            "tmp/nvidia-log",
            "srv/pipe",
            "srv/log",
            "dev/shm",
        ] {
            let path = workspace.path().join("gpus").join(dir);
            fs::create_dir_all(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        }
        workspace.write("gpus/etc/slices.yaml", "");
        workspace
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file into it.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// `kusabi` with `args`, called here, with an environment of its own.
    pub fn call(&self, args: &[&str]) -> Done {
        self.call_with(args, &[])
    }

    /// The same with variables.
    pub fn call_with(&self, args: &[&str], env: &[(&str, &str)]) -> Done {
        let output = Command::new(env!("CARGO_BIN_EXE_kusabi"))
            .args(["--root", "state"])
            .args(args)
            .current_dir(self.path())
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOST_NAME", "here")
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Done {
            code: output.status.code().expect("ended by a signal"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// `bundle spec --no-probe` of this service file, with more arguments.
    pub fn spec(&self, service: &str, args: &[&str]) -> Done {
        self.write("service.yaml", service);
        let base = ["bundle", "spec", "--service", "service.yaml"];
        self.call(&[&base, args].concat())
    }

    /// Makes a file writable by all.
    pub fn open_up(&self, name: &str) {
        let path = self.path().join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
    }
}

/// A service file with one service, `web`, that has these lines.
pub fn web(lines: &str) -> String {
    let body: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    let body = if body.is_empty() {
        "    {}\n".to_owned()
    } else {
        body
    };
    format!("version: v1\ndeployment: demo\nservices:\n  web:\n{body}")
}

#[track_caller]
pub fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}
