//! The table by hand: each test is a short life of a pod; the last one tries every order of events.

use podrun_abi::boot::*;
use podrun_abi::control::Command;

use super::*;

mod pause;

/// An essential app that depends on `after`.
fn plan(name: &str, after: &[usize]) -> AppPlan {
    let identity =
        Identity { uid: 0, gid: 0, groups: vec![], bounding: 0, ambient: 0, no_new_privileges: false };
    let policy = Policy {
        after: after.to_vec(),
        after_ready: vec![],
        notify: false,
        essential: true,
        oom_group: false,
        success: vec![Success::Code(0)],
        stop_signal: 15,
        stop_timeout_ms: Some(1000),
    };
    AppPlan {
        name: name.into(),
        argv: vec!["x".into()],
        env: vec![],
        workdir: "/".into(),
        root: Root { index: 0, mode: RootMode::Overlay },
        identity,
        rlimits: vec![],
        oom_score_adj: 0,
        all_cpus: false,
        output: podrun_abi::boot::Output::Given,
        sockets: vec![],
        devices: vec![],
        policy,
    }
}

/// A pod driven by hand, with a clock that stands still unless it is told to go.
struct Bench {
    table: Supervisor,
    now: Instant,
    log: Vec<Action>,
}

impl Bench {
    fn new(exit_policy: ExitPolicy, plans: &[AppPlan]) -> Self {
        Self::of(exit_policy, plans, None)
    }

    /// Its manager wants to hear of it every two seconds.
    fn watched(plans: &[AppPlan]) -> Self {
        Self::of(ExitPolicy::Essential, plans, Some(2_000_000))
    }

    fn of(exit_policy: ExitPolicy, plans: &[AppPlan], watchdog_us: Option<u64>) -> Self {
        let pod = Pod {
            name: "p".into(),
            id: "00000000".into(),
            hostname: "p".into(),
            scratch: "/".into(),
            exit_policy,
            stop_timeout_ms: Some(5000),
            machine: None,
            watchdog_us,
        };
        Self { table: Supervisor::new(&pod, plans), now: Instant::now(), log: vec![] }
    }

    /// A pod that was let go, with these apps running.
    fn running(exit_policy: ExitPolicy, plans: &[AppPlan]) -> Self {
        let mut bench = Self::new(exit_policy, plans);
        bench.on(Event::Go);
        for index in 0..plans.len() {
            bench.on(Event::Started(AppIndex(index), 2));
        }
        bench.log.clear();
        bench
    }

    /// What follows from one event, in short words.
    fn on(&mut self, event: Event) -> Vec<String> {
        let mut actions = vec![];
        self.table.on(event, self.now, &mut actions);
        let words = actions.iter().map(|action| word(action, &self.table)).collect();
        self.log.extend(actions);
        words
    }

    fn after_ms(&mut self, ms: u64) -> Vec<String> {
        self.now += Duration::from_millis(ms);
        self.on(Event::Tick)
    }

    /// The main process ends and leaves nothing.
    fn end(&mut self, index: usize, end: End) -> Vec<String> {
        let mut words = self.on(Event::MainEnded(AppIndex(index), end));
        if self.log.last() != Some(&Action::Empty(AppIndex(index))) {
            return words;
        }
        words.extend(self.on(Event::Emptied(AppIndex(index))));
        words
    }
}

