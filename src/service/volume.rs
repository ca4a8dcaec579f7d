//! Where on the host the volumes of a service are.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::error::ServiceError;
use super::file::{Storage, StorageKind};

/// What a storage needs a place for; prints as the command line writes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum VolumeName {
    /// `NAME`
    Named(String),
    /// `anon:TARGET`
    Anonymous(PathBuf),
    /// `s3:BUCKET[/PREFIX]`
    S3(String),
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Anonymous(target) => write!(f, "anon:{}", target.display()),
            Self::S3(place) => write!(f, "s3:{place}"),
        }
    }
}

impl VolumeName {
    /// What this storage needs; `None` where it says itself, or needs nothing.
    #[must_use]
    pub fn of(storage: &Storage) -> Option<Self> {
        match &storage.kind {
            StorageKind::Bind { .. } | StorageKind::Tmpfs { .. } => None,
            StorageKind::Named { name } => Some(Self::Named(name.clone())),
            StorageKind::Anonymous => Some(Self::Anonymous(storage.target.clone())),
            StorageKind::S3 { bucket, prefix, .. } => {
                let prefix = prefix.as_deref().unwrap_or_default();
                Some(Self::s3(&format!("{bucket}/{prefix}")))
            }
        }
    }

    fn s3(place: &str) -> Self {
        Self::S3(place.trim_end_matches('/').to_owned())
    }
}

/// The places, by what is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volumes(BTreeMap<VolumeName, PathBuf>);

impl Volumes {
    /// Says where a volume is.
    ///
    /// # Errors
    /// It has been said already, and differently.
    pub fn insert(&mut self, name: VolumeName, path: PathBuf) -> Result<(), ServiceError> {
        match self.0.get(&name) {
            Some(known) if *known != path => Err(ServiceError::Value {
                place: format!("--volume {name}"),
                reason: format!("is {} already", known.display()),
            }),
            _ => {
                self.0.insert(name, path);
                Ok(())
            }
        }
    }

    /// Reads `NAME=PATH`, `anon:TARGET=PATH` or `s3:BUCKET/PREFIX=PATH`.
    ///
    /// # Errors
    /// None of the three.
    pub fn parse(text: &str) -> Result<(VolumeName, PathBuf), ServiceError> {
        let wrong = || ServiceError::Value {
            place: format!("--volume {text}"),
            reason: "is not NAME=PATH, anon:TARGET=PATH or s3:BUCKET/PREFIX=PATH".to_owned(),
        };
        // A prefix may have equal signs of its own, as in `s3:logs/year=2026`.
        let halves = match text.starts_with("s3:").then(|| text.rfind("=/")).flatten() {
            Some(at) => Some((&text[..at], &text[at + 1..])),
            None => text.split_once('='),
        };
        let (name, path) = halves.ok_or_else(wrong)?;
        let name = if let Some(target) = name.strip_prefix("anon:") {
            if !target.starts_with('/') {
                return Err(wrong());
            }
            VolumeName::Anonymous(target.into())
        } else if let Some(place) = name.strip_prefix("s3:") {
            VolumeName::s3(place)
        } else {
            VolumeName::Named(name.to_owned())
        };
        let named = !matches!(&name, VolumeName::Named(n) | VolumeName::S3(n) if n.is_empty());
        if !named || path.is_empty() {
            return Err(wrong());
        }
        Ok((name, path.into()))
    }

    /// Where this is.
    #[must_use]
    pub fn get(&self, name: &VolumeName) -> Option<&Path> {
        self.0.get(name).map(PathBuf::as_path)
    }

    /// Every name.
    pub fn names(&self) -> impl Iterator<Item = &VolumeName> {
        self.0.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_are_read_and_printed() {
        for (text, name, path) in [
            ("data=/srv/data", "data", "/srv/data"),
            ("anon:/var/lib/x=/srv/x", "anon:/var/lib/x", "/srv/x"),
            ("s3:models=/mnt/m", "s3:models", "/mnt/m"),
            ("s3:models/=/mnt/m", "s3:models", "/mnt/m"),
            ("s3:models/a/b=/mnt/m=n", "s3:models/a/b", "/mnt/m=n"),
            ("s3:logs/year=2026=/mnt/l", "s3:logs/year=2026", "/mnt/l"),
            ("s3:logs=l", "s3:logs", "l"),
        ] {
            let (found, place) = Volumes::parse(text).unwrap();
            assert_eq!((found.to_string().as_str(), place), (name, path.into()));
        }
        for text in [
            "",
            "data",
            "=/x",
            "data=",
            "anon:=/x",
            "anon:x=/x",
            "s3:=/x",
        ] {
            assert_eq!(
                Volumes::parse(text).unwrap_err().to_string(),
                format!(
                    "--volume {text}: is not NAME=PATH, anon:TARGET=PATH or s3:BUCKET/PREFIX=PATH"
                )
            );
        }
    }

    #[test]
    fn one_volume_is_in_one_place() {
        let mut volumes = Volumes::default();
        let named = || VolumeName::Named("data".to_owned());
        volumes.insert(named(), "/a".into()).unwrap();
        volumes.insert(named(), "/a".into()).unwrap();
        assert_eq!(
            volumes
                .insert(named(), "/b".into())
                .unwrap_err()
                .to_string(),
            "--volume data: is /a already"
        );
    }
}
