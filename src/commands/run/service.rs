//! `run -d` below systemd: the launcher is the main process of a transient service, which no log-out ends.
//!
//! Two processes of podrun. The *caller*, which was typed, has found the manifest in order; it asks systemd for the service
//! and waits for the report. The *launcher*, which systemd executes with the same words, runs the pod as `run` does, with
//! a slice and a scope of the pod's own, and reports. They find each other by an abstract socket whose random name is in
//! the service's environment, and what a service does not inherit comes that way ([`Context`]): nothing of it is for
//! everybody's eyes, as a unit's properties are.
//!
//! Invariants: either side talks to root alone; a caller that is gone before it was found leaves nothing behind.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{getsockopt, sockopt};
use serde::{Deserialize, Serialize};

use crate::cli::Driver;
use crate::plan::Plan;
use crate::sys::{environment, memfd};
use crate::systemd::transient::{self, Command, Service};

/// In the service's environment: the name of the caller's socket.
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
    /// A manifest that was read from standard input.
    input: Option<String>,
}

/// In the launcher, until it is taken: the way to its caller.
static CALLER: Mutex<Option<UnixStream>> = Mutex::new(None);

/// Whether the launcher of some pod could be a service, with this driver, from here.
#[must_use]
pub fn can_be(driver: Driver) -> bool {
    let of = |process: &str, name: &str| std::fs::read_link(format!("/proc/{process}/ns/{name}")).ok();
    let is_booted = || Path::new("/run/systemd/system").is_dir();
    let is_asked = driver == Driver::Systemd || (driver == Driver::Auto && is_booted());
    is_asked && SHARED.iter().all(|name| of("self", name) == of("1", name))
}

/// Has the launcher executed; returns where it reports.
///
/// # Errors
/// What systemd said, or that the launcher did not come; there is no service then.
pub fn start(plan: &Plan, input: Option<&str>) -> anyhow::Result<OwnedFd> {
    let name = random_name()?;
    let listener = SocketAddr::from_abstract_name(&name)
        .and_then(|address| UnixListener::bind_addr(&address))
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .context("cannot listen for the launcher")?;
    let units = plan.units.as_ref().context("the plan names no units")?;
    let mut service = transient::start(&plan.pod, units, &command(&name)?)?;
    let met = await_launcher(&listener, &mut service).and_then(|stream| {
        hand_over(&stream, input)?;
        Ok(OwnedFd::from(stream))
    });
    if met.is_err() {
        service.stop();
    }
    met
}

/// 128 bits that nobody guesses, in hexadecimal digits.
fn random_name() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("cannot read `/dev/urandom`")?;
    Ok(bytes.iter().fold("podrun-".to_owned(), |name, byte| name + &format!("{byte:02x}")))
}

fn command(socket: &str) -> anyhow::Result<Command> {
    let own = std::env::current_exe().context("cannot find our own binary in `/proc/self/exe`")?;
    let text = |word: OsString| {
        word.into_string()
            .map_err(|word| anyhow!("cannot give `{}` to systemd: it is not UTF-8", word.display()))
    };
    Ok(Command {
        path: text(own.into_os_string())?,
        argv: std::env::args_os().map(text).collect::<Result<_, _>>()?,
        environment: vec![format!("{VARIABLE}={socket}")],
        nofile: getrlimit(Resource::RLIMIT_NOFILE).context("cannot read RLIMIT_NOFILE")?,
    })
}

fn await_launcher(listener: &UnixListener, service: &mut Service) -> anyhow::Result<UnixStream> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // A launcher that has come and failed is asked before its job is.
        match listener.accept() {
            Ok((stream, _)) if is_root(&stream) => {
                stream.set_nonblocking(false).context("cannot use the launcher's connection")?;
                return Ok(stream);
            }
            Ok(_) => continue,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("cannot take the launcher's connection"),
        }
        if let Some(failure) = service.failure() {
            return Err(failure);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            bail!("cannot start unit `{}`: its process has not come within {PATIENCE:?}", service.unit());
        }
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let sources = [Some(listener.as_fd()), service.socket()];
        let mut sources: Vec<_> =
            sources.into_iter().flatten().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut sources, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("cannot wait for the launcher"),
        }
    }
}

/// Whether root has the other end: abstract names are open to everybody.
fn is_root(stream: &UnixStream) -> bool {
    getsockopt(stream, sockopt::PeerCredentials).is_ok_and(|peer| peer.uid() == 0)
}

fn hand_over(mut stream: &UnixStream, input: Option<&str>) -> anyhow::Result<()> {
    let context = Context {
        directory: std::env::current_dir().context("cannot find the working directory")?,
        environment: std::env::vars_os().collect(),
        input: input.map(str::to_owned),
    };
    stream
        .write_all(&serde_json::to_vec(&context)?)
        .and_then(|()| stream.shutdown(std::net::Shutdown::Write))
        .context("cannot hand over to the launcher")
}

/// In the launcher: takes over from its caller what a service does not inherit. Nothing happens in any other process.
/// Before anything has read the environment.
///
/// # Errors
/// There is no caller any more.
pub fn enter() -> anyhow::Result<()> {
    let Some(name) = std::env::var_os(VARIABLE).filter(|_| is_main_process()) else { return Ok(()) };
    let stream = SocketAddr::from_abstract_name(name.as_encoded_bytes())
        .and_then(|address| UnixStream::connect_addr(&address))
        .context("cannot reach the podrun that was called")?;
    ensure!(is_root(&stream), "cannot obey the podrun that was called: it is not root's");
    let mut text = Vec::new();
    (&stream)
        .take(CONTEXT_BYTES_MAX)
        .read_to_end(&mut text)
        .context("cannot hear the podrun that was called")?;
    let context: Context =
        serde_json::from_slice(&text).context("cannot understand the podrun that was called")?;
    take_over(context)?;
    *CALLER.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(stream);
    Ok(())
}

/// Whether systemd has executed this very process.
#[must_use]
pub fn is_main_process() -> bool {
    std::env::var("SYSTEMD_EXEC_PID").is_ok_and(|pid| pid == std::process::id().to_string())
}

fn take_over(context: Context) -> anyhow::Result<()> {
    let is_ours = |name: &OsString| OF_THE_SERVICE.iter().any(|own| name == own);
    let kept = std::env::vars_os().filter(|(name, _)| is_ours(name) && name != VARIABLE);
    let given = context.environment.into_iter().filter(|(name, _)| !is_ours(name));
    environment::replace(&kept.chain(given).collect::<Vec<_>>())?;
    std::env::set_current_dir(&context.directory)
        .with_context(|| format!("cannot enter `{}`", context.directory.display()))?;
    if let Some(input) = context.input {
        let file = memfd::sealed(c"manifest", input.as_bytes())?;
        nix::unistd::dup2_stdin(file).context("cannot replace standard input")?;
    }
    Ok(())
}

/// In the launcher: where it reports, once.
#[must_use]
pub fn caller() -> Option<OwnedFd> {
    CALLER.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take().map(OwnedFd::from)
}
