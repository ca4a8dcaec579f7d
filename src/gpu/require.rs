//! `NVIDIA_REQUIRE_*`: what an image needs of the driver.
//!
//! Space is or, comma is and; each condition is a property, an operator (`=`,
//! `!=`, `<`, `<=`, `>`, `>=`) and a value. What the kernel does not tell (`arch`)
//! or nobody knows is taken to be met, and said.

use std::cmp::Ordering;
use std::path::Path;

use super::GpuError;
use crate::host::facts::Snapshot;

/// One variable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requirement {
    /// Its name.
    pub variable: String,
    /// Its value.
    pub value: String,
}

/// What the host's driver is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// Version of the kernel module.
    pub driver: Option<Version>,
    /// The newest CUDA that it runs.
    pub cuda: Option<Version>,
    /// As in `tesla`.
    pub brand: Option<String>,
}

/// Numbers with dots between; missing ones are 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(Vec<u64>);

impl Version {
    /// Reads a version; white space around it and a `v` before it do not count.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix('v').unwrap_or(text);
        let number = |part: &str| {
            let plain = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| part.parse().ok()).flatten()
        };
        let numbers: Option<Vec<u64>> = text.split('.').map(number).collect();
        numbers.filter(|numbers| numbers.len() <= 4).map(Self)
    }

    fn compare(&self, other: &Self) -> Ordering {
        let longest = self.0.len().max(other.0.len());
        let number = |version: &Self, place: usize| version.0.get(place).copied().unwrap_or(0);
        (0..longest)
            .map(|place| number(self, place).cmp(&number(other, place)))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&numbers.join("."))
    }
}

/// The first driver of each CUDA release, newest first (table "CUDA Toolkit and
/// Corresponding Driver Versions" of the CUDA release notes).
const CUDA: [((u64, u64), (u64, u64)); 27] = [
    ((595, 0), (13, 2)),
    ((590, 0), (13, 1)),
    ((580, 0), (13, 0)),
    ((575, 0), (12, 9)),
    ((570, 0), (12, 8)),
    ((565, 0), (12, 7)),
    ((560, 0), (12, 6)),
    ((555, 0), (12, 5)),
    ((550, 0), (12, 4)),
    ((545, 0), (12, 3)),
    ((535, 0), (12, 2)),
    ((530, 0), (12, 1)),
    ((525, 0), (12, 0)),
    ((520, 0), (11, 8)),
    ((515, 0), (11, 7)),
    ((510, 0), (11, 6)),
    ((495, 0), (11, 5)),
    ((470, 0), (11, 4)),
    ((465, 0), (11, 3)),
    ((460, 0), (11, 2)),
    ((455, 0), (11, 1)),
    ((450, 0), (11, 0)),
    ((440, 33), (10, 2)),
    ((418, 39), (10, 1)),
    ((410, 48), (10, 0)),
    ((396, 26), (9, 2)),
    ((384, 81), (9, 0)),
];

/// Drivers from here on may run a CUDA that the table does not know.
const BEYOND: u64 = 600;

fn cuda(driver: &Version) -> Option<Version> {
    let major = driver.0.first().copied()?;
    let minor = driver.0.get(1).copied().unwrap_or(0);
    if major >= BEYOND {
        return None;
    }
    CUDA.into_iter()
        .find(|(first, _)| (major, minor) >= *first)
        .map(|(_, (major, minor))| Version(vec![major, minor]))
}

impl Properties {
    /// From what the driver tells in procfs.
    #[must_use]
    pub fn read(snapshot: &Snapshot) -> Self {
        let driver = snapshot
            .text("/proc/driver/nvidia/version")
            .and_then(driver_version);
        Self {
            cuda: driver.as_ref().and_then(cuda),
            driver,
            brand: brand(snapshot),
        }
    }
}

/// The first word of `NVRM version: …` that is a version.
fn driver_version(text: &str) -> Option<Version> {
    let line = text.lines().find(|line| line.starts_with("NVRM version"))?;
    line.split_whitespace()
        .find(|word| word.contains('.') && Version::parse(word).is_some())
        .and_then(Version::parse)
}

