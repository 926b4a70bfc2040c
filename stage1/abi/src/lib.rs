//! What the launcher and stage1 say to each other, what both must read alike, and nothing else.
//!
//! [`handover::Handover`], with [`boot::Boot`] in a sealed memfd, and then [`control::Command`] go in and
//! [`event::Record`] comes out through one `SOCK_SEQPACKET` socket, one JSON text per packet. End of file on it means
//! that the other side is gone. The same commands come from `podrun stop` and `podrun kill` through the pod's control socket, each
//! answered by one [`control::Reply`].
//!
//! Invariant: no I/O, no `unsafe`, no path of a cgroup and no word of a cgroup version. Everything that comes
//! from inside the pod is bounded by [`PACKET_BYTES_MAX`] and refused when [`VERSION`] differs.
#![forbid(unsafe_code)]

pub mod boot;
pub mod control;
pub mod event;
pub mod executable;
pub mod failure;
pub mod handover;
pub mod notice;

/// The version of every type in this crate. Launcher and stage1 are installed together; a mismatch is refused.
pub const VERSION: u32 = 1;

/// No packet on the event or the control socket is longer, in bytes.
pub const PACKET_BYTES_MAX: usize = 16 * 1024;
