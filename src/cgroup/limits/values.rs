//! The files and values of each isolator, and the text that the kernel shows afterwards.
//!
//! Facts and traps of each file: `docs/cgroups.md`. A value that the kernel would clamp, round or ignore without
//! a word is an error here; the one rounding that is let through is that of bytes down to whole pages.

use std::time::Duration;

mod tables;

use super::{Facts, Key, LimitError, Resolver, target, v1_cpuset};
use crate::cgroup::cpuset::Choice;
use crate::cgroup::plan::{Joined, Setting, Shows, Version};
use crate::spec::Limits;
use crate::value::{Ceiling, CpuWeight, NumberSet};

/// The largest quota that the scheduler takes, in microseconds: `MAX_BW` of kernel/sched/sched.h.
const CPU_QUOTA_MAX: u64 = (1 << 44) - 1;
/// `PID_MAX_LIMIT` of 64-bit kernels: pids.max refuses more.
const PIDS_MAX: u64 = 4_194_304;
/// Where a key would only have to go.
const REMOVE: &str = "remove it, or set on-missing = \"ignore\"";

/// Where the files of one key go.
struct Slot<'p> {
    index: usize,
    joined: &'p Joined,
}

impl Slot<'_> {
    fn is_v1(&self) -> bool {
        self.joined.version == Version::V1
    }

    fn set(&self, key: Key, file: &str, value: String) -> Setting {
        let reads_back = value.clone();
        let (key, file) = (key.text().to_owned(), file.to_owned());
        Setting { key, hierarchy: self.index, file, value, reads_back, shows: Shows::Whole }
    }
}

