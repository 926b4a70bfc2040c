//! What can be typed about pods that are recorded: to look at them, to wait for them, to end them.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{JsonFormat, ListFormat, TextFormat, app_name, grace, pod_name};
use crate::pod::Address;
use crate::spec::Grace;

/// List pods
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  podrun ps
  podrun ps -a --filter state=lost
  podrun ps --apps --filter label=tier=front
  podrun ps -q | xargs -r podrun stop
  podrun ps -a -o jsonl | jq -r 'select(.exit_code != 0).name'

Filters:
  id=PREFIX  name=PREFIX  label=NAME[=VALUE]
  state=preparing|starting|running|stopping|ended|boot_failed|lost|unknown
  Those of one kind widen, those of different kinds narrow.")]
pub struct PsArgs {
    /// Also pods that have ended
    #[arg(short, long)]
    pub all: bool,
    /// Ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// A line for each app instead of each pod
    #[arg(long)]
    pub apps: bool,
    /// Only pods of which this holds: id, name, label or state
    #[arg(long, value_name = "KEY=VALUE", value_parser = filter)]
    pub filter: Vec<Filter>,
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
    /// Names in full and no line broken, however wide the terminal is
    #[arg(long)]
    pub no_trunc: bool,
}

/// Show what pods and apps use, again and again
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  podrun stats
  podrun stats --apps
  podrun stats shop
  podrun stats --interval 5s shop/api shop/db
  podrun stats --no-stream -o json | jq '.pods[] | {name, cpu_percent, memory_current_bytes}'

Columns:
  CPU        of the time since the last look; 100% is one CPU
  THROTTLED  of the same time, how long the quota of `cpus` held it up; of each CPU, so that it can be more than 100%
  MEMORY     in use, the limit, the most that ever was in use, and what is in swap
  IO         read from and written to disks, where a limit has them counted
  PRESSURE   of the last 10 s, how long some task waited for cpu, memory or io
  A column without any value is left out.

Without a pod: those that run, until Ctrl-C. With one: until it has ended.")]
pub struct StatsArgs {
    /// Names or ids; all pods that run
    #[arg(value_name = "POD[/APP]")]
    pub pods: Vec<Address>,
    /// Their app, as POD/APP names it
    #[arg(short = 'c', long = "app", value_name = "APP", value_parser = app_name, requires = "pods")]
    pub apps_of_pods: Vec<String>,
    /// A line for each app as well, as there is when a pod is named
    #[arg(long)]
    pub apps: bool,
    /// Once, after one interval
    #[arg(long)]
    pub no_stream: bool,
    /// Time between two looks
    #[arg(short, long, value_name = "DUR", default_value = "1s", value_parser = interval)]
    pub interval: Duration,
    /// text, or json: one JSON text on a line for each look
    #[arg(short, long, visible_alias = "format", default_value = "text", hide_possible_values = true)]
    pub output: TextFormat,
    /// Names in full and no line broken, however wide the terminal is
    #[arg(long)]
    pub no_trunc: bool,
}

/// Watch what apps use, with their recent history
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  podrun top
  podrun top shop
  podrun top --interval 500ms shop/api

A row for each pod and app: CPU time of the last look and its history against the quota of `cpus`, memory and
its history against `memory-max`, processes, and what it waited for most in the last 10 s. Below, the row that is
selected. A wide terminal has more columns. `podrun stats` prints the same numbers for scripts.

Keys:
  q Esc Ctrl-C quit    Up Down k j select    s order by name, cpu or memory    space stand still")]
pub struct TopArgs {
    /// Names or ids; all pods that run
    #[arg(value_name = "POD[/APP]")]
    pub pods: Vec<Address>,
    /// Their app, as POD/APP names it
    #[arg(short = 'c', long = "app", value_name = "APP", value_parser = app_name, requires = "pods")]
    pub apps: Vec<String>,
    /// Time between two looks
    #[arg(short, long, value_name = "DUR", default_value = "1s", value_parser = interval)]
    pub interval: Duration,
}

fn interval(text: &str) -> Result<Duration, String> {
    match grace(text)? {
        Grace::Limited(time) if time >= Duration::from_millis(100) => Ok(time),
        _ => Err("expected at least 100ms, and an end".to_owned()),
    }
}

/// What `ps --filter` asks of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// Its id begins like this.
    Id(String),
    /// Its name begins like this.
    Name(String),
    /// Its state, in the word of the JSON.
    State(String),
    /// It has this label, with this value when one is given.
    Label(String, Option<String>),
}

/// The words of `state` in the JSON.
const STATES: [&str; 8] =
    ["preparing", "starting", "running", "stopping", "ended", "boot_failed", "lost", "unknown"];

fn filter(text: &str) -> Result<Filter, String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE, such as state=running")?;
    let value = value.to_owned();
    match key {
        "id" => Ok(Filter::Id(value)),
        "name" => Ok(Filter::Name(value)),
        "state" if STATES.contains(&value.as_str()) => Ok(Filter::State(value)),
        "state" => Err(format!("no state is called so; there are {}", STATES.join(", "))),
        "label" => Ok(match value.split_once('=') {
            Some((name, value)) => Filter::Label(name.to_owned(), Some(value.to_owned())),
            None => Filter::Label(value, None),
        }),
        _ => Err("expected id, name, state or label before the `=`".to_owned()),
    }
}

/// Say how a pod or one of its apps is
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  podrun status shop
  podrun status shop/api
  podrun status -n 10 shop
  podrun status --wait-ready=30s shop
  podrun status -o json shop | jq '.apps[] | {name, status}'

An app is ready when it has been started, a pod when all its apps are.

Exit codes:
  0    the pod (or the app) runs
  3    it does not
  4    there is none
  124  the time for --wait or --wait-ready was over; the status is printed all the same")]
