//! What can be typed for the commands that are about manifests alone, and what overrides a manifest.

use clap::Args;

/// Say what a key of a manifest or the code of a problem means
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

/// What changes a manifest, for `run`, `plan` and `check`. A later one of this list wins over an earlier one: the
/// manifest's env-file and env, `--set`, `--env-file`, `--env`, `--name`.
#[derive(Debug, Clone, Default, Args)]
pub struct OverrideArgs {
    /// Set a key, such as app.api.isolators.cpus=0.5
    #[arg(long, value_name = "KEY=VAL")]
    pub set: Vec<String>,
    /// Set a variable in all apps
    ///
    /// APP/VAR=VAL sets it in one app. Without =VAL it is passed on from podrun's own environment.
    #[arg(short, long, value_name = "VAR=VAL")]
    pub env: Vec<String>,
    /// Set the variables of a file in all apps
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub env_file: Vec<String>,
    /// Only this app and those that it depends on
    #[arg(long, value_name = "APP", hide_short_help = true)]
    pub only: Vec<String>,
    /// With --only: without those that it depends on
    #[arg(long, requires = "only", hide_short_help = true)]
    pub no_deps: bool,
}
