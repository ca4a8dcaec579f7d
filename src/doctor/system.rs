//! cgroups, user namespaces, the policy and the leases.

use super::{Finding, Patterns, Survey};
use crate::host::facts::Presence;

pub(super) const NEEDS: Patterns = (
    &[
        "/sys/fs/cgroup/cgroup.controllers",
        "/proc/sys/user/max_user_namespaces",
        "/proc/sys/kernel/unprivileged_userns_clone",
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "/etc/subuid",
        "/etc/subgid",
    ],
    &["/sys/fs/cgroup"],
    &["/usr/bin/newuidmap", "/usr/bin/newgidmap"],
);

const CGROUPS: &str = "cgroups";
const USERS: &str = "user namespaces";
const POLICY: &str = "policy";
const LEASES: &str = "leases";

pub(super) fn examine(survey: &Survey<'_>) -> Vec<Finding> {
    let mut findings = cgroups(survey);
    findings.extend(user_namespaces(survey));
    findings.extend(policy(survey));
    findings.extend(leases(survey));
    findings
}

fn cgroups(survey: &Survey<'_>) -> Vec<Finding> {
    const ROOT: &str = "/sys/fs/cgroup";
    let names = survey.snapshot.names(ROOT);
    let has = |name: &str| names.iter().any(|other| other == name);
    if let Some(controllers) = survey.snapshot.text("/sys/fs/cgroup/cgroup.controllers") {
        let missing: Vec<&str> = ["cpu", "memory", "pids"]
            .into_iter()
            .filter(|wanted| !controllers.split_whitespace().any(|one| one == *wanted))
            .collect();
        if missing.is_empty() {
            return vec![Finding::fine(
                CGROUPS,
                "version 2, device rules as eBPF programs",
            )];
        }
        return vec![Finding::note(
            CGROUPS,
            format!(
                "version 2 without {}: such limits cannot be set",
                missing.join(", ")
            ),
            "free the controllers from version 1 (systemd.unified_cgroup_hierarchy=1 on the kernel's command line), or leave the limits out",
        )];
    }
    if has("devices") {
        let text = match has("unified") {
            true => "hybrid: version 1 with a version 2 tree beside it",
            false => "version 1",
        };
        return vec![Finding::fine(CGROUPS, text)];
    }
    if survey.machine.caller.is_none() && names.is_empty() {
        // A recorded host that does not tell.
        return Vec::new();
    }
    vec![Finding::problem(
        CGROUPS,
        "/sys/fs/cgroup has neither version 2 nor the devices controller of version 1: device rules cannot be enforced",
        "mount -t cgroup2 cgroup2 /sys/fs/cgroup",
    )]
}

fn user_namespaces(survey: &Survey<'_>) -> Vec<Finding> {
    let snapshot = survey.snapshot;
    let mut findings = Vec::new();
    let sysctl = |path: &str| snapshot.text(format!("/proc/sys/{path}"));
    if sysctl("user/max_user_namespaces") == Some("0") {
        findings.push(Finding::problem(
            USERS,
            "none may be made: no container without privilege, none with mapped users",
            "sysctl -w user.max_user_namespaces=15000",
        ));
    }
    if sysctl("kernel/unprivileged_userns_clone") == Some("0") {
        findings.push(Finding::note(
            USERS,
            "only root may make them: no container without privilege",
            "sysctl -w kernel.unprivileged_userns_clone=1",
        ));
    }
    if sysctl("kernel/apparmor_restrict_unprivileged_userns") == Some("1") {
        findings.push(Finding::note(
            USERS,
            "AppArmor takes the capabilities from those that callers without privilege make",
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give kusabi a profile with userns",
        ));
    }
    if let Some((name, false)) = &survey.machine.caller {
        for file in ["/etc/subuid", "/etc/subgid"] {
            let text = snapshot.text(file).unwrap_or_default();
            if !text
                .lines()
                .any(|line| line.split(':').next() == Some(name))
            {
                findings.push(Finding::note(
                    USERS,
                    format!("{file} has no range for {name}: containers have one user"),
                    format!(
                        "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}"
                    ),
                ));
            }
        }
        for tool in ["/usr/bin/newuidmap", "/usr/bin/newgidmap"] {
            match snapshot.file(tool) {
                Some(Presence::Present(_)) => {}
                _ => findings.push(Finding::note(
                    USERS,
                    format!("{tool} is not there: ranges cannot be mapped"),
                    "install uidmap (shadow-utils)",
                )),
            }
        }
    }
    if findings.is_empty() && sysctl("user/max_user_namespaces").is_some() {
        findings.push(Finding::fine(USERS, "may be made"));
    }
    findings
}

fn policy(survey: &Survey<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &survey.machine.policy {
        None => return findings,
        Some(Ok(file)) if file.as_os_str().is_empty() => {
            findings.push(Finding::fine(POLICY, "no file, the defaults hold"));
        }
        Some(Ok(file)) => findings.push(Finding::fine(POLICY, format!("{} holds", file.display()))),
        Some(Err(error)) => {
            findings.push(Finding::problem(
                POLICY,
                error.clone(),
                "kusabi config check names every mistake",
            ));
            return findings;
        }
    }
    if !survey.machine.images_may_ask {
        findings.push(Finding::note(
            POLICY,
            "NVIDIA_VISIBLE_DEVICES of an image counts only for containers with CAP_SYS_ADMIN; NVIDIA's own runtime lets every image ask",
            "sources.environment = \"allow\" in the policy, where that is wanted",
        ));
    }
    findings
}

fn leases(survey: &Survey<'_>) -> Vec<Finding> {
    match &survey.machine.leases {
        None => Vec::new(),
        Some(Err(error)) => vec![Finding::problem(
            LEASES,
            error.clone(),
            "stop the containers that have GPUs, then remove /run/kusabi-leases",
        )],
        Some(Ok(leases)) if leases.is_empty() => vec![Finding::fine(LEASES, "no GPU is held")],
        Some(Ok(leases)) => vec![Finding::fine(LEASES, leases.join(", "))],
    }
}
