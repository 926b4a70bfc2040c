//! An app's root, built by the app's child in its own mount and cgroup namespace, and entered for good.
//!
//! `/`, `/proc`, `/dev`, `/sys`, `/sys/fs/cgroup`, pivot_root, then what is read-only and what is masked. The root
//! directory is not trusted: every mount point in it is opened without following a symbolic link and mounted on
//! as the working directory, and whatever needs a path walk in it happens after pivot_root, where no path leads
//! out. Invariant: all mounts are in the child's own copy of stage1's private tree.

use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, mkdirat, stat};
use nix::unistd::{chdir, fchdir, mkdir, symlinkat, write};
use podrun_abi::boot::{App, Boot, CgroupView, RootMode};
use podrun_abi::failure::{StartFailure, Step};
use podrun_abi::notice::NOTIFY_SOCKET;

use crate::failure::OrFail;
use crate::mounts::{self, DEVICES, EMPTY, LAYERS, MERGED, NONE, VIEWS, make_directory, root_path};
use crate::spawn::Progress;
use crate::sys::mount::{NODEV, RDONLY, add_flags, attach, detached_copy};
use crate::voice;

const CLOSED: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);
const CLOSED_READ_ONLY: MsFlags = CLOSED.union(MsFlags::MS_RDONLY);
/// The links of `/dev` that programs expect.
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Builds the root of `app` and makes it this process's own.
pub fn enter(boot: &Boot, app: &App, progress: Progress) -> Result<(), StartFailure> {
    progress.reach(Step::Unshare);
    // After joining the cgroups: the namespace's root is the group that the process is in now.
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP).or_fail(Step::Unshare, "")?;
    progress.reach(Step::MountRoot);
    let root = Root::mount(boot, app)?;
    if let (Some(uuid), RootMode::Overlay) = (&boot.pod.machine, app.root.mode) {
        // A root in which they cannot be made is one that says nothing of its container.
        let _ = root.describe_container(uuid);
    }
    progress.reach(Step::MountProc);
    root.mount_on("proc", &Filesystem::new("proc", CLOSED, ""), Step::MountProc)?;
    progress.reach(Step::MountDev);
    root.mount_dev()?;
    bind_devices(app)?;
    if app.policy.notify {
        bind_voice(&app.name)?;
    }
    progress.reach(Step::MountSys);
    root.mount_on("sys", &Filesystem::new("sysfs", CLOSED_READ_ONLY, ""), Step::MountSys)?;
    progress.reach(Step::MountCgroup);
    root.mount_cgroups(&boot.cgroup_views)?;
    progress.reach(Step::MaskPath);
    // After pivot_root there is no path to it.
    let empty = detached_copy(EMPTY).or_fail(Step::MaskPath, "")?;
    progress.reach(Step::PivotRoot);
    fchdir(&root.directory).or_fail(Step::PivotRoot, &boot.roots[app.root.index])?;
    mounts::pivot().or_fail(Step::PivotRoot, &boot.roots[app.root.index])?;
    progress.reach(Step::MaskPath);
    boot.read_only.iter().try_for_each(|path| for_each_match(path, make_read_only))?;
    let mut empty = Empty::Detached(empty);
    boot.masked.iter().try_for_each(|path| for_each_match(path, |path| mask(path, &mut empty)))
}

/// A file system to mount; its source is named after its type.
struct Filesystem<'a> {
    fstype: &'a str,
    flags: MsFlags,
    options: &'a str,
}

impl<'a> Filesystem<'a> {
    fn new(fstype: &'a str, flags: MsFlags, options: &'a str) -> Self {
        Self { fstype, flags, options }
    }

    fn mount(&self, target: &str) -> Result<(), Errno> {
        let options = Some(self.options).filter(|options| !options.is_empty());
        mount(Some(self.fstype), target, Some(self.fstype), self.flags, options)
    }
}

/// The mounted root before pivot_root.
struct Root {
    directory: OwnedFd,
    /// Whether a missing mount point may be made.
    writable: bool,
}

