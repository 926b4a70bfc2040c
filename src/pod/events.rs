//! Reading `events.jsonl`: a stream of lines of which any may be damaged, cut off or of a later version.
//!
//! Nothing is kept but one line, and no more than [`EVENTS_BYTES_MAX`] are read, so a pod's account costs its
//! reader a bounded time whatever is in it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use podrun_abi::event::{Event, Record};
use podrun_abi::{PACKET_BYTES_MAX, VERSION};
use serde::Deserialize;

use super::record::{self, Unreadable};

/// More than this is not read: a hundred thousand records and more.
pub const EVENTS_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What was met that says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unread {
    /// Lines that are no records.
    pub damaged: u64,
    /// Records of a later version.
    pub newer: u64,
    /// The file as a whole could not be read.
    pub file: Option<Unreadable>,
}

impl Unread {
    /// Whether something may be missing from the account.
    #[must_use]
    pub fn any(&self) -> bool {
        self.damaged > 0
            || self.newer > 0
            || matches!(self.file, Some(ref why) if *why != Unreadable::Missing)
    }
}

/// Calls `take` for every record that can be read, in order.
pub fn each(path: &Path, take: impl FnMut(Record)) -> Unread {
    match record::open_regular(path) {
        Ok(file) => each_line(BufReader::with_capacity(64 * 1024, file.take(EVENTS_BYTES_MAX)), take),
        Err(why) => Unread { file: Some(why), ..Unread::default() },
    }
}

/// One line that fits is parsed; a longer one is skipped to its end.
fn each_line(mut reader: impl BufRead, mut take: impl FnMut(Record)) -> Unread {
    let mut unread = Unread::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = (&mut reader).take(PACKET_BYTES_MAX as u64 + 1);
        match bounded.read_until(b'\n', &mut line) {
            Ok(0) => return unread,
            Ok(_) if line.len() > PACKET_BYTES_MAX => {
                unread.damaged += 1;
                if reader.skip_until(b'\n').is_err() {
                    return unread;
                }
            }
            Ok(_) => match parse(&line) {
                Ok(record) => take(record),
                Err(Unreadable::Newer(_)) => unread.newer += 1,
                Err(_) => unread.damaged += 1,
            },
            Err(error) => {
                unread.file = Some(Unreadable::Damaged(error.to_string()));
                return unread;
            }
        }
    }
}

/// An account that is read while it is written.
#[derive(Debug)]
pub struct Tail {
    file: File,
    /// What was read of a line that is not whole yet.
    line: Vec<u8>,
    /// The line is too long to be a record.
    skips: bool,
}

impl Tail {
    /// From the beginning of the account.
    ///
    /// # Errors
    /// It is not there, or no regular file.
    pub fn open(path: &Path) -> Result<Self, Unreadable> {
        Ok(Self { file: record::open_regular(path)?, line: Vec::new(), skips: false })
    }

    /// Calls `take` for every whole record behind the last one that was read. What is damaged is passed over.
    pub fn each(&mut self, mut take: impl FnMut(Record)) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = self.file.read(&mut buffer) {
            for piece in buffer[..length].split_inclusive(|byte| *byte == b'\n') {
                self.line.extend_from_slice(piece);
                self.skips |= self.line.len() > PACKET_BYTES_MAX;
                if piece.ends_with(b"\n") {
                    let record = parse(&self.line).ok().filter(|_| !self.skips);
                    self.skips = false;
                    self.line.clear();
                    record.into_iter().for_each(&mut take);
                } else if self.skips {
                    self.line.clear();
                }
            }
        }
    }
}

/// An event with the time of this moment.
#[must_use]
pub fn stamp(event: Event) -> Record {
    use nix::time::{ClockId, clock_gettime};
    let monotonic =
        clock_gettime(ClockId::CLOCK_MONOTONIC).map(std::time::Duration::from).unwrap_or_default();
    let monotonic_ms = u64::try_from(monotonic.as_millis()).unwrap_or(u64::MAX);
    Record { version: VERSION, time_ms: record::now_ms(), monotonic_ms, event }
}

fn parse(line: &[u8]) -> Result<Record, Unreadable> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    // The usual line costs one pass; only one that is refused is looked at again for its version.
    match serde_json::from_slice::<Record>(line) {
        Ok(record) if record.version == VERSION => Ok(record),
        Ok(record) => Err(Unreadable::Newer(record.version)),
        Err(error) => match serde_json::from_slice::<Versioned>(line) {
            Ok(Versioned { version }) if version != VERSION => Err(Unreadable::Newer(version)),
            _ => Err(Unreadable::Damaged(error.to_string())),
        },
    }
}

#[cfg(test)]
mod tests {
    use podrun_abi::event::Event;

    use super::*;

    const UP: &str = r#"{"version":1,"time_ms":5,"monotonic_ms":6,"event":"up"}"#;

    fn read(text: &[u8]) -> (Vec<Event>, Unread) {
        let mut events = Vec::new();
        let unread = each_line(text, |record| events.push(record.event));
        (events, unread)
    }

    #[test]
    fn what_is_between_two_records_does_not_hide_them() {
        let long = "x".repeat(3 * PACKET_BYTES_MAX);
        let zeros = "\0".repeat(100);
        for (between, damaged, newer) in [
            ("", 1, 0),
            ("garbage", 1, 0),
            (r#"{"version":1,"event":"dance"}"#, 1, 0),
            (r#"{"version":2,"event":{"danced":{}}}"#, 0, 1),
            (long.as_str(), 1, 0),
            (zeros.as_str(), 1, 0),
        ] {
            let (events, unread) = read(format!("{UP}\n{between}\n{UP}\n").as_bytes());
            assert_eq!(events, [Event::Up, Event::Up], "{between:.20}");
            assert_eq!((unread.damaged, unread.newer), (damaged, newer), "{between:.20}");
        }
    }

    #[test]
    fn what_is_written_while_it_is_read_is_taken_once_it_is_whole() {
        use std::io::Write;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.jsonl");
        let mut file = File::create(&path).unwrap();
        let mut tail = Tail::open(&path).unwrap();
        let mut read = || {
            let mut count = 0;
            tail.each(|_| count += 1);
            count
        };
        assert_eq!(read(), 0);
        let long = "x".repeat(3 * PACKET_BYTES_MAX);
        let (head, rest) = UP.split_at(20);
        for (text, count) in [
            (format!("{UP}\n{UP}\n"), 2),
            (head.to_owned(), 0),
            (format!("{rest}\n"), 1),
            ("garbage\n".to_owned(), 0),
            (long.clone(), 0),
            (long, 0),
            (format!("{UP}\n{UP}\n"), 1),
        ] {
            file.write_all(text.as_bytes()).unwrap();
            assert_eq!(read(), count, "{text:.40}");
        }
    }

    #[test]
    fn every_truncation_gives_the_records_before_it() {
        let text = format!("{UP}\n{UP}\n");
        for end in 0..text.len() {
            let (events, _) = read(&text.as_bytes()[..end]);
            let whole = usize::from(end >= UP.len()) + usize::from(end > 2 * UP.len());
            assert_eq!(events.len(), whole, "{end}");
        }
    }

    #[test]
    fn a_file_of_a_gigabyte_of_nothing_is_read_in_bounds() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.jsonl");
        std::fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
        let started = std::time::Instant::now();
        let unread = each(&path, |_| panic!("no record in zeros"));
        assert_eq!(unread.damaged, 1);
        assert!(started.elapsed() < std::time::Duration::from_secs(10));
    }
}
