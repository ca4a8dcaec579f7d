//! Environment, supplementary groups, annotations.

use serde_json::Value;

use super::{Outcome, refuse};
use crate::document::{Field, strings};
use crate::edit::EditError;
use crate::edit::path::no_nul;
use crate::edit::slot::Slot;

const ENV: [&str; 2] = ["process", "env"];
const GIDS: [&str; 3] = ["process", "user", "additionalGids"];

pub(super) fn set_env(root: &mut Value, name: &str, value: &str) -> Result<Outcome, EditError> {
    let entry = entry(name, value)?;
    let present = positions(root, name)?;
    let list = Slot::at(root, &ENV)?.array()?;
    let Some((first, rest)) = present.split_first() else {
        list.push(Value::String(entry));
        return Ok(Outcome::Changed);
    };
    let entry = Value::String(entry);
    let changed = !rest.is_empty() || list.get(*first) != Some(&entry);
    for position in rest.iter().rev() {
        list.remove(*position);
    }
    if let Some(slot) = list.get_mut(*first) {
        *slot = entry;
    }
    Ok(Outcome::changed_if(changed))
}

pub(super) fn default_env(root: &mut Value, name: &str, value: &str) -> Result<Outcome, EditError> {
    let entry = entry(name, value)?;
    if !positions(root, name)?.is_empty() {
        return Ok(Outcome::Unchanged);
    }
    Slot::at(root, &ENV)?.array()?.push(Value::String(entry));
    Ok(Outcome::Changed)
}

fn entry(name: &str, value: &str) -> Result<String, EditError> {
    if name.is_empty() || name.contains('=') {
        return Err(refuse(
            "process.env",
            format!("{name:?} is no variable name: it is empty or contains ="),
        ));
    }
    no_nul(name, "process.env")?;
    no_nul(value, "process.env")?;
    Ok(format!("{name}={value}"))
}

/// Where the variable stands in `process.env`.
fn positions(root: &Value, name: &str) -> Result<Vec<usize>, EditError> {
    let mut positions = Vec::new();
    for (index, item) in Field::root(root).items_of(&ENV)?.iter().enumerate() {
        if item.string()?.split('=').next() == Some(name) {
            positions.push(index);
        }
    }
    Ok(positions)
}

pub(super) fn add_gid(root: &mut Value, gid: u32) -> Result<Outcome, EditError> {
    // Every process has its own group; 0 in a list of groups to add is what a
    // specification says that does not know better (CDI reference).
    if gid == 0 {
        return Ok(Outcome::Unchanged);
    }
    for item in Field::root(root).items_of(&GIDS)? {
        if item.unsigned()? == gid {
            return Ok(Outcome::Unchanged);
        }
    }
    Slot::at(root, &GIDS)?.array()?.push(Value::from(gid));
    Ok(Outcome::Changed)
}

pub(super) fn remove_annotation(root: &mut Value, key: &str) -> Result<Outcome, EditError> {
    match root.get_mut("annotations") {
        None | Some(Value::Null) => Ok(Outcome::Unchanged),
        Some(_) => {
            let annotations = Slot::at(root, &["annotations"])?.object()?;
            // `remove` would move the last key into the gap.
            Ok(Outcome::changed_if(annotations.shift_remove(key).is_some()))
        }
    }
}

/// A list as JSON; `None` where Go's `omitempty` leaves it out.
pub(super) fn string_list(list: &[String]) -> Option<Value> {
    (!list.is_empty()).then(|| list.iter().cloned().map(Value::String).collect())
}

/// The options of a mount, read with errors that name it.
pub(super) fn options(entry: &Value, path: String) -> Result<Vec<String>, EditError> {
    Ok(strings(&Field::at(entry, path), "options")?)
}
