//! [`Outlet`]: standard output or standard error, written without ever blocking the monitor.
//!
//! The descriptor is shared with whoever started us, so it is not made non-blocking. Instead at most PIPE_BUF
//! bytes are written at a time, and only after poll(2) said that they fit.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::write;

/// Above this many waiting bytes the apps' pipes are not read any more, so that a slow reader slows the apps
/// down instead of filling our memory.
const HIGH_WATER: usize = 64 * 1024;

/// POSIX's PIPE_BUF on Linux: a write of this size to a pipe that polls writable does not block.
const CHUNK: usize = 4096;

/// Where the bytes of the apps go.
pub struct Outlet<'a> {
    fd: BorrowedFd<'a>,
    waiting: VecDeque<u8>,
    closed: bool,
}

impl<'a> Outlet<'a> {
    /// An outlet over an open descriptor.
    #[must_use]
    pub fn new(fd: BorrowedFd<'a>) -> Self {
        Self { fd, waiting: VecDeque::new(), closed: false }
    }

    /// The descriptor, to be watched for writability while [`Outlet::is_waiting`].
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'a> {
        self.fd
    }

    /// Bytes are waiting to be written.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// No more should be pushed before some have gone.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= HIGH_WATER
    }

    /// The reader is gone (EPIPE); everything pushed from then on is dropped.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Takes bytes; they are written by [`Outlet::flush`].
    pub fn push(&mut self, bytes: &[u8]) {
        if !self.closed {
            self.waiting.extend(bytes);
        }
    }

    /// Writes what fits at once.
    pub fn flush(&mut self) {
        while self.is_waiting() && is_writable(self.fd) {
            let (front, _) = self.waiting.as_slices();
            let chunk = &front[..front.len().min(CHUNK)];
            match write(self.fd, chunk) {
                Ok(written) => drop(self.waiting.drain(..written)),
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::EAGAIN) => return,
                Err(_) => self.close(),
            }
        }
    }

    /// Writes everything, waiting for the reader up to `patience` for each piece: the last words of a pod.
    pub fn finish(&mut self, patience: std::time::Duration) {
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        self.flush();
        while self.is_waiting() {
            if !wait_writable(self.fd, timeout).unwrap_or(false) {
                return;
            }
            self.flush();
        }
    }

    fn close(&mut self) {
        self.closed = true;
        self.waiting = VecDeque::new();
    }
}

fn is_writable(fd: BorrowedFd<'_>) -> bool {
    wait_writable(fd, PollTimeout::ZERO).unwrap_or(false)
}

/// A hang-up or an error counts as writable: the write then says which it was.
fn wait_writable(fd: BorrowedFd<'_>, timeout: PollTimeout) -> io::Result<bool> {
    let mut set = [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)];
    let ready = poll(&mut set, timeout)?;
    Ok(ready > 0)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Duration;

    use super::*;

    #[test]
    fn flush_with_a_full_pipe_returns_and_goes_on_later() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut outlet = Outlet::new(writer.as_fd());
        outlet.push(&[b'x'; 100_000]);
        outlet.flush();
        assert!(outlet.is_waiting() && !outlet.is_closed());
        let mut taken = [0; 65_536];
        reader.read_exact(&mut taken).unwrap();
        outlet.finish(Duration::from_secs(5));
        assert!(!outlet.is_waiting());
    }

    #[test]
    fn flush_with_the_reader_gone_closes() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut outlet = Outlet::new(writer.as_fd());
        outlet.push(b"x");
        outlet.flush();
        assert!(outlet.is_closed() && !outlet.is_waiting());
    }
}
