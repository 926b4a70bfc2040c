//! The sockets of `[socket.NAME]`: those that the service manager has passed, or our own.
//!
//! stage1 keeps them for the life of the pod, so that they stay open while no process of the app has them.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::errno::Errno;
use nix::fcntl::{self, AtFlags, OFlag};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::sys::stat::{Mode, SFlag, fstat, umask};
use nix::unistd::{Gid, Uid, fchownat};

use crate::error::Note;
use crate::plan::{Plan, SocketPlan};
use crate::pod::root::lock_before;
use crate::spec::Listen;

/// How long another podrun may be at work in the same directory.
const TURN_DEADLINE: Duration = Duration::from_secs(5);

/// An open socket with its name.
pub type Named = (String, OwnedFd);

/// What one app gets.
#[derive(Debug, Default)]
pub struct OfApp {
    /// Its sockets.
    pub sockets: Vec<Named>,
    /// What the service manager has kept for it, as the app calls it.
    pub stored: Vec<Named>,
}

/// The sockets of each app, in the order of the plan's apps. `passed` are those that the plan knows to be passed, in
/// its order.
///
/// # Errors
/// One of our own cannot be opened; none of them is left then.
pub fn open(plan: &Plan, passed: Vec<Named>) -> anyhow::Result<Vec<OfApp>> {
    let opened = open_all(plan, passed);
    if opened.is_err() {
        remove(&plan.sockets);
    }
    opened
}

fn open_all(plan: &Plan, passed: Vec<Named>) -> anyhow::Result<Vec<OfApp>> {
    let mut of_apps: Vec<OfApp> = plan.apps.iter().map(|_| OfApp::default()).collect();
    let is_stored = |(name, _): &Named| plan.stored.iter().any(|stored| stored.name == *name);
    let (stored, passed): (Vec<_>, Vec<_>) = passed.into_iter().partition(is_stored);
    let mut passed = passed.into_iter();
    for planned in &plan.sockets {
        let opened = match planned.is_passed {
            true => passed.next(),
            false => Some((planned.name.clone(), open_one(planned)?)),
        };
        if let Some(of_app) = of_apps.get_mut(planned.app) {
            of_app.sockets.extend(opened);
        }
    }
    for (planned, (_, descriptor)) in plan.stored.iter().zip(stored) {
        if let Some(of_app) = of_apps.get_mut(planned.app) {
            of_app.stored.push((planned.own_name().to_owned(), descriptor));
        }
    }
    Ok(of_apps)
}

fn open_one(planned: &SocketPlan) -> anyhow::Result<OwnedFd> {
    let context = || format!("cannot listen at `{}` for socket `{}`", planned.listen, planned.name);
    let opened = match &planned.listen {
        Listen::Path(path) => open_path(path, planned),
        // With SO_REUSEADDR, or the connections of the pod before this one would keep the port for a minute (tcp(7)).
        Listen::Address(address) => {
            TcpListener::bind(address).map(OwnedFd::from).map_err(errno).and_then(|opened| {
                listen(&opened, Backlog::new(planned.backlog)?)?;
                Ok(opened)
            })
        }
    };
    match opened {
        Err(Errno::ENOENT) => Err(Errno::ENOENT)
            .with_context(context)
            .hint("make the directory first, with RuntimeDirectory= of a service for example"),
        Err(Errno::EADDRINUSE) => Err(Errno::EADDRINUSE)
            .with_context(context)
            .hint("`ss -lxtp` tells who listens there; a file that is no socket must be removed by hand"),
        other => other.with_context(context),
    }
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or_default())
}

/// Nobody can connect before its owner is right: that takes listen(2). Its mode is right from the beginning, by the
/// umask; this process has one thread. Whoever may write to the directory could put another file in its place, so
/// nothing is done to a file by its path.
fn open_path(path: &Path, planned: &SocketPlan) -> Result<OwnedFd, Errno> {
    let opened = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let address = UnixAddr::new(path)?;
    let _turn = take_turn(path)?;
    remove_deserted(path);
    let before = umask(Mode::from_bits_truncate(!planned.mode & 0o777));
    let bound = bind(opened.as_raw_fd(), &address);
    umask(before);
    bound?;
    if let Some((user, group)) = planned.owner {
        give_to(path, (user, group))?;
    }
    listen(&opened, Backlog::new(planned.backlog)?)?;
    Ok(opened)
}

/// Gives a socket's file to somebody; another file that is there by now is left alone.
fn give_to(path: &Path, (user, group): (u32, u32)) -> Result<(), Errno> {
    let file = fcntl::open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    if SFlag::from_bits_truncate(fstat(&file)?.st_mode) & SFlag::S_IFMT != SFlag::S_IFSOCK {
        return Err(Errno::ENOTSOCK);
    }
    fchownat(&file, "", Some(Uid::from_raw(user)), Some(Gid::from_raw(group)), AtFlags::AT_EMPTY_PATH)
}

/// Between the look at a path and what is done there no other podrun does the same: a lock on its directory, held as long
/// as the value.
fn take_turn(path: &Path) -> Result<File, Errno> {
    let directory = File::open(path.parent().unwrap_or(Path::new("/"))).map_err(errno)?;
    match lock_before(&directory, Instant::now() + TURN_DEADLINE).map_err(errno)? {
        true => Ok(directory),
        false => Err(Errno::EBUSY),
    }
}

/// Removes a socket's file at which nobody listens any more: a pod that was killed has left it, or this one.
fn remove_deserted(path: &Path) {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket());
    if is_socket && !is_bound_here(path) && is_refused(path) {
        // Whoever binds there is told what is wrong with it.
        let _ = fs::remove_file(path);
    }
}

/// Whether a socket of this network namespace has the path. It is not asked: that would start a service of systemd.
fn is_bound_here(path: &Path) -> bool {
    // What stands before the path in a line has no slash (proc(5)).
    let has_path = |line: &str| line.find('/').is_some_and(|at| line.get(at..).map(Path::new) == Some(path));
    let table = fs::read("/proc/net/unix").unwrap_or_default();
    String::from_utf8_lossy(&table).lines().any(has_path)
}

/// Whether nobody takes connections there. Somebody who does, in another network namespace, sees one that ends at once.
fn is_refused(path: &Path) -> bool {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let asked = socket(AddressFamily::Unix, SockType::Stream, flags, None)
        .and_then(|asking| connect(asking.as_raw_fd(), &UnixAddr::new(path)?));
    asked == Err(Errno::ECONNREFUSED)
}

/// Removes the files of those sockets that the launcher has opened itself. After the end of the pod, which had them
/// open; may run twice.
pub fn remove(sockets: &[SocketPlan]) {
    for socket in sockets.iter().filter(|socket| !socket.is_passed) {
        let Listen::Path(path) = &socket.listen else { continue };
        // Without a turn nothing is done: the next `gc` comes here again.
        if let Ok(_turn) = take_turn(path) {
            remove_deserted(path);
        }
    }
}