impl Root {
    /// Mounts it and opens it. The failure names the directory of the host, which is what the author wrote.
    fn mount(boot: &Boot, app: &App) -> Result<Self, StartFailure> {
        let source = root_path(app.root.index);
        let mounted = match app.root.mode {
            RootMode::Overlay => mount_overlay(&source).map(|()| MERGED),
            RootMode::ReadOnly => restrict(&source, RDONLY | NODEV).map(|()| source.as_str()),
            RootMode::Writable => restrict(&source, NODEV).map(|()| source.as_str()),
        };
        let directory = mounted.and_then(|path| {
            chdir(path)?;
            nix::fcntl::open(".", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        });
        let directory = directory.or_fail(Step::MountRoot, &boot.roots[app.root.index])?;
        Ok(Self { directory, writable: app.root.mode != RootMode::ReadOnly })
    }

    /// Opens a directory of the root that is reached without a symbolic link, and makes it when it may be made.
    fn open(&self, path: &str) -> Result<OwnedFd, Errno> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS);
        match openat2(&self.directory, path, how) {
            Err(Errno::ENOENT) if self.writable => {
                mkdirat(&self.directory, path, Mode::from_bits_truncate(0o755))?;
                openat2(&self.directory, path, how)
            }
            opened => opened,
        }
    }

    /// The files by which systemd's container interface tells programs where they are. They are in the layer that goes
    /// with the app; in a directory of the host they would stay.
    fn describe_container(&self, uuid: &str) -> Result<(), Errno> {
        self.open("run")?;
        let directory = self.open("run/host")?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        for (name, text) in [("container-manager", "podrun"), ("container-uuid", uuid)] {
            let file = openat(&directory, name, flags | OFlag::O_CLOEXEC, Mode::from_bits_truncate(0o444))?;
            write(&file, format!("{text}\n").as_bytes())?;
        }
        Ok(())
    }

    /// Mounts on a directory of the root and makes what was mounted the working directory.
    fn mount_on(&self, path: &str, filesystem: &Filesystem<'_>, step: Step) -> Result<(), StartFailure> {
        let mounted = self.open(path).and_then(|target| {
            fchdir(target)?;
            filesystem.mount(".")?;
            fchdir(self.open(path)?)
        });
        mounted.or_fail(step, &format!("/{path}"))
    }

    fn mount_dev(&self) -> Result<(), StartFailure> {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        self.mount_on("dev", &Filesystem::new("tmpfs", flags, "mode=755,size=64k"), Step::MountDev)?;
        for (name, major, minor) in DEVICES {
            match mounts::make_node(name, major, minor) {
                // No CAP_MKNOD here, or a device cgroup that forbids it: take stage1's own.
                Err(Errno::EPERM) => mounts::bind_file(&format!("/dev/{name}"), name),
                made => made,
            }
            .or_fail(Step::MountDev, name)?;
        }
        for (target, name) in LINKS {
            symlinkat(target, nix::fcntl::AT_FDCWD, name).or_fail(Step::MountDev, name)?;
        }
        mount_dev_filesystems()
    }

    fn mount_cgroups(&self, views: &[CgroupView]) -> Result<(), StartFailure> {
        const PATH: &str = "sys/fs/cgroup";
        match views {
            [] => Ok(()),
            [view] if view.name.is_empty() => {
                let whole = Filesystem::new(&view.fstype, CLOSED_READ_ONLY, &view.options);
                self.mount_on(PATH, &whole, Step::MountCgroup)
            }
            views => {
                let target = self.open(PATH).and_then(|target| {
                    fchdir(target)?;
                    mount(Some(VIEWS), ".", NONE, MsFlags::MS_BIND, NONE)?;
                    fchdir(self.open(PATH)?)
                });
                target.or_fail(Step::MountCgroup, PATH)?;
                views.iter().try_for_each(mount_view)
            }
        }
    }
}

