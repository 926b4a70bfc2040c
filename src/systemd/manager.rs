//! [`Manager`]: the calls to systemd that podrun makes, each with a deadline and an error that says what was asked.
//!
//! It knows nothing of pods. Starting a unit is the one thing that takes care: the match is there before the call,
//! only the own job's end counts, and a signal that is lost is made up for by looking at the unit.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use zbus::{OwnedObjectPath, OwnedVariant, Variant};

use super::connection::{Connection, Refused, bus};
use super::job::{Outcome, Wait};
use super::units::Property;
use super::wire::{Incoming, Target};

/// How long systemd may take for one answer, and for one job: a manager that is busy with a reload or a boot answers
/// late, and one second was too little for others (runc#2614).
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How long a message may wait for room that nobody waits to be answered; the socket takes it at once.
const POST: Duration = Duration::from_millis(100);

const NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// The state of a unit that is being stopped.
const STOPPING: &str = "deactivating";
/// The match for ends of jobs.
const JOBS: &str = "type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1',\
interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";

/// A connection to systemd.
#[derive(Debug)]
pub struct Manager {
    connection: Connection,
    /// How long one answer and one job may take.
    patience: Duration,
    /// No call waits beyond it.
    until: Option<Instant>,
    /// The watched scope was being stopped when the watch began.
    stopping: bool,
}

/// How a unit is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnitState {
    /// `active`, `reloading`, `inactive`, `failed`, `activating`, `deactivating`.
    pub(super) active: String,
    pub(super) description: String,
}

/// What systemd has told us unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Somebody stops the scope, and its controller is to do it (org.freedesktop.systemd1(5), `RequestStop`).
    RequestStop,
    /// The connection is gone; whoever stops the scope now sends SIGTERM to all of it.
    Gone,
}

/// One unit and its properties.
pub(super) type Unit<'a> = (&'a str, Vec<(&'a str, Variant<'a>)>);

impl Manager {
    /// Connects; `None`: there is no systemd. No call waits beyond `until`, and none beyond [`DEADLINE`].
    ///
    /// # Errors
    /// What was tried and what came of it.
    pub fn find(until: Option<Instant>) -> anyhow::Result<Option<Self>> {
        let connection = Connection::open(earlier(DEADLINE, until))?;
        Ok(connection.map(|connection| Self { connection, patience: DEADLINE, until, stopping: false }))
    }

    /// Connects.
    ///
    /// # Errors
    /// As [`Manager::find`], and when there is none.
    pub fn connect(until: Option<Instant>) -> anyhow::Result<Self> {
        Self::find(until)?
            .context("cannot find systemd: nobody listens on the system bus or on systemd's own socket")
    }

    /// Whether it tells us something unasked: systemd's own socket has no names that it could tell it to.
    pub(super) fn tells(&self) -> bool {
        self.connection.is_bus()
    }

    /// Our name on the bus, for `Controller=`.
    pub(super) fn unique_name(&self) -> Option<&str> {
        self.connection.unique_name.as_deref()
    }

    /// systemd's version in its own words, and the group that is the root of its tree.
    pub(super) fn version_and_root(&mut self) -> anyhow::Result<(String, String)> {
        let version = self.get(PATH, MANAGER, "Version")?;
        let root = self.get(PATH, MANAGER, "ControlGroup")?;
        Ok((version, root))
    }

    /// The names of the properties that scopes have: what this systemd knows. `init.scope` is always there.
    pub(super) fn scope_properties(&mut self) -> anyhow::Result<BTreeSet<String>> {
        let target = properties("/org/freedesktop/systemd1/unit/init_2escope", "GetAll");
        let answer = self.call(target, &"org.freedesktop.systemd1.Scope")?;
        Ok(answer.body::<BTreeMap<String, OwnedVariant>>()?.into_keys().collect())
    }

