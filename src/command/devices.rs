//! `devices` and `heal`: what a running container may use and sees, giving it a
//! device, taking one back, and repairing what has drifted.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::context::Context;
use super::explain;
use super::output;
use crate::cdi::Mode;
use crate::cli::{Action, DevicesOf, Heal, TableFormat};
use crate::document::Document;
use crate::edit::{self, Edit, Explanation, Ledger, Plan, PlannedEdit, Source};
use crate::error::{Error, Result};
use crate::lease::{self, Container};
use crate::request::{self, Flags, Requests};
use crate::resolve::picker::{Holder, Picker};
use crate::resolve::{self, Situation};
use crate::runtime::RuntimeError;
use crate::runtime::injected::Injected;
use crate::runtime::live::change::{Change, Held, carry_out, heal as heal_one};
use crate::runtime::live::{Report, report};
use crate::runtime::start::effective;
use crate::runtime::state::{State, Status, Store};

/// `devices`.
///
/// # Errors
/// The container does not run; a device cannot be found, given or taken back, and
/// everything is then as it was.
pub fn run(context: &Context<'_>, arguments: &DevicesOf) -> Result<()> {
    let store = Store::new(context.root.path.clone());
    let id = arguments.id.as_str();
    let locked = store.lock(id)?;
    let state = locked.read()?;
    let old = effective(&locked)?;
    alive(&state)?;
    let Some(action) = arguments.action else {
        let report = report(&state, &old)?;
        return output::print(&match arguments.format {
            TableFormat::Json => json(&report)?,
            TableFormat::Table => table(&report),
        });
    };
    let asked = Asked::new(context, arguments, &state, &old)?;
    let Outcome {
        plan,
        told,
        injected,
        ledger,
        held: given_back,
    } = match action {
        Action::Add => asked.add()?,
        Action::Remove => asked.remove()?,
    };
    let mut text = String::new();
    for planned in &plan.edits {
        let sign = if planned.edit.removes() { '-' } else { '+' };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{sign} {} {}", planned.edit.field(), planned.edit);
    }
    for line in &told {
        let _ = writeln!(text, "! {line}");
    }
    if arguments.dry_run {
        return output::print(&text);
    }
    let applied = edit::apply_traced(&old, &plan)?;
    let container = Container {
        id: id.to_owned(),
        root: context.root.path.clone(),
    };
    let reserved = match action {
        Action::Add => {
            Picker::new(Holder::Container(container), Path::new("/")).finish(&plan, &[])?
        }
        Action::Remove => None,
    };
    carry_out(Change {
        locked: &locked,
        state: &state,
        old: &old,
        new: &applied.document,
        injected,
        held: match &reserved {
            Some(reservation) => Held::More(reservation),
            None => given_back,
        },
    })?;
    // The change is made, and stays whatever becomes of its explanation.
    let remembered = explain::remember(
        locked.path(),
        &Explanation {
            original: &old,
            plan: &plan,
            applied: &applied,
            decisions: ledger.decisions(),
        },
    );
    if let Err(error) = remembered {
        tracing::warn!("the change is not in the plan that is kept: {error}");
    }
    output::print(&text)
}

