//! How stage1 looks after apps that run: reaping, stopping, signals, limits, commands, and how a pod ends.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod harness;

use std::fs;
use std::time::{Duration, Instant};

use harness::{Host, Pod, app, boot, limit, required};
use podrun_abi::boot::ExitPolicy;
use podrun_abi::control::{Command, Reply};
use podrun_abi::event::{End, Event, OomLevel, StopReason};
use podrun_abi::failure::Step;

fn names(pod: &Pod, pick: impl Fn(&Event) -> Option<&String>) -> Vec<String> {
    pod.seen.iter().filter_map(pick).cloned().collect()
}

#[test]
fn leftovers_are_killed_when_the_main_process_ends() {
    if !required() {
        return;
    }
    let mut pod = Pod::start(boot(vec![app("a", "daemon ; ignore-term ; children 5 ; exit 3")]));
    assert_eq!(pod.finish(), 3);
    assert_eq!(pod.outcome("a").end, End::Exited { code: 3 });
    assert_eq!(pod.processes(), [0; 0]);
}

#[test]
fn ten_thousand_orphans_are_reaped() {
    if !required() {
        return;
    }
    let mut pod = Pod::start(boot(vec![app("a", "orphans 10000 ; no-zombies 1")]));
    assert_eq!(pod.finish(), 0, "{}", pod.output("a"));
    assert!(pod.output("a").contains("no-zombies-after-ms"));
}

#[test]
fn ordered_stop_goes_against_the_dependencies() {
    if !required() {
        return;
    }
    let mut apps = vec![
        app("base", "on-term 0 ; say ready ; pause"),
        app("middle", "say ready ; pause"),
        app("top", "on-term 143 ; say ready ; pause"),
    ];
    apps[1].policy.after = vec![0];
    apps[2].policy.after = vec![1];
    let mut pod = Pod::start(boot(apps));
    pod.wait_for("up", |event| *event == Event::Up);
    ["base", "middle", "top"].iter().for_each(|app| pod.wait_line(app, "ready"));
    assert_eq!(pod.ask(Command::Stop { apps: vec![], timeout_ms: None }), Reply::Accepted);
    assert_eq!(pod.finish(), 0, "{:#?}", pod.seen);
    let ended = names(&pod, |event| match event {
        Event::Ended { app, .. } => Some(app),
        _ => None,
    });
    let started = names(&pod, |event| match event {
        Event::Started { app, .. } => Some(app),
        _ => None,
    });
    assert_eq!((started, ended), (strings("base middle top"), strings("top middle base")));
    assert!(["base", "middle", "top"].iter().all(|app| pod.outcome(app).stopped));
}

fn strings(words: &str) -> Vec<String> {
    words.split(' ').map(str::to_owned).collect()
}

#[test]
fn app_that_ignores_the_stop_signal_is_killed_with_all_its_children() {
    if !required() {
        return;
    }
    let mut plan = boot(vec![app("a", "ignore-term ; children 50 ; pause")]);
    plan.apps[0].policy.stop_timeout_ms = Some(300);
    let mut pod = Pod::start(plan);
    pod.wait_line("a", "children 50");
    let begin = Instant::now();
    pod.order(Command::Stop { apps: vec![], timeout_ms: None });
    assert_eq!(pod.finish(), 137, "{:#?}", pod.seen);
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert!(pod.outcome("a").timed_out);
    assert_eq!(pod.processes(), [0; 0]);
}

#[test]
fn signals_from_outside_stop_and_those_from_inside_do_not() {
    if !required() {
        return;
    }
    for (signal, code, reason) in [
        (libc::SIGTERM, 0, StopReason::Requested),
        (libc::SIGINT, 0, StopReason::Requested),
        (37, 0, StopReason::Requested),
        (libc::SIGQUIT, 137, StopReason::Killed),
    ] {
        let mut plan =
            boot(vec![app("a", &format!("kill 1 {signal} ; kill 1 HUP ; kill 1 40 ; say sent ; pause"))]);
        plan.apps[0].policy.stop_timeout_ms = None;
        let mut pod = Pod::start(plan);
        pod.wait_line("a", "sent");
        // An answer comes after the loop has taken the signals: it has not stopped.
        let refused = pod.ask(Command::Kill { apps: vec!["b".into()] });
        assert_eq!(refused, Reply::Refused { reason: "no app `b` in this pod".into() });
        assert!(!pod.output("a").is_empty());
        pod.signal_stage1(signal);
        assert_eq!(pod.finish(), code, "{:#?}", pod.seen);
        let told = pod.seen.iter().any(|event| *event == Event::PodStopping { reason: reason.clone() });
        assert!(told, "{:#?}", pod.seen);
    }
}

