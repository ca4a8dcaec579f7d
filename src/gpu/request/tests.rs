use std::collections::{BTreeMap, BTreeSet};

use super::*;

fn parsed(text: &str) -> String {
    match GpuRequest::parse(text) {
        Ok(request) => format!(
            "{} {:?}",
            request.vendor.map_or("any".into(), |v| v.to_string()),
            request.what
        ),
        Err(reason) => reason,
    }
}

fn ids(list: &[&str]) -> Selection {
    Selection::Ids(list.iter().map(|&id| id.to_owned()).collect())
}

#[test]
fn every_form_of_a_request_for_gpus() {
    for (text, vendor, what) in [
        ("2", "any", Selection::Count(2)),
        ("all", "any", Selection::All),
        ("none", "any", Selection::None),
        ("nvidia:all", "nvidia", Selection::All),
        ("amd:3", "amd", Selection::Count(3)),
        ("NVIDIA:1", "nvidia", Selection::Count(1)),
        ("intel.com:1", "intel", Selection::Count(1)),
        ("habana:0,7", "habana", ids(&["0", "7"])),
        ("acme:1", "acme", Selection::Count(1)),
        ("0,1", "any", ids(&["0", "1"])),
        ("1,0,1", "any", ids(&["0", "1"])),
        ("device=2", "any", ids(&["2"])),
        ("nvidia:device=2", "nvidia", ids(&["2"])),
        ("amd:0-3,5", "amd", ids(&["0", "1", "2", "3", "5"])),
        ("0:1", "any", ids(&["0:1"])),
        ("nvidia:0:1", "nvidia", ids(&["0:1"])),
        ("0000:06:00.0", "any", ids(&["0000:06:00.0"])),
        ("af:00.0", "any", ids(&["af:00.0"])),
        ("nvidia:af:00.0", "nvidia", ids(&["af:00.0"])),
        ("GPU-fef8089b", "any", ids(&["GPU-fef8089b"])),
        (
            "MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/1/2",
            "any",
            ids(&["MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/1/2"]),
        ),
        ("0xEF2C1799A1F3E2ED", "any", ids(&["0xEF2C1799A1F3E2ED"])),
    ] {
        assert_eq!(parsed(text), format!("{vendor} {what:?}"), "{text}");
    }
}

#[test]
fn what_is_no_request_says_why() {
    for (text, reason) in [
        (
            "",
            "it is empty, expected a count, all, none, or names with commas",
        ),
        (
            "nvidia:",
            "it is empty, expected a count, all, none, or names with commas",
        ),
        ("0", "0 asks for nothing, leave it out or say none"),
        ("4096", "4096 is too many, at most 1024 can be asked for"),
        (
            "99999999999999999999",
            "99999999999999999999 is too many, at most 1024 can be asked for",
        ),
        ("0,,1", "an entry of the list is empty"),
        ("0,", "an entry of the list is empty"),
        ("device=", "an entry of the list is empty"),
        ("0,all", "all must stand alone"),
        ("none,0", "none must stand alone"),
        ("0 ,1", "\"0 \" contains ' ', which no device's name has"),
        ("3-1,0", "range 3-1 runs backwards, expected 1-3"),
        (
            "0-4294967295",
            "range 0-4294967295 goes too far, indices end at 1023",
        ),
        (
            "0-99999999999",
            "range 0-99999999999 goes too far, indices end at 1023",
        ),
    ] {
        assert_eq!(parsed(text), reason, "{text}");
    }
    let long = "0,".repeat(40_000);
    assert_eq!(parsed(&long), "80000 bytes, at most 65536 are read");
}

/// By value from the table of NVIDIA's own test of driver capabilities, and
/// where we differ: an unknown word is an error, not dropped.
#[test]
fn driver_capabilities() {
    use Capability::{Compute, Display, Utility, Video};
    let parse = |value: &str| Capabilities::parse(value).map(|set| set.0);
    let set = |words: &[Capability]| Ok(words.iter().copied().collect::<BTreeSet<_>>());
    for (value, expected) in [
        ("", set(&[Utility, Compute])),
        (" , ", set(&[Utility, Compute])),
        ("all", set(&Capability::ALL)),
        ("video,all", set(&Capability::ALL)),
        ("video", set(&[Video])),
        ("video,display", set(&[Video, Display])),
        ("display,video,video", set(&[Video, Display])),
        (" video , display ", set(&[Video, Display])),
        (
            "not-a-capability",
            Err(
                "\"not-a-capability\" is no driver capability, expected all or some of \
                 compute,compat32,graphics,utility,video,display,ngx"
                    .to_owned(),
            ),
        ),
    ] {
        assert_eq!(parse(value), expected, "{value:?}");
    }
}

