//! Pods and apps that stand still: nothing of them runs, everything that ends them works.

use podrun_abi::event::{End, Event};
use serde_json::Value;

use crate::harness::{Lab, Running, below_systemd, far, pod, sys, wait_until};

/// Beats, with a process for each pause between them.
fn beating(name: &str) -> String {
    let script = "trap 'exit 0' TERM; while :; do echo beat; sleep 0.1; done";
    format!("[app.{name}]\nrootfs = \"/\"\nexec = [\"/bin/sh\", \"-c\", {script:?}]\n")
}

/// How many beats it has told so far.
fn beats(running: &Running) -> usize {
    running.stdout_so_far().matches("beat").count()
}

/// Two apps that beat, up.
fn start(lab: &Lab) -> Running {
    let running = lab.start(&pod("one", "", &[beating("a"), beating("b")]));
    running.wait_for("beat");
    wait_until("both beat", || lab.events_so_far().contains("\"up\"") && beats(&running) > 4);
    running
}

#[test]
pub fn paused_pod_stands_still_and_goes_on() {
    let Some(lab) = Lab::open() else { return };
    let running = start(&lab);
    lab.call(&["pause", "one"]).expect_code(0);
    let told = lab.call(&["status", "one"]).expect_code(0).stdout;
    assert!(told.contains("status  paused") && told.matches("paused").count() == 3, "{told}");
    assert!(lab.call(&["ps"]).expect_code(0).stdout.contains("paused"));
    let json = lab.status("one");
    assert_eq!((&json["paused"], &json["apps"][1]["paused"]), (&true.into(), &true.into()));
    // What was written before is read when it is read.
    let mut before = beats(&running);
    wait_until("nothing more comes", || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        std::mem::replace(&mut before, beats(&running)) == before
    });
    lab.call(&["pause", "one/a"]).expect_code(0);
    lab.call(&["unpause", "one/a"]).expect_code(0);
    wait_until("one beats again", || beats(&running) > before + 2);
    assert!(lab.call(&["status", "one"]).stdout.contains("status  running"));
    lab.call(&["unpause", "one"]).expect_code(0);
    assert!(!lab.call(&["status", "one"]).stdout.contains("paused"));
    running.signal(libc::SIGTERM);
    running.wait_within(far()).expect_code(0);
    let told = |wanted: fn(&Event) -> bool| lab.events().iter().filter(|event| wanted(event)).count();
    assert_eq!(
        told(|event| matches!(event, Event::Paused { .. })),
        2,
        "what stands still is not paused again"
    );
    assert_eq!(told(|event| matches!(event, Event::Unpaused { .. })), 2);
}

#[test]
pub fn stop_of_a_paused_pod_is_the_ordered_stop() {
    let Some(lab) = Lab::open() else { return };
    let running = start(&lab);
    lab.call(&["pause", "one"]).expect_code(0);
    lab.call(&["stop", "one"]).expect_code(0);
    running.wait_within(far()).expect_code(0);
    for name in ["a", "b"] {
        let outcome = lab.outcome(name);
        assert_eq!((outcome.end, outcome.stopped, outcome.timed_out), (End::Exited { code: 0 }, true, false));
    }
}

#[test]
fn paused_pod_dies_with_its_launcher_and_by_kill() {
    for by_kill in [true, false] {
        let Some(lab) = Lab::open() else { return };
        let running = start(&lab);
        lab.call(&["pause", "one"]).expect_code(0);
        if by_kill {
            lab.call(&["kill", "one"]).expect_code(0);
            running.wait_within(far()).expect_code(137);
        } else {
            running.signal(libc::SIGKILL);
            running.wait();
        }
        lab.wait_until_empty();
        lab.call(&["gc"]).expect_code(0);
    }
}

/// On cgroup v1 stage1 is not gone before what is frozen is.
#[test]
fn paused_pod_whose_stage1_is_killed_ends() {
    let Some(lab) = Lab::open() else { return };
    let running = start(&lab);
    lab.call(&["pause", "one"]).expect_code(0);
    let killed = Running::spawn(lab.command("kill").args(["-KILL", &lab.stage1_pid().to_string()]));
    killed.wait().expect_code(0);
    running.wait_within(far()).expect_code(137);
    lab.wait_until_empty();
}

