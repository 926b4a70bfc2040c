//! [`PlanRecord`]: what the commands read back from a recorded plan, and no more.
//!
//! The launcher writes its whole plan; fields that are not named here are its own.

use std::collections::BTreeMap;

use serde::Deserialize;

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

/// One app of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AppRecord {
    /// Unique in the pod.
    pub name: String,
    /// Where its output goes.
    #[serde(default)]
    pub output: Output,
}
