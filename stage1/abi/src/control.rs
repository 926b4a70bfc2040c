//! [`Command`]: what stage1 can be asked to do, by the launcher and through the pod's control socket.

use serde::{Deserialize, Serialize};

/// A signal number, 1..=64.
pub type Signal = i32;

/// No more of [`Command::Updated::changes`] fits a record, in bytes.
pub const CHANGES_BYTES_MAX: usize = 4096;

/// One packet to stage1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Must equal [`crate::VERSION`].
    pub version: u32,
    /// What to do.
    pub command: Command,
}

/// What stage1 can be asked to do. Apps are named, never numbered: a name cannot point at a wrong one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Start the apps. From the launcher only, once, after it has found stage1 in the pod's cgroup and every
    /// limit read back as written.
    Go,
    /// The ordered stop: of the whole pod when `apps` is empty. Repeating it is harmless.
    Stop {
        /// The apps to stop; empty: the pod.
        apps: Vec<String>,
        /// In place of the apps' own stop timeouts, in milliseconds.
        timeout_ms: Option<u64>,
    },
    /// Kill at once everything that is left, without the stop signal; of the whole pod when `apps` is empty.
    Kill {
        /// The apps to kill; empty: the pod.
        apps: Vec<String>,
    },
    /// Let running apps stand still: no process of theirs gets CPU time until [`Command::Unpause`] or their end.
    Pause {
        /// The apps to pause; empty: all that run.
        apps: Vec<String>,
    },
    /// Let paused apps go on.
    Unpause {
        /// The apps to let go on; empty: all that are paused.
        apps: Vec<String>,
    },
    /// Write down that limits were changed. stage1 has no part in that: it tells it so that all events are in one order.
    Updated {
        /// The app whose limits they are; `None`: the pod's own.
        app: Option<String>,
        /// What was changed, as it was typed (`KEY=VALUE`), at most [`CHANGES_BYTES_MAX`] bytes.
        changes: Vec<String>,
    },
    /// Send a signal to the main process of an app, of every running app when `apps` is empty.
    Signal {
        /// The apps to signal; empty: all that run.
        apps: Vec<String>,
        /// Which signal.
        signal: Signal,
        /// All processes of the app's cgroup, not only its main process.
        all_processes: bool,
    },
}

/// The answer to one [`Request`] on the control socket. The launcher's own socket gets none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "snake_case", deny_unknown_fields)]
pub enum Reply {
    /// Accepted. What it led to is told by the events.
    Accepted,
    /// Refused; nothing was done.
    Refused {
        /// For people: lower case, no full stop.
        reason: String,
    },
}
