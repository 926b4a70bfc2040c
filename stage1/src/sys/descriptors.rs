//! Descriptors that were inherited, and closing all others.
//!
//! Invariant: an [`Inherited`] is never closed by stage1, so a copy of its number is valid as long as the process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::sys::stat::Mode;

/// A descriptor that the launcher gave to stage1 and that stays open until stage1 ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Inherited(RawFd);

impl Inherited {
    /// Takes over descriptor `number` and marks it close-on-exec.
    pub fn adopt(number: RawFd) -> Result<Self, Errno> {
        if number <= libc::STDERR_FILENO {
            return Err(Errno::EBADF);
        }
        let adopted = Self(number);
        fcntl(adopted, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        Ok(adopted)
    }

    /// One that the kernel has just made from a packet, close-on-exec and above 2, for those are open from the start.
    pub(super) fn received(number: RawFd) -> Self {
        Self(number)
    }

    /// The number, for looking it up below `/proc/self/fd`.
    pub fn number(self) -> RawFd {
        self.0
    }
}

impl AsFd for Inherited {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the number is not -1 (`adopt` refuses everything below 3). Nothing in stage1 closes it: no
        // `OwnedFd` is ever made of it, and `close_all_but` is given every adopted number. In a forked child
        // that has closed it, calls with it fail with EBADF; the child opens no descriptor after that.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}

/// Opens the null device on those of descriptors 0, 1 and 2 that are closed, so that no later open gets one.
pub fn fill_standard() -> Result<(), Errno> {
    loop {
        let opened = open("/dev/null", OFlag::O_RDWR | OFlag::O_NOCTTY, Mode::empty())?;
        let number = std::os::fd::IntoRawFd::into_raw_fd(opened);
        if number > libc::STDERR_FILENO {
            close_range(number, number)?;
            return Ok(());
        }
    }
}

/// Closes every descriptor above 2 but those in `keep`, which gets sorted.
pub fn close_all_but(keep: &mut [Inherited]) -> Result<(), Errno> {
    keep.sort_unstable();
    let mut next = libc::STDERR_FILENO + 1;
    for kept in keep.iter() {
        if kept.0 > next {
            close_range(next, kept.0 - 1)?;
        }
        next = next.max(kept.0 + 1);
    }
    close_range(next, RawFd::MAX)
}

/// Moves `sockets`, and `stored` behind them, to the numbers from 3 on, where they outlive an execve, and `fd` behind them, close-on-exec; closes
/// everything above.
///
/// For a child before its execve: from here on it has 0, 1, 2, these and the returned one.
pub fn keep_only(sockets: &[Inherited], stored: &[OwnedFd], fd: &impl AsFd) -> Result<Inherited, Errno> {
    use std::os::fd::AsRawFd;
    let first = libc::STDERR_FILENO + 1;
    let kept = first + RawFd::try_from(sockets.len() + stored.len()).map_err(|_| Errno::EMFILE)?;
    // Copies above all of them: a source may have the number that another one is to get.
    let copy = |from: RawFd| {
        // SAFETY: F_DUPFD_CLOEXEC takes numbers only, and gives one that nobody has.
        Errno::result(unsafe { libc::fcntl(from, libc::F_DUPFD_CLOEXEC, kept + 1) })
    };
    let sources = sockets.iter().map(|socket| socket.0).chain(stored.iter().map(AsRawFd::as_raw_fd));
    let copies = sources.map(copy).collect::<Result<Vec<_>, _>>()?;
    let channel = copy(fd.as_fd().as_raw_fd())?;
    let targets = copies.into_iter().map(|from| (from, 0)).chain([(channel, libc::O_CLOEXEC)]);
    for (to, (from, flags)) in (first..).zip(targets) {
        // SAFETY: dup3 takes numbers only. Whatever had the number is lost, which is the purpose: the caller is a child
        // that uses nothing but these descriptors any more.
        Errno::result(unsafe { libc::dup3(from, to, flags) })?;
    }
    close_range(kept + 1, RawFd::MAX)?;
    Ok(Inherited(kept))
}

/// close_range(2); both ends are closed too.
fn close_range(first: RawFd, last: RawFd) -> Result<(), Errno> {
    // SAFETY: close_range takes three numbers. The callers close only what no object owns: in stage1 it runs
    // before the first descriptor of its own is made, in a child after the last one was used.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    Errno::result(done).map(drop)
}

/// A descriptor of a packet as one that closes itself: the boot record's memfd, and what was kept for an app.
pub fn own(received: Inherited) -> OwnedFd {
    use std::os::fd::FromRawFd;
    // SAFETY: it came with a packet, so it is open. The caller has it from the one packet that names it, which the
    // launcher names it once in, looks it up once and keeps no copy, so nothing else owns, uses or closes it.
    unsafe { OwnedFd::from_raw_fd(received.0) }
}
