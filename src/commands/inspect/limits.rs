//! The rows of `limits`: of each isolator what the manifest asks for, who sets it where, and what the kernel says.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::directory;
use crate::cgroup::devices;
use crate::cgroup::limits::kills_single_processes;
use crate::cgroup::plan::{CgroupPlan, Group, Joined, Setting, Version};
use crate::manifest::isolators_in_toml;
use crate::pod::plan::PlanRecord;
use crate::spec::{DeviceSpec, Limits, Spec};
use crate::systemd::UnitPlan;
use crate::value::Ceiling;

/// An isolator in one place.
#[derive(Serialize)]
pub struct LimitJson {
    /// `pod` or `app.NAME`.
    scope: String,
    key: String,
    by: By,
    /// As the manifest has it; not there when podrun sets it for another key, or unasked.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<Value>,
    /// Not there for what is no file: a program, or what stage1 does.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    /// What it has to be. Not there for what a group begins with.
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<String>,
    /// Not there when the group is gone, or where the kernel knows nothing of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<String>,
}

/// Who enforces it, or has the kernel do so.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum By {
    /// The launcher, in a group of its own.
    Podrun,
    /// systemd, in the group of the pod's slice.
    Systemd,
    /// PID 1 of the pod, where the kernel has no such thing.
    Stage1,
}

/// Where `cpu-period` stands, on cgroup2 and on v1.
const PERIOD_FILES: [&str; 2] = ["cpu.max", "cpu.cfs_period_us"];

/// Every isolator of the groups that are wanted, in each place.
pub fn limits(plan: &PlanRecord, spec: Option<&Spec>, wanted: impl Fn(&str) -> bool) -> Vec<LimitJson> {
    let mut rows = Vec::new();
    for group in plan.cgroup.groups.iter().filter(|group| wanted(&group.name)) {
        let scope = Scope { plan: &plan.cgroup, group, spec };
        if let Some(units) = plan.units.as_ref().filter(|_| group.name.is_empty()) {
            let dir = |joined: &Joined| joined.mount_point.join(&units.slice_group);
            rows.extend(units.shown.iter().flat_map(|setting| scope.in_file(By::Systemd, setting, dir)));
            rows.extend(scope.slices_filter(units));
        }
        let dir = |joined: &Joined| directory(&plan.cgroup, joined, &group.name);
        rows.extend(group.settings.iter().flat_map(|setting| scope.in_file(By::Podrun, setting, dir)));
        rows.extend(scope.free_swap(dir));
        rows.extend(scope.filter(By::Podrun, dir));
        rows.extend(scope.oom_group());
    }
    rows
}

/// The pod or an app.
struct Scope<'p> {
    plan: &'p CgroupPlan,
    group: &'p Group,
    spec: Option<&'p Spec>,
}

