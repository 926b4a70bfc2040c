//! The one way into the pod: from "start this app" to its execve.
//!
//! The child is cloned into the app's cgroup where the kernel can do that, joins the other hierarchies by itself,
//! says so, and builds its root while stage1 looks for its pid in each. It waits for that answer before its
//! execve. Child and stage1 talk over one `SOCK_SEQPACKET` pair: `joined` comes up, `go` comes down, a failure
//! comes up as JSON, and the end of file when execve closes the child's end. What a child was doing when it died
//! without a word is in its [`Progress`] byte.
//!
//! Invariant: nothing of the app runs before its pid was found in every hierarchy of the group.

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, setsid, write};
use podrun_abi::boot::{App, Boot};
use podrun_abi::failure::{StartFailure, Step};

use crate::failure::{OrFail, failed};
use crate::group::{Group, describe};
use crate::handover::AppHandles;
use crate::output::{self, Output};
use crate::sys::process::{Forked, exit_now, fork_into};
use crate::sys::{descriptors, process, socket};
use crate::{execute, identity, mounts, rootfs, signals};

/// The child is in every hierarchy.
pub const JOINED: &[u8] = b"joined";
/// Its pid was found there.
pub const GO: &[u8] = b"go";

/// What is started.
pub struct Job<'a> {
    /// The pod.
    pub boot: &'a Boot,
    /// The app.
    pub app: &'a App,
    /// The app's descriptors.
    pub handles: &'a AppHandles,
    /// Where the child notes how far it has come.
    pub progress: Progress,
}

/// A process on its way to its execve.
pub struct Spawned {
    /// As the pod numbers it.
    pub pid: i32,
    /// For signalling.
    pub pidfd: OwnedFd,
    /// stage1's end of the pair.
    pub channel: OwnedFd,
}

