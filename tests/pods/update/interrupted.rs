//! A change that is asked to end: at once as long as it waits for its turn, and not halfway.

use std::fs::File;

use super::walk::{kills, signal_on_the_way};
use super::{end, quota, shown, start};
use crate::harness::{Lab, Running, below_systemd, driver_name, sys, wait_until};

const STATES: [[&str; 6]; 2] = [
    ["update", "one/a", "cpus=0.35", "cpu-weight=300", "memory-max=48MiB", "pids-max=40"],
    ["update", "one/a", "cpus=0.25", "cpu-weight=50", "memory-max=32MiB", "pids-max=30"],
];
const STATES_OF_POD: [[&str; 6]; 2] = [
    ["update", "one", "cpus=1.5", "cpu-weight=300", "memory-max=148MiB", "pids-max=140"],
    ["update", "one", "cpus=1.25", "cpu-weight=50", "memory-max=132MiB", "pids-max=130"],
];
const SIGNALS: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// What is recorded, and what the kernel shows.
fn state(lab: &Lab) -> (String, std::collections::BTreeMap<String, String>) {
    (lab.call(&["cat", "one"]).expect_code(0).stdout, shown(lab))
}

fn expect_one_or_the_other(states: &[[&str; 6]; 2]) {
    let Some(lab) = Lab::open() else { return };
    let running = start(&lab);
    let known = states.each_ref().map(|arguments| {
        lab.call(arguments).expect_code(0);
        state(&lab)
    });
    let mut is = 1;
    let mut ends = Vec::new();
    for round in 0..kills(60) {
        let signal = SIGNALS[usize::try_from(round).unwrap() % SIGNALS.len()];
        let ended = signal_on_the_way(&lab, &states[1 - is], signal);
        assert!([0, 128 + signal].contains(&ended.code), "{ended}");
        let found = state(&lab);
        let plan = std::fs::read_to_string(lab.pod_dirs()[0].join("plan.json")).expect("a plan");
        assert!(!plan.contains("\"unsettled\""), "round {round}: {ended}\n{plan}");
        let which = known.iter().position(|known| *known == found);
        is = which.unwrap_or_else(|| panic!("round {round}: {ended}\n{found:#?}\nis none of {known:#?}"));
        ends.push((ended.code, is));
    }
    let told = lab.events_so_far().matches("\"updated\"").count();
    let changes = ends.iter().scan(1, |before, (_, is)| Some(std::mem::replace(before, *is) != *is));
    assert_eq!(told, 2 + changes.filter(|is_change| *is_change).count(), "each change is told: {ends:?}");
    end(running);
}

#[test]
pub fn change_that_is_interrupted_is_whole() {
    expect_one_or_the_other(&STATES);
}

#[test]
fn change_that_is_interrupted_is_whole_below_systemd() {
    below_systemd(|| {
        assert_eq!(driver_name(), "systemd");
        expect_one_or_the_other(&STATES_OF_POD);
    });
}

/// It ends by the signal, and says that there is nothing to be done again.
#[test]
fn change_that_is_done_says_so_when_it_is_interrupted() {
    let Some(lab) = Lab::open() else { return };
    let running = start(&lab);
    let stage1 = lab.stage1_pid();
    for (signal, (cpus, thousandths)) in SIGNALS.into_iter().zip([("0.25", 250), ("0.75", 750), ("0.3", 300)])
    {
        // Signals are held back from before the first write until stage1 has answered.
        sys::kill(stage1, libc::SIGSTOP).expect("stage1 lives");
        let updates = Running::spawn(&mut lab.podrun(&["update", "one/a", &format!("cpus={cpus}")]));
        wait_until("it is written", || lab.limit("app-a", "cpus") == quota(thousandths));
        updates.signal(signal);
        sys::kill(stage1, libc::SIGCONT).expect("stage1 lives");
        let ended = updates.wait().expect_code(128 + signal);
        assert_eq!(ended.stderr, "warning: interrupted by a signal; the limits are as asked for\n");
        assert_eq!(lab.limit("app-a", "cpus"), quota(thousandths));
        assert!(lab.call(&["cat", "one"]).stdout.contains(&format!("cpus = {cpus}")), "it is recorded");
    }
    assert_eq!(lab.events_so_far().matches("\"updated\"").count(), SIGNALS.len());
    end(running);
}

#[test]
fn change_that_waits_for_its_turn_ends_at_once() {
    let Some(lab) = Lab::open() else { return };
    let running = start(&lab);
    let before = state(&lab);
    let path = lab.pod_dirs()[0].join("change.lock");
    let lock = File::create(&path).expect("the lock's file");
    lock.lock().expect("nobody changes anything");
    for signal in SIGNALS {
        let waits = Running::spawn(&mut lab.podrun(&STATES[0]));
        let files = format!("/proc/{}/fd", waits.pid());
        wait_until("it waits for its turn", || {
            let files = std::fs::read_dir(&files).into_iter().flatten().flatten();
            files.into_iter().any(|file| std::fs::read_link(file.path()).is_ok_and(|file| file == path))
        });
        waits.signal(signal);
        waits.wait().expect_code(128 + signal);
    }
    drop(lock);
    assert_eq!(state(&lab), before);
    lab.call(&STATES[0]).expect_code(0);
    end(running);
}
