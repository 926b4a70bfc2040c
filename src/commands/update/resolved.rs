//! [`Resolved`]: what the changed manifest means for the groups and units of a pod that runs.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry;

use anyhow::{Context, Result, anyhow};

use crate::cgroup::change::{self, Level, Spot, Step, Want, Wanted};
use crate::cgroup::plan::{CgroupPlan, Version};
use crate::cgroup::update::{Groups, whose};
use crate::error::Note;
use crate::host;
use crate::plan::{self, Refusal, Running};
use crate::pod::Pod;
use crate::pod::plan::{PlanRecord, Unsettled};
use crate::spec::Spec;
use crate::systemd::change::Slice;
use crate::systemd::units::Property;
use crate::systemd::{self, Manager, ManagerFacts, UnitPlan};
use crate::value::NumberSet;

/// What the changed manifest means.
pub struct Resolved<'r> {
    /// The groups.
    pub cgroup: CgroupPlan,
    /// The units.
    pub units: Option<UnitPlan>,
    recorded: Option<&'r UnitPlan>,
    manager: ManagerFacts,
    /// All CPUs and memory nodes that there are for the pod.
    every: (NumberSet, NumberSet),
}

/// What shall be shown, and what the slice goes back to otherwise.
pub struct Wants {
    /// What shall be shown.
    pub new: Wanted,
    /// Of the slice alone.
    pub back: Wanted,
}

impl Wants {
    /// The files of these steps.
    pub fn unsettled(&self, steps: &[Step]) -> Vec<Unsettled> {
        let is_touched = |spot: &Spot, want: &Want| {
            steps.iter().any(|step| match step {
                Step::Write(written, _) => written == spot,
                Step::Property(key) => spot.level == Level::Slice && want.key == *key,
            })
        };
        let touched = self.new.iter().filter(|(spot, want)| is_touched(spot, want));
        touched.map(|(spot, want)| Unsettled { spot: spot.clone(), key: want.key.clone() }).collect()
    }
}

impl<'r> Resolved<'r> {
    /// Looks at the host, and resolves.
    pub fn new(
        pod: &Pod,
        record: &'r PlanRecord,
        spec: &Spec,
    ) -> Result<std::result::Result<Self, Vec<Refusal>>> {
        let recorded = record.units.as_ref();
        let manager = match recorded {
            Some(_) => systemd::probe()?.context("cannot find systemd, which holds its units")?,
            None => ManagerFacts::default(),
        };
        // The slice's own CPUs are what is about to change.
        let bound = recorded.map(|units| units.slice_group.rsplit_once('/').map_or("", |(above, _)| above));
        let facts = host::look_around(spec, &record.cgroup, bound)?;
        let running = Running {
            name: pod.name(),
            id: pod.id().as_str(),
            cgroup: &record.cgroup,
            units: recorded.map(|units| (units, &manager)),
        };
        let every = facts.cpuset.as_ref().map(|all| (all.cpus.set.clone(), all.mems.set.clone()));
        let nothing = || (NumberSet(BTreeSet::new()), NumberSet(BTreeSet::new()));
        let every = every.unwrap_or_else(|_| nothing());
        let resolved = plan::resolve_again(spec, &facts, &running);
        Ok(resolved.map(|(cgroup, units)| Self { cgroup, units, recorded, manager, every }))
    }

    /// The slice's group below the root of each hierarchy.
    pub fn slice(&self) -> Option<&str> {
        self.units.as_ref().map(|units| units.slice_group.as_str())
    }

    /// What every file that has to do with it shall show.
    pub fn wanted(&self, record: &PlanRecord, groups: &Groups<'_>) -> Result<Wants> {
        let shown = |units: Option<&UnitPlan>| units.map(|units| units.shown.clone()).unwrap_or_default();
        let mut new = change::wanted(&self.cgroup, &shown(self.units.as_ref()));
        let old = change::wanted(&record.cgroup, &shown(self.recorded));
        let left = record.unsettled.iter().map(|left| (left.spot.clone(), left.key.clone()));
        let touched = old.iter().map(|(spot, want)| (spot.clone(), want.key.clone())).chain(left);
        for (spot, key) in touched.collect::<BTreeSet<_>>() {
            if let Entry::Vacant(missing) = new.entry(spot) {
                let start = self.start(&key, missing.key(), groups)?;
                missing.insert(start);
            }
        }
        let mut back = Wanted::new();
        let needs_one = |spot: &Spot| spot.level == Level::Slice || self.is_cpuset_v2(spot);
        for (spot, want) in new.iter().filter(|(spot, _)| needs_one(spot)) {
            let want = match old.get(spot) {
                Some(want) => want.clone(),
                None => self.start(&want.key, spot, groups)?,
            };
            back.insert(spot.clone(), want);
        }
        change::drop_idle_weights(&mut new);
        change::drop_idle_weights(&mut back);
        Ok(Wants { new, back })
    }

    fn is_cpuset_v2(&self, spot: &Spot) -> bool {
        let version = self.cgroup.hierarchies.get(spot.hierarchy).map(|joined| joined.version);
        spot.file.starts_with("cpuset.") && version == Some(Version::V2)
    }

    /// What is shown where nothing was asked for. On v2 a cpuset cannot be taken away again while processes are in the
    /// group: it becomes all that there is, of which the group above leaves what it leaves.
    fn start(&self, key: &str, spot: &Spot, groups: &Groups<'_>) -> Result<Want> {
        if self.is_cpuset_v2(spot) {
            let set = if key == "cpuset" { &self.every.0 } else { &self.every.1 };
            return Ok(Want::all(key, &set.to_string()));
        }
        let start = groups.start(key, spot)?.ok_or_else(|| {
            let (whose, path) = (whose(&spot.level), groups.path(spot));
            let reason = format!("nobody knows what `{}` showed before", path.display());
            anyhow!("cannot take {key} away from {whose} while the pod runs: {reason}")
        });
        start.hint("set another value, or start the pod anew without it")
    }

    fn slice_of<'s>(&'s self, plan: &'s UnitPlan) -> Slice<'s> {
        Slice { plan, manager: &self.manager, every: &self.every }
    }

    /// What is set for a key.
    pub fn properties(&self, key: &str) -> Vec<Property> {
        self.units.as_ref().map(|units| self.slice_of(units).properties(key)).unwrap_or_default()
    }

    /// The slice's name.
    pub fn unit(&self) -> &str {
        self.units.as_ref().map_or("", |units| units.slice.as_str())
    }

    /// Has systemd set what is wanted of a key.
    pub fn set(&self, key: &str, connection: Option<&mut Manager>) -> Result<()> {
        self.set_as(self.units.as_ref(), key, connection)
    }

    /// Has systemd set what was recorded of a key.
    pub fn set_back(&self, key: &str, connection: Option<&mut Manager>) -> Result<()> {
        self.set_as(self.recorded, key, connection)
    }

    fn set_as(&self, plan: Option<&UnitPlan>, key: &str, connection: Option<&mut Manager>) -> Result<()> {
        let (plan, connection) = plan.zip(connection).context("the pod has no units")?;
        self.slice_of(plan).set(key, connection)
    }
}
