//! Whether an app's root can be the lower layer of an overlay here.
//!
//! A start looks at what costs next to nothing, and asks the kernel only where that leaves a doubt; `check --host`
//! always asks. Where we may not ask there is no answer, and none is made up.

use std::ffi::CString;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, FsType, NFS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC,
    XFS_SUPER_MAGIC, fstatfs, statfs,
};

use super::read_bounded;
use crate::sys::overlay;

/// File systems that overlays are over every day.
const USUAL: [FsType; 5] =
    [BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, NFS_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC];

/// The look of a start.
///
/// # Errors
/// Why it cannot be, to be read after the words "is not possible".
pub fn glance(root: BorrowedFd<'_>, rootfs: &Path) -> Result<(), String> {
    let is_usual = fstatfs(root).is_ok_and(|stat| USUAL.contains(&stat.filesystem_type()));
    if is_usual && is_there() { Ok(()) } else { look(rootfs) }
}

/// Whether the kernel has it already, as a module that is loaded or a part of itself.
fn is_there() -> bool {
    let kinds = read_bounded(Path::new("/proc/filesystems")).unwrap_or_default();
    kinds.split(|byte| *byte == b'\n').any(|line| line == b"nodev\toverlay")
}

/// Asks the kernel.
///
/// # Errors
/// As [`glance`].
pub fn look(rootfs: &Path) -> Result<(), String> {
    // A path of the manifest's holds no NUL.
    let Ok(name) = CString::new(rootfs.as_os_str().as_bytes()) else { return Ok(()) };
    let Ok(Some(Err(errno))) = overlay::lower_layer(&name) else { return Ok(()) };
    let is_overlay = statfs(rootfs).is_ok_and(|stat| stat.filesystem_type() == OVERLAYFS_SUPER_MAGIC);
    Err(words(errno, rootfs, is_overlay, in_user_namespace()))
}

pub(super) fn words(errno: Errno, rootfs: &Path, is_overlay: bool, in_user_namespace: bool) -> String {
    let over = format!("over {}", rootfs.display());
    match errno {
        Errno::ENODEV => ": this kernel has no overlay file system".to_owned(),
        _ if in_user_namespace => format!(" {over} in a user namespace"),
        Errno::EINVAL if is_overlay => {
            format!(" {over}: it is on an overlay over an overlay, and the kernel stacks no more")
        }
        Errno::EINVAL => format!(" {over}: the file system there cannot be below an overlay"),
        other => format!(" {over}: {}", other.desc()),
    }
}

/// The first one has all ids (user_namespaces(7)).
fn in_user_namespace() -> bool {
    let map = read_bounded(Path::new("/proc/self/uid_map")).unwrap_or_default();
    let map = String::from_utf8_lossy(&map);
    !map.is_empty() && map.split_whitespace().ne(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_refused_is_told_in_words() {
        let table = [
            (Errno::ENODEV, false, false, ": this kernel has no overlay file system"),
            (Errno::EPERM, false, true, " over / in a user namespace"),
            (
                Errno::EINVAL,
                true,
                false,
                " over /: it is on an overlay over an overlay, and the kernel stacks no more",
            ),
            (Errno::EINVAL, false, false, " over /: the file system there cannot be below an overlay"),
            (Errno::ENOMEM, false, false, " over /: Out of memory"),
        ];
        for (errno, is_overlay, in_user_namespace, expected) in table {
            assert_eq!(words(errno, Path::new("/"), is_overlay, in_user_namespace), expected);
        }
    }

    #[test]
    fn a_usual_directory_can_be_below_an_overlay_or_is_not_judged() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(look(directory.path()), Ok(()));
        assert_eq!(look(Path::new("/nonexistent")), Ok(()));
    }
}
