//! `podrun status`.

use anyhow::{Result, anyhow};

use super::waiting::{self, Progress, Subject};
use super::{address, logs, usage};
use crate::cgroup::limits::app_group;
use crate::cgroup::stats;
use crate::cli::pods::Condition;
use crate::cli::{StatusArgs, TextFormat};
use crate::error::{EXIT_NOT_FOUND, EXIT_NOT_RUNNING, EXIT_TIMED_OUT, EXIT_USAGE, Note};
use crate::output::table::Table;
use crate::output::{Color, size, span, terminal_width, wrap, write_json, write_stdout};
use crate::pod::record::now_ms;
use crate::pod::root::Root;
use crate::pod::status::json::{AppJson, PodJson, UsageJson};
use crate::pod::status::{AppState, AppStatus, Status};
use crate::pod::{Address, Pod};

/// The words before what is told of the pod stand in a column of this width.
const LABEL_WIDTH: usize = 8;

/// Says how a pod or one of its apps is.
///
/// # Errors
/// When there is no such pod or app, or standard output cannot be written.
pub fn run(root: &Root, color: Color, args: &StatusArgs) -> Result<u8> {
    if args.lines.is_some() && args.output == TextFormat::Json {
        return Err(anyhow!("cannot use `--lines` with JSON"))
            .code(EXIT_USAGE)
            .hint("`podrun logs -o json` has them");
    }
    let Address { pod, app } = address(&args.pod, args.app.as_ref())?;
    let pod = root.find(&pod)?;
    let in_time = wait_first(&pod, app.as_ref(), args)?;
    let is_alive = pod.is_alive();
    let mut status = pod.status();
    if let Some(name) = &app {
        status.apps.retain(|app| app.name == *name);
        if status.apps.is_empty() {
            return Err(anyhow!("pod `{}` has no app `{name}`", pod.name())).code(EXIT_NOT_FOUND);
        }
    }
    let json = complete(&pod, &status, is_alive);
    match args.output {
        TextFormat::Json => write_json(&json)?,
        TextFormat::Text => {
            let width_max = if args.no_trunc { None } else { terminal_width() };
            write_stdout(&text(&pod, &status, &json, (now_ms(), width_max)))?;
            if let Some(lines) = args.lines {
                let apps: Vec<String> = status.apps.iter().map(|app| app.name.clone()).collect();
                logs::tail(&pod, &apps, lines, color.stdout())?;
            }
        }
    }
    let runs = match &app {
        Some(_) => is_alive && status.running() > 0,
        None => is_alive && !status.phase.is_over(),
    };
    Ok(match (in_time, runs) {
        (false, _) => EXIT_TIMED_OUT,
        (true, true) => 0,
        (true, false) => EXIT_NOT_RUNNING,
    })
}

/// For `--wait` and `--wait-ready`: whether it came so far, or ended, in its time.
fn wait_first(pod: &Pod, app: Option<&String>, args: &StatusArgs) -> Result<bool> {
    let (condition, limit) = match (args.wait, args.wait_ready) {
        (Some(limit), _) => (Condition::Exited, limit),
        (None, Some(limit)) => (Condition::Ready, limit),
        (None, None) => return Ok(true),
    };
    if let Some(app) = app.filter(|app| pod.status().app(app).is_none()) {
        return Err(anyhow!("pod `{}` has no app `{app}`", pod.name())).code(EXIT_NOT_FOUND);
    }
    let subject = Subject { pod: pod.clone(), app: app.cloned() };
    Ok(waiting::until(&subject, condition, waiting::deadline(Some(limit))) != Progress::Pending)
}

/// The account, with what the kernel says about the groups of a living pod.
pub(super) fn complete(pod: &Pod, status: &Status, is_alive: bool) -> PodJson {
    let mut json = status.to_json(pod.identity());
    let Ok(plan) = pod.plan() else { return json };
    if is_alive {
        json.usage = usage::read(&plan.cgroup, None);
        for (app, told) in json.apps.iter_mut().zip(&status.apps) {
            if matches!(told.state, AppState::Running { .. } | AppState::Stopping { .. }) {
                app.usage = usage::read(&plan.cgroup, Some(&app.name));
                // What is told of kills that go on is told as sums; the kernel has counted all.
                let counted = stats::usage(&plan.cgroup, &app_group(&app.name)).oom_kills;
                app.oom_kills = app.oom_kills.max(counted.filter(|kills| *kills > 0));
            }
        }
    }
    json.not_enforced = plan.cgroup.not_enforced;
    json.labels = plan.labels;
    json
}

