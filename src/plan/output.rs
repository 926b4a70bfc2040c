//! Who keeps the output of each app.
//!
//! [`keeper`] is the one place that decides it: from the manifest's word, from how podrun was started, and from what
//! the host has.

use podrun_abi::boot::Output as Streams;
use serde::{Deserialize, Serialize};

use super::{AppPlan, Plan, Refusal};
use crate::cgroup::plan::{CgroupPlan, Version};
use crate::host::Host;
use crate::manifest::rules;
use crate::spec::{AppSpec, LogDriver};

/// Where the host's journal has its sockets.
pub const JOURNAL: &str = "/run/systemd/journal";

/// How podrun was started, as far as output depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Started {
    /// By somebody who reads what it prints.
    #[default]
    Foreground,
    /// With `-d`.
    Detached,
    /// As the main process of a systemd unit.
    Service,
}

/// Who keeps an app's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    /// Nobody: podrun prints it.
    Printed,
    /// Files in the pod's directory.
    Files,
    /// The host's journal.
    Journal,
    /// Nobody.
    Nobody,
}

/// Where the output of an app goes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "snake_case")]
pub enum Output {
    /// To podrun's own standard output and error.
    #[default]
    Printed,
    /// To files in the pod's directory.
    Files {
        /// A file that is longer is put aside; `u64::MAX`: none is.
        max_size_bytes: u64,
        /// How many there are of each stream.
        files_max: u64,
    },
    /// To the journal, which knows the entries of the app by its group, or by this unit when a process has ended before
    /// the journal could look for its group.
    Journal {
        /// The `_SYSTEMD_UNIT` of such entries.
        unit: String,
        /// `_SYSTEMD_CGROUP`.
        cgroup: String,
    },
    /// To the null device.
    Nothing,
}

/// Decides who keeps the output of an app. `has_journal`: journald is there; `is_systemds`: the pod is in systemd's
/// tree by systemd's doing, so that the journal is where its people look.
///
/// # Errors
/// What the manifest asks for and is not there.
pub fn keeper(
    wanted: LogDriver,
    started: Started,
    (has_journal, is_systemds): (bool, bool),
) -> Result<Keeper, &'static str> {
    match (wanted, started) {
        (LogDriver::Auto | LogDriver::Inherit, Started::Foreground) => Ok(Keeper::Printed),
        (LogDriver::Auto, Started::Service) if has_journal => Ok(Keeper::Journal),
        (LogDriver::Auto, Started::Detached) if has_journal && is_systemds => Ok(Keeper::Journal),
        (LogDriver::Auto | LogDriver::File, _) => Ok(Keeper::Files),
        (LogDriver::Journald, _) if has_journal => Ok(Keeper::Journal),
        (LogDriver::Journald, _) => {
            Err("systemd-journald does not run here: there is no `/run/systemd/journal/stdout`")
        }
        (LogDriver::Inherit, Started::Detached) => Err("a pod in the background has no output to inherit"),
        (LogDriver::Inherit, Started::Service) => Ok(Keeper::Printed),
        (LogDriver::None, _) => Ok(Keeper::Nobody),
    }
}

/// Fills in where the output of this app goes.
pub(super) fn assign(
    app: &mut AppPlan,
    spec: &AppSpec,
    (host, started): (&Host, Started),
    (cgroup, unit): (&CgroupPlan, &str),
) -> Result<(), Refusal> {
    let started = if host.service.is_some() { Started::Service } else { started };
    let refused = |reason: &str| {
        let path = format!("app.{}.log.driver", spec.name);
        let message = format!("output of app `{}` cannot be kept as asked: {reason}", spec.name);
        Refusal::new(&rules::HOST_LOG, path, message).hint("leave log.driver out, or use \"file\"")
    };
    let keeper =
        keeper(spec.log.driver, started, (host.has_journal, host.manager.is_some())).map_err(refused)?;
    app.output = match keeper {
        Keeper::Printed => Output::Printed,
        Keeper::Files => {
            Output::Files { max_size_bytes: spec.log.max_size_bytes, files_max: spec.log.files_max }
        }
        Keeper::Nobody => Output::Nothing,
        Keeper::Journal => {
            let cgroup = seen_by_journald(cgroup, host, &spec.name).ok_or_else(|| {
                refused("the pod's groups are not in the hierarchy by which systemd knows units")
            })?;
            Output::Journal { unit: unit.to_owned(), cgroup }
        }
    };
    Ok(())
}

