//! The isolators that are tables: disks by paths, huge pages by sizes, files of cgroup2 by names.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::super::keys::{self, KEYS};
use super::super::problem::Problem;
use super::super::tree::not_text;
use super::{Item, PATH, Report, SIZE, Table, ValueRules, read_size, rules};
use crate::spec::IoMax;
use crate::value::{Ceiling, Refusal, place, quoted, size};

/// The kernel's own names of page sizes, which are binary (`mem_fmt` of mm/hugetlb_cgroup.c).
const PAGE_UNITS: [(&str, u64); 3] = [("KB", 1 << 10), ("MB", 1 << 20), ("GB", 1 << 30)];
/// As much can be written to one file at once (`cgroup_file_write`).
const TEXT_BYTES_MAX: usize = 4095;

pub(super) fn io_max(block: &Table, report: &mut Report) -> BTreeMap<PathBuf, IoMax> {
    let mut disks = BTreeMap::new();
    for item in entries(block, "io-max", report) {
        let path = at_name(&item).accept(report, ValueRules::both(PATH), place::absolute(item.key));
        let Some(table) = item.as_table() else {
            item.wrong_type(report);
            continue;
        };
        let mut bytes =
            |key| table.item(key).and_then(|item| not_zero(&item, read_size(&item, report)?, report));
        let (rbps, wbps) = (bytes("rbps"), bytes("wbps"));
        let mut count = |key| table.item(key).and_then(|item| operations(&item, report));
        let max = IoMax { rbps, wbps, riops: count("riops"), wiops: count("wiops") };
        if let Some(path) = path {
            disks.insert(PathBuf::from(path), max);
        }
    }
    disks
}

/// The kernel has no zero here: on v1 it would be no limit, and v2 refuses it.
fn not_zero(item: &Item, limit: Ceiling, report: &mut Report) -> Option<Ceiling> {
    if limit > Ceiling::At(0) {
        return Some(limit);
    }
    let problem = item.problem(&rules::RANGE, format!("{} is 0; it is at least 1", item.key));
    report.add(problem.help("write \"max\" for no limit"));
    None
}

fn operations(item: &Item, report: &mut Report) -> Option<Ceiling> {
    match (item.as_integer().map(u32::try_from), item.value.as_str()) {
        (Some(Ok(1..)), _) => item.as_integer().and_then(|n| u64::try_from(n).ok()).map(Ceiling::At),
        (None, Some("max")) => Some(Ceiling::Max),
        (Some(_), _) => {
            let number = item.as_integer().unwrap_or_default();
            let range = if number < 1 { "it is at least 1" } else { "the kernel counts up to 4294967295" };
            let problem = item.problem(&rules::RANGE, format!("{} is {number}; {range}", item.key));
            report.add(problem.help("write \"max\" for no limit"));
            None
        }
        (None, Some(text)) => {
            let problem = item.problem(&rules::WRONG_TYPE, format!("{} is not a number", quoted(text)));
            report.add(problem.help("write a number without quotes, or \"max\""));
            None
        }
        (None, None) => {
            item.wrong_type(report);
            None
        }
    }
}

pub(super) fn hugetlb(block: &Table, report: &mut Report) -> BTreeMap<u64, Ceiling> {
    let mut sizes = BTreeMap::new();
    for item in entries(block, "hugetlb", report) {
        let page = at_name(&item).accept(report, SIZE, page_size(item.key));
        let limit = read_size(&item, report);
        if let (Some(page), Some(limit)) = (page, limit) {
            sizes.insert(page, limit);
        }
    }
    sizes
}

/// `2MB` as the kernel writes it, or with the unit that says what it is: `2MiB`.
pub(super) fn page_size(text: &str) -> Result<u64, Refusal> {
    let kernels = PAGE_UNITS.iter().find_map(|(unit, scale)| {
        let digits = text.strip_suffix(unit).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
        digits.parse::<u64>().ok()?.checked_mul(*scale)
    });
    let bytes = kernels.or_else(|| match size::parse(text).ok().filter(|_| text.ends_with("iB"))? {
        Ceiling::At(bytes) => Some(bytes),
        Ceiling::Max => None,
    });
    bytes.filter(|bytes| *bytes > 0).ok_or_else(|| {
        Refusal::form(format!("{} is not a size of huge pages", quoted(text)))
            .help("write it as the kernel does in the name of the file: \"2MB\" or \"1GB\"")
    })
}

