//! Quantities as they are written in a manifest: sizes, durations, CPU amounts, sets of CPUs.
//!
//! Each type is parsed once, at the edge, and is in range from then on. The parsers know neither the key they
//! work for nor the place in the text; a [`Refusal`] carries words that fit any key.

use std::collections::BTreeSet;

pub mod capability;
pub mod cpus;
pub mod device;
pub mod duration;
pub mod identity;
pub mod numbers;
pub mod place;
pub mod rlimit;
pub mod signal;
pub mod size;

pub use device::Access;

/// Why a text is not a value of its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which kind of fault.
    pub why: Why,
    /// For people: lower case, no full stop, with the refused text in it.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

/// The kind of a [`Refusal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Not in the form of its type.
    Form,
    /// In the form, but outside of the range.
    Range,
    /// Readers disagree about what the form means.
    Ambiguous,
}

impl Refusal {
    pub(crate) fn form(message: String) -> Self {
        Self { why: Why::Form, message, help: None }
    }

    fn range(message: String) -> Self {
        Self { why: Why::Range, message, help: None }
    }

    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

/// The candidate that `text` most likely stands for, if any is near enough to be named. One that goes on where
/// `text` ends is nearer than any other.
#[must_use]
pub fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = text.to_ascii_lowercase();
    let likeness = |candidate: &str| {
        let candidate = candidate.to_ascii_lowercase();
        let goes_on = if lower.len() >= 4 && candidate.starts_with(&lower) { 1.0 } else { 0.0 };
        strsim::jaro_winkler(&lower, &candidate) + goes_on
    };
    candidates
        .into_iter()
        .map(|candidate| (likeness(candidate), candidate))
        .filter(|(likeness, _)| *likeness >= 0.82)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// The text as TOML writes it between double quotes.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `digits` as it stands, or nothing: no sign, no blank, no separator.
fn digits(text: &str) -> Option<u128> {
    let all_digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if all_digits { text.parse().ok() } else { None }
}

/// A non-negative decimal such as `1.5`, exactly: the digits without the point, and how many follow it.
fn decimal(text: &str) -> Option<(u128, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if text.contains('.') && fraction.is_empty() {
        return None;
    }
    digits(whole)?;
    let joined = digits(&format!("{whole}{fraction}"))?;
    // 20 places keep every product below within 128 bits: 10^20 * 2^60 < 2^127.
    if joined >= 10_u128.pow(20) || fraction.len() > 18 {
        return None;
    }
    Some((joined, u32::try_from(fraction.len()).ok()?))
}

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
