//! [`Foreign`]: descriptors that an app has made and sent, whose last close is not stage1's to wait for.
//!
//! How long a close takes is said by whoever has made the descriptor: a connection with SO_LINGER waits for its peer, a file
//! for its server. A process that ends does not wait for a connection (inet_release in the kernel), and nobody waits for that
//! process: so the last close of anything but a pipe is that of a copy of stage1 which does nothing but end.
//!
//! Invariant: such a descriptor is closed here only while that process still has it.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::socket::{setsockopt, sockopt};

use crate::sys::process::{Forked, exit_now, fork_into};
use crate::sys::socket;

/// Descriptors of an app.
#[derive(Default)]
pub struct Foreign(pub Vec<OwnedFd>);

impl Drop for Foreign {
    fn drop(&mut self) {
        // A barrier is a pipe, and the usual thing to get.
        let others: Vec<OwnedFd> =
            std::mem::take(&mut self.0).into_iter().filter(|fd| !is_pipe(fd)).collect();
        if !others.is_empty() {
            // Without a process for it they are closed here: there is nobody else. What is no connection has no such option.
            for descriptor in &others {
                let _ = setsockopt(descriptor, sockopt::Linger, &libc::linger { l_onoff: 0, l_linger: 0 });
            }
            let _ = close_elsewhere(others);
        }
    }
}

/// Asks the pipe and not its file system, which may be one of the app's own.
fn is_pipe(fd: &OwnedFd) -> bool {
    fcntl(fd, FcntlArg::F_GETPIPE_SZ).is_ok()
}

/// The process ends when both ends of the pair are closed here, which is after the descriptors are. It is reaped as an
/// orphan is.
fn close_elsewhere(descriptors: Vec<OwnedFd>) -> Result<(), Errno> {
    let (ours, theirs) = socket::pair()?;
    match fork_into(None)? {
        Forked::Child => {
            drop(ours);
            // Whatever it gives, it is time.
            let _ = socket::receive_blocking(&theirs, &mut [0; 1]);
            exit_now(0)
        }
        Forked::Parent { .. } => {
            drop(descriptors);
            Ok(())
        }
    }
}
