//! The unsafe calls of the harness.

use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Lets the child of `command` have these descriptors under the same numbers.
pub fn inherit(command: &mut Command, numbers: Vec<RawFd>) {
    let inherit = move || numbers.iter().try_for_each(|number| make_inherited(*number));
    // SAFETY: the closure runs between fork and exec and only calls fcntl, which is async-signal-safe; the vector
    // was made before the fork.
    unsafe { command.pre_exec(inherit) };
}

fn make_inherited(number: RawFd) -> std::io::Result<()> {
    // SAFETY: fcntl takes numbers.
    let done = unsafe { libc::fcntl(number, libc::F_SETFD, 0) };
    if done == -1 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// kill(2) of a process that this test has started.
pub fn kill(pid: i32, signal: i32) {
    // SAFETY: kill takes numbers.
    let done = unsafe { libc::kill(pid, signal) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}