impl Scope<'_> {
    fn app(&self) -> Option<&str> {
        self.group.name.strip_prefix("app-")
    }

    fn row(&self, by: By, key: &str) -> LimitJson {
        let scope = match self.app() {
            Some(app) => format!("app.{app}"),
            None if self.group.name.is_empty() => "pod".to_owned(),
            None => self.group.name.clone(),
        };
        LimitJson {
            scope,
            key: key.to_owned(),
            by,
            asked: self.asked(key),
            file: None,
            written: None,
            kernel: None,
        }
    }

    /// What the manifest says of it.
    fn said(&self) -> Option<(&Limits, Option<&Vec<DeviceSpec>>)> {
        let spec = self.spec?;
        match self.app() {
            Some(name) => {
                let app = spec.apps.iter().find(|app| app.name == name)?;
                Some((&app.limits, app.devices.as_ref()))
            }
            None if self.group.name.is_empty() => Some((&spec.pod.limits, spec.pod.devices.as_ref())),
            None => None,
        }
    }

    fn asked(&self, key: &str) -> Option<Value> {
        let (limits, devices) = self.said()?;
        if key == "devices" {
            let said = devices?.iter().map(|device| format!("{}:{}", device.path, device.access));
            return Some(said.collect::<Vec<_>>().into());
        }
        let (_, value) = isolators_in_toml(limits).into_iter().find(|(name, _)| *name == key)?;
        toml::from_str::<serde_json::Map<String, Value>>(&format!("{key} = {value}")).ok()?.remove(key)
    }

    /// A row for each key that stands in the file.
    fn in_file(&self, by: By, setting: &Setting, dir: impl Fn(&Joined) -> PathBuf) -> Vec<LimitJson> {
        let Some(joined) = self.plan.hierarchies.get(setting.hierarchy) else { return Vec::new() };
        let file = dir(joined).join(&setting.file);
        let kernel = read(&file);
        let row = |key: &str| LimitJson {
            file: Some(file.clone()),
            written: Some(setting.value.clone()),
            kernel: kernel.clone(),
            ..self.row(by, key)
        };
        // The period has no file of its own that a quota is not in.
        let has_period = PERIOD_FILES.contains(&setting.file.as_str()) && self.asked("cpu-period").is_some();
        let period = has_period.then(|| row("cpu-period"));
        [row(&setting.key)].into_iter().chain(period).collect()
    }

    /// A group begins with all the swap that there is, so that nothing is written for it; the kernel says it where it counts
    /// swap.
    fn free_swap(&self, dir: impl Fn(&Joined) -> PathBuf) -> Option<LimitJson> {
        self.said().filter(|(limits, _)| limits.memory_swap_max == Some(Ceiling::Max))?;
        let memory = |joined: &&Joined| joined.controllers.iter().any(|controller| controller == "memory");
        let joined = self.plan.hierarchies.iter().find(memory)?;
        let is_v1 = joined.version == Version::V1;
        let file = dir(joined).join(if is_v1 { "memory.memsw.limit_in_bytes" } else { "memory.swap.max" });
        let kernel = Some(read(&file)?);
        Some(LimitJson { file: Some(file), kernel, ..self.row(By::Podrun, "memory-swap-max") })
    }

    /// What may be done with devices, in the group of each hierarchy that `dir` says.
    fn filter(&self, by: By, dir: impl Fn(&Joined) -> PathBuf) -> Option<LimitJson> {
        let rules = self.group.devices.as_ref()?;
        let lines: Vec<String> = rules.iter().map(ToString::to_string).collect();
        let row = LimitJson { written: Some(lines.join("\n")), ..self.row(by, "devices") };
        let mut joined = self.plan.hierarchies.iter();
        if let Some(v2) = joined.clone().find(|joined| joined.version == Version::V2) {
            return Some(LimitJson { kernel: programs(&dir(v2)), ..row });
        }
        let v1 = joined.find(|joined| joined.controllers.iter().any(|controller| controller == "devices"))?;
        let file = dir(v1).join(devices::LIST);
        Some(LimitJson { kernel: read(&file), file: Some(file), ..row })
    }

    fn slices_filter(&self, units: &UnitPlan) -> Option<LimitJson> {
        let dir = |joined: &Joined| joined.mount_point.join(&units.slice_group);
        units.filters_devices().then(|| self.filter(By::Systemd, dir)).flatten()
    }

    /// Of an app on v1, which has no file for it.
    fn oom_group(&self) -> Option<LimitJson> {
        let (limits, _) = self.said()?;
        let all = limits.memory_oom_group != Some(false);
        let is_stage1s = self.app().is_some() && kills_single_processes(self.plan);
        is_stage1s
            .then(|| LimitJson { written: Some(all.to_string()), ..self.row(By::Stage1, "memory-oom-group") })
    }
}

/// What the kernel says, bounded, without its newline.
fn read(file: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(file).ok()?.take(1 << 16).read_to_string(&mut text).ok()?;
    Some(text.trim_end().to_owned())
}

/// The group's own programs that decide about devices, by the numbers that bpftool(8) takes.
fn programs(group: &Path) -> Option<String> {
    let ids = devices::attached(File::open(group).ok()?.as_fd()).ok()?;
    let words: Vec<String> = ids.iter().map(|id| format!("program {id}")).collect();
    Some(words.join("\n"))
}
