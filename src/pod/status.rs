//! [`Status`]: what is known of a pod, as a fold over its records.
//!
//! Pure: records go in, one after another, in the order in which stage1 wrote them. The launcher folds while
//! the pod runs, `status` and `ps` fold `events.jsonl` afterwards; both come to the same. [`words`] says it
//! to people, [`json`] to scripts.
//!
//! A pod goes preparing, starting, running, stopping, and then it is over: ended, failed to boot, or lost.
//! What is over stays over: no later record takes it back. An app goes waiting, running, stopping, ended, and
//! may run again.

pub mod json;
pub mod words;

use podrun_abi::event::{End, Event, Outcome, Record, StopReason};
use podrun_abi::failure::StartFailure;

use super::events::Unread;
use crate::output::printable;

/// A pod has a few hundred apps at most; a damaged account may name any number.
const APPS_MAX: usize = 16 * 1024;

/// What is known of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// How far the pod is.
    pub phase: Phase,
    /// The apps in the order of the plan.
    pub apps: Vec<AppStatus>,
    /// When stage1 began, in milliseconds since 1970.
    pub started_ms: Option<u64>,
    /// When the pod was over.
    pub ended_ms: Option<u64>,
    /// Something of the account could not be read.
    pub incomplete: bool,
}

/// How far a pod is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// The launcher makes groups, descriptors and namespaces.
    Preparing,
    /// The pod's namespaces are there; not every app has been started, or has said that it is ready.
    Starting,
    /// Every app was started, and those that say so by themselves are ready.
    Running,
    /// On its way down.
    Stopping {
        /// Why.
        reason: StopReason,
    },
    /// Over, and stage1 has said how.
    Ended {
        /// The exit code of the pod.
        code: u8,
        /// Why it ended.
        reason: StopReason,
        /// The app whose end decided the code.
        decided_by: Option<String>,
    },
    /// Over: stage1 could not build it.
    BootFailed {
        /// What went wrong.
        failure: StartFailure,
    },
    /// Over, without a last word of stage1.
    Lost {
        /// What is known of it.
        cause: String,
    },
    /// The account cannot be read far enough.
    Unknown {
        /// Why not.
        why: String,
    },
}

impl Phase {
    /// Nothing of the pod runs any more, as far as its account says.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Ended { .. } | Self::BootFailed { .. } | Self::Lost { .. })
    }

    /// Its ordered stop has begun.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        matches!(self, Self::Stopping { .. })
    }
}

/// What is known of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppStatus {
    /// Unique in the pod.
    pub name: String,
    /// How far it is.
    pub state: AppState,
    /// When it was last exec'ed, in milliseconds since 1970.
    pub started_ms: Option<u64>,
    /// When it last ended.
    pub ended_ms: Option<u64>,
    /// Why it was not exec'ed.
    pub failure: Option<StartFailure>,
    /// It alone was told to stop, not the pod as a whole.
    pub stopped_alone: bool,
    /// Processes that could not be killed, by their pids in the pod.
    pub unkillable: Vec<i32>,
    /// Whether it has said that it is ready; `None`: it does not say so by itself.
    pub ready: Option<bool>,
    /// How it is, in its own words. They are not in the account, only in `status.json`.
    pub says: Option<String>,
    /// It did not tell in time that it works.
    pub is_late: bool,
    /// Its processes stand still.
    pub is_paused: bool,
    /// How many of its processes the OOM killer has killed since it was exec'ed.
    pub oom_kills: u64,
}

/// How far an app is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppState {
    /// Not started yet.
    Waiting,
    /// Exec'ed.
    Running {
        /// Its main process, in the pod.
        pid: i32,
    },
    /// It was sent its stop signal.
    Stopping {
        /// Its main process, in the pod.
        pid: i32,
    },
    /// Nothing of it is left.
    Ended(Outcome),
    /// The pod is gone, and nobody has seen the app's end.
    Lost,
}

/// What the lock and the boot say about a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// Somebody holds the lock.
    Alive,
    /// Nobody does.
    Dead,
    /// The pod was made before the host was restarted.
    OtherBoot,
}

impl Status {
    /// A pod of which nothing has been heard.
    #[must_use]
    pub fn new(apps: Vec<String>) -> Self {
        let apps = apps.into_iter().map(AppStatus::new).collect();
        Self { phase: Phase::Preparing, apps, started_ms: None, ended_ms: None, incomplete: false }
    }

    /// Takes the next record.
    pub fn apply(&mut self, record: &Record) {
        let time = record.time_ms;
        match &record.event {
            Event::Booted => self.advance(Phase::Starting, time),
            Event::Up => self.advance(Phase::Running, time),
            Event::PodStopping { reason } => self.advance(Phase::Stopping { reason: reason.clone() }, time),
            Event::PodEnded { code, reason, decided_by } => {
                let (reason, decided_by) = (reason.clone(), decided_by.clone());
                self.advance(Phase::Ended { code: *code, reason, decided_by }, time);
            }
            Event::BootFailed { failure } => {
                self.advance(Phase::BootFailed { failure: failure.clone() }, time);
            }
            Event::PodLost { cause } => self.lose(cause, Some(time)),
            Event::Started { app, pid, awaits_ready } => {
                self.change(app, |app| app.start(*pid, time, *awaits_ready));
            }
            Event::Paused { app } => self.change(app, |app| app.is_paused = true),
            Event::Unpaused { app } => self.change(app, |app| app.is_paused = false),
            Event::Ready { app } => self.change(app, |app| app.ready = Some(true)),
            Event::Says { app, status: Some(status), .. } => {
                self.change(app, |app| app.says = Some(printable(status)).filter(|text| !text.is_empty()));
            }
            Event::Oom { app, kills, .. } => self.change(app, |app| app.oom_kills += kills),
            Event::MemoryHigh { .. } | Event::PidsMax { .. } => {}
            Event::Says { .. } | Event::Stores { .. } | Event::Forgets { .. } | Event::Updated { .. } => {}
            Event::WatchdogMissed { app } => self.change(app, |app| app.is_late = true),
            Event::StartFailed { app, failure } => self.change(app, |app| app.fail_start(failure, time)),
            Event::Stopping { app, .. } => {
                let alone = !self.phase.is_stopping();
                self.change(app, |app| app.stop(alone));
            }
            Event::Ended { app, outcome } => {
                let alone = !self.phase.is_stopping();
                self.change(app, |app| app.end(outcome, alone, time));
            }
            Event::Unkillable { app, pids } => self.change(app, |app| app.unkillable.clone_from(pids)),
        }
    }

