//! What stage1 holds of one app's process: its pid until it is reaped, its pidfd, the channel to its child.
//!
//! Here meet the two things that tell of a start, the child's packets and its death, in either order. What they
//! mean for the app is said once, as an event for the supervisor. Invariant: the pid is forgotten in the call
//! that reaped it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use podrun_abi::control::Signal;
use podrun_abi::event::End;
use podrun_abi::failure::{StartFailure, Step};

use crate::handover::{AppHandles, Handles};
use crate::spawn::{self, JOINED, Job, Progress, Spawned};
use crate::supervisor::{AppIndex, Event};
use crate::sys::process;
use crate::sys::socket::{self, Received};

/// A failure is one path and a few words.
const FAILURE_BYTES_MAX: usize = 16 * 1024;
/// Between the first looks at a group that is being emptied, and between later ones.
const CHECK_FIRST: Duration = Duration::from_millis(1);
const CHECK_LAST: Duration = Duration::from_millis(100);

/// One app's process and the watch over its group.
pub struct Process {
    progress: Progress,
    live: Option<Live>,
    failure: Option<StartFailure>,
    started: bool,
    emptying: Option<Emptying>,
}

/// What a process is looked at with.
pub struct Surroundings<'a> {
    /// The descriptors of pod and apps.
    pub pod: &'a Handles,
    /// Where channels are registered.
    pub registry: &'a Registry,
}

/// From clone to reap.
struct Live {
    pid: i32,
    pidfd: OwnedFd,
    /// Open until its end of file was seen.
    channel: Option<OwnedFd>,
}

/// The group is waited for.
struct Emptying {
    check_at: Instant,
    pause: Duration,
}

impl Process {
    /// Nothing runs yet.
    pub fn new(progress: Progress) -> Self {
        Self { progress, live: None, failure: None, started: false, emptying: None }
    }

    /// Clones the child.
    pub fn spawn(&mut self, job: &Job<'_>) -> Result<(), StartFailure> {
        self.failure = None;
        self.started = false;
        let Spawned { pid, pidfd, channel } = spawn::spawn(job)?;
        self.live = Some(Live { pid, pidfd, channel: Some(channel) });
        Ok(())
    }

    /// The shared byte of this app's children.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Has what the child says told under `token`.
    pub fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        let Some(channel) = self.live.as_ref().and_then(|live| live.channel.as_ref()) else { return Ok(()) };
        registry.register(&mut SourceFd(&channel.as_raw_fd()), token, Interest::READABLE)
    }

    /// Takes what the child has said. `Some` when it was exec'ed with that.
    pub fn hear(&mut self, app: AppIndex, handles: &AppHandles, registry: &Registry) -> Option<Event> {
        let mut buffer = [0; FAILURE_BYTES_MAX];
        loop {
            let live = self.live.as_mut()?;
            match socket::receive(live.channel.as_ref()?, &mut buffer) {
                Received::Nothing => return None,
                Received::Packet(length) => self.take_packet(buffer.get(..length)?, handles),
                Received::Closed | Received::TooLong => {
                    close(registry, live.channel.take());
                    self.started = self.failure.is_none() && self.progress.reached() == Step::Exec;
                    return self.started.then_some(Event::Started(app, live.pid));
                }
            }
        }
    }

    fn take_packet(&mut self, packet: &[u8], handles: &AppHandles) {
        let Some(Live { pid, pidfd, channel: Some(channel) }) = &self.live else { return };
        if packet != JOINED {
            self.failure = serde_json::from_slice(packet).ok();
            return;
        }
        match handles.group.verify(*pid) {
            Ok(()) => spawn::release(channel),
            // A zombie is in no list. Why it ended is told by what it still has to say, or by its progress.
            Err(_) if process::has_ended(pidfd) => {}
            Err(failure) => {
                spawn::refuse(pidfd);
                self.failure = Some(failure);
            }
        }
    }

    /// Whether `pid` is this app's main process.
    pub fn is(&self, pid: i32) -> bool {
        self.live.as_ref().is_some_and(|live| live.pid == pid)
    }

    /// The main process was reaped: appends what that means.
    pub fn reaped(
        &mut self,
        app: AppIndex,
        end: End,
        around: &Surroundings<'_>,
        events: &mut impl Extend<Event>,
    ) {
        let Some(handles) = around.pod.apps.get(app.0) else { return };
        // It may have been exec'ed and have ended since the last look.
        events.extend(self.hear(app, handles, around.registry));
        self.live = None;
        events.extend([if self.started {
            Event::MainEnded(app, end)
        } else {
            let failure = self.failure.take();
            let failure = failure.unwrap_or_else(|| spawn::lost(self.progress, handles.watch.has_killed()));
            Event::StartFailed(app, failure)
        }]);
    }

    /// Signals the main process, if there is one.
    pub fn signal(&self, signal: Signal) {
        if let Some(live) = &self.live {
            // ESRCH: it has ended and is about to be reaped.
            let _ = process::signal(&live.pidfd, signal);
        }
    }

    /// Watches the group from here on.
    pub fn begin_emptying(&mut self, now: Instant) {
        self.emptying = Some(Emptying { check_at: now + CHECK_FIRST, pause: CHECK_FIRST });
    }

    /// When the group is looked at next.
    pub fn check_at(&self) -> Option<Instant> {
        self.emptying.as_ref().map(|emptying| emptying.check_at)
    }

    /// Looks at a group that is being emptied: with longer and longer pauses, and after every reap, since what is
    /// left of an app becomes stage1's child. Polling `cgroup.events` would be slower: the kernel sends no more
    /// than one notice in ten milliseconds. `true` when nothing is left.
    pub fn check_empty(&mut self, handles: &AppHandles, now: Instant) -> bool {
        let Some(emptying) = &mut self.emptying else { return false };
        if handles.group.is_empty() {
            self.emptying = None;
            return true;
        }
        if emptying.check_at <= now {
            handles.group.kill();
            emptying.pause = (emptying.pause * 2).min(CHECK_LAST);
            emptying.check_at = now + emptying.pause;
        }
        false
    }

    /// No more looks at the group.
    pub fn give_up(&mut self) {
        self.emptying = None;
    }
}

/// Closing alone does not end the registration: children that were cloned meanwhile have copies of the socket.
fn close(registry: &Registry, channel: Option<OwnedFd>) {
    if let Some(channel) = channel {
        // A registration that is not there needs no end.
        let _ = registry.deregister(&mut SourceFd(&channel.as_raw_fd()));
    }
}
