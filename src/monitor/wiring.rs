//! Which descriptor stands behind which token of the poll, and reading the apps' pipes through it.
//!
//! The poll is edge-triggered: a pipe that was not read to its end is remembered in `pending` and comes back
//! at the next turn, so that one loud app starves neither the others nor the signals. One whose bytes have no
//! place to go is `stalled` until there is room for them, which every wait looks for first.

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
use crate::systemd::PodUnits;

const SIGNALS: Token = Token(0);
const SOCKET: Token = Token(1);
const STAGE1: Token = Token(2);
const STDOUT: Token = Token(3);
const STDERR: Token = Token(4);
const UNITS: Token = Token(5);
const JOURNAL: Token = Token(6);
/// The first pipe.
const OUTPUTS: usize = 7;

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
    /// systemd may have said something.
    Units,
    /// Standard output, standard error or the journal takes bytes again.
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
    watched: [Option<RawFd>; 3],
    buffer: Vec<u8>,
}

impl Wiring {
    /// Registers everything that can happen.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub fn new(launched: &Launched, signals: &mut Signals) -> anyhow::Result<Self> {
        let wiring = Self::of_outputs(&launched.outputs)?;
        let registry = wiring.poll.registry();
        registry.register(signals.source(), SIGNALS, Interest::READABLE).context("cannot poll signals")?;
        for (fd, token) in [(&launched.socket, SOCKET), (&launched.stage1.pidfd, STAGE1)] {
            registry
                .register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)
                .context("cannot poll stage1")?;
        }
        launched.units.iter().try_for_each(|units| wiring.watch_systemd(units))?;
        Ok(wiring)
    }

    /// Watches the connection to systemd; one that was closed is watched no more by itself.
    ///
    /// # Errors
    /// Out of memory.
    pub fn watch_systemd(&self, units: &PodUnits) -> anyhow::Result<()> {
        let Some(socket) = units.socket() else { return Ok(()) };
        let registry = self.poll.registry();
        registry
            .register(&mut SourceFd(&socket.as_raw_fd()), UNITS, Interest::READABLE)
            .context("cannot poll systemd")
    }

    fn of_outputs(outputs: &[Output]) -> anyhow::Result<Self> {
        let poll = Poll::new().context("cannot create a poll")?;
        for (index, output) in outputs.iter().enumerate() {
            let token = Token(OUTPUTS + index);
            poll.registry()
                .register(&mut SourceFd(&output.pipe.as_raw_fd()), token, Interest::READABLE)
                .context("cannot poll an app's output")?;
        }
        let open = (0..outputs.len()).collect();
        let events = Events::with_capacity(256);
        let buffer = vec![0; 64 * 1024];
        Ok(Self {
            poll,
            events,
            pending: BTreeSet::new(),
            stalled: BTreeSet::new(),
            open,
            watched: [None; 3],
            buffer,
        })
    }

    /// Watches standard output, standard error and the journal for writability while bytes wait for them. A regular file
    /// cannot be watched (EPERM) and needs not be.
    fn watch_sink(&mut self, sink: &Sink<'_>) -> anyhow::Result<()> {
        for (slot, (fd, token)) in sink.waiting().into_iter().zip([STDOUT, STDERR, JOURNAL]).enumerate() {
            let registry = self.poll.registry();
            // The journal's socket may be another one meanwhile; the old one is closed, and nothing watches it any more.
            let watched = self.watched[slot].filter(|old| fd.is_none_or(|fd| fd.as_raw_fd() == *old));
            match (fd, watched) {
                (Some(fd), None) => {
                    match registry.register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::WRITABLE) {
                        Ok(()) => self.watched[slot] = Some(fd.as_raw_fd()),
                        Err(e) if e.raw_os_error() == Some(libc::EPERM) => {}
                        Err(e) => return Err(e).context("cannot poll standard output"),
                    }
                }
                (None, Some(fd)) => {
                    self.watched[slot] = None;
                    match registry.deregister(&mut SourceFd(&fd)) {
                        Err(e) if !matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EBADF)) => {
                            return Err(e).context("cannot stop to poll standard output");
                        }
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Lets the pipes go on whose outlet has room again. An outlet may have been emptied by any write since, and
    /// then nothing watches it and no event would say so.
    fn resume(&mut self, outputs: &[Output], sink: &Sink<'_>) {
        let has_room =
            |index: &usize| outputs.get(*index).is_none_or(|output| !sink.is_full(*index, output.stream));
        let (resumed, stalled): (BTreeSet<_>, _) =
            std::mem::take(&mut self.stalled).into_iter().partition(has_room);
        self.stalled = stalled;
        self.pending.extend(resumed);
    }

    /// Waits for something to happen, until `deadline` at most; without one for as long as it takes.
    ///
    /// # Errors
    /// Out of memory.
    pub fn wait(
        &mut self,
        outputs: &[Output],
        sink: &Sink<'_>,
        deadline: Option<Instant>,
    ) -> anyhow::Result<Vec<Ready>> {
        self.resume(outputs, sink);
        self.watch_sink(sink)?;
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
            UNITS => Some(Ready::Units),
            STDOUT | STDERR | JOURNAL => Some(Ready::Sink),
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
            if sink.is_full(index, output.stream) {
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write, pipe};

    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    use super::*;
    use crate::launch::Stream;
    use crate::monitor::sink::Foreground;
    use crate::output::prefix::{Outputs, Prefixer, Style};

    /// Only a wait that nothing ends takes as long.
    const NEVER: Duration = Duration::from_secs(5);

    /// What an app has written already, its end still open.
    fn output(bytes: &[u8]) -> (std::io::PipeWriter, Output) {
        let (reader, mut writer) = pipe().unwrap();
        writer.write_all(bytes).unwrap();
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        (writer, Output { app: 0, stream: Stream::Stdout, pipe: reader.into() })
    }

    fn turn(wiring: &mut Wiring, outputs: &[Output], sink: &mut Sink<'_>) -> Vec<Ready> {
        let ready = wiring.wait(outputs, sink, Some(Instant::now() + NEVER)).unwrap();
        for index in
            ready.iter().filter_map(|r| if let Ready::Output(index) = r { Some(*index) } else { None })
        {
            wiring.pump(outputs, index, sink).unwrap();
        }
        ready
    }

    #[test]
    fn stalled_pipe_goes_on_though_another_write_made_the_room() {
        let (mut reader, stdout) = pipe().unwrap();
        let (_other, stderr) = pipe().unwrap();
        let prefixer = Prefixer::new(["web"], Style::Raw, Outputs::Apart);
        let mut sink = Sink::new(Some(Foreground::new(prefixer, stdout.as_fd(), stderr.as_fd())), vec![]);
        let (mut app, output) = output(&[b'x'; 65_536]);
        let outputs = [output];
        let mut wiring = Wiring::of_outputs(&outputs).unwrap();

        // Standard output's pipe fills, then the outlet; the app's pipe is full once more and stalls.
        for _ in 0..2 {
            assert_eq!(turn(&mut wiring, &outputs, &mut sink), [Ready::Output(0)]);
            app.write_all(&[b'y'; 65_536]).unwrap();
        }
        assert_eq!(turn(&mut wiring, &outputs, &mut sink), [Ready::Output(0)]);
        assert!(sink.is_full(0, Stream::Stdout) && wiring.stalled.contains(&0));

        // Its reader wakes up, and a write that is none of the pipe's own empties the outlet before any wait.
        for _ in 0..2 {
            reader.read_exact(&mut [0; 65_536]).unwrap();
            sink.flush();
        }
        assert_eq!(sink.waiting().map(|fd| fd.is_some()), [false; 3]);
        assert_eq!(turn(&mut wiring, &outputs, &mut sink), [Ready::Output(0)]);
        reader.read_exact(&mut [0; 65_536]).unwrap();
    }
}
