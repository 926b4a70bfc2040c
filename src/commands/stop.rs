//! `podrun stop`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use podrun_abi::control::Command;

use super::{addresses, ask, check_app, not_running, settle_dead, try_all, usage};
use crate::cli::StopArgs;
use crate::error::Note;
use crate::pod::gc::wait_for_end;
use crate::pod::root::Root;
use crate::pod::{Address, Pod};
use crate::spec::Grace;
use crate::value::duration;

/// Added to the time that a stop may take: stage1 kills what is left, the launcher removes the groups.
const MARGIN: Duration = Duration::from_secs(15);

/// One pod and what of it is to stop.
struct Target {
    pod: Pod,
    /// Empty: the pod as a whole.
    apps: Vec<String>,
}

/// Stops pods or apps in order and waits for their end.
///
/// # Errors
/// When the command line or the root makes no sense; what fails for one pod is told and counted.
pub fn run(root: &Root, args: &StopArgs) -> Result<u8> {
    let time = args.time.as_deref().map(|text| usage("--time", duration::parse(text))).transpose()?;
    let time = time.and_then(|grace| match grace {
        Grace::Limited(time) => Some(time),
        Grace::Infinite => None,
    });
    let (targets, mut code) = targets(root, args)?;
    let mut asked = Vec::new();
    // All are asked before the first is waited for, so that they stop side by side.
    let failed = try_all(targets, |target| {
        begin(&target, time)?;
        asked.push(target);
        Ok(())
    });
    code = if code == 0 { failed } else { code };
    if args.no_wait {
        return Ok(code);
    }
    let failed = try_all(asked, |target| finish(&target, time));
    Ok(if code == 0 { failed } else { code })
}

/// Stops one pod in order and waits for its end; one that is over already is no error.
///
/// # Errors
/// When stage1 refuses, or the pod does not end in its time.
pub(super) fn in_order(pod: &Pod) -> Result<()> {
    let target = Target { pod: pod.clone(), apps: Vec::new() };
    if !pod.is_alive() {
        return settle_dead(pod);
    }
    begin(&target, None)?;
    finish(&target, None)
}

/// Several apps of one pod are one target. What cannot be found is told, the rest is stopped.
fn targets(root: &Root, args: &StopArgs) -> Result<(Vec<Target>, u8)> {
    if args.all {
        let alive = root.list()?.into_iter().filter(Pod::is_alive);
        return Ok((alive.map(|pod| Target { pod, apps: Vec::new() }).collect(), 0));
    }
    let mut targets: Vec<Target> = Vec::new();
    let code = try_all(&addresses(&args.pods, &args.apps)?, |Address { pod: word, app }| {
        let pod = root.find(word)?;
        let known = targets.iter_mut().find(|target| target.pod.id() == pod.id());
        match (known, app) {
            (Some(target), None) => target.apps.clear(),
            // The pod as a whole was named before.
            (Some(target), Some(_)) if target.apps.is_empty() => {}
            (Some(target), Some(app)) => target.apps.push(app.clone()),
            (None, app) => targets.push(Target { pod, apps: app.iter().cloned().collect() }),
        }
        Ok(())
    });
    Ok((targets, code))
}

fn begin(target: &Target, time: Option<Duration>) -> Result<()> {
    ask_to_stop(target, time).with_context(|| format!("cannot stop pod `{}`", target.pod.name()))
}

fn ask_to_stop(Target { pod, apps }: &Target, time: Option<Duration>) -> Result<()> {
    if !pod.is_alive() {
        settle_dead(pod)?;
        return not_running(pod);
    }
    let status = pod.status();
    apps.iter().try_for_each(|app| check_app(&status, app))?;
    let timeout_ms = time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    ask(pod, &Command::Stop { apps: apps.clone(), timeout_ms })
}

fn finish(target: &Target, time: Option<Duration>) -> Result<()> {
    let Target { pod, apps } = target;
    let limit = limit(pod, apps, time);
    let waited = if apps.is_empty() { wait_for_pod(pod, limit) } else { wait_for_apps(pod, apps, limit) };
    waited.with_context(|| format!("cannot stop pod `{}`", pod.name()))
}

/// `None`: as long as it takes, since the manifest says so.
fn limit(pod: &Pod, apps: &[String], time: Option<Duration>) -> Option<Duration> {
    // The stop-timeout of the pod bounds those of its apps only when the pod as a whole is stopped.
    let planned = pod.plan().ok().filter(|_| apps.is_empty()).and_then(|plan| plan.stop_timeout_ms);
    time.or(planned.map(Duration::from_millis)).map(|limit| limit + MARGIN)
}

fn wait_for_pod(pod: &Pod, limit: Option<Duration>) -> Result<()> {
    if !wait_for_end(pod, limit.unwrap_or(Duration::MAX)) {
        return Err(anyhow!("it has not ended in its time")).hint(format!("`podrun kill {}`", pod.name()));
    }
    // A launcher that was killed has left the groups to whoever comes next.
    settle_dead(pod)
}

fn wait_for_apps(pod: &Pod, apps: &[String], limit: Option<Duration>) -> Result<()> {
    const PAUSE: Duration = Duration::from_millis(20);
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    loop {
        let is_alive = pod.is_alive();
        let status = pod.status();
        let left = apps.iter().find(|app| status.app(app).is_some_and(|app| !app.is_over()));
        match left {
            Some(app) if is_alive && deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                bail!("its app `{app}` has not ended in its time");
            }
            Some(_) if is_alive => std::thread::sleep(PAUSE),
            _ => return Ok(()),
        }
    }
}
