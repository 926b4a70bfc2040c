//! The whole environment of an app, made from nothing: nothing of the launcher's leaks in.

use super::Refusal;
use super::identity::Who;
use crate::host::Host;
use crate::manifest::rules;
use crate::spec::AppSpec;

/// The usual six directories.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// PATH, what the app's passwd file says of its user, podrun's own four, then the env files in order, then
/// the manifest's `env`. A later value replaces an earlier one in its place.
///
/// # Errors
/// An env file that cannot be read or parsed.
pub fn resolve(
    app: &AppSpec,
    (pod, uuid): (&str, &str),
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
    set(&mut env, "container_uuid", uuid);
    set(&mut env, "PODRUN_POD", pod);
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
    if refusals.is_empty() { Ok(env) } else { Err(refusals) }
}

fn set(env: &mut Vec<(String, String)>, name: &str, value: &str) {
    match env.iter_mut().find(|(n, _)| n == name) {
        Some((_, old)) => value.clone_into(old),
        None => env.push((name.to_owned(), value.to_owned())),
    }
}
