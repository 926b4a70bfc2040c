//! The isolators that are tables: disks, huge pages, and files by their names.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::controller_of;
use super::super::key::LIMITING;
use super::{Cannot, Key, REMOVE, Resolver, Slot, memory_text, target};
use crate::cgroup::limits::Disk;
use crate::cgroup::plan::{Joined, Setting, Shows, Version};
use crate::spec::{IoMax, Limits};
use crate::value::Ceiling;

impl Resolver<'_> {
    /// The file of the scheduler that is there: of iocost, or of BFQ, which counts up to 1000 (block/bfq-cgroup.c).
    pub(super) fn io_weight(&self, limits: &Limits, slot: &Slot<'_>) -> Result<Vec<Setting>, Cannot> {
        let weight = u64::from(limits.io_weight.unwrap_or(100));
        let is_there = |file: &str| !self.facts.absent_files.contains(file);
        let one = |file: &str, value: String| Ok(vec![slot.set(Key::IoWeight, file, value)]);
        match (slot.is_v1(), is_there("io.weight")) {
            (true, _) if is_there("blkio.bfq.weight") => one("blkio.bfq.weight", bfq(weight).to_string()),
            (true, _) => Err(Cannot::Enforce("this kernel has no `blkio.bfq.weight`".into(), REMOVE.into())),
            (false, true) => one("io.weight", format!("default {weight}")),
            (false, false) if is_there("io.bfq.weight") => {
                one("io.bfq.weight", format!("default {}", bfq(weight)))
            }
            (false, false) => {
                let reason = "this kernel has neither `io.weight` nor `io.bfq.weight`";
                Err(Cannot::Enforce(reason.into(), REMOVE.into()))
            }
        }
    }

    /// A line for each disk. v1 has a file for each kind of limit, and no limit of a group holds for those below it
    /// (blkio-controller.rst of v1, "Hierarchical Cgroups").
    pub(super) fn io_max(
        &self,
        index: usize,
        limits: &Limits,
        slot: &Slot<'_>,
    ) -> Result<Vec<Setting>, Cannot> {
        if slot.is_v1() && index == 0 {
            let reason = "cgroup v1 has no such limit for a group of groups";
            let hint = "give it to the apps, or set on-missing = \"ignore\"";
            return Err(Cannot::Enforce(reason.into(), hint.into()));
        }
        let mut settings = Vec::new();
        let mut seen: BTreeMap<Disk, &Path> = BTreeMap::new();
        for (path, max) in &limits.io_max {
            let name = path.display().to_string();
            let disk = match self.facts.disks.get(path) {
                Some(Ok(disk)) => *disk,
                Some(Err(reason)) => {
                    return Err(Cannot::MeanOf(
                        name,
                        reason.clone(),
                        "name a block device, or a file on one".into(),
                    ));
                }
                None => return Err(Cannot::MeanOf(name, "was not looked at".into(), "remove it".into())),
            };
            if let Some(first) = seen.insert(disk, path) {
                let reason = format!("is on the same disk ({disk}) as {}", first.display());
                return Err(Cannot::MeanOf(name, reason, "remove one of them".into()));
            }
            settings.extend(if slot.is_v1() {
                io_max_v1(disk, max, slot)
            } else {
                io_max_v2(disk, max, slot)
            });
        }
        Ok(settings)
    }

    /// What may be used, and what may be reserved: without the second a process that uses its mapping is killed
    /// (SIGBUS) where one could be told at once (hugetlb.rst).
    pub(super) fn hugetlb(&self, limits: &Limits, slot: &Slot<'_>) -> Result<Vec<Setting>, Cannot> {
        let mut settings = Vec::new();
        for (&page, &limit) in &limits.hugetlb {
            let name = huge_page_name(page);
            if !self.facts.huge_pages.contains(&page) {
                let sizes: Vec<String> =
                    self.facts.huge_pages.iter().map(|&size| huge_page_name(size)).collect();
                let has = if sizes.is_empty() { "none".to_owned() } else { sizes.join(", ") };
                let reason = format!("this kernel has no huge pages of this size (it has {has})");
                return Err(Cannot::MeanOf(name, reason, "remove it, or choose another size".into()));
            }
            // A group begins without a limit, and v1 shows another number for that with each size.
            if limit == Ceiling::Max && slot.is_v1() {
                continue;
            }
            let word = if slot.is_v1() { "limit_in_bytes" } else { "max" };
            let (value, reads_back) = memory_text(limit, page, slot.joined.version);
            for file in [format!("hugetlb.{name}.{word}"), format!("hugetlb.{name}.rsvd.{word}")] {
                let set = slot.set(Key::Hugetlb, &file, String::new());
                settings.push(Setting { value: value.clone(), reads_back: reads_back.clone(), ..set });
            }
        }
        Ok(settings)
    }

    /// Files of cgroup2 as they are named; what is shown is the text, or one of the lines of the file.
    pub(super) fn unified(&self, limits: &Limits, hierarchies: &[Joined]) -> Result<Vec<Setting>, Cannot> {
        let of_v2 = hierarchies.iter().position(|joined| joined.version == Version::V2);
        let mut settings = Vec::new();
        for (file, value) in &limits.unified {
            let controller = controller_of(file);
            let index = match target(hierarchies, controller) {
                Some((_, joined)) if joined.version == Version::V1 => {
                    let reason =
                        format!("`{file}` is of cgroup v2, and controller `{controller}` is on v1 here");
                    return Err(Cannot::Enforce(reason, REMOVE.into()));
                }
                Some((index, _)) => Some(index),
                None => of_v2.filter(|_| !LIMITING.contains(&controller)),
            };
            let Some((index, joined)) = index.and_then(|i| Some((i, hierarchies.get(i)?))) else {
                let reason = format!("`{file}` is of cgroup v2, which is not mounted here");
                return Err(Cannot::Enforce(reason, REMOVE.into()));
            };
            if self.facts.absent_files.contains(file) {
                return Err(Cannot::Enforce(format!("this kernel has no `{file}`"), REMOVE.into()));
            }
            let slot = Slot { index, joined };
            settings.push(Setting { shows: Shows::Line, ..slot.set(Key::Unified, file, value.clone()) });
        }
        Ok(settings)
    }
}

