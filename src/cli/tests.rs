//! Every command line that the known callers of runc type, read.

use std::path::PathBuf;
use std::time::Duration;

use super::*;

fn read(line: &str) -> Result<Invocation, Box<UsageError>> {
    let words = std::iter::once("kusabi").chain(line.split(' ').filter(|w| !w.is_empty()));
    parse(words.map(OsString::from))
}

fn command(line: &str) -> Command {
    read(line).unwrap_or_else(|e| panic!("{line}: {e}")).command
}

fn refused(line: &str) -> (String, u8) {
    let error = read(line).expect_err(line);
    (error.message, error.exit_code)
}

fn id(text: &str) -> ContainerId {
    ContainerId::parse(text).unwrap()
}

fn target(text: &str) -> Target {
    Target { id: id(text) }
}

fn path(text: &str) -> Option<PathBuf> {
    Some(PathBuf::from(text))
}

fn create(bundle: Bundle) -> Command {
    Command::Create(Create {
        bundle,
        devices: Devices::default(),
        id: id("ID"),
    })
}

fn exec(line: &str) -> Exec {
    match command(line) {
        Command::Exec(exec) => *exec,
        other => panic!("{other:?}"),
    }
}

/// What an exec is when nothing but the id is said.
fn plain_exec() -> Exec {
    exec("exec ID")
}

fn kill(all: bool, signal: i32) -> Command {
    Command::Kill(Kill {
        all,
        id: id("ID"),
        signal: Signal::parse(&signal.to_string()).unwrap(),
    })
}

const SHIM: &str = "--root /run/containerd/runc/k8s.io --log /b/log.json --log-format json";

#[test]
fn containerd_globals() {
    let globals = Globals {
        log: path("/b/log.json"),
        log_format: LogFormat::Json,
        root: path("/run/containerd/runc/k8s.io"),
        ..Globals::default()
    };
    assert_eq!(read(&format!("{SHIM} start ID")).unwrap().globals, globals);
    let systemd = read(&format!("{SHIM} --systemd-cgroup start ID")).unwrap();
    assert_eq!(
        systemd.globals,
        Globals {
            systemd_cgroup: true,
            ..globals
        }
    );
    assert_eq!(systemd.command, Command::Start(target("ID")));
}

#[test]
fn containerd_create() {
    assert_eq!(
        command(&format!(
            "{SHIM} create --bundle /b --pid-file /b/init.pid --console-socket /tmp/pty.sock \
             --no-pivot --no-new-keyring ID"
        )),
        create(Bundle {
            bundle: path("/b"),
            pid_file: path("/b/init.pid"),
            console_socket: path("/tmp/pty.sock"),
            no_pivot: true,
            no_new_keyring: true,
            ..Bundle::default()
        })
    );
}

#[test]
fn containerd_life_cycle() {
    let table = [
        ("pause ID", Command::Pause(target("ID"))),
        ("resume ID", Command::Resume(target("ID"))),
        ("state ID", Command::State(target("ID"))),
        ("kill --all ID 9", kill(true, 9)),
        ("kill ID 15", kill(false, 15)),
        (
            "delete ID",
            Command::Delete(Delete {
                force: false,
                id: id("ID"),
            }),
        ),
        (
            "delete --force ID",
            Command::Delete(Delete {
                force: true,
                id: id("ID"),
            }),
        ),
        (
            "ps --format json ID",
            Command::Ps(Ps {
                format: TableFormat::Json,
                id: id("ID"),
                options: vec![],
            }),
        ),
        (
            "list --format=json",
            Command::List(List {
                format: TableFormat::Json,
                quiet: false,
            }),
        ),
        ("features", Command::Features),
        ("--version", Command::Version),
    ];
    for (line, expected) in table {
        assert_eq!(command(&format!("{SHIM} {line}")), expected, "{line}");
    }
}

#[test]
fn containerd_exec() {
    assert_eq!(
        exec(&format!(
            "{SHIM} exec --process /b/p.json --console-socket /s --detach --pid-file /b/1.pid ID"
        )),
        Exec {
            process: path("/b/p.json"),
            console_socket: path("/s"),
            detach: true,
            pid_file: path("/b/1.pid"),
            ..plain_exec()
        }
    );
}

