//! Skipping, loudly. `hack/test` counts the lines printed here and fails on
//! one that `hack/skips` does not list.

use std::io::Write as _;

/// Says on stderr, past the capture of the test harness, that the running test
/// does not apply here: `SKIP <test>: <reason>`.
pub fn report(reason: &str) {
    let current = std::thread::current();
    let test = current.name().unwrap_or("unnamed");
    let line = format!("SKIP {test}: {reason}\n");
    // One write, so that lines of parallel tests do not mix.
    std::io::stderr()
        .write_all(line.as_bytes())
        .expect("stderr is open");
}

/// Ends the running test as skipped. Only before it has asserted anything.
macro_rules! skip {
    ($($reason:tt)+) => {{
        $crate::common::skip::report(&format!($($reason)+));
        return;
    }};
}
pub(crate) use skip;
