//! The sockets at which apps say how they are (sd_notify(3)), one for each app with `ready.notify`.
//!
//! Each lies in stage1's own tmpfs, and the app's child binds it into the `/dev` of its own mount namespace: that somebody
//! can reach it proves whose word it is, and nothing is done with the sender's pid. Only who is outside the pod is not
//! listened to.
//!
//! An app that says too much waits: so many datagrams are taken in a turn, so many in a tenth of a second, and the kernel
//! keeps a few more (net.unix.max_dgram_qlen) before it lets the sender wait. Invariant: no app makes stage1 keep more or
//! work more than that.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::errno::Errno;
use podrun_abi::boot::Boot;
use podrun_abi::failure::{StartFailure, Step};
use podrun_abi::notice::{NOTICE_BYTES_MAX, Notice};

use crate::failure::OrFail;
use crate::foreign::Foreign;
use crate::mounts::make_directory;
use crate::sys::socket::{self, Datagram};

/// The directory with the sockets, in stage1's own tree.
const DIRECTORY: &str = "/voices";
/// Datagrams of one app taken in one turn.
pub const TURN_MAX: usize = 16;
/// And those taken when it has ended.
pub const LAST_MAX: usize = 512;
/// And those taken in one [`WINDOW`].
const WINDOW_MAX: usize = 64;
const WINDOW: Duration = Duration::from_millis(100);

/// Where the socket of this app is before its child binds it.
pub fn path(app: &str) -> String {
    format!("{DIRECTORY}/{app}")
}

/// One socket.
pub struct Voice {
    socket: OwnedFd,
    /// It may have more than was taken.
    more: bool,
    /// Datagrams taken in the window.
    taken: usize,
    window_end: Option<Instant>,
}

/// What was heard. What is attached is closed with this value: whoever sent a barrier waits for that.
pub struct Heard {
    pub notice: Notice,
    pub attached: Foreign,
}

/// Makes the sockets, in the order of the apps.
pub fn open(boot: &Boot) -> Result<Vec<Option<Voice>>, StartFailure> {
    if boot.apps.iter().any(|app| app.policy.notify) {
        make_directory(DIRECTORY).or_fail(Step::MountScratch, DIRECTORY)?;
    }
    let open = |name: &str| Voice::open(&path(name)).or_fail(Step::MountScratch, &path(name));
    boot.apps.iter().map(|app| app.policy.notify.then(|| open(&app.name)).transpose()).collect()
}

impl Voice {
    fn open(path: &str) -> Result<Self, Errno> {
        Ok(Self { socket: socket::listen_to_all(path)?, more: false, taken: 0, window_end: None })
    }

    /// Has what comes told under `token`.
    pub fn register(&self, registry: &Registry, token: Token) -> std::io::Result<()> {
        registry.register(&mut SourceFd(&self.socket.as_raw_fd()), token, Interest::READABLE)
    }

    /// The kernel has told that there is something.
    pub fn rouse(&mut self) {
        self.more = true;
    }

    /// When there is something to be taken that the kernel does not tell of again.
    pub fn more_at(&self, now: Instant) -> Option<Instant> {
        let full = self.taken >= WINDOW_MAX;
        self.more.then(|| self.window_end.filter(|_| full).unwrap_or(now))
    }

    /// The next thing that the app has said; `None`: nothing, or nothing yet.
    pub fn hear(&mut self, now: Instant) -> Option<Heard> {
        if self.window_end.is_none_or(|end| end <= now) {
            self.taken = 0;
            self.window_end = now.checked_add(WINDOW);
        }
        if self.taken >= WINDOW_MAX {
            self.more = true;
            return None;
        }
        self.take()
    }

    /// The same for an app that has ended: it says no more than what the kernel has kept.
    pub fn hear_last(&mut self) -> Option<Heard> {
        self.take()
    }

    fn take(&mut self) -> Option<Heard> {
        let mut buffer = [0; NOTICE_BYTES_MAX];
        let Datagram { length, attached, from_inside } =
            match socket::receive_datagram(&self.socket, &mut buffer) {
                Ok(datagram) => datagram,
                Err(_) => {
                    self.more = false;
                    return None;
                }
            };
        self.more = true;
        self.taken += 1;
        let said = length.filter(|_| from_inside).and_then(|length| buffer.get(..length));
        Some(Heard { notice: said.map(Notice::parse).unwrap_or_default(), attached })
    }
}
