//! The command line: what can be typed, and nothing of what is done about it.
//!
//! `-h` fits a screen, `--help` has examples. Names of flags are podman's and systemctl's where these agree.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::output::Color;
use crate::pod::Address;
use crate::pod::root::{DEFAULT_ROOT, is_name};

/// Run pods: a few apps that live and die together, under limits that are proven.
#[derive(Debug, Parser)]
#[command(
    name = "podrun",
    version,
    propagate_version = false,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 not running, 4 no such pod.",
    after_long_help = EXAMPLES
)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  podrun check shop.toml          say what is wrong with it, start nothing
  podrun plan shop.toml           say what would be done on this host
  podrun run shop.toml            run it here; Ctrl-C stops it in order
  podrun run -d shop.toml         run it in the background
  podrun status shop              how it is
  podrun stop shop                stop it in order

Exit codes:
  run    the code of the app that decided; 125 podrun failed, 126 cannot be executed,
         127 not found, 128+n died of signal n
  other  0 done, 1 failed, 2 usage, 3 the pod is not running, 4 there is no such pod";

/// What holds for every command.
#[derive(Debug, Clone, Args)]
pub struct Globals {
    /// Where pods are recorded
    #[arg(long, global = true, value_name = "DIR", env = "PODRUN_ROOT", hide_env_values = true, default_value = DEFAULT_ROOT)]
    pub root: PathBuf,
    /// Print in colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_possible_values = true)]
    pub color: Color,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a pod
    Run(RunArgs),
    /// Say what is wrong with manifests, and start nothing
    Check(CheckArgs),
    /// Say what `run` would do on this host
    Plan(PlanArgs),
    /// List pods
    #[command(visible_alias = "ls", alias = "list")]
    Ps(PsArgs),
    /// Say how a pod or one of its apps is
    Status(StatusArgs),
    /// Stop pods or apps in order, and wait for their end
    Stop(StopArgs),
    /// Kill a pod or an app at once, or send a signal
    Kill(KillArgs),
    /// Remove the records of ended pods
    Rm(RmArgs),
    /// Remove what dead pods have left, and the records of ended ones
    Gc(GcArgs),
    /// Say which version this is
    Version(VersionArgs),
}

/// `podrun run`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  podrun run shop.toml
  podrun run --rm --name shop-2 shop.toml
  podrun run -d shop.toml && podrun status shop
  podrun run --no-log-prefix hello.toml | sort")]
pub struct RunArgs {
    /// The manifest; `-` is standard input
    pub manifest: PathBuf,
    /// Return as soon as the pod is up, and print its id
    #[arg(short, long)]
    pub detach: bool,
    /// In place of the manifest's pod.name
    #[arg(long, value_parser = pod_name)]
    pub name: Option<String>,
    /// Remove the pod's record when it has ended
    #[arg(long)]
    pub rm: bool,
    /// Who makes the pod's cgroup
    #[arg(long, value_enum, default_value_t = Driver::Auto, value_name = "DRIVER")]
    pub driver: Driver,
    /// Pass the apps' output on as it is
    #[arg(long)]
    pub no_log_prefix: bool,
}

/// Who makes the pod's cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Driver {
    /// What fits this host
    Auto,
    /// systemd, over D-Bus
    Systemd,
    /// podrun itself, below its own group
    Cgroupfs,
}

/// Text for people or JSON for scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum TextFormat {
    /// For people
    #[default]
    Text,
    /// One JSON text
    Json,
}

/// A table for people or JSON for scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ListFormat {
    /// For people
    #[default]
    Table,
    /// One JSON text
    Json,
    /// One JSON text per line and pod
    Jsonl,
}

/// `podrun check`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  podrun check shop.toml
  podrun check --strict *.toml
  podrun check -o json shop.toml | jq '.problems[].message'")]
pub struct CheckArgs {
    /// Manifests; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Warnings fail too
    #[arg(long)]
    pub strict: bool,
    /// text or json
    #[arg(short, long, visible_alias = "format", default_value = "text", hide_possible_values = true)]
    pub output: TextFormat,
    /// Print nothing; the exit code says it
    #[arg(short, long)]
    pub quiet: bool,
}

/// `podrun plan`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  podrun plan shop.toml
  podrun plan --app api shop.toml
  podrun plan -o json shop.toml | jq .cgroup")]
pub struct PlanArgs {
    /// The manifest; `-` is standard input
    pub manifest: PathBuf,
    /// text or json
    #[arg(short, long, visible_alias = "format", default_value = "text", hide_possible_values = true)]
    pub output: TextFormat,
    /// Only what concerns this app
    #[arg(short = 'c', long)]
    pub app: Option<String>,
    /// In place of the manifest's pod.name
    #[arg(long, value_parser = pod_name)]
    pub name: Option<String>,
}

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

/// `podrun version`.
#[derive(Debug, Args)]
pub struct VersionArgs {
    /// text or json
    #[arg(short, long, visible_alias = "format", default_value = "text", hide_possible_values = true)]
    pub output: TextFormat,
}

fn pod_name(text: &str) -> Result<String, String> {
    if is_name(text) {
        return Ok(text.to_owned());
    }
    Err("use lower-case letters, digits and `-`, at most 63, no `-` at the ends".into())
}

/// Whether `run` was typed, also where the rest could not be understood: it has exit codes of its own.
#[must_use]
pub fn is_run(arguments: &[OsString]) -> bool {
    let mut arguments = arguments.iter().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--root" | "--color") => {
                arguments.next();
            }
            Some(flag) if flag.starts_with('-') => {}
            other => return other == Some("run"),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn short_help_fits_a_screen_of_80_by_24() {
        let mut command = Cli::command().term_width(80);
        command.build();
        let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
        let mut helps = vec![command.render_help().to_string()];
        helps.extend(names.iter().filter_map(|name| {
            command.find_subcommand_mut(name).map(|sub| sub.clone().term_width(80).render_help().to_string())
        }));
        for help in helps {
            assert!(help.lines().count() <= 24, "{} lines:\n{help}", help.lines().count());
            assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
        }
    }

    #[test]
    fn run_is_recognised_behind_global_flags() {
        let table = [
            ("podrun run x", true),
            ("podrun --root /x run", true),
            ("podrun --root=/x --color never run --nonsense", true),
            ("podrun ps run", false),
            ("podrun --root run ps", false),
            ("podrun", false),
        ];
        for (line, expected) in table {
            let arguments: Vec<OsString> = line.split(' ').map(Into::into).collect();
            assert_eq!(is_run(&arguments), expected, "{line}");
        }
    }

    #[test]
    fn flags_are_parsed_wherever_they_stand() {
        let parsed = Cli::try_parse_from(["podrun", "stop", "shop/api", "--root", "/x", "-t", "2s"]).unwrap();
        assert_eq!(parsed.globals.root, PathBuf::from("/x"));
        let Command::Stop(args) = parsed.command else { panic!("not stop") };
        assert_eq!((args.pods.len(), args.time.as_deref()), (1, Some("2s")));
        for line in
            ["stop", "stop -a shop", "run", "run --name A x.toml", "status a/b/c", "kill --all-processes x"]
        {
            let arguments = ["podrun"].into_iter().chain(line.split(' '));
            assert!(Cli::try_parse_from(arguments).is_err(), "{line}");
        }
    }
}
