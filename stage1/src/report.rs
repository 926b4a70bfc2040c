//! Tells what happens: one packet to the launcher and one line of `events.jsonl` for each record.
//!
//! Neither may ever block or fail the pod: a line that cannot be written is lost, a packet that the launcher does
//! not take waits in a bounded queue. Invariant: the launcher gets records in order, the oldest lost first.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::write;
use podrun_abi::event::{Event, Record};

use crate::foreign::Foreign;
use crate::sys::descriptors::Inherited;
use crate::sys::socket;

/// More records than a pod of a thousand apps writes in its whole life without restarts.
const QUEUE_MAX: usize = 4096;
/// How long the last words may take.
const FLUSH_DEADLINE: Duration = Duration::from_secs(2);

/// Where records go.
pub struct Reporter {
    launcher: Option<Inherited>,
    /// `None` until it has come from the launcher.
    events: Option<Inherited>,
    waiting: VecDeque<Packet>,
}

/// A record, and what goes with it.
type Packet = (Vec<u8>, Foreign);

impl Reporter {
    /// To the launcher alone.
    pub fn new(launcher: Inherited) -> Self {
        Self { launcher: Some(launcher), events: None, waiting: VecDeque::new() }
    }

    /// From now on also to `events.jsonl`.
    pub fn write_down_to(&mut self, events: Inherited) {
        self.events = Some(events);
    }

    /// Tells of one event, and writes it down unless it is of the moment alone.
    pub fn send(&mut self, event: Event) {
        self.send_with(event, Foreign::default());
    }

    /// The same with descriptors for the launcher, as long as that keeps up.
    pub fn send_with(&mut self, event: Event, attached: Foreign) {
        let is_passing = event.is_passing();
        // An app may say as much of the moment as it likes: it is not to push out what has happened, nor to fill the table of
        // descriptors.
        if (is_passing || !attached.0.is_empty()) && self.is_behind() {
            return;
        }
        let record =
            Record { version: podrun_abi::VERSION, time_ms: wall_ms(), monotonic_ms: monotonic_ms(), event };
        let Ok(mut line) = serde_json::to_vec(&record) else { return };
        line.push(b'\n');
        // A full or read-only disk must not stop the pod.
        let _ = self.events.filter(|_| !is_passing).map(|events| write(events, &line));
        line.pop();
        if self.launcher.is_some() {
            if self.waiting.len() == QUEUE_MAX {
                self.waiting.pop_front();
            }
            self.waiting.push_back((line, attached));
            self.flush();
        }
    }

    /// Hands over what waits, as far as the launcher takes it.
    pub fn flush(&mut self) {
        let Some(launcher) = self.launcher else { return };
        while let Some((packet, attached)) = self.waiting.front() {
            match socket::transmit_with(&launcher, packet, &attached.0) {
                Ok(()) => drop(self.waiting.pop_front()),
                Err(Errno::EAGAIN | Errno::ENOBUFS) => return,
                Err(_) => return self.close(),
            }
        }
    }

    /// Whether records wait for the launcher.
    pub fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Nobody listens any more.
    pub fn close(&mut self) {
        self.launcher = None;
        self.waiting.clear();
    }

    /// Gives a slow launcher some time for the last records. Nothing else is left to do by then.
    pub fn finish(&mut self) {
        let end = Instant::now() + FLUSH_DEADLINE;
        while self.is_behind() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
            self.flush();
        }
    }
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn monotonic_ms() -> u64 {
    let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC) else { return 0 };
    let (seconds, nanos) = (now.tv_sec().unsigned_abs(), now.tv_nsec().unsigned_abs());
    seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000)
}
