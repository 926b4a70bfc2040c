//! Waiting until a pod or an app has come so far: the part that `wait` and `status` share.
//!
//! What is asked each time is the lock first and the account afterwards, so a pod that ends in between is never
//! called lost. A pod counts as ended when its launcher has cleaned up, not when stage1 has said its last word.

use std::time::{Duration, Instant};

use crate::cli::pods::Condition;
use crate::error::EXIT_PODRUN_FAILED;
use crate::pod::Pod;
use crate::pod::status::{AppState, AppStatus, Phase, Status};
use crate::spec::Grace;

/// What is waited for: a pod, or one of its apps.
pub struct Subject {
    /// The pod.
    pub pod: Pod,
    /// `None`: the pod as a whole.
    pub app: Option<String>,
}

/// How far a subject has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It may still come so far.
    Pending,
    /// The condition holds; the exit code that goes with it.
    Holds(u8),
    /// It has ended, with this code, and the condition will not hold any more.
    Missed(u8),
}

impl Subject {
    /// How far it is now.
    #[must_use]
    pub fn progress(&self, condition: Condition) -> Progress {
        let is_alive = self.pod.is_alive();
        let status = self.pod.status();
        match &self.app {
            None => of_pod(&status, is_alive, condition),
            Some(name) => status
                .app(name)
                .map_or(Progress::Missed(EXIT_PODRUN_FAILED), |app| of_app(app, is_alive, condition)),
        }
    }

    /// `pod `shop`` or `app `shop/api``.
    #[must_use]
    pub fn words(&self) -> String {
        match &self.app {
            None => format!("pod `{}`", self.pod.name()),
            Some(app) => format!("app `{}/{app}`", self.pod.name()),
        }
    }
}

fn of_pod(status: &Status, is_alive: bool, condition: Condition) -> Progress {
    let code = match &status.phase {
        Phase::Ended { code, .. } => *code,
        _ => EXIT_PODRUN_FAILED,
    };
    match condition {
        Condition::Exited if is_alive => Progress::Pending,
        Condition::Exited => Progress::Holds(code),
        Condition::Ready if !is_alive || status.phase.is_over() => Progress::Missed(code),
        Condition::Ready => match &status.phase {
            Phase::Running => Progress::Holds(0),
            Phase::Stopping { .. } => Progress::Missed(EXIT_PODRUN_FAILED),
            _ => Progress::Pending,
        },
    }
}

/// An app that has run already has been started, which is what the apps behind it wait for as well.
fn of_app(app: &AppStatus, is_alive: bool, condition: Condition) -> Progress {
    let code = match &app.state {
        AppState::Ended(outcome) => outcome.end.exit_code(),
        _ => EXIT_PODRUN_FAILED,
    };
    match condition {
        Condition::Exited if app.is_over() || !is_alive => Progress::Holds(code),
        Condition::Ready if app.started_ms.is_some() && is_alive && !app.awaits_ready() => Progress::Holds(0),
        Condition::Ready if app.is_over() || !is_alive => Progress::Missed(code),
        Condition::Exited | Condition::Ready => Progress::Pending,
    }
}

/// When the time is over; `None`: never.
#[must_use]
pub fn deadline(limit: Option<Grace>) -> Option<Instant> {
    match limit? {
        Grace::Infinite => None,
        Grace::Limited(time) => Instant::now().checked_add(time),
    }
}

/// Asks for the progress of one subject until it is no longer pending, or the time is over.
#[must_use]
pub fn until(subject: &Subject, condition: Condition, deadline: Option<Instant>) -> Progress {
    let mut pause = Pause::default();
    loop {
        let progress = subject.progress(condition);
        if progress != Progress::Pending || !pause.before(deadline) {
            return progress;
        }
    }
}

/// The time between two looks: short at first, as most things are quick, never long.
#[derive(Debug)]
pub struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(Duration::from_millis(2))
    }
}

impl Pause {
    /// Sleeps, but not beyond the deadline; `false`: that is here.
    pub fn before(&mut self, deadline: Option<Instant>) -> bool {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return false;
        }
        std::thread::sleep(left.map_or(self.0, |left| left.min(self.0)));
        self.0 = (self.0 * 2).min(Duration::from_millis(100));
        true
    }
}

#[cfg(test)]
mod tests {
    use podrun_abi::event::{Event, Record, StopReason};

    use super::*;

    fn status(events: &[Event]) -> Status {
        let mut status = Status::new(vec!["a".into()]);
        for event in events {
            status.apply(&Record { version: 1, time_ms: 1, monotonic_ms: 1, event: event.clone() });
        }
        status
    }

    #[test]
    fn a_pod_is_ready_when_it_is_up_and_has_ended_when_it_is_dead() {
        let started = Event::Started { app: "a".into(), pid: 2, awaits_ready: false };
        let ended = Event::PodEnded { code: 3, reason: StopReason::Finished, decided_by: None };
        let (exited, ready) = (Condition::Exited, Condition::Ready);
        let table: [(&[Event], bool, Condition, Progress, Progress); 7] = [
            (&[Event::Booted], true, ready, Progress::Pending, Progress::Pending),
            (&[Event::Booted, started.clone()], true, ready, Progress::Pending, Progress::Holds(0)),
            (
                &[Event::Booted, started.clone(), Event::Up],
                true,
                ready,
                Progress::Holds(0),
                Progress::Holds(0),
            ),
            (&[Event::Up], true, exited, Progress::Pending, Progress::Pending),
            (&[started.clone(), ended.clone()], true, exited, Progress::Pending, Progress::Pending),
            (&[started.clone(), ended.clone()], false, exited, Progress::Holds(3), Progress::Holds(125)),
            (&[started.clone(), ended.clone()], false, ready, Progress::Missed(3), Progress::Missed(125)),
        ];
        for (events, is_alive, condition, pod, app) in table {
            let status = status(events);
            assert_eq!(of_pod(&status, is_alive, condition), pod, "{events:?}");
            assert_eq!(of_app(&status.apps[0], is_alive, condition), app, "{events:?}");
        }
    }
}
