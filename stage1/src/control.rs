//! The control socket: a request in, a reply out, for `podrun stop` and its like.
//!
//! A client must come from outside the pod, as root or as the launcher's user. Invariant: at most 32 clients,
//! none for longer than ten seconds without a request, none ever waited for.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::geteuid;
use podrun_abi::control::Reply;

use crate::reap::Left;
use crate::sys::descriptors::Inherited;
use crate::sys::socket::{self, Received};

/// How many may be connected at a time; another one is closed at once.
pub const CLIENTS_MAX: usize = 32;
const IDLE: Duration = Duration::from_secs(10);
/// Connections taken in one turn.
const TURN_MAX: usize = 64;

/// The listening end and who is connected.
pub struct Control {
    listener: Inherited,
    clients: [Option<Client>; CLIENTS_MAX],
    /// Given up for a moment when the process has no descriptor left, to get rid of a client that waits.
    spare: Option<OwnedFd>,
    /// Token of the first client.
    base: usize,
}

struct Client {
    socket: OwnedFd,
    until: Instant,
}

impl Control {
    /// On a non-blocking listener. Clients get the tokens from `base` on.
    pub fn new(listener: Inherited, base: usize) -> Self {
        Self { listener, clients: [const { None }; CLIENTS_MAX], spare: spare(), base }
    }

    /// Takes those who wait.
    pub fn accept(&mut self, registry: &Registry, now: Instant) -> Left {
        for _ in 0..TURN_MAX {
            match socket::accept(&self.listener) {
                Ok(socket) => self.admit(socket, registry, now),
                Err(Errno::EMFILE | Errno::ENFILE) if self.spare.take().is_some() => {
                    // With the spare's number free the connection can be taken, and closed.
                    drop(socket::accept(&self.listener));
                    self.spare = spare();
                }
                Err(Errno::EINTR | Errno::ECONNABORTED) => {}
                Err(_) => return Left::None,
            }
        }
        Left::Maybe
    }

    fn admit(&mut self, socket: OwnedFd, registry: &Registry, now: Instant) {
        let welcome = socket::peer(&socket).is_ok_and(|(pid, uid)| pid == 0 && is_master(uid));
        let Some(slot) = self.clients.iter().position(Option::is_none).filter(|_| welcome) else { return };
        let token = Token(self.base + slot);
        if registry.register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE).is_ok() {
            self.clients[slot] = Some(Client { socket, until: now + IDLE });
        }
    }

    /// One packet of the client with this token; `None` when it has nothing more to say.
    pub fn receive(&mut self, token: Token, buffer: &mut [u8], now: Instant) -> Option<Received> {
        let slot = self.slot(token)?;
        let client = slot.as_mut()?;
        match socket::receive(&client.socket, buffer) {
            Received::Nothing => None,
            Received::Closed => {
                *slot = None;
                None
            }
            received => {
                client.until = now + IDLE;
                Some(received)
            }
        }
    }

    /// Answers. A client that does not take its answer is dropped.
    pub fn reply(&mut self, token: Token, reply: &Reply) {
        let Some(slot) = self.slot(token) else { return };
        let sent = serde_json::to_vec(reply).is_ok_and(|text| {
            slot.as_ref().is_some_and(|client| socket::transmit(&client.socket, &text).is_ok())
        });
        if !sent {
            *slot = None;
        }
    }

    /// Closes the connection.
    pub fn drop_client(&mut self, token: Token) {
        if let Some(slot) = self.slot(token) {
            *slot = None;
        }
    }

    /// When the next idle client is dropped.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.clients.iter().flatten().map(|client| client.until).min()
    }

    /// Drops clients that were idle for too long.
    pub fn expire(&mut self, now: Instant) {
        for slot in &mut self.clients {
            if slot.as_ref().is_some_and(|client| client.until <= now) {
                *slot = None;
            }
        }
    }

    fn slot(&mut self, token: Token) -> Option<&mut Option<Client>> {
        self.clients.get_mut(token.0.checked_sub(self.base)?)
    }
}

/// Root, and whoever runs the pod.
fn is_master(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

fn spare() -> Option<OwnedFd> {
    open("/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).ok()
}
