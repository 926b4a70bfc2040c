//! What `run` does before a pod is made, for its flags: `--dry-run`, `--exit-code-from`, `--replace`, `--id-file`,
//! `--pidfile`.
//!
//! Whatever can be found wrong is found before the pod that is replaced is stopped.

use std::path::Path;

use anyhow::{Context, Result, anyhow};

use super::super::{load, stop};
use super::service;
use crate::cli::{Globals, RunArgs};
use crate::commands::{self, load::Loaded};
use crate::error::Note;
use crate::output::write_stdout;
use crate::plan::{self, Plan, Request, Started};
use crate::pod::root::Root;
use crate::sockets::Named;

/// Stands for the id of a pod that is not made.
const NO_ID: &str = "ID";

/// How this podrun was started.
#[must_use]
pub fn started(args: &RunArgs) -> Started {
    if args.detach { Started::Detached } else { Started::Foreground }
}

fn request(args: &RunArgs, passed: Vec<String>) -> Request {
    Request {
        id: NO_ID.to_owned(),
        name: args.name.clone(),
        started: started(args),
        passed,
        watchdog_us: None,
    }
}

/// Prints the plan instead of running it.
///
/// # Errors
/// What this host cannot do.
pub fn dry_run(globals: &Globals, args: &RunArgs, loaded: &Loaded) -> Result<u8> {
    let request = request(args, Vec::new());
    let plan = load::plan(loaded, &request, args.driver, globals.color.stderr())?;
    write_stdout(&commands::plan::text(&plan, None))?;
    Ok(0)
}

/// The plan of a pod whose launcher is to be the process of a service; `None`: it forks away from here. Sockets that
/// somebody has passed to this process are in it alone.
///
/// # Errors
/// What this host cannot do; the name of a pod that runs.
pub fn plan_of_service(
    globals: &Globals,
    args: &RunArgs,
    loaded: &Loaded,
    passed: &[Named],
) -> Result<Option<Plan>> {
    if !passed.is_empty() || !service::can_be(args.driver) {
        return Ok(None);
    }
    // What there is to warn of the launcher tells.
    let plan = load::plan(loaded, &request(args, Vec::new()), args.driver, globals.color.stderr())?;
    if plan.driver != plan::Driver::Systemd {
        return Ok(None);
    }
    let context = || format!("cannot start pod `{}`", plan.pod);
    Root::open(&globals.root).and_then(|root| root.check_free(&plan.pod)).with_context(context)?;
    Ok(Some(plan))
}

/// The app of `--exit-code-from` must be there.
///
/// # Errors
/// When it is not.
pub fn check_decider(args: &RunArgs, loaded: &Loaded) -> Result<()> {
    let Some(wanted) = &args.exit_code_from else { return Ok(()) };
    let names: Vec<&str> = loaded.spec.apps.iter().map(|app| app.name.as_str()).collect();
    if names.contains(&wanted.as_str()) {
        return Ok(());
    }
    Err(anyhow!("cannot use `--exit-code-from {wanted}`: the pod has no such app"))
        .hint(format!("its apps are {}", names.join(", ")))
}

/// Stops the pod that has the name, when one runs.
///
/// # Errors
/// When the new pod could not be run here, and nothing was stopped; or the old one does not end.
pub fn replace(globals: &Globals, args: &RunArgs, loaded: &Loaded, passed: Vec<String>) -> Result<()> {
    load::plan(loaded, &request(args, passed), args.driver, globals.color.stderr())?;
    let root = Root::open(&globals.root)?;
    let name = args.name.as_deref().unwrap_or(&loaded.spec.pod.name);
    let running = root.list()?.into_iter().find(|pod| pod.name() == name && pod.is_alive());
    running.map_or(Ok(()), |pod| stop::in_order(&pod))
}

/// Writes the id where scripts look for it.
///
/// # Errors
/// When the file cannot be written.
pub fn write_id(path: &Path, id: &str) -> Result<()> {
    std::fs::write(path, format!("{id}\n")).with_context(|| format!("cannot write `{}`", path.display()))
}

/// Writes the launcher's pid where scripts look for it.
///
/// # Errors
/// When the file cannot be written.
pub fn write_pid(path: &Path) -> Result<()> {
    let own = std::process::id();
    std::fs::write(path, format!("{own}\n")).with_context(|| format!("cannot write `{}`", path.display()))
}

/// Removes it at the end, if it is still ours: the number belongs to another process soon.
pub fn remove_pid(path: Option<&Path>) {
    let Some(path) = path else { return };
    let is_ours = |text: &String| text.trim() == std::process::id().to_string();
    if std::fs::read_to_string(path).as_ref().is_ok_and(is_ours) {
        // Whoever reads it afterwards finds no process, or none that holds the pod's lock.
        let _ = std::fs::remove_file(path);
    }
}
