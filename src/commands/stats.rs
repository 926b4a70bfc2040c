//! `podrun stats`: what the groups of pods and apps use, look after look.
//!
//! A look reads the files of every group that is asked for; what is a share of time comes from two looks. Nothing is kept
//! but the last one. What has gone meanwhile is left out.

use std::io::IsTerminal;

use anyhow::Result;
use serde::Serialize;

use super::looks::{Asked, Line, Look, lines, looks, subjects};
use crate::cgroup::pressure::{Pressure, Stall};
use crate::cli::{StatsArgs, TextFormat};
use crate::output::table::Table;
use crate::output::{json_line, size, terminal_width, write_more};
use crate::pod::record::now_ms;
use crate::pod::root::Root;
use crate::pod::status::json::{SCHEMA, UsageJson, rfc3339};

/// Puts the cursor to the upper left corner and clears what is below.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Shows what is used until nothing of it runs any more, or once.
///
/// # Errors
/// When there is no such pod or app, it does not run, or standard output cannot be written.
pub fn run(root: &Root, args: &StatsArgs) -> Result<u8> {
    let asked = Asked { pods: &args.pods, apps: &args.apps_of_pods, with_apps: args.apps };
    let (first, failure) = subjects(root, &asked)?;
    // Later on one that is not there has ended.
    if let Some(error) = failure {
        return Err(error);
    }
    let mut last = looks(&first);
    loop {
        std::thread::sleep(args.interval);
        let (subjects, failure) = subjects(root, &asked)?;
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

impl Line {
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
    use std::time::{Duration, Instant};

    use super::*;
    use crate::cgroup::stats::Counters;

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
