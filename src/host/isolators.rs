//! [`look`]: every isolator as this host sees it, for `podrun doctor`.
//!
//! Nothing is judged by a list of its own: each one is resolved as that of a manifest, once of the pod and once of an
//! app, with the driver that `run` would have.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use super::{DriverChoice, Host, cgroup, disk, probe};
use crate::error::hints;
use crate::manifest;
use crate::plan::{self, Driver, Request};
use crate::spec::{AppSpec, DeviceSpec, IoMax, Limits, Spec};
use crate::value::{Access, Ceiling, CpuAmount, CpuWeight, NumberSet};

/// An isolator as this host sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Isolator {
    /// The manifest's key.
    pub key: &'static str,
    /// The value that is asked for, where others of the same key are something else.
    pub value: Option<&'static str>,
    /// Why the pod cannot have it.
    pub of_pod: Option<Refused>,
    /// Why an app cannot have it.
    pub of_app: Option<Refused>,
    /// It is set, and nothing comes of it.
    pub idle: Option<Refused>,
}

/// Why something cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Lower case, no full stop.
    pub reason: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// A pod that asks for nothing.
const PLAIN: &str =
    "version = 1\n[pod]\nname = \"doctor\"\n[app.doctor]\nrootfs = \"/\"\nexec = [\"/bin/true\"]\n";

/// Who would make the groups of a pod, and every isolator. Where nobody would, podrun itself is asked for the rest.
///
/// # Errors
/// Only when `/proc` is not there.
pub(super) fn look(driver: DriverChoice) -> anyhow::Result<(Result<Driver, Refused>, Vec<Isolator>)> {
    let doctor = Doctor::new()?;
    // Looked at with the eyes of a spec that wants all of them at once.
    let all = doctor.with_all();
    let (made_by, host) = match probe(&all, driver) {
        Ok(host) => (Ok(maker(&host)), host),
        Err(error) => {
            let hint = hints(&error).next().map(str::to_owned);
            let refused = Refused { reason: format!("{error:#}"), hint };
            (Err(refused), probe(&all, DriverChoice::Cgroupfs)?)
        }
    };
    let (cpus, mems) = match &host.cgroups.cpuset {
        Ok(facts) => (facts.cpus.set.clone(), facts.mems.set.clone()),
        Err(_) => (set(&[0]), set(&[0])),
    };
    let v2 = host.cgroups.hierarchies.v2.as_ref().map(|v2| v2.mount_point.as_path());
    let mut isolators = doctor.judge(&host, wanted(cpus, mems));
    for isolator in isolators.iter_mut().filter(|isolator| isolator.key == "io-weight") {
        isolator.idle = (!disk::some_obeys_weights(v2)).then(no_disk_obeys);
    }
    Ok((made_by, isolators))
}

fn maker(host: &Host) -> Driver {
    match (&host.service, &host.manager) {
        (Some(_), _) => Driver::Service,
        (None, Some(_)) => Driver::Systemd,
        (None, None) => Driver::Cgroupfs,
    }
}

fn no_disk_obeys() -> Refused {
    let hint = "give a disk the scheduler bfq: echo bfq > /sys/block/DISK/queue/scheduler";
    Refused {
        reason: "is set and does nothing: no disk has the scheduler bfq, and none has iocost".to_owned(),
        hint: Some(hint.to_owned()),
    }
}

/// What is asked for at once.
#[derive(Default)]
struct Wanted {
    key: &'static str,
    value: Option<&'static str>,
    limits: Limits,
    devices: Option<Vec<DeviceSpec>>,
}

/// The pod whose isolators are judged.
struct Doctor {
    plain: Spec,
    app: AppSpec,
}

impl Doctor {
    fn new() -> anyhow::Result<Self> {
        let plain = manifest::read(PLAIN).spec.context("cannot read doctor's own manifest")?;
        let app = plain.apps.first().context("doctor's own manifest has no app")?.clone();
        Ok(Self { plain, app })
    }

    /// An app for each.
    fn with_all(&self) -> Spec {
        let app = |wanted| self.of_app(wanted);
        let apps = wanted(set(&[0]), set(&[0])).iter().flat_map(|wanted| app(wanted).apps).collect();
        Spec { apps, ..self.plain.clone() }
    }

    fn of_app(&self, wanted: &Wanted) -> Spec {
        let (limits, devices) = (wanted.limits.clone(), wanted.devices.clone());
        Spec { apps: vec![AppSpec { limits, devices, ..self.app.clone() }], ..self.plain.clone() }
    }

    fn of_pod(&self, wanted: &Wanted) -> Spec {
        let mut spec = self.plain.clone();
        spec.pod.limits = wanted.limits.clone();
        spec.pod.devices.clone_from(&wanted.devices);
        spec
    }

