//! What can be typed for the commands that are about manifests alone, and what overrides a manifest.

use clap::Args;

/// `podrun explain`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  podrun explain                  all keys, a line each
  podrun explain memory-max       one key
  podrun explain app.isolators    the keys of a table
  podrun explain E0312            a problem that `check` has told")]
pub struct ExplainArgs {
    /// A key such as app.exec, a table, or a code such as E0312
    #[arg(value_name = "KEY|CODE")]
    pub what: Option<String>,
    /// All keys in full, and all codes
    #[arg(long, conflicts_with = "what")]
    pub all: bool,
}