fn word(action: &Action, table: &Supervisor) -> String {
    let name = |index: &AppIndex| table.app(*index).name.clone();
    match action {
        Action::Start(app) => format!("start {}", name(app)),
        Action::Signal(app, signal, Reach::Main) => format!("signal {} {signal}", name(app)),
        Action::Signal(app, signal, Reach::All) => format!("signal-all {} {signal}", name(app)),
        Action::Kill(app) => format!("kill {}", name(app)),
        Action::Freeze(app) => format!("freeze {}", name(app)),
        Action::Thaw(app) => format!("thaw {}", name(app)),
        Action::Empty(app) => format!("empty {}", name(app)),
        Action::Report(Told::PodEnded { code, decided_by, .. }) => {
            format!("pod-ended {code} {}", decided_by.as_deref().unwrap_or("-"))
        }
        Action::Report(told) => match serde_json::to_value(told).unwrap() {
            serde_json::Value::String(word) => word,
            value => value.as_object().unwrap().keys().next().unwrap().clone(),
        },
        Action::ReportEnded(app, outcome) => {
            let marks = [(outcome.stopped, " stopped"), (outcome.timed_out, " timed-out")];
            let marks = marks.iter().filter(|(set, _)| *set).map(|(_, mark)| *mark).collect::<String>();
            format!("ended {} {}{marks}", name(app), outcome.end.exit_code())
        }
        Action::ReportUnkillable(app) => format!("unkillable {}", name(app)),
        Action::Exit(code) => format!("exit {code}"),
    }
}

const ESSENTIAL: ExitPolicy = ExitPolicy::Essential;
const OK: End = End::Exited { code: 0 };
const BY_TERM: End = End::Signaled { signal: 15, core: false };
const BY_KILL: End = End::Signaled { signal: 9, core: false };

fn code(code: u8) -> End {
    End::Exited { code }
}

fn failure(fault: Option<podrun_abi::failure::ExecFault>) -> StartFailure {
    StartFailure { step: podrun_abi::failure::Step::Exec, subject: "x".into(), errno: 13, fault }
}

fn stop() -> Event {
    Event::Stop(vec![], None)
}

#[test]
fn apps_start_when_those_they_need_run() {
    let mut bench =
        Bench::new(ESSENTIAL, &[plan("a", &[]), plan("b", &[0]), plan("c", &[]), plan("d", &[1, 2])]);
    assert_eq!(bench.on(Event::Go), ["start a", "start c"]);
    assert_eq!(bench.on(Event::Started(AppIndex(2), 2)), ["started"]);
    assert_eq!(bench.on(Event::Started(AppIndex(0), 3)), ["started", "start b"]);
    assert_eq!(bench.on(Event::Started(AppIndex(1), 4)), ["started", "start d"]);
    assert_eq!(bench.on(Event::Started(AppIndex(3), 5)), ["started", "up"]);
    assert_eq!(bench.table.next_deadline(), None);
}

#[test]
fn app_that_has_ended_has_started() {
    let mut bench = Bench::new(ExitPolicy::AllExited, &[plan("a", &[]), plan("b", &[0])]);
    bench.on(Event::Go);
    bench.on(Event::Started(AppIndex(0), 2));
    bench.end(0, OK);
    assert_eq!(bench.on(Event::Started(AppIndex(1), 3)), ["started", "up"]);
}

#[test]
fn failed_start_skips_what_needs_it() {
    let plans = [plan("a", &[]), plan("b", &[0]), plan("c", &[1]), plan("d", &[])];
    let mut bench = Bench::new(ESSENTIAL, &plans);
    bench.on(Event::Go);
    bench.on(Event::Started(AppIndex(3), 2));
    let words = bench.on(Event::StartFailed(AppIndex(0), failure(None)));
    assert_eq!(words, ["start-failed", "ended b 0", "ended c 0", "pod-stopping", "stopping", "signal d 15"]);
    assert_eq!(bench.end(3, BY_TERM), ["empty d", "ended d 143 stopped", "pod-ended 126 a", "exit 126"]);
}

/// The same, and it says by itself when it is ready.
fn notifying(name: &str, after: &[usize]) -> AppPlan {
    let mut plan = plan(name, after);
    plan.policy.notify = true;
    plan
}

/// An essential app that waits until those in `after` are ready.
fn patient(name: &str, after: &[usize]) -> AppPlan {
    let mut plan = plan(name, after);
    plan.policy.after_ready = after.to_vec();
    plan
}

