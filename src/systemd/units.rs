//! [`UnitPlan`]: the names of a pod's units and the properties that carry its limits.
//!
//! Pure: out of the pod's settings in a [`CgroupPlan`] and the properties that this systemd knows. What systemd can
//! express becomes a property of the slice, with the text that the kernel must show afterwards; everything else stays
//! a setting of the pod's own group, one level below the scope. Names are made of the pod's name and id and nothing
//! else, and values are typed: no free text of a manifest gets here.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use zbus::{Array, Variant};

use crate::cgroup::devices::{Kind, Rule};
use crate::cgroup::hierarchy::Mode;
use crate::cgroup::limits::{Facts, LimitError};
use crate::cgroup::place::{GroupFacts, UnifiedFacts};
use crate::cgroup::plan::{CgroupPlan, NotEnforced, Setting, Version};
use crate::spec::{Limits, OnMissing};
use crate::value::{CpuWeight, NumberSet};

/// The pod's own group, below the scope; it is ours, as the scope is delegated.
pub const PAYLOAD: &str = "payload";
/// From there to the slice, which has the pod's limits.
pub const FROM_PAYLOAD_TO_SLICE: &str = "../..";
/// Without a limit, in systemd's numbers.
pub(super) const INFINITY: u64 = u64::MAX;
/// systemd keeps a quota as a percentage without decimals (up to version 255, with two of them since): what is finer
/// is lost at the next daemon-reload.
const QUOTA_STEP_US: u64 = 10_000;
/// The kernel's least, which systemd raises a quota to.
const QUOTA_MIN_US: u64 = 1_000;
/// systemd's period when nobody sets one.
const QUOTA_PERIOD_US: u64 = 100_000;
/// How the description of every unit begins that has a pod's limits or processes.
pub const DESCRIPTION: &str = "podrun pod ";
/// Added to the time for the pod's ordered stop before systemd kills the scope.
const STOP_MARGIN_US: u64 = 10_000_000;
/// What `Delegate=yes` hands down on cgroup2, in every version since 244.
const DELEGATED: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// What is known of this host's systemd.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ManagerFacts {
    /// In its own words.
    pub version: String,
    /// The group at the root of its tree, without a leading `/`; empty but in containers.
    pub root: String,
    /// The properties that scopes have.
    pub properties: BTreeSet<String>,
}

impl ManagerFacts {
    /// The group in which it makes the slices of pods, named from the root of each hierarchy.
    #[must_use]
    pub fn machine_slice(&self) -> String {
        let above = if self.root.is_empty() { String::new() } else { format!("{}/", self.root) };
        format!("{above}machine.slice")
    }
}

/// The units of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitPlan {
    /// `machine-<pod>.slice`.
    pub slice: String,
    /// `podrun-<id>.scope`.
    pub scope: String,
    /// The slice's group below the root of each hierarchy, without a leading `/`.
    pub slice_group: String,
    /// Description of both units; gc knows by it whose slice it is.
    pub description: String,
    /// The pod's limits.
    pub properties: Vec<Property>,
    /// What the kernel must show in the slice's group.
    pub shown: Vec<Setting>,
    /// `TimeoutStopUSec` of the scope.
    pub stop_timeout_us: u64,
}

/// The property that says what may be done with devices.
const DEVICE_ALLOW: &str = "DeviceAllow";

impl UnitPlan {
    /// Gives the slice the pod's filter of devices, where systemd makes programs of it: elsewhere it is that of the pod's
    /// own group alone, which is there as well.
    pub fn filter_devices(&mut self, cgroup: &CgroupPlan, manager: &ManagerFacts, mode: Mode) {
        let Some(rules) = cgroup.groups.first().and_then(|group| group.devices.as_ref()) else { return };
        let is_known = |name| manager.properties.contains(name);
        if mode != Mode::Unified || !is_known("DevicePolicy") || !is_known(DEVICE_ALLOW) {
            return;
        }
        let entry = |rule: &Rule| {
            let name = if rule.kind == Kind::Block { "block" } else { "char" };
            let device = match rule.minor {
                // Found by its number, without looking for the node.
                Some(minor) => format!("/dev/{name}/{}:{minor}", rule.major),
                None => format!("{name}-{}", rule.major),
            };
            (device, rule.access.to_string())
        };
        self.properties.push(Property::new("DevicePolicy", Value::Text("strict".to_owned())));
        let allowed = Value::Allowed(rules.iter().map(entry).collect());
        self.properties.push(Property::new(DEVICE_ALLOW, allowed));
    }

