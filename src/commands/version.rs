//! `podrun version`.

use anyhow::Result;
use serde::Serialize;

use crate::cli::{TextFormat, VersionArgs};
use crate::output::{write_json, write_stdout};
use crate::pod::status::json::SCHEMA;

#[derive(Serialize)]
struct VersionJson {
    schema: u32,
    version: &'static str,
    /// Launcher and stage1 must agree on it.
    stage1_abi: u32,
    manifest: u32,
}

/// Says which version this is.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: &VersionArgs) -> Result<u8> {
    let version = env!("CARGO_PKG_VERSION");
    match args.output {
        TextFormat::Text => write_stdout(&format!("podrun {version}\n"))?,
        TextFormat::Json => {
            write_json(&VersionJson {
                schema: SCHEMA,
                version,
                stage1_abi: podrun_abi::VERSION,
                manifest: 1,
            })?;
        }
    }
    Ok(0)
}
