//! Which descriptor stands behind which token of the poll, and reading the apps' pipes through it.
//!
//! The poll is edge-triggered: a pipe that was not read to its end is remembered in `pending` and comes back
//! at the next turn, so that one loud app starves neither the others nor the signals. One whose bytes have no
//! place to go is `stalled` until [`Wiring::resume`] finds room for them.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, Instant};

use anyhow::Context;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::errno::Errno;
use nix::unistd::read;

use super::intent::Signals;
use super::sink::Sink;
use crate::launch::{Launched, Output};

const SIGNALS: Token = Token(0);
const SOCKET: Token = Token(1);
const STAGE1: Token = Token(2);
const STDOUT: Token = Token(3);
const STDERR: Token = Token(4);
/// The first pipe.
const OUTPUTS: usize = 5;

/// At most this much is read from one pipe before the others have their turn.
const TURN_BYTES: usize = 256 * 1024;

/// Processes that outlive stage1 cannot exist (its pid namespace died with it), so end of file comes soon.
const DRAIN_DEADLINE: Duration = Duration::from_secs(2);

/// Who has something for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// Our own signals.
    Signals,
    /// stage1's records.
    Socket,
    /// stage1 has ended.
    Stage1,
    /// Standard output or error takes bytes again.
    Sink,
    /// The pipe with this index has bytes.
    Output(usize),
}

/// The poll and what was left unread.
pub struct Wiring {
    poll: Poll,
    events: Events,
    pending: BTreeSet<usize>,
    stalled: BTreeSet<usize>,
    open: BTreeSet<usize>,
    watched: [Option<RawFd>; 2],
    buffer: Vec<u8>,
}

impl Wiring {
    /// Registers everything that can happen.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub fn new(launched: &Launched, signals: &mut Signals) -> anyhow::Result<Self> {
        let poll = Poll::new().context("cannot create a poll")?;
        let registry = poll.registry();
        registry.register(signals.source(), SIGNALS, Interest::READABLE).context("cannot poll signals")?;
        let fixed = [(&launched.socket, SOCKET), (&launched.stage1.pidfd, STAGE1)];
        let pipes = launched.outputs.iter().enumerate().map(|(i, o)| (&o.pipe, Token(OUTPUTS + i)));
        for (fd, token) in fixed.into_iter().chain(pipes) {
            registry
                .register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)
                .context("cannot poll stage1")?;
        }
        let open = (0..launched.outputs.len()).collect();
        let events = Events::with_capacity(256);
        let buffer = vec![0; 64 * 1024];
        Ok(Self {
            poll,
            events,
            pending: BTreeSet::new(),
            stalled: BTreeSet::new(),
            open,
            watched: [None; 2],
            buffer,
        })
    }

    /// Watches standard output and error for writability while bytes wait for them. A regular file cannot be
    /// watched (EPERM) and needs not be.
    ///
    /// # Errors
    /// Out of memory.
    pub fn watch_sink(&mut self, sink: &Sink<'_>) -> anyhow::Result<()> {
        for (slot, (fd, token)) in sink.waiting().into_iter().zip([STDOUT, STDERR]).enumerate() {
            let registry = self.poll.registry();
            match (fd, self.watched[slot]) {
                (Some(fd), None) => {
                    match registry.register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::WRITABLE) {
                        Ok(()) => self.watched[slot] = Some(fd.as_raw_fd()),
                        Err(e) if e.raw_os_error() == Some(libc::EPERM) => {}
                        Err(e) => return Err(e).context("cannot poll standard output"),
                    }
                }
                (None, Some(fd)) => {
                    self.watched[slot] = None;
                    registry.deregister(&mut SourceFd(&fd)).context("cannot stop to poll standard output")?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Lets the pipes go on whose outlet has room again. To be called before each wait: an outlet may have been
    /// emptied by any write since, and then nothing watches it and no event would say so.
    pub fn resume(&mut self, outputs: &[Output], sink: &Sink<'_>) {
        let has_room = |index: &usize| outputs.get(*index).is_none_or(|output| !sink.is_full(output.stream));
        let (resumed, stalled): (BTreeSet<_>, _) =
            std::mem::take(&mut self.stalled).into_iter().partition(has_room);
        self.stalled = stalled;
        self.pending.extend(resumed);
    }

    /// Waits for something to happen, until `deadline` at most; without one for as long as it takes.
    ///
    /// # Errors
    /// None that can be expected.
    pub fn wait(&mut self, deadline: Option<Instant>) -> anyhow::Result<Vec<Ready>> {
        let timeout = match deadline {
            _ if !self.pending.is_empty() => Some(Duration::ZERO),
            Some(at) => Some(at.saturating_duration_since(Instant::now())),
            None => None,
        };
        match self.poll.poll(&mut self.events, timeout) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => return Ok(Vec::new()),
            polled => polled.context("cannot poll")?,
        }
        for event in &self.events {
            self.pending.extend(event.token().0.checked_sub(OUTPUTS));
        }
        let fixed = self.events.iter().filter_map(|event| match event.token() {
            SIGNALS => Some(Ready::Signals),
            SOCKET => Some(Ready::Socket),
            STAGE1 => Some(Ready::Stage1),
            STDOUT | STDERR => Some(Ready::Sink),
            _ => None,
        });
        Ok(fixed.chain(self.pending.iter().map(|&i| Ready::Output(i))).collect())
    }

    /// Moves what one pipe holds into the sink, as far as the sink takes it.
    ///
    /// # Errors
    /// An error of read(2) that is none of the usual ones.
    pub fn pump(&mut self, outputs: &[Output], index: usize, sink: &mut Sink<'_>) -> anyhow::Result<()> {
        let Some(output) = outputs.get(index) else { return Ok(()) };
        let mut moved = 0;
        while moved < TURN_BYTES {
            if sink.is_full(output.stream) {
                self.pending.remove(&index);
                self.stalled.insert(index);
                return Ok(());
            }
            match read(output.pipe.as_fd(), &mut self.buffer) {
                Ok(0) => {
                    self.pending.remove(&index);
                    self.open.remove(&index);
                    sink.end(index, output);
                    self.poll.registry().deregister(&mut SourceFd(&output.pipe.as_raw_fd())).ok();
                    return Ok(());
                }
                Ok(length) => {
                    moved += length;
                    sink.write(index, output, &self.buffer[..length]);
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    self.pending.remove(&index);
                    return Ok(());
                }
                Err(e) => return Err(e).context("cannot read an app's output"),
            }
        }
        Ok(())
    }

    /// After stage1's end: everything that is still in the pipes.
    ///
    /// # Errors
    /// As [`Wiring::pump`].
    pub fn drain(&mut self, outputs: &[Output], sink: &mut Sink<'_>) -> anyhow::Result<()> {
        let deadline = Instant::now() + DRAIN_DEADLINE;
        while !self.open.is_empty() && Instant::now() < deadline {
            for index in self.open.clone() {
                self.pump(outputs, index, sink)?;
            }
            sink.finish();
            self.pending.append(&mut self.stalled);
            if sink.is_closed() {
                break;
            }
        }
        Ok(())
    }
}
