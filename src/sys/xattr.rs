//! Extended attributes: systemd marks the groups that it delegates with one.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Whether the attribute is there and its value is the one character `1`.
#[must_use]
pub fn is_one(file: BorrowedFd<'_>, name: &CStr) -> bool {
    let mut value = [0_u8; 2];
    // SAFETY: `name` is a C string that outlives the call, and the kernel writes at most `value.len()` bytes to
    // `value`, which lives on this stack until it returns.
    let length =
        unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    length == 1 && value.first() == Some(&b'1')
}
