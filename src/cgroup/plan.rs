//! [`CgroupPlan`]: every group that will be made and every file that will be written, as data.
//!
//! It is recorded in the pod directory before the first group exists, so that `gc` can undo from it alone.

use std::path::PathBuf;

use podrun_abi::boot::CgroupView;
use serde::{Deserialize, Serialize};

use crate::cgroup::devices::Rule;

/// The groups of a pod in every hierarchy that it joins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupPlan {
    /// The name of the pod's own group, a direct child of [`Joined::parent`] in each: `podrun-<id>`.
    pub pod_group: String,
    /// The hierarchies in the order in which a process joins them: cgroup2 first, devices last.
    pub hierarchies: Vec<Joined>,
    /// In order of creation: the pod's own group, `supervisor`, then one for each app.
    pub groups: Vec<Group>,
    /// Where the pod's own limits are when not in its own group: a path from there (`../..`); empty: there.
    #[serde(default)]
    pub limits_at: String,
    /// Limits that the author allowed to be missing (`on-missing = "ignore"`) and that this host lacks.
    pub not_enforced: Vec<NotEnforced>,
}

/// One hierarchy that the pod joins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Version of the interface.
    pub version: Version,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// The existing group, below the mount point and without a leading `/`, in which the pod's group is made;
    /// empty: the root of the mount.
    pub parent: String,
    /// v1: the controllers of the hierarchy. v2: those that are enabled for the pod, on the way down.
    pub controllers: Vec<String>,
    /// v2: those of `controllers` that no limit needs. They are left out where they turn out not to be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gifts: Vec<String>,
    /// What stands before `parent` in `/proc/PID/cgroup`: the group that the mount shows at its root, without a
    /// leading `/`. Empty but in nested containers.
    #[serde(default)]
    pub mount_root: String,
    /// v2: those of `controllers` that `parent` does not give to its children yet. They stay enabled: another
    /// pod below the same parent may rely on them by the time this one ends.
    #[serde(default)]
    pub enable_in_parent: Vec<String>,
    /// v2: the launcher is in `parent` itself and must leave it before anything is enabled there, for a group
    /// below it of this name (`podrun-launcher-<id>`).
    #[serde(default)]
    pub launcher_leaf: Option<String>,
    /// How the apps see it.
    pub view: CgroupView,
}

/// Version of the cgroup interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// One hierarchy per controller (or per set of them).
    V1,
    /// The unified hierarchy.
    V2,
}

/// One group, made below the pod's group in every joined hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Group {
    /// `""` for the pod's own, `supervisor`, `app-<name>`.
    pub name: String,
    /// Files to write, in this order.
    pub settings: Vec<Setting>,
    /// All that may be done with devices in it and below; `None`: it filters nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<Vec<Rule>>,
}

/// One file of one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The manifest's key that wants it, such as `memory-max`; for messages.
    pub key: String,
    /// Index into [`CgroupPlan::hierarchies`].
    pub hierarchy: usize,
    /// Such as `memory.limit_in_bytes`.
    pub file: String,
    /// The text that is written.
    pub value: String,
    /// The text that the kernel must show afterwards, without the newline.
    pub reads_back: String,
    /// Where it shows it.
    #[serde(default, skip_serializing_if = "Shows::is_whole")]
    pub shows: Shows,
}

/// Where the kernel shows what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shows {
    /// It is all that the file holds.
    #[default]
    Whole,
    /// It is one of the lines, such as that of one disk.
    Line,
}

impl Shows {
    /// Whether the file that holds `text` shows what is expected.
    #[must_use]
    pub fn agrees(self, text: &str, expected: &str) -> bool {
        match self {
            Self::Whole => text.trim_end() == expected,
            Self::Line => text.lines().any(|line| line.trim_end() == expected),
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
    fn is_whole(&self) -> bool {
        *self == Self::Whole
    }
}

/// A limit that does not hold on this host, by the author's leave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotEnforced {
    /// `pod` or `app.<name>`.
    pub scope: String,
    /// The manifest's key.
    pub key: String,
    /// Why: lower case, no full stop.
    pub reason: String,
}
