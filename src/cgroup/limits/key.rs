//! The isolators by their keys: which controller carries each, and in which order they are written.
//!
//! One row for each; the files and values of a row are in [`super::values`], the properties of units in
//! `systemd::units`. A new isolator begins here, and the compiler names the other places.

use crate::spec::Limits;

/// An isolator, by the manifest's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    MemoryMax,
    MemoryHigh,
    MemoryLow,
    MemoryMin,
    MemorySwapMax,
    MemoryZswapMax,
    MemoryOomGroup,
    Cpus,
    CpuPeriod,
    CpuBurst,
    CpuWeight,
    Cpuset,
    CpusetMems,
    PidsMax,
    IoWeight,
    IoMax,
    Hugetlb,
    Unified,
}

impl Key {
    /// In the order in which files are written: the hard limit before swap's, which may not be below it on v1; the
    /// quota before the burst, which may not be above it.
    pub(super) const ALL: [Self; 18] = [
        Self::Cpuset,
        Self::CpusetMems,
        Self::MemoryMax,
        Self::MemorySwapMax,
        Self::MemoryZswapMax,
        Self::MemoryHigh,
        Self::MemoryLow,
        Self::MemoryMin,
        Self::MemoryOomGroup,
        Self::Cpus,
        Self::CpuPeriod,
        Self::CpuBurst,
        Self::CpuWeight,
        Self::IoWeight,
        Self::IoMax,
        Self::Hugetlb,
        Self::PidsMax,
        Self::Unified,
    ];

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::MemoryMax => "memory-max",
            Self::MemoryHigh => "memory-high",
            Self::MemoryLow => "memory-low",
            Self::MemoryMin => "memory-min",
            Self::MemorySwapMax => "memory-swap-max",
            Self::MemoryZswapMax => "memory-zswap-max",
            Self::MemoryOomGroup => "memory-oom-group",
            Self::Cpus => "cpus",
            Self::CpuPeriod => "cpu-period",
            Self::CpuBurst => "cpu-burst",
            Self::CpuWeight => "cpu-weight",
            Self::Cpuset => "cpuset",
            Self::CpusetMems => "cpuset-mems",
            Self::PidsMax => "pids-max",
            Self::IoWeight => "io-weight",
            Self::IoMax => "io-max",
            Self::Hugetlb => "hugetlb",
            Self::Unified => "unified",
        }
    }

    /// The controller that carries it, by its name on cgroup2; of `unified` each file has its own.
    pub(super) fn controller(self) -> &'static str {
        match self {
            Self::Unified => "",
            Self::IoWeight | Self::IoMax => "io",
            Self::Hugetlb => "hugetlb",
            Self::Cpus | Self::CpuPeriod | Self::CpuBurst | Self::CpuWeight => "cpu",
            Self::Cpuset | Self::CpusetMems => "cpuset",
            Self::PidsMax => "pids",
            _ => "memory",
        }
    }

    /// Whether it needs a controller, where it is set.
    pub(super) fn needs(self, controller: &str, limits: &Limits) -> bool {
        match self {
            Self::Unified => limits.unified.keys().any(|file| controller_of(file) == controller),
            _ => self.controller() == controller,
        }
    }

    pub(super) fn is_set(self, limits: &Limits) -> bool {
        match self {
            Self::MemoryMax => limits.memory_max.is_some(),
            Self::MemoryHigh => limits.memory_high.is_some(),
            Self::MemoryLow => limits.memory_low.is_some(),
            Self::MemoryMin => limits.memory_min.is_some(),
            Self::MemorySwapMax => limits.memory_swap_max.is_some(),
            Self::MemoryZswapMax => limits.memory_zswap_max.is_some(),
            Self::MemoryOomGroup => limits.memory_oom_group.is_some(),
            Self::Cpus => limits.cpus.is_some(),
            Self::CpuPeriod => limits.cpu_period.is_some(),
            Self::CpuBurst => limits.cpu_burst.is_some(),
            Self::CpuWeight => limits.cpu_weight.is_some(),
            Self::Cpuset => limits.cpuset.is_some(),
            Self::CpusetMems => limits.cpuset_mems.is_some(),
            Self::PidsMax => limits.pids_max.is_some(),
            Self::IoWeight => limits.io_weight.is_some(),
            Self::IoMax => !limits.io_max.is_empty(),
            Self::Hugetlb => !limits.hugetlb.is_empty(),
            Self::Unified => !limits.unified.is_empty(),
        }
    }
}

/// The controllers that carry isolators, by their names on cgroup2.
pub(crate) const LIMITING: [&str; 9] =
    ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "misc", "rdma", "dmem"];

/// A controller's name on v1.
#[must_use]
pub(crate) fn name_on_v1(controller: &str) -> &str {
    if controller == "io" { "blkio" } else { controller }
}

/// The controller that a file of a cgroup2 group belongs to.
#[must_use]
pub(crate) fn controller_of(file: &str) -> &str {
    file.split('.').next().unwrap_or(file)
}

/// Whether the isolators of a pod need this controller.
#[must_use]
pub(crate) fn needs(controller: &str, limits: &[&Limits]) -> bool {
    let is_asked = |key: Key| limits.iter().any(|l| key.is_set(l) && key.needs(controller, l));
    Key::ALL.into_iter().any(is_asked)
}
