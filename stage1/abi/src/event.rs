//! [`Record`]: what stage1 (and the launcher, for what stage1 cannot say any more) tells of a pod.
//!
//! The same JSON text is a packet on the launcher's socket and a line of the pod's `events.jsonl`; `status` is
//! a fold over these. What is of the moment alone ([`Event::is_passing`]) is told to the launcher only: an account that
//! grew with every word of an app would fill the disk.

use serde::{Deserialize, Serialize};

use crate::control::Signal;
use crate::failure::StartFailure;

/// One event with its times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`crate::VERSION`].
    pub version: u32,
    /// CLOCK_REALTIME in milliseconds since 1970, for people.
    pub time_ms: u64,
    /// CLOCK_MONOTONIC in milliseconds, for differences.
    pub monotonic_ms: u64,
    /// What happened.
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "snake_case")]
pub enum Event {
    /// stage1 has built the pod's namespaces and waits for [`crate::control::Command::Go`].
    Booted,
    /// stage1 could not build the pod; it ends with 125 after this.
    BootFailed {
        /// What went wrong.
        failure: StartFailure,
    },
    /// The app was exec'ed.
    Started {
        /// The app's name.
        app: String,
        /// The pid of its main process inside the pod.
        pid: i32,
        /// It has `ready.notify`, and has not said yet that it is ready.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        awaits_ready: bool,
    },
    /// The app has said that it is ready; told once.
    Ready {
        /// The app's name.
        app: String,
    },
    /// The app has not said in time that it works, or has said that it does not; told once.
    WatchdogMissed {
        /// The app's name.
        app: String,
    },
    /// What the app says of itself; not in `events.jsonl`.
    Says {
        /// The app's name.
        app: String,
        /// How it is, in its own words, at most [`crate::notice::STATUS_BYTES_MAX`] bytes; `None`: as before.
        status: Option<String>,
        /// Its start or stop may take so much longer from now on, in microseconds.
        extend_us: Option<u64>,
    },
    /// The descriptors that are attached to this packet are to be kept for the app's next start; not in `events.jsonl`.
    Stores {
        /// The app's name.
        app: String,
        /// What it calls them ([`crate::notice::is_name`]).
        name: String,
        /// Whoever keeps them may close one that has come to its end.
        poll: bool,
    },
    /// What was kept under this name is kept no more; not in `events.jsonl`.
    Forgets {
        /// The app's name.
        app: String,
        /// What it called them.
        name: String,
    },
    /// The app could not be exec'ed; it counts as ended with [`StartFailure::exit_code`].
    StartFailed {
        /// The app's name.
        app: String,
        /// What went wrong.
        failure: StartFailure,
    },
    /// Every app was started (or had already ended), and those with `ready.notify` have said that they are ready (or have
    /// ended): the pod is up.
    Up,
    /// The app is being frozen.
    Paused {
        /// The app's name.
        app: String,
    },
    /// The app goes on: by a command, or since it is to end.
    Unpaused {
        /// The app's name.
        app: String,
    },
    /// Limits were changed, and hold.
    Updated {
        /// The app whose limits they are; `None`: the pod's own.
        app: Option<String>,
        /// What was changed, as it was typed (`KEY=VALUE`; without a value: taken away).
        changes: Vec<String>,
    },
    /// The OOM killer has killed processes of the app. Told at once, and as long as it goes on with longer and longer
    /// pauses.
    Oom {
        /// The app's name.
        app: String,
        /// Whose limit was enforced.
        level: OomLevel,
        /// How many processes.
        kills: u64,
        /// That limit, in bytes; none at the level of the host.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit_bytes: Option<u64>,
        /// The most memory that the pod has used, at its level, else the app.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peak_bytes: Option<u64>,
        /// How much the app waited for memory.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pressure: Option<Pressure>,
    },
    /// Memory is above `memory-high`, and whoever wants more is slowed down. Told at once, and as long as it goes on
    /// with longer and longer pauses.
    MemoryHigh {
        /// The app's name; `None`: the pod as a whole.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        app: Option<String>,
        /// How often since it was told last.
        times: u64,
        /// The limit, in bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit_bytes: Option<u64>,
    },
    /// A process could not be added for `pids-max`. Told at once, and then likewise.
    PidsMax {
        /// The app's name; `None`: the pod as a whole.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        app: Option<String>,
        /// How often since it was told last.
        times: u64,
        /// The limit that was met; `None`: nobody knows the number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u64>,
        /// It is the pod's limit, though an app was refused.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        of_pod: bool,
    },
    /// The app was sent its stop signal.
    Stopping {
        /// The app's name.
        app: String,
        /// The signal it was sent.
        signal: Signal,
    },
    /// The app's main process has ended and nothing of the app is left.
    Ended {
        /// The app's name.
        app: String,
        /// How, and what it used.
        outcome: Outcome,
    },
    /// The pod is on its way down: no app is started any more.
    PodStopping {
        /// Why.
        reason: StopReason,
    },
    /// Processes that could not be killed; the pod's cgroup stays for `gc`.
    Unkillable {
        /// The app's name.
        app: String,
        /// Their pids inside the pod, at most 16.
        pids: Vec<i32>,
    },
    /// All apps have ended: stage1's last words.
    PodEnded {
        /// The exit code of the pod.
        code: u8,
        /// Why it ended.
        reason: StopReason,
        /// The app whose end decided the code, when one did.
        decided_by: Option<String>,
    },
    /// Written by the launcher or by `gc`: the pod ended without a word of stage1.
    PodLost {
        /// What is known of it: lower case, no full stop.
        cause: String,
    },
}

