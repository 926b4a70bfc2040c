//! The command line: what can be typed, and nothing of what is done about it.
//!
//! `-h` fits a screen, `--help` has examples. Names of flags are podman's and systemctl's where these agree.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::output::Color;
use crate::pod::root::{DEFAULT_ROOT, is_app_name, is_name};
use crate::spec::Grace;
use crate::value::duration;

pub mod host;
pub mod man;
pub mod manifests;
pub mod pods;
pub mod records;
pub mod run;
pub mod update;
pub mod words;

pub use host::{CompleteArgs, CompletionArgs, DoctorArgs, ManArgs, Shell, VersionArgs};
pub use manifests::{ExplainArgs, GenerateArgs, OverrideArgs, UnitKind};
pub use pods::{
    CatArgs, GcArgs, InspectArgs, KillArgs, PauseArgs, PsArgs, RmArgs, StatsArgs, StatusArgs, StopArgs,
    TopArgs, UnpauseArgs, WaitArgs,
};
pub use records::{EventsArgs, LogsArgs};
pub use run::RunArgs;
pub use update::UpdateArgs;

/// Run pods: a few apps that live and die together, under limits that are proven.
#[derive(Debug, Parser)]
#[command(
    name = "podrun",
    version,
    propagate_version = false,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    help_template = "{about-section}\n{usage-heading} {usage}\n\n{before-help}Options:\n{options}{after-help}",
    before_help = COMMANDS,
    before_long_help = COMMANDS_LONG,
    after_help = "`podrun COMMAND -h` says what a command takes, `podrun --help` says more.",
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

/// For `-h`: every command, on the screen that is there.
const COMMANDS: &str = "\
Write manifests    check  explain  schema  plan  graph  generate
Run pods           run  wait  update  pause  unpause  stop  kill
Look at pods       ps  status  stats  top  events  logs  inspect  cat
Clean up           rm  gc
This host          doctor  completion  version";

/// For `--help`: every command and what it does, in the words of its definition.
const COMMANDS_LONG: &str = "\
Write manifests:
  check       Say what is wrong with manifests, and start nothing
  explain     Say what a key of a manifest or the code of a problem means
  schema      Print the JSON Schema of manifests, for editors
  plan        Say what `run` would do on this host
  graph       Show in which order the apps start, and why
  generate    Write a unit of systemd that runs a pod

Run pods:
  run         Run a pod
  wait        Wait for the end of pods or apps, or until they are ready
  update      Change limits of a pod or an app that runs
  pause       Let pods or apps stand still
  unpause     Let pods or apps go on that stand still
  stop        Stop pods or apps in order, and wait for their end
  kill        Kill a pod or an app at once, or send a signal

Look at pods:
  ps          List pods
  status      Say how a pod or one of its apps is
  stats       Show what pods and apps use, again and again
  top         Watch what apps use, with their recent history
  events      Print what has happened to pods and apps
  logs        Print what the apps of a pod have written
  inspect     Print everything about a pod or an app as JSON
  cat         Print the manifest of a pod as it was run

Clean up:
  rm          Remove the records of ended pods
  gc          Remove what dead pods have left, and the records of ended ones

This host:
  doctor      Say what this host can do for pods, and how to mend what it cannot
  completion  Print what makes a shell complete commands, pods and apps
  version     Say which version this is";

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
    ///
    /// /run/podrun when nobody says otherwise.
    #[arg(
        long,
        global = true,
        display_order = 900,
        value_name = "DIR",
        env = "PODRUN_ROOT",
        hide_env_values = true,
        hide_default_value = true,
        default_value = DEFAULT_ROOT,
        value_parser = OsStringValueParser::new().try_map(std::path::absolute)
    )]
    pub root: PathBuf,
    /// Print in colour
    #[arg(
        long,
        global = true,
        display_order = 901,
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true
    )]
    pub color: Color,
}

/// What to do.
///
/// The options of a command are defined only when it is the one that was typed: those of all 21 at each start would be
/// most of what a start computes. What their structs say then replaces what is said here, so both say the same.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Command {
    /// Run a pod
    Run(RunArgs),
    /// Say what is wrong with manifests, and start nothing
    Check(CheckArgs),
    /// Say what a key of a manifest or the code of a problem means
    Explain(ExplainArgs),
    /// Print the JSON Schema of manifests, for editors
    #[command(after_long_help = "\
Examples:
  podrun schema > schema-v1.json

