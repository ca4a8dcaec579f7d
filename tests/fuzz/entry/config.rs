//! A configuration and a wish, all the way: read, planned, applied, converted
//! for a plain user, and taken apart again for the cgroup, the device filter and
//! the process. The first byte says which devices are asked for, the rest is the
//! file.

use std::path::{Path, PathBuf};

use kusabi::cdi::{Context, Mode};
use kusabi::cgroup::resources::Resources;
use kusabi::device::policy::Policy as DevicePolicy;
use kusabi::device::program::Program;
use kusabi::document::Document;
use kusabi::edit::{DeviceNode, IdMapping, Plan, apply};
use kusabi::policy::Policy;
use kusabi::request::{Flags, collect};
use kusabi::rootless::{self, Caller, Maps};
use kusabi::runtime::lower::Namespaces;
use kusabi::runtime::process::ProcessSpec;

use super::one_line;

/// Without a plan the same bytes; edits can be applied again and change nothing;
/// every value of the result is read by whoever needs it, or refused in one line.
pub fn run(data: &[u8]) {
    let Some((&wish, file)) = data.split_first() else {
        return;
    };
    let document = match Document::parse(file) {
        Ok(document) => document,
        Err(error) => return one_line(error),
    };
    match apply(&document, &Plan::default()) {
        Ok(same) => assert_eq!(same.as_bytes(), file, "no plan, but other bytes"),
        Err(error) => one_line(error),
    }
    let mut flags = Flags::default();
    let names = ["vendor.com/gpu=0", "vendor.com/gpu=1", "vendor.com/gpu=all"];
    for (bit, name) in names.into_iter().enumerate() {
        if wish & (1 << bit) != 0 {
            flags.devices.push(name.to_owned());
        }
    }
    let effective = match edited(&document, &flags) {
        Ok(effective) => effective,
        Err(text) => return one_line(text),
    };
    lowered(&effective);
    match converted(&effective) {
        Ok(converted) => lowered(&converted),
        Err(text) => one_line(text),
    }
}

/// After the edits of what the document and the flags ask for.
fn edited(document: &Document, flags: &Flags) -> Result<Document, String> {
    let requests = collect(document, flags, &Policy::default()).map_err(|e| e.to_string())?;
    let registry = super::registry();
    let wanted = requests.decide().map_err(|e| e.to_string())?.devices;
    let user = document.process_user().map_err(|e| e.to_string())?;
    let context = Context {
        uid: user.uid,
        gid: user.gid,
        idmap_mounts: false,
        mode: Mode::Explain,
    };
    let plan = registry
        .resolve(&wanted)
        .and_then(|resolution| resolution.plan(&super::host(), &context))
        .map_err(|e| e.to_string())?;
    applied(document, &plan)
}

/// Without what a plain user cannot have.
fn converted(document: &Document) -> Result<Document, String> {
    let caller = Caller {
        uid: 1000,
        gid: 1000,
        in_user_namespace: false,
    };
    if !rootless::applies(document, &caller).map_err(|e| e.to_string())? {
        return Ok(document.clone());
    }
    let map = |host_id| {
        vec![IdMapping {
            container_id: 0,
            host_id,
            size: 1,
        }]
    };
    let maps = Maps {
        uid: map(1000),
        gid: map(1000),
    };
    let devices: Vec<(DeviceNode, Vec<PathBuf>)> = rootless::devices(document, &[])
        .map_err(|e| e.to_string())?
        .into_iter()
        .map(|device| (device, super::host().files.into_keys().collect()))
        .collect();
    let facts = super::host();
    let situation = rootless::Situation {
        caller: &caller,
        maps: &maps,
        devices: &devices,
        facts: &facts,
    };
    let plan = rootless::plan(document, &situation).map_err(|e| e.to_string())?;
    applied(document, &plan)
}

fn applied(document: &Document, plan: &Plan) -> Result<Document, String> {
    let once = apply(document, plan).map_err(|e| e.to_string())?;
    let twice = apply(&once, plan).expect("what could be applied can be applied again");
    assert_eq!(once.as_bytes(), twice.as_bytes(), "twice is not once");
    let read = Document::parse(once.as_bytes()).expect("the result can be read");
    assert_eq!(read.value(), once.value());
    Ok(once)
}

fn lowered(document: &Document) {
    let value = document.value();
    if let Err(error) = ProcessSpec::parse(&value["process"], "config.json: process") {
        one_line(error);
    }
    if let Err(error) = Resources::parse(&value["linux"]["resources"]) {
        one_line(error);
    }
    match document.namespaces().map(Namespaces::new) {
        Ok(Err(error)) => one_line(error),
        Err(error) => one_line(error),
        Ok(Ok(_)) => {}
    }
    let (Ok(rules), Ok(devices)) = (document.device_rules(), document.devices()) else {
        return;
    };
    let declared: Vec<&Path> = devices.iter().map(|d| d.path.as_path()).collect();
    match DevicePolicy::for_container(&rules, &declared) {
        Ok(policy) => assert!(!Program::compile(&policy).instructions().is_empty()),
        Err(error) => one_line(error),
    }
}
