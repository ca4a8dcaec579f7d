//! An OCI image layout (image-spec, `image-layout.md`): which of its images is
//! meant, and whether a blob is what its name says.

use sha2::{Digest as _, Sha256, Sha512};

use crate::document::{Document, DocumentError, Field, quote};

/// The most bytes an index, manifest or configuration may have.
pub(crate) const MAX_BLOB: u64 = 8 << 20;

/// Tags, as `umoci`, `skopeo` and containerd write them.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The whole name, as containerd writes it beside the tag.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// Why a layout has no configuration to give.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// A file cannot be read.
    #[error("{path}: {reason}")]
    File {
        /// Below the layout.
        path: String,
        /// Why.
        reason: String,
    },
    /// A file is not what the specification says.
    #[error("{path}: {reason}")]
    Format {
        /// Below the layout.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A blob's content is not what its name or descriptor says.
    #[error("{digest}: {reason}")]
    Blob {
        /// The blob's name.
        digest: String,
        /// What is wrong.
        reason: String,
    },
    /// No image has the tag.
    #[error("no image is tagged {}, there is {}", quote(tag), listed(known))]
    NoTag {
        /// As asked for.
        tag: String,
        /// The tags there are.
        known: Vec<String>,
    },
    /// Several images, and none was asked for.
    #[error("has several images, append one of the tags: {}", listed(known))]
    Several {
        /// The tags there are.
        known: Vec<String>,
    },
    /// No image at all.
    #[error("has no image")]
    Empty,
    /// No image for the platform.
    #[error("no image is for {wanted}, there is {}", listed(known))]
    NoPlatform {
        /// As asked for.
        wanted: Platform,
        /// The platforms there are.
        known: Vec<String>,
    },
    /// Indexes within indexes, deeper than anybody nests them.
    #[error("indexes nest deeper than {0}")]
    Depth(usize),
}

fn listed(known: &[String]) -> String {
    if known.is_empty() {
        return "none".to_owned();
    }
    known.join(", ")
}

/// `OS/ARCHITECTURE[/VARIANT]`, with Go's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// As in `amd64`.
    pub architecture: String,
    /// As in `v8`; `None` fits any.
    pub variant: Option<String>,
}

impl Platform {
    /// Reads `linux/ARCHITECTURE[/VARIANT]`.
    ///
    /// # Errors
    /// Another form, or another system.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.split('/');
        let (os, architecture) = (parts.next(), parts.next());
        let variant = parts.next();
        let plain = |part: &str| !part.is_empty();
        match (os, architecture) {
            (Some("linux"), Some(architecture))
                if parts.next().is_none() && plain(architecture) && variant.is_none_or(plain) =>
            {
                Ok(Self {
                    architecture: architecture.to_owned(),
                    variant: variant.map(str::to_owned),
                })
            }
            _ => Err(format!(
                "{} is not linux/ARCHITECTURE[/VARIANT], as in linux/amd64",
                quote(text)
            )),
        }
    }

    /// The platform of programs for a Rust target's architecture.
    #[must_use]
    pub fn of_target(arch: &str) -> Self {
        let (architecture, variant) = match arch {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", None),
            "arm" => ("arm", None),
            "powerpc64" => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        Self {
            architecture: architecture.to_owned(),
            variant,
        }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "linux/{}", self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// Names a blob (image-spec, `descriptor.md`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// `ALGORITHM:HEX`, of a valid form.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// Empty where the descriptor does not say.
    pub media_type: String,
    /// The tag, and the whole name.
    names: Vec<String>,
    /// `os`, `architecture`, `variant`.
    platform: Option<(String, String, Option<String>)>,
}

impl Descriptor {
    fn read(field: &Field<'_>) -> Result<Self, DocumentError> {
        let digest = field.text_of("digest")?.unwrap_or_default();
        let hex = match digest.split_once(':') {
            Some(("sha256", hex)) if hex.len() == 64 => hex,
            Some(("sha512", hex)) if hex.len() == 128 => hex,
            _ => "",
        };
        let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if hex.is_empty() || !hex.bytes().all(lower) {
            return Err(field.wrong(format!("{} is no sha256 or sha512 digest", quote(digest))));
        }
        let size = field
            .get("size")?
            .ok_or_else(|| field.missing("size"))?
            .integer()?;
        let mut names = Vec::new();
        if let Some(annotations) = field.get("annotations")? {
            for (key, value) in annotations.members()? {
                if key == REF_NAME || key == CONTAINERD_NAME {
                    names.push(value.string()?.to_owned());
                }
            }
        }
        names.sort();
        names.dedup();
        let platform = match field.get("platform")? {
            Some(platform) => Some((
                platform.text_of("os")?.unwrap_or_default().to_owned(),
                platform
                    .text_of("architecture")?
                    .unwrap_or_default()
                    .to_owned(),
                platform.text_of("variant")?.map(str::to_owned),
            )),
            None => None,
        };
        Ok(Self {
            digest: digest.to_owned(),
            size: u64::try_from(size).map_err(|_| field.wrong(format!("size is {size}")))?,
            media_type: field.text_of("mediaType")?.unwrap_or_default().to_owned(),
            names,
            platform,
        })
    }

    /// Where the blob is, below the layout.
    #[must_use]
    pub fn path(&self) -> String {
        format!("blobs/{}", self.digest.replacen(':', "/", 1))
    }

    /// Whether it names an index (a list of manifests).
    #[must_use]
    pub fn is_index(&self) -> bool {
        matches!(
            self.media_type.as_str(),
            "application/vnd.oci.image.index.v1+json"
                | "application/vnd.docker.distribution.manifest.list.v2+json"
        )
    }

    /// Whether these bytes are the blob.
    ///
    /// # Errors
    /// Another size, or another digest.
    pub fn verify(&self, bytes: &[u8]) -> Result<(), LayoutError> {
        let wrong = |reason: String| LayoutError::Blob {
            digest: self.digest.clone(),
            reason,
        };
        if u64::try_from(bytes.len()).ok() != Some(self.size) {
            let found = bytes.len();
            return Err(wrong(format!("has {found} bytes, not {}", self.size)));
        }
        let hex = if self.digest.starts_with("sha512:") {
            format!("sha512:{:x}", Sha512::digest(bytes))
        } else {
            format!("sha256:{:x}", Sha256::digest(bytes))
        };
        if hex != self.digest {
            return Err(wrong(format!("the content is {hex}")));
        }
        Ok(())
    }

    fn fits(&self, wanted: &Platform) -> bool {
        let Some((os, architecture, variant)) = &self.platform else {
            return true;
        };
        let variants = wanted.variant.is_none() || variant.is_none() || *variant == wanted.variant;
        os == "linux" && *architecture == wanted.architecture && variants
    }

    fn platform_name(&self) -> String {
        match &self.platform {
            Some((os, architecture, Some(variant))) => format!("{os}/{architecture}/{variant}"),
            Some((os, architecture, None)) => format!("{os}/{architecture}"),
            None => "any".to_owned(),
        }
    }
}

/// `index.json`, or an index within one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// In its order.
    pub manifests: Vec<Descriptor>,
}

