//! A small `org.freedesktop.systemd1` on a bus of its own: for what a real systemd does not do on demand.
//!
//! [`Fake`] starts a dbus-daemon with its own configuration and socket in the test's folder, owns systemd's name on it
//! and answers the calls that podrun makes. [`Rule`]s say which call fails, and how: a job that never ends, a result,
//! an error, a reply that comes too late, silence, a bus that dies. It makes no group and moves no process, so that it
//! is at the same time a manager that says `done` and has done nothing.
//!
//! Nothing outlives a [`Fake`]: its daemon ends with it, and with the thread that started it.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod bus;
mod manager;
mod silent;
mod units;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bus::Bus;
use manager::Manager;
pub use silent::Silent;
pub use units::{Call, Unit, object_path};

/// The manager's well-known name.
pub const NAME: &str = "org.freedesktop.systemd1";
/// Its object.
pub const PATH: &str = "/org/freedesktop/systemd1";

/// What a real manager of version 252 lists for a scope, as far as podrun sets it.
pub const PROPERTIES: [&str; 19] = [
    "AllowedCPUs",
    "AllowedMemoryNodes",
    "CPUAccounting",
    "CPUQuotaPerSecUSec",
    "CPUQuotaPeriodUSec",
    "CPUWeight",
    "CollectMode",
    "Controller",
    "Delegate",
    "KillMode",
    "MemoryAccounting",
    "MemoryHigh",
    "MemoryLow",
    "MemoryMax",
    "MemoryMin",
    "MemorySwapMax",
    "OOMPolicy",
    "TasksMax",
    "TimeoutStopUSec",
];

/// How one call goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The job is there and no signal ever says that it has ended; the unit stays `activating`.
    NeverEnds,
    /// The job ends and its signal is lost; the unit is what it should be.
    SignalLost,
    /// Before ours, another job of the same moment ends: `failed`.
    OtherJobFirst,
    /// The job ends with this result, which is not `done`.
    Ends(&'static str),
    /// The signal that the job has ended comes before the reply that names the job.
    ReplyAfterSignal,
    /// No reply, no signal.
    NoReply,
    /// A D-Bus error: its name and its text.
    Refuses(&'static str, &'static str),
    /// The same, only when this property is given.
    RefusesProperty(&'static str, &'static str),
    /// The bus is killed in the middle of the call.
    BusDies,
}

/// Which call fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The method, such as `StartTransientUnit`.
    pub method: &'static str,
    /// How the unit's name ends, such as `.scope`; empty: any.
    pub unit: &'static str,
    /// How it fails.
    pub fault: Fault,
}

impl Rule {
    /// Starting a transient unit whose name ends like this.
    #[must_use]
    pub fn start(unit: &'static str, fault: Fault) -> Self {
        Self { method: "StartTransientUnit", unit, fault }
    }
}

/// The running fake.
pub struct Fake {
    bus: Bus,
    manager: Arc<Mutex<Manager>>,
    thread: Option<JoinHandle<()>>,
    connection: zbus::Connection,
}

impl Fake {
    /// Starts it, with everything it makes in `dir`, which is the caller's and there already.
    ///
    /// # Panics
    /// When there is no `dbus-daemon`, or it does not come up.
    #[must_use]
    pub fn start(dir: &Path, rules: &[Rule]) -> Self {
        Self::with_properties(dir, rules, &PROPERTIES)
    }

    /// The same, of a manager that knows only these properties of scopes.
    ///
    /// # Panics
    /// As [`Fake::start`].
    #[must_use]
    pub fn with_properties(dir: &Path, rules: &[Rule], properties: &[&'static str]) -> Self {
        let bus = Bus::start(dir);
        let manager = Arc::new(Mutex::new(Manager::new(rules, properties, bus.pid())));
        let (sender, receiver) = std::sync::mpsc::channel();
        let (address, shared) = (bus.address(), Arc::clone(&manager));
        let thread = std::thread::spawn(move || {
            zbus::block_on(manager::serve(&address, &shared, |connection| sender.send(connection).unwrap()));
        });
        let connection = receiver.recv().expect("the fake owns its name");
        Self { bus, manager, thread: Some(thread), connection }
    }

    /// For `DBUS_SYSTEM_BUS_ADDRESS`.
    #[must_use]
    pub fn address(&self) -> String {
        self.bus.address()
    }

    /// A unit that is there already, in this state: `active`, `failed`, `inactive`.
    pub fn add_unit(&self, name: &str, active_state: &str) {
        self.lock().add(name, active_state);
    }

    /// The units that are loaded.
    #[must_use]
    pub fn units(&self) -> Vec<Unit> {
        self.lock().units()
    }

    /// Every call so far, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// Tells the controller of a scope to stop it, as `systemctl stop` does.
    ///
    /// # Panics
    /// When the unit has no controller, or the bus is gone.
    pub fn request_stop(&self, scope: &str) {
        let controller = self.lock().controller(scope).expect("the scope has a controller");
        let (interface, path) = ("org.freedesktop.systemd1.Scope", object_path(scope));
        zbus::block_on(self.connection.emit_signal(Some(controller), path, interface, "RequestStop", &()))
            .expect("the bus takes a signal");
    }

    /// Kills the bus.
    pub fn kill_bus(&self) {
        self.bus.kill();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Manager> {
        self.manager.lock().expect("the fake did not panic")
    }
}

impl Drop for Fake {
    /// Without its bus the thread's stream ends.
    fn drop(&mut self) {
        self.bus.kill();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || !matches!(ended, Some(Err(_))), "the fake panicked");
    }
}
