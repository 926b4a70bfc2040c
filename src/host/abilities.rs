//! [`look`]: what this host has of all that pods may need, for `podrun doctor`.
//!
//! Other than [`super::probe`], which looks with the eyes of one spec, this looks at everything; and nothing that
//! is missing is an error. No verdict is given here.

use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{AccessFlags, access};

use super::isolators::{self, Isolator, Refused};
use super::{DriverChoice, cgroup, read_bounded};
use crate::cgroup::hierarchy::{Hierarchies, Hierarchy};
use crate::launch;
use crate::plan::Driver;
use crate::systemd;

/// What this host has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abilities {
    /// Our effective user id.
    pub euid: u32,
    /// Our effective capabilities, bit n for capability n.
    pub capabilities: u64,
    /// The kernel's release, such as `6.1.0-13-amd64`.
    pub kernel: String,
    /// Where stage1 is, or why it was not found.
    pub stage1: Result<PathBuf, String>,
    /// Kinds of namespaces that pods need and the kernel does not have, or allows none of.
    pub namespaces_missing: Vec<&'static str>,
    /// The overlay file system is loaded or built in.
    pub overlay: bool,
    /// Where pods are recorded.
    pub directory: PathBuf,
    /// It, or the nearest directory above it that exists, can be written.
    pub directory_writable: bool,
    /// RLIMIT_NOFILE, hard.
    pub nofile: u64,
    /// systemd is PID 1.
    pub systemd: bool,
    /// The mounted hierarchies, in words.
    pub hierarchies: Vec<String>,
    /// The cgroup2 tree has `cgroup.kill`.
    pub cgroup_kill: bool,
    /// Who would make the groups of a pod, or why nobody can.
    pub driver: Result<Driver, Refused>,
    /// Every isolator, and whether it can be enforced.
    pub isolators: Vec<Isolator>,
}

/// Looks at this machine; pods would be recorded in `directory`, and this driver would make their groups.
///
/// # Errors
/// Only when `/proc` is not there.
pub fn look(directory: &Path, driver: DriverChoice) -> anyhow::Result<Abilities> {
    let hierarchies = cgroup::hierarchies()?;
    let (_, nofile) = getrlimit(Resource::RLIMIT_NOFILE).context("cannot read RLIMIT_NOFILE")?;
    let v2 = hierarchies.v2.as_ref();
    let kernel = text("/proc/sys/kernel/osrelease").trim().to_owned();
    let cgroup_kill = v2.is_some_and(|v2| has_kill(v2, &kernel));
    let directory = std::path::absolute(directory).context("cannot find the working directory")?;
    let (driver, isolators) = isolators::look(driver)?;
    Ok(Abilities {
        euid: nix::unistd::geteuid().as_raw(),
        capabilities: capabilities(&text("/proc/self/status")),
        kernel,
        stage1: launch::stage1_path().map_err(|error| format!("{error:#}")),
        namespaces_missing: namespaces_missing(),
        overlay: text("/proc/filesystems").lines().any(|line| line.trim() == "nodev\toverlay"),
        directory_writable: writable(&directory),
        directory,
        nofile,
        systemd: systemd::is_booted(),
        hierarchies: words(&hierarchies),
        cgroup_kill,
        driver,
        isolators,
    })
}

fn text(path: &str) -> String {
    String::from_utf8_lossy(&read_bounded(Path::new(path)).unwrap_or_default()).into_owned()
}

/// Whether limits of processes may go beyond our own: CAP_SYS_RESOURCE.
pub(super) fn may_raise_limits() -> bool {
    const SYS_RESOURCE: u64 = 1 << 24;
    capabilities(&text("/proc/self/status")) & SYS_RESOURCE != 0
}

/// The line `CapEff:` of proc_pid_status(5).
fn capabilities(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

fn namespaces_missing() -> Vec<&'static str> {
    let allowed = |name: &str| {
        let limit = text(&format!("/proc/sys/user/max_{name}_namespaces"));
        limit.trim() != "0"
    };
    let there = |name: &str| Path::new("/proc/self/ns").join(name).exists();
    let mut kinds = vec!["pid", "mnt", "uts", "ipc", "cgroup"];
    kinds.retain(|name| !there(name) || !allowed(name));
    kinds
}

