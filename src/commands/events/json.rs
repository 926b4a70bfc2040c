//! An event as JSON; docs/json.md lists the keys.

use jiff::Timestamp;
use podrun_abi::event::{End, Event, OomLevel, Outcome};
use serde::Serialize;

use crate::pod::Pod;
use crate::pod::status::json::SCHEMA;
use crate::pod::status::words::signal_name;
use crate::pod::told::Told;

/// One line.
#[derive(Serialize)]
pub struct EventJson<'a> {
    schema: u32,
    time_at: String,
    pod: &'a str,
    pod_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<&'a str>,
    event: &'a str,
    message: &'a str,
    #[serde(flatten)]
    more: More,
}

/// What belongs to some events only.
#[derive(Default, Serialize)]
struct More {
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timed_out: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ran_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_used_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_peak_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oom: Option<OomLevel>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oom_kills: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_of: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_some_avg10: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_full_avg10: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_some_total_ns: Option<u64>,
}

/// An event of a pod.
pub fn event<'a>(pod: &'a Pod, time: Timestamp, told: &'a Told<'_>, event: &Event) -> EventJson<'a> {
    EventJson {
        schema: SCHEMA,
        time_at: format!("{time:.3}"),
        pod: pod.name(),
        pod_id: pod.id().as_str(),
        app: told.app,
        event: told.event,
        message: &told.words,
        more: More::of(event),
    }
}

impl More {
    fn of(event: &Event) -> Self {
        match event {
            Event::Started { pid, .. } => Self { pid: Some(*pid), ..Self::default() },
            Event::Updated { changes, .. } => Self { changes: Some(changes.clone()), ..Self::default() },
            Event::StartFailed { failure, .. } => {
                Self { exit_code: Some(failure.exit_code()), ..Self::default() }
            }
            Event::Stopping { signal, .. } => Self::default().by(*signal),
            Event::Ended { outcome, .. } => Self::of_end(outcome),
            Event::PodEnded { code, .. } => Self { exit_code: Some(*code), ..Self::default() },
            Event::MemoryHigh { times, limit_bytes, .. } => {
                Self { times: Some(*times), limit: *limit_bytes, ..Self::default() }
            }
            Event::PidsMax { app, times, limit, of_pod } => {
                let of_pod = *of_pod || app.is_none() || limit.is_none();
                let limit_of = Some(if of_pod { "pod" } else { "app" });
                Self { times: Some(*times), limit: *limit, limit_of, ..Self::default() }
            }
            Event::Oom { level, kills, limit_bytes, peak_bytes, pressure, .. } => Self {
                oom: Some(*level),
                oom_kills: Some(*kills),
                limit: *limit_bytes,
                memory_peak_bytes: *peak_bytes,
                memory_some_avg10: pressure.map(|pressure| percent(pressure.some_avg10)),
                memory_full_avg10: pressure.map(|pressure| percent(pressure.full_avg10)),
                memory_some_total_ns: pressure.map(|pressure| pressure.some_total_us.saturating_mul(1000)),
                ..Self::default()
            },
            _ => Self::default(),
        }
    }

    fn of_end(outcome: &Outcome) -> Self {
        let told = Self {
            exit_code: Some(outcome.end.exit_code()),
            stopped: outcome.stopped.then_some(true),
            timed_out: outcome.timed_out.then_some(true),
            ran_ms: Some(outcome.ran_ms),
            cpu_used_ns: outcome.cpu_used_ns,
            memory_peak_bytes: outcome.memory_peak_bytes,
            oom: outcome.oom,
            ..Self::default()
        };
        match outcome.end {
            End::Signaled { signal, .. } => told.by(signal),
            _ => told,
        }
    }

    fn by(self, signal: i32) -> Self {
        Self { signal: Some(signal), signal_name: Some(signal_name(signal)), ..self }
    }
}

/// Of hundredths.
fn percent(hundredths: u32) -> f64 {
    f64::from(hundredths) / 100.0
}
