//! Mounts: their flags, where they come from, whose ids they show, and what
//! becomes of the root.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

use crate::common::{Config, Sandbox, on_each_view, skip};

on_each_view![
    a_bind_mount_has_the_flags_that_it_asks_for,
    every_flag_of_a_new_file_system_arrives,
    a_mount_can_be_changed_by_a_later_entry,
    recursive_flags_reach_all_mounts_below,
    a_source_in_the_root_is_an_earlier_mount,
    a_source_in_the_root_does_not_leave_it,
    a_source_may_be_out_of_the_containers_reach,
    an_idmapped_mount_shows_mapped_ids,
    an_idmapped_mount_in_a_user_namespace,
    mappings_reach_submounts_only_when_asked_to,
    what_cannot_be_mapped_is_refused,
    a_bind_mount_takes_no_options_of_a_file_system,
    masked_directories_share_one_file_system,
    a_shared_root_is_shared,
    a_root_that_is_a_slave_receives,
    what_hides_parts_of_a_bind_does_not_reach_the_host,
];

/// A mount of the host, as long as it lives.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(at: PathBuf, flags: MsFlags) -> Self {
        fs::create_dir_all(&at).unwrap();
        mount(Some("tmpfs"), &at, Some("tmpfs"), flags, None::<&str>).unwrap();
        Self(at)
    }

    fn text(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// The lines of mountinfo below `at`, as the container sees them: mount point,
/// the mount's own options, the optional fields, and the file system's options.
fn seen(sandbox: &Sandbox, config: Config, at: &str) -> Vec<[String; 4]> {
    let config = config.set("/process/args", json!(["/bin/cat", "/proc/self/mountinfo"]));
    let out = sandbox.run_config(&config).succeeded();
    let lines = out.stdout.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let left: Vec<&str> = left.split(' ').collect();
        let point = Path::new(left[4]);
        point.starts_with(at).then(|| {
            let options = right.split(' ').next_back().unwrap().to_owned();
            [left[4].into(), left[5].into(), left[6..].join(" "), options]
        })
    });
    lines.collect()
}

fn flags_of_bind(sandbox: &Sandbox, source: &str, options: &[&str]) -> String {
    let config = Config::shell("").mount("bind", source, "/x", options);
    seen(sandbox, config, "/x").pop().unwrap()[1].clone()
}

fn a_bind_mount_has_the_flags_that_it_asks_for(sandbox: &Sandbox) {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
    let source = Mounted::tmpfs(sandbox.dir().join("source"), flags);
    let flags = |options: &[&str]| flags_of_bind(sandbox, source.text(), options);
    assert_eq!(flags(&["bind"]), "rw,nosuid,nodev,noexec,noatime");
    assert_eq!(flags(&["bind", "ro"]), "ro,noatime");
    assert_eq!(flags(&["rbind", "nodev", "relatime"]), "rw,nodev,relatime");
    // Only asking for one not to be set drops all of them.
    assert_eq!(flags(&["bind", "suid"]), "rw,noatime");
    if sandbox.runtime().is_kusabi() {
        assert_eq!(flags(&["bind", "nosymfollow"]), "rw,noatime,nosymfollow");
        assert_eq!(
            flags(&["bind", "nosymfollow", "symfollow", "strictatime"]),
            "rw"
        );
    }
}

fn every_flag_of_a_new_file_system_arrives(sandbox: &Sandbox) {
    let config = Config::shell("").mount(
        "tmpfs",
        "tmpfs",
        "/x",
        &[
            "sync", "dirsync", "lazytime", "silent", "noexec", "size=64k", "mode=700",
        ],
    );
    let [_, flags, _, options] = seen(sandbox, config, "/x").pop().unwrap();
    assert_eq!(flags, "rw,noexec,relatime");
    for option in ["sync", "dirsync", "lazytime", "size=64k", "mode=700"] {
        assert!(
            options.split(',').any(|o| o == option),
            "{option}: {options}"
        );
    }
    let config = Config::shell("").mount("tmpfs", "tmpfs", "/x", &["sync", "async", "ro"]);
    let [_, flags, _, options] = seen(sandbox, config, "/x").pop().unwrap();
    assert_eq!(flags, "ro,relatime");
    assert!(!options.contains("sync"), "{options}");
}

