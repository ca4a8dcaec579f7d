//! `[VENDOR:]N|all|none|ID,…`, as `--gpus` and `kusabi.dev/gpus` say it.

use std::collections::BTreeSet;

use super::{GpuRequest, Selection, Vendor};

/// Far above what any host has, and what keeps `0-4294967295` harmless.
const MOST: u32 = 1024;

/// Far above any real list.
const MAX_BYTES: usize = 64 << 10;

impl GpuRequest {
    /// Reads `[VENDOR:]N|all|none|ID,…`.
    ///
    /// A number alone is a count; a list, or `device=` before it, names devices:
    /// index, range of them, UUID, bus id, `GPU:MIG`.
    ///
    /// # Errors
    /// What is wrong, and what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!(
                "{} bytes, at most {MAX_BYTES} are read",
                text.len()
            ));
        }
        let (vendor, rest) = split_vendor(text);
        let what = selection(rest)?;
        Ok(Self::new(vendor.map(Vendor::from_word), what))
    }
}

/// A vendor's word before a colon. Bus ids (`0000:06:00.0`, `af:00.0`) and
/// `GPU:MIG` have colons too, but nothing else than hexadecimal digits before.
fn split_vendor(text: &str) -> (Option<&str>, &str) {
    let Some((word, rest)) = text.split_once(':') else {
        return (None, text);
    };
    let is_word = word.starts_with(|c: char| c.is_ascii_alphabetic())
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
        && !word.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_word {
        (Some(word), rest)
    } else {
        (None, text)
    }
}

fn selection(text: &str) -> Result<Selection, String> {
    match text {
        "" => return Err("it is empty, expected a count, all, none, or names with commas".into()),
        "all" => return Ok(Selection::All),
        "none" => return Ok(Selection::None),
        _ => {}
    }
    if let Some(list) = text.strip_prefix("device=") {
        return ids(list).map(Selection::Ids);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return match text.parse() {
            Ok(0) => Err("0 asks for nothing, leave it out or say none".into()),
            Ok(count @ 1..=MOST) => Ok(Selection::Count(count)),
            _ => Err(format!(
                "{text} is too many, at most {MOST} can be asked for"
            )),
        };
    }
    ids(text).map(Selection::Ids)
}

/// Names with commas; a range of indices is expanded.
pub(crate) fn ids(list: &str) -> Result<BTreeSet<String>, String> {
    let mut ids = BTreeSet::new();
    for id in list.split(',') {
        match id {
            "" => return Err("an entry of the list is empty".into()),
            "all" | "none" => return Err(format!("{id} must stand alone")),
            _ => {}
        }
        if let Some(range) = range(id)? {
            ids.extend(range.map(|index| index.to_string()));
            continue;
        }
        check(id)?;
        ids.insert(id.to_owned());
    }
    Ok(ids)
}

/// A name as devices have it.
pub(crate) fn check(id: &str) -> Result<(), String> {
    let allowed =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/' | '=');
    match id.chars().find(|&c| !allowed(c)) {
        Some(bad) => Err(format!(
            "{id:?} contains {bad:?}, which no device's name has"
        )),
        None => Ok(()),
    }
}

/// `A-B`, both indices; `None` if it is something else.
pub(crate) fn range(id: &str) -> Result<Option<std::ops::RangeInclusive<u32>>, String> {
    let Some((first, last)) = id.split_once('-') else {
        return Ok(None);
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(first) || !digits(last) {
        return Ok(None);
    }
    match (first.parse::<u32>(), last.parse::<u32>()) {
        (Ok(first), Ok(last)) if first <= last && last < MOST => Ok(Some(first..=last)),
        (Ok(first), Ok(last)) if first > last => Err(format!(
            "range {id} runs backwards, expected {last}-{first}"
        )),
        _ => Err(format!(
            "range {id} goes too far, indices end at {}",
            MOST - 1
        )),
    }
}
