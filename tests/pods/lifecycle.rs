//! How pods end: exit codes, signals, exit policies, the ordered stop.

use std::time::Duration;

use podrun_abi::event::{End, Event, StopReason};

use crate::harness::{Lab, app, pod, slowness};

/// CASES 15.
#[test]
pub fn end_of_the_only_app_is_the_exit_code() {
    let Some(lab) = Lab::open() else { return };
    let killed = |signal| End::Signaled { signal, core: false };
    let rows = [
        ("exit 0", 0, End::Exited { code: 0 }, "exited 0"),
        ("exit 1", 1, End::Exited { code: 1 }, "exited 1"),
        ("exit 2", 2, End::Exited { code: 2 }, "exited 2"),
        ("exit 143", 143, End::Exited { code: 143 }, "exited 143"),
        ("kill-self TERM", 143, killed(libc::SIGTERM), "killed by SIGTERM"),
        ("kill-self KILL", 137, killed(libc::SIGKILL), "killed by SIGKILL"),
        ("kill-self SEGV", 139, killed(libc::SIGSEGV), "killed by SIGSEGV"),
    ];
    for (words, code, end, wanted) in rows {
        lab.run(&pod("one", "", &[app("a", words, "rlimits = { core = \"0\" }")])).expect_code(code);
        let told = lab.status("one");
        let status = told["apps"][0]["status"].as_str().unwrap();
        // A core that is piped to a program is dumped whatever the limit says (core(5)); that is the host's matter.
        assert_eq!(status.trim_end_matches(" (core dumped)"), wanted, "{words}: {told}");
        let seen = match lab.end("a") {
            End::Signaled { signal, .. } => killed(signal),
            exited => exited,
        };
        assert_eq!(seen, end, "{words}");
        lab.call(&["rm", "one"]).expect_code(0);
    }
}

/// CASES 16.
#[test]
pub fn first_essential_app_that_fails_decides() {
    let Some(lab) = Lab::open() else { return };
    let apps = [
        app("zero", "sleep 1 ; exit 0", ""),
        app("five", "sleep 1 ; exit 5", ""),
        app("six", "sleep 2 ; exit 6", ""),
    ];
    let ended = lab.run(&pod("one", "", &apps)).expect_code(5);
    assert!(ended.time < Duration::from_millis(1900) * slowness(), "{ended}");
    assert_eq!(lab.end("five"), End::Exited { code: 5 });
    assert!(lab.outcome("six").stopped);
    let told = lab.call(&["status", "one"]).stdout;
    for text in ["exited 5", "stopped by the pod"] {
        assert!(told.contains(text), "status does not tell `{text}`\n{told}");
    }
}

#[test]
fn pod_ends_with_0_when_all_essential_apps_have_succeeded() {
    let Some(lab) = Lab::open() else { return };
    let apps = [app("work", "exit 0", ""), app("side", "on-term 9 ; pause", "essential = false")];
    lab.run(&pod("one", "", &apps)).expect_code(0);
    assert!(lab.outcome("side").stopped);
}

#[test]
fn app_that_is_not_essential_fails_without_ending_the_pod() {
    let Some(lab) = Lab::open() else { return };
    let apps = [app("side", "exit 7", "essential = false"), app("work", "sleep 0.3 ; exit 0", "")];
    lab.run(&pod("one", "", &apps)).expect_code(0);
    assert_eq!(lab.end("side"), End::Exited { code: 7 });
    assert!(!lab.outcome("work").stopped);
}

#[test]
fn exit_policy_all_exited_waits_for_the_last() {
    let Some(lab) = Lab::open() else { return };
    let apps = [app("a", "exit 3", ""), app("b", "sleep 0.5 ; say done ; exit 4", "")];
    let ended = lab.run(&pod("one", "exit-policy = \"all-exited\"", &apps)).expect_code(3);
    assert!(ended.stdout.contains("done"), "{ended}");
}

#[test]
fn exit_policy_never_ends_when_it_is_told_to() {
    let Some(lab) = Lab::open() else { return };
    let running = lab.start(&pod("one", "exit-policy = \"never\"", &[app("a", "say done ; exit 0", "")]));
    running.wait_for("done");
    crate::harness::wait_until("the app's end is recorded", || {
        lab.events().iter().any(|event| matches!(event, Event::Ended { .. }))
    });
    assert!(!lab.events().iter().any(|event| matches!(event, Event::PodEnded { .. })));
    running.signal(libc::SIGTERM);
    running.wait().expect_code(0);
}

