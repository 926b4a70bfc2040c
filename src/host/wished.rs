//! The controllers of v1 that a pod has without a limit of theirs: [`WISHED`], for what `stats` counts, and cpu, of which
//! `update` could not set the first limit otherwise. Only where that costs nothing but time.
//!
//! Two things are worse than that. Without a unit that needs a controller systemd tidies up its hierarchy from the root on, and
//! removes what is empty: there a pod's groups are safe only below a unit's own. And where the kernel shares out realtime by
//! groups (CONFIG_RT_GROUP_SCHED) a new one of `cpu` has none: whoever runs so cannot join it, and who is in it cannot begin
//! (sched-rt-group.rst).

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{AccessFlags, access};

use super::read_bounded;
use crate::cgroup::hierarchy::{Hierarchies, Hierarchy};
use crate::cgroup::limits::{WISHED, name_on_v1};
use crate::spec::{AppSpec, Capabilities, Spec};
use crate::systemd;

/// Controllers by their names on v1.
#[derive(Debug, Default)]
pub(super) struct Wished {
    /// Where the launcher is.
    pub joined: Vec<String>,
    /// Where systemd makes a scope for the pod, and leaves what is below it alone.
    pub delegated: Vec<String>,
}

pub(super) fn look(hierarchies: &Hierarchies, spec: &Spec) -> Wished {
    let tracking = hierarchies.v2.as_ref().or_else(|| hierarchies.v1_with("name=systemd"));
    let tracking = tracking.and_then(|hierarchy| hierarchy.own.as_deref());
    let is_tidied = systemd::is_booted();
    let is_safe = |hierarchy: &Hierarchy| !is_tidied || is_a_units_own(hierarchy.own.as_deref(), tracking);
    let is_writable = |hierarchy: &Hierarchy| {
        hierarchy.own_dir().is_some_and(|dir| access(&dir, AccessFlags::W_OK).is_ok())
    };
    let mut wished = Wished::default();
    for controller in ["cpu"].into_iter().chain(WISHED.into_iter().map(name_on_v1)) {
        let Some(hierarchy) = hierarchies.v1_with(controller) else { continue };
        if controller == "cpu" && realtime_is_shared_out(hierarchy) && spec_runs_in_realtime(spec) {
            continue;
        }
        wished.delegated.push(controller.to_owned());
        if is_safe(hierarchy) && is_writable(hierarchy) {
            wished.joined.push(controller.to_owned());
        }
    }
    wished
}

/// Who stands in another group here than in the hierarchy by which systemd tells what belongs to a unit is in one that is for
/// many units.
fn is_a_units_own(own: Option<&str>, tracking: Option<&str>) -> bool {
    own.is_some_and(|own| !own.is_empty()) && own == tracking
}

fn realtime_is_shared_out(cpu: &Hierarchy) -> bool {
    cpu.own_dir().is_some_and(|dir| dir.join("cpu.rt_runtime_us").exists())
}

fn spec_runs_in_realtime(spec: &Spec) -> bool {
    // What is not known is not feared: the start says so then.
    let inherited = getrlimit(Resource::RLIMIT_RTPRIO).is_ok_and(|(_, hard)| hard > 0);
    let stat = read_bounded("/proc/self/stat".as_ref()).unwrap_or_default();
    is_realtime(&stat) || spec.apps.iter().any(|app| may_begin(app, inherited))
}

/// sched(7): by CAP_SYS_NICE, or up to RLIMIT_RTPRIO.
fn may_begin(app: &AppSpec, inherited: bool) -> bool {
    const SYS_NICE: u64 = 1 << 23;
    let is_capable = matches!(app.capabilities, Capabilities::Exactly(set) if set & SYS_NICE != 0);
    is_capable || app.rlimits.get(&libc::RLIMIT_RTPRIO).map_or(inherited, |(_, hard)| *hard > 0)
}

/// The policy is the field 41 of proc_pid_stat(5); what counts stands behind the name, which may hold anything.
fn is_realtime(stat: &[u8]) -> bool {
    let text = String::from_utf8_lossy(stat);
    let behind = text.rsplit_once(')').map_or("", |(_, behind)| behind);
    let policy = behind.split_ascii_whitespace().nth(38).and_then(|word| word.parse().ok());
    matches!(policy, Some(libc::SCHED_FIFO | libc::SCHED_RR | libc::SCHED_DEADLINE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_that_many_units_share_is_no_place_for_a_pod() {
        let service = "system.slice/a.service";
        let table = [
            (Some(service), Some(service), true),
            (Some("system.slice"), Some(service), false),
            (Some(""), Some(service), false),
            (Some(""), Some(""), false),
            (None, Some(service), false),
            (Some(service), None, false),
        ];
        for (own, tracking, expected) in table {
            assert_eq!(is_a_units_own(own, tracking), expected, "{own:?} {tracking:?}");
        }
    }

    #[test]
    fn who_may_begin_to_run_in_realtime() {
        let table = [
            ("", false, false),
            ("", true, true),
            ("capabilities = [\"CAP_SYS_NICE\"]", false, true),
            ("capabilities = [\"CAP_CHOWN\"]", false, false),
            ("rlimits = { rtprio = 5 }", false, true),
            ("rlimits = { rtprio = 0 }", true, false),
        ];
        for (keys, inherited, expected) in table {
            let text = format!(
                "version = 1\n[pod]\nname = \"a\"\n[app.a]\nrootfs = \"/\"\nexec = [\"/a\"]\n{keys}\n"
            );
            let read = crate::manifest::read(&text);
            let spec = read.spec.unwrap_or_else(|| panic!("{:?}", read.problems));
            assert_eq!(may_begin(&spec.apps[0], inherited), expected, "{keys} {inherited}");
        }
    }

    #[test]
    fn policy_is_read_from_the_kernels_text() {
        let stat = |policy: u8| {
            let fields = "0 ".repeat(37);
            format!("7 (a ) b) S {fields}{policy} 0 0 0\n").into_bytes()
        };
        let table = [(0, false), (1, true), (2, true), (3, false), (5, false), (6, true)];
        for (policy, expected) in table {
            assert_eq!(is_realtime(&stat(policy)), expected, "{policy}");
        }
        assert!(!is_realtime(b"") && !is_realtime(&read_bounded("/proc/self/stat".as_ref()).unwrap()));
    }
}
