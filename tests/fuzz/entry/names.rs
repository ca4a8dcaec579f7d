//! Everything that is one word: qualified names, container ids, signals,
//! capabilities.

use kusabi::cdi::QualifiedName;
use kusabi::cli::{ContainerId, Signal};
use kusabi::runtime::state::check_id;
use kusabi::service::Capability;

use super::one_line;

/// A name is written as it was read; an id is one file's name; a signal is one
/// that the kernel has.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match QualifiedName::parse(text) {
        Ok(name) => {
            assert_eq!(name.to_string(), text, "a name is written as it was read");
            assert_eq!(QualifiedName::parse(&name.to_string()), Ok(name));
        }
        Err(error) => one_line(error),
    }
    match check_id(text) {
        Ok(()) => {
            assert!(!text.contains(['/', '\0', '\n']) && !["", ".", ".."].contains(&text));
            assert!(ContainerId::parse(text).is_ok(), "{text:?} is no argument");
        }
        Err(error) => {
            one_line(error);
            assert!(ContainerId::parse(text).is_err(), "{text:?} is an argument");
        }
    }
    match Signal::parse(text) {
        Ok(signal) => assert!((0..=64).contains(&signal.number()), "{text:?}"),
        Err(error) => one_line(error),
    }
    if let Err(error) = Capability::parse(text) {
        one_line(error);
    }
}
