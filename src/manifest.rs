//! From TOML text to a [`Spec`], with every problem told at once.
//!
//! [`read`] is the only door: no text makes it panic, it looks at nothing but the text, and it gives a spec if
//! and only if no problem is an error. Names are checked against the table of [`keys`], then each block is read
//! by itself, then the blocks are compared with each other. What needs a look at the host (whether a rootfs
//! exists, whether a user is in its passwd file) is not checked here.

mod app;
pub mod asks;
mod devices;
mod effective;
mod foreign;
mod isolators;
pub mod keys;
mod known;
mod later;
mod locate;
mod log;
mod order;
pub mod overrides;
mod pod;
mod problem;
mod render;
#[cfg(test)]
pub(crate) mod row_tests;
pub mod rules;
pub mod schema;
mod socket;
mod source;
mod syntax;
#[cfg(test)]
pub(crate) mod tests;
mod tree;

use podrun_abi::boot::ExitPolicy;
use toml::de::DeTable;

use self::app::App;
pub use self::effective::{effective, isolators as isolators_in_toml};
use self::isolators::together::{self, Block};
use self::overrides::Overrides;
use self::pod::Pod;
pub use self::problem::{Problem, Severity, line_column};
pub use self::render::{render, render_source};
pub use self::source::Source;
pub(crate) use self::tree::any_key;
use self::tree::{Report, Table};
use crate::spec::{Grace, Spec};

/// The only version of the format.
const VERSION: i64 = 1;

/// What came of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// There if and only if no problem is an error.
    pub spec: Option<Spec>,
    /// Sorted by place.
    pub problems: Vec<Problem>,
}

/// Reads a manifest with which nothing is changed.
#[must_use]
pub fn read(text: &str) -> Read {
    Source::new("", text, Overrides::default()).read()
}

/// That something does not work yet need not be said where its value has to be changed anyway.
fn drop_what_is_told(problems: &mut Vec<Problem>) {
    let later = |problem: &Problem| problem.code == rules::NOT_SUPPORTED.code;
    let told: Vec<_> = problems.iter().filter(|p| !later(p)).map(|p| p.span.clone()).collect();
    problems.retain(|problem| !later(problem) || !told.contains(&problem.span));
}

fn read_tree(tree: &DeTable, report: &mut Report) -> Option<Spec> {
    let root = Table::root(tree);
    if !check_version(&root, report) {
        return None;
    }
    known::check(&root, report);
    multi_line_tables(&root, report);
    let pod = pod::read(&root, report);
    let apps = app::read(&root, report);
    let stop = order::check(&apps, report);
    let sockets = socket::read(&root, &apps, report);
    later::check(&root, report);
    let pod = pod?;
    compare(&pod, &apps, report);
    Some(Spec { sockets, ..assemble(pod, apps, stop) })
}

/// Whether it makes sense to go on: what another version means by a key is not known.
fn check_version(root: &Table, report: &mut Report) -> bool {
    let Some(item) = root.item("version") else {
        report.add(
            Problem::new(&rules::MISSING_KEY, "version", 0..0, "`version` is missing")
                .help("begin the manifest with version = 1"),
        );
        return true;
    };
    match item.integer(report) {
        Some(version) if version != VERSION => {
            let message =
                format!("unsupported manifest version {version}; this podrun reads version {VERSION}");
            report.add(item.problem(&rules::VERSION, message));
            false
        }
        _ => true,
    }
}

/// TOML 1.1 lets an inline table go over several lines; the editors that authors use do not, yet.
fn multi_line_tables(root: &Table, report: &mut Report) {
    let mut tables = vec![root.clone()];
    while let Some(table) = tables.pop() {
        for item in table.items() {
            let source = report.text.get(item.span.clone()).unwrap_or_default();
            let inline = item.as_table().filter(|_| source.starts_with('{'));
            if inline.is_some_and(|table| has_newline(&table, report.text)) {
                let message = format!("the inline table `{}` goes over several lines", item.path);
                let problem = item.problem(&rules::MULTI_LINE_INLINE_TABLE, message);
                report.add(problem.help(format!("write it on one line, or as [{}]", item.path)));
            } else {
                tables.extend(item.as_table());
            }
        }
    }
}

