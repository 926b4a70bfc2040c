//! [`Teller`]: what `podrun run` does with each record: the status, the daemon's report, lines for people.

use std::fs::File;

use podrun_abi::event::{Event, Record};
use podrun_abi::failure::{ExecFault, StartFailure, Step};

use super::run::{Report, report};
use crate::monitor::sink::Sink;
use crate::monitor::{Verdict, Watcher};
use crate::pod::dir::PodDir;
use crate::pod::status::Status;

/// Watches one pod.
pub struct Teller<'a> {
    dir: &'a PodDir,
    /// Everything that happened so far.
    pub status: Status,
    daemon: Option<&'a mut File>,
    changed: bool,
    /// Why an app did not start, for the report of `run -d`; the first one decides.
    failure: Option<(u8, String)>,
}

impl<'a> Teller<'a> {
    /// A teller over a pod that was just launched.
    pub fn new(dir: &'a PodDir, status: Status, daemon: Option<&'a mut File>) -> Self {
        Self { dir, status, daemon, changed: false, failure: None }
    }

    /// Reports to the caller of `run -d`, once.
    fn answer(&mut self, answer: &Report) {
        if let Some(writer) = self.daemon.take() {
            report(writer, answer);
        }
    }

    /// After the end: what stage1 could not say itself, and the answer that is still owed.
    pub fn conclude(&mut self, verdict: &Verdict) {
        if !self.status.phase.is_over() {
            let cause = verdict.message.clone().unwrap_or_else(|| "stage1 is gone without a word".to_owned());
            let record = self.dir.append(Event::PodLost { cause });
            self.status.apply(&record);
        }
        self.changed = true;
        self.settle();
        let message = verdict.message.as_deref().unwrap_or("the pod ended before it was up");
        let (code, text) = self.failure.take().unwrap_or((verdict.code, format!("podrun: {message}\n")));
        self.answer(&Report::Failed { code, text });
    }
}

impl Watcher for Teller<'_> {
    fn record(&mut self, record: &Record, sink: &mut Sink<'_>) {
        self.status.apply(record);
        self.changed = true;
        match &record.event {
            Event::StartFailed { app, failure } => {
                let line = format!("cannot start app `{app}`: {failure}");
                sink.note(&line);
                let hint = hint(failure).map(|h| format!("hint: {h}"));
                if let Some(hint) = &hint {
                    sink.note(hint);
                }
                let hint = hint.map(|h| h + "\n").unwrap_or_default();
                self.failure.get_or_insert((failure.exit_code(), format!("podrun: {line}\n{hint}")));
            }
            Event::Ended { app, .. } => {
                if let Some(words) = self.status.bad_end(app) {
                    sink.note(&format!("{app} {words}"));
                }
            }
            Event::Up if self.failure.is_none() => {
                let id = self.dir.id.to_string();
                self.answer(&Report::Up { id });
            }
            _ => {}
        }
    }

    fn settle(&mut self) {
        if std::mem::take(&mut self.changed) {
            // The record of the record: a full disk must not hurt the pod, and readers fold the events.
            let _ = self.dir.write_status(&self.status);
        }
    }

    fn dump(&mut self, sink: &mut Sink<'_>) {
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
