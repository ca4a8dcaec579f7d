use super::*;

fn parse(text: &str) -> Result<Policy, String> {
    Policy::parse(Path::new("/p.toml"), text.as_bytes()).map_err(|error| match error {
        PolicyError::Invalid { problems, .. } => problems
            .iter()
            .map(|problem| format!("{problem}\n"))
            .collect(),
        other => other.to_string(),
    })
}

fn problems(text: &str) -> String {
    parse(text).expect_err(text)
}

fn caller(uid: u32, name: &str) -> Caller {
    Caller {
        uid,
        name: Some(name.to_owned()),
    }
}

const EVERYTHING: &str = r#"
[sources]
command-line = "off"
cdi-annotations = "privileged"
annotations = "off"
mounts = "allow"
environment = "allow"
cdi-annotation-prefixes = ["cdi.k8s.io/", "example.com/"]

[request]
devices = ["vendor.com/gpu=0"]
gpus = "nvidia:2"
gpu-share = "mps"

[devices]
default-vendor = "amd"
default-kind = "amd.com/gpu"
cdi-dirs = ["/opt/cdi"]

[kinds]
allow = ["nvidia.com/*", "*/gpu"]
deny = ["nvidia.com/imex"]

[users.alice]
allow = []

[users.1000]
deny = ["*"]

[hooks]
allow = ["/usr/bin/nvidia-cdi-hook"]
not-allowed = "remove"
vendor = "keep"

[cgroup]
parent-annotation = "allow"
migrate = true

[runtime]
backend = ["runc", "/opt/bin/crun"]
write-back = true
annotations = "engine"

[nvidia]
disable-require = true
swarm-resource = ["DOCKER_RESOURCE_GPU"]
ignore-imex-channels = true

[log]
file = "/var/log/kusabi.log"
level = "debug"
format = "json"
"#;

#[test]
fn every_key_is_read() {
    let policy = parse(EVERYTHING).unwrap();
    let defaults = Policy::default();
    for (set, default) in policy.entries().iter().zip(defaults.entries()) {
        assert_ne!(set.value, default.value, "{}", set.key);
        assert!(set.set.starts_with("/p.toml:"), "{}: {}", set.key, set.set);
        assert_eq!(default.set, "default");
    }
    assert_eq!(policy.where_set("sources.mounts"), "/p.toml:6");
    assert_eq!(
        policy.runtime.backend,
        Backend::Delegate(vec!["runc".into(), "/opt/bin/crun".into()])
    );
    assert_eq!(policy.users.len(), 2);
}

#[test]
fn what_is_shown_is_a_policy_and_the_same_one() {
    for text in ["", EVERYTHING, "[users.\"a b\\u007f\\n\"]\ndeny = [\"*\"]"] {
        let policy = parse(text).unwrap();
        let shown = policy.to_toml();
        let again = parse(&shown).unwrap_or_else(|e| panic!("{e}\n{shown}"));
        let values = |policy: &Policy| -> Vec<_> {
            policy
                .entries()
                .into_iter()
                .map(|e| (e.key, e.value))
                .collect()
        };
        assert_eq!(values(&again), values(&policy), "{shown}");
    }
}