fn ready(app: usize) -> Event {
    Event::Said(AppIndex(app), Notice { ready: true, ..Notice::default() })
}

fn status(app: usize, text: &str) -> Event {
    Event::Said(AppIndex(app), Notice { status: Some(text.into()), ..Notice::default() })
}

#[test]
fn pod_is_up_when_every_app_has_said_that_it_is_ready() {
    let plans = [notifying("a", &[]), patient("b", &[0]), plan("c", &[0]), notifying("d", &[])];
    let mut bench = Bench::new(ESSENTIAL, &plans);
    assert_eq!(bench.on(Event::Go), ["start a", "start d"]);
    // Words that come before the start was seen are told behind it.
    assert_eq!(bench.on(ready(3)), [""; 0]);
    assert_eq!(bench.on(Event::Started(AppIndex(3), 2)), ["started", "ready"]);
    assert_eq!(bench.on(Event::Started(AppIndex(0), 3)), ["started", "start c"]);
    assert_eq!(bench.on(Event::Started(AppIndex(2), 4)), ["started"]);
    assert_eq!(bench.on(status(0, "half way")), ["says"]);
    assert_eq!(bench.on(ready(0)), ["ready", "start b"]);
    assert_eq!(bench.on(ready(0)), [""; 0]);
    assert_eq!(bench.on(Event::Started(AppIndex(1), 5)), ["started", "up"]);
    assert_eq!(bench.table.next_deadline(), None);
}

#[test]
fn app_that_was_ready_and_has_ended_lets_others_start() {
    let plans = [notifying("a", &[]), plan("b", &[]), patient("c", &[0, 1])];
    let mut bench = Bench::new(ExitPolicy::AllExited, &plans);
    bench.on(Event::Go);
    bench.on(Event::Started(AppIndex(0), 2));
    bench.on(ready(0));
    bench.end(0, OK);
    assert_eq!(bench.on(Event::Started(AppIndex(1), 3)), ["started", "start c"]);
    assert_eq!(bench.on(Event::Started(AppIndex(2), 4)), ["started", "up"]);
}

#[test]
fn app_that_ends_before_it_is_ready_skips_those_that_wait_for_that() {
    // The end of `a`; whether the app that waits is essential; what follows.
    let table: [(End, bool, &[&str]); 3] = [
        (code(3), true, &["empty a", "ended a 3", "ended b 0", "ended c 0", "pod-ended 3 a", "exit 3"]),
        (OK, true, &["empty a", "ended a 0", "ended b 0", "ended c 0", "pod-ended 125 a", "exit 125"]),
        (OK, false, &["empty a", "ended a 0", "ended b 0", "ended c 0", "pod-ended 0 -", "exit 0"]),
    ];
    for (end, essential, expected) in table {
        let mut plans = [notifying("a", &[]), patient("b", &[0]), plan("c", &[1])];
        plans[1].policy.essential = essential;
        plans[2].policy.essential = essential;
        let mut bench = Bench::new(ESSENTIAL, &plans);
        bench.on(Event::Go);
        bench.on(Event::Started(AppIndex(0), 2));
        assert_eq!(bench.end(0, end), expected, "{end:?} {essential}");
    }
}

#[test]
fn pod_comes_up_without_an_app_that_has_ended_before_it_was_ready() {
    let mut plans = [notifying("a", &[]), plan("b", &[]), patient("c", &[0])];
    plans[2].policy.essential = false;
    let mut bench = Bench::new(ESSENTIAL, &plans);
    bench.on(Event::Go);
    bench.on(Event::Started(AppIndex(1), 2));
    bench.on(Event::Started(AppIndex(0), 3));
    assert_eq!(bench.on(Event::MainEnded(AppIndex(0), OK)), ["empty a"], "not up before its end is told");
    assert_eq!(bench.on(Event::Emptied(AppIndex(0))), ["ended a 0", "ended c 0", "up"]);
}

