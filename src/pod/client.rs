//! Asking a pod's stage1 through its control socket: one [`Request`], one [`Reply`], a deadline.
//!
//! An answer comes from inside the pod and is bounded and parsed like anything else that does.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr};
use podrun_abi::control::{Command, Reply, Request};
use podrun_abi::{PACKET_BYTES_MAX, VERSION};

use super::{Pod, dir};
use crate::output::printable;
use crate::sys::held::Held;

/// How long stage1 may take to answer. It answers between two events; only a machine that stands still is
/// this slow.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// A signal that is held back has ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted by a signal")
    }
}

impl std::error::Error for Interrupted {}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// stage1 does it.
    Accepted,
    /// Nobody listens: stage1 is gone, or was never there.
    Nobody,
}

/// How long an answer is waited for, and what ends that before.
#[derive(Debug, Clone, Copy)]
pub struct Patience<'h> {
    /// How long.
    pub time: Duration,
    /// A signal that is held back ends the wait.
    pub held: Option<&'h Held>,
}

impl Default for Patience<'_> {
    fn default() -> Self {
        Self { time: ANSWER_DEADLINE, held: None }
    }
}

/// Sends one command and waits for the answer.
///
/// # Errors
/// When stage1 refuses, or does not answer in time. In the second case the command may be done all the same, later on.
pub fn ask(pod: &Pod, command: Command, patience: Patience<'_>) -> Result<Answer> {
    let Some(socket) = connect(pod)? else { return Ok(Answer::Nobody) };
    let packet =
        serde_json::to_vec(&Request { version: VERSION, command }).context("cannot write a request")?;
    match exchange(&socket, &packet, &Wait { until: Instant::now() + patience.time, patience }) {
        Ok(Reply::Accepted) => Ok(Answer::Accepted),
        Ok(Reply::Refused { reason }) => bail!("{}", printable(&reason)),
        Err(error) if is_gone(&error) => Ok(Answer::Nobody),
        // It says nothing of stage1.
        Err(error) if error.is::<Interrupted>() => Err(error),
        Err(error) => Err(error).with_context(|| format!("cannot ask stage1 of pod `{}`", pod.name())),
    }
}

/// `None`: nobody listens any more.
fn connect(pod: &Pod) -> Result<Option<OwnedFd>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
        .context("cannot make a socket")?;
    let connected = File::open(pod.path()).and_then(|directory| {
        let address = UnixAddr::new(&dir::short_path(&directory))?;
        // EAGAIN is a full backlog: stage1 has stood still for 32 clients.
        Ok(socket::connect(socket.as_raw_fd(), &address)?)
    });
    match connected {
        Ok(()) => Ok(Some(socket)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            Ok(None)
        }
        Err(error) => Err(error)
            .with_context(|| format!("cannot connect to `{}`", pod.path().join(dir::CONTROL).display())),
    }
}

fn exchange(socket: &OwnedFd, packet: &[u8], wait: &Wait<'_>) -> Result<Reply> {
    wait.until_ready(socket, PollFlags::POLLOUT)?;
    // SIGPIPE is ignored by the runtime; the flag says so for whoever calls this from elsewhere.
    socket::send(socket.as_raw_fd(), packet, MsgFlags::MSG_NOSIGNAL)?;
    wait.until_ready(socket, PollFlags::POLLIN)?;
    let mut answer = vec![0; PACKET_BYTES_MAX];
    let length = socket::recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let answer = answer.get(..length).unwrap_or_default();
    if answer.is_empty() {
        return Err(Errno::ECONNRESET.into());
    }
    serde_json::from_slice(answer).map_err(|error| anyhow!("its answer cannot be read: {error}"))
}

/// A wait with an end.
struct Wait<'h> {
    until: Instant,
    patience: Patience<'h>,
}

