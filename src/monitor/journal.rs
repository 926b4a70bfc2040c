//! [`Journal`]: what happens to a pod as entries of the host's journal.
//!
//! None is waited for: a journal that does not keep up misses entries, and the pod's own account (`events.jsonl`) does
//! not. docs/logging.md has the list of events.

use std::os::unix::net::UnixDatagram;

use podrun_abi::event::{Event, Record};

use crate::output::journal::{self, priority::*};
use crate::output::printable;
use crate::plan::Plan;
use crate::plan::output::JOURNAL;
use crate::pod::status::Status;
use crate::pod::status::words::signal_name;

/// Where the entries of one pod go.
pub struct Journal {
    socket: UnixDatagram,
    pod: String,
    id: String,
    /// The pod's unit, under which `journalctl -u` shows the entries.
    unit: Option<String>,
}

impl Journal {
    /// `None`: the pod has nothing to do with the journal, or there is none.
    #[must_use]
    pub fn of(plan: &Plan) -> Option<Self> {
        if !plan.has_journal {
            return None;
        }
        let socket = journal::connect(JOURNAL)?;
        let unit = plan.units.as_ref().map(|units| units.scope.clone());
        Some(Self { socket, pod: plan.pod.clone(), id: plan.id.clone(), unit })
    }

    /// Tells of a record; the status has it already.
    pub fn tell(&self, record: &Record, status: &Status) {
        let Some(entry) = entry(&record.event, &self.pod, status) else { return };
        let mut told = journal::Entry::new(entry.priority, "podrun", entry.message.as_bytes())
            .with("PODRUN_EVENT", entry.event)
            .with("PODRUN_POD", &self.pod)
            .with("PODRUN_ID", &self.id);
        if let Some(app) = entry.app {
            told = told.with("PODRUN_APP", app);
        }
        if let Some(unit) = &self.unit {
            told = told.with("OBJECT_SYSTEMD_UNIT", unit);
        }
        // EAGAIN: the journal does not keep up. Nobody waits for it.
        let _ = self.socket.send(told.bytes());
    }
}

/// What an entry says.
#[derive(Debug, PartialEq, Eq)]
struct Entry<'a> {
    event: &'static str,
    app: Option<&'a str>,
    priority: u8,
    message: String,
}

/// `None` for what is of no interest beside the others.
fn entry<'a>(event: &'a Event, pod: &str, status: &Status) -> Option<Entry<'a>> {
    let state = |app: &str| status.app(app).map(|app| app.words()).unwrap_or_default();
    let of_app = |event, app: &'a str, priority, words: String| {
        Some(Entry { event, app: Some(app), priority, message: format!("pod {pod}: {words}") })
    };
    let of_pod = |event, priority, words: String| {
        Some(Entry { event, app: None, priority, message: format!("pod {pod} {words}") })
    };
    match event {
        Event::Booted => None,
        Event::BootFailed { failure } => of_pod("boot-failed", ERROR, format!("was not built: {failure}")),
        Event::Started { app, pid, .. } => {
            of_app("started", app, INFO, format!("app {app} has started (pid {pid})"))
        }
        Event::Paused { app } => of_app("paused", app, NOTICE, format!("app {app} stands still")),
        Event::Unpaused { app } => of_app("unpaused", app, NOTICE, format!("app {app} goes on")),
        Event::Updated { app, changes } => {
            let changes = printable(&changes.join(" "));
            match app {
                Some(app) => of_app("updated", app, NOTICE, format!("app {app} is limited anew: {changes}")),
                None => of_pod("updated", NOTICE, format!("is limited anew: {changes}")),
            }
        }
        Event::Ready { app } => of_app("ready", app, INFO, format!("app {app} is ready")),
        Event::WatchdogMissed { app } => {
            of_app("watchdog-missed", app, ERROR, format!("app {app} has missed its watchdog"))
        }
        Event::Says { .. } | Event::Stores { .. } | Event::Forgets { .. } => None,
        Event::StartFailed { app, failure } => {
            of_app("start-failed", app, ERROR, format!("cannot start app {app}: {failure}"))
        }
        Event::Up => of_pod("up", NOTICE, "is up".to_owned()),
        Event::Stopping { app, signal } => {
            of_app("stopping", app, INFO, format!("stopping app {app} with {}", signal_name(*signal)))
        }
        Event::Ended { app, .. } => {
            let priority = if status.bad_end(app).is_some() { WARNING } else { INFO };
            of_app("ended", app, priority, format!("app {app} {}", state(app)))
        }
        Event::PodStopping { .. } => of_pod("pod-stopping", NOTICE, format!("is {}", status.phase.words())),
        Event::Unkillable { app, .. } => {
            of_app("unkillable", app, ERROR, format!("app {app} is {}", state(app)))
        }
        Event::PodEnded { code, .. } => {
            let priority = if *code == 0 { NOTICE } else { WARNING };
            of_pod("pod-ended", priority, format!("has ended: {}", status.phase.words()))
        }
        Event::PodLost { cause } => of_pod("pod-lost", ERROR, format!("was lost: {cause}")),
    }
}

