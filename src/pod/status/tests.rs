use podrun_abi::event::OomLevel;
use podrun_abi::failure::{ExecFault, Step};

use super::json::Identity;
use super::*;
use crate::pod::record::Unreadable;

fn fold(apps: &[&str], events: &[Event]) -> Status {
    let mut status = Status::new(apps.iter().map(ToString::to_string).collect());
    for (index, event) in events.iter().enumerate() {
        let time_ms = 1000 * (index as u64 + 1);
        status.apply(&Record { version: 1, time_ms, monotonic_ms: time_ms, event: event.clone() });
    }
    status
}

fn started(app: &str) -> Event {
    Event::Started { app: app.into(), pid: 7, awaits_ready: false }
}

fn stopping(app: &str) -> Event {
    Event::Stopping { app: app.into(), signal: 15 }
}

fn pod_stopping(reason: StopReason) -> Event {
    Event::PodStopping { reason }
}

fn ended(app: &str, end: End, change: impl FnOnce(&mut Outcome)) -> Event {
    let mut outcome = Outcome::of(end, 5);
    change(&mut outcome);
    Event::Ended { app: app.into(), outcome }
}

fn exited(app: &str, code: u8) -> Event {
    ended(app, End::Exited { code }, |_| ())
}

fn pod_ended(code: u8, reason: StopReason, decided_by: Option<&str>) -> Event {
    Event::PodEnded { code, reason, decided_by: decided_by.map(Into::into) }
}

fn signaled(signal: i32) -> End {
    End::Signaled { signal, core: false }
}

fn failure() -> StartFailure {
    StartFailure { step: Step::Exec, subject: "/bin/x".into(), errno: 2, fault: Some(ExecFault::Missing) }
}

#[test]
fn a_pod_goes_through_its_phases() {
    use StopReason::{AppFailed, Finished, Killed, LauncherGone, Requested};
    let app_failed = || AppFailed { app: "a".into() };
    let table: Vec<(Vec<Event>, &str)> = vec![
        (vec![], "preparing"),
        (vec![Event::Booted], "starting"),
        (vec![Event::Booted, started("a")], "starting"),
        (vec![Event::Booted, started("a"), Event::Up], "running"),
        (vec![Event::Up, pod_stopping(Requested)], "stopping"),
        (vec![Event::Up, pod_stopping(app_failed())], "stopping (app `a` failed)"),
        (vec![Event::Booted, pod_stopping(LauncherGone), Event::Up], "stopping (its launcher died)"),
        (vec![Event::Up, pod_ended(0, Finished, None)], "exited 0"),
        (vec![Event::Up, pod_ended(5, app_failed(), Some("a"))], "exited 5 (app `a`)"),
        (vec![Event::Up, pod_ended(0, Requested, None)], "stopped"),
        (vec![Event::Up, pod_ended(143, Requested, None)], "stopped, exited 143"),
        (vec![Event::Up, pod_ended(137, Killed, None)], "killed, exited 137"),
        (vec![Event::Up, pod_ended(0, LauncherGone, None)], "stopped, its launcher died"),
        (vec![Event::Up, Event::PodLost { cause: "x".into() }], "lost: x"),
        (
            vec![Event::BootFailed { failure: failure() }],
            "failed: cannot execute `/bin/x`: no such file in the app's root",
        ),
    ];
    for (events, words) in table {
        assert_eq!(fold(&["a"], &events).phase.words(), words, "{events:?}");
    }
}

#[test]
fn what_is_over_stays_over() {
    let ends = [
        pod_ended(0, StopReason::Finished, None),
        Event::BootFailed { failure: failure() },
        Event::PodLost { cause: "x".into() },
    ];
    for end in ends {
        let once = fold(&[], std::slice::from_ref(&end));
        for later in [
            Event::Booted,
            Event::Up,
            pod_stopping(StopReason::Killed),
            pod_ended(9, StopReason::Killed, None),
        ] {
            let again = fold(&[], &[end.clone(), later, Event::PodLost { cause: "y".into() }]);
            assert_eq!((&again.phase, again.ended_ms), (&once.phase, once.ended_ms));
        }
    }
}

