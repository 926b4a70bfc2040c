//! [`Connection`]: one socket to the bus, or to systemd itself, and nothing that outlives a call.
//!
//! Blocking, with a deadline on everything, in the caller's thread: a connection of zbus would bring a runtime and a
//! thread of its own, and the launcher has none when it clones. Signals that come while a reply is waited for are kept
//! in order; which of them matter is for [`super::manager`] to say.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, send};
use nix::unistd::read;
use serde::Serialize;
use zbus::DynamicType;

use super::wire::{self, Incoming, Kind, Target};

/// Where the system bus listens when nobody says otherwise (dbus-specification, "Well-known Message Bus Instances").
const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";
/// systemd's own socket, for root (sd_bus_open_system_machine(3) knows it too).
const PRIVATE: &str = "/run/systemd/private";
/// Signals that nobody has asked for yet; a busy systemd ends some dozen jobs a second.
const SIGNALS_MAX: usize = 4096;

/// A connection that can be used.
#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    /// Bytes that have been read and are no whole message yet.
    unread: Vec<u8>,
    signals: VecDeque<Incoming>,
    serial: u32,
    /// Our name on the bus; `None` on systemd's own socket, which has no names.
    pub(super) unique_name: Option<String>,
}

/// The reply that was not what was hoped for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    /// Such as `org.freedesktop.systemd1.UnitExists`.
    pub(super) name: String,
    /// For people.
    pub(super) text: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "systemd answered `{}`: {}", self.name, self.text)
    }
}

impl std::error::Error for Refused {}

impl Connection {
    /// The system bus; where there is none, systemd's own socket; `None` where there is neither. An address in the
    /// environment is the user's word, and there is no way round it.
    ///
    /// # Errors
    /// Where was knocked, and what the answer was.
    pub(super) fn open(deadline: Instant) -> anyhow::Result<Option<Self>> {
        if let Some(addresses) = std::env::var_os("DBUS_SYSTEM_BUS_ADDRESS") {
            let shown = addresses.to_string_lossy();
            return Self::open_listed(&shown, deadline).map(Some).with_context(|| {
                format!("cannot connect to the bus at `{shown}` (DBUS_SYSTEM_BUS_ADDRESS)")
            });
        }
        if let Some(socket) = try_connect(SYSTEM_BUS, deadline)? {
            let opened = Self::on_bus(socket, deadline);
            return opened.map(Some).with_context(|| format!("cannot connect to the bus at `{SYSTEM_BUS}`"));
        }
        let Some(socket) = try_connect(PRIVATE, deadline)? else { return Ok(None) };
        let opened = Self::authenticated(socket, deadline);
        opened.map(Some).with_context(|| format!("cannot connect to systemd at `{PRIVATE}`"))
    }

