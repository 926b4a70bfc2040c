//! What the pod's groups depend on: the mounted hierarchies, and of the groups that exist already only what the
//! isolators of the spec make necessary to know.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::unistd::{AccessFlags, SysconfVar, access, sysconf};

use super::{cpuset, disk, read_bounded, wished};
use crate::cgroup::cpuset::CpusetFacts;
use crate::cgroup::hierarchy::{Hierarchies, Hierarchy};
use crate::cgroup::limits::{Disk, Facts, LIMITING, WISHED, controller_of, name_on_v1, needs};
use crate::cgroup::place::{GroupFacts, UnifiedFacts};
use crate::cgroup::plan::{CgroupPlan, Version};
use crate::spec::{Limits, Spec};
use crate::sys::{detach, xattr};
use crate::systemd::ManagerFacts;
use crate::value::CpuWeight;

/// The hierarchies that are mounted here and our own groups in them.
///
/// # Errors
/// `/proc/self` cannot be read.
pub fn hierarchies() -> anyhow::Result<Hierarchies> {
    let read = |path: &str| read_bounded(Path::new(path)).with_context(|| format!("cannot read `{path}`"));
    Ok(Hierarchies::parse(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?))
}

/// `manager`: the systemd that is to make the pod's group.
pub(super) fn look(spec: &Spec, hierarchies: Hierarchies, manager: Option<&ManagerFacts>) -> Facts {
    let limits = every_limit(spec);
    let slice = manager.map(ManagerFacts::machine_slice);
    let cpuset = cpus(&hierarchies, &limits, slice.as_deref());
    let wished = wished::look(&hierarchies, spec);
    let facts = look_in(hierarchies, &limits, cpuset);
    Facts { also_joined: wished.joined, also_delegated: wished.delegated, ..facts }
}

/// The same with the eyes of a pod that runs: the group that its own is in, in each hierarchy that it has joined, stands
/// in place of ours. `bound`: the group on cgroup2 whose CPUs the pod may choose from, where its own is further below.
///
/// # Errors
/// `/proc/self` cannot be read.
pub fn look_around(spec: &Spec, pod: &CgroupPlan, bound: Option<&str>) -> anyhow::Result<Facts> {
    let mut seen = hierarchies()?;
    for joined in &pod.hierarchies {
        let is_it = |hierarchy: &&mut Hierarchy| match joined.version {
            Version::V1 => hierarchy.controllers == joined.controllers,
            Version::V2 => hierarchy.version == Version::V2,
        };
        if let Some(hierarchy) = seen.v1.iter_mut().chain(&mut seen.v2).find(is_it) {
            hierarchy.own = Some(joined.parent.clone());
        }
    }
    let limits = every_limit(spec);
    // On v1 its scope counts, which got its share at the start; who changes the groups above does not change that.
    let cpuset = cpuset::look(&seen, bound.filter(|_| seen.v1_with("cpuset").is_none()));
    let mut facts = look_in(seen, &limits, cpuset);
    let group = pod.hierarchies.iter().find(|joined| joined.version == Version::V2);
    if let (Some(unified), Some(joined)) = (&mut facts.unified, group) {
        let procs = joined.mount_point.join(&joined.parent).join("cgroup.procs");
        unified.own.alone = read_bounded(&procs).is_ok_and(|text| text.is_empty());
    }
    Ok(facts)
}

fn every_limit(spec: &Spec) -> Vec<&Limits> {
    std::iter::once(&spec.pod.limits).chain(spec.apps.iter().map(|app| &app.limits)).collect()
}

fn look_in(hierarchies: Hierarchies, limits: &[&Limits], cpuset: Result<CpusetFacts, String>) -> Facts {
    let unified = hierarchies.v2.as_ref().map(|v2| unified(v2, &hierarchies, limits));
    let absent_files = absent_files(&hierarchies, unified.as_ref(), limits);
    Facts {
        huge_pages: huge_pages(limits),
        disks: disks(limits),
        page_size: page_size(),
        also_joined: Vec::new(),
        also_delegated: Vec::new(),
        cpuset,
        absent_files,
        unified,
        hierarchies,
    }
}

fn page_size() -> u64 {
    sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| u64::try_from(size).ok()).unwrap_or(4096)
}

