//! What each command does. A command returns its exit code, or an error that carries one.

pub mod load;
mod run;
mod teller;
mod version;

use anyhow::Result;

use crate::cli::{Cli, Command};

/// Does what was typed and returns the exit code.
///
/// # Errors
/// Whatever kept it from being done.
pub fn run(cli: &Cli) -> Result<u8> {
    match &cli.command {
        Command::Version(args) => version::run(args),
        Command::Run(args) => run::run(&cli.globals, args),
        _ => anyhow::bail!("not in this build"),
    }
}
