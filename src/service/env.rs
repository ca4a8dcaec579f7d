//! The environment: four layers, each of which replaces what those below it say.

use super::error::ServiceError;

/// What every container has unless its image says otherwise.
const DEFAULTS: [(&str, &str); 2] = [
    (
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
    ("TERM", "xterm"),
];

/// A value of `env`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference<'v> {
    /// Itself.
    Literal(&'v str),
    /// `$E:NAME`: the host's variable.
    Host(&'v str),
    /// `$S:NAME`: the secret.
    Secret(&'v str),
}

/// Reads a value; `None` where it starts like a reference and names nothing.
#[must_use]
pub fn reference(value: &str) -> Option<Reference<'_>> {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if let Some(name) = value.strip_prefix("$E:") {
        let named = !name.is_empty() && name.bytes().all(letter);
        return named.then_some(Reference::Host(name));
    }
    if let Some(name) = value.strip_prefix("$S:") {
        // A secret's name becomes a file's.
        let file = |b: u8| letter(b) || matches!(b, b'.' | b'-');
        let named = !name.is_empty() && name.bytes().all(file) && !name.starts_with('.');
        return named.then_some(Reference::Secret(name));
    }
    Some(Reference::Literal(value))
}

/// Resolves the references of one layer with `variable` and `secret`, which get
/// the place and the name. The image's layer never comes here: it has no claim
/// on the host's variables, nor on secrets.
pub(crate) fn resolve(
    layer: &[(String, String)],
    place: impl Fn(&str) -> String,
    variable: &dyn Fn(String, &str) -> Result<String, ServiceError>,
    secret: &dyn Fn(String, &str) -> Result<String, ServiceError>,
) -> Result<Vec<(String, String)>, ServiceError> {
    let one = |(key, value): &(String, String)| {
        let resolved = match reference(value) {
            Some(Reference::Literal(text)) => text.to_owned(),
            Some(Reference::Host(name)) => variable(place(key), name)?,
            Some(Reference::Secret(name)) => secret(place(key), name)?,
            None => {
                return Err(ServiceError::Reference {
                    place: place(key),
                    value: value.clone(),
                });
            }
        };
        if resolved.contains('\0') {
            return Err(ServiceError::Value {
                place: place(key),
                reason: "the value has a zero byte in it".to_owned(),
            });
        }
        Ok((key.clone(), resolved))
    };
    layer.iter().map(one).collect()
}

/// Image, defaults, service, builder: a later layer replaces the same variable
/// in its place. `KEY=value`, each key once.
pub(super) fn layers(
    image: &[(String, String)],
    service: &[(String, String)],
    builder: &[(String, String)],
) -> Vec<String> {
    let mut env: Vec<(&str, &str)> = Vec::new();
    let mut set = |key, value, replace: bool| {
        match env.iter_mut().find(|(known, _)| *known == key) {
            Some(entry) if replace => entry.1 = value,
            Some(_) => {}
            None => env.push((key, value)),
        };
    };
    for (key, value) in image {
        set(key, value, true);
    }
    for (key, value) in DEFAULTS {
        set(key, value, false);
    }
    for (key, value) in service.iter().chain(builder) {
        set(key, value, true);
    }
    env.iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
        of.iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn later_layers_replace_in_place_and_defaults_only_fill() {
        let image = pairs(&[
            ("A", "image"),
            ("PATH", "/image"),
            ("B", "image"),
            ("A", "twice"),
        ]);
        let service = pairs(&[("B", "service"), ("C", "service")]);
        let builder = pairs(&[("C", "builder"), ("TERM", "dumb"), ("D", "builder")]);
        assert_eq!(
            layers(&image, &service, &builder),
            [
                "A=twice",
                "PATH=/image",
                "B=service",
                "TERM=dumb",
                "C=builder",
                "D=builder"
            ]
        );
        assert_eq!(
            layers(&[], &[], &[]),
            [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm"
            ]
        );
    }

    #[test]
    fn references_are_whole_values() {
        for (text, want) in [
            ("plain", Some(Reference::Literal("plain"))),
            ("a $E:HOME", Some(Reference::Literal("a $E:HOME"))),
            ("$HOME", Some(Reference::Literal("$HOME"))),
            ("$E:HOME", Some(Reference::Host("HOME"))),
            ("$S:db.key-1", Some(Reference::Secret("db.key-1"))),
            ("$E:", None),
            ("$E:A B", None),
            ("$S:", None),
            ("$S:../x", None),
            ("$S:a/b", None),
            ("$S:.hidden", None),
        ] {
            assert_eq!(reference(text), want, "{text}");
        }
    }
}
