//! The life of the apps as a pure table: [`Supervisor::on`] takes one event and the time, and says what to do.
//!
//! An app is `Waiting` for those it depends on, `Starting` from its clone to its execve, `Running`, `Emptying`
//! from the end of its main process until its cgroup is empty, and `Over`. Being asked to end is not a state of
//! its own but an [`Asked`](app::Asked) beside it: a stop that comes between clone and execve is kept and the
//! stop signal is sent once the app runs.
//!
//! The pod is brought up in the order of dependencies, each app as soon as those it depends on run, and goes down
//! in the reverse order, each app as soon as those that depend on it are over. An app that says by itself when it is
//! ready ([`ready`]) keeps those back that wait for that.
//!
//! It knows no pid, no descriptor and no clock. Invariants: every app gets exactly one record of its end; no app
//! is started once the pod is on its way down; after `Exit` nothing follows.

use std::time::{Duration, Instant};

use podrun_abi::boot::{App as AppPlan, ExitPolicy, Pod};
use podrun_abi::control::Signal;
use podrun_abi::event::{End, Event as Told, Outcome, StopReason};
use podrun_abi::failure::StartFailure;
use podrun_abi::notice::Notice;

use self::app::{App, KILL_DEADLINE, KILLED, State, later};

mod app;
mod command;
mod deadlines;
mod pause;
mod ready;
mod speech;

/// An app by its place in `Boot::apps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AppIndex(pub usize);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The launcher has verified the pod's limits.
    Go,
    /// The app was exec'ed with this pid.
    Started(AppIndex, i32),
    /// The app could not be exec'ed; nothing of it is left.
    StartFailed(AppIndex, StartFailure),
    /// Its main process was reaped.
    MainEnded(AppIndex, End),
    /// Nothing of the app is left.
    Emptied(AppIndex),
    /// Stop these in order, or the pod when there are none.
    Stop(Vec<AppIndex>, Option<Duration>),
    /// Kill these, or the pod when there are none.
    Kill(Vec<AppIndex>),
    /// Send a signal; to all processes of the apps when the last one says so.
    Signal(Vec<AppIndex>, Signal, Reach),
    /// Freeze these, as far as they run.
    Pause(Vec<AppIndex>),
    /// Thaw these, as far as they are paused.
    Unpause(Vec<AppIndex>),
    /// The limits of the app, or of the pod, were changed.
    Updated(Option<String>, Vec<String>),
    /// The OOM killer has killed a process of the app.
    OomKilled(AppIndex),
    /// The app has said something of itself.
    Said(AppIndex, Notice),
    /// The launcher's socket was closed.
    LauncherGone,
    /// A deadline may have passed.
    Tick,
}

/// Whom a signal goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The main process.
    Main,
    /// Every process of the app's cgroup.
    All,
}

/// What is to be done about it, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Clone and prepare the app.
    Start(AppIndex),
    /// Send the signal.
    Signal(AppIndex, Signal, Reach),
    /// Kill every process of the app's cgroup.
    Kill(AppIndex),
    /// Freeze every process of the app's cgroup.
    Freeze(AppIndex),
    /// Thaw them.
    Thaw(AppIndex),
    /// Kill what its main process left, and tell when nothing is left.
    Empty(AppIndex),
    /// Write down what happened.
    Report(Told),
    /// Write down how an app ended; the memory, CPU time and OOM level in here are to be filled in.
    ReportEnded(AppIndex, Outcome),
    /// Write down which processes of the app do not die.
    ReportUnkillable(AppIndex),
    /// End stage1, and with it the pod's pid namespace.
    Exit(u8),
}

/// The pod is on its way down.
#[derive(Debug)]
struct Stopping {
    reason: StopReason,
    /// In place of the apps' own stop timeouts.
    grace: Option<Duration>,
    /// When everything that is left is killed.
    deadline: Option<Instant>,
}

/// The table.
#[derive(Debug)]
pub struct Supervisor {
    apps: Vec<App>,
    exit_policy: ExitPolicy,
    stop_timeout: Option<Duration>,
    going: bool,
    up: bool,
    exited: bool,
    stopping: Option<Stopping>,
    /// The first essential app that failed.
    failed_first: Option<AppIndex>,
    /// The first app that had to be killed because its grace was over.
    timed_out_first: Option<AppIndex>,
}

