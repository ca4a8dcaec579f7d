//! Mounts and their order.

use super::*;

#[test]
fn mounts_replace_by_destination_and_are_sorted_by_depth() {
    let before = r#"{"mounts":[{"destination":"/a/b/c"},{"destination":"/proc","type":"proc"},{"destination":"/dev/"},{"destination":"/dev/shm"}]}"#;
    becomes(
        before,
        [Edit::AddMount(bind("/x/y", "/h", &["ro", "rbind"]))],
        r#"{"mounts":[{"destination":"/proc","type":"proc"},{"destination":"/dev/"},{"destination":"/dev/shm"},{"destination":"/x/y","source":"/h","options":["ro","rbind"]},{"destination":"/a/b/c"}]}"#,
    );
    becomes(
        r#"{"mounts":[{"destination":"/proc"},{"destination":"/dev/","type":"tmpfs"},{"destination":"/sys"},{"destination":"/dev","type":"bind"}]}"#,
        [Edit::AddMount(bind("/dev", "/h", &[]))],
        r#"{"mounts":[{"destination":"/proc"},{"destination":"/dev","source":"/h"},{"destination":"/sys"}]}"#,
    );
    // Recognised with another spelling, empty strings and unknown keys.
    stays(
        r#"{"mounts":[{"source":"/h","destination":"/dev/./x/","type":"","options":["ro"],"uidMappings":[]}]}"#,
        [Edit::AddMount(bind("/dev/x", "/h", &["ro"]))],
    );
    becomes(
        "{}",
        [Edit::AddMount(bind("/x", "/h", &[]))],
        r#"{"mounts":[{"destination":"/x","source":"/h"}]}"#,
    );
    fails(
        "{}",
        Edit::AddMount(bind("x", "/h", &[])),
        r#"mounts: path "x" is not absolute"#,
    );
    fails(
        "{}",
        Edit::AddMount(bind("/./", "/h", &[])),
        "mounts: an edit must not mount over the root",
    );
    fails(
        r#"{"mounts":[{"type":"x"}]}"#,
        Edit::AddMount(bind("/x", "/h", &[])),
        "mounts[0].destination: missing",
    );
    fails(
        r#"{"mounts":[{"destination":"/x","options":[1]}]}"#,
        Edit::AddMount(bind("/x", "/h", &[])),
        "mounts[0].options[0]: expected string, found number",
    );
}

#[test]
fn mounts_are_only_sorted_when_one_is_added() {
    let before = r#"{"mounts":[{"destination":"/a/b","options":["gid=5","ro","gid=5"]},{"destination":"/c"},{"destination":"/d"}]}"#;
    let remove_option = |destination: &str| Edit::RemoveMountOption {
        destination: destination.into(),
        option: "gid=5".to_owned(),
    };
    let remove = |destination: &str| Edit::RemoveMount {
        destination: destination.into(),
    };
    becomes(
        before,
        [remove("/c/"), remove_option("/a/b")],
        r#"{"mounts":[{"destination":"/a/b","options":["ro"]},{"destination":"/d"}]}"#,
    );
    stays(
        before,
        [remove("/e"), remove_option("/c"), remove_option("/e")],
    );
    stays("{}", [remove("/e")]);
    // Removed and added again: at its old place, however often.
    becomes(
        r#"{"mounts":[{"destination":"/a"},{"destination":"/b"}]}"#,
        [
            remove("/a"),
            Edit::AddMount(bind("/a", "/h", &[])),
            Edit::AddMount(bind("/c", "/h", &[])),
        ],
        r#"{"mounts":[{"destination":"/a","source":"/h"},{"destination":"/b"},{"destination":"/c","source":"/h"}]}"#,
    );
}
