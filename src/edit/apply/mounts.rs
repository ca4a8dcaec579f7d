//! `mounts`: replaced by destination, then sorted by depth, so that what is
//! mounted below another mount comes after it.

use std::path::Path;

use serde_json::{Map, Value};

use super::process::{options, string_list};
use super::{Outcome, refuse};
use crate::document::{Field, mount};
use crate::edit::path::{clean, container_key, container_path, depth, no_nul, text};
use crate::edit::slot::Slot;
use crate::edit::{EditError, Mount};

/// The mounts while a plan is applied. A removed one keeps its place until the
/// end: a later edit of the same plan that adds it again puts it there, which
/// makes applying the plan twice the same as once.
#[derive(Default)]
pub(super) struct Mounts {
    entries: Option<Vec<Entry>>,
    sort: bool,
}

struct Entry {
    /// The destination, in its one spelling.
    key: String,
    /// Where it stands in the document, for errors.
    path: String,
    /// `None` is removed.
    value: Option<Value>,
}

impl Mounts {
    pub(super) fn add(&mut self, root: &Value, new: &Mount) -> Result<Outcome, EditError> {
        let destination = container_path(&new.destination, "mounts")?;
        let key = container_key(destination);
        let value = to_json(new, destination)?;
        self.sort = true;
        let entries = self.load(root)?;
        let mut present = entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.key == key)
            .map(|(index, _)| index);
        let Some(first) = present.next() else {
            let path = format!("mounts[{}]", entries.len());
            let value = Some(value);
            entries.push(Entry { key, path, value });
            return Ok(Outcome::Changed);
        };
        let rest: Vec<usize> = present.collect();
        let mut changed = false;
        for index in rest {
            if let Some(entry) = entries.get_mut(index) {
                changed |= entry.value.take().is_some();
            }
        }
        if let Some(entry) = entries.get_mut(first) {
            let same = match &entry.value {
                Some(old) => same(old, &entry.path, new)?,
                None => false,
            };
            if !same {
                entry.value = Some(value);
                changed = true;
            }
        }
        Ok(Outcome::changed_if(changed))
    }

    pub(super) fn remove(
        &mut self,
        root: &Value,
        destination: &Path,
    ) -> Result<Outcome, EditError> {
        let key = container_key(text(destination, "mounts")?);
        let mut changed = false;
        for entry in self.load(root)?.iter_mut().filter(|entry| entry.key == key) {
            changed |= entry.value.take().is_some();
        }
        Ok(Outcome::changed_if(changed))
    }

    pub(super) fn remove_option(
        &mut self,
        root: &Value,
        destination: &Path,
        option: &str,
    ) -> Result<Outcome, EditError> {
        let key = container_key(text(destination, "mounts")?);
        let mut changed = false;
        for entry in self.load(root)?.iter_mut().filter(|entry| entry.key == key) {
            let Some(value) = &mut entry.value else {
                continue;
            };
            if !options(value, entry.path.clone())?
                .iter()
                .any(|old| old == option)
            {
                continue;
            }
            if let Some(list) = value.get_mut("options").and_then(Value::as_array_mut) {
                list.retain(|old| old.as_str() != Some(option));
                changed = true;
            }
        }
        Ok(Outcome::changed_if(changed))
    }

    /// Writes the mounts back, if an edit named any.
    pub(super) fn finish(self, root: &mut Value) -> Result<(), EditError> {
        let Some(entries) = self.entries else {
            return Ok(());
        };
        let mut list: Vec<Value> = entries
            .into_iter()
            .filter_map(|entry| entry.value)
            .collect();
        if self.sort {
            // Stable: mounts of equal depth keep their order.
            list.sort_by_key(|mount| depth(mount["destination"].as_str().unwrap_or_default()));
        }
        let absent = root.get("mounts").is_none_or(Value::is_null);
        if !(absent && list.is_empty()) {
            Slot::at(root, &["mounts"])?.set(Value::Array(list));
        }
        Ok(())
    }

    fn load(&mut self, root: &Value) -> Result<&mut Vec<Entry>, EditError> {
        if self.entries.is_none() {
            let mut entries = Vec::new();
            for (index, item) in Field::root(root).items_of(&["mounts"])?.iter().enumerate() {
                let destination = item
                    .string_of("destination")?
                    .ok_or_else(|| item.missing("destination"))?;
                entries.push(Entry {
                    key: container_key(destination),
                    path: item.path().to_owned(),
                    value: root["mounts"].get(index).cloned(),
                });
            }
            self.entries = Some(entries);
        }
        Ok(self.entries.get_or_insert_default())
    }
}

/// Whether the document's entry is the mount that an edit would add.
fn same(old: &Value, path: &str, new: &Mount) -> Result<bool, EditError> {
    let mut old = mount(&Field::at(old, path.to_owned()))?;
    // Only asked of one destination; its spelling does not count.
    old.destination.clone_from(&new.destination);
    Ok(old == *new)
}

fn to_json(new: &Mount, destination: &str) -> Result<Value, EditError> {
    if clean(destination) == "/" {
        return Err(refuse("mounts", "an edit must not mount over the root"));
    }
    let mut map = Map::new();
    map.insert("destination".to_owned(), destination.into());
    if let Some(kind) = &new.kind {
        no_nul(kind, "mounts")?;
        map.insert("type".to_owned(), kind.as_str().into());
    }
    if let Some(source) = &new.source {
        map.insert("source".to_owned(), text(source, "mounts")?.into());
    }
    for option in &new.options {
        no_nul(option, "mounts")?;
    }
    if let Some(options) = string_list(&new.options) {
        map.insert("options".to_owned(), options);
    }
    Ok(Value::Object(map))
}