#[test]
fn pause_of_a_pod_leaves_an_app_that_is_stopping_alone() {
    let Some(lab) = Lab::open() else { return };
    let stays = "[app.c]\nrootfs = \"/\"\nstop-timeout = \"60s\"\nessential = false\n\
                 exec = [\"/bin/sh\", \"-c\", \"trap '' TERM; while :; do sleep 0.1; done\"]\n";
    let running = lab.start(&pod("one", "", &[beating("a"), stays.to_owned()]));
    wait_until("it is up", || lab.events_so_far().contains("\"up\""));
    lab.call(&["stop", "--no-wait", "one/c"]).expect_code(0);
    lab.call(&["pause", "one"]).expect_code(0);
    lab.call(&["kill", "one"]).expect_code(0);
    running.wait_within(far()).expect_code(137);
}

#[test]
fn paused_app_that_is_killed_by_a_signal_ends() {
    let Some(lab) = Lab::open() else { return };
    let running = start(&lab);
    lab.call(&["pause", "one/a"]).expect_code(0);
    lab.call(&["kill", "-s", "KILL", "one/a"]).expect_code(0);
    running.wait_within(far()).expect_code(137);
    assert_eq!(lab.end("a"), End::Signaled { signal: libc::SIGKILL, core: false });
}

/// A stage1 that is stopped from outside takes no order until it goes on; the pid is that of a pod of this test.
struct Stopped(i32);

impl Stopped {
    fn stop(pid: i32) -> Self {
        sys::kill(pid, libc::SIGSTOP).expect("stage1 lives");
        wait_until("it stands still", || state(pid) == Some('T'));
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        sys::kill(self.0, libc::SIGCONT).expect("stage1 lives");
    }
}

fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn count(lab: &Lab, wanted: impl Fn(&Event) -> bool) -> usize {
    lab.events().iter().filter(|event| wanted(event)).count()
}

fn paused(lab: &Lab, app: &str) -> usize {
    count(lab, |event| matches!(event, Event::Paused { app: name } if name == app))
}

fn unpaused(lab: &Lab, app: &str) -> usize {
    count(lab, |event| matches!(event, Event::Unpaused { app: name } if name == app))
}

#[test]
fn pause_whose_answer_does_not_come_leaves_nothing_frozen() {
    let Some(lab) = Lab::open() else { return };
    let running = start(&lab);
    let stopped = Stopped::stop(lab.stage1_pid());
    let told = lab.call(&["pause", "one"]).expect_code(1);
    let told = told.expect_stderr(&[
        "cannot pause pod `one`: ",
        "no answer within 10 s",
        "`podrun unpause one` when",
    ]);
    drop(stopped);
    wait_until("it was paused and goes on", || ["a", "b"].iter().all(|app| unpaused(&lab, app) == 1));
    assert_eq!(["a", "b"].map(|app| paused(&lab, app)), [1, 1], "{told}");
    let before = beats(&running);
    wait_until("both beat", || beats(&running) > before + 4);
    assert!(!lab.call(&["status", "one"]).stdout.contains("paused"));
    running.signal(libc::SIGTERM);
    running.wait_within(far()).expect_code(0);
}

/// Signals are held back by now.
fn waits_for_an_answer(pause: &Running) -> bool {
    let has = |what: &str| {
        let files = std::fs::read_dir(format!("/proc/{}/fd", pause.pid())).into_iter().flatten().flatten();
        let mut files = files.filter_map(|file| std::fs::read_link(file.path()).ok());
        files.any(|to| to.to_string_lossy().contains(what))
    };
    has("signalfd") && has("socket:") && state(pause.pid()) == Some('S')
}

