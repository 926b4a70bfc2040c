//! From isolators to a [`CgroupPlan`]: which hierarchies a pod joins, and what is written where.
//!
//! Pure: [`Facts`] were gathered by `host`. A pod joins only the hierarchies through which it limits, accounts or
//! kills, since every join costs: cgroup2 always (kill, freeze, populated, CLONE_INTO_CGROUP, CPU time), memory
//! always (peak, attribution of OOM kills), io and pids wherever they are to be had ([`WISHED`]), on v1 cpu as well, the
//! others when a limit needs them; without a cgroup2 tree also cpuacct and freezer. A limit that this host cannot enforce is an error, all of them at once, or by the
//! author's leave (`on-missing = "ignore"`) an entry of `not_enforced`. The values stand in [`values`].

mod again;
mod key;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use crate::cgroup::hierarchy::{Hierarchies, Hierarchy};
use crate::cgroup::limits::key::Key;
use crate::cgroup::place::{DELEGATION_HINT, Place, UnifiedFacts, add_gifts, place};
use crate::cgroup::plan::{CgroupPlan, Group, Joined, NotEnforced, Version};
use crate::spec::{Limits, OnMissing};

pub use crate::cgroup::cpuset::CpusetFacts;
pub use again::resolve_again;
pub(crate) use key::{LIMITING, controller_of, name_on_v1, needs};

/// The name of stage1's own group.
pub const SUPERVISOR: &str = "supervisor";

/// The name of an app's group.
#[must_use]
pub fn app_group(app: &str) -> String {
    format!("app-{app}")
}

/// The name of the leaf that the launcher moves into, from that of the pod's own group (`podrun-<id>`).
#[must_use]
pub fn launcher_leaf(pod_group: &str) -> String {
    format!("podrun-launcher-{}", pod_group.trim_start_matches("podrun-"))
}

/// The controllers that a pod has without a limit too, where they are to be had: for what `stats` counts.
pub const WISHED: [&str; 2] = ["io", "pids"];

/// What systemd hands down where it delegates.
const SYSTEMD_GIVES: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];
/// What to do about the others.
const NOT_GIVEN: &str = "systemd delegates no such controller: as root, --driver cgroupfs; or remove it, or set on-missing = \"ignore\"";

/// What a plan depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The hierarchies of this host.
    pub hierarchies: Hierarchies,
    /// The cgroup2 tree; `None` where none is mounted.
    pub unified: Option<UnifiedFacts>,
    /// CPUs and memory nodes that the pod may choose from; `Err`: why that is not known. Looked for only when a
    /// cpuset is needed.
    pub cpuset: Result<CpusetFacts, String>,
    /// Files that this kernel is known not to have, such as `memory.memsw.limit_in_bytes`.
    pub absent_files: BTreeSet<String>,
    /// Sizes of huge pages in bytes. Looked for only when one is limited.
    pub huge_pages: BTreeSet<u64>,
    /// The whole disks behind the paths of `io-max`; `Err`: why there is none.
    pub disks: BTreeMap<PathBuf, Result<Disk, String>>,
    /// The kernel counts memory limits in pages of this many bytes.
    pub page_size: u64,
    /// Controllers, by their names on v1, whose v1 hierarchies are joined whatever the limits are.
    pub also_joined: Vec<String>,
    /// Those that are joined as well where systemd has given the groups to the pod.
    pub also_delegated: Vec<String>,
}

/// The number of a block device, which is a disk and no part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Disk {
    /// The driver's number.
    pub major: u64,
    /// The device's.
    pub minor: u64,
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// One limit that cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitError {
    /// `pod` or `app.<name>`.
    pub scope: String,
    /// The manifest's key.
    pub key: &'static str,
    /// The entry of the key's table that it is about, such as a path.
    pub entry: Option<String>,
    /// Why: lower case, no full stop.
    pub reason: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = self.entry.as_ref().map(|entry| format!("{entry}: ")).unwrap_or_default();
        write!(f, "{}: {}: {entry}{}", self.scope, self.key, self.reason)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

impl std::error::Error for LimitError {}

