//! [`Handover`]: the descriptors of the pod and of its apps, given to a stage1 that runs already.
//!
//! stage1 inherits two descriptors across its `execve`, whose numbers are its arguments: the launcher's socket and the
//! pod's lock. All others come over that socket, one packet for each [`Handover`] with its descriptors attached
//! (SCM_RIGHTS, unix(7)): first the pod's, then the apps' in the order of [`crate::boot::Boot::apps`]. So the launcher
//! makes the apps' groups and their limits while stage1 is executed and builds its mount tree.

use serde::{Deserialize, Serialize};

/// Which of the descriptors that are attached to the packet, counted from 0.
pub type Place = usize;

/// As many descriptors can be attached to one packet (SCM_MAX_FD of the kernel).
pub const DESCRIPTORS_MAX: usize = 253;

/// One packet of the launcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handover {
    /// Must equal [`crate::VERSION`].
    pub version: u32,
    /// Whose descriptors they are.
    pub of: Owner,
}

/// Whose descriptors are handed over, and what each one is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "snake_case", deny_unknown_fields)]
pub enum Owner {
    /// The pod's own.
    Pod {
        /// A sealed memfd with the [`crate::boot::Boot`].
        boot: Place,
        /// Listening `SOCK_SEQPACKET` socket in the pod directory, non-blocking, for `podrun stop` and its like.
        control: Place,
        /// `O_APPEND` on the pod's `events.jsonl`.
        events: Place,
        /// What tells that limits of the pod as a whole were met.
        watched: Watched,
    },
    /// Those of one app.
    App {
        /// Into its cgroup.
        cgroup: AppCgroup,
        /// Its standard streams, for [`crate::boot::Output::Given`]; stage1 keeps them open for later starts.
        stdio: Option<Stdio>,
        /// Its listening sockets, in the order of [`crate::boot::App::sockets`]; kept open likewise.
        sockets: Vec<Place>,
        /// What was kept for it from an earlier run, in the order of the names behind those; closed when the app was
        /// cloned, since it alone knows how long it is of use.
        stored: Vec<Place>,
    },
}

/// One number in a file of a group, which is opened whenever it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gauge {
    /// The group's directory in the hierarchy that has the file.
    pub dir: Place,
    /// The file's name.
    pub file: String,
    /// `None`: the file holds the number alone. `Some`: it stands behind this word and one space, on a line.
    pub key: Option<String>,
    /// The number is multiplied by this to give bytes, nanoseconds or a count.
    pub scale: u64,
}

/// What a group tells of its limits. What is `None` or empty the host does not have.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Watched {
    /// How many processes of the group the OOM killer killed.
    pub oom_kills: Option<Gauge>,
    /// How often the group's own memory limit could not be met; an app's and the pod's tell the level of a kill.
    /// `None` where the host has no such counter: the level is then found by leaving the others out.
    pub oom_hits: Option<Gauge>,
    /// How often the group was slowed down for its `memory.high`.
    pub memory_high_hits: Option<Gauge>,
    /// How often no process could be added.
    pub pids_hits: Option<Gauge>,
    /// The hard limit, in bytes.
    pub memory_max: Option<Gauge>,
    /// v1: the hard limit of memory and swap together, in bytes. Where it is the same, `oom_hits` stands still.
    pub memory_sum: Option<Gauge>,
    /// The limit that slows down, in bytes.
    pub memory_high: Option<Gauge>,
    /// The most memory the group ever used, in bytes.
    pub memory_peak: Option<Gauge>,
    /// How many processes it may have.
    pub pids_max: Option<Gauge>,
    /// How many it has, where `pids_hits` of an app moves for the pod's limit too.
    pub pids_current: Option<Gauge>,
    /// CPU time used by the group, in nanoseconds.
    pub cpu_used: Option<Gauge>,
    /// The directory with `memory.pressure`.
    pub pressure: Option<Place>,
    /// What wakes whoever waits for one of these to move.
    pub alarms: Vec<Alarm>,
}

/// A descriptor for poll(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Alarm {
    /// A file of the group, with POLLPRI when it has changed since it was read last.
    File(Place),
    /// An eventfd(2) that v1's OOM notifier writes to, before anything is killed.
    Counter(Place),
}

/// Descriptors into an app's cgroup. What is `None` or empty the host does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppCgroup {
    /// A directory for CLONE_INTO_CGROUP.
    pub into: Option<Place>,
    /// One `cgroup.procs`, open for reading and writing, per hierarchy that the child joins by itself. The
    /// app is exec'ed only after its pid was found in each. The group behind [`AppCgroup::into`] has its
    /// `cgroup.procs` in here too, as the first: joined that way when clone3 refuses. Behind that one there may
    /// be v1's `tasks` instead: the child that joins has one thread. The first lists the app's processes.
    pub procs: Vec<Place>,
    /// `cgroup.kill`.
    pub kill: Option<Place>,
    /// `freezer.state`, where there is no `cgroup.kill`: freeze, signal every pid of `procs`, thaw.
    pub freezer: Option<Place>,
    /// `cgroup.events` with its `populated` line; poll(2) gives POLLPRI when it changes.
    pub events: Option<Place>,
    /// What tells of its limits and its use.
    pub watched: Watched,
}

/// The standard streams of an app. Standard input is the null device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stdio {
    /// The app's descriptor 1.
    pub stdout: Place,
    /// The app's descriptor 2.
    pub stderr: Place,
}
