//! From a [`Plan`] to a living stage1: groups, descriptors, the boot record, the clone.
//!
//! The order is what makes it safe: everything is recorded before it exists (the pod directory holds the plan
//! already), limits are written and read back before the first process, stage1 is found in its groups before
//! it is told to go, and whatever fails on the way undoes what was made. Nothing here decides or waits.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};
use podrun_abi::boot::{App, AppCgroup, Boot, Gauge, Pod, PodFds, Stdio};
use podrun_abi::control::{Command, Request};

use crate::cgroup::cgroupfs::{self, PodCgroup};
use crate::plan::{AppPlan, Plan};
use crate::pod::dir::PodDir;
use crate::sys::clone3::{Child, PreparedExec};
use crate::sys::{clone3, detach, memfd, mount};

/// How long the undo of a failed launch may take.
const UNDO_DEADLINE: Duration = Duration::from_secs(5);

/// A pod whose stage1 runs and has been told to go.
pub struct Launched {
    /// stage1, our child.
    pub stage1: Child,
    /// `SOCK_SEQPACKET`, non-blocking: commands go out, records come in.
    pub socket: OwnedFd,
    /// The reading ends of the apps' standard streams, non-blocking.
    pub outputs: Vec<Output>,
    /// The pod's groups.
    pub cgroup: PodCgroup,
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

/// Makes the pod's groups and starts stage1 in them.
///
/// # Errors
/// What could not be made; nothing of it is left then.
pub fn start(plan: &Plan, dir: &PodDir) -> anyhow::Result<Launched> {
    let nofile = raise_descriptor_limit(plan.nofile)?;
    let program = Program::open()?;
    let cgroup = cgroupfs::create(&plan.cgroup)?;
    match start_in(&Parts { plan, dir, nofile }, &program, &cgroup) {
        Ok((stage1, socket, outputs)) => Ok(Launched { stage1, socket, outputs, cgroup }),
        Err(error) => {
            let undone = cgroup.kill().and_then(|()| cgroup.remove(Instant::now() + UNDO_DEADLINE));
            Err(match undone {
                Ok(()) => error,
                Err(left) => error.context(format!("the launch failed, and so did its undo ({left:#})")),
            })
        }
    }
}

type Started = (Child, OwnedFd, Vec<Output>);

/// What the boot record is made of, beside the groups.
struct Parts<'a> {
    plan: &'a Plan,
    dir: &'a PodDir,
    /// The caller's RLIMIT_NOFILE, for the apps.
    nofile: (u64, u64),
}

fn start_in(parts: &Parts<'_>, program: &Program, cgroup: &PodCgroup) -> anyhow::Result<Started> {
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
    )
    .context("cannot create a socket pair")?;
    let mut passed = Passed::default();
    let (boot, outputs) = boot_record(parts, cgroup, &mut passed, theirs)?;
    let text = serde_json::to_vec(&boot).context("cannot write the boot record")?;
    let record = memfd::sealed(c"podrun-boot", &text)?;
    let argv = vec![CString::from(c"podrun-stage1"), CString::new(record.as_raw_fd().to_string())?];
    let record = passed.keep(record);
    let procs = cgroup.supervisor_procs()?;
    let exec = PreparedExec {
        program: program.mount.as_fd(),
        program_place: program.path.clone(),
        argv,
        keep: passed.0.iter().map(AsRawFd::as_raw_fd).chain([parts.dir.lock.as_raw_fd()]).collect(),
        close: vec![ours.as_raw_fd()],
        into: cgroup.supervisor_into(),
        procs: procs.iter().map(AsFd::as_fd).collect(),
    };
    debug_assert!(exec.keep.contains(&record));
    let stage1 = clone3::spawn(&exec)?;
    cgroup.verify_member("supervisor", stage1.pid)?;
    tell(&ours, Command::Go)?;
    Ok((stage1, ours, outputs))
}

/// Sends one command to stage1.
///
/// # Errors
/// EPIPE when stage1 is gone.
pub fn tell(socket: &OwnedFd, command: Command) -> anyhow::Result<()> {
    let request = Request { version: podrun_abi::VERSION, command };
    let text = serde_json::to_vec(&request).context("cannot write a command")?;
    send(socket.as_raw_fd(), &text, MsgFlags::MSG_NOSIGNAL).context("cannot send a command to stage1")?;
    Ok(())
}

/// Descriptors that stage1 inherits; kept open here until the clone has happened.
#[derive(Default)]
struct Passed(Vec<OwnedFd>);

impl Passed {
    fn keep(&mut self, fd: OwnedFd) -> RawFd {
        let number = fd.as_raw_fd();
        self.0.push(fd);
        number
    }
}

fn boot_record(
    parts: &Parts<'_>,
    cgroup: &PodCgroup,
    passed: &mut Passed,
    socket: OwnedFd,
) -> anyhow::Result<(Boot, Vec<Output>)> {
    let Parts { plan, dir, nofile } = *parts;
    let fds = PodFds {
        launcher: passed.keep(socket),
        control: passed.keep(dir.control()?),
        events: passed.keep(dir.events()?),
        lock: dir.lock.as_raw_fd(),
    };
    let mut outputs = Vec::with_capacity(plan.apps.len() * 2);
    let mut apps = Vec::with_capacity(plan.apps.len());
    for (index, app) in plan.apps.iter().enumerate() {
        let (group, files) = cgroup.app(&app.name)?;
        passed.0.extend(files);
        let stdio = Stdio {
            stdout: output(index, Stream::Stdout, passed, &mut outputs)?,
            stderr: output(index, Stream::Stderr, passed, &mut outputs)?,
        };
        apps.push(boot_app(app, nofile, group, stdio));
    }
    let boot = Boot {
        version: podrun_abi::VERSION,
        pod: boot_pod(plan, dir, pod_oom_hits(cgroup, passed)?),
        fds,
        roots: plan.roots.clone(),
        cgroup_views: plan.cgroup.hierarchies.iter().map(|h| h.view.clone()).collect(),
        masked: plan.masked.clone(),
        read_only: plan.read_only.clone(),
        apps,
    };
    Ok((boot, outputs))
}

fn pod_oom_hits(cgroup: &PodCgroup, passed: &mut Passed) -> anyhow::Result<Option<Gauge>> {
    Ok(cgroup.pod_oom_hits()?.map(|(gauge, file)| {
        passed.keep(file);
        gauge
    }))
}

fn boot_pod(plan: &Plan, dir: &PodDir, oom_hits: Option<Gauge>) -> Pod {
    Pod {
        name: plan.pod.clone(),
        id: plan.id.clone(),
        hostname: plan.hostname.clone(),
        scratch: dir.path.to_string_lossy().into_owned(),
        exit_policy: plan.exit_policy,
        stop_timeout_ms: plan.stop_timeout_ms,
        oom_hits,
    }
}

/// An app gets the caller's RLIMIT_NOFILE, not the one that was raised for launcher and stage1.
fn boot_app(app: &AppPlan, nofile: (u64, u64), cgroup: AppCgroup, stdio: Stdio) -> App {
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
        cgroup,
        stdio,
        policy: app.policy.clone(),
    }
}

/// A pipe: the writing end is passed, the reading end is ours and non-blocking.
fn output(
    app: usize,
    stream: Stream,
    passed: &mut Passed,
    outputs: &mut Vec<Output>,
) -> anyhow::Result<RawFd> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let (pipe, writer) = detach::pipe()?;
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("cannot make a pipe non-blocking")?;
    outputs.push(Output { app, stream, pipe });
    Ok(passed.keep(writer))
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
