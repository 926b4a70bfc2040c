//! What is left of apps.

use super::super::problem::Problem;
use super::super::rules;
use super::super::tree::{Item, Report, Table, ValueRules};
use super::{app_tables, probes};
use crate::value::{Refusal, nearest, place, quoted};

const SECCOMP: ValueRules = ValueRules::both(rules::SECCOMP);
const SECRET: ValueRules = ValueRules::both(rules::SECRET);
const RATE: ValueRules = ValueRules::both(rules::RATE);

pub(super) fn check(root: &Table, report: &mut Report) {
    let tables = app_tables(root);
    let mut tty: Option<Item> = None;
    for (name, app) in &tables {
        both(app, ("rootfs", "image"), (&rules::ROOT_TWICE, &format!("app `{name}`")), report);
        both(app, ("reload-exec", "reload-signal"), (&rules::RELOAD_TWICE, &format!("app `{name}`")), report);
        if app.item("restart-delay").is_some() || app.item("restart-delay-max").is_some() {
            let (delay, most) = (app.item("restart-delay"), app.item("restart-delay-max"));
            probes::ordered((delay, "500ms"), (most, "30s"), &rules::RESTART_DELAY, report);
        }
        texts(app, report);
        if let Some(log) = app.table("log") {
            check_log(&log, report);
        }
        if let Some(item) = app.item("tty").filter(|item| item.value.as_bool() == Some(true)) {
            match &tty {
                Some(first) => report.add(
                    item.problem(&rules::TTY_TWICE, "only one app can have the terminal")
                        .related(first.span.clone(), "this one has it"),
                ),
                None => tty = Some(item),
            }
        }
    }
}

/// Tells when a table has two keys of which it may have one.
fn both(
    table: &Table,
    (first, second): (&str, &str),
    (rule, who): (&rules::Rule, &str),
    report: &mut Report,
) {
    let (Some(first), Some(second)) = (table.item(first), table.item(second)) else { return };
    let message = format!("{who} has both {} and {}", first.key, second.key);
    let (first, second) =
        if first.key_span.start < second.key_span.start { (first, second) } else { (second, first) };
    let problem = Problem::new(rule, &second.path, second.key_span.clone(), message);
    report.add(problem.related(first.key_span, "the other one"));
}

fn texts(app: &Table, report: &mut Report) {
    let text = |key: &str| app.item(key).filter(|item| item.value.is_str());
    if let Some(item) = text("seccomp") {
        item.parsed(report, SECCOMP, seccomp);
    }
    let list = |key: &str| app.item(key).filter(|item| item.value.is_array());
    if let Some(item) = list("secrets") {
        for element in item.elements(report).iter().filter(|element| element.value.is_str()) {
            element.parsed(report, SECRET, secret);
        }
    }
}

fn seccomp(text: &str) -> Result<(), Refusal> {
    if text.starts_with('/') {
        return place::absolute(text).map(|_| ());
    }
    let words = ["default", "unconfined"];
    if words.contains(&text) {
        return Ok(());
    }
    let refusal = Refusal::form(format!("unknown seccomp {}", quoted(text)));
    Err(match nearest(text, words) {
        Some(near) => refusal.help(format!("did you mean `{near}`?")),
        None => refusal.help("write \"default\", \"unconfined\", or the absolute path of an OCI profile"),
    })
}

/// A path, or `cred:NAME`.
fn secret(text: &str) -> Result<(), Refusal> {
    if let Some(name) = text.strip_prefix("cred:") {
        if place::is_credential(name) {
            return Ok(());
        }
        return Err(Refusal::form(format!("{} does not name a credential", quoted(text)))
            .help("write \"cred:NAME\" with the name of a systemd credential, which has no `/` and no `:`"));
    }
    if text.starts_with('/') {
        return place::absolute(text).map(|_| ());
    }
    let refusal = Refusal::form(format!("{} is neither a path nor a credential", quoted(text)));
    Err(refusal.help("write an absolute path, or \"cred:NAME\" for a systemd credential"))
}

fn check_log(log: &Table, report: &mut Report) {
    if let Some(item) = log.item("rate-limit").filter(|item| item.value.is_str()) {
        item.parsed(report, RATE, |text| {
            let (number, unit) = text.split_once('/').unwrap_or((text, ""));
            let is_number = number.parse::<u32>().is_ok_and(|number| number > 0);
            if is_number && ["s", "m", "h"].contains(&unit) {
                return Ok(());
            }
            Err(Refusal::form(format!("{} is not a rate", quoted(text)))
                .help("write lines in a second, a minute or an hour such as \"1000/s\""))
        });
    }
}
