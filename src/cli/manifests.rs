//! What can be typed for the commands that are about manifests alone, and what overrides a manifest.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

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

/// Write a unit of systemd that runs a pod
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  podrun generate unit shop.toml > /etc/systemd/system/shop.service
  podrun generate socket --socket http web.toml > /etc/systemd/system/web-http.socket")]
pub struct GenerateArgs {
    /// unit, or socket for one that starts the service when somebody connects
    #[arg(hide_possible_values = true)]
    pub kind: UnitKind,
    /// The manifest; the unit names its absolute path
    pub manifest: PathBuf,
    /// Which of the manifest's sockets
    #[arg(long, value_name = "NAME")]
    pub socket: Option<String>,
}

/// Which unit is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum UnitKind {
    /// A .service
    Unit,
    /// A .socket
    Socket,
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
