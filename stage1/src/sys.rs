//! System calls that nix and std do not wrap, and the only `unsafe` of stage1.
//!
//! Each function is one call with Rust types around it: no decisions, no retries but for EINTR, no text for people.
//! Errors are the kernel's errno and nothing else. Paths, policies and messages belong to the callers.
//!
//! Invariant: raw descriptor numbers exist in here only; outside there are [`descriptors::Inherited`],
//! `OwnedFd` and `BorrowedFd`.

pub mod descriptors;
#[cfg(not(test))]
pub mod entry;
pub mod mount;
pub mod process;
pub mod socket;
