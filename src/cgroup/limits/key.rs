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
}

impl Key {
    /// In the order in which files are written: the hard limit before swap's, which may not be below it on v1; the
    /// quota before the burst, which may not be above it.
    pub(super) const ALL: [Self; 14] = [
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
        Self::PidsMax,
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
        }
    }

    pub(super) fn controller(self) -> &'static str {
        match self {
            Self::Cpus | Self::CpuPeriod | Self::CpuBurst | Self::CpuWeight => "cpu",
            Self::Cpuset | Self::CpusetMems => "cpuset",
            Self::PidsMax => "pids",
            _ => "memory",
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
        }
    }
}

/// The controllers that carry isolators.
pub(crate) const LIMITING: [&str; 4] = ["cpuset", "cpu", "memory", "pids"];

/// Whether the isolators of a pod need this controller.
#[must_use]
pub(crate) fn needs(controller: &str, limits: &[&Limits]) -> bool {
    Key::ALL.into_iter().any(|key| key.controller() == controller && limits.iter().any(|l| key.is_set(l)))
}
