//! The log, in the shapes that runc's callers parse, and the one error.
//!
//! Lines have logrus's text or JSON format. containerd takes the last JSON line
//! of level `error`; podman parses the whole file as *one* object. Hence the
//! rules of this module:
//!
//! - Only [`failure`] writes level `error`, and `main` calls it once at most.
//! - The policy may name a second log, which gets every line at once, in a shape
//!   and down to a level of its own.
//! - A JSON log file gets no warning before the outcome is known: warnings wait
//!   for [`commit`], or become a field of the error.
//! - Events of libraries are debug lines whatever they call themselves. What
//!   they call an error is kept for [`take_library_error`], because an `Err` of
//!   libcontainer often does not name the path that the event names.
//!
//! The file is opened once, close-on-exec, before anything changes the root or
//! the working directory; it is appended to, never truncated. Processes cloned
//! without exec share it. Nothing here starts a thread.

mod line;

use std::fmt::{self, Display, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

use line::Line;

use crate::cli::{Globals, LogFormat};
use crate::error::{Error, Result, one_line};
use crate::policy;

static SINK: OnceLock<Sink> = OnceLock::new();
/// Set where no line may be written any more.
static CLOSED: AtomicBool = AtomicBool::new(false);
/// Texts of libraries' error events, oldest first.
static LIBRARY_ERRORS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// How many library errors are kept: they are reported from the inside outwards,
/// so that few of them name the object and the step.
const LIBRARY_ERRORS_KEPT: usize = 3;
/// Length at which the text of a library error is cut: some print a whole spec.
const LIBRARY_ERROR_BYTES: usize = 1024;

/// Where lines go, and in which shape.
struct Output {
    /// `None` is stderr.
    file: Option<File>,
    format: LogFormat,
    debug: bool,
}

/// Where lines go.
struct Sink {
    /// The caller's log.
    main: Output,
    /// The policy's.
    copy: Option<Output>,
    /// The process that will report the outcome; its children write at once.
    owner: u32,
    /// Warnings that wait for the outcome; `None` once it is known.
    waiting: Mutex<Option<Vec<Line>>>,
}

/// Opens the log that `globals` ask for, and the policy's, and directs events to
/// them. A policy's log that cannot be opened is warned about: a full disk must
/// not keep containers from being deleted.
///
/// # Errors
/// When the caller's file cannot be opened for appending.
pub fn init(globals: &Globals, policy: Option<&policy::Log>) -> Result<()> {
    let mut sink = Sink::open(globals)?;
    let copy = policy.and_then(Output::of_policy).transpose();
    let failed = match copy {
        Ok(copy) => {
            sink.copy = copy;
            None
        }
        Err(error) => Some(error),
    };
    let debug = sink.debug();
    if SINK.set(sink).is_ok() {
        let level = if debug {
            LevelFilter::DEBUG
        } else {
            LevelFilter::INFO
        };
        // Fails only where a subscriber is set already: in tests.
        let _ = tracing::subscriber::set_global_default(Events { level });
    }
    if let Some(error) = failed {
        tracing::warn!("the log that the policy names: {error}");
    }
    Ok(())
}

/// Writes the one error: to the log, and, where that is not stderr, also to
/// stderr, which is what an engine shows when it cannot read the log. There it is
/// left out where it is `shown` already.
pub fn failure(error: &dyn Display, shown: bool) {
    let message = error.to_string();
    let message = one_line(&message).into_owned();
    match SINK.get() {
        Some(sink) if shown && sink.main.file.is_none() => {
            sink.to_copy(&Line::new("error", message));
        }
        Some(sink) => {
            sink.fail(&message);
            if !shown && sink.main.file.as_ref().is_some_and(|file| !is_stderr(file)) {
                to_stderr(&format!("{message}\n"));
            }
        }
        // The log itself could not be opened.
        None => to_stderr(&Line::new("error", message).text()),
    }
}

/// Says that the command has succeeded, or has got so far that no caller waits
/// for its error any more: warnings that waited are written, later ones at once.
pub fn commit() {
    if let Some(sink) = SINK.get() {
        sink.commit();
    }
}

/// Ends logging in this process, whose descriptors are about to be closed: their
/// numbers may soon mean something else.
pub fn close() {
    CLOSED.store(true, Ordering::Relaxed);
}

/// What libraries last called an error, outermost first, and forgets it. The
/// text is the calling process's own: a cloned child has to send it.
pub fn take_library_error() -> Option<String> {
    let mut texts = std::mem::take(&mut *lock(&LIBRARY_ERRORS));
    texts.reverse();
    (!texts.is_empty()).then(|| texts.join(": "))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn to_stderr(text: &str) {
    // Nobody is left to tell if this fails.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Whether the log is what stderr is, as with `--log /dev/stderr`.
fn is_stderr(file: &File) -> bool {
    let identity = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
    let log = file.metadata().map(identity);
    let stderr = std::fs::metadata("/proc/self/fd/2").map(identity);
    matches!((log, stderr), (Ok(log), Ok(stderr)) if log == stderr)
}

impl Sink {
    fn open(globals: &Globals) -> Result<Self> {
        let file = match &globals.log {
            None => None,
            Some(path) => Some(
                OpenOptions::new()
                    .create(true)
                    .append(true)
                    .mode(0o644)
                    .open(path)
                    .map_err(|source| Error::io("open", path, source))?,
            ),
        };
        let waits = file.is_some() && globals.log_format == LogFormat::Json && !globals.debug;
        Ok(Self {
            main: Output {
                file,
                format: globals.log_format,
                debug: globals.debug,
            },
            copy: None,
            owner: std::process::id(),
            waiting: Mutex::new(waits.then(Vec::new)),
        })
    }

    /// Whether anybody wants lines of level debug.
    fn debug(&self) -> bool {
        self.main.debug || self.copy.as_ref().is_some_and(|copy| copy.debug)
    }

    fn fail(&self, message: &str) {
        let mut line = Line::new("error", message.to_owned());
        self.to_copy(&line);
        let warnings: Vec<Value> = lock(&self.waiting)
            .take()
            .unwrap_or_default()
            .into_iter()
            .map(|warning| Value::String(warning.message))
            .collect();
        if !warnings.is_empty() {
            line.fields
                .insert("warnings".to_owned(), Value::Array(warnings));
        }
        self.main.write(&line);
    }

    fn commit(&self) {
        for line in lock(&self.waiting).take().unwrap_or_default() {
            self.main.write(&line);
        }
    }

    fn to_copy(&self, line: &Line) {
        if let Some(copy) = &self.copy {
            copy.write(line);
        }
    }

    fn warn_or_write(&self, line: Line) {
        self.to_copy(&line);
        if line.level == "warning"
            && std::process::id() == self.owner
            && let Some(waiting) = &mut *lock(&self.waiting)
        {
            waiting.push(line);
            return;
        }
        self.main.write(&line);
    }
}

impl Output {
    /// Opened, where the policy names a file.
    fn of_policy(log: &policy::Log) -> Option<Result<Self>> {
        let path = log.file.as_ref()?;
        let opened = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o640)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path);
        let output = |file| Self {
            file: Some(file),
            format: if log.json {
                LogFormat::Json
            } else {
                LogFormat::Text
            },
            debug: log.debug,
        };
        Some(
            opened
                .map(output)
                .map_err(|source| Error::io("open", path, source)),
        )
    }

    fn write(&self, line: &Line) {
        if CLOSED.load(Ordering::Relaxed) {
            return;
        }
        if matches!(line.level, "debug" | "trace") && !self.debug {
            return;
        }
        let plain;
        let line = if self.debug || line.function.is_none() {
            line
        } else {
            // The other log's wish.
            plain = Line {
                function: None,
                ..line.clone()
            };
            &plain
        };
        let text = match self.format {
            LogFormat::Text => line.text(),
            LogFormat::Json => line.json(),
        };
        match &self.file {
            // One call a line, so that lines of several processes do not mix.
            Some(file) => {
                let mut file: &File = file;
                if let Err(error) = file.write_all(text.as_bytes()) {
                    to_stderr(&Line::new("error", format!("write log: {error}")).text());
                    to_stderr(&line.text());
                }
            }
            None => to_stderr(&text),
        }
    }
}

/// Turns tracing's events into lines.
struct Events {
    level: LevelFilter,
}

/// Whether an event is ours; everybody else is a library.
fn is_ours(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    target == "kusabi" || target.starts_with("kusabi::")
}

impl Events {
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        if !metadata.is_event() {
            return false;
        }
        if is_ours(metadata) {
            return *metadata.level() <= self.level;
        }
        *metadata.level() == Level::ERROR
            || (self.level == LevelFilter::DEBUG && *metadata.level() <= Level::DEBUG)
    }
}