fn huge_pages(limits: &[&Limits]) -> BTreeSet<u64> {
    let is_asked = limits.iter().any(|limits| !limits.hugetlb.is_empty());
    if is_asked { huge_page_sizes() } else { BTreeSet::new() }
}

/// In bytes, by the names of the kernel's directories: `hugepages-2048kB`.
pub(super) fn huge_page_sizes() -> BTreeSet<u64> {
    let size = |name: &str| -> Option<u64> {
        let kilobytes: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        kilobytes.checked_mul(1024)
    };
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    entries.filter_map(|entry| size(entry.file_name().to_str()?)).collect()
}

fn disks(limits: &[&Limits]) -> BTreeMap<PathBuf, Result<Disk, String>> {
    let paths = limits.iter().flat_map(|limits| limits.io_max.keys());
    paths.map(|path| (path.clone(), disk::find(path))).collect()
}

/// On a hybrid host whose cgroup2 tree limits nothing there is no more to know than that.
fn unified(v2: &Hierarchy, hierarchies: &Hierarchies, limits: &[&Limits]) -> UnifiedFacts {
    let own_group = v2.own.clone().unwrap_or_default();
    let controllers = words(&v2.mount_point.join("cgroup.controllers"));
    let is_wanted = |c: &str| c == "memory" || WISHED.contains(&c) || needs(c, limits);
    let is_here =
        |c: &str| controllers.iter().any(|have| have == c) && hierarchies.v1_with(name_on_v1(c)).is_none();
    let of_use = |c: &&str| is_wanted(c) && is_here(c);
    if !LIMITING.iter().any(of_use) {
        let root = GroupFacts { controllers, ..GroupFacts::default() };
        return UnifiedFacts { own_group, root, own: GroupFacts::default() };
    }
    let own = group(&v2.mount_point.join(&own_group));
    let root = if own_group.is_empty() { own.clone() } else { group(&v2.mount_point) };
    UnifiedFacts { own_group, own, root }
}

pub(super) fn group(dir: &Path) -> GroupFacts {
    // The type file is in every group but the root (cgroup-v2.rst).
    let kind = read_bounded(&dir.join("cgroup.type"));
    GroupFacts {
        controllers: words(&dir.join("cgroup.controllers")),
        enabled: words(&dir.join("cgroup.subtree_control")),
        is_root: kind.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound),
        is_ours: false,
        threaded: kind.is_ok_and(|text| text.trim_ascii() != b"domain"),
        delegated: delegated(dir),
        alone: alone(dir),
        writable: access(dir, AccessFlags::W_OK).is_ok(),
    }
}

pub(super) fn words(path: &Path) -> Vec<String> {
    let text = read_bounded(path).unwrap_or_default();
    String::from_utf8_lossy(&text).split_whitespace().map(str::to_owned).collect()
}

/// systemd marks what it delegates; `trusted.` is readable by root alone, `user.` is set since version 251.
pub(super) fn delegated(dir: &Path) -> bool {
    let Ok(dir) = File::open(dir) else { return false };
    [c"trusted.delegate", c"user.delegate"].into_iter().any(|name| xattr::is_one(dir.as_fd(), name))
}

/// Whether systemd has given our own group to us.
pub(super) fn is_delegated(hierarchies: &Hierarchies) -> bool {
    let all = hierarchies.v2.iter().chain(hierarchies.v1_with("name=systemd"));
    all.filter_map(Hierarchy::own_dir).any(|dir| delegated(&dir))
}

/// Whether we are in the tree of a systemd whose root is this group.
pub(super) fn is_below(hierarchies: &Hierarchies, root: &str) -> bool {
    let own =
        hierarchies.v2.as_ref().or_else(|| hierarchies.v1_with("name=systemd")).and_then(|h| h.own.as_ref());
    let is_below =
        |own: &String| own.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    root.is_empty() || own.is_some_and(is_below)
}

/// The caller of a `run -d` waits in the same group.
fn alone(dir: &Path) -> bool {
    let own = nix::unistd::getpid().as_raw();
    let ours: Vec<String> =
        [Some(own), detach::caller()].into_iter().flatten().map(|pid| pid.to_string()).collect();
    let there = words(&dir.join("cgroup.procs"));
    !there.is_empty() && there.iter().all(|pid| ours.contains(pid))
}

