//! [`Plan`]: what will be done on this host, as data that can be printed, compared and recorded.
//!
//! [`resolve`] is pure: it takes what is meant ([`Spec`]) and what was seen ([`Host`]) and decides
//! everything that is left to decide: the order of the apps, their numbers for user and groups, their whole
//! environment, every group and every file of the pod's cgroups. `launch` decides nothing any more. A plan is
//! recorded in the pod directory before anything is created, so that `gc` needs nothing else.

mod again;
mod devices;
mod environment;
mod identity;
mod order;
pub mod output;
mod sockets;
mod text;

use std::collections::BTreeMap;

use podrun_abi::boot::{Device, ExitPolicy, Identity, Policy, Root, RootMode};
use podrun_abi::handover::DESCRIPTORS_MAX;
use serde::{Deserialize, Serialize};

use crate::cgroup::limits::{self, LimitError};
use crate::cgroup::plan::CgroupPlan;
use crate::host::Host;
use crate::manifest::any_key;
use crate::manifest::rules::{self, Rule};
use crate::spec::{AppSpec, Grace, Spec};
use crate::systemd::units::{self, PodFacts, UnitPlan};
use crate::systemd::{ServicePlan, service};
use environment::Around;

pub use again::{Running, resolve_again};
pub use output::{Output, Started};
pub use sockets::{SocketPlan, StoredPlan};
pub use text::render;

/// Version of the recorded form.
pub const SCHEMA: u32 = 1;

/// Hidden in every app: what leaks the host's memory, keys, timers or firmware. The union of what the OCI
/// runtimes, containerd and moby mask and of rkt's list; `/sys/fs` is given by its members, since
/// `/sys/fs/cgroup` stays.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/config.gz",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kmem",
    "/proc/latency_stats",
    "/proc/mem",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/system/cpu/cpu*/thermal_throttle",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/bpf",
    "/sys/fs/btrfs",
    "/sys/fs/ext4",
    "/sys/fs/f2fs",
    "/sys/fs/fuse",
    "/sys/fs/pstore",
    "/sys/fs/resctrl",
    "/sys/fs/selinux",
    "/sys/fs/smackfs",
    "/sys/fs/xfs",
    "/sys/hypervisor",
    "/sys/kernel",
    "/sys/module",
    "/sys/power",
];

/// Read-only in every app; `/sys` is read-only as a whole.
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What will be done on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The pod's name.
    pub pod: String,
    /// The pod's id, eight hexadecimal digits; every name that the host will see derives from it.
    pub id: String,
    /// The host's boot id: on another boot the pod is gone, whatever its files say.
    pub boot_id: String,
    /// Who makes the pod's cgroup.
    pub driver: Driver,
    /// Goes to sethostname(2).
    pub hostname: String,
    /// Not interpreted.
    pub labels: BTreeMap<String, String>,
    /// When the pod ends by itself.
    pub exit_policy: ExitPolicy,
    /// How long the ordered stop may take, in milliseconds; `None`: for ever.
    pub stop_timeout_ms: Option<u64>,
    /// Every group and every file.
    pub cgroup: CgroupPlan,
    /// How often the service manager wants to hear of podrun, in microseconds, and podrun of the apps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watchdog_us: Option<u64>,
    /// The units that systemd makes, when it is the driver.
    #[serde(default)]
    pub units: Option<UnitPlan>,
    /// The service whose group is the pod's, when podrun is its main process.
    #[serde(default)]
    pub service: Option<ServicePlan>,
    /// Whether what happens to the pod is told to the host's journal.
    #[serde(default)]
    pub has_journal: bool,
    /// Distinct root directories.
    pub roots: Vec<String>,
    /// Paths hidden in every app.
    pub masked: Vec<String>,
    /// Paths read-only in every app.
    pub read_only: Vec<String>,
    /// The apps, each behind those it depends on.
    pub apps: Vec<AppPlan>,
    /// The sockets that apps get.
    #[serde(default)]
    pub sockets: Vec<SocketPlan>,
    /// What the service manager has kept for apps, in the order in which it passes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stored: Vec<StoredPlan>,
    /// How many descriptors the launcher and stage1 need at most.
    pub nofile: u64,
}

/// Who makes the pod's cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// podrun itself, below its own group in each hierarchy.
    Cgroupfs,
    /// systemd, as a slice and a delegated scope; podrun what is below.
    Systemd,
    /// systemd, as the service that podrun is the main process of; podrun what is below.
    Service,
}

