//! [`Service`]: a transient service in a pod's slice, which systemd executes the launcher of `run -d` in.
//!
//! Whoever asks for it does not wait for the end of the job: the launcher says itself how it is, and the job is looked at
//! only as long as it has not come so far. The slice is there because the service is in it, without limits, until the
//! launcher starts the pod's scope and gives it those.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::job::Wait;
use super::manager::{Manager, encoded, is_refusal};
use super::scope::{drop_optional, make_room};
use super::units::{DESCRIPTION, Property, UnitPlan, Value, launcher_name};

/// The launcher is killed for its memory when nothing else of the pod is left.
const LAST_VICTIM: i32 = -999;
/// How long a unit of this name that is about to go may take.
const GOING: Duration = Duration::from_secs(2);

/// What is to be executed.
#[derive(Debug)]
pub struct Command {
    /// The program, absolute.
    pub path: String,
    /// Its whole `argv`.
    pub argv: Vec<String>,
    /// `NAME=value`, visible for everybody.
    pub environment: Vec<String>,
    /// RLIMIT_NOFILE, soft and hard: the apps have the launcher's.
    pub nofile: (u64, u64),
}

/// A service that is being started.
#[derive(Debug)]
pub struct Service {
    unit: String,
    /// `None` when the connection was lost, as by a restart of the bus; the launcher may come all the same.
    manager: Option<Manager>,
    job: Wait,
}

/// Asks for the service of a pod's launcher.
///
/// # Errors
/// What was asked and what came back; a living unit of its name.
pub fn start(pod: &str, plan: &UnitPlan, command: &Command) -> anyhow::Result<Service> {
    let unit = launcher_name(pod);
    let mut manager = Manager::connect(None)?;
    await_end_of_slice(&mut manager, &plan.slice)?;
    let job = begin(&mut manager, &unit, properties(pod, plan, command))
        .with_context(|| format!("cannot create unit `{unit}`"))?;
    Ok(Service { unit, manager: Some(manager), job })
}

impl Service {
    /// For a poll: readable when [`Service::failure`] may have something.
    #[must_use]
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.manager.as_ref().map(Manager::socket)
    }

    /// Why it will not come to anything, as far as is known.
    pub fn failure(&mut self) -> Option<anyhow::Error> {
        let Ok(failure) = self.manager.as_mut()?.failure(&self.unit, &mut self.job) else {
            self.manager = None;
            return None;
        };
        failure.map(|failure| failure.context(format!("cannot start unit `{}`", self.unit)))
    }

    /// Gives it up. Best effort: it is another failure that is told.
    pub fn stop(mut self) {
        let manager = self.manager.take().map_or_else(|| Manager::connect(Some(Instant::now() + GOING)), Ok);
        let _ = manager.and_then(|mut manager| manager.stop(&self.unit));
    }

    /// Its name.
    #[must_use]
    pub fn unit(&self) -> &str {
        &self.unit
    }
}

/// That of the pod before this one, whose limits it has, goes a moment after its launcher. A slice that stays is told of by
/// our own launcher, which finds it there.
fn await_end_of_slice(manager: &mut Manager, slice: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + GOING;
    while let Some(state) = manager.unit_state(slice)? {
        let is_of_a_pod = state.description.starts_with(DESCRIPTION) && state.active != "inactive";
        if !is_of_a_pod || Instant::now() >= deadline {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn begin(manager: &mut Manager, unit: &str, mut properties: Vec<Property>) -> anyhow::Result<Wait> {
    let deadline = Instant::now() + GOING;
    loop {
        let begun = manager.begin(&(unit, encoded(&properties)));
        let Err(error) = begun else { return begun };
        if is_refusal(&error, "org.freedesktop.systemd1.UnitExists") {
            make_room(manager, [unit], deadline)?;
        } else if !drop_optional(&error, &mut properties) {
            return Err(error);
        }
    }
}

fn properties(pod: &str, plan: &UnitPlan, command: &Command) -> Vec<Property> {
    let text = |text: &str| Value::Text(text.to_owned());
    let (path, argv) = (command.path.clone(), command.argv.iter().map(|word| literal(word)).collect());
    vec![
        Property::new("Description", Value::Text(format!("podrun launcher of pod {pod}"))),
        Property::new("Slice", text(&plan.slice)),
        // Active when every app was started; that may take as long as it likes.
        Property::new("Type", text("notify")),
        Property::new("TimeoutStartUSec", Value::Number(u64::MAX)),
        Property::new("ExecStart", Value::Command { path, argv }),
        Property::new("Environment", Value::Texts(command.environment.clone())),
        Property::new("KillMode", text("mixed")),
        Property::new("TimeoutStopUSec", Value::Number(plan.stop_timeout_us)),
        Property::new("TasksMax", Value::Number(u64::MAX)),
        // It is below the pod's limits too, and a pod whose launcher is gone ends; each app has a score of its own.
        Property::new("OOMScoreAdjust", Value::Score(LAST_VICTIM)),
        Property::new("LimitNOFILESoft", Value::Number(command.nofile.0)),
        Property::new("LimitNOFILE", Value::Number(command.nofile.1)),
        Property::new("CollectMode", text("inactive-or-failed")),
    ]
}

/// `$` begins a variable in a command line, however it has come to systemd (systemd.service(5), "COMMAND LINES").
fn literal(word: &str) -> String {
    word.replace('$', "$$")
}
