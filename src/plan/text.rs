//! The plan as people read it: what will be done, in the order in which it will be done.

use std::fmt::{self, Write};
use std::time::Duration;

use podrun_abi::boot::{ExitPolicy, RootMode, Success};

use super::{AppPlan, Driver, Output, Plan};
use crate::cgroup::plan::Group;
use crate::spec::Grace;
use crate::value::{capability, duration, rlimit, signal};

/// The whole plan, or that of one app. Lines are as long as what stands in them.
#[must_use]
pub fn render(plan: &Plan, only: Option<&str>) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_plan(&mut out, plan, only);
    out
}

fn write_plan(out: &mut String, plan: &Plan, only: Option<&str>) -> fmt::Result {
    if only.is_none() {
        write_pod(out, plan)?;
    }
    for (number, app) in plan.apps.iter().enumerate().filter(|(_, a)| only.is_none_or(|o| o == a.name)) {
        write_app(out, plan, number, app)?;
    }
    if only.is_none() {
        write_end(out, plan)?;
    }
    Ok(())
}

fn write_pod(out: &mut String, plan: &Plan) -> fmt::Result {
    writeln!(out, "pod {}", plan.pod)?;
    writeln!(out, "  id         {}", plan.id)?;
    writeln!(out, "  hostname   {}", plan.hostname)?;
    for (name, value) in &plan.labels {
        writeln!(out, "  label      {name}={value}")?;
    }
    match plan.driver {
        Driver::Cgroupfs => writeln!(out, "  driver     cgroupfs")?,
        Driver::Systemd => writeln!(out, "  driver     systemd")?,
        Driver::Service => writeln!(out, "  driver     service")?,
    }
    write_units(out, plan)?;
    writeln!(out, "  namespaces pid mnt uts ipc; each app its own mnt and cgroup")?;
    writeln!(out, "  files      {} descriptors at most", plan.nofile)?;
    for hierarchy in &plan.cgroup.hierarchies {
        let group = hierarchy.mount_point.join(&hierarchy.parent).join(&plan.cgroup.pod_group);
        writeln!(out, "  group      {}", group.display())?;
    }
    for missing in &plan.cgroup.not_enforced {
        writeln!(out, "  NOT enforced: {}.{}: {}", missing.scope, missing.key, missing.reason)?;
    }
    write_list(out, "masked", &plan.masked)?;
    write_list(out, "read-only", &plan.read_only)?;
    for group in plan.cgroup.groups.iter().take(2) {
        write_settings(out, plan, group)?;
    }
    Ok(())
}

fn write_units(out: &mut String, plan: &Plan) -> fmt::Result {
    if let Some(service) = &plan.service {
        return writeln!(out, "  unit       {}, delegated", service.unit);
    }
    let Some(units) = &plan.units else { return Ok(()) };
    writeln!(out, "  unit       {}", units.slice)?;
    for property in &units.properties {
        writeln!(out, "  property   {}", property)?;
    }
    for setting in &units.shown {
        let Some(joined) = plan.cgroup.hierarchies.get(setting.hierarchy) else { continue };
        let (view, file) = (&joined.view.name, &setting.file);
        writeln!(out, "  read back  {view}:{file} = {}  ({})", setting.reads_back, setting.key)?;
    }
    writeln!(out, "  unit       {}, delegated", units.scope)
}

/// Paths, as many to a line as fit on a terminal.
fn write_list(out: &mut String, heading: &str, paths: &[String]) -> fmt::Result {
    const WIDTH: usize = 80;
    let mut line = format!("  {heading:<10}");
    for path in paths {
        if line.len() + 1 + path.len() > WIDTH {
            writeln!(out, "{line}")?;
            line = " ".repeat(12);
        }
        line.push(' ');
        line.push_str(path);
    }
    writeln!(out, "{line}")
}

fn write_settings(out: &mut String, plan: &Plan, group: &Group) -> fmt::Result {
    for setting in &group.settings {
        let Some(joined) = plan.cgroup.hierarchies.get(setting.hierarchy) else { continue };
        let place = if group.name.is_empty() { String::new() } else { format!("{}/", group.name) };
        let file = format!("{}:{place}{}", joined.view.name, setting.file);
        writeln!(out, "  write      {file} = {}  ({})", setting.value, setting.key)?;
    }
    if let Some(rules) = &group.devices {
        let rules: Vec<String> = rules.iter().map(ToString::to_string).collect();
        writeln!(out, "  devices    {}", rules.join(", "))?;
    }
    Ok(())
}