/// A root is made with everything above it when the first pod is run.
fn writable(directory: &Path) -> bool {
    let nearest = directory.ancestors().find(|path| path.exists());
    nearest.is_some_and(|path| path.is_dir() && access(path, AccessFlags::W_OK | AccessFlags::X_OK).is_ok())
}

/// Such as `v1: cpu, memory, pids` and `cgroup2: no controllers`.
fn words(hierarchies: &Hierarchies) -> Vec<String> {
    let v1: Vec<&str> = hierarchies.v1.iter().flat_map(|h| &h.controllers).map(String::as_str).collect();
    let v2 = hierarchies.v2.as_ref().map(|v2| {
        let found = text(&v2.mount_point.join("cgroup.controllers").to_string_lossy());
        let names: Vec<&str> = found.split_whitespace().collect();
        let names = if names.is_empty() { "no controllers".to_owned() } else { names.join(", ") };
        format!("cgroup2: {names}")
    });
    let v1 = (!v1.is_empty()).then(|| format!("v1: {}", v1.join(", ")));
    v2.into_iter().chain(v1).collect()
}

/// The root of the tree has no such file, every group below it does; where there is none the release says it.
fn has_kill(v2: &Hierarchy, kernel: &str) -> bool {
    const SINCE: [u32; 2] = [5, 14];
    let below = std::fs::read_dir(&v2.mount_point).into_iter().flatten().flatten().map(|entry| entry.path());
    // The root has none of these either.
    let mut groups = v2.own_dir().into_iter().chain(below).filter(|dir| dir.join("cgroup.events").exists());
    match groups.next() {
        Some(group) => group.join("cgroup.kill").exists(),
        None => release(kernel) >= SINCE,
    }
}

/// Major and minor of a kernel's release.
#[must_use]
pub fn release(kernel: &str) -> [u32; 2] {
    let mut numbers = kernel.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    [numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_those_in_effect() {
        let status =
            "Name:\tx\nCapPrm:\t0000000000000001\nCapEff:\t00000000a80425fb\nCapBnd:\t000001ffffffffff\n";
        assert_eq!(capabilities(status), 0xa804_25fb);
        assert_eq!(capabilities(""), 0);
    }

    #[test]
    fn cgroup_kill_is_looked_for_in_a_group_and_else_known_from_the_release() {
        let tree = tempfile::tempdir().unwrap();
        let mountinfo = format!("30 23 0:26 / {} rw - cgroup2 cgroup2 rw", tree.path().display());
        let v2 = Hierarchies::parse(mountinfo.as_bytes(), b"0::/\n").v2.unwrap();
        let releases = ["4.19", "5.13.19-2", "5.14.0", "6.1.0-13-amd64"];
        let found = || releases.map(|kernel| has_kill(&v2, kernel));
        let file = |path: &str| std::fs::write(tree.path().join(path), "").unwrap();
        file("cgroup.procs");
        assert_eq!(found(), [false, false, true, true], "the root alone");
        std::fs::create_dir(tree.path().join("system.slice")).unwrap();
        file("system.slice/cgroup.events");
        assert_eq!(found(), [false; 4], "a group without it");
        file("system.slice/cgroup.kill");
        assert_eq!(found(), [true; 4], "a group with it");
    }

    #[test]
    fn this_host_is_looked_at_as_a_whole() {
        let found = look(Path::new("/run/podrun"), DriverChoice::Cgroupfs).unwrap();
        assert!(!found.kernel.is_empty() && found.nofile > 0 && !found.hierarchies.is_empty(), "{found:?}");
        assert_eq!(found.driver, Ok(Driver::Cgroupfs));
        let mut keys: Vec<_> = found.isolators.iter().map(|isolator| isolator.key).collect();
        assert_eq!(keys.pop(), Some("devices"));
        keys.dedup();
        let table = crate::manifest::keys::KEYS.iter().filter_map(|key| {
            let name = key.path.strip_prefix("@.isolators.")?;
            let works = key.support == crate::manifest::keys::Support::Supported;
            (works && name != "on-missing" && !name.contains('.')).then_some(name)
        });
        assert_eq!(keys, table.collect::<Vec<_>>(), "every isolator that works is judged");
    }
}
