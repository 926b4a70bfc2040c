//! [`PodUnits`]: the slice and the scope of a pod while they live.
//!
//! The order, and what each step is for:
//!
//! 1. a placeholder process, as a scope needs one; stage1 is to be born in its group and not to be moved there;
//! 2. one call makes both units: the scope starts the slice that it is in, and the slice stops by itself when nothing
//!    needs it any more (`StopWhenUnneeded=`), whoever dies meanwhile;
//! 3. the placeholder is found where the unit says, that is where the plan says, and every limit is read back from
//!    the kernel: an answer of systemd's means that it has understood;
//! 4. hierarchies that systemd does not manage get the same path;
//! 5. the placeholder leaves the scope's own group for a leaf, or no controller could be enabled there.
//!
//! Then the groups below are made and stage1 is started as with the other driver, and the placeholder goes.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};

use super::dirs;
use super::manager::{Manager, Told, UnitState, encoded, is_refusal};
use super::units::{DESCRIPTION, Property, UnitPlan, Value};
use crate::cgroup::hierarchy::membership;
use crate::cgroup::plan::{CgroupPlan, Joined, Setting, Version};
use crate::cgroup::{cpuset, devices};
use crate::error::Note;
use crate::sys::placeholder::{self, Placeholder};

/// The leaf in which the placeholder waits for stage1.
const LEAF: &str = "placeholder";
/// How long units of this name that are about to go may take.
const GOING: Duration = Duration::from_secs(2);
/// How long a bus that was restarted may take until it is there again. Nothing else is done meanwhile.
const RETURN: Duration = Duration::from_secs(5);
/// How long the undo of a failed start may take; systemd may be what failed.
const UNDO: Duration = Duration::from_secs(5);

/// The units of a living pod.
#[derive(Debug)]
pub struct PodUnits {
    plan: UnitPlan,
    cgroup: CgroupPlan,
    /// `None` when the connection was lost, and on systemd's own socket, which tells nothing unasked.
    manager: Option<Manager>,
    placeholder: Option<Placeholder>,
}

/// Makes the units of a pod and proves that they are what the plan says.
///
/// # Errors
/// What was asked and what came back. Nothing is left then, or the error says what.
pub fn create(plan: &UnitPlan, cgroup: &CgroupPlan) -> anyhow::Result<PodUnits> {
    let manager = Manager::connect(None)?;
    let placeholder = Some(placeholder::spawn()?);
    let mut units =
        PodUnits { plan: plan.clone(), cgroup: cgroup.clone(), manager: Some(manager), placeholder };
    match units.build() {
        Ok(()) => Ok(units),
        Err(error) => {
            // It may be what failed.
            units.manager = None;
            match units.close(Instant::now() + UNDO) {
                Ok(()) => Err(error),
                Err(left) => Err(error.context(format!("cannot undo ({left:#}) after"))),
            }
        }
    }
}

impl PodUnits {
    fn build(&mut self) -> anyhow::Result<()> {
        let (Some(manager), Some(placeholder)) = (&mut self.manager, &self.placeholder) else {
            return Ok(());
        };
        let pid = placeholder.pid();
        start(manager, &self.plan, &self.cgroup, pid)
            .with_context(|| format!("cannot create unit `{}`", self.plan.scope))?;
        verify_place(manager, &self.plan, &self.cgroup, pid)?;
        for setting in &self.plan.shown {
            verify_shown(&self.plan, &self.cgroup, setting)?;
        }
        verify_filter(&self.plan, &self.cgroup)?;
        for joined in self.cgroup.hierarchies.iter().filter(|joined| joined.version == Version::V1) {
            if place(joined, pid)? != shown_path(joined) {
                dirs::create(joined, &joined.parent)?;
            }
        }
        if !manager.tells() {
            self.manager = None;
        }
        self.enter_leaf(pid)
    }

    fn leaf(&self) -> Option<PathBuf> {
        let v2 = self.cgroup.hierarchies.iter().find(|joined| joined.version == Version::V2)?;
        Some(v2.mount_point.join(&v2.parent).join(LEAF))
    }

    fn enter_leaf(&self, pid: i32) -> anyhow::Result<()> {
        let Some(leaf) = self.leaf() else { return Ok(()) };
        fs::create_dir(&leaf)
            .and_then(|()| fs::write(leaf.join("cgroup.procs"), pid.to_string()))
            .with_context(|| format!("cannot move the placeholder into group `{}`", leaf.display()))
    }

