use super::*;

const V1_MOUNTS: &str = "\
31 30 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 /docker/c1 /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices
34 31 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
";
const HYBRID_MOUNT: &str = "35 31 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
const V1_OWN: &str = "\
3:name=systemd:/user.slice/session.scope
2:devices:/docker/c1/inner
1:cpu,cpuacct:/
0::/user.slice/session.scope
";
const V2_MOUNTS: &str = "31 30 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";

fn layout(mounts: &str, own: &str) -> Layout {
    Layout::parse(mounts.as_bytes(), own.as_bytes()).unwrap()
}

fn paths(layout: &Layout, wanted: &Wanted) -> Vec<(&'static str, String)> {
    places(layout, wanted)
        .unwrap()
        .into_iter()
        .map(|p| (p.controller, p.path.to_str().unwrap().to_owned()))
        .collect()
}

#[test]
fn what_a_cgroups_path_means() {
    let absolute = |p: &str| Ok(Wanted::Absolute(p.into()));
    let relative = |p: &str| Ok(Wanted::Relative(p.into()));
    for (path, rootless, want) in [
        (Some("/a/b"), false, absolute("a/b")),
        (Some("//a///b/"), false, absolute("a/b")),
        (Some("/a/./b/../c"), false, absolute("a/c")),
        (Some("/../../../../etc"), false, absolute("etc")),
        (Some("a/b"), false, relative("a/b")),
        (Some("../../../etc/x"), false, relative("etc/x")),
        (Some("./a"), true, relative("a")),
        (None, false, absolute("kusabi/id-1")),
        (Some(""), false, absolute("kusabi/id-1")),
        (Some("."), false, absolute("kusabi/id-1")),
        (Some("../.."), false, absolute("kusabi/id-1")),
        (None, true, relative("id-1")),
        (Some("/"), false, Err(PathError::Root { path: "/".into() })),
        (
            Some("/a/.."),
            true,
            Err(PathError::Root {
                path: "/a/..".into(),
            }),
        ),
    ] {
        assert_eq!(
            Wanted::new(path, "id-1", rootless),
            want,
            "{path:?} {rootless}"
        );
    }
    assert_eq!(
        Wanted::new(Some("/a\nb"), "id", false)
            .unwrap_err()
            .to_string(),
        r#"linux.cgroupsPath "/a\nb": has a line break"#
    );
    for id in ["..", ".", "", "a/b", "/a", "a/"] {
        assert_eq!(
            Wanted::new(None, id, false),
            Err(PathError::Id { id: id.into() }),
            "{id:?}"
        );
        assert!(Wanted::new(Some("/given"), id, false).is_ok(), "{id:?}");
    }
}

#[test]
fn v1_absolute_is_from_the_mount_point() {
    let got = paths(&layout(V1_MOUNTS, V1_OWN), &Wanted::Absolute("a/b".into()));
    assert_eq!(
        got,
        [
            ("devices", "/sys/fs/cgroup/devices/a/b".to_owned()),
            ("cpu", "/sys/fs/cgroup/cpu,cpuacct/a/b".to_owned()),
            ("cpuacct", "/sys/fs/cgroup/cpu,cpuacct/a/b".to_owned()),
            ("name=systemd", "/sys/fs/cgroup/systemd/a/b".to_owned()),
        ]
    );
}

#[test]
fn v1_relative_is_below_the_callers_own_cgroup() {
    let hybrid = V1_MOUNTS.to_owned() + HYBRID_MOUNT;
    let got = paths(&layout(&hybrid, V1_OWN), &Wanted::Relative("x".into()));
    assert_eq!(
        got,
        [
            ("devices", "/sys/fs/cgroup/devices/inner/x".to_owned()),
            ("cpu", "/sys/fs/cgroup/cpu,cpuacct/x".to_owned()),
            ("cpuacct", "/sys/fs/cgroup/cpu,cpuacct/x".to_owned()),
            (
                "name=systemd",
                "/sys/fs/cgroup/systemd/user.slice/session.scope/x".to_owned()
            ),
            ("", "/sys/fs/cgroup/unified/x".to_owned()),
        ]
    );
}

