//! [`Notices`]: what the service manager is told of a pod, and when, as sd_notify(3) has it.
//!
//! Nothing here when nobody has asked (`NOTIFY_SOCKET`), and then no wake-up either. `READY=1` comes once, when the pod is
//! up; `STOPPING=1` with the first step down, whoever asked for it; while that takes longer than the
//! unit's own time, `EXTEND_TIMEOUT_USEC=` asks for more, as long as the manifest allows. The watchdog is fed by the
//! same loop that moves records, output and signals: it bites when that stands still, and when an app has missed its own.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use podrun_abi::notice::is_name;

use crate::systemd::notify::Notifier;

/// How much longer a stop may take, said again and again.
const EXTENSION: Duration = Duration::from_secs(30);
/// How often.
const EXTEND_EVERY: Duration = Duration::from_secs(10);
/// Beyond the pod's own stop-timeout: for what must be killed, and for the groups.
const STOP_MARGIN: Duration = Duration::from_secs(20);
/// How long the manager may take to read the last words.
const FLUSH: Duration = Duration::from_secs(5);

/// What is said to the service manager.
#[derive(Debug, Default)]
pub struct Notices {
    to: Option<Notifier>,
    /// `None`: for ever.
    stop_timeout: Option<Duration>,
    is_ready: bool,
    ping_at: Option<Instant>,
    extend_at: Option<Instant>,
    /// No more time is asked for after this.
    extend_until: Option<Instant>,
}

impl Notices {
    /// For a pod whose ordered stop may take so many milliseconds (`None`: for ever).
    #[must_use]
    pub fn new(to: Option<Notifier>, stop_timeout_ms: Option<u64>) -> Self {
        let ping_at = to.as_ref().and_then(|to| to.watchdog).map(|_| Instant::now());
        Self { to, stop_timeout: stop_timeout_ms.map(Duration::from_millis), ping_at, ..Self::default() }
    }

    /// The pod is up.
    pub(super) fn ready(&mut self, status: &str) {
        self.is_ready = true;
        // Not the process that systemd has started where a shell stands in between.
        self.send(&format!("READY=1\nMAINPID={}\nSTATUS={status}", std::process::id()));
    }

    /// How the pod is, in words.
    pub(super) fn status(&self, words: &str) {
        self.send(&format!("STATUS={words}"));
    }

    /// How an app is, in its own words, and how many microseconds more its start or stop is to take. A manager that does
    /// not keep up misses some of it.
    pub(super) fn pass_on(&self, status: Option<&str>, extend_us: Option<u64>) {
        let status = status.map(|status| format!("STATUS={status}"));
        let extend = extend_us.map(|time_us| format!("EXTEND_TIMEOUT_USEC={time_us}"));
        let lines: Vec<String> = status.into_iter().chain(extend).collect();
        if let (Some(to), false) = (&self.to, lines.is_empty()) {
            to.offer(&lines.join("\n"));
        }
    }

    /// The manager keeps these descriptors under this name, and passes them at the service's next start. One that does not
    /// keep up at this moment does not get them.
    pub(super) fn keep(&self, name: &str, poll: bool, descriptors: &[OwnedFd]) {
        let poll = if poll { "" } else { "\nFDPOLL=0" };
        if let (Some(to), true) = (&self.to, is_name(name)) {
            to.offer_with(&format!("FDSTORE=1\nFDNAME={name}{poll}"), descriptors);
        }
    }

    /// The manager keeps what has this name no more.
    pub(super) fn forget(&self, name: &str) {
        if let (Some(to), true) = (&self.to, is_name(name)) {
            to.offer(&format!("FDSTOREREMOVE=1\nFDNAME={name}"));
        }
    }

    /// An app does not work any more: the manager hears so at once, and then nothing that says otherwise.
    pub(super) fn bark(&mut self, status: &str) {
        if self.ping_at.take().is_some() {
            self.send(&format!("STATUS={status}\nWATCHDOG=trigger"));
        }
    }

    /// The pod goes down.
    pub(super) fn stopping(&mut self, status: &str, now: Instant) {
        self.send(&format!("STOPPING=1\nSTATUS={status}"));
        if self.to.is_some() {
            self.extend_at = Some(now);
            self.extend_until = self.stop_timeout.and_then(|time| now.checked_add(time + STOP_MARGIN));
            self.tick(now);
        }
    }

    /// A reload was asked for, and there is nothing to do for it (systemd.service(5), `Type=notify-reload`).
    pub(super) fn reloaded(&self) {
        if !self.is_ready {
            return;
        }
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
        self.send("READY=1");
    }

