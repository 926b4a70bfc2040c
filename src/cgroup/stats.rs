//! What the groups of a living pod use at the moment, by path from the plan: [`usage`] for `status` and its like,
//! [`counters`] with it for `stats`.
//!
//! Read-only, and one number at a time: what this host does not count, or what is gone by now, is `None`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::cgroup::events::keyed;
use crate::cgroup::plan::{CgroupPlan, Joined, Version};
use crate::cgroup::pressure::Pressure;

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

/// What one group has used so far, or uses beside its [`Usage`]. What is not counted for this pod is `None`, as where it does
/// not have the controller ([`crate::cgroup::limits::WISHED`]).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Counters {
    /// For how long its quota held it up, in nanoseconds.
    pub throttled_ns: Option<u64>,
    /// CPUs that its quota allows; `None`: there is none, or none is known.
    pub cpus: Option<f64>,
    /// Bytes in swap.
    pub swap_bytes: Option<u64>,
    /// Bytes read from disks.
    pub read_bytes: Option<u64>,
    /// Bytes written to disks.
    pub written_bytes: Option<u64>,
    /// How long its tasks waited.
    pub pressure: Pressure,
}

/// Reads what a group (`""` the pod's own, `supervisor`, `app-<name>`) uses.
#[must_use]
pub fn usage(plan: &CgroupPlan, group: &str) -> Usage {
    let place = Place::of(plan, group);
    let mut usage = Usage::default();
    if let Some((version, dir)) = place.with("memory") {
        memory(&mut usage, version, &dir);
    }
    if let Some((_, dir)) = place.with("pids") {
        usage.pids = number(&dir, "pids.current");
        usage.pids_max = number(&dir, "pids.max");
    }
    usage.cpu_ns = match place.unified() {
        Some(dir) => {
            text(&dir, "cpu.stat").and_then(|text| keyed(&text, "usage_usec")).map(|used| used * 1000)
        }
        None => place.with("cpuacct").and_then(|(_, dir)| number(&dir, "cpuacct.usage")),
    };
    usage
}

/// Reads the counters of a group, named as for [`usage`].
#[must_use]
pub fn counters(plan: &CgroupPlan, group: &str) -> Counters {
    let place = Place::of(plan, group);
    let throttled = match place.with("cpu") {
        Some((version, dir)) => text(&dir, "cpu.stat").and_then(|text| match version {
            Version::V1 => keyed(&text, "throttled_time"),
            Version::V2 => keyed(&text, "throttled_usec")?.checked_mul(1000),
        }),
        // Without the controller no group has a quota that could hold it up.
        None => (!plan.hierarchies.is_empty()).then_some(0),
    };
    let cpus = place.with("cpu").and_then(|(version, dir)| match version {
        Version::V1 => quota(&text(&dir, "cpu.cfs_quota_us")?, &text(&dir, "cpu.cfs_period_us")?),
        Version::V2 => text(&dir, "cpu.max")?.split_once(' ').and_then(|(quota_us, us)| quota(quota_us, us)),
    });
    let swap = place.with("memory").and_then(|(version, dir)| match version {
        Version::V1 => keyed(&text(&dir, "memory.stat")?, "total_swap"),
        Version::V2 => number(&dir, "memory.swap.current"),
    });
    let moved = match (place.with("io"), place.with("blkio")) {
        (Some((_, dir)), _) => text(&dir, "io.stat").map(|text| moved_v2(&text)),
        (None, Some((_, dir))) => {
            text(&dir, "blkio.throttle.io_service_bytes_recursive").map(|text| moved_v1(&text))
        }
        (None, None) => None,
    };
    Counters {
        throttled_ns: throttled,
        cpus,
        swap_bytes: swap,
        read_bytes: moved.map(|(read, _)| read),
        written_bytes: moved.map(|(_, written)| written),
        pressure: place.unified().map(|dir| Pressure::read(&dir)).unwrap_or_default(),
    }
}

/// v1 says `-1` where v2 says `max`.
#[allow(clippy::cast_precision_loss, reason = "a ratio, of which a few digits are shown")]
fn quota(quota_us: &str, period_us: &str) -> Option<f64> {
    let (quota, period): (u64, u64) = (quota_us.trim().parse().ok()?, period_us.trim().parse().ok()?);
    (period > 0).then(|| quota as f64 / period as f64)
}

/// Whether the processes of a group stand still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frozen {
    /// All of them do.
    Still,
    /// Some do, or are on their way.
    Partly,
    /// None was told to.
    Not,
}

/// Reads it for a group, named as for [`usage`]; `""` is the pod's own group here. `None`: it is gone, or nothing can be
/// frozen in the hierarchies that the pod joins.
#[must_use]
pub fn frozen(plan: &CgroupPlan, group: &str) -> Option<Frozen> {
    let place = Place { plan, group };
    if let Some(dir) = place.unified() {
        let told = number(&dir, "cgroup.freeze")?;
        let is_still = keyed(&text(&dir, "cgroup.events")?, "frozen")?;
        return Some(match (told, is_still) {
            (0, 0) => Frozen::Not,
            (1, 1) => Frozen::Still,
            _ => Frozen::Partly,
        });
    }
    let (_, dir) = place.with("freezer")?;
    Some(match text(&dir, "freezer.state")?.trim() {
        "FROZEN" => Frozen::Still,
        "THAWED" => Frozen::Not,
        _ => Frozen::Partly,
    })
}

