//! The image's user, and the root file system's `passwd(5)` and `group(5)`.
//!
//! Both come from the image: they choose who the process is inside, and nothing
//! else. A name that cannot be found is an error, never root.

use std::fmt;

use super::error::ServiceError;

/// `USER[:GROUP]`, each a number or a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUser {
    user: Part,
    group: Option<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Id(u32),
    Name(String),
}

/// Who a process is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserId {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Groups that list the user by name; sorted.
    pub additional_gids: Vec<u32>,
}

/// What `passwd` and `group` of a root file system say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserDatabase {
    users: Vec<(String, u32, u32)>,
    groups: Vec<(String, u32, Vec<String>)>,
}

impl UserDatabase {
    /// Reads the two files; lines that are not of their form say nothing.
    #[must_use]
    pub fn parse(passwd: &str, group: &str) -> Self {
        let id = |text: &str| text.parse().ok().filter(|id| *id != u32::MAX);
        let user = |line: &str| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            let (uid, gid) = (id(fields.nth(1)?)?, id(fields.next()?)?);
            Some((name.to_owned(), uid, gid))
        };
        let group_of = |line: &str| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            let gid = id(fields.nth(1)?)?;
            let members = fields.next().unwrap_or_default().split(',');
            let members = members.filter(|name| !name.is_empty());
            Some((name.to_owned(), gid, members.map(str::to_owned).collect()))
        };
        Self {
            users: passwd.lines().filter_map(user).collect(),
            groups: group.lines().filter_map(group_of).collect(),
        }
    }
}

impl ImageUser {
    /// Reads `USER[:GROUP]`.
    ///
    /// # Errors
    /// An empty part, more than two, or a number that is no id.
    pub fn parse(text: &str) -> Result<Self, ServiceError> {
        let wrong = |reason: &str| ServiceError::User {
            user: text.to_owned(),
            reason: reason.to_owned(),
        };
        let part = |text: &str| {
            if text.is_empty() {
                return Err(wrong("has an empty part, write USER or USER:GROUP"));
            }
            if text.contains(['\0', '\n', ':']) {
                return Err(wrong("is not USER or USER:GROUP"));
            }
            if !text.bytes().all(|b| b.is_ascii_digit()) {
                return Ok(Part::Name(text.to_owned()));
            }
            match text.parse() {
                Ok(u32::MAX) | Err(_) => Err(wrong("has an id above 4294967294")),
                Ok(id) => Ok(Part::Id(id)),
            }
        };
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(part(group)?)),
            None => (text, None),
        };
        Ok(Self {
            user: part(user)?,
            group,
        })
    }

    /// Whether the root file system's files are needed.
    #[must_use]
    pub fn needs_database(&self) -> bool {
        matches!(self.user, Part::Name(_)) || matches!(self.group, Some(Part::Name(_)))
    }

    /// The ids. A number without a group gets the group of the same number; a
    /// name gets the group of its `passwd` line, and those that list it.
    ///
    /// # Errors
    /// A name that the files do not have, or no files to look into.
    pub fn resolve(&self, database: Option<&UserDatabase>) -> Result<UserId, ServiceError> {
        let wrong = |reason: String| ServiceError::User {
            user: self.to_string(),
            reason,
        };
        let files = || {
            database.ok_or_else(|| {
                wrong("a name needs the root file system to look into, give --rootfs, or write UID:GID".to_owned())
            })
        };
        let mut found = match &self.user {
            Part::Id(uid) => UserId {
                uid: *uid,
                gid: *uid,
                additional_gids: Vec::new(),
            },
            Part::Name(name) => {
                let files = files()?;
                let line = files.users.iter().find(|(known, ..)| known == name);
                let (_, uid, gid) = line.ok_or_else(|| {
                    wrong(format!(
                        "no user {name:?} in the root file system's /etc/passwd"
                    ))
                })?;
                let listing = files.groups.iter().filter(|(.., members)| {
                    self.group.is_none() && members.iter().any(|member| member == name)
                });
                let mut gids: Vec<u32> = listing.map(|(_, gid, _)| *gid).collect();
                gids.retain(|other| other != gid);
                gids.sort_unstable();
                gids.dedup();
                UserId {
                    uid: *uid,
                    gid: *gid,
                    additional_gids: gids,
                }
            }
        };
        match &self.group {
            None => {}
            Some(Part::Id(gid)) => found.gid = *gid,
            Some(Part::Name(name)) => {
                let line = files()?.groups.iter().find(|(known, ..)| known == name);
                found.gid = line.map(|(_, gid, _)| *gid).ok_or_else(|| {
                    wrong(format!(
                        "no group {name:?} in the root file system's /etc/group"
                    ))
                })?;
            }
        }
        Ok(found)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for ImageUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.group {
            Some(group) => write!(f, "{}:{group}", self.user),
            None => write!(f, "{}", self.user),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> UserDatabase {
        UserDatabase::parse(
            "root:x:0:0::/root:/bin/sh\n# a comment\nbroken\n:x:1:1::\nbig:x:4294967295:1::\n\
             app:x:1001:2002:app:/:/bin/sh\napp:x:0:0::/:\n",
            "root:x:0:\nvideo:x:44:app,other\nrender:x:106:other,app\napp:x:2002:app\nbad:x:y:app\n",
        )
    }

    #[test]
    fn ids_and_names_resolve() {
        for (text, uid, gid, more) in [
            ("0", 0, 0, vec![]),
            ("1000", 1000, 1000, vec![]),
            ("1000:5", 1000, 5, vec![]),
            ("app", 1001, 2002, vec![44, 106]),
            ("app:video", 1001, 44, vec![]),
            ("app:7", 1001, 7, vec![]),
            ("7:video", 7, 44, vec![]),
            ("root", 0, 0, vec![]),
        ] {
            let want = UserId {
                uid,
                gid,
                additional_gids: more,
            };
            let user = ImageUser::parse(text).unwrap();
            assert_eq!(user.resolve(Some(&database())), Ok(want), "{text}");
            assert_eq!(user.to_string(), text);
        }
    }

    #[test]
    fn nobody_is_silently_root() {
        for (text, want) in [
            ("", "user \"\": has an empty part, write USER or USER:GROUP"),
            (
                ":",
                "user \":\": has an empty part, write USER or USER:GROUP",
            ),
            (
                "1:",
                "user \"1:\": has an empty part, write USER or USER:GROUP",
            ),
            ("1:2:3", "user \"1:2:3\": is not USER or USER:GROUP"),
            (
                "4294967295",
                "user \"4294967295\": has an id above 4294967294",
            ),
            (
                "99999999999",
                "user \"99999999999\": has an id above 4294967294",
            ),
            (
                "-1",
                "user \"-1\": no user \"-1\" in the root file system's /etc/passwd",
            ),
            (
                "big",
                "user \"big\": no user \"big\" in the root file system's /etc/passwd",
            ),
            (
                "broken",
                "user \"broken\": no user \"broken\" in the root file system's /etc/passwd",
            ),
            (
                "app:bad",
                "user \"app:bad\": no group \"bad\" in the root file system's /etc/group",
            ),
        ] {
            let error = ImageUser::parse(text)
                .and_then(|user| user.resolve(Some(&database())))
                .unwrap_err();
            assert_eq!(error.to_string(), want);
        }
        let error = ImageUser::parse("app").unwrap().resolve(None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "user \"app\": a name needs the root file system to look into, give --rootfs, or write UID:GID"
        );
        assert!(ImageUser::parse("1").unwrap().resolve(None).is_ok());
    }
}