impl Subscriber for Events {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut found = Fields::default();
        event.record(&mut found);
        let ours = is_ours(metadata);
        if !ours && *metadata.level() == Level::ERROR {
            let mut kept = lock(&LIBRARY_ERRORS);
            if kept.len() == LIBRARY_ERRORS_KEPT {
                kept.remove(0);
            }
            kept.push(found.one_line());
        }
        let Some(sink) = SINK.get() else { return };
        if !ours && !sink.debug() {
            return;
        }
        let level = match *metadata.level() {
            _ if !ours => "debug",
            // Only `failure` reports errors.
            Level::ERROR | Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        sink.warn_or_write(Line {
            function: sink.debug().then(|| metadata.target()),
            fields: found.fields,
            ..Line::new(level, found.message)
        });
    }

    // Spans carry nothing that a log line shows.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// The message and the fields of an event.
#[derive(Default)]
struct Fields {
    message: String,
    fields: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("message", value) => self.message = value.to_string(),
            (name, value) => {
                self.fields.insert(name.to_owned(), value);
            }
        }
    }

    /// Everything in one line of bounded length.
    fn one_line(&self) -> String {
        let mut text = self.message.clone();
        for (key, value) in &self.fields {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            let _ = write!(text, " {key}={value}");
        }
        let mut text = text.replace(['\n', '\r'], " ");
        if text.len() > LIBRARY_ERROR_BYTES {
            let end = (0..=LIBRARY_ERROR_BYTES)
                .rev()
                .find(|at| text.is_char_boundary(*at))
                .unwrap_or_default();
            text.truncate(end);
            text.push('…');
        }
        text
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, value.to_string().into());
    }
}

#[cfg(test)]
mod tests;