    /// Whether the slice's group must show a filter of devices.
    #[must_use]
    pub fn filters_devices(&self) -> bool {
        self.properties.iter().any(|property| property.name == DEVICE_ALLOW)
    }

    /// A record is a file, and files can be wrong: units that are no pod's are not stopped.
    ///
    /// # Errors
    /// A name that podrun does not give.
    pub fn check(&self) -> anyhow::Result<()> {
        let slice = self.slice.starts_with("machine-") && self.slice.ends_with(".slice");
        let scope = self.scope.starts_with("podrun-") && self.scope.ends_with(".scope");
        let group = self.slice_group.ends_with(&format!("machine.slice/{}", self.slice));
        let plain = self.slice_group.split('/').all(|part| part != "..") && !self.slice.contains('/');
        anyhow::ensure!(
            slice && scope && group && plain,
            "cannot use the record of the units `{}` and `{}`: it holds a name that podrun does not give",
            self.slice,
            self.scope
        );
        Ok(())
    }
}

/// A property of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Property {
    /// Such as `MemoryMax`.
    pub name: String,
    /// Its value, in the type that systemd expects.
    pub value: Value,
}

/// The types that our properties have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Value {
    /// `b`
    Flag(bool),
    /// `t`
    Number(u64),
    /// `s`
    Text(String),
    /// `ay`
    Bytes(Vec<u8>),
    /// `au`
    Numbers(Vec<u32>),
    /// `i`
    Score(i32),
    /// `as`
    Texts(Vec<String>),
    /// `a(sasb)`: one command, whose failure counts.
    Command {
        /// The program, absolute.
        path: String,
        /// Its whole `argv`.
        argv: Vec<String>,
    },
    /// `a(st)`: devices by their paths.
    Devices(Vec<(String, u64)>),
    /// `a(ss)`: devices by their paths, and what may be done with each.
    Allowed(Vec<(String, String)>),
}

impl Value {
    pub(super) fn encoded(&self) -> Variant<'_> {
        match self {
            Self::Flag(flag) => (*flag).into(),
            Self::Number(number) => (*number).into(),
            Self::Text(text) => text.as_str().into(),
            Self::Bytes(bytes) => bytes.clone().into(),
            Self::Numbers(numbers) => numbers.clone().into(),
            Self::Score(score) => (*score).into(),
            Self::Texts(texts) => texts.clone().into(),
            Self::Command { path, argv } => Array::from(vec![(path.as_str(), argv.clone(), false)]).into(),
            Self::Devices(devices) => devices.clone().into(),
            Self::Allowed(devices) => devices.clone().into(),
        }
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=", self.name)?;
        match &self.value {
            Value::Flag(flag) => write!(f, "{flag}"),
            Value::Number(INFINITY) => write!(f, "infinity"),
            Value::Number(number) => write!(f, "{number}"),
            Value::Text(text) => write!(f, "{text}"),
            Value::Bytes(bytes) => bytes.iter().rev().try_for_each(|byte| write!(f, "{byte:02x}")),
            Value::Numbers(numbers) => write!(f, "{numbers:?}"),
            Value::Score(score) => write!(f, "{score}"),
            Value::Texts(texts) => write!(f, "{texts:?}"),
            Value::Command { argv, .. } => write!(f, "{argv:?}"),
            Value::Devices(devices) => {
                let words: Vec<String> = devices.iter().map(|(path, n)| format!("{path} {n}")).collect();
                write!(f, "{}", words.join(", "))
            }
            Value::Allowed(devices) => {
                let words: Vec<String> = devices.iter().map(|(path, may)| format!("{path} {may}")).collect();
                write!(f, "{}", words.join(", "))
            }
        }
    }
}

impl Property {
    /// Whether it is of the filter of devices, which stays as long as the pod runs.
    #[must_use]
    pub fn is_of_devices(&self) -> bool {
        self.name == "DevicePolicy" || self.name == DEVICE_ALLOW
    }

