//! [`JournalLines`]: output of the apps as entries of the host's journal, where podrun's own standard error is a stream
//! to it.
//!
//! A line is an entry with the pod's, the app's and the stream's name as fields, so that nothing has to stand before its
//! text. Entries wait in order while the journal does not keep up; then the apps' pipes are not read any more.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::launch::Stream;
use crate::output::journal::{Entry, connect, priority};
use crate::output::prefix::LINE_BYTES_MAX;

/// Above this many waiting bytes no more are taken.
const HIGH_WATER: usize = 64 * 1024;

/// Whose lines they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The pod's name.
    pub pod: String,
    /// Its id.
    pub id: String,
    /// Its apps, in order.
    pub apps: Vec<String>,
    /// What happens to it is told to the journal by [`super::journal`].
    pub has_events: bool,
}

/// Lines on their way to the journal.
#[derive(Debug)]
pub struct JournalLines {
    directory: String,
    socket: Option<UnixDatagram>,
    source: Source,
    /// Which of standard output and standard error go there.
    takes: [bool; 2],
    /// By app and stream: what stands without a newline.
    lines: Vec<[Vec<u8>; 2]>,
    waiting: VecDeque<Entry>,
    waiting_bytes: usize,
}

impl JournalLines {
    /// `None`: nobody listens in this directory.
    #[must_use]
    pub fn new(directory: &str, source: Source, takes: [bool; 2]) -> Option<Self> {
        let socket = Some(connect(directory)?);
        let lines = vec![Default::default(); source.apps.len()];
        let (waiting, waiting_bytes) = (VecDeque::new(), 0);
        Some(Self { directory: directory.to_owned(), socket, source, takes, lines, waiting, waiting_bytes })
    }

    /// Whether the journal is told of what happens to the pod in another way.
    #[must_use]
    pub fn has_events(&self) -> bool {
        self.source.has_events
    }

    /// Whether this stream of an app goes to the journal.
    #[must_use]
    pub fn takes(&self, stream: Stream) -> bool {
        self.takes[stream.slot()]
    }

    /// Takes what an app has written.
    pub fn write(&mut self, app: usize, stream: Stream, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let mut rest = piece;
            loop {
                let Some(line) = self.lines.get_mut(app).map(|lines| &mut lines[stream.slot()]) else {
                    return;
                };
                let (fits, later) = rest.split_at(rest.len().min(LINE_BYTES_MAX - line.len()));
                line.extend_from_slice(fits);
                if line.ends_with(b"\n") || line.len() == LINE_BYTES_MAX {
                    self.end(app, stream);
                }
                if later.is_empty() {
                    break;
                }
                rest = later;
            }
        }
        self.flush();
    }

    /// The stream has ended, or a line has: what was gathered becomes an entry.
    pub fn end(&mut self, app: usize, stream: Stream) {
        let Some(line) = self.lines.get_mut(app).map(|lines| std::mem::take(&mut lines[stream.slot()]))
        else {
            return;
        };
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        // The journal keeps no empty lines of services either.
        if text.is_empty() {
            return;
        }
        let (level, text) = own_level(text);
        let name = self.source.apps.get(app).map_or("", String::as_str);
        let entry =
            Entry::new(level, name, text).with("PODRUN_APP", name).with("PODRUN_STREAM", stream.name());
        self.push(entry);
    }

    /// A line of podrun's own.
    pub fn note(&mut self, words: &str) {
        self.push(Entry::new(priority::NOTICE, "podrun", words.as_bytes()));
        self.flush();
    }

    fn push(&mut self, entry: Entry) {
        let entry = entry.with("PODRUN_POD", &self.source.pod).with("PODRUN_ID", &self.source.id);
        self.waiting_bytes += entry.bytes().len();
        self.waiting.push_back(entry);
    }

    /// Sends what the journal takes at once.
    pub fn flush(&mut self) {
        let mut may_connect = true;
        while let Some(entry) = self.waiting.front() {
            let sent = match &self.socket {
                Some(socket) => socket.send(entry.bytes()),
                None => Err(io::ErrorKind::NotConnected.into()),
            };
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // It was restarted, and has a new socket.
                Err(_) if may_connect => {
                    may_connect = false;
                    self.socket = connect(&self.directory);
                    continue;
                }
                // An entry that it does not want, or no journal: nobody else is there to take it.
                Ok(_) | Err(_) => {}
            }
            self.waiting_bytes -= entry.bytes().len();
            self.waiting.pop_front();
        }
    }

    /// Sends everything, waiting up to `patience` for each entry.
    pub fn finish(&mut self, patience: Duration) {
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        self.flush();
        while let Some(fd) = self.waiting() {
            let mut set = [PollFd::new(fd, PollFlags::POLLOUT)];
            if !poll(&mut set, timeout).is_ok_and(|ready| ready > 0) {
                return;
            }
            self.flush();
        }
    }

    /// No more should come before some has gone.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.waiting_bytes >= HIGH_WATER
    }

    /// The socket, while entries wait for room in it.
    #[must_use]
    pub fn waiting(&self) -> Option<BorrowedFd<'_>> {
        let socket = self.socket.as_ref().filter(|_| !self.waiting.is_empty());
        socket.map(AsFd::as_fd)
    }
}