#[test]
fn app_that_is_stopped_before_it_is_ready_fails_nothing() {
    let plans = [notifying("a", &[]), patient("b", &[0]), plan("c", &[])];
    let mut bench = Bench::new(ESSENTIAL, &plans);
    bench.on(Event::Go);
    bench.on(Event::Started(AppIndex(0), 2));
    bench.on(Event::Started(AppIndex(2), 3));
    assert_eq!(bench.on(Event::Stop(vec![AppIndex(0)], None)), ["stopping", "signal a 15"]);
    assert_eq!(bench.end(0, BY_TERM), ["empty a", "ended a 143 stopped", "ended b 0", "up"]);
}

#[test]
fn words_of_an_app_are_few_in_a_second_and_the_last_ones_are_told() {
    let mut bench = Bench::running(ESSENTIAL, &[notifying("a", &[]), notifying("b", &[])]);
    assert_eq!(bench.on(status(0, "1")), ["says"]);
    assert_eq!(bench.on(status(0, "2")), [""; 0]);
    assert_eq!(bench.on(status(1, "1")), ["says"], "each app for itself");
    assert_eq!(bench.table.next_deadline(), Some(bench.now + Duration::from_millis(250)));
    assert_eq!(bench.after_ms(250), ["says"]);
    assert_eq!(bench.on(status(0, "3")), [""; 0]);
    let words = bench.on(Event::MainEnded(AppIndex(0), code(1)));
    assert_eq!(words[0], "says");
    assert_eq!(bench.on(status(0, "4")), [""; 0], "who does not run says nothing");
}

#[test]
fn late_app_is_told_once_and_not_while_it_goes_down() {
    let fed = |app| {
        let watchdog = Some(podrun_abi::notice::Watchdog::Fed);
        Event::Said(AppIndex(app), Notice { watchdog, ..Notice::default() })
    };
    for stopped in [false, true] {
        let mut bench = Bench::watched(&[notifying("a", &[]), notifying("b", &[])]);
        bench.on(Event::Go);
        bench.on(Event::Started(AppIndex(0), 2));
        bench.on(Event::Started(AppIndex(1), 3));
        bench.on(fed(0));
        assert_eq!(bench.table.next_deadline(), Some(bench.now + Duration::from_secs(2)));
        if stopped {
            bench.on(Event::Stop(vec![AppIndex(0)], Some(Duration::from_secs(60))));
        }
        assert_eq!(bench.after_ms(1999), [""; 0]);
        let expected: &[&str] = if stopped { &[] } else { &["watchdog-missed"] };
        assert_eq!(bench.after_ms(1), expected);
        bench.on(fed(0));
        assert_eq!(bench.after_ms(5000), [""; 0]);
    }
}

#[test]
fn change_of_limits_is_told_as_it_came_and_changes_nothing() {
    let changes = vec!["memory-max=1GiB".to_owned()];
    let updated = |app: Option<&str>, changes: &[String]| Command::Updated {
        app: app.map(str::to_owned),
        changes: changes.to_vec(),
    };
    let mut bench = Bench::running(ESSENTIAL, &[plan("a", &[])]);
    for app in [None, Some("a")] {
        let event = bench.table.parse_command(&updated(app, &changes)).unwrap();
        assert_eq!(event, Event::Updated(app.map(str::to_owned), changes.clone()));
        assert_eq!(bench.on(event), ["updated"]);
    }
    let refused = |app, changes: &[String]| bench.table.parse_command(&updated(app, changes)).unwrap_err();
    assert_eq!(refused(Some("b"), &changes), "no app `b` in this pod");
    assert_eq!(refused(None, &["x".repeat(4097)]), "these are too many changes to be told");
}

