//! [`check`]: what of a plan this host will not let happen, beyond what the plan itself refuses. For `podrun check
//! --host`, which may take its time; a start finds it out by doing it.

use std::path::Path;

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};
use podrun_abi::boot::RootMode;
use podrun_abi::failure::ExecFault;

use super::{abilities, overlay, program, read_bounded};
use crate::manifest::rules::{self, Rule};
use crate::plan::{self, AppPlan, Refusal};
use crate::spec::{AppSpec, Spec};
use crate::value::rlimit;

/// One thing that will not work here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which rule it breaks.
    pub rule: &'static Rule,
    /// The key that asks for it, such as `app.web.exec[0]`.
    pub path: String,
    /// Lower case, no full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What was seen of the host for this, beyond what a start looks at.
#[derive(Debug, Clone)]
pub struct Machine {
    /// CPUs that are online.
    pub cpus: u64,
    /// fs.nr_open, the most descriptors that a process may be allowed.
    pub nr_open: u64,
    /// podrun's own oom_score_adj.
    pub oom_score_adj: i32,
    /// Whether podrun may raise its limits and lower its score (CAP_SYS_RESOURCE).
    pub may_raise: bool,
}

/// Looks at what the apps of a spec need; `plans` are those that could be resolved.
#[must_use]
pub fn check(spec: &Spec, plans: &[AppPlan], machine: &Machine) -> Vec<Finding> {
    let mut found = Vec::new();
    let blocks = spec.apps.iter().map(|app| (format!("app.{}", app.name), &app.limits));
    for (scope, block) in std::iter::once(("pod".to_owned(), &spec.pod.limits)).chain(blocks) {
        let Some(amount) = block.cpus.filter(|amount| amount.0 > machine.cpus * 1_000_000) else { continue };
        let message = format!("cpus ({amount}) is more than the {} CPUs of this host", machine.cpus);
        found.push(finding(&rules::CPUS_ABOVE_HOST, format!("{scope}.isolators.cpus"), message));
    }
    for app in &spec.apps {
        found.extend(process_limits(app, machine));
        if let Some(plan) = plans.iter().find(|plan| plan.name == app.name) {
            found.extend(command(app, plan));
            found.extend(overlay_fault(app));
        }
    }
    found
}

fn finding(rule: &'static Rule, path: String, message: String) -> Finding {
    Finding { rule, path, message, hint: None }
}

impl Machine {
    /// This machine.
    #[must_use]
    pub fn look() -> Self {
        let number = |path: &str| -> Option<i64> {
            let bytes = read_bounded(Path::new(path)).ok()?;
            String::from_utf8_lossy(&bytes).trim().parse().ok()
        };
        let nr_open = number("/proc/sys/fs/nr_open").and_then(|n| u64::try_from(n).ok());
        let score = number("/proc/self/oom_score_adj").and_then(|n| i32::try_from(n).ok());
        let cpus = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
        Self {
            cpus: cpus.and_then(|count| u64::try_from(count).ok()).unwrap_or(u64::from(u32::MAX)),
            nr_open: nr_open.unwrap_or(u64::MAX),
            oom_score_adj: score.unwrap_or(0),
            may_raise: abilities::may_raise_limits(),
        }
    }
}

/// A start looks at less, and plans were refused where that was enough.
fn overlay_fault(app: &AppSpec) -> Option<Finding> {
    let wants = app.rootfs_mode == RootMode::Overlay;
    let reason = wants.then(|| overlay::look(&app.rootfs).err())??;
    let Refusal { rule, path, message, hint } = plan::no_overlay(&app.name, &reason);
    Some(Finding { rule, path, message, hint })
}

fn process_limits(app: &AppSpec, machine: &Machine) -> Vec<Finding> {
    let mut found = Vec::new();
    for (&resource, &(_, hard)) in &app.rlimits {
        let name = rlimit::name(resource);
        let path = format!("app.{}.rlimits.{name}", app.name);
        if resource == libc::RLIMIT_NOFILE && hard > machine.nr_open {
            let shown = if hard == rlimit::UNLIMITED { "unlimited".to_owned() } else { hard.to_string() };
            let message = format!("nofile {shown} is above the host's fs.nr_open ({})", machine.nr_open);
            found.push(finding(&rules::RLIMIT_ABOVE_HOST, path, message));
        } else if let Some(own) = own_hard(resource).filter(|own| hard > *own && !machine.may_raise) {
            let message = format!("{name} is above podrun's own hard limit ({own})");
            let hint = Some("run podrun with CAP_SYS_RESOURCE, or with a higher limit of its own".to_owned());
            found.push(Finding { hint, ..finding(&rules::NEEDS_CAPABILITY, path, message) });
        }
    }
    if app.oom_score_adjust < machine.oom_score_adj && !machine.may_raise {
        let message = format!(
            "oom-score-adjust {} is below podrun's own ({})",
            app.oom_score_adjust, machine.oom_score_adj
        );
        let hint = Some("run podrun with CAP_SYS_RESOURCE".to_owned());
        let path = format!("app.{}.oom-score-adjust", app.name);
        found.push(Finding { hint, ..finding(&rules::NEEDS_CAPABILITY, path, message) });
    }
    found
}

