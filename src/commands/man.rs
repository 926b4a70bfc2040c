//! `podrun man`: writes the manual pages. Hidden: packaging calls it.

use anyhow::{Context, Result};

use crate::cli::{ManArgs, man};

/// Writes every page into the directory, which is made when it is not there.
///
/// # Errors
/// When a file cannot be written.
pub fn run(args: &ManArgs) -> Result<u8> {
    let directory = &args.directory;
    let pages = man::pages().context("cannot make the manual pages")?;
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot make directory `{}`", directory.display()))?;
    for page in pages {
        let path = directory.join(&page.file);
        std::fs::write(&path, page.text).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(0)
}
