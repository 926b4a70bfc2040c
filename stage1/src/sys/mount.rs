//! Calls of the mount interface that nix lacks.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

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

/// A copy of the mount at `path` that is attached nowhere yet; it goes with its descriptor unless it is attached.
pub fn detached_copy(path: &CStr) -> Result<OwnedFd, Errno> {
    const OPEN_TREE_CLONE: u32 = 1;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as u32;
    // SAFETY: `path` is a C string that outlives the call; nothing else is passed by pointer.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    let tree = Errno::result(tree)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(tree as i32) })
}

/// Attaches what [`detached_copy`] made.
pub fn attach(tree: &OwnedFd, path: &CStr) -> Result<(), Errno> {
    const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;
    // SAFETY: both paths are C strings that outlive the call; the empty one means the descriptor itself.
    let moved = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            path.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    Errno::result(moved).map(drop)
}
