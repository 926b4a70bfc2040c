//! `podrun wait`: until pods or apps have ended, or are ready. Its exit codes are those of `run`.

use anyhow::{Result, anyhow};

use super::addresses;
use super::waiting::{Pause, Progress, Subject, deadline};
use crate::cli::WaitArgs;
use crate::cli::pods::Condition;
use crate::error::{self, EXIT_PODRUN_FAILED, EXIT_TIMED_OUT};
use crate::output::write_stderr;
use crate::pod::Address;
use crate::pod::root::Root;

/// Waits, and returns the code of what it has waited for.
///
/// # Errors
/// Never: what cannot be waited for is told, and is 125.
pub fn run(root: Result<Root>, args: &WaitArgs) -> Result<u8> {
    Ok(try_run(root, args).unwrap_or_else(|error| {
        write_stderr(&error::text(&error));
        EXIT_PODRUN_FAILED
    }))
}

fn try_run(root: Result<Root>, args: &WaitArgs) -> Result<u8> {
    let root = root?;
    let subjects: Vec<Subject> = addresses(&args.pods, &args.apps)?
        .iter()
        .map(|address| find(&root, address))
        .collect::<Result<_>>()?;
    let deadline = deadline(args.timeout);
    let mut settled: Vec<Option<u8>> = vec![None; subjects.len()];
    let mut pause = Pause::default();
    loop {
        for (subject, settled) in subjects.iter().zip(&mut settled).filter(|(_, settled)| settled.is_none()) {
            match subject.progress(args.condition) {
                Progress::Pending => {}
                Progress::Holds(code) if args.any => return Ok(code),
                Progress::Holds(code) => *settled = Some(code),
                Progress::Missed(code) => return missed(subject, code),
            }
        }
        let left: Vec<&Subject> =
            subjects.iter().zip(&settled).filter_map(|(s, code)| code.is_none().then_some(s)).collect();
        let Some(first) = left.first() else { break };
        if !pause.before(deadline) {
            let what = if args.condition == Condition::Ready { "is not ready" } else { "has not ended" };
            write_stderr(&format!("podrun: {} {what} in its time\n", first.words()));
            return Ok(EXIT_TIMED_OUT);
        }
    }
    Ok(settled.into_iter().flatten().find(|code| *code != 0).unwrap_or(0))
}

fn missed(subject: &Subject, code: u8) -> Result<u8> {
    write_stderr(&format!("podrun: {} has ended and was not ready\n", subject.words()));
    Ok(if code == 0 { EXIT_PODRUN_FAILED } else { code })
}

fn find(root: &Root, address: &Address) -> Result<Subject> {
    let pod = root.find(&address.pod)?;
    if let Some(app) = &address.app
        && pod.status().app(app).is_none()
    {
        return Err(anyhow!("pod `{}` has no app `{app}`", pod.name()));
    }
    Ok(Subject { pod, app: address.app.clone() })
}
