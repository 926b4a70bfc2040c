//! Where the C library enters the program. Part of the program alone: tests are entered elsewhere.
//!
//! Rust's own entry reads `/proc/self/maps` for the guard page of a stack that the kernel guards, and installs handlers
//! that name a stack overflow; every pod waits for that, a hundredth of its start. What podrun needs of it is done
//! here. Arguments are there without it, std collects them as a constructor.

use std::ffi::{c_char, c_int};

#[cfg(not(target_env = "gnu"))]
compile_error!(
    "with glibc alone std has the arguments of a program that is not entered through its own main"
);

/// The C library's `main`.
// SAFETY: no other symbol of this program has this name, and this is the type that the C library calls it with.
#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn main(_count: c_int, _words: *const *const c_char) -> c_int {
    fill_standard_streams();
    // A reader that is gone is an error of write(2), and the ordered stop.
    // SAFETY: SIG_IGN is no handler, so that nothing of ours runs in a signal's context.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    c_int::from(crate::run())
}

/// Opens the null device where 0, 1 or 2 is closed: the next file that is opened would be taken for a stream. Where that
/// does not go nothing else will.
fn fill_standard_streams() {
    loop {
        // SAFETY: open takes a path that ends with NUL and lives for ever.
        let opened = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
        if opened > libc::STDERR_FILENO {
            // SAFETY: it was opened here, and nobody else knows it.
            unsafe { libc::close(opened) };
        }
        if opened > libc::STDERR_FILENO {
            return;
        }
        if opened < 0 {
            std::process::abort();
        }
    }
}