#[test]
fn mistakes_have_a_place_and_a_fix() {
    for (text, expected) in [
        (
            "[sources]\nmounts = true",
            "2:10: sources.mounts: expected \"allow\" or \"privileged\" or \"off\", found true\n",
        ),
        (
            "[sources]\nenviroment = \"off\"",
            "2:1: sources: unknown key \"enviroment\" (did you mean environment?)\n",
        ),
        (
            "backend = [\"runc\"]",
            "1:1: unknown key \"backend\" (did you mean runtime.backend?)\n",
        ),
        (
            "accept-nvidia-visible-devices-envvar-when-unprivileged = true",
            "1:1: unknown key \"accept-nvidia-visible-devices-envvar-when-unprivileged\" (here \
             it is sources.environment = \"allow\")\n",
        ),
        (
            "[runtime]\nbackend = \"runc\"\nwrite-back = \"yes\"",
            "2:11: runtime.backend: expected \"libcontainer\" or a list of programs, as \
             [\"runc\", \"crun\"], found \"runc\"\n\
             3:14: runtime.write-back: expected true or false, found \"yes\"\n",
        ),
        (
            "[runtime]\nbackend = []",
            "2:11: runtime.backend: expected \"libcontainer\" or a list of programs, as \
             [\"runc\", \"crun\"], found a list\n",
        ),
        (
            "[runtime]\nbackend = [\"runc\", \"libcontainer\"]",
            "2:20: runtime.backend[1]: \"libcontainer\" stands alone: it is no program to run \
             in its place\n",
        ),
        (
            "[devices]\ncdi-dirs = [\"etc\", 1, \"/a/../b\"]",
            "2:13: devices.cdi-dirs[0]: \"etc\" is no absolute path without ..\n\
             2:20: devices.cdi-dirs[1]: expected a string, found 1\n\
             2:23: devices.cdi-dirs[2]: \"/a/../b\" is no absolute path without ..\n",
        ),
        (
            "[devices]\ndefault-kind = \"gpu\"\ndefault-vendor = \"nvidai\"",
            "2:16: devices.default-kind: \"gpu\" is no kind, expected vendor/class\n\
             3:18: devices.default-vendor: \"nvidai\" is no vendor that is known here: nvidia, \
             amd, intel, habana\n",
        ),
        (
            "kinds = 3\nusers = []",
            "1:9: kinds: expected a map, found a number\n\
             2:9: users: expected a table for each user, as [users.alice], found a list\n",
        ),
        (
            "[users.alice]\nalow = []",
            "2:1: users.alice: unknown key \"alow\" (did you mean allow?)\n",
        ),
        (
            "[sources]\ncdi-annotation-prefixes = [\"\"]",
            "2:28: sources.cdi-annotation-prefixes[0]: \"\" is no prefix, expected one as \
             \"cdi.k8s.io/\"\n",
        ),
        ("a = 1\na = 2", "2:1: duplicate key\n"),
    ] {
        assert_eq!(problems(text), expected, "{text}");
    }
    assert!(
        problems("[sources\n").starts_with("1:9: "),
        "{}",
        problems("[sources\n")
    );
    let latin = Policy::parse(Path::new("/p"), b"# ok\n# \xe9\n").unwrap_err();
    assert_eq!(latin.to_string(), "policy /p:1:1: not UTF-8 (line 2)");
    let large = vec![b'#'; MAX_FILE_SIZE + 1];
    let large = Policy::parse(Path::new("/p"), &large).unwrap_err();
    assert!(large.to_string().contains("larger than"), "{large}");
}

#[test]
fn columns_count_characters() {
    assert_eq!(
        problems("[hooks]\nallow = [\"/é\", \"x\"]"),
        "2:16: hooks.allow[1]: \"x\" is no absolute path without ..\n"
    );
}

#[test]
fn requests_count_as_the_default_policy_says() {
    let policy = Policy::default();
    for (place, privileged, unprivileged) in [
        (Place::CommandLine, true, true),
        (Place::CdiAnnotations, true, true),
        (Place::Annotations, true, true),
        (Place::Mounts, false, false),
        (Place::Environment, true, false),
        (Place::CgroupParent, false, false),
    ] {
        let counts = |has| policy.judge(place, has) == Decision::Count;
        assert_eq!(
            (counts(true), counts(false)),
            (privileged, unprivileged),
            "{place:?}"
        );
    }
    assert_eq!(
        policy.judge(Place::Environment, false),
        Decision::Ignore {
            reason: "only containers with CAP_SYS_ADMIN may ask there (default)".to_owned(),
            allow: PolicyLine {
                line: "sources.environment = \"allow\"".to_owned(),
                file: "/etc/kusabi/config.toml".to_owned(),
            },
        }
    );
    let policy = parse("[sources]\ncommand-line = \"off\"").unwrap();
    assert_eq!(
        policy.judge(Place::CommandLine, true),
        Decision::Ignore {
            reason: "nobody may ask there (/p.toml:2)".to_owned(),
            allow: PolicyLine {
                line: "sources.command-line = \"allow\"".to_owned(),
                file: "/p.toml".to_owned(),
            },
        }
    );
}

#[test]
fn kinds_are_permitted_by_every_table_that_applies() {
    let policy = parse(EVERYTHING).unwrap();
    let root = caller(0, "root");
    let denied = |vendor, class, who: &Caller| {
        policy
            .permits(vendor, class, who)
            .map_err(|error| error.to_string())
    };
    assert_eq!(denied("nvidia.com", "gpu", &root), Ok(()));
    assert_eq!(denied("nvidia.com", "mig", &root), Ok(()));
    assert_eq!(denied("amd.com", "gpu", &root), Ok(()));
    assert_eq!(
        denied("nvidia.com", "imex", &root).unwrap_err(),
        "nvidia.com/imex for user root is not permitted: kinds.deny (/p.toml:22)"
    );
    assert_eq!(
        denied("amd.com", "dpu", &root).unwrap_err(),
        "amd.com/dpu for user root is not permitted: kinds.allow (/p.toml:21)"
    );
    assert_eq!(
        denied("nvidia.com", "gpu", &caller(5, "alice")).unwrap_err(),
        "nvidia.com/gpu for user alice is not permitted: users.alice.allow (/p.toml:25)"
    );
    let unnamed = Caller {
        uid: 1000,
        name: None,
    };
    assert_eq!(
        denied("nvidia.com", "gpu", &unnamed).unwrap_err(),
        "nvidia.com/gpu for uid 1000 is not permitted: users.1000.deny (/p.toml:28)"
    );
    // What the host forbids, a user's own file cannot allow.
    let own = Policy {
        site: Some(Box::new(policy)),
        ..Policy::default()
    };
    assert!(own.permits("nvidia.com", "imex", &root).is_err());
    assert!(own.permits("nvidia.com", "gpu", &root).is_ok());
}