/// The brand that all devices have in common, as in `tesla` for
/// `Tesla V100-SXM2-16GB`. Newer names have none.
fn brand(snapshot: &Snapshot) -> Option<String> {
    const BRANDS: [&str; 6] = ["tesla", "geforce", "quadro", "titan", "grid", "nvs"];
    let gpus = Path::new("/proc/driver/nvidia/gpus");
    let mut brands = snapshot.names(gpus).iter().map(|bus| {
        let text = snapshot.text(gpus.join(bus).join("information"))?;
        let model = text.lines().find_map(|line| line.strip_prefix("Model:"))?;
        let mut words = model.split_whitespace().map(str::to_lowercase);
        words.find(|word| BRANDS.contains(&word.as_str()))
    });
    let first = brands.next()??;
    brands
        .all(|other| other.as_deref() == Some(&*first))
        .then_some(first)
}

/// Checks every requirement; returns what could not be checked, in words.
///
/// # Errors
/// The first that is not met, or cannot be read.
pub fn check(
    requirements: &[Requirement],
    properties: &Properties,
) -> Result<Vec<String>, GpuError> {
    let mut notes = Vec::new();
    for Requirement { variable, value } in requirements {
        let refuse = |reason: String| GpuError::Requirement {
            variable: variable.clone(),
            reason,
        };
        let mut unmet = None;
        let mut met = false;
        let mut terms = 0;
        for term in value.split_whitespace() {
            let mut failed = None;
            let mut factors = 0;
            for factor in term.split(',').filter(|factor| !factor.is_empty()) {
                let held = holds(factor, properties).map_err(refuse)?;
                factors += u32::from(!matches!(held, Holds::Ignored(_)));
                match held {
                    Holds::Yes => {}
                    Holds::Ignored(property) => {
                        let note = format!(
                            "{variable}: {property} is no property of a driver, {factor} does not count"
                        );
                        if !notes.contains(&note) {
                            notes.push(note);
                        }
                    }
                    Holds::No(own) => failed = Some(format!("{factor} ({own})")),
                    Holds::Unknown(property) => {
                        let note = format!(
                            "{variable}: {property} of the driver is not known, {factor} is taken to be met"
                        );
                        if !notes.contains(&note) {
                            notes.push(note);
                        }
                    }
                }
            }
            if factors == 0 {
                continue;
            }
            terms += 1;
            met |= failed.is_none();
            unmet = unmet.or(failed);
        }
        if terms > 0 && !met {
            return Err(refuse(format!(
                "unsatisfied condition: {}; update the driver, use another image, or set \
                 NVIDIA_DISABLE_REQUIRE=1",
                unmet.unwrap_or_default()
            )));
        }
    }
    Ok(notes)
}

enum Holds {
    Yes,
    /// And what the host has.
    No(String),
    /// The host does not tell what it has; and of what.
    Unknown(String),
    /// Nobody knows such a property.
    Ignored(String),
}

