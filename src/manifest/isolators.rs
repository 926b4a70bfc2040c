//! The isolators of one block, of the pod or of an app, each by itself.

mod tables;
mod time;

use toml::de::DeValue;

use super::rules::{self, Rule};
use super::tree::{Item, Report, Table, ValueRules};
use crate::spec::{Limits, OnMissing};
use crate::value::{Ceiling, CpuAmount, CpuWeight, NumberSet, Refusal, Why, cpus, numbers, size};

const SIZE: ValueRules = ValueRules::new(rules::SIZE_FORM, rules::SIZE_RANGE);
const CPUS: ValueRules = ValueRules::new(rules::CPUS_FORM, rules::CPUS_RANGE);
const WEIGHT: ValueRules = ValueRules::new(rules::WEIGHT_FORM, rules::WEIGHT_RANGE);
const NUMBERS: ValueRules = ValueRules::new(rules::NUMBERS_FORM, rules::NUMBERS_RANGE);
const PIDS: ValueRules = ValueRules::new(rules::PIDS_FORM, rules::PIDS_RANGE);
const PATH: Rule = rules::PATH;
/// Less than this and not even the C library of most programs fits.
const MEMORY_BYTES_MIN: u64 = 1 << 20;
/// PID_MAX_LIMIT of 64-bit kernels; pids.max takes nothing above it.
const PIDS_MAX: i64 = 1 << 22;

/// Reads the block `isolators` of a pod's or an app's table.
pub(super) fn read(owner: &Table, report: &mut Report) -> Limits {
    let Some(block) = owner.table("isolators") else { return Limits::default() };
    let size = |key: &str, report: &mut Report| block.item(key).and_then(|item| read_size(&item, report));
    Limits {
        memory_max: block.item("memory-max").and_then(|item| memory_max(&item, report)),
        memory_high: size("memory-high", report),
        memory_low: size("memory-low", report),
        memory_min: size("memory-min", report),
        memory_swap_max: size("memory-swap-max", report),
        memory_zswap_max: size("memory-zswap-max", report),
        memory_oom_group: block.item("memory-oom-group").and_then(|item| item.boolean(report)),
        cpu_period: block.item("cpu-period").and_then(|item| time::period(&item, report)),
        cpu_burst: block.item("cpu-burst").and_then(|item| time::burst(&item, report)),
        cpus: block.item("cpus").and_then(|item| read_cpus(&item, report)),
        cpu_weight: block.item("cpu-weight").and_then(|item| read_weight(&item, report)),
        cpuset: block.item("cpuset").and_then(|item| read_numbers(&item, report)),
        cpuset_mems: block.item("cpuset-mems").and_then(|item| read_numbers(&item, report)),
        io_weight: block.item("io-weight").and_then(|item| read_io_weight(&item, report)),
        io_max: tables::io_max(&block, report),
        hugetlb: tables::hugetlb(&block, report),
        unified: tables::unified(&block, report),
        pids_max: block.item("pids-max").and_then(|item| read_pids(&item, report)),
        on_missing: block.item("on-missing").and_then(|item| on_missing(&item, report)).unwrap_or_default(),
    }
}

fn memory_max(item: &Item, report: &mut Report) -> Option<Ceiling> {
    let ceiling = read_size(item, report)?;
    if ceiling < Ceiling::At(MEMORY_BYTES_MIN) {
        let message = format!("memory-max ({}) is less than 1MiB", source(item, report));
        report.add(item.problem(&rules::MEMORY_SMALL, message).help("no program starts in less"));
    }
    Some(ceiling)
}

pub(super) fn read_size(item: &Item, report: &mut Report) -> Option<Ceiling> {
    if let Some(number) = item.as_integer() {
        let result = match u64::try_from(number) {
            Ok(bytes) => size::from_bytes(bytes),
            Err(_) => Err(out_of_range(format!("{number} is not a size"))),
        };
        return item.accept(report, SIZE, result);
    }
    item.parsed(report, SIZE, size::parse)
}