/// What was paused before it stays so.
#[test]
fn pause_that_is_interrupted_thaws_what_it_has_frozen_and_no_more() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let Some(lab) = Lab::open() else { return };
        let running = start(&lab);
        lab.call(&["pause", "one/a"]).expect_code(0);
        let stopped = Stopped::stop(lab.stage1_pid());
        let waits = Running::spawn(&mut lab.podrun(&["pause", "one"]));
        wait_until("it waits for the answer", || waits_for_an_answer(&waits));
        waits.signal(signal);
        let ended = waits.wait().expect_code(128 + signal);
        let told = "podrun: cannot pause pod `one`: interrupted by a signal\n\
                    hint: stage1 does not answer; `podrun unpause one/b` when it does again\n";
        assert!(ended.time < far() && ended.stderr == told, "{ended}");
        drop(stopped);
        // Behind what was ordered before.
        lab.call(&["pause", "one/a"]).expect_code(0);
        let told = ["a", "b"].map(|app| (paused(&lab, app), unpaused(&lab, app)));
        assert_eq!(told, [(1, 0), (1, 1)], "{:#?}", lab.events());
        let status = lab.status("one");
        assert_eq!(
            (&status["apps"][0]["paused"], &status["apps"][1]["paused"]),
            (&true.into(), &Value::Null)
        );
        let before = beats(&running);
        wait_until("the other beats", || beats(&running) > before + 2);
        lab.call(&["stop", "one"]).expect_code(0);
        running.wait_within(far()).expect_code(0);
    }
}

/// The pod at hand is taken back and told of, what was paused before it stays so, and nothing behind it is begun.
#[test]
fn pause_of_several_pods_that_is_interrupted_says_which_it_was() {
    let Some(lab) = Lab::open() else { return };
    let start = |(name, count)| {
        let running = lab.start(&pod(name, "", &[beating("a")]));
        wait_until("it is up", || lab.events_so_far().matches("\"up\"").count() == count);
        running
    };
    let mut pods = vec![start(("two", 1))];
    let stage1_of_two = lab.stage1_pid();
    pods.extend([("one", 2), ("three", 3)].map(start));
    let stopped = Stopped::stop(stage1_of_two);
    let waits = Running::spawn(&mut lab.podrun(&["pause", "one", "none", "two", "three"]));
    // It is through with the first pod, whose socket was another one.
    waits.wait_for_stderr("no such pod `none`");
    wait_until("it waits for the answer", || waits_for_an_answer(&waits));
    waits.signal(libc::SIGTERM);
    let ended = waits.wait().expect_code(128 + libc::SIGTERM);
    let told = "podrun: cannot pause pod `two`: interrupted by a signal\n\
                hint: stage1 does not answer; `podrun unpause two` when it does again\n";
    assert!(ended.stderr.ends_with(told) && !ended.stderr.contains("three"), "{ended}");
    drop(stopped);
    // Behind what was ordered before.
    lab.call(&["unpause", "two"]).expect_code(0);
    let paused = ["one", "two", "three"].map(|name| lab.status(name)["paused"] == true);
    assert_eq!(paused, [true, false, false], "{ended}");
    for (name, running) in ["two", "one", "three"].into_iter().zip(pods) {
        lab.call(&["kill", name]).expect_code(0);
        running.wait_within(far()).expect_code(137);
    }
}

#[test]
fn what_does_not_run_is_not_paused() {
    let Some(lab) = Lab::open() else { return };
    let running = start(&lab);
    lab.call(&["pause", "none"]).expect_code(4);
    lab.call(&["pause", "one/c"]).expect_code(4).expect_stderr(&["cannot pause app `c` of pod `one`"]);
    running.signal(libc::SIGTERM);
    running.wait_within(far()).expect_code(0);
    lab.call(&["pause", "one"]).expect_code(3).expect_stderr(&["cannot pause pod `one`", "not running"]);
    lab.call(&["unpause", "one"]).expect_code(3);
}

#[test]
fn pods_below_systemd_stand_still_too() {
    below_systemd(paused_pod_stands_still_and_goes_on);
    below_systemd(stop_of_a_paused_pod_is_the_ordered_stop);
}
