//! Finds an image's configuration: a file, or an OCI image layout.

use std::path::{Path, PathBuf};

use pathrs::Root;

use super::below;
use crate::error::{Error, Result};
use crate::host::bounded;
use crate::service::{
    Descriptor, ImageConfig, Index, LayoutError, MAX_BLOB, Manifest, Platform, ServiceError, choose,
};

/// Indexes within indexes: the specification knows one level.
const MAX_DEPTH: usize = 4;

/// The configuration of `CONFIG.json` or `LAYOUT[:TAG]`.
///
/// # Errors
/// It cannot be read, is not what it should be, or is ambiguous.
pub fn config(named: &str, wanted: &Platform) -> Result<ImageConfig> {
    let (path, tag) = split(named);
    let meta = path.metadata().map_err(|e| Error::io("open", &path, e))?;
    let (file, bytes) = if meta.is_dir() {
        of_layout(&path, tag, wanted).map_err(|source| ServiceError::Layout {
            directory: path.clone(),
            source,
        })?
    } else if tag.is_some() {
        return Err(ServiceError::Image {
            file: path,
            reason: "is a file, only a layout's images have tags".to_owned(),
        }
        .into());
    } else {
        let bytes = bounded::read(&path, usize::try_from(MAX_BLOB).unwrap_or(usize::MAX))?;
        (path, bytes)
    };
    let image = ImageConfig::parse(&bytes).map_err(|reason| ServiceError::Image {
        file: file.clone(),
        reason,
    })?;
    if let Some(architecture) = &image.architecture
        && *architecture != wanted.architecture
    {
        tracing::warn!(
            "image {}: is for linux/{architecture}, not for {wanted}",
            file.display()
        );
    }
    Ok(image)
}

/// The path, and the tag after a colon, both of which may have colons of their
/// own: the longest path that exists.
fn split(named: &str) -> (PathBuf, Option<&str>) {
    let whole = PathBuf::from(named);
    if whole.exists() {
        return (whole, None);
    }
    let colons = named.rmatch_indices(':');
    let halves = colons.map(|(at, _)| (&named[..at], &named[at + 1..]));
    let mut halves = halves.filter(|(path, tag)| !path.is_empty() && !tag.is_empty());
    match halves.find(|(path, _)| Path::new(path).exists()) {
        Some((path, tag)) => (path.into(), Some(tag)),
        None => (whole, None),
    }
}

fn of_layout(
    directory: &Path,
    tag: Option<&str>,
    wanted: &Platform,
) -> Result<(PathBuf, Vec<u8>), LayoutError> {
    let file_error = |path: &str, reason: String| LayoutError::File {
        path: path.to_owned(),
        reason,
    };
    let root = below::open(directory).map_err(|reason| file_error(".", reason))?;
    let file = |path: &str| {
        below::read(&root, Path::new(path), MAX_BLOB)
            .map(|(bytes, _)| bytes)
            .map_err(|unread| file_error(path, unread.reason()))
    };
    version(&file("oci-layout")?)?;
    let mut index = Index::parse("index.json", &file("index.json")?)?;
    let mut tag = tag;
    for _ in 0..MAX_DEPTH {
        let chosen = choose(&index, tag, wanted)?.clone();
        let bytes = blob(&root, &chosen)?;
        if chosen.is_index() {
            index = Index::parse(&chosen.path(), &bytes)?;
            // Tags are the outer index's.
            tag = None;
            continue;
        }
        let manifest = Manifest::parse(&chosen.path(), &bytes)?;
        let bytes = blob(&root, &manifest.config)?;
        return Ok((directory.join(manifest.config.path()), bytes));
    }
    Err(LayoutError::Depth(MAX_DEPTH))
}

fn blob(root: &Root, descriptor: &Descriptor) -> Result<Vec<u8>, LayoutError> {
    let wrong = |reason: String| LayoutError::Blob {
        digest: descriptor.digest.clone(),
        reason,
    };
    if descriptor.size > MAX_BLOB {
        let size = descriptor.size;
        return Err(wrong(format!(
            "has {size} bytes, at most {MAX_BLOB} are read"
        )));
    }
    let read = below::read(root, Path::new(&descriptor.path()), MAX_BLOB);
    let (bytes, _) = read.map_err(|unread| wrong(unread.reason()))?;
    descriptor.verify(&bytes)?;
    Ok(bytes)
}

/// `oci-layout` says which version of the specification the directory follows.
fn version(bytes: &[u8]) -> Result<(), LayoutError> {
    let value: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    match value["imageLayoutVersion"].as_str() {
        Some(version) if version.starts_with("1.") => Ok(()),
        Some(version) => Err(LayoutError::Format {
            path: "oci-layout".to_owned(),
            reason: format!("version {version:?}, only 1 is known"),
        }),
        None => Err(LayoutError::Format {
            path: "oci-layout".to_owned(),
            reason: "has no imageLayoutVersion".to_owned(),
        }),
    }
}
