//! [`check`]: whether this host has what keys that do not work yet ask of it, for `podrun check --host`.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::check::Finding;
use super::{open_nonblocking, profile, read_bounded, read_regular};
use crate::manifest::asks::{Ask, Thing};
use crate::manifest::rules;

/// Who asks, and what this user and this process were given.
#[derive(Debug, Clone)]
pub struct Asker {
    /// The user's name and id; `None`: root, who needs nobody's leave (user_namespaces(7), CAP_SETUID).
    pub user: Option<[String; 2]>,
    /// The text of subuid(5).
    pub subuid: String,
    /// `$CREDENTIALS_DIRECTORY` (systemd.exec(5)); `None`: podrun does not run in a service that has any.
    pub credentials: Option<PathBuf>,
}

impl Asker {
    /// The user and the process that podrun is.
    #[must_use]
    pub fn look() -> Self {
        let user = nix::unistd::geteuid();
        let name = nix::unistd::User::from_uid(user).ok().flatten().map(|user| user.name);
        let subuid = read_bounded(Path::new("/etc/subuid")).unwrap_or_default();
        Self {
            user: (!user.is_root()).then(|| [name.unwrap_or_default(), user.to_string()]),
            subuid: String::from_utf8_lossy(&subuid).into_owned(),
            credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
        }
    }
}

/// What this host does not have of what one key asks.
#[must_use]
pub fn check(ask: &Ask, asker: &Asker) -> Option<Finding> {
    let finding = |rule, message: String, hint: Option<String>| {
        Some(Finding { rule, path: ask.path.clone(), message, hint })
    };
    match &ask.what {
        Thing::Secret(path) => match secret(path) {
            Err(reason) => finding(&rules::HOST_SECRET, reason, None),
            Ok(mode) if mode & 0o007 != 0 => {
                let message = format!("{} is readable by others (mode {mode:04o})", path.display());
                let hint = format!("chmod {:04o} {}", mode & 0o770, path.display());
                finding(&rules::SECRET_OPEN, message, Some(hint))
            }
            Ok(_) => None,
        },
        // Whoever checks a manifest in a shell has none; the service that will run it may.
        Thing::Credential(name) => {
            let directory = asker.credentials.as_ref()?;
            let message = format!("credential `{name}` is not in {}", directory.display());
            let hint = format!("add LoadCredential={name} to the unit of this service");
            let found = directory.join(name).is_file();
            if found { None } else { finding(&rules::HOST_SECRET, message, Some(hint)) }
        }
        Thing::Profile(path) => {
            let read = open_nonblocking(path).map_err(|error| failed("read", path, &error));
            let read =
                read.and_then(|file| read_regular(file).map_err(|why| format!("{} {why}", path.display())));
            let fault = read.and_then(|text| {
                profile::check(&text).map_err(|fault| format!("{}: {fault}", path.display()))
            });
            finding(&rules::HOST_SECCOMP, fault.err()?, None)
        }
        Thing::UserMap(map) => {
            let fault = subuid(map, &asker.subuid, asker.user.as_ref()?)?;
            finding(&rules::HOST_SUBUID, fault, None)
        }
    }
}

fn failed(verb: &str, path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("{} does not exist", path.display()),
        _ => format!("cannot {verb} `{}`: {error}", path.display()),
    }
}

/// The mode of a file.
fn secret(path: &Path) -> Result<u32, String> {
    let found = fs::metadata(path).map_err(|error| failed("look at", path, &error))?;
    if found.is_file() {
        return Ok(found.mode() & 0o7777);
    }
    Err(format!("{} is not a regular file", path.display()))
}

/// What is wrong with a map, by the lines `user:first:count` of subuid(5) that are for one of these names.
fn subuid(map: &str, text: &str, names: &[String]) -> Option<String> {
    let numbers = |line: &str| -> Option<(u64, u64)> {
        let mut fields = line.split(':').skip(1).map(|field| field.trim().parse().ok());
        Some((fields.next()??, fields.next()??))
    };
    let (outside, count) = numbers(map)?;
    let is_ours =
        |line: &&str| line.split(':').next().is_some_and(|name| names.iter().any(|own| own == name));
    let given: Vec<(u64, u64)> = text.lines().filter(is_ours).filter_map(numbers).collect();
    let most = given.iter().map(|(_, count)| *count).max().unwrap_or(0);
    if count > most {
        return Some(format!("mapping {map} needs {count} ids, /etc/subuid gives {most}"));
    }
    let holds = |(first, length): &(u64, u64)| *first <= outside && outside + count <= first + length;
    if given.iter().any(holds) {
        return None;
    }
    let ranges: Vec<_> =
        given.iter().map(|(first, length)| format!("{first} to {}", first + length - 1)).collect();
    Some(format!("mapping {map} is not within what /etc/subuid gives ({})", ranges.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_of_users_is_within_what_is_given() {
        let text = "root:1:1\nweb:100000:65536\n1000:300000:10\n";
        let names = ["web".to_owned(), "1000".to_owned()];
        let table = [
            ("0:100000:65536", None),
            ("0:300000:10", None),
            ("0:1000:70000", Some("mapping 0:1000:70000 needs 70000 ids, /etc/subuid gives 65536")),
            (
                "0:1000:10",
                Some(
                    "mapping 0:1000:10 is not within what /etc/subuid gives (100000 to 165535, 300000 to 300009)",
                ),
            ),
        ];
        for (map, expected) in table {
            assert_eq!(subuid(map, text, &names).as_deref(), expected, "{map}");
        }
        let nobody = subuid("0:1000:1", text, &["nobody".to_owned()]);
        assert_eq!(nobody.as_deref(), Some("mapping 0:1000:1 needs 1 ids, /etc/subuid gives 0"));
    }
}
