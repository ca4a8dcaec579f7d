//! One run of `criu swrk`: a request, the notifications on the way, the answer.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use protobuf::Message as _;
use rust_criu::rust_criu_protobuf::rpc::{
    Criu_features, Criu_notify, Criu_req, Criu_req_type, Criu_resp,
};

use crate::error::{Error, Result, reason};
use crate::runtime::RuntimeError;
use crate::sys::process::{recv_fd, send_fd};

/// Longer than any answer; runc's.
const LIMIT: usize = 10 * 4096;

/// CRIU, waiting for its one request.
pub struct Session {
    socket: OwnedFd,
    child: Child,
    answered: bool,
}

/// A point that CRIU has come to, and what came along.
pub struct Notification {
    /// Its name, as in `post-restore`.
    pub script: String,
    /// The process it is about.
    pub pid: i32,
    /// The master of a terminal that nobody holds any more.
    pub terminal: Option<OwnedFd>,
}

impl Session {
    /// Starts CRIU. With `inherit` it has our standard streams, which the
    /// restored processes may get. It also inherits whatever else is not
    /// close-on-exec.
    ///
    /// # Errors
    /// CRIU is not installed, in Go's words.
    pub fn start(inherit: bool) -> Result<Self> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .map_err(|e| RuntimeError::syscall("create criu socket", e))?;
        crate::sys::set_cloexec(theirs.as_raw_fd(), false)
            .map_err(|e| RuntimeError::syscall("hand criu its socket", e))?;
        let stream = || {
            if inherit {
                Stdio::inherit()
            } else {
                Stdio::null()
            }
        };
        let child = Command::new("criu")
            .arg("swrk")
            .arg(theirs.as_raw_fd().to_string())
            .stdin(stream())
            .stdout(stream())
            .stderr(stream())
            .spawn()
            .map_err(|e| {
                let text = match e.kind() {
                    std::io::ErrorKind::NotFound => "executable file not found in $PATH".to_owned(),
                    _ => reason(&e),
                };
                RuntimeError::Refused(format!("exec: \"criu\": {text}; install CRIU"))
            })?;
        Ok(Self {
            socket: ours,
            child,
            answered: false,
        })
    }

    /// CRIU's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks for the version, as in 31701.
    ///
    /// # Errors
    /// CRIU's answer.
    pub fn version(mut self) -> Result<u32> {
        let answer = self.request(Criu_req_type::VERSION, Criu_req::new(), |_| Ok(()))?;
        let version = answer.version.get_or_default();
        let part = |number: i32| u32::try_from(number).unwrap_or_default();
        let (major, minor) = (part(version.major_number()), part(version.minor_number()));
        // A build between two releases counts as the next one, as in go-criu.
        let number = major * 10_000 + minor * 100 + part(version.sublevel());
        Ok(match version.gitid.as_deref() {
            None | Some("") => number,
            Some(_) => major * 10_000 + (minor + 1) * 100,
        })
    }

    /// Asks which of some features are there.
    ///
    /// # Errors
    /// CRIU's answer.
    pub fn features(mut self, wanted: &Criu_features) -> Result<Criu_features> {
        let mut request = Criu_req::new();
        request.features = Some(wanted.clone()).into();
        let refused = |e: Error| RuntimeError::Refused(format!("CRIU feature check failed: {e}"));
        let answer = self
            .request(Criu_req_type::FEATURE_CHECK, request, |_| Ok(()))
            .map_err(refused)?;
        Ok(answer.features.get_or_default().clone())
    }

    /// Makes the request and waits for its end, and CRIU's. `notified` is called
    /// for each notification; CRIU waits for it, and gives up when it fails.
    ///
    /// # Errors
    /// What CRIU answers, in runc's words; an error of `notified`.
    pub fn run(
        &mut self,
        kind: Criu_req_type,
        request: Criu_req,
        notified: impl FnMut(Notification) -> Result<()>,
    ) -> Result<()> {
        self.request(kind, request, notified)?;
        let status = self.end()?;
        // After a pre-dump it waits for more requests, and is ended here.
        if status.success() || kind == Criu_req_type::PRE_DUMP {
            return Ok(());
        }
        Err(RuntimeError::Refused(format!("criu failed: {status}")).into())
    }

    fn request(
        &mut self,
        kind: Criu_req_type,
        mut request: Criu_req,
        mut notified: impl FnMut(Notification) -> Result<()>,
    ) -> Result<Criu_resp> {
        request.set_type(kind);
        self.send(&request)?;
        loop {
            let (answer, fd) = self.receive()?;
            let answered = answer.type_();
            if !answer.success() {
                return Err(RuntimeError::Refused(format!(
                    "criu failed: type {answered:?} errno {}",
                    answer.cr_errno()
                ))
                .into());
            }
            if answered != Criu_req_type::NOTIFY {
                self.answered = true;
                return Ok(answer);
            }
            let Criu_notify { script, pid, .. } = answer.notify.get_or_default();
            let script = script.clone().unwrap_or_default();
            tracing::debug!("notify: {script}");
            notified(Notification {
                script,
                pid: pid.unwrap_or_default(),
                terminal: fd,
            })?;
            let mut go_on = Criu_req::new();
            go_on.set_type(Criu_req_type::NOTIFY);
            go_on.set_notify_success(true);
            self.send(&go_on)?;
        }
    }

    fn send(&self, request: &Criu_req) -> Result<()> {
        let bytes = request
            .write_to_bytes()
            .map_err(|e| RuntimeError::Refused(format!("write a request for criu: {e}")))?;
        send_fd(self.socket.as_fd(), &bytes, None)
            .map_err(|e| RuntimeError::syscall("ask criu", e).into())
    }

    fn receive(&self) -> Result<(Criu_resp, Option<OwnedFd>)> {
        let (bytes, fd) = recv_fd(self.socket.as_fd(), LIMIT)
            .map_err(|e| RuntimeError::syscall("listen to criu", e))?;
        if bytes.is_empty() {
            return Err(RuntimeError::Refused("criu ended without an answer".into()).into());
        }
        let answer = Criu_resp::parse_from_bytes(&bytes)
            .map_err(|e| RuntimeError::Refused(format!("unable to parse criu's answer: {e}")))?;
        Ok((answer, fd))
    }

    fn end(&mut self) -> Result<std::process::ExitStatus> {
        // It ends when nobody is left to ask for more.
        let _ =
            nix::sys::socket::shutdown(self.socket.as_raw_fd(), nix::sys::socket::Shutdown::Write);
        self.child
            .wait()
            .map_err(|e| RuntimeError::syscall("wait for criu", e).into())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.answered {
            // It undoes what it began as soon as its peer is gone.
            let _ = nix::sys::socket::shutdown(
                self.socket.as_raw_fd(),
                nix::sys::socket::Shutdown::Both,
            );
        }
        // Reaped already: no more than its exit status again.
        let _ = self.end();
    }
}