#[test]
fn every_form_of_sharing() {
    let mps = |change: &dyn Fn(&mut Mps)| {
        let mut wish = Mps::default();
        change(&mut wish);
        Ok(Sharing::Mps(wish))
    };
    let error = |text: &str| Err(text.to_owned());
    for (text, expected) in [
        ("mps", mps(&|_| {})),
        (
            "mps,pipe-dir=/run/mps,log-dir=/var/log/mps,shm-dir=/run/shm",
            mps(&|wish| {
                wish.pipe_dir = "/run/mps".into();
                wish.log_dir = "/var/log/mps".into();
                wish.shm_dir = "/run/shm".into();
            }),
        ),
        (
            "mps,threads=12.5,memory=4G",
            mps(&|wish| {
                wish.threads = Some("12.5".into());
                wish.memory = Some(PinnedMemory::Each(4096));
            }),
        ),
        (
            "mps,memory.0=512M,memory.1=1GiB",
            mps(&|wish| {
                wish.memory = Some(PinnedMemory::PerDevice(BTreeMap::from([
                    (0, 512),
                    (1, 1024),
                ])));
            }),
        ),
        ("time-slice", Ok(Sharing::TimeSlice(TimeSlice::default()))),
        (
            "time-slice,index=3,config=/etc/slices.yaml",
            Ok(Sharing::TimeSlice(TimeSlice {
                index: 3,
                config: Some("/etc/slices.yaml".into()),
            })),
        ),
        (
            "",
            error("\"\" is no way to share, expected mps or time-slice"),
        ),
        (
            "mig",
            error("\"mig\" is no way to share, expected mps or time-slice"),
        ),
        ("mps,threads", error("\"threads\" is not KEY=VALUE")),
        ("mps,threads=", error("threads has no value")),
        (
            "mps,threads=0",
            error("threads \"0\" is no percentage above 0 and up to 100"),
        ),
        (
            "mps,threads=101",
            error("threads \"101\" is no percentage above 0 and up to 100"),
        ),
        (
            "mps,threads=NaN",
            error("threads \"NaN\" is no percentage above 0 and up to 100"),
        ),
        (
            "mps,threads=1e1",
            error("threads \"1e1\" is no percentage above 0 and up to 100"),
        ),
        ("mps,threads=5,threads=6", error("threads is there twice")),
        (
            "mps,memory=4",
            error("memory \"4\" is no size as in 512M or 4G"),
        ),
        (
            "mps,memory=0G",
            error("memory \"0G\" is no size as in 512M or 4G"),
        ),
        (
            "mps,memory=1T",
            error("memory \"1T\" is no size as in 512M or 4G"),
        ),
        (
            "mps,memory=18446744073709551615G",
            error("memory \"18446744073709551615G\" is no size as in 512M or 4G"),
        ),
        (
            "mps,memory=1G,memory.0=1G",
            error("memory and memory.N exclude each other"),
        ),
        (
            "mps,memory.x=1G",
            error("memory.x \"x\" is no number in range"),
        ),
        (
            "mps,pipe-dir=run",
            error("pipe-dir \"run\" is no absolute path without .."),
        ),
        (
            "mps,pipe-dir=/a/../b",
            error("pipe-dir \"/a/../b\" is no absolute path without .."),
        ),
        (
            "mps,pipes=/x",
            error(
                "unknown key \"pipes\", expected pipe-dir, log-dir, shm-dir, threads, memory or memory.N",
            ),
        ),
        (
            "time-slice,index=-1",
            error("index \"-1\" is no number in range"),
        ),
        (
            "time-slice,slot=1",
            error("unknown key \"slot\", expected index or config"),
        ),
    ] {
        assert_eq!(text.parse::<Sharing>(), expected, "{text}");
    }
}

#[test]
fn every_form_of_distribution() {
    let wish = |change: &dyn Fn(&mut Distributed)| {
        let mut wish = Distributed::default();
        change(&mut wish);
        Ok(wish)
    };
    let error = |text: &str| Err(text.to_owned());
    for (text, expected) in [
        ("nccl", wish(&|_| {})),
        ("gloo", wish(&|wish| wish.backend = Backend::Gloo)),
        (
            "mpi,master-addr=node0,master-port=1234,world-size=8,rank=5,local-rank=1,interface=ib0",
            wish(&|wish| {
                wish.backend = Backend::Mpi;
                wish.master_addr = Some("node0".into());
                wish.master_port = 1234;
                wish.world_size = 8;
                wish.rank = 5;
                wish.local_rank = 1;
                wish.interface = "ib0".into();
            }),
        ),
        (
            "ucx",
            error("\"ucx\" is no backend, expected nccl, gloo or mpi"),
        ),
        ("", error("\"\" is no backend, expected nccl, gloo or mpi")),
        ("nccl,rank=1", error("rank 1 is not below world-size 1")),
        (
            "nccl,world-size=0",
            error("world-size 0 leaves nobody, expected 1 or more"),
        ),
        ("nccl,master-port=0", error("master-port 0 is no port")),
        (
            "nccl,master-port=65536",
            error("master-port \"65536\" is no number in range"),
        ),
        (
            "nccl,world-size=4,local-rank=1",
            error("local-rank 1 is above rank 0"),
        ),
        (
            "nccl,port=1",
            error(
                "unknown key \"port\", expected master-addr, master-port, world-size, rank, local-rank or interface",
            ),
        ),
    ] {
        assert_eq!(text.parse::<Distributed>(), expected, "{text}");
    }
}
