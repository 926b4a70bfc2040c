//! Processes by descriptor: no signal can reach a process that merely got the same number.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

/// pidfd_open(2): whoever has this number at the moment.
///
/// # Errors
/// ESRCH when nobody has.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: two integers are passed, no memory.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just made this descriptor (close-on-exec), nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// pidfd_send_signal(2).
///
/// # Errors
/// ESRCH when the process is gone, EPERM when it is not ours.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: a null siginfo asks for what kill(2) would send; no memory is passed.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether the process has ended; it may still have to be reaped.
///
/// # Errors
/// Those of poll(2).
pub fn has_ended(pidfd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(poll(&mut [PollFd::new(pidfd, PollFlags::POLLIN)], PollTimeout::ZERO)? > 0)
}

/// Waits for the end of a child that was killed, and reaps it.
///
/// # Errors
/// ECHILD when it is not our child.
pub fn reap_now(pidfd: BorrowedFd<'_>) -> io::Result<WaitStatus> {
    Ok(waitid(Id::PIDFd(pidfd), WaitPidFlag::WEXITED)?)
}

/// Reaps the child behind a readable pidfd; `None` when it has not ended.
///
/// # Errors
/// ECHILD when it is not our child.
pub fn reap(pidfd: BorrowedFd<'_>) -> io::Result<Option<WaitStatus>> {
    match waitid(Id::PIDFd(pidfd), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG)? {
        WaitStatus::StillAlive => Ok(None),
        status => Ok(Some(status)),
    }
}
