//! An app's cgroup as a handful of descriptors: is a process in it, is it empty, kill it, let it stand still.
//!
//! It knows no path and no version: where the host lacks a file its descriptor is missing, and another way is
//! taken. Invariant: a process is signalled through a pidfd that was found in the group after it was opened.

use std::cell::Cell;
use std::fs::File;
use std::io::Read;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::write;
use podrun_abi::control::Signal;
use podrun_abi::failure::{StartFailure, Step};
use podrun_abi::handover::AppCgroup;

use crate::attached::Attached;
use crate::failure::failed;
use crate::sys::descriptors::Inherited;
use crate::sys::process;
use crate::watch::{TEXT_BYTES_MAX, find_number, read_text};

/// More than a group of 32,768 processes needs.
const PIDS_BYTES_MAX: usize = 512 * 1024;

/// The descriptors of one app's cgroup.
pub struct Group {
    /// For CLONE_INTO_CGROUP.
    pub into: Option<Inherited>,
    /// `cgroup.procs` of each hierarchy; that of `into` first.
    pub procs: Vec<Inherited>,
    kill: Option<Inherited>,
    freezer: Option<Inherited>,
    /// It was told to stand still.
    frozen: Cell<bool>,
    events: Option<Inherited>,
}

impl Group {
    /// What was handed over for it.
    pub fn new(plan: &AppCgroup, attached: &Attached) -> Result<Self, StartFailure> {
        let optional = |place: Option<usize>| place.map(|place| attached.at(place)).transpose();
        let (into, kill) = (optional(plan.into)?, optional(plan.kill)?);
        let (freezer, events) = (optional(plan.freezer)?, optional(plan.events)?);
        let procs = plan.procs.iter().map(|place| attached.at(*place)).collect::<Result<_, _>>()?;
        Ok(Self { into, procs, kill, freezer, frozen: Cell::new(false), events })
    }

    /// Finds `pid` in every hierarchy of the group, or says in which it is not.
    pub fn verify(&self, pid: i32) -> Result<(), StartFailure> {
        for procs in &self.procs {
            match read_pids(*procs) {
                Ok(pids) if pids.contains(&pid) => {}
                Ok(_) => return Err(failed(Step::VerifyCgroup, &describe(*procs), Errno::ESRCH)),
                Err(errno) => return Err(failed(Step::VerifyCgroup, &describe(*procs), errno)),
            }
        }
        Ok(())
    }

    /// Whether no process is left in it.
    pub fn is_empty(&self) -> bool {
        if let Some(events) = self.events {
            let mut buffer = [0; TEXT_BYTES_MAX];
            let text = read_text(events, &mut buffer);
            return text.and_then(|text| find_number(text, Some("populated"))) != Some(1);
        }
        self.pids().is_empty()
    }

    /// The processes in it, as this pid namespace numbers them.
    pub fn pids(&self) -> Vec<i32> {
        self.procs.first().and_then(|procs| read_pids(*procs).ok()).unwrap_or_default()
    }

    /// Kills every process of the group that exists now. To be repeated until the group is empty: only
    /// `cgroup.kill` is safe against a process that forks meanwhile.
    pub fn kill(&self) {
        let written = self.kill.map(|kill| write(kill, b"1"));
        if !matches!(written, Some(Ok(_))) {
            self.signal_frozen(libc::SIGKILL);
        }
    }

    /// Sends `signal` to every process of the group.
    pub fn signal(&self, signal: Signal) {
        if signal == libc::SIGKILL { self.kill() } else { self.signal_frozen(signal) }
    }

    /// Lets the group stand still, or go on. The kernel takes its time for it, and whoever asked looks whether it has
    /// (cgroup-v2.rst, `cgroup.freeze`; freezer-subsystem.rst).
    pub fn freeze(&self, still: bool) {
        let again = self.frozen.replace(still) && still;
        match (self.into, self.freezer) {
            (Some(group), _) => {
                let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
                let file = openat(group, "cgroup.freeze", flags, Mode::empty());
                let _ = file.map(|file| write(file, if still { b"1" } else { b"0" }));
            }
            (None, Some(freezer)) => {
                // v1 may wait for ever for a process that was forked meanwhile, and finds it at the next attempt.
                if again {
                    let _ = write(freezer, b"THAWED");
                }
                let _ = write(freezer, self.state());
            }
            (None, None) => {}
        }
    }

    /// What v1's freezer is told when nothing else is going on.
    fn state(&self) -> &'static [u8] {
        if self.frozen.get() { b"FROZEN" } else { b"THAWED" }
    }

    /// With a freezer the group stands still while its processes are listed. SIGKILL takes effect at the thaw.
    fn signal_frozen(&self, signal: Signal) {
        // A state that cannot be written leaves the group running; the repetition of `kill` makes up for it.
        let freeze = |state: &[u8]| self.freezer.map(|freezer| write(freezer, state));
        let _ = freeze(b"FROZEN");
        self.signal_listed(signal);
        let _ = freeze(self.state());
    }

    /// Opens a pidfd for each listed process, lists again, and signals those that are still there: a pid that
    /// was given to another process meanwhile is not in the second list.
    fn signal_listed(&self, signal: Signal) {
        let open = |pid: i32| process::open_pidfd(pid).ok().map(|pidfd| (pid, pidfd));
        let opened: Vec<_> = self.pids().into_iter().filter_map(open).collect();
        let mut still = self.pids();
        still.sort_unstable();
        for (pid, pidfd) in opened {
            if still.binary_search(&pid).is_ok() {
                // ESRCH: it has ended by itself.
                let _ = process::signal(&pidfd, signal);
            }
        }
    }
}

/// Lists the group through an open file of its own: in cgroup v1 a file that stays open shows its first list
/// again for up to a second.
fn read_pids(procs: Inherited) -> Result<Vec<i32>, Errno> {
    let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(0));
    let mut file = File::open(link(procs)).map_err(errno)?;
    // Most groups fit into the first read, and the one behind it finds the end.
    let mut text = vec![0; TEXT_BYTES_MAX];
    let mut length = 0;
    loop {
        match file.read(&mut text[length..]).map_err(errno)? {
            0 => break,
            more => length += more,
        }
        if length == text.len() && length < PIDS_BYTES_MAX {
            text.resize(length * 2, 0);
        }
    }
    Ok(parse_pids(&String::from_utf8_lossy(&text[..length])))
}

/// One pid a line; 0 stands for a process outside this pid namespace and is left out, for kill(2) takes it for
/// the caller's own process group.
fn parse_pids(text: &str) -> Vec<i32> {
    text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect()
}

fn link(file: Inherited) -> String {
    format!("/proc/self/fd/{}", file.number())
}

/// For people: the path that the kernel shows for the open file.
pub fn describe(file: Inherited) -> String {
    let path = std::fs::read_link(link(file)).unwrap_or_default();
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pids_outside_the_namespace_are_left_out() {
        assert_eq!(parse_pids("12\n0\n7\n"), [12, 7]);
        assert_eq!(parse_pids(""), [0; 0]);
        assert_eq!(parse_pids("-1\nx\n99999999999\n3\n"), [3]);
    }
}
