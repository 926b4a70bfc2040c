//! How long tasks of a group waited for CPU, memory and input and output: the kernel's pressure stall information
//! (Documentation/accounting/psi.rst).
//!
//! A cgroup2 tree counts it for every group, also for one without controllers; v1 does not know it.

use std::path::Path;

use serde::Serialize;

use super::stats::text;

/// The pressure on one group.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Pressure {
    /// For CPU time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Stall>,
    /// For memory: reclaim, swap, pages that come back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Stall>,
    /// For input and output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io: Option<Stall>,
}

/// The pressure for one resource, by which at least one task was held up (`some`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Stall {
    /// Of the last ten seconds, in percent.
    pub some_avg10: f64,
    /// Since the group was made, in nanoseconds.
    pub some_total_ns: u64,
}

impl Pressure {
    /// What the group of this directory of a cgroup2 tree says.
    #[must_use]
    pub fn read(dir: &Path) -> Self {
        let stall = |file: &str| text(dir, file).and_then(|text| Stall::parse(&text));
        Self { cpu: stall("cpu.pressure"), memory: stall("memory.pressure"), io: stall("io.pressure") }
    }

    /// Whether the kernel counts none of it.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}

impl Stall {
    /// Of a file such as `cpu.pressure`; `None`: it is none, or pressure is switched off.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
        let value = |key: &str| line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let some_avg10: f64 = value("avg10")?.parse().ok()?;
        let total_us: u64 = value("total")?.parse().ok()?;
        Some(Self { some_avg10, some_total_ns: total_us.checked_mul(1000)? })
            .filter(|_| some_avg10.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_understood() {
        let text = "some avg10=12.34 avg60=0.46 avg300=0.10 total=25806516\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(Stall::parse(text), Some(Stall { some_avg10: 12.34, some_total_ns: 25_806_516_000 }));
        for bad in [
            "",
            "full avg10=1.00 total=1\n",
            "some avg10=x total=1\n",
            "some avg10=NaN total=1\n",
            "some avg10=1.00\n",
        ] {
            assert_eq!(Stall::parse(bad), None, "{bad}");
        }
    }
}