fn write_app(out: &mut String, plan: &Plan, number: usize, app: &AppPlan) -> fmt::Result {
    writeln!(out, "\napp {}", app.name)?;
    if !app.policy.after.is_empty() {
        let names = app.policy.after.iter().filter_map(|&i| {
            let until_ready = if app.policy.after_ready.contains(&i) { " (ready)" } else { "" };
            Some(format!("{}{until_ready}", plan.apps.get(i)?.name))
        });
        writeln!(out, "  after      {}", names.collect::<Vec<_>>().join(", "))?;
    }
    if app.policy.notify {
        writeln!(out, "  ready      when it says so (sd_notify)")?;
    }
    if let Some(group) = plan.cgroup.groups.get(number + 2) {
        write_settings(out, plan, group)?;
    }
    for socket in plan.sockets.iter().filter(|socket| socket.app == number) {
        match socket.is_passed {
            true => writeln!(out, "  socket     {}, passed by the service manager", socket.name)?,
            false => writeln!(out, "  socket     {} = {}", socket.name, socket.listen)?,
        }
    }
    for stored in plan.stored.iter().filter(|stored| stored.app == number) {
        writeln!(out, "  stored     {}, kept by the service manager", stored.own_name())?;
    }
    let root = plan.roots.get(app.root.index).map_or("", String::as_str);
    writeln!(out, "  mount      / = {root} ({})", mode_word(app.root.mode))?;
    writeln!(out, "  mount      /proc, /dev (tmpfs; pts, shm, mqueue), /sys (read-only)")?;
    for view in plan.cgroup.hierarchies.iter().map(|h| &h.view) {
        let target = if view.name.is_empty() { String::new() } else { format!("/{}", view.name) };
        writeln!(out, "  mount      /sys/fs/cgroup{target} ({}, read-only)", view.fstype)?;
    }
    app.devices.iter().try_for_each(|node| writeln!(out, "  node       {}", node.path))?;
    let identity = &app.identity;
    writeln!(out, "  user       {}:{} groups {:?}", identity.uid, identity.gid, identity.groups)?;
    write_list(out, "bounding", &capabilities(identity.bounding))?;
    write_list(out, "ambient", &capabilities(identity.ambient))?;
    writeln!(
        out,
        "  privileges {}",
        if identity.no_new_privileges { "no new ones" } else { "setuid works" }
    )?;
    writeln!(out, "  oom score  {}", app.oom_score_adj)?;
    for (number, soft, hard) in &app.rlimits {
        writeln!(out, "  rlimit     {} = {}:{}", rlimit::name(*number), bound(*soft), bound(*hard))?;
    }
    for (name, value) in &app.env {
        writeln!(out, "  env        {name}={value}")?;
    }
    writeln!(out, "  workdir    {}", app.workdir)?;
    writeln!(out, "  exec       {:?}", app.argv)?;
    let success: Vec<String> = app.policy.success.iter().map(success_word).collect();
    writeln!(out, "  success    {}", success.join(", "))?;
    match &app.output {
        Output::Printed => {}
        Output::Files { max_size_bytes, files_max } => {
            writeln!(out, "  output     {files_max} files of {max_size_bytes} bytes for each stream")?;
        }
        Output::Journal { cgroup, .. } => writeln!(out, "  output     journal, _SYSTEMD_CGROUP={cgroup}")?,
        Output::Nothing => writeln!(out, "  output     dropped")?,
    }
    let signal_name = signal::name(app.policy.stop_signal);
    match app.policy.stop_timeout_ms {
        Some(grace) => writeln!(out, "  stop       SIG{signal_name}, then kill after {}", time(grace)),
        None => writeln!(out, "  stop       SIG{signal_name}, and no kill"),
    }
}

fn write_end(out: &mut String, plan: &Plan) -> fmt::Result {
    let policy = match plan.exit_policy {
        ExitPolicy::Essential => "an essential app that fails, or the last one to succeed, ends it",
        ExitPolicy::AllExited => "the last app ends the pod",
        ExitPolicy::Never => "it ends when it is told to",
    };
    writeln!(out, "\nend")?;
    writeln!(out, "  policy     {policy}")?;
    match plan.stop_timeout_ms {
        Some(grace) => writeln!(out, "  stop       in reverse order, killed after {}", time(grace)),
        None => writeln!(out, "  stop       in reverse order, however long that takes"),
    }
}

fn capabilities(set: u64) -> Vec<String> {
    let known = (0..64).filter(|bit| set >> bit & 1 == 1);
    let names: Vec<String> = known.filter_map(capability::name).map(str::to_owned).collect();
    if names.is_empty() { vec!["none".to_owned()] } else { names }
}

fn bound(value: u64) -> String {
    if value == rlimit::UNLIMITED { "unlimited".to_owned() } else { value.to_string() }
}

fn mode_word(mode: RootMode) -> &'static str {
    match mode {
        RootMode::Overlay => "overlay, fresh for every start",
        RootMode::ReadOnly => "read-only",
        RootMode::Writable => "writable",
    }
}

fn success_word(success: &Success) -> String {
    match success {
        Success::Code(code) => code.to_string(),
        Success::Signal(number) => format!("SIG{}", signal::name(*number)),
    }
}

fn time(milliseconds: u64) -> String {
    duration::show(Grace::Limited(Duration::from_millis(milliseconds)))
}
