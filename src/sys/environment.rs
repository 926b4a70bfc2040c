//! The whole environment of this process at once.

use std::ffi::OsString;

/// Makes `variables` the environment, and nothing else.
///
/// # Errors
/// A second thread exists.
pub fn replace(variables: &[(OsString, OsString)]) -> anyhow::Result<()> {
    anyhow::ensure!(
        super::tasks::count()? == 1,
        "cannot change the environment: there is more than one thread"
    );
    let old: Vec<OsString> = std::env::vars_os().map(|(name, _)| name).collect();
    for name in old {
        // SAFETY: this is the only thread, so that nobody reads the environment meanwhile.
        unsafe { std::env::remove_var(name) };
    }
    for (name, value) in variables {
        // SAFETY: as above; the names come from an environment, so that they are neither empty nor have a `=` or NUL.
        unsafe { std::env::set_var(name, value) };
    }
    Ok(())
}
