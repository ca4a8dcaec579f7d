//! Who knows secrets.

/// A place that secrets come from. What it gives goes into one variable of one
/// container, and nowhere else: no log, no error.
pub trait SecretProvider {
    /// The secret `name` of `scope`, which is the deployment.
    ///
    /// # Errors
    /// Why there is none: one line, lower case, without the secret.
    fn secret(&self, scope: &str, name: &str) -> Result<String, String>;
}