/// Plans the groups of a pod: its own, named `pod_group`, `supervisor`, and one for each app.
///
/// # Errors
/// Every limit that cannot be, at once.
pub fn resolve(
    pod_group: &str,
    pod: &Limits,
    apps: &[(&str, &Limits)],
    facts: &Facts,
) -> Result<CgroupPlan, Vec<LimitError>> {
    let mut resolver = Resolver::new(facts, pod, apps);
    let homes = resolver.homes();
    let settled = resolver.settle(&homes);
    let hierarchies = resolver.joined(pod_group, &homes, settled);
    let groups = resolver.groups(&hierarchies);
    if hierarchies.is_empty() && resolver.errors.is_empty() {
        resolver.errors.push(no_hierarchy());
    }
    if !resolver.errors.is_empty() {
        return Err(resolver.errors);
    }
    Ok(CgroupPlan {
        pod_group: pod_group.to_owned(),
        hierarchies,
        groups,
        limits_at: String::new(),
        not_enforced: resolver.not_enforced,
    })
}

/// A pod or an app with the isolators that are still to be applied.
struct Scope<'a> {
    name: String,
    group: String,
    limits: &'a Limits,
    keys: Vec<Key>,
}

fn scopes<'a>(pod: &'a Limits, apps: &[(&str, &'a Limits)]) -> Vec<Scope<'a>> {
    let scope = |name: String, group: String, limits: &'a Limits| {
        let keys = Key::ALL.into_iter().filter(|key| key.is_set(limits)).collect();
        Scope { name, group, limits, keys }
    };
    let mut scopes = vec![scope("pod".into(), String::new(), pod)];
    scopes.extend(apps.iter().map(|(name, limits)| scope(format!("app.{name}"), app_group(name), limits)));
    scopes
}

/// Where a controller is.
enum Home<'a> {
    V1(&'a Hierarchy),
    V2,
    Missing,
}

/// The pod's place in the cgroup2 tree.
struct Settled {
    place: Place,
    controllers: Vec<&'static str>,
    /// Those of the controllers that no limit needs.
    gifts: Vec<&'static str>,
}

struct Resolver<'a> {
    facts: &'a Facts,
    scopes: Vec<Scope<'a>>,
    errors: Vec<LimitError>,
    not_enforced: Vec<NotEnforced>,
}

