//! Values as Go's flag packages read them, so that a caller which was written
//! against runc is understood: `0x10`, `1m30s`, `512Mi`, `T`.
//!
//! Pure. Nothing here names a flag, except in the errors of `update`, which
//! runc words by hand.

use core::time::Duration;

/// Why a value is refused, and in which of runc's shapes that is said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// Shown as `invalid value "VALUE" for flag -FLAG: REASON`.
    #[error("{0}")]
    Flag(String),
    /// Shown as it is.
    #[error("{0}")]
    Alone(String),
    /// runc reads this value only once the exec is under way, so that it counts
    /// as a failed exec: prefix, and exit code 255.
    #[error("exec failed: {0}")]
    Exec(String),
}

/// Go's `strconv.ParseBool`.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Go's `strconv.ParseInt(text, 0, 64)`: a sign, and the prefixes `0x`, `0o`,
/// `0b` and `0`. Underscores between digits are allowed only with a prefix.
pub(super) fn integer(text: &str) -> Result<i64, Refusal> {
    let syntax = || {
        Refusal::Flag(format!(
            "strconv.ParseInt: parsing {text:?}: invalid syntax"
        ))
    };
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    let plain: String = if radix == 10 {
        digits.to_owned()
    } else {
        digits.replace('_', "")
    };
    if plain.is_empty() || !plain.chars().all(|c| c.is_digit(radix)) {
        return Err(syntax());
    }
    let signed = if negative { format!("-{plain}") } else { plain };
    i64::from_str_radix(&signed, radix).map_err(|_| {
        Refusal::Flag(format!(
            "strconv.ParseInt: parsing {text:?}: value out of range"
        ))
    })
}

/// A count of things, which Go's callers pass as an int.
pub(super) fn count(text: &str) -> Result<u32, Refusal> {
    let value = integer(text)?;
    u32::try_from(value)
        .map_err(|_| Refusal::Flag(format!("{value} is not between 0 and {}", u32::MAX)))
}

/// Go's `strconv.ParseUint(text, 10, 64)` in the words of `runc update`.
pub(super) fn unsigned_for(flag: &'static str, text: &str) -> Result<u64, Refusal> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return text
            .parse()
            .map_err(|_| number_refused(flag, "ParseUint", text, "value out of range"));
    }
    Err(number_refused(flag, "ParseUint", text, "invalid syntax"))
}

/// Go's `strconv.ParseInt(text, 10, 64)` in the words of `runc update`.
pub(super) fn signed_for(flag: &'static str, text: &str) -> Result<i64, Refusal> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return text
            .parse()
            .map_err(|_| number_refused(flag, "ParseInt", text, "value out of range"));
    }
    Err(number_refused(flag, "ParseInt", text, "invalid syntax"))
}

fn number_refused(flag: &str, function: &str, text: &str, why: &str) -> Refusal {
    Refusal::Alone(format!(
        "invalid value for {flag}: strconv.{function}: parsing {text:?}: {why}"
    ))
}

/// An amount of memory in bytes: a decimal number, perhaps with a fraction, and
/// one of `b k m g t p` (powers of 1024), each also as `kb` and `kib`, in any
/// case. `-1` means no limit.
pub(super) fn memory_for(flag: &'static str, text: &str) -> Result<i64, Refusal> {
    if text == "-1" {
        return Ok(-1);
    }
    memory(text).map_err(|why| Refusal::Alone(format!("invalid value for {flag}: {why}")))
}

fn memory(text: &str) -> Result<i64, String> {
    let size = || format!("invalid size: '{text}'");
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let suffix = suffix
        .strip_prefix(' ')
        .unwrap_or(suffix)
        .to_ascii_lowercase();
    let shift = match suffix.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ if number.is_empty() => return Err(size()),
        _ => return Err(format!("invalid suffix: '{suffix}'")),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(size());
    }
    // Integer arithmetic: a float loses bytes above 2^53. Digits of the fraction
    // beyond the fifteenth are worth less than a byte of 1 PiB.
    let whole: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse().map_err(|_| size())?
    };
    let fraction = &fraction[..fraction.len().min(15)];
    let (numerator, denominator) = if fraction.is_empty() {
        (0, 1)
    } else {
        let digits = u32::try_from(fraction.len()).map_err(|_| size())?;
        (fraction.parse().map_err(|_| size())?, 10_i128.pow(digits))
    };
    whole
        .checked_mul(1 << shift)
        .and_then(|bytes| bytes.checked_add((numerator << shift) / denominator))
        .and_then(|bytes| i64::try_from(bytes).ok())
        .ok_or_else(|| format!("invalid size: '{text}': more than {} bytes", i64::MAX))
}

