//! The bytes of the policy file.

use std::path::Path;

use kusabi::policy::Policy;

use super::one_line;

/// What `config show` prints of a policy is one that means the same.
pub fn run(data: &[u8]) {
    let file = Path::new("/etc/kusabi/config.toml");
    match Policy::parse(file, data) {
        Ok(policy) => {
            let shown = policy.to_toml();
            let again = Policy::parse(file, shown.as_bytes()).expect("what is shown can be read");
            assert_eq!(values(&again.to_toml()), values(&shown));
        }
        Err(error) => one_line(error),
    }
}

/// The lines without where each comes from.
fn values(shown: &str) -> Vec<&str> {
    let value = |line: &'_ str| {
        line.rsplit_once(" # ")
            .map_or(line.len(), |(value, _)| value.len())
    };
    shown
        .lines()
        .map(|line| line[..value(line)].trim_end())
        .collect()
}