    /// When [`Notices::tick`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.ping_at, self.extend_at].into_iter().flatten().min()
    }

    /// Says what is due.
    pub(super) fn tick(&mut self, now: Instant) {
        if let Some(interval) = self.to.as_ref().and_then(|to| to.watchdog)
            && self.ping_at.is_some_and(|at| at <= now)
        {
            self.send("WATCHDOG=1");
            // sd_watchdog_enabled(3) wants half of it.
            self.ping_at = now.checked_add(interval / 2);
        }
        if self.extend_at.is_some_and(|at| at <= now) {
            let is_over = self.extend_until.is_some_and(|until| until <= now);
            if !is_over {
                self.send(&format!("EXTEND_TIMEOUT_USEC={}", EXTENSION.as_micros()));
            }
            self.extend_at = now.checked_add(EXTEND_EVERY).filter(|_| !is_over);
        }
    }

    /// The last words; returns when the manager has read them.
    pub(super) fn end(&self, status: &str) {
        if let Some(to) = &self.to {
            to.send(&format!("STATUS={status}"));
            to.flush(FLUSH);
        }
    }

    fn send(&self, lines: &str) {
        if let Some(to) = &self.to {
            to.send(lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::*;

    fn listener(name: &str) -> (UnixDatagram, Notifier) {
        let name = format!("podrun-test-{}-{name}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        (socket, Notifier::to(format!("@{name}").as_bytes(), None).unwrap())
    }

    fn next(socket: &UnixDatagram) -> Option<String> {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    #[test]
    fn more_time_is_asked_for_as_long_as_the_manifest_allows() {
        for (stop_timeout_ms, times) in [(Some(5_000), 3), (Some(60_000), 8), (None, 20)] {
            let (socket, to) = listener("extend");
            let mut notices = Notices::new(Some(to), stop_timeout_ms);
            let begin = Instant::now();
            notices.stopping("", begin);
            assert_eq!(next(&socket).as_deref(), Some("STOPPING=1\nSTATUS="));
            // Each is read at once: a socket holds ten (net.unix.max_dgram_qlen).
            let mut extensions = usize::from(next(&socket).is_some());
            for step in 1..20 {
                notices.tick(begin + EXTEND_EVERY * step);
                extensions += usize::from(next(&socket).is_some());
            }
            assert_eq!(extensions, times, "{stop_timeout_ms:?}");
        }
    }

    #[test]
    fn watchdog_is_fed_twice_in_each_interval() {
        let (socket, mut to) = listener("watchdog");
        to.watchdog = Some(Duration::from_secs(2));
        let mut notices = Notices::new(Some(to), None);
        let begin = notices.deadline().unwrap();
        for half_seconds in 0..=4 {
            notices.tick(begin + Duration::from_millis(500) * half_seconds);
        }
        assert_eq!(std::iter::from_fn(|| next(&socket)).collect::<Vec<_>>(), ["WATCHDOG=1"; 3]);
    }

    #[test]
    fn watchdog_is_not_fed_any_more_when_an_app_is_late() {
        let (socket, mut to) = listener("late");
        to.watchdog = Some(Duration::from_secs(2));
        let mut notices = Notices::new(Some(to), None);
        notices.tick(Instant::now());
        assert_eq!(next(&socket).as_deref(), Some("WATCHDOG=1"));
        notices.bark("db has missed its watchdog");
        assert_eq!(next(&socket).as_deref(), Some("STATUS=db has missed its watchdog\nWATCHDOG=trigger"));
        notices.bark("once");
        notices.tick(Instant::now() + Duration::from_secs(9));
        assert_eq!((next(&socket), notices.deadline()), (None, None));
    }

    #[test]
    fn nobody_is_told_of_a_reload_before_the_pod_is_ready() {
        let (socket, to) = listener("reload");
        let mut notices = Notices::new(Some(to), None);
        notices.reloaded();
        assert_eq!(next(&socket), None);
        notices.ready("1 app runs");
        assert!(next(&socket).unwrap().starts_with("READY=1\nMAINPID="));
        notices.reloaded();
        assert!(next(&socket).unwrap().starts_with("RELOADING=1\nMONOTONIC_USEC="));
        assert_eq!(next(&socket).as_deref(), Some("READY=1"));
    }

    #[test]
    fn nothing_is_due_when_nobody_asked() {
        let mut notices = Notices::new(None, Some(5));
        notices.stopping("", Instant::now());
        assert_eq!(notices.deadline(), None);
    }
}
