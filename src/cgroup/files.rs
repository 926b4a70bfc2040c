//! Directories and files of a hierarchy, always relative to an open directory.
//!
//! Nothing here follows a link in the last component, and every descriptor is close-on-exec. The trees of
//! cgroupfs hold no links at all; what could be one is in front of the mount point, which the kernel told us.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, bail};
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, fstatfs};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::cgroup::plan::{Setting, Version};

const DIRECTORY: OFlag =
    OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// A group by its path, which must lie in a hierarchy of this version.
pub(super) fn open_group(path: &Path, version: Version) -> io::Result<OwnedFd> {
    let dir = open(path, DIRECTORY, Mode::empty())?;
    let magic = if version == Version::V1 { CGROUP_SUPER_MAGIC } else { CGROUP2_SUPER_MAGIC };
    if fstatfs(&dir)?.filesystem_type() != magic {
        return Err(io::Error::other("is not in a control-group hierarchy of the expected version"));
    }
    Ok(dir)
}

/// A group below an open one.
pub(super) fn open_group_at(dir: impl AsFd, path: &str) -> nix::Result<OwnedFd> {
    openat(dir, path, DIRECTORY, Mode::empty())
}

/// A group below an open one, as something else than a place in a path: bpf(2) takes no O_PATH on older kernels.
pub(super) fn open_group_to_read(dir: impl AsFd, path: &str) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(dir, path, flags, Mode::empty())
}

/// Makes a group.
pub(super) fn make_group(dir: impl AsFd, name: &str) -> nix::Result<()> {
    mkdirat(dir, name, Mode::from_bits_truncate(0o755))
}

/// Removes an empty group; that it is not there is fine.
pub(super) fn remove_group(dir: impl AsFd, name: &Path) -> nix::Result<()> {
    match unlinkat(dir, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT | Errno::ENODEV) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// A file of a group.
pub(super) fn open_file(dir: impl AsFd, path: &str, access: OFlag) -> nix::Result<OwnedFd> {
    openat(dir, path, access | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
}

/// The text of a file of a group.
pub(super) fn read(dir: impl AsFd, path: &str) -> io::Result<String> {
    read_again(&File::from(open_file(dir, path, OFlag::O_RDONLY)?))
}

/// The text of an open file from its start. Lists of processes can be long; everything else fits the first read.
fn read_again(file: &File) -> io::Result<String> {
    let mut text = Vec::new();
    let mut buffer = [0_u8; 4096];
    loop {
        let length = file.read_at(&mut buffer, text.len() as u64)?;
        text.extend_from_slice(buffer.get(..length).unwrap_or_default());
        if length == 0 || text.len() > 1 << 20 {
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
    }
}

/// Writes a value in one write(2), as the kernel's parsers need it.
pub(super) fn write(dir: impl AsFd, path: &str, value: &str) -> io::Result<()> {
    write_all(&File::from(open_file(dir, path, OFlag::O_WRONLY)?), value)
}

fn write_all(file: &File, value: &str) -> io::Result<()> {
    let written = file.write_at(value.as_bytes(), 0)?;
    if written == value.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Writes a value and compares what the kernel shows afterwards: it rounds, clamps and ignores in silence.
pub(super) fn write_and_verify(dir: impl AsFd, path: &str, setting: &Setting) -> anyhow::Result<()> {
    let (value, expected) = (&setting.value, &setting.reads_back);
    let file =
        File::from(open_file(dir, path, OFlag::O_RDWR).map_err(io::Error::from).context("cannot open")?);
    write_all(&file, value).with_context(|| format!("cannot write `{value}`"))?;
    // One read: a file that holds a limit fits many times.
    let mut buffer = [0_u8; 4096];
    let length = file.read_at(&mut buffer, 0).context("cannot read back")?;
    let shown = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
    if !setting.shows.agrees(&shown, expected) {
        bail!("shows `{}` after `{value}` was written, expected `{expected}`", shown.trim_end());
    }
    Ok(())
}

/// The groups directly below an open one.
pub(super) fn children(dir: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    let mut dir =
        Dir::openat(dir, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if entry.file_type() == Some(Type::Directory) && name != b"." && name != b".." {
            names.push(OsString::from_vec(name.to_vec()));
        }
    }
    Ok(names)
}

/// The processes of one group, as this pid namespace numbers them; those it cannot see are 0.
pub(super) fn processes(dir: BorrowedFd<'_>) -> io::Result<Vec<i32>> {
    Ok(read(dir, "cgroup.procs")?.lines().filter_map(|line| line.parse().ok()).collect())
}