The first line `#:schema file:///usr/share/podrun/schema-v1.json` of a manifest tells editors
with Even Better TOML or tombi where it is.")]
    Schema,
    /// Say what `run` would do on this host
    Plan(PlanArgs),
    /// Show in which order the apps start, and why
    Graph(GraphArgs),
    /// Write a unit of systemd that runs a pod
    Generate(GenerateArgs),
    /// List pods
    #[command(visible_alias = "ls", alias = "list")]
    Ps(PsArgs),
    /// Say how a pod or one of its apps is
    Status(StatusArgs),
    /// Show what pods and apps use, again and again
    Stats(StatsArgs),
    /// Watch what apps use, with their recent history
    Top(TopArgs),
    /// Print what has happened to pods and apps
    Events(EventsArgs),
    /// Print what the apps of a pod have written
    Logs(LogsArgs),
    /// Print everything about a pod or an app as JSON
    Inspect(InspectArgs),
    /// Print the manifest of a pod as it was run
    Cat(CatArgs),
    /// Wait for the end of pods or apps, or until they are ready
    Wait(WaitArgs),
    /// Stop pods or apps in order, and wait for their end
    Stop(StopArgs),
    /// Change limits of a pod or an app that runs
    Update(UpdateArgs),
    /// Let pods or apps stand still
    Pause(PauseArgs),
    /// Let pods or apps go on that stand still
    Unpause(UnpauseArgs),
    /// Kill a pod or an app at once, or send a signal
    Kill(KillArgs),
    /// Remove the records of ended pods
    Rm(RmArgs),
    /// Remove what dead pods have left, and the records of ended ones
    Gc(GcArgs),
    /// Say what this host can do for pods, and how to mend what it cannot
    Doctor(DoctorArgs),
    /// Print what makes a shell complete commands, pods and apps
    Completion(CompletionArgs),
    /// Say which version this is
    Version(VersionArgs),
    /// Say what may stand at the cursor
    #[command(hide = true)]
    Complete(CompleteArgs),
    /// Write the manual pages
    #[command(hide = true)]
    Man(ManArgs),
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

/// Text for people, JSON for scripts, or what code hosts take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum CheckFormat {
    /// For people
    #[default]
    Text,
    /// One JSON text
    Json,
    /// SARIF 2.1.0, for code hosts and editors
    Sarif,
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

/// Say what is wrong with manifests, and start nothing
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  podrun check shop.toml
  podrun check --strict *.toml
  podrun check --host shop.toml   is its rootfs here, can its commands be executed?
  podrun check -o json shop.toml | jq '.problems[].message'
  podrun check -o sarif *.toml > podrun.sarif")]
pub struct CheckArgs {
    /// Manifests; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Warnings fail too
    #[arg(long)]
    pub strict: bool,
    /// Also look whether this host has what it takes
    #[arg(long)]
    pub host: bool,
    /// text, json or sarif
    #[arg(short, long, visible_alias = "format", default_value = "text", hide_possible_values = true)]
    pub output: CheckFormat,
    /// Print nothing; the exit code says it
    #[arg(short, long)]
    pub quiet: bool,
    /// What changes the manifest.
    #[command(flatten)]
    pub overrides: OverrideArgs,
}

/// Say what `run` would do on this host
#[derive(Debug, Clone, Args)]
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
    #[arg(short = 'c', long, value_name = "APP")]
    pub app: Option<String>,
    /// In place of the manifest's pod.name
    #[arg(long)]
    pub name: Option<String>,
    /// Who makes the pod's cgroup
    #[arg(long, value_enum, default_value_t = Driver::Auto, value_name = "DRIVER", env = "PODRUN_DRIVER", hide_env_values = true)]
    pub driver: Driver,
    /// What changes the manifest.
    #[command(flatten)]
    pub overrides: OverrideArgs,
}

/// Show in which order the apps start, and why
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  podrun graph shop.toml
  podrun graph shop               of a pod, as it was run
  podrun graph -o dot shop.toml | dot -Tsvg > shop.svg
  podrun graph -o mermaid shop.toml")]
pub struct GraphArgs {
    /// A manifest (a path with a `.` or a `/`; `-` is standard input), or a pod
    #[arg(value_name = "MANIFEST|POD")]
    pub subject: String,
    /// text, dot or mermaid
    #[arg(short, long, visible_alias = "format", default_value = "text", hide_possible_values = true)]
    pub output: GraphFormat,
    /// Names in full and no line broken, however wide the terminal is
    #[arg(long)]
    pub no_trunc: bool,
}

/// How a graph is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum GraphFormat {
    /// For people
    #[default]
    Text,
    /// For Graphviz
    Dot,
    /// For Markdown
    Mermaid,
}

/// JSON and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum JsonFormat {
    /// One JSON text
    #[default]
    Json,
}

fn pod_name(text: &str) -> Result<String, String> {
    if is_name(text) {
        return Ok(text.to_owned());
    }
    Err("use lower-case letters, digits and `-`, at most 63, no `-` at the ends".into())
}

fn app_name(text: &str) -> Result<String, String> {
    if is_app_name(text) {
        return Ok(text.to_owned());
    }
    Err("use lower-case letters, digits and `-`, at most 32".into())
}

/// A time such as `1m30s`, or `infinity`.
fn grace(text: &str) -> Result<Grace, String> {
    duration::parse(text).map_err(|refusal| match refusal.help {
        Some(help) => format!("{}; {help}", refusal.message),
        None => refusal.message,
    })
}

