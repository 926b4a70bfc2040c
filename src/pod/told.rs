//! [`Told`]: an event in words, for the host's journal and for `podrun events`.
//!
//! docs/logging.md has the list of events.

use podrun_abi::event::{Event, OomLevel, Pressure};

use super::status::Status;
use super::status::words::signal_name;
use crate::output::journal::priority::*;
use crate::output::{printable, size};

/// What is said of an event.
#[derive(Debug, PartialEq, Eq)]
pub struct Told<'a> {
    /// Its kind, in one word.
    pub event: &'static str,
    /// The app that it is about; `None`: the pod as a whole.
    pub app: Option<&'a str>,
    /// As syslog(3) has it.
    pub priority: u8,
    /// What happened: of an app a whole sentence, of the pod what goes behind its name.
    pub words: String,
}

/// The kinds of events that are told, for whoever wants some of them.
pub const KINDS: [&str; 18] = [
    "boot-failed",
    "started",
    "start-failed",
    "ready",
    "up",
    "paused",
    "unpaused",
    "updated",
    "watchdog-missed",
    "oom",
    "memory-high",
    "pids-max",
    "stopping",
    "ended",
    "unkillable",
    "pod-stopping",
    "pod-ended",
    "pod-lost",
];

/// An event, when the status has it already. `None` for what is of no interest beside the others.
#[must_use]
pub fn told<'a>(event: &'a Event, status: &Status) -> Option<Told<'a>> {
    let state = |app: &str| status.app(app).map(|app| app.words()).unwrap_or_default();
    let of_app = |event, app: &'a str, priority, words: String| {
        Some(Told { event, app: Some(app), priority, words: format!("app {app} {words}") })
    };
    let of_pod = |event, priority, words: String| Some(Told { event, app: None, priority, words });
    let of_either = |event, app: &'a Option<String>, words: String| match app {
        Some(app) => of_app(event, app, WARNING, words),
        None => of_pod(event, WARNING, words),
    };
    match event {
        Event::Booted | Event::Says { .. } | Event::Stores { .. } | Event::Forgets { .. } => None,
        Event::BootFailed { failure } => of_pod("boot-failed", ERROR, format!("was not built: {failure}")),
        Event::Started { app, pid, .. } => of_app("started", app, INFO, format!("has started (pid {pid})")),
        Event::Paused { app } => of_app("paused", app, NOTICE, "stands still".to_owned()),
        Event::Unpaused { app } => of_app("unpaused", app, NOTICE, "goes on".to_owned()),
        Event::Updated { app, changes } => {
            let words = format!("is limited anew: {}", printable(&changes.join(" ")));
            match app {
                Some(app) => of_app("updated", app, NOTICE, words),
                None => of_pod("updated", NOTICE, words),
            }
        }
        Event::Ready { app } => of_app("ready", app, INFO, "is ready".to_owned()),
        Event::WatchdogMissed { app } => {
            of_app("watchdog-missed", app, ERROR, "has missed its watchdog".to_owned())
        }
        Event::StartFailed { app, failure } => {
            let words = format!("cannot start app {app}: {failure}");
            Some(Told { event: "start-failed", app: Some(app), priority: ERROR, words })
        }
        Event::Up => of_pod("up", NOTICE, "is up".to_owned()),
        Event::Oom { app, level, kills, limit_bytes, peak_bytes, pressure } => {
            let how = (*level, *limit_bytes, *peak_bytes, *pressure);
            of_app("oom", app, WARNING, out_of_memory(*kills, how))
        }
        Event::MemoryHigh { app, times, limit_bytes } => {
            let limit = limit_bytes.map(|bytes| format!(" of {}", size(bytes))).unwrap_or_default();
            of_either(
                "memory-high",
                app,
                format!("is above its memory-high{limit}: slowed down {}", often(*times)),
            )
        }
        Event::PidsMax { app, times, limit, of_pod } => {
            let whose = if *of_pod || limit.is_none() { "the pod's " } else { "" };
            let number = limit.map(|limit| format!(" = {limit}")).unwrap_or_default();
            let limit = format!("{whose}pids-max{number}");
            of_either("pids-max", app, format!("was refused a process {} by {limit}", often(*times)))
        }
        Event::Stopping { app, signal } => {
            let words = format!("stopping app {app} with {}", signal_name(*signal));
            Some(Told { event: "stopping", app: Some(app), priority: INFO, words })
        }
        Event::Ended { app, .. } => {
            let priority = if status.bad_end(app).is_some() { WARNING } else { INFO };
            of_app("ended", app, priority, state(app))
        }
        Event::PodStopping { .. } => of_pod("pod-stopping", NOTICE, format!("is {}", status.phase.words())),
        Event::Unkillable { app, .. } => of_app("unkillable", app, ERROR, format!("is {}", state(app))),
        Event::PodEnded { code, .. } => {
            let priority = if *code == 0 { NOTICE } else { WARNING };
            of_pod("pod-ended", priority, format!("has ended: {}", status.phase.words()))
        }
        Event::PodLost { cause } => of_pod("pod-lost", ERROR, format!("was lost: {cause}")),
    }
}

fn often(times: u64) -> String {
    if times == 1 { "once".to_owned() } else { format!("{times} times") }
}

