//! What happens when a time is over: the grace of an app, that of the pod, and that of processes that were killed.

use std::time::{Duration, Instant};

use podrun_abi::event::End;

use super::app::{KILL_DEADLINE, SIGKILL, State};
use super::{Action, AppIndex, Supervisor};

impl Supervisor {
    pub(super) fn enforce_deadlines(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let pod = self.stopping.as_ref().and_then(|stopping| stopping.deadline);
        let pod_late = pod.is_some_and(|deadline| deadline <= now);
        for index in self.indices() {
            let app = self.app_mut(index);
            if app.can_be_asked() && (pod_late || app.grace_is_over(now)) && !app.was_killed() {
                app.kill(index, now, actions);
                if let Some(asked) = &mut app.asked {
                    asked.timed_out = true;
                }
            }
            self.give_up_if_late(index, now, actions);
        }
    }

    /// Ends the account of an app whose processes do not die.
    fn give_up_if_late(&mut self, index: AppIndex, now: Instant, actions: &mut Vec<Action>) {
        let app = self.app(index);
        let killed_at = app.asked.and_then(|asked| asked.killed_at);
        let (end, ran) = match app.state {
            State::Emptying { end, ran, until } if until <= now => (end, ran),
            State::Starting if killed_at.is_some_and(|at| at + KILL_DEADLINE <= now) => {
                (End::Skipped, Duration::ZERO)
            }
            State::Running { since } if killed_at.is_some_and(|at| at + KILL_DEADLINE <= now) => {
                (End::Signaled { signal: SIGKILL, core: false }, now.saturating_duration_since(since))
            }
            _ => return,
        };
        actions.push(Action::ReportUnkillable(index));
        self.end(index, end, ran, actions);
    }
}