    /// stage1 is in the scope: the placeholder goes.
    pub fn release(&mut self) {
        self.placeholder = None;
        if let Some(leaf) = self.leaf() {
            // Its process is reaped, so that it is empty; else it goes with the scope.
            let _ = fs::remove_dir(leaf);
        }
    }

    /// Tells systemd-machined of the pod, so that `machinectl` knows it. Best effort: it is a convenience, and there may
    /// be none. It forgets the pod by itself when the scope is gone.
    pub fn register_machine(&mut self, name: &str, uuid: &str, stage1: i32) {
        let digits: String = uuid.chars().filter(char::is_ascii_hexdigit).collect();
        let Ok(number) = u128::from_str_radix(&digits, 16) else { return };
        let posted = self
            .manager
            .as_mut()
            .map(|manager| manager.register_machine(name, &number.to_be_bytes(), stage1));
        // Half a message would make nonsense of the next one.
        if matches!(posted, Some(Err(_))) {
            self.manager = None;
        }
    }

    /// For a poll: readable when [`PodUnits::told`] may have something.
    #[must_use]
    pub fn socket(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.manager.as_ref().map(Manager::socket)
    }

    /// What systemd has told us unasked. After [`Told::Gone`] there is no socket any more, until
    /// [`PodUnits::reconnect`] has made one.
    pub fn told(&mut self) -> Option<Told> {
        let told = self.manager.as_mut()?.told();
        if told == Some(Told::Gone) {
            self.manager = None;
        }
        told
    }

    /// After a restart of the bus: systemd still sends the request to stop to the name that we had there, if it has not
    /// forgotten it and sends SIGTERM to everything. So the scope itself is watched from then on.
    ///
    /// # Errors
    /// The bus or systemd is not there again in time.
    pub fn reconnect(&mut self) -> anyhow::Result<()> {
        let mut manager = Manager::connect(Some(Instant::now() + RETURN))?;
        if manager.tells() {
            manager.watch(&self.plan.scope).context("cannot watch the pod's scope")?;
            self.manager = Some(manager);
        }
        Ok(())
    }

    /// Stops both units and waits until they are gone, in every hierarchy. Nothing runs in the scope any more.
    ///
    /// # Errors
    /// What is left.
    pub fn close(&mut self, deadline: Instant) -> anyhow::Result<()> {
        self.placeholder = None;
        // One that was idle for as long as the pod lived may lead nowhere by now.
        let (manager, plan, cgroup) = (self.manager.take(), &self.plan, &self.cgroup);
        let closed = manager.map(|mut manager| stop(&mut manager, plan, cgroup, deadline));
        match closed {
            Some(Ok(())) => Ok(()),
            _ => stop(&mut Manager::connect(Some(deadline))?, plan, cgroup, deadline),
        }
    }
}

/// Undoes the units of a dead pod from its record alone. A slice of the same name that a later pod has is left alone.
///
/// # Errors
/// What is left.
pub fn remove_recorded(plan: &UnitPlan, cgroup: &CgroupPlan, deadline: Instant) -> anyhow::Result<()> {
    plan.check()?;
    if !dirs::any_left(cgroup, &plan.slice_group) {
        return Ok(());
    }
    stop(&mut Manager::connect(Some(deadline))?, plan, cgroup, deadline)
}

fn start(manager: &mut Manager, plan: &UnitPlan, cgroup: &CgroupPlan, pid: i32) -> anyhow::Result<()> {
    let mut scope = scope_properties(manager, plan, pid);
    let mut slice = slice_properties(plan);
    let deadline = Instant::now() + GOING;
    // A slice that is there only because something is in it counts as new to systemd, and would get our limits. That is
    // right where it is this launcher that is in it.
    let slice_now = manager.unit_state(&plan.slice)?;
    let is_of_a_pod = |state: &UnitState| state.description.starts_with(DESCRIPTION);
    if slice_now.is_some_and(|state| is_of_a_pod(&state) || !is_within(plan, cgroup)) {
        make_room(manager, [plan.scope.as_str(), &plan.slice], deadline)?;
    }
    let settled = || is_placed(cgroup, pid).unwrap_or(false);
    loop {
        let others = [(plan.slice.as_str(), encoded(&slice))];
        let started = manager.start(&(&plan.scope, encoded(&scope)), &others, &settled);
        let Err(error) = started else { return Ok(()) };
        if is_refusal(&error, "org.freedesktop.systemd1.UnitExists") {
            make_room(manager, [plan.scope.as_str(), &plan.slice], deadline)?;
        } else if !(drop_optional(&error, &mut scope) || drop_optional(&error, &mut slice)) {
            return Err(error);
        }
    }
}

