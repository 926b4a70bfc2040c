//! podrun-stage1, PID 1 of a pod: builds the pod's mount namespace, starts the apps, reaps, reports and stops.
//!
//! The launcher starts it with one argument, the number of a sealed memfd with a [`podrun_abi::boot::Boot`] in
//! it, in fresh pid, mount, uts and ipc namespaces. The order is that of [`boot::run`]. It has one thread, blocks
//! in one place (`reactor`), and once it has said `booted` it ends only when the pod has ended. It knows no path,
//! driver or version of a cgroup, and reads nothing that an app wrote.

mod boot;
mod control;
mod examine;
mod execute;
mod failure;
mod group;
mod identity;
mod mounts;
mod process;
mod reactor;
mod reap;
mod report;
mod rootfs;
mod spawn;
mod supervisor;
mod sys;

use std::io::Write;
use std::process::exit;

/// The exit code of podrun's own failures.
const FAILED: i32 = 125;

fn main() {
    let Some(memfd) = boot_descriptor() else {
        say("this is PID 1 of a pod, started by `podrun run`; there is nothing to run by hand");
        exit(FAILED);
    };
    match boot::run(memfd) {
        Ok(code) => exit(i32::from(code)),
        Err(failure) => {
            say(&failure.to_string());
            exit(FAILED);
        }
    }
}

/// The number in the only argument, given to PID 1 of a pid namespace.
fn boot_descriptor() -> Option<i32> {
    let mut arguments = std::env::args_os().skip(1);
    let (first, second) = (arguments.next()?, arguments.next());
    if second.is_some() || std::process::id() != 1 {
        return None;
    }
    first.to_str()?.parse().ok()
}

/// One line to standard error, which may be closed.
fn say(text: &str) {
    // Nobody is left to tell when even this fails.
    let _ = writeln!(std::io::stderr(), "podrun-stage1: {text}");
}
