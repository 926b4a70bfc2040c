//! What can be typed behind `podrun run`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};

use super::{Driver, OverrideArgs, TextFormat, grace, pods};
use crate::spec::Grace;

/// Run a pod
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  podrun run shop.toml
  podrun run --rm --name shop-2 shop.toml
  podrun run -d shop.toml && podrun status shop
  podrun run --set app.api.isolators.cpus=0.5 -e api/LOG=debug shop.toml
  podrun run --no-log-prefix hello.toml | sort
  podrun run --log-format json hello.toml | jq .text
  podrun run --replace --timeout 1h shop.toml
  podrun run --exit-code-from tests ci.toml
  podrun run -d --wait=exited --id-file /tmp/job.id job.toml
  podrun run --dry-run shop.toml

Signals:
  SIGINT, SIGTERM  stop in order; the second one kills
  SIGQUIT          kill at once
  SIGUSR1          print how the pod is, to standard error
  SIGHUP           stop in order when the terminal is gone
  SIGUSR2          goes to the main process of every app, as SIGWINCH does")]
pub struct RunArgs {
    /// The manifest; `-` is standard input
    pub manifest: PathBuf,
    /// Return as soon as the pod is up, and print its id
    #[arg(short, long)]
    pub detach: bool,
    /// In place of the manifest's pod.name
    #[arg(long)]
    pub name: Option<String>,
    /// What changes the manifest.
    #[command(flatten)]
    pub overrides: OverrideArgs,
    /// Remove the pod's record when it has ended
    #[arg(long)]
    pub rm: bool,
    /// Stop a running pod of this name first
    #[arg(long)]
    pub replace: bool,
    /// With -d: wait until it is `ready`, as -d does anyway, or `exited`
    #[arg(
        long,
        value_name = "STATE",
        requires = "detach",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "ready",
        hide_possible_values = true,
        hide_short_help = true
    )]
    pub wait: Option<pods::Condition>,
    /// Stop it when it has run so long; the code is 124
    #[arg(long, value_name = "DUR", value_parser = grace)]
    pub timeout: Option<Grace>,
    /// Stop it when this app has ended, and return its code
    #[arg(long, value_name = "APP", hide_short_help = true)]
    pub exit_code_from: Option<String>,
    /// Write the pod's id into this file
    #[arg(
        long,
        value_name = "FILE",
        hide_short_help = true,
        value_parser = OsStringValueParser::new().try_map(std::path::absolute)
    )]
    pub id_file: Option<PathBuf>,
    /// Only say what would be done, as `plan` does
    #[arg(long)]
    pub dry_run: bool,
    /// Who makes the pod's cgroup
    #[arg(long, value_enum, default_value_t = Driver::Auto, value_name = "DRIVER", env = "PODRUN_DRIVER", hide_env_values = true)]
    pub driver: Driver,
    /// Pass the apps' output on as it is
    #[arg(long)]
    pub no_log_prefix: bool,
    /// With the time of each line, in UTC
    #[arg(short, long, conflicts_with = "detach", hide_short_help = true)]
    pub timestamps: bool,
    /// text, or json: each line of output as one JSON text
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        conflicts_with = "detach",
        hide_possible_values = true,
        hide_short_help = true
    )]
    pub log_format: TextFormat,
    /// Write the pid of the launcher into this file, as long as it lives
    #[arg(
        long,
        value_name = "FILE",
        hide_short_help = true,
        value_parser = OsStringValueParser::new().try_map(std::path::absolute)
    )]
    pub pidfile: Option<PathBuf>,
}