/// `lost 2 processes to the OOM killer, by its own limit of 64 MiB (peak 64 MiB, memory pressure 12.34 %)`
fn out_of_memory(
    kills: u64,
    (level, limit, peak, pressure): (OomLevel, Option<u64>, Option<u64>, Option<Pressure>),
) -> String {
    let processes = if kills == 1 { "a process".to_owned() } else { format!("{kills} processes") };
    let whose = match level {
        OomLevel::App => "its own limit",
        OomLevel::Pod => "the pod's limit",
        OomLevel::Host => "the host, outside the pod",
    };
    let of = limit.map(|bytes| format!(" of {}", size(bytes))).unwrap_or_default();
    let peak = peak.map(|bytes| format!("peak {}", size(bytes)));
    let share = |Pressure { some_avg10, .. }: Pressure| {
        format!("memory pressure {}.{:02} %", some_avg10 / 100, some_avg10 % 100)
    };
    let more: Vec<String> = [peak, pressure.map(share)].into_iter().flatten().collect();
    let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join(", ")) };
    format!("lost {processes} to the OOM killer, by {whose}{of}{more}")
}

#[cfg(test)]
mod tests {
    use podrun_abi::event::{End, Outcome, StopReason};

    use super::*;
    use crate::pod::events::stamp;

    #[test]
    fn words_say_what_the_status_says() {
        let mut status = Status::new(vec!["web".to_owned()]);
        let mut tell = |event: Event| {
            status.apply(&stamp(event.clone()));
            let told = told(&event, &status);
            told.map(|told| (told.event, told.app.map(str::to_owned), told.priority, told.words))
        };
        let outcome = |code| Outcome::of(End::Exited { code }, 5);
        let web = || Some("web".to_owned());
        assert_eq!(tell(Event::Booted), None);
        let started = tell(Event::Started { app: "web".into(), pid: 7, awaits_ready: true });
        assert_eq!(started, Some(("started", web(), INFO, "app web has started (pid 7)".into())));
        let ready = tell(Event::Ready { app: "web".into() });
        assert_eq!(ready, Some(("ready", web(), INFO, "app web is ready".into())));
        let words = Event::Says { app: "web".into(), status: Some("x".into()), extend_us: None };
        assert_eq!(tell(words), None);
        let paused = tell(Event::Paused { app: "web".into() });
        assert_eq!(paused, Some(("paused", web(), NOTICE, "app web stands still".into())));
        let changes = || vec!["memory-max=1GiB".to_owned(), "cpus=".to_owned()];
        let words = "is limited anew: memory-max=1GiB cpus=";
        let of_app = tell(Event::Updated { app: web(), changes: changes() });
        assert_eq!(of_app, Some(("updated", web(), NOTICE, format!("app web {words}"))));
        let of_pod = tell(Event::Updated { app: None, changes: changes() });
        assert_eq!(of_pod, Some(("updated", None, NOTICE, words.into())));
        assert_eq!(tell(Event::Up), Some(("up", None, NOTICE, "is up".into())));
        let (event, app, priority, words) =
            tell(Event::Ended { app: "web".into(), outcome: outcome(3) }).unwrap();
        assert_eq!((event, app, priority), ("ended", web(), WARNING));
        assert!(words.starts_with("app web exited 3"), "{words}");
        let reason = StopReason::AppFailed { app: "web".into() };
        let (event, _, priority, words) =
            tell(Event::PodEnded { code: 3, reason, decided_by: web() }).unwrap();
        assert_eq!((event, priority), ("pod-ended", WARNING));
        assert_eq!(words, "has ended: exited 3 (app `web`)");
    }

    #[test]
    fn limits_that_were_met_are_told_with_their_numbers() {
        let status = Status::new(vec!["web".to_owned()]);
        let words = |event: Event| told(&event, &status).map(|told| told.words).unwrap();
        let oom = |level, kills, limit_bytes, pressure| Event::Oom {
            app: "web".into(),
            level,
            kills,
            limit_bytes,
            peak_bytes: Some(1 << 26),
            pressure,
        };
        let pressure = Pressure { some_avg10: 1205, full_avg10: 0, some_total_us: 7 };
        assert_eq!(
            words(oom(OomLevel::App, 1, Some(1 << 26), Some(pressure))),
            "app web lost a process to the OOM killer, by its own limit of 64 MiB (peak 64 MiB, memory pressure 12.05 %)"
        );
        assert_eq!(
            words(oom(OomLevel::Host, 2, None, None)),
            "app web lost 2 processes to the OOM killer, by the host, outside the pod (peak 64 MiB)"
        );
        let high = Event::MemoryHigh { app: None, times: 3, limit_bytes: Some(1 << 20) };
        assert_eq!(words(high), "is above its memory-high of 1 MiB: slowed down 3 times");
        let pids_of = |limit, of_pod| Event::PidsMax { app: Some("web".into()), times: 1, limit, of_pod };
        let pids = |limit| pids_of(limit, false);
        assert_eq!(words(pids(Some(8))), "app web was refused a process once by pids-max = 8");
        assert_eq!(words(pids(None)), "app web was refused a process once by the pod's pids-max");
        let of_pod = words(pids_of(Some(20), true));
        assert_eq!(of_pod, "app web was refused a process once by the pod's pids-max = 20");
    }
}