#[test]
fn failed_start_of_an_unimportant_app_fails_the_pod_when_an_essential_one_needs_it() {
    for (essential, expected) in [(true, Some("exit 126")), (false, None)] {
        let mut plans = [plan("a", &[]), plan("b", &[0]), plan("c", &[])];
        plans[0].policy.essential = false;
        plans[1].policy.essential = essential;
        let mut bench = Bench::new(ESSENTIAL, &plans);
        bench.on(Event::Go);
        bench.on(Event::StartFailed(AppIndex(0), failure(None)));
        bench.on(Event::Started(AppIndex(2), 2));
        let words = bench.end(2, BY_TERM);
        assert_eq!(words.last().map(String::as_str), expected.or(Some("exit 143")));
    }
}

#[test]
fn pod_code_by_policy_and_ends() {
    let cases: [(ExitPolicy, [End; 2], Option<&str>); 8] = [
        (ESSENTIAL, [OK, OK], Some("pod-ended 0 -")),
        (ESSENTIAL, [OK, code(3)], Some("pod-ended 3 b")),
        (ESSENTIAL, [code(4), BY_TERM], Some("pod-ended 4 a")),
        (ESSENTIAL, [BY_TERM, OK], Some("pod-ended 143 a")),
        (ExitPolicy::AllExited, [OK, OK], Some("pod-ended 0 -")),
        (ExitPolicy::AllExited, [code(4), code(3)], Some("pod-ended 4 a")),
        (ExitPolicy::AllExited, [OK, BY_KILL], Some("pod-ended 137 b")),
        (ExitPolicy::Never, [OK, code(1)], None),
    ];
    for (policy, ends, expected) in cases {
        let mut bench = Bench::running(policy, &[plan("a", &[]), plan("b", &[])]);
        let mut words = bench.end(0, ends[0]);
        words.extend(bench.end(1, ends[1]));
        let ended = words.iter().find(|word| word.starts_with("pod-ended"));
        assert_eq!(ended.map(String::as_str), expected, "{policy:?} {ends:?}: {words:?}");
    }
}

#[test]
fn success_list_and_importance_decide_what_a_failure_is() {
    let mut plans = [plan("a", &[]), plan("b", &[]), plan("c", &[])];
    plans[0].policy.success = vec![Success::Code(7), Success::Signal(10)];
    plans[1].policy.essential = false;
    for (index, end, ends_pod) in [
        (0, code(7), false),
        (0, End::Signaled { signal: 10, core: false }, false),
        (0, OK, true),
        (1, code(9), false),
    ] {
        let mut bench = Bench::running(ESSENTIAL, &plans);
        let stopping = bench.end(index, end).contains(&"pod-stopping".to_owned());
        assert_eq!(stopping, ends_pod, "{index} {end:?}");
    }
}

#[test]
fn pod_ends_when_the_essential_apps_have() {
    let mut plans = [plan("a", &[]), plan("b", &[])];
    plans[1].policy.essential = false;
    let mut bench = Bench::running(ESSENTIAL, &plans);
    assert_eq!(bench.end(0, OK), ["empty a", "ended a 0", "pod-stopping", "stopping", "signal b 15"]);
    assert_eq!(bench.end(1, code(99)), ["empty b", "ended b 99 stopped", "pod-ended 0 -", "exit 0"]);
    // Without an essential app the last one ends the pod.
    let mut bench = Bench::running(ESSENTIAL, &plans[1..]);
    assert_eq!(bench.end(0, code(9)), ["empty b", "ended b 9", "pod-ended 0 -", "exit 0"]);
}

#[test]
fn stop_goes_against_the_dependencies() {
    let mut bench =
        Bench::running(ESSENTIAL, &[plan("a", &[]), plan("b", &[0]), plan("c", &[0]), plan("d", &[1])]);
    let words = bench.on(stop());
    assert_eq!(words, ["pod-stopping", "stopping", "signal d 15", "stopping", "signal c 15"]);
    assert_eq!(bench.end(2, BY_TERM), ["empty c", "ended c 143 stopped"]);
    assert_eq!(bench.end(3, OK), ["empty d", "ended d 0 stopped", "stopping", "signal b 15"]);
    assert_eq!(bench.on(stop()), [""; 0], "a second stop changes nothing");
    assert_eq!(bench.end(1, code(143)), ["empty b", "ended b 143 stopped", "stopping", "signal a 15"]);
    assert_eq!(bench.end(0, OK), ["empty a", "ended a 0 stopped", "pod-ended 0 -", "exit 0"]);
}

