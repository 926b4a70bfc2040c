//! `podrun stats`: what the groups of pods and apps use, look after look.
//!
//! A look reads the files of every group that is asked for; what is a share of time comes from two looks. Nothing is kept
//! but the last one. What has gone meanwhile is left out.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Instant;

use anyhow::Result;
use serde::Serialize;

use super::{addresses, check_app, not_running, usage};
use crate::cgroup::limits::app_group;
use crate::cgroup::pressure::{Pressure, Stall};
use crate::cgroup::stats::{self, Counters};
use crate::cli::{StatsArgs, TextFormat};
use crate::output::table::Table;
use crate::output::{json_line, size, terminal_width, write_more};
use crate::pod::Pod;
use crate::pod::record::now_ms;
use crate::pod::root::Root;
use crate::pod::status::AppState;
use crate::pod::status::json::{SCHEMA, UsageJson, rfc3339};

/// Puts the cursor to the upper left corner and clears what is below.
const CLEAR: &str = "\x1b[H\x1b[J";

/// What is looked at: a pod, and which of its apps.
struct Subject {
    pod: Pod,
    apps: Apps,
}

/// Which lines a pod has.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Apps {
    /// Its own alone.
    None,
    /// Its own and that of each app that runs.
    All,
    /// That of this app alone.
    One(String),
}

/// One group, at one moment.
struct Look {
    pod: String,
    id: String,
    app: Option<String>,
    at: Instant,
    usage: UsageJson,
    counters: Counters,
}

/// Two looks at one group.
struct Line {
    look: Look,
    /// Time between the looks, CPU time used in it, and time held up; of the first look there is none.
    span_ns: Option<u64>,
    cpu_ns: Option<u64>,
    throttled_ns: Option<u64>,
}

/// Shows what is used until nothing of it runs any more, or once.
///
/// # Errors
/// When there is no such pod or app, it does not run, or standard output cannot be written.
pub fn run(root: &Root, args: &StatsArgs) -> Result<u8> {
    let (first, failure) = subjects(root, args)?;
    // Later on one that is not there has ended.
    if let Some(error) = failure {
        return Err(error);
    }
    let mut last = looks(&first);
    loop {
        std::thread::sleep(args.interval);
        let (subjects, failure) = subjects(root, args)?;
        if subjects.is_empty() && failure.is_some() {
            return Ok(0);
        }
        let now = looks(&subjects);
        let lines = lines(now, &last);
        if !write_more(&text(&lines, args)?)? || args.no_stream {
            return Ok(0);
        }
        last = lines.into_iter().map(|line| line.look).collect();
    }
}

/// Those that are named, or all that run; with why one that is named is not among them.
fn subjects(root: &Root, args: &StatsArgs) -> Result<(Vec<Subject>, Option<anyhow::Error>)> {
    if args.pods.is_empty() {
        let apps = if args.apps { Apps::All } else { Apps::None };
        let living = root.list()?.into_iter().filter(Pod::is_alive);
        return Ok((living.map(|pod| Subject { pod, apps: apps.clone() }).collect(), None));
    }
    let mut subjects = Vec::new();
    let mut failure = None;
    for address in addresses(&args.pods, &args.apps_of_pods)? {
        match subject(root, &address.pod, address.app) {
            Ok(subject) => subjects.push(subject),
            Err(error) => failure = Some(error),
        }
    }
    Ok((subjects, failure))
}

fn subject(root: &Root, word: &str, app: Option<String>) -> Result<Subject> {
    let pod = root.find(word)?;
    if !pod.is_alive() {
        return not_running(&pod)
            .map_err(|error: anyhow::Error| error.context(format!("cannot look at pod `{word}`")));
    }
    let Some(app) = app else { return Ok(Subject { pod, apps: Apps::All }) };
    check_app(&pod.status(), &app).map_err(|error| error.context(format!("cannot look at pod `{word}`")))?;
    Ok(Subject { pod, apps: Apps::One(app) })
}

fn looks(subjects: &[Subject]) -> Vec<Look> {
    subjects.iter().flat_map(looks_at).collect()
}

