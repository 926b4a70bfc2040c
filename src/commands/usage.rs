//! What the groups of a living pod use, read from the kernel at this moment.
//!
//! Where the files are comes from the recorded plan. A file that is not there says nothing: the pod may end
//! while it is looked at, and not every host has every counter.

use std::path::{Path, PathBuf};

use crate::cgroup::limits::app_group;
use crate::cgroup::plan::{CgroupPlan, Joined, Version};
use crate::pod::status::json::UsageJson;

/// The largest multiple of a page in an i64: how v1 writes that there is no limit.
const UNLIMITED_V1: u64 = (i64::MAX as u64) & !4095;

/// What the app's group uses; `None`: the pod's own.
#[must_use]
pub fn read(plan: &CgroupPlan, app: Option<&str>) -> UsageJson {
    let directory = |joined: &Joined| {
        let pod = joined.mount_point.join(&joined.parent).join(&plan.pod_group);
        app.map_or_else(|| pod.clone(), |app| pod.join(app_group(app)))
    };
    let with = |controller: &str| {
        let joined = plan.hierarchies.iter().find(|h| h.controllers.iter().any(|name| name == controller))?;
        Some((joined.version, directory(joined)))
    };
    let v2 = plan.hierarchies.iter().find(|joined| joined.version == Version::V2);
    let mut usage =
        UsageJson { cpu_used_ns: cpu(v2.map(directory), with("cpuacct")), ..UsageJson::default() };
    if let Some((version, directory)) = with("memory") {
        let [current, peak, max] = match version {
            Version::V1 => ["memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.limit_in_bytes"],
            Version::V2 => ["memory.current", "memory.peak", "memory.max"],
        };
        usage.memory_current_bytes = number(&directory.join(current));
        usage.memory_peak_bytes = number(&directory.join(peak));
        usage.memory_max_bytes = number(&directory.join(max)).filter(|limit| *limit < UNLIMITED_V1);
    }
    if let Some((_, directory)) = with("pids") {
        usage.pids_current = number(&directory.join("pids.current"));
        usage.pids_max = number(&directory.join("pids.max"));
    }
    usage
}

/// Every group of cgroup2 counts CPU time, with or without the controller; v1 has a controller for it.
fn cpu(v2: Option<PathBuf>, cpuacct: Option<(Version, PathBuf)>) -> Option<u64> {
    let from_v2 = || {
        let text = text(&v2?.join("cpu.stat"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
        line.parse::<u64>().ok()?.checked_mul(1000)
    };
    from_v2().or_else(|| number(&cpuacct?.1.join("cpuacct.usage")))
}

/// `None` also for `max`.
fn number(path: &Path) -> Option<u64> {
    text(path)?.trim_end().parse().ok()
}

fn text(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}
