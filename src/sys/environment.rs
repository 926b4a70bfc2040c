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
    // One that begins with `=` has no name that could be set or removed, and nobody can ask for it.
    let has_name = |name: &OsString| !name.is_empty() && !name.as_encoded_bytes().contains(&b'=');
    let old: Vec<OsString> = std::env::vars_os().map(|(name, _)| name).filter(has_name).collect();
    for name in old {
        // SAFETY: this is the only thread, so that nobody reads the environment meanwhile.
        unsafe { std::env::remove_var(name) };
    }
    for (name, value) in variables.iter().filter(|(name, _)| has_name(name)) {
        // SAFETY: as above; names and values come from an environment, so that they have no NUL.
        unsafe { std::env::set_var(name, value) };
    }
    Ok(())
}
