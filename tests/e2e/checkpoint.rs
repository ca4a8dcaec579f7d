//! `checkpoint` and `restore`, where this machine's CRIU can do it.

use std::fs;
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::process::Stdio;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::common::view::is_unified;
use crate::common::{
    Bundle, Config, Container, Running, Sandbox, Spawn, View, has_criu, has_criu_feature, host,
    on_each_view, skip, wait_until,
};

on_each_view![
    a_container_goes_on_where_it_was,
    a_container_may_run_on_after_its_checkpoint,
    criu_makes_the_cgroups_of_a_container_without_a_path,
    a_restored_container_has_its_limits_filter_and_mounts,
    a_foreground_restore_returns_the_exit_code,
    pages_can_go_to_a_page_server,
    pages_can_follow_a_restored_container,
    a_dump_after_a_pre_dump_holds_what_has_changed,
    a_container_without_mounts_of_its_own_is_refused,
    a_failed_restore_leaves_nothing,
    without_criu_a_restore_says_so_and_leaves_nothing,
    what_cannot_be_checkpointed_is_refused_and_runs_on,
];

/// Counts once a tick in a file, which is never seen empty, until it is told to end.
const COUNT: &str = "i=0; while [ ! -e /tmp/end ]; do i=$((i+1)); echo $i > /tmp/new; \
                     mv /tmp/new /tmp/count; usleep 20000; done; exit 7";

/// A running counter, with the null device for output: CRIU cannot know a file
/// of the host's.
fn counter<'a>(sandbox: &'a Sandbox, config: &Config) -> (Bundle, Container<'a>) {
    let bundle = sandbox.bundle(config);
    sandbox
        .call(["run", "--detach", "--bundle"])
        .arg(&bundle.path)
        .arg(&bundle.id)
        .stdio(Stdio::null(), Stdio::null(), Stdio::null())
        .output()
        .succeeded();
    let container = sandbox.container(&bundle);
    wait_until("it counts", || count(&bundle) > 2);
    (bundle, container)
}

fn count(bundle: &Bundle) -> u64 {
    let text = fs::read_to_string(bundle.rootfs().join("tmp/count")).unwrap_or_default();
    text.trim().parse().unwrap_or_default()
}

struct Image {
    images: PathBuf,
    work: PathBuf,
}

impl Image {
    fn new(sandbox: &Sandbox) -> Self {
        let at = |name: &str| sandbox.dir().join(format!("{name}{}", sandbox.fresh()));
        Self {
            images: at("images"),
            work: at("work"),
        }
    }

    /// Version 2's file system must not be remounted by CRIU: other tests use it.
    fn flags(&self) -> Vec<String> {
        let text = |path: &PathBuf| path.to_str().unwrap().to_owned();
        vec![
            "--image-path".into(),
            text(&self.images),
            "--work-path".into(),
            text(&self.work),
            "--manage-cgroups-mode".into(),
            "ignore".into(),
        ]
    }
}

fn restore(sandbox: &Sandbox, bundle: &Bundle, image: &Image, id: &str) {
    sandbox
        .call(["restore", "--detach", "--bundle"])
        .arg(&bundle.path)
        .args(image.flags())
        .arg(id)
        .stdio(Stdio::null(), Stdio::null(), Stdio::null())
        .output()
        .succeeded();
}

fn a_container_goes_on_where_it_was(sandbox: &Sandbox) {
    if !has_criu() {
        return;
    }
    let (bundle, container) = counter(sandbox, &Config::shell(COUNT));
    let pid = container.pid();
    let image = Image::new(sandbox);
    for _ in 0..2 {
        container
            .call("checkpoint", &[])
            .args(image.flags())
            .output()
            .succeeded();
        assert_eq!(sandbox.left(), Vec::<String>::new(), "as if never there");
        let stood = count(&bundle);
        assert!(stood > 2);
        restore(sandbox, &bundle, &image, &bundle.id);
        assert_eq!(container.status(), "running");
        wait_until("it goes on", || count(&bundle) > stood);
        assert!(count(&bundle) < stood + 500, "it began anew");
    }
    assert_ne!(container.pid(), pid);
    container.sh("echo ok").succeeded();
    container.delete_force();
}

