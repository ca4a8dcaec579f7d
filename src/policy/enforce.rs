//! The policy's hand on a plan: hooks that may not run.

use super::{HookVerdict, Hooks, Policy, PolicyError, VendorHook};
use crate::edit::{Edit, Hook, HookStage, Note, Origin, Plan, PlannedEdit, Rule, Source};

impl Policy {
    /// Takes hooks out of a plan, or refuses it: those of CDI files that are not
    /// on the list, and, where the plan injects NVIDIA's devices, the prestart
    /// hook that would do so a second time. `existing` are the hooks of
    /// `config.json`.
    ///
    /// # Errors
    /// [`PolicyError::Denied`], naming the hook and the rule.
    pub fn enforce_hooks(
        &self,
        plan: &mut Plan,
        existing: &[(HookStage, Hook)],
    ) -> Result<(), PolicyError> {
        let mut kept = Vec::with_capacity(plan.edits.len());
        for planned in std::mem::take(&mut plan.edits) {
            match self.judge_hook(&planned) {
                HookVerdict::Run => kept.push(planned),
                HookVerdict::Refuse => {
                    return Err(PolicyError::Denied {
                        what: format!("the hook {} of {}", planned.edit, planned.origin.rule),
                        rule: format!("hooks.allow ({})", self.where_set("hooks.allow")),
                    });
                }
                HookVerdict::Remove => plan.notes.push(Note {
                    text: format!(
                        "left out the hook {}, which hooks.allow does not name ({})",
                        planned.edit,
                        self.where_set("hooks.allow")
                    ),
                    origin: planned.origin,
                }),
            }
        }
        plan.edits = kept;
        if plan.edits.iter().any(injects_nvidia) {
            self.vendor_hooks(plan, existing)?;
        }
        Ok(())
    }

    fn judge_hook(&self, planned: &PlannedEdit) -> HookVerdict {
        match (&planned.edit, &planned.origin.rule) {
            (Edit::AddHook(_, hook), Rule::CdiSpec { .. } | Rule::CdiDevice { .. }) => {
                self.hooks.verdict(&hook.path)
            }
            _ => HookVerdict::Run,
        }
    }

    fn vendor_hooks(
        &self,
        plan: &mut Plan,
        existing: &[(HookStage, Hook)],
    ) -> Result<(), PolicyError> {
        let origin = Origin {
            rule: Rule::Builtin("hook policy"),
            sources: vec![Source::Policy {
                file: self.file().to_owned(),
                key: "hooks.vendor".to_owned(),
            }],
        };
        for (stage, hook) in existing
            .iter()
            .filter(|(_, hook)| Hooks::is_vendors(&hook.path))
        {
            let what = format!("the {} hook {}", stage.key(), hook.path.display());
            match self.hooks.vendor {
                VendorHook::Keep => {}
                VendorHook::Refuse => {
                    return Err(PolicyError::Denied {
                        what: format!("{what}, which would inject the same devices again,"),
                        rule: format!("hooks.vendor ({})", self.where_set("hooks.vendor")),
                    });
                }
                VendorHook::Remove => {
                    let remove = Edit::RemoveHook {
                        stage: *stage,
                        path: hook.path.clone(),
                    };
                    if plan.edits.iter().any(|planned| planned.edit == remove) {
                        continue;
                    }
                    plan.push(remove, origin.clone());
                    plan.note(
                        format!(
                            "took out {what}: it would inject again what kusabi injects \
                             (hooks.vendor, {})",
                            self.where_set("hooks.vendor")
                        ),
                        origin.clone(),
                    );
                }
            }
        }
        Ok(())
    }
}

/// Whether an edit is part of giving the container a device of NVIDIA's.
fn injects_nvidia(planned: &PlannedEdit) -> bool {
    match &planned.origin.rule {
        Rule::CdiDevice { name, .. } => {
            let vendor = name.vendor();
            vendor == "nvidia.com" || vendor.ends_with(".nvidia.com")
        }
        Rule::Profile { vendor } => *vendor == "nvidia",
        _ => false,
    }
}
