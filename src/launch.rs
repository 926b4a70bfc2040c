//! From a [`Plan`] to a living stage1: groups, the boot record, the clone, the descriptors of the apps.
//!
//! The order is what makes it safe: everything is recorded before it exists (the pod directory holds the plan
//! already), the pod's limits are written and read back before the first process and the apps' before the first app,
//! stage1 is found in its groups before it is told to go, and whatever fails on the way undoes what was made.
//! Nothing here decides.

mod gifts;
mod handover;

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};
use podrun_abi::boot::{App, Boot, Pod};
use podrun_abi::control::Command;

use crate::cgroup::cgroupfs::{self, PodCgroup};
use crate::cgroup::limits::SUPERVISOR;
use crate::plan::{AppPlan, Plan};
use crate::pod::dir::PodDir;
use crate::sockets::{self, Named, OfApp};
use crate::sys::clone3::{Child, Cloned, PreparedExec};
use crate::sys::{clone3, mount, pidfd};
use crate::systemd::{PodUnits, scope};

/// How long the undo of a failed launch may take.
const UNDO_DEADLINE: Duration = Duration::from_secs(5);

/// A pod whose stage1 runs and has been told to go.
pub struct Launched {
    /// stage1, our child.
    pub stage1: Child,
    /// `SOCK_SEQPACKET`, non-blocking: commands go out, records come in.
    pub socket: OwnedFd,
    /// The reading ends of those of the apps' standard streams that we move, non-blocking.
    pub outputs: Vec<Output>,
    /// The pod's groups.
    pub cgroup: PodCgroup,
    /// The units that hold them, when systemd is the driver.
    pub units: Option<PodUnits>,
}

/// One stream of one app.
pub struct Output {
    /// Index of the app in the plan.
    pub app: usize,
    /// Which stream.
    pub stream: Stream,
    /// The reading end of its pipe.
    pub pipe: OwnedFd,
}

/// Which of an app's standard streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

impl Stream {
    /// Its place where there is one thing for each: 0 or 1.
    #[must_use]
    pub fn slot(self) -> usize {
        match self {
            Self::Stdout => 0,
            Self::Stderr => 1,
        }
    }

    /// Its name in files and fields.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Makes the pod's groups and starts stage1 in them.
///
/// # Errors
/// What could not be made; nothing of it is left then.
pub fn start(plan: &Plan, dir: &PodDir, manifest: &str, passed: Vec<Named>) -> anyhow::Result<Launched> {
    let nofile = raise_descriptor_limit(plan.nofile)?;
    let program = Program::open()?;
    let started = plan.service.iter().try_for_each(|service| service.create(&plan.cgroup)).and_then(|()| {
        let sockets = sockets::open(plan, passed)?;
        start_with(Parts { plan, dir, manifest, nofile, sockets }, &program)
    });
    if started.is_err() {
        sockets::remove(&plan.sockets);
        plan.service.iter().for_each(|service| service.remove(&plan.cgroup));
    }
    started
}

/// Has the units made, where there are some, and starts stage1 below them.
fn start_with(parts: Parts<'_>, program: &Program) -> anyhow::Result<Launched> {
    let plan = parts.plan;
    let mut units = plan.units.as_ref().map(|units| scope::create(units, &plan.cgroup)).transpose()?;
    let started = gifts::settle(plan, parts.dir)
        .and_then(|settled| start_below(&Parts { plan: &settled, ..parts }, program));
    match started {
        Ok(mut launched) => {
            if let Some(units) = &mut units {
                units.release();
                units.register_machine(&plan.pod, &plan.uuid(), launched.stage1.pid);
            }
            launched.units = units;
            Ok(launched)
        }
        Err(error) => {
            let undone = units.map_or(Ok(()), |mut units| units.close(Instant::now() + UNDO_DEADLINE));
            Err(with_undo(error, undone))
        }
    }
}

/// Makes the groups and starts stage1 in them.
fn start_below(parts: &Parts<'_>, program: &Program) -> anyhow::Result<Launched> {
    let cgroup = cgroupfs::create(&parts.plan.cgroup)?;
    match start_in(parts, program, &cgroup) {
        Ok((stage1, socket, outputs)) => Ok(Launched { stage1, socket, outputs, cgroup, units: None }),
        Err(error) => {
            let undone = cgroup.kill().and_then(|()| cgroup.remove(Instant::now() + UNDO_DEADLINE));
            Err(with_undo(error, undone))
        }
    }
}

fn with_undo(error: anyhow::Error, undone: anyhow::Result<()>) -> anyhow::Error {
    match undone {
        Ok(()) => error,
        Err(left) => error.context(format!("the launch failed, and so did its undo ({left:#})")),
    }
}

type Started = (Child, OwnedFd, Vec<Output>);

/// What the boot record is made of, beside the groups.
struct Parts<'a> {
    plan: &'a Plan,
    dir: &'a PodDir,
    /// As it was typed, for the record.
    manifest: &'a str,
    /// The caller's RLIMIT_NOFILE, for the apps.
    nofile: (u64, u64),
    /// Those of each app.
    sockets: Vec<OfApp>,
}