impl Resolver<'_> {
    /// Everything that is written for one pod or app.
    pub(super) fn settings(&mut self, index: usize, hierarchies: &[Joined]) -> Vec<Setting> {
        let mut settings = Vec::new();
        if let Some((at, joined)) = v1_cpuset(hierarchies) {
            settings.extend(self.cpuset_v1(index, &Slot { index: at, joined }));
        }
        for key in self.keys_of(index) {
            let Some(limits) = self.scopes.get(index).map(|scope| scope.limits) else { continue };
            let found = match (key, target(hierarchies, key.controller())) {
                (Key::Unified, _) => self.unified(limits, hierarchies),
                (_, Some((at, joined))) => self.value(index, key, limits, &Slot { index: at, joined }),
                (_, None) => continue,
            };
            match found {
                Ok(found) => settings.extend(found),
                Err(Cannot::Enforce(reason, hint)) => self.cannot(index, key, &reason, &hint),
                Err(Cannot::Mean(reason, hint)) => self.means_nothing(index, key, None, (reason, hint)),
                Err(Cannot::MeanOf(entry, reason, hint)) => {
                    self.means_nothing(index, key, Some(entry), (reason, hint));
                }
            }
        }
        settings.extend(self.oom_group_of_app(index, hierarchies));
        settings
    }

    fn means_nothing(&mut self, index: usize, key: Key, entry: Option<String>, told: (String, String)) {
        let scope = self.scopes.get(index).map(|scope| scope.name.clone()).unwrap_or_default();
        let (reason, hint) = (told.0, Some(told.1));
        self.errors.push(LimitError { scope, key: key.text(), entry, reason, hint });
    }

    fn value(
        &self,
        index: usize,
        key: Key,
        limits: &Limits,
        slot: &Slot<'_>,
    ) -> Result<Vec<Setting>, Cannot> {
        let v1 = slot.is_v1();
        match key {
            Key::MemoryMax => {
                let file = if v1 { "memory.limit_in_bytes" } else { "memory.max" };
                Ok(self.memory(key, limits.memory_max, file, slot))
            }
            Key::MemoryHigh | Key::MemoryLow | Key::MemoryMin if v1 => no_such_thing(key, limits),
            Key::MemoryHigh => Ok(self.memory(key, limits.memory_high, "memory.high", slot)),
            Key::MemoryLow => Ok(self.memory(key, limits.memory_low, "memory.low", slot)),
            Key::MemoryMin => Ok(self.memory(key, limits.memory_min, "memory.min", slot)),
            Key::MemorySwapMax => self.swap(limits, slot),
            // Of an app stage1 does it.
            Key::MemoryOomGroup if v1 && index > 0 => Ok(Vec::new()),
            Key::MemoryZswapMax | Key::MemoryOomGroup if v1 => no_such_thing(key, limits),
            Key::MemoryZswapMax => self.present("memory.zswap.max", || {
                self.memory(key, limits.memory_zswap_max, "memory.zswap.max", slot)
            }),
            Key::MemoryOomGroup => self.oom_group(limits.memory_oom_group == Some(true), slot),
            Key::Cpus => self.cpus(index, limits, slot),
            // A part of the quota's own file or files.
            Key::CpuPeriod => Ok(Vec::new()),
            Key::CpuBurst => self.cpu_burst(limits, slot),
            Key::CpuWeight => self.cpu_weight(limits, slot),
            Key::Cpuset | Key::CpusetMems => self.cpuset(index, key, limits, slot),
            Key::PidsMax => pids(limits, slot),
            Key::IoWeight => self.io_weight(limits, slot),
            Key::IoMax => self.io_max(index, limits, slot),
            Key::Hugetlb => self.hugetlb(limits, slot),
            Key::Unified => Ok(Vec::new()),
        }
    }

    fn memory(&self, key: Key, limit: Option<Ceiling>, file: &str, slot: &Slot<'_>) -> Vec<Setting> {
        let Some(limit) = limit else { return Vec::new() };
        let (value, reads_back) = memory_text(limit, self.facts.page_size, slot.joined.version);
        vec![Setting { value, reads_back, ..slot.set(key, file, String::new()) }]
    }

    /// v2 limits swap alone, v1 the sum of memory and swap. `max` is what a group starts with, and the files are
    /// not there when the kernel does not count swap, so nothing is written for it.
    fn swap(&self, limits: &Limits, slot: &Slot<'_>) -> Result<Vec<Setting>, Cannot> {
        let Some(Ceiling::At(swap)) = limits.memory_swap_max else { return Ok(Vec::new()) };
        let file = if slot.is_v1() { "memory.memsw.limit_in_bytes" } else { "memory.swap.max" };
        if self.facts.absent_files.contains(file) {
            let reason = format!("the kernel does not count swap here, there is no `{file}`");
            return Err(Cannot::Enforce(reason, format!("boot with swapaccount=1, {REMOVE}")));
        }
        let limit = match (slot.is_v1(), limits.memory_max) {
            (false, _) => swap,
            (true, Some(Ceiling::At(memory))) => {
                (memory - memory % self.facts.page_size).saturating_add(swap)
            }
            (true, _) => {
                let reason = "cgroup v1 limits only memory and swap together, so this needs memory-max";
                return Err(Cannot::Enforce(reason.into(), "set memory-max too".into()));
            }
        };
        Ok(self.memory(Key::MemorySwapMax, Some(Ceiling::At(limit)), file, slot))
    }

    fn oom_group(&self, all: bool, slot: &Slot<'_>) -> Result<Vec<Setting>, Cannot> {
        const FILE: &str = "memory.oom.group";
        let value = if all { "1" } else { "0" };
        self.present(FILE, || vec![slot.set(Key::MemoryOomGroup, FILE, value.to_owned())])
    }

    /// An app of which the OOM killer has taken a part is of no use, and seldom knows it: unless its author says
    /// otherwise it goes as a whole. A host that cannot do it is no reason to refuse what nobody has asked for.
    fn oom_group_of_app(&self, index: usize, hierarchies: &[Joined]) -> Vec<Setting> {
        let unsaid = |limits: &Limits| limits.memory_oom_group.is_none();
        let is_app = index > 0 && self.scopes.get(index).is_some_and(|scope| unsaid(scope.limits));
        match target(hierarchies, "memory").filter(|_| is_app) {
            Some((index, joined)) if joined.version == Version::V2 => {
                self.oom_group(true, &Slot { index, joined }).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// What may be saved up. Behind the quota, which it may not be above.
    fn cpu_burst(&self, limits: &Limits, slot: &Slot<'_>) -> Result<Vec<Setting>, Cannot> {
        let file = if slot.is_v1() { "cpu.cfs_burst_us" } else { "cpu.max.burst" };
        let burst = limits.cpu_burst.unwrap_or_default().as_micros().to_string();
        self.present(file, || vec![slot.set(Key::CpuBurst, file, burst)])
    }

    fn cpus(&self, index: usize, limits: &Limits, slot: &Slot<'_>) -> Result<Vec<Setting>, Cannot> {
        let Some(amount) = limits.cpus.map(|amount| amount.0) else { return Ok(Vec::new()) };
        let (quota, period) = quota(amount, limits.cpu_period);
        if quota > CPU_QUOTA_MAX {
            let reason = format!("{} CPUs are more than the kernel can count", amount / 1_000_000);
            return Err(Cannot::Mean(reason, "remove it".into()));
        }
        if !slot.is_v1() {
            return self
                .present("cpu.max", || vec![slot.set(Key::Cpus, "cpu.max", format!("{quota} {period}"))]);
        }
        let pod = self.scopes.first().filter(|pod| index > 0 && pod.keys.contains(&Key::Cpus));
        if let Some(pod_amount) = pod.and_then(|pod| pod.limits.cpus).filter(|pod| pod.0 < amount) {
            let reason = format!(
                "{} is more than the pod's {}, which cgroup v1 refuses",
                decimal(amount),
                decimal(pod_amount.0)
            );
            return Err(Cannot::Mean(reason, "lower it to the pod's, or raise the pod's".into()));
        }
        // The period first: without a quota every period is allowed, with one the ratio is compared with the
        // parent's at each write.
        self.present("cpu.cfs_quota_us", || {
            vec![
                slot.set(Key::Cpus, "cpu.cfs_period_us", period.to_string()),
                slot.set(Key::Cpus, "cpu.cfs_quota_us", quota.to_string()),
            ]
        })
    }

    fn cpu_weight(&self, limits: &Limits, slot: &Slot<'_>) -> Result<Vec<Setting>, Cannot> {
        let key = Key::CpuWeight;
        match (limits.cpu_weight, slot.is_v1()) {
            (None, _) => Ok(Vec::new()),
            (Some(CpuWeight::Idle), _) => {
                self.present("cpu.idle", || vec![slot.set(key, "cpu.idle", "1".into())])
            }
            (Some(CpuWeight::Weight(weight)), true) => {
                // The inverse of systemd's conversion, which keeps ratios: 100 is 1024 shares.
                let shares = (u64::from(weight) * 1024 / 100).max(2);
                Ok(vec![slot.set(key, "cpu.shares", shares.to_string())])
            }
            (Some(CpuWeight::Weight(weight)), false) => {
                Ok(vec![slot.set(key, "cpu.weight", weight.to_string())])
            }
        }
    }

    fn present(&self, file: &str, settings: impl FnOnce() -> Vec<Setting>) -> Result<Vec<Setting>, Cannot> {
        if self.facts.absent_files.contains(file) {
            return Err(Cannot::Enforce(format!("this kernel has no `{file}`"), REMOVE.into()));
        }
        Ok(settings())
    }

    /// On v2 only what was asked for is written; on v1 [`Self::cpuset_v1`] writes both files of every group.
    fn cpuset(
        &self,
        index: usize,
        key: Key,
        limits: &Limits,
        slot: &Slot<'_>,
    ) -> Result<Vec<Setting>, Cannot> {
        let Some(wanted) = chosen(key, limits) else { return Ok(Vec::new()) };
        let file = if key == Key::Cpuset { "cpuset.cpus" } else { "cpuset.mems" };
        let (allowed, given) = self.allowed(index, key)?;
        if !wanted.0.is_subset(&allowed.0) {
            let what = if key == Key::Cpuset { "CPUs" } else { "memory nodes" };
            let whose = given.map_or("the pod".to_owned(), |given| given.giver.to_string());
            let reason = format!("`{wanted}` has {what} that {whose} does not have (`{allowed}`)");
            let more = given.and_then(|given| given.remedy(wanted, file, slot.joined));
            let more = more.map(|more| format!(", or let it have more: {more}")).unwrap_or_default();
            return Err(Cannot::Mean(reason, format!("choose from `{allowed}`{more}")));
        }
        if slot.is_v1() {
            return Ok(Vec::new());
        }
        Ok(vec![slot.set(key, file, wanted.to_string())])
    }

    /// What a group may choose from: an app from its pod's, the pod from what it is given.
    fn allowed(&self, index: usize, key: Key) -> Result<(&NumberSet, Option<&Choice>), Cannot> {
        let pod = self.scopes.first().filter(|pod| index > 0 && pod.keys.contains(&key));
        if let Some(set) = pod.and_then(|pod| chosen(key, pod.limits)) {
            return Ok((set, None));
        }
        let given = match &self.facts.cpuset {
            Ok(facts) if key == Key::Cpuset => &facts.cpus,
            Ok(facts) => &facts.mems,
            Err(reason) => return Err(Cannot::Mean(reason.clone(), "remove it".into())),
        };
        Ok((&given.set, Some(given)))
    }

    /// v1: a group without CPUs or memory nodes takes no process (ENOSPC), and starts without both.
    fn cpuset_v1(&self, index: usize, slot: &Slot<'_>) -> Vec<Setting> {
        let noprefix = self.facts.hierarchies.v1_with("cpuset").is_some_and(|h| h.noprefix);
        let prefix = if noprefix { "" } else { "cpuset." };
        let both = [(Key::Cpuset, "cpus"), (Key::CpusetMems, "mems")];
        both.into_iter()
            .filter_map(|(key, name)| {
                let own = self.scopes.get(index).filter(|scope| scope.keys.contains(&key));
                let own = own.and_then(|scope| chosen(key, scope.limits));
                let set = own.or_else(|| self.allowed(index, key).ok().map(|(set, _)| set))?;
                Some(slot.set(key, &format!("{prefix}{name}"), set.to_string()))
            })
            .collect()
    }

    /// What the supervisor's group needs: on v1 the pod's CPUs and memory nodes.
    pub(super) fn inherited_cpuset(&mut self, hierarchies: &[Joined]) -> Vec<Setting> {
        let Some((index, joined)) = v1_cpuset(hierarchies) else { return Vec::new() };
        if let (Err(reason), false) = (&self.facts.cpuset, self.demanded("cpuset")) {
            let reason = reason.clone();
            self.refuse("pod".into(), Key::Cpuset, &reason, "make it readable");
        }
        self.cpuset_v1(0, &Slot { index, joined })
    }
}

/// What cgroup v1 does not know. That one process is killed and not all is what it does anyway.
fn no_such_thing(key: Key, limits: &Limits) -> Result<Vec<Setting>, Cannot> {
    match (key, limits.memory_oom_group) {
        (Key::MemoryOomGroup, Some(false)) => Ok(Vec::new()),
        (Key::MemoryOomGroup, _) => {
            let reason = "cgroup v1 has no `memory.oom.group`, it kills one process at a time";
            Err(Cannot::Enforce(reason.into(), REMOVE.into()))
        }
        _ => Err(Cannot::Enforce("cgroup v1 has no such limit".into(), REMOVE.into())),
    }
}

/// Why a key has no value.
enum Cannot {
    /// This host cannot enforce it: reason and hint.
    Enforce(String, String),
    /// The value itself is wrong here; `on-missing` does not help: reason and hint.
    Mean(String, String),
    /// The same of one entry of the key's table: its name, reason and hint.
    MeanOf(String, String, String),
}

fn chosen(key: Key, limits: &Limits) -> Option<&NumberSet> {
    if key == Key::Cpuset { limits.cpuset.as_ref() } else { limits.cpuset_mems.as_ref() }
}

fn pids(limits: &Limits, slot: &Slot<'_>) -> Result<Vec<Setting>, Cannot> {
    let value = match limits.pids_max {
        None => return Ok(Vec::new()),
        Some(Ceiling::Max) => "max".to_owned(),
        Some(Ceiling::At(count)) if count > PIDS_MAX => {
            let reason = format!("{count} is more than the kernel's {PIDS_MAX}");
            return Err(Cannot::Mean(reason, "write \"max\"".into()));
        }
        Some(Ceiling::At(count)) => count.to_string(),
    };
    Ok(vec![slot.set(Key::PidsMax, "pids.max", value)])
}

/// Quota and period in microseconds for an amount in millionths of a CPU. The default period of 100 ms serves
/// unless the quota would be below the kernel's least (1 ms) or no whole number; then 1 s gives the exact ratio.
/// A period that the author has chosen is kept; the manifest's reader has seen that it gives whole microseconds.
fn quota(amount: u64, period: Option<Duration>) -> (u64, u64) {
    if let Some(period) = period.and_then(|period| u64::try_from(period.as_micros()).ok()) {
        let quota = u128::from(amount) * u128::from(period) / 1_000_000;
        return (u64::try_from(quota).unwrap_or(u64::MAX), period);
    }
    if amount >= 10_000 && amount.is_multiple_of(10) { (amount / 10, 100_000) } else { (amount, 1_000_000) }
}

/// Millionths as a decimal number.
fn decimal(amount: u64) -> String {
    let text = format!("{}.{:06}", amount / 1_000_000, amount % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What is written for a number of bytes, and what the kernel shows: whole pages, and everything from
/// `PAGE_COUNTER_MAX` on as that, which v2 calls `max`.
fn memory_text(limit: Ceiling, page_size: u64, version: Version) -> (String, String) {
    let pages_max = i64::MAX.unsigned_abs() / page_size;
    let pages = match limit {
        Ceiling::At(bytes) => (bytes / page_size).min(pages_max),
        Ceiling::Max => pages_max,
    };
    let reads_back = match version {
        Version::V2 if pages == pages_max => "max".to_owned(),
        _ => (pages * page_size).to_string(),
    };
    let value = match (limit, version) {
        (Ceiling::At(bytes), _) => bytes.to_string(),
        (Ceiling::Max, Version::V1) => "-1".to_owned(),
        (Ceiling::Max, Version::V2) => "max".to_owned(),
    };
    (value, reads_back)
}

impl Default for Facts {
    /// A host with nothing on it, to be filled in.
    fn default() -> Self {
        Self {
            hierarchies: crate::cgroup::hierarchy::Hierarchies::default(),
            unified: None,
            cpuset: Err("the CPUs of the launcher's group were not looked for".to_owned()),
            absent_files: std::collections::BTreeSet::new(),
            huge_pages: std::collections::BTreeSet::new(),
            disks: std::collections::BTreeMap::new(),
            page_size: 4096,
            also_joined: Vec::new(),
            also_delegated: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quota_keeps_the_ratio_exactly() {
        let cases = [
            (800_000, (80_000, 100_000)),
            (900_000, (90_000, 100_000)),
            (100_000, (10_000, 100_000)),
            (5_000, (5_000, 1_000_000)),
            (1_000, (1_000, 1_000_000)),
            (10_000, (1_000, 100_000)),
            (123_456, (123_456, 1_000_000)),
            (2_500_000, (250_000, 100_000)),
            (9_990, (9_990, 1_000_000)),
        ];
        for (amount, (q, p)) in cases {
            assert_eq!(quota(amount, None), (q, p), "{amount}");
            assert_eq!(u128::from(q) * 1_000_000, u128::from(amount) * u128::from(p));
            assert!(q >= 1000);
        }
    }

    #[test]
    fn quota_is_counted_in_the_authors_period() {
        let cases =
            [(500_000, 20, (10_000, 20_000)), (1, 1000, (1, 1_000_000)), (2_000_000, 1, (2_000, 1_000))];
        for (amount, period_ms, expected) in cases {
            assert_eq!(quota(amount, Some(Duration::from_millis(period_ms))), expected, "{amount}");
        }
    }

    #[test]
    fn memory_reads_back_in_whole_pages() {
        let max = "9223372036854771712";
        let cases = [
            (Ceiling::At(26_214_400), Version::V1, "26214400", "26214400"),
            (Ceiling::At(26_214_401), Version::V1, "26214401", "26214400"),
            (Ceiling::At(4095), Version::V2, "4095", "0"),
            (Ceiling::Max, Version::V1, "-1", max),
            (Ceiling::Max, Version::V2, "max", "max"),
            (Ceiling::At(u64::MAX), Version::V1, "18446744073709551615", max),
            (Ceiling::At(u64::MAX), Version::V2, "18446744073709551615", "max"),
        ];
        for (limit, version, value, reads_back) in cases {
            assert_eq!(memory_text(limit, 4096, version), (value.to_owned(), reads_back.to_owned()));
        }
        assert_eq!(memory_text(Ceiling::At(100_000), 65536, Version::V2).1, "65536");
    }

    #[test]
    fn decimals_have_no_tail() {
        for (amount, text) in [(1_500_000, "1.5"), (2_000_000, "2"), (5_000, "0.005"), (20_000_000, "20")] {
            assert_eq!(decimal(amount), text);
        }
    }
}
