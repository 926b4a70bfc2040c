//! Apps that stand still: what freezes and thaws them.
//!
//! Being paused is no state of its own but a mark beside it: a paused app runs, and may be asked to end, which thaws it
//! first. Invariant: no app is frozen that is asked to end, has ended, or is not told to be paused.

use std::time::Instant;

use podrun_abi::control::Signal;
use podrun_abi::event::Event as Told;

use super::app::{App, SIGKILL};
use super::{Action, AppIndex, Reach, Supervisor};

impl Supervisor {
    pub(super) fn pause(&mut self, apps: &[AppIndex], actions: &mut Vec<Action>) {
        for index in apps {
            let app = self.app_mut(*index);
            // It may have been asked to end since the command was read.
            if !app.is_running() || app.asked.is_some() {
                continue;
            }
            // Once more for one that is paused already: v1's freezer may have missed a process.
            actions.push(Action::Freeze(*index));
            if !std::mem::replace(&mut app.paused, true) {
                actions.push(Action::Report(Told::Paused { app: app.name.clone() }));
            }
        }
    }

    pub(super) fn unpause(&mut self, apps: &[AppIndex], now: Instant, actions: &mut Vec<Action>) {
        for index in apps {
            let app = self.app_mut(*index);
            if app.paused {
                app.thaw(*index, actions);
                app.speech.resume(now);
            }
        }
    }

    pub(super) fn signal(
        &mut self,
        apps: &[AppIndex],
        (signal, reach): (Signal, Reach),
        actions: &mut Vec<Action>,
    ) {
        for index in apps {
            actions.push(Action::Signal(*index, signal, reach));
            // On v1 not even this one is heard before the thaw.
            if signal == SIGKILL {
                self.app_mut(*index).thaw(*index, actions);
            }
        }
    }
}

impl App {
    /// Lets it go on, if it stands still.
    pub fn thaw(&mut self, index: AppIndex, actions: &mut Vec<Action>) {
        if std::mem::take(&mut self.paused) {
            actions.push(Action::Thaw(index));
            actions.push(Action::Report(Told::Unpaused { app: self.name.clone() }));
        }
    }
}
