//! Controllers that a pod below systemd was to have without a limit of theirs: what its scope has of them is known when it is
//! there (`DisableControllers=`, systemd.resource-control(5)).

use std::borrow::Cow;

use anyhow::Context;

use crate::cgroup::plan::{CgroupPlan, Version};
use crate::plan::Plan;
use crate::pod::dir::PodDir;

/// The plan without those that the scope does not have, recorded.
///
/// # Errors
/// The scope cannot be read, or the record not be written.
pub(super) fn settle<'p>(plan: &'p Plan, dir: &PodDir) -> anyhow::Result<Cow<'p, Plan>> {
    let v2 = plan.cgroup.hierarchies.iter().find(|joined| joined.version == Version::V2);
    let Some(joined) = v2.filter(|joined| plan.units.is_some() && !joined.gifts.is_empty()) else {
        return Ok(Cow::Borrowed(plan));
    };
    let path = joined.mount_point.join(&joined.parent).join("cgroup.controllers");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let Some(cgroup) = without_missing(&plan.cgroup, &text) else { return Ok(Cow::Borrowed(plan)) };
    let settled = Plan { cgroup, ..plan.clone() };
    dir.write_plan(&serde_json::to_vec(&settled).context("cannot write the plan")?)?;
    Ok(Cow::Owned(settled))
}

/// `None`: all of them are there.
fn without_missing(plan: &CgroupPlan, there: &str) -> Option<CgroupPlan> {
    let mut plan = plan.clone();
    let joined = plan.hierarchies.iter_mut().find(|joined| joined.version == Version::V2)?;
    let is_missing = |controller: &String| !there.split_whitespace().any(|word| word == controller);
    let missing: Vec<String> = joined.gifts.iter().filter(|gift| is_missing(gift)).cloned().collect();
    for list in [&mut joined.controllers, &mut joined.enable_in_parent, &mut joined.gifts] {
        list.retain(|controller| !missing.contains(controller));
    }
    (!missing.is_empty()).then_some(plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::limits::{resolve, tests::unified};
    use crate::spec::Limits;

    #[test]
    fn only_what_nobody_needs_is_left_out() {
        let facts = unified("io memory pids", true);
        let limits = Limits { pids_max: Some(crate::value::Ceiling::At(5)), ..Limits::default() };
        let plan = resolve("podrun-1", &limits, &[("a", &Limits::default())], &facts).unwrap();
        assert_eq!(plan.hierarchies[0].gifts, ["io"]);
        assert_eq!(without_missing(&plan, "cpu io memory pids\n"), None);
        // Without one that a limit needs the start fails, and says so.
        let less = without_missing(&plan, "cpu memory").unwrap();
        assert_eq!(less.hierarchies[0].controllers, ["memory", "pids"]);
        assert_eq!(less.hierarchies[0].enable_in_parent, ["memory", "pids"]);
        assert!(less.hierarchies[0].gifts.is_empty());
    }
}
