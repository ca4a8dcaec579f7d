//! Go's habits, and refusals in runc's words.

use std::time::Duration;

use super::*;

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
        line.cgroups,
        crate::cgroup::SubCgroups::parse(&["cpu:/a"]).unwrap()
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
    for line in ["bundle build -h", "bundle build --help x"] {
        let Command::Help(text) = command(line) else {
            panic!("{line}")
        };
        assert!(
            text.starts_with("NAME:\n   kusabi bundle build - "),
            "{text}"
        );
        assert!(
            text.contains("\n   kusabi bundle build [OPTIONS] [directory]\n"),
            "{text}"
        );
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
