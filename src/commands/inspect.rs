//! `podrun inspect`: everything that is known of a pod or an app, as JSON.
//!
//! The status, the plan, and for each isolator three values: what the manifest asks for, what was written, and what
//! the kernel says at this moment. Paths are absolute. docs/json.md lists the keys.

mod field;
mod limits;

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use serde::Serialize;
use serde_json::Value;

use self::limits::{LimitJson, limits};
use super::{address, cat, status};
use crate::cgroup::limits::app_group;
use crate::cgroup::plan::{CgroupPlan, Joined, Version};
use crate::cli::InspectArgs;
use crate::error::{EXIT_NOT_FOUND, Note};
use crate::output::{write_json_pretty, write_stdout};
use crate::pod::Pod;
use crate::pod::plan::PlanRecord;
use crate::pod::root::Root;
use crate::pod::status::json::{AppJson, PodJson, SCHEMA};
use crate::spec::Spec;

#[derive(Serialize)]
struct InspectedPod {
    #[serde(flatten)]
    status: PodJson,
    directory: PathBuf,
    has_launcher: bool,
    cgroups: Vec<GroupJson>,
    limits: Vec<LimitJson>,
    /// As `plan -o json` prints it.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<serde_json::Value>,
}

#[derive(Serialize)]
struct InspectedApp {
    schema: u32,
    pod: String,
    pod_id: String,
    #[serde(flatten)]
    status: AppJson,
    cgroups: Vec<GroupJson>,
    limits: Vec<LimitJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<serde_json::Value>,
}

/// A group in one hierarchy.
#[derive(Serialize)]
struct GroupJson {
    version: Version,
    controllers: Vec<String>,
    path: PathBuf,
    /// Whether it is there at this moment.
    exists: bool,
}

/// Prints what is known.
///
/// # Errors
/// When there is no such pod or app.
pub fn run(root: &Root, args: &InspectArgs) -> Result<u8> {
    let address = address(&args.pod, args.app.as_ref())?;
    let pod = root.find(&address.pod)?;
    let told = pod.status();
    let json = status::complete(&pod, &told, pod.is_alive());
    let plan = pod.plan().ok();
    let spec = cat::spec(&pod).ok();
    let field = args.field.as_deref();
    match &address.app {
        None => print(&of_pod(&pod, json, plan.as_ref(), spec.as_ref()), field)?,
        Some(name) => {
            let app = json.apps.into_iter().find(|app| app.name == *name);
            let app = app
                .ok_or_else(|| anyhow!("pod `{}` has no app `{name}`", pod.name()))
                .code(EXIT_NOT_FOUND)?;
            print(&of_app(&pod, app, plan.as_ref(), spec.as_ref()), field)?;
        }
    }
    Ok(0)
}

/// The whole, or one value of it; a text as it is, since a script would have to take its quotes off.
fn print<T: Serialize>(inspected: &T, path: Option<&str>) -> Result<()> {
    let Some(path) = path else { return write_json_pretty(inspected) };
    let value = serde_json::to_value(inspected).context("cannot write JSON")?;
    match field::find(&value, path)? {
        Value::String(text) => write_stdout(&format!("{text}\n")),
        other => write_json_pretty(other),
    }
}

fn of_pod(pod: &Pod, status: PodJson, plan: Option<&PlanRecord>, spec: Option<&Spec>) -> InspectedPod {
    let cgroup = plan.map(|plan| &plan.cgroup);
    InspectedPod {
        status,
        directory: pod.path().to_owned(),
        has_launcher: pod.is_alive() && pod.has_launcher(),
        cgroups: cgroup.map(|cgroup| groups(cgroup, "")).unwrap_or_default(),
        limits: plan.map(|plan| limits(plan, spec, |_| true)).unwrap_or_default(),
        plan: pod.plan_json().ok(),
    }
}

fn of_app(pod: &Pod, status: AppJson, plan: Option<&PlanRecord>, spec: Option<&Spec>) -> InspectedApp {
    let cgroup = plan.map(|plan| &plan.cgroup);
    let group = app_group(&status.name);
    let planned = pod.plan_json().ok().and_then(|plan| {
        let apps = plan.get("apps")?.as_array()?;
        apps.iter().find(|app| app.get("name").is_some_and(|name| *name == *status.name)).cloned()
    });
    InspectedApp {
        schema: SCHEMA,
        pod: pod.name().to_owned(),
        pod_id: pod.id().to_string(),
        cgroups: cgroup.map(|cgroup| groups(cgroup, &group)).unwrap_or_default(),
        limits: plan.map(|plan| limits(plan, spec, |name| name == group)).unwrap_or_default(),
        plan: planned,
        status,
    }
}

fn directory(plan: &CgroupPlan, joined: &Joined, group: &str) -> PathBuf {
    // Joining nothing would add a slash.
    let pod = joined.mount_point.join(&joined.parent).join(&plan.pod_group);
    if group.is_empty() { pod } else { pod.join(group) }
}

fn groups(plan: &CgroupPlan, group: &str) -> Vec<GroupJson> {
    let json = |joined: &Joined| {
        let path = directory(plan, joined, group);
        let controllers = joined.controllers.clone();
        GroupJson { version: joined.version, controllers, exists: path.is_dir(), path }
    };
    plan.hierarchies.iter().map(json).collect()
}
