//! `man`.

use std::io;

use clap_mangen::Man;

use super::output;
use crate::cli::full_definition;
use crate::error::{Error, Result};

/// Prints the manual pages of the program and of each command, one after the
/// other: `man -l <(kusabi man)` shows them all.
///
/// # Errors
/// When stdout cannot be written.
pub(super) fn run() -> Result<()> {
    let mut pages = Vec::new();
    render(full_definition(), "kusabi", &mut pages)
        .map_err(|source| Error::io("write", "manual page", source))?;
    output::print(&String::from_utf8_lossy(&pages))
}

fn render(command: clap::Command, title: &str, pages: &mut Vec<u8>) -> io::Result<()> {
    let children: Vec<clap::Command> = command.get_subcommands().cloned().collect();
    let page = command
        .display_name(title.to_owned())
        .bin_name(title.to_owned());
    Man::new(page)
        .title(title.replace(' ', "-"))
        .render(pages)?;
    for child in children {
        let title = format!("{title} {}", child.get_name());
        render(child, &title, pages)?;
    }
    Ok(())
}