#[test]
fn v1_without_devices_is_refused() {
    let mounts = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
    let error = places(&layout(mounts, "1:cpu:/\n"), &Wanted::Absolute("a".into())).unwrap_err();
    assert_eq!(error.to_string(), "mountpoint for devices not found");
}

#[test]
fn v2_relative_is_beside_the_callers_own_cgroup() {
    for (own, wanted, want) in [
        (
            "/user.slice/session.scope",
            Wanted::Relative("x".into()),
            "/sys/fs/cgroup/user.slice/x",
        ),
        ("/one", Wanted::Relative("x/y".into()), "/sys/fs/cgroup/x/y"),
        ("/", Wanted::Relative("x".into()), "/sys/fs/cgroup/x"),
        ("/one", Wanted::Absolute("x".into()), "/sys/fs/cgroup/x"),
    ] {
        let layout = layout(V2_MOUNTS, &format!("0::{own}\n"));
        assert_eq!(paths(&layout, &wanted), [("", want.to_owned())], "{own}");
    }
}

#[test]
fn sub_cgroup_arguments() {
    let parse = |a: &[&str]| SubCgroups::parse(a).map_err(|e| e.to_string());
    assert!(parse(&[]).unwrap().is_empty());
    for (arguments, want) in [
        (
            &[":x"][..],
            "invalid --cgroup argument: :x (empty <controller> prefix)",
        ),
        (
            &["cpu,:x"],
            "invalid --cgroup argument: cpu,:x (empty <controller> prefix)",
        ),
        (
            &["cpu:a", "b"],
            "invalid --cgroup argument: b (missing <controller>: prefix)",
        ),
        (
            &["a", "b"],
            "invalid --cgroup argument: a (missing <controller>: prefix)",
        ),
        (
            &["cpu,memory:a", "memory:b"],
            "invalid --cgroup argument(s): controller memory specified multiple times",
        ),
    ] {
        assert_eq!(parse(arguments).unwrap_err(), want, "{arguments:?}");
    }
}

#[test]
fn sub_cgroups_stay_below_the_containers() {
    let base = Path::new("/sys/fs/cgroup/c");
    let below = |arguments: &[&str], controller: &str| {
        SubCgroups::parse(arguments)
            .unwrap()
            .below(controller, base)
            .map_err(|e| e.to_string())
    };
    for (arguments, controller, want) in [
        (&[][..], "cpu", "/sys/fs/cgroup/c"),
        (&["/"], "cpu", "/sys/fs/cgroup/c"),
        (&["sub/x/"], "cpu", "/sys/fs/cgroup/c/sub/x"),
        (&["/sub"], "", "/sys/fs/cgroup/c/sub"),
        (&["a/../b"], "", "/sys/fs/cgroup/c/b"),
        (&["cpu,cpuacct:sub"], "cpuacct", "/sys/fs/cgroup/c/sub"),
        (&["cpu:sub"], "memory", "/sys/fs/cgroup/c"),
    ] {
        assert_eq!(
            below(arguments, controller).unwrap(),
            Path::new(want),
            "{arguments:?}"
        );
    }
    // The last one has the container's own path as a prefix of its text.
    for path in ["..", "/..", "a/../..", "../cc"] {
        assert_eq!(
            below(&[path], "").unwrap_err(),
            format!("bad sub cgroup path: {path}")
        );
    }
    let unknown = SubCgroups::parse(&["cpu:a", "whaaat:/"]).unwrap();
    assert_eq!(
        unknown.check(|c| c == "cpu").unwrap_err().to_string(),
        "unknown controller whaaat in SubCgroupPaths"
    );
    assert_eq!(unknown.check(|_| true), Ok(()));
}
