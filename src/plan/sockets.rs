//! Which sockets an app gets, and whether the service manager passes them or the launcher opens them.
//!
//! Either all are passed or none is: a manifest and a unit that disagree would leave a port that nobody serves. Which
//! one is whose is told by names, never by order.

use serde::{Deserialize, Serialize};

use super::{AppPlan, Refusal};
use crate::manifest::{any_key, rules};
use crate::spec::{Listen, SocketSpec, Spec};

/// One socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketPlan {
    /// Its name in `LISTEN_FDNAMES`.
    pub name: String,
    /// Index into [`super::Plan::apps`] of the one that gets it.
    pub app: usize,
    /// Whether the service manager passes it. What follows is for those that the launcher opens.
    pub is_passed: bool,
    /// Where it listens.
    pub listen: Listen,
    /// Mode of a path.
    pub mode: u32,
    /// User and group of a path.
    pub owner: Option<(u32, u32)>,
    /// How many connections may wait.
    pub backlog: i32,
}

/// A descriptor that an app has given to the service manager to keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPlan {
    /// As the service manager calls it: the app's name, a dot, and what the app calls it.
    pub name: String,
    /// Index into [`super::Plan::apps`] of the one that gets it back.
    pub app: usize,
}

impl StoredPlan {
    /// What the app calls it.
    #[must_use]
    pub fn own_name(&self) -> &str {
        self.name.split_once('.').map_or(self.name.as_str(), |(_, own)| own)
    }
}

/// Those of `passed` that apps have had kept, and the others, which are sockets. A socket of the manifest has its name first.
pub(super) fn stored(spec: &Spec, apps: &[AppPlan], passed: &[String]) -> (Vec<StoredPlan>, Vec<String>) {
    let (mut kept, mut sockets) = (Vec::new(), Vec::new());
    for name in passed {
        let is_socket = spec.sockets.iter().any(|socket| socket.name == *name);
        let owner = name.split_once('.').filter(|_| !is_socket).map(|(owner, _)| owner);
        match apps.iter().position(|app| app.policy.notify && Some(app.name.as_str()) == owner) {
            Some(app) => kept.push(StoredPlan { name: name.clone(), app }),
            None => sockets.push(name.clone()),
        }
    }
    (kept, sockets)
}

/// Each with its app. Those that are passed come in the manager's order, which the app may know; one name may stand for
/// several, as with the addresses of one `.socket` unit.
///
/// # Errors
/// One is passed that no app claims, or is claimed and not passed.
pub(super) fn resolve(
    spec: &Spec,
    apps: &[AppPlan],
    passed: &[String],
) -> Result<Vec<SocketPlan>, Vec<Refusal>> {
    if passed.is_empty() {
        return Ok(spec.sockets.iter().filter_map(|socket| planned(socket, apps, false)).collect());
    }
    let claim = |name: &String| spec.sockets.iter().find(|socket| socket.name == *name);
    let unclaimed = passed.iter().filter(|name| claim(name).is_none()).map(|name| unclaimed(name));
    let missing = spec.sockets.iter().filter(|socket| !passed.contains(&socket.name)).map(missing);
    let refusals: Vec<Refusal> = unclaimed.chain(missing).collect();
    if !refusals.is_empty() {
        return Err(refusals);
    }
    Ok(passed.iter().filter_map(claim).filter_map(|socket| planned(socket, apps, true)).collect())
}

/// The reader has found that the app is in the manifest; one that this host refuses is told elsewhere.
fn planned(socket: &SocketSpec, apps: &[AppPlan], is_passed: bool) -> Option<SocketPlan> {
    let SocketSpec { name, listen, app, mode, owner, backlog } = socket.clone();
    let app = apps.iter().position(|known| known.name == app)?;
    Some(SocketPlan { name, app, is_passed, listen, mode, owner, backlog })
}

fn unclaimed(name: &str) -> Refusal {
    let message = format!("socket `{name}` was passed by the service manager, and no app claims it");
    // systemd calls it by the whole name of its unit when nobody says otherwise.
    let hint = match name.ends_with(".socket") {
        false if name.contains('.') => format!(
            "add [socket.{}] to the manifest; if an app of an earlier manifest has had it kept (FDSTORE), stop the \
             service, which forgets it",
            any_key(name)
        ),
        true => "name it with FileDescriptorName= in its .socket unit, and add [socket.NAME] to the manifest"
            .to_owned(),
        false => format!(
            "add [socket.{}] to the manifest, or name it otherwise with FileDescriptorName=",
            any_key(name)
        ),
    };
    Refusal::new(&rules::PASSED_SOCKET, "socket", message).hint(hint)
}

fn missing(socket: &SocketSpec) -> Refusal {
    let SocketSpec { name, .. } = socket;
    let message = format!("socket `{name}` was not passed by the service manager, which passes others");
    let hint = format!("add FileDescriptorName={name} to the .socket unit that has it");
    Refusal::new(&rules::PASSED_SOCKET, format!("socket.{}", any_key(name)), message).hint(hint)
}