    /// `unix:path=…;unix:abstract=…`: the first that can be reached.
    pub(super) fn open_listed(addresses: &str, deadline: Instant) -> anyhow::Result<Self> {
        let mut last = anyhow!("it names no unix socket");
        for address in addresses.split(';').filter_map(socket_address) {
            match connect(&address?, deadline) {
                Ok(socket) => return Self::on_bus(socket, deadline),
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }

    fn on_bus(socket: OwnedFd, deadline: Instant) -> anyhow::Result<Self> {
        let mut connection = Self::authenticated(socket, deadline)?;
        let name: String = connection.call(bus("Hello"), &(), deadline)?.body()?;
        connection.unique_name = Some(name);
        Ok(connection)
    }

    /// SASL's EXTERNAL: the kernel vouches for our uid. All of it at once, as systemd's own clients do: on its own
    /// socket systemd overlooks a call that it reads together with `BEGIN`, until the next one comes.
    fn authenticated(socket: OwnedFd, deadline: Instant) -> anyhow::Result<Self> {
        let mut connection =
            Self { socket, unread: Vec::new(), signals: VecDeque::new(), serial: 0, unique_name: None };
        let uid: String =
            nix::unistd::geteuid().to_string().bytes().map(|digit| format!("{digit:02x}")).collect();
        connection.write(format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n").as_bytes(), deadline)?;
        let line = connection.line(deadline).context("no answer to our authentication")?;
        ensure!(line.starts_with("OK "), "the bus refused our authentication: `{line}`");
        Ok(connection)
    }

    /// Whether this is a bus, which has names and matches, or systemd's own socket.
    pub(super) fn is_bus(&self) -> bool {
        self.unique_name.is_some()
    }

    /// Calls a method and waits for its answer.
    ///
    /// # Errors
    /// [`Refused`] when the answer is an error; else what happened to the connection, or that the time is over.
    pub(super) fn call<B: Serialize + DynamicType>(
        &mut self,
        target: Target<'_>,
        body: &B,
        deadline: Instant,
    ) -> anyhow::Result<Incoming> {
        self.serial += 1;
        let serial = self.serial;
        let answer = wire::call(serial, target, body)
            .and_then(|bytes| self.write(&bytes, deadline))
            .and_then(|()| self.answer(serial, deadline))
            .with_context(|| format!("cannot call {}", target.method))?;
        match answer.kind {
            Kind::Error => Err(Refused { name: answer.error.clone(), text: answer.text() }.into()),
            _ => Ok(answer),
        }
    }

    /// Calls a method and lets the answer be whatever it is.
    ///
    /// # Errors
    /// What happened to the connection.
    pub(super) fn post<B: Serialize + DynamicType>(
        &mut self,
        target: Target<'_>,
        body: &B,
        deadline: Instant,
    ) -> anyhow::Result<()> {
        self.serial += 1;
        self.write(&wire::call(self.serial, target, body)?, deadline)
    }

    fn answer(&mut self, serial: u32, deadline: Instant) -> anyhow::Result<Incoming> {
        loop {
            let message = self.receive(deadline)?;
            match message.kind {
                Kind::Return | Kind::Error if message.answers == serial => return Ok(message),
                Kind::Signal => self.keep(message),
                // An answer to a call that was given up.
                _ => {}
            }
        }
    }

    fn keep(&mut self, signal: Incoming) {
        if self.signals.len() == SIGNALS_MAX {
            self.signals.pop_front();
        }
        self.signals.push_back(signal);
    }

    /// The next signal: one that was kept, or one that comes before the deadline.
    ///
    /// # Errors
    /// What happened to the connection, or [`io::ErrorKind::TimedOut`].
    pub(super) fn signal(&mut self, deadline: Instant) -> anyhow::Result<Incoming> {
        loop {
            if let Some(signal) = self.signals.pop_front() {
                return Ok(signal);
            }
            let message = self.receive(deadline)?;
            if message.kind == Kind::Signal {
                self.keep(message);
            }
        }
    }

    fn receive(&mut self, deadline: Instant) -> anyhow::Result<Incoming> {
        self.fill(wire::FIXED_BYTES, deadline)?;
        let length = wire::length(self.unread.get(..wire::FIXED_BYTES).unwrap_or_default())?;
        self.fill(length, deadline)?;
        let rest = self.unread.split_off(length);
        let bytes = std::mem::replace(&mut self.unread, rest);
        wire::parse(&bytes)
    }

    /// Until so many bytes are there.
    fn fill(&mut self, wanted: usize, deadline: Instant) -> anyhow::Result<()> {
        let mut buffer = [0; 8192];
        while self.unread.len() < wanted {
            match read(self.socket.as_fd(), &mut buffer) {
                Ok(0) => bail!("the connection was closed"),
                Ok(length) => self.unread.extend_from_slice(buffer.get(..length).unwrap_or_default()),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => wait(self.socket.as_fd(), PollFlags::POLLIN, deadline)?,
                Err(errno) => return Err(errno).context("cannot read from the connection"),
            }
        }
        Ok(())
    }

    /// One line of the authentication, which is the only part that has lines.
    fn line(&mut self, deadline: Instant) -> anyhow::Result<String> {
        const LINE_BYTES_MAX: usize = 4096;
        loop {
            if let Some(end) = self.unread.windows(2).position(|two| two == b"\r\n") {
                let line = self.unread.drain(..end + 2).take(end).collect();
                return String::from_utf8(line).context("cannot read a line of the authentication");
            }
            ensure!(self.unread.len() < LINE_BYTES_MAX, "a line of the authentication does not end");
            self.fill(self.unread.len() + 1, deadline)?;
        }
    }

    fn write(&self, mut bytes: &[u8], deadline: Instant) -> anyhow::Result<()> {
        while !bytes.is_empty() {
            match send(self.socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
                Ok(length) => bytes = bytes.get(length..).unwrap_or_default(),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => wait(self.socket.as_fd(), PollFlags::POLLOUT, deadline)?,
                Err(errno) => return Err(errno).context("cannot write to the connection"),
            }
        }
        Ok(())
    }

    /// For a poll of somebody else's.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A method of the bus itself.
pub(super) fn bus(method: &str) -> Target<'_> {
    let name = "org.freedesktop.DBus";
    Target { destination: name, path: "/org/freedesktop/DBus", interface: name, method }
}

/// A socket that never blocks. While the listener's backlog is full the kernel says EAGAIN at once (before version
/// 254 systemd's is 128), and nothing can be polled for.
fn connect(address: &UnixAddr, deadline: Instant) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    let mut pause = Duration::from_millis(1);
    loop {
        match socket::connect(socket.as_raw_fd(), address) {
            Ok(()) => return Ok(socket),
            Err(Errno::EAGAIN) if Instant::now() < deadline => std::thread::sleep(pause),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// `None`: nobody listens there.
fn try_connect(path: &str, deadline: Instant) -> anyhow::Result<Option<OwnedFd>> {
    match connect(&UnixAddr::new(path)?, deadline) {
        Ok(socket) => Ok(Some(socket)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("cannot connect to `{path}`")),
    }
}

fn wait(fd: BorrowedFd<'_>, flags: PollFlags, deadline: Instant) -> anyhow::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer came in time").into());
    }
    // One more, or what is left below a millisecond would be a busy loop.
    let left = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(fd, flags)], left) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno).context("cannot poll the connection"),
    }
}