/// One hierarchy in the working directory. Mounted from inside the app's cgroup namespace it shows the app's own
/// group as its root.
fn mount_view(view: &CgroupView) -> Result<(), StartFailure> {
    let filesystem = Filesystem::new(&view.fstype, CLOSED_READ_ONLY, &view.options);
    filesystem.mount(&view.name).or_fail(Step::MountCgroup, &view.name)
}

/// The file systems in the working directory, which is a fresh `/dev`.
fn mount_dev_filesystems() -> Result<(), StartFailure> {
    const PTS: &str = "newinstance,ptmxmode=0666,mode=0620";
    const PTS_TTY: &str = "newinstance,ptmxmode=0666,mode=0620,gid=5";
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    for name in ["pts", "shm", "mqueue"] {
        make_directory(name).or_fail(Step::MountDev, name)?;
    }
    match Filesystem::new("devpts", flags, PTS_TTY).mount("pts") {
        // A user namespace without group 5.
        Err(Errno::EINVAL) => Filesystem::new("devpts", flags, PTS).mount("pts"),
        mounted => mounted,
    }
    .or_fail(Step::MountDev, "pts")?;
    Filesystem::new("tmpfs", CLOSED, "mode=1777,size=64m").mount("shm").or_fail(Step::MountDev, "shm")?;
    match Filesystem::new("mqueue", CLOSED, "").mount("mqueue") {
        // A kernel without POSIX message queues.
        Err(Errno::ENODEV) => Ok(()),
        mounted => mounted.or_fail(Step::MountDev, "mqueue"),
    }
}

/// The devices that the app names, in the working directory, which is its `/dev`.
fn bind_devices(app: &App) -> Result<(), StartFailure> {
    for (index, device) in app.devices.iter().enumerate() {
        let name = device.path.strip_prefix("/dev/").unwrap_or(&device.path);
        let above = name.match_indices('/').map(|(at, _)| &name[..at]);
        let made = above.map(make_directory).try_for_each(|made| match made {
            Err(Errno::EEXIST) => Ok(()),
            other => other,
        });
        made.and_then(|()| mounts::bind_file(&mounts::device_path(&app.name, index), name))
            .or_fail(Step::MountDev, &device.path)?;
    }
    Ok(())
}

/// The app's own socket in the working directory, which is its `/dev`: the one place that every root has of its own.
fn bind_voice(app: &str) -> Result<(), StartFailure> {
    let name = NOTIFY_SOCKET.rsplit('/').next().unwrap_or(NOTIFY_SOCKET);
    mounts::bind_file(&voice::path(app), name).or_fail(Step::MountDev, NOTIFY_SOCKET)
}

/// Mounts a fresh overlay over `lower`. Its upper layer is a tmpfs that this process mounts, so what the app
/// writes is charged to the app.
fn mount_overlay(lower: &str) -> Result<(), Errno> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Filesystem::new("tmpfs", flags, "mode=700").mount(LAYERS)?;
    let (upper, work) = (format!("{LAYERS}/upper"), format!("{LAYERS}/work"));
    for directory in [&upper, &work] {
        mkdir(directory.as_str(), Mode::from_bits_truncate(0o755))?;
    }
    copy_owner_and_mode(lower, &upper).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    mount(Some("overlay"), MERGED, Some("overlay"), MsFlags::MS_NODEV, Some(options.as_str()))
}

/// The root of an overlay has the owner and mode of its upper directory.
fn copy_owner_and_mode(from: &str, to: &str) -> std::io::Result<()> {
    let data = Path::new(from).metadata()?;
    if (data.uid(), data.gid()) != (0, 0) {
        chown(to, Some(data.uid()), Some(data.gid()))?;
    }
    if data.mode() & 0o7777 != 0o755 {
        std::fs::set_permissions(to, std::fs::Permissions::from_mode(data.mode() & 0o7777))?;
    }
    Ok(())
}

