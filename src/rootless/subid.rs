//! `/etc/subuid` and `/etc/subgid` (subuid(5)): which ids a user may map besides
//! the own one.

use std::path::Path;

use super::RootlessError;

/// Whose lines count: lines may begin with the login name or the uid, also in
/// `/etc/subgid`.
#[derive(Debug, Clone, Copy)]
pub struct User<'a> {
    /// The login name, if there is one.
    pub name: Option<&'a str>,
    /// The uid.
    pub uid: u32,
}

/// Ids that a user may map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first, on the host.
    pub first: u32,
    /// How many; at least one.
    pub count: u32,
    /// The line they stand in, from 1.
    pub line: usize,
}

impl Range {
    fn last(&self) -> u32 {
        // Read with a check that this fits.
        self.first + (self.count - 1)
    }

    fn holds(&self, id: u32) -> bool {
        (self.first..=self.last()).contains(&id)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last() && other.first <= self.last()
    }

    fn words(&self) -> String {
        format!("{}:{}", self.first, self.count)
    }
}

/// All ranges of a user, in the file's order, each once.
///
/// `own` is the id that is mapped by itself: the caller's uid or gid. Lines of
/// others, and such without three fields, are passed over, as newuidmap(1) does.
///
/// # Errors
/// A line of the user's that holds no numbers; ranges that overlap, or hold
/// `own`.
pub fn ranges(
    file: &Path,
    text: &[u8],
    user: User<'_>,
    own: u32,
) -> Result<Vec<Range>, RootlessError> {
    let mut found: Vec<Range> = Vec::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line_number = index + 1;
        // Whose name is not UTF-8 is nobody that we look for.
        let Ok(line) = std::str::from_utf8(line) else {
            continue;
        };
        let fields: Vec<&str> = line.trim_end().split(':').collect();
        let [owner, first, count] = fields.as_slice() else {
            continue;
        };
        if !is_of(owner, user) {
            continue;
        }
        let wrong = |reason: String| RootlessError::Line {
            file: file.to_path_buf(),
            line: line_number,
            reason,
        };
        let number = |text: &str| {
            text.parse::<u32>()
                .map_err(|_| wrong(format!("{text:?} is not a number of 32 bits")))
        };
        let (first, count) = (number(first)?, number(count)?);
        if count == 0 {
            continue;
        }
        // 4294967295 is no id (user_namespaces(7)).
        if first.checked_add(count).is_none() {
            return Err(wrong(format!("{first}:{count} reaches beyond the last id")));
        }
        let range = Range {
            first,
            count,
            line: line_number,
        };
        if found.iter().any(|r| (r.first, r.count) == (first, count)) {
            continue;
        }
        if range.holds(own) {
            return Err(RootlessError::OwnId {
                file: file.to_path_buf(),
                line: line_number,
                range: range.words(),
                id: own,
            });
        }
        if let Some(other) = found.iter().find(|r| r.overlaps(&range)) {
            return Err(RootlessError::Overlap {
                file: file.to_path_buf(),
                line: line_number,
                range: range.words(),
                other: other.words(),
                other_line: other.line,
            });
        }
        found.push(range);
    }
    Ok(found)
}

fn is_of(owner: &str, user: User<'_>) -> bool {
    !owner.is_empty()
        && (user.name == Some(owner)
            // As the kernel writes it: no sign, no leading zero.
            || owner == user.uid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "/etc/subuid";

    fn of(text: &str) -> Result<Vec<(u32, u32)>, String> {
        let user = User {
            name: Some("ann"),
            uid: 1000,
        };
        ranges(Path::new(FILE), text.as_bytes(), user, 1000)
            .map(|list| list.iter().map(|r| (r.first, r.count)).collect())
            .map_err(|e| e.to_string())
    }

    #[test]
    fn lines_by_name_and_by_uid_all_count() {
        assert_eq!(
            of("bob:1:5\nann:100000:65536\n1000:300000:10\nann:5000:1"),
            Ok(vec![(100_000, 65536), (300_000, 10), (5000, 1)])
        );
        assert_eq!(of(""), Ok(vec![]));
        assert_eq!(of("anne:1:1\n01000:5:5\n+1000:5:5\n:7:7\n"), Ok(vec![]));
    }

    #[test]
    fn a_range_that_is_there_twice_counts_once() {
        assert_eq!(
            of("ann:100000:10\n1000:100000:10\nann:100000:10\n"),
            Ok(vec![(100_000, 10)])
        );
    }

    #[test]
    fn others_lines_may_be_anything() {
        assert_eq!(
            of("# a remark\nbob:x:y\nann:1\nann:1:2:3\nbob:\nann:7:0\n"),
            Ok(vec![])
        );
        let user = User { name: None, uid: 7 };
        let text = b"\xff\xfe:1:1\n7:8:9\n";
        assert_eq!(ranges(Path::new(FILE), text, user, 0).unwrap()[0].line, 2);
    }

    #[test]
    fn a_wrong_line_of_the_callers_is_named() {
        let table = [
            ("ann:x:5", "/etc/subuid:1: \"x\" is not a number of 32 bits"),
            ("\nann:5:-1", "/etc/subuid:2: \"-1\" is not a number"),
            (
                "ann:4294967290:6",
                "/etc/subuid:1: 4294967290:6 reaches beyond the last id",
            ),
            ("ann:4294967295:1", "reaches beyond the last id"),
        ];
        for (text, words) in table {
            let error = of(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert_eq!(of("ann:4294967290:5"), Ok(vec![(4_294_967_290, 5)]));
    }

    #[test]
    fn overlaps_are_refused() {
        let words = |text: &str| of(text).unwrap_err();
        assert_eq!(
            words("ann:100:10\nbob:1:1\nann:109:1\n"),
            "/etc/subuid:3: 109:1 overlaps with 100:10 of line 1; remove one of them"
        );
        assert!(words("ann:100:10\nann:100:11\n").contains("overlaps"));
        assert!(words("ann:100:10\nann:50:51\n").contains("overlaps"));
        assert_eq!(of("ann:100:10\nann:110:1\nann:99:1\n").unwrap().len(), 3);
        assert_eq!(
            words("ann:990:11"),
            "/etc/subuid:1: 990:11 holds the caller's own id 1000, which is the container's root \
             already; remove it from the range"
        );
        assert_eq!(of("ann:990:10\nann:1001:1").unwrap().len(), 2);
    }
}
