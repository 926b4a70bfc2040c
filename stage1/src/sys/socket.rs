//! Packets over `SOCK_SEQPACKET`, never blocking unless the name says so.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use std::io::{IoSlice, IoSliceMut};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    UnixCredentials, accept4, bind, getsockopt, recv, recvmsg, send, sendmsg, setsockopt, socket, socketpair,
    sockopt,
};
use nix::sys::stat::{Mode, umask};
use podrun_abi::handover::DESCRIPTORS_MAX;

use crate::foreign::Foreign;
use crate::sys::descriptors::Inherited;

/// What one receive gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// A packet of this many bytes.
    Packet(usize),
    /// A packet that did not fit; its end is lost.
    TooLong,
    /// The other end is closed.
    Closed,
    /// Nothing is there yet.
    Nothing,
}

/// Two connected ends, both close-on-exec.
pub fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
}

/// Takes one packet if one is there. An error of the connection counts as closed: nothing more will come.
pub fn receive(socket: &impl AsFd, buffer: &mut [u8]) -> Received {
    receive_with(socket, buffer, MsgFlags::MSG_DONTWAIT)
}

/// Waits for one packet.
pub fn receive_blocking(socket: &impl AsFd, buffer: &mut [u8]) -> Received {
    receive_with(socket, buffer, MsgFlags::empty())
}

fn receive_with(socket: &impl AsFd, buffer: &mut [u8], flags: MsgFlags) -> Received {
    loop {
        // With MSG_TRUNC the answer is the packet's own length, also when that is more than the buffer's.
        match recv(socket.as_fd().as_raw_fd(), buffer, flags | MsgFlags::MSG_TRUNC) {
            Ok(0) => return Received::Closed,
            Ok(length) if length > buffer.len() => return Received::TooLong,
            Ok(length) => return Received::Packet(length),
            // unix(7) tells once, before what is still to be read, that the other end was closed with something
            // unread in it.
            Err(Errno::EINTR | Errno::ECONNRESET) => {}
            Err(Errno::EAGAIN) => return Received::Nothing,
            Err(_) => return Received::Closed,
        }
    }
}

/// Waits for one packet on a non-blocking socket, with the descriptors that are attached to it. What does not fit is
/// [`Received::TooLong`], and then there are none.
pub fn receive_attached(socket: &impl AsFd, buffer: &mut [u8]) -> (Received, Vec<Inherited>) {
    let mut space = cmsg_space!([i32; DESCRIPTORS_MAX]);
    let wait = || poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
    loop {
        let mut parts = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<UnixAddr>(socket.as_fd().as_raw_fd(), &mut parts, Some(&mut space), flags) {
            Ok(message) => {
                let (length, flags) = (message.bytes, message.flags);
                let attached =
                    message.cmsgs().map(|all| all.flat_map(inherited).collect()).unwrap_or_default();
                return match length {
                    _ if flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) => {
                        (Received::TooLong, vec![])
                    }
                    0 => (Received::Closed, vec![]),
                    _ => (Received::Packet(length), attached),
                };
            }
            Err(Errno::EINTR | Errno::ECONNRESET) => {}
            // An error of the wait shows again at the next look.
            Err(Errno::EAGAIN) => drop(wait()),
            Err(_) => return (Received::Closed, vec![]),
        }
    }
}

fn inherited(message: ControlMessageOwned) -> Vec<Inherited> {
    match message {
        ControlMessageOwned::ScmRights(numbers) => numbers.into_iter().map(Inherited::received).collect(),
        _ => Vec::new(),
    }
}

/// Sends one packet; EAGAIN when the other end does not keep up.
pub fn transmit(socket: &impl AsFd, packet: &[u8]) -> Result<(), Errno> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    loop {
        match send(socket.as_fd().as_raw_fd(), packet, flags) {
            Err(Errno::EINTR) => {}
            sent => return sent.map(drop),
        }
    }
}

/// Sends one packet with descriptors.
pub fn transmit_with(socket: &impl AsFd, packet: &[u8], attached: &[OwnedFd]) -> Result<(), Errno> {
    if attached.is_empty() {
        return transmit(socket, packet);
    }
    let numbers: Vec<_> = attached.iter().map(AsRawFd::as_raw_fd).collect();
    let (text, rights) = ([IoSlice::new(packet)], [ControlMessage::ScmRights(&numbers)]);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    loop {
        match sendmsg::<()>(socket.as_fd().as_raw_fd(), &text, &rights, flags, None) {
            Err(Errno::EINTR) => {}
            sent => return sent.map(drop),
        }
    }
}

/// A non-blocking socket at `path` that takes datagrams from everybody who reaches it.
pub fn listen_to_all(path: &str) -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let opened = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
    setsockopt(&opened, sockopt::PassCred, &true)?;
    let before = umask(Mode::from_bits_truncate(0o111));
    let bound = bind(opened.as_raw_fd(), &UnixAddr::new(path)?);
    umask(before);
    bound.map(|()| opened)
}

/// A datagram of [`listen_to_all`].
pub struct Datagram {
    /// `None`: it did not fit.
    pub length: Option<usize>,
    /// What came with it.
    pub attached: Foreign,
    /// Its sender is in this process's pid namespace, or below it.
    pub from_inside: bool,
}

/// Takes one datagram if one is there, with what is attached to it, as far as this process may have descriptors.
pub fn receive_datagram(socket: &impl AsFd, buffer: &mut [u8]) -> Result<Datagram, Errno> {
    let mut space = cmsg_space!([i32; DESCRIPTORS_MAX], UnixCredentials);
    loop {
        let mut parts = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<UnixAddr>(socket.as_fd().as_raw_fd(), &mut parts, Some(&mut space), flags) {
            Ok(message) => {
                let length = Some(message.bytes).filter(|_| !message.flags.contains(MsgFlags::MSG_TRUNC));
                let mut datagram = Datagram { length, attached: Foreign::default(), from_inside: false };
                for part in message.cmsgs().into_iter().flatten() {
                    match part {
                        ControlMessageOwned::ScmRights(numbers) => datagram.attached.0.extend(
                            // SAFETY: the kernel has just made these descriptors for this message, and nobody else
                            // owns them.
                            numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }),
                        ),
                        // Who is in no namespace of ours has no number here.
                        ControlMessageOwned::ScmCredentials(sender) => {
                            datagram.from_inside = sender.pid() != 0
                        }
                        _ => {}
                    }
                }
                return Ok(datagram);
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Accepts one connection of a non-blocking listener.
pub fn accept(listener: &impl AsFd) -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = accept4(listener.as_fd().as_raw_fd(), flags)?;
    // SAFETY: accept4 has just made this descriptor and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `(pid, uid)` of the process that connected; pid 0 is one outside this process's pid namespace.
pub fn peer(socket: &impl AsFd) -> Result<(i32, u32), Errno> {
    let peer = getsockopt(&socket.as_fd(), sockopt::PeerCredentials)?;
    Ok((peer.pid(), peer.uid()))
}
