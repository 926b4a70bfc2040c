//! [`Teller`]: what is done with each record: the status, the report of `run -d`, lines for people.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use podrun_abi::event::{Event, Record};
use podrun_abi::failure::{ExecFault, StartFailure, Step};
use serde::{Deserialize, Serialize};

use super::Verdict;
use super::journal::Journal;
use super::notices::Notices;
use super::sink::Sink;
use crate::cgroup::plan::CgroupPlan;
use crate::pod::dir::PodDir;
use crate::pod::status::{Phase, Status};

/// How long `status.json` may be behind. A pod of a hundred apps starts with hundreds of records, and a pod that
/// is over at once needs one status, not five.
const STATUS_DELAY: Duration = Duration::from_millis(100);

/// What the daemon of `run -d` reports, once.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// The pod is up, or has ended well before anybody could look.
    Up {
        /// The pod's id.
        id: String,
    },
    /// After [`Report::Up`], for a caller that waits for it.
    Ended {
        /// The code of `run`.
        code: u8,
    },
    /// It is not.
    Failed {
        /// For the exit.
        code: u8,
        /// For standard error, lines with their newlines.
        text: String,
    },
}

impl Report {
    /// One JSON text; a caller that has gone away does not matter.
    pub fn send(&self, writer: &mut File) {
        if let Ok(text) = serde_json::to_vec(self) {
            let _ = writer.write_all(&text);
        }
    }
}

/// Told of everything that happens to one pod.
pub struct Teller<'a> {
    dir: &'a PodDir,
    /// Everything that happened so far.
    status: Status,
    daemon: Option<&'a mut File>,
    journal: Option<Journal>,
    notices: Notices,
    /// Since when `status.json` is behind.
    behind_since: Option<Instant>,
    /// Why an app did not start, for the report of `run -d`; the first one decides.
    failure: Option<(u8, String)>,
    /// Which app has ended before it was ready, where nothing else says why the pod did not come up.
    never_ready: Option<String>,
}

impl<'a> Teller<'a> {
    /// A teller over a pod that was just launched.
    pub fn new(dir: &'a PodDir, status: Status, daemon: Option<&'a mut File>, notices: Notices) -> Self {
        Self {
            dir,
            status,
            daemon,
            notices,
            journal: None,
            behind_since: None,
            failure: None,
            never_ready: None,
        }
    }

    /// Tells the host's journal as well.
    #[must_use]
    pub fn telling(self, journal: Option<Journal>) -> Self {
        Self { journal, ..self }
    }

    /// Reports to the caller of `run -d`, once.
    fn answer(&mut self, answer: &Report) {
        if let Some(writer) = self.daemon.take() {
            answer.send(writer);
        }
    }

    /// After the end: what stage1 could not say itself, and the answer that is still owed.
    pub fn conclude(&mut self, verdict: &Verdict) {
        if !self.status.phase.is_over() {
            let cause = verdict.message.clone().unwrap_or_else(|| "stage1 is gone without a word".to_owned());
            let record = self.dir.append(Event::PodLost { cause });
            self.status.apply(&record);
            self.journal.iter().for_each(|journal| journal.tell(&record, &self.status));
        }
        self.behind_since.get_or_insert_with(Instant::now);
        let message = verdict.message.as_deref().or(self.never_ready.as_deref());
        let message = message.unwrap_or("the pod ended before it was up");
        let (code, text) = self.failure.take().unwrap_or((verdict.code, format!("podrun: {message}\n")));
        self.answer(&Report::Failed { code, text });
        let end = verdict.message.clone().unwrap_or_else(|| format!("ended with code {}", verdict.code));
        self.notices.end(&end);
    }

    /// Takes a record of stage1. Lines for people go into the sink.
    pub(super) fn record(&mut self, record: &Record, sink: &mut Sink<'_>) {
        self.status.apply(record);
        self.journal.iter().for_each(|journal| journal.tell(record, &self.status));
        match &record.event {
            Event::Says { status: None, .. } | Event::Stores { .. } | Event::Forgets { .. } => {}
            _ => _ = self.behind_since.get_or_insert_with(Instant::now),
        }
        match &record.event {
            Event::StartFailed { app, failure } => {
                let line = format!("cannot start app `{app}`: {failure}");
                sink.note_event(&line);
                let hint = hint(failure).map(|h| format!("hint: {h}"));
                if let Some(hint) = &hint {
                    sink.note(hint);
                }
                let hint = hint.map(|h| h + "\n").unwrap_or_default();
                self.failure.get_or_insert((failure.exit_code(), format!("podrun: {line}\n{hint}")));
            }
            Event::Ended { app, .. } => {
                if let Some(words) = self.status.bad_end(app) {
                    sink.note_event(&format!("{app} {words}"));
                }
                match self.status.phase {
                    Phase::Running => self.notices.status(&self.summary()),
                    Phase::Starting => self.notice_unready_end(app, sink),
                    _ => {}
                }
            }
            Event::Started { awaits_ready: true, .. } | Event::Ready { .. } if !self.awaited().is_empty() => {
                self.notices.status(&format!("waiting until {} is ready", self.awaited().join(", ")));
            }
            Event::Says { app, status, extend_us } => {
                let words = self.words_of(app).unwrap_or_else(|| self.summary());
                self.notices.pass_on(status.as_ref().map(|_| words.as_str()), *extend_us);
            }
            Event::Forgets { app, name } if self.knows(app) => self.notices.forget(&format!("{app}.{name}")),
            Event::WatchdogMissed { app } => {
                let line = format!("{app} has missed its watchdog");
                sink.note_event(&line);
                self.notices.bark(&line);
            }
            Event::Up if self.failure.is_none() => {
                let id = self.dir.id.to_string();
                self.answer(&Report::Up { id });
                let said = self.status.apps.iter().rev().find_map(|app| self.words_of(&app.name));
                self.notices.ready(&said.unwrap_or_else(|| self.summary()));
            }
            Event::PodStopping { .. } => {
                let words = format!("stopping; {}", self.summary());
                self.notices.stopping(&words, Instant::now());
            }
            _ => {}
        }
    }

