//! What the fuzzer runs, over its seeds and small changes of them: findings stay
//! found, and the targets stay in step with what they call. `hack/fuzz` is the
//! fuzzer itself.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "fuzz/entry/mod.rs"]
mod entry;

use std::fs;
use std::path::Path;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/seeds")
        .join(target);
    let mut files: Vec<_> = fs::read_dir(&dir)
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

#[test]
fn every_seed_passes_whole_cut_and_changed() {
    for (name, run) in entry::TARGETS {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name} has no seed");
        for seed in &seeds {
            run(seed);
            let step = (seed.len() / 64).max(1);
            for at in (0..seed.len()).step_by(step) {
                run(&seed[..at]);
                for byte in [0, b'"', b'\\', b'-', b'9', 0xff] {
                    let mut changed = seed.clone();
                    changed[at] = byte;
                    run(&changed);
                }
            }
        }
    }
}

#[test]
fn every_target_is_built_by_the_fuzzer() {
    let manifest = include_str!("fuzz/Cargo.toml");
    let built: Vec<&str> = manifest
        .lines()
        .filter_map(|line| {
            line.strip_prefix("path = \"targets/")?
                .strip_suffix(".rs\"")
        })
        .collect();
    let mut known: Vec<&str> = entry::TARGETS.iter().map(|(name, _)| *name).collect();
    let mut built_sorted = built.clone();
    built_sorted.sort_unstable();
    known.sort_unstable();
    assert_eq!(built_sorted, known);
}
