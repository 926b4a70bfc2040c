//! stage1's own mount tree: a small tmpfs with what the apps' roots are built from, and nothing of the host.
//!
//! `/roots/N` are the root directories of the boot record, `/proc` is that of the pod's pid namespace, `/dev` has
//! the six devices of every app, `/journal` the sockets of the host's journal where an app writes to it, `/layers` and
//! `/merged` are empty places where an app's child, in its own copy of this tree, mounts its overlay. `/empty` stands over every masked directory and `/views`, with a directory
//! for each hierarchy, under `/sys/fs/cgroup`; both are read-only mounts of their own, made once for all apps. Invariant: everything is private, so the host's mount table never changes,
//! and copies of this tree are private without another call.

use std::ffi::{CStr, CString};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod, stat};
use nix::unistd::{chdir, chown, dup2_stdin, dup2_stdout, mkdir, pivot_root};
use podrun_abi::boot::{Boot, CgroupView, Device};
use podrun_abi::failure::{StartFailure, Step};

use crate::failure::{OrFail, failed};
use crate::output::JOURNAL;
use crate::sys::mount::{NODEV, RDONLY, add_flags};

/// Where an app's child mounts the tmpfs with the upper layer.
pub const LAYERS: &str = "/layers";
/// Where an app's child mounts its overlay.
pub const MERGED: &str = "/merged";
/// Stands over every masked directory.
pub const EMPTY: &CStr = c"/empty";
/// What `/sys/fs/cgroup` is made of when there are several hierarchies.
pub const VIEWS: &str = "/views";
/// No argument for mount(2).
pub const NONE: Option<&str> = None;

/// The devices of every app, with their minor numbers; the major is that of `tty`'s or of memory devices.
pub const DEVICES: [(&str, u64, u64); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Where the root directory `index` is.
pub fn root_path(index: usize) -> String {
    format!("/roots/{index}")
}

/// Where the device `index` of an app is, below the root of the tree.
pub fn device_path(app: &str, index: usize) -> String {
    format!("/nodes/{app}/{index}")
}

/// Builds the tree over the scratch directory and pivots into it.
pub fn build_pod_tree(boot: &Boot) -> Result<(), StartFailure> {
    let scratch = boot.pod.scratch.as_str();
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).or_fail(Step::MountScratch, "/")?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(Some("podrun"), scratch, Some("tmpfs"), flags, Some("mode=0700,size=4m"))
        .or_fail(Step::MountScratch, scratch)?;
    chdir(scratch).or_fail(Step::MountScratch, scratch)?;
    for name in ["roots", "dev", "proc", &LAYERS[1..], &MERGED[1..]] {
        make_directory(name).or_fail(Step::MountScratch, name)?;
    }
    make_shared("empty", &[]).or_fail(Step::MountScratch, "empty")?;
    make_shared("views", &boot.cgroup_views).or_fail(Step::MountScratch, "views")?;
    bind_roots(boot)?;
    if let Some(journal) = &boot.journal {
        bind_journal(journal).or_fail(Step::BindRoot, journal)?;
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "proc", Some("proc"), flags, NONE).or_fail(Step::MountProc, "/proc")?;
    let old = umask_none();
    let devices = make_own_devices().and_then(|()| make_named_devices(boot));
    nix::sys::stat::umask(old);
    devices?;
    pivot().or_fail(Step::PivotRoot, scratch)?;
    leave_standard_streams()
}

/// A directory that apps see by binds of it. A bind has the flags of the mount it is made from, so nobody can
/// write through one.
fn make_shared(name: &str, views: &[CgroupView]) -> Result<(), Errno> {
    make_directory(name)?;
    let named = views.iter().filter(|view| !view.name.is_empty());
    named.map(|view| format!("{name}/{}", view.name)).try_for_each(|path| make_directory(&path))?;
    mount(Some(name), name, NONE, MsFlags::MS_BIND, NONE)?;
    let path = CString::new(name).map_err(|_| Errno::EINVAL)?;
    add_flags(&nix::fcntl::AT_FDCWD, &path, RDONLY | NODEV)
}

/// Makes the working directory the root and unmounts the old one: pivot_root(2) with `.` twice puts the old root
/// on top of the new one, so that no directory for it is needed.
pub fn pivot() -> Result<(), Errno> {
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")
}

/// Lets the modes of files that are made next be as they are given; returns the mask to go back to.
pub fn umask_none() -> Mode {
    nix::sys::stat::umask(Mode::empty())
}