/// A line that begins with `<0>` to `<7>` says how important it is (sd-daemon(3)).
fn own_level(text: &[u8]) -> (u8, &[u8]) {
    match text {
        [b'<', digit @ b'0'..=b'7', b'>', rest @ ..] if !rest.is_empty() => (digit - b'0', rest),
        _ => (priority::INFO, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(takes: [bool; 2]) -> (tempfile::TempDir, UnixDatagram, JournalLines) {
        let dir = tempfile::tempdir().unwrap();
        let journal = UnixDatagram::bind(dir.path().join("socket")).unwrap();
        journal.set_nonblocking(true).unwrap();
        let source = Source {
            pod: "shop".into(),
            id: "0badcafe".into(),
            apps: vec!["a".into(), "b".into()],
            has_events: true,
        };
        let lines = JournalLines::new(dir.path().to_str().unwrap(), source, takes).unwrap();
        (dir, journal, lines)
    }

    fn received(journal: &UnixDatagram) -> Vec<String> {
        let mut buffer = vec![0; 1 << 17];
        std::iter::from_fn(|| {
            journal.recv(&mut buffer).ok().map(|n| String::from_utf8(buffer[..n].to_vec()).unwrap())
        })
        .collect()
    }

    #[test]
    fn lines_are_entries_with_their_origin() {
        let (_dir, journal, mut lines) = open([true, true]);
        lines.write(0, Stream::Stdout, b"one\n\n<3>tw");
        lines.write(1, Stream::Stderr, b"half");
        lines.write(0, Stream::Stdout, b"o\n");
        lines.end(1, Stream::Stderr);
        lines.note("bye");
        let rest = "PODRUN_POD=shop\nPODRUN_ID=0badcafe\n";
        let of = |text: &str, level: u8, app: &str, stream: &str| {
            format!(
                "MESSAGE={text}\nPRIORITY={level}\nSYSLOG_IDENTIFIER={app}\nPODRUN_APP={app}\nPODRUN_STREAM={stream}\n{rest}"
            )
        };
        let expected = [
            of("one", 6, "a", "stdout"),
            of("two", 3, "a", "stdout"),
            of("half", 6, "b", "stderr"),
            format!("MESSAGE=bye\nPRIORITY=5\nSYSLOG_IDENTIFIER=podrun\n{rest}"),
        ];
        assert_eq!(received(&journal), expected);
    }

    #[test]
    fn long_lines_come_in_pieces() {
        let (_dir, journal, mut lines) = open([true, false]);
        lines.write(0, Stream::Stdout, &[b'x'; 2 * LINE_BYTES_MAX + 5]);
        lines.write(0, Stream::Stdout, b"\n");
        let lengths: Vec<usize> = received(&journal)
            .iter()
            .map(|entry| entry.lines().next().unwrap().len() - "MESSAGE=".len())
            .collect();
        assert_eq!(lengths, [LINE_BYTES_MAX, LINE_BYTES_MAX, 5]);
    }

    #[test]
    fn journal_that_does_not_read_is_waited_for_and_one_that_is_new_is_found() {
        let (dir, journal, mut lines) = open([true, true]);
        while !lines.is_full() {
            lines.write(0, Stream::Stdout, &[&[b'x'; 1000][..], b"\n"].concat());
        }
        assert!(lines.waiting().is_some());
        let mut count = 0;
        while lines.waiting().is_some() {
            count += received(&journal).len();
            lines.flush();
        }
        count += received(&journal).len();
        assert!(count > 60, "{count}");
        drop(journal);
        std::fs::remove_file(dir.path().join("socket")).unwrap();
        let journal = UnixDatagram::bind(dir.path().join("socket")).unwrap();
        journal.set_nonblocking(true).unwrap();
        lines.note("again");
        assert_eq!(received(&journal).len(), 1);
    }
}
