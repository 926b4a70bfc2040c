//! Whether systemd has started us as the main process of a service, and whether the service's group is ours.
//!
//! systemd sets `SYSTEMD_EXEC_PID` to the pid of the process that it executes (systemd.exec(5)). Everything that a service
//! starts inherits the variable: only where it is our own pid are we what the unit says.

use std::path::Path;

use anyhow::anyhow;

use super::cgroup::{delegated, group, words};
use crate::cgroup::hierarchy::Hierarchies;
use crate::cgroup::place::GroupFacts;
use crate::error::Note;
use crate::systemd::ServiceFacts;

/// `None`: we are no service.
pub(super) fn look(hierarchies: &Hierarchies) -> anyhow::Result<Option<ServiceFacts>> {
    let started = std::env::var("SYSTEMD_EXEC_PID").ok().and_then(|pid| pid.parse::<u32>().ok());
    // The hierarchy by which systemd tells what belongs to a unit.
    let tracking = hierarchies.v2.as_ref().or_else(|| hierarchies.v1_with("name=systemd"));
    let (true, Some(hierarchy)) = (started == Some(std::process::id()), tracking) else { return Ok(None) };
    let Some(own) = &hierarchy.own else { return Ok(None) };
    let candidates = [Some(own.as_str()), parent(own)].into_iter().flatten();
    let services: Vec<&str> = candidates.filter(|path| unit(path).is_some()).collect();
    let Some(nearest) = services.first().copied() else { return Ok(None) };
    let is_delegated = |path: &&str| delegated(&hierarchy.mount_point.join(path));
    let Some(found) = services.iter().copied().find(is_delegated) else {
        let (unit, shown) = (unit(nearest).unwrap_or_default(), Path::new("/").join(nearest));
        let error = anyhow!(
            "cannot run a pod as service `{unit}`: systemd has not delegated its group `{}`",
            shown.display()
        );
        return Err(error).hint(format!(
            "add `Delegate=yes` below [Service] of {unit} (systemctl edit {unit}), and restart it"
        ));
    };
    let dir = hierarchy.mount_point.join(found);
    let mut facts = if hierarchies.v2.is_some() { group(&dir) } else { GroupFacts::default() };
    // With DelegateSubgroup= systemd has started us in a leaf already, and there is nothing to leave.
    facts.is_ours = found != own.as_str() && words(&dir.join("cgroup.procs")).is_empty();
    facts.is_root |= facts.is_ours;
    let unit = unit(found).unwrap_or_default().to_owned();
    Ok(Some(ServiceFacts { unit, group: found.to_owned(), own: facts }))
}

fn parent(group: &str) -> Option<&str> {
    group.rsplit_once('/').map(|(parent, _)| parent)
}

/// The unit's name, where the group is a service's.
fn unit(group: &str) -> Option<&str> {
    group.rsplit('/').next().filter(|name| name.ends_with(".service"))
}
