//! `podrun kill`.

use anyhow::{Context, Result};
use podrun_abi::control::Command;

use super::{ask, check_app, not_running, usage};
use crate::cli::KillArgs;
use crate::error::{EXIT_NOT_RUNNING, Note};
use crate::pod::root::Root;
use crate::value::signal;

/// Kills a pod or an app at once, or sends a signal. Does not wait.
///
/// # Errors
/// When there is no such pod or app, it does not run, or stage1 refuses.
pub fn run(root: &Root, args: &KillArgs) -> Result<u8> {
    let signal = args.signal.as_deref().map(|text| usage(signal::parse(text))).transpose()?;
    let pod = root.find(&args.pod.pod)?;
    if !pod.is_alive() {
        return Err(not_running(&pod)).code(EXIT_NOT_RUNNING);
    }
    if let Some(app) = &args.pod.app {
        check_app(&pod, &pod.status(), app)?;
    }
    let apps: Vec<String> = args.pod.app.iter().cloned().collect();
    let command = match signal {
        None => Command::Kill { apps },
        Some(signal) => Command::Signal { apps, signal, all_processes: args.all_processes },
    };
    ask(&pod, &command).with_context(|| format!("cannot kill `{}`", pod.name()))?;
    Ok(0)
}