fn text(pod: &Pod, status: &Status, json: &PodJson, (now_ms, width_max): (u64, Option<usize>)) -> String {
    let mut text = String::new();
    let mut tell = |label: &str, value: &str| {
        text += &format!("{label:LABEL_WIDTH$}{}\n", below(value, LABEL_WIDTH, width_max))
    };
    tell("pod", &format!("{} ({})", pod.name(), pod.id()));
    tell("status", &format!("{}{}", json.status, when(status, now_ms)));
    if let Some(memory) = memory(&json.usage) {
        tell("memory", &memory);
    }
    if let Some(used) = json.usage.cpu_used_ns {
        tell("cpu", &format!("{} used", span(used / 1_000_000)));
    }
    tell("record", &pod.path().display().to_string());
    if status.incomplete {
        tell("note", "some of its account cannot be read");
    }
    text += "\n";
    text += &apps(&status.apps, &json.apps, now_ms).fit(width_max).render();
    if !json.not_enforced.is_empty() {
        text += "\nnot enforced on this host:\n";
        for limit in &json.not_enforced {
            let line = format!("{} {}: {}", limit.scope, limit.key, limit.reason);
            text += &format!("  {}\n", below(&line, 4, width_max));
        }
    }
    text
}

/// The text, which goes on in a column of its own where it is longer than the terminal is wide.
fn below(text: &str, column: usize, width_max: Option<usize>) -> String {
    match width_max {
        Some(max) => wrap(text, max.saturating_sub(column)).join(&format!("\n{}", " ".repeat(column))),
        None => text.to_owned(),
    }
}

/// `, since 2m 5s` or `, 2m ago after 12s`.
fn when(status: &Status, now_ms: u64) -> String {
    match (status.started_ms, status.ended_ms) {
        (Some(started), Some(ended)) => {
            let ago = span(now_ms.saturating_sub(ended));
            format!(", {ago} ago after {}", span(ended.saturating_sub(started)))
        }
        (Some(started), None) if !status.phase.is_over() => {
            format!(", since {}", span(now_ms.saturating_sub(started)))
        }
        _ => String::new(),
    }
}

fn memory(usage: &UsageJson) -> Option<String> {
    let mut parts = vec![format!("{} now", size(usage.memory_current_bytes?))];
    parts.extend(usage.memory_peak_bytes.map(|bytes| format!("{} peak", size(bytes))));
    parts.extend(usage.memory_max_bytes.map(|bytes| format!("{} at most", size(bytes))));
    Some(parts.join(", "))
}

/// The PID is the one inside the pod.
fn apps(statuses: &[AppStatus], apps: &[AppJson], now_ms: u64) -> Table {
    let mut table =
        Table::new(&["APP", "PID", "TIME", "MEMORY", "PEAK", "MAX", "CPU", "STATUS"]).cut(&["APP"]);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    for (status, app) in statuses.iter().zip(apps) {
        let usage = &app.usage;
        table.row(vec![
            app.name.clone(),
            or_dash(app.pid.map(|pid| pid.to_string())),
            or_dash(status.time_ms(now_ms).map(span)),
            or_dash(usage.memory_current_bytes.map(size)),
            or_dash(usage.memory_peak_bytes.map(size)),
            or_dash(usage.memory_max_bytes.map(size)),
            or_dash(usage.cpu_used_ns.map(|used| span(used / 1_000_000))),
            app.status.clone(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use podrun_abi::event::{Event, Record};

    use super::*;

    #[test]
    fn times_are_relative() {
        let mut status = Status::new(vec!["a".into()]);
        assert_eq!(when(&status, 1000), "");
        status.apply(&Record { version: 1, time_ms: 5000, monotonic_ms: 0, event: Event::Booted });
        assert_eq!(when(&status, 65_000), ", since 1m");
        let lost = Event::PodLost { cause: "x".into() };
        status.apply(&Record { version: 1, time_ms: 17_000, monotonic_ms: 0, event: lost });
        assert_eq!(when(&status, 137_000), ", 2m ago after 12s");
    }

    #[test]
    fn memory_says_what_is_known() {
        let mut usage = UsageJson::default();
        assert_eq!(memory(&usage), None);
        usage.memory_current_bytes = Some(1 << 20);
        assert_eq!(memory(&usage).as_deref(), Some("1 MiB now"));
        usage.memory_max_bytes = Some(25 << 20);
        assert_eq!(memory(&usage).as_deref(), Some("1 MiB now, 25 MiB at most"));
    }
}
