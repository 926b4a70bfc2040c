//! The system calls that nix has no safe form for; the only `unsafe` of the launcher is below here.
//!
//! Nothing in here decides anything: each function is one kernel operation with its proof.

pub mod bpf;
pub mod clone3;
pub mod detach;
pub mod environment;
pub mod held;
pub mod listen;
pub mod memfd;
pub mod mount;
pub mod overlay;
pub mod packet;
pub mod pidfd;
pub mod placeholder;
pub mod tasks;
pub mod text;
pub mod xattr;
