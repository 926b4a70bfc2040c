//! [`Boot`]: everything stage1 needs to know, given once, before it does anything.
//!
//! It comes in a sealed memfd with the first packet of [`crate::handover`], which brings every descriptor that stage1
//! does not inherit.

use serde::{Deserialize, Serialize};

use crate::control::Signal;

/// The whole of what stage1 is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// Must equal [`crate::VERSION`].
    pub version: u32,
    /// What is true for the pod as a whole.
    pub pod: Pod,
    /// Distinct root directories on the host, absolute. stage1 binds each one (not recursively) into its own
    /// small tmpfs before it pivots away from the host's tree; [`Root::index`] points in here.
    pub roots: Vec<String>,
    /// What stands below `/sys/fs/cgroup` in every app: one view per hierarchy that the pod uses.
    pub cgroup_views: Vec<CgroupView>,
    /// The host's directory with the sockets of its journal, bound into stage1's own tree; `None`: no app writes to
    /// the journal.
    pub journal: Option<String>,
    /// Paths hidden in every app: a file gets a bind of a null device over it, a directory an empty read-only
    /// tmpfs. A path that the app does not have is skipped.
    pub masked: Vec<String>,
    /// Paths made read-only in every app. A path that the app does not have is skipped.
    pub read_only: Vec<String>,
    /// The apps, in the order of the plan: every app stands behind those it depends on.
    pub apps: Vec<App>,
}

/// What is true for the pod as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pod {
    /// The pod's name, for messages.
    pub name: String,
    /// The pod's id, eight hexadecimal digits.
    pub id: String,
    /// Goes to sethostname(2) in the pod's UTS namespace; at most 64 bytes.
    pub hostname: String,
    /// An existing directory of the host over which stage1 mounts its own tmpfs, in its own mount namespace.
    pub scratch: String,
    /// When the pod ends by itself.
    pub exit_policy: ExitPolicy,
    /// How long the ordered stop of the whole pod may take before everything is killed, in milliseconds;
    /// `None`: no limit beyond those of the apps.
    pub stop_timeout_ms: Option<u64>,
    /// The pod's UUID, where systemd knows it as a machine: `/run/host` of the apps says so too.
    pub machine: Option<String>,
    /// How often the launcher's own manager wants to hear of it, in microseconds: an app that has begun to say that it works
    /// says so as often. `None`: nobody wants to know.
    pub watchdog_us: Option<u64>,
}

/// When the pod ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitPolicy {
    /// The first essential app that fails ends the pod with its code; when all essential apps have succeeded
    /// the others are stopped and the code is 0.
    Essential,
    /// When the last app has ended; the code is that of the first essential app that failed, else 0.
    AllExited,
    /// Only when it is told to.
    Never,
}

/// One hierarchy as the apps see it, mounted read-only from inside the app's own cgroup namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CgroupView {
    /// Where, below `/sys/fs/cgroup`; empty: on it.
    pub name: String,
    /// `cgroup` or `cgroup2`.
    pub fstype: String,
    /// The mount data that selects an existing hierarchy, such as `memory` or `none,name=systemd`.
    pub options: String,
}

/// One app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// Unique in the pod, `[a-z0-9-]{1,32}`.
    pub name: String,
    /// Never empty. `argv[0]` without a `/` is searched in the PATH of [`App::env`], inside the app's root.
    pub argv: Vec<String>,
    /// The whole environment, in order.
    pub env: Vec<(String, String)>,
    /// Absolute, entered after pivot_root with the app's own identity; never through a magic link.
    pub workdir: String,
    /// The root and how it may be written.
    pub root: Root,
    /// Who it runs as.
    pub identity: Identity,
    /// `(RLIMIT_* number, soft, hard)`; `u64::MAX` is unlimited.
    pub rlimits: Vec<(u32, u64, u64)>,
    /// -1000..=1000, written to `/proc/self/oom_score_adj`.
    pub oom_score_adj: i32,
    /// It may run on every CPU of its cpuset, whatever the launcher may run on itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all_cpus: bool,
    /// Where its standard output and error go.
    pub output: Output,
    /// The names of the listening sockets that it gets as descriptors from 3 on, as sd_listen_fds(3) has it, and behind
    /// them of what was kept for it. Not empty, without `:`.
    pub sockets: Vec<String>,
    /// What it finds in `/dev` beside what every app has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Life cycle.
    pub policy: Policy,
}

/// A device node, as it is on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Below `/dev`, on the host and in the app; without `.`, `..` or empty parts.
    pub path: String,
    /// Whether it is a block device; else it is a character device.
    pub is_block: bool,
    /// The driver's number.
    pub major: u32,
    /// The device's.
    pub minor: u32,
    /// Permissions, at most 0777.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// Where the standard output and error of an app go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "snake_case")]
pub enum Output {
    /// To what is handed over for it ([`crate::handover::Stdio`]).
    Given,
    /// To the journal of [`Boot::journal`]: each start of the app connects both streams anew, from inside its cgroup.
    Journal {
        /// What a connection begins with, for standard output.
        stdout: String,
        /// The same for standard error.
        stderr: String,
    },
    /// To the null device.
    Nothing,
}

/// The root of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// Index into [`Boot::roots`].
    pub index: usize,
    /// How it may be written.
    pub mode: RootMode,
}

/// How an app may write its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootMode {
    /// A fresh overlay for every start, its upper layer a tmpfs charged to the app.
    Overlay,
    /// Writes fail with EROFS.
    ReadOnly,
    /// Writes go to the directory on the host.
    Writable,
}

/// Who an app runs as, in numbers: names were resolved in the app's own passwd and group files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Real, effective, saved and file-system user id.
    pub uid: u32,
    /// Real, effective, saved and file-system group id.
    pub gid: u32,
    /// The exact supplementary groups; always set, also when empty.
    pub groups: Vec<u32>,
    /// The bounding set, bit n for capability n. With uid 0 it is the permitted and effective set too.
    pub bounding: u64,
    /// For any other uid: the permitted, effective, inheritable and ambient set. 0 for uid 0.
    pub ambient: u64,
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privileges: bool,
}

/// The life cycle of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Indices into [`Boot::apps`] of what must have been started before this app is; all smaller than the
    /// app's own.
    pub after: Vec<usize>,
    /// Those of [`Policy::after`] that must also have said that they are ready, where they have [`Policy::notify`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after_ready: Vec<usize>,
    /// The app says by itself that it is ready, at the socket [`crate::notice::NOTIFY_SOCKET`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub notify: bool,
    /// Whether its failure fails the pod.
    pub essential: bool,
    /// An OOM kill in it kills all of it. For hosts whose kernel does not do that by itself (cgroup v1).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub oom_group: bool,
    /// Ends that count as success.
    pub success: Vec<Success>,
    /// Asks the main process to end.
    pub stop_signal: Signal,
    /// Grace between the stop signal and the kill, in milliseconds; `None`: for ever.
    pub stop_timeout_ms: Option<u64>,
}

/// An end that counts as success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Success {
    /// Exited with this code.
    Code(u8),
    /// Killed by this signal.
    Signal(Signal),
}
