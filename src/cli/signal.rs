//! Signals by name and by number, as `kill ID [SIGNAL]` takes them.
//!
//! Pure: whether the kernel accepts a signal is its own affair.

use std::fmt;

use super::values::Refusal;

/// A signal number of Linux, 0 to 64; 0 only asks whether the process exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

/// The highest signal number of Linux.
const MAX: u8 = 64;
/// What user space calls `SIGRTMIN`: glibc and musl keep the kernel's first two
/// real-time signals to themselves, and container engines count the same way.
const RTMIN: u8 = 34;

/// The classic signals of the generic and x86 tables (`signal(7)`), and the
/// synonyms that `kill(1)` and Go know.
const NAMES: &[(&str, u8)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

impl Signal {
    /// `SIGTERM`, what `kill` sends when nothing is said.
    pub const TERM: Self = Self(15);
    /// `SIGKILL`.
    pub const KILL: Self = Self(9);

    /// The number, as `kill(2)` takes it.
    #[must_use]
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }

    /// Reads a number from 0 to 64 or a name, with or without `SIG`, in any
    /// case: `9`, `KILL`, `SIGKILL`, `rtmin+1`, `RTMAX-2`.
    ///
    /// # Errors
    /// runc's `unknown signal "TEXT"`.
    pub fn parse(text: &str) -> Result<Self, UnknownSignal> {
        let unknown = || UnknownSignal(text.chars().take(64).collect());
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return match text.parse() {
                Ok(number) if number <= MAX => Ok(Self(number)),
                _ => Err(unknown()),
            };
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(Self(*number));
        }
        real_time(name).map(Self).ok_or_else(unknown)
    }
}

/// `RTMIN`, `RTMIN+N`, `RTMAX` and `RTMAX-N`, inside the real-time range.
fn real_time(name: &str) -> Option<u8> {
    let number = if let Some(offset) = name.strip_prefix("RTMIN") {
        RTMIN.checked_add(after_sign(offset, '+')?)?
    } else {
        MAX.checked_sub(after_sign(name.strip_prefix("RTMAX")?, '-')?)?
    };
    (RTMIN..=MAX).contains(&number).then_some(number)
}

fn after_sign(offset: &str, sign: char) -> Option<u8> {
    if offset.is_empty() {
        return Some(0);
    }
    let digits = offset.strip_prefix(sign)?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// No signal is called so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown signal {0:?}")]
pub struct UnknownSignal(String);

/// For the command line, where an empty word means the default.
pub(super) fn argument(text: &str) -> Result<Signal, Refusal> {
    if text.is_empty() {
        return Ok(Signal::TERM);
    }
    Signal::parse(text).map_err(|error| Refusal::Alone(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_to_64() {
        for number in 0..=64 {
            assert_eq!(Signal::parse(&number.to_string()).unwrap().number(), number);
        }
    }

    #[test]
    fn names_in_all_spellings() {
        let table = [
            ("KILL", 9),
            ("SIGKILL", 9),
            ("kill", 9),
            ("SigTerm", 15),
            ("USR1", 10),
            ("SIGWINCH", 28),
            ("SYS", 31),
            ("RTMIN", 34),
            ("SIGRTMIN", 34),
            ("RTMIN+1", 35),
            ("SIGRTMIN+3", 37),
            ("RTMIN+30", 64),
            ("RTMAX", 64),
            ("SIGRTMAX-30", 34),
            ("rtmax-1", 63),
        ];
        for (text, number) in table {
            assert_eq!(Signal::parse(text).unwrap().number(), number, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_signal() {
        for text in [
            "",
            "65",
            "-9",
            "256",
            "99999999999999999999",
            "SIG",
            "SIGFOO",
            "SIGSIGKILL",
            "RTMIN+31",
            "RTMIN-1",
            "RTMAX-31",
            "RTMAX+0",
            "RTMIN+",
            "RTMIN+1x",
            "9 ",
            "KILL\n",
            "+9",
        ] {
            let error = Signal::parse(text).unwrap_err().to_string();
            assert_eq!(error, format!("unknown signal {text:?}"));
        }
    }

    #[test]
    fn the_default_is_term() {
        assert_eq!(argument("").unwrap(), Signal::TERM);
    }

    #[test]
    fn a_long_word_is_not_echoed_whole() {
        let error = Signal::parse(&"X".repeat(1 << 20)).unwrap_err().to_string();
        assert!(error.len() < 100);
    }
}
