//! `hooks`: appended, never twice, or removed by their program.

use std::path::Path;

use serde_json::{Map, Value};

use super::process::string_list;
use super::{Outcome, refuse};
use crate::document::hooks_of;
use crate::edit::path::{no_nul, text};
use crate::edit::slot::Slot;
use crate::edit::{EditError, Hook, HookStage};

pub(super) fn add(root: &mut Value, stage: HookStage, hook: &Hook) -> Result<Outcome, EditError> {
    let value = to_json(stage, hook)?;
    if hooks_of(root, stage)?.contains(hook) {
        return Ok(Outcome::Unchanged);
    }
    Slot::at(root, &["hooks", stage.key()])?
        .array()?
        .push(value);
    Ok(Outcome::Changed)
}

pub(super) fn remove(
    root: &mut Value,
    stage: HookStage,
    path: &Path,
) -> Result<Outcome, EditError> {
    let hooks = hooks_of(root, stage)?;
    if hooks.iter().all(|hook| hook.path != path) {
        return Ok(Outcome::Unchanged);
    }
    let mut goes = hooks.iter().map(|hook| hook.path == path);
    Slot::at(root, &["hooks", stage.key()])?
        .array()?
        .retain(|_| !goes.next().unwrap_or(false));
    Ok(Outcome::Changed)
}

fn to_json(stage: HookStage, hook: &Hook) -> Result<Value, EditError> {
    let field = format!("hooks.{}", stage.key());
    let path = text(&hook.path, &field)?;
    // OCI: "path (string, REQUIRED) ... MUST be an absolute path".
    if !path.starts_with('/') {
        return Err(refuse(
            &field,
            format!("hook path {path:?} is not absolute"),
        ));
    }
    for word in hook.args.iter().chain(&hook.env) {
        no_nul(word, &field)?;
    }
    let mut map = Map::new();
    map.insert("path".to_owned(), path.into());
    if let Some(args) = string_list(&hook.args) {
        map.insert("args".to_owned(), args);
    }
    if let Some(env) = string_list(&hook.env) {
        map.insert("env".to_owned(), env);
    }
    match hook.timeout {
        None => {}
        Some(0) => {
            return Err(refuse(
                &field,
                "a timeout of 0 seconds would end the hook at once",
            ));
        }
        Some(seconds) => {
            map.insert("timeout".to_owned(), seconds.into());
        }
    }
    Ok(Value::Object(map))
}
