//! Where an app's standard output and error go, opened by the app's child before it builds its root.
//!
//! The journal takes what it tells of a stream's origin from the process that connects, so the child does that when it
//! is in the app's cgroup, by way of the socket in stage1's own tree. No byte of the app's passes through podrun.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, UnixAddr, connect, send, setsockopt, shutdown,
    socket, sockopt,
};
use podrun_abi::boot::{App, Output as Wanted};
use podrun_abi::failure::{StartFailure, Step};

use crate::failure::{OrFail, refused};
use crate::handover::AppHandles;
use crate::sys::descriptors::Inherited;

/// Where the directory of the journal's sockets is in stage1's tree.
pub const JOURNAL: &str = "/journal";
/// So much an app can write before it waits for the journal: what systemd gives to its services.
const BUFFER_BYTES: usize = 8 << 20;

/// What becomes descriptors 1 and 2.
pub enum Output {
    /// Handed over by the launcher.
    Given(Inherited, Inherited),
    /// Connections to the journal.
    Journal(OwnedFd, OwnedFd),
    /// The null device, which is in the app's root.
    Nothing,
}

/// Opens it; the process is in the app's cgroup.
pub fn open(app: &App, handles: &AppHandles) -> Result<Output, StartFailure> {
    match (&app.output, handles.stdio) {
        (Wanted::Given, Some((stdout, stderr))) => Ok(Output::Given(stdout, stderr)),
        (Wanted::Given, None) => Err(refused(&format!("no standard streams for app {}", app.name))),
        (Wanted::Journal { stdout, stderr }, _) => {
            let stream = |header: &str| connect_stream(header).or_fail(Step::SetStdio, "journal");
            Ok(Output::Journal(stream(stdout)?, stream(stderr)?))
        }
        (Wanted::Nothing, _) => Ok(Output::Nothing),
    }
}

/// One stream. The empty line behind the header makes no entry, but has the journal look at once where this process
/// is, which it would otherwise do at the first line, when that process may have ended.
fn connect_stream(header: &str) -> Result<OwnedFd, Errno> {
    let stream = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let number = stream.as_raw_fd();
    connect(number, &UnixAddr::new(format!("{JOURNAL}/stdout").as_str())?)?;
    // It only says more than it asks, which the kernel cuts.
    let _ = setsockopt(&stream, sockopt::SndBuf, &BUFFER_BYTES);
    shutdown(number, Shutdown::Read)?;
    let bytes = format!("{header}\n");
    // A stream socket of an empty buffer takes these few bytes whole.
    send(number, bytes.as_bytes(), MsgFlags::MSG_NOSIGNAL)?;
    Ok(stream)
}