impl Wait<'_> {
    fn until_ready(&self, socket: &OwnedFd, events: PollFlags) -> Result<()> {
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("no answer within {} s", self.patience.time.as_secs());
            }
            let mut waits = vec![PollFd::new(socket.as_fd(), events)];
            waits.extend(self.patience.held.map(|held| PollFd::new(held.as_fd(), PollFlags::POLLIN)));
            let ended = poll(&mut waits, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
            let is_ready = |wait: &PollFd<'_>| wait.any().unwrap_or(false);
            match ended {
                Ok(0) | Err(Errno::EINTR) => {}
                // What has been answered counts before a signal.
                Ok(_) if waits.first().is_some_and(is_ready) => return Ok(()),
                Ok(_) => bail!(Interrupted),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

fn is_gone(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<Errno>(), Some(Errno::ECONNRESET | Errno::EPIPE | Errno::ENOTCONN))
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{Signal, raise};

    use super::*;
    use crate::pod::dir::PodDir;
    use crate::pod::root::Root;

    /// Answers one request with these bytes, or closes without a word.
    fn serve(listener: OwnedFd, answer: Option<&'static [u8]>) -> std::thread::JoinHandle<Request> {
        std::thread::spawn(move || {
            let patience = Patience::default();
            let wait = Wait { until: Instant::now() + patience.time, patience };
            wait.until_ready(&listener, PollFlags::POLLIN).unwrap();
            let client = socket::accept(listener.as_raw_fd()).unwrap();
            let mut packet = vec![0; PACKET_BYTES_MAX];
            let length = socket::recv(client, &mut packet, MsgFlags::empty()).unwrap();
            if let Some(answer) = answer {
                socket::send(client, answer, MsgFlags::MSG_NOSIGNAL).unwrap();
            }
            nix::unistd::close(client).unwrap();
            serde_json::from_slice(&packet[..length]).unwrap()
        })
    }

    fn pod() -> (tempfile::TempDir, PodDir, Pod) {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(&directory.path().join("podrun")).unwrap();
        let made = root.create("shop").unwrap();
        let pod = root.find("shop").unwrap();
        (directory, made, pod)
    }

    #[test]
    fn the_answer_of_stage1_is_passed_on() {
        type Case = (Option<&'static [u8]>, Result<Answer, &'static str>);
        let table: [Case; 6] = [
            (Some(br#""accepted""#), Ok(Answer::Accepted)),
            (Some(br#"{"refused":{"reason":"the app is not running"}}"#), Err("the app is not running")),
            (Some(b"\xff\0"), Err("cannot ask stage1 of pod `shop`: its answer cannot be read")),
            (Some(br#"{"danced":{}}"#), Err("cannot ask stage1 of pod `shop`: its answer cannot be read")),
            (Some(b""), Ok(Answer::Nobody)),
            (None, Ok(Answer::Nobody)),
        ];
        for (bytes, expected) in table {
            let (_directory, made, pod) = pod();
            let server = serve(made.control().unwrap(), bytes);
            let command = Command::Stop { apps: vec!["api".into()], timeout_ms: Some(5) };
            match (ask(&pod, command.clone(), Patience::default()), expected) {
                (Ok(answer), Ok(expected)) => assert_eq!(answer, expected),
                (Err(error), Err(expected)) => {
                    assert!(format!("{error:#}").starts_with(expected), "{error:#}")
                }
                (other, expected) => panic!("{other:?}, expected {expected:?}"),
            }
            assert_eq!(server.join().unwrap(), Request { version: VERSION, command });
        }
    }

    /// Nobody takes the request, which waits there all the same.
    #[test]
    fn wait_for_an_answer_ends_in_time_and_by_a_signal() {
        let (_directory, made, pod) = pod();
        let _listener = made.control().unwrap();
        let held = Held::new().unwrap();
        let ask = |time| {
            let begin = Instant::now();
            let patience = Patience { time, held: Some(&held) };
            let told = ask(&pod, Command::Pause { apps: Vec::new() }, patience).unwrap_err();
            (format!("{told:#}"), begin.elapsed())
        };
        let (told, took) = ask(Duration::from_millis(20));
        assert!(told.ends_with("no answer within 0 s") && took >= Duration::from_millis(20), "{told}");
        raise(Signal::SIGINT).unwrap();
        let (told, took) = ask(ANSWER_DEADLINE);
        assert!(told == Interrupted.to_string() && took < ANSWER_DEADLINE, "{told}");
        // Ignored by nobody here: it is taken away before it is let in.
        assert_eq!(held.take(), Some(Signal::SIGINT));
    }

    #[test]
    fn without_a_listener_there_is_nobody() {
        let (_directory, made, pod) = pod();
        let kill = || ask(&pod, Command::Kill { apps: Vec::new() }, Patience::default()).unwrap();
        assert_eq!(kill(), Answer::Nobody, "no socket yet");
        drop(made.control().unwrap());
        assert_eq!(kill(), Answer::Nobody, "a socket that nobody listens on");
        std::fs::remove_dir_all(pod.path()).unwrap();
        assert_eq!(kill(), Answer::Nobody, "no directory any more");
    }
}
