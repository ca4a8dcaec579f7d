//! Configurations from OCI image layouts, as tools write them and as they must
//! not be.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::common::runtime::which;
use super::support::{Workspace, json, web};

/// A layout being written.
struct Layout<'w>(&'w Workspace);

impl Layout<'_> {
    fn new(workspace: &Workspace) -> Layout<'_> {
        workspace.write("layout/oci-layout", r#"{"imageLayoutVersion": "1.0.0"}"#);
        Layout(workspace)
    }

    /// Writes a blob and describes it.
    fn blob(&self, kind: &str, content: &Value) -> Value {
        let bytes = content.to_string();
        let hex = format!("{:x}", Sha256::digest(&bytes));
        self.0.write(&format!("layout/blobs/sha256/{hex}"), &bytes);
        json!({
            "mediaType": format!("application/vnd.oci.image.{kind}.v1+json"),
            "digest": format!("sha256:{hex}"),
            "size": bytes.len(),
        })
    }

    /// An image whose entrypoint is `program`.
    fn image(&self, program: &str) -> Value {
        let config = json!({"architecture": "amd64", "os": "linux",
            "config": {"Entrypoint": [program]}});
        let config = self.blob("config", &config);
        self.blob(
            "manifest",
            &json!({"schemaVersion": 2, "config": config, "layers": []}),
        )
    }

    fn index(&self, manifests: &[Value]) {
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        self.0.write("layout/index.json", index.to_string());
    }
}

fn with(mut descriptor: Value, key: &str, value: Value) -> Value {
    descriptor[key] = value;
    descriptor
}

fn tagged(descriptor: Value, tag: &str) -> Value {
    let tag = json!({"org.opencontainers.image.ref.name": tag});
    with(descriptor, "annotations", tag)
}

fn platform(descriptor: Value, os: &str, architecture: &str) -> Value {
    let platform = json!({"os": os, "architecture": architecture});
    with(descriptor, "platform", platform)
}

/// What runs, or the error.
fn program(workspace: &Workspace, image: &str, args: &[&str]) -> Result<String, String> {
    let base = ["--no-probe", "--image", image];
    let done = workspace.spec(&web(""), &[&base, args].concat());
    if done.code != 0 {
        return Err(done.error());
    }
    let spec = json(&done.stdout);
    Ok(spec["process"]["args"][0].as_str().unwrap().to_owned())
}

#[test]
fn tags_choose_among_images() {
    let workspace = Workspace::new();
    let layout = Layout::new(&workspace);
    layout.index(&[layout.image("/only")]);
    assert_eq!(program(&workspace, "layout", &[]), Ok("/only".into()));
    layout.index(&[
        tagged(layout.image("/one"), "1.0"),
        tagged(layout.image("/two"), "2.0"),
    ]);
    assert_eq!(program(&workspace, "layout:2.0", &[]), Ok("/two".into()));
    assert_eq!(
        program(&workspace, "layout", &[]).unwrap_err(),
        "image layout layout: has several images, append one of the tags: 1.0, 2.0"
    );
    assert_eq!(
        program(&workspace, "layout:3.0", &[]).unwrap_err(),
        "image layout layout: no image is tagged \"3.0\", there is 1.0, 2.0"
    );
    layout.index(&[]);
    assert_eq!(
        program(&workspace, "layout", &[]).unwrap_err(),
        "image layout layout: has no image"
    );
}

/// As `ctr image export` and `docker buildx` write it.
#[test]
fn an_index_in_an_index_is_searched_for_the_platform() {
    let workspace = Workspace::new();
    let layout = Layout::new(&workspace);
    let inner = layout.blob(
        "index",
        &json!({"schemaVersion": 2, "manifests": [
            platform(layout.image("/arm"), "linux", "arm64"),
            platform(layout.image("/amd"), "linux", "amd64"),
            platform(layout.image("/attestation"), "unknown", "unknown"),
        ]}),
    );
    let name = json!({"io.containerd.image.name": "docker.io/library/web:1",
        "org.opencontainers.image.ref.name": "1"});
    layout.index(&[with(inner, "annotations", name)]);
    for (image, asked, wanted) in [
        ("layout", "linux/arm64", "/arm"),
        ("layout:1", "linux/amd64", "/amd"),
        ("layout:docker.io/library/web:1", "linux/amd64", "/amd"),
    ] {
        let found = program(&workspace, image, &["--platform", asked]);
        assert_eq!(found, Ok(wanted.into()), "{image}");
    }
    assert_eq!(
        program(&workspace, "layout", &["--platform", "linux/s390x"]).unwrap_err(),
        "image layout layout: no image is for linux/s390x, there is linux/arm64, linux/amd64, unknown/unknown"
    );
}

