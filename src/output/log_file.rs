//! [`LogFile`]: the output of one stream of one app, bounded on disk, for pods that nobody watches.
//!
//! A line of a file is a time, a mark, and what the app wrote: `2026-11-23T02:40:14.123456Z F text`. `F` ends a line
//! of the app's, `P` does not: what follows it belongs to the same line. So an unfinished line is on disk at once, and
//! nothing is kept in memory. Files are numbered (`api.stdout.0`, `.1`, …). One that has reached its bound is
//! never written again; the next one is begun and the oldest removed, so that a stream takes as much as its files may. A
//! reader goes from number to number and misses nothing, however fast that is; see [`crate::pod::log`].
//!
//! An app never waits for a disk that is full: lines that cannot be written are counted and dropped, and how many
//! is said in the file once there is room again.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;

/// A longer line is written in pieces, each with a time of its own.
pub const PIECE_BYTES_MAX: usize = 16 * 1024;
/// How long a time is: RFC 3339, in UTC, with microseconds.
pub const TIME_BYTES: usize = "2026-11-23T02:40:14.123456Z".len();
/// So much is written at once, so that a file is not much longer than it may be.
const BATCH_BYTES: usize = 64 * 1024;

/// How much of a stream is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// A file this long is not written any more.
    pub length_max: u64,
    /// How many files there are; at least one.
    pub files_max: u64,
}

/// A log file that is being written.
#[derive(Debug)]
pub struct LogFile {
    /// `DIRECTORY/api.stdout`, to which the number is added.
    stem: PathBuf,
    number: u64,
    file: File,
    length: u64,
    bounds: Bounds,
    dropped: u64,
    /// The last line stands there without its end.
    torn: bool,
}

impl LogFile {
    /// Makes the first file of `directory/name`, such as `api.stdout`.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn create(directory: &Path, name: &str, bounds: Bounds) -> Result<Self> {
        let stem = directory.join(name);
        let path = numbered(&stem, 0);
        let file = open(&path).with_context(|| format!("cannot make `{}`", path.display()))?;
        Ok(Self { stem, number: 0, file, length: 0, bounds, dropped: 0, torn: false })
    }

    /// Appends what the app wrote at this time; never fails, see [`LogFile::dropped`].
    pub fn write(&mut self, bytes: &[u8], time: Timestamp) {
        let time = format!("{time:.6}");
        let mut batch = Vec::with_capacity(bytes.len().min(BATCH_BYTES) + 256);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, last_mark) = line.strip_suffix(b"\n").map_or((line, 'P'), |text| (text, 'F'));
            let mut pieces = text.chunks(PIECE_BYTES_MAX).peekable();
            if pieces.peek().is_none() {
                record(&mut batch, &time, last_mark, b"");
            }
            while let Some(piece) = pieces.next() {
                record(&mut batch, &time, if pieces.peek().is_none() { last_mark } else { 'P' }, piece);
            }
            if batch.len() >= BATCH_BYTES {
                self.append(&batch, &time);
                batch.clear();
            }
        }
        if !batch.is_empty() {
            self.append(&batch, &time);
        }
    }

    /// How many lines are missing since the file last said so.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn append(&mut self, batch: &[u8], time: &str) {
        if self.length >= self.bounds.length_max {
            self.begin_next();
        }
        if self.dropped > 0 {
            let mut note = Vec::new();
            let words = format!("[podrun: {} lines were dropped here, the disk was full]", self.dropped);
            record(&mut note, time, 'F', words.as_bytes());
            if self.put(&note) < note.len() {
                self.dropped += lines(batch);
                return;
            }
            self.dropped = 0;
        }
        let written = self.put(batch);
        self.dropped += lines(&batch[written..]);
    }

    /// How many bytes were written.
    fn put(&mut self, bytes: &[u8]) -> usize {
        if self.torn && self.put_raw(b"\n") == 0 {
            return 0;
        }
        let written = self.put_raw(bytes);
        self.torn = written > 0 && bytes[written - 1] != b'\n';
        written
    }

    fn put_raw(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            match self.file.write(&bytes[written..]) {
                Ok(0) => break,
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.length += written as u64;
        written
    }

    /// When no next file can be made, this one is emptied instead: the bound holds in any case.
    fn begin_next(&mut self) {
        match open(&numbered(&self.stem, self.number + 1)) {
            Ok(file) => {
                if let Some(old) = (self.number + 1).checked_sub(self.bounds.files_max) {
                    // What stays goes with the pod's directory.
                    let _ = std::fs::remove_file(numbered(&self.stem, old));
                }
                self.number += 1;
                self.file = file;
            }
            Err(_) if self.file.set_len(0).is_ok() => {}
            Err(_) => return,
        }
        (self.length, self.torn) = (0, false);
    }
}