#[test]
fn grace_that_is_over_means_the_kill_of_the_group() {
    let mut bench = Bench::running(ESSENTIAL, &[plan("a", &[])]);
    bench.on(stop());
    assert_eq!(bench.table.next_deadline(), Some(bench.now + Duration::from_secs(1)));
    assert_eq!(bench.after_ms(999), [""; 0]);
    assert_eq!(bench.after_ms(1), ["kill a"]);
    assert_eq!(bench.after_ms(1), [""; 0], "it is killed once");
    let words = bench.end(0, BY_KILL);
    assert_eq!(words, ["empty a", "ended a 137 stopped timed-out", "pod-ended 137 a", "exit 137"]);
}

#[test]
fn repeated_stop_shortens_the_grace_and_never_lengthens_it() {
    let mut bench = Bench::running(ESSENTIAL, &[plan("a", &[]), plan("b", &[0])]);
    bench.on(stop());
    bench.on(Event::Stop(vec![], Some(Duration::from_millis(100))));
    bench.on(Event::Stop(vec![], Some(Duration::from_secs(60))));
    assert_eq!(bench.after_ms(100), ["kill b"]);
    let words = bench.end(1, BY_KILL);
    assert_eq!(words.last().map(String::as_str), Some("signal a 15"));
    assert_eq!(bench.after_ms(100), ["kill a"], "the shorter grace holds for those that are asked later");
}

#[test]
fn pod_deadline_kills_what_is_left() {
    let mut plans = [plan("a", &[]), plan("b", &[0])];
    plans.iter_mut().for_each(|plan| plan.policy.stop_timeout_ms = None);
    let mut bench = Bench::running(ESSENTIAL, &plans);
    bench.on(stop());
    assert_eq!(bench.table.next_deadline(), Some(bench.now + Duration::from_secs(5)));
    assert_eq!(bench.after_ms(5000), ["kill a", "kill b"]);
    bench.end(0, BY_KILL);
    let words = bench.end(1, BY_KILL);
    assert_eq!(words[words.len() - 2..], ["pod-ended 137 a", "exit 137"]);
}

#[test]
fn stop_between_clone_and_exec_is_kept() {
    let mut bench = Bench::new(ESSENTIAL, &[plan("a", &[]), plan("b", &[0])]);
    bench.on(Event::Go);
    assert_eq!(bench.on(stop()), ["pod-stopping", "ended b 0"]);
    assert_eq!(bench.on(Event::Started(AppIndex(0), 2)), ["started", "stopping", "signal a 15"]);
    assert_eq!(bench.end(0, BY_TERM), ["empty a", "ended a 143 stopped", "pod-ended 0 -", "exit 0"]);
}

#[test]
fn killed_between_clone_and_exec_is_skipped() {
    let mut bench = Bench::new(ESSENTIAL, &[plan("a", &[])]);
    bench.on(Event::Go);
    assert_eq!(bench.on(Event::Kill(vec![])), ["pod-stopping", "kill a"]);
    let words = bench.on(Event::StartFailed(AppIndex(0), failure(None)));
    assert_eq!(words, ["ended a 0 stopped", "pod-ended 137 -", "exit 137"]);
}

