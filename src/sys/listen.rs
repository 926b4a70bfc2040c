//! Sockets that a service manager has opened and passes with the exec (sd_listen_fds(3)).

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// The first descriptor that is passed.
const FIRST: RawFd = 3;
/// More than any unit has.
const COUNT_MAX: RawFd = 4096;

/// Takes over the sockets that are meant for this process, with their names, close-on-exec from here on. Later calls
/// find none.
///
/// # Errors
/// The variables name a descriptor that is not open.
pub fn take() -> anyhow::Result<Vec<(String, OwnedFd)>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let count = match variable("LISTEN_FDS").parse() {
        Ok(count @ 1..=COUNT_MAX) if variable("LISTEN_PID").parse() == Ok(std::process::id()) => count,
        _ => return Ok(Vec::new()),
    };
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let names = variable("LISTEN_FDNAMES");
    let mut names = names.split(':').map(str::to_owned);
    let take_one = |number: RawFd| {
        // SAFETY: the borrow ends with the call, which fails with EBADF where nothing is open under this number.
        let passed = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl(passed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
            .with_context(|| format!("cannot take over descriptor {number}, which LISTEN_FDS names"))?;
        // SAFETY: it is open since before the exec, so that no descriptor of ours can have got its number, and `TAKEN`
        // lets nobody come here twice: nobody else owns it.
        anyhow::Ok(unsafe { OwnedFd::from_raw_fd(number) })
    };
    // What has no name is called so by sd_listen_fds_with_names(3).
    (FIRST..FIRST + count)
        .map(|number| Ok((names.next().unwrap_or_else(|| "unknown".to_owned()), take_one(number)?)))
        .collect()
}
