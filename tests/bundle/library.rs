//! The library's way: each method of the builder does what the command's flag
//! does, to the byte, and something.

use std::fs;
use std::path::Path;

use kusabi::bundle::{BundleBuilder, Machine, clean};
use kusabi::host::image;
use kusabi::policy::{Pattern, Policy};
use kusabi::request::Flags;
use kusabi::service::{Platform, SecretProvider, Service, ServiceFile, Socket, VolumeName};

use super::support::{Workspace, json, web};

/// What a method does to a builder, and the command's flags for the same.
struct Case {
    lines: &'static str,
    base: fn(BundleBuilder, &Path) -> BundleBuilder,
    method: fn(BundleBuilder, &Path) -> BundleBuilder,
    base_flags: &'static str,
    flags: &'static str,
}

/// Secrets that are nowhere but here.
struct InMemory;

impl SecretProvider for InMemory {
    fn secret(&self, scope: &str, name: &str) -> Result<String, String> {
        match (scope, name) {
            ("demo", "token") => Ok("hunter2".to_owned()),
            _ => Err(format!("no {name} for {scope}")),
        }
    }
}

fn nowhere(builder: BundleBuilder, _: &Path) -> BundleBuilder {
    builder.machine(Machine::Unknown)
}

fn there(builder: BundleBuilder, dir: &Path) -> BundleBuilder {
    builder.machine(Machine::Tree(dir.join("host")))
}

fn with_image(builder: BundleBuilder, dir: &Path) -> BundleBuilder {
    let platform = Platform::parse("linux/amd64").unwrap();
    let named = dir.join("image.json");
    builder.image(image::config(named.to_str().unwrap(), &platform).unwrap())
}

const CASES: &[Case] = &[
    Case {
        lines: "",
        base: nowhere,
        base_flags: "--no-probe",
        method: |builder, _| builder.replica(3),
        flags: "--replica 3",
    },
    Case {
        lines: "",
        base: nowhere,
        base_flags: "--no-probe",
        method: |builder, _| builder.args(["/bin/echo".to_owned(), "-n".to_owned()]),
        flags: "--arg /bin/echo --arg -n",
    },
    Case {
        lines: "",
        base: nowhere,
        base_flags: "--no-probe",
        method: |builder, _| builder.cwd("/srv"),
        flags: "--cwd /srv",
    },
    Case {
        lines: "",
        base: nowhere,
        base_flags: "--no-probe",
        method: |builder, _| builder.user("5:6"),
        flags: "--user 5:6",
    },
    Case {
        lines: "",
        base: nowhere,
        base_flags: "--no-probe",
        method: |builder, _| builder.hostname("other"),
        flags: "--hostname other",
    },
    Case {
        lines: "env: {A: service}",
        base: nowhere,
        base_flags: "--no-probe",
        method: |builder, _| builder.env("A", "builder").env("B", "new"),
        flags: "--env A=builder --env B=new",
    },
    Case {
        lines: "",
        base: nowhere,
        base_flags: "--no-probe",
        method: |builder, _| builder.terminal(true),
        flags: "--terminal",
    },
    Case {
        lines: "",
        base: nowhere,
        base_flags: "--no-probe",
        method: |builder, dir| builder.rootfs(dir.join("rootfs")),
        flags: "--rootfs rootfs",
    },
    Case {
        lines: "",
        base: |builder, dir| nowhere(builder, dir).user("0"),
        base_flags: "--no-probe --user 0",
        method: with_image,
        flags: "--image image.json --platform linux/amd64",
    },
    Case {
        lines: "",
        base: nowhere,
        base_flags: "--no-probe",
        method: |builder, _| {
            builder.socket(Socket {
                host: "/run/x.sock".into(),
                container: "/api".into(),
            })
        },
        flags: "--socket /run/x.sock:/api",
    },
    Case {
        lines: "",
        base: nowhere,
        base_flags: "--no-probe",
        method: |builder, _| builder.host_env("KUSABI_CGROUP_PARENT", "/there"),
        flags: "--host-env KUSABI_CGROUP_PARENT=/there",
    },
    Case {
        lines: "",
        base: nowhere,
        base_flags: "--no-probe",
        method: |builder, _| {
            builder.requests(Flags {
                cgroup_parent: Some("/flag".to_owned()),
                ..Flags::default()
            })
        },
        flags: "--cgroup-parent /flag",
    },
    Case {
        lines: "privileged: true",
        base: nowhere,
        base_flags: "--no-probe",
        method: |builder, dir| builder.machine(Machine::Tree(dir.join("bounded"))),
        flags: "--host-root bounded",
    },
];

fn workspace(lines: &str) -> Workspace {
    let workspace = Workspace::new();
    workspace.write("service.yaml", web(lines));
    workspace
}

fn builder(workspace: &Workspace) -> BundleBuilder {
    BundleBuilder::from_file(&workspace.path().join("service.yaml"), None).unwrap()
}

fn text(builder: &BundleBuilder) -> String {
    String::from_utf8(builder.spec().unwrap().bytes().unwrap()).unwrap()
}

/// `bundle spec` with these flags.
fn command(workspace: &Workspace, flags: &str) -> String {
    let flags = flags.split(' ').filter(|flag| !flag.is_empty());
    let args = ["bundle", "spec", "--service", "service.yaml"];
    let done = workspace.call(&args.into_iter().chain(flags).collect::<Vec<_>>());
    assert_eq!(done.code, 0, "{}", done.stderr);
    done.stdout
}

