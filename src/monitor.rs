//! The launcher's life beside a running pod: records in, commands out, output on, and the end.
//!
//! One thread, one poll: stage1's socket, its pidfd, the apps' pipes, our signals. What happened is folded
//! into the status by `pod::status`; what a signal asks for is decided by [`intent`]; the rest is moving bytes.
//! Nothing wakes it up when nothing happens. stage1 does all of the pod's work: when this process dies, stage1
//! sees the closed socket and stops the pod in order.

pub mod intent;
pub mod journal;
pub mod journal_lines;
pub mod notices;
pub mod outlet;
pub mod sink;
pub mod teller;
mod wiring;

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::errno::Errno;
use nix::sys::wait::WaitStatus;
use podrun_abi::PACKET_BYTES_MAX;
use podrun_abi::control::Command;
use podrun_abi::event::{Event, Record, StopReason};
use podrun_abi::failure::StartFailure;

use crate::error::EXIT_TIMED_OUT;
use crate::launch::{self, Launched};
use crate::output::span;
use crate::sys::{packet, pidfd, text};
use crate::systemd::Told;
use intent::{Intent, Signals};
use sink::Sink;
use teller::Teller;
use wiring::{Ready, Wiring};

/// How long leftovers of a pod that has ended may take to go away.
const REMOVE_DEADLINE: Duration = Duration::from_secs(10);

/// What `run` was asked for beyond the manifest.
#[derive(Debug, Default)]
pub struct Terms {
    /// The pod is stopped at this moment, and the code is 124.
    pub deadline: Option<Instant>,
    /// The pod is stopped when this app has ended, and the code is the app's.
    pub decider: Option<String>,
    /// How long the ordered stop may take, in milliseconds; `None`: for ever.
    pub stop_timeout_ms: Option<u64>,
}

/// How the pod ended, for the exit code and the last line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Exit code of `podrun run`.
    pub code: u8,
    /// What has to be said about it: lower case, no full stop.
    pub message: Option<String>,
}

/// What was learned from stage1 about the end.
#[derive(Default)]
struct Ending {
    ended: Option<(u8, StopReason, Option<String>)>,
    boot_failure: Option<StartFailure>,
    stage1: Option<WaitStatus>,
    /// The code of the app that was to decide it.
    decided: Option<u8>,
    timed_out: bool,
}

/// Stays with the pod until nothing of it is left.
///
/// # Errors
/// Of our own making only (no descriptor for the poll and the like); the pod's end is a [`Verdict`].
pub fn run(
    mut launched: Launched,
    signals: &mut Signals,
    sink: &mut Sink<'_>,
    teller: &mut Teller<'_>,
    terms: &Terms,
) -> anyhow::Result<Verdict> {
    let mut wiring = Wiring::new(&launched, signals)?;
    let mut ending = Ending::default();
    while ending.stage1.is_none() {
        let time_is_up = terms.deadline.filter(|_| !signals.is_stopping());
        let deadline = [sink.deadline(), teller.deadline(), time_is_up].into_iter().flatten().min();
        for ready in wiring.wait(&launched.outputs, sink, deadline)? {
            match ready {
                Ready::Signals => {
                    read_records(&launched, &mut ending, sink, (teller, terms))?;
                    obey(signals, &launched.socket, sink, (teller, terms))?;
                }
                Ready::Socket => read_records(&launched, &mut ending, sink, (teller, terms))?,
                Ready::Stage1 => ending.stage1 = pidfd::reap(launched.stage1.pidfd.as_fd())?,
                Ready::Units => {
                    read_records(&launched, &mut ending, sink, (teller, terms))?;
                    heed_systemd(&mut launched, &wiring, signals, (sink, teller, terms))?;
                }
                Ready::Sink => sink.flush(),
                Ready::Output(index) => wiring.pump(&launched.outputs, index, sink)?,
            }
        }
        let now = Instant::now();
        sink.tick(now);
        if teller.tick(now) {
            // What a start took is not needed beside a pod that has run for a while.
            text::give_back();
        }
        ending.timed_out |= time_is_up.is_some_and(|at| at <= now);
        if let Some(why) = ending.wants_stop(sink, terms)
            && signals.begin_stop()
        {
            read_records(&launched, &mut ending, sink, (teller, terms))?;
            stop(&launched.socket, sink, (teller, terms), &why)?;
        }
    }
    read_records(&launched, &mut ending, sink, (teller, terms))?;
    wiring.drain(&launched.outputs, sink)?;
    sink.finish();
    launched.cgroup.learn(|| teller.recorded_groups());
    finish(launched, &ending, signals)
}

impl Ending {
    /// Why the pod is to be stopped, other than by a signal.
    fn wants_stop(&self, sink: &Sink<'_>, terms: &Terms) -> Option<String> {
        if self.ended.is_some() {
            return None;
        }
        match &terms.decider {
            _ if sink.is_closed() => Some(": standard output was closed".to_owned()),
            _ if self.timed_out => Some(": its time is over".to_owned()),
            Some(app) if self.decided.is_some() => Some(format!(": {app} has ended")),
            _ => None,
        }
    }
}