/// `MAJ:MIN rbytes=1 wbytes=2 …`, a line for each disk.
fn moved_v2(text: &str) -> (u64, u64) {
    let sum = |key: &str| {
        let words = text.split_ascii_whitespace();
        words.filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok()).fold(0, u64::saturating_add)
    };
    (sum("rbytes="), sum("wbytes="))
}

/// `MAJ:MIN Read 1`, a line for each disk and direction; `Total 1` without a disk at the end.
fn moved_v1(text: &str) -> (u64, u64) {
    let sum = |direction: &str| {
        let lines = text.lines().filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            (words.next() == Some(direction)).then(|| words.next()?.parse::<u64>().ok()).flatten()
        });
        lines.fold(0, u64::saturating_add)
    };
    (sum("Read"), sum("Write"))
}

/// A group in each hierarchy.
struct Place<'a> {
    plan: &'a CgroupPlan,
    group: &'a str,
}

impl<'a> Place<'a> {
    fn of(plan: &'a CgroupPlan, group: &'a str) -> Self {
        Self { plan, group: if group.is_empty() { &plan.limits_at } else { group } }
    }

    fn dir(&self, joined: &Joined) -> PathBuf {
        joined.mount_point.join(&joined.parent).join(&self.plan.pod_group).join(self.group)
    }

    fn with(&self, controller: &str) -> Option<(Version, PathBuf)> {
        let mut all = self.plan.hierarchies.iter();
        let joined = all.find(|joined| joined.controllers.iter().any(|c| c == controller))?;
        Some((joined.version, self.dir(joined)))
    }

    fn unified(&self) -> Option<PathBuf> {
        self.plan
            .hierarchies
            .iter()
            .find(|joined| joined.version == Version::V2)
            .map(|joined| self.dir(joined))
    }
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

/// A short file of the kernel's; `None`: it is not there, or not any more.
pub(super) fn text(dir: &Path, file: &str) -> Option<String> {
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
            gifts: Vec::new(),
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
        let groups = vec![Group { name: "app-web".into(), ..Group::default() }];
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

    #[test]
    fn group_stands_still_when_the_kernel_says_so() {
        let table = [("0", "0", Frozen::Not), ("1", "0", Frozen::Partly), ("1", "1", Frozen::Still)];
        for (told, still, expected) in table {
            let events = format!("populated 1\nfrozen {still}\n");
            let root = tree(&[("cgroup.freeze", told), ("cgroup.events", &events)]);
            let plan = plan(vec![joined(Version::V2, root.path(), &[])]);
            assert_eq!(frozen(&plan, "app-web"), Some(expected));
            assert_eq!(frozen(&plan, "app-none"), None);
        }
        for (state, expected) in
            [("FROZEN\n", Frozen::Still), ("FREEZING\n", Frozen::Partly), ("THAWED\n", Frozen::Not)]
        {
            let root = tree(&[("freezer.state", state)]);
            assert_eq!(
                frozen(&plan(vec![joined(Version::V1, root.path(), &["freezer"])]), "app-web"),
                Some(expected)
            );
        }
    }

    #[test]
    fn counters_of_both_versions() {
        let v2 = tree(&[
            ("cpu.stat", "usage_usec 9\nnr_periods 3\nnr_throttled 2\nthrottled_usec 1500\n"),
            ("memory.swap.current", "4096\n"),
            (
                "io.stat",
                "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n7:0 rbytes=1 wbytes=2 rios=1\n",
            ),
            ("cpu.pressure", "some avg10=1.50 avg60=0.00 avg300=0.00 total=7\n"),
        ]);
        let found =
            counters(&plan(vec![joined(Version::V2, v2.path(), &["cpu", "memory", "io"])]), "app-web");
        let expected = [Some(1_500_000), Some(4096), Some(11), Some(22)];
        assert_eq!([found.throttled_ns, found.swap_bytes, found.read_bytes, found.written_bytes], expected);
        assert_eq!(found.pressure.cpu.map(|stall| stall.some_total_ns), Some(7000));
        let v1 = tree(&[
            ("cpu.stat", "nr_periods 3\nnr_throttled 2\nthrottled_time 1500000\n"),
            ("memory.stat", "swap 1\ntotal_swap 4096\n"),
            (
                "blkio.throttle.io_service_bytes_recursive",
                "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\n7:0 Read 1\n7:0 Write 2\nTotal 33\n",
            ),
        ]);
        let found =
            counters(&plan(vec![joined(Version::V1, v1.path(), &["cpu", "memory", "blkio"])]), "app-web");
        assert_eq!([found.throttled_ns, found.swap_bytes, found.read_bytes, found.written_bytes], expected);
        assert!(found.pressure.is_unknown());
        assert_eq!(counters(&plan(Vec::new()), "app-web"), Counters::default());
    }
}
