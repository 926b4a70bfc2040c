//! [`Bundle`]: files of one group that bound each other, and the order of their writes.
//!
//! What bounds what, from the kernel: `memory.limit_in_bytes` is never above `memory.memsw.limit_in_bytes`
//! (mm/memcontrol-v1.c); a burst is never above its quota, and on v1 quota by period of a group never above that of the
//! group around it nor below those of the groups in it (kernel/sched/core.c, `tg_set_cfs_bandwidth`); a group that is
//! idle takes no weight; on v1 a cpuset is within the one around it and holds those in it (cpusets(7)).

use std::collections::BTreeMap;

use super::{Level, Spot, State, Want};
use crate::cgroup::plan::Version;

const LIMIT: &str = "memory.limit_in_bytes";
const SUM: &str = "memory.memsw.limit_in_bytes";
const QUOTA_V1: &str = "cpu.cfs_quota_us";
const PERIOD_V1: &str = "cpu.cfs_period_us";
const BURST_V1: &str = "cpu.cfs_burst_us";
const QUOTA: &str = "cpu.max";
const BURST: &str = "cpu.max.burst";
const IDLE: &str = "cpu.idle";

/// Those that belong together; none for a file that stands alone.
const FAMILIES: [&[&str]; 4] =
    [&[LIMIT, SUM], &[QUOTA_V1, PERIOD_V1, BURST_V1], &[QUOTA, BURST], &[IDLE, "cpu.shares", "cpu.weight"]];

/// The files that a file belongs together with, itself among them; none when it stands alone.
pub(super) fn family(file: &str) -> &'static [&'static str] {
    FAMILIES.into_iter().find(|files| files.contains(&file)).unwrap_or_default()
}

/// What becomes of the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// It allows more, or as much.
    Grows,
    /// It allows less.
    Shrinks,
    /// It allows something else, in a group around others that may not be without it meanwhile.
    Moves,
}

/// Files of one group that belong together, as they are and as they shall be.
pub(super) struct Bundle<'a> {
    pub(super) level: &'a Level,
    version: Version,
    wanted: BTreeMap<&'a str, (&'a Spot, &'a Want)>,
    now: BTreeMap<&'a str, &'a str>,
}

