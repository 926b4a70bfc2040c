//! [`Host`]: everything that a plan needs to know of this machine, gathered in one look.
//!
//! This is the only place that looks, and it changes nothing. It works without root as far as permissions go:
//! what cannot be read is an `Err` with its reason where it would have stood, and whether that matters is for the
//! plan to say. Only what the spec asks for is looked at, since this is on the way of every start.

pub mod abilities;
pub mod asked;
mod cgroup;
pub mod check;
mod cpuset;
mod disk;
mod env_file;
pub mod isolators;
mod overlay;
mod profile;
pub mod program;
mod service;
mod wished;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::{major, minor};
use podrun_abi::boot::{Device, RootMode};

use crate::cgroup::hierarchy::Hierarchies;
use crate::cgroup::limits::Facts;
use crate::error::Note;
use crate::passwd::Accounts;
use crate::plan::output::JOURNAL;
use crate::spec::{AppSpec, IdOrName, LogDriver, Spec};
use crate::systemd::{self, ManagerFacts, ServiceFacts};
pub use cgroup::{hierarchies, look_around};

/// No passwd, group or env file of an honest root is larger.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What was seen of this machine.
#[derive(Debug, Clone)]
pub struct Host {
    /// What the pod's groups depend on.
    pub cgroups: Facts,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: Result<String, String>,
    /// Our own RLIMIT_NOFILE, soft and hard.
    pub nofile: (u64, u64),
    /// The systemd that is to make the pod's group; `None`: podrun does that itself.
    pub manager: Option<ManagerFacts>,
    /// Whether journald takes streams; looked at only where one may be wanted.
    pub has_journal: bool,
    /// The service that we are the main process of; its group is the pod's then.
    pub service: Option<ServiceFacts>,
    /// Our effective user id.
    pub euid: u32,
    roots: BTreeMap<PathBuf, RootFacts>,
    env_files: BTreeMap<PathBuf, Result<Vec<(String, String)>, String>>,
    devices: BTreeMap<String, Result<Device, String>>,
}

/// What was seen of one root directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootFacts {
    /// `Err`: what is wrong with it, to be read after its name.
    pub directory: Result<(), String>,
    /// Its users and groups. Files that are not there are empty.
    pub accounts: Result<Accounts, String>,
    /// `Err`: why no overlay can be over it, to be read after "is not possible". Looked at where one is asked for.
    pub overlay: Result<(), String>,
}

impl Host {
    /// What was seen of a root of the spec.
    #[must_use]
    pub fn root(&self, rootfs: &Path) -> &RootFacts {
        static NOT_SEEN: std::sync::OnceLock<RootFacts> = std::sync::OnceLock::new();
        self.roots.get(rootfs).unwrap_or_else(|| {
            NOT_SEEN.get_or_init(|| RootFacts {
                directory: Err("was not looked at".to_owned()),
                accounts: Ok(Accounts::default()),
                overlay: Ok(()),
            })
        })
    }

    /// A device that the spec names, by its path.
    ///
    /// # Errors
    /// Why there is none.
    pub fn device(&self, path: &str) -> Result<Device, String> {
        self.devices.get(path).cloned().unwrap_or_else(|| Err(format!("{path} was not looked at")))
    }

    /// The variables of an env file of the spec, in order.
    ///
    /// # Errors
    /// Why it cannot be read, with file and line where there is one.
    pub fn env_file(&self, path: &Path) -> Result<&[(String, String)], String> {
        match self.env_files.get(path) {
            Some(Ok(pairs)) => Ok(pairs),
            Some(Err(reason)) => Err(reason.clone()),
            None => Err(format!("`{}` was not looked at", path.display())),
        }
    }
}

/// Who is to make the pod's group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverChoice {
    /// The service that we are the main process of; else systemd, where it runs this machine and has not given us a
    /// group of our own; else podrun.
    Auto,
    /// systemd.
    Systemd,
    /// podrun.
    Cgroupfs,
}

