//! The devices of an app that names some: what it may do with which, and which nodes are made for it.
//!
//! What every app has in its `/dev` stays allowed, as the manifest says it where it does; nothing else is. The kernel
//! asks a program of ours ([`crate::cgroup::devices`]), which is attached to the app's group in the cgroup2 tree.

use podrun_abi::boot::Device;
use serde::{Deserialize, Serialize};

use super::Refusal;
use crate::cgroup::devices::{Kind, Rule};
use crate::host::Host;
use crate::manifest::rules;
use crate::spec::AppSpec;
use crate::value::Access;

/// What an app may do with devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Devices {
    /// All that is allowed.
    pub rules: Vec<Rule>,
    /// What it finds in `/dev` beside what every app has.
    pub nodes: Vec<Device>,
}

/// What is in every app's `/dev`; its nodes are made inside, so that making them is allowed whatever is said.
const EVERYBODYS: [(&str, u32, u32); 7] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
    ("/dev/ptmx", 5, 2),
];
/// Of the terminals behind `/dev/ptmx` (UNIX98_PTY_SLAVE_MAJOR).
const PTS_MAJOR: u32 = 136;

/// `None`: the app names none, and nothing is forbidden beyond what it has no node and no capability for.
pub(super) fn resolve(app: &AppSpec, host: &Host) -> Result<Option<Devices>, Vec<Refusal>> {
    let Some(asked) = &app.devices else { return Ok(None) };
    if host.cgroups.hierarchies.v2.is_none() {
        let message = "devices: the filter of devices needs a cgroup2 tree, and none is mounted";
        let path = format!("app.{}.devices", app.name);
        let hint = "mount one, or remove it: without it the app has no node of any other device";
        return Err(vec![Refusal::new(&rules::HOST_LIMIT, path, message).hint(hint)]);
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
                let kind = if found.is_block { Kind::Block } else { Kind::Character };
                let (major, minor) = (found.major, found.minor);
                rules.push(Rule { kind, major, minor: Some(minor), access: device.access });
                nodes.push(found);
            }
            Err(reason) => {
                let path = format!("app.{}.devices[{index}]", app.name);
                refusals.push(Refusal::new(&rules::HOST_DEVICE, path, reason));
            }
        }
    }
    if refusals.is_empty() { Ok(Some(Devices { rules, nodes })) } else { Err(refusals) }
}
