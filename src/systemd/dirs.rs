//! The groups of slice and scope in hierarchies that systemd does not manage.
//!
//! systemd makes them in cgroup2, in `name=systemd` and in the v1 hierarchies whose controllers it knows; a pod needs
//! them in others too (cpuset, a cpuacct of its own). There they are made at the same path, and removed with what
//! systemd forgets elsewhere. Only empty groups are ever removed, and `machine.slice` only where it is ours.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::cgroup::plan::{CgroupPlan, Joined};

/// Another pod may be removing the same parents.
const ATTEMPTS: usize = 100;

/// Makes the group `group` with its parents below a mount of v1, where they are not there yet.
pub(super) fn create(joined: &Joined, group: &str) -> anyhow::Result<()> {
    let path = joined.mount_point.join(group);
    let mut last = Ok(());
    for _ in 0..ATTEMPTS {
        last = create_once(joined, group);
        match &last {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => break,
        }
    }
    last.with_context(|| format!("cannot create group `{}`", path.display()))
}

fn create_once(joined: &Joined, group: &str) -> io::Result<()> {
    let mut dir = joined.mount_point.clone();
    for part in group.split('/').filter(|part| !part.is_empty()) {
        let parent = dir.clone();
        dir.push(part);
        match fs::create_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        if joined.controllers.iter().any(|controller| controller == "cpuset") {
            populate(&parent, &dir)?;
        }
    }
    Ok(())
}

/// A v1 cpuset begins without CPUs and memory nodes, and nothing below it can have any (cpusets(7)).
fn populate(parent: &Path, dir: &Path) -> io::Result<()> {
    for name in ["cpus", "mems"] {
        // `cpuset.cpus`, or `cpus` under the mount option `noprefix`.
        let prefixed = format!("cpuset.{name}");
        let file = if dir.join(&prefixed).exists() { prefixed } else { name.to_owned() };
        if fs::read_to_string(dir.join(&file))?.trim().is_empty() {
            fs::write(dir.join(&file), fs::read_to_string(parent.join(&file))?.trim())?;
        }
    }
    Ok(())
}

/// Whether anything of the pod's units is left in a hierarchy that the pod joined.
pub(super) fn any_left(cgroup: &CgroupPlan, slice_group: &str) -> bool {
    cgroup.hierarchies.iter().any(|joined| joined.mount_point.join(slice_group).exists())
}

/// Removes what is empty of scope, slice and, where systemd has nothing, what is above them. Who is in a group that
/// stays is another's matter: the pod's own groups were removed before.
pub(super) fn remove(cgroup: &CgroupPlan, slice_group: &str) -> anyhow::Result<()> {
    for joined in &cgroup.hierarchies {
        let scope = joined.mount_point.join(&joined.parent);
        let slice = joined.mount_point.join(slice_group);
        for path in [&scope, &slice] {
            match fs::remove_dir(path) {
                Err(error) if !is_no_matter(&error) => {
                    return Err(error).with_context(|| format!("cannot remove group `{}`", path.display()));
                }
                _ => {}
            }
        }
        // Where it is systemd's it holds processes or units, or comes back with the next of them.
        let above: Option<PathBuf> = slice.parent().map(Path::to_owned);
        let managed = joined.controllers.is_empty() || joined.controllers.iter().any(|c| is_managed(c));
        if let Some(above) = above.filter(|_| !managed) {
            // Other pods are in it.
            let _ = fs::remove_dir(above);
        }
    }
    Ok(())
}

/// The v1 hierarchies of systemd up to 257 (src/basic/cgroup-util.h, CGroupController).
fn is_managed(controller: &str) -> bool {
    matches!(controller, "cpu" | "cpuacct" | "io" | "blkio" | "memory" | "devices" | "pids" | "name=systemd")
}

/// Not there (any more), or in use.
fn is_no_matter(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::EBUSY | libc::ENOTEMPTY))
}