/// In its default mode, in which it mounts their hierarchies beside its log.
fn criu_makes_the_cgroups_of_a_container_without_a_path(sandbox: &Sandbox) {
    if !has_criu() {
        return;
    }
    if sandbox.view() == View::Unified || is_unified() {
        skip::report("criu: it would remount the one hierarchy that everybody uses");
        return;
    }
    let (bundle, container) = counter(sandbox, &Config::shell(COUNT));
    let image = Image::new(sandbox);
    let flags = &image.flags()[..4];
    container
        .call("checkpoint", &[])
        .args(flags)
        .output()
        .succeeded();
    let stood = count(&bundle);
    let below = format!("/{0}/below", bundle.id);
    bundle.write(&Config::shell(COUNT).set("/linux/cgroupsPath", below));
    sandbox
        .call(["restore", "--detach", "--bundle"])
        .arg(&bundle.path)
        .args(flags)
        .arg(&bundle.id)
        .stdio(Stdio::null(), Stdio::null(), Stdio::null())
        .output()
        .succeeded();
    wait_until("it goes on", || count(&bundle) > stood);
    container.delete_force();
}

fn a_container_may_run_on_after_its_checkpoint(sandbox: &Sandbox) {
    if !has_criu() {
        return;
    }
    let (bundle, container) = counter(sandbox, &Config::shell(COUNT));
    let (pid, image) = (container.pid(), Image::new(sandbox));
    container
        .call("checkpoint", &["--leave-running"])
        .args(image.flags())
        .output()
        .succeeded();
    assert_eq!(
        (container.status().as_str(), container.pid()),
        ("running", pid)
    );
    let stood = count(&bundle);
    wait_until("it runs on", || count(&bundle) > stood);
    container.delete_force();
}

fn a_restored_container_has_its_limits_filter_and_mounts(sandbox: &Sandbox) {
    if !has_criu() {
        return;
    }
    let volume = sandbox.dir().join("volume");
    host::make_dir(&volume);
    // As on most hosts, a shared mount: what is bound of it is a slave. In a mount
    // namespace of this thread's.
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(
        Some("tmpfs"),
        &volume,
        Some("tmpfs"),
        MsFlags::empty(),
        none,
    )
    .unwrap();
    mount(none, &volume, none, MsFlags::MS_SHARED, none).unwrap();
    fs::write(volume.join("file"), "of the volume\n").unwrap();
    let config = Config::shell(COUNT)
        .mount("bind", volume.to_str().unwrap(), "/data", &["bind"])
        .capabilities(&["CAP_MKNOD"])
        .device_rule(true, "c", Some(60), Some(1), "rw");
    let (bundle, container) = counter(sandbox, &config);
    let image = Image::new(sandbox);
    container
        .call("checkpoint", &[])
        .args(image.flags())
        .output()
        .succeeded();
    restore(sandbox, &bundle, &image, &bundle.id);
    let own = container.sh("cat /data/file; cat /proc/1/cgroup /proc/self/cgroup | sort -u");
    assert!(own.stdout.starts_with("of the volume\n"), "{own}");
    let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    // Of hierarchies that the view does not show, it knows nothing.
    let unified = sandbox.view() == View::Unified;
    for line in cgroup.lines().filter(|l| !unified || l.starts_with("0::")) {
        assert!(line.contains(&bundle.id), "{cgroup}");
    }
    // ENXIO is let through, EPERM is not.
    let opens = container
        .sh("cd /tmp; mknod a c 60 1; mknod b c 60 2; dd if=a count=1; dd if=b count=1; true");
    assert!(opens.stderr.contains("a': No such device"), "{opens}");
    assert!(
        opens.stderr.contains("b': Operation not permitted"),
        "{opens}"
    );
    container.delete_force();
}

