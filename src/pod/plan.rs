//! [`PlanRecord`]: what the commands read back from a recorded plan, and no more.
//!
//! The launcher writes its whole plan; fields that are not named here are its own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cgroup::change::Spot;
use crate::cgroup::plan::CgroupPlan;
use crate::plan::{Output, SocketPlan};
use crate::systemd::{ServicePlan, UnitPlan};

/// The part of `plan.json` that outlives the launcher.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PlanRecord {
    /// What `gc` undoes, and where `status` looks.
    pub cgroup: CgroupPlan,
    /// The units that systemd made, if it did.
    #[serde(default)]
    pub units: Option<UnitPlan>,
    /// The service that it was.
    #[serde(default)]
    pub service: Option<ServicePlan>,
    /// Files that a change of limits has begun to write, or was about to: when it was killed they may show anything.
    #[serde(default)]
    pub unsettled: Vec<Unsettled>,
    /// How long the ordered stop may take; `None`: for ever.
    pub stop_timeout_ms: Option<u64>,
    /// Words for people and scripts.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The apps, in the order of their start.
    pub apps: Vec<AppRecord>,
    /// The sockets that apps have got.
    #[serde(default)]
    pub sockets: Vec<SocketPlan>,
}

/// A file that may show anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsettled {
    /// Where.
    #[serde(flatten)]
    pub spot: Spot,
    /// The manifest's key that it is written for.
    pub key: String,
}

/// One app of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AppRecord {
    /// Unique in the pod.
    pub name: String,
    /// Where its output goes.
    #[serde(default)]
    pub output: Output,
}
