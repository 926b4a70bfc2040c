//! `podrun kill`.

use anyhow::{Context, Result};
use podrun_abi::control::Command;

use super::{address, ask, check_app, not_running, usage};
use crate::cli::KillArgs;
use crate::pod::root::Root;
use crate::pod::{Address, Pod};
use crate::value::signal;

/// Kills a pod or an app at once, or sends a signal. Does not wait.
///
/// # Errors
/// When there is no such pod or app, it does not run, or stage1 refuses.
pub fn run(root: &Root, args: &KillArgs) -> Result<u8> {
    let signal = args.signal.as_deref().map(|text| usage("--signal", signal::parse(text))).transpose()?;
    let Address { pod, app } = address(&args.pod, args.app.as_ref())?;
    let pod = root.find(&pod)?;
    let apps: Vec<String> = app.iter().cloned().collect();
    let command = match signal {
        None => Command::Kill { apps },
        Some(signal) => Command::Signal { apps, signal, all_processes: args.all_processes },
    };
    send(&pod, app.as_deref(), &command).with_context(|| format!("cannot signal pod `{}`", pod.name()))?;
    Ok(0)
}

fn send(pod: &Pod, app: Option<&str>, command: &Command) -> Result<()> {
    if !pod.is_alive() {
        return not_running(pod);
    }
    let status = pod.status();
    app.map_or(Ok(()), |app| check_app(&status, app))?;
    ask(pod, command)
}
