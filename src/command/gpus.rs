//! `gpus`: the host's GPUs, whether they can be used, and who holds them.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::output;
use crate::cli::{CdiFormat, Gpus};
use crate::error::Result;
use crate::gpu::inventory::Unit;
use crate::gpu::links::{Link, between};
use crate::gpu::{self, Inventory};
use crate::host::facts::Presence;
use crate::host::gpu::probe;
use crate::lease::{Lease, Mode, Store, keys_of_nodes};

/// Goes up when a program that read the last version could misread this one.
const VERSION: u32 = 1;

/// Lists what can be asked for, and devices that are held without the host's
/// telling of them.
///
/// # Errors
/// A host or a store of leases that cannot be read.
pub(super) fn run(arguments: &Gpus) -> Result<()> {
    let (root, leases) = match &arguments.host_root {
        Some(root) => (root.as_path(), Vec::new()),
        None => (Path::new("/"), Store::default().leases()?),
    };
    let mut snapshot = probe(root, &gpu::needs(None))?;
    snapshot.merge_names(probe(root, &gpu::link_needs(None))?);
    let inventory = Inventory::read(&snapshot);
    let mut rows = Vec::new();
    let mut vendors = inventory.vendors();
    vendors.dedup();
    for vendor in &vendors {
        rows.extend(
            inventory
                .units(vendor)
                .map(|unit| Row::new(&unit, &inventory, &leases)),
        );
    }
    let others: Vec<&Lease> = leases
        .iter()
        .filter(|lease| !rows.iter().any(|row| row.holders.contains(lease)))
        .collect();
    match arguments.format {
        CdiFormat::Text => output::print(&text(&rows, &others)),
        CdiFormat::Json => {
            let mut text = output::indented(&to_json(&rows, &others), "  ")?;
            text.push('\n');
            output::print(&text)
        }
    }
}

/// One device, or a part of one.
struct Row<'l> {
    vendor: String,
    index: String,
    name: String,
    bus: Option<String>,
    numa: Option<u32>,
    model: Option<String>,
    missing: Vec<PathBuf>,
    links: Vec<(String, Link)>,
    holders: Vec<&'l Lease>,
}

impl<'l> Row<'l> {
    fn new(unit: &Unit<'_>, inventory: &Inventory<'_>, leases: &'l [Lease]) -> Self {
        let device = unit.device;
        let snapshot = inventory.snapshot();
        let nodes: Vec<PathBuf> = match unit.part {
            Some(part) => part.nodes.clone(),
            None => device.nodes.iter().chain(&device.dri).cloned().collect(),
        };
        let mut keys = keys_of_nodes(snapshot, &nodes);
        keys.insert(unit.stable_name());
        let is_there = |path: &&PathBuf| matches!(snapshot.file(path), Some(Presence::Present(_)));
        Self {
            vendor: device.vendor.to_string(),
            index: unit.index(),
            name: unit.stable_name(),
            bus: device.bus.clone(),
            numa: device.numa,
            model: device.model.clone(),
            missing: nodes
                .iter()
                .filter(|path| !is_there(path))
                .cloned()
                .collect(),
            links: inventory
                .units(&device.vendor)
                .filter(|other| other != unit)
                .filter_map(|other| Some((other.index(), between(device, other.device)?)))
                .collect(),
            holders: leases.iter().filter(|lease| lease.is_of(&keys)).collect(),
        }
    }

    fn health(&self) -> String {
        match self.missing.as_slice() {
            [] => "ok".to_owned(),
            missing => {
                let paths: Vec<_> = missing.iter().map(|p| p.display().to_string()).collect();
                format!("no {}", paths.join(" "))
            }
        }
    }
}

fn held(leases: &[&Lease]) -> String {
    if leases.is_empty() {
        return "free".to_owned();
    }
    let words: Vec<_> = leases
        .iter()
        .map(|lease| match lease.mode {
            Mode::Exclusive => format!("{} (alone)", lease.container.id),
            Mode::Shared => lease.container.id.clone(),
        })
        .collect();
    words.join(" ")
}

fn text(rows: &[Row<'_>], others: &[&Lease]) -> String {
    if rows.is_empty() && others.is_empty() {
        return "no GPUs; kusabi doctor says what it looked for\n".to_owned();
    }
    let mut table =
        vec![["VENDOR", "INDEX", "NUMA", "HEALTH", "HELD BY", "NAME"].map(str::to_owned)];
    for row in rows {
        let numa = row.numa.map_or("-".to_owned(), |node| node.to_string());
        let mut name = row.name.clone();
        for more in [&row.bus, &row.model].into_iter().flatten() {
            name = format!("{name}  {more}");
        }
        let (vendor, index) = (row.vendor.clone(), row.index.clone());
        table.push([vendor, index, numa, row.health(), held(&row.holders), name]);
    }
    for lease in others {
        let none = || "-".to_owned();
        table.push([
            none(),
            none(),
            none(),
            none(),
            held(&[lease]),
            lease.device.clone(),
        ]);
    }
    let widths: Vec<usize> = (0..6)
        .map(|i| {
            table
                .iter()
                .map(|row| row[i].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    for row in &table {
        let cells: Vec<_> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        out += cells.join("  ").trim_end();
        out.push('\n');
    }
    out
}

fn to_json(rows: &[Row<'_>], others: &[&Lease]) -> Value {
    let lease = |lease: &&Lease| {
        json!({
            "device": lease.device,
            "mode": lease.mode,
            "container": lease.container,
            "owner": lease.owner,
            "stage": lease.stage,
        })
    };
    let link = |(other, link): &(String, Link)| match link {
        Link::Xgmi { hops } => json!({"to": other, "kind": link.to_string(), "hops": hops}),
        _ => json!({"to": other, "kind": link.to_string()}),
    };
    let gpus: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "vendor": row.vendor,
                "index": row.index,
                "name": row.name,
                "bus": row.bus,
                "numa": row.numa,
                "links": row.links.iter().map(link).collect::<Vec<_>>(),
                "model": row.model,
                "missing": row.missing,
                "leases": row.holders.iter().map(lease).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "version": VERSION,
        "gpus": gpus,
        "others": others.iter().map(lease).collect::<Vec<_>>(),
    })
}