#[test]
fn kill_makes_a_requested_stop_short_and_leaves_a_verdict_alone() {
    let mut bench = Bench::running(ESSENTIAL, &[plan("a", &[])]);
    bench.on(stop());
    assert_eq!(bench.on(Event::Kill(vec![])), ["pod-stopping", "kill a"]);
    assert_eq!(bench.end(0, BY_KILL)[1..], ["ended a 137 stopped", "pod-ended 137 -", "exit 137"]);

    let mut bench = Bench::running(ESSENTIAL, &[plan("a", &[]), plan("b", &[])]);
    bench.end(0, code(3));
    assert_eq!(bench.on(Event::Kill(vec![])), ["kill b"]);
    assert_eq!(bench.end(1, BY_KILL)[1..], ["ended b 137 stopped", "pod-ended 3 a", "exit 3"]);
}

#[test]
fn stop_of_one_app_is_no_failure_of_the_pod() {
    let mut bench = Bench::running(ESSENTIAL, &[plan("a", &[]), plan("b", &[0])]);
    assert_eq!(bench.on(Event::Stop(vec![AppIndex(0)], None)), ["stopping", "signal a 15"]);
    assert_eq!(bench.end(0, BY_TERM), ["empty a", "ended a 143 stopped"]);
    assert_eq!(bench.end(1, OK)[1..], ["ended b 0", "pod-ended 0 -", "exit 0"]);

    let mut bench = Bench::running(ESSENTIAL, &[plan("a", &[]), plan("b", &[])]);
    assert_eq!(bench.on(Event::Kill(vec![AppIndex(0)])), ["kill a"]);
    assert!(bench.end(0, BY_KILL).contains(&"pod-stopping".to_owned()), "killed is not ended well");
}

#[test]
fn launcher_that_goes_stops_the_pod_in_order() {
    let mut bench = Bench::running(ESSENTIAL, &[plan("a", &[])]);
    assert_eq!(bench.on(Event::LauncherGone), ["pod-stopping", "stopping", "signal a 15"]);
    let mut bench = Bench::new(ESSENTIAL, &[plan("a", &[])]);
    assert_eq!(bench.on(Event::LauncherGone), ["exit 125"]);
    assert_eq!(bench.on(Event::Go), [""; 0], "nothing follows after the end");
}

#[test]
fn unkillable_app_ends_the_account_after_ten_seconds() {
    let mut bench = Bench::running(ESSENTIAL, &[plan("a", &[]), plan("b", &[])]);
    bench.on(Event::MainEnded(AppIndex(0), OK));
    assert_eq!(bench.after_ms(9_999), [""; 0]);
    assert_eq!(bench.after_ms(1), ["unkillable a", "ended a 0"]);
    bench.on(Event::Kill(vec![]));
    let words = bench.after_ms(10_000);
    assert_eq!(words, ["unkillable b", "ended b 137 stopped", "pod-ended 137 -", "exit 137"]);
}

#[test]
fn grace_beyond_the_clock_is_no_grace_limit() {
    let mut bench = Bench::running(ESSENTIAL, &[plan("a", &[])]);
    let for_ever = Duration::from_millis(u64::MAX);
    assert_eq!(bench.on(Event::Stop(vec![], Some(for_ever)))[0], "pod-stopping");
    bench.on(Event::Stop(vec![], Some(for_ever)));
    assert_eq!(bench.after_ms(5000), ["kill a"], "the pod's own deadline still holds");
}

#[test]
fn commands_name_apps_that_are_there() {
    use podrun_abi::control::Command;
    let bench = Bench::running(ESSENTIAL, &[plan("a", &[])]);
    let apps = |name: &str| vec![name.to_owned()];
    let signal = |apps, signal| Command::Signal { apps, signal, all_processes: true };
    let cases = [
        (Command::Go, Ok(Event::Go)),
        (Command::Kill { apps: apps("x") }, Err("no app `x` in this pod")),
        (Command::Stop { apps: apps("a"), timeout_ms: Some(5) }, {
            Ok(Event::Stop(vec![AppIndex(0)], Some(Duration::from_millis(5))))
        }),
        (signal(vec![], 10), Ok(Event::Signal(vec![AppIndex(0)], 10, Reach::All))),
        (signal(apps("a"), 0), Err("`0` is not a signal: 1 to 64")),
    ];
    for (command, expected) in cases {
        assert_eq!(bench.table.parse_command(&command), expected.map_err(str::to_owned), "{command:?}");
    }
    let waiting = Bench::new(ESSENTIAL, &[plan("a", &[])]);
    assert_eq!(waiting.table.parse_command(&signal(apps("a"), 10)), Err("app `a` is not running".into()));
}

