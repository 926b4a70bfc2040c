//! What the groups of a living pod use, in the form in which `status` shows it.
//!
//! The numbers are read from the kernel by [`stats`]. One that is not there says nothing: the pod may end while it
//! is looked at, and not every host has every counter.

use crate::cgroup::limits::app_group;
use crate::cgroup::plan::CgroupPlan;
use crate::cgroup::stats;
use crate::pod::status::json::UsageJson;

/// What the app's group uses; `None`: the pod's own.
#[must_use]
pub fn read(plan: &CgroupPlan, app: Option<&str>) -> UsageJson {
    let usage = stats::usage(plan, &app.map(app_group).unwrap_or_default());
    UsageJson {
        memory_current_bytes: usage.memory_bytes,
        memory_peak_bytes: usage.memory_peak_bytes,
        memory_max_bytes: usage.memory_max_bytes,
        cpu_used_ns: usage.cpu_ns,
        pids_current: usage.pids,
        pids_max: usage.pids_max,
    }
}