impl<'a> Bundle<'a> {
    pub(super) fn new(level: &'a Level, version: Version) -> Self {
        Self { level, version, wanted: BTreeMap::new(), now: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, spot: &'a Spot, now: &'a State, want: &'a Want) {
        self.wanted.insert(&spot.file, (spot, want));
        let here = |other: &&Spot| {
            let is_family = other.file == spot.file || family(&spot.file).contains(&other.file.as_str());
            (&other.level, other.hierarchy, &other.line) == (&spot.level, spot.hierarchy, &spot.line)
                && is_family
        };
        let shown = now.iter().filter(|(other, _)| here(other));
        self.now.extend(shown.map(|(other, text)| (other.file.as_str(), text.as_str())));
    }

    fn differs(&self, file: &str) -> bool {
        let shown = self.now.get(file);
        self.wanted.get(file).is_some_and(|(_, want)| !shown.is_some_and(|shown| want.agrees(shown)))
    }

    pub(super) fn is_changed(&self) -> bool {
        self.wanted.keys().any(|file| self.differs(file))
    }

    /// That of the first file.
    pub(super) fn key(&self) -> Option<&str> {
        self.wanted.values().next().map(|(_, want)| want.key.as_str())
    }

    /// The write of one file, where it differs.
    fn write(&self, file: &str) -> Option<(Spot, String)> {
        if self.differs(file) { self.always(file) } else { None }
    }

    fn always(&self, file: &str) -> Option<(Spot, String)> {
        self.wanted.get(file).map(|(spot, want)| ((*spot).clone(), want.value.clone()))
    }

    fn shown(&self, file: &str) -> &str {
        self.now.get(file).copied().unwrap_or_default()
    }

    /// What will be shown of a file that need not change.
    fn later(&self, file: &str) -> &str {
        self.wanted.get(file).map_or_else(|| self.shown(file), |(_, want)| want.reads_back.as_str())
    }

    pub(super) fn direction(&self) -> Direction {
        let file = self.wanted.keys().next().copied().unwrap_or_default();
        let bound = |before: Option<u128>, behind: Option<u128>| match before.zip(behind) {
            Some((before, behind)) if behind < before => Direction::Shrinks,
            _ => Direction::Grows,
        };
        match family(file).first().copied() {
            Some(LIMIT) => bound(number(self.shown(LIMIT)), number(self.later(LIMIT))),
            Some(QUOTA_V1 | QUOTA) => self.quota_direction(),
            Some(_) => Direction::Grows,
            None if is_cpuset(file) => self.set_direction(file),
            None => bound(number(self.shown(file)), number(self.later(file))),
        }
    }

    fn quota_direction(&self) -> Direction {
        let of_v2 = |text: &str| text.split_once(' ').and_then(|(quota, period)| bandwidth(quota, period));
        let (before, behind) = match self.version {
            Version::V1 => (
                bandwidth(self.shown(QUOTA_V1), self.shown(PERIOD_V1)),
                bandwidth(self.later(QUOTA_V1), self.later(PERIOD_V1)),
            ),
            Version::V2 => (of_v2(self.shown(QUOTA)), of_v2(self.later(QUOTA))),
        };
        match before.zip(behind) {
            // Quota by period, multiplied out.
            Some(((quota, period), (new, new_period)))
                if new.saturating_mul(period) < quota.saturating_mul(new_period) =>
            {
                Direction::Shrinks
            }
            _ => Direction::Grows,
        }
    }

    fn set_direction(&self, file: &str) -> Direction {
        let (before, behind) = (numbers(self.shown(file)), numbers(self.later(file)));
        let within = |inner: &[u32], outer: &[u32]| inner.iter().all(|number| outer.contains(number));
        if within(&before, &behind) {
            Direction::Grows
        } else if within(&behind, &before) || self.version == Version::V2 || !self.level.is_outer() {
            Direction::Shrinks
        } else {
            Direction::Moves
        }
    }

    /// For a bound that moves: first what allows both.
    pub(super) fn widening(&self) -> Vec<(Spot, String)> {
        let Some((file, (spot, _))) = self.wanted.iter().next() else { return Vec::new() };
        let mut both = numbers(self.shown(file));
        both.extend(numbers(self.later(file)));
        both.sort_unstable();
        both.dedup();
        let text = both.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        vec![((*spot).clone(), text)]
    }

    /// Every write, in the order in which each of them is allowed.
    pub(super) fn writes(&self) -> Vec<(Spot, String)> {
        let file = self.wanted.keys().next().copied().unwrap_or_default();
        let writes = match family(file).first().copied() {
            Some(LIMIT) => self.memory_writes(),
            Some(QUOTA_V1) => self.with_burst(BURST_V1, self.quota_writes_v1()),
            Some(QUOTA) => self.with_burst(BURST, vec![self.write(QUOTA)]),
            Some(_) => self.weight_writes(),
            None => vec![self.write(file)],
        };
        writes.into_iter().flatten().collect()
    }

    /// The limit first, unless it would be above what memory and swap together may be by now.
    fn memory_writes(&self) -> Vec<Option<(Spot, String)>> {
        let (limit, sum) = (self.write(LIMIT), self.write(SUM));
        let above = number(self.later(LIMIT)) > number(self.shown(SUM)).or(Some(u128::MAX));
        if above { vec![sum, limit] } else { vec![limit, sum] }
    }

    /// The burst first, unless it would be above the quota that there is by now.
    fn with_burst(&self, file: &str, quota: Vec<Option<(Spot, String)>>) -> Vec<Option<(Spot, String)>> {
        let now = if self.version == Version::V1 { self.shown(QUOTA_V1) } else { self.shown(QUOTA) };
        let above = number(self.later(file)) > number(now.split(' ').next().unwrap_or_default());
        let burst = vec![self.write(file)];
        if above { [quota, burst].concat() } else { [burst, quota].concat() }
    }

    /// The ratio of the two is bounded at each write: from below by the groups in this one, from above by the one around
    /// it. Without a quota it is that of the group around it, and any period will do.
    fn quota_writes_v1(&self) -> Vec<Option<(Spot, String)>> {
        let (quota, period) = (self.write(QUOTA_V1), self.write(PERIOD_V1));
        let is_longer = number(self.later(PERIOD_V1)) > number(self.shown(PERIOD_V1));
        let has_quota = |text: &str| text != "-1";
        match (has_quota(self.shown(QUOTA_V1)), has_quota(self.later(QUOTA_V1))) {
            _ if period.is_none() => vec![quota],
            (false, _) => vec![period, quota],
            (true, false) => vec![quota, period],
            (true, true) if self.level.is_outer() => {
                let free = self.always(QUOTA_V1).map(|(spot, _)| (spot, "-1".to_owned()));
                vec![free, period, self.always(QUOTA_V1)]
            }
            // The ratio in between is less than both.
            (true, true) if is_longer => vec![period, quota],
            (true, true) => vec![quota, period],
        }
    }

    fn weight_writes(&self) -> Vec<Option<(Spot, String)>> {
        let weights = ["cpu.shares", "cpu.weight"];
        if self.shown(IDLE) == "1" && self.differs(IDLE) {
            // The kernel gives it the weight of a group without one.
            return [self.write(IDLE)].into_iter().chain(weights.map(|file| self.always(file))).collect();
        }
        weights.map(|file| self.write(file)).into_iter().chain([self.write(IDLE)]).collect()
    }
}

/// A number, where a limit is one; none is more than any.
pub(super) fn number(text: &str) -> Option<u128> {
    match text.strip_prefix("default ").unwrap_or(text) {
        "max" | "-1" => Some(u128::MAX),
        text => text.parse().ok(),
    }
}

fn bandwidth(quota: &str, period: &str) -> Option<(u128, u128)> {
    Some((number(quota)?, number(period)?))
}

fn is_cpuset(file: &str) -> bool {
    matches!(file, "cpuset.cpus" | "cpuset.mems" | "cpus" | "mems")
}

/// The kernel's list, as it was shown or is about to be.
fn numbers(text: &str) -> Vec<u32> {
    let parts = text.trim().split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?)
    });
    parts.flatten().collect()
}
