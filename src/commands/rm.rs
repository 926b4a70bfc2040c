//! `podrun rm`.

use anyhow::{Context, Result, anyhow};

use super::try_all;
use crate::cli::RmArgs;
use crate::error::Note;
use crate::pod::gc::{self, Living, Settled};
use crate::pod::root::Root;

/// Removes the records of ended pods, and with `--force` running pods too.
///
/// # Errors
/// Never: what fails for one pod is told and counted.
pub fn run(root: &Root, args: &RmArgs) -> Result<u8> {
    let living = if args.force { Living::Kill } else { Living::Wait };
    Ok(try_all(&args.pods, |word| {
        let pod = root.find(word)?;
        let removed = gc::remove(root, &pod, living);
        match removed.with_context(|| format!("cannot remove pod `{}`", pod.name()))? {
            Settled::Running => Err(anyhow!("cannot remove pod `{}`: it is running", pod.name()))
                .hint(format!("`podrun stop {word}` first, or `podrun rm -f {word}`")),
            Settled::Over(_) | Settled::Gone => Ok(()),
        }
    }))
}
