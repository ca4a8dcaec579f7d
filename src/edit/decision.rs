//! What was asked for, by whom, and what became of it: the first part of every
//! explanation.

use std::fmt;

use super::Source;

/// How far the place a request came from is under the operator's control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// Command line, host policy, service file.
    Operator,
    /// Annotations and mounts: the engine's user.
    Engine,
    /// The image: environment.
    Image,
}

impl Trust {
    /// How far a source is trusted.
    #[must_use]
    pub fn of(source: &Source) -> Self {
        match source {
            Source::Flag { .. }
            | Source::Policy { .. }
            | Source::Service { .. }
            | Source::Situation { .. } => Self::Operator,
            Source::Annotation { .. } | Source::Mount { .. } => Self::Engine,
            Source::Environment { .. } => Self::Image,
        }
    }

    /// The word in explanations.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Engine => "engine",
            Self::Image => "image",
        }
    }
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody came to it: another request failed before.
    Open,
    /// It is met.
    Granted {
        /// The devices that it brought, sorted; none where it asked for no device.
        devices: Vec<String>,
    },
    /// It does not count.
    Ignored {
        /// Why not.
        reason: String,
        /// What in the policy would let it, where that is so.
        allow: Option<PolicyLine>,
    },
    /// It counts, and cannot be met: there is no container.
    Refused {
        /// Why not.
        reason: String,
    },
}

impl Verdict {
    /// The word in explanations.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Open => "undecided",
            Self::Granted { .. } => "granted",
            Self::Ignored { .. } => "ignored",
            Self::Refused { .. } => "refused",
        }
    }
}

/// A line of the policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyLine {
    /// As it is written at the top of the file, as in
    /// `sources.environment = "allow"`.
    pub line: String,
    /// The file.
    pub file: String,
}

impl fmt::Display for PolicyLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {} would allow it", self.line, self.file)
    }
}

/// One request, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Who asks, and with which words.
    pub source: Source,
    /// What became of it.
    pub verdict: Verdict,
}

/// All requests in the order in which places are heard, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    entries: Vec<Decision>,
}

impl Ledger {
    /// What has been written down.
    #[must_use]
    pub fn decisions(&self) -> &[Decision] {
        &self.entries
    }

    /// Writes down that somebody asks.
    pub fn ask(&mut self, source: &Source) {
        self.entry(source);
    }

    /// Writes down that a request does not count.
    pub fn ignore(&mut self, source: &Source, reason: &str, allow: Option<PolicyLine>) {
        self.entry(source).verdict = Verdict::Ignored {
            reason: reason.to_owned(),
            allow,
        };
    }

    /// Writes down that a request is met with a device.
    pub fn grant(&mut self, source: &Source, device: &str) {
        let entry = self.entry(source);
        let mut devices = match &mut entry.verdict {
            Verdict::Granted { devices } => std::mem::take(devices),
            _ => Vec::new(),
        };
        if let Err(place) = devices.binary_search_by(|other| other.as_str().cmp(device)) {
            devices.insert(place, device.to_owned());
        }
        entry.verdict = Verdict::Granted { devices };
    }

    /// Writes down that a request cannot be met.
    pub fn refuse(&mut self, source: &Source, reason: &str) {
        self.entry(source).verdict = Verdict::Refused {
            reason: reason.to_owned(),
        };
    }

    /// Writes down that a request, as it is called in errors, cannot be met.
    pub fn refuse_called(&mut self, name: &str, reason: &str) {
        let called = |entry: &&Decision| entry.source.to_string() == name;
        if let Some(source) = self.entries.iter().find(called).map(|e| e.source.clone()) {
            self.refuse(&source, reason);
        }
    }

    /// Writes down that what was asked for last cannot be read.
    pub fn refuse_last(&mut self, why: &str) {
        if let Some(last) = self.entries.last_mut()
            && last.verdict == Verdict::Open
        {
            last.verdict = Verdict::Refused {
                reason: why.to_owned(),
            };
        }
    }

    /// Whatever nobody objected to is met.
    pub fn close(&mut self) {
        for entry in &mut self.entries {
            if entry.verdict == Verdict::Open {
                entry.verdict = Verdict::Granted {
                    devices: Vec::new(),
                };
            }
        }
    }

    fn entry(&mut self, source: &Source) -> &mut Decision {
        let known = self.entries.iter().position(|e| e.source == *source);
        let place = known.unwrap_or_else(|| {
            self.entries.push(Decision {
                source: source.clone(),
                verdict: Verdict::Open,
            });
            self.entries.len() - 1
        });
        &mut self.entries[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag(value: &str) -> Source {
        Source::Flag {
            flag: "--device",
            value: value.to_owned(),
        }
    }

    #[test]
    fn a_request_is_there_once_and_ends_in_one_way() {
        let mut ledger = Ledger::default();
        ledger.ask(&flag("a"));
        ledger.ask(&flag("b"));
        ledger.ask(&flag("a"));
        ledger.grant(&flag("a"), "y");
        ledger.grant(&flag("a"), "x");
        ledger.grant(&flag("a"), "y");
        ledger.refuse_last("not read");
        ledger.ignore(&flag("c"), "nobody may", None);
        ledger.refuse_last("the last one is decided");
        ledger.ask(&flag("d"));
        ledger.close();
        let words: Vec<String> = ledger
            .decisions()
            .iter()
            .map(|d| match &d.verdict {
                Verdict::Granted { devices } => format!("granted {}", devices.join(",")),
                Verdict::Ignored { reason, .. } | Verdict::Refused { reason } => {
                    format!("{} {reason}", d.verdict.word())
                }
                Verdict::Open => "open".to_owned(),
            })
            .collect();
        assert_eq!(
            words,
            [
                "granted x,y",
                "refused not read",
                "ignored nobody may",
                "granted "
            ]
        );
    }
}
