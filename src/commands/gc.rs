//! `podrun gc`.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{try_all, usage};
use crate::cli::GcArgs;
use crate::output::{write_stderr, write_stdout};
use crate::pod::Pod;
use crate::pod::gc::{self, Living, Settled};
use crate::pod::record::now_ms;
use crate::pod::root::Root;
use crate::spec::Grace;
use crate::value::duration;

/// Removes what dead pods have left, and the records of ended ones. One line for each says how it ended.
///
/// # Errors
/// When the root cannot be read; what fails for one pod is told and counted.
pub fn run(root: &Root, args: &GcArgs) -> Result<u8> {
    let age =
        args.older_than.as_deref().map(|text| usage("--older-than", duration::parse(text))).transpose()?;
    let living = if args.force { Living::KillOrphans } else { Living::Wait };
    let code = try_all(root.list()?, |pod| match args.dry_run {
        true => announce(&pod, age),
        false => collect(root, &pod, living, age),
    });
    if args.dry_run {
        return Ok(code);
    }
    let swept = try_all([()], |()| gc::sweep(root).map(|_| ()));
    Ok(if code == 0 { swept } else { code })
}

/// Pods that are too young keep their record, but nothing else.
fn collect(root: &Root, pod: &Pod, living: Living, age: Option<Grace>) -> Result<()> {
    let keep = is_young(pod, age);
    let settled = if keep { gc::settle(pod, living) } else { gc::remove(root, pod, living) };
    let settled = settled.with_context(|| format!("cannot remove pod `{}` ({})", pod.name(), pod.id()))?;
    if let Settled::Over(status) = settled
        && !keep
    {
        write_stdout(&format!("removed pod {} ({}): {}\n", pod.name(), pod.id(), status.phase.words()))?;
    }
    Ok(())
}

fn announce(pod: &Pod, age: Option<Grace>) -> Result<()> {
    let words = pod.status().phase.words();
    if !pod.is_alive() && !is_young(pod, age) {
        write_stdout(&format!("would remove pod {} ({}): {words}\n", pod.name(), pod.id()))?;
    } else if pod.is_alive() && !pod.has_launcher() {
        write_stderr(&format!("pod {} ({}) is still on its way down: {words}\n", pod.name(), pod.id()));
    }
    Ok(())
}

/// A pod without a time of its end counts from its beginning.
fn is_young(pod: &Pod, age: Option<Grace>) -> bool {
    match age {
        None => false,
        Some(Grace::Infinite) => true,
        Some(Grace::Limited(age)) => {
            let since = pod.status().ended_ms.or(pod.created_ms()).unwrap_or_default();
            Duration::from_millis(now_ms().saturating_sub(since)) < age
        }
    }
}