    /// `None`: no such unit is loaded.
    pub(super) fn unit_state(&mut self, unit: &str) -> anyhow::Result<Option<UnitState>> {
        let path: OwnedObjectPath = match self.call(manager("GetUnit"), &unit) {
            Ok(answer) => answer.body()?,
            Err(error) if is_refusal(&error, "org.freedesktop.systemd1.NoSuchUnit") => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot look up unit `{unit}`")),
        };
        let mut get = |name: &str| self.get(path.as_str(), "org.freedesktop.systemd1.Unit", name);
        // It may go between two calls.
        match get("ActiveState").and_then(|active| Ok(UnitState { active, description: get("Description")? }))
        {
            Err(error) if is_refusal(&error, "org.freedesktop.DBus.Error.UnknownObject") => Ok(None),
            state => state.map(Some).with_context(|| format!("cannot look at unit `{unit}`")),
        }
    }

    /// A property of a scope: `ControlGroup` is its group as `/proc/PID/cgroup` shows it, `Result` is `success` or
    /// why it failed.
    pub(super) fn scope_property(&mut self, scope: &str, name: &str) -> anyhow::Result<String> {
        self.unit_property(scope, "org.freedesktop.systemd1.Scope", name)
    }

    fn unit_property(&mut self, unit: &str, interface: &str, name: &str) -> anyhow::Result<String> {
        let path: OwnedObjectPath = self.call(manager("GetUnit"), &unit)?.body()?;
        self.get(path.as_str(), interface, name)
    }

