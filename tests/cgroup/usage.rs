//! What is reported of a cgroup: usage, and being out of memory.

use std::os::fd::AsFd;

use kusabi::cgroup::{Cgroup, OomEvent, OomWatch};
use kusabi::command::events;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::child::Child;
use crate::view::{PATIENCE, Scratch, everywhere};

#[test]
fn usage_has_the_shape_of_runcs_events() {
    everywhere("usage::usage_has_the_shape_of_runcs_events", || {
        let scratch = Scratch::new("stats");
        let resources = if scratch.layout.hierarchy("memory").is_some() {
            json!({"memory": {"limit": 33_554_432}, "pids": {"limit": 20}})
        } else {
            Value::Null
        };
        let cgroup = scratch.create("ct", &resources).unwrap();
        cgroup.apply().unwrap();
        let child = Child::born(&cgroup.entry().unwrap()).unwrap();
        child.settle();
        let stats = serde_json::to_value(cgroup.stats().unwrap()).unwrap();
        let keys: Vec<&String> = stats.as_object().unwrap().keys().collect();
        assert_eq!(
            keys,
            [
                "cpu",
                "cpuset",
                "memory",
                "pids",
                "blkio",
                "hugetlb",
                "intel_rdt",
                "network_interfaces"
            ]
        );
        assert_eq!(stats["pids"]["current"], 1);
        assert_eq!(stats["intel_rdt"], json!({}));
        assert_eq!(stats["network_interfaces"], Value::Null);
        assert!(
            stats["cpu"]["usage"]["total"].as_u64().unwrap() > 0,
            "{stats}"
        );
        if resources != Value::Null {
            assert_eq!(stats["pids"]["limit"], 20);
            let memory = &stats["memory"];
            assert_eq!(memory["usage"]["limit"], 33_554_432);
            assert_eq!(memory["raw"]["hierarchical_memory_limit"], 33_554_432);
            assert_eq!(stats["cpuset"]["cpus"][0], 0);
            let processors = std::thread::available_parallelism().unwrap().get();
            let percpu = stats["cpu"]["usage"]["percpu"].as_array().unwrap();
            assert!(percpu.len() >= processors, "{percpu:?}");
        }
        drop(child);
        cgroup.remove(PATIENCE).unwrap();
        scratch.assert_clean();
    });
}

fn wait(watch: &mut OomWatch) -> OomEvent {
    loop {
        match watch.read().unwrap() {
            OomEvent::Nothing => {}
            event => return event,
        }
        let timeout = PollTimeout::try_from(PATIENCE).unwrap();
        let ready = poll(
            &mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)],
            timeout,
        )
        .unwrap();
        assert_eq!(ready, 1, "no event came");
    }
}

#[test]
fn out_of_memory_is_told() {
    everywhere("usage::out_of_memory_is_told", || {
        let scratch = Scratch::new("oom");
        let cgroup = scratch.create("ct", &Value::Null).unwrap();
        if cgroup.is_v2() && !cgroup.directory("").unwrap().join("memory.max").exists() {
            let error = cgroup.oom_watch().unwrap_err().to_string();
            assert!(
                error.starts_with("inotify_add_watch ")
                    && error.ends_with("/memory.events: no such file or directory"),
                "{error}"
            );
            cgroup.remove(PATIENCE).unwrap();
            return;
        }
        let limit = 16 * 1024 * 1024;
        let mut limited = cgroup.clone();
        limited
            .update(&json!({"memory": {"limit": limit, "swap": limit}}))
            .unwrap();
        let mut watch = limited.oom_watch().unwrap();
        let before = limited.oom_kills().unwrap();
        let hog = Child::born_to(&limited.entry().unwrap(), &["tail", "/dev/zero"]).unwrap();
        assert_eq!(wait(&mut watch), OomEvent::Oom);
        assert_eq!(hog.killed_by(), Signal::SIGKILL);
        assert!(limited.oom_kills().unwrap() > before);
        while watch.read().unwrap() == OomEvent::Oom {}

        cgroup.remove(PATIENCE).unwrap();
        assert_eq!(wait(&mut watch), OomEvent::Ended);
        scratch.assert_clean();
    });
}

/// Lines that another thread may look at while they are written.
#[derive(Clone, Default)]
struct Lines(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn all(&self) -> Vec<Value> {
        let bytes = self.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect()
    }
}

fn watched(cgroup: &Cgroup) -> events::Watched<'_> {
    events::Watched {
        id: "ct",
        cgroup,
        resctrl: None,
    }
}

#[test]
fn events_are_followed_until_the_cgroup_ends() {
    everywhere("usage::events_are_followed_until_the_cgroup_ends", || {
        let scratch = Scratch::new("events");
        let cgroup = scratch.create("ct", &Value::Null).unwrap();
        let mut out = Lines::default();
        events::once(&watched(&cgroup), &mut out).unwrap();
        let first = out.all();
        assert_eq!(
            (&first[0]["type"], &first[0]["id"]),
            (&json!("stats"), &json!("ct"))
        );
        assert!(first[0]["data"]["memory"].is_object());

        if cgroup.is_v2() && !cgroup.directory("").unwrap().join("memory.max").exists() {
            cgroup.remove(PATIENCE).unwrap();
            return;
        }
        let mut limited = cgroup.clone();
        let limit = 16 * 1024 * 1024;
        limited
            .update(&json!({"memory": {"limit": limit, "swap": limit}}))
            .unwrap();
        // The container itself: without any process it would have ended.
        let init = Child::born(&limited.entry().unwrap()).unwrap();
        let out = Lines::default();
        let interval = std::time::Duration::from_millis(20);
        std::thread::scope(|scope| {
            let follower = {
                let (limited, mut out) = (&limited, out.clone());
                scope.spawn(move || events::follow(&watched(limited), interval, &mut out))
            };
            let deadline = std::time::Instant::now() + PATIENCE;
            let until = |done: &dyn Fn(&[Value]) -> bool| {
                while !done(&out.all()) {
                    assert!(std::time::Instant::now() < deadline, "{:?}", out.all());
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
            };
            until(&|lines| lines.iter().filter(|l| l["type"] == "stats").count() >= 3);
            let hog = Child::born_to(&limited.entry().unwrap(), &["tail", "/dev/zero"]).unwrap();
            assert_eq!(hog.killed_by(), Signal::SIGKILL);
            until(&|lines| {
                lines
                    .iter()
                    .any(|l| *l == json!({"type": "oom", "id": "ct"}))
            });
            limited.kill_all().unwrap();
            assert_eq!(init.killed_by(), Signal::SIGKILL);
            limited.remove(PATIENCE).unwrap();
            follower.join().unwrap().unwrap();
        });
        scratch.assert_clean();
    });
}
