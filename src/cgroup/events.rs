//! The kernel's small text files: one number, or a number behind a word on each line ("flat keyed",
//! cgroup-v2.rst), and waiting for a group to become empty.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The number behind `key` and a blank.
#[must_use]
pub fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Whether `cgroup.events` says that processes are in the group or below it.
#[must_use]
pub fn populated(text: &str) -> bool {
    keyed(text, "populated") != Some(0)
}

/// Waits until no process is in the group behind this `cgroup.events`; `false` when the deadline came first.
///
/// # Errors
/// The file cannot be read, for another reason than that the group is gone.
pub fn wait_until_empty(events: &File, deadline: Instant) -> io::Result<bool> {
    loop {
        let mut buffer = [0_u8; 256];
        let length = match events.read_at(&mut buffer, 0) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(true),
            other => other?,
        };
        if !populated(&String::from_utf8_lossy(buffer.get(..length).unwrap_or_default())) {
            return Ok(true);
        }
        if !changes(events.as_fd(), deadline)? {
            return Ok(false);
        }
    }
}

/// A change of the file shows as POLLPRI; every other wake-up leads to another look as well.
fn changes(events: BorrowedFd<'_>, deadline: Instant) -> io::Result<bool> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Ok(false);
    }
    let timeout = PollTimeout::try_from(left.as_millis().max(1)).unwrap_or(PollTimeout::MAX);
    let mut fds = [PollFd::new(events, PollFlags::POLLPRI)];
    match poll(&mut fds, timeout) {
        Ok(0) => Ok(false),
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY_EVENTS: &str = "low 0\nhigh 0\nmax 7\noom 1\noom_kill 2\noom_group_kill 0\n";
    const OOM_CONTROL: &str = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";

    #[test]
    fn numbers_stand_behind_their_whole_key() {
        let cases = [
            (MEMORY_EVENTS, "oom", Some(1)),
            (MEMORY_EVENTS, "oom_kill", Some(2)),
            (OOM_CONTROL, "oom_kill", Some(3)),
            (OOM_CONTROL, "oom", None),
            ("usage_usec 12345\n", "usage_usec", Some(12345)),
            ("usage_usec x\n", "usage_usec", None),
            ("", "a", None),
        ];
        for (text, key, expected) in cases {
            assert_eq!(keyed(text, key), expected, "{key} in {text:?}");
        }
    }

    #[test]
    fn group_counts_as_populated_unless_the_kernel_says_it_is_not() {
        assert!(populated("populated 1\nfrozen 0\n"));
        assert!(!populated("populated 0\nfrozen 0\n"));
        assert!(populated("") && populated("frozen 0\n"));
    }
}
