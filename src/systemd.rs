//! The systemd driver: a pod's limits on a slice of its own, its processes in a delegated scope inside.
//!
//! systemd makes, holds and removes the groups of slice and scope; what is below the scope is ours and made by
//! [`crate::cgroup::cgroupfs`] as everywhere. [`units`] decides (pure), [`manager`] asks, [`scope`] brings a pod's
//! units into being and proves that they are what the plan says, [`dirs`] does what systemd leaves out on v1.
//! Nothing of that runs unless the plan names units: a start without systemd opens no connection. [`service`] is about a
//! pod in a `.service`, for which nobody is asked, and [`notify`] says there how the pod is;
//! [`unit_file`] writes such a unit (pure). [`transient`] has the launcher of `run -d` executed in a service.

pub mod change;
mod connection;
mod dirs;
mod job;
pub mod manager;
pub mod notify;
pub mod scope;
pub mod service;
pub mod transient;
pub mod unit_file;
pub mod units;
mod wire;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context;

pub use manager::{Manager, Told};
pub use scope::PodUnits;
pub use service::{ServiceFacts, ServicePlan};
pub use units::{ManagerFacts, UnitPlan};

/// Whether systemd is this machine's init (sd_booted(3)).
#[must_use]
pub fn is_booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// What this host's systemd knows; `None`: there is none.
///
/// # Errors
/// It is there and does not answer.
pub fn probe() -> anyhow::Result<Option<ManagerFacts>> {
    let Some(mut manager) = Manager::find(None)? else { return Ok(None) };
    let (version, root) = manager.version_and_root().context("cannot read systemd's version")?;
    let properties: BTreeSet<String> =
        manager.scope_properties().context("cannot read the properties of `init.scope`")?;
    // systemd names its own scope where it is not at the root of the hierarchy.
    let root = root.trim_matches('/').to_owned();
    Ok(Some(ManagerFacts { version, root, properties }))
}