pub struct StatusArgs {
    /// Name or id of the pod
    #[arg(value_name = "POD[/APP]")]
    pub pod: Address,
    /// Its app, as POD/APP names it
    #[arg(short = 'c', long, value_name = "APP", value_parser = app_name)]
    pub app: Option<String>,
    /// First wait for its end, so long at most
    #[arg(
        long,
        value_name = "DUR",
        value_parser = grace,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "infinity"
    )]
    pub wait: Option<Grace>,
    /// First wait until it is ready or has ended, so long at most
    #[arg(
        long,
        value_name = "DUR",
        value_parser = grace,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "infinity",
        conflicts_with = "wait"
    )]
    pub wait_ready: Option<Grace>,
    /// Also the last lines that its apps have written, so many
    #[arg(short = 'n', long, value_name = "LINES")]
    pub lines: Option<usize>,
    /// text or json
    #[arg(short, long, visible_alias = "format", default_value = "text", hide_possible_values = true)]
    pub output: TextFormat,
    /// Names in full and no line broken, however wide the terminal is
    #[arg(long)]
    pub no_trunc: bool,
}

/// Print everything about a pod or an app as JSON
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  podrun inspect shop
  podrun inspect -f state shop
  podrun inspect -f 'cgroups[0].path' shop/api
  podrun inspect shop/api | jq -r '.cgroups[].path'
  podrun inspect shop | jq '.limits[] | {key, asked, kernel}'

The keys are in docs/json.md. Whatever has a value in the kernel is read at this moment.")]
pub struct InspectArgs {
    /// Name or id of the pod
    #[arg(value_name = "POD[/APP]")]
    pub pod: Address,
    /// Its app, as POD/APP names it
    #[arg(short = 'c', long, value_name = "APP", value_parser = app_name)]
    pub app: Option<String>,
    /// Only this value, such as `limits[0].kernel`; a text without its quotes
    #[arg(short, long, value_name = "PATH")]
    pub field: Option<String>,
    /// json; there is no other form
    #[arg(short, long, visible_alias = "format", default_value = "json", hide_possible_values = true)]
    pub output: JsonFormat,
}

/// Print the manifest of a pod as it was run
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  podrun cat shop
  podrun cat --effective shop
  podrun cat shop > again.toml && podrun check again.toml")]
pub struct CatArgs {
    /// Name or id of the pod
    #[arg(value_name = "POD")]
    pub pod: String,
    /// Every key that works, with its default where the manifest does not say it
    #[arg(long)]
    pub effective: bool,
}

/// Wait for the end of pods or apps, or until they are ready
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  podrun wait shop && echo it ended well
  podrun wait --condition ready --timeout 30s shop
  podrun wait --any shop/api shop/db
  podrun run -d job.toml && podrun wait job

Conditions:
  exited   nothing of it runs any more
  ready    it has been started; for a pod: all its apps have
A later one of several that are waited for does not make up for an earlier one that failed.

Exit codes:
  that of the pod or the app that ended, the first that is not 0 of several; 0 when ready;
  124 the time was over; 125 it cannot be waited for")]
pub struct WaitArgs {
    /// Names or ids
    #[arg(value_name = "POD[/APP]", required = true)]
    pub pods: Vec<Address>,
    /// Their app, as POD/APP names it
    #[arg(short = 'c', long = "app", value_name = "APP", value_parser = app_name)]
    pub apps: Vec<String>,
    /// exited or ready
    #[arg(long, default_value = "exited", hide_possible_values = true)]
    pub condition: Condition,
    /// Wait so long at most, such as 30s
    #[arg(long, value_name = "DUR", value_parser = grace)]
    pub timeout: Option<Grace>,
    /// Until the condition holds for one of them
    #[arg(long)]
    pub any: bool,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Condition {
    /// Nothing of it runs any more
    #[value(alias = "stopped")]
    Exited,
    /// It has been started
    Ready,
}

/// Stop pods or apps in order, and wait for their end
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
    /// Their app, as POD/APP names it
    #[arg(short = 'c', long = "app", value_name = "APP", conflicts_with = "all", value_parser = app_name)]
    pub apps: Vec<String>,
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

/// Pods, or apps of them
#[derive(Debug, Args)]
pub struct PodsArgs {
    /// Names or ids
    #[arg(value_name = "POD[/APP]", required = true)]
    pub pods: Vec<Address>,
    /// Their app, as POD/APP names it
    #[arg(short = 'c', long = "app", value_name = "APP", value_parser = app_name)]
    pub apps: Vec<String>,
}

/// Let pods or apps stand still
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  podrun pause shop
  podrun pause shop/api
  podrun unpause shop

Every process of the apps keeps its memory and gets no CPU time. It returns when all of them stand
still; when that takes too long they go on, and it is an error. `podrun stop` lets them go on first, and
signals are heard afterwards. Connections stay open and nobody answers.")]
pub struct PauseArgs {
    /// Which.
    #[command(flatten)]
    pub of: PodsArgs,
}

/// Let pods or apps go on that stand still
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  podrun unpause shop
  podrun unpause shop/api")]
pub struct UnpauseArgs {
    /// Which.
    #[command(flatten)]
    pub of: PodsArgs,
}

/// Kill a pod or an app at once, or send a signal
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
    /// Its app, as POD/APP names it
    #[arg(short = 'c', long, value_name = "APP", value_parser = app_name)]
    pub app: Option<String>,
    /// Send this signal instead of killing
    #[arg(short, long, value_name = "SIG")]
    pub signal: Option<String>,
    /// To every process of the app, not only its main one
    #[arg(long, requires = "signal")]
    pub all_processes: bool,
}

/// Remove the records of ended pods
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

/// Remove what dead pods have left, and the records of ended ones
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
