//! Leave the terminal: the double fork of `run -d`, and the pipe over which the daemon reports back.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::Context;
use nix::fcntl::OFlag;
use nix::unistd::{ForkResult, Pid, fork, getpid, pipe2, setsid};

/// Which of the two processes this is after [`double_fork`].
pub enum Side {
    /// The one that was called; the descriptor reads what the daemon reports until it closes its end.
    Caller(OwnedFd),
    /// The daemon: no terminal, its own session, a child of init or of the nearest subreaper.
    Daemon(OwnedFd),
}

/// Set in the daemon; 0: this process is no daemon.
static CALLER: AtomicI32 = AtomicI32::new(0);

/// In the daemon: the process that was called, and waits for the report. It is ours, and in the same cgroups.
#[must_use]
pub fn caller() -> Option<i32> {
    Some(CALLER.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
}

/// A pipe, both ends close-on-exec.
///
/// # Errors
/// Out of descriptors.
pub fn pipe() -> anyhow::Result<(OwnedFd, OwnedFd)> {
    pipe2(OFlag::O_CLOEXEC).context("cannot create a pipe")
}

/// Forks twice with a new session in between, so that the daemon can never get a controlling terminal again.
///
/// # Errors
/// EAGAIN when there is no pid for it; an error when a second thread exists.
pub fn double_fork() -> anyhow::Result<Side> {
    anyhow::ensure!(super::tasks::count()? == 1, "cannot detach: the launcher has more than one thread");
    let (reader, writer) = pipe()?;
    let caller = getpid().as_raw();
    if let Some(first) = fork_checked()? {
        drop(writer);
        nix::sys::wait::waitpid(first, None).context("cannot wait for the first fork")?;
        return Ok(Side::Caller(reader));
    }
    drop(reader);
    setsid().context("cannot make a session")?;
    if fork_checked()?.is_some() {
        // SAFETY: ends the process in the middle without running destructors of the state it shares with the
        // daemon, which is just what is wanted.
        unsafe { libc::_exit(0) };
    }
    CALLER.store(caller, Ordering::Relaxed);
    Ok(Side::Daemon(writer))
}

/// Standard input, output and error become the null device, so that nothing keeps the caller's terminal or
/// pipes open; the working directory becomes `/`, so that nothing keeps a file system busy.
///
/// # Errors
/// When there is no `/dev/null`.
pub fn leave_terminal() -> anyhow::Result<()> {
    let null = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .context("cannot open `/dev/null`")?;
    nix::unistd::dup2_stdin(&null).context("cannot replace standard input")?;
    nix::unistd::dup2_stdout(&null).context("cannot replace standard output")?;
    nix::unistd::dup2_stderr(&null).context("cannot replace standard error")?;
    nix::unistd::chdir("/").context("cannot enter `/`")
}

fn fork_checked() -> anyhow::Result<Option<Pid>> {
    // SAFETY: `double_fork` has made sure that this is the only thread, so no lock can be held by one that
    // does not exist in the child; the child may run any code.
    match unsafe { fork() }.context("cannot fork")? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}
