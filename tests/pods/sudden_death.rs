//! The launcher or stage1 is killed with SIGKILL: the pod ends, its end is told, and nothing is left. CASES 21.

use podrun_abi::event::{End, Event, StopReason};

use crate::harness::{Lab, app, pod, slowness, sys};

const APP: &str = "on-term 0 ; say up ; pause";

#[test]
fn killed_launcher_leads_to_the_ordered_stop() {
    let Some(lab) = Lab::open() else { return };
    let running = lab.start(&pod("one", "", &[app("a", APP, "")]));
    running.wait_for("up");
    running.signal(libc::SIGKILL);
    running.wait().expect_code(137);
    lab.wait_until_empty();
    let outcome = lab.outcome("a");
    assert_eq!((outcome.end, outcome.stopped), (End::Exited { code: 0 }, true));
    let reason = |event: &Event| matches!(event, Event::PodEnded { reason: StopReason::LauncherGone, .. });
    assert!(lab.events().iter().any(reason), "{:?}", lab.events());
    // Dead, and told so, before anybody cleans up.
    lab.call(&["status", "one"]).expect_code(3);
    lab.call(&["gc"]).expect_code(0);
    assert_eq!(lab.groups_left(), Vec::<std::path::PathBuf>::new());
}

/// gc waits for a pod that is still in its ordered stop.
#[test]
fn gc_waits_for_a_pod_in_its_ordered_stop() {
    let Some(lab) = Lab::open() else { return };
    let words = "ignore-term ; say up ; pause";
    let running = lab.start(&pod("one", "", &[app("a", words, "stop-timeout = \"2s\"")]));
    running.wait_for("up");
    running.kill();
    assert_ne!(lab.processes(), Vec::<i32>::new(), "the pod is over before gc begins");
    lab.call(&["gc"]).expect_code(0);
    assert_eq!(lab.processes(), Vec::<i32>::new());
    assert_eq!(lab.groups_left(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn gc_with_force_does_not_wait() {
    let Some(lab) = Lab::open() else { return };
    let words = "ignore-term ; say up ; pause";
    let running =
        lab.start(&pod("one", "stop-timeout = \"10m\"", &[app("a", words, "stop-timeout = \"10m\"")]));
    running.wait_for("up");
    running.kill();
    assert_ne!(lab.processes(), Vec::<i32>::new(), "the pod is over before gc begins");
    let swept = lab.call(&["gc", "--force"]).expect_code(0);
    assert!(swept.time < std::time::Duration::from_secs(15) * slowness(), "{swept}");
    assert_eq!(lab.processes(), Vec::<i32>::new());
}

#[test]
fn killed_stage1_ends_the_pod_and_is_told() {
    let Some(lab) = Lab::open() else { return };
    let running = lab.start(&pod("one", "", &[app("a", APP, ""), app("b", APP, "")]));
    running.wait_for("up\nup");
    sys::kill(lab.stage1_pid(), libc::SIGKILL).unwrap();
    let ended = running.wait();
    assert_eq!(ended.code, 137, "{ended}");
    assert_eq!(lab.processes(), Vec::<i32>::new());
    assert_eq!(lab.groups_left(), Vec::<std::path::PathBuf>::new());
    assert!(lab.events().iter().any(|event| matches!(event, Event::PodLost { .. })), "{:?}", lab.events());
    lab.call(&["status", "one"]).expect_code(3);
}

#[test]
fn launcher_and_stage1_killed_together_leave_what_gc_removes() {
    let Some(lab) = Lab::open() else { return };
    let running = lab.start(&pod("one", "", &[app("a", APP, "isolators.memory-max = \"32MiB\"")]));
    running.wait_for("up");
    let stage1 = lab.stage1_pid();
    running.signal(libc::SIGKILL);
    sys::kill(stage1, libc::SIGKILL).unwrap();
    running.wait();
    lab.wait_until_empty();
    assert!(!lab.groups_left().is_empty(), "nobody was there to remove the groups");
    let told = lab.call(&["status", "one"]).expect_code(3);
    assert!(!told.stdout.contains("running"), "{told}");
    lab.call(&["gc"]).expect_code(0);
    assert_eq!(lab.groups_left(), Vec::<std::path::PathBuf>::new());
}

/// The next run does what gc does for the name it takes.
#[test]
fn next_run_takes_over_the_name_of_a_dead_pod() {
    let Some(lab) = Lab::open() else { return };
    let manifest = pod("one", "", &[app("a", APP, "isolators.memory-max = \"32MiB\"")]);
    let running = lab.start(&manifest);
    running.wait_for("up");
    let stage1 = lab.stage1_pid();
    running.signal(libc::SIGKILL);
    sys::kill(stage1, libc::SIGKILL).unwrap();
    running.wait();
    lab.wait_until_empty();
    lab.run(&pod("one", "", &[app("a", "say second", "")])).expect_code(0);
}

/// A launcher that is only frozen is not gone.
#[test]
fn stopped_launcher_is_not_a_dead_one() {
    let Some(lab) = Lab::open() else { return };
    let running = lab.start(&pod("one", "", &[app("a", "say up ; sleep 1 ; exit 4", "")]));
    running.wait_for("up");
    running.signal(libc::SIGSTOP);
    running.signal(libc::SIGCONT);
    running.wait().expect_code(4);
}