fn update(line: &str) -> Update {
    match command(line) {
        Command::Update(update) => *update,
        other => panic!("{other:?}"),
    }
}

#[test]
fn resources_from_everywhere() {
    for line in [
        "update --resources=- ID",
        "update --resources - ID",
        "update -r - ID",
        "update -r=- ID",
        "update ID -r -",
    ] {
        assert_eq!(update(line).resources, Some(Resources::Stdin), "{line}");
        assert_eq!(update(line).id, id("ID"), "{line}");
    }
    assert_eq!(
        update("update --resources=/tmp/podman1 ID").resources,
        Some(Resources::File("/tmp/podman1".into()))
    );
}

#[test]
fn limits_one_by_one() {
    let update = update(
        "update --blkio-weight 500 --cpu-period=100000 --cpu-quota -1 --cpu-burst 0 \
         --cpu-share 512 --cpu-rt-period 1000000 --cpu-rt-runtime 950000 --cpu-idle 1 \
         --cpuset-cpus 0-2 --cpuset-mems 0 --memory 64M --memory-reservation 32768k \
         --memory-swap -1 --pids-limit 20 --l3-cache-schema L3:0=f --mem-bw-schema MB:0=20 ID",
    );
    assert_eq!(
        update.limits,
        Limits {
            blkio_weight: Some(500),
            cpu_period: Some(100_000),
            cpu_quota: Some(-1),
            cpu_burst: Some(0),
            cpu_share: Some(512),
            cpu_rt_period: Some(1_000_000),
            cpu_rt_runtime: Some(950_000),
            cpu_idle: Some(1),
            cpuset_cpus: Some("0-2".to_owned()),
            cpuset_mems: Some("0".to_owned()),
            memory: Some(64 << 20),
            memory_reservation: Some(32 << 20),
            memory_swap: Some(-1),
            kernel_memory: None,
            kernel_memory_tcp: None,
            pids_limit: Some(20),
        }
    );
    assert_eq!(update.l3_cache_schema.as_deref(), Some("L3:0=f"));
    assert_eq!(update.mem_bw_schema.as_deref(), Some("MB:0=20"));
}

#[test]
fn one_dash_is_as_good_as_two() {
    // containerd really types `-no-subreaper`.
    let Command::Restore(restore) = command(
        "restore --image-path /i --work-path /w --tcp-established --ext-unix-sk --shell-job \
         --file-locks --manage-cgroups-mode soft --detach --pid-file /p -no-subreaper \
         --no-pivot --bundle /b ID",
    ) else {
        panic!()
    };
    assert!(restore.no_subreaper && restore.detach && restore.no_pivot);
    assert_eq!(restore.bundle, path("/b"));
    assert_eq!(restore.pid_file, path("/p"));
    assert_eq!(restore.criu.image_path, path("/i"));
    assert_eq!(restore.criu.work_path, path("/w"));
    assert_eq!(restore.criu.manage_cgroups_mode, Some(CgroupsMode::Soft));
    assert!(restore.criu.tcp_established && restore.criu.ext_unix_sk);
    assert!(restore.criu.shell_job && restore.criu.file_locks);
    assert_eq!(
        command("create -bundle /b -pid-file=/p ID"),
        create(Bundle {
            bundle: path("/b"),
            pid_file: path("/p"),
            ..Bundle::default()
        })
    );
}

#[test]
fn checkpoints() {
    let Command::Checkpoint(checkpoint) = command(
        "checkpoint --image-path /i --work-path /w --leave-running --leave-running \
         --tcp-established --parent-path ../p --page-server 10.0.0.1:27 --status-fd 4 \
         --empty-ns network --pre-dump --lazy-pages ID",
    ) else {
        panic!()
    };
    assert!(checkpoint.leave_running && checkpoint.pre_dump && checkpoint.criu.lazy_pages);
    assert_eq!(checkpoint.parent_path, path("../p"));
    assert_eq!(checkpoint.status_fd, 4);
    assert_eq!(checkpoint.criu.empty_ns, [EmptyNamespace::Network]);
    assert_eq!(
        checkpoint.page_server,
        Some(PageServer {
            address: "10.0.0.1".to_owned(),
            port: 27
        })
    );
    for (line, message) in [
        ("--parent-path /p", "--parent-path must be relative"),
        (
            "--page-server 10.0.0.1",
            "Use --page-server ADDRESS:PORT to specify page server",
        ),
        (
            "--page-server ::1:27",
            "Use --page-server ADDRESS:PORT to specify page server",
        ),
        ("--page-server h:x", "Invalid port number"),
        ("--empty-ns pid", "namespace \"pid\" is not supported"),
    ] {
        assert_eq!(
            refused(&format!("checkpoint {line} ID")),
            (message.to_owned(), 1)
        );
    }
}