/// CASES 16: three apps, 0 after 1 s, 5 after 1 s, 6 after 2 s.
#[test]
fn the_first_failure_decides_and_the_others_are_stopped_by_the_pod() {
    let status = fold(
        &["zero", "five", "six"],
        &[
            Event::Booted,
            started("zero"),
            started("five"),
            started("six"),
            Event::Up,
            exited("zero", 0),
            exited("five", 5),
            pod_stopping(StopReason::AppFailed { app: "five".into() }),
            stopping("six"),
            ended("six", signaled(15), |outcome| outcome.stopped = true),
            pod_ended(5, StopReason::AppFailed { app: "five".into() }, Some("five")),
        ],
    );
    let words: Vec<String> = status.apps.iter().map(AppStatus::words).collect();
    assert_eq!(words, ["exited 0", "exited 5", "stopped by the pod"]);
    assert_eq!((status.bad_end("zero"), status.bad_end("six")), (None, None));
    assert_eq!(status.bad_end("five").as_deref(), Some("exited 5"));
}

#[test]
fn every_end_of_an_app_has_its_words() {
    type Change = fn(&mut Outcome);
    let stopped: Change = |outcome| outcome.stopped = true;
    let table: [(End, Change, &str); 17] = [
        (End::Exited { code: 0 }, |_| (), "exited 0"),
        (End::Exited { code: 5 }, |_| (), "exited 5"),
        (
            End::Exited { code: 1 },
            |o| o.oom = Some(OomLevel::App),
            "exited 1 (OOM kill in it, the app's own limit)",
        ),
        (End::Exited { code: 0 }, stopped, "stopped by the pod"),
        (End::Exited { code: 3 }, stopped, "stopped by the pod (exited 3)"),
        (signaled(15), stopped, "stopped by the pod"),
        (signaled(9), stopped, "killed by the pod"),
        (signaled(9), |o| (o.stopped, o.timed_out) = (true, true), "killed after its stop-timeout"),
        (
            signaled(9),
            |o| (o.oom, o.oom_ended) = (Some(OomLevel::App), true),
            "oom-killed (the app's own limit)",
        ),
        (signaled(9), |o| (o.oom, o.oom_ended) = (Some(OomLevel::Pod), true), "oom-killed (the pod's limit)"),
        (
            signaled(9),
            |o| (o.oom, o.oom_ended) = (Some(OomLevel::Host), true),
            "oom-killed (the host's memory)",
        ),
        (
            signaled(11),
            |o| o.oom = Some(OomLevel::App),
            "killed by SIGSEGV (OOM kill in it, the app's own limit)",
        ),
        (signaled(15), |o| (o.oom, o.stopped) = (Some(OomLevel::App), true), "stopped by the pod"),
        (signaled(9), |o| (o.oom, o.stopped) = (Some(OomLevel::App), true), "killed by the pod"),
        (End::Signaled { signal: 11, core: true }, |_| (), "killed by SIGSEGV (core dumped)"),
        (signaled(36), |_| (), "killed by SIGRTMIN+2"),
        (End::Skipped, |_| (), "skipped"),
    ];
    for (end, change, words) in table {
        let status =
            fold(&["a"], &[started("a"), pod_stopping(StopReason::Finished), ended("a", end, change)]);
        assert_eq!(status.apps[0].words(), words);
    }
}

#[test]
fn an_app_that_was_stopped_alone_says_so() {
    let end = |change| ended("a", signaled(15), change);
    let asked =
        fold(&["a"], &[started("a"), Event::Up, stopping("a"), end(|o: &mut Outcome| o.stopped = true)]);
    assert_eq!(asked.apps[0].words(), "stopped on request");
    let killed = fold(&["a"], &[started("a"), Event::Up, ended("a", signaled(9), |o| o.stopped = true)]);
    assert_eq!(killed.apps[0].words(), "killed on request");
}