/// Go's `time.ParseDuration`, for durations that are not negative: `5s`,
/// `1m30s`, `1.5h`, `100ms`, `0`.
pub(super) fn duration(text: &str) -> Result<Duration, Refusal> {
    let invalid = || Refusal::Flag(format!("time: invalid duration {text:?}"));
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.starts_with('-') {
        return Err(Refusal::Alone(
            "duration interval must be greater than 0".to_owned(),
        ));
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(|| Refusal::Flag(format!("time: missing unit in duration {text:?}")))?;
        let (number, tail) = rest.split_at(end);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let unit: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => {
                return Err(Refusal::Flag(format!(
                    "time: unknown unit {unit:?} in duration {text:?}"
                )));
            }
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(invalid());
        }
        let whole: u128 = if whole.is_empty() {
            0
        } else {
            whole.parse().map_err(|_| invalid())?
        };
        let fraction = &fraction[..fraction.len().min(15)];
        let digits = u32::try_from(fraction.len()).map_err(|_| invalid())?;
        let part: u128 = if fraction.is_empty() {
            0
        } else {
            fraction.parse().map_err(|_| invalid())?
        };
        total = whole
            .checked_mul(unit)
            .and_then(|n| n.checked_add(part * unit / 10_u128.pow(digits)))
            .and_then(|n| n.checked_add(total))
            .ok_or_else(invalid)?;
        rest = tail;
    }
    // Go's Duration is an i64 of nanoseconds.
    match i64::try_from(total)
        .ok()
        .and_then(|n| u64::try_from(n).ok())
    {
        Some(nanoseconds) => Ok(Duration::from_nanos(nanoseconds)),
        None => Err(invalid()),
    }
}

/// An interval that time passes in: more than nothing.
pub(super) fn interval(text: &str) -> Result<Duration, Refusal> {
    let value = duration(text)?;
    if value.is_zero() {
        return Err(Refusal::Alone(
            "duration interval must be greater than 0".to_owned(),
        ));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_gos_twelve_words() {
        for word in ["1", "t", "T", "true", "TRUE", "True"] {
            assert_eq!(boolean(word), Some(true), "{word}");
        }
        for word in ["0", "f", "F", "false", "FALSE", "False"] {
            assert_eq!(boolean(word), Some(false), "{word}");
        }
        for word in ["", "yes", "tRUE", "2"] {
            assert_eq!(boolean(word), None, "{word}");
        }
    }

    #[test]
    fn integers_follow_base_zero() {
        let table = [
            ("0", 0),
            ("3", 3),
            ("-1", -1),
            ("+7", 7),
            ("0x10", 16),
            ("0b11", 3),
            ("0o17", 15),
            ("017", 15),
            ("0x_1f", 31),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ];
        for (text, value) in table {
            assert_eq!(integer(text), Ok(value), "{text}");
        }
        for text in [
            "", "-", "0x", "1_000", "08", "1.5", "three", " 3", "--3", "+-3",
        ] {
            let error = integer(text).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("strconv.ParseInt: parsing {text:?}: invalid syntax")
            );
        }
        assert_eq!(
            integer("9223372036854775808").unwrap_err().to_string(),
            "strconv.ParseInt: parsing \"9223372036854775808\": value out of range"
        );
    }

    #[test]
    fn counts_are_not_negative() {
        assert_eq!(count("3"), Ok(3));
        assert!(count("-1").is_err());
        assert!(count("4294967296").is_err());
    }

    #[test]
    fn numbers_of_update_name_their_flag() {
        assert_eq!(unsigned_for("cpu-period", "100000"), Ok(100_000));
        assert_eq!(signed_for("cpu-quota", "-1"), Ok(-1));
        assert_eq!(
            unsigned_for("cpu-period", "-1").unwrap_err(),
            Refusal::Alone(
                "invalid value for cpu-period: strconv.ParseUint: parsing \"-1\": invalid syntax"
                    .to_owned()
            )
        );
        assert_eq!(
            signed_for("cpu-quota", "99999999999999999999")
                .unwrap_err()
                .to_string(),
            "invalid value for cpu-quota: strconv.ParseInt: parsing \"99999999999999999999\": value out of range"
        );
    }

    #[test]
    fn memory_has_binary_suffixes() {
        let table = [
            ("-1", -1),
            ("0", 0),
            ("1024", 1024),
            ("32b", 32),
            ("64k", 64 << 10),
            ("64 K", 64 << 10),
            ("512MB", 512 << 20),
            ("1GiB", 1 << 30),
            ("1.5g", 3 << 29),
            ("0.5k", 512),
            (".5k", 512),
            ("2t", 2 << 40),
            ("1p", 1 << 50),
            ("9007199254740993", 9_007_199_254_740_993),
            ("9223372036854775807", i64::MAX),
        ];
        for (text, value) in table {
            assert_eq!(memory_for("memory", text), Ok(value), "{text}");
        }
        for text in [
            "",
            "k",
            "-2",
            "1x",
            "512Mi",
            "1kk",
            "1..5",
            "1e3",
            "8192p",
            "9223372036854775808",
        ] {
            let error = memory_for("memory", text).unwrap_err().to_string();
            assert!(
                error.starts_with("invalid value for memory: "),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn durations_are_gos() {
        let table = [
            ("5s", 5_000_000_000),
            ("100ms", 100_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("2h45m30.5s", 9_930_500_000_000),
            ("7us", 7_000),
            ("7µs", 7_000),
            ("9ns", 9),
            (".5s", 500_000_000),
            ("0", 0),
        ];
        for (text, nanoseconds) in table {
            assert_eq!(
                duration(text),
                Ok(Duration::from_nanos(nanoseconds)),
                "{text}"
            );
        }
        for text in ["", "5", "s", "5x", "1s2", "1..5s", "99999999999h", "5 s"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["0", "0s", "-5s"] {
            assert_eq!(
                interval(text).unwrap_err().to_string(),
                "duration interval must be greater than 0",
                "{text}"
            );
        }
    }
}