#[cfg(test)]
mod tests {
    use podrun_abi::event::{End, Outcome, StopReason};

    use super::*;
    use crate::pod::events::stamp;

    #[test]
    fn entries_say_what_the_status_says() {
        let mut status = Status::new(vec!["web".to_owned()]);
        let mut tell = |event: Event| {
            status.apply(&stamp(event.clone()));
            let entry = entry(&event, "shop", &status);
            entry.map(|entry| (entry.event, entry.app.map(str::to_owned), entry.priority, entry.message))
        };
        let outcome = |code| Outcome {
            end: End::Exited { code },
            oom: None,
            stopped: false,
            timed_out: false,
            memory_peak_bytes: None,
            cpu_used_ns: None,
            ran_ms: 5,
        };
        let web = || Some("web".to_owned());
        assert_eq!(tell(Event::Booted), None);
        let started = tell(Event::Started { app: "web".into(), pid: 7, awaits_ready: true });
        assert_eq!(started, Some(("started", web(), INFO, "pod shop: app web has started (pid 7)".into())));
        let ready = tell(Event::Ready { app: "web".into() });
        assert_eq!(ready, Some(("ready", web(), INFO, "pod shop: app web is ready".into())));
        let words = Event::Says { app: "web".into(), status: Some("x".into()), extend_us: None };
        assert_eq!(tell(words), None);
        let paused = tell(Event::Paused { app: "web".into() });
        assert_eq!(paused, Some(("paused", web(), NOTICE, "pod shop: app web stands still".into())));
        let changes = || vec!["memory-max=1GiB".to_owned(), "cpus=".to_owned()];
        let of_app = tell(Event::Updated { app: web(), changes: changes() });
        let words = "is limited anew: memory-max=1GiB cpus=";
        assert_eq!(of_app, Some(("updated", web(), NOTICE, format!("pod shop: app web {words}"))));
        let of_pod = tell(Event::Updated { app: None, changes: changes() });
        assert_eq!(of_pod, Some(("updated", None, NOTICE, format!("pod shop {words}"))));
        assert_eq!(tell(Event::Up), Some(("up", None, NOTICE, "pod shop is up".into())));
        let (event, app, priority, message) =
            tell(Event::Ended { app: "web".into(), outcome: outcome(3) }).unwrap();
        assert_eq!((event, app, priority), ("ended", web(), WARNING));
        assert!(message.starts_with("pod shop: app web exited 3"), "{message}");
        let reason = StopReason::AppFailed { app: "web".into() };
        let (event, _, priority, message) =
            tell(Event::PodEnded { code: 3, reason, decided_by: web() }).unwrap();
        assert_eq!((event, priority), ("pod-ended", WARNING));
        assert_eq!(message, "pod shop has ended: exited 3 (app `web`)");
    }
}