    /// Starts a transient unit, with others that come into being beside it, and waits for the end of its job.
    /// `settled` is asked when the job's end was not told in time: whether the unit does what it should.
    ///
    /// # Errors
    /// [`Refused`] in the chain when systemd answered with an error; the job's result; that the time is over.
    pub(super) fn start(
        &mut self,
        unit: &Unit<'_>,
        others: &[Unit<'_>],
        settled: &dyn Fn() -> bool,
    ) -> anyhow::Result<()> {
        if self.connection.is_bus() {
            self.call(bus("AddMatch"), &JOBS)?;
        }
        let started = self.start_and_wait(unit, others, settled);
        if self.connection.is_bus() && started.is_ok() {
            // Every job on the machine would wake us.
            self.call(bus("RemoveMatch"), &JOBS)?;
        }
        started
    }

    /// Asks for a transient unit, and lets [`Manager::failure`] say what becomes of it.
    ///
    /// # Errors
    /// [`Refused`] in the chain when systemd answered with an error.
    pub(super) fn begin(&mut self, (unit, properties): &Unit<'_>) -> anyhow::Result<Wait> {
        if self.connection.is_bus() {
            self.call(bus("AddMatch"), &JOBS)?;
        }
        let others: [Unit<'_>; 0] = [];
        let answer = self.call(manager("StartTransientUnit"), &(unit, "fail", properties, &others[..]))?;
        let job: OwnedObjectPath = answer.body()?;
        let mut wait = Wait::default();
        // An end that has been told already is among the signals that are kept.
        wait.started(job.to_string());
        Ok(wait)
    }

    /// Why the job of [`Manager::begin`] has failed, as far as has been told, without waiting.
    ///
    /// # Errors
    /// The connection is gone: nothing will be told any more.
    pub(super) fn failure(&mut self, unit: &str, wait: &mut Wait) -> anyhow::Result<Option<anyhow::Error>> {
        loop {
            let signal = match self.connection.signal(Instant::now()) {
                Err(error) if timed_out(&error) => return Ok(None),
                signal => signal?,
            };
            if signal.interface == MANAGER && signal.member == "JobRemoved" {
                let (_, path, _, result): (u32, OwnedObjectPath, String, String) = signal.body()?;
                if let Some(Outcome::Failed(result)) = wait.removed(path.as_str(), &result) {
                    return Ok(Some(self.failed(unit, &result)));
                }
            }
        }
    }

    fn start_and_wait(
        &mut self,
        (unit, properties): &Unit<'_>,
        others: &[Unit<'_>],
        settled: &dyn Fn() -> bool,
    ) -> anyhow::Result<()> {
        let answer = self.call(manager("StartTransientUnit"), &(unit, "fail", properties, others))?;
        let job: OwnedObjectPath = answer.body()?;
        let mut wait = Wait::default();
        let mut outcome = wait.started(job.to_string());
        let deadline = earlier(self.patience, self.until);
        while outcome.is_none() {
            let signal = match self.connection.signal(deadline) {
                Err(error) if timed_out(&error) => return self.look_instead(unit, settled),
                signal => signal.context("its job has begun, and then")?,
            };
            if signal.interface == MANAGER && signal.member == "JobRemoved" {
                let (_, path, _, result): (u32, OwnedObjectPath, String, String) = signal.body()?;
                outcome = wait.removed(path.as_str(), &result);
            }
        }
        match outcome {
            Some(Outcome::Failed(result)) => Err(self.failed(unit, &result)),
            _ => Ok(()),
        }
    }

    /// A signal can be lost: by a bus that was restarted, or by systemd's own re-execution.
    fn look_instead(&mut self, unit: &str, settled: &dyn Fn() -> bool) -> anyhow::Result<()> {
        let time = self.patience;
        match self.unit_state(unit)? {
            Some(state) if state.active == "active" && settled() => Ok(()),
            Some(state) => bail!("its job has not ended within {time:?}, the unit is `{}`", state.active),
            None => bail!("its job has not ended within {time:?}, and the unit is not there"),
        }
    }

    fn failed(&mut self, unit: &str, result: &str) -> anyhow::Error {
        let kind = if unit.ends_with(".service") { "Service" } else { "Scope" };
        let why = self.unit_property(unit, &format!("org.freedesktop.systemd1.{kind}"), "Result");
        let why = why.ok().filter(|why| !why.is_empty() && why != "success");
        let why = why.map_or_else(String::new, |why| format!(" (the unit's result is `{why}`)"));
        anyhow!("its job ended `{result}`, expected `done`{why}")
    }

    /// From here on [`Manager::told`] says when the scope is being stopped, whoever its controller is.
    pub(super) fn watch(&mut self, scope: &str) -> anyhow::Result<()> {
        let path: OwnedObjectPath = self.call(manager("GetUnit"), &scope)?.body()?;
        let rule = format!(
            "type='signal',sender='{NAME}',path='{path}',interface='{PROPERTIES}',member='PropertiesChanged'"
        );
        self.call(bus("AddMatch"), &rule)?;
        match self.call(manager("Subscribe"), &()) {
            // systemd keeps the names of its listeners over a restart of the bus, which then gives out the same ones.
            Err(error) if is_refusal(&error, "org.freedesktop.systemd1.AlreadySubscribed") => {}
            other => drop(other?),
        }
        // Before that nobody would have said so.
        self.stopping = self.unit_state(scope)?.is_none_or(|state| state.active == STOPPING);
        Ok(())
    }

    /// Sets properties of a unit until it goes, and waits until systemd has written what follows from them: it does so
    /// before it reads the next message.
    ///
    /// # Errors
    /// [`Refused`] in the chain when systemd answered with an error.
    pub(super) fn set_properties(
        &mut self,
        unit: &str,
        properties: &[(&str, Variant<'_>)],
    ) -> anyhow::Result<()> {
        self.call(manager("SetUnitProperties"), &(unit, true, properties))?;
        self.version_and_root().map(drop)
    }

    /// Asks for a stop and does not wait for it. A unit that is not there is fine.
    pub(super) fn stop(&mut self, unit: &str) -> anyhow::Result<()> {
        self.lenient("StopUnit", &(unit, "replace"), unit)
    }

    /// Forgets that a unit has failed. A unit that is not there is fine.
    pub(super) fn reset_failed(&mut self, unit: &str) -> anyhow::Result<()> {
        self.lenient("ResetFailedUnit", &unit, unit)
    }

    fn lenient<B: serde::Serialize + zbus::DynamicType>(
        &mut self,
        method: &str,
        body: &B,
        unit: &str,
    ) -> anyhow::Result<()> {
        match self.call(manager(method), body) {
            Err(error) if is_refusal(&error, "org.freedesktop.systemd1.NoSuchUnit") => Ok(()),
            other => other.map(drop).with_context(|| format!("cannot call {method} for unit `{unit}`")),
        }
    }

    fn get(&mut self, path: &str, interface: &str, name: &str) -> anyhow::Result<String> {
        let value: OwnedVariant = self.call(properties(path, "Get"), &(interface, name))?.body()?;
        Ok(text(&value))
    }

    fn call<B: serde::Serialize + zbus::DynamicType>(
        &mut self,
        target: Target<'_>,
        body: &B,
    ) -> anyhow::Result<Incoming> {
        self.connection.call(target, body, earlier(self.patience, self.until))
    }

    /// Tells systemd-machined of a container, whose unit is the one that its leader is in, without waiting: what it says
    /// to that changes nothing.
    ///
    /// # Errors
    /// What happened to the connection.
    pub(super) fn register_machine(&mut self, name: &str, uuid: &[u8], leader: i32) -> anyhow::Result<()> {
        let target = Target {
            destination: "org.freedesktop.machine1",
            path: "/org/freedesktop/machine1",
            interface: "org.freedesktop.machine1.Manager",
            method: "RegisterMachine",
        };
        // No root directory: an app has one, a pod has not.
        let body = (name, uuid, "podrun", "container", leader.cast_unsigned(), "");
        self.connection.post(target, &body, Instant::now() + POST)
    }

    /// For a poll: readable when [`Manager::told`] may have something.
    #[must_use]
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.connection.socket()
    }

    /// What has come unasked, without waiting.
    pub fn told(&mut self) -> Option<Told> {
        if std::mem::take(&mut self.stopping) {
            return Some(Told::RequestStop);
        }
        loop {
            match self.connection.signal(Instant::now()) {
                Ok(signal) if signal.member == "RequestStop" || says_stopping(&signal) => {
                    return Some(Told::RequestStop);
                }
                Ok(_) => {}
                Err(error) if timed_out(&error) => return None,
                Err(_) => return Some(Told::Gone),
            }
        }
    }
}

fn earlier(patience: Duration, until: Option<Instant>) -> Instant {
    let usual = Instant::now() + patience;
    until.map_or(usual, |until| until.min(usual))
}

fn manager(method: &str) -> Target<'_> {
    Target { destination: NAME, path: PATH, interface: MANAGER, method }
}

fn properties<'a>(path: &'a str, method: &'a str) -> Target<'a> {
    Target { destination: NAME, path, interface: PROPERTIES, method }
}

/// Whether the state of a watched unit has changed to that.
fn says_stopping(signal: &Incoming) -> bool {
    let body = signal.body::<(String, BTreeMap<String, OwnedVariant>, Vec<String>)>();
    signal.member == "PropertiesChanged"
        && body.is_ok_and(|(_, changed, _)| {
            changed.get("ActiveState").is_some_and(|state| text(state) == STOPPING)
        })
}

fn text(value: &OwnedVariant) -> String {
    if let Variant::Str(text) = &**value { text.to_string() } else { String::new() }
}

/// The properties of a unit as they are sent.
pub(super) fn encoded(properties: &[Property]) -> Vec<(&str, Variant<'_>)> {
    properties.iter().map(|property| (property.name.as_str(), property.value.encoded())).collect()
}

/// Whether systemd answered with this error.
pub(super) fn is_refusal(error: &anyhow::Error, name: &str) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.name == name)
}

fn timed_out(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
}

#[cfg(test)]
#[path = "manager_tests.rs"]
mod tests;