fn a_mount_can_be_changed_by_a_later_entry(sandbox: &Sandbox) {
    if !sandbox.runtime().is_kusabi() {
        skip!("what only kusabi does");
    }
    let volume = sandbox.dir().join("volume");
    fs::create_dir(&volume).unwrap();
    let config = Config::shell("")
        .mount("tmpfs", "tmpfs", "/x", &["size=64k"])
        .mount("tmpfs", "tmpfs", "/x", &["remount", "size=128k", "nodev"])
        .mount("bind", volume.to_str().unwrap(), "/x/y", &["bind"])
        .mount("bind", "/none", "/x/y", &["bind", "remount", "ro"]);
    let mut found = seen(sandbox, config, "/x");
    found.sort();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0][3].contains("size=128k"), "{found:?}");
    assert_eq!(found[0][1], "rw,nodev,relatime");
    assert!(found[1][1].starts_with("ro,"), "{found:?}");

    // A file system that is not the container's own stays as it is.
    let source = Mounted::tmpfs(sandbox.dir().join("source"), MsFlags::empty());
    let config = Config::shell("")
        .mount("bind", source.text(), "/x", &["bind"])
        .mount("tmpfs", "tmpfs", "/x", &["remount", "ro"]);
    let out = sandbox.run_config(&config).exited(1);
    out.says("no file system of this container is mounted there");
    fs::write(source.0.join("file"), "writable").unwrap();
}

fn recursive_flags_reach_all_mounts_below(sandbox: &Sandbox) {
    let outer = Mounted::tmpfs(sandbox.dir().join("source"), MsFlags::empty());
    let _inner = Mounted::tmpfs(outer.0.join("inner"), MsFlags::empty());
    let flags = |options: &[&str]| {
        let config = Config::shell("").mount("bind", outer.text(), "/x", options);
        let found = seen(sandbox, config, "/x");
        [0, 1].map(|i| found[i][1].clone())
    };
    assert_eq!(flags(&["rbind", "ro"]), ["ro,relatime", "rw,relatime"]);
    if sandbox.runtime().is_kusabi() {
        assert_eq!(flags(&["rbind", "rro"]), ["ro,relatime", "ro,relatime"]);
        assert_eq!(
            flags(&["rbind", "rnosuid", "rnoatime"]),
            ["rw,nosuid,noatime", "rw,nosuid,noatime"]
        );
    }
}

/// Some of what is bound is there only once the mounts before it are.
fn a_source_in_the_root_is_an_earlier_mount(sandbox: &Sandbox) {
    let volume = sandbox.dir().join("volume");
    fs::create_dir_all(volume.join("sub")).unwrap();
    fs::write(volume.join("sub/file"), "from the volume").unwrap();
    let bundle = sandbox.bundle(&Config::shell(""));
    let root = bundle.rootfs();
    let inside = |path: &str| root.join(path).to_str().unwrap().to_owned();
    let config = Config::shell("cat /final/sub/file /again/file")
        .mount("bind", volume.to_str().unwrap(), "/first", &["bind"])
        .mount("bind", &inside("first"), &inside("final"), &["rbind"])
        .mount("bind", &inside("final/sub"), "/again", &["bind"]);
    bundle.write(&config);
    let out = sandbox.run(&bundle).succeeded();
    assert_eq!(out.stdout, "from the volumefrom the volume");
}

