//! `run -d` below systemd: the launcher is the main process of a transient service, which no log-out ends.
//!
//! Two processes of podrun. The *caller*, which was typed, has found the manifest in order; it asks systemd for the service
//! and waits for the report. The *launcher*, which systemd executes with the same words, runs the pod as `run` does, with
//! a slice and a scope of the pod's own, and reports.
//!
//! What a service does not inherit ([`Context`]) lies in a sealed memfd of the caller's, and the report goes through a pipe
//! of its: the launcher opens both below `/proc/PID/fd` of the caller, which the service's environment names. That takes the
//! right to trace the caller (proc(5)), which no process of a pod has, since it does not even see the caller's pid; a
//! socket's name would be for every root of the same network to find. Nothing of it is among the unit's properties, which
//! are for everybody's eyes, and nothing is left behind, whoever is killed.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

use crate::cli::Driver;
use crate::plan::Plan;
use crate::pod::record;
use crate::sys::{detach, environment, memfd};
use crate::systemd;
use crate::systemd::transient::{self, Command, Service};

/// In the service's environment: pid and start of the caller, and the numbers of its memfd and of its pipe.
const VARIABLE: &str = "PODRUN_CALLER";
/// How long systemd may take to execute the launcher; as long as for any of its jobs.
const PATIENCE: Duration = Duration::from_secs(30);
/// Nothing that is handed over is longer: a manifest from standard input has at most 4 MiB, as numbers.
const CONTEXT_BYTES_MAX: u64 = 32 << 20;
/// What systemd gives to each process that it executes: the launcher has its own.
const OF_THE_SERVICE: [&str; 10] = [
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "SYSTEMD_EXEC_PID",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    VARIABLE,
];
/// Namespaces that a pod shares with its launcher: in others than systemd's the launcher must be our own child.
const SHARED: [&str; 6] = ["cgroup", "mnt", "net", "pid", "time", "user"];

/// What the launcher would have inherited from its caller.
#[derive(Debug, Serialize, Deserialize)]
struct Context {
    directory: PathBuf,
    environment: Vec<(OsString, OsString)>,
    umask: u32,
    /// A manifest that was read from standard input.
    input: Option<String>,
}

/// In the launcher, until it is taken: the way to its caller.
static CALLER: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// Whether the launcher of some pod could be a service, with this driver, from here.
#[must_use]
pub fn can_be(driver: Driver) -> bool {
    let of = |process: &str, name: &str| std::fs::read_link(format!("/proc/{process}/ns/{name}")).ok();
    let is_asked = driver == Driver::Systemd || (driver == Driver::Auto && systemd::is_booted());
    is_asked && SHARED.iter().all(|name| of("self", name).is_some_and(|own| of("1", name) == Some(own)))
}

/// Has the launcher executed; returns where it reports.
///
/// # Errors
/// What systemd said, or that the launcher did not come; there is no service then.
pub fn start(plan: &Plan, input: Option<&str>) -> anyhow::Result<OwnedFd> {
    let context = memfd::sealed(c"podrun-caller", &serde_json::to_vec(&context(input)?)?)?;
    let (reader, writer) = detach::pipe()?;
    let units = plan.units.as_ref().context("the plan names no units")?;
    let mut service = transient::start(&plan.pod, units, &command(&context, &writer)?)?;
    let came = await_launcher(&reader, &mut service);
    // From here on the end of the file is the launcher's.
    drop(writer);
    match came {
        Ok(()) => Ok(reader),
        Err(error) => {
            service.stop();
            Err(error)
        }
    }
}

fn context(input: Option<&str>) -> anyhow::Result<Context> {
    let umask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    nix::sys::stat::umask(umask);
    Ok(Context {
        directory: std::env::current_dir().context("cannot find the working directory")?,
        environment: std::env::vars_os().collect(),
        umask: umask.bits(),
        input: input.map(str::to_owned),
    })
}

