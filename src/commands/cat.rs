//! `podrun cat`: the manifest of a pod as it was run.

use anyhow::{Result, anyhow};

use crate::cli::CatArgs;
use crate::manifest;
use crate::output::write_stdout;
use crate::pod::Pod;
use crate::pod::root::Root;
use crate::spec::Spec;

/// Prints the manifest.
///
/// # Errors
/// When there is no such pod, or its record cannot be read.
pub fn run(root: &Root, args: &CatArgs) -> Result<u8> {
    let pod = root.find(&args.pod)?;
    let text = if args.effective { manifest::effective(&spec(&pod)?) } else { text(&pod)? };
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    write_stdout(&format!("{text}{newline}"))?;
    Ok(0)
}

fn text(pod: &Pod) -> Result<String> {
    pod.manifest().map_err(|why| anyhow!("cannot read the manifest of pod `{}`: {why}", pod.name()))
}

/// What a pod was meant to be.
///
/// # Errors
/// When its manifest cannot be read, or was written for another podrun.
pub(super) fn spec(pod: &Pod) -> Result<Spec> {
    let spec = manifest::read(&text(pod)?).spec;
    spec.ok_or_else(|| {
        anyhow!("cannot understand the manifest of pod `{}`: it was run by another version", pod.name())
    })
}