/// One directory, for everybody to enter.
pub fn make_directory(path: &str) -> Result<(), Errno> {
    mkdir(path, Mode::from_bits_truncate(0o755))
}

/// Makes device node `dev/NAME` below the working directory.
pub fn make_node(path: &str, major: u64, minor: u64) -> Result<(), Errno> {
    mknod(path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(major, minor))
}

/// An empty file as the target of a bind of `source`.
pub fn bind_file(source: &str, target: &str) -> Result<(), Errno> {
    open(target, OFlag::O_CREAT | OFlag::O_CLOEXEC, Mode::from_bits_truncate(0o644))?;
    mount(Some(source), target, NONE, MsFlags::MS_BIND, NONE)
}

/// Not recursive: what is mounted below a root directory is not part of it.
fn bind_roots(boot: &Boot) -> Result<(), StartFailure> {
    for (index, root) in boot.roots.iter().enumerate() {
        let target = root_path(index);
        let target = &target[1..];
        make_directory(target).or_fail(Step::BindRoot, root)?;
        mount(Some(root.as_str()), target, NONE, MsFlags::MS_BIND, NONE).or_fail(Step::BindRoot, root)?;
    }
    Ok(())
}

/// The directory and not the socket in it, which is another one when systemd has made it anew.
fn bind_journal(source: &str) -> Result<(), Errno> {
    let target = &JOURNAL[1..];
    make_directory(target)?;
    mount(Some(source), target, NONE, MsFlags::MS_BIND, NONE)?;
    let path = CString::new(target).map_err(|_| Errno::EINVAL)?;
    add_flags(&nix::fcntl::AT_FDCWD, &path, RDONLY | NODEV)
}

/// The first one is stage1's own null device. Where its node could be made, the apps can make theirs; else all are
/// there for the apps to bind.
fn make_own_devices() -> Result<(), StartFailure> {
    let [(null, major, minor), ..] = DEVICES;
    match make_node(&format!("dev/{null}"), major, minor) {
        Err(Errno::EPERM) => DEVICES.iter().try_for_each(make_own_device),
        made => made.or_fail(Step::MountDev, null),
    }
}

/// Those that apps name, for each app its own: an app that changes the mode of one changes nobody else's. They are made
/// here, where no filter of an app forbids it.
fn make_named_devices(boot: &Boot) -> Result<(), StartFailure> {
    let with_devices = || boot.apps.iter().filter(|app| !app.devices.is_empty());
    if with_devices().next().is_some() {
        make_directory("nodes").or_fail(Step::MountDev, "nodes")?;
    }
    for app in with_devices() {
        make_directory(&format!("nodes/{}", app.name)).or_fail(Step::MountDev, &app.name)?;
        for (index, device) in app.devices.iter().enumerate() {
            let target = &device_path(&app.name, index)[1..];
            make_named_device(device, target).or_fail(Step::MountDev, &device.path)?;
        }
    }
    Ok(())
}

fn make_named_device(device: &Device, target: &str) -> Result<(), Errno> {
    let kind = if device.is_block { SFlag::S_IFBLK } else { SFlag::S_IFCHR };
    let number = makedev(u64::from(device.major), u64::from(device.minor));
    mknod(target, kind, Mode::from_bits_truncate(device.mode), number)?;
    chown(target, Some(device.uid.into()), Some(device.gid.into()))
}

/// A node where that is allowed, else a bind of the host's own after a look at what that is.
fn make_own_device(&(name, major, minor): &(&str, u64, u64)) -> Result<(), StartFailure> {
    let target = format!("dev/{name}");
    match make_node(&target, major, minor) {
        Err(Errno::EPERM) => {}
        done => return done.or_fail(Step::MountDev, name),
    }
    let source = format!("/dev/{name}");
    let found = stat(source.as_str()).or_fail(Step::MountDev, &source)?;
    let is_device = Path::new(&source).metadata().is_ok_and(|data| data.file_type().is_char_device());
    if !is_device || found.st_rdev != makedev(major, minor) {
        return Err(failed(Step::MountDev, &source, Errno::ENODEV));
    }
    bind_file(&source, &target).or_fail(Step::MountDev, &source)
}

/// Standard error stays: it is where a failure is told that no socket can carry.
fn leave_standard_streams() -> Result<(), StartFailure> {
    let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty());
    let null = null.or_fail(Step::SetStdio, "/dev/null")?;
    dup2_stdin(&null).or_fail(Step::SetStdio, "0")?;
    dup2_stdout(&null).or_fail(Step::SetStdio, "1")
}
