//! [`Sink`]: where the apps' output goes, and podrun's own lines with it.
//!
//! In the foreground: to our standard output and error, a prefix per app, never blocking. Detached: to one
//! bounded file per app and stream in the pod directory.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::outlet::Outlet;
use crate::launch::{Output, Stream};
use crate::output::log_file::LogFile;
use crate::output::prefix::Prefixer;

/// How long the last words of a pod wait for a slow reader, for each piece.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the apps' output goes.
pub enum Sink<'a> {
    /// To our own standard output and error.
    Foreground(Foreground<'a>),
    /// To files, in the order of the pod's outputs.
    Files(Vec<LogFile>),
}

/// Standard output and error, with a prefix per app.
pub struct Foreground<'a> {
    prefixer: Prefixer,
    outlets: [Outlet<'a>; 2],
}

impl<'a> Foreground<'a> {
    /// Both descriptors stay the caller's.
    #[must_use]
    pub fn new(prefixer: Prefixer, stdout: BorrowedFd<'a>, stderr: BorrowedFd<'a>) -> Self {
        Self { prefixer, outlets: [Outlet::new(stdout), Outlet::new(stderr)] }
    }
}

fn slot(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

impl<'a> Sink<'a> {
    /// Takes what an app has written. `index` is that of the output, two for each app.
    pub fn write(&mut self, index: usize, output: &Output, bytes: &[u8]) {
        match self {
            Self::Foreground(fore) => {
                let outlet = &mut fore.outlets[slot(output.stream)];
                fore.prefixer.write(index, bytes, Instant::now(), |text| outlet.push(text));
                outlet.flush();
            }
            Self::Files(files) => {
                if let Some(file) = files.get_mut(index) {
                    file.write(bytes, jiff::Timestamp::now());
                }
            }
        }
    }

    /// The stream has ended: what stood without a newline goes out.
    pub fn end(&mut self, index: usize, output: &Output) {
        if let Self::Foreground(fore) = self {
            let outlet = &mut fore.outlets[slot(output.stream)];
            fore.prefixer.end(index, |text| outlet.push(text));
            outlet.flush();
        }
    }

    /// A line of podrun's own, to standard error.
    pub fn note(&mut self, words: &str) {
        if let Self::Foreground(fore) = self {
            let line = fore.prefixer.own_line(words);
            fore.outlets[1].push(line.as_bytes());
            fore.outlets[1].flush();
        }
    }

    /// When [`Sink::tick`] wants to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Foreground(fore) => fore.prefixer.deadline(),
            Self::Files(_) => None,
        }
    }

    /// Lets partial lines go whose time has come.
    pub fn tick(&mut self, now: Instant) {
        if let Self::Foreground(fore) = self {
            let [stdout, stderr] = &mut fore.outlets;
            fore.prefixer
                .tick(now, |index, text| if index % 2 == 0 { stdout.push(text) } else { stderr.push(text) });
        }
        self.flush();
    }

    /// Writes what fits at once.
    pub fn flush(&mut self) {
        if let Self::Foreground(fore) = self {
            fore.outlets.iter_mut().for_each(Outlet::flush);
        }
    }

    /// Writes everything, patiently.
    pub fn finish(&mut self) {
        if let Self::Foreground(fore) = self {
            fore.outlets.iter_mut().for_each(|o| o.finish(PATIENCE));
        }
    }

    /// No more of this stream should come before some has gone.
    #[must_use]
    pub fn is_full(&self, stream: Stream) -> bool {
        match self {
            Self::Foreground(fore) => fore.outlets[slot(stream)].is_full(),
            Self::Files(_) => false,
        }
    }

    /// The reader of standard output is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match self {
            Self::Foreground(fore) => fore.outlets[0].is_closed(),
            Self::Files(_) => false,
        }
    }

    /// Descriptors of standard output and error for which bytes are waiting.
    #[must_use]
    pub fn waiting(&self) -> [Option<BorrowedFd<'a>>; 2] {
        match self {
            Self::Foreground(fore) => {
                let [stdout, stderr] = &fore.outlets;
                [stdout, stderr].map(|o| o.is_waiting().then(|| o.fd()))
            }
            Self::Files(_) => [None, None],
        }
    }
}
