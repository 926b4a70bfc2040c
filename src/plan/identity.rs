//! Names of users and groups become numbers, by the app's own files only.

use podrun_abi::boot::Identity;

use super::Refusal;
use crate::host::RootFacts;
use crate::manifest::rules;
use crate::passwd::{Accounts, User};
use crate::spec::{AppSpec, Capabilities, IdOrName};
use crate::value::capability;

/// Numbers, and the passwd line they come from when there is one.
pub struct Who {
    /// What stage1 sets.
    pub identity: Identity,
    /// For HOME, USER, LOGNAME and SHELL.
    pub user: Option<User>,
}

/// # Errors
/// Each name that is not in the app's files.
pub fn resolve(app: &AppSpec, facts: &RootFacts) -> Result<Who, Vec<Refusal>> {
    let none = Accounts::default();
    let needs_files = [Some(&app.user), app.group.as_ref()].into_iter().flatten().chain(&app.groups);
    let accounts = match &facts.accounts {
        Ok(accounts) => accounts,
        Err(reason) if needs_files.clone().any(|id| matches!(id, IdOrName::Name(_))) => {
            return Err(vec![Refusal::new(
                &rules::HOST_ACCOUNT,
                format!("app.{}.user", app.name),
                format!("cannot look up names in `{}`: {reason}", app.rootfs.display()),
            )]);
        }
        Err(_) => &none,
    };
    let mut refusals = Vec::new();
    let user = match &app.user {
        IdOrName::Id(uid) => accounts.user_by_id(*uid).cloned().ok_or(*uid),
        IdOrName::Name(name) => accounts.user_by_name(name).cloned().ok_or_else(|| {
            refusals.push(unknown(app, "user", name, "etc/passwd"));
            0
        }),
    };
    let mut group = |key: &str, wanted: &IdOrName| match wanted {
        IdOrName::Id(gid) => *gid,
        IdOrName::Name(name) => accounts.group_by_name(name).map(|g| g.gid).unwrap_or_else(|| {
            refusals.push(unknown(app, key, name, "etc/group"));
            0
        }),
    };
    let gid = match &app.group {
        Some(wanted) => group("group", wanted),
        None => user.as_ref().map_or(0, |u| u.gid),
    };
    let groups = app.groups.iter().map(|wanted| group("groups", wanted)).collect();
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let uid = user.as_ref().map_or_else(|uid| *uid, |u| u.uid);
    let (bounding, ambient) = capability_sets(app.capabilities, uid);
    let no_new_privileges = app.no_new_privileges;
    Ok(Who { identity: Identity { uid, gid, groups, bounding, ambient, no_new_privileges }, user: user.ok() })
}

/// The bounding and the ambient set. Ambient is the only way for a user other than 0 to keep a capability over
/// execve(2), so it is given where the author has listed capabilities, and only there.
fn capability_sets(wanted: Capabilities, uid: u32) -> (u64, u64) {
    match wanted {
        Capabilities::Default => (capability::DEFAULT, 0),
        Capabilities::Exactly(set) if uid == 0 => (set, 0),
        Capabilities::Exactly(set) => (set, set),
    }
}

fn unknown(app: &AppSpec, key: &str, name: &str, file: &str) -> Refusal {
    let shown = app.rootfs.join(file);
    let what = if key == "user" { "user" } else { "group" };
    Refusal::new(
        &rules::HOST_ACCOUNT,
        format!("app.{}.{key}", app.name),
        format!("{what} `{name}` is not in {}", shown.display()),
    )
    .hint(format!(
        "add it there, or write the number: {key} = {}",
        if key == "groups" { "[1000]" } else { "1000" }
    ))
}
