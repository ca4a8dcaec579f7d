use super::*;

fn sink(dir: &tempfile::TempDir, format: LogFormat) -> (Sink, std::path::PathBuf) {
    let path = dir.path().join("log");
    let globals = Globals {
        log: Some(path.clone()),
        log_format: format,
        ..Globals::default()
    };
    (Sink::open(&globals).unwrap(), path)
}

fn warning(text: &str) -> Line {
    Line::new("warning", text.to_owned())
}

fn objects(path: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_json_log_of_a_failure_is_one_object_with_its_warnings() {
    let dir = tempfile::tempdir().unwrap();
    let (sink, path) = sink(&dir, LogFormat::Json);
    sink.warn_or_write(warning("first"));
    sink.warn_or_write(warning("second"));
    assert_eq!(objects(&path), Vec::<Value>::new());
    sink.fail("it broke");
    let log = objects(&path);
    assert_eq!(log.len(), 1);
    assert_eq!(log[0]["level"], "error");
    assert_eq!(log[0]["msg"], "it broke");
    assert_eq!(log[0]["warnings"], serde_json::json!(["first", "second"]));
}

#[test]
fn warnings_of_a_success_are_written_in_order_and_later_ones_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (sink, path) = sink(&dir, LogFormat::Json);
    sink.warn_or_write(warning("first"));
    sink.warn_or_write(warning("second"));
    sink.commit();
    sink.warn_or_write(warning("third"));
    let log = objects(&path);
    let texts: Vec<&Value> = log.iter().map(|line| &line["msg"]).collect();
    assert_eq!(texts, ["first", "second", "third"]);
    assert!(log.iter().all(|line| line["level"] == "warning"));
}

#[test]
fn the_policys_log_gets_every_line_at_once_and_the_callers_stays_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (mut sink, path) = sink(&dir, LogFormat::Json);
    let copy = dir.path().join("copy");
    let log = policy::Log {
        file: Some(copy.clone()),
        debug: true,
        json: true,
    };
    sink.copy = Output::of_policy(&log).transpose().unwrap();
    assert!(sink.debug());
    sink.warn_or_write(warning("first"));
    sink.warn_or_write(Line {
        function: Some("kusabi::x"),
        ..Line::new("debug", "detail".to_owned())
    });
    assert_eq!(objects(&path), Vec::<Value>::new());
    assert_eq!(objects(&copy).len(), 2);
    assert_eq!(objects(&copy)[1]["func"], "kusabi::x");
    sink.fail("it broke");
    assert_eq!(objects(&path).len(), 1);
    assert_eq!(objects(&copy)[2]["msg"], "it broke");
    assert_eq!(objects(&copy)[2].get("warnings"), None);

    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&copy, &link).unwrap();
    let log = policy::Log {
        file: Some(link),
        ..policy::Log::default()
    };
    assert!(Output::of_policy(&log).unwrap().is_err());
}

#[test]
fn a_text_log_gets_warnings_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (sink, path) = sink(&dir, LogFormat::Text);
    sink.warn_or_write(warning("first"));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.ends_with(" level=warning msg=first\n"), "{text}");
}

#[test]
fn a_cloned_child_does_not_wait_for_an_outcome_it_never_sees() {
    let dir = tempfile::tempdir().unwrap();
    let (mut sink, path) = sink(&dir, LogFormat::Json);
    sink.owner += 1;
    sink.warn_or_write(warning("from the child"));
    assert_eq!(objects(&path).len(), 1);
}

#[test]
fn the_file_is_closed_on_exec_and_never_truncated() {
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    use std::os::fd::AsRawFd as _;
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let (sink, path) = sink(&dir, LogFormat::Text);
        sink.fail("again");
        let file = sink.main.file.as_ref().unwrap();
        let flags = fcntl(file.as_raw_fd(), FcntlArg::F_GETFD).unwrap();
        assert!(FdFlag::from_bits_truncate(flags).contains(FdFlag::FD_CLOEXEC));
        assert_eq!(file.metadata().unwrap().mode() & 0o133, 0);
        drop(sink);
        assert!(path.exists());
    }
    let text = std::fs::read_to_string(dir.path().join("log")).unwrap();
    assert_eq!(text.lines().count(), 2);
}

/// One test, because the store is one for the process.
#[test]
fn library_errors_are_kept_outermost_first_and_bounded() {
    tracing::subscriber::with_default(
        Events {
            level: LevelFilter::INFO,
        },
        || {
            assert_eq!(take_library_error(), None);
            tracing::error!(target: "libcontainer::rootfs", "failed to mount {:?}: EPERM", "/a");
            tracing::warn!(target: "libcontainer::rootfs", "not an error");
            tracing::error!(target: "libcontainer::process", err = "Mount", code = 7, "failed to prepare rootfs");
            assert_eq!(
                take_library_error().unwrap(),
                "failed to prepare rootfs err=Mount code=7: failed to mount \"/a\": EPERM"
            );
            assert_eq!(take_library_error(), None);

            tracing::error!(target: "kusabi::x", "ours is not a library");
            assert_eq!(take_library_error(), None);

            for number in 0..5 {
                tracing::error!(target: "libcgroups", "number {number}\nand a line");
            }
            assert_eq!(
                take_library_error().unwrap(),
                "number 4 and a line: number 3 and a line: number 2 and a line"
            );

            tracing::error!(target: "pathrs", "{}", "é".repeat(100_000));
            assert!(take_library_error().unwrap().len() < 1100);
        },
    );
}