/// The app's group as journald writes it: in the hierarchy by which systemd knows units, from the root of its tree.
fn seen_by_journald(cgroup: &CgroupPlan, host: &Host, app: &str) -> Option<String> {
    let is_named =
        |joined: &&crate::cgroup::plan::Joined| joined.controllers.iter().any(|c| c == "name=systemd");
    let v2 = cgroup.hierarchies.iter().find(|joined| joined.version == Version::V2);
    let joined = v2.or_else(|| cgroup.hierarchies.iter().find(is_named))?;
    let group = format!("app-{app}");
    let parts = [joined.mount_root.as_str(), &joined.parent, &cgroup.pod_group, &group];
    let path =
        parts.into_iter().filter(|part| !part.is_empty()).fold(String::new(), |all, part| all + "/" + part);
    let root = host.manager.as_ref().map_or("", |manager| manager.root.as_str());
    let below =
        path.strip_prefix('/').and_then(|path| path.strip_prefix(root)).filter(|rest| rest.starts_with('/'));
    Some(below.map_or(path.clone(), str::to_owned))
}

impl Plan {
    /// The directory of the journal's sockets, when an app needs it.
    #[must_use]
    pub fn journal(&self) -> Option<String> {
        let needed = self.apps.iter().any(|app| matches!(app.output, Output::Journal { .. }));
        needed.then(|| JOURNAL.to_owned())
    }
}

impl Output {
    /// Whether the launcher moves it.
    #[must_use]
    pub fn is_piped(&self) -> bool {
        matches!(self, Self::Printed | Self::Files { .. })
    }

    /// What stage1 is told of it.
    #[must_use]
    pub fn streams(&self, app: &str) -> Streams {
        match self {
            Self::Printed | Self::Files { .. } => Streams::Given,
            Self::Nothing => Streams::Nothing,
            Self::Journal { unit, .. } => Streams::Journal {
                stdout: header(app, unit, FACILITY_STDOUT),
                stderr: header(app, unit, FACILITY_STDERR),
            },
        }
    }
}

/// The SYSLOG_FACILITY of standard output: `daemon`, that of systemd's own services. The journal keeps no other mark by
/// which the two streams of an app could be told apart and which the app could not change.
pub const FACILITY_STDOUT: u32 = 3;
/// That of standard error: `user`.
pub const FACILITY_STDERR: u32 = 1;

/// What a connection to journald begins with (systemd's `connect_logger_as`): identifier, unit, priority with facility,
/// whether a line may begin with `<N>` for a priority of its own (sd-daemon(3)), and whether it goes to syslog, kmsg and
/// console as well.
fn header(app: &str, unit: &str, facility: u32) -> String {
    const INFO: u32 = 6;
    format!("{app}\n{unit}\n{}\n1\n0\n0\n0\n", facility << 3 | INFO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeper_is_the_manifests_word_or_what_fits_the_start() {
        use {Keeper::*, LogDriver as Word, Started::*};
        let table = [
            (Word::Auto, Foreground, (true, true), Some(Printed)),
            (Word::Auto, Detached, (true, true), Some(Journal)),
            // Somebody goes without systemd.
            (Word::Auto, Detached, (true, false), Some(Files)),
            (Word::Auto, Detached, (false, true), Some(Files)),
            (Word::Auto, Service, (true, false), Some(Journal)),
            (Word::Auto, Service, (false, false), Some(Files)),
            (Word::Journald, Foreground, (true, false), Some(Journal)),
            (Word::Journald, Detached, (false, true), None),
            (Word::File, Foreground, (true, true), Some(Files)),
            (Word::Inherit, Foreground, (true, true), Some(Printed)),
            (Word::Inherit, Service, (true, true), Some(Printed)),
            (Word::Inherit, Detached, (true, true), None),
            (Word::None, Service, (true, true), Some(Nobody)),
        ];
        for (word, started, host, expected) in table {
            assert_eq!(keeper(word, started, host).ok(), expected, "{word:?} {started:?} {host:?}");
        }
    }

    #[test]
    fn header_of_a_stream_is_what_journald_reads() {
        assert_eq!(header("api", "podrun-1.scope", FACILITY_STDOUT), "api\npodrun-1.scope\n30\n1\n0\n0\n0\n");
        assert_eq!(header("api", "x.service", FACILITY_STDERR), "api\nx.service\n14\n1\n0\n0\n0\n");
    }
}
