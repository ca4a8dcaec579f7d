//! What runs, and where.

use super::file::Service;
use super::image::ImageConfig;

/// The first that says anything: the builder's arguments; the service's
/// entrypoint and arguments together, or either; the image's entrypoint and
/// command; a shell.
pub(super) fn arguments(builder: &[String], service: &Service, image: &ImageConfig) -> Vec<String> {
    let joined = |a: &[String], b: &[String]| [a, b].concat();
    let command = &service.command;
    [
        builder.to_vec(),
        joined(&command.entrypoint, &command.args),
        joined(&image.entrypoint, &image.cmd),
    ]
    .into_iter()
    .find(|words| !words.is_empty())
    .unwrap_or_else(|| vec!["/bin/sh".to_owned()])
}

/// The builder's directory, the service's, the image's, or the root.
pub(super) fn directory(builder: Option<&str>, service: &Service, image: &ImageConfig) -> String {
    builder
        .or(service.command.workdir.as_deref())
        .or(image.working_dir.as_deref())
        .unwrap_or("/")
        .to_owned()
}