impl Index {
    /// Reads an index.
    ///
    /// # Errors
    /// Names what is wrong; `path` is what the error calls the file.
    pub fn parse(path: &str, bytes: &[u8]) -> Result<Self, LayoutError> {
        read(path, bytes, |root| {
            let manifests = root.items_of(&["manifests"])?;
            let manifests = manifests.iter().map(Descriptor::read);
            Ok(Self {
                manifests: manifests.collect::<Result<_, _>>()?,
            })
        })
    }
}

/// A manifest: of it, the configuration alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The image's configuration.
    pub config: Descriptor,
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// Names what is wrong, also where it is of something that is no image.
    pub fn parse(path: &str, bytes: &[u8]) -> Result<Self, LayoutError> {
        read(path, bytes, |root| {
            let config = root.get("config")?.ok_or_else(|| root.missing("config"))?;
            let descriptor = Descriptor::read(&config)?;
            match descriptor.media_type.as_str() {
                ""
                | "application/vnd.oci.image.config.v1+json"
                | "application/vnd.docker.container.image.v1+json" => {}
                other => {
                    let other = quote(other);
                    return Err(config.wrong(format!("is {other}, not an image's configuration")));
                }
            }
            Ok(Self { config: descriptor })
        })
    }
}

fn read<T>(
    path: &str,
    bytes: &[u8],
    read: impl FnOnce(&Field<'_>) -> Result<T, DocumentError>,
) -> Result<T, LayoutError> {
    Document::parse(bytes)
        .and_then(|document| read(&Field::root(document.value())))
        .map_err(|error| {
            let text = error.to_string();
            let reason = text.strip_prefix("config.json: ").unwrap_or(&text);
            LayoutError::Format {
                path: path.to_owned(),
                reason: reason.to_owned(),
            }
        })
}

/// The image of an index that is meant: by its tag, where there is one, and for
/// the platform. What is nested in an index has no tags.
///
/// # Errors
/// None or several, with what there is.
pub fn choose<'i>(
    index: &'i Index,
    tag: Option<&str>,
    wanted: &Platform,
) -> Result<&'i Descriptor, LayoutError> {
    let known = || {
        let mut names: Vec<String> = index
            .manifests
            .iter()
            .flat_map(|descriptor| descriptor.names.clone())
            .collect();
        names.sort();
        names.dedup();
        names
    };
    let tagged: Vec<&Descriptor> = match tag {
        None => index.manifests.iter().collect(),
        Some(tag) => {
            let named = |d: &&Descriptor| d.names.iter().any(|name| name == tag);
            index.manifests.iter().filter(named).collect()
        }
    };
    if tagged.is_empty() {
        return Err(match tag {
            Some(tag) => LayoutError::NoTag {
                tag: tag.to_owned(),
                known: known(),
            },
            None => LayoutError::Empty,
        });
    }
    let fitting: Vec<&Descriptor> = tagged
        .iter()
        .copied()
        .filter(|descriptor| descriptor.fits(wanted))
        .collect();
    match fitting.as_slice() {
        [one] => Ok(one),
        [] => Err(LayoutError::NoPlatform {
            wanted: wanted.clone(),
            known: tagged.iter().map(|d| d.platform_name()).collect(),
        }),
        // The same image under several tags is one image.
        [first, rest @ ..] if rest.iter().all(|other| other.digest == first.digest) => Ok(first),
        // Variants of a platform that no variant was asked of: the first, as
        // its builder sorted them.
        [first, ..] if tag.is_some() || known().is_empty() => Ok(first),
        _ => Err(LayoutError::Several { known: known() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    type Row<'r> = (&'r str, Option<&'r str>, Option<(&'r str, &'r str)>);

    fn index(entries: &[Row<'_>]) -> Index {
        let manifests: Vec<serde_json::Value> = entries
            .iter()
            .map(|(digest, tag, platform)| {
                let mut entry = serde_json::json!({
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "digest": digest, "size": 7,
                });
                if let Some(tag) = tag {
                    entry["annotations"] = serde_json::json!({ REF_NAME: tag });
                }
                if let Some((os, architecture)) = platform {
                    entry["platform"] =
                        serde_json::json!({ "os": os, "architecture": architecture });
                }
                entry
            })
            .collect();
        let text = serde_json::json!({ "schemaVersion": 2, "manifests": manifests });
        Index::parse("index.json", text.to_string().as_bytes()).unwrap()
    }

    fn amd64() -> Platform {
        Platform::parse("linux/amd64").unwrap()
    }

    #[test]
    fn one_image_needs_no_tag_and_several_do() {
        let one = index(&[(A, Some("latest"), None)]);
        assert_eq!(choose(&one, None, &amd64()).unwrap().digest, A);
        assert_eq!(choose(&one, Some("latest"), &amd64()).unwrap().digest, A);
        assert_eq!(
            choose(&one, Some("1"), &amd64()).unwrap_err().to_string(),
            "no image is tagged \"1\", there is latest"
        );
        let two = index(&[(A, Some("a"), None), (B, Some("b"), None)]);
        assert_eq!(choose(&two, Some("b"), &amd64()).unwrap().digest, B);
        assert_eq!(
            choose(&two, None, &amd64()).unwrap_err().to_string(),
            "has several images, append one of the tags: a, b"
        );
        let same = index(&[(A, Some("a"), None), (A, Some("b"), None)]);
        assert_eq!(choose(&same, None, &amd64()).unwrap().digest, A);
        assert_eq!(
            choose(&index(&[]), None, &amd64()).unwrap_err().to_string(),
            "has no image"
        );
    }

    #[test]
    fn the_platform_decides_and_attestations_do_not_count() {
        let several = index(&[
            (A, None, Some(("linux", "arm64"))),
            (B, None, Some(("linux", "amd64"))),
            (A, None, Some(("unknown", "unknown"))),
        ]);
        assert_eq!(choose(&several, None, &amd64()).unwrap().digest, B);
        let riscv = Platform::parse("linux/riscv64").unwrap();
        assert_eq!(
            choose(&several, None, &riscv).unwrap_err().to_string(),
            "no image is for linux/riscv64, there is linux/arm64, linux/amd64, unknown/unknown"
        );
    }

    #[test]
    fn blobs_are_what_their_names_say() {
        let digest = format!("sha256:{:x}", Sha256::digest(b"content"));
        let one = index(&[(&digest, None, None)]);
        let descriptor = &one.manifests[0];
        assert_eq!(descriptor.path(), format!("blobs/sha256/{}", &digest[7..]));
        descriptor.verify(b"content").unwrap();
        assert_eq!(
            descriptor
                .verify(b"longer content")
                .unwrap_err()
                .to_string(),
            format!("{digest}: has 14 bytes, not 7")
        );
        let changed = descriptor.verify(b"another").unwrap_err().to_string();
        assert!(changed.starts_with(&format!("{digest}: the content is sha256:")));
    }

    #[test]
    fn digests_are_no_paths() {
        for digest in [
            "",
            "sha256:",
            "sha256:../../../../etc/passwd",
            "md5:00",
            &A.to_uppercase().replace("SHA256", "sha256"),
        ] {
            let text = serde_json::json!({"manifests": [{"digest": digest, "size": 1}]});
            let error = Index::parse("index.json", text.to_string().as_bytes()).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("index.json: manifests[0]: {digest:?} is no sha256 or sha512 digest")
            );
        }
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let text = serde_json::json!({"config": {
            "mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": A, "size": 1}});
        let error = Manifest::parse("m", text.to_string().as_bytes()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "m: config: is \"application/vnd.cncf.helm.config.v1+json\", not an image's configuration"
        );
        let error = Manifest::parse("m", b"{}").unwrap_err();
        assert_eq!(error.to_string(), "m: config: missing");
    }
}
