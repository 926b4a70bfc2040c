//! The descriptors of the pod's and the apps' cgroups and of the apps' standard streams, made here and sent to stage1.
//!
//! A stage1 that has ended takes nothing more; that is no error here, for why it ended is told by its records.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use podrun_abi::boot::Boot;
use podrun_abi::control::{Command, Request};
use podrun_abi::handover::{Handover, Owner, Place, Stdio};

use super::{Output, Stream};
use crate::cgroup::cgroupfs::PodCgroup;
use crate::plan::Plan;
use crate::pod::dir::PodDir;
use crate::sockets::{Named, OfApp};
use crate::sys::{detach, memfd};

/// How long stage1 may take nothing. It needs milliseconds; one that hangs in a dead file system never will.
const PATIENCE: Duration = Duration::from_secs(60);

/// A packet and the descriptors that go with it.
pub struct Packet {
    text: Vec<u8>,
    attached: Vec<OwnedFd>,
}

impl Packet {
    fn new(of: Owner, attached: Vec<OwnedFd>) -> anyhow::Result<Self> {
        let packet = Handover { version: podrun_abi::VERSION, of };
        Ok(Self { text: serde_json::to_vec(&packet).context("cannot write a packet to stage1")?, attached })
    }
}

/// The boot record and the descriptors of the pod.
pub fn of_pod(boot: &Boot, dir: &PodDir, cgroup: &PodCgroup) -> anyhow::Result<Packet> {
    let text = serde_json::to_vec(boot).context("cannot write the boot record")?;
    let mut attached = vec![memfd::sealed(c"podrun-boot", &text)?, dir.control()?, dir.events()?];
    let watched = cgroup.watch_pod(&mut attached)?;
    Packet::new(Owner::Pod { boot: 0, control: 1, events: 2, watched }, attached)
}

/// Opens what the apps need; the reading ends of their streams stay here.
pub fn of_apps(
    plan: &Plan,
    cgroup: &PodCgroup,
    sockets: &[OfApp],
) -> anyhow::Result<(Vec<Packet>, Vec<Output>)> {
    let mut packets = Vec::with_capacity(plan.apps.len());
    let mut outputs = Vec::with_capacity(plan.apps.len() * 2);
    for ((index, app), own) in plan.apps.iter().enumerate().zip(sockets) {
        let (group, mut attached) = cgroup.app(&app.name)?;
        let mut stream = |stream: Stream| -> anyhow::Result<usize> {
            let (pipe, writer) = pipe()?;
            outputs.push(Output { app: index, stream, pipe });
            attached.push(writer);
            Ok(attached.len() - 1)
        };
        let stdio = match app.output.is_piped() {
            true => Some(Stdio { stdout: stream(Stream::Stdout)?, stderr: stream(Stream::Stderr)? }),
            false => None,
        };
        let sockets = attach(&own.sockets, &mut attached)?;
        let stored = attach(&own.stored, &mut attached)?;
        let of = Owner::App { cgroup: group, stdio, sockets, stored };
        packets.push(Packet::new(of, attached)?);
    }
    Ok((packets, outputs))
}

/// Copies of these go along; says at which places.
fn attach(named: &[Named], attached: &mut Vec<OwnedFd>) -> anyhow::Result<Vec<Place>> {
    let first = attached.len();
    for (name, descriptor) in named {
        let copy = descriptor.try_clone().with_context(|| format!("cannot hand over socket `{name}`"))?;
        attached.push(copy);
    }
    Ok((first..attached.len()).collect())
}

/// A pipe with a non-blocking reading end.
fn pipe() -> anyhow::Result<(OwnedFd, OwnedFd)> {
    let (pipe, writer) = detach::pipe()?;
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("cannot make a pipe non-blocking")?;
    Ok((pipe, writer))
}

/// Hands packets over; says whether stage1 was there to take them.
pub fn send(socket: &OwnedFd, packets: &[Packet]) -> anyhow::Result<bool> {
    for packet in packets {
        let attached: Vec<RawFd> = packet.attached.iter().map(AsRawFd::as_raw_fd).collect();
        if !send_one(socket, &packet.text, &attached)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Says go behind the packets that were handed over; says whether stage1 was there to take it.
pub fn go(socket: &OwnedFd) -> anyhow::Result<bool> {
    send_one(socket, &command(Command::Go)?, &[])
}

/// The packet of a command.
pub fn command(command: Command) -> anyhow::Result<Vec<u8>> {
    serde_json::to_vec(&Request { version: podrun_abi::VERSION, command }).context("cannot write a command")
}

fn send_one(socket: &OwnedFd, text: &[u8], attached: &[RawFd]) -> anyhow::Result<bool> {
    let rights = [ControlMessage::ScmRights(attached)];
    let rights = if attached.is_empty() { &[] } else { &rights[..] };
    let deadline = Instant::now() + PATIENCE;
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(text)], rights, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(_) => return Ok(true),
            Err(Errno::EPIPE | Errno::ECONNRESET) => return Ok(false),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => wait_for_room(socket, deadline)?,
            Err(errno) => return Err(errno).context("cannot hand descriptors over to stage1"),
        }
    }
}

fn wait_for_room(socket: &OwnedFd, deadline: Instant) -> anyhow::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        bail!("stage1 has taken nothing for {} s", PATIENCE.as_secs());
    }
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)], timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno).context("cannot wait for stage1"),
    }
}
