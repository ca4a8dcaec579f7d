//! Running a command without ever hanging on it: its standard streams are
//! files, and a deadline ends it. Only processes started here are signalled.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long anything may take: 30 s, or `KUSABI_TEST_DEADLINE` in seconds for
/// slow machines.
pub fn deadline() -> Duration {
    let seconds = std::env::var("KUSABI_TEST_DEADLINE")
        .ok()
        .map_or(30, |v| v.parse().expect("KUSABI_TEST_DEADLINE: seconds"));
    Duration::from_secs(seconds)
}

/// Waits until `condition` holds; fails the test, naming `what`, when it still
/// does not at the deadline.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + deadline();
    while !condition() {
        assert!(
            Instant::now() < end,
            "still waiting at the deadline: {what}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A command to be run, with `stdin` from `/dev/null` and output to files below
/// a directory of the caller.
#[derive(Debug)]
pub struct Spawn {
    command: Command,
    line: String,
    stdout: PathBuf,
    stderr: PathBuf,
    deadline: Duration,
}

impl Spawn {
    /// `program`, whose output goes to `<stem>.out` and `<stem>.err`.
    pub fn new(program: impl AsRef<OsStr>, stem: &Path) -> Self {
        let program = program.as_ref();
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        Self {
            command,
            line: program.to_string_lossy().into_owned(),
            stdout: with_suffix(stem, ".out"),
            stderr: with_suffix(stem, ".err"),
            deadline: deadline(),
        }
    }

    /// Appends one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        let arg = arg.as_ref();
        self.line.push(' ');
        self.line.push_str(&arg.to_string_lossy());
        self.command.arg(arg);
        self
    }

    /// Appends arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(self, args: impl IntoIterator<Item = S>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// Sets one variable.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Starts from an empty environment.
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        self.command.env_clear();
        self
    }

    /// Runs it in `dir`.
    #[must_use]
    pub fn current_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Reads stdin from the file at `path`.
    #[must_use]
    pub fn stdin_from(mut self, path: &Path) -> Self {
        self.command
            .stdin(File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())));
        self
    }

    /// Sends its output to `<stem>.out` and `<stem>.err` instead.
    #[must_use]
    pub fn output_to(mut self, stem: &Path) -> Self {
        self.stdout = with_suffix(stem, ".out");
        self.stderr = with_suffix(stem, ".err");
        self
    }

    /// Gives it `stdin`, `stdout` and `stderr` of the caller's making, such as
    /// a terminal. [`Output`] then has none of that output.
    #[must_use]
    pub fn stdio(mut self, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Self {
        self.command.stdin(stdin).stdout(stdout).stderr(stderr);
        self.stdout = PathBuf::new();
        self.stderr = PathBuf::new();
        self
    }

    /// Another limit than [`deadline`].
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.deadline = limit;
        self
    }

    /// Lets it inherit descriptors and what else [`Command`] can do.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Command)) -> Self {
        change(&mut self.command);
        self
    }

    /// Starts it.
    #[track_caller]
    pub fn spawn(mut self) -> Running {
        if self.stdout != Path::new("") {
            self.command
                .stdout(File::create(&self.stdout).expect("a file for stdout"))
                .stderr(File::create(&self.stderr).expect("a file for stderr"));
        }
        let child = self
            .command
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", self.line));
        Running {
            child: Some(child),
            line: self.line,
            stdout: self.stdout,
            stderr: self.stderr,
            end: Instant::now() + self.deadline,
        }
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn output(self) -> Output {
        self.spawn().wait()
    }

    /// The same for a destructor: where the test has failed already, a second
    /// panic would end the program with all its other tests. `None`, and a line
    /// on stderr, where it cannot be run to its end.
    pub fn output_in_drop(self) -> Option<Output> {
        let line = self.line.clone();
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.output()));
        if ended.is_err() {
            eprintln!("clean-up: {line}: not run to its end");
        }
        ended.ok()
    }
}

/// A command that is running. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Option<Child>,
    line: String,
    stdout: PathBuf,
    stderr: PathBuf,
    end: Instant,
}

impl Running {
    /// Its process id, not reaped before [`Running::wait`].
    pub fn pid(&self) -> i32 {
        let child = self.child.as_ref().expect("not waited for");
        i32::try_from(child.id()).expect("a pid")
    }

    /// Sends it `signal`.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("signal our child");
    }

    /// What it has written to stdout up to now.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        let child = self.child.as_mut().expect("not waited for");
        child.try_wait().expect("wait for our child").is_some()
    }

    /// Waits for its end; kills it and fails the test at the deadline.
    #[track_caller]
    pub fn wait(mut self) -> Output {
        let status = loop {
            let child = self.child.as_mut().expect("not waited for");
            if let Some(status) = child.try_wait().expect("wait for our child") {
                break status;
            }
            if Instant::now() >= self.end {
                child.kill().expect("kill our child");
                child.wait().expect("reap our child");
                panic!(
                    "no end at the deadline: {}\nstdout: {}\nstderr: {}",
                    self.line,
                    read(&self.stdout),
                    read(&self.stderr)
                );
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        self.child = None;
        Output::new(&self.line, status, read(&self.stdout), read(&self.stderr))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = self.child.as_mut() {
            // Already ended is fine.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// How a command ended and what it said.
#[derive(Clone, Debug)]
pub struct Output {
    line: String,
    /// Its exit code, if it exited.
    pub code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// All it wrote to stdout.
    pub stdout: String,
    /// All it wrote to stderr.
    pub stderr: String,
}

impl Output {
    fn new(line: &str, status: ExitStatus, stdout: String, stderr: String) -> Self {
        Self {
            line: line.to_owned(),
            code: status.code(),
            signal: status.signal(),
            stdout,
            stderr,
        }
    }

    /// Requires exit code 0.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        self.exited(0)
    }

    /// Requires exit code `code`.
    #[track_caller]
    pub fn exited(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "exit code of {self}");
        self
    }

    /// Requires that stderr holds `text`.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(
            self.stderr.contains(text),
            "no {text:?} on stderr of {self}"
        );
        self
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}\n  exit code {:?}, signal {:?}\n  stdout: {}\n  stderr: {}",
            self.line, self.code, self.signal, self.stdout, self.stderr
        )
    }
}

/// `stem` and `suffix`, whatever dots `stem` has.
pub fn with_suffix(stem: &Path, suffix: &str) -> PathBuf {
    let mut path = stem.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// The text of a file, lossily; empty when there is none.
fn read(path: &Path) -> String {
    std::fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}
