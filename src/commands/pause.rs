//! `podrun pause` and `podrun unpause`.
//!
//! stage1 does it, since it is what thaws an app that is to end; whether the kernel has is read here, from the groups
//! themselves. A pause that does not come true is taken back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use podrun_abi::control::Command;

use super::{addresses, ask, check_app, not_running, try_all};
use crate::cgroup::limits::app_group;
use crate::cgroup::plan::CgroupPlan;
use crate::cgroup::stats::{self, Frozen};
use crate::cli::{PauseArgs, UnpauseArgs};
use crate::error::Note;
use crate::pod::root::Root;
use crate::pod::status::{AppState, Status};
use crate::pod::{Address, Pod};

/// A task that waits for a disk stands still when it has its answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// v1's freezer may wait for ever for a process that was forked at the wrong moment (runc tries a thousand times).
const AGAIN: Duration = Duration::from_millis(50);

/// Lets pods or apps stand still, and waits until they do.
///
/// # Errors
/// When the command line makes no sense; what fails for one pod is told and counted.
pub fn pause(root: &Root, args: &PauseArgs) -> Result<u8> {
    Ok(try_all(addresses(&args.of.pods, &args.of.apps)?, |address| {
        let subject = Subject::find(root, &address)?;
        let context = || format!("cannot pause {}", subject.shown());
        subject
            .check()
            .and_then(|()| subject.tell(Command::Pause { apps: subject.apps() }))
            .with_context(context)?;
        subject.await_state(Frozen::Still).or_else(|error| {
            // What is left undone is told by the first error.
            let _ = subject.tell(Command::Unpause { apps: subject.apps() });
            Err(error).with_context(context)
        })
    }))
}

/// Lets pods or apps go on, and waits until they do.
///
/// # Errors
/// As [`pause`].
pub fn unpause(root: &Root, args: &UnpauseArgs) -> Result<u8> {
    Ok(try_all(addresses(&args.of.pods, &args.of.apps)?, |address| {
        let subject = Subject::find(root, &address)?;
        let told = subject.check().and_then(|()| subject.tell(Command::Unpause { apps: subject.apps() }));
        told.and_then(|()| subject.await_state(Frozen::Not))
            .with_context(|| format!("cannot unpause {}", subject.shown()))
    }))
}

/// A pod, or one app of it.
struct Subject {
    pod: Pod,
    app: Option<String>,
    groups: CgroupPlan,
}

impl Subject {
    fn find(root: &Root, address: &Address) -> Result<Self> {
        let pod = root.find(&address.pod)?;
        let groups = pod
            .plan()
            .map_err(|why| anyhow!("{why}"))
            .with_context(|| format!("cannot read the plan of pod `{}`", pod.name()))?
            .cgroup;
        Ok(Self { pod, app: address.app.clone(), groups })
    }

    fn shown(&self) -> String {
        match &self.app {
            Some(app) => format!("app `{app}` of pod `{}`", self.pod.name()),
            None => format!("pod `{}`", self.pod.name()),
        }
    }

    fn apps(&self) -> Vec<String> {
        self.app.iter().cloned().collect()
    }

    /// Whether it runs, on a host where something can be frozen.
    fn check(&self) -> Result<()> {
        if !self.pod.is_alive() {
            return not_running(&self.pod);
        }
        self.app.as_ref().map_or(Ok(()), |app| check_app(&self.pod.status(), app))?;
        if stats::frozen(&self.groups, "").is_none() {
            return Err(anyhow!("this host can freeze no group"))
                .hint("mount a cgroup2 tree, or the freezer controller of cgroup v1");
        }
        Ok(())
    }

    fn tell(&self, command: Command) -> Result<()> {
        ask(&self.pod, &command)
    }

    /// The groups of those apps that run, and are not to end.
    fn running(&self, status: &Status) -> Vec<String> {
        let runs = |state: &AppState| matches!(state, AppState::Running { .. });
        let meant = |name: &str| self.app.as_ref().is_none_or(|app| app == name);
        let apps = status.apps.iter().filter(|app| runs(&app.state) && meant(&app.name));
        apps.map(|app| app_group(&app.name)).collect()
    }

    /// An app that has ended meanwhile stands as still as can be. What does not come true is asked for again.
    fn await_state(&self, wanted: Frozen) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        let mut again_at = Instant::now() + AGAIN;
        loop {
            let groups = self.running(&self.pod.status());
            let left: Vec<&String> = groups
                .iter()
                .filter(|group| stats::frozen(&self.groups, group).is_some_and(|state| state != wanted))
                .collect();
            let Some(group) = left.first() else { return Ok(()) };
            if Instant::now() >= deadline {
                bail!("group `{group}` has not done it within {DEADLINE:?}");
            }
            if Instant::now() >= again_at && wanted == Frozen::Still {
                again_at = Instant::now() + AGAIN;
                self.tell(Command::Pause { apps: self.apps() })?;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
