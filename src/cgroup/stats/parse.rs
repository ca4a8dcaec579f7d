//! The text of control files, as values. Pure.

use std::collections::BTreeMap;

use super::{BlkioEntry, Psi, PsiLine};
use crate::cgroup::file::parse_number;

type Parsed<T> = Result<T, String>;

/// `KEY VALUE` lines.
pub(super) fn flat(text: &str) -> Parsed<BTreeMap<String, u64>> {
    text.lines()
        .map(|line| match line.split_once(' ') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), parse_number(value)?)),
            _ => Err(format!("line {line:?} is not in \"key value\" format")),
        })
        .collect()
}

/// A list such as `0-3,7`.
pub(super) fn list(text: &str) -> Parsed<Vec<u16>> {
    let bad = |what: &str| format!("{what:?} is not a list of numbers");
    let mut all = Vec::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let from: u16 = from.parse().map_err(|_| bad(text))?;
        let to: u16 = to.parse().map_err(|_| bad(text))?;
        if from > to {
            return Err(bad(text));
        }
        all.extend(from..=to);
    }
    Ok(all)
}

/// A pressure file: `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, `full …`.
pub(super) fn psi(text: &str) -> Parsed<Psi> {
    let mut psi = Psi::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let target = match words.next() {
            Some("some") => &mut psi.some,
            Some("full") => &mut psi.full,
            _ => continue,
        };
        *target = psi_line(words)?;
    }
    Ok(psi)
}

fn psi_line<'a>(words: impl Iterator<Item = &'a str>) -> Parsed<PsiLine> {
    let mut line = PsiLine::default();
    for word in words {
        let bad = || format!("invalid psi data: {word:?}");
        let (key, value) = word.split_once('=').ok_or_else(bad)?;
        match key {
            "avg10" => line.avg10 = value.parse().map_err(|_| bad())?,
            "avg60" => line.avg60 = value.parse().map_err(|_| bad())?,
            "avg300" => line.avg300 = value.parse().map_err(|_| bad())?,
            "total" => line.total = value.parse().map_err(|_| bad())?,
            _ => {}
        }
    }
    Ok(line)
}

/// Version 1's `MAJOR:MINOR [OP] VALUE` lines, with a `Total VALUE` at the end.
pub(super) fn blkio(text: &str) -> Parsed<Vec<BlkioEntry>> {
    let mut entries = Vec::new();
    for line in text.lines() {
        let bad = || format!("malformed line: {line}");
        let number = |word: &str| word.parse::<u64>().map_err(|_| bad());
        let words: Vec<&str> = line.split([' ', ':']).filter(|w| !w.is_empty()).collect();
        let (major, minor, op, value) = match words[..] {
            ["Total", _] => continue,
            [major, minor, value] => (major, minor, "", value),
            [major, minor, op, value] => (major, minor, op, value),
            _ => return Err(bad()),
        };
        entries.push(BlkioEntry {
            major: number(major)?,
            minor: number(minor)?,
            op: op.to_owned(),
            value: number(value)?,
        });
    }
    Ok(entries)
}

/// Version 2's `io.stat`, as bytes and operations: `8:0 rbytes=1 wbytes=2 …`.
pub(super) fn io_stat(text: &str) -> Parsed<(Vec<BlkioEntry>, Vec<BlkioEntry>)> {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let bad = || format!("malformed line: {line}");
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else {
            continue;
        };
        let major = major.parse().map_err(|_| bad())?;
        let minor = minor.parse().map_err(|_| bad())?;
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut bytes, "Read"),
                "wbytes" => (&mut bytes, "Write"),
                "rios" => (&mut operations, "Read"),
                "wios" => (&mut operations, "Write"),
                _ => continue,
            };
            list.push(BlkioEntry {
                major,
                minor,
                op: op.to_owned(),
                value: value.parse().map_err(|_| bad())?,
            });
        }
    }
    Ok((bytes, operations))
}

/// `2MB` for `hugepages-2048kB`.
pub(super) fn hugepage_size(name: &str) -> Option<String> {
    let kilobytes: u64 = name
        .strip_prefix("hugepages-")?
        .strip_suffix("kB")?
        .parse()
        .ok()?;
    Some(match kilobytes {
        0..0x400 => format!("{kilobytes}KB"),
        0x400..0x10_0000 => format!("{}MB", kilobytes >> 10),
        _ => format!("{}GB", kilobytes >> 20),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_files() {
        let stats = flat("anon 5\nfile 18446744073709551615\nrefault -3\n").unwrap();
        assert_eq!(stats["anon"], 5);
        assert_eq!(stats["file"], u64::MAX);
        assert_eq!(stats["refault"], 0, "a kernel's slip");
        assert_eq!(
            flat("anon\n").unwrap_err(),
            "line \"anon\" is not in \"key value\" format"
        );
        assert!(flat("anon x\n").is_err());
    }

    #[test]
    fn lists() {
        assert_eq!(list("0"), Ok(vec![0]));
        assert_eq!(list("0-2,5,7-8"), Ok(vec![0, 1, 2, 5, 7, 8]));
        for bad in ["", "3-1", "a", "1-", "-1", "0,", "65536"] {
            assert!(list(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn pressure() {
        let text = "some avg10=1.71 avg60=2.36 avg300=2.57 total=230548833\n\
                    full avg10=1.00 avg60=1.01 avg300=1.00 total=157622356\n";
        let psi = psi(text).unwrap();
        assert!((psi.some.avg10 - 1.71).abs() < f64::EPSILON);
        assert_eq!(psi.full.total, 157_622_356);
        assert_eq!(super::psi("").unwrap(), Psi::default());
        assert_eq!(
            super::psi("some x\n").unwrap_err(),
            "invalid psi data: \"x\""
        );
        assert!(super::psi("full total=-1\n").is_err());
    }

    #[test]
    fn block_devices() {
        let entries = blkio("8:0 Read 100\n8:0 Total 200\n8:16 7\nTotal 207\n").unwrap();
        let shown: Vec<_> = entries
            .iter()
            .map(|e| (e.major, e.minor, e.op.as_str(), e.value))
            .collect();
        assert_eq!(
            shown,
            [(8, 0, "Read", 100), (8, 0, "Total", 200), (8, 16, "", 7)]
        );
        assert_eq!(blkio("8:0\n").unwrap_err(), "malformed line: 8:0");
        assert!(blkio("8:0 Read x\n").is_err());

        let text = "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 cost.usage=6\nunknown\n";
        let (bytes, operations) = io_stat(text).unwrap();
        let shown = |list: &[BlkioEntry]| {
            let pairs = list.iter().map(|e| (e.op.clone(), e.value));
            pairs.collect::<Vec<_>>()
        };
        assert_eq!(shown(&bytes), [("Read".into(), 1), ("Write".into(), 2)]);
        assert_eq!(
            shown(&operations),
            [("Read".into(), 3), ("Write".into(), 4)]
        );
        assert!(io_stat("8:0 rbytes=x\n").is_err());
    }

    #[test]
    fn hugepages() {
        for (name, want) in [
            ("hugepages-64kB", Some("64KB")),
            ("hugepages-2048kB", Some("2MB")),
            ("hugepages-32768kB", Some("32MB")),
            ("hugepages-1048576kB", Some("1GB")),
            ("hugepages-2048MB", None),
            ("2048kB", None),
            ("hugepages-kB", None),
        ] {
            assert_eq!(hugepage_size(name).as_deref(), want, "{name}");
        }
    }
}