    /// Has the service manager keep what an app wants to have at its next start, under a name that leads back to the app.
    pub(super) fn keep(&self, app: &str, (name, poll): (&str, bool), descriptors: &[OwnedFd]) {
        if self.knows(app) {
            self.notices.keep(&format!("{app}.{name}"), poll, descriptors);
        }
    }

    fn knows(&self, app: &str) -> bool {
        self.status.app(app).is_some()
    }

    /// Nobody will be ready any more who has ended.
    fn notice_unready_end(&mut self, app: &str, sink: &mut Sink<'_>) {
        let Some(ended) = self.status.app(app).filter(|ended| ended.ready == Some(false)) else { return };
        let line = format!("app `{app}` ended before it was ready: {}", ended.words());
        sink.note_event(&line);
        self.never_ready.get_or_insert(line);
    }

    /// What an app says of itself, for the service manager.
    fn words_of(&self, app: &str) -> Option<String> {
        let says = self.status.app(app)?.says.as_ref()?;
        Some(format!("{app}: {says}"))
    }

    /// The apps that run and have not said yet that they are ready.
    fn awaited(&self) -> Vec<&str> {
        let awaited = self.status.apps.iter().filter(|app| app.awaits_ready());
        awaited.map(|app| app.name.as_str()).collect()
    }

    /// How the pod is, in a few words.
    fn summary(&self) -> String {
        format!("{} of {} apps run", self.status.running(), self.status.apps.len())
    }

    /// Somebody wants the pod to take up what has changed.
    pub(super) fn reload(&self, sink: &mut Sink<'_>) {
        sink.note("SIGHUP: no app has a reload action");
        self.notices.reloaded();
    }

    /// How many apps run.
    pub(super) fn running(&self) -> usize {
        self.status.running()
    }

    /// When [`Teller::tick`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.behind_by(), self.notices.deadline()].into_iter().flatten().min()
    }

    /// When `status.json` is to catch up.
    fn behind_by(&self) -> Option<Instant> {
        self.behind_since.map(|since| since + STATUS_DELAY)
    }

    /// Lets `status.json` catch up when it is time, and says whether it was; lets the service manager hear what is due.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        let is_time = self.behind_by().is_some_and(|at| at <= now);
        if is_time {
            self.write_status();
        }
        self.notices.tick(now);
        is_time
    }

    /// Writes what is last known. A full disk must not hurt the pod, and podrun's own readers fold the events.
    pub fn write_status(&mut self) {
        self.behind_since = None;
        let _ = self.dir.write_status(&self.status);
    }

    /// The groups as they are recorded by now.
    pub(super) fn recorded_groups(&self) -> Option<CgroupPlan> {
        self.dir.recorded_groups()
    }

    /// Somebody wants to know how the pod is.
    pub(super) fn dump(&mut self, sink: &mut Sink<'_>) {
        for line in self.status.lines() {
            sink.note(&line);
        }
    }
}

/// What an author can do about a start that failed.
fn hint(failure: &StartFailure) -> Option<&'static str> {
    match (failure.step, &failure.fault) {
        (Step::MountRoot, _) => {
            Some("an overlay cannot stand over every file system; try rootfs-mode = \"read-only\"")
        }
        (Step::Exec, Some(ExecFault::LoaderMissing { .. })) => {
            Some("copy the loader and the libraries into the root, or link the program statically")
        }
        (Step::Exec, Some(ExecFault::InterpreterMissing { .. })) => {
            Some("copy the interpreter into the root, or correct the line that begins with `#!`")
        }
        (Step::Exec, Some(ExecFault::NotExecutable)) => {
            Some("chmod +x it, or let the app run as another user")
        }
        (Step::Exec, Some(ExecFault::NotInPath)) => {
            Some("write an absolute path, or set PATH in the app's env")
        }
        (Step::Exec, Some(ExecFault::Directory)) => Some("exec names the program and then its arguments"),
        (Step::Exec, Some(ExecFault::BadFormat)) => Some("a script begins with `#!` and its interpreter"),
        _ => None,
    }
}