#[test]
fn each_method_does_what_the_flag_does() {
    for case in CASES {
        let workspace = workspace(case.lines);
        let base = || (case.base)(builder(&workspace), workspace.path());
        let changed = text(&(case.method)(base(), workspace.path()));
        assert_ne!(changed, text(&base()), "{} changes nothing", case.flags);
        // The last of two that contradict each other is the one that counts here.
        let flags = match case.flags {
            "--host-root bounded" => case.flags.to_owned(),
            _ => format!("{} {}", case.base_flags, case.flags),
        };
        assert_eq!(changed, command(&workspace, &flags), "{}", case.flags);
    }
}

/// Where the service cannot be without the method.
#[test]
fn what_a_service_needs_the_builder_gives() {
    let needs = "env: {T: $S:token, H: $E:HOST}\n\
                 storage: [{type: named, name: data, target: /data}]";
    let workspace = workspace(needs);
    let error = |builder: BundleBuilder| builder.spec().unwrap_err().to_string();
    let plain = || there(builder(&workspace), workspace.path());
    let error_of_env = error(plain());
    assert!(error_of_env.contains("services.web.env."), "{error_of_env}");
    let with_host = || plain().host_env("HOST", "there");
    let of_secrets = error(with_host());
    assert!(of_secrets.contains("nothing knows secrets"), "{of_secrets}");
    let with_secrets = || with_host().secrets(Box::new(InMemory));
    let of_volume = error(with_secrets());
    assert!(of_volume.contains("--volume data=PATH"), "{of_volume}");
    let named = || VolumeName::Named("data".to_owned());
    let whole = with_secrets().volume(named(), "/srv/data").unwrap();
    let flags = "--host-root host --host-env HOST=there --secrets secrets --volume data=/srv/data";
    assert_eq!(text(&whole), command(&workspace, flags));
    let twice = whole.volume(named(), "/elsewhere").map(|_| ()).unwrap_err();
    assert_eq!(twice.to_string(), "--volume data: is /srv/data already");
}

#[test]
fn devices_and_gpus_are_those_of_the_registry_and_the_policy() {
    let workspace = Workspace::with_gpus();
    workspace.write(
        "service.yaml",
        web("resources: {gpu: {count: 1, vendor: nvidia}}"),
    );
    let there = || builder(&workspace).machine(Machine::Tree(workspace.path().join("gpus")));
    let flags = "--host-root gpus";
    assert_eq!(text(&there()), command(&workspace, flags));
    let both = there().requests(Flags {
        gpus: vec!["2".to_owned()],
        ..Flags::default()
    });
    assert_eq!(
        text(&both),
        command(&workspace, &format!("{flags} --gpus 2"))
    );
    // Names that another directory than the usual ones has.
    let spec = r#"{"cdiVersion": "0.6.0", "kind": "v.com/c", "devices": [
        {"name": "one", "containerEdits": {"env": ["ONE=1"]}}]}"#;
    workspace.write("gpus/srv/cdi/v.json", spec);
    workspace.write("service.yaml", web(""));
    let asks = || {
        there().requests(Flags {
            devices: vec!["v.com/c=one".to_owned()],
            ..Flags::default()
        })
    };
    let unknown = asks().spec().unwrap_err().to_string();
    assert!(
        unknown.contains("unresolvable CDI devices v.com/c=one"),
        "{unknown}"
    );
    let found = asks().cdi_dirs(["/srv/cdi".into()]);
    let flags = "--host-root gpus --cdi-dir /srv/cdi --device v.com/c=one";
    assert_eq!(text(&found), command(&workspace, flags));
    assert!(text(&found).contains("ONE=1"));
    let mut policy = Policy::default();
    policy.kinds.deny = vec![Pattern::parse("v.com/*").unwrap()];
    let denied = asks().cdi_dirs(["/srv/cdi".into()]).policy(policy);
    let error = denied.spec().unwrap_err().to_string();
    assert!(error.contains("v.com/c"), "{error}");
}

#[test]
fn names_of_users_are_looked_up_where_the_builder_says() {
    let workspace = workspace("");
    let named = || nowhere(builder(&workspace), workspace.path()).user("app");
    assert!(named().spec().is_err());
    let found = json(&text(&named().users_of(workspace.path().join("rootfs"))));
    assert_eq!(found["process"]["user"]["uid"], 1001);
    assert_eq!(found["root"]["path"], "rootfs");
}

#[test]
fn a_service_need_not_come_from_a_file() {
    let workspace = workspace("hostname: h");
    let file = ServiceFile::parse(web("hostname: h").as_bytes()).unwrap();
    let (name, service) = &file.services[0];
    let read = BundleBuilder::new(&file.deployment, name, service.clone());
    let made = BundleBuilder::new(
        "demo",
        "web",
        Service {
            hostname: Some("h".to_owned()),
            ..Service::default()
        },
    );
    let wanted = command(&workspace, "--no-probe");
    for builder in [read, made] {
        assert_eq!(text(&builder.machine(Machine::Unknown)), wanted);
    }
}

#[test]
fn bundles_are_built_written_and_cleaned() {
    let workspace = workspace("");
    let out = workspace.path().join("out");
    let builder = || {
        nowhere(builder(&workspace), workspace.path())
            .rootfs(workspace.path().join("rootfs"))
            .container_id("mine")
    };
    let built = builder().build(&out).unwrap();
    assert_eq!(built.path, fs::canonicalize(&out).unwrap());
    assert_eq!(built.spec.id, "mine");
    let config = || fs::read_to_string(out.join("config.json")).unwrap();
    assert_eq!(json(&config())["hostname"], "mine");
    let written = builder().hostname("other").write_config(&out).unwrap();
    assert_eq!(config().as_bytes(), written.bytes().unwrap());
    let refused = clean(&out, false).unwrap_err().to_string();
    assert!(refused.ends_with("or give --force"), "{refused}");
    clean(&out, true).unwrap();
    assert!(!out.exists());
    assert!(workspace.path().join("rootfs/etc/passwd").exists());
}
