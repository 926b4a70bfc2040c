//! The command `podrun`.
#![cfg_attr(not(test), no_main)]

#[cfg_attr(test, allow(dead_code, reason = "tests have a main of their own"))]
#[path = "sys/entry.rs"]
mod entry;

use std::ffi::OsString;

use clap::error::ErrorKind;
use podrun::cli;
use podrun::error::{self, EXIT_PODRUN_FAILED, EXIT_USAGE};
use podrun::{commands, output};

/// The whole program, called by [`entry`]; returns its exit code.
fn run() -> u8 {
    if let Err(error) = commands::enter_service() {
        output::write_stderr(&error::text(&error));
        return EXIT_PODRUN_FAILED;
    }
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let passes_codes_on = cli::passes_codes_on(&arguments);
    match cli::parse(&arguments) {
        Ok(cli) => commands::run(&cli).unwrap_or_else(|error| {
            output::write_stderr(&error::text(&error));
            error::exit_code(&error).unwrap_or(if passes_codes_on { EXIT_PODRUN_FAILED } else { 1 })
        }),
        Err(error) => explain(&error, passes_codes_on),
    }
}

/// Help and version are asked for as well; everything else is a mistake.
fn explain(error: &clap::Error, passes_codes_on: bool) -> u8 {
    // A reader that is gone has seen what it wanted.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => 0,
        _ if passes_codes_on => EXIT_PODRUN_FAILED,
        _ => EXIT_USAGE,
    }
}
