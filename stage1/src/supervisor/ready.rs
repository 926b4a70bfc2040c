//! Apps that say by themselves that they are ready: what their words mean for the table.
//!
//! An app is ready once. One that ends before that leaves those that wait for it in vain: they are skipped, as behind an app
//! that could not be started. Words of an app that does not run mean nothing.

use std::time::Instant;

use podrun_abi::event::Event as Told;
use podrun_abi::notice::Notice;

use super::app::{App, State};
use super::speech::Words;
use super::{Action, AppIndex, Supervisor};

impl Supervisor {
    pub(super) fn said(&mut self, index: AppIndex, notice: Notice, now: Instant, actions: &mut Vec<Action>) {
        if !self.listens_to(index) {
            return;
        }
        let app = self.app_mut(index);
        let first = notice.ready && !app.is_ready;
        app.is_ready |= notice.ready;
        app.speech.hear(notice, now);
        // What it said before its start was told is told behind that.
        if first && app.is_running() {
            app.tell_ready(actions);
        }
    }

    /// Whether what the app says means anything.
    pub fn listens_to(&self, index: AppIndex) -> bool {
        self.app(index).can_be_asked()
    }

    /// Passes on what the apps have said, when it is time, and tells of those that are late.
    pub(super) fn tell_words(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let stopping = self.stopping.is_some();
        for app in self.apps.iter_mut().filter(|app| app.policy.notify && app.is_running()) {
            let words = app.speech.take(now);
            app.tell(words, actions);
            if app.is_watched(stopping) && app.speech.misses(now) {
                actions.push(Action::Report(Told::WatchdogMissed { app: app.name.clone() }));
            }
        }
    }

    /// When [`Supervisor::tell_words`] has something to do.
    pub(super) fn next_words(&self) -> Option<Instant> {
        let stopping = self.stopping.is_some();
        let due = |app: &App| {
            let watched = app.speech.watched_until().filter(|_| app.is_watched(stopping));
            [app.speech.words_at(), watched].into_iter().flatten().min()
        };
        self.apps.iter().filter(|app| app.policy.notify && app.is_running()).filter_map(due).min()
    }

    /// The app has ended; those that wait until it is ready never have their turn. Says whether that fails the pod.
    pub(super) fn skip_vain(&mut self, index: AppIndex, actions: &mut Vec<Action>) -> bool {
        if !self.app(index).was_never_ready() {
            return false;
        }
        let mut essential = false;
        for dependant in self.app(index).dependants.clone() {
            let app = self.app(dependant);
            if app.state == State::Waiting && app.policy.after_ready.contains(&index.0) {
                essential |= app.policy.essential;
                self.skip(dependant, actions);
                essential |= self.skip_dependants(dependant, actions);
            }
        }
        // What was asked to end has not failed.
        essential && self.app(index).asked.is_none()
    }
}

impl App {
    /// Whether those that wait for it to be ready may start.
    pub fn lets_go(&self) -> bool {
        self.has_started() && (self.is_ready || !self.policy.notify)
    }

    /// Whether the pod is not up yet for it.
    pub fn is_coming_up(&self) -> bool {
        match self.state {
            State::Waiting | State::Starting => true,
            State::Running { .. } | State::Emptying { .. } => self.was_never_ready(),
            State::Over { .. } => false,
        }
    }

    pub fn was_never_ready(&self) -> bool {
        self.policy.notify && !self.is_ready
    }

    pub fn tell_ready(&self, actions: &mut Vec<Action>) {
        actions.push(Action::Report(Told::Ready { app: self.name.clone() }));
    }

    pub fn tell(&self, words: Option<Words>, actions: &mut Vec<Action>) {
        if let Some((status, extend_us)) = words {
            actions.push(Action::Report(Told::Says { app: self.name.clone(), status, extend_us }));
        }
    }

    /// What is on its way down has other things to do.
    fn is_watched(&self, pod_stopping: bool) -> bool {
        self.asked.is_none() && !pod_stopping && !self.paused
    }
}