#[test]
fn an_app_that_was_not_started_says_why_and_forgets_it_when_it_runs() {
    let start_failed = Event::StartFailed { app: "a".into(), failure: failure() };
    let not_started = ended("a", End::NotStarted { code: 127 }, |_| ());
    for events in [&[start_failed.clone()][..], &[start_failed.clone(), not_started]] {
        let status = fold(&["a"], events);
        assert_eq!(
            status.apps[0].words(),
            "not started: cannot execute `/bin/x`: no such file in the app's root"
        );
        assert_eq!(status.apps[0].to_json().exit_code, Some(127));
    }
    let status = fold(&["a"], &[start_failed, started("a")]);
    assert_eq!((status.apps[0].words().as_str(), &status.apps[0].failure), ("running", &None));
}

#[test]
fn app_that_tells_by_itself_is_starting_until_it_is_ready() {
    let awaited = Event::Started { app: "a".into(), pid: 7, awaits_ready: true };
    let ready = || Event::Ready { app: "a".into() };
    let says = |words: &str| Event::Says { app: "a".into(), status: Some(words.into()), extend_us: None };
    let more_time = Event::Says { app: "a".into(), status: None, extend_us: Some(1) };
    let late = Event::WatchdogMissed { app: "a".into() };
    let table: [(&[Event], &str, Option<bool>); 8] = [
        (&[], "starting", Some(false)),
        (&[says("half\u{1b}way")], "starting: half?way", Some(false)),
        (&[ready()], "ready", Some(true)),
        (&[says("up"), ready(), more_time], "ready: up", Some(true)),
        (&[ready(), says("up"), says("")], "ready", Some(true)),
        (&[ready(), late], "running, late for its watchdog", Some(true)),
        (&[says("bad"), exited("a", 3)], "exited 3", Some(false)),
        (&[ready(), started("a")], "running", None),
    ];
    for (events, words, is_ready) in table {
        let status = fold(&["a"], &[std::slice::from_ref(&awaited), events].concat());
        let app = &status.apps[0];
        assert_eq!((app.words().as_str(), app.to_json().ready), (words, is_ready), "{events:?}");
    }
}

#[test]
fn what_a_record_says_does_not_speak_to_the_terminal() {
    let lost = fold(&[], &[Event::PodLost { cause: "\u{1b}[2J\nrunning".into() }]);
    assert_eq!(lost.phase.words(), "lost: ?[2J?running");
    let failure = StartFailure { subject: "/bin/\u{7}x".into(), ..failure() };
    let status = fold(&["a"], &[Event::StartFailed { app: "a".into(), failure }]);
    assert!(status.apps[0].words().contains("`/bin/?x`"));
}

#[test]
fn processes_that_cannot_be_killed_are_named() {
    let unkillable = Event::Unkillable { app: "a".into(), pids: vec![12, 13] };
    let status = fold(&["a"], &[started("a"), stopping("a"), unkillable]);
    assert_eq!(status.apps[0].words(), "stopping (cannot be killed: pid 12, 13)");
}