#[test]
fn a_layout_that_is_not_what_it_says_is_refused() {
    let workspace = Workspace::new();
    let layout = Layout::new(&workspace);
    let image = layout.image("/a");
    let hex = &image["digest"].as_str().unwrap()[7..];
    let blob = format!("layout/blobs/sha256/{hex}");
    let error = || {
        let error = program(&workspace, "layout", &[]).unwrap_err();
        error
            .strip_prefix("image layout layout: ")
            .unwrap()
            .to_owned()
    };

    layout.index(&[with(image.clone(), "size", json!(7))]);
    assert!(error().ends_with(" bytes, not 7"), "{}", error());
    layout.index(&[with(image.clone(), "size", json!(1_u64 << 40))]);
    assert!(error().contains("at most 8388608 are read"));
    layout.index(&[with(
        image.clone(),
        "digest",
        json!("sha256:../../../../etc/passwd"),
    )]);
    assert_eq!(
        error(),
        "index.json: manifests[0]: \"sha256:../../../../etc/passwd\" is no sha256 or sha512 digest"
    );

    // The same length, another content.
    layout.index(std::slice::from_ref(&image));
    let good = fs::read_to_string(workspace.path().join(&blob)).unwrap();
    workspace.write(
        &blob,
        good.replace("\"schemaVersion\":2", "\"schemaVersion\":3"),
    );
    assert!(error().starts_with(&format!("sha256:{hex}: the content is sha256:")));
    fs::remove_file(workspace.path().join(&blob)).unwrap();
    assert_eq!(error(), format!("sha256:{hex}: no such file or directory"));
    // A link out of the layout is none.
    std::os::unix::fs::symlink("/etc/passwd", workspace.path().join(&blob)).unwrap();
    assert_eq!(error(), format!("sha256:{hex}: no such file or directory"));

    let helm = json!({"config": {"mediaType": "application/vnd.cncf.helm.config.v1+json",
        "digest": image["digest"], "size": 1}});
    layout.index(&[layout.blob("manifest", &helm)]);
    assert!(
        error().ends_with("not an image's configuration"),
        "{}",
        error()
    );

    let mut nested = layout.image("/deep");
    for _ in 0..5 {
        nested = layout.blob("index", &json!({"manifests": [nested]}));
    }
    layout.index(&[nested]);
    assert_eq!(error(), "indexes nest deeper than 4");

    workspace.write("layout/oci-layout", r#"{"imageLayoutVersion": "2.0.0"}"#);
    assert_eq!(error(), "oci-layout: version \"2.0.0\", only 1 is known");
    fs::remove_file(workspace.path().join("layout/oci-layout")).unwrap();
    assert_eq!(error(), "oci-layout: no such file or directory");
}

#[test]
fn a_configuration_for_another_system_is_refused() {
    let workspace = Workspace::new();
    workspace.write("win.json", r#"{"os": "windows", "architecture": "amd64"}"#);
    assert_eq!(
        program(&workspace, "win.json", &[]).unwrap_err(),
        "image win.json: os: is for \"windows\", not for linux"
    );
    workspace.write("arm.json", r#"{"os": "linux", "architecture": "arm64"}"#);
    let args = [
        "--no-probe",
        "--image",
        "arm.json",
        "--platform",
        "linux/amd64",
    ];
    assert_eq!(
        workspace.spec(&web(""), &args).warnings(),
        ["image arm.json: is for linux/arm64, not for linux/amd64"]
    );
}

/// What umoci makes, and skopeo copies.
#[test]
fn layouts_of_umoci_and_skopeo_are_read() {
    let (Some(umoci), Some(skopeo)) = (which("umoci"), which("skopeo")) else {
        super::common::skip!("umoci or skopeo is not installed");
    };
    let workspace = Workspace::new();
    let run = |program: &std::path::Path, line: &str| {
        let output = Command::new(program)
            .args(line.split(' '))
            .current_dir(workspace.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{line}: {said}");
    };
    run(&umoci, "init --layout made");
    run(&umoci, "new --image made:web");
    run(
        &umoci,
        "config --image made:web --config.entrypoint /bin/web --config.env A=1 --config.user 1000:7 --config.workingdir /srv",
    );
    run(
        &skopeo,
        "--insecure-policy copy oci:made:web oci:copied:web",
    );
    for layout in ["made:web", "copied:web", "made"] {
        let spec = workspace.spec(&web(""), &["--no-probe", "--image", layout]);
        let process = json(&spec.stdout)["process"].clone();
        assert_eq!(process["args"], json!(["/bin/web"]), "{layout}");
        assert_eq!(process["user"], json!({"uid": 1000, "gid": 7}));
        assert_eq!(process["cwd"], "/srv");
        let env = process["env"].as_array().unwrap();
        assert!(env.contains(&json!("A=1")), "{env:?}");
    }
}
