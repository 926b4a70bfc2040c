//! A child that does nothing but be there: systemd makes a scope around a process that exists, and stage1 is to be
//! born in its group and not to be moved there.

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use nix::sys::wait::{Id, WaitPidFlag, waitid};

use super::pidfd;

/// The living child. It ends with this value, and with the thread that made it.
#[derive(Debug)]
pub struct Placeholder {
    pid: i32,
    pidfd: OwnedFd,
}

/// Makes it. It has no descriptor, no terminal and no program of its own.
///
/// # Errors
/// Out of processes or memory; more than one thread here.
pub fn spawn() -> anyhow::Result<Placeholder> {
    anyhow::ensure!(
        super::tasks::count()? == 1,
        "cannot make a placeholder: the launcher has more than one thread"
    );
    let parent = std::process::id();
    let mut pidfd: i32 = -1;
    // SAFETY: clone_args is a plain struct of u64; all zero is its documented default.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: clone3 reads `size_of::<clone_args>()` bytes at `args` and writes one i32 at `args.pidfd`; both live on
    // this stack until the call returns. There is no CLONE_VM, so that the child has its own copy of this memory, and
    // no other thread exists whose locks it could inherit.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match i32::try_from(pid) {
        Ok(0) => be_there(parent),
        Ok(pid) if pid > 0 => {
            // SAFETY: the kernel has just stored a new descriptor here, which nobody else knows.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Placeholder { pid, pidfd })
        }
        _ => Err(anyhow::Error::new(io::Error::last_os_error()).context("cannot clone a placeholder")),
    }
}

/// The child's whole life: system calls only, no return.
fn be_there(parent: u32) -> ! {
    // The pod's lock is among them, and must not be held by it.
    // SAFETY: closing numbers is memory-safe; nothing of this copy of the parent uses a descriptor from here on.
    unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) };
    // SAFETY: no pointer is passed.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    // SAFETY: no pointer is passed. A Ctrl-C is for the launcher.
    unsafe { libc::setsid() };
    // The parent may have ended before it was asked to take us along.
    // SAFETY: getppid takes nothing and cannot fail.
    if unsafe { libc::getppid() }.cast_unsigned() != parent {
        // SAFETY: ends this process without running anything of the parent's copy.
        unsafe { libc::_exit(0) };
    }
    loop {
        // SAFETY: pause takes nothing.
        unsafe { libc::pause() };
    }
}

impl Placeholder {
    /// Its pid in our namespace; it is our child and not reaped yet, so that the number stays its own.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }
}

impl Drop for Placeholder {
    fn drop(&mut self) {
        // It has ended already, or it ends now; both are reaped.
        let _ = pidfd::send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        let _ = waitid(Id::PIDFd(self.pidfd.as_fd()), WaitPidFlag::WEXITED);
    }
}