/// One line of a file.
fn record(batch: &mut Vec<u8>, time: &str, mark: char, text: &[u8]) {
    // Writing to a Vec cannot fail.
    let _ = write!(batch, "{time} {mark} ");
    batch.extend_from_slice(text);
    batch.push(b'\n');
}

fn lines(batch: &[u8]) -> u64 {
    batch.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// `api.stdout.7`.
pub(crate) fn numbered(stem: &Path, number: u64) -> PathBuf {
    let mut path = stem.to_owned().into_os_string();
    path.push(format!(".{number}"));
    path.into()
}

/// Appending, so that an emptied file begins at its beginning.
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC;
    std::fs::OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(path)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn small(directory: &Path, length_max: u64) -> LogFile {
        let bounds = Bounds { length_max, files_max: 2 };
        LogFile::create(directory, "api.stdout", bounds).unwrap()
    }

    pub(crate) fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn read(directory: &Path, number: u64) -> String {
        std::fs::read_to_string(numbered(&directory.join("api.stdout"), number)).unwrap()
    }

    #[test]
    fn each_line_has_its_time_and_whether_it_is_finished() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = small(directory.path(), 10 << 20);
        log.write(b"one\n\ntw", at(0));
        log.write(b"o\n", at(1));
        let expected = "1970-01-01T00:00:00.000000Z F one\n1970-01-01T00:00:00.000000Z F \n\
                        1970-01-01T00:00:00.000000Z P tw\n1970-01-01T00:00:01.000000Z F o\n";
        assert_eq!(read(directory.path(), 0), expected);
        assert_eq!(TIME_BYTES, "1970-01-01T00:00:00.000000Z".len());
    }

    #[test]
    fn a_long_line_is_written_in_pieces() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = small(directory.path(), 10 << 20);
        let mut line = vec![b'x'; PIECE_BYTES_MAX + 1];
        line.push(b'\n');
        log.write(&line, at(0));
        let text = read(directory.path(), 0);
        let marks: Vec<_> = text.lines().map(|line| &line[TIME_BYTES + 1..TIME_BYTES + 2]).collect();
        assert_eq!(marks, ["P", "F"]);
    }

    #[test]
    fn a_full_file_is_left_behind_and_one_old_file_stays() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = small(directory.path(), 8);
        for text in ["a\n", "b\n", "c\n"] {
            log.write(text.as_bytes(), at(0));
        }
        assert!(read(directory.path(), 1).ends_with("F b\n"));
        assert!(read(directory.path(), 2).ends_with("F c\n"));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_that_cannot_be_followed_by_another_is_emptied() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = small(directory.path(), 8);
        std::fs::create_dir(directory.path().join("api.stdout.1")).unwrap();
        log.write(b"aaaaaaaaaaaa\n", at(0));
        log.write(b"bb\n", at(0));
        assert_eq!(read(directory.path(), 0), "1970-01-01T00:00:00.000000Z F bb\n");
    }

    #[test]
    fn what_a_full_disk_does_not_take_is_counted_and_told() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = small(directory.path(), 10 << 20);
        let real = std::mem::replace(&mut log.file, File::options().write(true).open("/dev/full").unwrap());
        log.write(b"1\n2\n", at(0));
        log.write(b"3\n", at(0));
        assert_eq!(log.dropped(), 3);
        log.file = real;
        log.torn = true;
        log.write(b"x\n", at(0));
        let text = read(directory.path(), 0);
        let texts: Vec<_> = text.lines().map(|line| line.split(" F ").nth(1).unwrap_or_default()).collect();
        assert_eq!(texts, ["", "[podrun: 3 lines were dropped here, the disk was full]", "x"]);
        assert_eq!(log.dropped(), 0);
    }
}
