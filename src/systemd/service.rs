//! A pod in a `.service`: the service's own group is the pod's, and podrun is its main process.
//!
//! Nobody is asked for anything here: systemd has made the group and set its limits, podrun makes groups below it, as
//! `Delegate=yes` allows. [`facts`] and [`ServicePlan::new`] are pure; [`ServicePlan::create`] and its undo make the
//! same path in v1 hierarchies that systemd does not manage, so that no group of the pod is elsewhere.

use std::fs;

use serde::{Deserialize, Serialize};

use super::dirs;
use crate::cgroup::limits::Facts;
use crate::cgroup::place::{GroupFacts, UnifiedFacts};
use crate::cgroup::plan::{CgroupPlan, Version};

/// From the pod's own group to that of the service, which has the unit's limits.
const FROM_POD_TO_SERVICE: &str = "..";

/// The service that podrun is the main process of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFacts {
    /// Such as `shop.service`.
    pub unit: String,
    /// Its group below the root of each hierarchy, without a leading `/`.
    pub group: String,
    /// What is known of that group in the cgroup2 tree.
    pub own: GroupFacts,
}

/// What is recorded of the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePlan {
    /// Such as `shop.service`.
    pub unit: String,
    /// Its group below the root of each hierarchy, without a leading `/`.
    pub group: String,
    /// The joined hierarchies in which systemd has not made it, and podrun does.
    pub made: Vec<usize>,
}

/// The facts for groups that are made in the service's own group, whatever group the launcher is in itself.
#[must_use]
pub fn facts(facts: &Facts, service: &ServiceFacts) -> Facts {
    let mut facts = facts.clone();
    for hierarchy in facts.hierarchies.v1.iter_mut().chain(&mut facts.hierarchies.v2) {
        hierarchy.own = hierarchy.own.as_ref().map(|_| service.group.clone());
    }
    if let Some(unified) = &mut facts.unified {
        // No other place will do: what is made elsewhere is not bound by the unit's limits.
        let root = GroupFacts { controllers: unified.root.controllers.clone(), ..GroupFacts::default() };
        *unified = UnifiedFacts { own_group: service.group.clone(), own: service.own.clone(), root };
    }
    facts
}

impl ServicePlan {
    /// For a pod whose groups are those of `cgroup`; `facts` are the launcher's, before [`facts`].
    #[must_use]
    pub fn new(service: &ServiceFacts, cgroup: &mut CgroupPlan, facts: &Facts) -> Self {
        cgroup.limits_at = FROM_POD_TO_SERVICE.to_owned();
        let is_below = |own: &String| {
            own.strip_prefix(&service.group).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let is_made = |controllers: &[String]| {
            let all = &facts.hierarchies.v1;
            let hierarchy = all.iter().find(|hierarchy| hierarchy.controllers == controllers);
            !hierarchy.and_then(|hierarchy| hierarchy.own.as_ref()).is_some_and(is_below)
        };
        let joined = cgroup.hierarchies.iter().enumerate();
        let made = joined.filter(|(_, j)| j.version == Version::V1 && is_made(&j.controllers));
        Self {
            unit: service.unit.clone(),
            group: service.group.clone(),
            made: made.map(|(index, _)| index).collect(),
        }
    }

    /// Makes the service's group where systemd has not.
    ///
    /// # Errors
    /// The kernel's. What was made is for [`ServicePlan::remove`].
    pub fn create(&self, cgroup: &CgroupPlan) -> anyhow::Result<()> {
        let made = self.made.iter().filter_map(|&index| cgroup.hierarchies.get(index));
        made.into_iter().try_for_each(|joined| dirs::create(joined, &self.group))
    }

    /// Removes it there, and what is empty above it. Another pod's groups are not empty.
    pub fn remove(&self, cgroup: &CgroupPlan) {
        // A record is a file, and files can be wrong.
        if self.group.split('/').any(|part| part == "..") {
            return;
        }
        for joined in self.made.iter().filter_map(|&index| cgroup.hierarchies.get(index)) {
            let service = joined.mount_point.join(&self.group);
            let below_mount = service.ancestors().take_while(|dir| *dir != joined.mount_point);
            for dir in below_mount {
                if fs::remove_dir(dir).is_err() {
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::hierarchy::Hierarchies;
    use crate::cgroup::limits::{self, CpusetFacts};
    use crate::spec::Limits;
    use crate::value::{Ceiling, NumberSet};

    const HYBRID: &[u8] = b"30 29 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
        31 29 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
        32 29 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        33 29 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n";
    const OWN: &[u8] = b"4:cpuset:/\n3:memory:/system.slice/shop.service\n\
        1:name=systemd:/system.slice/shop.service\n0::/system.slice/shop.service\n";

    fn launcher() -> Facts {
        let set = NumberSet([0, 1].into());
        Facts {
            hierarchies: Hierarchies::parse(HYBRID, OWN),
            unified: Some(UnifiedFacts::default()),
            cpuset: Ok(CpusetFacts { cpus: set.clone().into(), mems: set.into() }),
            ..Facts::default()
        }
    }

    fn service() -> ServiceFacts {
        let (unit, group) = ("shop.service".to_owned(), "system.slice/shop.service".to_owned());
        ServiceFacts { unit, group, own: GroupFacts::default() }
    }

    #[test]
    fn every_group_is_below_the_services_own_and_podrun_makes_what_systemd_has_not() {
        let limits = Limits {
            memory_max: Some(Ceiling::At(1 << 20)),
            cpuset: Some(NumberSet([0].into())),
            ..Limits::default()
        };
        let facts = facts(&launcher(), &service());
        let mut cgroup = limits::resolve("podrun-1a2b3c4d", &limits, &[], &facts).unwrap();
        let plan = ServicePlan::new(&service(), &mut cgroup, &launcher());
        assert!(cgroup.hierarchies.iter().all(|joined| joined.parent == "system.slice/shop.service"));
        let made: Vec<_> = plan.made.iter().map(|&i| cgroup.hierarchies[i].controllers.join(",")).collect();
        assert_eq!(made, ["cpuset"]);
        assert_eq!(cgroup.limits_at, "..");
    }

    #[test]
    fn subgroup_of_the_service_is_below_it_and_a_neighbour_is_not() {
        let table = [
            ("/system.slice/shop.service/supervisor", 0),
            ("/system.slice/shop.service", 0),
            ("/system.slice/shop.service2", 1),
        ];
        for (own, count) in table {
            let mut launcher = launcher();
            let text = format!("3:memory:{own}\n0::{own}\n");
            launcher.hierarchies = Hierarchies::parse(HYBRID, text.as_bytes());
            let facts = facts(&launcher, &service());
            let mut cgroup = limits::resolve("podrun-1", &Limits::default(), &[], &facts).unwrap();
            assert_eq!(ServicePlan::new(&service(), &mut cgroup, &launcher).made.len(), count, "{own}");
        }
    }
}