pub(super) fn read_cpus(item: &Item, report: &mut Report) -> Option<CpuAmount> {
    let text = match item.value {
        DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
        DeValue::Float(number) => number.as_str(),
        _ => item.text(report)?,
    };
    item.accept(report, CPUS, cpus::parse(text))
}

pub(super) fn read_weight(item: &Item, report: &mut Report) -> Option<CpuWeight> {
    match item.as_integer() {
        Some(number) => item.accept(report, WEIGHT, cpus::weight(number)),
        None => item.parsed(report, WEIGHT, cpus::weight_word),
    }
}

fn read_io_weight(item: &Item, report: &mut Report) -> Option<u16> {
    let number = item.integer(report)?;
    match u16::try_from(number) {
        Ok(weight @ 1..=10_000) => Some(weight),
        _ => {
            let message = format!("io-weight is {number}; the range is 1 to 10000");
            report.add(item.problem(&rules::RANGE, message));
            None
        }
    }
}

pub(super) fn read_numbers(item: &Item, report: &mut Report) -> Option<NumberSet> {
    item.parsed(report, NUMBERS, numbers::parse)
}

fn read_pids(item: &Item, report: &mut Report) -> Option<Ceiling> {
    let Some(number) = item.as_integer() else {
        return item.parsed(report, PIDS, |text| match text {
            "max" => Ok(Ceiling::Max),
            _ => Err(Refusal {
                why: Why::Form,
                message: format!("\"{text}\" is not a number of tasks"),
                help: Some("write a number without quotes, or \"max\"".to_owned()),
            }),
        });
    };
    let result = match u64::try_from(number) {
        Ok(tasks) if (1..=PIDS_MAX).contains(&number) => Ok(Ceiling::At(tasks)),
        _ => Err(out_of_range(format!("pids-max is {number}; the range is 1 to {PIDS_MAX}"))),
    };
    let is_app = item.path.parts().first() == Some(&"app");
    if number == 1 && is_app {
        let message = "with pids-max = 1 the app cannot start any process or thread";
        report.add(item.problem(&rules::PIDS_ONE, message));
    }
    item.accept(report, PIDS, result)
}

fn on_missing(item: &Item, report: &mut Report) -> Option<OnMissing> {
    item.choice(report, &[("error", OnMissing::Error), ("ignore", OnMissing::Ignore)])
}

fn out_of_range(message: String) -> Refusal {
    Refusal { why: Why::Range, message, help: None }
}

/// A value as its author wrote it, without the quotes.
pub(super) fn source<'t>(item: &Item, report: &Report<'t>) -> &'t str {
    report.text.get(item.span.clone()).unwrap_or_default().trim_matches(['"', '\''])
}

/// What two or more isolators say together, in one block and between the pod's and an app's.
pub(super) mod together {
    use super::{Ceiling, Item, Limits, Report, Table, rules, size, source, tables, time};

