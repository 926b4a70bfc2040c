//! Reaping: every child that has ended, the apps' main processes and the orphans alike.
//!
//! A zombie is reaped in the call that finds it. Its pid is still in no other hand, since stage1 makes processes
//! in the same thread and signals by pidfd only. Invariant: never blocks, and takes a bounded number in one turn,
//! so that a storm of orphans does not keep stop requests waiting.

use nix::errno::Errno;
use podrun_abi::event::End;

use crate::sys::process::reap_any;

/// How many are reaped before other events have their turn.
const TURN_MAX: usize = 512;

/// Whether there may be more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// All that had ended are reaped.
    None,
    /// The turn was over first.
    Maybe,
}

/// Reaps and tells `ended` of each.
pub fn reap(mut ended: impl FnMut(i32, End)) -> Left {
    for _ in 0..TURN_MAX {
        match reap_any() {
            Ok(Some((pid, end))) => ended(pid, end),
            Err(Errno::EINTR) => {}
            // ECHILD: there are no children at all. Any other error would be the same again at once; the next
            // SIGCHLD is a better time to try.
            Ok(None) | Err(_) => return Left::None,
        }
    }
    Left::Maybe
}