impl Supervisor {
    /// A table with every app waiting. `apps` must be in the order of their dependencies.
    pub fn new(pod: &Pod, plans: &[AppPlan]) -> Self {
        let mut apps: Vec<App> = plans.iter().map(|plan| App::new(plan, pod.watchdog_us)).collect();
        for (index, plan) in plans.iter().enumerate() {
            for dependency in &plan.policy.after {
                if let Some(app) = apps.get_mut(*dependency) {
                    app.dependants.push(AppIndex(index));
                }
            }
        }
        Self {
            apps,
            exit_policy: pod.exit_policy,
            stop_timeout: pod.stop_timeout_ms.map(Duration::from_millis),
            going: false,
            up: false,
            exited: false,
            stopping: None,
            failed_first: None,
            timed_out_first: None,
        }
    }

    /// Takes one event and appends what is to be done about it.
    pub fn on(&mut self, event: Event, now: Instant, actions: &mut Vec<Action>) {
        if self.exited {
            return;
        }
        match event {
            Event::Go => self.going = true,
            Event::Started(app, pid) => self.started(app, pid, now, actions),
            Event::StartFailed(app, failure) => self.start_failed(app, failure, actions),
            Event::MainEnded(app, end) => self.main_ended(app, end, now, actions),
            Event::Emptied(app) => self.emptied(app, actions),
            Event::Stop(apps, grace) if apps.is_empty() => {
                self.begin_stop(StopReason::Requested, grace, now, actions);
            }
            Event::Stop(apps, grace) => self.stop_some(&apps, grace, now, actions),
            Event::Kill(apps) if apps.is_empty() => self.kill_pod(now, actions),
            Event::Kill(apps) => self.kill_some(&apps, now, actions),
            Event::Signal(apps, signal, reach) => self.signal(&apps, (signal, reach), actions),
            Event::Pause(apps) => self.pause(&apps, actions),
            Event::Unpause(apps) => self.unpause(&apps, now, actions),
            Event::Updated(app, changes) => actions.push(Action::Report(Told::Updated { app, changes })),
            Event::OomKilled(app) => self.oom_killed(app, actions),
            Event::Said(app, notice) => self.said(app, notice, now, actions),
            Event::LauncherGone if !self.going => return self.exit(125, actions),
            Event::LauncherGone => self.begin_stop(StopReason::LauncherGone, None, now, actions),
            Event::Tick => {}
        }
        self.settle(now, actions);
    }

