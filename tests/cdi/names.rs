//! `pkg/parser`: qualified device names.

use kusabi::cdi::QualifiedName;

/// A name, and its vendor, class and device, or what the error says.
type Case = (&'static str, Result<[&'static str; 3], &'static str>);

const REFERENCE: [Case; 16] = [
    ("vendor.com/class=dev", Ok(["vendor.com", "class", "dev"])),
    ("a/b=c", Ok(["a", "b", "c"])),
    ("aa/b=cc", Ok(["aa", "b", "cc"])),
    ("a/bb=cc", Ok(["a", "bb", "cc"])),
    ("vendor.com/class=0", Ok(["vendor.com", "class", "0"])),
    (
        "vendor1.com/class1=dev1",
        Ok(["vendor1.com", "class1", "dev1"]),
    ),
    (
        "vendor1.com/class.subclass=dev1",
        Ok(["vendor1.com", "class.subclass", "dev1"]),
    ),
    (
        "other-vendor1.com/class_1=dev_1",
        Ok(["other-vendor1.com", "class_1", "dev_1"]),
    ),
    (
        "yet_another-vendor2.com/c-lass_2=dev_1:2.3",
        Ok(["yet_another-vendor2.com", "c-lass_2", "dev_1:2.3"]),
    ),
    (
        "_invalid.com/class=dev",
        Err("vendor \"_invalid.com\" starts with '_'"),
    ),
    (
        "invalid2.com-/class=dev",
        Err("vendor \"invalid2.com-\" ends with '-'"),
    ),
    (
        "invalid3.com/_class=dev",
        Err("class \"_class\" starts with '_'"),
    ),
    (
        "invalid4.com/class_=dev",
        Err("class \"class_\" ends with '_'"),
    ),
    (
        "invalid5.com/class=-dev",
        Err("device name \"-dev\" starts with '-'"),
    ),
    (
        "invalid6.com/class=dev:",
        Err("device name \"dev:\" ends with ':'"),
    ),
    ("*.com/*dev=*gpu*", Err("vendor \"*.com\" starts with '*'")),
];

const BEYOND: [Case; 12] = [
    ("", Err("it is empty")),
    ("/dev/null", Err("it is a path")),
    ("vendor.com/class", Err("no '='")),
    ("vendor.com=dev", Err("no '/'")),
    ("vendor.com/=dev", Err("the class is empty")),
    ("vendor.com/class=", Err("the device name is empty")),
    (
        "vendor.com/class/sub=dev",
        Err("class \"class/sub\" contains '/'"),
    ),
    (
        "vendor.com/class=dev=1",
        Err("device name \"dev=1\" contains '='"),
    ),
    ("vendor.com/class=dev 1", Err("contains ' '")),
    ("vendor.com/class=d\u{e9}v", Err("contains '\u{e9}'")),
    ("vendor.com/class=dev\n", Err("contains '\\n'")),
    ("v/c=a.", Err("device name \"a.\" ends with '.'")),
];

#[test]
fn every_name_parses_or_says_why_not() {
    for (name, want) in REFERENCE.into_iter().chain(BEYOND) {
        let found = QualifiedName::parse(name);
        match (want, found) {
            (Ok([vendor, class, device]), Ok(found)) => {
                assert_eq!(found.vendor(), vendor, "{name}");
                assert_eq!(found.class(), class, "{name}");
                assert_eq!(found.device(), device, "{name}");
                assert_eq!(found.to_string(), name);
            }
            (Err(reason), Err(error)) => {
                let error = error.to_string();
                assert!(error.contains(reason), "{name:?}: {error}");
                assert!(!error.contains('\n'), "{name:?}: {error}");
            }
            (want, found) => panic!("{name:?}: expected {want:?}, found {found:?}"),
        }
    }
}
