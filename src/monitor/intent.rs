//! What our own signals mean.
//!
//! | signal | meaning |
//! | --- | --- |
//! | SIGTERM, SIGINT | first: the ordered stop; again: kill at once |
//! | SIGQUIT | kill at once |
//! | SIGHUP | the terminal went away: the ordered stop; else a reload, for which no app has an action |
//! | SIGUSR1 | the state of the pod to standard error |
//! | SIGUSR2, SIGWINCH | to the main process of every app |

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// The ordered stop.
    Stop {
        /// What stands behind the line that says so.
        why: &'static str,
    },
    /// Kill everything at once.
    Kill,
    /// Send this signal to the apps.
    Forward(i32),
    /// Take up what has changed.
    Reload,
    /// Say how the pod is.
    Dump,
}

/// The signals of the launcher as something to poll, and what came of them so far.
pub struct Signals {
    source: signal_hook_mio::v1_0::Signals,
    rules: Rules,
}

/// The pure part: which intent a signal has after those that came before.
#[derive(Debug, Default)]
struct Rules {
    stopping: bool,
    interrupted: bool,
    had_terminal: bool,
}

impl Signals {
    /// Installs the handlers. To be called before the clone, or a signal in between would be lost.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn new() -> anyhow::Result<Self> {
        let wanted = [SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH];
        let source = signal_hook_mio::v1_0::Signals::new(wanted).context("cannot install signal handlers")?;
        Ok(Self { source, rules: Rules { had_terminal: has_terminal(), ..Rules::default() } })
    }

    /// For the poll.
    pub fn source(&mut self) -> &mut signal_hook_mio::v1_0::Signals {
        &mut self.source
    }

    /// What has arrived since the last call.
    pub fn intents(&mut self) -> Vec<Intent> {
        let arrived: Vec<i32> = self.source.pending().collect();
        arrived.into_iter().map(|signal| self.rules.on(signal, has_terminal)).collect()
    }

    /// A stop was asked for by SIGINT.
    #[must_use]
    pub fn interrupted(&self) -> bool {
        self.rules.interrupted
    }

    /// A stop was asked for, by a signal or by [`Signals::begin_stop`].
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.rules.stopping
    }

    /// The pod is to be stopped for another reason than a signal; false: it is being stopped already. A signal after
    /// this is the second one.
    pub fn begin_stop(&mut self) -> bool {
        !std::mem::replace(&mut self.rules.stopping, true)
    }
}

impl Rules {
    fn on(&mut self, signal: i32, has_terminal: impl Fn() -> bool) -> Intent {
        match signal {
            SIGTERM | SIGINT if self.stopping => Intent::Kill,
            SIGTERM => self.stop(": SIGTERM"),
            SIGINT => {
                self.interrupted = true;
                self.stop("; press Ctrl-C again to kill now")
            }
            SIGQUIT => Intent::Kill,
            SIGHUP if self.had_terminal && !has_terminal() => self.stop(": the terminal is gone"),
            SIGHUP => Intent::Reload,
            SIGUSR1 => Intent::Dump,
            other => Intent::Forward(other),
        }
    }

    fn stop(&mut self, why: &'static str) -> Intent {
        self.stopping = true;
        Intent::Stop { why }
    }
}

/// Opening `/dev/tty` fails with ENXIO when there is no controlling terminal (any more).
fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_stop_signal_kills() {
        for (first, second) in [(SIGINT, SIGINT), (SIGTERM, SIGINT), (SIGINT, SIGTERM)] {
            let mut rules = Rules::default();
            assert!(matches!(rules.on(first, || true), Intent::Stop { .. }));
            assert_eq!(rules.on(second, || true), Intent::Kill);
            assert_eq!(rules.interrupted, first == SIGINT);
        }
    }

    #[test]
    fn hangup_stops_only_when_the_terminal_is_gone() {
        let table = [(true, false, true), (true, true, false), (false, false, false)];
        for (had_terminal, has, stops) in table {
            let mut rules = Rules { had_terminal, ..Rules::default() };
            assert_eq!(matches!(rules.on(SIGHUP, || has), Intent::Stop { .. }), stops);
        }
    }

    #[test]
    fn other_signals_are_forwarded() {
        let mut rules = Rules::default();
        assert_eq!(rules.on(SIGUSR2, || true), Intent::Forward(SIGUSR2));
        assert_eq!(rules.on(SIGWINCH, || true), Intent::Forward(SIGWINCH));
        assert_eq!(rules.on(SIGUSR1, || true), Intent::Dump);
        assert_eq!(rules.on(SIGQUIT, || true), Intent::Kill);
    }
}
