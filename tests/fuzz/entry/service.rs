//! The bytes of a service file: read, and each of its services made a
//! configuration, for no machine in particular.

use kusabi::bundle::{BundleBuilder, Machine};
use kusabi::document::Document;
use kusabi::service::ServiceFile;

use super::one_line;

/// A configuration that can be read, or what the service needs, in one line.
pub fn run(data: &[u8]) {
    let file = match ServiceFile::parse(data) {
        Ok(file) => file,
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason");
            return problems.iter().for_each(one_line);
        }
    };
    for (name, service) in file.services {
        let builder = BundleBuilder::new(&file.deployment, &name, service);
        match builder.machine(Machine::Unknown).rootfs("/image").spec() {
            Ok(spec) => {
                Document::parse(spec.document().as_bytes()).expect("the result can be read");
            }
            Err(error) => one_line(error),
        }
    }
}