/// Clones stage1, and makes what the apps need while it builds its mount tree on another CPU.
fn start_in(parts: &Parts<'_>, program: &Program, cgroup: &PodCgroup) -> anyhow::Result<Started> {
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
    )
    .context("cannot create a socket pair")?;
    let stage1 = clone_stage1(parts.dir, program, cgroup, (&ours, &theirs))?;
    // Or an end of stage1 would not be seen as the end of the file.
    drop(theirs);
    match equip(parts, cgroup, &stage1, &ours) {
        Ok(outputs) => Ok((stage1.child, ours, outputs)),
        Err(error) => {
            end(&stage1.child);
            Err(error)
        }
    }
}

/// stage1 inherits its end of the socket and the lock, nothing else.
fn clone_stage1(
    dir: &PodDir,
    program: &Program,
    cgroup: &PodCgroup,
    (ours, theirs): (&OwnedFd, &OwnedFd),
) -> anyhow::Result<Cloned> {
    let inherited = [theirs.as_raw_fd(), dir.lock.as_raw_fd()];
    let mut argv = vec![CString::from(c"podrun-stage1")];
    for number in inherited {
        argv.push(CString::new(number.to_string())?);
    }
    let procs = cgroup.supervisor_procs()?;
    clone3::spawn(&PreparedExec {
        program: program.mount.as_fd(),
        program_place: program.path.clone(),
        argv,
        keep: inherited.to_vec(),
        close: vec![ours.as_raw_fd()],
        into: cgroup.supervisor_into(),
        procs: procs.iter().map(AsFd::as_fd).collect(),
    })
}

/// Hands over the boot record, makes the apps' groups, finds stage1 in its own, hands over the rest and says go. A
/// stage1 that has ended meanwhile is no error here: it says why on its socket.
fn equip(
    parts: &Parts<'_>,
    cgroup: &PodCgroup,
    stage1: &Cloned,
    socket: &OwnedFd,
) -> anyhow::Result<Vec<Output>> {
    let packet = handover::of_pod(&boot_record(parts), parts.dir, cgroup)?;
    let taken = handover::send(socket, &[packet])?;
    parts.dir.write_manifest(parts.manifest)?;
    cgroup.add_apps()?;
    let (packets, outputs) = handover::of_apps(parts.plan, cgroup, &parts.sockets)?;
    stage1.executed()?;
    let found = cgroup.verify_member(SUPERVISOR, stage1.child.pid);
    // One that has ended is in no group.
    if taken && (found.is_ok() || !pidfd::has_ended(stage1.child.pidfd.as_fd())?) {
        found?;
        spare(parts.plan, stage1.child.pid)?;
        if handover::send(socket, &packets)? {
            handover::go(socket)?;
        }
    }
    Ok(outputs)
}

/// Where the OOM killer takes the pod as a whole it leaves out who has the least score (`memory.oom.group` in
/// cgroup-v2.rst): stage1 lives to tell what happened. Apps get a score of their own before they are executed.
fn spare(plan: &Plan, stage1: i32) -> anyhow::Result<()> {
    let own = plan.cgroup.groups.first().map(|group| group.settings.as_slice()).unwrap_or_default();
    if !own.iter().any(|setting| setting.file == "memory.oom.group" && setting.value == "1") {
        return Ok(());
    }
    let path = format!("/proc/{stage1}/oom_score_adj");
    std::fs::write(&path, "-1000").with_context(|| format!("cannot write `-1000` to `{path}`"))
}

/// Ends stage1, and with it the pod's namespaces, before anything was started in them.
fn end(stage1: &Child) {
    // It may have ended by itself; whoever cannot be killed or reaped shows when the groups are removed.
    let _ = pidfd::send_signal(stage1.pidfd.as_fd(), libc::SIGKILL);
    let _ = pidfd::reap_now(stage1.pidfd.as_fd());
}

