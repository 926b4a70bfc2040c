//! `podrun pause` and `podrun unpause`.
//!
//! stage1 does it, since it is what thaws an app that is to end; whether the kernel has is read here, from the groups
//! themselves. A pause that does not come true is taken back, as is one whose answer is lost or that is interrupted:
//! stage1 takes orders in the order in which they were sent, so that the one that thaws comes after the one that freezes
//! whenever it reads them. What was paused before stays paused, by another command or by this one: a signal waits until
//! what has become of the pod at hand is told ([`Held`]), and no other one is begun then.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use podrun_abi::control::Command;

use super::{addresses, ask_with, check_app, not_running, try_all};
use crate::cgroup::limits::app_group;
use crate::cgroup::plan::CgroupPlan;
use crate::cgroup::stats::{self, Frozen};
use crate::cli::{PauseArgs, UnpauseArgs};
use crate::error::Note;
use crate::pod::client::{self, Answer, Interrupted, Patience};
use crate::pod::root::Root;
use crate::pod::status::{AppState, Status};
use crate::pod::{Address, Pod};
use crate::sys::held::Held;

/// A task that waits for a disk stands still when it has its answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// v1's freezer may wait for ever for a process that was forked at the wrong moment (runc tries a thousand times).
const AGAIN: Duration = Duration::from_millis(50);
/// Between two looks at the groups.
const LOOK: Duration = Duration::from_millis(2);
/// How long somebody who has waited already waits for the answer to the order that takes it back. It is obeyed without that.
const UNDO: Duration = Duration::from_secs(1);

/// Lets pods or apps stand still, and waits until they do.
///
/// # Errors
/// When the command line makes no sense, or signals cannot be held back; what fails for one pod is told and counted.
pub fn pause(root: &Root, args: &PauseArgs) -> Result<u8> {
    let addresses = addresses(&args.of.pods, &args.of.apps)?;
    // Whoever ends it finds nothing frozen by the pause at hand, and has read why.
    let held = Held::new().context("cannot hold signals back")?;
    let begun = addresses.into_iter().take_while(|_| !held.has_come());
    Ok(try_all(begun, |address| {
        let subject = Subject::find(root, &address)?;
        subject.pause(&held).with_context(|| format!("cannot pause {}", subject.shown()))
    }))
}

/// Lets pods or apps go on, and waits until they do.
///
/// # Errors
/// When the command line makes no sense; what fails for one pod is told and counted.
pub fn unpause(root: &Root, args: &UnpauseArgs) -> Result<u8> {
    Ok(try_all(addresses(&args.of.pods, &args.of.apps)?, |address| {
        let subject = Subject::find(root, &address)?;
        let told =
            subject.check().and_then(|()| subject.tell(Command::Unpause { apps: subject.apps() }, None));
        told.and_then(|()| subject.await_state(Frozen::Not, None))
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

    fn pause(&self, held: &Held) -> Result<()> {
        self.check()?;
        let others = self.not_paused();
        let order = Command::Pause { apps: self.apps() };
        let done = self.tell(order, Some(held)).and_then(|()| self.await_state(Frozen::Still, Some(held)));
        let done = done.and_then(|()| if held.has_come() { bail!(Interrupted) } else { Ok(()) });
        done.or_else(|error| match self.take_back(others) {
            Ok(()) => Err(error),
            Err(hint) => Err(error).hint(hint),
        })
    }

    /// Those that a pause lets stand still; `None`: all of the pod.
    fn not_paused(&self) -> Option<Vec<String>> {
        let status = self.pod.status();
        let is_meant = |name: &str| self.app.as_ref().is_none_or(|app| app == name);
        let meant = status.apps.iter().filter(|app| is_meant(&app.name));
        // What has just been paused may not be among the events yet.
        let goes_on = |name: &str| {
            stats::frozen(&self.groups, &app_group(name)).is_none_or(|state| state == Frozen::Not)
        };
        let others = meant.filter(|app| !app.is_paused && goes_on(&app.name));
        let others: Vec<String> = others.map(|app| app.name.clone()).collect();
        (others.len() < status.apps.len()).then_some(others)
    }

    /// An order without names is for all apps; one for none is not given. `Err`: what to do when nobody answers.
    fn take_back(&self, others: Option<Vec<String>>) -> std::result::Result<(), String> {
        if others.as_ref().is_some_and(Vec::is_empty) {
            return Ok(());
        }
        let apps = others.unwrap_or_default();
        let told = client::ask(
            &self.pod,
            Command::Unpause { apps: apps.clone() },
            Patience { time: UNDO, held: None },
        );
        if matches!(told, Ok(Answer::Accepted)) || !self.pod.is_alive() {
            return Ok(());
        }
        let pod = self.pod.name();
        let frozen = if apps.is_empty() {
            pod.to_owned()
        } else {
            apps.iter().map(|app| format!("{pod}/{app}")).collect::<Vec<_>>().join(" ")
        };
        Err(format!("stage1 does not answer; `podrun unpause {frozen}` when it does again"))
    }

    fn tell(&self, command: Command, held: Option<&Held>) -> Result<()> {
        ask_with(&self.pod, &command, Patience { held, ..Patience::default() })
    }

    /// The groups of those apps that run, and are not to end.
    fn running(&self, status: &Status) -> Vec<String> {
        let runs = |state: &AppState| matches!(state, AppState::Running { .. });
        let meant = |name: &str| self.app.as_ref().is_none_or(|app| app == name);
        let apps = status.apps.iter().filter(|app| runs(&app.state) && meant(&app.name));
        apps.map(|app| app_group(&app.name)).collect()
    }

    /// An app that has ended meanwhile stands as still as can be. What does not come true is asked for again.
    fn await_state(&self, wanted: Frozen, held: Option<&Held>) -> Result<()> {
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
                self.tell(Command::Pause { apps: self.apps() }, held)?;
            }
            match held {
                Some(held) if held.comes_within(LOOK) => bail!(Interrupted),
                Some(_) => {}
                None => std::thread::sleep(LOOK),
            }
        }
    }
}
