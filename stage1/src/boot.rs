//! From the first instruction to the event loop: what PID 1 does once, in this order.
//!
//! Signals, descriptors 0 to 2, all other descriptors, the boot record, what an app would inherit (umask, working
//! directory), the hostname, the pod's own mount tree, the descriptors of the apps, which the launcher makes meanwhile,
//! `booted`, and then the reactor for good. A failure on the way is reported to the launcher and ends stage1 with 125;
//! nothing was started by then.

use std::fs::File;
use std::io::Read;
use std::os::fd::{OwnedFd, RawFd};

use nix::sys::stat::{Mode, fstat, umask};
use nix::unistd::{chdir, sethostname};
use podrun_abi::boot::{App, Boot};
use podrun_abi::event::Event;
use podrun_abi::failure::{StartFailure, Step};

use crate::failure::{OrFail, refused};
use crate::handover::Handles;
use crate::reactor::Reactor;
use crate::report::Reporter;
use crate::sys::descriptors::{self, Inherited};
use crate::sys::process;
use crate::{handover, mounts, signals, voice};

/// A boot record is longer than this only by mistake.
const BOOT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Runs the pod of the launcher at the other end of `launcher`; returns the pod's exit code.
pub fn run(launcher: RawFd, lock: RawFd) -> Result<u8, StartFailure> {
    process::reset_dispositions();
    let signals = signals::take().or_fail(Step::ReadBoot, "signal mask")?;
    descriptors::fill_standard().or_fail(Step::ReadBoot, "/dev/null")?;
    let launcher = adopt(launcher, lock)?;
    let mut reporter = Reporter::new(launcher);
    let booted = boot(launcher, &mut reporter);
    let reactor = booted.as_ref().map_err(Clone::clone);
    let made = reactor.and_then(|(boot, handles)| Reactor::new(boot, handles, voice::open(boot)?, &signals));
    match made {
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

fn boot(launcher: Inherited, reporter: &mut Reporter) -> Result<(Boot, Handles), StartFailure> {
    let (record, links) = handover::receive_pod(launcher)?;
    reporter.write_down_to(links.events);
    let boot = read(record)?;
    check(&boot)?;
    prepare(&boot)?;
    let apps = handover::receive_apps(launcher, boot.apps.len())?;
    Ok((boot, Handles { links, apps }))
}

/// Everything of stage1's own that is not a descriptor.
fn prepare(boot: &Boot) -> Result<(), StartFailure> {
    umask(Mode::from_bits_truncate(0o022));
    chdir("/").or_fail(Step::Chdir, "/")?;
    process::forbid_tracing().or_fail(Step::ReadBoot, "dumpable flag")?;
    sethostname(&boot.pod.hostname).or_fail(Step::SetHostname, &boot.pod.hostname)?;
    mounts::build_pod_tree(boot)
}

fn read(memfd: OwnedFd) -> Result<Boot, StartFailure> {
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
        let before = app.policy.after.iter().chain(&app.policy.after_ready);
        let ordered = before.into_iter().all(|other| *other < index);
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

/// Takes over what is inherited and closes everything else. The lock is held, never used.
fn adopt(launcher: RawFd, lock: RawFd) -> Result<Inherited, StartFailure> {
    let take = |number| Inherited::adopt(number).or_fail(Step::ReadBoot, &format!("descriptor {number}"));
    let launcher = take(launcher)?;
    descriptors::close_all_but(&mut [launcher, take(lock)?]).or_fail(Step::CloseFds, "")?;
    Ok(launcher)
}
