//! Capabilities, masks and mounts next to those that Docker and podman give.
//!
//! `engines.json` is what the two (Debian 12) hand to their runtime.
//! `tests/engines` asks them again where they are installed, holds the file to
//! the answer, and writes it anew with `KUSABI_BLESS=1`.

use serde_json::{Value, json};

use super::given::{Compared, given};
use super::support::{Workspace, json, web};

fn compare(engine: &str, what: impl Fn(&Compared<'_>)) {
    let engines: Value = json(include_str!("engines.json"));
    let ours = |lines: &str| {
        let spec = Workspace::new().spec(&web(lines), &["--no-probe"]).quiet();
        given(&json(&spec))
    };
    what(&Compared {
        engine,
        theirs: &engines[engine],
        ours: &json!({"default": ours(""), "privileged": ours("privileged: true")}),
    });
}

#[test]
fn capabilities_are_dockers() {
    compare("docker", |of| of.capabilities());
    compare("podman", |of| of.capabilities());
}

#[test]
fn masks_are_those_of_docker_and_more() {
    compare("docker", |of| of.masks());
    compare("podman", |of| of.masks());
}

#[test]
fn mounts_are_those_of_docker_and_podman() {
    compare("docker", |of| of.mounts());
    compare("podman", |of| of.mounts());
}
