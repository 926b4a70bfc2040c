//! Who the app is to the kernel: resource limits, session keyring, OOM score, ids, capabilities, no-new-privileges.
//!
//! Ids are numbers here: names were resolved by the launcher in the app's own files, and nothing in stage1 ever
//! asks a name service. Invariant: after [`assume`] the process has exactly the sets of its [`Identity`] and no
//! supplementary group that is not listed.

use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::sys::prctl::set_no_new_privs;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use podrun_abi::boot::{App, Identity};
use podrun_abi::failure::{StartFailure, Step};

use crate::failure::{OrFail, failed};
use crate::spawn::Progress;
use crate::sys::process;

/// The kernel has room for this many capabilities.
const CAPABILITIES: u32 = 64;
/// The resources of getrlimit(2) by number, as manifests name them; the same on all of Rust's Linux targets but
/// mips and sparc, where stage1 is not built.
const RESOURCES: [&str; 16] = [
    "cpu",
    "fsize",
    "data",
    "stack",
    "core",
    "rss",
    "nproc",
    "nofile",
    "memlock",
    "as",
    "locks",
    "sigpending",
    "msgqueue",
    "nice",
    "rtprio",
    "rttime",
];

/// Gives the process a session keyring of its own, so that apps do not share the launcher's.
pub fn leave_keyring() -> Result<(), StartFailure> {
    match process::join_session_keyring() {
        // A kernel without keyrings, or a sandbox around the pod that hides them: then there is none to share.
        Ok(()) | Err(Errno::ENOSYS | Errno::EPERM) => Ok(()),
        joined => joined.or_fail(Step::NewSession, "session keyring"),
    }
}

/// Through stage1's own `/proc`: the one in the app's root is not there yet.
pub fn set_oom_score(app: &App) -> Result<(), StartFailure> {
    let text = app.oom_score_adj.to_string();
    std::fs::write("/proc/self/oom_score_adj", &text).or_fail(Step::SetOomScore, &text)
}

/// Makes the process the app's.
pub fn assume(app: &App, progress: Progress) -> Result<(), StartFailure> {
    let identity = &app.identity;
    progress.reach(Step::SetRlimit);
    for (resource, soft, hard) in &app.rlimits {
        process::set_rlimit(*resource, *soft, *hard).or_fail(Step::SetRlimit, &resource_name(*resource))?;
    }
    progress.reach(Step::SetGroups);
    let groups: Vec<Gid> = identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    setgroups(&groups).or_fail(Step::SetGroups, &format!("{:?}", identity.groups))?;
    progress.reach(Step::SetCapabilities);
    limit_bounding(identity.bounding)?;
    change_ids(identity)?;
    set_capabilities(identity)?;
    progress.reach(Step::SetNoNewPrivileges);
    if identity.no_new_privileges {
        set_no_new_privs().or_fail(Step::SetNoNewPrivileges, "")?;
    }
    Ok(())
}

/// Drops what is not wanted, and refuses what is wanted and not there: it could not be given any more.
fn limit_bounding(wanted: u64) -> Result<(), StartFailure> {
    for number in 0..CAPABILITIES {
        let is_wanted = wanted & (1 << number) != 0;
        let done = match process::is_bounding(number) {
            Ok(is_set) if is_set == is_wanted => Ok(()),
            Ok(true) => process::drop_bounding(number),
            Ok(false) => Err(Errno::EPERM),
            // The kernel knows no more, and no more are wanted.
            Err(Errno::EINVAL) if wanted >> number == 0 => return Ok(()),
            Err(Errno::EINVAL) if !is_wanted => Ok(()),
            Err(errno) => Err(errno),
        };
        done.or_fail(Step::SetCapabilities, &capability_name(number))?;
    }
    Ok(())
}

/// A change away from uid 0 would clear the permitted set, from which the ambient one is made.
fn change_ids(identity: &Identity) -> Result<(), StartFailure> {
    clear(CapSet::Inheritable)?;
    if identity.uid != 0 && identity.ambient != 0 {
        caps::securebits::set_keepcaps(true).map_err(|_| capability_failure("SECBIT_KEEP_CAPS"))?;
    }
    let gid = Gid::from_raw(identity.gid);
    setresgid(gid, gid, gid).or_fail(Step::SetGid, &gid.to_string())?;
    let uid = Uid::from_raw(identity.uid);
    setresuid(uid, uid, uid).or_fail(Step::SetUid, &uid.to_string())
}

/// Sets everything but the bounding set. Each set must stay within the one before it: capabilities(7).
fn set_capabilities(identity: &Identity) -> Result<(), StartFailure> {
    if identity.uid == 0 {
        let all = capabilities(identity.bounding);
        clear(CapSet::Ambient)?;
        set(CapSet::Effective, &all)?;
        return set(CapSet::Permitted, &all);
    }
    let all = capabilities(identity.ambient);
    if all.is_empty() {
        clear(CapSet::Effective)?;
        return set(CapSet::Permitted, &all);
    }
    set(CapSet::Inheritable, &all)?;
    set(CapSet::Effective, &all)?;
    set(CapSet::Permitted, &all)?;
    set(CapSet::Ambient, &all)
}

fn set(which: CapSet, wanted: &CapsHashSet) -> Result<(), StartFailure> {
    caps::set(None, which, wanted).map_err(|_| capability_failure(&format!("{which:?}").to_lowercase()))
}

fn clear(which: CapSet) -> Result<(), StartFailure> {
    caps::clear(None, which).map_err(|_| capability_failure(&format!("{which:?}").to_lowercase()))
}

/// The crate's errors are texts; the errno of its failed call is still there.
fn capability_failure(subject: &str) -> StartFailure {
    failed(Step::SetCapabilities, subject, Errno::last())
}

fn capabilities(mask: u64) -> CapsHashSet {
    caps::all().into_iter().filter(|capability| mask & capability.bitmask() != 0).collect()
}

fn capability_name(number: u32) -> String {
    let known = caps::all().into_iter().find(|known: &Capability| u32::from(known.index()) == number);
    known.map_or_else(|| number.to_string(), |known| known.to_string())
}

fn resource_name(number: u32) -> String {
    let known = usize::try_from(number).ok().and_then(|number| RESOURCES.get(number));
    known.map_or_else(|| number.to_string(), |known| (*known).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_become_sets() {
        assert_eq!(capabilities(0), CapsHashSet::new());
        assert_eq!(capabilities(1 << 10), CapsHashSet::from([Capability::CAP_NET_BIND_SERVICE]));
        assert_eq!(capabilities(u64::MAX), caps::all());
    }

    #[test]
    fn names_are_those_of_the_manual() {
        assert_eq!(capability_name(24), "CAP_SYS_RESOURCE");
        assert_eq!(capability_name(63), "63");
        assert_eq!(resource_name(libc::RLIMIT_NOFILE), "nofile");
        assert_eq!(resource_name(libc::RLIMIT_RTTIME), "rttime");
        assert_eq!(resource_name(99), "99");
    }
}