#[test]
fn conmon_and_podman() {
    let line = read(
        "--systemd-cgroup create --bundle /b --pid-file /p --no-pivot --no-new-keyring \
         --preserve-fds 2 --console-socket /s ID",
    )
    .unwrap();
    assert!(line.globals.systemd_cgroup);
    assert_eq!(
        line.command,
        create(Bundle {
            bundle: path("/b"),
            pid_file: path("/p"),
            console_socket: path("/s"),
            no_pivot: true,
            no_new_keyring: true,
            preserve_fds: 2,
            ..Bundle::default()
        })
    );
    assert_eq!(
        exec("exec --pid-file /p --process /f --preserve-fds 3 --detach --console-socket /s ID"),
        Exec {
            pid_file: path("/p"),
            process: path("/f"),
            preserve_fds: 3,
            detach: true,
            console_socket: path("/s"),
            ..plain_exec()
        }
    );
    // With --log-level=debug podman adds these before the command.
    let globals = read("--debug --log=/l --log-format=json start ID")
        .unwrap()
        .globals;
    assert_eq!(
        globals,
        Globals {
            debug: true,
            log: path("/l"),
            log_format: LogFormat::Json,
            ..Globals::default()
        }
    );
    assert_eq!(command("kill --all ID 37"), kill(true, 37));
}

#[test]
fn cri_o() {
    let root = "--root /run/runc --systemd-cgroup";
    assert_eq!(command(&format!("{root} kill ID 15")), kill(false, 15));
    assert_eq!(command(&format!("{root} kill -a ID KILL")), kill(true, 9));
    assert_eq!(
        command(&format!("{root} delete --force ID")),
        Command::Delete(Delete {
            force: true,
            id: id("ID")
        })
    );
    assert_eq!(
        exec(&format!("{root} exec --process /p --tty ID")),
        Exec {
            process: path("/p"),
            tty: true,
            ..plain_exec()
        }
    );
}

#[test]
fn buildkit_and_buildah() {
    assert_eq!(
        command("--log /l --log-format json run --bundle /b --no-pivot --keep ID"),
        Command::Run(Run {
            bundle: Bundle {
                bundle: path("/b"),
                no_pivot: true,
                ..Bundle::default()
            },
            devices: Devices::default(),
            detach: false,
            keep: true,
            no_subreaper: false,
            id: id("ID"),
        })
    );
    assert_eq!(
        command("create --bundle /b --pid-file /p --no-new-keyring ID"),
        create(Bundle {
            bundle: path("/b"),
            pid_file: path("/p"),
            no_new_keyring: true,
            ..Bundle::default()
        })
    );
    assert_eq!(command("kill ID 9"), kill(false, 9));
}

#[test]
fn what_follows_an_execs_id_is_not_read() {
    let line = exec(
        "exec -t -u 1000:100 -g 5 -g 6 -e A=1 --env B=x=y --cwd /tmp -c CAP_NET_ADMIN \
         --no-new-privs --cgroup cpu:/a ID sh -c -t --detach -- --version",
    );
    assert_eq!(line.args, ["sh", "-c", "-t", "--detach", "--", "--version"]);
    assert!(line.tty && !line.detach);
    assert_eq!(
        line.user,
        Some(ExecUser {
            uid: 1000,
            gid: Some(100)
        })
    );
    assert_eq!(line.additional_gids, [5, 6]);
    assert_eq!(line.env, ["A=1", "B=x=y"]);
    assert_eq!(line.cwd.as_deref(), Some("/tmp"));
    assert_eq!(line.cap, ["CAP_NET_ADMIN"]);
    assert_eq!(line.no_new_privs, Some(true));
    assert_eq!(
        line.cgroup,
        SubCgroup::Controllers(vec![("cpu".to_owned(), "/a".to_owned())])
    );
    assert_eq!(exec("exec ID -- ls -l").args, ["ls", "-l"]);
    assert_eq!(exec("exec -- ID ls").args, ["ls"]);
    let empty = parse(["kusabi", "exec", "ID", "echo", "", "-n"].map(OsString::from)).unwrap();
    let Command::Exec(empty) = empty.command else {
        panic!()
    };
    assert_eq!(empty.args, ["echo", "", "-n"]);
}