impl<'a> Resolver<'a> {
    fn new(facts: &'a Facts, pod: &'a Limits, apps: &[(&str, &'a Limits)]) -> Self {
        Self { facts, scopes: scopes(pod, apps), errors: Vec::new(), not_enforced: Vec::new() }
    }

    /// Finds each limiting controller; the keys of those that are nowhere are refused or dropped.
    fn homes(&mut self) -> Vec<(&'static str, Home<'a>)> {
        LIMITING.into_iter().map(|controller| (controller, self.home(controller))).collect()
    }

    fn home(&mut self, controller: &'static str) -> Home<'a> {
        let facts = self.facts;
        let on_v2 = facts
            .unified
            .as_ref()
            .is_some_and(|u| has(&u.own.controllers, controller) || has(&u.root.controllers, controller));
        match facts.hierarchies.v1_with(name_on_v1(controller)) {
            Some(hierarchy) if hierarchy.own.is_some() => return Home::V1(hierarchy),
            Some(hierarchy) => {
                let mount = hierarchy.mount_point.display();
                let reason = format!(
                    "the mount of controller `{controller}` at `{mount}` does not show the group that we are in"
                );
                self.missing(controller, &reason, "mount the hierarchy anew in this cgroup namespace");
            }
            None if on_v2 => return Home::V2,
            None => {
                let reason = self.nowhere(controller);
                self.missing(
                    controller,
                    &reason,
                    "enable it in the kernel, remove the key, or set on-missing = \"ignore\"",
                );
            }
        }
        Home::Missing
    }

    fn nowhere(&self, controller: &str) -> String {
        let looked = match &self.facts.hierarchies.v2 {
            Some(v2) => format!(" and not in `{}`", v2.mount_point.join("cgroup.controllers").display()),
            None => ", and no cgroup2 is mounted".to_owned(),
        };
        format!(
            "controller `{controller}` is not on this host: not a v1 mount in `/proc/self/mountinfo`{looked}"
        )
    }

    /// Refuses or drops every key of a controller.
    fn missing(&mut self, controller: &str, reason: &str, hint: &str) {
        for index in 0..self.scopes.len() {
            let Some(limits) = self.scopes.get(index).map(|scope| scope.limits) else { continue };
            for key in self.keys_of(index) {
                if key.needs(controller, limits) {
                    self.cannot(index, key, reason, hint);
                }
            }
        }
    }

    /// This host cannot enforce a key: an error, or by the author's leave a note.
    fn cannot(&mut self, index: usize, key: Key, reason: &str, hint: &str) {
        let Some(scope) = self.scopes.get_mut(index) else { return };
        scope.keys.retain(|k| *k != key);
        let (name, ignore) = (scope.name.clone(), scope.limits.on_missing == OnMissing::Ignore);
        if ignore {
            let key = key.text().to_owned();
            self.not_enforced.push(NotEnforced { scope: name, key, reason: reason.to_owned() });
        } else {
            self.refuse(name, key, reason, hint);
        }
    }

    fn refuse(&mut self, scope: String, key: Key, reason: &str, hint: &str) {
        let (reason, hint) = (reason.to_owned(), Some(hint.to_owned()));
        self.errors.push(LimitError { scope, key: key.text(), entry: None, reason, hint });
    }

    fn keys_of(&self, index: usize) -> Vec<Key> {
        self.scopes.get(index).map(|scope| scope.keys.clone()).unwrap_or_default()
    }

    fn demanded(&self, controller: &str) -> bool {
        let is_asked = |scope: &Scope<'_>| scope.keys.iter().any(|key| key.needs(controller, scope.limits));
        self.scopes.iter().any(is_asked)
    }

    /// Finds the place in the cgroup2 tree that gives what is needed there; what it refuses is refused or dropped
    /// here, so that the rest can be tried again. Memory that no limit needs is only wished for.
    fn settle(&mut self, homes: &[(&'static str, Home<'a>)]) -> Option<Settled> {
        let facts = self.facts.unified.as_ref()?;
        let is_on_v2 = |(_, home): &&(&'static str, Home<'a>)| matches!(home, Home::V2);
        let on_v2: Vec<&'static str> =
            homes.iter().filter(is_on_v2).map(|(controller, _)| *controller).collect();
        let is_needed = |c: &&str| *c == "memory" || self.demanded(c);
        let mut need: Vec<&'static str> = on_v2.iter().copied().filter(is_needed).collect();
        loop {
            let refusal = match place(facts, &need) {
                Ok(place) => return Some(self.with_gifts(place, need, &on_v2)),
                Err(refusal) => refusal,
            };
            need.retain(|controller| !has(&refusal.missing, controller));
            for controller in &refusal.missing {
                let reason = format!("controller `{controller}` {}", refusal.reason);
                let hint =
                    if SYSTEMD_GIVES.contains(&controller.as_str()) { DELEGATION_HINT } else { NOT_GIVEN };
                self.missing(controller, &reason, hint);
            }
        }
    }

    fn with_gifts(&self, mut place: Place, need: Vec<&'static str>, on_v2: &[&'static str]) -> Settled {
        let is_wished = |c: &&str| WISHED.contains(c) && !need.contains(c);
        let wished: Vec<&'static str> = on_v2.iter().copied().filter(is_wished).collect();
        let gifts = match &self.facts.unified {
            Some(facts) => add_gifts(facts, &mut place, &wished),
            None => Vec::new(),
        };
        let is_had = |c: &&str| need.contains(c) || gifts.contains(c);
        Settled { place, controllers: on_v2.iter().copied().filter(is_had).collect(), gifts }
    }

    fn joined(
        &self,
        pod_group: &str,
        homes: &[(&'static str, Home<'a>)],
        settled: Option<Settled>,
    ) -> Vec<Joined> {
        let hierarchies = &self.facts.hierarchies;
        let mut joined = Vec::new();
        if let (Some(v2), Some(Settled { place, controllers, gifts })) = (&hierarchies.v2, settled) {
            joined.push(Joined {
                parent: place.parent,
                controllers: controllers.into_iter().map(str::to_owned).collect(),
                gifts: gifts.into_iter().map(str::to_owned).collect(),
                enable_in_parent: place.enable,
                launcher_leaf: place.leave.then(|| launcher_leaf(pod_group)),
                ..join_v1(v2)
            });
        }
        let mut v1: Vec<&Hierarchy> = Vec::new();
        let limiting = homes.iter().filter_map(|(controller, home)| match home {
            Home::V1(hierarchy) if *controller == "memory" || self.demanded(controller) => Some(*hierarchy),
            _ => None,
        });
        let helping = ["cpuacct", "freezer"].into_iter().filter(|_| joined.is_empty());
        let also = self.facts.also_joined.iter().filter_map(|c| hierarchies.v1_with(c));
        for hierarchy in limiting.chain(helping.filter_map(|c| hierarchies.v1_with(c))).chain(also) {
            if hierarchy.own.is_some() && !v1.iter().any(|h| h.controllers == hierarchy.controllers) {
                v1.push(hierarchy);
            }
        }
        v1.sort_by_key(|hierarchy| rank(hierarchy));
        joined.extend(v1.into_iter().map(join_v1));
        joined
    }

    /// Every group that will be made, in order of creation.
    fn groups(&mut self, hierarchies: &[Joined]) -> Vec<Group> {
        let mut groups = Vec::with_capacity(self.scopes.len() + 1);
        for index in 0..self.scopes.len() {
            let settings = self.settings(index, hierarchies);
            let name = self.scopes.get(index).map(|scope| scope.group.clone()).unwrap_or_default();
            groups.push(Group { name, settings, devices: None });
            if index == 0 {
                groups.push(Group {
                    name: SUPERVISOR.to_owned(),
                    settings: self.inherited_cpuset(hierarchies),
                    devices: None,
                });
            }
        }
        groups
    }
}

/// Whether the kernel kills one process of an app when memory runs out, and `memory-oom-group` is for stage1 to do.
#[must_use]
pub fn kills_single_processes(plan: &CgroupPlan) -> bool {
    target(&plan.hierarchies, "memory").is_some_and(|(_, joined)| joined.version == Version::V1)
}

fn has(set: &[String], controller: &str) -> bool {
    set.iter().any(|c| c == controller)
}

fn join_v1(hierarchy: &Hierarchy) -> Joined {
    Joined {
        version: hierarchy.version,
        mount_point: hierarchy.mount_point.clone(),
        parent: hierarchy.own.clone().unwrap_or_default(),
        controllers: hierarchy.controllers.clone(),
        mount_root: hierarchy.mount_root.clone(),
        enable_in_parent: Vec::new(),
        gifts: Vec::new(),
        launcher_leaf: None,
        view: hierarchy.view.clone(),
    }
}

/// The order in which a process joins: a v1 cpuset first, so that it runs nowhere else while it joins the rest.
fn rank(hierarchy: &Hierarchy) -> usize {
    const ORDER: [&str; 9] =
        ["cpuset", "cpu", "cpuacct", "memory", "blkio", "hugetlb", "pids", "freezer", "devices"];
    let place = |c: &String| ORDER.iter().position(|known| known == c);
    hierarchy.controllers.iter().filter_map(place).min().unwrap_or(ORDER.len())
}

fn no_hierarchy() -> LimitError {
    LimitError {
        scope: "pod".to_owned(),
        key: "isolators",
        entry: None,
        reason: "no control-group hierarchy is mounted, a pod cannot be confined".to_owned(),
        hint: Some("mount one: mount -t cgroup2 none /sys/fs/cgroup".to_owned()),
    }
}

/// The joined hierarchy that has a controller.
fn target<'h>(hierarchies: &'h [Joined], controller: &str) -> Option<(usize, &'h Joined)> {
    let name = |joined: &Joined| match joined.version {
        Version::V1 => has(&joined.controllers, name_on_v1(controller)),
        Version::V2 => has(&joined.controllers, controller),
    };
    hierarchies.iter().enumerate().find(|(_, joined)| name(joined))
}

/// Whether a joined hierarchy is v1 and has cpuset, so that every group must be populated before it is joined.
fn v1_cpuset(hierarchies: &[Joined]) -> Option<(usize, &Joined)> {
    target(hierarchies, "cpuset").filter(|(_, joined)| joined.version == Version::V1)
}

#[cfg(test)]
pub(crate) mod tests;