fn a_source_in_the_root_does_not_leave_it(sandbox: &Sandbox) {
    if !sandbox.runtime().is_kusabi() {
        skip!("what only kusabi does");
    }
    let secret = sandbox.dir().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("file"), "of the host").unwrap();
    let bundle = sandbox.bundle(&Config::shell(""));
    let root = bundle.rootfs();
    symlink(&secret, root.join("link")).unwrap();
    let source = root.join("link").to_str().unwrap().to_owned();
    bundle.write(&Config::shell("cat /x/file").mount("bind", &source, "/x", &["bind"]));
    let out = sandbox.run(&bundle).exited(1);
    out.says("no such file or directory");
    // Inside the root the same path is as good as any.
    let place = root.join(secret.strip_prefix("/").unwrap());
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("file"), "of the image").unwrap();
    let out = sandbox.run(&bundle).succeeded();
    assert_eq!(out.stdout, "of the image");
}

const FIRST: u32 = 100_000;

/// A container with a user namespace and a root that belongs to it.
fn in_user_namespace(config: Config) -> Config {
    config
        .push("/linux/namespaces", json!({"type": "user"}))
        .set("/linux/uidMappings", ids(0, FIRST))
        .set("/linux/gidMappings", ids(0, FIRST))
}

fn ids(container: u32, host: u32) -> Value {
    json!([{"containerID": container, "hostID": host, "size": 65_536}])
}

fn run_with_own_root(sandbox: &Sandbox, config: &Config) -> crate::common::Output {
    let bundle = sandbox.bundle(config);
    chown(bundle.rootfs(), Some(FIRST), Some(FIRST)).unwrap();
    sandbox.run(&bundle)
}

fn a_source_may_be_out_of_the_containers_reach(sandbox: &Sandbox) {
    if !sandbox.runtime().is_kusabi() {
        skip!("what only kusabi does");
    }
    let closed = sandbox.dir().join("closed");
    fs::create_dir_all(closed.join("open")).unwrap();
    fs::write(closed.join("open/file"), "reached").unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let source = closed.join("open").to_str().unwrap().to_owned();
    let file = closed.join("open/file").to_str().unwrap().to_owned();
    let config = Config::shell("cat /x/file /file")
        .mount("bind", &source, "/x", &["bind", "ro"])
        .mount("bind", &file, "/file", &["bind"]);
    let out = run_with_own_root(sandbox, &in_user_namespace(config)).succeeded();
    assert_eq!(out.stdout, "reachedreached");
}

/// A mount that has mappings of its own.
fn mapped(config: Config, source: &str, uids: &Value, gids: &Value, options: &[&str]) -> Config {
    config.push(
        "/mounts",
        json!({"source": source, "destination": "/x", "options": options,
               "uidMappings": uids, "gidMappings": gids}),
    )
}

fn an_idmapped_mount_shows_mapped_ids(sandbox: &Sandbox) {
    if !sandbox.runtime().is_kusabi() {
        skip!("what only kusabi does");
    }
    let source = sandbox.dir().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "").unwrap();
    chown(source.join("file"), Some(7), Some(8)).unwrap();
    let script = "stat -c %u:%g /x/file; touch /x/new; stat -c %u:%g /x/new";
    let config = mapped(
        Config::shell(script),
        source.to_str().unwrap(),
        &ids(0, 1000),
        &ids(0, 2000),
        &["bind"],
    );
    let out = sandbox.run_config(&config);
    assert!(out.stdout.starts_with("1007:2008\n"), "{out}");
    // Nobody on the file system is the container's root.
    assert!(out.stderr.contains("Value too large"), "{out}");
    assert!(!source.join("new").exists());
}

fn an_idmapped_mount_in_a_user_namespace(sandbox: &Sandbox) {
    if !sandbox.runtime().is_kusabi() {
        skip!("what only kusabi does");
    }
    // Not even searchable by the container's root.
    let closed = sandbox.dir().join("closed");
    let source = closed.join("source");
    fs::create_dir_all(&source).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let script = "touch /x/new; stat -c %u:%g /x/new";
    let base = in_user_namespace(Config::shell(script));
    let source_text = source.to_str().unwrap();
    let own = mapped(
        base.clone(),
        source_text,
        &ids(0, FIRST),
        &ids(0, FIRST),
        &["bind"],
    );
    // The container's own mappings, where none are given.
    let implied = base.mount("bind", source_text, "/x", &["bind", "idmap"]);
    for config in [own, implied] {
        let out = run_with_own_root(sandbox, &config).succeeded();
        assert_eq!(out.stdout, "0:0\n");
        use std::os::unix::fs::MetadataExt;
        let made = fs::metadata(source.join("new")).unwrap();
        assert_eq!((made.uid(), made.gid()), (0, 0));
        fs::remove_file(source.join("new")).unwrap();
    }
}

