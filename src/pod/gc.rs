//! Undoing what dead pods have left: their groups, their names, their directories.
//!
//! A pod is *settled* when nothing of it is left on the host but its record: its groups are gone in every
//! hierarchy and its account has a last word. *Removing* it settles it first and takes the record away last,
//! so that a `gc` that is killed in the middle leaves something for the next one to find.
//!
//! Whoever settles holds a lock on the pod's directory itself, not on the pod's `lock` file, so that a reader
//! never takes a pod that is being cleaned for a living one. Every step may run twice. A living pod is touched
//! only by force.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use podrun_abi::control::Command;
use podrun_abi::event::Event;

use super::events;
use super::plan::PlanRecord;
use super::record::Unreadable;
use super::root::{REMAINS, Root, lock_before};
use super::status::{Liveness, Phase, Status};
use super::{Pod, PodId, client, dir};
use crate::cgroup::remove::{remove_leftovers, remove_recorded};
use crate::host;
use crate::sockets;
use crate::systemd::scope;

/// How long the groups of a dead pod may take to go.
const GROUPS_DEADLINE: Duration = Duration::from_secs(10);
/// Added to a pod's own stop-timeout when it is waited for.
const MARGIN: Duration = Duration::from_secs(10);
/// How long a pod without a limit of its own is waited for.
const UNLIMITED_DEADLINE: Duration = Duration::from_secs(60);
/// How long a launcher may take to clean up after a kill before its pod is taken from it.
const KILL_DEADLINE: Duration = Duration::from_secs(5);
/// Another `gc` is at work on the same pod; it has deadlines of its own.
const TURN_DEADLINE: Duration = Duration::from_secs(90);

/// What is done about a pod that lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Living {
    /// A running pod is left alone; an orphaned one, on its way down, is waited for.
    Wait,
    /// An orphaned pod is killed.
    KillOrphans,
    /// It is killed.
    Kill,
}

/// What became of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It runs, with its launcher, and was left alone.
    Running,
    /// Nothing of it is left but its record, which says this.
    Over(Box<Status>),
    /// Somebody else has removed it meanwhile.
    Gone,
}

/// Brings a pod to its end and undoes everything but its record.
///
/// # Errors
/// What is left, or that an orphaned pod has not ended in its time.
pub fn settle(pod: &Pod, living: Living) -> Result<Settled> {
    match take_turn(pod)? {
        Some(_turn) => settle_in_turn(pod, living),
        None => Ok(Settled::Gone),
    }
}

/// Settles a pod and removes its record. Nothing is done to one that is left running.
///
/// # Errors
/// As [`settle`]; the record stays then.
pub fn remove(root: &Root, pod: &Pod, living: Living) -> Result<Settled> {
    let Some(_turn) = take_turn(pod)? else { return Ok(Settled::Gone) };
    let settled = settle_in_turn(pod, living)?;
    if matches!(settled, Settled::Over(_)) {
        remove_record(root, pod.recorded_name(), pod.id(), pod.path())?;
    }
    Ok(settled)
}

/// What `run` does before it takes a name: the pod that had it last is settled, if it is dead or an orphan on
/// its way down. Its record stays.
///
/// # Errors
/// What is left of it.
pub fn settle_name(root: &Root, name: &str) -> Result<()> {
    let Some(pod) = root.named(name).filter(|pod| !pod.is_alive() || !pod.has_launcher()) else {
        return Ok(());
    };
    settle(&pod, Living::Wait).with_context(|| format!("cannot clean up after pod {}", pod.id()))?;
    Ok(())
}

/// `None`: the directory is gone, or is another one by now.
fn take_turn(pod: &Pod) -> Result<Option<File>> {
    let context = || format!("cannot lock `{}`", pod.path().display());
    let Ok(directory) = File::open(pod.path()) else { return Ok(None) };
    if !lock_before(&directory, Instant::now() + TURN_DEADLINE).with_context(context)? {
        return Err(anyhow!("another podrun is removing it")).with_context(context);
    }
    let inode = directory.metadata().map(|metadata| metadata.ino());
    match (inode, std::fs::symlink_metadata(pod.path())) {
        (Ok(held), Ok(found)) if held == found.ino() => Ok(Some(directory)),
        _ => Ok(None),
    }
}

fn settle_in_turn(pod: &Pod, living: Living) -> Result<Settled> {
    if pod.is_alive() && !end(pod, living)? {
        return Ok(Settled::Running);
    }
    remove_groups(pod, GROUPS_DEADLINE)?;
    let status = pod.status();
    if let Phase::Lost { cause } = &status.phase
        && status.ended_ms.is_none()
    {
        // Whoever folds the account comes to the same; on a full disk the record is all that is missed.
        let _ = record_loss(pod.path(), cause);
    }
    Ok(Settled::Over(Box::new(status)))
}

/// Waits for the end of a living pod, or brings it about. `false`: it is left alone.
fn end(pod: &Pod, living: Living) -> Result<bool> {
    let has_launcher = pod.has_launcher();
    match living {
        Living::Wait | Living::KillOrphans if has_launcher => Ok(!pod.is_alive()),
        Living::Wait => {
            if wait_for_end(pod, patience(pod)) {
                return Ok(true);
            }
            bail!("its launcher is gone and it has not ended in its time")
        }
        Living::Kill | Living::KillOrphans => {
            // A refusal does not matter: what does not die in order dies by its groups.
            let _ = client::ask(pod, Command::Kill { apps: Vec::new() }, client::Patience::default());
            if !wait_for_end(pod, KILL_DEADLINE) {
                // Kills first; what cannot be removed as long as the launcher is in its own group is removed
                // after its end.
                let _ = remove_groups(pod, Duration::ZERO);
            }
            if wait_for_end(pod, KILL_DEADLINE) {
                return Ok(true);
            }
            bail!("everything in it was killed and its launcher has not ended")
        }
    }
}