pub(super) fn unified(block: &Table, report: &mut Report) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for item in entries(block, "unified", report) {
        let is_file = match foreign_file(&item) {
            Some(problem) => {
                report.add(problem);
                false
            }
            None => true,
        };
        if let Some(text) = text(&item, report).filter(|_| is_file) {
            files.insert(item.key.to_owned(), text);
        }
    }
    files
}

/// What is written: one line, as it is read back.
fn text(item: &Item, report: &mut Report) -> Option<String> {
    if let Some(number) = item.as_integer() {
        return Some(number.to_string());
    }
    let Some(text) = item.value.as_str() else {
        let message = not_text("unified", item, report);
        report.add(item.problem(&rules::WRONG_TYPE, message));
        return None;
    };
    let is_line = !text.is_empty() && text.trim() == text && !text.contains(['\n', '\0']);
    if is_line && text.len() <= TEXT_BYTES_MAX {
        return Some(text.to_owned());
    }
    let message = format!("{} is not a line that can be written to {}", quoted(text), item.key);
    report.add(item.problem(&rules::UNIFIED, message).help("write one line without blanks at its ends"));
    None
}

/// Files beside those of the table of keys that one of its keys writes.
const ALIASES: [(&str, &str); 2] = [("cpu.weight.nice", "cpu-weight"), ("io.bfq.weight", "io-weight")];

/// Why a name is not for `unified`: whose it is.
fn foreign_file(item: &Item) -> Option<Problem> {
    let name = item.key;
    let at_key = |message: String| Problem::new(&rules::UNIFIED, &item.path, item.key_span.clone(), message);
    let is_in = |files: &str| {
        files.split(", ").any(|file| match file.split_once('*') {
            Some((before, after)) => name.starts_with(before) && name.ends_with(after),
            None => file == name,
        })
    };
    let owner = KEYS.iter().find(|key: &&keys::Key| key.cgroup.is_some_and(|files| is_in(files.v2)));
    let owner = owner.map(|key| key.path.trim_end_matches(".*").rsplit('.').next().unwrap_or(key.path));
    let alias = || ALIASES.iter().find(|(file, _)| *file == name).map(|(_, key)| *key);
    if let Some(key) = owner.or_else(alias) {
        return Some(at_key(format!("{name} is set by {key}; remove it from unified")));
    }
    if name.starts_with("cgroup.") {
        return Some(at_key(format!("{name} is podrun's own; remove it from unified")));
    }
    if name == "memory.reclaim" {
        return Some(at_key(format!("{name} is an order and no setting; remove it from unified")));
    }
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-' || b == b'.';
    let parts = || name.split('.');
    if name.bytes().all(is_word) && parts().count() > 1 && parts().all(|part| !part.is_empty()) {
        return None;
    }
    let problem = at_key(format!("{} is not a file of a cgroup v2 group", quoted(name)));
    Some(problem.help("write the name of a file such as \"memory.swap.high\""))
}

/// The entries of a table, whatever its author has put there.
fn entries<'a>(block: &Table<'a>, key: &str, report: &mut Report) -> Vec<Item<'a>> {
    let Some(item) = block.item(key) else { return Vec::new() };
    match item.as_table() {
        Some(table) => table.items(),
        None => {
            item.wrong_type(report);
            Vec::new()
        }
    }
}

/// The entry with its name as the place.
fn at_name<'a>(item: &Item<'a>) -> Item<'a> {
    Item { span: item.key_span.clone(), ..item.clone() }
}

#[cfg(test)]
mod tests {
    use super::page_size;

    #[test]
    fn sizes_of_pages_are_the_kernels() {
        let table = [
            ("2MB", Some(2 << 20)),
            ("1GB", Some(1 << 30)),
            ("64KB", Some(64 << 10)),
            ("2MiB", Some(2 << 20)),
            ("2", None),
            ("0MB", None),
            ("2M", None),
            ("max", None),
            ("../2MB", None),
            ("99999999999999999999GB", None),
        ];
        for (text, expected) in table {
            assert_eq!(page_size(text).ok(), expected, "{text}");
        }
    }
}