/// Our own hard limit of the resources that are limited most; the others are unlimited nearly everywhere.
fn own_hard(resource: u32) -> Option<u64> {
    let known = match resource {
        libc::RLIMIT_NOFILE => Resource::RLIMIT_NOFILE,
        libc::RLIMIT_NPROC => Resource::RLIMIT_NPROC,
        libc::RLIMIT_MEMLOCK => Resource::RLIMIT_MEMLOCK,
        libc::RLIMIT_CORE => Resource::RLIMIT_CORE,
        libc::RLIMIT_STACK => Resource::RLIMIT_STACK,
        _ => return None,
    };
    getrlimit(known).ok().map(|(_, hard)| hard)
}

fn command(app: &AppSpec, plan: &AppPlan) -> Vec<Finding> {
    let mut found = Vec::new();
    let rootfs = app.rootfs.display();
    let path = plan.env.iter().rev().find(|(name, _)| name == "PATH").map_or("", |(_, value)| value.as_str());
    let program = app.exec.first().map_or("", String::as_str);
    if let Some(fault) = program::look(&app.rootfs, program, path, &plan.identity) {
        found.push(of_fault(app, &fault, path));
    }
    if program::has_directory(&app.rootfs, &app.workdir, &plan.identity) == Some(false) {
        let message = format!("workdir {} is not a directory in rootfs {rootfs}", app.workdir);
        found.push(finding(&rules::WORKDIR_MISSING, format!("app.{}.workdir", app.name), message));
    }
    found
}

fn of_fault(app: &AppSpec, fault: &program::Fault, path: &str) -> Finding {
    let (file, rootfs) = (&fault.file, app.rootfs.display());
    let (rule, message, hint) = match &fault.fault {
        ExecFault::Missing => {
            (&rules::EXEC_MISSING, format!("{file} does not exist in rootfs {rootfs}"), None)
        }
        ExecFault::NotInPath => (
            &rules::EXEC_MISSING,
            format!("`{file}` is in no directory of the app's PATH in rootfs {rootfs}"),
            Some(format!("its PATH is {path}")),
        ),
        ExecFault::NotExecutable => (
            &rules::EXEC_DENIED,
            format!("{file} is not executable in rootfs {rootfs}"),
            Some("its mode does not let the app's user execute it, or not its interpreter".to_owned()),
        ),
        ExecFault::InterpreterMissing { interpreter: missing } => {
            let message = format!("{file}: its interpreter {missing} is missing in rootfs {rootfs}");
            (&rules::EXEC_PARTS, message, None)
        }
        ExecFault::LoaderMissing { loader: missing } => {
            let message = format!("{file}: its loader {missing} is missing in rootfs {rootfs}");
            let hint = "the root needs the program's libraries too, or a static program";
            (&rules::EXEC_PARTS, message, Some(hint.to_owned()))
        }
        other => (&rules::EXEC_FORMAT, format!("{file} cannot be executed: {other}"), None),
    };
    Finding { rule, path: format!("app.{}.exec[0]", app.name), message, hint }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{app, spec};
    use super::*;
    use crate::spec::Limits as Isolators;
    use crate::value::cpus;

    #[test]
    fn what_this_host_does_not_have_is_found() {
        let mut one = app(Path::new("/"));
        one.limits = Isolators { cpus: cpus::parse("8192").ok(), ..Isolators::default() };
        one.rlimits.insert(libc::RLIMIT_NOFILE, (1, u64::MAX - 1));
        let found = check(&spec(vec![one]), &[], &Machine::look());
        let rules: Vec<_> = found.iter().map(|finding| finding.rule.code).collect();
        assert_eq!(rules, ["W0920", "E0921"], "{found:?}");
        assert_eq!(found[0].path, "app.web.isolators.cpus");
        assert!(check(&spec(vec![app(Path::new("/"))]), &[], &Machine::look()).is_empty());
    }
}
