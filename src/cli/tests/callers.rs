//! Every command line that the known callers of runc type.

use super::*;

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
        Command::Run(Box::new(Run {
            bundle: Bundle {
                bundle: path("/b"),
                no_pivot: true,
                ..Bundle::default()
            },
            devices: Devices::default(),
            service: ServiceOptions::default(),
            detach: false,
            keep: true,
            no_subreaper: false,
            id: Some(id("ID")),
        }))
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
fn devices() {
    let devices = Devices {
        devices: vec!["nvidia.com/gpu=0".to_owned(), "amd.com/gpu=all".to_owned()],
        cdi_dirs: vec!["/etc/cdi".into(), "/run/cdi".into()],
        gpus: vec!["nvidia:2".to_owned(), "amd:all".to_owned()],
        gpu_share: Some("mps,threads=50".to_owned()),
        distributed: Some("nccl,world-size=2".to_owned()),
        cgroup_parent: Some("/gpus".to_owned()),
    };
    let flags = "--device nvidia.com/gpu=0 --cdi-dir /etc/cdi --device=amd.com/gpu=all \
                 -cdi-dir=/run/cdi --gpus nvidia:2 -gpus=amd:all --gpu-share mps,threads=50 \
                 --distributed nccl,world-size=2 --cgroup-parent /gpus";
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
            id: None,
            bundle: path("/b"),
            devices: devices.clone(),
            host_root: None,
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

/// `podman --runtime-flag cdi-dir=/x` puts it before every command.
#[test]
fn directories_for_every_command_rank_below_its_own() {
    let dirs = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
    let line =
        read("--cdi-dir /a -cdi-dir=/b create --cdi-dir /c --debug --cdi-dir /d ID").unwrap();
    assert_eq!(line.globals.cdi_dirs, dirs(&["/a", "/b"]));
    let Command::Create(create) = line.command else {
        panic!()
    };
    assert_eq!(create.devices.cdi_dirs, dirs(&["/a", "/b", "/c", "/d"]));

    let listed = dirs(&["/a", "/b", "/c"]);
    let Command::Cdi(Cdi::List(list)) = command("--cdi-dir=/a cdi --cdi-dir /b list --cdi-dir /c")
    else {
        panic!()
    };
    assert_eq!(list.cdi_dirs, listed);
    let Command::Doctor(doctor) = command("--cdi-dir /a --cdi-dir /b doctor --cdi-dir /c") else {
        panic!()
    };
    assert_eq!(doctor.cdi_dirs, listed);
    let Command::Run(run) = command("--cdi-dir /a --cdi-dir /b run ID") else {
        panic!()
    };
    assert_eq!(run.devices.cdi_dirs, listed[..2]);
    let line = "--cdi-dir /a --cdi-dir /b bundle spec --cdi-dir /c --service /s";
    let Command::Bundle(BundleCommand::Spec(spec)) = command(line) else {
        panic!()
    };
    assert_eq!(spec.devices.cdi_dirs, listed);
    let line = "--cdi-dir /a --cdi-dir /b devices --cdi-dir /c ID add a.com/b=c";
    let Command::Devices(devices) = command(line) else {
        panic!()
    };
    assert_eq!(devices.cdi_dirs, listed);

    // Those that look for none are called with it, too.
    let line = read("--cdi-dir /a --cdi-dir /b start ID --cdi-dir /c").unwrap();
    assert_eq!(line.command, Command::Start(target("ID")));
    assert_eq!(line.globals.cdi_dirs, listed);
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
