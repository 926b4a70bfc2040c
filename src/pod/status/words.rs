//! What is known of a pod, in words for people.

use nix::sys::signal::Signal;
use podrun_abi::event::{End, OomLevel, Outcome, StopReason};

use super::{AppState, AppStatus, Phase, Status};
use crate::output::printable;

impl Status {
    /// For a column: the state of the pod, and what matters about it.
    #[must_use]
    pub fn words(&self) -> String {
        if self.phase == Phase::Running && self.is_paused() { "paused".into() } else { self.phase.words() }
    }
}

impl Phase {
    /// For a column: the state, and what matters about it.
    #[must_use]
    pub fn words(&self) -> String {
        printable(&self.plain_words())
    }

    fn plain_words(&self) -> String {
        match self {
            Self::Preparing => "preparing".into(),
            Self::Starting => "starting".into(),
            Self::Running => "running".into(),
            Self::Stopping { reason } => match why(reason) {
                Some(why) => format!("stopping ({why})"),
                None => "stopping".into(),
            },
            Self::Ended { code, reason, decided_by } => ended(*code, reason, decided_by.as_deref()),
            Self::BootFailed { failure } => format!("failed: {failure}"),
            Self::Lost { cause } => format!("lost: {cause}"),
            Self::Unknown { why } => format!("unknown: {why}"),
        }
    }
}

fn ended(code: u8, reason: &StopReason, decided_by: Option<&str>) -> String {
    match (reason, decided_by) {
        (StopReason::Finished | StopReason::AppFailed { .. }, Some(app)) if code != 0 => {
            format!("exited {code} (app `{app}`)")
        }
        (StopReason::Finished | StopReason::AppFailed { .. }, _) => format!("exited {code}"),
        (StopReason::Requested, _) if code == 0 => "stopped".into(),
        (StopReason::Requested, _) => format!("stopped, exited {code}"),
        (StopReason::Killed, _) => format!("killed, exited {code}"),
        (StopReason::LauncherGone, _) => "stopped, its launcher died".into(),
    }
}

fn why(reason: &StopReason) -> Option<String> {
    match reason {
        StopReason::Finished | StopReason::Requested => None,
        StopReason::AppFailed { app } => Some(format!("app `{app}` failed")),
        StopReason::Killed => Some("being killed".into()),
        StopReason::LauncherGone => Some("its launcher died".into()),
    }
}

impl AppStatus {
    /// For a column: the state, and what matters about it.
    #[must_use]
    pub fn words(&self) -> String {
        printable(&self.plain_words())
    }

    fn plain_words(&self) -> String {
        match &self.state {
            AppState::Waiting => "waiting".into(),
            AppState::Running { .. } => {
                let word = match self.ready {
                    _ if self.is_paused => "paused",
                    _ if self.is_late => "running, late for its watchdog",
                    None => "running",
                    Some(false) => "starting",
                    Some(true) => "ready",
                };
                let killed = match self.oom_kills {
                    0 => String::new(),
                    count => format!(", OOM kills: {count}"),
                };
                let says = self.says.as_ref().map(|says| format!(": {says}")).unwrap_or_default();
                format!("{word}{killed}{says}")
            }
            AppState::Stopping { .. } if self.unkillable.is_empty() => "stopping".into(),
            AppState::Stopping { .. } => {
                let pids: Vec<String> = self.unkillable.iter().map(ToString::to_string).collect();
                format!("stopping (cannot be killed: pid {})", pids.join(", "))
            }
            AppState::Ended(outcome) => self.ended(outcome),
            AppState::Lost => "lost with the pod".into(),
        }
    }

    fn ended(&self, outcome: &Outcome) -> String {
        let by = if self.stopped_alone { "on request" } else { "by the pod" };
        match (outcome.end, &self.failure) {
            (End::Skipped, _) => "skipped".into(),
            (End::NotStarted { .. }, Some(failure)) => format!("not started: {failure}"),
            (End::NotStarted { code }, None) => format!("not started (exit code {code})"),
            _ if outcome.timed_out => "killed after its stop-timeout".into(),
            (End::Signaled { signal, .. }, _) if outcome.stopped => {
                if signal == Signal::SIGKILL as i32 {
                    format!("killed {by}")
                } else {
                    format!("stopped {by}")
                }
            }
            (End::Exited { code: 0 }, _) if outcome.stopped => format!("stopped {by}"),
            (End::Exited { code }, _) if outcome.stopped => format!("stopped {by} (exited {code})"),
            (End::Exited { code }, _) => match outcome.oom {
                None => format!("exited {code}"),
                Some(level) => format!("exited {code} (OOM kill in it, {})", whose(level)),
            },
            (End::Signaled { signal, core }, _) => match outcome.oom {
                Some(level) if outcome.oom_ended => format!("oom-killed ({})", whose(level)),
                Some(level) => {
                    format!("killed by {} (OOM kill in it, {})", signal_name(signal), whose(level))
                }
                None if core => format!("killed by {} (core dumped)", signal_name(signal)),
                None => format!("killed by {}", signal_name(signal)),
            },
        }
    }

    /// Ended in a way that somebody should be told of: neither with code 0 nor because it was told to.
    #[must_use]
    pub fn has_ended_badly(&self) -> bool {
        let AppState::Ended(outcome) = &self.state else { return false };
        let bad_end = match outcome.end {
            End::Exited { code } => code != 0 && !outcome.stopped,
            End::Signaled { .. } => !outcome.stopped,
            End::NotStarted { .. } => true,
            End::Skipped => false,
        };
        bad_end || outcome.timed_out || (outcome.oom.is_some() && !outcome.stopped)
    }
}

fn whose(level: OomLevel) -> &'static str {
    match level {
        OomLevel::App => "the app's own limit",
        OomLevel::Pod => "the pod's limit",
        OomLevel::Host => "the host's memory",
    }
}

/// `SIGTERM`; a real-time signal as `SIGRTMIN+3`.
#[must_use]
pub fn signal_name(signal: i32) -> String {
    // The kernel's own first real-time signal is 32; the C library keeps two for itself and starts at 34.
    const SIGRTMIN: i32 = 34;
    match Signal::try_from(signal) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) if (SIGRTMIN..=64).contains(&signal) => format!("SIGRTMIN+{}", signal - SIGRTMIN),
        Err(_) => format!("signal {signal}"),
    }
}

impl Status {
    /// How the app ended, when somebody should be told of it.
    #[must_use]
    pub fn bad_end(&self, app: &str) -> Option<String> {
        self.app(app).filter(|app| app.has_ended_badly()).map(AppStatus::words)
    }

    /// The pod and each app on a line of its own, without newlines.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let pod = std::iter::once(format!("the pod is {}", self.phase.words()));
        pod.chain(self.apps.iter().map(|app| format!("app `{}`: {}", app.name, app.words())))
    }

    /// How many apps run.
    #[must_use]
    pub fn running(&self) -> usize {
        let runs =
            |app: &&AppStatus| matches!(app.state, AppState::Running { .. } | AppState::Stopping { .. });
        self.apps.iter().filter(runs).count()
    }
}