/// Looks at this machine with the eyes of one spec.
///
/// # Errors
/// Only when `/proc` does not say where our own groups are, when our own limits cannot be read, when systemd is to make
/// the pod's group and does not answer, or when it has not delegated the group of the service that we are.
pub fn probe(spec: &Spec, driver: DriverChoice) -> anyhow::Result<Host> {
    let mut roots = BTreeMap::new();
    let mut env_files = BTreeMap::new();
    for app in &spec.apps {
        roots.entry(app.rootfs.clone()).or_insert_with(|| root_facts(&app.rootfs, &wants(spec, &app.rootfs)));
        for path in &app.env_files {
            env_files.entry(path.clone()).or_insert_with(|| env_file::read(path));
        }
    }
    let hierarchies = hierarchies()?;
    let service = match driver {
        DriverChoice::Auto => service::look(&hierarchies)?,
        _ => None,
    };
    let manager = if service.is_some() { None } else { manager(driver, &hierarchies)? };
    let cgroups = cgroup::look(spec, hierarchies, manager.as_ref());
    Ok(Host {
        has_journal: has_journal(spec, manager.is_some()),
        manager,
        service,
        cgroups,
        boot_id: boot_id(),
        nofile: getrlimit(Resource::RLIMIT_NOFILE).context("cannot read RLIMIT_NOFILE")?,
        euid: nix::unistd::geteuid().as_raw(),
        roots,
        env_files,
        devices: devices(spec),
    })
}

/// The devices that the pod and its apps name.
fn devices(spec: &Spec) -> BTreeMap<String, Result<Device, String>> {
    let of_apps = spec.apps.iter().filter_map(|app| app.devices.as_ref());
    let named = of_apps.chain(&spec.pod.devices).flatten();
    named.map(|device| (device.path.clone(), look_at_device(&device.path))).collect()
}

fn look_at_device(path: &str) -> Result<Device, String> {
    let nothing = || format!("{path} is not a device on this host");
    let found = std::fs::metadata(path).map_err(|_| nothing())?;
    let kind = found.file_type();
    let number = |number: u64| u32::try_from(number).map_err(|_| nothing());
    if !kind.is_block_device() && !kind.is_char_device() {
        return Err(nothing());
    }
    Ok(Device {
        path: path.to_owned(),
        is_block: kind.is_block_device(),
        major: number(major(found.rdev()))?,
        minor: number(minor(found.rdev()))?,
        mode: found.mode() & 0o777,
        uid: found.uid(),
        gid: found.gid(),
    })
}

/// The variables of a file of `NAME=value` lines, in order.
///
/// # Errors
/// Why it cannot be read, with file and line where there is one.
pub fn read_env_file(path: &Path) -> Result<Vec<(String, String)>, String> {
    env_file::read(path)
}

/// The systemd that is to make the pod's group. Who was given a group of its own (`Delegate=yes`) stays in it, and a
/// systemd whose tree we are not in is another machine's or a test's.
fn manager(driver: DriverChoice, hierarchies: &Hierarchies) -> anyhow::Result<Option<ManagerFacts>> {
    let auto = driver == DriverChoice::Auto;
    if driver == DriverChoice::Cgroupfs
        || (auto && (!systemd::is_booted() || cgroup::is_delegated(hierarchies)))
    {
        return Ok(None);
    }
    let context = || "cannot use driver `systemd`";
    let manager = systemd::probe().with_context(context).hint("--driver cgroupfs goes without systemd")?;
    match manager {
        Some(manager) if !auto || cgroup::is_below(hierarchies, &manager.root) => Ok(Some(manager)),
        None if !auto => {
            let error = anyhow!("nobody listens on the system bus or on systemd's own socket");
            Err(error.context(context())).hint("leave `--driver` out, or use `--driver cgroupfs`")
        }
        _ => Ok(None),
    }
}