fn mappings_reach_submounts_only_when_asked_to(sandbox: &Sandbox) {
    if !sandbox.runtime().is_kusabi() {
        skip!("what only kusabi does");
    }
    let outer = Mounted::tmpfs(sandbox.dir().join("source"), MsFlags::empty());
    let _inner = Mounted::tmpfs(outer.0.join("inner"), MsFlags::empty());
    let owners = |options: &[&str]| {
        let script = "stat -c %u /x /x/inner";
        let config = mapped(
            Config::shell(script),
            outer.text(),
            &ids(0, 1000),
            &ids(0, 1000),
            options,
        );
        sandbox.run_config(&config).succeeded().stdout
    };
    assert_eq!(owners(&["rbind"]), "1000\n0\n");
    assert_eq!(owners(&["rbind", "idmap"]), "1000\n0\n");
    assert_eq!(owners(&["rbind", "ridmap"]), "1000\n1000\n");
}

fn what_cannot_be_mapped_is_refused(sandbox: &Sandbox) {
    if !sandbox.runtime().is_kusabi() {
        skip!("what only kusabi does");
    }
    let dir = sandbox.dir().to_str().unwrap();
    let refusal = |config: Config| sandbox.run_config(&config).exited(1).stderr;
    let half = refusal(mapped(
        Config::shell(""),
        dir,
        &ids(0, 1000),
        &json!([]),
        &["bind"],
    ));
    assert!(
        half.contains("mounts[7]: id-mapped mounts must have both uid and gid mappings specified"),
        "{half}"
    );
    let none = refusal(Config::shell("").mount("bind", dir, "/x", &["bind", "idmap"]));
    assert!(none.contains("must have both uid and gid"), "{none}");
    let tmpfs = refusal(Config::shell("").mount("tmpfs", "tmpfs", "/x", &["idmap"]));
    assert!(
        tmpfs.contains("id-mapped mounts are only supported for bind-mounts"),
        "{tmpfs}"
    );
    let proc = refusal(mapped(
        Config::shell(""),
        "/proc/sys",
        &ids(0, 1000),
        &ids(0, 1000),
        &["bind"],
    ));
    assert!(
        proc.contains("failed to set MOUNT_ATTR_IDMAP on /proc/sys: invalid argument"),
        "{proc}"
    );
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

fn a_bind_mount_takes_no_options_of_a_file_system(sandbox: &Sandbox) {
    if !sandbox.runtime().is_kusabi() {
        skip!("what only kusabi does");
    }
    let dir = sandbox.dir().to_str().unwrap();
    let config = Config::shell("").mount("bind", dir, "/x", &["bind", "size=1m"]);
    let out = sandbox.run_config(&config).exited(1);
    out.says("bind mounts cannot have any filesystem-specific options applied");
}

fn masked_directories_share_one_file_system(sandbox: &Sandbox) {
    if !sandbox.runtime().is_kusabi() {
        skip!("what only kusabi does");
    }
    let script =
        "stat -c %d /a /b; ls -A /a /b/; touch /a/new; cat /file; grep -c ' /a ' /proc/self/mounts";
    let config = Config::shell(script)
        .push("/linux/maskedPaths", "/a")
        .push("/linux/maskedPaths", "/b/")
        .push("/linux/maskedPaths", "/./a")
        .push("/linux/maskedPaths", "/file")
        .push("/linux/maskedPaths", "/absent");
    let bundle = sandbox.bundle(&config);
    for dir in ["a", "b"] {
        fs::create_dir(bundle.rootfs().join(dir)).unwrap();
        fs::write(bundle.rootfs().join(dir).join("hidden"), "").unwrap();
    }
    fs::write(bundle.rootfs().join("file"), "hidden").unwrap();
    let out = sandbox.run(&bundle).succeeded();
    let lines: Vec<&str> = out.stdout.lines().collect();
    assert_eq!(lines[0], lines[1], "{out}");
    assert_eq!(lines[2..], ["/a:", "", "/b/:", "1"], "{out}");
    assert!(out.stderr.contains("Read-only file system"), "{out}");
}

fn propagation_of_root(sandbox: &Sandbox, word: &str) -> String {
    let config = Config::shell("").set("/linux/rootfsPropagation", word);
    seen(sandbox, config, "/").remove(0)[2].clone()
}

fn a_shared_root_is_shared(sandbox: &Sandbox) {
    assert_eq!(propagation_of_root(sandbox, "private"), "");
    for word in ["shared", "rshared"] {
        let found = propagation_of_root(sandbox, word);
        assert!(found.starts_with("shared:"), "{word}: {found}");
    }
    let out = sandbox
        .run_config(&Config::shell("").set("/linux/rootfsPropagation", "sideways"))
        .exited(1);
    out.says("rootfsPropagation=sideways");
}

fn a_root_that_is_a_slave_receives(sandbox: &Sandbox) {
    // The root's own mount decides; that of the test is private.
    let place = Mounted::tmpfs(sandbox.dir().join("shared"), MsFlags::empty());
    mount(
        None::<&str>,
        &place.0,
        None::<&str>,
        MsFlags::MS_SHARED,
        None::<&str>,
    )
    .unwrap();
    let bundle = sandbox.bundle(
        &Config::shell("cat /proc/self/mountinfo").set("/linux/rootfsPropagation", "slave"),
    );
    let root = place.0.join("rootfs");
    crate::common::sandbox::make_rootfs(&root);
    let config = Config::shell("head -n 1 /proc/self/mountinfo")
        .set("/root/path", root.to_str().unwrap())
        .set("/linux/rootfsPropagation", "slave");
    bundle.write(&config);
    let out = sandbox.run(&bundle).succeeded();
    assert!(out.stdout.contains(" master:"), "{out}");
    bundle.write(&config.set("/linux/rootfsPropagation", "private"));
    let out = sandbox.run(&bundle).succeeded();
    assert!(!out.stdout.contains(" master:"), "{out}");
}

fn what_hides_parts_of_a_bind_does_not_reach_the_host(sandbox: &Sandbox) {
    let nothing = None::<&str>;
    let place = Mounted::tmpfs(sandbox.dir().join("shared"), MsFlags::empty());
    mount(nothing, &place.0, nothing, MsFlags::MS_SHARED, nothing).unwrap();
    fs::create_dir_all(place.0.join("secret/inner")).unwrap();
    fs::create_dir_all(place.0.join("fixed")).unwrap();
    // `slave` alone is put together by a helper, `rslave` by the process itself.
    for word in ["private", "slave", "shared", "rslave", "rshared"] {
        for options in [
            &["rbind", "rprivate"][..],
            &["rbind", "rshared"],
            &["rbind"],
        ] {
            let config = Config::shell("ls /sys/secret; touch /sys/fixed/x; touch /sys/y")
                .push(
                    "/mounts",
                    json!({"destination": "/sys", "type": "bind", "source": place.0, "options": options}),
                )
                .set("/linux/rootfsPropagation", word)
                .set("/linux/maskedPaths", json!(["/sys/secret"]))
                .set("/linux/readonlyPaths", json!(["/sys/fixed"]));
            let out = sandbox.run_config(&config).succeeded();
            assert_eq!(out.stdout, "", "{word} {options:?}: {out}");
            assert!(out.stderr.contains("Read-only file system"), "{out}");
            let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
            let path = format!(" {}", place.0.display());
            let here: Vec<&str> = mounts.lines().filter(|m| m.contains(&path)).collect();
            assert_eq!(here.len(), 1, "{word} {options:?}: {here:#?}");
        }
    }
}