fn command(context: &OwnedFd, report: &OwnedFd) -> anyhow::Result<Command> {
    let own = std::env::current_exe().context("cannot find our own binary in `/proc/self/exe`")?;
    let text = |word: OsString| {
        word.into_string()
            .map_err(|word| anyhow!("cannot give `{}` to systemd: it is not UTF-8", word.display()))
    };
    let caller = record::Process::this()?;
    let (context, report) = (context.as_raw_fd(), report.as_raw_fd());
    Ok(Command {
        path: text(own.into_os_string())?,
        argv: std::env::args_os().map(text).collect::<Result<_, _>>()?,
        environment: vec![format!("{VARIABLE}={}:{}:{context}:{report}", caller.pid, caller.start_ticks)],
        nofile: getrlimit(Resource::RLIMIT_NOFILE).context("cannot read RLIMIT_NOFILE")?,
    })
}

/// Until the launcher has said its first word.
fn await_launcher(reader: &OwnedFd, service: &mut Service) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let sources = [Some(reader.as_fd()), service.socket()];
        let mut sources: Vec<_> =
            sources.into_iter().flatten().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut sources, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("cannot wait for the launcher"),
        }
        // A launcher that has come and failed is heard before its job is.
        if sources.first().and_then(PollFd::any).unwrap_or(false) {
            return Ok(());
        }
        if let Some(failure) = service.failure() {
            return Err(failure);
        }
        if left.is_zero() {
            bail!("cannot start unit `{}`: its process has not come within {PATIENCE:?}", service.unit());
        }
    }
}

/// In the launcher: takes over from its caller what a service does not inherit. Nothing happens in any other process.
/// Before anything has read the environment.
///
/// # Errors
/// There is no caller any more.
pub fn enter() -> anyhow::Result<()> {
    let Some(named) = std::env::var_os(VARIABLE) else { return Ok(()) };
    let (context, report) = named
        .to_str()
        .and_then(|named| open(named).transpose())
        .context("cannot understand `PODRUN_CALLER`: it is not what podrun writes there")?
        .context("cannot reach the podrun that was called")?;
    let mut text = Vec::new();
    context
        .take(CONTEXT_BYTES_MAX)
        .read_to_end(&mut text)
        .context("cannot hear the podrun that was called")?;
    let context: Context =
        serde_json::from_slice(&text).context("cannot understand the podrun that was called")?;
    take_over(context)?;
    // Any blank is one between two reports.
    nix::unistd::write(&report, b"\n").context("cannot report to the podrun that was called")?;
    *CALLER.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(report.into());
    Ok(())
}

/// The caller's memfd and its pipe; `None`: the name is none.
fn open(named: &str) -> anyhow::Result<Option<(File, File)>> {
    let numbers: Option<Vec<u64>> = named.split(':').map(|word| word.parse().ok()).collect();
    let Some([pid, start_ticks, context, report]) = numbers.as_deref().and_then(|all| all.first_chunk())
    else {
        return Ok(None);
    };
    let path = |number: &u64| format!("/proc/{pid}/fd/{number}");
    let context = File::open(path(context)).context("cannot open what it hands over")?;
    let report = File::options().write(true).open(path(report)).context("cannot open its pipe")?;
    // Behind the opening: a pid that was another's by then would have had it open by then.
    let caller =
        record::Process { start_ticks: *start_ticks, pid: u32::try_from(*pid)?, ..record::Process::this()? };
    ensure!(caller.is_running(), "it has ended");
    Ok(Some((context, report)))
}

fn take_over(context: Context) -> anyhow::Result<()> {
    let is_ours = |name: &OsString| OF_THE_SERVICE.iter().any(|own| name == own);
    let kept = std::env::vars_os().filter(|(name, _)| is_ours(name) && name != VARIABLE);
    let given = context.environment.into_iter().filter(|(name, _)| !is_ours(name));
    environment::replace(&kept.chain(given).collect::<Vec<_>>())?;
    std::env::set_current_dir(&context.directory)
        .with_context(|| format!("cannot enter `{}`", context.directory.display()))?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(context.umask));
    if let Some(input) = context.input {
        let file = memfd::sealed(c"manifest", input.as_bytes())?;
        nix::unistd::dup2_stdin(file).context("cannot replace standard input")?;
    }
    Ok(())
}

/// In the launcher: where it reports, once.
#[must_use]
pub fn caller() -> Option<OwnedFd> {
    CALLER.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
}