#[test]
fn hooks_that_are_not_listed_are_refused_or_removed() {
    let hooks = |text: &str| parse(text).unwrap().hooks;
    let (listed, other) = (Path::new("/bin/a"), Path::new("/bin/b"));
    let any = hooks("");
    assert_eq!(any.verdict(other), HookVerdict::Run);
    let refusing = hooks("[hooks]\nallow = [\"/bin/a\"]");
    assert_eq!(refusing.verdict(listed), HookVerdict::Run);
    assert_eq!(refusing.verdict(other), HookVerdict::Refuse);
    let removing = hooks("[hooks]\nallow = []\nnot-allowed = \"remove\"");
    assert_eq!(removing.verdict(listed), HookVerdict::Remove);
    for (path, vendors) in [
        ("/usr/bin/nvidia-container-runtime-hook", true),
        ("/usr/bin/nvidia-container-toolkit", true),
        (
            "/usr/local/nvidia/toolkit/nvidia-container-runtime-hook.real",
            true,
        ),
        ("/usr/bin/nvidia-cdi-hook", false),
        ("/usr/bin/nvidia-ctk", false),
    ] {
        assert_eq!(Hooks::is_vendors(Path::new(path)), vendors, "{path}");
    }
}

#[test]
fn depth_is_bounded_in_every_way_to_nest() {
    for text in [
        format!("a = {}", "[".repeat(500_000)),
        format!("a = {}", "{a=".repeat(300_000)),
        format!("{}a = 1", "a.".repeat(500_000)),
        format!("[{}a]", "a.".repeat(500_000)),
    ] {
        let start: String = text.chars().take(8).collect();
        assert!(parse(&text).is_err(), "{start}");
    }
}

/// Every key that nvidia-container-toolkit reads (`api/config/v1`) has a row in the
/// table of the documentation, and every key of ours that a row names is one.
#[test]
fn the_table_for_those_who_come_from_nvidia_is_whole_and_true() {
    const DOCS: &str = include_str!("../../hack/docs/policy.md");
    let (_, table) = DOCS.split_once("## For those who come from").unwrap();
    let rows: Vec<(&str, &str)> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once(" | "))
        .collect();
    let cli = "root path environment debug ldcache ldconfig load-kmods no-cgroups no-pivot user";
    let mut keys: Vec<String> = [
        "accept-nvidia-visible-devices-as-volume-mounts",
        "accept-nvidia-visible-devices-envvar-when-unprivileged",
        "disable-require",
        "features.allow-cuda-compat-libs-from-container",
        "features.allow-ldconfig-from-container",
        "features.allow-unknown-oci-spec-fields",
        "features.disable-cuda-compat-lib-hook",
        "features.disable-imex-channel-creation",
        "features.ignore-imex-channel-requests",
        "features.no-additional-gids-for-device-nodes",
        "nvidia-container-runtime-hook.path",
        "nvidia-container-runtime-hook.skip-mode-detection",
        "nvidia-container-runtime.debug",
        "nvidia-container-runtime.log-level",
        "nvidia-container-runtime.mode",
        "nvidia-container-runtime.modes.cdi.annotation-prefixes",
        "nvidia-container-runtime.modes.cdi.default-kind",
        "nvidia-container-runtime.modes.cdi.spec-dirs",
        "nvidia-container-runtime.modes.csv.*",
        "nvidia-container-runtime.modes.jit-cdi.*",
        "nvidia-container-runtime.modes.legacy.cuda-compat-mode",
        "nvidia-container-runtime.runtimes",
        "nvidia-ctk.path",
        "supported-driver-capabilities",
        "swarm-resource",
    ]
    .map(str::to_owned)
    .to_vec();
    keys.extend(
        cli.split(' ')
            .map(|key| format!("nvidia-container-cli.* {key}")),
    );
    for key in keys {
        let (prefix, key) = key.split_once(' ').unwrap_or(("", &key));
        let has = |row: &(&str, &str)| {
            let here = |word: &str| format!("`{}", row.0).contains(word);
            here(&format!("`{key}`")) || here(&format!("`{key} = "))
        };
        let row = rows
            .iter()
            .find(|row| has(row) && row.0.starts_with(prefix));
        assert!(row.is_some(), "{prefix} {key} has no row");
    }
    let shown = Policy::default().entries();
    for (_, here) in rows {
        let words = here.split('`').skip(1).step_by(2);
        for word in words.filter(|word| !word.starts_with(['/', '"'])) {
            let key = word.split(" = ").next().unwrap();
            if key.contains('.') {
                let is_ours = shown.iter().any(|entry| entry.key == key);
                assert!(is_ours, "{key} is no key of the policy");
            }
        }
    }
}