    /// When [`Event::Tick`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let pod = self.stopping.as_ref().and_then(|stopping| stopping.deadline);
        let pod = if self.everything_killed() { None } else { pod };
        self.apps.iter().filter_map(App::deadline).chain(pod).chain(self.next_words()).min()
    }

    /// Everything that follows from the table's content alone.
    fn settle(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.tell_words(now, actions);
        self.judge(now, actions);
        self.start_ready(actions);
        self.stop_ready(now, actions);
        self.enforce_deadlines(now, actions);
        self.finish(actions);
    }

    fn started(&mut self, index: AppIndex, pid: i32, now: Instant, actions: &mut Vec<Action>) {
        let app = self.app_mut(index);
        if app.state != State::Starting {
            return;
        }
        app.state = State::Running { since: now };
        let awaits_ready = app.policy.notify;
        actions.push(Action::Report(Told::Started { app: app.name.clone(), pid, awaits_ready }));
        if app.is_ready {
            app.tell_ready(actions);
        }
        if app.asked.is_some_and(|asked| asked.killed_at.is_none()) {
            app.send_stop_signal(index, actions);
        }
    }

    fn start_failed(&mut self, index: AppIndex, failure: StartFailure, actions: &mut Vec<Action>) {
        let app = self.app_mut(index);
        if app.state != State::Starting {
            return;
        }
        if app.was_killed() {
            // It was killed on purpose before its first instruction: it never had its turn.
            return self.skip(index, actions);
        }
        app.state = State::Over { end: End::NotStarted { code: failure.exit_code() } };
        let mut essential = app.policy.essential;
        actions.push(Action::Report(Told::StartFailed { app: app.name.clone(), failure }));
        essential |= self.skip_dependants(index, actions);
        if essential {
            self.failed_first.get_or_insert(index);
        }
    }

    /// What the kernel has left of an app that wants to go as a whole goes too. Its end is judged as any other.
    fn oom_killed(&mut self, index: AppIndex, actions: &mut Vec<Action>) {
        let app = self.app_mut(index);
        if app.policy.oom_group && !app.is_over() {
            actions.push(Action::Kill(index));
            // On v1 a kill takes effect at the thaw.
            app.thaw(index, actions);
        }
    }

    /// Skips every app that waits for `index`, at any distance; says whether an essential one is among them.
    fn skip_dependants(&mut self, index: AppIndex, actions: &mut Vec<Action>) -> bool {
        let mut essential = false;
        for dependant in self.app(index).dependants.clone() {
            if self.app(dependant).state == State::Waiting {
                essential |= self.app(dependant).policy.essential;
                self.skip(dependant, actions);
                essential |= self.skip_dependants(dependant, actions);
            }
        }
        essential
    }

    /// The app never has its turn.
    fn skip(&mut self, index: AppIndex, actions: &mut Vec<Action>) {
        let app = self.app_mut(index);
        app.state = State::Over { end: End::Skipped };
        actions.push(Action::ReportEnded(index, app.outcome(End::Skipped, Duration::ZERO)));
    }

    fn main_ended(&mut self, index: AppIndex, end: End, now: Instant, actions: &mut Vec<Action>) {
        let app = self.app_mut(index);
        let State::Running { since } = app.state else { return };
        let ran = now.saturating_duration_since(since);
        let words = app.speech.take_last();
        app.tell(words, actions);
        // What it has left must be able to die.
        app.thaw(index, actions);
        app.state = State::Emptying { end, ran, until: now + KILL_DEADLINE };
        actions.push(Action::Empty(index));
    }

    fn emptied(&mut self, index: AppIndex, actions: &mut Vec<Action>) {
        if let State::Emptying { end, ran, .. } = self.app(index).state {
            self.end(index, end, ran, actions);
        }
    }

    fn end(&mut self, index: AppIndex, end: End, ran: Duration, actions: &mut Vec<Action>) {
        let going_down = self.stopping.is_some();
        let app = self.app_mut(index);
        app.state = State::Over { end };
        let outcome = app.outcome(end, ran);
        let mut failed = app.policy.essential && !app.ended_well(end, going_down);
        let timed_out = outcome.timed_out;
        actions.push(Action::ReportEnded(index, outcome));
        failed |= self.skip_vain(index, actions);
        if failed {
            self.failed_first.get_or_insert(index);
        }
        if timed_out {
            self.timed_out_first.get_or_insert(index);
        }
    }

    /// Whether the exit policy says that the pod ends.
    fn judge(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if !self.going || self.stopping.is_some() || self.exit_policy != ExitPolicy::Essential {
            return;
        }
        if let Some(failed) = self.failed_first {
            let reason = StopReason::AppFailed { app: self.app(failed).name.clone() };
            return self.begin_stop(reason, None, now, actions);
        }
        let mut essential = self.apps.iter().filter(|app| app.policy.essential).peekable();
        // A pod without essential apps ends with its last app, in `finish`.
        if essential.peek().is_some() && essential.all(App::is_over) {
            self.begin_stop(StopReason::Finished, None, now, actions);
        }
    }

    fn start_ready(&mut self, actions: &mut Vec<Action>) {
        if !self.going || self.stopping.is_some() || self.up {
            return;
        }
        for index in self.indices() {
            let app = self.app(index);
            let holds = |of: &[usize], what: fn(&App) -> bool| of.iter().all(|at| what(&self.apps[*at]));
            let policy = &app.policy;
            let ready = holds(&policy.after, App::has_started) && holds(&policy.after_ready, App::lets_go);
            if app.state == State::Waiting && ready {
                self.app_mut(index).state = State::Starting;
                actions.push(Action::Start(index));
            }
        }
        if !self.apps.iter().any(App::is_coming_up) {
            self.up = true;
            actions.push(Action::Report(Told::Up));
        }
    }

    /// Starts the ordered stop, or makes one that is under way shorter.
    fn begin_stop(
        &mut self,
        reason: StopReason,
        grace: Option<Duration>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        if let Some(stopping) = &mut self.stopping {
            let Some(grace) = grace else { return };
            stopping.grace = Some(stopping.grace.map_or(grace, |old| old.min(grace)));
            return self.apps.iter_mut().for_each(|app| app.shorten(later(now, grace)));
        }
        let deadline = self.stop_timeout.and_then(|timeout| later(now, timeout));
        self.announce_stop(&reason, actions);
        self.stopping = Some(Stopping { reason, grace, deadline });
        for index in self.indices() {
            if self.app(index).state == State::Waiting {
                self.skip(index, actions);
            }
        }
        if let Some(grace) = grace {
            self.apps.iter_mut().for_each(|app| app.shorten(later(now, grace)));
        }
    }

    /// Not told when nothing is left to stop: then the pod's end follows at once and says the same.
    fn announce_stop(&self, reason: &StopReason, actions: &mut Vec<Action>) {
        if !self.apps.iter().all(App::is_over) {
            actions.push(Action::Report(Told::PodStopping { reason: reason.clone() }));
        }
    }

    /// Asks every app whose dependants are over.
    fn stop_ready(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some(grace) = self.stopping.as_ref().map(|stopping| stopping.grace) else { return };
        for index in self.indices().rev() {
            let free = self.app(index).dependants.iter().all(|other| self.app(*other).is_over());
            if free {
                self.app_mut(index).ask(index, grace, now, actions);
            }
        }
    }

    fn stop_some(
        &mut self,
        apps: &[AppIndex],
        grace: Option<Duration>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        for index in apps {
            if self.skip_waiting(*index, actions) {
                continue;
            }
            let app = self.app_mut(*index);
            match (app.asked, grace) {
                (None, _) => app.ask(*index, grace, now, actions),
                (Some(_), Some(grace)) => app.shorten(later(now, grace)),
                (Some(_), None) => {}
            }
        }
    }

    fn kill_some(&mut self, apps: &[AppIndex], now: Instant, actions: &mut Vec<Action>) {
        for index in apps {
            if !self.skip_waiting(*index, actions) {
                self.app_mut(*index).kill(*index, now, actions);
            }
        }
    }

    /// An app that is stopped before its turn is skipped, and so are those that need it.
    fn skip_waiting(&mut self, index: AppIndex, actions: &mut Vec<Action>) -> bool {
        let waiting = self.app(index).state == State::Waiting;
        if waiting {
            self.skip(index, actions);
            self.skip_dependants(index, actions);
        }
        waiting
    }

    fn kill_pod(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let told = StopReason::Killed;
        match &mut self.stopping {
            None => self.begin_stop(told, None, now, actions),
            Some(Stopping {
                reason: reason @ (StopReason::Requested | StopReason::LauncherGone), ..
            }) => {
                *reason = told.clone();
                self.announce_stop(&told, actions);
            }
            // A pod that ends by its own policy keeps its code; killing only makes it quicker.
            Some(_) => {}
        }
        for index in self.indices() {
            self.app_mut(index).kill(index, now, actions);
        }
    }

    /// Ends the pod when nothing is left to wait for.
    fn finish(&mut self, actions: &mut Vec<Action>) {
        let wanted = self.stopping.is_some() || (self.going && self.exit_policy != ExitPolicy::Never);
        if !wanted || !self.apps.iter().all(App::is_over) {
            return;
        }
        let reason = self.stopping.take().map_or(StopReason::Finished, |stopping| stopping.reason);
        let (code, decided_by) = self.verdict(&reason);
        let decided_by = decided_by.map(|app| self.app(app).name.clone());
        actions.push(Action::Report(Told::PodEnded { code, reason, decided_by }));
        self.exit(code, actions);
    }

    /// The pod's exit code, and the app whose end decided it.
    fn verdict(&self, reason: &StopReason) -> (u8, Option<AppIndex>) {
        let failed = self.failed_first.map(|app| (self.app(app).failure_code(), app));
        let timed_out = self.timed_out_first.map(|app| (KILLED, app));
        let decided = match reason {
            StopReason::Killed => return (KILLED, None),
            StopReason::Finished if self.exit_policy == ExitPolicy::Essential => None,
            StopReason::Finished | StopReason::AppFailed { .. } => failed,
            StopReason::Requested | StopReason::LauncherGone => timed_out.or(failed),
        };
        decided.map_or((0, None), |(code, app)| (code, Some(app)))
    }

    fn exit(&mut self, code: u8, actions: &mut Vec<Action>) {
        self.exited = true;
        actions.push(Action::Exit(code));
    }

    fn everything_killed(&self) -> bool {
        self.apps.iter().all(|app| app.is_over() || app.was_killed() || !app.can_be_asked())
    }

    fn indices(&self) -> impl DoubleEndedIterator<Item = AppIndex> + use<> {
        (0..self.apps.len()).map(AppIndex)
    }

    /// Indexing cannot fail: an [`AppIndex`] is made by `indices`, `find` and from a checked `Boot` only.
    fn app(&self, index: AppIndex) -> &App {
        &self.apps[index.0]
    }

    fn app_mut(&mut self, index: AppIndex) -> &mut App {
        &mut self.apps[index.0]
    }
}

#[cfg(test)]
mod tests;