/// One app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppPlan {
    /// Unique in the pod.
    pub name: String,
    /// The command.
    pub argv: Vec<String>,
    /// The whole environment, in order.
    pub env: Vec<(String, String)>,
    /// Entered before the exec.
    pub workdir: String,
    /// Index into [`Plan::roots`] and how it may be written.
    pub root: Root,
    /// Numbers only.
    pub identity: Identity,
    /// `(RLIMIT_* number, soft, hard)`.
    pub rlimits: Vec<(u32, u64, u64)>,
    /// -1000..=1000.
    pub oom_score_adj: i32,
    /// The pod or the app names CPUs: the app may run on all of them, whatever the launcher may run on itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all_cpus: bool,
    /// What it finds in `/dev` beside what every app has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Where its output goes.
    #[serde(default)]
    pub output: Output,
    /// Life cycle.
    pub policy: Policy,
}

/// What is decided outside of the manifest.
#[derive(Debug, Clone)]
pub struct Request {
    /// The pod's id.
    pub id: String,
    /// In place of the manifest's name.
    pub name: Option<String>,
    /// How podrun was started.
    pub started: Started,
    /// The names of the sockets that the service manager passes, in their order.
    pub passed: Vec<String>,
    /// How often the service manager wants to hear of podrun, in microseconds; `None`: it does not.
    pub watchdog_us: Option<u64>,
}

