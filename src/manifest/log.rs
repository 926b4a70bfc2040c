//! The tables `[app.NAME.log]`.

use super::problem::Problem;
use super::tree::{Item, Report, Table};
use super::{isolators, rules};
use crate::spec::{LogDriver, LogSpec};
use crate::value::Ceiling;

/// A file is written in batches of that size, so that a smaller bound would be none.
const SIZE_BYTES_MIN: u64 = 64 * 1024;
const FILES_MAX: i64 = 1000;
/// The words of `driver`.
pub(super) const DRIVERS: [(&str, LogDriver); 5] = [
    ("auto", LogDriver::Auto),
    ("journald", LogDriver::Journald),
    ("file", LogDriver::File),
    ("inherit", LogDriver::Inherit),
    ("none", LogDriver::None),
];

/// Who keeps the output of the app whose table this is.
pub(super) fn read(app: &Table, report: &mut Report) -> LogSpec {
    let usual = LogSpec::default();
    let Some(table) = app.table("log") else { return usual };
    let driver = table.item("driver");
    for key in ["max-size", "max-files"] {
        if let Some((driver, item)) = driver.as_ref().zip(table.item(key)) {
            check_use(driver, &item, report);
        }
    }
    LogSpec {
        driver: driver.and_then(|item| item.choice(report, &DRIVERS)).unwrap_or_default(),
        max_size_bytes: table
            .item("max-size")
            .and_then(|i| max_size(&i, report))
            .unwrap_or(usual.max_size_bytes),
        files_max: table.item("max-files").and_then(|i| max_files(&i, report)).unwrap_or(usual.files_max),
    }
}

/// A bound of files is for those that keep files.
fn check_use(driver: &Item, item: &Item, report: &mut Report) {
    let Some(word @ ("journald" | "inherit" | "none")) = driver.value.as_str() else { return };
    let message = format!("{} has no effect with driver = \"{word}\"", item.key);
    let problem = Problem::new(&rules::LOG_FILE_ONLY, &item.path, item.key_span.clone(), message);
    report.add(problem.related(driver.span.clone(), "only \"file\" keeps files"));
}

fn max_size(item: &Item, report: &mut Report) -> Option<u64> {
    match isolators::read_size(item, report)? {
        Ceiling::Max => Some(u64::MAX),
        Ceiling::At(bytes) if bytes >= SIZE_BYTES_MIN => Some(bytes),
        Ceiling::At(bytes) => {
            let message = format!("max-size is {bytes} bytes; it is at least 64KiB");
            report.add(item.problem(&rules::RANGE, message));
            None
        }
    }
}

fn max_files(item: &Item, report: &mut Report) -> Option<u64> {
    let number = item.integer(report)?;
    if (1..=FILES_MAX).contains(&number) {
        return u64::try_from(number).ok();
    }
    let message = format!("max-files is {number}; the range is 1 to {FILES_MAX}");
    report.add(item.problem(&rules::RANGE, message));
    None
}
