//! Below which cgroup a container's own is made, where its configuration does
//! not say.
//!
//! Pure. First that somebody has said it, then what the place we run in allows:
//! in a container on cgroup v2, the whole tree that we see is the inside of our
//! own cgroup. Containers then go to `SCOPE/containers`, and since a cgroup that
//! has processes cannot hand controllers down (the kernel's "no internal
//! processes" rule), those of the scope may first have to move to `SCOPE/init`.
//! That is somebody else's arrangement, so it happens only when allowed.
//! [`nested`](super::nested) looks, and moves.

use std::collections::BTreeSet;

/// The child of a scope that holds containers.
pub const CONTAINERS: &str = "containers";
/// The child of a scope that its processes move to.
pub const INIT: &str = "init";

/// What is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// `cgroup_parent` of the service, or who else has the first word.
    pub explicit: Option<String>,
    /// `KUSABI_CGROUP_PARENT`
    pub environment: Option<String>,
    /// Whether processes in the way may be moved: the policy's `cgroup.migrate`,
    /// or `KUSABI_CGROUP_MIGRATE=1`.
    pub migrate: bool,
    /// The controllers that the container's limits need, as in `memory`.
    pub controllers: BTreeSet<&'static str>,
    /// Whether the caller is not root: it does without a cgroup where it may
    /// make none and needs none.
    pub rootless: bool,
}

/// One directory of the unified hierarchy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// From the mount point: `/`, or `/a/b`.
    pub path: String,
    /// Whether directories can be made in it.
    pub writable: bool,
    /// Whether processes are in it, and not below it.
    pub occupied: bool,
    /// `cgroup.subtree_control`
    pub enabled: BTreeSet<String>,
}

/// Where this process is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The unified hierarchy is the only one, and what is mounted is not its
    /// root but the inside of a cgroup.
    pub nested: bool,
    /// The cgroup of this process.
    pub own: Place,
    /// The one above, unless [`Surroundings::own`] is all we see.
    pub above: Option<Place>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing: the runtime's default.
    Unset,
    /// Somebody has said it.
    Explicit(String),
    /// In a container.
    Nested {
        /// `SCOPE/containers`
        parent: String,
        /// What has to be moved first, if anything.
        migration: Option<Migration>,
    },
}

impl Decision {
    /// The parent, if there is one.
    #[must_use]
    pub fn parent(&self) -> Option<&str> {
        match self {
            Self::Unset => None,
            Self::Explicit(parent) | Self::Nested { parent, .. } => Some(parent),
        }
    }
}

/// All processes of one cgroup move to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// From here; from the mount point.
    pub from: String,
    /// To here, which is made.
    pub to: String,
}

/// There is no place for containers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no cgroup to make containers in: {scope} {reason}; set cgroup_parent in the service file, set KUSABI_CGROUP_PARENT, or {remedy}"
)]
pub struct ParentError {
    /// The cgroup that would be the place.
    pub scope: String,
    /// Why it is not.
    pub reason: &'static str,
    /// The third way out.
    pub remedy: &'static str,
}

/// Decides.
///
/// # Errors
/// In a container whose cgroup cannot hold others.
pub fn decide(wish: &Wish, here: Option<&Surroundings>) -> Result<Decision, ParentError> {
    if let Some(parent) = wish.explicit.as_ref().or(wish.environment.as_ref()) {
        return Ok(Decision::Explicit(parent.clone()));
    }
    let Some(here) = here.filter(|here| here.nested) else {
        return Ok(Decision::Unset);
    };
    let scope = scope(here);
    let error = |reason, remedy| ParentError {
        scope: scope.path.clone(),
        reason,
        remedy,
    };
    if !scope.writable {
        if wish.rootless && wish.controllers.is_empty() {
            return Ok(Decision::Unset);
        }
        return Err(error(
            "cannot be written",
            "give this container a writable /sys/fs/cgroup",
        ));
    }
    let missing = |controller: &str| !scope.enabled.contains(controller);
    let needed = wish.controllers.iter().any(|one| missing(one));
    let migration = (scope.occupied && wish.migrate).then(|| Migration {
        from: scope.path.clone(),
        to: below(&scope.path, INIT),
    });
    if scope.occupied && needed && migration.is_none() {
        return Err(error(
            "has processes of its own and so cannot pass on the controllers that limits need",
            "let them be moved with KUSABI_CGROUP_MIGRATE=1 or the policy's cgroup.migrate = true",
        ));
    }
    Ok(Decision::Nested {
        parent: below(&scope.path, CONTAINERS),
        migration,
    })
}