    pub(super) fn new(name: &str, value: Value) -> Self {
        Self { name: name.to_owned(), value }
    }
}

/// A pod, as far as its units are concerned.
#[derive(Debug, Clone, Copy)]
pub struct PodFacts<'a> {
    /// Its name, a DNS label.
    pub name: &'a str,
    /// Its id.
    pub id: &'a str,
    /// Its limits.
    pub limits: &'a Limits,
    /// How long its ordered stop may take.
    pub stop_timeout_ms: Option<u64>,
}

/// The slice's name: `-` makes a level below `machine.slice`, so that one in the pod's name is escaped.
#[must_use]
pub fn slice_name(pod: &str) -> String {
    format!("machine-{}.slice", escape(pod))
}

/// The service in which the launcher of `run -d` runs.
#[must_use]
pub fn launcher_name(pod: &str) -> String {
    format!("podrun-{pod}.service")
}

/// What a unit's name may hold stays as it is (systemd.unit(5)).
fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'.');
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("\\x{byte:02x}") })
        .collect()
}

/// The slice's group, as systemd places it; what it says itself is compared with this before anything relies on it.
fn slice_group(manager: &ManagerFacts, slice: &str) -> String {
    format!("{}/{slice}", manager.machine_slice())
}

/// The facts for groups that are made in the scope instead of in the launcher's own group.
#[must_use]
pub fn facts_in_scope(facts: &Facts, manager: &ManagerFacts, pod: &PodFacts<'_>) -> Facts {
    let group = format!("{}/podrun-{}.scope", slice_group(manager, &slice_name(pod.name)), pod.id);
    let mut facts = facts.clone();
    for hierarchy in facts.hierarchies.v1.iter_mut().chain(&mut facts.hierarchies.v2) {
        let below = hierarchy.below_mount(&group).map(str::to_owned);
        hierarchy.own = hierarchy.own.as_ref().and(below);
    }
    if let Some(unified) = &mut facts.unified {
        let given = |controller: &String| DELEGATED.contains(&controller.as_str());
        let controllers = unified.root.controllers.iter().filter(|c| given(c)).cloned().collect();
        // As at a root nothing has to be left first: what is in the scope is moved before controllers are enabled.
        let own =
            GroupFacts { controllers, is_root: true, is_ours: true, writable: true, ..GroupFacts::default() };
        // No other place will do; what this host has and the scope has not is known all the same.
        let root = GroupFacts { controllers: unified.root.controllers.clone(), ..GroupFacts::default() };
        *unified = UnifiedFacts { own_group: group, own, root };
    }
    // In the hierarchy by which systemd of a legacy host tells what belongs to the scope.
    facts.also_joined.push("name=systemd".to_owned());
    let also_delegated = facts.also_delegated.clone();
    facts.also_joined.extend(also_delegated);
    facts
}

/// Takes out of the plan what systemd is to hold, and names the units.
///
/// # Errors
/// Every limit that systemd cannot hold and that means nothing one level below.
pub fn assign(
    cgroup: &mut CgroupPlan,
    manager: &ManagerFacts,
    pod: &PodFacts<'_>,
) -> Result<UnitPlan, Vec<LimitError>> {
    let mut assigned = Assigned::default();
    let mut errors = Vec::new();
    let settings =
        cgroup.groups.first_mut().map(|group| std::mem::take(&mut group.settings)).unwrap_or_default();
    let mut kept = Vec::new();
    for of_key in settings.chunk_by(|a, b| a.key == b.key) {
        let version = of_key.first().and_then(|s| cgroup.hierarchies.get(s.hierarchy)).map(|h| h.version);
        match express(of_key, version.unwrap_or(Version::V1), pod.limits) {
            Some(Expressed { properties, shown, and_below })
                if properties.iter().all(|property| manager.properties.contains(&property.name)) =>
            {
                if and_below || properties.iter().any(|property| needs_both(&settings, &property.name)) {
                    kept.extend_from_slice(of_key);
                }
                assigned.properties.extend(properties);
                assigned.shown.extend(shown);
            }
            _ => match WEIGHTS.iter().find(|weight| of_key.iter().any(|s| s.key == **weight)) {
                Some(weight) => refuse_weight(weight, cgroup, pod, &mut errors),
                None => kept.extend_from_slice(of_key),
            },
        }
    }
    if let Some(own) = cgroup.groups.first_mut() {
        own.settings = kept;
    }
    cgroup.limits_at = FROM_PAYLOAD_TO_SLICE.to_owned();
    if errors.is_empty() { Ok(named(assigned, manager, pod)) } else { Err(errors) }
}