#[test]
fn three_answers_to_no_new_privs() {
    assert_eq!(plain_exec().no_new_privs, None);
    assert_eq!(
        exec("exec --no-new-privs=false ID").no_new_privs,
        Some(false)
    );
    assert_eq!(exec("exec --no-new-privs=0 ID").no_new_privs, Some(false));
    assert_eq!(
        exec("exec --no-new-privs=false --no-new-privs ID").no_new_privs,
        Some(true)
    );
}

#[test]
fn what_follows_the_id_of_ps_is_for_ps() {
    assert_eq!(
        command("ps -f table ID -e -x --format"),
        Command::Ps(Ps {
            format: TableFormat::Table,
            id: id("ID"),
            options: ["-e", "-x", "--format"].map(OsString::from).to_vec(),
        })
    );
}

#[test]
fn a_dash_and_a_digit_is_no_flag() {
    assert_eq!(
        refused("kill ID -9"),
        ("unknown signal \"-9\"".to_owned(), 1)
    );
}

#[test]
fn the_last_of_a_repeated_flag_wins() {
    assert_eq!(
        command("create --bundle /a --bundle=/b -b /c ID"),
        create(Bundle {
            bundle: path("/c"),
            ..Bundle::default()
        })
    );
    assert_eq!(command("kill --all --all=false ID 9"), kill(false, 9));
    assert_eq!(command("kill --all=false -a ID 9"), kill(true, 9));
    // An empty word takes a flag back, as it does in runc.
    let words = [
        "kusabi",
        "create",
        "--pid-file",
        "/p",
        "--pid-file",
        "",
        "ID",
    ];
    assert_eq!(
        parse(words.map(OsString::from)).unwrap().command,
        create(Bundle::default())
    );
}

#[test]
fn switches_take_gos_booleans() {
    for (word, on) in [
        ("=true", true),
        ("=1", true),
        ("=T", true),
        ("", true),
        ("=", true),
    ]
    .into_iter()
    .chain([("=false", false), ("=0", false), ("=F", false)])
    {
        assert_eq!(
            command(&format!("kill -all{word} ID 9")),
            kill(on, 9),
            "{word}"
        );
    }
    assert_eq!(
        refused("delete --force=maybe ID"),
        (
            "invalid value \"maybe\" for flag -force: parse error".to_owned(),
            1
        )
    );
}

#[test]
fn global_options_may_follow_the_command() {
    let late = read("create --root /r --debug -b /b ID --log-format json").unwrap();
    assert_eq!(
        late.globals,
        Globals {
            debug: true,
            root: path("/r"),
            log_format: LogFormat::Json,
            ..Globals::default()
        }
    );
    assert_eq!(
        read("--root /a start --root /b ID").unwrap().globals.root,
        path("/b")
    );
    // `spec` has a --rootless of its own, which is no word but a switch.
    let spec = read("--rootless true spec --rootless -b /b").unwrap();
    assert_eq!(spec.globals.rootless, Rootless::True);
    assert_eq!(
        spec.command,
        Command::Spec(Spec {
            bundle: path("/b"),
            rootless: true
        })
    );
}

#[test]
fn rootless_words() {
    for (word, value) in [
        ("true", Rootless::True),
        ("0", Rootless::False),
        ("auto", Rootless::Auto),
        ("Auto", Rootless::Auto),
    ] {
        let line = read(&format!("--rootless {word} start ID")).unwrap();
        assert_eq!(line.globals.rootless, value);
    }
    assert!(
        refused("--rootless perhaps start ID")
            .0
            .contains("-rootless")
    );
}