/// The step that a child has come to, readable when it is dead.
#[derive(Clone, Copy)]
pub struct Progress(&'static AtomicU8);

/// The steps of a child in their order.
const STEPS: [Step; 20] = [
    Step::JoinCgroup,
    Step::NewSession,
    Step::SetOomScore,
    Step::Unshare,
    Step::MountRoot,
    Step::MountProc,
    Step::MountDev,
    Step::MountSys,
    Step::MountCgroup,
    Step::PivotRoot,
    Step::MaskPath,
    Step::SetStdio,
    Step::CloseFds,
    Step::SetRlimit,
    Step::SetGroups,
    Step::SetCapabilities,
    Step::SetNoNewPrivileges,
    Step::Chdir,
    Step::VerifyCgroup,
    Step::Exec,
];

impl Progress {
    /// Over a byte that parent and child share.
    pub fn new(byte: &'static AtomicU8) -> Self {
        Self(byte)
    }

    /// The child is about to do this.
    pub fn reach(self, step: Step) {
        let place = STEPS.iter().position(|known| *known == step).unwrap_or_default();
        self.0.store(u8::try_from(place).unwrap_or_default(), Ordering::Relaxed);
    }

    /// What the child did last.
    pub fn reached(self) -> Step {
        let place = usize::from(self.0.load(Ordering::Relaxed));
        STEPS.get(place).copied().unwrap_or(Step::JoinCgroup)
    }
}

/// Starts the app's child. It reports through [`Spawned::channel`].
pub fn spawn(job: &Job<'_>) -> Result<Spawned, StartFailure> {
    job.progress.reach(Step::JoinCgroup);
    let (ours, theirs) = socket::pair().or_fail(Step::Clone, "")?;
    let (forked, joined) = fork(&job.handles.group).or_fail(Step::Clone, "")?;
    match forked {
        Forked::Parent { pid, pidfd } => Ok(Spawned { pid, pidfd, channel: ours }),
        Forked::Child => run_child(job, theirs, joined),
    }
}

/// How many of [`Group::procs`] the child is in by birth.
type Joined = usize;

fn fork(group: &Group) -> Result<(Forked, Joined), Errno> {
    if let Some(into) = group.into {
        match fork_into(Some(into.as_fd())) {
            // A kernel, a sandbox or a delegation that does not do it. The child joins by itself then.
            Err(Errno::ENOSYS | Errno::EACCES | Errno::ENOENT | Errno::EBUSY | Errno::EOPNOTSUPP) => {}
            done => return done.map(|forked| (forked, 1)),
        }
    }
    fork_into(None).map(|forked| (forked, 0))
}

/// The child's side of [`spawn`]. It leaves by execve or by exit, never by return.
fn run_child(job: &Job<'_>, channel: OwnedFd, joined: Joined) -> ! {
    if let Err(failure) = settle(job, &channel, joined) {
        fail(&channel, &failure);
    }
    let stored = job.handles.stored.take();
    let kept = descriptors::keep_only(&job.handles.sockets, &stored, &channel);
    // Their numbers are closed or another file's by now, so they must not be closed again.
    std::mem::forget((channel, stored));
    // Without a channel the progress byte tells the step.
    let Ok(channel) = kept else { exit_now(125) };
    let Err(failure) = become_app(job, &channel);
    fail(&channel, &failure)
}

fn fail(channel: &impl AsFd, failure: &StartFailure) -> ! {
    if let Ok(text) = serde_json::to_vec(failure) {
        // If it cannot be sent, stage1 still finds the step in the progress byte.
        let _ = socket::transmit(channel, &text);
    }
    exit_now(i32::from(failure.exit_code()))
}

/// All that needs stage1's descriptors and mount tree.
fn settle(job: &Job<'_>, channel: &OwnedFd, joined: Joined) -> Result<(), StartFailure> {
    join(&job.handles.group, joined)?;
    if job.app.all_cpus {
        use_all_cpus()?;
    }
    socket::transmit(channel, JOINED).or_fail(Step::JoinCgroup, "")?;
    job.progress.reach(Step::SetStdio);
    let output = output::open(job.app, job.handles)?;
    job.progress.reach(Step::NewSession);
    setsid().or_fail(Step::NewSession, "")?;
    identity::leave_keyring()?;
    job.progress.reach(Step::SetOomScore);
    identity::set_oom_score(job.app)?;
    mounts::umask_none();
    rootfs::enter(job.boot, job.app, job.progress)?;
    umask(Mode::from_bits_truncate(0o022));
    job.progress.reach(Step::SetStdio);
    set_stdio(output)?;
    job.progress.reach(Step::CloseFds);
    Ok(())
}

/// The mask of CPUs is inherited, and what it leaves out stays out when a cpuset has more (sched_setaffinity(2)): the kernel
/// takes of all CPUs those of the cpuset.
fn use_all_cpus() -> Result<(), StartFailure> {
    const SUBJECT: &str = "all CPUs of its cpuset";
    let mut all = CpuSet::new();
    for cpu in 0..CpuSet::count() {
        all.set(cpu).or_fail(Step::JoinCgroup, SUBJECT)?;
    }
    sched_setaffinity(Pid::from_raw(0), &all).or_fail(Step::JoinCgroup, SUBJECT)
}

/// Writes the child into each hierarchy that it was not born into; `0` stands for the writer.
fn join(group: &Group, joined: Joined) -> Result<(), StartFailure> {
    for procs in group.procs.iter().skip(joined) {
        write(procs, b"0").map_err(|errno| failed(Step::JoinCgroup, &describe(*procs), errno))?;
    }
    Ok(())
}

/// The null device is that of the app's own `/dev`, which this child has just made.
fn set_stdio(output: Output) -> Result<(), StartFailure> {
    let null = |flags| {
        open("/dev/null", flags | OFlag::O_CLOEXEC, Mode::empty()).or_fail(Step::SetStdio, "/dev/null")
    };
    dup2_stdin(null(OFlag::O_RDONLY)?).or_fail(Step::SetStdio, "0")?;
    let nothing;
    let (stdout, stderr) = match &output {
        Output::Given(stdout, stderr) => (stdout.as_fd(), stderr.as_fd()),
        Output::Journal(stdout, stderr) => (stdout.as_fd(), stderr.as_fd()),
        Output::Nothing => {
            nothing = null(OFlag::O_WRONLY)?;
            (nothing.as_fd(), nothing.as_fd())
        }
    };
    dup2_stdout(stdout).or_fail(Step::SetStdio, "1")?;
    dup2_stderr(stderr).or_fail(Step::SetStdio, "2")
}

/// From here the child has the app's root and nothing but its sockets and the channel besides 0, 1 and 2.
fn become_app(job: &Job<'_>, channel: &impl AsFd) -> Result<Infallible, StartFailure> {
    identity::assume(job.app, job.progress)?;
    job.progress.reach(Step::Chdir);
    execute::enter_workdir(&job.app.workdir)?;
    job.progress.reach(Step::VerifyCgroup);
    wait_for_go(channel);
    signals::unblock().or_fail(Step::Exec, "signal mask")?;
    job.progress.reach(Step::Exec);
    execute::execute(job.app)
}

fn wait_for_go(channel: &impl AsFd) {
    let mut answer = [0; 8];
    match socket::receive_blocking(channel, &mut answer) {
        socket::Received::Packet(length) if answer.get(..length) == Some(GO) => {}
        // stage1 has refused this child and kills it, or is gone, and the pod with it.
        _ => exit_now(125),
    }
}

/// The failure of a child that died without a word.
pub fn lost(progress: Progress, out_of_memory: bool) -> StartFailure {
    // Killed from outside, it was interrupted in the true sense of EINTR.
    let errno = if out_of_memory { Errno::ENOMEM } else { Errno::EINTR };
    failed(progress.reached(), "", errno)
}

/// Sends a verified child on its way.
pub fn release(channel: &OwnedFd) {
    // It can only fail when the child is dead, which its end of file will tell.
    let _ = socket::transmit(channel, GO);
}

/// Ends a child that was not found where it must be.
pub fn refuse(pidfd: &OwnedFd) {
    // ESRCH: it has ended by itself.
    let _ = process::signal(pidfd, libc::SIGKILL);
}
