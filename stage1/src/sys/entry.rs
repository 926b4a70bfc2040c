//! Where the C library enters the program.
//!
//! Rust's own entry prepares what stage1 has no use for: it reads `/proc/self/maps` for the guard page of a stack that
//! the kernel guards, and installs handlers that a PID 1 would take away again ([`crate::boot`]). Every pod waits for
//! that. Arguments are there without it, std collects them as a constructor.

use std::ffi::{c_char, c_int};

/// The C library's `main`.
// SAFETY: no other symbol of this program has this name, and this is the type that the C library calls it with.
#[unsafe(no_mangle)]
extern "C" fn main(_count: c_int, _words: *const *const c_char) -> c_int {
    c_int::from(crate::run())
}
