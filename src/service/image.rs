//! What an OCI image says of its process (image-spec, `config.md`).

use serde_json::Value;

use super::form::{self, Form};
use crate::document::{Document, Field};

/// `config` of an image configuration; fields that a container has no use for
/// are not read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// `User`, unless empty.
    pub user: Option<String>,
    /// `Env`, in order; later ones replace earlier ones of the same name.
    pub env: Vec<(String, String)>,
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub cmd: Vec<String>,
    /// `WorkingDir`, made absolute, unless empty.
    pub working_dir: Option<String>,
    /// `architecture`, as Go names it.
    pub architecture: Option<String>,
    /// `os`.
    pub os: Option<String>,
}

impl ImageConfig {
    /// Reads an image configuration.
    ///
    /// # Errors
    /// Not JSON, a field of the wrong type, a string that no process can have, an
    /// image for another system than Linux.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let document = Document::parse(bytes).map_err(|error| {
            let text = error.to_string();
            // The words are the document's; the name is not.
            text.strip_prefix("config.json: ")
                .unwrap_or(&text)
                .to_owned()
        })?;
        let parsed = Self::read(document.value());
        parsed.map_err(|reason| {
            let plain = reason.strip_prefix("config.json: ");
            plain.map_or(reason.clone(), str::to_owned)
        })
    }

    fn read(value: &Value) -> Result<Self, String> {
        let root = Field::root(value);
        let said = |error: crate::document::DocumentError| error.to_string();
        let text = |field: Option<&str>| field.map(str::to_owned);
        let mut image = Self {
            architecture: text(root.text_of("architecture").map_err(said)?),
            os: text(root.text_of("os").map_err(said)?),
            ..Self::default()
        };
        if let Some(os) = image.os.as_deref().filter(|os| *os != "linux") {
            return Err(format!("os: is for {os:?}, not for linux"));
        }
        let Some(config) = root.get("config").map_err(said)? else {
            return Ok(image);
        };
        let checked = |field: &Field<'_>, form: &Form| {
            let text = field.string().map_err(said)?;
            (form.check)(text).map_err(|reason| format!("{}: {reason}", field.path()))?;
            Ok::<_, String>(text.to_owned())
        };
        let strings = |key: &str| -> Result<Vec<String>, String> {
            let items = config.items_of(&[key]).map_err(said)?;
            items
                .iter()
                .map(|item| checked(item, &form::TEXT))
                .collect()
        };
        image.entrypoint = strings("Entrypoint")?;
        image.cmd = strings("Cmd")?;
        let env = strings("Env")?;
        for (index, entry) in env.iter().enumerate() {
            match entry.split_once('=') {
                Some((key, value)) if !key.is_empty() => {
                    image.env.push((key.to_owned(), value.to_owned()));
                }
                _ => return Err(format!("config.Env[{index}]: {entry:?} is not NAME=VALUE")),
            }
        }
        let optional = |key: &str| match config.get(key).map_err(said)? {
            Some(field) => checked(&field, &form::TEXT),
            None => Ok(String::new()),
        };
        image.user = Some(optional("User")?).filter(|user| !user.is_empty());
        image.working_dir = Some(optional("WorkingDir")?)
            .filter(|path| !path.is_empty())
            .map(|path| absolute(&path));
        Ok(image)
    }
}

/// The path from the root, whatever dots are in it.
fn absolute(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read() {
        let image = ImageConfig::parse(
            br#"{"architecture": "amd64", "os": "linux", "config": {
                "User": "app:video", "Env": ["A=1", "B=x=y", "C="],
                "Entrypoint": ["/bin/a"], "Cmd": null, "WorkingDir": "srv/./x/../data/",
                "ExposedPorts": {"80/tcp": {}}}, "rootfs": {}, "unknown": 1}"#,
        )
        .unwrap();
        assert_eq!(image.user.as_deref(), Some("app:video"));
        let env: Vec<String> = image.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(env, ["A=1", "B=x=y", "C="]);
        assert_eq!(image.entrypoint, ["/bin/a"]);
        assert!(image.cmd.is_empty());
        assert_eq!(image.working_dir.as_deref(), Some("/srv/data"));
        assert_eq!(ImageConfig::parse(b"{}"), Ok(ImageConfig::default()));
    }

    #[test]
    fn what_no_process_can_have_is_refused() {
        for (text, want) in [
            ("[]", "expected object, found array"),
            ("{", "expected a key in quotes at line 1 column 2"),
            (
                r#"{"os": "windows"}"#,
                "os: is for \"windows\", not for linux",
            ),
            (r#"{"config": []}"#, "config: expected object, found array"),
            (
                r#"{"config": {"User": 1}}"#,
                "config.User: expected string, found number",
            ),
            (
                r#"{"config": {"Env": ["A"]}}"#,
                "config.Env[0]: \"A\" is not NAME=VALUE",
            ),
            (
                r#"{"config": {"Env": ["=A"]}}"#,
                "config.Env[0]: \"=A\" is not NAME=VALUE",
            ),
            (
                r#"{"config": {"Cmd": "sh"}}"#,
                "config.Cmd: expected array, found string",
            ),
            (
                r#"{"config": {"Cmd": ["a", "b\u0000c"]}}"#,
                "config.Cmd[1]: has a zero byte in it",
            ),
        ] {
            assert_eq!(ImageConfig::parse(text.as_bytes()).unwrap_err(), want);
        }
    }
}