#[test]
fn launcher_that_is_gone_means_an_ordered_stop() {
    if !required() {
        return;
    }
    let mut pod = Pod::start(boot(vec![app("a", "on-term 0 ; pause")]));
    pod.wait_started("a");
    pod.hang_up();
    assert_eq!(pod.finish(), 0);
    let lines = fs::read_to_string(pod.directory.join("events.jsonl")).unwrap();
    assert!(lines.contains(r#""reason":"launcher-gone""#), "{lines}");

    let mut pod = Pod::boot(boot(vec![app("a", "pause")]));
    pod.wait_for("booted", |event| *event == Event::Booted);
    pod.hang_up();
    assert_eq!(pod.finish(), 125, "before `go` it ends at once");
}

#[test]
fn first_failure_ends_an_essential_pod_and_the_last_end_the_others() {
    if !required() {
        return;
    }
    let apps = || vec![app("a", "exit 0"), app("b", "sleep 0.1 ; exit 5"), app("c", "sleep 0.4 ; exit 6")];
    let mut pod = Pod::start(boot(apps()));
    assert_eq!(pod.finish(), 5, "{:#?}", pod.seen);
    let stopped = ["a", "b", "c"].map(|app| pod.outcome(app).stopped);
    assert_eq!(stopped, [false, false, true]);

    let mut plan = boot(apps());
    plan.pod.exit_policy = ExitPolicy::AllExited;
    let mut pod = Pod::start(plan);
    assert_eq!(pod.finish(), 5);
    assert_eq!(pod.outcome("c").end, End::Exited { code: 6 });
}

#[test]
fn memory_hog_is_told_to_have_hit_its_own_limit() {
    if !required() {
        return;
    }
    let mut pod = Pod::boot(boot(vec![app("a", "alloc 67108864")]));
    limit(&pod, "a", "memory.limit_in_bytes", "33554432");
    pod.order(Command::Go);
    assert_eq!(pod.finish(), 137, "{:#?}", pod.seen);
    let outcome = pod.outcome("a");
    assert_eq!(outcome.oom, Some(OomLevel::App));
    assert!(
        outcome.memory_peak_bytes.is_some_and(|peak| (30 << 20..=32 << 20).contains(&peak)),
        "{outcome:?}"
    );
}

#[test]
fn fork_limit_that_forbids_the_start_is_a_failure_of_clone() {
    if !required() {
        return;
    }
    let mut pod = Pod::boot(boot(vec![app("a", "fork-bomb")]));
    limit(&pod, "a", "pids.max", "10");
    pod.order(Command::Go);
    pod.finish();
    assert_eq!(pod.output("a"), "forks 9 EAGAIN\n");
}

#[test]
fn control_socket_refuses_what_it_must() {
    if !required() {
        return;
    }
    let mut pod = Pod::start(boot(vec![app("a", "pause"), app("b", "on-term 0 ; pause")]));
    pod.wait_for("up", |event| *event == Event::Up);
    let refused = |reply| match reply {
        Reply::Refused { reason } => reason,
        Reply::Accepted => panic!("accepted"),
    };
    assert_eq!(refused(pod.ask(Command::Go)), "`Go` comes from the launcher only");
    assert!(refused(pod.ask_raw(b"{}")).starts_with("the request cannot be read: "));
    assert!(refused(pod.ask_raw(br#"{"version":9,"command":"go"}"#)).contains("version 1, not 9"));
    let signal = |signal| Command::Signal { apps: vec!["a".into()], signal, all_processes: false };
    assert_eq!(refused(pod.ask(signal(99))), "`99` is not a signal: 1 to 64");
    assert_eq!(pod.ask(Command::Stop { apps: vec!["b".into()], timeout_ms: None }), Reply::Accepted);
    pod.wait_for("end of b", |event| matches!(event, Event::Ended { app, .. } if app == "b"));
    assert_eq!(pod.ask(signal(libc::SIGUSR1)), Reply::Accepted);
    assert_eq!(pod.finish(), 128 + libc::SIGUSR1, "{:#?}", pod.seen);
    assert!(!pod.outcome("a").stopped);
}

#[test]
fn many_apps_start_and_end() {
    if !required() {
        return;
    }
    let apps: Vec<_> = (0..100).map(|index| app(&format!("a{index}"), "exit 0")).collect();
    let mut pod = Pod::start(boot(apps));
    assert_eq!(pod.finish(), 0);
    let ended = pod.seen.iter().filter(|event| matches!(event, Event::Ended { .. })).count();
    assert_eq!(ended, 100);
}

#[test]
fn idle_pod_sleeps() {
    if !required() {
        return;
    }
    let mut pod = Pod::start(boot(vec![app("a", "pause")]));
    pod.wait_started("a");
    let switches = || {
        let status = fs::read_to_string(format!("/proc/{}/status", pod.stage1())).unwrap();
        status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).map(str::to_owned)
    };
    std::thread::sleep(Duration::from_millis(200));
    let before = switches();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(before, switches());
}

#[test]
fn hosts_with_less_kill_as_well() {
    if !required() {
        return;
    }
    for host in [Host::NoClone, Host::Freezer, Host::Bare] {
        let mut plan = boot(vec![app("a", "ignore-term ; daemon ; children 50 ; say ready ; pause")]);
        plan.apps[0].policy.stop_timeout_ms = Some(100);
        let mut pod = Pod::boot_with(plan, host, |_| {});
        pod.order(Command::Go);
        pod.wait_line("a", "ready");
        let begin = Instant::now();
        pod.order(Command::Stop { apps: vec![], timeout_ms: None });
        assert_eq!(pod.finish(), 137, "{host:?}: {:#?}", pod.seen);
        assert!(begin.elapsed() < Duration::from_secs(2), "{host:?}: {:?}", begin.elapsed());
        assert_eq!(pod.processes(), [0; 0], "{host:?}");

        let plan = boot(vec![app("a", "ignore-term ; daemon ; children 5 ; exit 3")]);
        let mut pod = Pod::boot_with(plan, host, |_| {});
        pod.order(Command::Go);
        assert_eq!(pod.finish(), 3, "{host:?}: {:#?}", pod.seen);
        assert_eq!(pod.processes(), [0; 0], "{host:?}");
    }
}

#[test]
fn app_that_is_not_found_in_its_group_never_runs() {
    if !required() {
        return;
    }
    let mut pod = Pod::boot_with(boot(vec![app("a", "say here")]), Host::Wrong, |_| {});
    pod.order(Command::Go);
    assert_eq!(pod.finish(), 125, "{:#?}", pod.seen);
    let refused = pod.seen.iter().any(|event| {
        matches!(event, Event::StartFailed { failure, .. }
            if failure.step == Step::VerifyCgroup && failure.subject.ends_with("/no-procs"))
    });
    assert!(refused, "{:#?}", pod.seen);
    assert_eq!(pod.output("a"), "");
}

#[test]
fn launcher_that_does_not_listen_misses_nothing() {
    if !required() {
        return;
    }
    let apps: Vec<_> = (0..150).map(|index| app(&format!("a{index}"), "exit 0")).collect();
    let mut pod = Pod::start(boot(apps));
    let events = pod.directory.join("events.jsonl");
    let end = Instant::now() + Duration::from_secs(20);
    let lines = || fs::read_to_string(&events).unwrap();
    while !lines().contains("pod-ended") {
        assert!(Instant::now() < end, "{}", lines());
        std::thread::sleep(Duration::from_millis(10));
    }
    let told = lines().lines().count();
    assert_eq!(told, 303);
    assert_eq!(pod.finish(), 0);
    assert_eq!(pod.seen.len(), told);
}

#[test]
fn clients_are_limited_in_number() {
    if !required() {
        return;
    }
    let mut pod = Pod::start(boot(vec![app("a", "pause")]));
    pod.wait_started("a");
    let clients: Vec<_> = (0..32).map(|_| pod.connect()).collect();
    assert!(pod.is_closed(&pod.connect()), "one too many");
    drop(clients);
    // Another test's child may hold copies of these sockets until its execve.
    let end = Instant::now() + Duration::from_secs(5);
    while pod.try_ask(br#"{"version":1,"command":{"kill":{"apps":[]}}}"#) != Some(Reply::Accepted) {
        assert!(Instant::now() < end, "there is room again");
    }
    assert_eq!(pod.finish(), 137);
}
