//! [`Sink`]: where the apps' output goes, and podrun's own lines with it.
//!
//! In the foreground: to our standard output and error, a prefix per app, never blocking; where standard error is a
//! stream to the journal, to the journal with the app's name in a field of its own. Detached: to one bounded file per
//! app and stream in the pod directory.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::journal_lines::JournalLines;
use super::outlet::Outlet;
use crate::launch::{Output, Stream};
use crate::output::log_file::LogFile;
use crate::output::prefix::Prefixer;

/// How long the last words of a pod wait for a slow reader, for each piece.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the apps' output goes, as far as it goes through us.
#[derive(Default)]
pub struct Sink<'a> {
    fore: Option<Foreground<'a>>,
    /// Takes what it takes before `fore` is asked.
    journal: Option<JournalLines>,
    /// By the index of the output; what has no file is printed.
    files: Vec<Option<LogFile>>,
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

impl<'a> Sink<'a> {
    /// Prints what has no file, when there is somebody to print it for.
    #[must_use]
    pub fn new(fore: Option<Foreground<'a>>, files: Vec<Option<LogFile>>) -> Self {
        Self { fore, journal: None, files }
    }

    /// Some of what would be printed goes to the journal instead, and so do podrun's own lines.
    #[must_use]
    pub fn through(self, journal: Option<JournalLines>) -> Self {
        Self { journal, ..self }
    }

    /// Takes what an app has written. `index` is that of the output.
    pub fn write(&mut self, index: usize, output: &Output, bytes: &[u8]) {
        if let Some(file) = self.file(index) {
            return file.write(bytes, jiff::Timestamp::now());
        }
        if let Some(journal) = self.journal_of(output.stream) {
            return journal.write(output.app, output.stream, bytes);
        }
        let Some(fore) = &mut self.fore else { return };
        let outlet = &mut fore.outlets[output.stream.slot()];
        fore.prefixer.write(line_of(output), bytes, Instant::now(), |text| outlet.push(text));
        outlet.flush();
    }

    /// The stream has ended: what stood without a newline goes out.
    pub fn end(&mut self, index: usize, output: &Output) {
        if self.file(index).is_some() {
            return;
        }
        if let Some(journal) = self.journal_of(output.stream) {
            journal.end(output.app, output.stream);
            journal.flush();
        } else if let Some(fore) = &mut self.fore {
            let outlet = &mut fore.outlets[output.stream.slot()];
            fore.prefixer.end(line_of(output), |text| outlet.push(text));
            outlet.flush();
        }
    }

    fn file(&mut self, index: usize) -> Option<&mut LogFile> {
        self.files.get_mut(index).and_then(Option::as_mut)
    }

    fn journal_of(&mut self, stream: Stream) -> Option<&mut JournalLines> {
        self.journal.as_mut().filter(|journal| journal.takes(stream))
    }

    /// A line about something that the journal may have been told as an event: not once more to the journal.
    pub fn note_event(&mut self, words: &str) {
        if !self.journal.as_ref().is_some_and(JournalLines::has_events) {
            self.note(words);
        }
    }

    /// A line of podrun's own, to standard error.
    pub fn note(&mut self, words: &str) {
        if let Some(journal) = &mut self.journal {
            journal.note(words);
        } else if let Some(fore) = &mut self.fore {
            let line = fore.prefixer.own_line(words);
            fore.outlets[1].push(line.as_bytes());
            fore.outlets[1].flush();
        }
    }

    /// When [`Sink::tick`] wants to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.fore.as_ref().and_then(|fore| fore.prefixer.deadline())
    }

    /// Lets partial lines go whose time has come.
    pub fn tick(&mut self, now: Instant) {
        if let Some(fore) = &mut self.fore {
            let [stdout, stderr] = &mut fore.outlets;
            fore.prefixer
                .tick(now, |index, text| if index % 2 == 0 { stdout.push(text) } else { stderr.push(text) });
        }
        self.flush();
    }

    /// Writes what fits at once.
    pub fn flush(&mut self) {
        self.outlets().for_each(Outlet::flush);
        self.journal.iter_mut().for_each(JournalLines::flush);
    }

    /// Writes everything, patiently.
    pub fn finish(&mut self) {
        self.outlets().for_each(|outlet| outlet.finish(PATIENCE));
        self.journal.iter_mut().for_each(|journal| journal.finish(PATIENCE));
    }

    fn outlets(&mut self) -> impl Iterator<Item = &mut Outlet<'a>> {
        self.fore.iter_mut().flat_map(|fore| &mut fore.outlets)
    }

    /// No more of this output should come before some has gone. A file takes everything.
    #[must_use]
    pub fn is_full(&self, index: usize, stream: Stream) -> bool {
        if self.files.get(index).is_some_and(Option::is_some) {
            return false;
        }
        if let Some(journal) = self.journal.as_ref().filter(|journal| journal.takes(stream)) {
            return journal.is_full();
        }
        self.fore.as_ref().is_some_and(|fore| fore.outlets[stream.slot()].is_full())
    }

    /// The reader of standard output is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.fore.as_ref().is_some_and(|fore| fore.outlets[0].is_closed())
    }

    /// Descriptors of standard output, of standard error and of the journal, for which bytes are waiting.
    #[must_use]
    pub fn waiting(&self) -> [Option<BorrowedFd<'_>>; 3] {
        let outlet = |slot: usize| {
            let outlet = self.fore.as_ref().map(|fore| &fore.outlets[slot])?;
            outlet.is_waiting().then(|| outlet.fd())
        };
        [outlet(0), outlet(1), self.journal.as_ref().and_then(JournalLines::waiting)]
    }
}

/// As the prefixer counts: two for each app.
fn line_of(output: &Output) -> usize {
    2 * output.app + output.stream.slot()
}