fn holds(condition: &str, properties: &Properties) -> Result<Holds, String> {
    let invalid = || format!("invalid condition {condition:?}, expected as in cuda>=12.0");
    let end = condition
        .find(['<', '>', '=', '!'])
        .filter(|end| *end > 0)
        .ok_or_else(invalid)?;
    let (property, rest) = condition.split_at(end);
    let operator = ["!=", "<=", ">=", "=", "<", ">"]
        .into_iter()
        .find(|operator| rest.starts_with(operator))
        .ok_or_else(invalid)?;
    let value = &rest[operator.len()..];
    let (order, own) = match property {
        "cuda" | "driver" | "arch" => {
            let wanted = Version::parse(value)
                .ok_or_else(|| format!("invalid version {value:?} in {condition:?}"))?;
            let own = match property {
                "cuda" => properties.cuda.as_ref(),
                "driver" => properties.driver.as_ref(),
                _ => None,
            };
            match own {
                Some(own) => (own.compare(&wanted), own.to_string()),
                None => return Ok(Holds::Unknown(property.to_owned())),
            }
        }
        "brand" => match &properties.brand {
            Some(own) => (own.as_str().cmp(value), own.clone()),
            None => return Ok(Holds::Unknown(property.to_owned())),
        },
        _ => return Ok(Holds::Ignored(property.to_owned())),
    };
    let met = match operator {
        "=" => order.is_eq(),
        "!=" => order.is_ne(),
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        _ => order.is_ge(),
    };
    Ok(if met {
        Holds::Yes
    } else {
        Holds::No(format!("the host has {property}={own}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Properties {
        Properties {
            driver: Version::parse("535.104.05"),
            cuda: Version::parse("12.2"),
            brand: Some("tesla".to_owned()),
        }
    }

    fn outcome(value: &str) -> String {
        let requirement = Requirement {
            variable: "NVIDIA_REQUIRE_CUDA".to_owned(),
            value: value.to_owned(),
        };
        match check(&[requirement], &host()) {
            Ok(notes) if notes.is_empty() => "met".to_owned(),
            Ok(notes) => notes.join("; "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn conditions_are_joined_by_or_and_and() {
        for value in [
            "",
            " ",
            "cuda>=12.2",
            "cuda>=11",
            "cuda=12.2.0",
            "cuda!=12.3",
            "cuda<12.10",
            "driver>=535.104.5",
            "driver>450,driver<=536",
            "brand=tesla,driver>=450,driver<451 cuda>=12.0",
            "cuda>=99 brand=tesla",
            "cuda>=12.0,",
            "cuda>=v11.6",
            // A space is or, a comma is and, which binds closer.
            "cuda<11 cuda>=11.6,brand=tesla",
        ] {
            assert_eq!(outcome(value), "met", "{value:?}");
        }
        for (value, condition) in [
            ("cuda>=12.3", "cuda>=12.3 (the host has cuda=12.2)"),
            ("cuda>=12.10", "cuda>=12.10 (the host has cuda=12.2)"),
            ("driver<535", "driver<535 (the host has driver=535.104.5)"),
            ("brand=geforce", "brand=geforce (the host has brand=tesla)"),
            (
                "brand=tesla,driver<451 cuda=11",
                "driver<451 (the host has driver=535.104.5)",
            ),
        ] {
            assert_eq!(
                outcome(value),
                format!(
                    "NVIDIA_REQUIRE_CUDA: unsatisfied condition: {condition}; update the driver, \
                     use another image, or set NVIDIA_DISABLE_REQUIRE=1"
                ),
                "{value:?}"
            );
        }
    }

    #[test]
    fn what_is_not_known_is_said_and_what_is_wrong_is_an_error() {
        assert_eq!(
            outcome("arch>=8.0"),
            "NVIDIA_REQUIRE_CUDA: arch of the driver is not known, arch>=8.0 is taken to be met"
        );
        // What nobody knows neither meets nor fails anything.
        for value in ["foo=45", "cuda>=11.6 foo=bar", "cuda>=11.6,foo=bar"] {
            let (_, condition) = value.split_at(value.find("foo").unwrap());
            assert_eq!(
                outcome(value),
                format!(
                    "NVIDIA_REQUIRE_CUDA: foo is no property of a driver, {condition} does not count"
                )
            );
        }
        for value in ["cuda>=99 foo=bar", "cuda>=99,foo=bar"] {
            let told = outcome(value);
            assert!(told.contains("unsatisfied condition: cuda>=99"), "{told}");
        }
        for (value, reason) in [
            (
                "cuda",
                "invalid condition \"cuda\", expected as in cuda>=12.0",
            ),
            (
                ">=12",
                "invalid condition \">=12\", expected as in cuda>=12.0",
            ),
            (
                "cuda!12",
                "invalid condition \"cuda!12\", expected as in cuda>=12.0",
            ),
            ("cuda>=x", "invalid version \"x\" in \"cuda>=x\""),
            ("cuda>=", "invalid version \"\" in \"cuda>=\""),
            (
                "driver>=1.2.3.4.5",
                "invalid version \"1.2.3.4.5\" in \"driver>=1.2.3.4.5\"",
            ),
        ] {
            assert_eq!(
                outcome(value),
                format!("NVIDIA_REQUIRE_CUDA: {reason}"),
                "{value}"
            );
        }
    }

    #[test]
    fn cuda_follows_from_the_driver() {
        let text = |version: &str| {
            let driver = Version::parse(version).unwrap();
            cuda(&driver).map(|version| version.to_string())
        };
        for (driver, expected) in [
            ("384.80", None),
            ("384.81", Some("9.0")),
            ("470.57.02", Some("11.4")),
            ("535.104.05", Some("12.2")),
            ("580.65.06", Some("13.0")),
            ("595.71.05", Some("13.2")),
            ("600.1", None),
        ] {
            assert_eq!(text(driver).as_deref(), expected, "{driver}");
        }
    }

    #[test]
    fn the_driver_says_its_version_in_two_ways() {
        for text in [
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC version:  gcc version 12.2.0 (Debian 12.2.0-14)",
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  535.104.05  Release Build  (dvs-builder@U16-I1-N07-12-3)",
        ] {
            assert_eq!(
                driver_version(text).map(|v| v.to_string()).as_deref(),
                Some("535.104.5")
            );
        }
        assert_eq!(driver_version("GCC version: 12.2.0"), None);
    }
}