#[derive(Default)]
struct Assigned {
    properties: Vec<Property>,
    shown: Vec<Setting>,
}

fn named(assigned: Assigned, manager: &ManagerFacts, pod: &PodFacts<'_>) -> UnitPlan {
    let slice = slice_name(pod.name);
    UnitPlan {
        slice_group: slice_group(manager, &slice),
        scope: format!("podrun-{}.scope", pod.id),
        description: format!("{DESCRIPTION}{} ({})", pod.name, pod.id),
        properties: assigned.properties,
        shown: assigned.shown,
        stop_timeout_us: pod
            .stop_timeout_ms
            .map_or(INFINITY, |ms| ms.saturating_mul(1000).saturating_add(STOP_MARGIN_US)),
        slice,
    }
}

/// Shares are among the slices; below the slice they would divide nothing.
const WEIGHTS: [&str; 2] = ["cpu-weight", "io-weight"];

fn refuse_weight(
    key: &'static str,
    cgroup: &mut CgroupPlan,
    pod: &PodFacts<'_>,
    errors: &mut Vec<LimitError>,
) {
    let (scope, reason) = ("pod".to_owned(), "this systemd cannot give it to the pod's slice".to_owned());
    if pod.limits.on_missing == OnMissing::Ignore {
        cgroup.not_enforced.push(NotEnforced { scope, key: key.to_owned(), reason });
    } else {
        let hint = Some("remove it, set on-missing = \"ignore\", or use --driver cgroupfs".to_owned());
        errors.push(LimitError { scope, key, entry: None, reason, hint });
    }
}

/// v1's limit of memory and swap together may not be below that of memory, and systemd has no property for it: in the
/// group that gets the one there must be the other.
fn needs_both(settings: &[Setting], property: &str) -> bool {
    property == "MemoryMax" && settings.iter().any(|s| s.file == "memory.memsw.limit_in_bytes")
}

/// One isolator as a property.
struct Expressed {
    properties: Vec<Property>,
    shown: Vec<Setting>,
    /// The property is coarser than what was asked for: that stays, one level below.
    and_below: bool,
}

/// `None`: systemd has nothing for it.
fn express(settings: &[Setting], version: Version, limits: &Limits) -> Option<Expressed> {
    let first = settings.first()?;
    let property = match (first.key.as_str(), version) {
        ("memory-max", _) => Property::new("MemoryMax", limit(first)?),
        ("memory-high", Version::V2) => Property::new("MemoryHigh", limit(first)?),
        ("memory-low", Version::V2) => Property::new("MemoryLow", limit(first)?),
        ("memory-min", Version::V2) => Property::new("MemoryMin", limit(first)?),
        ("memory-zswap-max", Version::V2) => Property::new("MemoryZSwapMax", limit(first)?),
        ("memory-swap-max", Version::V2) => Property::new("MemorySwapMax", limit(first)?),
        // 0 is refused: it would forbid the first process too.
        ("pids-max", _) if first.value != "0" => Property::new("TasksMax", limit(first)?),
        ("cpuset", Version::V2) => Property::new("AllowedCPUs", Value::Bytes(mask(limits.cpuset.as_ref()?))),
        ("cpuset-mems", Version::V2) => {
            Property::new("AllowedMemoryNodes", Value::Bytes(mask(limits.cpuset_mems.as_ref()?)))
        }
        ("io-weight", Version::V2) => Property::new("IOWeight", Value::Number(limits.io_weight?.into())),
        // Only half of it on v1, where a group of groups has no such limit anyway.
        ("io-max", Version::V2) => return io_max(settings),
        ("cpu-weight", _) => Property::new("CPUWeight", weight(limits.cpu_weight?, version)?),
        // Saving up would be in vain below a quota that cannot: then podrun holds both, below.
        ("cpus", _) if limits.cpu_burst.is_some_and(|burst| !burst.is_zero()) => return None,
        ("cpus", _) => return quota(settings, limits),
        _ => return None,
    };
    Some(Expressed { properties: vec![property], shown: settings.to_vec(), and_below: false })
}