#[test]
fn success_codes_are_successes() {
    let Some(lab) = Lab::open() else { return };
    lab.run(&pod("one", "", &[app("a", "exit 42", "success-codes = [0, 42]")])).expect_code(0);
    lab.run(&pod("two", "", &[app("a", "kill-self TERM", "success-codes = [\"TERM\"]")])).expect_code(0);
}

#[test]
fn apps_start_in_the_order_of_their_dependencies() {
    let Some(lab) = Lab::open() else { return };
    let apps = [
        app("c", "exit 0", "depends-on = [\"b\"]"),
        app("b", "exit 0", "depends-on = { a = \"started\" }"),
        app("a", "exit 0", ""),
    ];
    lab.run(&pod("one", "", &apps)).expect_code(0);
    let started = |event| if let Event::Started { app, .. } = event { Some(app) } else { None };
    assert_eq!(lab.events().into_iter().filter_map(started).collect::<Vec<_>>(), ["a", "b", "c"]);
}

fn chain() -> String {
    let apps = [
        app("a", "on-term 0 ; say a-up ; pause", ""),
        app("b", "on-term 0 ; say b-up ; pause", "depends-on = [\"a\"]"),
        app("c", "on-term 0 ; say c-up ; pause", "depends-on = [\"b\"]"),
    ];
    pod("one", "", &apps)
}

/// CASES 17.
#[test]
fn sigterm_to_the_launcher_is_the_ordered_stop() {
    let Some(lab) = Lab::open() else { return };
    let running = lab.start(&chain());
    ["a-up", "b-up", "c-up"].iter().for_each(|text| running.wait_for(text));
    running.signal(libc::SIGTERM);
    running.wait().expect_code(0);
    assert_eq!(lab.stop_order(), ["c", "b", "a"]);
    expect_stopped_in_order(&lab);
}

/// CASES 17.
#[test]
fn podrun_stop_is_the_ordered_stop() {
    let Some(lab) = Lab::open() else { return };
    let running = lab.start(&chain());
    ["a-up", "b-up", "c-up"].iter().for_each(|text| running.wait_for(text));
    lab.call(&["stop", "one"]).expect_code(0);
    running.wait().expect_code(0);
    assert_eq!(lab.stop_order(), ["c", "b", "a"]);
    expect_stopped_in_order(&lab);
}

/// A dependency is told to stop when those that need it have ended, not before.
fn expect_stopped_in_order(lab: &Lab) {
    let events = lab.events();
    let at = |wanted: &dyn Fn(&Event) -> bool| events.iter().position(wanted).expect("an event");
    for (needs, needed) in [("c", "b"), ("b", "a")] {
        let ended = at(&|event| matches!(event, Event::Ended { app, .. } if app == needs));
        let told = at(&|event| matches!(event, Event::Stopping { app, .. } if app == needed));
        assert!(ended < told, "`{needed}` was told to stop before `{needs}` had ended");
    }
    for name in ["a", "b", "c"] {
        let outcome = lab.outcome(name);
        assert!(outcome.stopped && !outcome.timed_out, "{name}: {outcome:?}");
        assert_eq!(outcome.end, End::Exited { code: 0 });
    }
    let last = events.iter().rev().find_map(|event| match event {
        Event::PodEnded { code, reason, .. } => Some((*code, reason.clone())),
        _ => None,
    });
    assert_eq!(last, Some((0, StopReason::Requested)));
}

#[test]
fn stop_signal_is_the_manifests() {
    let Some(lab) = Lab::open() else { return };
    let running = lab.start(&pod("one", "", &[app("a", "say up ; pause", "stop-signal = \"USR1\"")]));
    running.wait_for("up");
    running.signal(libc::SIGTERM);
    running.wait();
    assert_eq!(lab.end("a"), End::Signaled { signal: libc::SIGUSR1, core: false });
}

/// CASES 18.
#[test]
pub fn app_and_50_children_that_ignore_sigterm_are_dead_within_2_s() {
    let Some(lab) = Lab::open() else { return };
    let words = "ignore-term ; children 50 ; say ready ; pause";
    let running = lab.start(&pod("one", "", &[app("a", words, "stop-timeout = \"1s\"")]));
    running.wait_for("ready");
    let begin = std::time::Instant::now();
    running.signal(libc::SIGTERM);
    running.wait();
    assert!(
        begin.elapsed() < Duration::from_secs(2) * slowness(),
        "it took {} ms",
        begin.elapsed().as_millis()
    );
    assert_eq!(lab.processes(), Vec::<i32>::new());
    let outcome = lab.outcome("a");
    assert!(outcome.timed_out && outcome.stopped, "{outcome:?}");
    assert_eq!(outcome.end, End::Signaled { signal: libc::SIGKILL, core: false });
}

