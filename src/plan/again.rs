//! What other limits mean for the groups of a pod that runs.

use super::order::start_order;
use super::{Refusal, milliseconds, refused};
use crate::cgroup::limits::{self, Facts};
use crate::cgroup::plan::CgroupPlan;
use crate::spec::Spec;
use crate::systemd::units::{self, ManagerFacts, PodFacts, UnitPlan};

/// A pod that runs, as far as its limits are concerned.
#[derive(Debug, Clone, Copy)]
pub struct Running<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its id.
    pub id: &'a str,
    /// Its groups.
    pub cgroup: &'a CgroupPlan,
    /// Its units, and what is known of the systemd that holds them.
    pub units: Option<(&'a UnitPlan, &'a ManagerFacts)>,
}

/// Its groups and units with the limits of the spec.
///
/// # Errors
/// Everything that this host cannot do, all at once.
pub fn resolve_again(
    spec: &Spec,
    facts: &Facts,
    pod: &Running<'_>,
) -> Result<(CgroupPlan, Option<UnitPlan>), Vec<Refusal>> {
    let apps: Vec<_> = start_order(&spec.apps)
        .into_iter()
        .map(|index| (spec.apps[index].name.as_str(), &spec.apps[index].limits))
        .collect();
    let limits = &spec.pod.limits;
    let mut cgroup = limits::resolve_again(pod.cgroup, limits, &apps, facts).map_err(refused)?;
    let Some((recorded, manager)) = pod.units else { return Ok((cgroup, None)) };
    let stop_timeout_ms = milliseconds(spec.pod.stop_timeout);
    let pod = PodFacts { name: pod.name, id: pod.id, limits, stop_timeout_ms };
    let assigned = units::assign(&mut cgroup, manager, &pod).map_err(refused)?;
    let mut properties = assigned.properties;
    properties.extend(recorded.properties.iter().filter(|property| property.is_of_devices()).cloned());
    let units = UnitPlan { properties, shown: assigned.shown, ..recorded.clone() };
    Ok((cgroup, Some(units)))
}
