//! What the groups of a living pod use at the moment, by path from the plan: for `status` and its like.
//!
//! Read-only, and one number at a time: what this host does not count, or what is gone by now, is `None`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::cgroup::events::keyed;
use crate::cgroup::plan::{CgroupPlan, Joined, Version};

/// v1 shows "no limit" as the largest number of whole pages; no machine has as much memory.
const UNLIMITED_FROM: u64 = 1 << 62;

/// What one group uses, everything below it included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes in use.
    pub memory_bytes: Option<u64>,
    /// The most bytes that were ever in use.
    pub memory_peak_bytes: Option<u64>,
    /// The hard limit; `None`: there is none, or none is known.
    pub memory_max_bytes: Option<u64>,
    /// CPU time used, in nanoseconds.
    pub cpu_ns: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// The most of them; `None`: no limit, or none is known.
    pub pids_max: Option<u64>,
    /// How many processes of the group the OOM killer killed.
    pub oom_kills: Option<u64>,
}

/// Reads what a group (`""` the pod's own, `supervisor`, `app-<name>`) uses.
#[must_use]
pub fn usage(plan: &CgroupPlan, group: &str) -> Usage {
    let group = if group.is_empty() { &plan.limits_at } else { group };
    let dir = |joined: &Joined| joined.mount_point.join(&joined.parent).join(&plan.pod_group).join(group);
    let with = |controller: &str| {
        plan.hierarchies
            .iter()
            .find(|joined| joined.controllers.iter().any(|c| c == controller))
            .map(|joined| (joined.version, dir(joined)))
    };
    let mut usage = Usage::default();
    if let Some((version, dir)) = with("memory") {
        memory(&mut usage, version, &dir);
    }
    if let Some((_, dir)) = with("pids") {
        usage.pids = number(&dir, "pids.current");
        usage.pids_max = number(&dir, "pids.max");
    }
    let unified = plan.hierarchies.iter().find(|joined| joined.version == Version::V2).map(dir);
    usage.cpu_ns = match unified {
        Some(dir) => {
            text(&dir, "cpu.stat").and_then(|text| keyed(&text, "usage_usec")).map(|used| used * 1000)
        }
        None => with("cpuacct").and_then(|(_, dir)| number(&dir, "cpuacct.usage")),
    };
    usage
}

fn memory(usage: &mut Usage, version: Version, dir: &Path) {
    let files = match version {
        Version::V1 => [
            "memory.usage_in_bytes",
            "memory.max_usage_in_bytes",
            "memory.limit_in_bytes",
            "memory.oom_control",
        ],
        Version::V2 => ["memory.current", "memory.peak", "memory.max", "memory.events"],
    };
    let [current, peak, max, kills] = files;
    usage.memory_bytes = number(dir, current);
    usage.memory_peak_bytes = number(dir, peak);
    usage.memory_max_bytes = number(dir, max).filter(|bytes| *bytes < UNLIMITED_FROM);
    usage.oom_kills = text(dir, kills).and_then(|text| keyed(&text, "oom_kill"));
}

/// `max` is no number, and so no limit.
fn number(dir: &Path, file: &str) -> Option<u64> {
    text(dir, file)?.trim().parse().ok()
}

fn text(dir: &Path, file: &str) -> Option<String> {
    let path: PathBuf = dir.join(file);
    let mut text = String::new();
    File::open(path).ok()?.take(1 << 16).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::plan::Group;
    use podrun_abi::boot::CgroupView;

    fn joined(version: Version, mount_point: &Path, controllers: &[&str]) -> Joined {
        Joined {
            version,
            mount_point: mount_point.to_owned(),
            parent: "own".into(),
            controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
            mount_root: String::new(),
            enable_in_parent: Vec::new(),
            launcher_leaf: None,
            view: CgroupView { name: String::new(), fstype: "cgroup2".into(), options: String::new() },
        }
    }

    /// The kernel's texts, in plain files.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("own/podrun-1/app-web");
        std::fs::create_dir_all(&dir).unwrap();
        for (name, text) in files {
            std::fs::write(dir.join(name), text).unwrap();
        }
        root
    }

    fn plan(hierarchies: Vec<Joined>) -> CgroupPlan {
        let groups = vec![Group { name: "app-web".into(), settings: Vec::new() }];
        CgroupPlan {
            pod_group: "podrun-1".into(),
            hierarchies,
            groups,
            limits_at: String::new(),
            not_enforced: Vec::new(),
        }
    }

    #[test]
    fn unified_host() {
        let root = tree(&[
            ("memory.current", "4096\n"),
            ("memory.peak", "8192\n"),
            ("memory.max", "max\n"),
            ("memory.events", "low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\noom_group_kill 0\n"),
            ("cpu.stat", "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n"),
            ("pids.current", "3\n"),
            ("pids.max", "20\n"),
        ]);
        let expected = Usage {
            memory_bytes: Some(4096),
            memory_peak_bytes: Some(8192),
            memory_max_bytes: None,
            cpu_ns: Some(1_500_000),
            pids: Some(3),
            pids_max: Some(20),
            oom_kills: Some(2),
        };
        let plan = plan(vec![joined(Version::V2, root.path(), &["memory", "pids"])]);
        assert_eq!(usage(&plan, "app-web"), expected);
        assert_eq!(usage(&plan, "app-none"), Usage::default());
    }

    #[test]
    fn legacy_host() {
        let root = tree(&[
            ("memory.usage_in_bytes", "4096\n"),
            ("memory.max_usage_in_bytes", "8192\n"),
            ("memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"),
            ("cpuacct.usage", "1500000\n"),
        ]);
        let expected = Usage {
            memory_bytes: Some(4096),
            memory_peak_bytes: Some(8192),
            cpu_ns: Some(1_500_000),
            oom_kills: Some(1),
            ..Usage::default()
        };
        let plan = plan(vec![joined(Version::V1, root.path(), &["memory", "cpuacct"])]);
        assert_eq!(usage(&plan, "app-web"), expected);
    }
}
