//! [`Held`]: signals that have to wait while something must not stay half done.
//!
//! They are blocked, as they are around the clone of stage1, and come when the guard goes: the process ends by the signal,
//! as whoever sent it expects. Until then they can be asked for. What is ignored (nohup) stays so. SIGQUIT and SIGKILL wait
//! for nobody. No handler is installed, and there is no thread beside this one.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

const HELD: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// As long as it is there, SIGINT, SIGTERM and SIGHUP are held back.
#[derive(Debug)]
pub struct Held {
    before: SigSet,
    /// Readable when one waits. It is never read: that would take the signal away.
    waiting: SignalFd,
}

impl Held {
    /// Holds them back from now on.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn new() -> nix::Result<Self> {
        // What is blocked is kept even if it is ignored (sig_ignored() in kernel/signal.c), and would count as one that waits.
        let ignored = std::fs::read_to_string("/proc/self/status").map_or(0, |text| ignored(&text));
        let is_ignored = |signal: &Signal| ignored >> (*signal as i32 - 1) & 1 == 1;
        let held: SigSet = HELD.into_iter().filter(|signal| !is_ignored(signal)).collect();
        let waiting = SignalFd::with_flags(&held, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let before = SigSet::thread_get_mask()?;
        held.thread_block()?;
        Ok(Self { before, waiting })
    }

    /// Whether one waits.
    #[must_use]
    pub fn has_come(&self) -> bool {
        self.comes_within(Duration::ZERO)
    }

    /// Waits so long for one.
    #[must_use]
    pub fn comes_within(&self, time: Duration) -> bool {
        let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        matches!(poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], timeout), Ok(count) if count > 0)
    }
}

#[cfg(test)]
impl Held {
    /// Takes one away that waits.
    pub(crate) fn take(&self) -> Option<Signal> {
        let taken = self.waiting.read_signal().ok().flatten()?;
        Signal::try_from(taken.ssi_signo.cast_signed()).ok()
    }
}

/// For a poll: readable when one waits.
impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waiting.as_fd()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // It fails for no mask that was one before.
        let _ = self.before.thread_set_mask();
    }
}

/// A bit for each signal that is ignored, proc_pid_status(5).
fn ignored(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::raise;

    use super::*;

    #[test]
    fn signal_waits_and_can_be_asked_for() {
        let held = Held::new().unwrap();
        assert!(!held.has_come());
        // To this thread alone; others of the test program hold nothing back.
        raise(Signal::SIGTERM).unwrap();
        assert!(held.has_come() && held.comes_within(Duration::from_secs(60)));
        assert_eq!(held.take(), Some(Signal::SIGTERM));
        assert!(!held.has_come());
        drop(held);
        assert!(!SigSet::thread_get_mask().unwrap().contains(Signal::SIGTERM));
    }

    #[test]
    fn what_is_ignored_is_read_from_the_kernels_text() {
        let text = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000440\n";
        assert_eq!(ignored(text), 0x1001);
        assert_eq!(ignored("Name:\tpodrun\n"), 0);
    }
}
