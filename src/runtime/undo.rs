//! Undoing what was done, in reverse order, when a later step fails.

use crate::error::Result;

/// A stack of undo actions. Dropping it runs them, last first, unless
/// [`Undo::disarm`] was called. A failing action is logged and the others run.
#[derive(Default)]
pub struct Undo<'a> {
    actions: Vec<(&'static str, Action<'a>)>,
}

/// What undoes one step.
type Action<'a> = Box<dyn FnOnce() -> Result<()> + 'a>;

impl<'a> Undo<'a> {
    /// An empty stack.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers how to undo the step that has just been, or is about to be, done.
    pub fn push(&mut self, what: &'static str, action: impl FnOnce() -> Result<()> + 'a) {
        self.actions.push((what, Box::new(action)));
    }

    /// Success: keep everything.
    pub fn disarm(&mut self) {
        self.actions.clear();
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        while let Some((what, action)) = self.actions.pop() {
            if let Err(error) = action() {
                tracing::warn!("undo of {what}: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn runs_in_reverse_past_failures_and_not_when_disarmed() {
        let ran = RefCell::new(Vec::new());
        let mut undo = Undo::new();
        undo.push("a", || {
            ran.borrow_mut().push("a");
            Ok(())
        });
        undo.push("b", || {
            ran.borrow_mut().push("b");
            Err(crate::Error::Usage("broken".into()))
        });
        drop(undo);
        assert_eq!(*ran.borrow(), ["b", "a"]);
        let mut undo = Undo::new();
        undo.push("c", || {
            ran.borrow_mut().push("c");
            Ok(())
        });
        undo.disarm();
        drop(undo);
        assert_eq!(ran.borrow().len(), 2);
    }
}
