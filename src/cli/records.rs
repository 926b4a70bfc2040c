//! What can be typed to read what pods have left in writing: the output of apps, and the account of events.

use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};

use super::{TextFormat, app_name};
use crate::pod::Address;
use crate::pod::told::KINDS;
use crate::spec::Grace;
use crate::value::duration;

/// Print what the apps of a pod have written
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  podrun logs shop
  podrun logs -f -n 20 shop
  podrun logs -c api -c db shop
  podrun logs -t --since 10m --stream stderr shop/api
  podrun logs --since 2026-11-23T02:00:00Z --until 2026-11-23T03:00:00Z shop
  podrun logs --no-log-prefix shop/api | sort | uniq -c
  podrun logs -o json shop | jq -r 'select(.stream == \"stderr\").text'

The output of pods that were started with -d is kept: in the host's journal, or the last 20 to 30 MiB of
each stream in files. log.driver in the manifest says otherwise. All of it is printed to standard output, in the order in which it was written.")]
pub struct LogsArgs {
    /// Name or id of the pod, or apps of one pod
    #[arg(value_name = "POD[/APP]", required = true)]
    pub pods: Vec<Address>,
    /// Their app, as POD/APP names it
    #[arg(short = 'c', long = "app", value_name = "APP", value_parser = app_name)]
    pub apps: Vec<String>,
    /// Go on with what comes, until the pod has ended
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last lines
    #[arg(short = 'n', long, value_name = "LINES")]
    pub tail: Option<usize>,
    /// With the time of each line, in UTC
    #[arg(short, long)]
    pub timestamps: bool,
    /// Nothing before this: a time (RFC 3339) or so long ago, such as 10m
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<Moment>,
    /// Nothing after this
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<Moment>,
    /// stdout or stderr alone
    #[arg(long, value_name = "STREAM", hide_possible_values = true)]
    pub stream: Option<StreamName>,
    /// Without the names of the apps
    #[arg(long)]
    pub no_log_prefix: bool,
    /// text, or json: one JSON text per line
    #[arg(short, long, visible_alias = "format", default_value = "text", hide_possible_values = true)]
    pub output: TextFormat,
}

/// Print what has happened to pods and apps
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  podrun events shop
  podrun events -f
  podrun events -f -n 0 shop/api
  podrun events --since 1h --event oom --event memory-high
  podrun events -o json shop | jq -c 'select(.event == \"ended\") | {app, exit_code, oom}'

Events:
  started start-failed ready up paused unpaused updated stopping ended pod-stopping pod-ended
  oom              the OOM killer took processes of an app: by whose limit, with the peak and the pressure
  memory-high      memory is above memory-high, and who wants more is slowed down
  pids-max         a process could not be added
  watchdog-missed  an app did not say in time that it works
  unkillable pod-lost boot-failed

Without a pod: those of all pods that are recorded, with -f those to come too, until Ctrl-C. With one: with -f
until it has ended. What goes on (oom, memory-high, pids-max) is told at once, and then added up with longer and longer pauses.")]
pub struct EventsArgs {
    /// Names or ids; all pods
    #[arg(value_name = "POD[/APP]")]
    pub pods: Vec<Address>,
    /// Their app, as POD/APP names it
    #[arg(short = 'c', long = "app", value_name = "APP", value_parser = app_name, requires = "pods")]
    pub apps: Vec<String>,
    /// Go on with what comes
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last events
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub tail: Option<usize>,
    /// Nothing before this: a time (RFC 3339) or so long ago, such as 10m
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<Moment>,
    /// Nothing after this
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<Moment>,
    /// Events of this kind alone; may be repeated
    #[arg(short, long = "event", value_name = "EVENT", value_parser = PossibleValuesParser::new(KINDS), hide_possible_values = true)]
    pub events: Vec<String>,
    /// text, or json: one JSON text per line
    #[arg(short, long, visible_alias = "format", default_value = "text", hide_possible_values = true)]
    pub output: TextFormat,
}

/// A time as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// This very time.
    At(jiff::Timestamp),
    /// So long before now.
    Ago(Duration),
}

fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(time) = text.parse() {
        return Ok(Moment::At(time));
    }
    match duration::parse(text) {
        Ok(Grace::Limited(time)) => Ok(Moment::Ago(time)),
        _ => {
            Err("expected a time with its zone, such as 2026-11-23T02:00:00Z, or so long ago: 10m, 36h"
                .into())
        }
    }
}

/// One of the two streams of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StreamName {
    /// Descriptor 1
    Stdout,
    /// Descriptor 2
    Stderr,
}
