//! The times of a CPU quota: the period in which it is counted, and what may be saved up beyond it.

use std::time::Duration;

use super::super::pod::grace;
use super::{Item, Report, Rule, Table, rules};
use crate::spec::{Grace, Limits};
use crate::value::duration;

/// The kernel's shortest and longest period (`min_cfs_quota_period`, `max_cfs_quota_period`).
const PERIODS: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(1);
/// The period where the author leaves the choice.
const PERIOD: Duration = Duration::from_millis(100);
/// The kernel's shortest quota in a period (`min_cfs_quota_period` again).
const QUOTA_MIN_US: u128 = 1_000;

pub(super) fn period(item: &Item, report: &mut Report) -> Option<Duration> {
    let time = finite(item, report)?;
    if PERIODS.contains(&time) {
        return Some(time);
    }
    let message = format!("cpu-period is {}; the range is 1ms to 1s", duration::show(Grace::Limited(time)));
    report.add(item.problem(&rules::CPU_PERIOD, message));
    None
}

pub(super) fn burst(item: &Item, report: &mut Report) -> Option<Duration> {
    finite(item, report)
}

fn finite(item: &Item, report: &mut Report) -> Option<Duration> {
    match grace(item, report)? {
        Grace::Limited(time) => Some(time),
        Grace::Infinite => {
            report.add(item.problem(&rules::DURATION_RANGE, format!("{} cannot be infinite", item.key)));
            None
        }
    }
}

/// What period and burst say together with the amount.
pub(super) fn check(limits: &Limits, table: &Table, report: &mut Report) {
    let period = table.item("cpu-period").zip(limits.cpu_period);
    let burst = table.item("cpu-burst").zip(limits.cpu_burst.filter(|burst| !burst.is_zero()));
    let (Some(cpus), Some(amount)) = (table.item("cpus"), limits.cpus) else {
        // Whoever has a wrong amount is told that alone.
        if table.item("cpus").is_none() {
            alone(period.map(|(item, _)| (item, &rules::CPU_PERIOD)), report);
            alone(burst.map(|(item, _)| (item, &rules::CPU_BURST)), report);
        }
        return;
    };
    // In units of 10^-12 s.
    let quota = |period: Duration| u128::from(amount.0) * period.as_micros();
    if let Some((item, period)) = &period {
        let quota = quota(*period);
        let shown = duration::show(Grace::Limited(*period));
        let reason = if quota < QUOTA_MIN_US * 1_000_000 {
            "less than the kernel's least, 1ms"
        } else if !quota.is_multiple_of(1_000_000) {
            "no whole number of microseconds"
        } else {
            ""
        };
        if !reason.is_empty() {
            let message = format!("cpus ({amount}) in a cpu-period of {shown} is {reason}");
            let problem =
                item.problem(&rules::CPU_PERIOD, message).related(cpus.span.clone(), "cpus is here");
            report.add(problem.help("choose another period, or leave it out: podrun finds one that fits"));
        }
    }
    let period = period.map_or(PERIOD, |(_, period)| period);
    let quota_us = quota(period) / 1_000_000;
    if let Some((item, burst)) = burst.filter(|(_, burst)| burst.as_micros() > quota_us) {
        let show = |time| duration::show(Grace::Limited(time));
        let gives = Duration::from_micros(u64::try_from(quota_us).unwrap_or(u64::MAX));
        let message = format!(
            "cpu-burst ({}) is above what cpus gives in a period ({} of {})",
            show(burst),
            show(gives),
            show(period)
        );
        report.add(item.problem(&rules::CPU_BURST, message).related(cpus.span, "cpus is here"));
    }
}

fn alone(found: Option<(Item, &Rule)>, report: &mut Report) {
    let Some((item, rule)) = found else { return };
    let problem = item.problem(rule, format!("{} has no effect without cpus", item.key));
    report.add(problem.help(match rule.code == rules::CPU_BURST.code {
        true => "there is nothing to save up where CPU time is not limited",
        false => "nothing is counted where CPU time is not limited",
    }));
}
