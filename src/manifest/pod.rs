//! The table `[pod]`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use podrun_abi::boot::ExitPolicy;

use super::devices::{self, Named};
use super::isolators;
use super::problem::Problem;
use super::rules;
use super::tree::{Item, Report, Table, ValueRules, not_text};
use crate::spec::{Grace, PodSpec};
use crate::value::{Refusal, Why, duration, place};

const DURATION: ValueRules = ValueRules::new(rules::DURATION_FORM, rules::DURATION_RANGE);
pub(super) const NUL: ValueRules = ValueRules::both(rules::NUL);
/// HOST_NAME_MAX, what sethostname(2) takes.
const HOSTNAME_BYTES_MAX: usize = 64;

/// The pod, and where its stop timeout was said.
pub(super) struct Pod<'a> {
    /// As read; [`PodSpec::stop_timeout`] holds no meaning when `stop_timeout` is `None`.
    pub spec: PodSpec,
    /// The place of the table.
    pub span: Range<usize>,
    /// The place of `stop-timeout`.
    pub stop_timeout: Option<Range<usize>>,
    /// The devices that it may use.
    pub devices: Option<Named>,
    /// The table of its isolators.
    pub isolators: Option<Table<'a>>,
}

/// Reads `[pod]`; tells when there is none.
pub(super) fn read<'a>(root: &Table<'a>, report: &mut Report) -> Option<Pod<'a>> {
    if root.item("pod").is_none() {
        report.add(
            Problem::new(&rules::MISSING_KEY, "pod", report.end(), "the table [pod] is missing")
                .help("add [pod] with name = \"…\""),
        );
    }
    let table = root.table("pod")?;
    let name = table.required("name", report).and_then(|item| name(&item, report)).unwrap_or_default();
    let hostname = table.item("hostname").and_then(|item| hostname(&item, report));
    let stop = table.item("stop-timeout");
    let devices = table.item("devices").map(|item| devices::read(&item, report));
    let spec = PodSpec {
        hostname: hostname.unwrap_or_else(|| name.clone()),
        name,
        exit_policy: table
            .item("exit-policy")
            .and_then(|item| exit_policy(&item, report))
            .unwrap_or(ExitPolicy::Essential),
        stop_timeout: stop.as_ref().and_then(|item| stop_timeout(item, report)).unwrap_or(Grace::Infinite),
        labels: table.item("labels").map(|item| labels(&item, report)).unwrap_or_default(),
        devices: devices.as_ref().map(|devices| devices.specs.clone()),
        limits: isolators::read(&table, report),
    };
    Some(Pod {
        spec,
        span: table.span.clone(),
        stop_timeout: stop.map(|item| item.span),
        devices,
        isolators: table.table("isolators"),
    })
}

/// A duration at this place.
pub(super) fn grace(item: &Item, report: &mut Report) -> Option<Grace> {
    item.parsed(report, DURATION, duration::parse)
}

fn name(item: &Item, report: &mut Report) -> Option<String> {
    let text = item.text(report)?;
    let well = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let is_label = (1..=63).contains(&text.len()) && text.bytes().all(well);
    if is_label && !text.starts_with('-') && !text.ends_with('-') {
        return Some(text.to_owned());
    }
    let message = match text.len() {
        0 => "the pod name is empty".to_owned(),
        64.. => format!("the pod name has {} bytes; at most 63 are allowed", text.len()),
        _ => format!("invalid pod name `{text}`: use lower-case letters, digits and `-`"),
    };
    let problem = item.problem(&rules::POD_NAME, message);
    let better: String =
        text.to_ascii_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let better = better.trim_matches('-');
    let better = better.get(..63).unwrap_or(better).trim_matches('-');
    report.add(if better.is_empty() { problem } else { problem.help(format!("for example \"{better}\"")) });
    None
}

fn hostname(item: &Item, report: &mut Report) -> Option<String> {
    let text = item.text(report)?;
    let well = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let message = if text.len() > HOSTNAME_BYTES_MAX {
        format!("hostname is longer than {HOSTNAME_BYTES_MAX} bytes")
    } else if text.is_empty() || !text.bytes().all(well) {
        format!("invalid hostname `{text}`: use letters, digits, `-`, `_` and `.`")
    } else {
        return Some(text.to_owned());
    };
    report.add(item.problem(&rules::HOSTNAME, message));
    None
}

fn exit_policy(item: &Item, report: &mut Report) -> Option<ExitPolicy> {
    item.choice(
        report,
        &[
            ("essential", ExitPolicy::Essential),
            ("all-exited", ExitPolicy::AllExited),
            ("never", ExitPolicy::Never),
        ],
    )
}

fn stop_timeout(item: &Item, report: &mut Report) -> Option<Grace> {
    let grace = grace(item, report)?;
    if grace != Grace::Limited(Duration::ZERO) {
        return Some(grace);
    }
    let refusal = Refusal {
        why: Why::Range,
        message: "pod.stop-timeout is 0: no app could end in order".to_owned(),
        help: Some("`podrun kill` ends a pod at once".to_owned()),
    };
    item.accept(report, DURATION, Err(refusal))
}

fn labels(item: &Item, report: &mut Report) -> BTreeMap<String, String> {
    let Some(table) = item.as_table() else {
        item.wrong_type(report);
        return BTreeMap::new();
    };
    let mut labels = BTreeMap::new();
    for label in table.items() {
        let well = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._/-".contains(&b);
        if label.key.is_empty() || !label.key.bytes().all(well) {
            let message = format!(
                "invalid label `{}`: use lower-case letters, digits, `.`, `_`, `/` and `-`",
                label.key
            );
            report.add(Problem::new(&rules::LABEL_NAME, &label.path, label.key_span.clone(), message));
        }
        let Some(text) = label.value.as_str() else {
            report.add(label.problem(&rules::WRONG_TYPE, not_text("labels", &label, report)));
            continue;
        };
        if let Some(text) = label.accept(report, NUL, place::no_nul(text)) {
            labels.insert(label.key.to_owned(), text.to_owned());
        }
    }
    labels
}
