//! [`Spec`]: what an author means, checked against itself and nothing else.
//!
//! The only door to a `Spec` is [`crate::manifest::read`]. Every value in here is in range, every name that
//! points at an app points at one that exists, the dependency graph has no cycle, and every default that needs
//! no look at the host is filled in. No I/O happens here or behind it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use podrun_abi::boot::{ExitPolicy, RootMode, Success};
use podrun_abi::control::Signal;
use serde::{Deserialize, Serialize};

use crate::value::{Access, Ceiling, CpuAmount, CpuWeight, NumberSet};

/// One pod as it is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// What is true for the pod as a whole.
    pub pod: PodSpec,
    /// The apps in the order of the manifest. Never empty.
    pub apps: Vec<AppSpec>,
    /// The sockets in the order of the manifest.
    pub sockets: Vec<SocketSpec>,
}

/// What is true for the pod as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSpec {
    /// A DNS label (RFC 1123): `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`.
    pub name: String,
    /// At most 64 bytes (sethostname(2)). Default: the name.
    pub hostname: String,
    /// When the pod ends by itself.
    pub exit_policy: ExitPolicy,
    /// How long the ordered stop may take. Default: the longest path of the stop graph plus 5 s.
    pub stop_timeout: Grace,
    /// Words for people and scripts; not interpreted.
    pub labels: BTreeMap<String, String>,
    /// The devices that its apps may use beside those of every app, each once; `None`: not said.
    pub devices: Option<Vec<DeviceSpec>>,
    /// The outer bound for all apps together.
    pub limits: Limits,
}

/// A time that may be `"infinity"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grace {
    /// For ever.
    Infinite,
    /// This long.
    Limited(Duration),
}

/// The isolators of a pod or of an app. `None`: not said, the kernel's default holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// Bytes; the OOM killer enforces it.
    pub memory_max: Option<Ceiling>,
    /// Bytes; above it the group is throttled and reclaimed. cgroup v2 only.
    pub memory_high: Option<Ceiling>,
    /// Bytes protected from reclaim as long as there is anything else to reclaim. cgroup v2 only.
    pub memory_low: Option<Ceiling>,
    /// Bytes never reclaimed. cgroup v2 only.
    pub memory_min: Option<Ceiling>,
    /// Bytes of swap alone (v1 counts memory and swap together; the driver adds).
    pub memory_swap_max: Option<Ceiling>,
    /// Bytes of compressed memory that waits to be swapped. cgroup v2 only.
    pub memory_zswap_max: Option<Ceiling>,
    /// Whether the OOM killer takes all processes of the group instead of one. cgroup v2 only.
    pub memory_oom_group: Option<bool>,
    /// CPU time per wall time.
    pub cpus: Option<CpuAmount>,
    /// The time in which `cpus` is counted, 1 ms to 1 s; never without `cpus`.
    pub cpu_period: Option<Duration>,
    /// CPU time that may be saved up beyond `cpus`, at most what `cpus` gives in one period; 0 without `cpus`.
    pub cpu_burst: Option<Duration>,
    /// The share of CPU under contention.
    pub cpu_weight: Option<CpuWeight>,
    /// CPU numbers.
    pub cpuset: Option<NumberSet>,
    /// Memory node numbers.
    pub cpuset_mems: Option<NumberSet>,
    /// Tasks (processes and threads).
    pub pids_max: Option<Ceiling>,
    /// The share of a disk under contention, 1..=10000.
    pub io_weight: Option<u16>,
    /// Limits of disks, each by a path that leads to it: a block device, or a file on one.
    pub io_max: BTreeMap<PathBuf, IoMax>,
    /// Bytes of huge pages, by the size of a page in bytes.
    pub hugetlb: BTreeMap<u64, Ceiling>,
    /// What is written to which other file of a cgroup2 group.
    pub unified: BTreeMap<String, String>,
    /// What to do with a limit that this host cannot enforce.
    pub on_missing: OnMissing,
}

/// Limits of one disk, a second; at least 1. `None`: not said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IoMax {
    /// Bytes read.
    pub rbps: Option<Ceiling>,
    /// Bytes written.
    pub wbps: Option<Ceiling>,
    /// Read operations.
    pub riops: Option<Ceiling>,
    /// Write operations.
    pub wiops: Option<Ceiling>,
}

/// What to do with a limit that the host cannot enforce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnMissing {
    /// Refuse to start.
    #[default]
    Error,
    /// Start without it; `status` says what is not enforced.
    Ignore,
}

