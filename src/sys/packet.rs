//! Packets of stage1, with the descriptors that are attached to them.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use podrun_abi::handover::DESCRIPTORS_MAX;

/// Takes one packet: its length, 0 at the end of the connection, and what came with it, close-on-exec.
///
/// # Errors
/// EAGAIN when none is there on a non-blocking socket, and what else recvmsg(2) says.
pub fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut space = cmsg_space!([i32; DESCRIPTORS_MAX]);
    let mut parts = [IoSliceMut::new(buffer)];
    let message =
        recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut attached = Vec::new();
    for part in message.cmsgs().into_iter().flatten() {
        if let ControlMessageOwned::ScmRights(numbers) = part {
            // SAFETY: the kernel has just made these descriptors for this message, and nobody else owns them.
            attached.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    attached.iter().for_each(forbid_lingering);
    Ok((message.bytes, attached))
}

/// The last close of a connection may be ours, and is not to wait for its peer; what is none has no such option.
fn forbid_lingering(descriptor: &OwnedFd) {
    let _ = setsockopt(descriptor, sockopt::Linger, &nix::libc::linger { l_onoff: 0, l_linger: 0 });
}