    fn judge(&self, host: &Host, wanted: Vec<Wanted>) -> Vec<Isolator> {
        let judge = |wanted: Wanted| {
            // The one key of a pod and of an app that is no isolator of the kernel's controllers.
            let path = match wanted.key {
                "devices" => "devices".to_owned(),
                key => format!("isolators.{key}"),
            };
            Isolator {
                key: wanted.key,
                value: wanted.value,
                of_pod: refused(wanted.key, &format!("pod.{path}"), &self.of_pod(&wanted), host),
                of_app: refused(wanted.key, &format!("app.doctor.{path}"), &self.of_app(&wanted), host),
                idle: None,
            }
        };
        wanted.into_iter().map(judge).collect()
    }
}

fn refused(key: &str, path: &str, spec: &Spec, host: &Host) -> Option<Refused> {
    let request = Request {
        id: "doctor".to_owned(),
        name: None,
        started: plan::Started::Foreground,
        passed: Vec::new(),
        watchdog_us: None,
    };
    let refusals = plan::resolve(spec, host, &request).err()?;
    let inner = format!("{path}.");
    let refusal = refusals.into_iter().find(|r| r.path == path || r.path.starts_with(&inner))?;
    let reason = refusal.message.strip_prefix(&format!("{key}: ")).unwrap_or(&refusal.message).to_owned();
    Some(Refused { reason, hint: refusal.hint })
}

fn set(numbers: &[u32]) -> NumberSet {
    NumberSet(numbers.iter().copied().collect())
}

/// Each isolator alone, in the order in which they are explained.
fn wanted(cpus: NumberSet, mems: NumberSet) -> Vec<Wanted> {
    const BYTES: Option<Ceiling> = Some(Ceiling::At(64 << 20));
    const CPU: Option<CpuAmount> = Some(CpuAmount(1_000_000));
    const MS: Option<Duration> = Some(Duration::from_millis(1));
    let none = Limits::default;
    let one = |(key, limits)| Wanted { key, limits, ..Wanted::default() };
    let idle = Limits { cpu_weight: Some(CpuWeight::Idle), ..none() };
    let before = [
        ("memory-max", Limits { memory_max: BYTES, ..none() }),
        ("memory-high", Limits { memory_high: BYTES, ..none() }),
        ("memory-low", Limits { memory_low: BYTES, ..none() }),
        ("memory-min", Limits { memory_min: BYTES, ..none() }),
        ("memory-swap-max", Limits { memory_max: BYTES, memory_swap_max: BYTES, ..none() }),
        ("memory-zswap-max", Limits { memory_zswap_max: BYTES, ..none() }),
        ("memory-oom-group", Limits { memory_oom_group: Some(true), ..none() }),
        ("cpus", Limits { cpus: CPU, ..none() }),
        ("cpu-period", Limits { cpus: CPU, cpu_period: MS, ..none() }),
        ("cpu-burst", Limits { cpus: CPU, cpu_burst: MS, ..none() }),
        ("cpu-weight", Limits { cpu_weight: Some(CpuWeight::Weight(100)), ..none() }),
    ];
    let after = [
        ("cpuset", Limits { cpuset: Some(cpus), ..none() }),
        ("cpuset-mems", Limits { cpuset_mems: Some(mems), ..none() }),
        ("pids-max", Limits { pids_max: Some(Ceiling::At(64)), ..none() }),
        ("io-weight", Limits { io_weight: Some(100), ..none() }),
        ("io-max", Limits { io_max: any_disk(), ..none() }),
        ("hugetlb", Limits { hugetlb: any_huge_page(), ..none() }),
        ("unified", Limits { unified: [("memory.swap.high".into(), "max".into())].into(), ..none() }),
    ];
    let mut all: Vec<Wanted> = before.into_iter().map(one).collect();
    all.push(Wanted { value: Some("idle"), ..one(("cpu-weight", idle)) });
    all.extend(after.into_iter().map(one));
    // Whether there is a filter at all: everybody has this one.
    let null = DeviceSpec { path: "/dev/null".to_owned(), access: Access::ALL };
    all.push(Wanted { devices: Some(vec![null]), ..one(("devices", none())) });
    all
}

/// Some disk of this host; where there is none, what stands for the host's root.
fn any_disk() -> BTreeMap<PathBuf, IoMax> {
    let disks = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let mut nodes = disks.map(|disk| Path::new("/dev").join(disk.file_name()));
    let path = nodes.find(|node| node.exists()).unwrap_or_else(|| PathBuf::from("/"));
    [(path, IoMax { rbps: Some(Ceiling::At(1 << 30)), ..IoMax::default() })].into()
}

/// A size that this kernel has; where it has none, the usual one.
fn any_huge_page() -> BTreeMap<u64, Ceiling> {
    let first = cgroup::huge_page_sizes().into_iter().next();
    [(first.unwrap_or(2 << 20), Ceiling::At(0))].into()
}