/// Why this host cannot run it: one key of the manifest and one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which rule it breaks.
    pub rule: &'static Rule,
    /// Path of the key, such as `app.web.user`.
    pub path: String,
    /// Lower case, no full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Refusal {
    fn new(rule: &'static Rule, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { rule, path: path.into(), message: message.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Decides everything that is left to decide.
///
/// # Errors
/// Everything that this host cannot do, all at once, in the order of the manifest.
pub fn resolve(spec: &Spec, host: &Host, request: &Request) -> Result<Plan, Vec<Refusal>> {
    let mut refusals = Vec::new();
    let order = order::start_order(&spec.apps);
    let mut roots = Vec::new();
    let mut apps = Vec::with_capacity(order.len());
    for (position, &index) in order.iter().enumerate() {
        let app = &spec.apps[index];
        let positions = |names| order::positions(&order[..position], &spec.apps, names);
        match resolve_app(app, spec, host, request, root_index(&mut roots, app)) {
            Ok(mut planned) => {
                planned.policy.after = positions(&app.depends_on);
                planned.policy.after_ready = positions(&app.needs_ready);
                apps.push(planned);
            }
            Err(reasons) => refusals.extend(reasons),
        }
    }
    let names: Vec<&AppSpec> = order.iter().map(|&i| &spec.apps[i]).collect();
    let cgroup = resolve_cgroup(spec, host, &names, request).map_err(|r| refusals.extend(r)).ok();
    let passed = spec.sockets.len() + request.passed.len();
    let kept = if spec.apps.iter().any(|app| app.ready_notify) { DESCRIPTORS_MAX } else { 0 };
    let groups = cgroup.as_ref().map(|(cgroup, _)| cgroup);
    let nofile = descriptors((apps.len(), passed), groups) + kept as u64;
    refusals.extend(too_many_descriptors(nofile, host));
    if let Some((cgroup, made_by)) = &cgroup {
        let unit = made_by.unit().unwrap_or_else(|| format!("podrun-{}.scope", request.id));
        let oom_groups = limits::kills_single_processes(cgroup);
        for (app, spec) in apps.iter_mut().zip(&names) {
            app.policy.oom_group = oom_groups && spec.limits.memory_oom_group != Some(false);
            let seen = (host, request.started);
            refusals.extend(output::assign(app, spec, seen, (cgroup, &unit)).err());
        }
    }
    let (stored, passed) = sockets::stored(spec, &apps, &request.passed);
    let sockets = sockets::resolve(spec, &apps, &passed).map_err(|r| refusals.extend(r)).unwrap_or_default();
    let Some((cgroup, made_by)) = cgroup.filter(|_| refusals.is_empty()) else { return Err(refusals) };
    Ok(Plan {
        schema: SCHEMA,
        pod: pod_name(spec, request).to_owned(),
        id: request.id.clone(),
        boot_id: host.boot_id.clone().unwrap_or_default(),
        driver: made_by.driver(),
        hostname: hostname(spec, request),
        labels: spec.pod.labels.clone(),
        exit_policy: spec.pod.exit_policy,
        stop_timeout_ms: milliseconds(spec.pod.stop_timeout),
        watchdog_us: request.watchdog_us,
        has_journal: host.has_journal,
        cgroup,
        units: made_by.units,
        service: made_by.service,
        roots,
        masked: MASKED.iter().map(ToString::to_string).collect(),
        read_only: READ_ONLY.iter().map(ToString::to_string).collect(),
        apps,
        sockets,
        stored,
        nofile,
    })
}

/// The apps that this host can have, each decided by itself; what is refused is for [`resolve`] to tell.
#[must_use]
pub fn resolve_apps(spec: &Spec, host: &Host, request: &Request) -> Vec<AppPlan> {
    spec.apps.iter().filter_map(|app| resolve_app(app, spec, host, request, 0).ok()).collect()
}

/// The UUID of a pod, for those who know containers by one: it begins with the pod's id, and the rest is of this boot.
fn uuid(id: &str, boot_id: &str) -> String {
    let rest = boot_id.get(id.len()..).filter(|_| boot_id.len() == 36 && id.len() == 8);
    format!("{id}{}", rest.unwrap_or("-0000-4000-8000-000000000000"))
}

impl Plan {
    /// The pod's UUID, `container_uuid` in the environment of its apps.
    #[must_use]
    pub fn uuid(&self) -> String {
        uuid(&self.id, &self.boot_id)
    }
}

/// `--name` wins over the manifest.
fn pod_name<'a>(spec: &'a Spec, request: &'a Request) -> &'a str {
    request.name.as_deref().unwrap_or(&spec.pod.name)
}

/// The hostname follows `--name` unless the manifest says one of its own.
fn hostname(spec: &Spec, request: &Request) -> String {
    match &request.name {
        Some(name) if spec.pod.hostname == spec.pod.name => name.clone(),
        _ => spec.pod.hostname.clone(),
    }
}

fn root_index(roots: &mut Vec<String>, app: &AppSpec) -> usize {
    let wanted = app.rootfs.to_string_lossy();
    roots.iter().position(|r| *r == wanted).unwrap_or_else(|| {
        roots.push(wanted.into_owned());
        roots.len() - 1
    })
}

fn resolve_app(
    app: &AppSpec,
    spec: &Spec,
    host: &Host,
    request: &Request,
    root: usize,
) -> Result<AppPlan, Vec<Refusal>> {
    let facts = host.root(&app.rootfs);
    if let Err(reason) = &facts.directory {
        let shown = app.rootfs.display();
        return Err(vec![Refusal::new(
            &rules::HOST_ROOTFS,
            format!("app.{}.rootfs", app.name),
            format!("rootfs `{shown}` {reason}"),
        )]);
    }
    if let (RootMode::Overlay, Err(reason)) = (app.rootfs_mode, &facts.overlay) {
        return Err(vec![no_overlay(&app.name, reason)]);
    }
    let who = identity::resolve(app, facts)?;
    let uuid = uuid(&request.id, host.boot_id.as_deref().unwrap_or_default());
    let pod = Around { pod: pod_name(spec, request), uuid: &uuid, watchdog_us: request.watchdog_us };
    let env = environment::resolve(app, &pod, &who, host)?;
    Ok(AppPlan {
        name: app.name.clone(),
        argv: app.exec.clone(),
        env,
        workdir: app.workdir.clone(),
        root: Root { index: root, mode: app.rootfs_mode },
        identity: who.identity,
        rlimits: app.rlimits.iter().map(|(&number, &(soft, hard))| (number, soft, hard)).collect(),
        oom_score_adj: app.oom_score_adjust,
        all_cpus: spec.pod.limits.cpuset.is_some() || app.limits.cpuset.is_some(),
        devices: devices::nodes(app, host)?,
        output: Output::default(),
        policy: Policy {
            after: Vec::new(),
            after_ready: Vec::new(),
            notify: app.ready_notify,
            essential: app.essential,
            oom_group: false,
            success: app.success.clone(),
            stop_signal: app.stop_signal,
            stop_timeout_ms: milliseconds(app.stop_timeout),
        },
    })
}

/// An overlay that cannot be, for this reason.
#[must_use]
pub fn no_overlay(app: &str, reason: &str) -> Refusal {
    let message = format!("rootfs-mode \"overlay\" is not possible{reason}");
    Refusal::new(&rules::HOST_OVERLAY, format!("app.{app}.rootfs-mode"), message)
        .hint("use rootfs-mode = \"read-only\", or \"writable\"")
}

fn milliseconds(grace: Grace) -> Option<u64> {
    match grace {
        Grace::Infinite => None,
        Grace::Limited(time) => Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// What systemd has to do with the pod's group.
#[derive(Default)]
struct MadeBy {
    units: Option<UnitPlan>,
    service: Option<ServicePlan>,
}

impl MadeBy {
    fn driver(&self) -> Driver {
        match self {
            Self { service: Some(_), .. } => Driver::Service,
            Self { units: Some(_), .. } => Driver::Systemd,
            _ => Driver::Cgroupfs,
        }
    }

    /// The one that the pod's processes belong to.
    fn unit(&self) -> Option<String> {
        let service = self.service.as_ref().map(|service| service.unit.clone());
        service.or_else(|| self.units.as_ref().map(|units| units.scope.clone()))
    }
}

/// The groups, and with systemd the units that hold the pod's limits.
fn resolve_cgroup(
    spec: &Spec,
    host: &Host,
    apps: &[&AppSpec],
    request: &Request,
) -> Result<(CgroupPlan, MadeBy), Vec<Refusal>> {
    let (mut plan, mut made_by) = resolve_groups(spec, host, apps, request)?;
    devices::assign(&mut plan, spec, apps, host)?;
    if let (Some(units), Some(manager)) = (&mut made_by.units, &host.manager) {
        units.filter_devices(&plan, manager, host.cgroups.hierarchies.mode());
    }
    Ok((plan, made_by))
}

fn resolve_groups(
    spec: &Spec,
    host: &Host,
    apps: &[&AppSpec],
    request: &Request,
) -> Result<(CgroupPlan, MadeBy), Vec<Refusal>> {
    let apps: Vec<_> = apps.iter().map(|a| (a.name.as_str(), &a.limits)).collect();
    let limits = &spec.pod.limits;
    let group = format!("podrun-{}", request.id);
    let facts = devices::facts(spec, host);
    if let Some(service) = &host.service {
        let facts = service::facts(&facts, service);
        let mut plan = limits::resolve(&group, limits, &apps, &facts).map_err(refused)?;
        let service = ServicePlan::new(service, &mut plan, &host.cgroups);
        return Ok((plan, MadeBy { service: Some(service), ..MadeBy::default() }));
    }
    let Some(manager) = &host.manager else {
        let plan = limits::resolve(&group, limits, &apps, &facts).map_err(refused)?;
        return Ok((plan, MadeBy::default()));
    };
    let stop_timeout_ms = milliseconds(spec.pod.stop_timeout);
    let pod = PodFacts { name: pod_name(spec, request), id: &request.id, limits, stop_timeout_ms };
    let facts = units::facts_in_scope(&facts, manager, &pod);
    let mut plan = limits::resolve(units::PAYLOAD, limits, &apps, &facts).map_err(refused)?;
    let units = units::assign(&mut plan, manager, &pod).map_err(refused)?;
    Ok((plan, MadeBy { units: Some(units), ..MadeBy::default() }))
}

fn refused(errors: Vec<LimitError>) -> Vec<Refusal> {
    let refusal = |error: LimitError| {
        let path = format!("{}.isolators.{}", error.scope, error.key);
        let (rule, path, message) = match error.entry {
            // What is said of a path begins with it.
            Some(entry) if error.key == "io-max" => {
                let message = match error.reason.starts_with(&entry) {
                    true => error.reason,
                    false => format!("{entry} {}", error.reason),
                };
                (&rules::HOST_DISK, format!("{path}.{}", any_key(&entry)), message)
            }
            Some(entry) => {
                let message = format!("{}.{entry}: {}", error.key, error.reason);
                (&rules::HOST_LIMIT, format!("{path}.{}", any_key(&entry)), message)
            }
            None => (&rules::HOST_LIMIT, path, format!("{}: {}", error.key, error.reason)),
        };
        Refusal { rule, path, message, hint: error.hint }
    };
    errors.into_iter().map(refusal).collect()
}

/// Beside what apps with `ready.notify` give to keep, all that comes with one packet. Per app: two pipes with both ends, a pidfd, a report pipe and its barrier while it starts, and its files in
/// every hierarchy; beside that the launcher's and stage1's own.
fn descriptors((apps, sockets): (usize, usize), cgroup: Option<&CgroupPlan>) -> u64 {
    const OWN: usize = 64;
    const PER_APP: usize = 16;
    let hierarchies = cgroup.map_or(0, |c| c.hierarchies.len());
    let groups = (apps + 2) * hierarchies;
    // A socket, and its copy on the way to stage1.
    (OWN + apps * (PER_APP + hierarchies) + groups + 2 * sockets) as u64
}

fn too_many_descriptors(needed: u64, host: &Host) -> Option<Refusal> {
    let (_, hard) = host.nofile;
    (needed > hard).then(|| {
        Refusal::new(
            &rules::HOST_DESCRIPTORS,
            "app",
            format!("the pod needs {needed} file descriptors, the hard limit here is {hard}"),
        )
        .hint("raise it (ulimit -Hn, or LimitNOFILE= of the service), or use fewer apps")
    })
}

#[cfg(test)]
mod tests;
