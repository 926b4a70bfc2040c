//! `podrun schema`.

use anyhow::{Context, Result};

use crate::manifest::schema::schema;
use crate::output::write_stdout;

/// Prints the JSON Schema of manifests.
///
/// # Errors
/// When standard output cannot be written.
pub fn run() -> Result<u8> {
    let text = serde_json::to_string_pretty(&schema()).context("cannot write JSON")?;
    write_stdout(&format!("{text}\n"))?;
    Ok(0)
}
