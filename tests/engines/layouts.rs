//! Image layouts as `ctr image export`, skopeo and podman write them, read for a
//! bundle.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::common::host::make_dir;
use crate::common::runtime::which;
use crate::common::{Sandbox, on_host, skip};
use crate::containerd::Containerd;
use crate::ground::{Ground, path};
use crate::podman::Podman;

/// As containerd calls it.
const IMAGE: &str = "kusabi.test/web:1";

/// Images made by umoci.
struct Images<'g> {
    ground: &'g Ground<'g>,
    layout: PathBuf,
}

impl<'g> Images<'g> {
    fn new(ground: &'g Ground<'g>) -> Self {
        let layout = ground.path("made");
        ground
            .run("umoci", ["init", "--layout", path(&layout)])
            .succeeded();
        let text = "version: v1\ndeployment: demo\nservices: {web: {}}\n";
        fs::write(ground.path("service.yaml"), text).expect("write");
        Self { ground, layout }
    }

    /// One more, with a layer, whose entrypoint is `program`.
    fn make(&self, tag: &str, architecture: &str, program: &str) {
        let image = format!("{}:{tag}", self.layout.display());
        let umoci = |args: &[&str]| self.ground.run("umoci", args).succeeded();
        umoci(&["new", "--image", &image]);
        let file = self.ground.path("file");
        fs::write(&file, program).expect("write");
        umoci(&["insert", "--image", &image, path(&file), "/file"]);
        umoci(&[
            "config",
            "--image",
            &image,
            "--architecture",
            architecture,
            "--config.entrypoint",
            program,
            "--config.cmd",
            "serve",
            "--config.env",
            "FROM=image",
            "--config.user",
            "1000:7",
            "--config.workingdir",
            "/srv",
        ]);
    }

    /// The process of a bundle for an image of a layout.
    fn process(&self, image: &str, more: &[&str]) -> Value {
        let service = self.ground.path("service.yaml");
        let args = ["bundle", "spec", "--no-probe", "--service", path(&service)];
        let out = self
            .ground
            .call(&self.ground.runtime)
            .args(args)
            .args(["--image", image])
            .args(more)
            .output()
            .succeeded();
        let spec: Value = serde_json::from_str(&out.stdout).expect("JSON");
        spec["process"].clone()
    }

    /// What [`Self::make`] said is what is read.
    #[track_caller]
    fn reads(&self, image: &str, more: &[&str], program: &str) {
        let process = self.process(image, more);
        assert_eq!(process["args"], json!([program, "serve"]), "{image}");
        assert_eq!(process["user"], json!({"uid": 1000, "gid": 7}), "{image}");
        assert_eq!(process["cwd"], "/srv", "{image}");
        let env = process["env"].as_array().expect("a list");
        assert!(env.contains(&json!("FROM=image")), "{image}: {env:?}");
    }

    fn unpack(&self, tar: &Path, name: &str) -> PathBuf {
        let dir = self.ground.path(name);
        make_dir(&dir);
        self.ground
            .run("tar", ["-C", path(&dir), "-xf", path(tar)])
            .succeeded();
        dir
    }

    /// The media types of all blobs that are JSON, and of what they name.
    fn media_types(layout: &Path) -> String {
        let blobs = fs::read_dir(layout.join("blobs/sha256")).expect("blobs");
        let texts = blobs.map(|blob| fs::read(blob.expect("an entry").path()).expect("read"));
        let mut all: String = texts
            .filter_map(|bytes| String::from_utf8(bytes).ok())
            .collect();
        all.push_str(&fs::read_to_string(layout.join("index.json")).expect("read"));
        all
    }
}

