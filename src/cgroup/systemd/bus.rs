//! A connection to a systemd manager.
//!
//! Blocking, with a deadline for each answer, in the calling thread: what is
//! cloned afterwards must find no other. That, and a socket that no container
//! inherits, is why this is not a library: `zbus` runs an executor thread,
//! `dbus` links the C library, and `rustbus` 0.19 leaves its socket open across
//! `execve`, spins when the other end closes during authentication and names the
//! real user for the effective one. The few types of value that the manager's
//! methods have are in [`super::message`].
//!
//! Root talks to the manager's own socket, as `systemctl` does, which needs no
//! bus daemon; where that is not there, and for a user's manager without one, it
//! is the bus.

use std::io::{self, Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::error::SystemdError;
use super::message::{FIXED_HEADER, Kind, Message, Value};

/// How long systemd may take for anything; runc's half minute.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// No line of the authentication is longer.
const MAX_LINE: usize = 16 << 10;

const MANAGER: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER_INTERFACE: &str = "org.freedesktop.systemd1.Manager";

/// An open connection.
#[derive(Debug)]
pub(super) struct Bus {
    address: String,
    stream: UnixStream,
    serial: u32,
    signals: Vec<Message>,
}

/// Where a manager can be.
enum Place {
    /// Its own socket.
    Direct(PathBuf),
    /// A message bus.
    Bus(String),
}

impl Bus {
    /// Connects to the system's manager, or to that of the calling user.
    ///
    /// # Errors
    /// [`SystemdError::NoManager`] says what was tried.
    pub(super) fn connect(user: bool) -> Result<Self, SystemdError> {
        let mut tried = Vec::new();
        for place in places(user) {
            match Self::open(&place) {
                Ok(bus) => return Ok(bus),
                Err(error) => tried.push(format!("{}: {error}", place.address())),
            }
        }
        if tried.is_empty() {
            tried.push("neither XDG_RUNTIME_DIR nor DBUS_SESSION_BUS_ADDRESS is set".into());
        }
        Err(SystemdError::NoManager {
            user,
            tried: tried.join(", "),
        })
    }

    fn open(place: &Place) -> io::Result<Self> {
        let stream = match place {
            Place::Direct(path) => UnixStream::connect(path)?,
            Place::Bus(address) => connect_bus(address)?,
        };
        let mut bus = Self {
            address: place.address(),
            stream,
            serial: 0,
            signals: Vec::new(),
        };
        bus.authenticate()?;
        if matches!(place, Place::Bus(_)) {
            bus.register().map_err(io::Error::other)?;
        }
        Ok(bus)
    }

    /// The SASL part of the specification ("Authentication Protocol"), without
    /// naming a user: whom the kernel says that we are is what counts, also
    /// where a user namespace calls us root.
    ///
    /// `BEGIN` goes out with a line that is answered. systemd (252) does not look
    /// at a message that it has read together with `BEGIN` until more arrives, and
    /// we would wait for an answer to that message: the answered line tells that
    /// `BEGIN` has been read, and is sent before the message.
    fn authenticate(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        self.stream.set_write_timeout(Some(PATIENCE))?;
        self.stream.write_all(b"\0AUTH EXTERNAL\r\n")?;
        let mut answer = self.line(deadline)?;
        let mut begun = false;
        if answer.starts_with("DATA") {
            self.stream.write_all(b"DATA\r\nBEGIN\r\n")?;
            answer = self.line(deadline)?;
            begun = true;
        }
        if !answer.starts_with("OK ") {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("authentication: {answer}"),
            ));
        }
        if !begun {
            self.stream.write_all(b"NEGOTIATE_UNIX_FD\r\nBEGIN\r\n")?;
            // Whether it agrees is nothing to us.
            self.line(deadline)?;
        }
        Ok(())
    }

    /// A byte at a time: what follows the line belongs to messages.
    fn line(&mut self, deadline: Instant) -> io::Result<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.read_exact(&mut byte, deadline)?;
            line.extend(byte);
            if line.len() > MAX_LINE {
                return Err(io::Error::other("authentication: endless line"));
            }
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// On a bus one has a name, and hears only what one has asked for.
    fn register(&mut self) -> Result<(), SystemdError> {
        const DAEMON: &str = "org.freedesktop.DBus";
        const DAEMON_PATH: &str = "/org/freedesktop/DBus";
        let daemon = |member, body| Message::call(DAEMON, DAEMON_PATH, DAEMON, member, body);
        self.call(daemon("Hello", vec![]), "")?;
        let rule = format!(
            "type='signal',sender='{MANAGER}',path='{MANAGER_PATH}',\
             interface='{MANAGER_INTERFACE}',member='JobRemoved'"
        );
        self.call(daemon("AddMatch", vec![Value::Str(rule)]), "")?;
        self.manager("Subscribe", vec![], "").map(drop)
    }

    /// Calls a method of the manager; `unit` is for errors.
    ///
    /// # Errors
    /// systemd's own, or the connection's.
    pub(super) fn manager(
        &mut self,
        method: &str,
        body: Vec<Value>,
        unit: &str,
    ) -> Result<Vec<Value>, SystemdError> {
        let call = Message::call(MANAGER, MANAGER_PATH, MANAGER_INTERFACE, method, body);
        self.call(call, unit)
    }

    /// A property of the manager.
    ///
    /// # Errors
    /// As [`Bus::manager`].
    pub(super) fn property(&mut self, name: &str) -> Result<Value, SystemdError> {
        let call = Message::call(
            MANAGER,
            MANAGER_PATH,
            "org.freedesktop.DBus.Properties",
            "Get",
            vec![Value::str(MANAGER_INTERFACE), Value::str(name)],
        );
        match self.call(call, "")?.pop() {
            Some(Value::Variant(value)) => Ok(*value),
            _ => Ok(Value::str("")),
        }
    }

    /// Calls a method that makes a job, and waits for the job's result, such as
    /// `done`; `None` when it is not there in time.
    ///
    /// # Errors
    /// As [`Bus::manager`].
    pub(super) fn job(
        &mut self,
        method: &str,
        body: Vec<Value>,
        unit: &str,
    ) -> Result<Option<String>, SystemdError> {
        let deadline = Instant::now() + PATIENCE;
        let reply = self.manager(method, body, unit)?;
        let job = reply.first().and_then(Value::as_str).unwrap_or_default();
        loop {
            // The job may be over before the reply is read.
            for signal in std::mem::take(&mut self.signals) {
                if signal.member.as_deref() != Some("JobRemoved") {
                    continue;
                }
                if let [_, Value::Path(path), _, Value::Str(result)] = signal.body.as_slice()
                    && path == job
                {
                    return Ok(Some(result.clone()));
                }
            }
            match self.receive(deadline) {
                Ok(message) if message.kind == Kind::Signal => self.signals.push(message),
                Ok(_) => {}
                Err(SystemdError::Io { source, .. }) if is_timeout(&source) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    fn call(&mut self, mut call: Message, unit: &str) -> Result<Vec<Value>, SystemdError> {
        self.serial += 1;
        call.serial = self.serial;
        let bytes = call.encode();
        self.stream.write_all(&bytes).map_err(|e| self.io(e))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = self.receive(deadline)?;
            match message.kind {
                Kind::Signal => self.signals.push(message),
                Kind::Return if message.reply_to == Some(call.serial) => return Ok(message.body),
                Kind::Error if message.reply_to == Some(call.serial) => {
                    let text = message.body.first().and_then(Value::as_str);
                    return Err(SystemdError::Refused {
                        method: call.member.unwrap_or_default(),
                        unit: unit.to_owned(),
                        // One line, whatever comes.
                        message: text.unwrap_or_default().replace('\n', " "),
                        name: message.error.unwrap_or_default(),
                    });
                }
                _ => {}
            }
        }
    }

    fn receive(&mut self, deadline: Instant) -> Result<Message, SystemdError> {
        let mut bytes = vec![0; FIXED_HEADER];
        self.read_exact(&mut bytes, deadline)
            .map_err(|e| self.io(e))?;
        let wire = |source| SystemdError::Wire {
            address: self.address.clone(),
            source,
        };
        let length = Message::length(&bytes).map_err(wire)?;
        bytes.resize(length.max(FIXED_HEADER), 0);
        self.read_exact(&mut bytes[FIXED_HEADER..], deadline)
            .map_err(|e| self.io(e))?;
        let message = Message::decode(&bytes).map_err(|source| SystemdError::Wire {
            address: self.address.clone(),
            source,
        })?;
        tracing::trace!("systemd: {message}");
        Ok(message)
    }

    fn read_exact(&mut self, mut buffer: &mut [u8], deadline: Instant) -> io::Result<()> {
        while !buffer.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(late());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => buffer = &mut buffer[count..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(late()),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn io(&self, source: io::Error) -> SystemdError {
        SystemdError::Io {
            address: self.address.clone(),
            source,
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut
}

fn late() -> io::Error {
    let text = format!("no answer within {} s", PATIENCE.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, text)
}

impl Place {
    fn address(&self) -> String {
        match self {
            Self::Direct(path) => path.display().to_string(),
            Self::Bus(address) => address.clone(),
        }
    }
}

fn places(user: bool) -> Vec<Place> {
    if !user {
        return vec![
            Place::Direct("/run/systemd/private".into()),
            Place::Bus("unix:path=/run/dbus/system_bus_socket".into()),
        ];
    }
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty());
    let mut places = Vec::new();
    if let Some(dir) = variable("XDG_RUNTIME_DIR").map(PathBuf::from) {
        places.push(Place::Direct(dir.join("systemd/private")));
    }
    if let Some(address) = variable("DBUS_SESSION_BUS_ADDRESS") {
        places.push(Place::Bus(address.to_string_lossy().into_owned()));
    } else if let Some(dir) = variable("XDG_RUNTIME_DIR").map(PathBuf::from) {
        places.push(Place::Bus(format!(
            "unix:path={}",
            dir.join("bus").display()
        )));
    }
    places
}

/// Connects to the first address of a list that is a Unix socket ("Server
/// Addresses").
fn connect_bus(addresses: &str) -> io::Result<UnixStream> {
    let mut last = io::Error::new(io::ErrorKind::Unsupported, "no address of a Unix socket");
    for address in addresses.split(';') {
        let Some(options) = address.strip_prefix("unix:") else {
            continue;
        };
        for (key, value) in options.split(',').filter_map(|o| o.split_once('=')) {
            let value = unescape(value);
            let connected = match key {
                "path" => UnixStream::connect(PathBuf::from(value)),
                "abstract" => SocketAddr::from_abstract_name(value.as_bytes())
                    .and_then(|address| UnixStream::connect_addr(&address)),
                _ => continue,
            };
            match connected {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
    }
    Err(last)
}

/// Resolves `%` and two hexadecimal digits.
fn unescape(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A manager that answers one call after some signals.
    fn serve(
        listener: UnixListener,
        answers: Vec<Message>,
    ) -> std::thread::JoinHandle<Vec<Message>> {
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut bus = Bus {
                address: String::new(),
                stream,
                serial: 0,
                signals: Vec::new(),
            };
            let deadline = Instant::now() + PATIENCE;
            assert_eq!(bus.line(deadline).unwrap(), "\0AUTH EXTERNAL");
            bus.stream.write_all(b"DATA\r\n").unwrap();
            assert_eq!(bus.line(deadline).unwrap(), "DATA");
            bus.stream.write_all(b"OK 0123\r\n").unwrap();
            assert_eq!(bus.line(deadline).unwrap(), "BEGIN");
            let got = bus.receive(deadline).unwrap();
            for mut answer in answers {
                answer.reply_to = answer.reply_to.map(|_| got.serial);
                bus.stream.write_all(&answer.encode()).unwrap();
            }
            vec![got]
        })
    }

    fn message(kind: Kind, body: Vec<Value>) -> Message {
        Message {
            kind,
            reply_to: (kind != Kind::Signal).then_some(0),
            member: (kind == Kind::Signal).then(|| "JobRemoved".to_owned()),
            error: (kind == Kind::Error).then(|| "a.b.UnitExists".to_owned()),
            destination: None,
            ..Message::call("", "/x", "i", "m", body)
        }
    }

    fn removed(job: &str, result: &str) -> Message {
        let body = vec![
            Value::U32(1),
            Value::Path(job.into()),
            Value::str("u.scope"),
            Value::str(result),
        ];
        message(Kind::Signal, body)
    }

    #[track_caller]
    fn connect(answers: Vec<Message>) -> (Bus, std::thread::JoinHandle<Vec<Message>>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("private");
        let server = serve(UnixListener::bind(&path).unwrap(), answers);
        (Bus::open(&Place::Direct(path)).unwrap(), server)
    }

    #[test]
    fn a_job_is_waited_for_whether_it_ends_before_or_after_the_reply() {
        let reply = || message(Kind::Return, vec![Value::Path("/job/2".into())]);
        let ours = || removed("/job/2", "done");
        for answers in [
            vec![removed("/job/1", "failed"), ours(), reply()],
            vec![reply(), removed("/job/3", "failed"), ours()],
        ] {
            let (mut bus, server) = connect(answers);
            let result = bus.job("StartTransientUnit", vec![], "u.scope").unwrap();
            assert_eq!(result.as_deref(), Some("done"));
            let asked = server.join().unwrap();
            assert_eq!(asked[0].member.as_deref(), Some("StartTransientUnit"));
        }
    }

    #[test]
    fn a_refusal_is_one_line_with_systemds_words() {
        let (mut bus, server) = connect(vec![message(Kind::Error, vec![Value::str("no\nway")])]);
        let error = bus.job("StopUnit", vec![], "u.scope").unwrap_err();
        assert_eq!(
            error.to_string(),
            "StopUnit u.scope: no way (a.b.UnitExists)"
        );
        assert!(error.is("UnitExists"));
        server.join().unwrap();
    }

    #[test]
    fn a_manager_that_goes_away_is_an_error() {
        let (mut bus, server) = connect(vec![]);
        let error = bus.manager("Reload", vec![], "").unwrap_err();
        assert!(matches!(error, SystemdError::Io { .. }), "{error}");
        server.join().unwrap();
    }

    #[test]
    fn addresses_are_unescaped() {
        assert_eq!(unescape("/run/a%2db%"), "/run/a-b%");
        assert!(connect_bus("tcp:host=x").is_err());
        let error = connect_bus("unix:path=/nonexistent%20,guid=1").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
