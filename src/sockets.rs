//! The sockets of `[socket.NAME]`: those that the service manager has passed, or our own.
//!
//! stage1 keeps them for the life of the pod, so that they stay open while no process of the app has them.

use std::fs;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use anyhow::Context;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};

use crate::error::Note;
use crate::plan::{Plan, SocketPlan};
use crate::spec::Listen;

/// An open socket with its name.
pub type Named = (String, OwnedFd);

/// The sockets of each app, in the order of the plan's apps. `passed` are those that the plan knows to be passed, in
/// its order.
///
/// # Errors
/// One of our own cannot be opened; none of them is left then.
pub fn open(plan: &Plan, passed: Vec<Named>) -> anyhow::Result<Vec<Vec<Named>>> {
    let opened = open_all(plan, passed);
    if opened.is_err() {
        remove(&plan.sockets);
    }
    opened
}

fn open_all(plan: &Plan, passed: Vec<Named>) -> anyhow::Result<Vec<Vec<Named>>> {
    let mut of_apps: Vec<Vec<Named>> = plan.apps.iter().map(|_| Vec::new()).collect();
    let mut passed = passed.into_iter();
    for planned in &plan.sockets {
        let opened = match planned.is_passed {
            true => passed.next(),
            false => Some((planned.name.clone(), open_one(planned)?)),
        };
        if let Some(of_app) = of_apps.get_mut(planned.app) {
            of_app.extend(opened);
        }
    }
    Ok(of_apps)
}

fn open_one(planned: &SocketPlan) -> anyhow::Result<OwnedFd> {
    let context = || format!("cannot listen at `{}` for socket `{}`", planned.listen, planned.name);
    let opened = match &planned.listen {
        Listen::Path(path) => open_path(path, planned),
        // With SO_REUSEADDR, or the connections of the pod before this one would keep the port for a minute (tcp(7)).
        Listen::Address(address) => TcpListener::bind(address).map(OwnedFd::from).map_err(errno),
    };
    let listening = opened.and_then(|opened| {
        listen(&opened, Backlog::new(planned.backlog)?)?;
        Ok(opened)
    });
    match listening {
        Err(Errno::EADDRINUSE) => Err(Errno::EADDRINUSE)
            .with_context(context)
            .hint("`ss -lxtp` tells who listens there; a file that is no socket must be removed by hand"),
        other => other.with_context(context),
    }
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or_default())
}

/// Nobody can connect before its owner and mode are right: that takes listen(2).
fn open_path(path: &Path, planned: &SocketPlan) -> Result<OwnedFd, Errno> {
    let opened = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    remove_deserted(path);
    bind(opened.as_raw_fd(), &UnixAddr::new(path)?)?;
    if let Some((user, group)) = planned.owner {
        std::os::unix::fs::chown(path, Some(user), Some(group)).map_err(errno)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(planned.mode)).map_err(errno)?;
    Ok(opened)
}

/// Removes a socket's file at which nobody listens any more: a pod that was killed has left it, or this one.
fn remove_deserted(path: &Path) {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket());
    if is_socket && is_refused(path) {
        // Whoever binds there is told what is wrong with it.
        let _ = fs::remove_file(path);
    }
}

/// Whether nobody takes connections there. Somebody who does sees one that ends at once.
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
        if let Listen::Path(path) = &socket.listen {
            remove_deserted(path);
        }
    }
}