/// Pids that are gone before anybody can signal them: `cgroup.kill`, or v1's freezer, takes all of them at once.
#[test]
fn app_whose_pids_change_all_the_time_is_killed() {
    let Some(lab) = Lab::open() else { return };
    let words = "ignore-term ; churn 4 ; say ready ; pause";
    let churn = app("churn", words, "essential = false\nisolators.pids-max = 50");
    let running = lab.start(&pod("one", "", &[churn, app("other", "on-term 0 ; pause", "")]));
    running.wait_for("ready");
    lab.call(&["stop", "-t", "100ms", "one/churn"]).expect_code(0);
    assert_eq!(lab.end("churn"), End::Signaled { signal: libc::SIGKILL, core: false });
    assert_eq!(lab.group_file("pids", "app-churn", "cgroup.procs"), "", "processes of the app are left");
    running.signal(libc::SIGTERM);
    running.wait();
}

/// The pod's own stop timeout cuts short what the apps' would allow.
#[test]
fn stop_timeout_of_the_pod_bounds_the_whole_stop() {
    let Some(lab) = Lab::open() else { return };
    let stubborn = |name| app(name, "ignore-term ; say up ; pause", "stop-timeout = \"30s\"");
    let running = lab.start(&pod("one", "stop-timeout = \"1s\"", &[stubborn("a"), stubborn("b")]));
    running.wait_for("up\nup");
    let begin = std::time::Instant::now();
    running.signal(libc::SIGTERM);
    running.wait();
    assert!(
        begin.elapsed() < Duration::from_secs(5) * slowness(),
        "it took {} ms",
        begin.elapsed().as_millis()
    );
}

#[test]
fn stop_with_a_time_uses_that_one() {
    let Some(lab) = Lab::open() else { return };
    let running =
        lab.start(&pod("one", "", &[app("a", "ignore-term ; say up ; pause", "stop-timeout = \"50s\"")]));
    running.wait_for("up");
    let stopped = lab.call(&["stop", "-t", "300ms", "one"]).expect_code(0);
    assert!(stopped.time < Duration::from_secs(10) * slowness(), "{stopped}");
    running.wait();
}

/// Ctrl-C in a terminal: the ordered stop, and a code that lets a shell's loop end.
#[test]
fn first_sigint_stops_in_order_with_130() {
    let Some(lab) = Lab::open() else { return };
    let running = lab.start(&pod("one", "", &[app("a", "on-term 0 ; say up ; pause", "")]));
    running.wait_for("up");
    running.signal(libc::SIGINT);
    running.wait().expect_code(130);
    assert!(lab.outcome("a").stopped);
}

#[test]
fn second_sigint_kills_at_once() {
    let Some(lab) = Lab::open() else { return };
    let words = "ignore-term ; say up ; pause";
    let running = lab.start(&pod("one", "", &[app("a", words, "stop-timeout = \"50s\"")]));
    running.wait_for("up");
    running.signal(libc::SIGINT);
    running.wait_for_stderr("stopping");
    let begin = std::time::Instant::now();
    running.signal(libc::SIGINT);
    let ended = running.wait();
    assert!(begin.elapsed() < Duration::from_secs(5) * slowness(), "{ended}");
    assert_eq!(lab.end("a"), End::Signaled { signal: libc::SIGKILL, core: false });
}

#[test]
fn sigquit_kills_at_once() {
    let Some(lab) = Lab::open() else { return };
    let words = "ignore-term ; say up ; pause";
    let running = lab.start(&pod("one", "", &[app("a", words, "stop-timeout = \"50s\"")]));
    running.wait_for("up");
    let begin = std::time::Instant::now();
    running.signal(libc::SIGQUIT);
    let ended = running.wait();
    assert!(begin.elapsed() < Duration::from_secs(5) * slowness(), "{ended}");
}

#[test]
fn kill_sends_the_signal_to_the_main_process() {
    let Some(lab) = Lab::open() else { return };
    let running = lab.start(&pod("one", "", &[app("a", "say up ; pause", "")]));
    running.wait_for("up");
    lab.call(&["kill", "-s", "USR1", "one/a"]).expect_code(0);
    running.wait().expect_code(128 + libc::SIGUSR1);
}

#[test]
fn kill_without_a_signal_kills() {
    let Some(lab) = Lab::open() else { return };
    let running = lab.start(&pod("one", "", &[app("a", "ignore-term ; say up ; pause", "")]));
    running.wait_for("up");
    lab.call(&["kill", "one"]).expect_code(0);
    running.wait();
    assert_eq!(lab.end("a"), End::Signaled { signal: libc::SIGKILL, core: false });
}
