//! `[app.NAME.ready]`, `[app.NAME.live]`, and what other apps wait for.

use super::super::problem::Problem;
use super::super::rules::{self, Rule};
use super::super::tree::{Item, Report, Table, ValueRules, any_of};
use super::app_tables;
use crate::spec::Grace;
use crate::value::{Refusal, duration, quoted};

const PROBE: ValueRules = ValueRules::both(rules::PROBE_PLACE);
const WAYS: [&str; 6] = ["exec", "tcp", "http", "file", "log", "notify"];

pub(super) fn check(root: &Table, report: &mut Report) {
    let apps = app_tables(root);
    for (_, app) in &apps {
        for key in ["ready", "live"] {
            if let Some(probe) = app.table(key) {
                check_probe(&probe, key, report);
            }
        }
        let Some(conditions) = app.table("depends-on") else { continue };
        for condition in conditions.items() {
            let target = apps.iter().find(|(name, _)| *name == condition.key);
            // In a table the word stands behind `when`.
            let when = condition.as_table().and_then(|table| table.item("when"));
            if let Some((name, target)) = target {
                check_condition(when.as_ref().unwrap_or(&condition), name, target, report);
            }
        }
    }
}

fn check_probe(probe: &Table, key: &str, report: &mut Report) {
    let ways = || WAYS.iter().filter(|way| key == "ready" || **way != "notify");
    let given: Vec<Item> = ways().filter_map(|way| probe.item(way)).collect();
    match given.as_slice() {
        [] => {
            let message =
                format!("[{}] has none of {}", probe.path, any_of(&ways().copied().collect::<Vec<_>>()));
            let problem = Problem::new(&rules::PROBE_ONE, &probe.path, probe.span.clone(), message);
            let example = if key == "ready" { "notify = true" } else { "exec = [\"/bin/true\"]" };
            report.add(problem.help(format!("for example: {example}")));
        }
        [_] => {}
        [first, second, ..] => {
            let message = format!("[{}] has both {} and {}", probe.path, first.key, second.key);
            let problem = Problem::new(&rules::PROBE_ONE, &probe.path, second.key_span.clone(), message);
            report.add(problem.related(first.key_span.clone(), "the other one"));
        }
    }
    for (way, parse) in [("tcp", tcp as fn(&str) -> Result<(), Refusal>), ("http", http)] {
        if let Some(item) = probe.item(way).filter(|item| item.value.is_str()) {
            item.parsed(report, PROBE, parse);
        }
    }
    if probe.item("timeout").is_some() || probe.item("interval").is_some() {
        let interval = (probe.item("interval"), "10s");
        ordered((probe.item("timeout"), "1s"), interval, &rules::PROBE_TIMES, report);
    }
}

/// Tells when the first duration is longer than the second. Each has a default, and at least one is written.
pub(super) fn ordered(
    (low, low_default): (Option<Item>, &str),
    (high, high_default): (Option<Item>, &str),
    rule: &Rule,
    report: &mut Report,
) {
    let read = |item: &Option<Item>, default: &str| -> Option<Grace> {
        let text = item.as_ref().map_or(Some(default.to_owned()), |i| i.value.as_str().map(str::to_owned));
        duration::parse(&text?).ok()
    };
    let (Some(low_time), Some(high_time)) = (read(&low, low_default), read(&high, high_default)) else {
        return;
    };
    let above = match (low_time, high_time) {
        (_, Grace::Infinite) => false,
        (Grace::Infinite, _) => true,
        (Grace::Limited(low), Grace::Limited(high)) => low > high,
    };
    let Some(item) = low.as_ref().or(high.as_ref()).filter(|_| above) else { return };
    let (low_text, high_text) = (duration::show(low_time), duration::show(high_time));
    let (low_key, high_key) = match *rule {
        rules::PROBE_TIMES => ("timeout", "interval"),
        _ => ("restart-delay", "restart-delay-max"),
    };
    let suffix = |item: &Option<Item>| if item.is_some() { "" } else { ", the default" };
    let message = format!(
        "{low_key} ({low_text}{}) is longer than {high_key} ({high_text}{})",
        suffix(&low),
        suffix(&high)
    );
    let problem = item.problem(rule, message);
    report.add(match (&low, &high) {
        (Some(_), Some(high)) => problem.related(high.span.clone(), format!("{high_key} is here")),
        _ => problem,
    });
}

/// `host:port`.
pub(in super::super) fn tcp(text: &str) -> Result<(), Refusal> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
    if port.and_then(|port| port.parse::<u16>().ok()).is_some_and(|port| port > 0) {
        return Ok(());
    }
    let refusal = Refusal::form(format!("{} is not host:port", quoted(text)));
    Err(match text.parse::<u16>() {
        Ok(port) => refusal.help(format!("write \"127.0.0.1:{port}\"")),
        Err(_) => refusal.help("write a host and a port such as \"127.0.0.1:8080\""),
    })
}

fn http(text: &str) -> Result<(), Refusal> {
    let rest = text.strip_prefix("http://").unwrap_or_default();
    if !rest.is_empty() && !rest.starts_with('/') {
        return Ok(());
    }
    let refusal = Refusal::form(format!("{} is not a http:// address", quoted(text)));
    Err(refusal.help("write it in full such as \"http://127.0.0.1:8080/healthz\""))
}

/// What an app that is waited for can come to: `ready` needs a probe, and `completed` an end.
fn check_condition(condition: &Item, name: &str, target: &Table, report: &mut Report) {
    match condition.value.as_str() {
        Some("ready") if target.item("ready").is_none() => {
            let message = format!("{name} has no [app.{name}.ready]: use \"started\"");
            report.add(condition.problem(&rules::NO_PROBE, message).related(target_name(target), "this app"));
        }
        Some("ready") => {
            let notify = target.table("ready").and_then(|ready| ready.item("notify"));
            let Some(off) = notify.filter(|item| item.value.as_bool() == Some(false)) else { return };
            let message = format!("{name} does not tell when it is ready: use \"started\"");
            report.add(
                condition.problem(&rules::NO_PROBE, message).related(off.span, "it is switched off here"),
            );
        }
        Some("completed") => {
            let kind = target.item("kind");
            let word = kind.as_ref().map_or(Some("service"), |kind| kind.value.as_str());
            let Some(word @ ("service" | "sidecar")) = word else { return };
            let message = format!("{name} is a {word} and never completes");
            let problem = condition.problem(&rules::NEVER_COMPLETES, message);
            let place = kind.map_or_else(|| target_name(target), |kind| kind.span);
            report.add(
                problem
                    .related(place, "this app")
                    .help(format!("use \"started\", or give {name} kind = \"init\" or \"oneshot\"")),
            );
        }
        _ => {}
    }
}

fn target_name(target: &Table) -> std::ops::Range<usize> {
    target.span.clone()
}