fn scope_properties(manager: &Manager, plan: &UnitPlan, pid: i32) -> Vec<Property> {
    let text = |text: &str| Value::Text(text.to_owned());
    let mut properties = vec![
        Property::new("Description", text(&plan.description)),
        Property::new("Slice", text(&plan.slice)),
        Property::new("PIDs", Value::Numbers(vec![pid.cast_unsigned()])),
        Property::new("Delegate", Value::Flag(true)),
        // Not set it would be DefaultTasksMax, 15 % of what the machine can have.
        Property::new("TasksMax", Value::Number(u64::MAX)),
        Property::new("TimeoutStopUSec", Value::Number(plan.stop_timeout_us)),
        // Of one app the OOM killer's victim is; the pod decides what follows.
        Property::new("OOMPolicy", text("continue")),
        // A scope that has failed is forgotten by itself.
        Property::new("CollectMode", text("inactive-or-failed")),
    ];
    properties.extend(manager.unique_name().map(|name| Property::new("Controller", text(name))));
    properties
}

fn slice_properties(plan: &UnitPlan) -> Vec<Property> {
    let mut properties = vec![
        Property::new("Description", Value::Text(plan.description.clone())),
        Property::new("StopWhenUnneeded", Value::Flag(true)),
    ];
    properties.extend(plan.properties.iter().cloned());
    properties
}

/// What an old systemd may do without; the pod's limits are never among it.
const OPTIONAL: [&str; 4] = ["OOMPolicy", "CollectMode", "StopWhenUnneeded", "Controller"];

/// Drops the property that systemd does not know or does not set, by the name in its answer. `true`: try again.
pub(super) fn drop_optional(error: &anyhow::Error, properties: &mut Vec<Property>) -> bool {
    const REFUSALS: [&str; 2] =
        ["org.freedesktop.DBus.Error.PropertyReadOnly", "org.freedesktop.DBus.Error.UnknownProperty"];
    if !REFUSALS.iter().any(|name| is_refusal(error, name)) {
        return false;
    }
    let text = format!("{error:#}");
    let named = |name: &str| text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == name);
    let before = properties.len();
    properties.retain(|property| !(OPTIONAL.contains(&property.name.as_str()) && named(&property.name)));
    properties.len() < before
}

/// A unit of our name is there already. One that has failed or is going makes room; a living one is somebody's.
pub(super) fn make_room<'a>(
    manager: &mut Manager,
    units: impl IntoIterator<Item = &'a str>,
    deadline: Instant,
) -> anyhow::Result<()> {
    for unit in units {
        let Some(state) = manager.unit_state(unit)? else { continue };
        match state.active.as_str() {
            "failed" | "inactive" => manager.reset_failed(unit)?,
            "deactivating" => {}
            other => {
                return Err(anyhow!("unit `{unit}` exists already and is `{other}` ({})", state.description))
                    .hint(format!("if no pod uses it: systemctl stop '{unit}'"));
            }
        }
    }
    ensure!(Instant::now() < deadline, "units of its name are there already and do not go");
    std::thread::sleep(Duration::from_millis(5));
    Ok(())
}

/// The group as the unit and `/proc/PID/cgroup` name it.
fn shown_path(joined: &Joined) -> String {
    let parts = [joined.mount_root.as_str(), joined.parent.as_str()];
    parts.into_iter().filter(|part| !part.is_empty()).fold(String::new(), |all, part| all + "/" + part)
}

fn place(joined: &Joined, pid: i32) -> anyhow::Result<String> {
    let path = format!("/proc/{pid}/cgroup");
    let text = fs::read(&path).with_context(|| format!("cannot read `{path}`"))?;
    Ok(membership(&text, joined.version, &joined.controllers).unwrap_or("nowhere").to_owned())
}

/// The hierarchy by which systemd tells what belongs to a unit.
fn tracking(cgroup: &CgroupPlan) -> anyhow::Result<&Joined> {
    let is_named = |joined: &&Joined| joined.controllers.iter().any(|c| c == "name=systemd");
    let v2 = cgroup.hierarchies.iter().find(|joined| joined.version == Version::V2);
    v2.or_else(|| cgroup.hierarchies.iter().find(is_named))
        .context("the plan joins no hierarchy of systemd's")
}