/// A host without systemd pays nothing for the question. Who runs as a service finds a systemd that is booted.
fn has_journal(spec: &Spec, has_manager: bool) -> bool {
    let asked = || spec.apps.iter().any(|app| app.log.driver == LogDriver::Journald);
    let is_socket = |path: String| std::fs::metadata(path).is_ok_and(|data| data.file_type().is_socket());
    (has_manager || asked() || std::env::var_os("SYSTEMD_EXEC_PID").is_some())
        && is_socket(format!("{JOURNAL}/stdout"))
}

/// What the apps of a root want to be known of it.
#[derive(Default)]
struct Wants {
    /// One names a group.
    groups: bool,
    /// One has an overlay over it.
    overlay: bool,
}

fn wants(spec: &Spec, rootfs: &Path) -> Wants {
    let named = |app: &AppSpec| app.group.iter().chain(&app.groups).any(|id| matches!(id, IdOrName::Name(_)));
    let apps = || spec.apps.iter().filter(|app| app.rootfs == rootfs);
    Wants { groups: apps().any(named), overlay: apps().any(|app| app.rootfs_mode == RootMode::Overlay) }
}

fn boot_id() -> Result<String, String> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = read_bounded(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}

fn root_facts(rootfs: &Path, wants: &Wants) -> RootFacts {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = match nix::fcntl::open(rootfs, flags, nix::sys::stat::Mode::empty()) {
        Ok(root) => root,
        Err(errno) => {
            let directory = Err(directory_reason(errno));
            return RootFacts { directory, accounts: Ok(Accounts::default()), overlay: Ok(()) };
        }
    };
    let overlay = if wants.overlay { overlay::glance(root.as_fd(), rootfs) } else { Ok(()) };
    RootFacts { directory: Ok(()), accounts: accounts(root.as_fd(), wants.groups), overlay }
}

fn directory_reason(errno: Errno) -> String {
    match errno {
        Errno::ENOENT => "does not exist".to_owned(),
        Errno::ENOTDIR => "is not a directory".to_owned(),
        other => format!("cannot be opened: {}", other.desc()),
    }
}

fn accounts(root: BorrowedFd<'_>, with_groups: bool) -> Result<Accounts, String> {
    let passwd = read_in_root(root, "etc/passwd")?;
    let group = if with_groups { read_in_root(root, "etc/group")? } else { Vec::new() };
    Ok(Accounts::parse(&passwd, &group))
}

/// The root belongs to the app's author: its links must not lead out of it (RESOLVE_IN_ROOT), a FIFO must not
/// hold us (O_NONBLOCK), a device must not be read, and nothing may fill our memory. Not there: empty.
fn read_in_root(root: BorrowedFd<'_>, path: &str) -> Result<Vec<u8>, String> {
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    match openat2(root, path, how) {
        Ok(file) => read_regular(File::from(file)).map_err(|reason| format!("`{path}` {reason}")),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(Vec::new()),
        Err(errno) => Err(format!("`{path}` cannot be opened: {}", errno.desc())),
    }
}

/// The bytes of a regular file of at most [`FILE_BYTES_MAX`], or what is wrong with it.
fn read_regular(file: File) -> Result<Vec<u8>, String> {
    let metadata = file.metadata().map_err(|error| format!("cannot be looked at: {error}"))?;
    if !metadata.is_file() {
        return Err("is not a regular file".to_owned());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len().min(FILE_BYTES_MAX)).unwrap_or(0) + 1);
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("is larger than {FILE_BYTES_MAX} bytes"));
    }
    Ok(bytes)
}

/// A file of the author's on the host; it may be behind links, but not a FIFO or a device.
fn open_nonblocking(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    File::options().read(true).custom_flags(flags.bits()).open(path)
}

/// The start of a file of the kernel's.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    // Room for every such file of a usual host, so that it is two reads and not ten.
    let mut bytes = Vec::with_capacity(8192);
    File::open(path)?.take(16 * FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
pub(crate) mod tests;