/// One app as it is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppSpec {
    /// `[a-z0-9-]{1,32}`, unique in the pod.
    pub name: String,
    /// Absolute, without `..`.
    pub rootfs: PathBuf,
    /// How the root may be written.
    pub rootfs_mode: RootMode,
    /// Never empty, no NUL in any of them.
    pub exec: Vec<String>,
    /// Wins over `env_files`.
    pub env: BTreeMap<String, String>,
    /// Files of `NAME=value` lines on the host; a later file wins over an earlier one.
    pub env_files: Vec<PathBuf>,
    /// Absolute. Default `/`.
    pub workdir: String,
    /// Default uid 0.
    pub user: IdOrName,
    /// Default: the user's own group in the app's passwd file, 0 when the user is a number that is not there.
    pub group: Option<IdOrName>,
    /// The exact supplementary groups. Default: none.
    pub groups: Vec<IdOrName>,
    /// Capabilities.
    pub capabilities: Capabilities,
    /// Default true.
    pub no_new_privileges: bool,
    /// -1000..=1000. Default 0.
    pub oom_score_adjust: i32,
    /// Resource limits of the process, by RLIMIT_* number: soft and hard, `u64::MAX` is unlimited.
    pub rlimits: BTreeMap<u32, (u64, u64)>,
    /// Default SIGTERM.
    pub stop_signal: Signal,
    /// Default 10 s.
    pub stop_timeout: Grace,
    /// Whether its failure fails the pod. Default true.
    pub essential: bool,
    /// Default: exit code 0.
    pub success: Vec<Success>,
    /// Names of apps that must have been started before.
    pub depends_on: Vec<String>,
    /// Those of `depends_on` that must also be ready.
    pub needs_ready: Vec<String>,
    /// It says by itself when it is ready. Default false: it is ready when it was started.
    pub ready_notify: bool,
    /// The devices that it may use beside those of every app, each once; `None`: not said, nothing is filtered.
    pub devices: Option<Vec<DeviceSpec>>,
    /// The app's own isolators.
    pub limits: Limits,
    /// Who keeps its output.
    pub log: LogSpec,
}

/// A device that an app may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceSpec {
    /// Below `/dev`, on the host and for the app.
    pub path: String,
    /// What it may do.
    pub access: Access,
}

/// Who keeps the output of an app, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSpec {
    /// Default: auto.
    pub driver: LogDriver,
    /// Bytes, for files: one that is longer is put aside. Default: 10 MiB.
    pub max_size_bytes: u64,
    /// How many files a stream has, 1..=1000. Default: 3.
    pub files_max: u64,
}

impl Default for LogSpec {
    fn default() -> Self {
        Self { driver: LogDriver::Auto, max_size_bytes: 10 << 20, files_max: 3 }
    }
}

/// Who keeps the output of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogDriver {
    /// Where podrun was started, in the foreground; else the journal where there is one, else files.
    #[default]
    Auto,
    /// The host's journal.
    Journald,
    /// Files in the pod's directory.
    File,
    /// Nobody: it goes to podrun's own standard output and error.
    Inherit,
    /// Nobody.
    None,
}

/// A socket that is open before the app which gets it is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketSpec {
    /// Its name in `LISTEN_FDNAMES`: letters, digits, `-`, `_` and `.`, at most 255.
    pub name: String,
    /// Where it listens, when the service manager does not pass it.
    pub listen: Listen,
    /// The name of the app that gets it.
    pub app: String,
    /// Mode of a path. Default 0666.
    pub mode: u32,
    /// User and group of a path.
    pub owner: Option<(u32, u32)>,
    /// 1..=65535. Default 128.
    pub backlog: i32,
}

/// Where a socket listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Listen {
    /// At a path of the host.
    Path(PathBuf),
    /// At a TCP port.
    Address(SocketAddr),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

/// A user or a group, by number or by its name in the app's own files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdOrName {
    /// 0..=2147483647: above, programs and some kernel interfaces take an id for a negative number, and
    /// 4294967295 is the kernel's "no change".
    Id(u32),
    /// To be found in the app's `/etc/passwd` or `/etc/group`.
    Name(String),
}

/// The exact bounding set of an app (capabilities(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capabilities {
    /// Not said: the default set bounds; only uid 0 holds it.
    Default,
    /// Said: bit n for capability n. Uid 0 holds it as permitted and effective; any other uid as permitted,
    /// effective, inheritable and ambient, since there is no other way to keep them over execve(2).
    Exactly(u64),
}
