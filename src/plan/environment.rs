//! The whole environment of an app, made from nothing: nothing of the launcher's leaks in.

use podrun_abi::notice::NOTIFY_SOCKET;

use super::Refusal;
use super::identity::Who;
use crate::host::Host;
use crate::manifest::rules;
use crate::spec::AppSpec;

/// The usual six directories.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What an app's environment says of where it is.
pub struct Around<'a> {
    /// The pod's name.
    pub pod: &'a str,
    /// The pod's UUID.
    pub uuid: &'a str,
    /// How often the service manager wants to hear of podrun, in microseconds.
    pub watchdog_us: Option<u64>,
}

/// PATH, what the app's passwd file says of its user, podrun's own four, then the env files in order, then
/// the manifest's `env`. A later value replaces an earlier one in its place. Behind all of them where the app finds its own
/// socket, when it says by itself that it is ready: with another one it would never be.
///
/// # Errors
/// An env file that cannot be read or parsed.
pub fn resolve(
    app: &AppSpec,
    around: &Around<'_>,
    who: &Who,
    host: &Host,
) -> Result<Vec<(String, String)>, Vec<Refusal>> {
    let mut env = Vec::new();
    set(&mut env, "PATH", PATH);
    match &who.user {
        Some(user) => {
            set(&mut env, "HOME", if user.home.is_empty() { "/" } else { &user.home });
            set(&mut env, "USER", &user.name);
            set(&mut env, "LOGNAME", &user.name);
            set(&mut env, "SHELL", if user.shell.is_empty() { "/bin/sh" } else { &user.shell });
        }
        None => set(&mut env, "HOME", "/"),
    }
    set(&mut env, "container", "podrun");
    set(&mut env, "container_uuid", around.uuid);
    set(&mut env, "PODRUN_POD", around.pod);
    set(&mut env, "PODRUN_APP", &app.name);
    let mut refusals = Vec::new();
    for (index, file) in app.env_files.iter().enumerate() {
        match host.env_file(file) {
            Ok(pairs) => pairs.iter().for_each(|(name, value)| set(&mut env, name, value)),
            Err(reason) => refusals.push(Refusal::new(
                &rules::HOST_ENV_FILE,
                format!("app.{}.env-file[{index}]", app.name),
                reason,
            )),
        }
    }
    app.env.iter().for_each(|(name, value)| set(&mut env, name, value));
    if app.ready_notify {
        set(&mut env, "NOTIFY_SOCKET", NOTIFY_SOCKET);
        // sd_watchdog_enabled(3): without WATCHDOG_PID it is meant for every process that has it.
        let watchdog = around.watchdog_us.map(|interval| interval.to_string());
        watchdog.iter().for_each(|interval| set(&mut env, "WATCHDOG_USEC", interval));
    }
    if refusals.is_empty() { Ok(env) } else { Err(refusals) }
}

fn set(env: &mut Vec<(String, String)>, name: &str, value: &str) {
    match env.iter_mut().find(|(n, _)| n == name) {
        Some((_, old)) => value.clone_into(old),
        None => env.push((name.to_owned(), value.to_owned())),
    }
}