fn limit(setting: &Setting) -> Option<Value> {
    match setting.value.as_str() {
        "max" | "-1" => Some(Value::Number(INFINITY)),
        value => value.parse().ok().map(Value::Number),
    }
}

/// 0 is idle. On v1 systemd gives the least shares for it, which is something else.
fn weight(weight: CpuWeight, version: Version) -> Option<Value> {
    match (weight, version) {
        (CpuWeight::Weight(weight), _) => Some(Value::Number(weight.into())),
        (CpuWeight::Idle, Version::V2) => Some(Value::Number(0)),
        (CpuWeight::Idle, Version::V1) => None,
    }
}

/// CPU time per second, in whole percents, rounded up; with what the kernel then shows in the same files.
fn quota(settings: &[Setting], limits: &Limits) -> Option<Expressed> {
    let amount = limits.cpus?.0;
    let rounded = amount.div_ceil(QUOTA_STEP_US).checked_mul(QUOTA_STEP_US)?;
    let period =
        limits.cpu_period.map_or(Some(QUOTA_PERIOD_US), |time| u64::try_from(time.as_micros()).ok())?;
    // As systemd counts it, with the kernel's least.
    let quota = u64::try_from(u128::from(rounded) * u128::from(period) / 1_000_000).ok()?.max(QUOTA_MIN_US);
    let shown = settings.iter().map(|setting| {
        let reads_back = match setting.file.as_str() {
            "cpu.max" => format!("{quota} {period}"),
            "cpu.cfs_period_us" => period.to_string(),
            _ => quota.to_string(),
        };
        Setting { value: reads_back.clone(), reads_back, ..setting.clone() }
    });
    let own_period = limits.cpu_period.map(|_| Property::new("CPUQuotaPeriodUSec", Value::Number(period)));
    let quota = Property::new("CPUQuotaPerSecUSec", Value::Number(rounded));
    let properties = [quota].into_iter().chain(own_period).collect();
    Some(Expressed { properties, shown: shown.collect(), and_below: rounded != amount })
}

/// A property for each kind of limit, with every disk that has one.
fn io_max(settings: &[Setting]) -> Option<Expressed> {
    const KINDS: [(&str, &str); 4] = [
        ("rbps", "IOReadBandwidthMax"),
        ("wbps", "IOWriteBandwidthMax"),
        ("riops", "IOReadIOPSMax"),
        ("wiops", "IOWriteIOPSMax"),
    ];
    let limit = |setting: &Setting, kind: &str| {
        let (disk, words) = setting.value.split_once(' ')?;
        let word = words.split(' ').find_map(|word| word.strip_prefix(kind)?.strip_prefix('='))?;
        // systemd finds the device by its number, without looking for the node.
        Some((format!("/dev/block/{disk}"), word.parse().ok()?))
    };
    let property = |(kind, name): (&str, &str)| {
        let devices: Vec<_> = settings.iter().filter_map(|setting| limit(setting, kind)).collect();
        (!devices.is_empty()).then(|| Property::new(name, Value::Devices(devices)))
    };
    let properties = KINDS.into_iter().filter_map(property).collect();
    Some(Expressed { properties, shown: settings.to_vec(), and_below: false })
}

/// Bit `i % 8` of byte `i / 8` is CPU `i`.
pub(super) fn mask(set: &NumberSet) -> Vec<u8> {
    let mut bytes = Vec::new();
    for &number in &set.0 {
        let at = number as usize / 8;
        if bytes.len() <= at {
            bytes.resize(at + 1, 0_u8);
        }
        if let Some(byte) = bytes.get_mut(at) {
            *byte |= 1 << (number % 8);
        }
    }
    bytes
}

#[cfg(test)]
#[path = "units_tests.rs"]
mod tests;
