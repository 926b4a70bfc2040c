//! Quantities as they are written in a manifest: sizes, durations, CPU amounts, sets of CPUs.
//!
//! Each type is parsed once, at the edge, and is in range from then on.

use std::collections::BTreeSet;

/// A limit that may be `"max"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ceiling {
    /// At most this many bytes or tasks.
    At(u64),
    /// No limit.
    Max,
}

/// CPU time per wall time, in millionths of one CPU; at least 1000 (`"1m"`), the smallest quota of the kernel
/// (1 ms) in its longest period (1 s).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CpuAmount(pub u64);

/// The share of CPU under contention, in cgroup v2's unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuWeight {
    /// Runs only when nothing else wants to (`cpu.idle`).
    Idle,
    /// 1..=10000; 100 is the kernel's default.
    Weight(u16),
}

/// CPU or memory node numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberSet(pub BTreeSet<u32>);

impl std::fmt::Display for NumberSet {
    /// The kernel's list format, the shortest: `0-2,5`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut numbers = self.0.iter().copied().peekable();
        let mut first = true;
        while let Some(start) = numbers.next() {
            let mut end = start;
            while numbers.peek() == Some(&(end + 1)) {
                end += 1;
                numbers.next();
            }
            if !first {
                f.write_str(",")?;
            }
            first = false;
            if start == end { write!(f, "{start}")? } else { write!(f, "{start}-{end}")? }
        }
        Ok(())
    }
}
