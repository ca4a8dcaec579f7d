//! What a group has and uses, in the shape of runc's `events --stats`.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Group, has};
use crate::error::{Error, Result};

/// Counters of `mon_features`, by the list they are shown in.
const MONITORED: [(&str, &[&str]); 2] = [
    ("mbm_stats", &["mbm_total_bytes", "mbm_local_bytes"]),
    ("cmt_stats", &["llc_occupancy"]),
];

impl Group {
    /// The object `intel_rdt` of a container's statistics.
    ///
    /// # Errors
    /// A file of resctrl that cannot be read.
    pub fn stats(&self) -> Result<Map<String, Value>> {
        let mut stats = Map::new();
        let of_root = text(&self.root.join("schemata"))?;
        let own = text(&self.path.join("schemata"))?;
        let info = self.root.join("info");
        if has(&self.root, "L3") {
            let directory = info.join("L3");
            let mut values = numbers(&directory, &["min_cbm_bits", "num_closids"])?;
            let mask = text(&directory.join("cbm_mask"))?;
            values.insert("cbm_mask".into(), mask.into());
            stats.insert("l3_cache_info".into(), values.into());
            put_line(&mut stats, "l3_cache_schema_root", &of_root, "L3");
            put_line(&mut stats, "l3_cache_schema", &own, "L3");
        }
        if has(&self.root, "MB") {
            let files = [
                "bandwidth_gran",
                "delay_linear",
                "min_bandwidth",
                "num_closids",
            ];
            let values = numbers(&info.join("MB"), &files)?;
            stats.insert("mem_bw_info".into(), values.into());
            put_line(&mut stats, "mem_bw_schema_root", &of_root, "MB");
            put_line(&mut stats, "mem_bw_schema", &own, "MB");
        }
        stats.insert("schemata".into(), json!(own.lines().collect::<Vec<_>>()));
        if has(&self.root, "L3_MON") {
            self.monitor(&mut stats)?;
        }
        Ok(stats)
    }

    /// Without a monitoring group of the container's own these are the numbers
    /// of everybody in the group, as with runc.
    fn monitor(&self, stats: &mut Map<String, Value>) -> Result<()> {
        let features = text(&self.root.join("info/L3_MON/mon_features"))?;
        let data = self
            .monitoring
            .as_ref()
            .unwrap_or(&self.path)
            .join("mon_data");
        let listed = fs::read_dir(&data).map_err(|e| Error::io("open", &data, e))?;
        let mut domains: Vec<_> = listed
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.is_dir())
            .collect();
        domains.sort();
        for (list, counters) in MONITORED {
            if !counters.iter().any(|c| features.lines().any(|f| f == *c)) {
                continue;
            }
            let mut entries = Vec::new();
            for domain in &domains {
                let mut entry = Map::new();
                for counter in counters {
                    let known = features.lines().any(|f| f == *counter);
                    let value = if known {
                        number(&domain.join(counter))?
                    } else {
                        0
                    };
                    entry.insert((*counter).to_owned(), value.into());
                }
                entries.push(Value::Object(entry));
            }
            stats.insert(list.to_owned(), entries.into());
        }
        Ok(())
    }
}

fn text(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).map_err(|e| Error::io("open", path, e))?;
    Ok(text.trim().to_owned())
}

fn number(path: &Path) -> Result<u64> {
    let text = text(path)?;
    text.parse()
        .map_err(|_| Error::Usage(format!("{}: {text:?} is not a number", path.display())))
}

/// Files of one number each, without those that are zero, as runc writes them.
fn numbers(directory: &Path, files: &[&str]) -> Result<Map<String, Value>> {
    let mut values = Map::new();
    for file in files {
        let value = number(&directory.join(file))?;
        if value != 0 {
            values.insert((*file).to_owned(), value.into());
        }
    }
    Ok(values)
}

/// The last line about a resource, if there is one.
fn put_line(stats: &mut Map<String, Value>, key: &str, schemata: &str, resource: &str) {
    if let Some(line) = schemata.lines().rfind(|line| line.contains(resource)) {
        stats.insert(key.to_owned(), line.trim().into());
    }
}