fn a_foreground_restore_returns_the_exit_code(sandbox: &Sandbox) {
    if !has_criu() {
        return;
    }
    let (bundle, container) = counter(sandbox, &Config::shell(COUNT));
    let image = Image::new(sandbox);
    container
        .call("checkpoint", &[])
        .args(image.flags())
        .output()
        .succeeded();
    let running = sandbox
        .call(["restore", "--bundle"])
        .arg(&bundle.path)
        .args(image.flags())
        .arg(&bundle.id)
        .stdio(Stdio::null(), Stdio::null(), Stdio::null())
        .spawn();
    let stood = count(&bundle);
    wait_until("it goes on", || count(&bundle) > stood);
    fs::write(bundle.rootfs().join("tmp/end"), "").unwrap();
    running.wait().exited(7);
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

/// A port of this host's that nobody listens at.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// CRIU itself, as a daemon beside the container.
fn daemon(sandbox: &Sandbox, args: &[&str], image: &Image) -> Running {
    Spawn::new("criu", &sandbox.dir().join(format!("criu-{}", args[0])))
        .args(args)
        .arg("--images-dir")
        .arg(&image.images)
        .arg("--work-dir")
        .arg(&image.work)
        .spawn()
}

/// The sum of what is stored of processes' memory.
fn pages(image: &Image) -> u64 {
    let entries = fs::read_dir(&image.images).unwrap().flatten();
    let pages = entries.filter(|e| e.file_name().to_string_lossy().starts_with("pages-"));
    pages.map(|e| e.metadata().unwrap().len()).sum()
}

/// Whether somebody listens at a port, by the kernel's table: to connect would be
/// taken for the peer.
fn listens(port: u16) -> bool {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let wanted = format!(":{port:04X} 00000000:0000 0A");
    table.contains(&wanted)
}

fn pages_can_go_to_a_page_server(sandbox: &Sandbox) {
    if !has_criu() {
        return;
    }
    let (bundle, container) = counter(sandbox, &Config::shell(COUNT));
    let image = Image::new(sandbox);
    host::make_dir(&image.images);
    host::make_dir(&image.work);
    let port = free_port();
    let text = port.to_string();
    let server = daemon(
        sandbox,
        &["page-server", "--address", "127.0.0.1", "--port", &text],
        &image,
    );
    wait_until("the page server", || listens(port));
    container
        .call(
            "checkpoint",
            &["--page-server", &format!("127.0.0.1:{port}")],
        )
        .args(image.flags())
        .output()
        .succeeded();
    server.wait().succeeded();
    assert!(pages(&image) > 0, "the server has stored none");
    let stood = count(&bundle);
    restore(sandbox, &bundle, &image, &bundle.id);
    wait_until("it goes on", || count(&bundle) > stood);
    container.delete_force();
}

/// A migration in which the memory comes last: CRIU serves it from the process
/// that was dumped, to a daemon that hands it to the restored one.
fn pages_can_follow_a_restored_container(sandbox: &Sandbox) {
    if !has_criu() || !has_criu_feature("uffd-noncoop") || !may_have_long_pipes() {
        return;
    }
    let (bundle, container) = counter(sandbox, &Config::shell(COUNT));
    let image = Image::new(sandbox);
    let whole = Image::new(sandbox);
    container
        .call("checkpoint", &["--leave-running"])
        .args(whole.flags())
        .output()
        .succeeded();
    let port = free_port();
    let (ready, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    let address = format!("127.0.0.1:{port}");
    let dump = container
        .call("checkpoint", &["--lazy-pages", "--page-server", &address])
        .args(["--status-fd", "1"])
        .args(image.flags())
        .stdio(Stdio::null(), Stdio::from(writer), Stdio::null())
        .spawn();
    let mut byte = [1];
    assert_eq!(nix::unistd::read(ready.as_raw_fd(), &mut byte), Ok(1));
    assert_eq!(byte, [0], "the pages are served");
    let stood = count(&bundle);

    // The first container's processes wait in their place until the pages are gone.
    let new = format!("{}-new", bundle.id);
    let moved = Config::shell(COUNT).set("/linux/cgroupsPath", format!("/{new}"));
    bundle.write(&moved);
    let text = port.to_string();
    let pager = daemon(
        sandbox,
        &[
            "lazy-pages",
            "--page-server",
            "--address",
            "127.0.0.1",
            "--port",
            &text,
        ],
        &image,
    );
    let socket = image.work.join("lazy-pages.socket");
    wait_until("the pager", || socket.exists());
    sandbox
        .call(["restore", "--detach", "--lazy-pages", "--bundle"])
        .arg(&bundle.path)
        .args(image.flags())
        .arg(&new)
        .stdio(Stdio::null(), Stdio::null(), Stdio::null())
        .output()
        .succeeded();
    dump.wait().succeeded();
    pager.wait().succeeded();
    wait_until("it goes on", || count(&bundle) > stood);
    // What may come later is not in the image.
    assert!(pages(&image) < pages(&whole));
    sandbox
        .call(["delete", "--force", &new])
        .output()
        .succeeded();
}

/// Whether pipes may hold as much as CRIU wants of them to serve pages; it does not
/// look whether it got that. Says so, as a skip, where they may not.
fn may_have_long_pipes() -> bool {
    let (reader, _writer) = nix::unistd::pipe().unwrap();
    let size = nix::fcntl::FcntlArg::F_SETPIPE_SZ(4 << 20);
    let may = nix::fcntl::fcntl(reader.as_raw_fd(), size).is_ok();
    if !may {
        skip::report("criu: no pipe of 4 MiB for it, see fs.pipe-max-size");
    }
    may
}

fn a_dump_after_a_pre_dump_holds_what_has_changed(sandbox: &Sandbox) {
    if !has_criu() || !has_criu_feature("mem_dirty_track") {
        return;
    }
    let (bundle, container) = counter(sandbox, &Config::shell(COUNT));
    let first = Image::new(sandbox);
    let second = Image::new(sandbox);
    container
        .call("checkpoint", &["--pre-dump"])
        .args(first.flags())
        .output()
        .succeeded();
    assert_eq!(container.status(), "running");
    let parent = first.images.file_name().unwrap().to_str().unwrap();
    container
        .call("checkpoint", &["--parent-path", &format!("../{parent}")])
        .args(second.flags())
        .output()
        .succeeded();
    assert!(pages(&second) < pages(&first), "all of it again");
    let stood = count(&bundle);
    restore(sandbox, &bundle, &second, &bundle.id);
    wait_until("it goes on", || count(&bundle) > stood);
    container.delete_force();
}

fn a_container_without_mounts_of_its_own_is_refused(sandbox: &Sandbox) {
    let words = "checkpoint and restore need a mount namespace of the container's own";
    let config = Config::sleeper()
        .without_namespace("mount")
        .set("/linux/maskedPaths", serde_json::json!([]))
        .set("/linux/readonlyPaths", serde_json::json!([]));
    let bundle = sandbox.bundle(&config);
    sandbox
        .call(["restore", "--detach", "--bundle"])
        .arg(&bundle.path)
        .args(Image::new(sandbox).flags())
        .arg(&bundle.id)
        .output()
        .exited(1)
        .says(words);
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

fn a_failed_restore_leaves_nothing(sandbox: &Sandbox) {
    if !has_criu() {
        return;
    }
    let bundle = sandbox.bundle(&Config::sleeper());
    let image = Image::new(sandbox);
    let call = || {
        sandbox
            .call(["restore", "--detach", "--bundle"])
            .arg(&bundle.path)
            .args(image.flags())
            .arg(&bundle.id)
            .output()
            .exited(1)
    };
    call().says("no such file or directory");
    host::make_dir(&image.images);
    fs::write(image.images.join("descriptors.json"), "[]").unwrap();
    call().says("criu failed: type RESTORE");
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

/// The counterpart of a host without CRIU.
fn without_criu_a_restore_says_so_and_leaves_nothing(sandbox: &Sandbox) {
    let bundle = sandbox.bundle(&Config::sleeper());
    sandbox
        .call(["restore", "--detach", "--bundle"])
        .arg(&bundle.path)
        .args(Image::new(sandbox).flags())
        .arg(&bundle.id)
        .env("PATH", sandbox.dir())
        .output()
        .exited(1)
        .says("exec: \\\"criu\\\": executable file not found in $PATH");
    assert_eq!(sandbox.left(), Vec::<String>::new());
}

fn what_cannot_be_checkpointed_is_refused_and_runs_on(sandbox: &Sandbox) {
    let container = sandbox.create(&sandbox.bundle(&Config::sleeper()));
    let image = Image::new(sandbox);
    let checkpoint = |flags: &[&str]| {
        container
            .call("checkpoint", flags)
            .args(image.flags())
            .output()
            .exited(1)
    };
    checkpoint(&[]).says("Container cannot be checkpointed in created state");
    container.start();
    checkpoint(&["--parent-path", "/parent"]).says("--parent-path");
    checkpoint(&["--parent-path", "../parent"])
        .says("invalid --parent-path: stat ")
        .says("no such file or directory");
    container
        .call("checkpoint", &[])
        .args(image.flags())
        .env("PATH", sandbox.dir())
        .output()
        .exited(1)
        .says("CRIU version check failed: exec: \\\"criu\\\": executable file not found in $PATH");
    assert_eq!(container.status(), "running");
    container.delete_force();
}