/// Our own cgroup; after a migration, the one that we were moved from.
fn scope(here: &Surroundings) -> &Place {
    match &here.above {
        Some(above) if here.own.path == below(&above.path, INIT) && !above.occupied => above,
        _ => &here.own,
    }
}

/// A child's path.
fn below(path: &str, name: &str) -> String {
    format!("{}/{name}", path.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str) -> Place {
        Place {
            path: path.to_owned(),
            writable: true,
            ..Place::default()
        }
    }

    fn nested(own: Place, above: Option<Place>) -> Surroundings {
        Surroundings {
            nested: true,
            own,
            above,
        }
    }

    fn wish(controllers: &[&'static str]) -> Wish {
        Wish {
            controllers: controllers.iter().copied().collect(),
            ..Wish::default()
        }
    }

    #[test]
    fn who_says_it_first_wins() {
        let here = nested(place("/"), None);
        let mut both = Wish {
            explicit: Some("/service".into()),
            environment: Some("/env".into()),
            ..Wish::default()
        };
        let explicit = |parent: &str| Ok(Decision::Explicit(parent.into()));
        assert_eq!(decide(&both, Some(&here)), explicit("/service"));
        both.explicit = None;
        assert_eq!(decide(&both, Some(&here)), explicit("/env"));
        assert_eq!(decide(&both, None), explicit("/env"));
    }

    #[test]
    fn outside_of_containers_it_is_the_runtimes() {
        let mut here = nested(place("/user.slice/x"), None);
        here.nested = false;
        assert_eq!(decide(&wish(&["memory"]), Some(&here)), Ok(Decision::Unset));
        assert_eq!(decide(&wish(&["memory"]), None), Ok(Decision::Unset));
    }

    #[test]
    fn in_a_container_it_is_below_the_scope() {
        for (own, parent) in [("/", "/containers"), ("/a/b", "/a/b/containers")] {
            assert_eq!(
                decide(&wish(&["memory"]), Some(&nested(place(own), None))),
                Ok(Decision::Nested {
                    parent: parent.into(),
                    migration: None
                })
            );
        }
    }

    #[test]
    fn processes_in_the_way_move_only_when_allowed() {
        let mut own = place("/");
        own.occupied = true;
        let here = nested(own.clone(), None);
        assert_eq!(
            decide(&wish(&["cpu", "memory"]), Some(&here))
                .unwrap_err()
                .to_string(),
            "no cgroup to make containers in: / has processes of its own and so cannot pass on the controllers that limits need; set cgroup_parent in the service file, set KUSABI_CGROUP_PARENT, or let them be moved with KUSABI_CGROUP_MIGRATE=1 or the policy's cgroup.migrate = true"
        );
        let stays = |own: &Place, wish: &Wish| {
            decide(wish, Some(&nested(own.clone(), None)))
                == Ok(Decision::Nested {
                    parent: "/containers".into(),
                    migration: None,
                })
        };
        assert!(stays(&own, &wish(&[])), "no limits, no controllers");
        own.enabled = ["cpu", "memory"].map(str::to_owned).into();
        assert!(stays(&own, &wish(&["memory"])), "handed down already");
        let allowed = Wish {
            migrate: true,
            ..wish(&["memory"])
        };
        assert_eq!(
            decide(&allowed, Some(&here)),
            Ok(Decision::Nested {
                parent: "/containers".into(),
                migration: Some(Migration {
                    from: "/".into(),
                    to: "/init".into()
                })
            })
        );
    }

    #[test]
    fn after_a_migration_the_scope_is_the_same() {
        let mut here = nested(place("/init"), Some(place("/")));
        let parent = |here: &Surroundings| {
            let decision = decide(&wish(&["memory"]), Some(here)).unwrap();
            decision.parent().unwrap().to_owned()
        };
        assert_eq!(parent(&here), "/containers");
        // Somebody else's init, with its own processes above.
        here.above.as_mut().unwrap().occupied = true;
        assert_eq!(parent(&here), "/init/containers");
    }

    #[test]
    fn what_cannot_be_written_is_said_unless_nothing_is_needed() {
        let mut own = place("/");
        own.writable = false;
        let here = nested(own, None);
        assert_eq!(
            decide(&wish(&[]), Some(&here)).unwrap_err().to_string(),
            "no cgroup to make containers in: / cannot be written; set cgroup_parent in the service file, set KUSABI_CGROUP_PARENT, or give this container a writable /sys/fs/cgroup"
        );
        let rootless = Wish {
            rootless: true,
            ..wish(&[])
        };
        assert_eq!(decide(&rootless, Some(&here)), Ok(Decision::Unset));
        let limited = Wish {
            rootless: true,
            ..wish(&["memory"])
        };
        assert!(decide(&limited, Some(&here)).is_err());
    }
}