fn looks_at(Subject { pod, apps }: &Subject) -> Vec<Look> {
    let Ok(plan) = pod.plan() else { return Vec::new() };
    let look = |app: Option<String>| {
        let group = app.as_deref().map(app_group).unwrap_or_default();
        Look {
            pod: pod.name().to_owned(),
            id: pod.id().to_string(),
            usage: usage::read(&plan.cgroup, app.as_deref()),
            counters: stats::counters(&plan.cgroup, &group),
            at: Instant::now(),
            app,
        }
    };
    let runs = |state: &AppState| matches!(state, AppState::Running { .. } | AppState::Stopping { .. });
    let running = || pod.status().apps.into_iter().filter(|app| runs(&app.state)).map(|app| Some(app.name));
    match apps {
        Apps::None => vec![look(None)],
        Apps::All => std::iter::once(None).chain(running()).map(look).collect(),
        Apps::One(app) => vec![look(Some(app.clone()))],
    }
}

fn lines(now: Vec<Look>, last: &[Look]) -> Vec<Line> {
    let before: HashMap<(&str, Option<&str>), &Look> =
        last.iter().map(|look| ((look.id.as_str(), look.app.as_deref()), look)).collect();
    let line = |look: Look| {
        let old = before.get(&(look.id.as_str(), look.app.as_deref()));
        let moved = |new: Option<u64>, old: Option<u64>| new?.checked_sub(old?);
        let span = old.map(|old| look.at.saturating_duration_since(old.at));
        Line {
            span_ns: span.and_then(|span| u64::try_from(span.as_nanos()).ok()),
            cpu_ns: old.and_then(|old| moved(look.usage.cpu_used_ns, old.usage.cpu_used_ns)),
            throttled_ns: old.and_then(|old| moved(look.counters.throttled_ns, old.counters.throttled_ns)),
            look,
        }
    };
    now.into_iter().map(line).collect()
}

impl Line {
    /// Percent of the time between the looks.
    #[allow(clippy::cast_precision_loss, reason = "a share, of which a few digits are shown")]
    fn percent(&self, part_ns: Option<u64>) -> Option<f64> {
        let span = self.span_ns.filter(|span| *span > 0)?;
        Some(part_ns? as f64 * 100.0 / span as f64)
    }

    fn json(&self) -> StatsJson {
        let Look { usage, counters, .. } = &self.look;
        StatsJson {
            usage: usage.clone(),
            cpu_percent: self.percent(self.cpu_ns),
            cpu_throttled_ns: counters.throttled_ns,
            cpu_throttled_percent: self.percent(self.throttled_ns),
            swap_current_bytes: counters.swap_bytes,
            io_read_bytes: counters.read_bytes,
            io_written_bytes: counters.written_bytes,
            pressure: Some(counters.pressure.clone()).filter(|pressure| !pressure.is_unknown()),
        }
    }
}

#[derive(Serialize)]
struct LookJson<'a> {
    schema: u32,
    at: Option<String>,
    pods: Vec<PodJson<'a>>,
}

#[derive(Serialize)]
struct PodJson<'a> {
    id: &'a str,
    name: &'a str,
    #[serde(flatten)]
    own: Option<StatsJson>,
    apps: Vec<AppJson<'a>>,
}

#[derive(Serialize)]
struct AppJson<'a> {
    name: &'a str,
    #[serde(flatten)]
    own: StatsJson,
}

#[derive(Serialize)]
struct StatsJson {
    #[serde(flatten)]
    usage: UsageJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_throttled_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_throttled_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    swap_current_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    io_read_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    io_written_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pressure: Option<Pressure>,
}

fn text(lines: &[Line], args: &StatsArgs) -> Result<String> {
    if args.output == TextFormat::Json {
        return json_line(&LookJson { schema: SCHEMA, at: rfc3339(now_ms()), pods: pods(lines) });
    }
    let clear = if args.no_stream || !std::io::stdout().is_terminal() { "" } else { CLEAR };
    let width = if args.no_trunc { None } else { terminal_width() };
    Ok(format!("{clear}{}", table(lines).fit(width).render()))
}

/// Lines of one pod follow each other.
fn pods(lines: &[Line]) -> Vec<PodJson<'_>> {
    let mut pods: Vec<PodJson<'_>> = Vec::new();
    for line in lines {
        let Look { pod, id, app, .. } = &line.look;
        let is_new = pods.last().is_none_or(|last| last.id != id);
        if is_new {
            pods.push(PodJson { id, name: pod, own: None, apps: Vec::new() });
        }
        let Some(last) = pods.last_mut() else { continue };
        match app {
            None => last.own = Some(line.json()),
            Some(name) => last.apps.push(AppJson { name, own: line.json() }),
        }
    }
    pods
}