/// Whether an inline table goes over several lines by itself, not only within a list or a string.
fn has_newline(table: &Table, text: &str) -> bool {
    let mut leaves = Vec::new();
    let mut tables = vec![table.clone()];
    while let Some(table) = tables.pop() {
        for item in table.items() {
            match item.as_table() {
                Some(inner) => tables.push(inner),
                None => leaves.push(item.span),
            }
        }
    }
    // What the command line has put into it stands elsewhere.
    leaves.retain(|leaf| table.span.start <= leaf.start && leaf.end <= table.span.end);
    leaves.sort_by_key(|leaf| leaf.start);
    let starts = leaves.iter().map(|leaf| leaf.start).chain([table.span.end]);
    let ends = [table.span.start].into_iter().chain(leaves.iter().map(|leaf| leaf.end));
    ends.zip(starts).any(|(from, to)| text.get(from..to).is_some_and(|gap| gap.contains('\n')))
}

/// What holds between the pod and its apps.
fn compare(pod: &Pod, apps: &[App], report: &mut Report) {
    let pod_block = Block { app: None, limits: &pod.spec.limits, table: pod.isolators.clone() };
    let blocks: Vec<_> = apps
        .iter()
        .map(|app| Block {
            app: Some(&app.spec.name),
            limits: &app.spec.limits,
            table: app.isolators.clone(),
        })
        .collect();
    together::check(&pod_block, &blocks, report);
    if let Some(outer) = &pod.devices {
        for app in apps {
            let named = app.devices.as_ref();
            named.into_iter().for_each(|named| devices::above_pod(outer, (named, &app.spec.name), report));
        }
    }
    short_stop(pod, apps, report);
    if !apps.is_empty() && has_no_essential(pod, apps) {
        let message = "no app is essential: the pod ends with code 0 when all apps have ended";
        report.add(Problem::new(&rules::NO_ESSENTIAL_APP, "pod.exit-policy", pod.span.clone(), message));
    }
}

fn short_stop(pod: &Pod, apps: &[App], report: &mut Report) {
    let Some(pod_span) = pod.stop_timeout.clone() else { return };
    for app in apps {
        let Some(app_span) =
            app.stop_timeout.clone().filter(|_| shorter(pod.spec.stop_timeout, app.spec.stop_timeout))
        else {
            continue;
        };
        let show = crate::value::duration::show;
        let (pods, needed) = (show(pod.spec.stop_timeout), show(app.spec.stop_timeout));
        let message =
            format!("pod.stop-timeout ({pods}) is shorter than app `{}` needs ({needed})", app.spec.name);
        report.add(
            Problem::new(&rules::STOP_TIMEOUT_SHORT, "pod.stop-timeout", pod_span.clone(), message)
                .related(app_span, "this is cut short"),
        );
    }
}

fn shorter(pod: Grace, app: Grace) -> bool {
    match (pod, app) {
        (Grace::Infinite, _) => false,
        (Grace::Limited(_), Grace::Infinite) => true,
        (Grace::Limited(pod), Grace::Limited(app)) => pod < app,
    }
}

fn has_no_essential(pod: &Pod, apps: &[App]) -> bool {
    pod.spec.exit_policy == ExitPolicy::Essential && !apps.iter().any(|app| app.spec.essential)
}

fn assemble(pod: Pod, apps: Vec<App>, stop: Option<Grace>) -> Spec {
    let mut spec = pod.spec.clone();
    if pod.stop_timeout.is_none() {
        spec.stop_timeout = stop.unwrap_or(Grace::Infinite);
    }
    // "All essential apps have succeeded" holds from the start when there is none; the pod would end at once.
    if has_no_essential(&pod, &apps) {
        spec.exit_policy = ExitPolicy::AllExited;
    }
    Spec { pod: spec, apps: apps.into_iter().map(|app| app.spec).collect(), sockets: Vec::new() }
}
