//! What is known of a pod, for scripts: snake_case keys, raw numbers, RFC 3339 times, `"schema": 1`.
//!
//! Keys are added over time and never change their meaning; a key that says nothing is left out.

use std::collections::BTreeMap;

use jiff::Timestamp;
use podrun_abi::event::{End, OomLevel, StopReason};
use serde::Serialize;

use super::words::signal_name;
use super::{AppState, AppStatus, Phase, Status};
use crate::cgroup::plan::NotEnforced;

/// The version of all JSON that podrun prints.
pub const SCHEMA: u32 = 1;

/// A pod.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the keys are their own words, and docs/json.md lists them")]
pub struct PodJson {
    pub schema: u32,
    pub id: String,
    pub name: String,
    pub state: &'static str,
    pub status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    pub incomplete: bool,
    #[serde(flatten)]
    pub usage: UsageJson,
    pub apps: Vec<AppJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_enforced: Vec<NotEnforced>,
}

/// An app.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the keys are their own words, and docs/json.md lists them")]
pub struct AppJson {
    pub name: String,
    pub state: &'static str,
    pub status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub core_dumped: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom: Option<OomLevel>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_kills: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timed_out: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ran_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unkillable: Vec<i32>,
    #[serde(flatten)]
    pub usage: UsageJson,
}

/// What a group uses and may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the keys are their own words, and docs/json.md lists them")]
pub struct UsageJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_current_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_peak_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_max_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_used_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_current: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_max: Option<u64>,
}

/// Whose status it is.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// Eight hexadecimal digits.
    pub id: &'a str,
    /// The pod's name.
    pub name: &'a str,
    /// In milliseconds since 1970.
    pub created_ms: Option<u64>,
}

impl Status {
    /// The whole status of the pod `identity`.
    #[must_use]
    pub fn to_json(&self, identity: Identity<'_>) -> PodJson {
        let (exit_code, reason, decided_by) = match &self.phase {
            Phase::Ended { code, reason, decided_by } => (Some(*code), Some(reason), decided_by.clone()),
            Phase::BootFailed { failure } => (Some(failure.exit_code()), None, None),
            Phase::Stopping { reason } => (None, Some(reason), None),
            _ => (None, None, None),
        };
        PodJson {
            schema: SCHEMA,
            id: identity.id.to_owned(),
            name: identity.name.to_owned(),
            state: phase_word(&self.phase),
            status: self.words(),
            paused: self.is_paused().then_some(true),
            exit_code,
            reason: reason.map(reason_word),
            decided_by,
            created_at: identity.created_ms.and_then(rfc3339),
            started_at: self.started_ms.and_then(rfc3339),
            ended_at: self.ended_ms.and_then(rfc3339),
            labels: BTreeMap::new(),
            incomplete: self.incomplete,
            usage: UsageJson::default(),
            apps: self.apps.iter().map(AppStatus::to_json).collect(),
            not_enforced: Vec::new(),
        }
    }
}

impl AppStatus {
    /// How long it ran, or has been running by now.
    #[must_use]
    pub fn time_ms(&self, now_ms: u64) -> Option<u64> {
        match (&self.state, self.started_ms) {
            (AppState::Ended(outcome), _) => Some(outcome.ran_ms),
            (_, Some(started)) if !self.is_over() => Some(now_ms.saturating_sub(started)),
            _ => None,
        }
    }

    /// The whole status of the app.
    #[must_use]
    pub fn to_json(&self) -> AppJson {
        let outcome = match &self.state {
            AppState::Ended(outcome) => Some(outcome),
            _ => None,
        };
        let (signal, core) = match outcome.map(|outcome| outcome.end) {
            Some(End::Signaled { signal, core }) => (Some(signal), Some(core)),
            _ => (None, None),
        };
        let usage = UsageJson {
            memory_peak_bytes: outcome.and_then(|outcome| outcome.memory_peak_bytes),
            cpu_used_ns: outcome.and_then(|outcome| outcome.cpu_used_ns),
            ..UsageJson::default()
        };
        AppJson {
            name: self.name.clone(),
            state: state_word(&self.state),
            status: self.words(),
            pid: match self.state {
                AppState::Running { pid } | AppState::Stopping { pid } => Some(pid),
                _ => None,
            },
            ready: self.ready,
            paused: self.is_paused.then_some(true),
            oom_kills: Some(self.oom_kills).filter(|kills| *kills > 0),
            status_text: self.says.clone(),
            started_at: self.started_ms.and_then(rfc3339),
            ended_at: self.ended_ms.and_then(rfc3339),
            exit_code: outcome.map(|outcome| outcome.end.exit_code()),
            signal,
            signal_name: signal.map(signal_name),
            core_dumped: core,
            oom: outcome.and_then(|outcome| outcome.oom),
            stopped: outcome.map(|outcome| outcome.stopped),
            timed_out: outcome.map(|outcome| outcome.timed_out),
            ran_ms: outcome.map(|outcome| outcome.ran_ms),
            failure: self.failure.as_ref().map(ToString::to_string),
            unkillable: self.unkillable.clone(),
            usage,
        }
    }
}

/// `2026-11-22T23:50:00.123Z`; `None` for a time that no calendar has.
#[must_use]
pub fn rfc3339(time_ms: u64) -> Option<String> {
    let time = Timestamp::from_millisecond(i64::try_from(time_ms).ok()?).ok()?;
    Some(time.to_string())
}

/// The state in one word.
#[must_use]
pub fn phase_word(phase: &Phase) -> &'static str {
    match phase {
        Phase::Preparing => "preparing",
        Phase::Starting => "starting",
        Phase::Running => "running",
        Phase::Stopping { .. } => "stopping",
        Phase::Ended { .. } => "ended",
        Phase::BootFailed { .. } => "boot_failed",
        Phase::Lost { .. } => "lost",
        Phase::Unknown { .. } => "unknown",
    }
}

fn state_word(state: &AppState) -> &'static str {
    match state {
        AppState::Waiting => "waiting",
        AppState::Running { .. } => "running",
        AppState::Stopping { .. } => "stopping",
        AppState::Ended(outcome) => match outcome.end {
            End::NotStarted { .. } => "not_started",
            End::Skipped => "skipped",
            End::Exited { .. } | End::Signaled { .. } => "ended",
        },
        AppState::Lost => "lost",
    }
}

fn reason_word(reason: &StopReason) -> &'static str {
    match reason {
        StopReason::Finished => "finished",
        StopReason::AppFailed { .. } => "app_failed",
        StopReason::Requested => "requested",
        StopReason::Killed => "killed",
        StopReason::LauncherGone => "launcher_gone",
    }
}