/// `heal`.
///
/// # Errors
/// The first container that cannot be repaired, after all others have been.
pub fn heal(context: &Context<'_>, arguments: &Heal) -> Result<()> {
    let store = Store::new(context.root.path.clone());
    let ids = match &arguments.id {
        Some(id) => vec![id.as_str().to_owned()],
        None => store.ids()?,
    };
    let mut failed = None;
    for id in ids {
        let locked = match store.lock(&id) {
            // Deleted meanwhile.
            Err(Error::Runtime(RuntimeError::NotExist)) if arguments.all => continue,
            locked => locked?,
        };
        let running = alive(&locked.read()?);
        if arguments.all && running.is_err() {
            continue;
        }
        match running.and_then(|()| heal_one(&locked)) {
            Ok(done) => {
                for line in done {
                    output::print(&format!("{id}: {line}\n"))?;
                }
            }
            Err(error) if arguments.all => {
                tracing::warn!("{id}: {error}");
                failed.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    failed.map_or(Ok(()), Err)
}

fn alive(state: &State) -> Result<()> {
    match state.status() {
        Status::Created | Status::Running | Status::Paused => Ok(()),
        Status::Creating | Status::Stopped => Err(RuntimeError::NotRunning.into()),
    }
}

/// Devices by name, and what they come to now.
struct Asked<'a> {
    context: &'a Context<'a>,
    names: Vec<String>,
    dirs: Vec<PathBuf>,
    state: &'a State,
    old: &'a Document,
}

/// What devices come to.
struct Outcome {
    plan: Plan,
    /// What cannot be done.
    told: Vec<String>,
    /// The record afterwards.
    injected: Injected,
    /// What becomes of its leases.
    held: Held<'static>,
    /// Who asked.
    ledger: Ledger,
}

impl<'a> Asked<'a> {
    fn new(
        context: &'a Context<'a>,
        arguments: &DevicesOf,
        state: &'a State,
        old: &'a Document,
    ) -> Result<Self> {
        // As at create, so that what was found then is found now.
        let dirs = match arguments.cdi_dirs.is_empty() {
            true => state.injected.cdi_dirs.clone(),
            false => arguments.cdi_dirs.clone(),
        };
        Ok(Self {
            context,
            names: arguments
                .devices
                .iter()
                .flat_map(|list| list.split(','))
                .map(str::to_owned)
                .collect(),
            dirs,
            state,
            old,
        })
    }

    fn plan_of(&self, names: &[String]) -> Result<(Plan, Ledger)> {
        if names.is_empty() {
            return Ok((Plan::default(), Ledger::default()));
        }
        let flags = Flags {
            devices: names.to_vec(),
            ..Flags::default()
        };
        let policy = self.context.policy()?;
        let mut devices = request::collect(&Document::parse(b"{}")?, &flags, policy)?.devices;
        // What the policy gives every container is not asked for here.
        devices.retain(|request| matches!(request.source, Source::Flag { .. }));
        let requests = Requests {
            devices,
            ..Requests::default()
        };
        let situation = Situation {
            document: self.old,
            cdi_dirs: &self.dirs,
            mode: Mode::Create,
            policy,
            id: Some(&self.state.id),
            host: Path::new("/"),
        };
        // What is asked for by name is not picked.
        let mut picker = Picker::new(Holder::Nobody, situation.host);
        let mut ledger = Ledger::default();
        let plan = resolve::plan(&requests, &situation, &mut picker, &mut ledger);
        Ok((plan?.0, ledger))
    }

    fn add(&self) -> Result<Outcome> {
        let (all, ledger) = self.plan_of(&self.names)?;
        let mut injected = self.state.injected.clone();
        injected.add(&all, &self.dirs);
        let mut plan = Plan::default();
        let mut told = Vec::new();
        for PlannedEdit { edit, origin } in all.edits {
            match &edit {
                Edit::AddDevice(_) | Edit::AllowDevice(_) | Edit::AddMount(_) => {}
                Edit::SetEnv { name, .. } | Edit::DefaultEnv { name, .. } => told.push(format!(
                    "environment {name}: not changed in processes that run; those that exec starts get it"
                )),
                Edit::AddGid(gid) => told.push(format!(
                    "group {gid}: not given to processes that run; those that exec starts get it"
                )),
                other => {
                    told.push(format!(
                        "{} {other}: not done in a container that runs",
                        other.field()
                    ));
                    continue;
                }
            }
            plan.push(edit, origin);
        }
        Ok(Outcome {
            plan,
            told,
            injected,
            held: Held::Same,
            ledger,
        })
    }

    fn remove(&self) -> Result<Outcome> {
        let mut injected = self.state.injected.clone();
        for name in &self.names {
            if !injected.names.contains(name) {
                let has = match injected.names.as_slice() {
                    [] => "none".to_owned(),
                    names => names.join(", "),
                };
                return Err(Error::Usage(format!(
                    "{name}: was not given to container {}, which has by name: {has}",
                    self.state.id
                )));
            }
        }
        injected.names.retain(|name| !self.names.contains(name));
        // What another device of the container needs as well stays.
        let kept = self.plan_of(&injected.names)?.0;
        let (all, keys) = (self.plan_of(&self.names)?.0, |plan: &Plan| {
            let leases = lease::of_plan(plan);
            leases.into_iter().flat_map(|wanted| wanted.keys).collect()
        });
        let given_back = Held::Less(keys(&all), keys(&kept));
        let kept: Vec<Edit> = kept.edits.into_iter().map(|p| p.edit).collect();
        let mut plan = Plan::default();
        let mut told = Vec::new();
        for PlannedEdit { edit, origin } in all.edits {
            let taken = match &edit {
                Edit::AddDevice(node) => {
                    let same = |k: &Edit| matches!(k, Edit::AddDevice(o) if o.path == node.path);
                    if kept.iter().any(same) {
                        continue;
                    }
                    injected.host_paths.retain(|(path, _)| *path != node.path);
                    Edit::RemoveDevice {
                        path: node.path.clone(),
                    }
                }
                Edit::AllowDevice(rule) => {
                    let numbers = |r: &edit::DeviceRule| (r.kind, r.major, r.minor);
                    let same =
                        |k: &Edit| matches!(k, Edit::AllowDevice(o) if numbers(o) == numbers(rule));
                    if kept.iter().any(same) {
                        continue;
                    }
                    Edit::RevokeDevice(rule.clone())
                }
                Edit::AddMount(mount) => {
                    let at = &mount.destination;
                    let same = |k: &Edit| matches!(k, Edit::AddMount(o) if o.destination == *at);
                    if kept.iter().any(same) {
                        continue;
                    }
                    Edit::RemoveMount {
                        destination: at.clone(),
                    }
                }
                Edit::SetEnv { name, .. } | Edit::DefaultEnv { name, .. } => {
                    told.push(format!("environment {name}: stays as it is"));
                    continue;
                }
                _ => continue,
            };
            plan.push(taken, origin);
        }
        told.push("processes that have a device open keep it until they close it".to_owned());
        Ok(Outcome {
            plan,
            told,
            injected,
            held: given_back,
            ledger: Ledger::default(),
        })
    }
}

fn json(report: &Report) -> Result<String> {
    let value = serde_json::to_value(report)
        .map_err(|e| RuntimeError::Refused(format!("write the report: {e}")))?;
    Ok(format!("{value}\n"))
}

fn table(report: &Report) -> String {
    let mut text = String::new();
    if let Some(filter) = &report.filter {
        let state = if filter.in_force {
            "in force"
        } else {
            "NOT in force"
        };
        let _ = writeln!(text, "filter: {state}");
        if let Some(remark) = &filter.remark {
            let _ = writeln!(text, "  ({remark})");
        }
        for rule in &filter.rules {
            let _ = writeln!(text, "  {rule}");
        }
    } else {
        text.push_str("filter: none\n");
    }
    if !report.requested.is_empty() {
        let _ = writeln!(text, "given by name: {}", report.requested.join(", "));
    }
    let titles = ["NODE", "RECORDED", "HOST", "CONTAINER", "ALLOWED"];
    let mut rows = vec![titles.map(str::to_owned)];
    for node in &report.devices {
        rows.push([
            node.path.clone(),
            node.recorded.clone(),
            node.host.clone(),
            node.container.clone(),
            match node.allowed.as_str() {
                "" => "-".to_owned(),
                letters => letters.to_owned(),
            },
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    for row in &rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    for node in &report.devices {
        for drift in &node.drift {
            let _ = writeln!(text, "drift: {}: {drift}", node.path);
        }
    }
    text
}