fn lacks(programs: &[&'static str]) -> Option<&'static str> {
    programs.iter().copied().find(|name| which(name).is_none())
}

fn what_ctr_exports_is_read(sandbox: &Sandbox) {
    if let Some(program) = lacks(&["containerd", "ctr", "umoci", "skopeo"]) {
        skip!("this host has no {program}");
    }
    let ground = Ground::new(sandbox);
    let images = Images::new(&ground);
    images.make("web", "amd64", "/bin/web");
    let containerd = Containerd::start(&ground);
    let ctr = |args: &[&str]| containerd.ctr(args).succeeded();
    let skopeo = |args: &[&str]| {
        let all = [&["--insecure-policy", "copy"], args].concat();
        ground.run("skopeo", all).succeeded()
    };
    let made = format!("oci:{}:web", images.layout.display());

    // One that has OCI's media types, and one that has Docker's.
    for (name, format) in [("oci", "oci-archive"), ("docker", "docker-archive")] {
        let archive = ground.path(&format!("{name}.archive"));
        skopeo(&[&made, &format!("{format}:{}:{IMAGE}", archive.display())]);
        let import = [
            "image",
            "import",
            "--no-unpack",
            "--platform",
            "linux/amd64",
        ];
        let named: &[&str] = match name {
            // The archive has the name in it.
            "docker" => &[],
            _ => &["--index-name", IMAGE],
        };
        ctr(&[&import[..], named, &[path(&archive)]].concat());
        let tar = ground.path(&format!("{name}.tar"));
        ctr(&[
            "image",
            "export",
            "--platform",
            "linux/amd64",
            path(&tar),
            IMAGE,
        ]);
        let layout = images.unpack(&tar, name);
        let types = Images::media_types(&layout);
        let dockers = "application/vnd.docker.container.image.v1+json";
        assert_eq!(types.contains(dockers), name == "docker", "{types}");
        for tag in ["", ":1", ":kusabi.test/web:1"] {
            let image = format!("{}{tag}", path(&layout));
            images.reads(&image, &["--platform", "linux/amd64"], "/bin/web");
        }
        ctr(&["image", "remove", IMAGE]);
    }
}

/// An index with an image for each of two platforms, as podman pushes it and
/// containerd exports it.
fn images_for_several_platforms_are_read(sandbox: &Sandbox) {
    if let Some(program) = lacks(&["containerd", "ctr", "umoci", "podman", "conmon"]) {
        skip!("this host has no {program}");
    }
    let ground = Ground::new(sandbox);
    let images = Images::new(&ground);
    images.make("amd", "amd64", "/bin/amd");
    images.make("arm", "arm64", "/bin/arm");
    let podman = Podman::new(&ground, false);
    let list = "localhost/kusabi-list:1";
    podman.podman(&["manifest", "create", list]).succeeded();
    for tag in ["amd", "arm"] {
        let image = format!("oci:{}:{tag}", images.layout.display());
        podman
            .podman(&["manifest", "add", list, &image])
            .succeeded();
    }
    let pushed = ground.path("pushed");
    let place = format!("oci:{}:{IMAGE}", pushed.display());
    podman
        .podman(&["manifest", "push", "--all", "--format", "oci", list, &place])
        .succeeded();
    let both = |layout: &Path| {
        for (platform, program) in [("linux/amd64", "/bin/amd"), ("linux/arm64", "/bin/arm")] {
            images.reads(path(layout), &["--platform", platform], program);
        }
    };
    both(&pushed);

    let containerd = Containerd::start(&ground);
    let ctr = |args: &[&str]| containerd.ctr(args).succeeded();
    let (tar, exported) = (ground.path("pushed.tar"), ground.path("exported.tar"));
    ground
        .run("tar", ["-C", path(&pushed), "-cf", path(&tar), "."])
        .succeeded();
    let import = ["image", "import", "--no-unpack", "--all-platforms"];
    ctr(&[&import[..], &["--index-name", IMAGE, path(&tar)]].concat());
    ctr(&["image", "export", "--all-platforms", path(&exported), IMAGE]);
    both(&images.unpack(&exported, "exported"));
}

on_host!(
    what_ctr_exports_is_read,
    images_for_several_platforms_are_read
);
