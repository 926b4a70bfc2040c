//! Calls of the mount interface that nix lacks.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

/// Flags for [`add_flags`]; from linux/mount.h.
pub const RDONLY: u64 = 0x1;
/// No device nodes.
pub const NODEV: u64 = 0x4;

/// struct mount_attr of linux/mount.h.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Adds `flags` to the mount at `path`, below `dir`, and leaves those it has: mount_setattr(2).
///
/// A bind remount would replace all of them and so drop the `noexec` or `nosuid` of the host's own mount.
pub fn add_flags(dir: &impl AsFd, path: &CStr, flags: u64) -> Result<(), Errno> {
    let attr = MountAttr { attr_set: flags, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let empty_path = if path.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
    // SAFETY: the kernel reads `size_of::<MountAttr>()` bytes at `&attr` and a string at `path` that ends with
    // NUL; both live until the call returns. `MountAttr` is the kernel's first version of the struct, 32 bytes.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_fd().as_raw_fd(),
            path.as_ptr(),
            empty_path,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    Errno::result(done).map(drop)
}
