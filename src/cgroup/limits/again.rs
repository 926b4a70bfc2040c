//! The plan of groups that exist, for other limits: the hierarchies stay as they are.
//!
//! A controller that the groups do not have can still be enabled on cgroup2, where the group above gives it. On v1 the
//! pod's processes would have to join another hierarchy, one by one and while they fork: that is refused.

use super::{Facts, Home, LIMITING, LimitError, NOT_GIVEN, Resolver, SYSTEMD_GIVES, has, name_on_v1, target};
use crate::cgroup::place::DELEGATION_HINT;
use crate::cgroup::plan::{CgroupPlan, Version};
use crate::spec::Limits;

/// What to do about a controller that a running pod cannot get.
const ANEW: &str = "set it in the manifest and start the pod anew, or set on-missing = \"ignore\"";

/// Plans the groups of a running pod for other limits of the same apps. `facts` are those of the place where its groups
/// are: the own group of each hierarchy is the one that the pod's is in, and `alone` says that no process is in it.
///
/// # Errors
/// Every limit that cannot be, at once.
pub fn resolve_again(
    recorded: &CgroupPlan,
    pod: &Limits,
    apps: &[(&str, &Limits)],
    facts: &Facts,
) -> Result<CgroupPlan, Vec<LimitError>> {
    let mut resolver = Resolver::new(facts, pod, apps);
    let mut plan = recorded.clone();
    for controller in LIMITING {
        if target(&plan.hierarchies, controller).is_none() && resolver.demanded(controller) {
            resolver.add(controller, &mut plan);
        }
    }
    plan.groups = resolver.groups(&plan.hierarchies);
    for group in &mut plan.groups {
        let same = recorded.groups.iter().find(|known| known.name == group.name);
        group.devices = same.and_then(|known| known.devices.clone());
    }
    plan.not_enforced = resolver.not_enforced;
    if resolver.errors.is_empty() { Ok(plan) } else { Err(resolver.errors) }
}

impl Resolver<'_> {
    /// Takes a controller of cgroup2 into the plan, or refuses or drops every key that needs it.
    fn add(&mut self, controller: &'static str, plan: &mut CgroupPlan) {
        if self.facts.hierarchies.v1_with(name_on_v1(controller)).is_some() {
            let reason = format!(
                "the pod's processes are not in the hierarchy of controller `{controller}`, and cgroup v1 has no safe way \
                 to move them there"
            );
            return self.missing(controller, &reason, ANEW);
        }
        // Says so where it is nowhere, too.
        let Home::V2 = self.home(controller) else { return };
        let unified = self.facts.unified.as_ref();
        let joined = plan.hierarchies.iter_mut().find(|joined| joined.version == Version::V2);
        let (Some(unified), Some(joined)) = (unified, joined) else {
            return self.missing(controller, "the pod is in no group of cgroup2", ANEW);
        };
        let (above, group) = (&unified.own, &joined.parent);
        let is_given = has(&above.enabled, controller);
        let reason = if !has(&above.controllers, controller) {
            format!("controller `{controller}` is not among the controllers of cgroup2's group `/{group}`")
        } else if !is_given && !above.is_root && !above.alone {
            format!(
                "cgroup2's group `/{group}` does not hand controller `{controller}` down, and holds processes"
            )
        } else {
            joined.controllers.push(controller.to_owned());
            if !is_given {
                joined.enable_in_parent.push(controller.to_owned());
            }
            return;
        };
        let hint = if SYSTEMD_GIVES.contains(&controller) { DELEGATION_HINT } else { NOT_GIVEN };
        self.missing(controller, &reason, hint);
    }
}