/// What the pod may choose from; looked for when a limit needs it, or when a v1 cpuset comes along with a
/// controller that shares its mount.
fn cpus(hierarchies: &Hierarchies, limits: &[&Limits], slice: Option<&str>) -> Result<CpusetFacts, String> {
    let v1 = hierarchies.v1_with("cpuset");
    if !needs("cpuset", limits) && v1.is_none_or(|h| h.controllers.len() == 1) {
        return Err("the CPUs of the launcher's group were not looked for".to_owned());
    }
    cpuset::look(hierarchies, slice)
}

/// Files that depend on the kernel's configuration or age, looked for where the controller shows its files: in
/// our own group. On v2 the root has none of them, and then nothing is known.
fn absent_files(
    hierarchies: &Hierarchies,
    unified: Option<&UnifiedFacts>,
    limits: &[&Limits],
) -> BTreeSet<String> {
    let mut absent = BTreeSet::new();
    for (controller, on_v1, on_v2) in suspects(limits) {
        let own_v2 = unified.filter(|u| !u.own.is_root && u.own.controllers.iter().any(|c| c == controller));
        let (dir, file) = match (hierarchies.v1_with(name_on_v1(controller)), &hierarchies.v2) {
            (Some(v1), _) => (v1.own_dir(), on_v1),
            (None, Some(v2)) if own_v2.is_some() => (v2.own_dir(), on_v2),
            _ => continue,
        };
        if file.is_empty() {
            continue;
        }
        if dir.is_some_and(|dir| is_missing(&dir, file)) {
            absent.insert(file.to_owned());
        }
    }
    absent
}

/// A root has fewer files than the groups below it: there one of those is asked too, if there is any.
fn is_missing(dir: &Path, file: &str) -> bool {
    let lacks = |dir: &Path| {
        dir.join(file).symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    let is_root = || dir.join("cgroup.sane_behavior").exists();
    let a_group = || {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).find(|path| path.is_dir())
    };
    lacks(dir) && (!is_root() || a_group().is_some_and(|group| lacks(&group)))
}

/// Controller, its file on v1 and its file on v2 (empty: that version has none), for the limits that are set.
fn suspects<'a>(limits: &[&'a Limits]) -> Vec<(&'a str, &'a str, &'a str)> {
    type Row = (fn(&Limits) -> bool, (&'static str, &'static str, &'static str));
    const ROWS: [Row; 9] = [
        (|l| l.memory_swap_max.is_some(), ("memory", "memory.memsw.limit_in_bytes", "memory.swap.max")),
        (|l| l.memory_zswap_max.is_some(), ("memory", "", "memory.zswap.max")),
        // Every app has it, whether its author says so or not.
        (|_| true, ("memory", "", "memory.oom.group")),
        (|l| l.cpus.is_some(), ("cpu", "cpu.cfs_quota_us", "cpu.max")),
        (|l| l.cpu_burst.is_some(), ("cpu", "cpu.cfs_burst_us", "cpu.max.burst")),
        (|l| l.cpu_weight == Some(CpuWeight::Idle), ("cpu", "cpu.idle", "cpu.idle")),
        (|l| l.io_weight.is_some(), ("io", "blkio.bfq.weight", "io.weight")),
        (|l| l.io_weight.is_some(), ("io", "", "io.bfq.weight")),
        (|l| !l.io_max.is_empty(), ("io", "", "io.max")),
    ];
    let rows = ROWS.into_iter().filter(|(is_set, _)| limits.iter().any(|l| is_set(l))).map(|(_, row)| row);
    let named =
        limits.iter().flat_map(|l| l.unified.keys()).map(|file| (controller_of(file), "", file.as_str()));
    rows.chain(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_shows_at_least_one_hierarchy_that_we_are_in() {
        let found = hierarchies().unwrap();
        let own = found.v1.iter().chain(&found.v2).filter_map(Hierarchy::own_dir);
        let dirs: Vec<PathBuf> = own.collect();
        assert!(!dirs.is_empty());
        assert!(dirs.iter().all(|dir| dir.is_dir()), "{dirs:?}");
    }
}