#[test]
fn the_lock_says_what_the_account_cannot() {
    let whole = Unread::default();
    let torn = Unread { damaged: 1, ..Unread::default() };
    let unreadable = Unread { file: Some(Unreadable::Damaged("x".into())), ..Unread::default() };
    let missing = Unread { file: Some(Unreadable::Missing), ..Unread::default() };
    let up = || vec![Event::Booted, started("a"), Event::Up];
    let over = || vec![Event::Up, pod_ended(3, StopReason::Finished, None)];
    let table = [
        (vec![], Liveness::Alive, &missing, "preparing"),
        (vec![], Liveness::Alive, &unreadable, "unknown: its account cannot be read"),
        (vec![], Liveness::Dead, &missing, "lost: its launcher died before the pod was up"),
        (vec![], Liveness::Dead, &unreadable, "unknown: it is over, and its account cannot be read"),
        (up(), Liveness::Alive, &torn, "running"),
        (up(), Liveness::Dead, &whole, "lost: stage1 died without a word"),
        (up(), Liveness::Dead, &torn, "unknown: it is over, and its account cannot be read"),
        (up(), Liveness::OtherBoot, &whole, "lost: the host was restarted"),
        (over(), Liveness::Dead, &torn, "exited 3"),
        (over(), Liveness::OtherBoot, &whole, "exited 3"),
        (over(), Liveness::Alive, &whole, "exited 3"),
    ];
    for (events, liveness, unread, words) in table {
        let mut status = fold(&["a"], &events);
        status.conclude(liveness, unread);
        assert_eq!(status.phase.words(), words, "{liveness:?} {unread:?}");
        assert_eq!(status.incomplete, unread.any());
    }
}

#[test]
fn the_apps_of_a_lost_pod_are_lost_with_it() {
    let mut status = fold(&["a", "b", "c"], &[started("a"), exited("a", 0), started("b"), Event::Up]);
    status.conclude(Liveness::Dead, &Unread::default());
    let words: Vec<String> = status.apps.iter().map(AppStatus::words).collect();
    assert_eq!(words, ["exited 0", "lost with the pod", "waiting"]);
}

#[test]
fn an_account_without_a_plan_brings_its_apps_in_their_order_and_bounded() {
    let status = fold(&[], &[started("b"), started("a"), exited("b", 1)]);
    let names: Vec<&str> = status.apps.iter().map(|app| app.name.as_str()).collect();
    assert_eq!((names, status.running()), (vec!["b", "a"], 1));
    let mut full = Status::new((0..APPS_MAX).map(|number| number.to_string()).collect());
    full.apply(&Record { version: 1, time_ms: 0, monotonic_ms: 0, event: started("new") });
    assert_eq!(full.apps.len(), APPS_MAX);
}

#[test]
fn json_has_raw_numbers_and_rfc_3339_times() {
    let oom = |outcome: &mut Outcome| {
        (outcome.oom, outcome.oom_ended) = (Some(OomLevel::App), true);
        outcome.memory_peak_bytes = Some(26_214_400);
        outcome.cpu_used_ns = Some(12);
    };
    let status = fold(
        &["hog"],
        &[
            started("hog"),
            Event::Up,
            ended("hog", signaled(9), oom),
            pod_ended(137, StopReason::Finished, Some("hog")),
        ],
    );
    let json = status.to_json(Identity { id: "0badcafe", name: "shop", created_ms: Some(1_790_000_000_123) });
    let expected = concat!(
        r#"{"schema":1,"id":"0badcafe","name":"shop","state":"ended","status":"exited 137 (app `hog`)","#,
        r#""exit_code":137,"reason":"finished","decided_by":"hog","created_at":"2026-09-21T14:13:20.123Z","#,
        r#""started_at":"1970-01-01T00:00:02Z","ended_at":"1970-01-01T00:00:04Z","incomplete":false,"apps":[{"#,
        r#""name":"hog","state":"ended","status":"oom-killed (the app's own limit)","#,
        r#""started_at":"1970-01-01T00:00:01Z","ended_at":"1970-01-01T00:00:03Z","exit_code":137,"signal":9,"#,
        r#""signal_name":"SIGKILL","core_dumped":false,"oom":"app","stopped":false,"timed_out":false,"ran_ms":5,"#,
        r#""memory_peak_bytes":26214400,"cpu_used_ns":12}]}"#
    );
    assert_eq!(serde_json::to_string(&json).unwrap(), expected);
    assert_eq!(json::rfc3339(u64::MAX), None);
}