fn table(lines: &[Line]) -> Table {
    let rows: Vec<[Option<String>; 10]> = lines.iter().map(cells).collect();
    let headings = ["POD/APP", "CPU", "THROTTLED", "MEMORY", "MAX", "PEAK", "SWAP", "PIDS", "IO", "PRESSURE"];
    let optional = ["THROTTLED", "SWAP", "IO", "PRESSURE"];
    let shown: Vec<usize> = (0..headings.len())
        .filter(|&at| !optional.contains(&headings[at]) || rows.iter().any(|row| row[at].is_some()))
        .collect();
    let headings: Vec<&str> = shown.iter().map(|&at| headings[at]).collect();
    let mut table = Table::new(&headings).cut(&["POD/APP"]);
    for row in rows {
        table.row(shown.iter().map(|&at| row[at].clone().unwrap_or_else(|| "-".to_owned())).collect());
    }
    table
}

fn cells(line: &Line) -> [Option<String>; 10] {
    let Look { pod, app, usage, counters, .. } = &line.look;
    let percent = |share: Option<f64>| share.map(|share| format!("{share:.1}%"));
    let moved = counters.read_bytes.zip(counters.written_bytes);
    [
        Some(app.as_ref().map_or_else(|| pod.clone(), |app| format!("{pod}/{app}"))),
        percent(line.percent(line.cpu_ns)),
        percent(line.percent(line.throttled_ns)),
        usage.memory_current_bytes.map(size),
        usage.memory_max_bytes.map(size),
        usage.memory_peak_bytes.map(size),
        counters.swap_bytes.filter(|bytes| *bytes > 0).map(size),
        usage.pids_current.map(|pids| pids.to_string()),
        moved.map(|(read, written)| format!("{} / {}", size(read), size(written))),
        pressure(&counters.pressure),
    ]
}

/// What is not zero, in the order of the file names.
fn pressure(pressure: &Pressure) -> Option<String> {
    let all = [("cpu", pressure.cpu), ("memory", pressure.memory), ("io", pressure.io)];
    let told = |(name, stall): (&str, Option<Stall>)| {
        let share = stall?.some_avg10;
        (share > 0.0).then(|| format!("{name} {share:.1}%"))
    };
    let words: Vec<String> = all.into_iter().filter_map(told).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn look(app: Option<&str>, at: Instant, cpu_ns: u64, counters: Counters) -> Look {
        let usage = UsageJson {
            cpu_used_ns: Some(cpu_ns),
            memory_current_bytes: Some(1 << 20),
            ..UsageJson::default()
        };
        Look { pod: "shop".into(), id: "0a1b2c3d".into(), app: app.map(str::to_owned), at, usage, counters }
    }

    #[test]
    fn shares_are_of_the_time_between_two_looks() {
        let begin = Instant::now();
        let later = begin + Duration::from_secs(2);
        let throttled = |ns: u64| Counters { throttled_ns: Some(ns), ..Counters::default() };
        let last = [look(None, begin, 1_000, throttled(0)), look(Some("a"), begin, 500, Counters::default())];
        let now = vec![
            look(None, later, 500_001_000, throttled(1_000_000_000)),
            look(Some("a"), later, 400, Counters::default()),
            look(Some("new"), later, 7, Counters::default()),
        ];
        let lines = lines(now, &last);
        let shares: Vec<_> = lines.iter().map(|line| line.percent(line.cpu_ns)).collect();
        assert_eq!(
            shares,
            [Some(25.0), None, None],
            "a group that was made anew has used less, and is no share"
        );
        let text = table(&lines).render();
        let expected = "\
POD/APP   CPU    THROTTLED  MEMORY  MAX  PEAK  PIDS
shop      25.0%  50.0%      1 MiB   -    -     -
shop/a    -      -          1 MiB   -    -     -
shop/new  -      -          1 MiB   -    -     -
";
        assert_eq!(text, expected);
    }

    #[test]
    fn pressure_that_is_none_is_not_told() {
        let stall = |some_avg10| Some(Stall { some_avg10, some_total_ns: 1 });
        let some = Pressure { cpu: stall(1.25), memory: stall(0.0), io: stall(12.0) };
        assert_eq!(pressure(&some).as_deref(), Some("cpu 1.2%, io 12.0%"));
        assert_eq!(pressure(&Pressure::default()), None);
    }
}
