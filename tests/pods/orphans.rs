//! Reaping: orphans end as nobody's zombies, and what an app leaves behind does not outlive it.

use podrun_abi::event::End;

use crate::harness::{Lab, app, pod, slowness};

/// CASES 20.
#[test]
fn ten_thousand_orphans_leave_no_zombie_after_a_second() {
    let Some(lab) = Lab::open_alone() else { return };
    // Where a fork takes ten times as long there are fewer, as with every storm.
    let count = 10_000 / u64::from(slowness());
    let words = format!("orphans {count} ; no-zombies 20");
    let ended = lab.run(&pod("one", "", &[app("a", &words, "")])).expect_code(0);
    assert_eq!(ended.number("orphans"), count);
    let after = ended.number("no-zombies-after-ms");
    assert!(after <= 1000, "zombies were there for {after} ms");
}

/// CASES 19: the daemon outlives the fork that made it, and not the app.
#[test]
pub fn daemons_of_an_app_end_with_its_main_process() {
    let Some(lab) = Lab::open() else { return };
    let a = app("a", "daemon ; daemon ; wait-processes 5 20 ; exit 0", "");
    let b = app("b", "sleep 1 ; processes ; exit 0", "");
    let ended = lab.run(&pod("one", "", &[a, b])).expect_code(0);
    assert_eq!(lab.end("a"), End::Exited { code: 0 });
    // stage1 and the one that looks.
    assert_eq!(ended.stdout.matches("process ").count(), 2, "{ended}");
}

/// An orphan's end is not an app's.
#[test]
fn orphans_that_end_are_not_taken_for_the_app() {
    let Some(lab) = Lab::open() else { return };
    let ended = lab.run(&pod("one", "", &[app("a", "orphans 50 ; sleep 0.3 ; exit 9", "")])).expect_code(9);
    assert_eq!(ended.number("orphans"), 50);
}

/// A stopped main process has not ended.
#[test]
fn stopped_app_is_not_an_ended_one() {
    let Some(lab) = Lab::open() else { return };
    let running = lab.start(&pod("one", "", &[app("a", "say up ; on-term 0 ; pause", "")]));
    running.wait_for("up");
    lab.call(&["kill", "-s", "STOP", "one/a"]).expect_code(0);
    lab.call(&["kill", "-s", "CONT", "one/a"]).expect_code(0);
    running.signal(libc::SIGTERM);
    running.wait().expect_code(0);
    assert_eq!(lab.end("a"), End::Exited { code: 0 });
}
