//! sd_notify(3) from podrun to whoever has started it, which `NOTIFY_SOCKET` names.
//!
//! Datagrams of `NAME=value` lines. None of them is ever an error: who does not listen is not told. What is said, and
//! when, is decided by [`crate::monitor`].

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::sys::detach;

/// How long one message may wait for room. A manager that does not read for so long has its own troubles.
const PATIENCE_SECONDS: i64 = 1;

/// The way to the service manager.
#[derive(Debug)]
pub struct Notifier {
    socket: OwnedFd,
    to: UnixAddr,
    /// How often the manager wants to hear of us, when it does.
    pub watchdog: Option<Duration>,
}

impl Notifier {
    /// By the variables that the manager has set for this very process; `None`: nobody wants to know.
    #[must_use]
    pub fn from_environment() -> Option<Self> {
        let variable = |name: &str| std::env::var(name).ok();
        let watchdog = watchdog(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), std::process::id());
        Self::to(std::env::var_os("NOTIFY_SOCKET")?.as_bytes(), watchdog)
    }

    /// To this address; `None`: it is none, or there is no descriptor for it.
    #[must_use]
    pub fn to(text: &[u8], watchdog: Option<Duration>) -> Option<Self> {
        let to = address(text)?;
        let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).ok()?;
        setsockopt(&socket, sockopt::SendTimeout, &TimeVal::seconds(PATIENCE_SECONDS)).ok()?;
        Some(Self { socket, to, watchdog })
    }

    /// Sends lines; `false` when nobody took them.
    pub fn send(&self, lines: &str) -> bool {
        self.send_with(lines, &[])
    }

    /// Sends lines if the manager takes them at once. For what an app says, which must not make podrun wait.
    pub fn offer(&self, lines: &str) -> bool {
        self.transmit(lines, &[], MsgFlags::MSG_DONTWAIT)
    }

    /// The same with descriptors.
    pub fn offer_with(&self, lines: &str, attached: &[OwnedFd]) -> bool {
        let numbers: Vec<RawFd> = attached.iter().map(AsRawFd::as_raw_fd).collect();
        self.transmit(lines, &numbers, MsgFlags::MSG_DONTWAIT)
    }

    /// Sends lines with descriptors.
    pub fn send_with(&self, lines: &str, attached: &[RawFd]) -> bool {
        self.transmit(lines, attached, MsgFlags::empty())
    }

    fn transmit(&self, lines: &str, attached: &[RawFd], flags: MsgFlags) -> bool {
        let flags = flags | MsgFlags::MSG_NOSIGNAL;
        let rights = [ControlMessage::ScmRights(attached)];
        let rights = if attached.is_empty() { &[] } else { &rights[..] };
        loop {
            let text = [IoSlice::new(lines.as_bytes())];
            match sendmsg(self.socket.as_raw_fd(), &text, rights, flags, Some(&self.to)) {
                Err(Errno::EINTR) => {}
                sent => return sent.is_ok(),
            }
        }
    }

    /// Waits until the manager has read everything that was sent: it closes the descriptor that comes with `BARRIER=1`,
    /// and one that does not know the word closes it as well. It would not know whose a message is that it reads when
    /// its sender has ended.
    pub fn flush(&self, timeout: Duration) {
        let Ok((reader, writer)) = detach::pipe() else { return };
        if !self.send_with("BARRIER=1", &[writer.as_raw_fd()]) {
            return;
        }
        drop(writer);
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            match poll(&mut [PollFd::new(reader.as_fd(), PollFlags::empty())], timeout) {
                Err(Errno::EINTR) => {}
                // Closed, or the time is over.
                _ => return,
            }
        }
    }
}

/// `/path`, or `@name` for an abstract one; others (`vsock:`) are of machines.
fn address(text: &[u8]) -> Option<UnixAddr> {
    match text.first()? {
        b'/' => UnixAddr::new(text).ok(),
        b'@' => UnixAddr::new_abstract(text.get(1..)?).ok(),
        _ => None,
    }
}

/// sd_watchdog_enabled(3): the interval, where it is meant for this process.
fn watchdog(interval_us: Option<String>, pid: Option<String>, own: u32) -> Option<Duration> {
    let interval: u64 = interval_us?.parse().ok()?;
    let is_ours = pid.is_none_or(|pid| pid.parse() == Ok(own));
    (is_ours && interval > 0).then(|| Duration::from_micros(interval))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchdog_of_another_process_is_not_ours() {
        let text = |text: &str| Some(text.to_owned());
        let table = [
            (text("2000000"), None, Some(Duration::from_secs(2))),
            (text("2000000"), text("7"), Some(Duration::from_secs(2))),
            (text("2000000"), text("8"), None),
            (text("0"), None, None),
            (text("often"), None, None),
            (None, text("7"), None),
        ];
        for (interval, pid, expected) in table {
            assert_eq!(watchdog(interval.clone(), pid.clone(), 7), expected, "{interval:?} {pid:?}");
        }
    }

    #[test]
    fn addresses_are_paths_and_abstract_names() {
        assert!(address(b"/run/systemd/notify").is_some_and(|a| a.path().is_some()));
        assert!(address(b"@name").is_some_and(|a| a.as_abstract() == Some(b"name")));
        for bad in [&b""[..], b"vsock:2:1234", b"notify"] {
            assert!(address(bad).is_none());
        }
    }
}
