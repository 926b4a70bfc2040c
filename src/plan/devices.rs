//! The devices of a pod and of an app that name some: what may be done with which, and which nodes are made.
//!
//! What every app has in its `/dev` stays allowed, as the manifest says it where it does; nothing else is. The kernel
//! asks a filter of the group ([`crate::cgroup::devices`]): a program in the cgroup2 tree, v1's list where there is none.

use std::borrow::Cow;

use podrun_abi::boot::Device;

use super::Refusal;
use crate::cgroup::devices::{Kind, Rule, merged, within};
use crate::cgroup::limits::Facts;
use crate::cgroup::plan::CgroupPlan;
use crate::host::Host;
use crate::manifest::rules;
use crate::spec::{AppSpec, DeviceSpec, Spec};
use crate::value::Access;
use crate::value::device::EVERYBODYS;

/// The controller of v1.
const CONTROLLER: &str = "devices";
/// Of the terminals behind `/dev/ptmx` (UNIX98_PTY_SLAVE_MAJOR).
const PTS_MAJOR: u32 = 136;

/// What a list allows.
struct Devices {
    /// All that is allowed.
    rules: Vec<Rule>,
    /// What is there beside what every app has.
    nodes: Vec<Device>,
}

/// What an app finds in `/dev` beside what every app has.
pub(super) fn nodes(app: &AppSpec, host: &Host) -> Result<Vec<Device>, Vec<Refusal>> {
    let Some(asked) = &app.devices else { return Ok(Vec::new()) };
    read(asked, &format!("app.{}", app.name), host).map(|devices| devices.nodes)
}

/// Whether the pod or an app filters devices.
fn is_asked(spec: &Spec) -> bool {
    spec.pod.devices.is_some() || spec.apps.iter().any(|app| app.devices.is_some())
}

/// With the controller that filters them, where it is v1's and somebody asks for it.
pub(super) fn facts<'a>(spec: &Spec, host: &'a Host) -> Cow<'a, Facts> {
    let facts = &host.cgroups;
    if facts.hierarchies.v2.is_some() || !is_asked(spec) {
        return Cow::Borrowed(facts);
    }
    let mut facts = facts.clone();
    facts.also_joined.push(CONTROLLER.to_owned());
    Cow::Owned(facts)
}

/// Writes what may be done with devices into the plan of the groups, those of the apps in this order.
pub(super) fn assign(
    cgroup: &mut CgroupPlan,
    spec: &Spec,
    apps: &[&AppSpec],
    host: &Host,
) -> Result<(), Vec<Refusal>> {
    let outer = of_pod(spec, host)?;
    let groups = cgroup.groups.iter_mut().skip(2);
    for (group, app) in groups.zip(apps) {
        let Some(asked) = &app.devices else { continue };
        // What is wrong with it is told by whoever asks for its nodes.
        let Ok(Devices { rules, .. }) = read(asked, "", host) else { continue };
        group.devices = Some(match &outer {
            Some(outer) => within(rules, outer),
            None => rules,
        });
    }
    if let Some(own) = cgroup.groups.first_mut() {
        own.devices = outer;
    }
    Ok(())
}

/// The pod's list, and that stage1 may make the nodes of what apps name beyond it: nobody may open them.
fn of_pod(spec: &Spec, host: &Host) -> Result<Option<Vec<Rule>>, Vec<Refusal>> {
    let Some(asked) = &spec.pod.devices else { return Ok(None) };
    let mut rules = read(asked, "pod", host)?.rules;
    let named = spec.apps.iter().filter_map(|app| app.devices.as_ref()).flatten();
    let found = named.filter_map(|device| host.device(&device.path).ok());
    rules.extend(found.map(|device| rule(&device, Access::MAKE)));
    Ok(Some(merged(rules)))
}

fn rule(device: &Device, access: Access) -> Rule {
    let kind = if device.is_block { Kind::Block } else { Kind::Character };
    Rule { kind, major: device.major, minor: Some(device.minor), access }
}

fn read(asked: &[DeviceSpec], whose: &str, host: &Host) -> Result<Devices, Vec<Refusal>> {
    let hierarchies = &host.cgroups.hierarchies;
    let on_v1 = hierarchies.v1_with(CONTROLLER).is_some_and(|hierarchy| hierarchy.own.is_some());
    if hierarchies.v2.is_none() && !on_v1 {
        let message = "devices: the filter of devices needs a cgroup2 tree, or the controller `devices` of v1, and \
                       neither is mounted";
        let hint = "mount one, or remove it: without it an app has no node of any other device";
        return Err(vec![Refusal::new(&rules::HOST_LIMIT, format!("{whose}.devices"), message).hint(hint)]);
    }
    let said = |path: &str| asked.iter().find(|device| device.path == path).map(|device| device.access);
    let own = |(path, major, minor): (&str, u32, u32)| Rule {
        kind: Kind::Character,
        major,
        minor: Some(minor),
        access: said(path).map_or(Access::ALL, |access| access.with(Access::MAKE)),
    };
    let mut rules: Vec<Rule> = EVERYBODYS.into_iter().map(own).collect();
    rules.push(Rule { kind: Kind::Character, major: PTS_MAJOR, minor: None, access: Access::ALL });
    let (mut nodes, mut refusals) = (Vec::new(), Vec::new());
    for (index, device) in asked.iter().enumerate() {
        if EVERYBODYS.iter().any(|(path, _, _)| *path == device.path) {
            continue;
        }
        match host.device(&device.path) {
            Ok(found) => {
                rules.push(rule(&found, device.access));
                nodes.push(found);
            }
            Err(reason) => {
                refusals.push(Refusal::new(&rules::HOST_DEVICE, format!("{whose}.devices[{index}]"), reason));
            }
        }
    }
    if refusals.is_empty() { Ok(Devices { rules: merged(rules), nodes }) } else { Err(refusals) }
}
