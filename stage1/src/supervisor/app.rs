//! One line of the supervisor's table: an app's state, what it was asked, and how its end is judged.
//!
//! Everything here concerns one app alone; what an app's change means for the others and for the pod is the
//! table's business. Invariant: an app is asked once and killed once.

use std::time::{Duration, Instant};

use podrun_abi::boot::{App as AppPlan, Policy, Success};
use podrun_abi::control::Signal;
use podrun_abi::event::{End, Event as Told, Outcome};

use super::speech::Speech;
use super::{Action, AppIndex, Reach};

/// How long killed processes may take to go away before they are called unkillable.
pub const KILL_DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Waiting,
    Starting,
    Running { since: Instant },
    Emptying { end: End, ran: Duration, until: Instant },
    Over { end: End },
}

/// The app was asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// When its grace is over; `None`: never.
    pub kill_at: Option<Instant>,
    /// When it was killed.
    pub killed_at: Option<Instant>,
    /// It was killed because its grace was over.
    pub timed_out: bool,
}

#[derive(Debug)]
pub struct App {
    pub name: String,
    pub policy: Policy,
    pub dependants: Vec<AppIndex>,
    pub state: State,
    pub asked: Option<Asked>,
    /// Its processes stand still.
    pub paused: bool,
    /// It has said so.
    pub is_ready: bool,
    pub speech: Speech,
}

/// The signal that cannot be refused.
pub const SIGKILL: Signal = 9;
/// The shell's code for an end by SIGKILL.
pub const KILLED: u8 = 137;
/// For a pod that cannot come up although no app has failed: podrun's own.
const NEVER_READY: u8 = 125;

impl App {
    pub fn new(plan: &AppPlan, watchdog_us: Option<u64>) -> Self {
        Self {
            name: plan.name.clone(),
            policy: plan.policy.clone(),
            dependants: Vec::new(),
            state: State::Waiting,
            asked: None,
            paused: false,
            is_ready: false,
            speech: Speech::new(watchdog_us),
        }
    }

    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over { .. })
    }

    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    pub fn can_be_asked(&self) -> bool {
        matches!(self.state, State::Starting | State::Running { .. })
    }

    /// Whether those that depend on it may start; an app that has run and ended has started.
    pub fn has_started(&self) -> bool {
        match self.state {
            State::Waiting | State::Starting => false,
            State::Running { .. } | State::Emptying { .. } => true,
            State::Over { end } => !matches!(end, End::Skipped | End::NotStarted { .. }),
        }
    }

    pub fn was_killed(&self) -> bool {
        self.asked.is_some_and(|asked| asked.killed_at.is_some())
    }

    pub fn grace_is_over(&self, now: Instant) -> bool {
        self.asked.and_then(|asked| asked.kill_at).is_some_and(|at| at <= now)
    }

    pub fn deadline(&self) -> Option<Instant> {
        match (self.state, self.asked) {
            (State::Emptying { until, .. }, _) => Some(until),
            (State::Starting | State::Running { .. }, Some(asked)) => match asked.killed_at {
                Some(at) => Some(at + KILL_DEADLINE),
                None => asked.kill_at,
            },
            _ => None,
        }
    }

    /// Asks for its end, once: `grace` in place of its own stop timeout.
    pub fn ask(&mut self, index: AppIndex, grace: Option<Duration>, now: Instant, actions: &mut Vec<Action>) {
        if self.asked.is_some() || !self.can_be_asked() {
            return;
        }
        let grace = grace.or(self.policy.stop_timeout_ms.map(Duration::from_millis));
        let kill_at = grace.and_then(|grace| later(now, grace));
        self.asked = Some(Asked { kill_at, killed_at: None, timed_out: false });
        // Who stands still does not hear the stop signal.
        self.thaw(index, actions);
        if self.is_running() {
            self.send_stop_signal(index, actions);
        }
    }

    pub fn send_stop_signal(&self, index: AppIndex, actions: &mut Vec<Action>) {
        let signal = self.policy.stop_signal;
        actions.push(Action::Report(Told::Stopping { app: self.name.clone(), signal }));
        actions.push(Action::Signal(index, signal, Reach::Main));
    }

    /// Brings the end of its grace forward to `kill_at`.
    pub fn shorten(&mut self, kill_at: Option<Instant>) {
        if let (Some(asked), Some(kill_at)) = (&mut self.asked, kill_at) {
            asked.kill_at = Some(asked.kill_at.map_or(kill_at, |old| old.min(kill_at)));
        }
    }

    pub fn kill(&mut self, index: AppIndex, now: Instant, actions: &mut Vec<Action>) {
        if !self.can_be_asked() {
            return;
        }
        let asked = self.asked.get_or_insert(Asked { kill_at: None, killed_at: None, timed_out: false });
        asked.killed_at.get_or_insert(now);
        actions.push(Action::Kill(index));
        // On v1 a kill takes effect at the thaw, and then nothing of it runs any more.
        self.thaw(index, actions);
    }

    pub fn outcome(&self, end: End, ran: Duration) -> Outcome {
        Outcome {
            stopped: self.asked.is_some(),
            timed_out: self.asked.is_some_and(|asked| asked.timed_out),
            ..Outcome::of(end, u64::try_from(ran.as_millis()).unwrap_or(u64::MAX))
        }
    }

    /// An end that is no failure. While the pod goes down its stop signal may reach an app from elsewhere first:
    /// a service manager may signal every process of a service at once.
    pub fn ended_well(&self, end: End, pod_goes_down: bool) -> bool {
        let stop_signal = self.policy.stop_signal;
        let listed = self.policy.success.iter().any(|success| match (*success, end) {
            (Success::Code(wanted), End::Exited { code }) => wanted == code,
            (Success::Signal(wanted), End::Signaled { signal, .. }) => wanted == signal,
            _ => false,
        });
        let by_request = match end {
            End::Signaled { signal, .. } => signal == stop_signal,
            End::Exited { code } => Signal::from(code) == 128 + stop_signal,
            End::Skipped => true,
            End::NotStarted { .. } => false,
        };
        listed || (by_request && (pod_goes_down || self.asked.is_some()))
    }

    /// The pod's code when this app is what it failed of. One that has ended with 0 and was never ready failed those that
    /// wait for it.
    pub fn failure_code(&self) -> u8 {
        match self.state {
            State::Over { end } if end.exit_code() == 0 && self.was_never_ready() => NEVER_READY,
            State::Over { end } => end.exit_code(),
            _ => 0,
        }
    }
}

/// `None` when that is further away than a clock can say, which is as good as never.
pub fn later(now: Instant, span: Duration) -> Option<Instant> {
    now.checked_add(span)
}