/// BFQ's weights are 1 to 1000 with the same default of 100: systemd's conversion, which keeps what is below it.
fn bfq(weight: u64) -> u64 {
    if weight <= 100 { weight } else { 100 + (weight - 100) * 900 / 9_900 }
}

/// The kernel's own name, in binary units (`mem_fmt` of mm/hugetlb_cgroup.c).
fn huge_page_name(bytes: u64) -> String {
    match bytes {
        0x4000_0000.. => format!("{}GB", bytes >> 30),
        0x10_0000.. => format!("{}MB", bytes >> 20),
        _ => format!("{}KB", bytes >> 10),
    }
}

/// The four limits, as v2 calls them and as v1 calls their files.
fn parts(max: &IoMax) -> [(&'static str, &'static str, Option<u64>); 4] {
    let number = |ceiling: Option<Ceiling>| match ceiling {
        Some(Ceiling::At(number)) => Some(number),
        Some(Ceiling::Max) | None => None,
    };
    [
        ("rbps", "blkio.throttle.read_bps_device", number(max.rbps)),
        ("wbps", "blkio.throttle.write_bps_device", number(max.wbps)),
        ("riops", "blkio.throttle.read_iops_device", number(max.riops)),
        ("wiops", "blkio.throttle.write_iops_device", number(max.wiops)),
    ]
}

/// A disk without any limit has no line.
fn io_max_v2(disk: Disk, max: &IoMax, slot: &Slot<'_>) -> Vec<Setting> {
    let parts = parts(max);
    if parts.iter().all(|(_, _, number)| number.is_none()) {
        return Vec::new();
    }
    let words = parts.map(|(word, _, number)| {
        format!(" {word}={}", number.map_or("max".to_owned(), |number| number.to_string()))
    });
    vec![Setting {
        shows: Shows::Line,
        ..slot.set(Key::IoMax, "io.max", format!("{disk}{}", words.concat()))
    }]
}

fn io_max_v1(disk: Disk, max: &IoMax, slot: &Slot<'_>) -> Vec<Setting> {
    let line = |(_, file, number): (&str, &str, Option<u64>)| {
        let set = slot.set(Key::IoMax, file, format!("{disk} {}", number?));
        Some(Setting { shows: Shows::Line, ..set })
    };
    parts(max).into_iter().filter_map(line).collect()
}
