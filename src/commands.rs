//! What each command does. A command returns its exit code, or an error that carries one.
//!
//! `run` and `plan` act on manifests; all others act on pods that are recorded. Where several pods are named,
//! each is tried, each failure is told, and the first one decides the exit code.

mod cat;
mod check;
mod completion;
mod doctor;
mod events;
mod explain;
mod gc;
mod generate;
mod graph;
mod inspect;
mod kill;
pub mod load;
mod logs;
mod looks;
mod man;
mod pause;
mod plan;
mod ps;
mod rm;
mod run;
mod schema;
mod stats;
mod status;
mod stop;
mod top;
mod update;
mod usage;
mod version;
mod wait;
mod waiting;
mod window;

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use podrun_abi::control;

use crate::cli::{Cli, Command};
use crate::error::{self, EXIT_NOT_FOUND, EXIT_NOT_RUNNING, EXIT_USAGE, Note};
use crate::output::write_stderr;
use crate::pod::client::{self, Answer, Interrupted, Patience};
use crate::pod::root::Root;
use crate::pod::status::Status;
use crate::pod::{Address, Pod, gc as undo};
use crate::value::Refusal;

pub use run::service::enter as enter_service;

/// Does what was typed and returns the exit code.
///
/// # Errors
/// Whatever kept it from being done.
pub fn run(cli: &Cli) -> Result<u8> {
    let root = || Root::open(&cli.globals.root);
    match &cli.command {
        Command::Run(args) => run::run(&cli.globals, args),
        Command::Plan(args) => plan::run(&cli.globals, args),
        Command::Check(args) => check::run(&cli.globals, args),
        Command::Explain(args) => explain::run(args),
        Command::Schema => schema::run(),
        Command::Ps(args) => ps::run(&root()?, args),
        Command::Stats(args) => stats::run(&root()?, args),
        Command::Top(args) => top::run(&root()?, args),
        Command::Events(args) => events::run(&cli.globals, args),
        Command::Logs(args) => logs::run(&cli.globals, args),
        Command::Inspect(args) => inspect::run(&root()?, args),
        Command::Cat(args) => cat::run(&root()?, args),
        Command::Graph(args) => graph::run(&cli.globals, args),
        Command::Generate(args) => generate::run(&cli.globals, args),
        Command::Wait(args) => wait::run(root(), args),
        Command::Doctor(args) => doctor::run(&cli.globals, args),
        Command::Status(args) => status::run(&root()?, cli.globals.color, args),
        Command::Stop(args) => stop::run(&root()?, args),
        Command::Pause(args) => pause::pause(&root()?, args),
        Command::Unpause(args) => pause::unpause(&root()?, args),
        Command::Update(args) => update::run(&root()?, cli.globals.color.stderr(), args),
        Command::Kill(args) => kill::run(&root()?, args),
        Command::Rm(args) => rm::run(&root()?, args),
        Command::Gc(args) => gc::run(&root()?, args),
        Command::Completion(args) => completion::script(args),
        Command::Complete(args) => completion::complete(&cli.globals, args),
        Command::Man(args) => man::run(args),
        Command::Version(args) => version::run(args),
    }
}

/// Does `each` to every item. A failure is told at once and does not keep the others from their turn.
fn try_all<T>(items: impl IntoIterator<Item = T>, mut each: impl FnMut(T) -> Result<()>) -> u8 {
    let mut code = 0;
    for item in items {
        if let Err(error) = each(item) {
            write_stderr(&error::text(&error));
            code = if code == 0 { error::exit_code(&error).unwrap_or(1) } else { code };
        }
    }
    code
}

/// A value of a flag that its type refuses.
fn usage<T>(flag: &str, refused: Result<T, Refusal>) -> Result<T> {
    refused.or_else(|Refusal { message, help, .. }| {
        let error = Err(anyhow!("cannot use `{flag}`: {message}")).code(EXIT_USAGE);
        match help {
            Some(help) => error.hint(help),
            None => error,
        }
    })
}

/// What was typed as `-c APP POD` in place of `POD/APP`.
fn address(pod: &Address, app: Option<&String>) -> Result<Address> {
    app.map_or_else(|| Ok(pod.clone()), |app| usage("--app", pod.with_app(app)))
}

/// Each app of `-c` in each of the pods.
fn addresses(pods: &[Address], apps: &[String]) -> Result<Vec<Address>> {
    if apps.is_empty() {
        return Ok(pods.to_vec());
    }
    let each = pods.iter().flat_map(|pod| apps.iter().map(move |app| address(pod, Some(app))));
    each.collect()
}

fn not_running<T>(pod: &Pod) -> Result<T> {
    Err(anyhow!("it is not running ({})", pod.status().phase.words())).code(EXIT_NOT_RUNNING)
}

/// The app must be in the pod, and run.
fn check_app(status: &Status, app: &str) -> Result<()> {
    let Some(found) = status.app(app) else {
        return Err(anyhow!("it has no app `{app}`")).code(EXIT_NOT_FOUND);
    };
    if found.is_over() {
        let words = found.words();
        return Err(anyhow!("its app `{app}` is not running ({words})")).code(EXIT_NOT_RUNNING);
    }
    Ok(())
}

/// Asks stage1. There are moments without one, after the launcher has begun and before it has ended; a pod
/// that is dead is an error with its own exit code.
fn ask(pod: &Pod, command: &control::Command) -> Result<()> {
    ask_with(pod, command, Patience::default())
}

/// The same with another patience for each of the answers.
fn ask_with(pod: &Pod, command: &control::Command, patience: Patience<'_>) -> Result<()> {
    const PAUSE: Duration = Duration::from_millis(20);
    const ATTEMPTS: u32 = 500;
    for _ in 0..ATTEMPTS {
        if !pod.is_alive() {
            return not_running(pod);
        }
        if client::ask(pod, command.clone(), patience)? == Answer::Accepted {
            return Ok(());
        }
        match patience.held {
            Some(held) if held.comes_within(PAUSE) => bail!(Interrupted),
            Some(_) => {}
            None => std::thread::sleep(PAUSE),
        }
    }
    Err(anyhow!("nobody answers, though it is alive")).hint(format!("`podrun rm -f {}` kills it", pod.id()))
}

/// What a pod has left that died without its launcher; its record stays.
fn settle_dead(pod: &Pod) -> Result<()> {
    undo::settle(pod, undo::Living::Wait)?;
    Ok(())
}
