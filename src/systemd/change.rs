//! Other limits for the slice of a pod that runs: which properties make up a key, and what takes each one away.
//!
//! Pure but for [`Slice::set`], which has systemd set them. That an answer of systemd's means that it has understood, and
//! not that the kernel has done it, is for the caller: the files are read back.

use anyhow::Context;

use super::manager::{Manager, encoded};
use super::units::{INFINITY, ManagerFacts, Property, UnitPlan, Value, mask};
use crate::value::NumberSet;

/// The properties of each key, with the value of a unit that has not got one.
const KEYS: [(&str, &[(&str, Value)]); 11] = [
    ("memory-max", &[("MemoryMax", Value::Number(INFINITY))]),
    ("memory-high", &[("MemoryHigh", Value::Number(INFINITY))]),
    ("memory-low", &[("MemoryLow", Value::Number(0))]),
    ("memory-min", &[("MemoryMin", Value::Number(0))]),
    ("memory-swap-max", &[("MemorySwapMax", Value::Number(INFINITY))]),
    ("memory-zswap-max", &[("MemoryZSwapMax", Value::Number(INFINITY))]),
    ("pids-max", &[("TasksMax", Value::Number(INFINITY))]),
    (
        "cpus",
        &[("CPUQuotaPerSecUSec", Value::Number(INFINITY)), ("CPUQuotaPeriodUSec", Value::Number(INFINITY))],
    ),
    ("cpu-weight", &[("CPUWeight", Value::Number(INFINITY))]),
    ("io-weight", &[("IOWeight", Value::Number(INFINITY))]),
    (
        "io-max",
        &[
            ("IOReadBandwidthMax", Value::Devices(Vec::new())),
            ("IOWriteBandwidthMax", Value::Devices(Vec::new())),
            ("IOReadIOPSMax", Value::Devices(Vec::new())),
            ("IOWriteIOPSMax", Value::Devices(Vec::new())),
        ],
    ),
];

/// What is set for a key, whatever there was before. systemd cannot take a cpuset away again: it gets `every`.
fn of_key(
    key: &str,
    plan: &UnitPlan,
    manager: &ManagerFacts,
    every: (&NumberSet, &NumberSet),
) -> Vec<Property> {
    let cpuset = |name: &str, set: &NumberSet| vec![Property::new(name, Value::Bytes(mask(set)))];
    let free = match key {
        "cpuset" => cpuset("AllowedCPUs", every.0),
        "cpuset-mems" => cpuset("AllowedMemoryNodes", every.1),
        _ => {
            let found = KEYS.iter().find(|(known, _)| *known == key);
            found
                .map(|(_, all)| *all)
                .unwrap_or_default()
                .iter()
                .map(|(name, value)| Property::new(name, value.clone()))
                .collect()
        }
    };
    let mut properties = Vec::new();
    for free in free.into_iter().filter(|free| manager.properties.contains(&free.name)) {
        let own = plan.properties.iter().find(|property| property.name == free.name);
        // A list of devices grows with what is set; an empty one empties it.
        if own.is_none() || matches!(free.value, Value::Devices(_)) {
            properties.push(free);
        }
        properties.extend(own.cloned());
    }
    properties
}

/// The slice of a pod that runs.
pub struct Slice<'a> {
    /// As it is to become.
    pub plan: &'a UnitPlan,
    /// What systemd knows.
    pub manager: &'a ManagerFacts,
    /// All CPUs and memory nodes that there are for it.
    pub every: &'a (NumberSet, NumberSet),
}

impl Slice<'_> {
    /// What is set for a key.
    #[must_use]
    pub fn properties(&self, key: &str) -> Vec<Property> {
        of_key(key, self.plan, self.manager, (&self.every.0, &self.every.1))
    }

    /// Has systemd set them, and waits until it has done with the kernel what it does.
    ///
    /// # Errors
    /// What systemd answers.
    pub fn set(&self, key: &str, connection: &mut Manager) -> anyhow::Result<()> {
        let properties = self.properties(key);
        connection
            .set_properties(&self.plan.slice, &encoded(&properties))
            .with_context(|| format!("cannot set {key} of unit `{}`", self.plan.slice))
    }
}
