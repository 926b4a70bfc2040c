//! From the first instruction to the event loop: what PID 1 does once, in this order.
//!
//! Signals, descriptors 0 to 2, the boot record, all other descriptors, what an app would inherit (umask,
//! working directory), the hostname, the pod's own mount tree, `booted`, and then the reactor for good. A failure
//! on the way is reported to the launcher and ends stage1 with 125; nothing was started by then.

use std::fs::File;
use std::io::Read;
use std::os::fd::RawFd;

use nix::sys::signal::SigSet;
use nix::sys::stat::{Mode, fstat, umask};
use nix::unistd::{chdir, sethostname};
use podrun_abi::boot::{App, Boot, PodFds};
use podrun_abi::control::Signal;
use podrun_abi::event::Event;
use podrun_abi::failure::{StartFailure, Step};

use crate::failure::OrFail;
use crate::group::{Group, Meter};
use crate::report::Reporter;
use crate::sys::descriptors::{self, Inherited};
use crate::sys::process;
use crate::{mounts, reactor};

/// SIGRTMIN+3 as every service manager on Linux counts it: the C library keeps 32 and 33 for itself.
pub const SIGRTMIN_3: Signal = 37;
/// The signals that stage1 takes, through a signalfd. All others have their default disposition, and the kernel
/// drops those for PID 1 of a pid namespace.
const TAKEN: [Signal; 5] = [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, SIGRTMIN_3];
/// A boot record is longer than this only by mistake.
const BOOT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The descriptors of the pod and of its apps, taken over from the launcher.
pub struct Handles {
    /// Commands in, records out.
    pub launcher: Inherited,
    /// The control socket's listening end.
    pub control: Inherited,
    /// `events.jsonl`.
    pub events: Inherited,
    /// Moves when the pod's own memory limit is hit.
    pub oom_hits: Option<Meter>,
    /// One for each app, in the order of `Boot::apps`.
    pub apps: Vec<AppHandles>,
}

/// The descriptors of one app.
pub struct AppHandles {
    /// Its cgroup.
    pub group: Group,
    /// Its descriptor 1.
    pub stdout: Inherited,
    /// Its descriptor 2.
    pub stderr: Inherited,
}

/// Runs the pod whose boot record is in descriptor `memfd`; returns the pod's exit code.
pub fn run(memfd: RawFd) -> Result<u8, StartFailure> {
    process::reset_dispositions();
    let signals = process::signal_set(&TAKEN);
    signals.thread_set_mask().or_fail(Step::ReadBoot, "signal mask")?;
    descriptors::fill_standard().or_fail(Step::ReadBoot, "/dev/null")?;
    let boot = read(memfd)?;
    check(&boot)?;
    let handles = adopt(&boot)?;
    let mut reporter = Reporter::new(&handles);
    match prepare(&boot).and_then(|()| reactor::Reactor::new(&boot, &handles, &signals)) {
        Ok(mut reactor) => {
            reporter.send(Event::Booted);
            Ok(reactor.run(reporter))
        }
        Err(failure) => {
            reporter.send(Event::BootFailed { failure: failure.clone() });
            Err(failure)
        }
    }
}

/// Everything of stage1's own that is not a descriptor.
fn prepare(boot: &Boot) -> Result<(), StartFailure> {
    umask(Mode::from_bits_truncate(0o022));
    chdir("/").or_fail(Step::Chdir, "/")?;
    process::forbid_tracing().or_fail(Step::ReadBoot, "dumpable flag")?;
    sethostname(&boot.pod.hostname).or_fail(Step::SetHostname, &boot.pod.hostname)?;
    mounts::build_pod_tree(boot)
}

fn read(memfd: RawFd) -> Result<Boot, StartFailure> {
    let memfd = descriptors::own(memfd).or_fail(Step::ReadBoot, &memfd.to_string())?;
    let length = fstat(&memfd).or_fail(Step::ReadBoot, "")?.st_size;
    // One byte more, or the end of the file would only be found after growing.
    let mut text = Vec::with_capacity(usize::try_from(length).unwrap_or(0).saturating_add(1));
    File::from(memfd).take(BOOT_BYTES_MAX).read_to_end(&mut text).or_fail(Step::ReadBoot, "")?;
    serde_json::from_slice(&text).map_err(|error| refused(&error.to_string()))
}

/// What the types cannot say. Everything behind this relies on it.
fn check(boot: &Boot) -> Result<(), StartFailure> {
    if boot.version != podrun_abi::VERSION {
        return Err(refused(&format!("version {}, not {}", boot.version, podrun_abi::VERSION)));
    }
    for (index, app) in boot.apps.iter().enumerate() {
        let ordered = app.policy.after.iter().all(|other| *other < index);
        if app.argv.is_empty() || app.root.index >= boot.roots.len() || !ordered || has_nul(app) {
            return Err(refused(&format!("app {}", app.name)));
        }
    }
    Ok(())
}

/// Whether a text that the kernel takes as a C string has its end too early.
fn has_nul(app: &App) -> bool {
    let mut texts = app.argv.iter().chain(app.env.iter().flat_map(|(key, value)| [key, value]));
    texts.any(|text| text.contains('\0')) || app.workdir.contains('\0')
}

fn refused(why: &str) -> StartFailure {
    StartFailure { step: Step::ReadBoot, subject: why.to_owned(), errno: 0, fault: None }
}

/// Takes over every descriptor that `boot` names and closes all others.
fn adopt(boot: &Boot) -> Result<Handles, StartFailure> {
    let mut kept = Vec::new();
    let PodFds { launcher, control, events, lock } = boot.fds;
    let [launcher, control, events, _] = [
        take(launcher, &mut kept)?,
        take(control, &mut kept)?,
        take(events, &mut kept)?,
        take(lock, &mut kept)?,
    ];
    let oom_hits = boot.pod.oom_hits.as_ref().map(|gauge| Meter::adopt(gauge, &mut kept)).transpose()?;
    let apps = boot.apps.iter().map(|app| adopt_app(app, &mut kept)).collect::<Result<_, _>>()?;
    descriptors::close_all_but(&mut kept).or_fail(Step::CloseFds, "")?;
    Ok(Handles { launcher, control, events, oom_hits, apps })
}

fn adopt_app(app: &App, kept: &mut Vec<Inherited>) -> Result<AppHandles, StartFailure> {
    Ok(AppHandles {
        group: Group::adopt(&app.cgroup, kept)?,
        stdout: take(app.stdio.stdout, kept)?,
        stderr: take(app.stdio.stderr, kept)?,
    })
}

/// Takes over one descriptor and notes it in `kept`.
pub fn take(number: RawFd, kept: &mut Vec<Inherited>) -> Result<Inherited, StartFailure> {
    let taken = Inherited::adopt(number).or_fail(Step::ReadBoot, &format!("descriptor {number}"))?;
    kept.push(taken);
    Ok(taken)
}

/// The mask of an app: nothing is blocked.
pub fn unblock_signals() -> Result<(), nix::errno::Errno> {
    SigSet::empty().thread_set_mask()
}
