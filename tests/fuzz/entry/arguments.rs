//! A command line: words with NUL bytes between them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use kusabi::cli;

use super::one_line;

/// Read or refused in one line, and handed on with nothing added.
pub fn run(data: &[u8]) {
    let words = data.split(|byte| *byte == 0).map(<[u8]>::to_vec);
    let words = std::iter::once(b"kusabi".to_vec()).chain(words);
    let words: Vec<OsString> = words.map(OsString::from_vec).collect();
    if let Err(error) = cli::parse(words.iter().cloned()) {
        // Its words may quote what was typed.
        if !data.contains(&b'\n') {
            one_line(error);
        }
    }
    let kept = cli::without_own_options(&words);
    let mut all = words.iter();
    assert!(
        kept.iter().all(|word| all.any(|other| other == word)),
        "{kept:?} is more than {words:?}"
    );
    let _ = cli::named(&words);
}
