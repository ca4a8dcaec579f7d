//! Amounts of bytes and permission bits as people write them.

use std::collections::BTreeMap;

use super::file::PinnedMemory;
use crate::document::quote;

/// An amount of bytes: a whole decimal number, perhaps with one of the suffixes
/// `Ki Mi Gi Ti` (powers of 1024) or `k K M G T` (powers of 1000). More than
/// zero, and no more than the kernel counts (`i64::MAX`).
///
/// # Errors
/// Says what is wrong with the text.
pub(super) fn bytes(text: &str) -> Result<i64, String> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    if suffix.starts_with('.') || suffix.starts_with(',') {
        return Err(format!(
            "{} has a fraction, write a whole number with a smaller suffix",
            quote(text)
        ));
    }
    let unit: i64 = match suffix {
        "" => 1,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "k" | "K" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        _ if digits.is_empty() => return Err(not_an_amount(text)),
        _ => {
            return Err(format!(
                "{} has the unknown suffix {}, known are Ki, Mi, Gi, Ti, K, M, G, T",
                quote(text),
                quote(suffix)
            ));
        }
    };
    if digits.is_empty() {
        return Err(not_an_amount(text));
    }
    let amount = digits
        .parse::<i64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| format!("{} is more than {} bytes", quote(text), i64::MAX))?;
    if amount == 0 {
        return Err("nothing is no limit, leave the key out or write an amount".to_owned());
    }
    Ok(amount)
}

fn not_an_amount(text: &str) -> String {
    format!(
        "{} is no amount of bytes, as in 512Mi, 2G or 1048576",
        quote(text)
    )
}

/// Memory of GPUs: the same of each, as in `2G`, or by number, as in
/// `0=2G,1=512M`. The driver takes `M` and `G` for powers of 1024.
///
/// # Errors
/// Says what is wrong with the text.
pub(super) fn pinned(text: &str) -> Result<PinnedMemory, String> {
    if !text.contains('=') {
        return mebibytes(text).map(PinnedMemory::Each);
    }
    let mut each = BTreeMap::new();
    for part in text.split(',') {
        let (number, size) = part.split_once('=').unwrap_or((part, ""));
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        let number = number.parse::<u32>().ok().filter(|_| digits);
        let number = number.ok_or_else(|| format!("{} is not NUMBER=SIZE", quote(part)))?;
        if each.insert(number, mebibytes(size)?).is_some() {
            return Err(format!("GPU {number} is there twice"));
        }
    }
    Ok(PinnedMemory::PerDevice(each))
}

fn mebibytes(text: &str) -> Result<u64, String> {
    let end = text.find(['M', 'G']).unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    let unit = match suffix {
        "M" | "Mi" => Some(1),
        "G" | "Gi" => Some(1024),
        _ => None,
    };
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    let number = digits.parse::<u64>().ok().filter(|_| plain);
    unit.zip(number)
        .and_then(|(unit, number)| number.checked_mul(unit))
        .ok_or_else(|| {
            format!(
                "{} is no amount of GPU memory, as in 512M or 2G",
                quote(text)
            )
        })
}

/// Permission bits, always octal: `1777`, `0755`, `0o700`.
///
/// # Errors
/// Anything but up to four octal digits.
pub(super) fn mode(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let octal = !digits.is_empty() && digits.bytes().all(|b| matches!(b, b'0'..=b'7'));
    octal
        .then(|| u32::from_str_radix(digits, 8).ok())
        .flatten()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| format!("{} is no mode, as in 1777 or 0755 (octal)", quote(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_whole_and_exact() {
        for (text, want) in [
            ("1024", 1024),
            ("1", 1),
            ("512Ki", 524_288),
            ("512Mi", 536_870_912),
            ("1Gi", 1_073_741_824),
            ("3Ti", 3_298_534_883_328),
            ("2G", 2_000_000_000),
            ("2k", 2_000),
            ("2K", 2_000),
            ("7M", 7_000_000),
            ("1T", 1_000_000_000_000),
            ("9223372036854775807", i64::MAX),
            ("8388607Ti", 8_388_607 << 40),
        ] {
            assert_eq!(bytes(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn everything_else_is_no_amount() {
        for (text, want) in [
            ("", "\"\" is no amount of bytes, as in 512Mi, 2G or 1048576"),
            (
                "Mi",
                "\"Mi\" is no amount of bytes, as in 512Mi, 2G or 1048576",
            ),
            (
                "-1",
                "\"-1\" is no amount of bytes, as in 512Mi, 2G or 1048576",
            ),
            (
                " 1",
                "\" 1\" is no amount of bytes, as in 512Mi, 2G or 1048576",
            ),
            (
                "lots",
                "\"lots\" is no amount of bytes, as in 512Mi, 2G or 1048576",
            ),
            (
                "1.5Gi",
                "\"1.5Gi\" has a fraction, write a whole number with a smaller suffix",
            ),
            (
                "512MB",
                "\"512MB\" has the unknown suffix \"MB\", known are Ki, Mi, Gi, Ti, K, M, G, T",
            ),
            (
                "1Pi",
                "\"1Pi\" has the unknown suffix \"Pi\", known are Ki, Mi, Gi, Ti, K, M, G, T",
            ),
            (
                "8388608Ti",
                "\"8388608Ti\" is more than 9223372036854775807 bytes",
            ),
            (
                "99999999999999999999",
                "\"99999999999999999999\" is more than 9223372036854775807 bytes",
            ),
            (
                "0Mi",
                "nothing is no limit, leave the key out or write an amount",
            ),
        ] {
            assert_eq!(bytes(text).unwrap_err(), want, "{text}");
        }
    }

    #[test]
    fn memory_of_gpus_is_of_each_or_by_number() {
        assert_eq!(pinned("2G"), Ok(PinnedMemory::Each(2048)));
        assert_eq!(
            pinned("0=2Gi,3=512M"),
            Ok(PinnedMemory::PerDevice([(0, 2048), (3, 512)].into()))
        );
        for (text, want) in [
            ("2", "\"2\" is no amount of GPU memory, as in 512M or 2G"),
            ("0G", "\"0G\" is no amount of GPU memory, as in 512M or 2G"),
            ("0=", "\"\" is no amount of GPU memory, as in 512M or 2G"),
            ("x=1G", "\"x=1G\" is not NUMBER=SIZE"),
            ("0=1G,0=2G", "GPU 0 is there twice"),
            ("0=1G,", "\"\" is not NUMBER=SIZE"),
        ] {
            assert_eq!(pinned(text).unwrap_err(), want, "{text}");
        }
    }

    #[test]
    fn modes_are_octal() {
        for (text, want) in [
            ("1777", 0o1777),
            ("0755", 0o755),
            ("0o700", 0o700),
            ("0", 0),
        ] {
            assert_eq!(mode(text), Ok(want), "{text}");
        }
        for text in ["", "0o", "888", "0x1ff", "-1", "17777", "rwx", "1777 "] {
            assert_eq!(
                mode(text).unwrap_err(),
                format!("{text:?} is no mode, as in 1777 or 0755 (octal)")
            );
        }
    }
}