    /// A block that was read, with the table that it was read from.
    pub struct Block<'a> {
        /// The app's name; `None` for the pod.
        pub app: Option<&'a str>,
        /// What was read.
        pub limits: &'a Limits,
        /// Where it was read; `None`: nothing was said.
        pub table: Option<Table<'a>>,
    }

    impl<'a> Block<'a> {
        fn item(&self, key: &str) -> Option<Item<'a>> {
            self.table.as_ref()?.item(key)
        }

        /// The limit of the pages of this size, however its author has written the size.
        fn huge_pages(&self, page: u64) -> Option<Item<'a>> {
            let items = self.table.as_ref()?.table("hugetlb")?.items();
            items.into_iter().find(|item| tables::page_size(item.key).is_ok_and(|size| size == page))
        }

        /// A value in tables within tables.
        fn inner(&self, path: &[String]) -> Option<Item<'a>> {
            let (last, tables) = path.split_last()?;
            let mut table = self.table.clone()?;
            for name in tables {
                table = table.table(name)?;
            }
            table.item(last)
        }
    }

    /// Checks the pod's block, each app's, and each app's against the pod's.
    pub fn check(pod: &Block, apps: &[Block], report: &mut Report) {
        alone(pod, report);
        for app in apps {
            alone(app, report);
            above_pod(pod, app, report);
            outside_cpuset(pod, app, report);
            protection(pod, app, report);
        }
        sum_of_guarantees("memory-min", |limits| limits.memory_min, (pod, apps), report);
        sum_of_guarantees("memory-low", |limits| limits.memory_low, (pod, apps), report);
    }

    /// What the keys of one block say together.
    fn alone(block: &Block, report: &mut Report) {
        memory_order(block, report);
        if let Some(table) = &block.table {
            time::check(block.limits, table, report);
        }
    }

    fn memory_order(block: &Block, report: &mut Report) {
        let limits = block.limits;
        let all = [
            ("memory-min", limits.memory_min),
            ("memory-low", limits.memory_low),
            ("memory-high", limits.memory_high),
            ("memory-max", limits.memory_max),
        ];
        let said: Vec<_> = all.iter().filter_map(|(key, value)| Some((*key, (*value)?))).collect();
        for two in said.windows(2) {
            let ((lower_key, lower), (upper_key, upper)) = (two[0], two[1]);
            let (Some(low), Some(high)) = (block.item(lower_key), block.item(upper_key)) else { continue };
            if lower > upper {
                let (low_text, high_text) = (source(&low, report), source(&high, report));
                let message = format!("{lower_key} ({low_text}) is above {upper_key} ({high_text})");
                report.add(
                    low.problem(&rules::MEMORY_ORDER, message)
                        .related(high.span, format!("{upper_key} is here")),
                );
            }
        }
    }

    fn above_pod(pod: &Block, app: &Block, report: &mut Report) {
        let (ours, theirs) = (app.limits, pod.limits);
        let mut warn = |key: &str, is_above: bool| {
            let (Some(mine), Some(outer)) = (app.item(key), pod.item(key)) else { return };
            if is_above {
                let (text, outer_text) = (source(&mine, report), source(&outer, report));
                let message = format!("{key} ({text}) is above the pod's ({outer_text}), which binds");
                report.add(mine.problem(&rules::ABOVE_POD, message).related(outer.span, "the pod's is here"));
            }
        };
        warn("memory-max", exceeds(ours.memory_max, theirs.memory_max));
        warn("memory-high", exceeds(ours.memory_high, theirs.memory_high));
        warn("memory-swap-max", exceeds(ours.memory_swap_max, theirs.memory_swap_max));
        warn("memory-zswap-max", exceeds(ours.memory_zswap_max, theirs.memory_zswap_max));
        warn("cpus", exceeds(ours.cpus, theirs.cpus));
        warn("pids-max", exceeds(ours.pids_max, theirs.pids_max));
        above_pod_within(pod, app, report);
    }

    /// The same of what stands in tables: limits of the same disk and of the same huge pages.
    fn above_pod_within(pod: &Block, app: &Block, report: &mut Report) {
        let (ours, theirs) = (app.limits, pod.limits);
        let disks = ours.io_max.iter().filter_map(|(path, max)| Some((path, max, theirs.io_max.get(path)?)));
        let disks = disks.flat_map(|(path, mine, outer)| {
            let path = path.to_string_lossy().into_owned();
            [
                (["io-max".to_owned(), path.clone(), "rbps".to_owned()], exceeds(mine.rbps, outer.rbps)),
                (["io-max".to_owned(), path.clone(), "wbps".to_owned()], exceeds(mine.wbps, outer.wbps)),
                (["io-max".to_owned(), path.clone(), "riops".to_owned()], exceeds(mine.riops, outer.riops)),
                (["io-max".to_owned(), path, "wiops".to_owned()], exceeds(mine.wiops, outer.wiops)),
            ]
        });
        let pages = ours.hugetlb.iter().filter(|(page, mine)| theirs.hugetlb.get(page) < Some(*mine));
        let pages: Vec<u64> =
            pages.map(|(page, _)| *page).filter(|page| theirs.hugetlb.contains_key(page)).collect();
        for page in pages {
            let (Some(mine), Some(outer)) = (app.huge_pages(page), pod.huge_pages(page)) else { continue };
            let (text, outer_text) = (source(&mine, report), source(&outer, report));
            let message =
                format!("hugetlb.{} ({text}) is above the pod's ({outer_text}), which binds", mine.key);
            report.add(mine.problem(&rules::ABOVE_POD, message).related(outer.span, "the pod's is here"));
        }
        for (path, _) in disks.filter(|(_, is_above)| *is_above) {
            let (Some(mine), Some(outer)) = (app.inner(&path), pod.inner(&path)) else { continue };
            let (text, outer_text) = (source(&mine, report), source(&outer, report));
            let message =
                format!("{} of {} ({text}) is above the pod's ({outer_text}), which binds", path[2], path[1]);
            report.add(mine.problem(&rules::ABOVE_POD, message).related(outer.span, "the pod's is here"));
        }
    }

    /// Whether both are said and the inner one is more.
    fn exceeds<T: PartialOrd>(inner: Option<T>, outer: Option<T>) -> bool {
        inner.zip(outer).is_some_and(|(inner, outer)| inner > outer)
    }

    fn outside_cpuset(pod: &Block, app: &Block, report: &mut Report) {
        let pairs = [
            ("cpuset", &app.limits.cpuset, &pod.limits.cpuset),
            ("cpuset-mems", &app.limits.cpuset_mems, &pod.limits.cpuset_mems),
        ];
        for (key, inner, outer) in pairs {
            let (Some(inner), Some(outer)) = (inner, outer) else { continue };
            let (Some(mine), Some(pods)) = (app.item(key), pod.item(key)) else { continue };
            if !inner.0.is_subset(&outer.0) {
                let (text, pod_text) = (source(&mine, report), source(&pods, report));
                let message = format!("{key} \"{text}\" is not inside the pod's \"{pod_text}\"");
                report.add(
                    mine.problem(&rules::CPUSET_OUTSIDE, message).related(pods.span, "the pod's is here"),
                );
            }
        }
    }

    /// The kernel protects a group at most as far as its parent is protected (memory.min in cgroup-v2.rst), unless it is
    /// the parent's own limit that is reached.
    fn protection(pod: &Block, app: &Block, report: &mut Report) {
        let pairs = [
            ("memory-min", app.limits.memory_min, pod.limits.memory_min),
            ("memory-low", app.limits.memory_low, pod.limits.memory_low),
        ];
        for (key, mine, pods) in pairs {
            let Some(item) = app.item(key).filter(|_| mine > Some(Ceiling::At(0)) && pods.is_none()) else {
                continue;
            };
            let message =
                format!("{key} of an app holds against its siblings alone without {key} of the pod");
            let help = format!("add {key} = \"{}\" to [pod.isolators]", source(&item, report));
            report.add(item.problem(&rules::PROTECTION_UNUSED, message).help(help));
        }
    }

    /// What the apps are guaranteed fits into what the pod has: its own guarantee, else its limit.
    fn sum_of_guarantees(
        key: &str,
        guarantee: fn(&Limits) -> Option<Ceiling>,
        (pod, apps): (&Block, &[Block]),
        report: &mut Report,
    ) {
        let (bound_key, bound) = match (guarantee(pod.limits), pod.limits.memory_max) {
            (Some(Ceiling::At(own)), _) => (key, own),
            (None, Some(Ceiling::At(max))) => ("memory-max", max),
            _ => return,
        };
        let guaranteed = apps.iter().filter_map(|app| match guarantee(app.limits) {
            Some(Ceiling::At(bytes)) => Some((bytes, app)),
            _ => None,
        });
        let sum = guaranteed.clone().fold(0_u64, |sum, (bytes, _)| sum.saturating_add(bytes));
        let Some(outer) = pod.item(bound_key).filter(|_| sum > bound) else { return };
        let text = source(&outer, report);
        let message = format!(
            "the apps' {key} add up to {}, more than the pod's {bound_key} ({text})",
            size::show(sum)
        );
        let problem = guaranteed
            .filter_map(|(_, app)| Some((app.item(key)?, app.app?)))
            .fold(outer.problem(&rules::MIN_SUM, message), |problem, (item, name)| {
                problem.related(item.span, format!("app `{name}`"))
            });
        report.add(problem);
    }
}
