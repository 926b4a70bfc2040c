//! Keys that are known and do not work yet: their values are checked all the same.
//!
//! An author who has to take such a key out again is told so at once, and what is wrong with its value as well,
//! since the same manifest is meant to be right when the key works. Nothing in here reaches the spec. What each
//! key's kind asks is checked by [`value`], what several keys say together by the modules of their topics.

mod apps;
mod pod;
mod probes;
mod volumes;

pub(super) use probes::tcp;
pub(super) use volumes::owner;

pub(super) use pod::id_map;

use super::app;
use super::keys::Kind;
use super::pod::{NUL, grace};
use super::tree::{Item, Report, Table, ValueRules, not_text};
use super::{isolators, rules};
use crate::value::{Refusal, place, quoted, signal};

const PATH: ValueRules = ValueRules::both(rules::PATH);
const SIGNAL: ValueRules = ValueRules::both(rules::SIGNAL);

/// Checks what keys that do not work yet say together, with each other and with those that do.
pub(super) fn check(root: &Table, report: &mut Report) {
    pod::check(root, report);
    volumes::check(root, report);
    probes::check(root, report);
    apps::check(root, report);
}

/// The tables `[app.NAME]`, in the order of the text.
fn app_tables<'a>(root: &Table<'a>) -> Vec<(&'a str, Table<'a>)> {
    let apps = root.table("app").map(|table| table.items()).unwrap_or_default();
    apps.into_iter().filter_map(|item| Some((item.key, item.as_table()?))).collect()
}

/// Whether the value is one of its kind.
pub(super) fn value(item: &Item, kind: Kind, report: &mut Report) {
    match kind {
        Kind::Integer(min, max) => integer(item, (min, max), report),
        Kind::Text => {
            item.parsed(report, NUL, place::no_nul);
        }
        Kind::Boolean => {
            item.boolean(report);
        }
        Kind::Choice(words) => {
            let words: Vec<_> = words.iter().map(|word| (*word, ())).collect();
            item.choice(report, &words);
        }
        Kind::Path => {
            item.parsed(report, PATH, place::absolute);
        }
        Kind::Octal => octal(item, report),
        Kind::Signal => {
            item.parsed(report, SIGNAL, signal::parse);
        }
        Kind::Bytes => {
            isolators::read_size(item, report);
        }
        Kind::Duration => {
            grace(item, report);
        }
        Kind::Cpus => {
            isolators::read_cpus(item, report);
        }
        Kind::Weight => {
            isolators::read_weight(item, report);
        }
        Kind::NumberSet => {
            isolators::read_numbers(item, report);
        }
        Kind::Count => count(item, report),
        Kind::Identity => {
            app::id_or_name(item, report);
        }
        Kind::Command => {
            app::exec(item, report);
        }
        Kind::PathList => each(item, report, |element, report| {
            element.parsed(report, PATH, place::absolute);
        }),
        Kind::TextList | Kind::WordOrList | Kind::IdentityList | Kind::EndList => {
            each(item, report, |element, report| {
                element.parsed(report, NUL, place::no_nul);
            });
        }
        Kind::TextTable | Kind::LimitTable | Kind::ListOrTable => entries(item, kind, report),
        Kind::Table => {
            if item.as_table().is_none() {
                item.wrong_type(report);
            }
        }
        Kind::TableList => each(item, report, |element, report| {
            if element.as_table().is_none() {
                element.wrong_type(report);
            }
        }),
    }
}

fn each(item: &Item, report: &mut Report, check: impl Fn(&Item, &mut Report)) {
    for element in item.elements(report) {
        check(&element, report);
    }
}

fn integer(item: &Item, (min, max): (i64, i64), report: &mut Report) {
    let Some(number) = item.integer(report) else { return };
    if !(min..=max).contains(&number) {
        let message = format!("{} is {number}; the range is {min} to {max}", item.key);
        report.add(item.problem(&rules::RANGE, message));
    }
}

/// A number of something, or `"max"`.
fn count(item: &Item, report: &mut Report) {
    match (item.as_integer(), item.value.as_str()) {
        (Some(1..), _) | (None, Some("max")) => {}
        (Some(number), _) => {
            let message = format!("{} is {number}; it is at least 1", item.key);
            report.add(item.problem(&rules::RANGE, message).help("write \"max\" for no limit"));
        }
        (None, Some(text)) => {
            let message = format!("{} is not a number", quoted(text));
            let problem = item.problem(&rules::WRONG_TYPE, message);
            report.add(problem.help("write a number without quotes, or \"max\""));
        }
        (None, None) => item.wrong_type(report),
    }
}

fn octal(item: &Item, report: &mut Report) {
    if let Some(number) = item.as_integer() {
        let message = format!("write {} = \"0{number}\" (quoted): TOML has no leading-zero octal", item.key);
        report.add(item.problem(&rules::OCTAL, message));
        return;
    }
    item.parsed(report, ValueRules::both(rules::OCTAL), |text| {
        let digits = text.strip_prefix('0').filter(|rest| rest.len() > 2).unwrap_or(text);
        let well = (3..=4).contains(&digits.len()) && digits.bytes().all(|b| (b'0'..=b'7').contains(&b));
        if well {
            return Ok(());
        }
        let refusal = Refusal::form(format!("{} is not a mode", quoted(text)));
        Err(refusal.help("write 3 or 4 octal digits such as \"0755\""))
    });
}

/// A table whose names are the author's: strings, or strings and numbers.
fn entries(item: &Item, kind: Kind, report: &mut Report) {
    let Some(table) = item.as_table() else {
        item.wrong_type(report);
        return;
    };
    for entry in table.items() {
        let is_number = kind == Kind::LimitTable && entry.as_integer().is_some();
        if entry.value.is_str() || is_number {
            continue;
        }
        let message = not_text(item.key, &entry, report);
        report.add(entry.problem(&rules::WRONG_TYPE, message));
    }
}