    fn advance(&mut self, phase: Phase, time: u64) {
        if self.phase.is_over() || (self.phase.is_stopping() && !phase.is_over()) {
            return;
        }
        self.started_ms.get_or_insert(time);
        if phase.is_over() {
            self.ended_ms = Some(time);
        }
        self.phase = phase;
    }

    fn lose(&mut self, cause: &str, time: Option<u64>) {
        if self.phase.is_over() {
            return;
        }
        self.phase = Phase::Lost { cause: cause.to_owned() };
        self.ended_ms = time;
        for app in &mut self.apps {
            if matches!(app.state, AppState::Running { .. } | AppState::Stopping { .. }) {
                app.state = AppState::Lost;
            }
        }
    }

    /// Apps that the plan does not name are those of a plan that could not be read.
    fn change(&mut self, name: &str, change: impl FnOnce(&mut AppStatus)) {
        let known = self.apps.iter().position(|app| app.name == name);
        let index = match known {
            Some(index) => index,
            None if self.apps.len() < APPS_MAX => {
                self.apps.push(AppStatus::new(name.to_owned()));
                self.apps.len() - 1
            }
            None => return,
        };
        if let Some(app) = self.apps.get_mut(index) {
            change(app);
        }
    }

    /// After the last record that could be read: what the lock says beyond it.
    pub fn conclude(&mut self, liveness: Liveness, unread: &Unread) {
        self.incomplete = unread.any();
        let cause = match liveness {
            Liveness::Alive if self.phase == Phase::Preparing && self.incomplete => {
                self.phase = Phase::Unknown { why: "its account cannot be read".into() };
                return;
            }
            Liveness::Alive => return,
            Liveness::OtherBoot => "the host was restarted",
            Liveness::Dead if self.phase.is_over() => return,
            Liveness::Dead if self.incomplete => {
                self.phase = Phase::Unknown { why: "it is over, and its account cannot be read".into() };
                return;
            }
            Liveness::Dead if self.phase == Phase::Preparing => "its launcher died before the pod was up",
            Liveness::Dead => "stage1 died without a word",
        };
        self.lose(cause, None);
    }

    /// Every app that runs stands still.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        let runs =
            |app: &&AppStatus| matches!(app.state, AppState::Running { .. } | AppState::Stopping { .. });
        let mut running = self.apps.iter().filter(runs).peekable();
        running.peek().is_some() && running.all(|app| app.is_paused)
    }

    /// One app by its name.
    #[must_use]
    pub fn app(&self, name: &str) -> Option<&AppStatus> {
        self.apps.iter().find(|app| app.name == name)
    }
}

impl AppStatus {
    fn new(name: String) -> Self {
        Self {
            name,
            state: AppState::Waiting,
            started_ms: None,
            ended_ms: None,
            failure: None,
            stopped_alone: false,
            unkillable: Vec::new(),
            ready: None,
            says: None,
            is_late: false,
            is_paused: false,
            oom_kills: 0,
        }
    }

    /// Nothing of it runs.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state, AppState::Ended(_) | AppState::Lost)
    }

    /// It runs, and has not said yet that it is ready.
    #[must_use]
    pub fn awaits_ready(&self) -> bool {
        self.ready == Some(false) && matches!(self.state, AppState::Running { .. })
    }

    fn start(&mut self, pid: i32, time: u64, awaits_ready: bool) {
        let state = AppState::Running { pid };
        let ready = awaits_ready.then_some(false);
        *self = Self { started_ms: Some(time), state, ready, ..Self::new(self.name.clone()) };
    }

    fn fail_start(&mut self, failure: &StartFailure, time: u64) {
        self.failure = Some(failure.clone());
        self.state = AppState::Ended(Outcome::of(End::NotStarted { code: failure.exit_code() }, 0));
        self.ended_ms = Some(time);
    }

    fn stop(&mut self, alone: bool) {
        self.stopped_alone = alone;
        if let AppState::Running { pid } = self.state {
            self.state = AppState::Stopping { pid };
        }
    }

    /// A kill comes without a `Stopping` before it.
    fn end(&mut self, outcome: &Outcome, alone: bool, time: u64) {
        if !matches!(self.state, AppState::Stopping { .. }) {
            self.stopped_alone = alone;
        }
        self.is_paused = false;
        self.state = AppState::Ended(outcome.clone());
        self.ended_ms = Some(time);
        self.unkillable.clear();
    }
}

#[cfg(test)]
#[path = "status/tests.rs"]
mod tests;