/// Adds mount flags at an absolute path of stage1's tree.
fn restrict(path: &str, flags: u64) -> Result<(), Errno> {
    let path = std::ffi::CString::new(path).map_err(|_| Errno::EINVAL)?;
    add_flags(&nix::fcntl::AT_FDCWD, &path, flags)
}

/// Makes what is at `path` read-only, with everything below it on the same mount.
fn make_read_only(path: &str) -> Result<(), StartFailure> {
    match mount(Some(path), path, NONE, MsFlags::MS_BIND, NONE) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        bound => bound.or_fail(Step::MaskPath, path)?,
    }
    restrict(path, RDONLY).or_fail(Step::MaskPath, path)
}

/// Hides what is at `path`: a file behind the null device, a directory behind an empty one. `/dev/null` is the
/// one that this child made, on a file system that no other process has seen, so it cannot be anything else.
fn mask(path: &str, empty: &mut Empty) -> Result<(), StartFailure> {
    // Half of the usual paths are not there, and to look is cheaper than a mount that fails.
    let masked = match stat(path) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        Err(errno) => Err(errno),
        Ok(data) if SFlag::from_bits_truncate(data.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR => {
            mask_directory(path, empty)
        }
        Ok(_) => mount(Some("/dev/null"), path, NONE, MsFlags::MS_BIND, NONE),
    };
    masked.or_fail(Step::MaskPath, path)
}

/// The empty directory that stands over masked ones.
enum Empty {
    /// Attached nowhere yet.
    Detached(OwnedFd),
    /// Over this directory.
    Attached(String),
}

/// The first masked directory gets the mount itself, all others a bind of it, which keeps it read-only.
fn mask_directory(path: &str, empty: &mut Empty) -> Result<(), Errno> {
    match empty {
        Empty::Attached(first) => mount(Some(first.as_str()), path, NONE, MsFlags::MS_BIND, NONE),
        Empty::Detached(tree) => {
            attach(tree, &std::ffi::CString::new(path).map_err(|_| Errno::EINVAL)?)?;
            *empty = Empty::Attached(path.to_owned());
            Ok(())
        }
    }
}

/// Calls `deed` on every path that `pattern` stands for: each of its components may have one `*`.
fn for_each_match(
    pattern: &str,
    mut deed: impl FnMut(&str) -> Result<(), StartFailure>,
) -> Result<(), StartFailure> {
    if !pattern.contains('*') {
        return deed(pattern);
    }
    expand(pattern).iter().filter_map(|path| path.to_str()).try_for_each(deed)
}

/// What of `pattern` exists. A directory that cannot be read has nothing to hide.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/")];
    for component in pattern.split('/').filter(|component| !component.is_empty()) {
        found = match component.split_once('*') {
            None => found.into_iter().map(|path| path.join(component)).filter(|path| path.exists()).collect(),
            Some((start, end)) => found.iter().flat_map(|path| list(path, start, end)).collect(),
        };
    }
    found
}

/// The entries of `directory` whose name begins and ends so.
fn list(directory: &Path, start: &str, end: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let fits = |name: &String| name.strip_prefix(start).is_some_and(|rest| rest.ends_with(end));
    names.filter(fits).map(|name| directory.join(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn star_stands_for_one_component() {
        let base = std::env::temp_dir().join(format!("podrun-glob-{}", std::process::id()));
        for path in ["cpu0/throttle", "cpu1/throttle", "cpu2", "cpufreq/throttle", "other/throttle"] {
            std::fs::create_dir_all(base.join(path)).unwrap();
        }
        let mut found = expand(&format!("{}/cpu*/throttle", base.display()));
        found.sort();
        let expected: Vec<_> = ["cpu0/throttle", "cpu1/throttle", "cpufreq/throttle"]
            .iter()
            .map(|path| base.join(path))
            .collect();
        assert_eq!(found, expected);
        assert_eq!(expand(&format!("{}/none/cpu*", base.display())), [] as [PathBuf; 0]);
        std::fs::remove_dir_all(base).unwrap();
    }
}