impl Event {
    /// It is told to the launcher and written down nowhere.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Says { .. } | Self::Stores { .. } | Self::Forgets { .. })
    }
}

/// Why a pod goes down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "snake_case")]
pub enum StopReason {
    /// Its exit policy: nothing is left to wait for.
    Finished,
    /// An essential app failed.
    AppFailed {
        /// Which.
        app: String,
    },
    /// It was told to stop.
    Requested,
    /// It was told to die at once.
    Killed,
    /// The launcher is gone.
    LauncherGone,
}

/// How an app ended and what it used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Code or signal.
    pub end: End,
    /// The OOM killer killed a process of the app: the level whose limit was hit, of the last time.
    pub oom: Option<OomLevel>,
    /// That is what it ended by: SIGKILL, from nobody else that is known.
    #[serde(default)]
    pub oom_ended: bool,
    /// It was asked to end: by the pod's own end or by a command.
    pub stopped: bool,
    /// It did not end in its grace time and was killed.
    pub timed_out: bool,
    /// The most memory its cgroup ever used, in bytes.
    pub memory_peak_bytes: Option<u64>,
    /// CPU time its cgroup used, in nanoseconds.
    pub cpu_used_ns: Option<u64>,
    /// From exec to the end of its main process, in milliseconds.
    pub ran_ms: u64,
}

impl Outcome {
    /// Of an app that nobody told to end, and of which nothing was counted.
    #[must_use]
    pub fn of(end: End, ran_ms: u64) -> Self {
        Self {
            end,
            oom: None,
            oom_ended: false,
            stopped: false,
            timed_out: false,
            memory_peak_bytes: None,
            cpu_used_ns: None,
            ran_ms,
        }
    }
}

/// Code or signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "snake_case")]
pub enum End {
    /// exit(2) with this code.
    Exited {
        /// 0..=255.
        code: u8,
    },
    /// Killed by a signal.
    Signaled {
        /// Which.
        signal: Signal,
        /// A core was dumped.
        core: bool,
    },
    /// Never exec'ed; the code is 126 or 127, or 125 when podrun itself failed.
    NotStarted {
        /// 125, 126 or 127.
        code: u8,
    },
    /// The pod ended before it was this app's turn.
    Skipped,
}

impl End {
    /// The shell's code for it: the code itself, or 128 plus the signal.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Exited { code } | Self::NotStarted { code } => code,
            Self::Signaled { signal, .. } => u8::try_from(128 + signal).unwrap_or(u8::MAX),
            Self::Skipped => 0,
        }
    }
}

/// How long tasks of a group were held up for want of memory (Documentation/accounting/psi.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pressure {
    /// Share of the last ten seconds in which at least one task was, in hundredths of a percent.
    pub some_avg10: u32,
    /// In which all were.
    pub full_avg10: u32,
    /// In which at least one was since the group was made, in microseconds.
    pub some_total_us: u64,
}

/// Whose memory limit an OOM kill enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OomLevel {
    /// The app's own.
    App,
    /// The sum of the pod.
    Pod,
    /// Something above the pod.
    Host,
}