#[test]
fn an_empty_root_is_not_no_root() {
    let words = ["kusabi", "--root", "", "list"].map(OsString::from);
    assert_eq!(parse(words).unwrap().globals.root, path(""));
}

#[test]
fn paths_need_not_be_utf_8() {
    use std::os::unix::ffi::OsStringExt as _;
    let odd = OsString::from_vec(b"/b/\xff".to_vec());
    let words = [
        "kusabi".into(),
        "start".into(),
        "--root".into(),
        odd.clone(),
        "ID".into(),
    ];
    assert_eq!(parse(words).unwrap().globals.root, Some(odd.into()));
}

#[test]
fn devices() {
    let devices = Devices {
        devices: vec!["nvidia.com/gpu=0".to_owned(), "amd.com/gpu=all".to_owned()],
        cdi_dirs: vec!["/etc/cdi".into(), "/run/cdi".into()],
    };
    let flags =
        "--device nvidia.com/gpu=0 --cdi-dir /etc/cdi --device=amd.com/gpu=all -cdi-dir=/run/cdi";
    let Command::Create(line) = command(&format!("create {flags} ID")) else {
        panic!()
    };
    assert_eq!(line.devices, devices);
    let Command::Run(line) = command(&format!("run {flags} -d ID")) else {
        panic!()
    };
    assert!(line.detach);
    assert_eq!(line.devices, devices);
    assert_eq!(
        command(&format!("explain --bundle /b {flags} --format diff")),
        Command::Explain(Explain {
            bundle: path("/b"),
            devices: devices.clone(),
            format: ExplainFormat::Diff,
        })
    );
    assert_eq!(
        command(&format!("edit --bundle /b {flags}")),
        Command::Edit(Edit {
            bundle: path("/b"),
            devices,
        })
    );
}

#[test]
fn cdi_has_commands_below_it() {
    assert_eq!(
        command("cdi list --cdi-dir /a -f json"),
        Command::Cdi(Cdi::List(CdiList {
            cdi_dirs: vec!["/a".into()],
            format: CdiFormat::Json,
        }))
    );
    assert_eq!(
        command("--debug cdi --log /l show a.com/b=c"),
        Command::Cdi(Cdi::Show(CdiShow {
            devices: vec!["a.com/b=c".to_owned()],
            ..CdiShow::default()
        }))
    );
    assert_eq!(
        command("cdi validate a.json b.yaml"),
        Command::Cdi(Cdi::Validate(CdiValidate {
            files: vec!["a.json".into(), "b.yaml".into()],
            ..CdiValidate::default()
        }))
    );
    assert_eq!(
        refused("cdi burn"),
        ("No help topic for 'burn'".to_owned(), 3)
    );
}

#[test]
fn events_interval() {
    assert_eq!(
        command("events --interval 1m30s --stats ID"),
        Command::Events(Events {
            interval: Duration::from_secs(90),
            stats: true,
            id: id("ID")
        })
    );
    let Command::Events(events) = command("events ID") else {
        panic!()
    };
    assert_eq!(events.interval, Duration::from_secs(5));
    assert_eq!(
        refused("events --interval 0s ID").0,
        "duration interval must be greater than 0"
    );
}

#[test]
fn counts_of_arguments_in_runcs_words() {
    let table = [
        ("create", "\"create\" requires exactly 1 argument(s)"),
        ("start a b", "\"start\" requires exactly 1 argument(s)"),
        ("exec", "\"exec\" requires a minimum of 1 argument(s)"),
        ("ps", "\"ps\" requires a minimum of 1 argument(s)"),
        ("kill", "\"kill\" requires a minimum of 1 argument(s)"),
        ("kill a 9 b", "\"kill\" requires a maximum of 2 argument(s)"),
        ("list a", "\"list\" requires exactly 0 argument(s)"),
        ("spec a", "\"spec\" requires exactly 0 argument(s)"),
        ("features a", "\"features\" requires exactly 0 argument(s)"),
    ];
    for (line, message) in table {
        let error = read(line).unwrap_err();
        assert_eq!(error.message, format!("kusabi: {message}"));
        assert_eq!(error.exit_code, 1);
        assert!(
            error
                .help
                .is_some_and(|help| help.starts_with("NAME:\n   kusabi "))
        );
    }
}