/// Sends one command to stage1, without waiting for room.
///
/// # Errors
/// EPIPE when stage1 is gone, EAGAIN when it takes nothing.
pub fn tell(socket: &OwnedFd, command: Command) -> anyhow::Result<()> {
    let text = handover::command(command)?;
    send(socket.as_raw_fd(), &text, MsgFlags::MSG_NOSIGNAL).context("cannot send a command to stage1")?;
    Ok(())
}

fn boot_record(parts: &Parts<'_>) -> Boot {
    let Parts { plan, dir, nofile, .. } = *parts;
    Boot {
        version: podrun_abi::VERSION,
        pod: boot_pod(plan, dir),
        roots: plan.roots.clone(),
        cgroup_views: plan.cgroup.hierarchies.iter().map(|h| h.view.clone()).collect(),
        journal: plan.journal(),
        masked: plan.masked.clone(),
        read_only: plan.read_only.clone(),
        apps: plan.apps.iter().zip(&parts.sockets).map(|(app, own)| boot_app(app, own, nofile)).collect(),
    }
}

fn boot_pod(plan: &Plan, dir: &PodDir) -> Pod {
    Pod {
        name: plan.pod.clone(),
        id: plan.id.clone(),
        hostname: plan.hostname.clone(),
        scratch: dir.path.to_string_lossy().into_owned(),
        exit_policy: plan.exit_policy,
        stop_timeout_ms: plan.stop_timeout_ms,
        machine: plan.units.as_ref().map(|_| plan.uuid()),
        watchdog_us: plan.watchdog_us,
    }
}

/// An app gets the caller's RLIMIT_NOFILE, not the one that was raised for launcher and stage1.
fn boot_app(app: &AppPlan, own: &OfApp, nofile: (u64, u64)) -> App {
    const NOFILE: u32 = libc::RLIMIT_NOFILE;
    let mut rlimits = app.rlimits.clone();
    if !rlimits.iter().any(|&(number, _, _)| number == NOFILE) {
        rlimits.push((NOFILE, nofile.0, nofile.1));
    }
    App {
        name: app.name.clone(),
        argv: app.argv.clone(),
        env: app.env.clone(),
        workdir: app.workdir.clone(),
        root: app.root.clone(),
        identity: app.identity.clone(),
        rlimits,
        oom_score_adj: app.oom_score_adj,
        all_cpus: app.all_cpus,
        output: app.output.streams(&app.name),
        sockets: own.sockets.iter().chain(&own.stored).map(|(name, _)| name.clone()).collect(),
        devices: app.devices.clone(),
        policy: app.policy.clone(),
    }
}

/// Raises the soft limit as far as this pod needs and returns what it was.
fn raise_descriptor_limit(needed: u64) -> anyhow::Result<(u64, u64)> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("cannot read RLIMIT_NOFILE")?;
    if soft < needed {
        setrlimit(Resource::RLIMIT_NOFILE, needed.min(hard), hard)
            .with_context(|| format!("cannot raise RLIMIT_NOFILE from {soft} to {needed}"))?;
    }
    Ok((soft, hard))
}

/// stage1's file as something that can be executed and never be written through.
struct Program {
    path: CString,
    /// A detached read-only mount of it.
    mount: OwnedFd,
}

impl Program {
    fn open() -> anyhow::Result<Self> {
        let file = stage1_path()?;
        let mount = mount::read_only_file(&file)
            .with_context(|| format!("cannot open `{}` through a read-only mount", file.display()))?;
        Ok(Self { path: CString::new(file.into_os_string().into_encoded_bytes())?, mount })
    }
}

/// Where stage1 is: beside our own binary (a build tree), else in `libexec/podrun` of the same prefix.
///
/// # Errors
/// When it is in neither place.
pub fn stage1_path() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find our own binary in `/proc/self/exe`")?;
    let folder = own.parent().unwrap_or(Path::new("/"));
    let beside = folder.join("podrun-stage1");
    let installed = folder.join("../libexec/podrun/podrun-stage1");
    for candidate in [&beside, &installed] {
        if candidate.is_file() {
            return Ok(candidate.clone());
        }
    }
    bail!("cannot find podrun-stage1: neither `{}` nor `{}` is there", beside.display(), installed.display())
}
