//! Which signals stage1 takes, and what an app has of that: nothing.

use nix::errno::Errno;
use nix::sys::signal::SigSet;
use podrun_abi::control::Signal;

use crate::sys::process;

/// SIGRTMIN+3 as every service manager on Linux counts it: the C library keeps 32 and 33 for itself.
pub const SIGRTMIN_3: Signal = 37;
/// What `machinectl poweroff` sends.
pub const SIGRTMIN_4: Signal = 38;
/// Those that stage1 takes, through a signalfd. All others have their default disposition, and the kernel drops those
/// for PID 1 of a pid namespace.
const TAKEN: [Signal; 6] =
    [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, SIGRTMIN_3, SIGRTMIN_4];

/// Blocks the signals that are taken, and no others; returns them.
pub fn take() -> Result<SigSet, Errno> {
    let taken = process::signal_set(&TAKEN);
    taken.thread_set_mask()?;
    Ok(taken)
}

/// The mask of an app: nothing is blocked.
pub fn unblock() -> Result<(), Errno> {
    SigSet::empty().thread_set_mask()
}