/// How long the ordered stop of a pod may take, from outside.
fn patience(pod: &Pod) -> Duration {
    match pod.plan().map(|plan| plan.stop_timeout_ms) {
        Ok(Some(timeout_ms)) => Duration::from_millis(timeout_ms) + MARGIN,
        _ => UNLIMITED_DEADLINE,
    }
}

/// Waits until nobody holds the pod's lock; `false`: somebody still does.
#[must_use]
pub fn wait_for_end(pod: &Pod, timeout: Duration) -> bool {
    let deadline = Instant::now().checked_add(timeout);
    let mut pause = Duration::from_millis(1);
    while pod.is_alive() {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    true
}

/// From the record where there is one, else by the name that derives from the id. No group outlives the kernel
/// that made it; the file of a socket does.
fn remove_groups(pod: &Pod, timeout: Duration) -> Result<()> {
    let deadline = Instant::now() + timeout;
    let plan = pod.plan();
    let removed = match &plan {
        _ if pod.liveness() == Liveness::OtherBoot => Ok(()),
        Ok(plan) => remove_planned(plan, deadline),
        // The plan is recorded before the first group is made: no plan and no event, no group.
        Err(Unreadable::Missing) if !pod.path().join(dir::EVENTS).exists() => Ok(()),
        Err(_) => remove_leftovers(&host::hierarchies()?, &format!("podrun-{}", pod.id()), deadline),
    };
    // Behind the processes that had them open.
    if let Ok(plan) = &plan {
        sockets::remove(&plan.sockets);
    }
    removed
}

fn remove_planned(plan: &PlanRecord, deadline: Instant) -> Result<()> {
    remove_recorded(&plan.cgroup, deadline)?;
    plan.service.iter().for_each(|service| service.remove(&plan.cgroup));
    plan.units.iter().try_for_each(|units| scope::remove_recorded(units, &plan.cgroup, deadline))
}

/// Appends the last word that stage1 could not say. A line that was cut off is ended first.
fn record_loss(path: &Path, cause: &str) -> Result<()> {
    let record = events::stamp(Event::PodLost { cause: cause.to_owned() });
    let mut line = if is_cut_off(&path.join(dir::EVENTS)) { vec![b'\n'] } else { Vec::new() };
    serde_json::to_writer(&mut line, &record)?;
    line.push(b'\n');
    dir::open_events(path)?.write_all(&line)?;
    Ok(())
}

fn is_cut_off(path: &Path) -> bool {
    let mut last = [b'\n'];
    let read = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)
    });
    read.is_ok() && last != [b'\n']
}

/// Out of sight, then away.
fn remove_record(root: &Root, name: Option<&str>, id: &PodId, path: &Path) -> Result<()> {
    remove_remains(&retire(root, name, id, path)?)
}

/// Out of sight with one rename. The name first: a name that leads nowhere is free.
pub(super) fn retire(root: &Root, name: Option<&str>, id: &PodId, path: &Path) -> Result<PathBuf> {
    if let Some(name) = name {
        root.release_name(name, id)?;
    }
    let remains = root.pods().join(format!("{REMAINS}{id}"));
    std::fs::rename(path, &remains).with_context(|| format!("cannot remove `{}`", path.display()))?;
    Ok(remains)
}

/// Removes what [`retire`] has taken out of sight.
pub(super) fn remove_remains(remains: &Path) -> Result<()> {
    remove_tree(remains).with_context(|| format!("cannot remove `{}`", remains.display()))
}

/// Removes what is no pod: directories of launchers that died before their pod had a lock and a name, those of
/// a `gc` that died before it was done, and names that lead nowhere. Returns how many directories there were.
///
/// # Errors
/// The first one that could not be removed, after all were tried.
pub fn sweep(root: &Root) -> Result<usize> {
    let (mut removed, mut failed) = (0, root.sweep_unfinished());
    for entry in root.entries()?.iter().filter(|entry| entry.starts_with(REMAINS)) {
        let path = root.pods().join(entry);
        match remove_tree(&path) {
            Ok(()) => removed += 1,
            // Another `gc` was faster.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                failed =
                    failed.and(Err(error).with_context(|| format!("cannot remove `{}`", path.display())));
            }
        }
    }
    failed.map(|()| removed)
}

/// Several may take the same remains apart; each meets entries that another has just removed. That is not the
/// end of it, since the other may have met ours and given up.
pub(super) fn remove_tree(path: &Path) -> std::io::Result<()> {
    const ATTEMPTS: u32 = 1000;
    let mut result = Ok(());
    for _ in 0..ATTEMPTS {
        result = std::fs::remove_dir_all(path);
        match &result {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {}
            _ => return result,
        }
        if std::fs::symlink_metadata(path).is_err() {
            return Ok(());
        }
    }
    result
}

#[cfg(test)]
#[path = "gc_tests.rs"]
mod tests;
