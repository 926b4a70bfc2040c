//! podrun-stage1, PID 1 of a pod: builds the pod's mount namespace, starts the apps, reaps, reports and stops.
//!
//! The launcher starts it with the numbers of its socket and of the pod's lock as arguments, in fresh pid, mount, uts and ipc namespaces. The order is that of [`boot::run`]. It has one thread, blocks
//! in one place (`reactor`), and once it has said `booted` it ends only when the pod has ended. It knows no path,
//! driver or version of a cgroup, and reads nothing that an app wrote.
#![cfg_attr(not(test), no_main)]
#![cfg_attr(test, allow(dead_code, reason = "tests have a main of their own"))]

mod attached;
mod boot;
mod control;
mod examine;
mod execute;
mod failure;
mod foreign;
mod group;
mod handover;
mod identity;
mod mounts;
mod output;
mod process;
mod reactor;
mod reap;
mod report;
mod rootfs;
mod signals;
mod spawn;
mod supervisor;
mod sys;
mod voice;
mod watch;

use std::io::Write;

/// The exit code of podrun's own failures.
const FAILED: u8 = 125;

/// The whole program, called by [`sys::entry`]; returns its exit code.
fn run() -> u8 {
    let Some([launcher, lock]) = inherited() else {
        say("this is PID 1 of a pod, started by `podrun run`; there is nothing to run by hand");
        return FAILED;
    };
    boot::run(launcher, lock).unwrap_or_else(|failure| {
        say(&failure.to_string());
        FAILED
    })
}

/// The numbers in the only two arguments, given to PID 1 of a pid namespace.
fn inherited() -> Option<[i32; 2]> {
    let mut arguments = std::env::args_os().skip(1);
    let mut number = || arguments.next()?.to_str()?.parse().ok();
    let numbers = [number()?, number()?];
    (arguments.next().is_none() && std::process::id() == 1).then_some(numbers)
}

/// One line to standard error, which may be closed.
fn say(text: &str) {
    // Nobody is left to tell when even this fails.
    let _ = writeln!(std::io::stderr(), "podrun-stage1: {text}");
}