/// Whether this process is in the pod's slice itself, as the service that `run -d` has made.
fn is_within(plan: &UnitPlan, cgroup: &CgroupPlan) -> bool {
    let own = tracking(cgroup).and_then(|joined| place(joined, std::process::id().cast_signed()));
    let slice = format!("/{}/", plan.slice);
    own.is_ok_and(|own| own.contains(&slice))
}

fn is_placed(cgroup: &CgroupPlan, pid: i32) -> anyhow::Result<bool> {
    let joined = tracking(cgroup)?;
    Ok(place(joined, pid)? == shown_path(joined))
}

/// systemd says where the scope's group is, and the kernel where the process in it is: both must be the plan's place.
fn verify_place(manager: &mut Manager, plan: &UnitPlan, cgroup: &CgroupPlan, pid: i32) -> anyhow::Result<()> {
    let scope = &plan.scope;
    let group = manager
        .scope_property(scope, "ControlGroup")
        .with_context(|| format!("cannot look where systemd has put unit `{scope}`"))?;
    let joined = tracking(cgroup)?;
    let expected = shown_path(joined);
    if group != expected {
        bail!("systemd has put unit `{scope}` into group `{group}`, expected `{expected}`");
    }
    let found = place(joined, pid)?;
    if found != expected {
        bail!(
            "systemd says that unit `{scope}` has started, and its process is in `{found}`, expected `{expected}`"
        );
    }
    Ok(())
}

fn verify_shown(plan: &UnitPlan, cgroup: &CgroupPlan, setting: &Setting) -> anyhow::Result<()> {
    let joined =
        cgroup.hierarchies.get(setting.hierarchy).context("the plan names a hierarchy it does not join")?;
    let group = joined.mount_point.join(&plan.slice_group);
    let path = group.join(&setting.file);
    let text = fs::read_to_string(&path)
        .with_context(|| format!("cannot read back {} of the pod from `{}`", setting.key, path.display()))?;
    if !setting.shows.agrees(&text, &setting.reads_back) {
        bail!(
            "cannot set {} of the pod: systemd took the value for unit `{}`, and `{}` shows `{}`, expected `{}`",
            setting.key,
            plan.slice,
            path.display(),
            text.trim_end(),
            setting.reads_back
        );
    }
    // The slice is made in what systemd has for it by now, which may be less than what was seen.
    cpuset::prove(joined, &group, setting)
        .with_context(|| format!("cannot set {} of the pod for unit `{}`", setting.key, plan.slice))
}

/// systemd says nothing of a program that the kernel did not take.
fn verify_filter(plan: &UnitPlan, cgroup: &CgroupPlan) -> anyhow::Result<()> {
    let v2 = cgroup.hierarchies.iter().find(|joined| joined.version == Version::V2);
    let Some(joined) = v2.filter(|_| plan.filters_devices()) else { return Ok(()) };
    let path = joined.mount_point.join(&plan.slice_group);
    let dir = fs::File::open(&path).with_context(|| format!("cannot open `{}`", path.display()))?;
    let (unit, path) = (&plan.slice, path.display());
    ensure!(
        !devices::attached(dir.as_fd())?.is_empty(),
        "cannot set devices of the pod: systemd took the list for unit `{unit}`, and `{path}` shows no filter"
    );
    Ok(())
}

fn stop(
    manager: &mut Manager,
    plan: &UnitPlan,
    cgroup: &CgroupPlan,
    deadline: Instant,
) -> anyhow::Result<()> {
    let mut pause = Duration::from_millis(1);
    // It goes with our own service then, as nothing else needs it.
    let keeps_slice = is_within(plan, cgroup);
    loop {
        let mut left = None;
        for unit in [&plan.scope, &plan.slice].into_iter().take(if keeps_slice { 1 } else { 2 }) {
            let Some(state) = manager.unit_state(unit)? else { continue };
            // By its name it may be a later pod's.
            if state.description != plan.description {
                continue;
            }
            match state.active.as_str() {
                "failed" | "inactive" => manager.reset_failed(unit)?,
                "deactivating" => {}
                _ => manager.stop(unit)?,
            }
            left.get_or_insert((unit, state.active));
        }
        let Some((unit, state)) = left else { return dirs::remove(cgroup, &plan.slice_group) };
        ensure!(Instant::now() < deadline, "cannot stop unit `{unit}`: it is still `{state}`");
        std::thread::sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