#[test]
fn other_refusals_in_runcs_words() {
    let table = [
        (
            "create --bogus ID",
            "flag provided but not defined: -bogus",
            1,
        ),
        (
            "--bogus create ID",
            "flag provided but not defined: -bogus",
            1,
        ),
        ("start -v ID", "flag provided but not defined: -v", 1),
        ("exec -it ID sh", "flag provided but not defined: -it", 1),
        ("create --bundle", "flag needs an argument: --bundle", 1),
        ("--log-format yaml start ID", "invalid log-format: yaml", 1),
        ("list -f yaml", "invalid format option", 1),
        ("ps --format yaml ID", "invalid format option", 1),
        ("kill ID NOPE", "unknown signal \"NOPE\"", 1),
        ("frobnicate", "No help topic for 'frobnicate'", 3),
        ("--help frobnicate", "No help topic for 'frobnicate'", 3),
        (
            "exec --cgroup a --cgroup b ID",
            "exec failed: invalid --cgroup argument: a (missing <controller>: prefix)",
            255,
        ),
        (
            "exec -u root ID",
            "exec failed: bad uid: \"root\" is not a number from 0 to 4294967294",
            255,
        ),
        (
            "exec -g -1 ID",
            "exec failed: additional-gids must be a positive number -1",
            255,
        ),
        (
            "update --blkio-weight 70000 ID",
            "invalid value \"70000\" for flag -blkio-weight: 70000 is not between 10 and 1000",
            1,
        ),
        (
            "create --preserve-fds -1 ID",
            "invalid value \"-1\" for flag -preserve-fds: -1 is not between 0 and 4294967295",
            1,
        ),
    ];
    for (line, message, code) in table {
        assert_eq!(refused(line), (message.to_owned(), code), "{line}");
    }
}

#[test]
fn ids_are_checked_before_anything_else_happens() {
    for command in [
        "create",
        "run",
        "start",
        "state",
        "kill",
        "delete",
        "pause",
        "resume",
        "ps",
        "update",
        "events",
        "checkpoint",
        "restore",
    ] {
        let (message, code) = refused(&format!("{command} ../x"));
        assert!(
            message.starts_with("invalid container ID format"),
            "{command}: {message}"
        );
        assert_eq!(code, 1);
    }
    let (message, code) = refused("exec ../x ls");
    assert!(message.starts_with("exec failed: invalid container ID format"));
    assert_eq!(code, 255);
    let empty = parse(["kusabi", "state", ""].map(OsString::from)).unwrap_err();
    assert_eq!(empty.message, "container id cannot be empty");
    let long = refused(&format!("state {}", "a".repeat(1 << 20))).0;
    assert!(long.len() < 100, "{}", long.len());
}

#[test]
fn an_error_goes_to_the_log_that_was_named() {
    for line in [
        "--log /l create --bogus ID",
        "create --log /l --bogus ID",
        "--log /l create",
    ] {
        assert_eq!(read(line).unwrap_err().globals.log, path("/l"), "{line}");
    }
}

#[test]
fn help_wherever_it_is_asked_for() {
    for line in ["", "-h", "--help", "help", "h", "--debug --help"] {
        let Command::Help(text) = command(line) else {
            panic!("{line}")
        };
        assert!(text.starts_with("NAME:\n   kusabi - "), "{line}");
        assert!(text.contains("checkpoint"), "{line}");
    }
    for line in [
        "exec -h",
        "exec --help",
        "-h exec",
        "help exec",
        "exec -h ID",
    ] {
        let Command::Help(text) = command(line) else {
            panic!("{line}")
        };
        assert!(
            text.starts_with("NAME:\n   kusabi exec - "),
            "{line}: {text}"
        );
        assert!(text.contains("--ignore-paused"), "{line}");
    }
    assert_eq!(command("-v"), Command::Version);
    // Not help of ours: the process's.
    assert_eq!(exec("exec ID ls --help").args, ["ls", "--help"]);
}

#[test]
fn clap_agrees_with_itself() {
    full_definition().debug_assert();
    for definition in COMMANDS {
        definition.clap_tree().debug_assert();
    }
}
