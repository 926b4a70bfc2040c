//! Takes the descriptors of the pod's and the apps' cgroups from the launcher's socket, where they come attached to
//! packets.
//!
//! It waits for all of them, for as long as the launcher lives. Invariant: nothing was started before all are there.

use std::cell::RefCell;
use std::os::fd::OwnedFd;

use podrun_abi::PACKET_BYTES_MAX;
use podrun_abi::failure::StartFailure;
use podrun_abi::handover::{Handover, Owner};

use crate::attached::Attached;
use crate::failure::refused;
use crate::group::Group;
use crate::sys::descriptors::{self, Inherited};
use crate::sys::socket::{self, Received};
use crate::watch::Watch;

/// The descriptors of the pod and of its apps.
pub struct Handles {
    /// Those of the pod.
    pub links: Links,
    /// One for each app, in the order of `Boot::apps`.
    pub apps: Vec<AppHandles>,
}

/// The descriptors of the pod.
pub struct Links {
    /// Commands in, records out.
    pub launcher: Inherited,
    /// The control socket's listening end.
    pub control: Inherited,
    /// `events.jsonl`.
    pub events: Inherited,
    /// What tells of its limits.
    pub watch: Watch,
}

/// The descriptors of one app.
pub struct AppHandles {
    /// Its cgroup.
    pub group: Group,
    /// What that tells of its limits and its use.
    pub watch: Watch,
    /// Its descriptors 1 and 2, unless it makes them itself.
    pub stdio: Option<(Inherited, Inherited)>,
    /// Its descriptors from 3 on.
    pub sockets: Vec<Inherited>,
    /// Those behind them, until the app has them.
    pub stored: RefCell<Vec<OwnedFd>>,
}

/// Waits for the memfd with the boot record and for the descriptors of the pod.
pub fn receive_pod(launcher: Inherited) -> Result<(OwnedFd, Links), StartFailure> {
    let (Owner::Pod { boot, control, events, watched }, attached) = next(launcher)? else {
        return Err(refused("an app's descriptors before the pod's"));
    };
    let watch = Watch::new(watched, &attached)?;
    let (control, events) = (attached.at(control)?, attached.at(events)?);
    let boot = descriptors::own(attached.at(boot)?);
    Ok((boot, Links { launcher, control, events, watch }))
}

/// Waits for the descriptors of so many apps.
pub fn receive_apps(launcher: Inherited, count: usize) -> Result<Vec<AppHandles>, StartFailure> {
    (0..count).map(|_| receive_app(launcher)).collect()
}

fn receive_app(launcher: Inherited) -> Result<AppHandles, StartFailure> {
    let (Owner::App { cgroup, stdio, sockets, stored }, attached) = next(launcher)? else {
        return Err(refused("the pod's descriptors twice"));
    };
    let stdio =
        stdio.map(|stdio| Ok((attached.at(stdio.stdout)?, attached.at(stdio.stderr)?))).transpose()?;
    let sockets = sockets.into_iter().map(|place| attached.at(place)).collect::<Result<_, _>>()?;
    let stored: Result<_, StartFailure> =
        stored.into_iter().map(|place| Ok(descriptors::own(attached.at(place)?))).collect();
    let (group, watch) = (Group::new(&cgroup, &attached)?, Watch::new(cgroup.watched, &attached)?);
    Ok(AppHandles { group, watch, stdio, sockets, stored: RefCell::new(stored?) })
}

fn next(launcher: Inherited) -> Result<(Owner, Attached), StartFailure> {
    let mut buffer = [0; PACKET_BYTES_MAX];
    let (received, attached) = socket::receive_attached(&launcher, &mut buffer);
    let packet = match received {
        Received::Packet(length) => buffer.get(..length).unwrap_or_default(),
        Received::TooLong => return Err(refused("a packet that is too long")),
        Received::Closed | Received::Nothing => return Err(refused("the launcher is gone")),
    };
    let Handover { version, of } =
        serde_json::from_slice(packet).map_err(|error| refused(&error.to_string()))?;
    if version != podrun_abi::VERSION {
        return Err(refused(&format!("version {version}, not {}", podrun_abi::VERSION)));
    }
    Ok((of, Attached::new(attached)))
}
