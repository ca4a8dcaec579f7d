//! The lines of `uid_map` and `gid_map` (user_namespaces(7)).

use std::path::Path;

use super::{Range, RootlessError};
use crate::edit::IdMapping;

/// Both maps of a user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Maps {
    /// `uid_map`.
    pub uid: Vec<IdMapping>,
    /// `gid_map`.
    pub gid: Vec<IdMapping>,
}

/// The container's map: its root is `own`, and the ranges follow from 1 on, in
/// their order.
///
/// # Errors
/// More ids than there are numbers.
pub fn container_map(
    file: &Path,
    uid: u32,
    own: u32,
    ranges: &[Range],
) -> Result<Vec<IdMapping>, RootlessError> {
    let mut lines = vec![IdMapping {
        container_id: 0,
        host_id: own,
        size: 1,
    }];
    let mut next = 1_u32;
    for range in ranges {
        lines.push(IdMapping {
            container_id: next,
            host_id: range.first,
            size: range.count,
        });
        next = next
            .checked_add(range.count)
            .ok_or_else(|| RootlessError::TooMany {
                file: file.to_path_buf(),
                uid,
            })?;
    }
    Ok(lines)
}

/// Whether the container knows an id of this number.
#[must_use]
pub fn is_mapped(map: &[IdMapping], id: u32) -> bool {
    map.iter().any(|line| {
        id.checked_sub(line.container_id)
            .is_some_and(|offset| offset < line.size)
    })
}

/// Reads what the kernel shows of a map; `None` if it is not three numbers a
/// line.
#[must_use]
pub fn parse_map(text: &str) -> Option<Vec<IdMapping>> {
    text.lines()
        .map(|line| {
            let mut numbers = line.split_whitespace().map(str::parse);
            let mut next = || numbers.next()?.ok();
            let line = IdMapping {
                container_id: next()?,
                host_id: next()?,
                size: next()?,
            };
            numbers.next().is_none().then_some(line)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u32, count: u32) -> Range {
        Range {
            first,
            count,
            line: 1,
        }
    }

    fn map(own: u32, ranges: &[Range]) -> Result<Vec<(u32, u32, u32)>, RootlessError> {
        let lines = container_map(Path::new("/etc/subuid"), 7, own, ranges)?;
        let numbers = |l: &IdMapping| (l.container_id, l.host_id, l.size);
        Ok(lines.iter().map(numbers).collect())
    }

    #[test]
    fn the_caller_is_root_and_the_ranges_follow() {
        assert_eq!(map(1000, &[]), Ok(vec![(0, 1000, 1)]));
        assert_eq!(
            map(1000, &[range(300_000, 10), range(100_000, 65536)]),
            Ok(vec![(0, 1000, 1), (1, 300_000, 10), (11, 100_000, 65536)])
        );
        let error = map(
            1000,
            &[range(2000, u32::MAX - 2000), range(0, 1000), range(1, 1000)],
        );
        assert!(
            error
                .unwrap_err()
                .to_string()
                .starts_with("/etc/subuid: the ranges of uid 7")
        );
    }

    #[test]
    fn an_id_is_mapped_in_any_line() {
        let lines = container_map(Path::new("f"), 0, 1000, &[range(5, 4)]).unwrap();
        let mapped: Vec<u32> = (0..8).filter(|id| is_mapped(&lines, *id)).collect();
        assert_eq!(mapped, [0, 1, 2, 3, 4]);
        assert!(!is_mapped(&[], 0));
    }

    #[test]
    fn the_kernels_text_is_read() {
        let text = "         0       4242          1\n         1     200000       1000\n";
        let lines = parse_map(text).unwrap();
        assert_eq!(lines.len(), 2);
        assert_eq!(
            (lines[1].container_id, lines[1].host_id, lines[1].size),
            (1, 200_000, 1000)
        );
        let whole = parse_map("0 0 4294967295\n").unwrap();
        assert!(is_mapped(&whole, 4_294_967_294));
        for wrong in ["0 0", "0 0 1 2", "a b c"] {
            assert_eq!(parse_map(wrong), None, "{wrong}");
        }
        assert_eq!(parse_map(""), Some(vec![]));
    }
}