/// The command line `podrun run ...`, where nothing else need be defined.
#[derive(Debug, Parser)]
#[command(name = "podrun run")]
struct RunCli {
    #[command(flatten)]
    globals: Globals,
    #[command(flatten)]
    run: RunArgs,
}

/// What was typed. To define all commands takes a fiftieth of a pod's start: `run` is tried alone, and whatever is not
/// simply right is left to the whole definition, which says why.
///
/// # Errors
///
/// What is wrong with it, or the help that was asked for.
pub fn parse(arguments: &[OsString]) -> Result<Cli, clap::Error> {
    if arguments.get(1).is_some_and(|word| word == "run")
        && let Ok(typed) = RunCli::try_parse_from(&arguments[1..])
    {
        return Ok(Cli { globals: typed.globals, command: Command::Run(typed.run) });
    }
    Cli::try_parse_from(arguments)
}

/// Whether `run` or `wait` was typed, also where the rest could not be understood: they pass on the codes of apps.
#[must_use]
pub fn passes_codes_on(arguments: &[OsString]) -> bool {
    let mut arguments = arguments.iter().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--root" | "--color") => {
                arguments.next();
            }
            Some(flag) if flag.starts_with('-') => {}
            other => return matches!(other, Some("run" | "wait")),
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
    fn commands_say_the_same_before_and_after_their_options_are_defined() {
        let before = Cli::command();
        let mut after = before.clone();
        after.build();
        for command in before.get_subcommands() {
            let built = after.find_subcommand(command.get_name()).unwrap();
            assert_eq!(told(command), told(built), "{}", command.get_name());
        }
    }

    fn told(command: &clap::Command) -> (Option<String>, Option<String>) {
        let text = |styled: Option<&clap::builder::StyledStr>| styled.map(ToString::to_string);
        (text(command.get_about()), text(command.get_long_about()))
    }

    #[test]
    fn help_names_every_command_with_the_words_of_its_definition() {
        let command = Cli::command();
        let shown: Vec<_> = command.get_subcommands().filter(|sub| !sub.is_hide_set()).collect();
        for sub in &shown {
            let name = sub.get_name();
            let line = format!("  {name:<10}  {}", sub.get_about().unwrap());
            assert!(COMMANDS_LONG.lines().any(|l| l == line), "`--help` has no line\n{line}");
            assert!(COMMANDS.split_whitespace().any(|word| word == name), "`-h` does not name {name}");
        }
        let lines = COMMANDS_LONG.lines().filter(|line| line.starts_with("  "));
        assert_eq!(lines.count(), shown.len(), "`--help` names a command that is not there");
    }

    #[test]
    fn run_and_wait_are_recognised_behind_global_flags() {
        let table = [
            ("podrun run x", true),
            ("podrun wait x", true),
            ("podrun --root /x run", true),
            ("podrun --root=/x --color never run --nonsense", true),
            ("podrun ps run", false),
            ("podrun --root run ps", false),
            ("podrun", false),
        ];
        for (line, expected) in table {
            let arguments: Vec<OsString> = line.split(' ').map(Into::into).collect();
            assert_eq!(passes_codes_on(&arguments), expected, "{line}");
        }
    }

    #[test]
    fn run_alone_is_read_as_among_all_commands() {
        let lines = [
            "run shop.toml",
            "run -d --rm --name two --wait=exited shop.toml --root /x --color never",
            "run -e a=b --set app.a.user=0 --env-file x --only a --timeout 5s -t --driver cgroupfs -- -",
            "run -dt shop.toml", // not together
            "run",
            "run --help",
            "run -V",
            "run --wait shop.toml",
            "run a.toml b.toml",
            "run --no-such shop.toml",
            "run help",
        ];
        let mut right = 0;
        for line in lines {
            let arguments: Vec<OsString> = format!("podrun {line}").split(' ').map(Into::into).collect();
            match (parse(&arguments), Cli::try_parse_from(&arguments)) {
                (Ok(alone), Ok(among)) => {
                    right += 1;
                    assert_eq!(format!("{alone:?}"), format!("{among:?}"), "{line}");
                }
                (Err(alone), Err(among)) => assert_eq!(alone.to_string(), among.to_string(), "{line}"),
                (alone, among) => panic!("{line}: {alone:?} and {among:?}"),
            }
        }
        assert_eq!(right, 4);
    }

    #[test]
    fn flags_are_parsed_wherever_they_stand() {
        let parsed = Cli::try_parse_from(["podrun", "stop", "shop/api", "--root", "/x", "-t", "2s"]).unwrap();
        assert_eq!(parsed.globals.root, PathBuf::from("/x"));
        let Command::Stop(args) = parsed.command else { panic!("not stop") };
        assert_eq!((args.pods.len(), args.time.as_deref()), (1, Some("2s")));
        for line in ["stop", "stop -a shop", "run", "status a/b/c", "kill --all-processes x"] {
            let arguments = ["podrun"].into_iter().chain(line.split(' '));
            assert!(Cli::try_parse_from(arguments).is_err(), "{line}");
        }
    }
}