/// One address of the specification's form; `None`: of a transport that is not ours.
fn socket_address(text: &str) -> Option<anyhow::Result<UnixAddr>> {
    let pairs = text.strip_prefix("unix:")?.split(',').filter_map(|pair| pair.split_once('='));
    for (key, value) in pairs {
        let value = unescape(value);
        match key {
            "path" => return Some(UnixAddr::new(value.as_slice()).map_err(Into::into)),
            "abstract" => return Some(UnixAddr::new_abstract(&value).map_err(Into::into)),
            _ => {}
        }
    }
    None
}

/// `%xx` is a byte.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        match after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(b'%');
                rest = after;
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_unix_sockets_are_understood() {
        let shown = |text: &str| {
            let address = socket_address(text)?.unwrap();
            let path = address.path().map(|path| path.display().to_string());
            path.or_else(|| address.as_abstract().map(|name| String::from_utf8_lossy(name).into_owned()))
        };
        let table = [
            ("unix:path=/run/dbus/system_bus_socket", Some("/run/dbus/system_bus_socket")),
            ("unix:path=/tmp/a%20b,guid=0123", Some("/tmp/a b")),
            ("unix:guid=0123,path=/x", Some("/x")),
            ("unix:abstract=/tmp/dbus-1", Some("/tmp/dbus-1")),
            ("tcp:host=localhost,port=1", None),
            ("unix:tmpdir=/tmp", None),
        ];
        for (text, expected) in table {
            assert_eq!(shown(text).as_deref(), expected, "{text}");
        }
        assert_eq!(unescape("a%2fb%zz%"), b"a/b%zz%");
    }
}