/// Does what our signals ask for.
fn obey(
    signals: &mut Signals,
    socket: &OwnedFd,
    sink: &mut Sink<'_>,
    (teller, terms): (&mut Teller<'_>, &Terms),
) -> anyhow::Result<()> {
    for intent in signals.intents() {
        match intent {
            Intent::Stop { why } => stop(socket, sink, (teller, terms), why)?,
            Intent::Kill => told(launch::tell(socket, Command::Kill { apps: Vec::new() }))?,
            Intent::Forward(signal) => {
                let command = Command::Signal { apps: Vec::new(), signal, all_processes: false };
                told(launch::tell(socket, command))?;
            }
            Intent::Reload => teller.reload(sink),
            Intent::Dump => teller.dump(sink),
        }
    }
    Ok(())
}

/// Does what systemd asks for.
fn heed_systemd(
    launched: &mut Launched,
    wiring: &Wiring,
    signals: &mut Signals,
    (sink, teller, terms): (&mut Sink<'_>, &Teller<'_>, &Terms),
) -> anyhow::Result<()> {
    let Some(units) = &mut launched.units else { return Ok(()) };
    while let Some(told) = units.told() {
        match told {
            Told::RequestStop if signals.begin_stop() => {
                stop(&launched.socket, sink, (teller, terms), " (systemd stops its scope)")?;
            }
            Told::RequestStop => {}
            Told::Gone => match units.reconnect() {
                Ok(()) => wiring.watch_systemd(units)?,
                Err(error) => {
                    sink.note(&format!("the bus is gone, a stop by systemd will not be in order: {error:#}"));
                }
            },
        }
    }
    Ok(())
}

/// `stopping 3 apps (up to 25s); press Ctrl-C again to kill now`. The records that wait have been read before, so that
/// what is stopped is counted.
fn stop(
    socket: &OwnedFd,
    sink: &mut Sink<'_>,
    (teller, terms): (&Teller<'_>, &Terms),
    why: &str,
) -> anyhow::Result<()> {
    let apps = match teller.running() {
        1 => "1 app".to_owned(),
        count => format!("{count} apps"),
    };
    let time = terms.stop_timeout_ms.map(|time| format!(" (up to {})", span(time))).unwrap_or_default();
    sink.note_event(&format!("stopping {apps}{time}{why}"));
    told(launch::tell(socket, Command::Stop { apps: Vec::new(), timeout_ms: None }))
}

/// A stage1 that is gone already needs no command: its pidfd says the rest.
fn told(sent: anyhow::Result<()>) -> anyhow::Result<()> {
    match sent {
        Err(e) if matches!(e.downcast_ref::<Errno>(), Some(Errno::EPIPE | Errno::ECONNRESET)) => Ok(()),
        other => other,
    }
}

/// Takes every record that waits on the socket.
fn read_records(
    launched: &Launched,
    ending: &mut Ending,
    sink: &mut Sink<'_>,
    (teller, terms): (&mut Teller<'_>, &Terms),
) -> anyhow::Result<()> {
    let mut packet = vec![0; PACKET_BYTES_MAX];
    loop {
        let (length, attached) = match packet::receive(&launched.socket, &mut packet) {
            Err(Errno::EAGAIN) => break,
            Ok((0, _)) => {
                // Whatever has ended stage1, all of the pod ends: on cgroup v1 what is frozen would not, and stage1 is not gone
                // before it is.
                if ending.ended.is_none() {
                    let _ = launched.cgroup.kill();
                }
                break;
            }
            Ok(received) => received,
            // A stage1 that failed early has left packets of ours unread, which unix(7) tells once, before what it
            // said itself.
            Err(Errno::EINTR | Errno::ECONNRESET) => continue,
            Err(e) => return Err(e).context("cannot read from stage1"),
        };
        // What comes from inside is untrusted: a packet that is no record is skipped, never acted upon.
        let Ok(record) = serde_json::from_slice::<Record>(&packet[..length]) else { continue };
        match &record.event {
            Event::PodEnded { code, reason, decided_by } => {
                ending.ended = Some((*code, reason.clone(), decided_by.clone()));
                launched.cgroup.remove_apps();
            }
            Event::BootFailed { failure } => ending.boot_failure = Some(failure.clone()),
            Event::Ended { app, outcome } if Some(app) == terms.decider.as_ref() => {
                ending.decided = Some(outcome.end.exit_code());
            }
            Event::StartFailed { app, failure } if Some(app) == terms.decider.as_ref() => {
                ending.decided = Some(failure.exit_code());
            }
            Event::Stores { app, name, poll } => teller.keep(app, (name, *poll), &attached),
            _ => {}
        }
        teller.record(&record, sink);
    }
    Ok(())
}

/// Removes the groups and says how it ended.
fn finish(launched: Launched, ending: &Ending, signals: &Signals) -> anyhow::Result<Verdict> {
    let (cgroup, units) = (launched.cgroup, launched.units);
    let removed = cgroup.remove(Instant::now() + REMOVE_DEADLINE).or_else(|_| {
        cgroup.kill()?;
        cgroup.remove(Instant::now() + REMOVE_DEADLINE)
    });
    let removed = removed.and_then(|()| match units {
        Some(mut units) => units.close(Instant::now() + REMOVE_DEADLINE),
        None => Ok(()),
    });
    let mut verdict = verdict(ending, signals.interrupted());
    if let Err(left) = removed {
        verdict.code = if verdict.code == 0 { 125 } else { verdict.code };
        verdict.message = Some(format!("{left:#}"));
    }
    Ok(verdict)
}

fn verdict(ending: &Ending, interrupted: bool) -> Verdict {
    if let Some(failure) = &ending.boot_failure {
        return Verdict { code: 125, message: Some(format!("stage1 {failure}")) };
    }
    let decided = |code: u8| ending.decided.unwrap_or(code);
    match &ending.ended {
        Some(_) if ending.timed_out => Verdict { code: EXIT_TIMED_OUT, message: None },
        // Lets a shell loop end: the shell looks for 130 (compose's 0 does not).
        Some((0, StopReason::Requested, _)) if interrupted && decided(0) == 0 => {
            Verdict { code: 130, message: None }
        }
        Some((code, _, _)) => Verdict { code: decided(*code), message: None },
        None => lost(ending.stage1),
    }
}

/// stage1 ended without its last words.
fn lost(stage1: Option<WaitStatus>) -> Verdict {
    match stage1 {
        Some(WaitStatus::Signaled(_, signal, _)) => Verdict {
            code: u8::try_from(128 + signal as i32).unwrap_or(u8::MAX),
            message: Some(format!("stage1 was killed by {signal}; every process of the pod died with it")),
        },
        Some(WaitStatus::Exited(_, code)) => {
            Verdict { code: 125, message: Some(format!("stage1 ended with code {code} and without a word")) }
        }
        _ => Verdict { code: 125, message: Some("stage1 is gone without a word".to_owned()) },
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;
    use nix::unistd::Pid;
    use podrun_abi::failure::Step;

    use super::*;

    #[test]
    fn the_time_that_is_over_and_the_app_that_decides_win() {
        let table = [
            (Ending { timed_out: true, decided: Some(3), ..ended(0, StopReason::Requested) }, false, 124),
            (Ending { decided: Some(3), ..ended(0, StopReason::Requested) }, false, 3),
            (Ending { decided: Some(0), ..ended(7, StopReason::Finished) }, false, 0),
            (Ending { decided: Some(3), ..ended(0, StopReason::Requested) }, true, 3),
            (Ending { decided: Some(0), ..ended(0, StopReason::Requested) }, true, 130),
        ];
        for (ending, interrupted, code) in table {
            assert_eq!(verdict(&ending, interrupted), Verdict { code, message: None });
        }
    }

    fn ended(code: u8, reason: StopReason) -> Ending {
        Ending { ended: Some((code, reason, None)), ..Ending::default() }
    }

    #[test]
    fn the_code_is_stage1s_unless_ctrl_c_ended_well() {
        let failed = || StopReason::AppFailed { app: "web".to_owned() };
        let table = [
            (ended(0, StopReason::Finished), false, 0),
            (ended(0, StopReason::Finished), true, 0),
            (ended(0, StopReason::Requested), false, 0),
            (ended(0, StopReason::Requested), true, 130),
            (ended(137, StopReason::Requested), true, 137),
            (ended(5, failed()), true, 5),
        ];
        for (ending, interrupted, code) in table {
            assert_eq!(verdict(&ending, interrupted), Verdict { code, message: None });
        }
    }

    #[test]
    fn a_stage1_without_last_words_is_told_with_how_it_ended() {
        let pid = Pid::from_raw(7);
        let table = [
            (WaitStatus::Signaled(pid, Signal::SIGKILL, false), 137, "killed by SIGKILL"),
            (WaitStatus::Exited(pid, 0), 125, "ended with code 0 and without a word"),
        ];
        for (status, code, words) in table {
            let verdict = verdict(&Ending { stage1: Some(status), ..Ending::default() }, false);
            assert_eq!(verdict.code, code);
            assert!(verdict.message.as_ref().is_some_and(|m| m.contains(words)), "{verdict:?}");
        }
    }

    #[test]
    fn a_failed_boot_is_podruns_own_failure() {
        let failure = StartFailure { step: Step::PivotRoot, subject: "/".into(), errno: 22, fault: None };
        let verdict = verdict(&Ending { boot_failure: Some(failure), ..Ending::default() }, false);
        assert_eq!(verdict.code, 125);
        assert!(verdict.message.is_some_and(|m| m.starts_with("stage1 cannot pivot into `/`: ")));
    }
}
