//! What can be typed about pods that are recorded: to look at them, to wait for them, to end them.

use clap::Args;

use super::{ListFormat, TextFormat, pod_name};
use crate::pod::Address;

/// `podrun ps`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  podrun ps
  podrun ps -a
  podrun ps -q | xargs -r podrun stop
  podrun ps -a -o jsonl | jq -r 'select(.state == \"lost\").name'")]
pub struct PsArgs {
    /// Also pods that have ended
    #[arg(short, long)]
    pub all: bool,
    /// Ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// table, json or jsonl
    #[arg(
        short,
        long,
        visible_alias = "format",
        env = "PODRUN_FORMAT",
        default_value = "table",
        hide_possible_values = true,
        hide_env_values = true
    )]
    pub output: ListFormat,
    /// Leave the first line out
    #[arg(long)]
    pub no_heading: bool,
}

/// `podrun status`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  podrun status shop
  podrun status shop/api
  podrun status -o json shop | jq '.apps[] | {name, status}'

Exit code 0: the pod (or the app) runs. 3: it does not. 4: there is none.")]
pub struct StatusArgs {
    /// Name or id of the pod
    #[arg(value_name = "POD[/APP]")]
    pub pod: Address,
    /// text or json
    #[arg(short, long, visible_alias = "format", default_value = "text", hide_possible_values = true)]
    pub output: TextFormat,
}

/// `podrun stop`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  podrun stop shop
  podrun stop shop/api shop/db
  podrun stop -t 2s shop          kill what has not ended after two seconds
  podrun stop -a")]
pub struct StopArgs {
    /// Names or ids
    #[arg(value_name = "POD[/APP]", required_unless_present = "all", conflicts_with = "all")]
    pub pods: Vec<Address>,
    /// In place of the apps' own stop-timeout, such as 10s
    #[arg(short = 't', long, value_name = "DUR")]
    pub time: Option<String>,
    /// Return at once
    #[arg(long)]
    pub no_wait: bool,
    /// Every pod that runs
    #[arg(short, long)]
    pub all: bool,
}

/// `podrun kill`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  podrun kill shop                everything at once
  podrun kill -s HUP shop/api     the main process of one app
  podrun kill -s USR1 --all-processes shop/api")]
pub struct KillArgs {
    /// Name or id
    #[arg(value_name = "POD[/APP]")]
    pub pod: Address,
    /// Send this signal instead of killing
    #[arg(short, long, value_name = "SIG")]
    pub signal: Option<String>,
    /// To every process of the app, not only its main one
    #[arg(long, requires = "signal")]
    pub all_processes: bool,
}

/// `podrun rm`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  podrun rm shop
  podrun rm -f shop               kill it first if it runs")]
pub struct RmArgs {
    /// Names or ids
    #[arg(required = true, value_name = "POD", value_parser = pod_name)]
    pub pods: Vec<String>,
    /// Kill pods that run
    #[arg(short, long)]
    pub force: bool,
}

/// `podrun gc`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
A pod whose launcher has died stops in order; gc waits for that.

Examples:
  podrun gc
  podrun gc --older-than 48h      keep younger records
  podrun gc --dry-run
  podrun gc --force               kill orphaned pods instead of waiting")]
pub struct GcArgs {
    /// Keep the records of pods that ended later than this, such as 30m or 48h
    #[arg(long, value_name = "DUR")]
    pub older_than: Option<String>,
    /// Only say what would be removed
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Kill pods whose launcher is gone instead of waiting for them
    #[arg(long)]
    pub force: bool,
}