/// Every order of six things that can happen to a pod of three apps, whose processes obey: whatever the order,
/// each app has exactly one end, nothing is started after the pod's stop has begun, and the pod ends.
#[test]
fn every_order_of_events_ends_the_pod_once() {
    let happenings: [fn() -> Event; 6] = [
        || Event::Stop(vec![], None),
        || Event::Kill(vec![AppIndex(1)]),
        || Event::LauncherGone,
        || Event::Stop(vec![AppIndex(0)], Some(Duration::ZERO)),
        || Event::StartFailed(AppIndex(2), failure(None)),
        || Event::Tick,
    ];
    for policy in [ESSENTIAL, ExitPolicy::AllExited, ExitPolicy::Never] {
        permutations(&mut (0..happenings.len()).collect::<Vec<_>>(), 0, &mut |order| {
            let mut world = World::new(policy);
            for happening in order {
                world.happen(happenings[*happening]());
            }
            world.drain();
            world.check(order);
        });
    }
}

fn permutations(items: &mut Vec<usize>, from: usize, visit: &mut impl FnMut(&[usize])) {
    if from == items.len() {
        return visit(items);
    }
    for other in from..items.len() {
        items.swap(from, other);
        permutations(items, from + 1, visit);
        items.swap(from, other);
    }
}

/// Apps that do what they are told, one step later than they are told it.
struct World {
    bench: Bench,
    due: Vec<Event>,
    seen: usize,
}

impl World {
    fn new(policy: ExitPolicy) -> Self {
        let plans = [plan("a", &[]), plan("b", &[0]), plan("c", &[])];
        let mut world = Self { bench: Bench::new(policy, &plans), due: vec![], seen: 0 };
        world.happen(Event::Go);
        world
    }

    fn happen(&mut self, event: Event) {
        let due = std::mem::take(&mut self.due);
        for event in due.into_iter().chain([event]) {
            self.bench.on(event);
        }
        for action in &self.bench.log[self.seen..] {
            self.due.extend(match action {
                Action::Start(app) => Some(Event::Started(*app, 2)),
                Action::Signal(app, signal, _) => {
                    Some(Event::MainEnded(*app, End::Signaled { signal: *signal, core: false }))
                }
                Action::Kill(app) => Some(Event::MainEnded(*app, BY_KILL)),
                Action::Empty(app) => Some(Event::Emptied(*app)),
                _ => None,
            });
        }
        self.seen = self.bench.log.len();
    }

    fn drain(&mut self) {
        for _ in 0..32 {
            self.happen(Event::Tick);
        }
    }

    fn check(&self, order: &[usize]) {
        let log = &self.bench.log;
        let words: Vec<String> = log.iter().map(|action| word(action, &self.bench.table)).collect();
        for app in ["a", "b", "c"] {
            let start = format!("ended {app} ");
            let ends = words.iter().filter(|word| word.starts_with(&start)).count();
            let failed = usize::from(app == "c" && words.contains(&"start-failed".to_owned()));
            assert_eq!(ends + failed, 1, "{app} in {order:?}: {words:?}");
        }
        let stop = words.iter().position(|word| word == "pod-stopping").unwrap();
        let late = words.iter().rposition(|word| word.starts_with("start ")).unwrap();
        assert!(late < stop, "{order:?}: {words:?}");
        assert!(words.last().unwrap().starts_with("exit "), "{order:?}: {words:?}");
        assert_eq!(words.iter().filter(|word| word.starts_with("exit ")).count(), 1);
    }
}
